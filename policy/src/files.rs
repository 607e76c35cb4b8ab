//! Models and checkpoints on disk.
//!
//! A model is a Hugging Face directory (`config.json`, `model.safetensors`, `tokenizer.json`). A
//! checkpoint is such a directory with the optimiser beside it. Both are written under a temporary name,
//! read back, and renamed, so that what carries the name is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::load::{AGAIN, CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX, WeightFiles, read_text};
use crate::memory::{self, Workload};
use crate::optimizer::AdamW;
use crate::policy::Policy;
use crate::update::{Trainer, UpdateConfig};
use crate::weights::{Layout, Parameter};

/// Values that are written at once.
const WRITE_VALUES: usize = 256 * 1024;
const NO_ROOM: &str = "check free space and permissions";

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

impl ModelConfig {
    /// The config of a model directory, with the end tokens of its `generation_config.json`.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file and the field.
    pub fn load(dir: &Path) -> Result<Self> {
        read_config(dir)
    }
}

pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig> {
    let (path, generation) = (dir.join("config.json"), dir.join("generation_config.json"));
    let mut config = ModelConfig::read(&read_text(&path, CONFIG_BYTES_MAX)?)
        .map_err(|why| PolicyError::damaged(&path, why, AGAIN))?;
    if generation.exists() {
        config
            .add_generation(&read_text(&generation, CONFIG_BYTES_MAX)?)
            .map_err(|why| PolicyError::damaged(&generation, why, AGAIN))?;
    }
    config.check().map_err(|why| PolicyError::damaged(&path, why, AGAIN))?;
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

/// Writes a safetensors file, tensor by tensor, so that the weights are in memory once.
fn write_weights(path: &Path, parameters: &[Parameter], weights: &[f32], half_precision: bool) -> Result<()> {
    let (dtype, value_bytes) = if half_precision { ("F16", 2) } else { ("F32", 4) };
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for parameter in parameters {
        let start = end;
        end += parameter.len() * value_bytes;
        let info = json!({ "dtype": dtype, "shape": parameter.shape, "data_offsets": [start, end] });
        header.insert(parameter.name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The format aligns the values.
    header.resize(header.len().next_multiple_of(8), b' ');
    let failed = || PolicyError::io("write", path, NO_ROOM);
    let mut file = BufWriter::new(File::create(path).map_err(failed())?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
    file.write_all(&header).map_err(failed())?;
    for parameter in parameters {
        let step = (WRITE_VALUES / parameter.width()).max(1);
        let mut values = Vec::new();
        for first in (0..parameter.rows()).step_by(step) {
            let rows = first..parameter.rows().min(first + step);
            parameter.read_rows(weights, rows, &mut values);
            file.write_all(&encode(&values, half_precision)).map_err(failed())?;
        }
    }
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())
}

fn encode(values: &[f32], half_precision: bool) -> Vec<u8> {
    if half_precision {
        values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(PolicyError::io("write", path, NO_ROOM))?;
    file.write_all(bytes).map_err(PolicyError::io("write", path, NO_ROOM))?;
    file.sync_all().map_err(PolicyError::io("write", path, NO_ROOM))
}

/// Fills a directory beside `out` and puts it in its place once it is whole.
fn replace_directory(out: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
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
            fs::remove_dir_all(leftover).map_err(PolicyError::io("remove", leftover, NO_ROOM))?;
        }
    }
    fs::create_dir_all(&new).map_err(PolicyError::io("create", &new, NO_ROOM))?;
    fill(&new)?;
    if out.exists() {
        fs::rename(out, &old).map_err(PolicyError::io("rename", out, NO_ROOM))?;
    }
    fs::rename(&new, out).map_err(PolicyError::io("rename", &new, NO_ROOM))?;
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(PolicyError::io("sync", parent, NO_ROOM))?;
    }
    if old.exists() {
        fs::remove_dir_all(&old).map_err(PolicyError::io("remove", &old, NO_ROOM))?;
    }
    Ok(())
}

impl Policy {
    /// Reads a Hugging Face directory.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file, what is wrong with it and what to do.
    pub fn load(dir: &Path) -> Result<Self> {
        let config = read_config(dir)?;
        let tokenizer = read_text(&dir.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?;
        let files = WeightFiles::open(dir)?;
        memory::check(&config, &Workload::default())?;
        let weights = files.read(Layout::new(&config).parameters())?;
        Self::from_parts(config, weights, tokenizer)
    }

    /// Writes a Hugging Face directory in f32 that `transformers` loads; read back and compared before
    /// it takes its name.
    ///
    /// # Errors
    /// The directory holds something else, or cannot be written.
    pub fn save(&self, out: &Path, card: &ExportCard) -> Result<()> {
        replace_directory(out, |dir| {
            self.fill(dir, card, false)?;
            let same = WeightFiles::open(dir)?.holds(self.layout().parameters(), self.weights())?
                && read_config(dir)? == *self.config();
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
            "eos_token_id": config.eos_json(),
            "pad_token_id": config.pad_token_id,
        });
        write(&dir.join("config.json"), config.to_json().as_bytes())?;
        write_weights(
            &dir.join("model.safetensors"),
            self.layout().parameters(),
            self.weights(),
            half_precision,
        )?;
        write(&dir.join("tokenizer.json"), self.tokenizer_json().as_bytes())?;
        write(&dir.join("tokenizer_config.json"), format!("{tokenizer_config:#}\n").as_bytes())?;
        write(&dir.join("special_tokens_map.json"), format!("{tokens:#}\n").as_bytes())?;
        write(&dir.join("generation_config.json"), format!("{generation:#}\n").as_bytes())?;
        if let Some(template) = self.chat() {
            write(&dir.join("chat_template.jinja"), template.source().as_bytes())?;
        }
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
            let moments =
                [("adam_first", &trainer.optimizer.first), ("adam_second", &trainer.optimizer.second)];
            for (name, values) in moments {
                write_weights(&dir.join(format!("{name}.safetensors")), policy.trainable(), values, false)?;
            }
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
        let state: TrainerState = serde_json::from_str(&read_text(&path, CONFIG_BYTES_MAX)?)
            .map_err(|error| PolicyError::damaged(&path, error.to_string(), hint))?;
        if state.weights != hex(&policy.hash()) {
            return Err(PolicyError::damaged(
                dir,
                "optimiser and weights are of different checkpoints",
                hint,
            ));
        }
        let moments = |name: &str| WeightFiles::open_one(&dir.join(name))?.read(policy.trainable());
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
