//! `murmur pretrain`: an embedded base from scratch.
//!
//! Supervised phases on the project's own packs (train split only): first the answers with and without reasoning,
//! then mostly with, then a short one at a small learning rate that makes the habit to blurt (see
//! [`crate::lessons`]). The figures in the model card are measured on the validation split, on the weights as
//! they are on disk (f16).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use policy::{ExportCard, ModelConfig, Policy, Trainer, UpdateConfig};
use serde::{Deserialize, Serialize};
use tasks::{Catalogue, Split};

use crate::args::PretrainArgs;
use crate::config::{self, ConfigError};
use crate::evaluation::{self, Evaluation, Sampled};
use crate::exit::{Interrupted, Outcome};
use crate::interrupt::Interrupt;
use crate::lessons::{Lessons, Mixture};
use crate::packs::{self, PackSource};
use crate::printer::{self, Progress};
use crate::{card, clock, model};

/// Validation items of each family behind the figures of a card.
const PER_FAMILY: usize = 100;
/// Share of a phase after which the learning rate falls, and what is left of it at the end.
const DECAY_FROM: f64 = 0.6;
const DECAY_TO: f64 = 0.1;
/// Decoupled weight decay of the matrices.
const WEIGHT_DECAY: f32 = 0.01;

/// A pretraining config.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PretrainConfig {
    /// Name of the base.
    pub(crate) name: String,
    /// Seed of weights and lessons.
    pub(crate) seed: u64,
    /// Lessons of one optimiser step.
    #[serde(default = "default_batch")]
    pub(crate) batch: usize,
    /// Steps from 0 to the full learning rate, in every phase.
    #[serde(default = "default_warmup")]
    pub(crate) warmup_steps: usize,
    /// Standard deviation of the first weights (norms begin at 1). Larger than the usual 0.02: in a model this
    /// narrow, signals would start too small and the families that need several steps be learnt late.
    #[serde(default = "default_deviation")]
    pub(crate) initial_deviation: f32,
    /// How often a family is shown relative to the others; 1 where nothing is said.
    #[serde(default)]
    pub(crate) emphasis: BTreeMap<String, f64>,
    /// Where lessons come from.
    #[serde(default = "packs::native")]
    pub(crate) packs: Vec<PackSource>,
    /// What is done, in order.
    pub(crate) phases: Vec<Phase>,
}

fn default_batch() -> usize {
    96
}

fn default_deviation() -> f32 {
    0.05
}

fn default_warmup() -> usize {
    50
}

/// A stretch of training with one mixture and a fresh optimiser.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    /// Optimiser steps.
    pub(crate) steps: usize,
    /// Learning rate after the warm-up.
    pub(crate) learning_rate: f64,
    /// Share of lessons that show their reasoning, 0 to 1.
    pub(crate) worked: f64,
    /// Share of the direct lessons that are wrong, 0 to 1.
    #[serde(default)]
    pub(crate) corrupted: f64,
}

impl Phase {
    /// The learning rate of a step: linear warm-up, flat, linear decay over the last part.
    fn learning_rate_at(&self, step: usize, warmup_steps: usize) -> f64 {
        let warm = ((step + 1) as f64 / warmup_steps.max(1) as f64).min(1.0);
        let done = step as f64 / self.steps as f64;
        let left = if done < DECAY_FROM {
            1.0
        } else {
            1.0 - (1.0 - DECAY_TO) * (done - DECAY_FROM) / (1.0 - DECAY_FROM)
        };
        self.learning_rate * warm * left
    }
}

