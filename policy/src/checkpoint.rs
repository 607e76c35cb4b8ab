//! Checkpoints: a policy with its optimiser and counters.
//!
//! Of a policy that is trained as a whole it is a Hugging Face directory with the optimiser's moments beside
//! the weights. Of one with an adapter it is a PEFT directory with the moments of the adapter; the base is not
//! stored, only its hash, and comes from the caller again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{PolicyError, Result};
use crate::export::{ExportCard, huggingface, peft};
use crate::load::{CONFIG_BYTES_MAX, WeightFiles, read_text};
use crate::optimizer::AdamW;
use crate::policy::Policy;
use crate::store::{Precision, replace_directory, values_begin, write, write_weights};
use crate::update::{Trainer, UpdateConfig};

const STATE: &str = "trainer.json";
const MOMENTS: [&str; 2] = ["adam_first.safetensors", "adam_second.safetensors"];
const START_AGAIN: &str = "move the checkpoint away to start from the base again";

/// Counters stored with a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Rounds trained.
    pub round: u32,
    /// Optimiser steps taken.
    pub steps: u64,
}

#[derive(Serialize, Deserialize)]
struct State {
    counters: Checkpoint,
    config: UpdateConfig,
    /// Hash of the policy it belongs to, hexadecimal.
    weights: String,
    /// Hash of what the adapter was put on, hexadecimal; nothing where there is no adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

impl Checkpoint {
    /// Stores policy and optimiser; the checkpoint before stays until this one is whole.
    ///
    /// # Errors
    /// The directory holds something else, or cannot be written.
    pub fn save(out: &Path, policy: &Policy, trainer: &Trainer, round: u32) -> Result<()> {
        let state = State {
            counters: Self { round, steps: trainer.optimizer.steps },
            config: trainer.config.clone(),
            weights: hex(&policy.hash()),
            base: policy.adapter().map(|_| hex(&policy.base_hash())),
        };
        let readme = "A checkpoint of a murmur peer.\n".to_owned();
        let card = ExportCard { readme, ..ExportCard::default() };
        let optimizer = &trainer.optimizer;
        replace_directory(out, is_checkpoint, |dir| {
            match policy.adapter() {
                Some(adapter) => peft::fill(dir, adapter, &card)?,
                None => huggingface::fill(dir, policy, &card, Precision::F32)?,
            }
            for (name, values) in MOMENTS.into_iter().zip([&optimizer.first, &optimizer.second]) {
                write_weights(&dir.join(name), policy.trainable(), values, Precision::F32)?;
            }
            let text = serde_json::to_string_pretty(&state)
                .map_err(|error| PolicyError::input(error.to_string(), "report this"))?;
            write(&dir.join(STATE), text.as_bytes())
        })
    }

    /// Reads what [`Self::save`] stored, whole or not at all. `base` is asked for the policy that an adapter
    /// was trained on; not where the checkpoint holds the whole policy.
    ///
    /// # Errors
    /// A file is missing or damaged, they do not belong together, or `base` is another one or fails.
    pub fn load<E: From<PolicyError>>(
        dir: &Path,
        base: impl FnOnce() -> std::result::Result<Policy, E>,
    ) -> std::result::Result<(Policy, Trainer, Self), E> {
        let state = State::read(dir)?;
        let policy = state.policy(dir, base)?;
        let moments = |name: &str| WeightFiles::open_one(&dir.join(name))?.read(policy.trainable());
        let optimizer =
            AdamW { first: moments(MOMENTS[0])?, second: moments(MOMENTS[1])?, steps: state.counters.steps };
        let trainer = Trainer::restore(state.config, optimizer);
        Ok((policy, trainer, state.counters))
    }

    /// The policy alone, as [`Self::load`] reads it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_policy<E: From<PolicyError>>(
        dir: &Path,
        base: impl FnOnce() -> std::result::Result<Policy, E>,
    ) -> std::result::Result<Policy, E> {
        State::read(dir)?.policy(dir, base)
    }

    /// The file of a checkpoint that holds what training changed, and where in it the values begin: they reach to its
    /// end, in the order that policy hashes cover.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn learnt_values(dir: &Path) -> Result<(PathBuf, u64)> {
        let adapter = dir.join(peft::WEIGHTS);
        let path = if adapter.exists() { adapter } else { dir.join(huggingface::WEIGHTS) };
        let begin = values_begin(&path).map_err(PolicyError::io("read", &path, START_AGAIN))?;
        Ok((path, begin))
    }

    /// Where a checkpoint that is complete lies: `dir`, or what a crash during the last swap left of it.
    pub fn find(dir: &Path) -> Option<PathBuf> {
        let mut name = dir.file_name()?.to_os_string();
        name.push(".old.tmp");
        [dir.to_path_buf(), dir.with_file_name(name)].into_iter().find(|path| is_checkpoint(path))
    }
}

impl State {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(STATE);
        serde_json::from_str(&read_text(&path, CONFIG_BYTES_MAX)?)
            .map_err(|error| PolicyError::damaged(&path, error.to_string(), START_AGAIN))
    }

    fn policy<E: From<PolicyError>>(
        &self,
        dir: &Path,
        base: impl FnOnce() -> std::result::Result<Policy, E>,
    ) -> std::result::Result<Policy, E> {
        let policy = match &self.base {
            None => Policy::load(dir)?,
            Some(hash) => on_base(dir, base()?, hash)?,
        };
        if self.weights != hex(&policy.hash()) {
            let what = "optimiser and weights are of different checkpoints";
            return Err(PolicyError::damaged(dir, what, START_AGAIN).into());
        }
        Ok(policy)
    }
}

/// The adapter of a checkpoint on its base.
fn on_base(dir: &Path, base: Policy, expected: &str) -> Result<Policy> {
    let base = base.without_adapter();
    let found = hex(&base.hash());
    if found != expected {
        let what = format!("an adapter of the base with hash {expected}, not of the one with {found}");
        let hint = "give the base that this training began with, or move the checkpoint away";
        return Err(PolicyError::damaged(dir, what, hint));
    }
    base.with_adapter_from(dir)
}

fn is_checkpoint(dir: &Path) -> bool {
    dir.join(STATE).is_file()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
