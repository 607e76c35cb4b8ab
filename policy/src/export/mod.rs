//! A policy for other programs: a Hugging Face directory, an adapter for PEFT, GGUF for llama.cpp and what
//! builds on it.
//!
//! An [`Export`] knows every file and its size before it writes any. It is written under a temporary name, read
//! back, compared with the policy, and renamed.

mod gguf;
pub(crate) mod huggingface;
pub(crate) mod peft;

use std::path::Path;

pub use gguf::Quantization;
pub use huggingface::BaseFiles;

pub use crate::store::Precision;

use crate::error::{PolicyError, Result};
use crate::lora::Adapter;
use crate::policy::Policy;
use crate::store::{holds_only, replace_directory, weights_bytes, write};

/// The model card.
const CARD: &str = "README.md";

/// What a policy is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory that `transformers` loads, adapters folded into the weights.
    HuggingFace(Precision),
    /// The adapter alone, in f32, as `peft` loads it over the base.
    Peft,
    /// A file that llama.cpp loads, adapters folded into the weights, and its card.
    Gguf(Quantization),
}

/// What an export says about itself.
#[derive(Clone, Debug, Default)]
pub struct ExportCard {
    /// Text of the model card (`README.md`).
    pub readme: String,
    /// Name of the model, for people.
    pub name: String,
    /// Hub id or directory of the model it was trained from.
    pub base: String,
    /// Files of that model which training does not change.
    pub base_files: BaseFiles,
}

/// A policy about to be written.
#[derive(Debug)]
pub struct Export {
    contents: Contents,
    card: ExportCard,
}

#[derive(Debug)]
enum Contents {
    HuggingFace(Policy, Precision),
    Peft(Adapter),
    Gguf(Policy, gguf::Model),
}

impl Export {
    /// Prepares everything but the weights.
    ///
    /// # Errors
    /// An adapter is asked for and there is none; llama.cpp has no form for this architecture or its tokenizer.
    pub fn new(policy: &Policy, format: Format, card: &ExportCard) -> Result<Self> {
        policy.check_text()?;
        let contents = match format {
            Format::HuggingFace(precision) => Contents::HuggingFace(policy.merged(), precision),
            Format::Peft => Contents::Peft(policy.adapter().cloned().ok_or_else(|| {
                let hint = "export it as a Hugging Face directory or as GGUF";
                PolicyError::input("this policy is trained as a whole and has no adapter", hint)
            })?),
            Format::Gguf(quantization) => {
                let merged = policy.merged();
                let model = gguf::Model::new(&merged, quantization, card)?;
                Contents::Gguf(merged, model)
            }
        };
        Ok(Self { contents, card: card.clone() })
    }

    /// The files and their bytes, by name.
    pub fn files(&self) -> Vec<(String, u64)> {
        let (mut texts, weights, bytes) = match &self.contents {
            Contents::HuggingFace(policy, precision) => (
                huggingface::texts(policy, &self.card, *precision),
                huggingface::WEIGHTS,
                weights_bytes(policy.layout().parameters(), *precision),
            ),
            Contents::Peft(adapter) => (
                peft::texts(adapter, &self.card),
                peft::WEIGHTS,
                weights_bytes(adapter.parameters(), Precision::F32),
            ),
            Contents::Gguf(_, model) => {
                (vec![(CARD, self.card.readme.clone())], model.file_name(), model.bytes())
            }
        };
        let mut files: Vec<(String, u64)> =
            texts.drain(..).map(|(name, text)| (name.to_owned(), text.len() as u64)).collect();
        files.push((weights.to_owned(), bytes));
        files.sort();
        files
    }

    /// Writes the directory; what is there already is only replaced if it holds nothing but such files.
    ///
    /// # Errors
    /// The directory holds something else, it cannot be written, a value is beyond the range of the type it is
    /// stored in, or what was written does not read back.
    pub fn write(&self, out: &Path) -> Result<()> {
        let ours = |dir: &Path| {
            let names = match &self.contents {
                Contents::HuggingFace(..) => &huggingface::FILES[..],
                Contents::Peft(_) => &peft::FILES,
                Contents::Gguf(..) => &gguf::FILES,
            };
            holds_only(dir, names)
        };
        replace_directory(out, ours, |dir| {
            let same = match &self.contents {
                Contents::HuggingFace(policy, precision) => {
                    huggingface::fill(dir, policy, &self.card, *precision)?;
                    huggingface::reads_back(dir, policy, *precision)?
                }
                Contents::Peft(adapter) => {
                    peft::fill(dir, adapter, &self.card)?;
                    peft::reads_back(dir, adapter)?
                }
                Contents::Gguf(policy, model) => {
                    write(&dir.join(CARD), self.card.readme.as_bytes())?;
                    model.store(policy, &dir.join(model.file_name()))?
                }
            };
            same.then_some(())
                .ok_or_else(|| PolicyError::damaged(dir, "reads back differently", "check the disk"))
        })
    }
}