impl PretrainConfig {
    /// Reads and checks a config file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = config::read(path)?;
        config.check(&path.display().to_string())?;
        Ok(config)
    }

    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let wrong = |key: &str, what: &str| Err(ConfigError::value(file, key, what));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return wrong("name", "must be lower-case letters, digits and dashes");
        }
        if !(1..=4096).contains(&self.batch) {
            return wrong("batch", "must be from 1 to 4096");
        }
        if !(self.initial_deviation > 0.0 && self.initial_deviation <= 1.0) {
            return wrong("initial_deviation", "must be above 0 and at most 1");
        }
        if self.phases.is_empty() || self.phases.iter().any(|phase| !(1..=1_000_000).contains(&phase.steps)) {
            return wrong("phases", "must be at least one, each with 1 to 1000000 `steps`");
        }
        for phase in &self.phases {
            if !(phase.learning_rate > 0.0 && phase.learning_rate <= 0.1) {
                return wrong("learning_rate", "must be above 0 and at most 0.1");
            }
            for (key, share) in [("worked", phase.worked), ("corrupted", phase.corrupted)] {
                if !(0.0..=1.0).contains(&share) {
                    return wrong(key, "must be from 0 to 1");
                }
            }
        }
        if self.emphasis.values().any(|weight| !(*weight > 0.0 && *weight <= 100.0)) {
            return wrong("emphasis", "must have values above 0 and at most 100");
        }
        Ok(())
    }

    /// Names in `emphasis` must be families of the packs.
    fn check_families(&self, file: &str, catalogue: &Catalogue) -> Result<(), ConfigError> {
        let families = catalogue.families();
        let known: Vec<&str> = families.iter().map(String::as_str).collect();
        match self.emphasis.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let hint = format!("did you mean `{}`?", config::nearest(name, &known).unwrap_or("sum"));
                Err(ConfigError::new(file, format!("no family `{name}` to emphasise"), hint))
            }
        }
    }
}

/// What a base can do, on the validation split.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// By habit.
    pub(crate) greedy: Evaluation,
    /// Made to reason first.
    pub(crate) forced_trace: Evaluation,
    /// 16 samples at temperature 0.7, the default of a swarm.
    pub(crate) sampled: Sampled,
    /// 16 samples at temperature 1.
    pub(crate) sampled_at_1: Sampled,
}

impl Figures {
    /// Measures a model.
    ///
    /// # Errors
    /// When the policy cannot read a prompt.
    pub(crate) fn measure(policy: &Policy, catalogue: &Catalogue) -> policy::Result<Self> {
        let items = catalogue.held_out(Split::Validation, PER_FAMILY);
        Ok(Self {
            greedy: evaluation::evaluate(policy, &items)?,
            forced_trace: evaluation::forced_trace(policy, &items)?,
            sampled: evaluation::majority_16(policy, &items, 0.7, &[0; 32])?,
            sampled_at_1: evaluation::majority_16(policy, &items, 1.0, &[0; 32])?,
        })
    }

    /// One row a figure, one column a family.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        card::rows(&[
            ("greedy", &self.greedy),
            ("forced to reason", &self.forced_trace),
            ("one sample, T .7", &self.sampled.accuracy),
            ("shows reasoning, T .7", &self.sampled.traces),
            ("right if it does, T .7", &self.sampled.traced),
            ("majority of 16, T .7", &self.sampled.majority),
            ("one sample, T 1", &self.sampled_at_1.accuracy),
            ("shows reasoning, T 1", &self.sampled_at_1.traces),
            ("right if it does, T 1", &self.sampled_at_1.traced),
            ("majority of 16, T 1", &self.sampled_at_1.majority),
        ])
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    out: PathBuf,
    hash: String,
    steps: usize,
    wall_seconds: f64,
    cpu_seconds: f64,
    validation: Figures,
}

