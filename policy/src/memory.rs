//! How much memory a run needs, said before it is taken, and how much there is.
//!
//! Formulae follow the engine's buffers, in values of 4 bytes unless it says otherwise; `C` is the width of the
//! residual stream, `Q` and `K` those of all query and all key heads, `F` that of the feed-forward part, `V` the
//! vocabulary, `L` the blocks, `P` the parameters, `N` the rows of a micro-batch, `M` those of them that are scored.
//!
//! * weights `P`, their copy in bf16 `P / 2` where sampling reads it, a reference that is not the base of an adapter
//!   `P`; full training keeps a gradient and two moments beside every weight;
//! * an adapter of rank `r` has `r·(inputs + outputs)` parameters a matrix, with gradient and moments too;
//! * the backward pass needs `2·C + 2·Q + 2·K + 2·F` values a row and block (`Q + K` more where these are normalised),
//!   with checkpointing `C` a row and block plus one block in full; beside them one block's gradients and its
//!   matrices transposed, and the logits of the scored rows or of a part of the vocabulary at a time;
//! * sampling keeps keys and values, `2·K` a position and block, of every prompt and of the completions that advance
//!   at once;
//! * training's buffers stay for the next step, so sampling's come on top.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cache::Cache;
use crate::config::ModelConfig;
use crate::decode::{READ_TOKENS, Waves};
use crate::error::{PolicyError, Result};
use crate::forward::Keep;
use crate::head::{BLOCK_PANELS, ITEM_LOGITS, KEPT_LOGITS_MAX};
use crate::kernel::PANEL;
use crate::lora::LoraConfig;
use crate::score::PASS_TOKENS;
use crate::step::{block_activations, kept_activations, micro_batch_tokens};
use crate::weights::Module;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of a process that are there whatever the model: code, network, freed memory that its allocator keeps.
const PROCESS: u64 = 80 * 1024 * 1024;
/// Bytes that a thread holds: scratch space of its items, and what its allocator keeps.
const THREAD: u64 = 14 * 1024 * 1024;
/// Bytes of the tokenizer for each id: its spelling, its merge, and their tables.
const TOKENIZER_PER_ID: u64 = 1024;
/// Fewest tokens of a micro-batch that are proposed.
const MICRO_BATCH_MIN: usize = 256;
/// Bytes of a file of the system that are read.
const SYSTEM_FILE_MAX: usize = 64 * 1024;

/// What a run does with a model besides holding it; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// What is sampled at once and then trained on, if anything.
    pub round: Option<Round>,
    /// Whether sampling reads a copy of the weights in bf16.
    pub bf16: bool,
    /// Training, if any.
    pub train: Option<Train>,
    /// Threads that compute.
    pub threads: usize,
}

/// What is sampled at once: `completions` of each of `prompts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Different prompts.
    pub prompts: usize,
    /// Completions of each.
    pub completions: usize,
    /// Tokens of the longest prompt.
    pub prompt_tokens: usize,
    /// Tokens of the longest completion.
    pub new_tokens: usize,
}

/// Training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Train {
    /// Tokens of a micro-batch; chosen from the model if not given.
    pub micro_batch_tokens: Option<usize>,
    /// Whether activations are computed again in the backward pass.
    pub gradient_checkpointing: bool,
    /// The adapter that is trained; `None` trains every weight.
    pub lora: Option<LoraConfig>,
    /// Whether `beta` asks for the log-probabilities of a reference.
    pub reference: bool,
}

/// Bytes that a run needs, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The weights, their bf16 copy and the reference.
    pub weights: u64,
    /// Adapter, gradients and moments.
    pub optimiser: u64,
    /// Activations, keys and values, logits.
    pub buffers: u64,
    /// Tokenizer, rotary tables and the process itself.
    pub fixed: u64,
}

