//! GGUF, the file of llama.cpp.

mod container;
mod model;
mod readback;
mod vocabulary;

pub(super) use model::Model;

use super::CARD;

/// Every file that an exported directory may have.
pub(super) const FILES: [&str; 3] = [Quantization::F16.file_name(), Quantization::Q8_0.file_name(), CARD];

/// How a GGUF file stores matrices; norms and biases are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Two bytes a value.
    F16,
    /// Blocks of 32 values in 34 bytes: an f16 scale and eight bits each. Matrices whose rows are no multiple
    /// of 32 values stay f16.
    Q8_0,
}

impl Quantization {
    /// llama.cpp's name, such as `q8_0`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Name of the file in an exported directory.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::F16 => "model-f16.gguf",
            Self::Q8_0 => "model-q8_0.gguf",
        }
    }

    /// llama.cpp's `llama_ftype`.
    fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }
}
