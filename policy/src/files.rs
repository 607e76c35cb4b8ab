//! Models on disk: Hugging Face directories (`config.json`, `model.safetensors`, `tokenizer.json`).

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::export::{Export, ExportCard, Format};
use crate::load::{AGAIN, CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX, WeightFiles, read_if_present, read_text};
use crate::memory::{self, Workload};
use crate::policy::Policy;
use crate::store::Precision;
use crate::weights::Layout;

impl ModelConfig {
    /// The config of a model directory, with the end tokens of its `generation_config.json`.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file and the field.
    pub fn load(dir: &Path) -> Result<Self> {
        read_checked(dir, Self::check)
    }
}

fn read_checked(
    dir: &Path,
    check: fn(&ModelConfig) -> std::result::Result<(), String>,
) -> Result<ModelConfig> {
    let (path, generation) = (dir.join("config.json"), dir.join("generation_config.json"));
    let mut config = ModelConfig::read(&read_text(&path, CONFIG_BYTES_MAX)?)
        .map_err(|why| PolicyError::damaged(&path, why, AGAIN))?;
    if let Some(text) = read_if_present(&generation)? {
        config.add_generation(&text).map_err(|why| PolicyError::damaged(&generation, why, AGAIN))?;
    }
    check(&config).map_err(|why| PolicyError::damaged(&path, why, AGAIN))?;
    Ok(config)
}

/// Assembles a policy from the contents of its three files.
pub(crate) fn from_texts(config: &str, weights: &[u8], tokenizer: &str) -> Result<Policy> {
    let config = ModelConfig::from_json(config)
        .map_err(|why| PolicyError::damaged(Path::new("config.json"), why, AGAIN))?;
    let weights =
        WeightFiles::in_memory("model.safetensors", weights)?.read(Layout::new(&config).parameters())?;
    Policy::from_parts(config, weights, tokenizer.to_owned())
}

fn read_weights(dir: &Path, config: &ModelConfig) -> Result<Vec<f32>> {
    let files = WeightFiles::open(dir)?;
    memory::check(config, &Workload::default())?;
    files.read(Layout::new(config).parameters())
}

impl Policy {
    /// Reads a Hugging Face directory.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file, what is wrong with it and what to do.
    pub fn load(dir: &Path) -> Result<Self> {
        let config = ModelConfig::load(dir)?;
        let tokenizer = read_text(&dir.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?;
        let weights = read_weights(dir, &config)?;
        Self::from_parts(config, weights, tokenizer)
    }

    /// Reads the model of a Hugging Face directory without its tokenizer, which may be missing: see
    /// [`Self::without_text`].
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_without_text(dir: &Path) -> Result<Self> {
        let config = read_checked(dir, ModelConfig::check_without_text)?;
        let weights = read_weights(dir, &config)?;
        Self::from_ids_only(config, weights)
    }

    /// Writes a Hugging Face directory in f32 that `transformers` loads, adapters folded in.
    ///
    /// # Errors
    /// As [`Export::write`].
    pub fn save(&self, out: &Path, card: &ExportCard) -> Result<()> {
        Export::new(self, Format::HuggingFace(Precision::F32), card)?.write(out)
    }

    /// As [`Self::save`], in f16: half the size, weights rounded.
    ///
    /// # Errors
    /// As [`Export::write`].
    pub fn save_half(&self, out: &Path, card: &ExportCard) -> Result<()> {
        Export::new(self, Format::HuggingFace(Precision::F16), card)?.write(out)
    }
}