impl Estimate {
    /// The estimate for a checked config; saturates instead of overflowing.
    pub fn new(config: &ModelConfig, workload: &Workload) -> Self {
        let weights = F32.saturating_mul(config.parameters() as u64);
        let full_reference =
            workload.train.as_ref().is_some_and(|train| train.reference && train.lora.is_none());
        let copies = if workload.bf16 { weights / 2 } else { 0 } + if full_reference { weights } else { 0 };
        let train = workload.train.as_ref().map(|train| {
            let values =
                workload.round.map_or(0, |round| train_values(config, train, &round, workload.threads));
            (optimiser_bytes(config, train), values)
        });
        let (optimiser, train) = train.unwrap_or_default();
        let sampled = workload.round.map_or(0, |round| {
            sampling_values(config, &round, workload).max(scoring_values(config, workload.threads))
        });
        // Cosine and sine of half a head, for each position.
        let rotary = product(&[config.context(), config.head_dim]).saturating_mul(F32);
        Self {
            weights: weights.saturating_add(copies),
            optimiser,
            buffers: train.saturating_add(sampled).saturating_mul(F32),
            fixed: sum(&[
                PROCESS,
                THREAD.saturating_mul(workload.threads as u64),
                rotary,
                config.vocab_size as u64 * TOKENIZER_PER_ID,
            ]),
        }
    }

    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        [self.weights, self.optimiser, self.buffers, self.fixed].into_iter().fold(0, u64::saturating_add)
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [self.total(), self.weights, self.optimiser, self.buffers, self.fixed].map(amount);
        let [total, weights, optimiser, buffers, fixed] = parts;
        write!(f, "{total} (weights {weights}, optimiser {optimiser}, buffers {buffers}, other {fixed})")
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, factor| product.saturating_mul(*factor as u64))
}

fn sum(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
}

/// Keys and values of prompts and completions, the prompts' reading, a step's activations and logits.
fn sampling_values(config: &ModelConfig, round: &Round, workload: &Workload) -> u64 {
    let (context, threads) = (config.context(), workload.threads.max(1));
    let (prompt, new) = (round.prompt_tokens.min(context), round.new_tokens.min(context));
    let all = round.prompts.saturating_mul(round.completions);
    let weights = config.parameters().saturating_mul(if workload.bf16 { 2 } else { 4 });
    let Waves { wave, alone } = Waves::of(config, weights, threads, all, new);
    let streams = all.min(if alone { wave * threads } else { wave });
    let read = READ_TOKENS.min(round.prompts.saturating_mul(prompt)).max(prompt);
    let reading = config.num_hidden_layers * 2 * config.kv_width() + pass_values(config);
    // Every thread writes its part of wide rows before they are put together.
    let step = 2 * (block_activations(config) + 2 * config.hidden_size);
    sum(&[
        product(&[round.prompts, Cache::values(config, prompt)]),
        product(&[streams, Cache::values(config, new)]),
        product(&[read, reading]),
        product(&[streams, step]),
        product(&[streams, if alone { 1 } else { 2 }, config.vocab_size]),
        product(&[threads, 3, config.vocab_size]),
    ])
}

/// A pass over neighbouring texts that keeps nothing.
fn scoring_values(config: &ModelConfig, threads: usize) -> u64 {
    let logits = product(&[threads, ITEM_LOGITS.max(config.vocab_size) + config.vocab_size]);
    sum(&[product(&[PASS_TOKENS, pass_values(config) + config.hidden_size]), logits])
}

/// Values that a row has at once in a pass that keeps nothing: one block, its input and output, the hidden state.
fn pass_values(config: &ModelConfig) -> usize {
    block_activations(config) + 2 * config.hidden_size
}

