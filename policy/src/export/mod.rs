//! A policy for other programs: GGUF for llama.cpp and what builds on it, an adapter for PEFT.
//!
//! The Hugging Face directory is [`Policy::save`]. Each export is a directory with a model card, written under
//! a temporary name, read back, compared, and renamed.

mod adapter;
mod gguf;
mod model;
mod readback;
mod vocabulary;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use adapter::{AdapterExport, AdapterTensor, save_adapter};

use crate::error::{PolicyError, Result};
use crate::files::{ExportCard, replace_directory, write};
use crate::policy::Policy;
use model::Model;

/// Bytes gathered before they go to the disk.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// How a GGUF file stores matrices; norms and biases are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// Two bytes a value.
    F16,
    /// Blocks of 32 values in 34 bytes: an f16 scale and eight bits each. Matrices whose rows are no multiple
    /// of 32 values stay f16.
    Q8_0,
}

impl GgufType {
    /// llama.cpp's name, such as `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Name of the file in an exported directory.
    pub fn file_name(self) -> &'static str {
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

/// What a GGUF file says beside the model.
#[derive(Clone, Debug)]
pub struct GgufExport<'a> {
    /// Storage of the matrices.
    pub kind: GgufType,
    /// Name of the model, for people.
    pub name: &'a str,
    /// Jinja source of the chat template, if the model chats.
    pub chat_template: Option<&'a str>,
}

impl Policy {
    /// Writes a directory with a GGUF file ([`GgufType::file_name`]) that llama.cpp loads, and its model card.
    /// Holds one tensor at a time beside the policy.
    ///
    /// # Errors
    /// llama.cpp has no form for this architecture, its biases or its tokenizer; a value beyond an f16; the
    /// directory holds something else, or cannot be written.
    pub fn save_gguf(&self, out: &Path, export: &GgufExport<'_>, card: &ExportCard) -> Result<()> {
        let model = Model::new(self, export.name, export.kind, export.chat_template)?;
        let file = export.kind.file_name();
        replace_directory(out, file, |dir| {
            let path = dir.join(file);
            store(&model, &path).map_err(PolicyError::io(
                "write",
                &path,
                "see the reason; check free space",
            ))?;
            write(&dir.join("README.md"), card.readme.as_bytes())
        })
    }
}

fn store(model: &Model<'_>, path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
    model.write(&mut out)?;
    out.flush()?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    readback::compare(&mut file, model)
}
