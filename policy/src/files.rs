//! Models and checkpoints on disk.
//!
//! A model is a Hugging Face directory (`config.json`, `model.safetensors`, `tokenizer.json`). A
//! checkpoint is such a directory with the optimiser beside it. Both are written under a temporary name,
//! read back, and renamed, so that what carries the name is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::optimizer::AdamW;
use crate::policy::Policy;
use crate::update::{Trainer, UpdateConfig};
use crate::weights::Layout;

/// Bytes of a JSON file of a model.
const JSON_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of a weight file; larger models come with their own loader.
const WEIGHTS_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
const AGAIN: &str = "copy the model directory again, or choose another one";

/// What an exported directory says about itself.
#[derive(Clone, Debug, Default)]
pub struct ExportCard {
    /// Text of the model card (`README.md`).
    pub readme: String,
}

/// Counters stored with a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Rounds trained.
    pub round: u32,
    /// Optimiser steps taken.
    pub steps: u64,
}

#[derive(Serialize, Deserialize)]
struct TrainerState {
    counters: Checkpoint,
    config: UpdateConfig,
    /// Hash of the weights it belongs to, hexadecimal.
    weights: String,
}

fn read_limited(path: &Path, max: u64) -> Result<Vec<u8>> {
    let hint = "check that the directory is a complete Hugging Face model";
    let size = fs::metadata(path).map_err(PolicyError::io("read", path, hint))?.len();
    if size > max {
        return Err(PolicyError::damaged(path, format!("{size} bytes where at most {max} are read"), AGAIN));
    }
    fs::read(path).map_err(PolicyError::io("read", path, hint))
}

fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read_limited(path, JSON_BYTES_MAX)?)
        .map_err(|_| PolicyError::damaged(path, "not UTF-8 text", AGAIN))
}

/// Assembles a policy from the contents of its three files.
pub(crate) fn from_texts(config: &str, weights: &[u8], tokenizer: &str) -> Result<Policy> {
    let config = ModelConfig::from_json(config)
        .map_err(|why| PolicyError::damaged(Path::new("config.json"), why, AGAIN))?;
    let weights = read_weights(Path::new("model.safetensors"), weights, &Layout::new(&config))?;
    Policy::from_parts(config, weights, tokenizer.to_owned())
}

/// Every parameter of the layout from a safetensors file of f32, f16 or bf16.
fn read_weights(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Vec<f32>> {
    let damaged = |what: String| PolicyError::damaged(path, what, AGAIN);
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| damaged(format!("not a safetensors file: {error}")))?;
    let mut weights = vec![0.0; layout.len()];
    for parameter in layout.parameters() {
        let name = &parameter.name;
        let tensor = file.tensor(name).map_err(|_| damaged(format!("tensor {name} is missing")))?;
        if tensor.shape() != parameter.shape {
            let what = format!(
                "tensor {name} has shape {:?}, the config needs {:?}",
                tensor.shape(),
                parameter.shape
            );
            return Err(damaged(what));
        }
        let data = tensor.data();
        let mut values: Vec<f32> = Vec::with_capacity(parameter.len());
        match tensor.dtype() {
            Dtype::F32 => {
                values.extend(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
            Dtype::F16 => {
                values.extend(data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()))
            }
            Dtype::BF16 => {
                values.extend(data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()))
            }
            other => {
                return Err(damaged(format!(
                    "tensor {name} is of type {other:?}; f32, f16 and bf16 are read"
                )));
            }
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(damaged(format!("tensor {name} has values that are not finite")));
        }
        layout.set_values(&mut weights, parameter, &values);
    }
    let known = |name: &str| layout.parameters().iter().any(|parameter| parameter.name == name);
    if let Some(name) = file.names().into_iter().find(|name| !known(name) && *name != "lm_head.weight") {
        return Err(damaged(format!("tensor {name} belongs to no part of this model")));
    }
    Ok(weights)
}