/// What training's buffers hold when they are largest.
fn train_values(config: &ModelConfig, train: &Train, round: &Round, threads: usize) -> u64 {
    let keep = if train.gradient_checkpointing { Keep::Inputs } else { Keep::Everything };
    let most = micro_batch_tokens(config, keep);
    let budget = train.micro_batch_tokens.map_or(most, |tokens| most.min(tokens)).max(1);
    let longest = round.prompt_tokens.saturating_add(round.new_tokens).min(config.context());
    let group = round.completions.saturating_mul(round.new_tokens).saturating_add(round.prompt_tokens);
    let rows = group.saturating_mul(round.prompts).min(budget.max(longest));
    let scored = round.prompts.saturating_mul(round.completions).saturating_mul(round.new_tokens).min(rows);
    let (c, block) = (config.hidden_size, block_activations(config));
    // The block at hand: gradients by its activations, by heads once more, and five widths of the residual stream.
    let gradients = block + 4 * c + config.query_width() + 2 * config.kv_width() - config.intermediate_size;
    let ranks = train.lora.as_ref().map_or(0, |lora| 2 * lora.rank * lora.targets.len());
    let turned = Module::ALL.iter().map(|module| {
        let [outputs, inputs] = module.shape(config);
        product(&[outputs, inputs.next_multiple_of(PANEL)])
    });
    let head =
        product(&[scored, 2 * c + BLOCK_PANELS * PANEL]).saturating_add((BLOCK_PANELS * PANEL * c) as u64);
    let logits = product(&[scored, config.vocab_size]).min(KEPT_LOGITS_MAX as u64);
    let own = product(&[threads, ITEM_LOGITS.max(config.vocab_size) + config.vocab_size]);
    sum(&[
        product(&[rows, kept_activations(config, keep) + 3 * c]),
        product(&[rows, gradients + ranks]),
        turned.sum(),
        head,
        logits.max(own),
    ])
}

fn optimiser_bytes(config: &ModelConfig, train: &Train) -> u64 {
    let Some(lora) = &train.lora else { return product(&[3, config.parameters()]).saturating_mul(F32) };
    let chosen = |module: &&Module| lora.targets.iter().any(|target| target == module.name());
    let pairs = Module::ALL.iter().filter(chosen).map(|module| {
        let [outputs, inputs] = module.shape(config);
        // Stored in whole panels of outputs.
        inputs * lora.rank.next_multiple_of(PANEL) + outputs.next_multiple_of(PANEL) * lora.rank
    });
    product(&[pairs.sum(), config.num_hidden_layers]).saturating_mul(4 * F32)
}

/// Says whether a run fits into the memory there is.
///
/// # Errors
/// [`PolicyError::Memory`] with the settings that would fit.
pub fn check(config: &ModelConfig, workload: &Workload) -> Result<Estimate> {
    let estimate = Estimate::new(config, workload);
    match available() {
        Some(available) => fits(config, workload, available).map(|()| estimate),
        None => Ok(estimate),
    }
}

/// [`check`] against a given number of bytes.
///
/// # Errors
/// As [`check`].
pub fn fits(config: &ModelConfig, workload: &Workload, available: u64) -> Result<()> {
    let estimate = Estimate::new(config, workload);
    if estimate.total() <= available {
        return Ok(());
    }
    let what = format!("this needs {estimate} of memory, and {} are free", amount(available));
    Err(PolicyError::Memory { what, hint: hint(config, workload, available) })
}

/// The settings that would fit, cheapest first.
fn hint(config: &ModelConfig, workload: &Workload, available: u64) -> String {
    let total = |workload: &Workload| Estimate::new(config, workload).total();
    let mut hint = String::new();
    for (name, workload) in proposals(workload).iter().filter(|(_, workload)| total(workload) <= available) {
        let start = if hint.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(hint, "{start}{name} ({})", amount(total(workload)));
    }
    if hint.is_empty() {
        let least = proposals(workload).iter().map(|(_, workload)| total(workload)).min();
        let least = least.unwrap_or(u64::MAX).min(total(workload));
        return format!(
            "free memory, or choose a smaller model: no setting takes less than {}",
            amount(least)
        );
    }
    format!("would fit: {hint}")
}

/// A setting that saves memory.
#[derive(Clone, Copy)]
enum Saving {
    Checkpointing,
    MicroBatch(usize),
    Lora,
    FullPrecision,
    Completions(usize),
}

impl Saving {
    fn apply(self, workload: &mut Workload) {
        match (self, &mut workload.train, &mut workload.round) {
            (Self::Checkpointing, Some(train), _) => train.gradient_checkpointing = true,
            (Self::MicroBatch(tokens), Some(train), _) => train.micro_batch_tokens = Some(tokens),
            (Self::Lora, Some(train), _) => train.lora = Some(LoraConfig::default()),
            (Self::FullPrecision, ..) => workload.bf16 = false,
            (Self::Completions(number), _, Some(round)) => round.completions = number,
            _ => {}
        }
    }

