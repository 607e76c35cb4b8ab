//! `murmur task …`: task packs, from nothing to what a swarm can train on.

mod check;
mod list;
mod new;
mod play;
mod preview;
mod solve;
mod store;

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::{HubArgs, SplitName};
use crate::exit::Outcome;

/// What can be done with a task pack.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Write a pack to start from.
    New(NewArgs),
    /// Say what is wrong with a pack before a swarm trains on it.
    Check(CheckArgs),
    /// Show items of each level as a policy would read them.
    Preview(PreviewArgs),
    /// Answer items yourself.
    Play(PlayArgs),
    /// How many items of each level a model solves.
    Solve(SolveArgs),
    /// The packs that are here: inside this program and in the store.
    List(ListArgs),
    /// The content address of a pack.
    Hash(HashArgs),
    /// Copy a pack to a folder, to change it.
    Fork(ForkArgs),
    /// Store a pack on this machine, so that configs can name it by its content address.
    Add(AddArgs),
    /// Propose a pack to a running swarm, or vote for a proposed one.
    Propose(ProposeArgs),
}

/// Runs the command.
///
/// # Errors
/// A pack that is not there, a model that cannot be read, stdin or stdout closed.
pub(crate) fn run(command: &TaskCommand) -> anyhow::Result<Outcome> {
    match command {
        TaskCommand::New(args) => new::run(args),
        TaskCommand::Check(args) => check::run(args),
        TaskCommand::Preview(args) => preview::run(args),
        TaskCommand::Play(args) => play::run(args),
        TaskCommand::Solve(args) => solve::run(args),
        TaskCommand::List(args) => list::run(args),
        TaskCommand::Hash(args) => store::hash(args),
        TaskCommand::Fork(args) => store::fork(args),
        TaskCommand::Add(args) => store::add(args),
        TaskCommand::Propose(args) => store::propose(args),
    }
}

/// Arguments of `murmur task new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// Folder to make; the pack takes its name.
    #[arg(value_name = "NAME")]
    pub(crate) folder: PathBuf,
    /// Items made by a script, with levels.
    #[arg(long, conflicts_with = "jsonl")]
    pub(crate) script: bool,
    /// Items from a JSONL file written for something else; it is copied.
    #[arg(long, value_name = "FILE")]
    pub(crate) jsonl: Option<PathBuf>,
}

/// Which pack.
#[derive(Debug, clap::Args)]
pub(crate) struct PackArgs {
    /// Folder of the pack, or its content address if it is stored.
    #[arg(value_name = "PACK")]
    pub(crate) pack: String,
}

/// Arguments of `murmur task check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur task preview`.
#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Items of each level.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) items: u32,
    /// Only this level.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<u8>,
    /// Print the items as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur task play`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Items of each level.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) items: u32,
    /// Only this level.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<u8>,
}

/// Arguments of `murmur task solve`.
#[derive(Debug, clap::Args)]
pub(crate) struct SolveArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Embedded base, Hugging Face directory or model of the hub (owner/name@revision).
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    /// How models are found.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Which items.
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub(crate) split: SplitName,
    /// Items of each level.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) items: u32,
    /// Longest completion in tokens.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) new_tokens_max: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur task list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print the packs as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur task hash`.
#[derive(Debug, clap::Args)]
pub(crate) struct HashArgs {
    /// Folder of the pack.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// Arguments of `murmur task fork`.
#[derive(Debug, clap::Args)]
pub(crate) struct ForkArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Folder to make; the fork takes its name.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// Arguments of `murmur task add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Fetch it from the running peers that this join config names (its own address, and bootstrap).
    #[arg(long, value_name = "CONFIG")]
    pub(crate) from: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur task propose`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProposeArgs {
    #[command(flatten)]
    pub(crate) pack: PackArgs,
    /// Join config of the running peer that proposes it.
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// How often it is to be drawn, relative to the packs of [swarm].
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(judge::PACK_WEIGHT_MAX)))]
    pub(crate) weight: u32,
    /// Also if it fails its check here.
    #[arg(long)]
    pub(crate) anyway: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
