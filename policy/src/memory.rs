//! How much memory a run needs, said before it is taken, and how much there is.
//!
//! Formulae count what grows with the model and the batch, in bytes; `C` is the width of the residual stream,
//! `Q` and `K` those of all query and all key heads, `F` that of the feed-forward part, `V` the vocabulary, `L`
//! the blocks, `P` the parameters, `T` the tokens of a micro-batch.
//!
//! * weights `4·P`; full training keeps a gradient and two moments of 4 bytes each beside every weight;
//! * an adapter of rank `r` has `r·(in + out)` parameters a matrix, with gradient and moments too;
//! * the backward pass needs `2·C + 2·Q + 2·K + 2·F` values a token and block, with checkpointing `C` a token and
//!   block plus one block in full;
//! * decoding keeps keys and values, `2·K` a position and block, of every sequence that runs at once.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};

/// Bytes of an f32.
const F32: u64 = 4;
/// Rows of logits that training holds at once, each with its gradient.
const LOGITS_ROWS: u64 = 256;
/// Bytes of a process that are there whatever the model: code, threads, buffers.
const PROCESS: u64 = 64 * 1024 * 1024;
/// Bytes of the tokenizer for each id: its spelling, its merge, and their tables.
const TOKENIZER_PER_ID: u64 = 1024;
/// Fewest tokens of a micro-batch that are proposed.
const MICRO_BATCH_MIN: usize = 256;
/// Shortest context that is proposed.
const LENGTH_MIN: usize = 256;
/// Rank of the adapter that is proposed.
const RANK: usize = 16;
/// Bytes of a file of the system that are read.
const SYSTEM_FILE_MAX: usize = 64 * 1024;

/// What a run does with a model besides holding it; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Sampling, if any.
    pub decode: Option<Decode>,
    /// Training, if any.
    pub train: Option<Train>,
}

/// Sampling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decode {
    /// Sequences that run at once.
    pub sequences: usize,
    /// Longest of them, prompt included, in tokens.
    pub length: usize,
    /// Whether the weights are held in bf16; only possible without training all of them.
    pub bf16: bool,
}

/// Training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Train {
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// Whether activations are computed again in the backward pass.
    pub checkpointing: bool,
    /// Rank of the adapter on all matrices of the blocks; `None` trains every weight.
    pub lora_rank: Option<usize>,
}

/// Bytes that a run needs, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The weights.
    pub weights: u64,
    /// Adapter, gradients and moments.
    pub optimiser: u64,
    /// Activations, keys and values, logits: the larger of sampling and training, which take turns.
    pub buffers: u64,
    /// Tokenizer, rotary tables and the process itself.
    pub fixed: u64,
}

impl Estimate {
    /// The estimate for a checked config; saturates instead of overflowing.
    pub fn new(config: &ModelConfig, workload: &Workload) -> Self {
        let parameters = config.parameters() as u64;
        let half = workload.decode.as_ref().is_some_and(|decode| decode.bf16) && !trains_all(workload);
        let decode = workload.decode.as_ref().map_or(0, |decode| decode_bytes(config, decode));
        let train = workload.train.as_ref().map_or(0, |train| train_bytes(config, train));
        // Cosine and sine of half a head, for each position.
        let rotary = product(&[config.max_position_embeddings, config.head_dim]).saturating_mul(F32);
        Self {
            weights: parameters * if half { F32 / 2 } else { F32 },
            optimiser: workload.train.as_ref().map_or(0, |train| optimiser_bytes(config, train)),
            buffers: decode.max(train),
            fixed: PROCESS + rotary + config.vocab_size as u64 * TOKENIZER_PER_ID,
        }
    }

    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        [self.weights, self.optimiser, self.buffers, self.fixed].into_iter().fold(0, u64::saturating_add)
    }
}

fn trains_all(workload: &Workload) -> bool {
    workload.train.as_ref().is_some_and(|train| train.lora_rank.is_none())
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, factor| product.saturating_mul(*factor as u64))
}

fn decode_bytes(config: &ModelConfig, decode: &Decode) -> u64 {
    let length = decode.length.min(config.max_position_embeddings);
    let cache = product(&[decode.sequences, length, config.num_hidden_layers, 2, config.kv_width()]);
    let logits = product(&[decode.sequences, config.vocab_size]);
    // A prompt is read one block at a time.
    let prompt = product(&[length, block_values(config)]);
    cache.saturating_add(logits).saturating_add(prompt).saturating_mul(F32)
}

fn train_bytes(config: &ModelConfig, train: &Train) -> u64 {
    let blocks = config.num_hidden_layers;
    let kept = if train.checkpointing {
        config.hidden_size * blocks + block_values(config)
    } else {
        block_values(config) * blocks
    };
    // The backward pass of the block at hand has a gradient for each of its values.
    let values = product(&[train.tokens, kept + block_values(config)]);
    let logits = 2 * LOGITS_ROWS.min(train.tokens as u64) * config.vocab_size as u64;
    values.saturating_add(logits).saturating_mul(F32)
}

/// Values a token leaves in a block: two residuals, queries, attention's output, keys, values, gate and up.
fn block_values(config: &ModelConfig) -> usize {
    2 * config.hidden_size + 2 * config.query_width() + 2 * config.kv_width() + 2 * config.intermediate_size
}