    /// The setting as a config has it.
    fn key(self) -> String {
        match self {
            Self::Checkpointing => "gradient_checkpointing = true".into(),
            Self::MicroBatch(tokens) => format!("micro_batch_tokens = {tokens}"),
            Self::Lora => format!("[lora] rank = {}", LoraConfig::default().rank),
            Self::FullPrecision => "sampling_weights = \"f32\"".into(),
            Self::Completions(number) => format!("completions = {number}"),
        }
    }
}

/// Savings alone and then together, each more costly in time or result than the one before.
fn proposals(workload: &Workload) -> Vec<(String, Workload)> {
    let mut savings = Vec::new();
    if let Some(train) = &workload.train {
        savings.push(Saving::Checkpointing);
        let tokens = train.micro_batch_tokens.map_or(MICRO_BATCH_MIN, |tokens| tokens.min(MICRO_BATCH_MIN));
        savings.push(Saving::MicroBatch(tokens));
        if train.lora.is_none() {
            savings.push(Saving::Lora);
        }
    }
    if workload.bf16 {
        savings.push(Saving::FullPrecision);
    }
    if let Some(round) = workload.round.filter(|round| round.completions > 1) {
        savings.push(Saving::Completions(round.completions / 2));
    }
    let alone = savings.iter().map(std::slice::from_ref);
    let together = (2..=savings.len()).map(|n| &savings[..n]);
    let mut list: Vec<(String, Workload)> = Vec::new();
    for savings in alone.chain(together) {
        let mut changed = workload.clone();
        savings.iter().for_each(|saving| saving.apply(&mut changed));
        if changed != *workload && !list.iter().any(|(_, known)| *known == changed) {
            let keys: Vec<String> = savings.iter().map(|saving| saving.key()).collect();
            list.push((keys.join(" with "), changed));
        }
    }
    list
}

/// Bytes in GiB with one decimal, or in MiB where that would say too little.
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Memory this process may still take, in bytes: the machine's, or what its control groups leave of it.
/// `None` where the system does not say.
pub fn available() -> Option<u64> {
    available_under(Path::new("/"))
}

fn available_under(root: &Path) -> Option<u64> {
    let machine = meminfo(&read(&root.join("proc/meminfo"))?)?;
    Some(control_groups(root).map_or(machine, |group| group.min(machine)))
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    (text.len() <= SYSTEM_FILE_MAX).then_some(text)
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What the tightest control group around this process leaves; the groups of a container are the root's.
fn control_groups(root: &Path) -> Option<u64> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    let of = |prefix: &str| groups.lines().find_map(|line| Some(line.split_once(prefix)?.1.to_owned()));
    let unified = of("0::/").map(|path| (root.join("sys/fs/cgroup"), path, ["memory.max", "memory.current"]));
    let legacy = of(":memory:/").map(|path| {
        let files = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
        (root.join("sys/fs/cgroup/memory"), path, files)
    });
    let left = [unified, legacy].into_iter().flatten().flat_map(|(mount, path, files)| {
        let inner = mount.join(path);
        let all = inner.ancestors().take_while(|dir| dir.starts_with(&mount));
        all.filter_map(|dir| left_in(dir, files)).collect::<Vec<u64>>()
    });
    left.min()
}