fn weights_file(layout: &Layout, weights: &[f32], half_precision: bool) -> Result<Vec<u8>> {
    let dtype = if half_precision { Dtype::F16 } else { Dtype::F32 };
    let bytes: Vec<Vec<u8>> = layout
        .parameters()
        .iter()
        .map(|parameter| {
            let values = layout.values(weights, parameter);
            if half_precision {
                values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
            } else {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        })
        .collect();
    let not_written =
        |error| PolicyError::input(format!("weights cannot be written: {error}"), "report this");
    let mut views = Vec::new();
    for (parameter, bytes) in layout.parameters().iter().zip(&bytes) {
        let view = TensorView::new(dtype, parameter.shape.clone(), bytes).map_err(not_written)?;
        views.push((parameter.name.as_str(), view));
    }
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into_iter().collect());
    safetensors::serialize(views, metadata).map_err(not_written)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let hint = "check free space and permissions";
    let mut file = File::create(path).map_err(PolicyError::io("write", path, hint))?;
    file.write_all(bytes).map_err(PolicyError::io("write", path, hint))?;
    file.sync_all().map_err(PolicyError::io("write", path, hint))
}

/// Fills a directory beside `out` and puts it in its place once it is whole.
fn replace_directory(out: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let hint = "check free space and permissions";
    let beside = |suffix: &str| -> PathBuf {
        let mut name = out.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        out.with_file_name(name)
    };
    if out.exists()
        && !out.join("config.json").is_file()
        && out.read_dir().is_ok_and(|mut d| d.next().is_some())
    {
        return Err(PolicyError::Occupied { path: out.to_path_buf() });
    }
    let (new, old) = (beside(".new.tmp"), beside(".old.tmp"));
    for leftover in [&new, &old] {
        if leftover.exists() && (*leftover == new || out.exists()) {
            fs::remove_dir_all(leftover).map_err(PolicyError::io("remove", leftover, hint))?;
        }
    }
    fs::create_dir_all(&new).map_err(PolicyError::io("create", &new, hint))?;
    fill(&new)?;
    if out.exists() {
        fs::rename(out, &old).map_err(PolicyError::io("rename", out, hint))?;
    }
    fs::rename(&new, out).map_err(PolicyError::io("rename", &new, hint))?;
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(PolicyError::io("sync", parent, hint))?;
    }
    if old.exists() {
        fs::remove_dir_all(&old).map_err(PolicyError::io("remove", &old, hint))?;
    }
    Ok(())
}

impl Policy {
    /// Reads a Hugging Face directory.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file, what is wrong with it and what to do.
    pub fn load(dir: &Path) -> Result<Self> {
        let (config_path, weights_path) = (dir.join("config.json"), dir.join("model.safetensors"));
        let config = ModelConfig::from_json(&read_text(&config_path)?)
            .map_err(|why| PolicyError::damaged(&config_path, why, AGAIN))?;
        let bytes = read_limited(&weights_path, WEIGHTS_BYTES_MAX)?;
        let weights = read_weights(&weights_path, &bytes, &Layout::new(&config))?;
        Self::from_parts(config, weights, read_text(&dir.join("tokenizer.json"))?)
    }

    /// Writes a Hugging Face directory in f32 that `transformers` loads; read back and compared before
    /// it takes its name.
    ///
    /// # Errors
    /// The directory holds something else, or cannot be written.
    pub fn save(&self, out: &Path, card: &ExportCard) -> Result<()> {
        replace_directory(out, |dir| {
            self.fill(dir, card, false)?;
            let same = Self::load(dir)?.weights() == self.weights();
            same.then_some(())
                .ok_or_else(|| PolicyError::damaged(dir, "reads back differently", "check the disk"))
        })
    }