fn optimiser_bytes(config: &ModelConfig, train: &Train) -> u64 {
    let Some(rank) = train.lora_rank else { return 3 * F32 * config.parameters() as u64 };
    let (c, q, k, f) =
        (config.hidden_size, config.query_width(), config.kv_width(), config.intermediate_size);
    let sides = 2 * (c + q) + 2 * (c + k) + 3 * (c + f);
    product(&[rank, sides, config.num_hidden_layers]).saturating_mul(4 * F32)
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
    let what = format!(
        "this needs {} of memory (weights {}, optimiser {}, buffers {}) and {} are free",
        gib(estimate.total()),
        gib(estimate.weights),
        gib(estimate.optimiser),
        gib(estimate.buffers),
        gib(available),
    );
    Err(PolicyError::Memory { what, hint: hint(config, workload, available) })
}

/// The settings that would fit, cheapest first.
fn hint(config: &ModelConfig, workload: &Workload, available: u64) -> String {
    let total = |workload: &Workload| Estimate::new(config, workload).total();
    let mut hint = String::new();
    for (name, workload) in proposals(workload).iter().filter(|(_, workload)| total(workload) <= available) {
        let start = if hint.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(hint, "{start}{name} ({})", gib(total(workload)));
    }
    if hint.is_empty() {
        let least = proposals(workload).iter().map(|(_, workload)| total(workload)).min();
        let least = least.unwrap_or(u64::MAX).min(total(workload));
        return format!("free memory, or choose a smaller model: no setting takes less than {}", gib(least));
    }
    format!("would fit: {hint}")
}

fn proposals(workload: &Workload) -> Vec<(String, Workload)> {
    let mut list = Vec::new();
    let mut with = |name: String, change: &dyn Fn(&mut Workload)| {
        let mut changed = workload.clone();
        change(&mut changed);
        if changed != *workload {
            list.push((name, changed));
        }
    };
    if let Some(train) = &workload.train {
        let checkpointing =
            |w: &mut Workload| w.train.iter_mut().for_each(|train| train.checkpointing = true);
        let lora = |w: &mut Workload| {
            w.train.iter_mut().for_each(|train| train.lora_rank = train.lora_rank.or(Some(RANK)))
        };
        with("checkpointing".into(), &checkpointing);
        let tokens = (train.tokens / 4).max(MICRO_BATCH_MIN).min(train.tokens);
        let smaller = |w: &mut Workload| w.train.iter_mut().for_each(|train| train.tokens = tokens);
        with(format!("micro-batches of {tokens} tokens"), &smaller);
        with(format!("both, micro-batches of {tokens} tokens"), &|w| {
            checkpointing(w);
            smaller(w);
        });
        with(format!("LoRA of rank {RANK}"), &lora);
        with(format!("LoRA of rank {RANK} with checkpointing"), &|w| {
            lora(w);
            checkpointing(w);
        });
    }
    if let Some(decode) = &workload.decode {
        let length = (decode.length / 2).max(LENGTH_MIN).min(decode.length);
        with(format!("a context of {length} tokens"), &|w| {
            w.decode.iter_mut().for_each(|decode| decode.length = length);
        });
        with("weights in bf16 without training".into(), &|w| {
            w.train = None;
            w.decode.iter_mut().for_each(|decode| decode.bf16 = true);
        });
    }
    list
}

/// Bytes in GiB with one decimal.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
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

    fn full(tokens: usize) -> Workload {
        let train = Train { tokens, checkpointing: false, lora_rank: None };
        Workload { decode: None, train: Some(train) }
    }

    #[test]
    fn half_a_billion_parameters_are_counted() {
        let config = half_a_billion();
        assert_eq!(config.parameters(), 494_032_768, "as its model card counts");
        let load = Estimate::new(&config, &Workload::default());
        assert_eq!(load.weights, 4 * 494_032_768);
        assert_eq!((load.optimiser, load.buffers), (0, 0));
        let full = Estimate::new(&config, &full(1024));
        assert_eq!(full.optimiser, 12 * 494_032_768);
        let (block, logits) = (2 * 896 + 2 * 896 + 2 * 128 + 2 * 4864, 2 * 256 * 151_936);
        assert_eq!(full.buffers, 4 * (1024 * 25 * block + logits));
    }

    #[test]
    fn the_error_names_what_would_fit() {
        let config = half_a_billion();
        let error = fits(&config, &full(8192), 4 << 30).unwrap_err().to_string();
        assert!(error.contains("and 4.0 GiB are free"), "{error}");
        assert!(error.contains("hint: would fit: LoRA of rank 16 with checkpointing ("), "{error}");
        let error = fits(&config, &full(8192), 12 << 30).unwrap_err().to_string();
        assert!(error.contains("would fit: checkpointing ("), "{error}");
        assert!(error.contains("micro-batches of 2048 tokens"), "{error}");
        let error = fits(&config, &full(8192), 1 << 30).unwrap_err().to_string();
        assert!(error.contains("choose a smaller model: no setting takes less than"), "{error}");
        let decode =
            Workload { decode: Some(Decode { sequences: 64, length: 32_768, bf16: false }), train: None };
        let error = fits(&config, &decode, 50 << 30).unwrap_err().to_string();
        assert!(error.contains("a context of 16384 tokens"), "{error}");
        fits(&config, &full(1024), 32 << 30).unwrap();
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