fn left_in(dir: &Path, [limit, usage]: [&str; 2]) -> Option<u64> {
    let number = |file: &str| read(&dir.join(file))?.trim().parse::<u64>().ok();
    let (limit, usage) = (number(limit)?, number(usage)?);
    // Cached file pages are given back when memory is short.
    let stat = read(&dir.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        matches!(name, "inactive_file" | "total_inactive_file").then(|| value.parse().ok())?
    });
    Some(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    fn half_a_billion() -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size: 151_936,
            hidden_size: 896,
            intermediate_size: 4864,
            num_hidden_layers: 24,
            num_attention_heads: 14,
            num_key_value_heads: 2,
            head_dim: 64,
            qkv_bias: true,
            max_position_embeddings: 32_768,
            ..ModelConfig::default()
        }
    }

    const ROUND: Round = Round { prompts: 8, completions: 8, prompt_tokens: 100, new_tokens: 100 };

    fn full(round: Round) -> Workload {
        Workload { round: Some(round), train: Some(Train::default()), threads: 4, ..Workload::default() }
    }

    #[test]
    fn half_a_billion_parameters_are_counted() {
        let config = half_a_billion();
        assert_eq!(config.parameters(), 494_032_768, "as its model card counts");
        let weights = 4 * 494_032_768;
        let load = Estimate::new(&config, &Workload::default());
        assert_eq!((load.weights, load.optimiser, load.buffers), (weights, 0, 0));
        let mut workload = full(ROUND);
        assert_eq!(Estimate::new(&config, &workload).optimiser, 3 * weights);
        workload.bf16 = true;
        workload.train = Some(Train { reference: true, ..Train::default() });
        assert_eq!(Estimate::new(&config, &workload).weights, 2 * weights + weights / 2);
        // Rank 16 of all matrices: 8,798,208 values, A stored in panels of 32 rows.
        let lora = Some(LoraConfig::default());
        workload.train = Some(Train { reference: true, lora, ..Train::default() });
        let estimate = Estimate::new(&config, &workload);
        let padding = 16 * 24 * (4 * 896 + 896 + 896 + 4864);
        assert_eq!(estimate.optimiser, 16 * (8_798_208 + padding));
        assert_eq!(estimate.weights, weights + weights / 2, "the reference is the adapter's base");
    }

    #[test]
    fn the_error_names_what_would_fit() {
        let config = half_a_billion();
        let said = |workload: &Workload, available: u64| {
            fits(&config, workload, available << 30).unwrap_err().to_string()
        };
        let error = said(&full(ROUND), 4);
        assert!(error.contains(" of memory, and 4.0 GiB are free\nhint: would fit: "), "{error}");
        assert!(
            error.contains(
                "gradient_checkpointing = true with micro_batch_tokens = 256 with [lora] rank = 16"
            ),
            "{error}"
        );
        assert!(!error.contains("; completions = 4 ("), "not enough alone: {error}");
        let mut cheaper = full(ROUND);
        cheaper.train.iter_mut().for_each(|train| train.gradient_checkpointing = true);
        let just = Estimate::new(&config, &cheaper).total();
        let error = fits(&config, &full(ROUND), just).unwrap_err().to_string();
        assert!(error.contains("hint: would fit: gradient_checkpointing = true ("), "{error}");
        fits(&config, &cheaper, just).unwrap();
        let error = said(&full(ROUND), 1);
        assert!(error.contains("choose a smaller model: no setting takes less than"), "{error}");
        let sampling = Workload { train: None, bf16: true, ..full(ROUND) };
        let error = said(&sampling, 3);
        assert!(error.contains("would fit: sampling_weights = \"f32\" ("), "{error}");
        fits(&config, &full(ROUND), 32 << 30).unwrap();
    }

    #[test]
    fn absurd_rounds_do_not_overflow() {
        let most = usize::MAX;
        let round = Round { prompts: most, completions: most, prompt_tokens: most, new_tokens: most };
        assert!(Estimate::new(&half_a_billion(), &full(round)).total() > 1 << 60);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available_under(root.path()), None);
        put("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:   8000 kB\n");
        assert_eq!(available_under(root.path()), Some(8000 * 1024));
        put("proc/self/cgroup", "0::/outer/inner\n");
        put("sys/fs/cgroup/outer/memory.max", "5000000\n");
        put("sys/fs/cgroup/outer/memory.current", "2000000\n");
        put("sys/fs/cgroup/outer/memory.stat", "anon 3\ninactive_file 500000\n");
        put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
        put("sys/fs/cgroup/outer/inner/memory.current", "1000000\n");
        assert_eq!(available_under(root.path()), Some(3_500_000));
        put("proc/self/cgroup", "4:memory:/job\n");
        put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000000\n");
        put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000000\n");
        assert_eq!(available_under(root.path()), Some(2_000_000));
    }
}
