//! A GGUF file read back by another implementation (candle's) and compared with the policy.

use std::fs::File;
use std::io::{self, BufReader, Seek};

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;

use super::container::{BLOCK, TensorType};
use super::model::Part;
use crate::policy::Policy;

/// Relative rounding error of f16, and the absolute one of its smallest values.
const F16_RELATIVE: f32 = 1.0 / 2048.0;
const F16_ABSOLUTE: f32 = 3.0e-8;

/// Whether the file has all parts, within what their types round, and nothing else.
pub(super) fn holds(file: &mut File, policy: &Policy, parts: &[Part], keys: usize) -> io::Result<bool> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let content = Content::read(&mut reader).map_err(io::Error::other)?;
    if content.tensor_infos.len() != parts.len() || content.metadata.len() != keys {
        return Ok(false);
    }
    for part in parts {
        let tensor =
            content.tensor(&mut reader, &part.tensor.name, &Device::Cpu).map_err(io::Error::other)?;
        let read = tensor.dequantize(&Device::Cpu).and_then(|read| read.flatten_all()?.to_vec1::<f32>());
        let read = read.map_err(io::Error::other)?;
        let same_shape = tensor.shape().dims() == part.tensor.shape;
        if !(same_shape && close(part.tensor.kind, &part.values(policy), &read)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn close(kind: TensorType, values: &[f32], read: &[f32]) -> bool {
    let near = |(value, read): (&f32, &f32), off: f32| (value - read).abs() <= off;
    match kind {
        TensorType::F32 => values == read,
        TensorType::F16 => {
            values.iter().zip(read).all(|it| near(it, it.0.abs() * F16_RELATIVE + F16_ABSOLUTE))
        }
        // Half a step of the block, and the rounding of the step itself to f16, 127 times at most.
        TensorType::Q8_0 => values.chunks(BLOCK).zip(read.chunks(BLOCK)).all(|(values, read)| {
            let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let off = most * (0.501 / 127.0 + F16_RELATIVE) + 127.0 * F16_ABSOLUTE;
            values.iter().zip(read).all(|it| near(it, off))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_off_by_more_than_rounding_is_noticed() {
        let values: Vec<f32> = (0..64).map(|i| (i as f32 - 31.0) / 7.0).collect();
        for (kind, off) in [(TensorType::F32, 1e-6), (TensorType::F16, 4e-3), (TensorType::Q8_0, 0.05)] {
            assert!(close(kind, &values, &values));
            let mut read = values.clone();
            read[40] += off;
            assert!(!close(kind, &values, &read), "{kind:?}");
        }
    }
}
