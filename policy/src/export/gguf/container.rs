//! The GGUF container, version 3, little endian: a head (metadata, then the tensors' names, shapes, types and
//! places) and the tensors' bytes, each beginning at a multiple of [`ALIGNMENT`].
//!
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::io::{self, Write};

use half::f16;

/// Bytes that the head and each tensor are padded to.
const ALIGNMENT: usize = 32;
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Values of a block of [`TensorType::Q8_0`], which share a scale.
pub(super) const BLOCK: usize = 32;
/// Values turned into bytes at a time; a multiple of [`BLOCK`].
const CHUNK: usize = 1 << 16;

/// A value of the metadata.
#[derive(Debug)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    Texts(Vec<String>),
}

impl Value {
    fn code(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::I32s(_) | Self::Texts(_) => 9,
        }
    }

    fn write(&self, head: &mut Vec<u8>) {
        match self {
            Self::U32(value) => head.extend(value.to_le_bytes()),
            Self::F32(value) => head.extend(value.to_le_bytes()),
            Self::Bool(value) => head.push(u8::from(*value)),
            Self::Text(text) => write_text(head, text),
            Self::I32s(values) => {
                head.extend(5u32.to_le_bytes());
                head.extend((values.len() as u64).to_le_bytes());
                head.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Texts(texts) => {
                head.extend(8u32.to_le_bytes());
                head.extend((texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|text| write_text(head, text));
            }
        }
    }
}

fn write_text(head: &mut Vec<u8>, text: &str) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text.as_bytes());
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    F16,
    /// Blocks of 32 values: an f16 scale, then one i8 each.
    Q8_0,
}

impl TensorType {
    fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
        }
    }

    /// Whether rows of this length can be stored so.
    pub(super) fn divides(self, row: usize) -> bool {
        self != Self::Q8_0 || row.is_multiple_of(BLOCK)
    }

    fn bytes(self, values: usize) -> usize {
        match self {
            Self::F32 => 4 * values,
            Self::F16 => 2 * values,
            Self::Q8_0 => values / BLOCK * (2 + BLOCK),
        }
    }

    /// Whether no value becomes infinite.
    pub(super) fn holds(self, values: &[f32]) -> bool {
        let most = match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Q8_0 => f16::MAX.to_f32() * 127.0,
        };
        values.iter().all(|value| value.abs() <= most)
    }

    /// Writes the values and the padding after them.
    pub(super) fn write(self, values: &[f32], out: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.bytes(CHUNK.min(values.len())));
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            match self {
                Self::F32 => bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes())),
                Self::F16 => bytes.extend(chunk.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
                Self::Q8_0 => chunk.chunks_exact(BLOCK).for_each(|block| quantise(block, &mut bytes)),
            }
            out.write_all(&bytes)?;
        }
        let written = self.bytes(values.len());
        out.write_all(&[0; ALIGNMENT][..padded(written) - written])
    }
}

/// One block as ggml's `quantize_row_q8_0_ref` does it.
fn quantise(block: &[f32], bytes: &mut Vec<u8>) {
    let scale = block.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    bytes.extend(block.iter().flat_map(|value| ((value * inverse).round() as i8).to_le_bytes()));
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Name, shape and type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Rows first, as Hugging Face writes it; the file has it the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) kind: TensorType,
}

impl Tensor {
    /// Bytes in the file, padding included.
    pub(super) fn stored_bytes(&self) -> usize {
        padded(self.kind.bytes(self.shape.iter().product()))
    }
}

/// The head of a file with these tensors, padded.
pub(super) fn head<'a>(
    metadata: &[(String, Value)],
    tensors: impl ExactSizeIterator<Item = &'a Tensor>,
) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(&mut head, key);
        head.extend(value.code().to_le_bytes());
        value.write(&mut head);
    }
    let mut offset = 0;
    for tensor in tensors {
        write_text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        head.extend(tensor.shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()));
        head.extend(tensor.kind.code().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += tensor.stored_bytes();
    }
    head.resize(padded(head.len()), 0);
    head
}
