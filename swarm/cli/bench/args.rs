//! What `murmur bench` can be asked.

use clap::{Subcommand, ValueEnum};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Sampling completions with their log-probabilities.
    Decode(BenchDecodeArgs),
    /// A training step: forward, backward, optimiser.
    Train(BenchTrainArgs),
    /// A whole step of a swarm's learning: sampling groups, rewarding them, one update.
    Step(BenchStepArgs),
}

/// What every measurement asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Hugging Face directory (its tokenizer is not needed) or name of an embedded base.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    /// Threads; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(crate) threads: u16,
    /// Measured runs after the one that warms up; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a measurement trains.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchLearningArgs {
    /// Compute activations again in the backward pass instead of keeping them.
    #[arg(long)]
    pub(crate) checkpointing: bool,
    /// Train adapters of this rank on all matrices instead of the weights.
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) lora: Option<u16>,
}

/// How long a measurement's sequences are.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchTokensArgs {
    /// Tokens of a prompt.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) prompt: u32,
    /// Tokens of a completion.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) new: u32,
}

/// Arguments of `murmur bench decode`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchDecodeArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    /// Completions that are sampled at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch: u16,
    /// Completions that share a prompt; divides the batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) group: u16,
    #[command(flatten)]
    pub(crate) tokens: BenchTokensArgs,
    /// How the weights are held.
    #[arg(long, value_enum, default_value_t = WeightsName::F32)]
    pub(crate) weights: WeightsName,
}

/// Arguments of `murmur bench train`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchTrainArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    #[command(flatten)]
    pub(crate) learning: BenchLearningArgs,
    /// Sequences of a step.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch: u16,
    /// Tokens that are predicted in each.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) length: u32,
}

/// Arguments of `murmur bench step`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchStepArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    #[command(flatten)]
    pub(crate) learning: BenchLearningArgs,
    /// Prompts of a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) prompts: u16,
    /// Completions of each.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub(crate) group: u16,
    #[command(flatten)]
    pub(crate) tokens: BenchTokensArgs,
    /// How the weights are held for sampling.
    #[arg(long, value_enum, default_value_t = WeightsName::F32)]
    pub(crate) weights: WeightsName,
}

/// How weights are held, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightsName {
    /// Four bytes each.
    F32,
    /// Two bytes each, rounded.
    Bf16,
}

impl From<WeightsName> for policy::SamplingWeights {
    fn from(name: WeightsName) -> Self {
        match name {
            WeightsName::F32 => Self::F32,
            WeightsName::Bf16 => Self::Bf16,
        }
    }
}