    /// As [`Self::save`], in f16: half the size, weights rounded.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_half(&self, out: &Path, card: &ExportCard) -> Result<()> {
        replace_directory(out, |dir| {
            self.fill(dir, card, true)?;
            Self::load(dir).map(drop)
        })
    }

    fn fill(&self, dir: &Path, card: &ExportCard, half_precision: bool) -> Result<()> {
        let config = self.config();
        let spelling = |id: Option<u32>| id.and_then(|id| self.spelling(id));
        let tokens = json!({
            "bos_token": spelling(config.bos_token_id),
            "eos_token": spelling(config.eos_token_ids.first().copied()),
            "pad_token": spelling(config.pad_token_id),
        });
        let tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_position_embeddings,
            "clean_up_tokenization_spaces": false,
            "padding_side": "left",
            "bos_token": tokens["bos_token"], "eos_token": tokens["eos_token"], "pad_token": tokens["pad_token"],
        });
        let generation = json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_ids.first(),
            "pad_token_id": config.pad_token_id,
        });
        write(&dir.join("config.json"), config.to_json().as_bytes())?;
        write(&dir.join("model.safetensors"), &weights_file(self.layout(), self.weights(), half_precision)?)?;
        write(&dir.join("tokenizer.json"), self.tokenizer_json().as_bytes())?;
        write(&dir.join("tokenizer_config.json"), format!("{tokenizer_config:#}\n").as_bytes())?;
        write(&dir.join("special_tokens_map.json"), format!("{tokens:#}\n").as_bytes())?;
        write(&dir.join("generation_config.json"), format!("{generation:#}\n").as_bytes())?;
        write(&dir.join("README.md"), card.readme.as_bytes())
    }
}

impl Checkpoint {
    /// Stores policy and optimiser; the checkpoint before stays until this one is whole.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn save(out: &Path, policy: &Policy, trainer: &Trainer, round: u32) -> Result<()> {
        let counters = Self { round, steps: trainer.optimizer.steps };
        let state = TrainerState { counters, config: trainer.config.clone(), weights: hex(&policy.hash()) };
        replace_directory(out, |dir| {
            policy.fill(dir, &ExportCard { readme: "A checkpoint of a murmur peer.\n".into() }, false)?;
            write(
                &dir.join("adam_first.safetensors"),
                &weights_file(policy.layout(), &trainer.optimizer.first, false)?,
            )?;
            write(
                &dir.join("adam_second.safetensors"),
                &weights_file(policy.layout(), &trainer.optimizer.second, false)?,
            )?;
            let text = serde_json::to_string_pretty(&state)
                .map_err(|error| PolicyError::input(error.to_string(), "report this"))?;
            write(&dir.join("trainer.json"), text.as_bytes())
        })
    }

    /// Reads what [`Self::save`] stored, whole or not at all.
    ///
    /// # Errors
    /// A file is missing or damaged, or they do not belong together.
    pub fn load(dir: &Path) -> Result<(Policy, Trainer, Self)> {
        let hint = "move the checkpoint away to start from the base again";
        let policy = Policy::load(dir)?;
        let path = dir.join("trainer.json");
        let state: TrainerState = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| PolicyError::damaged(&path, error.to_string(), hint))?;
        if state.weights != hex(&policy.hash()) {
            return Err(PolicyError::damaged(
                dir,
                "optimiser and weights are of different checkpoints",
                hint,
            ));
        }
        let moments = |name: &str| {
            let path = dir.join(name);
            read_weights(&path, &read_limited(&path, WEIGHTS_BYTES_MAX)?, policy.layout())
        };
        let (first, second) = (moments("adam_first.safetensors")?, moments("adam_second.safetensors")?);
        let optimizer = AdamW { first, second, steps: state.counters.steps };
        let trainer = Trainer::restore(state.config, optimizer);
        Ok((policy, trainer, state.counters))
    }

    /// Where a checkpoint that is complete lies: `dir`, or what a crash during the last swap left of it.
    pub fn find(dir: &Path) -> Option<PathBuf> {
        let mut name = dir.file_name()?.to_os_string();
        name.push(".old.tmp");
        [dir.to_path_buf(), dir.with_file_name(name)]
            .into_iter()
            .find(|path| path.join("trainer.json").is_file())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
