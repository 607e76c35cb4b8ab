//! Where tensors live and in which numbers they are computed.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::error::{PolicyError, Result};

/// A device that computes tensors; written `cpu`, `cuda`, `cuda:1`, `metal` or `metal:0` in a config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this number, from 0.
    Cuda(usize),
    /// The Apple GPU with this number, from 0.
    Metal(usize),
}

impl FromStr for Device {
    type Err = String;

    /// Reads a config's text; whether this binary can use the device is [`Device::check`]'s question.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("device is \"{text}\", must be \"cpu\", \"cuda\", \"cuda:1\" or \"metal\"");
        let (kind, number) = match text.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (text, None),
        };
        let index = number.map_or(Ok(0), str::parse).map_err(|_| wrong())?;
        match (kind, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(index)),
            ("metal", _) => Ok(Self::Metal(index)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(0) => f.write_str("metal"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl Device {
    /// Says whether this binary was built for the device; touches no hardware.
    ///
    /// # Errors
    /// [`PolicyError::Input`] naming the feature that is missing and how to get it.
    pub fn check(self) -> Result<()> {
        let (feature, built, hint) = match self {
            Self::Cpu => return Ok(()),
            Self::Cuda(_) => (
                "cuda",
                cfg!(feature = "cuda"),
                "cargo install --features cuda (policy/cuda/build.sh in the source tells how), or set device = \"cpu\"",
            ),
            Self::Metal(_) => (
                "metal",
                cfg!(feature = "metal"),
                "cargo install --features metal (on macOS only), or set device = \"cpu\"",
            ),
        };
        if built {
            return Ok(());
        }
        let what = format!("device \"{self}\": this binary was built without the feature {feature}");
        Err(PolicyError::input(what, hint))
    }

    /// Opens the device.
    pub(crate) fn open(self) -> Result<candle_core::Device> {
        self.check()?;
        let opened = match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(index) => candle_core::Device::new_cuda(index),
            Self::Metal(index) => candle_core::Device::new_metal(index),
        };
        opened.map_err(|why| {
            PolicyError::input(
                format!("device \"{self}\" cannot be opened: {why}"),
                "check its number and that its driver is loaded (nvidia-smi lists NVIDIA's), or set device = \"cpu\"",
            )
        })
    }
}

/// Numbers of matrix products and activations. Trained weights, moments, norms, attention's softmax and
/// log-probabilities are f32 whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with f32's range. Not on the CPU, where candle has no such product.
    Bf16,
    /// 16 bits with a small range: samples and scores, but does not train, because gradients would vanish.
    F16,
}

impl Precision {
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_come_back_and_others_are_refused() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:1", Device::Cuda(1)),
            ("metal", Device::Metal(0)),
            ("metal:2", Device::Metal(2)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "CUDA", "metal:0:1"] {
            let error = text.parse::<Device>().unwrap_err();
            assert!(error.contains(&format!("\"{text}\"")) && error.contains("cuda:1"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_this_binary_lacks_is_named_with_the_feature() {
        let error = Device::Cuda(1).open().unwrap_err().to_string();
        assert!(error.contains("cuda:1") && error.contains("built without the feature cuda"), "{error}");
        assert!(error.contains("cargo install --features cuda"), "{error}");
    }
}