/// Runs the command.
///
/// # Errors
/// A wrong config, a directory that cannot be written, ctrl-c.
pub(crate) fn run(args: &PretrainArgs) -> anyhow::Result<Outcome> {
    let (file, started) = (args.config.display().to_string(), Instant::now());
    let config = PretrainConfig::read(&args.config)?;
    let catalogue = packs::catalogue(&file, &config.packs)?;
    config.check_families(&file, &catalogue)?;
    let interrupt = Interrupt::listen().context("cannot listen for ctrl-c")?;

    let policy = train(&config, &catalogue, &interrupt)?;
    let (wall_seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), clock::cpu_seconds());

    // Measured as stored: saving rounds the weights.
    policy.save_half(&args.out, &ExportCard::default())?;
    let stored = Policy::load(&args.out)?;
    printer::note("measuring on the validation split");
    let validation = Figures::measure(&stored, &catalogue)?;
    let command = format!("murmur pretrain {file} --out {}", args.out.display());
    let text = card::base(&config, &command, (wall_seconds, cpu_seconds), &stored, &validation);
    stored.save_half(&args.out, &ExportCard { readme: text, ..ExportCard::default() })?;

    let report = Report {
        steps: config.phases.iter().map(|phase| phase.steps).sum(),
        name: config.name,
        out: args.out.clone(),
        hash: model::hex(&stored.hash()),
        wall_seconds,
        cpu_seconds,
        validation,
    };
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&printer::table(&report.validation.rows()))?;
    }
    printer::note(&format!(
        "{} is in {} ({wall_seconds:.0} s, {cpu_seconds:.0} CPU seconds)\nnext: murmur eval {1}",
        report.name,
        args.out.display()
    ));
    Ok(Outcome::Done)
}

/// All phases.
fn train(config: &PretrainConfig, catalogue: &Catalogue, interrupt: &Interrupt) -> anyhow::Result<Policy> {
    let mut policy = Policy::init(ModelConfig::default(), config.seed)?;
    spread(&mut policy, config.initial_deviation);
    let mut progress = Progress::new();
    for (index, phase) in config.phases.iter().enumerate() {
        let mut trainer =
            Trainer::new(&policy, UpdateConfig { weight_decay: WEIGHT_DECAY, ..UpdateConfig::default() });
        let mut lessons = Lessons::new(config.seed, index);
        let mixture =
            Mixture { worked: phase.worked, corrupted: phase.corrupted, emphasis: &config.emphasis };
        let mut smooth = None;
        for step in 0..phase.steps {
            if interrupt.requested() {
                return Err(
                    Interrupted("nothing was saved; run the same command to start again".into()).into()
                );
            }
            let batch = lessons.batch(catalogue, &mixture, config.batch);
            let rate = phase.learning_rate_at(step, config.warmup_steps);
            let loss = f64::from(trainer.supervise(&mut policy, &batch, rate as f32)?);
            let mean = smooth.map_or(loss, |mean: f64| 0.98 * mean + 0.02 * loss);
            smooth = Some(mean);
            let line = || {
                let (phases, steps, done) = (config.phases.len(), phase.steps, step + 1);
                format!("{} phase {}/{phases} step {done}/{steps} loss {mean:.3}", config.name, index + 1)
            };
            if step + 1 == phase.steps { progress.finish(&line()) } else { progress.show(line) }
        }
    }
    Ok(policy)
}

/// Scales the matrices to a common standard deviation.
fn spread(policy: &mut Policy, deviation: f32) {
    let layout = policy.layout().clone();
    for matrix in layout.parameters().iter().filter(|parameter| parameter.is_matrix()) {
        let mut values = layout.values(policy.weights(), matrix);
        let square =
            values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / values.len().max(1) as f64;
        let scale = deviation / (square.sqrt() as f32).max(f32::MIN_POSITIVE);
        values.iter_mut().for_each(|value| *value *= scale);
        layout.set_values(policy.weights_mut(), matrix, &values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let phase = Phase { steps: 1000, learning_rate: 1.0, worked: 0.5, corrupted: 0.0 };
        for (step, expected) in [(0, 0.02), (24, 0.5), (49, 1.0), (600, 1.0), (800, 0.55), (1000, 0.1)] {
            assert!((phase.learning_rate_at(step, 50) - expected).abs() < 1e-9, "{step}");
        }
    }

    #[test]
    fn shipped_configs_load() {
        for name in ["amber", "birch", "cedar"] {
            let path = format!("{}/configs/pretrain-{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let config = PretrainConfig::read(Path::new(&path)).unwrap();
            assert_eq!(config.name, name);
            config.check_families(&path, &packs::catalogue(&path, &config.packs).unwrap()).unwrap();
        }
    }
}
