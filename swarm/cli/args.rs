//! The command line.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use swarm::simulate::{Attack, Defence, Fault};

use crate::arm::Arm;
use crate::bench::BenchCommand;
use crate::completions::CompletionsArgs;
use crate::dashboard::{Size, Tab};
use crate::doctor::DoctorArgs;
use crate::fork::ForkArgs;
use crate::invite::InviteArgs;
use crate::key::KeyArgs;
use crate::liar::Lie;
use crate::new::NewArgs;
use crate::relay::RelayArgs;
use crate::show::{ConfigCommand, SetArgs};
use crate::start_from::StartFrom;
use crate::task::TaskCommand;

/// Commit of this build.
pub(crate) const COMMIT: &str = env!("MURMUR_COMMIT");

/// Version, commit and devices of this build.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("MURMUR_COMMIT"),
    cfg_select! { feature = "cuda" => { ", cpu and cuda" } feature = "metal" => { ", cpu and metal" } _ => { ", cpu" } },
    ")"
);

/// Train small language models together: no coordinator, no login, no chain.
#[derive(Debug, Parser)]
#[command(name = "murmur", version = VERSION, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage or config, 130 interrupted."
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Only data and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log lines too; twice for more. MURMUR_LOG says it by part of the program, such as swarm=debug.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What `murmur` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole swarm on this machine: watch it learn from its own vote.
    Demo(DemoArgs),
    /// Make a swarm of your own, and the line with which others join it.
    New(NewArgs),
    /// Take part in a swarm, with a config file or the code that `murmur new` printed.
    Join(JoinArgs),
    /// Look whether this machine can take part, and say what to do where it cannot.
    Doctor(DoctorArgs),
    /// Look at a config.
    Config {
        /// What to look at.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the public key of a peer; its first use makes the key.
    Key(KeyArgs),
    /// Sign a ticket that lets a guest into a swarm.
    Invite(InviteArgs),
    /// Be a point through which peers behind routers find and reach each other; needs no model.
    Relay(RelayArgs),
    /// Make another swarm from a peer's: with other packs, and what it has trained.
    Fork(ForkArgs),
    /// The dashboard of a run, while it goes on or afterwards.
    Watch(WatchArgs),
    /// Write a run as one page of HTML, with charts and without links.
    Report(ReportArgs),
    /// Fold the log of a run again, round by round; verify that everything in it follows.
    Replay(ReplayArgs),
    /// What each peer contributed to a run, from its log.
    Credit(CreditArgs),
    /// Held-out accuracy of models, per task family, side by side.
    Eval(EvalArgs),
    /// Let a model complete a prompt.
    Generate(GenerateArgs),
    /// Write the best model of a run for other programs, and push it to the hub; or what was said in it, as data.
    Export(ExportArgs),
    /// Author and validate task packs.
    Task {
        /// What to do with a pack.
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Run a pack's script from stdin within limits; started by other commands.
    #[command(name = crate::sandbox::COMMAND, hide = true)]
    ScriptWorker(ScriptWorkerArgs),
    /// Train an embedded base model from scratch.
    Pretrain(PretrainArgs),
    /// Play whole swarms in virtual time, under faults and attacks.
    Simulate(SimulateArgs),
    /// Print a script with which a shell completes commands and arguments.
    Completions(CompletionsArgs),
    /// Measure a model's speed and memory on this machine, beside what the machine can do at best.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: BenchCommand,
    },
}

/// How models are found.
#[derive(Debug, clap::Args)]
pub(crate) struct HubArgs {
    /// Use models of the hub only if they are on this machine (as HF_HUB_OFFLINE=1 does).
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Arguments of `murmur demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Peers.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(3..=16))]
    pub(crate) peers: u8,
    /// Rounds.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,
    /// Prompts a round.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) prompts: u16,
    /// Completions a peer samples for each prompt.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) completions: u16,
    /// Sampling temperature in permille.
    #[arg(long, value_name = "N", default_value_t = 700, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) temperature_permille: u16,
    /// Temperature of the log-probabilities in the loss.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub(crate) loss_temperature: f32,
    /// Share of the vote in permille below which a prompt is undecided.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) tau_permille: u32,
    /// Seed of identities and prompts; a fresh one if not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Dishonest peers among them.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=8))]
    pub(crate) liars: u8,
    /// What the liars do.
    #[arg(long, value_enum, default_value_t = Lie::Collude)]
    pub(crate) lie: Lie,
    /// What training is rewarded for.
    #[arg(long, value_enum, default_value_t = Arm::Swarm)]
    pub(crate) arm: Arm,
    /// What chat models' critiques in words are for; models without a chat template write none.
    #[arg(long, value_enum, default_value_t = CritiquesName::Off)]
    pub(crate) critiques: CritiquesName,
    /// Draw each family from its lowest level, and from the next one when the swarm has mastered that.
    #[arg(long)]
    pub(crate) curriculum: bool,
    /// Model to start from, in turn for the peers; the embedded bases if not given.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Vec<String>,
    /// How models are found.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Pack to train on besides native:six, as `murmur task` names it: a folder, a content address, native:NAME.
    #[arg(long, value_name = "PACK")]
    pub(crate) pack: Vec<String>,
    /// Run directory; runs/demo-SEED-PROCESS if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Plain lines instead of the dashboard, and no live line.
    #[arg(long)]
    pub(crate) plain: bool,
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A use of text critiques on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CritiquesName {
    /// There are none.
    Off,
    /// They make a critic's reputation.
    Reputation,
    /// Critics are trained on them as well.
    Train,
}

/// Arguments of `murmur join`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Config file, such as configs/peer-a.toml, or a code that begins with murmur1.
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// Folder for key, checkpoint and records, instead of the config's. Without it a peer that joins by a code has one
    /// below ~/.local/share/murmur/swarms.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// What a peer that has learnt nothing yet starts from, instead of what the config says: `base`; `best`, the policy
    /// of the peer that was right most often; `peer:NAME`; `hub`, a base that must be one of the hub.
    #[arg(long, value_name = "FROM")]
    pub(crate) from: Option<StartFrom>,
    #[command(flatten)]
    pub(crate) set: SetArgs,
    /// Print the resolved config and the memory it takes, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How models are found.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Plain lines instead of the dashboard, and no live line.
    #[arg(long)]
    pub(crate) plain: bool,
}

/// Arguments of `murmur pretrain`.
#[derive(Debug, clap::Args)]
pub(crate) struct PretrainArgs {
    /// Config file, such as configs/pretrain-amber.toml.
    pub(crate) config: PathBuf,
    /// Directory for the model; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// Embedded bases, Hugging Face directories or models of the hub (owner/name@revision).
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// How models are found.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Which items.
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub(crate) split: SplitName,
    /// Items of each family.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub(crate) per_family: u32,
    /// Pack whose items are asked, as `murmur task` names it; native:six if none is given.
    #[arg(long, value_name = "PACK")]
    pub(crate) pack: Vec<String>,
    /// Also measure what a gain is judged against: forced to reason, sampled, majority of 16.
    #[arg(long)]
    pub(crate) controls: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A split on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SplitName {
    /// What models are trained on.
    Train,
    /// What choices are made by.
    Validation,
    /// What is reported.
    Test,
}

impl From<SplitName> for tasks::Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// Arguments of `murmur generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// Embedded base, Hugging Face directory or model of the hub (owner/name@revision).
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// How models are found.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// What to complete, such as "add 417+201".
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Always take the likeliest token.
    #[arg(long, conflicts_with = "temperature")]
    pub(crate) greedy: bool,
    /// Sampling temperature.
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub(crate) temperature: f32,
    /// Seed of the sampling.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Longest completion in tokens.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) new_tokens_max: u32,
    /// Print tokens and log-probabilities as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Run directory.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Whose model; the best on the validation split if not given. With --dataset, whose log.
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Option<String>,
    /// Write prompts, completions, critiques, votes and labels instead, read from the verified log.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "format", "dtype", "quantization", "push", "dry_run"])]
    pub(crate) dataset: Option<PathBuf>,
    /// With --dataset: write the tables as Parquet too, in DIR/parquet.
    #[arg(long, requires = "dataset")]
    pub(crate) parquet: bool,
    /// Directory for the model; RUN/export (-peft, -gguf-f16 …) if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// What to write.
    #[arg(long, value_enum, default_value_t = FormatName::Hf)]
    pub(crate) format: FormatName,
    /// How --format hf stores weights; f32 if not given.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) dtype: Option<DtypeName>,
    /// How --format gguf stores matrices; f16 if not given.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) quantization: Option<QuantizationName>,
    /// Upload the directory to this model on the hub (token: HF_TOKEN, or what `hf auth login` stored).
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) push: Option<String>,
    /// Make the model on the hub public; one that is made is private otherwise.
    #[arg(long, requires = "push")]
    pub(crate) public: bool,
    /// List the files and their sizes; write and upload nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A format on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// A directory for transformers, adapters folded in.
    Hf,
    /// The adapter alone, for peft.
    Peft,
    /// A file for llama.cpp, adapters folded in.
    Gguf,
}

/// A type of stored weights on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeName {
    /// As trained.
    F32,
    /// Half the size, up to 65,504.
    F16,
    /// Half the size, 8 bits of precision.
    Bf16,
}

/// A quantization on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantizationName {
    /// Two bytes a value.
    F16,
    /// Eight bits a value and a scale for 32.
    #[value(name = "q8_0")]
    Q8,
}

/// Arguments of `murmur simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// Peers, dishonest ones included; 7 if not given, or what shows the attack best.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) peers: Option<u16>,
    /// Rounds of each seed.
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,
    /// First seed; a fresh one if not given, 1 with --zoo.
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Seeds, from the first on.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) seeds: u16,
    /// Dishonest peers: exactly so many; fewer than a third if not given.
    #[arg(long, value_name = "K")]
    pub(crate) byzantine: Option<u16>,
    /// Faults, separated by commas, or `all` or `none`; all if not given, none with --attack.
    #[arg(long, value_name = "LIST", value_parser = FaultsName::parse)]
    pub(crate) faults: Option<FaultsName>,
    /// What the dishonest peers do; drawn for each of them if not given.
    #[arg(long, value_name = "NAME", value_parser = KnownName::attack)]
    pub(crate) attack: Option<KnownName>,
    /// A defence that everybody does without, to see what it is for.
    #[arg(long, value_name = "NAME", value_parser = KnownName::defence)]
    pub(crate) defence_off: Option<KnownName>,
    /// Try every attack with its defence and without, and print the table.
    #[arg(long, conflicts_with_all = ["attack", "defence_off", "faults", "byzantine", "seeds"])]
    pub(crate) zoo: bool,
    /// Threads; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(crate) threads: u16,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Faults on the command line.
#[derive(Debug, Clone)]
pub(crate) struct FaultsName(pub(crate) BTreeSet<Fault>);

impl FaultsName {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self(Fault::ALL.into())),
            "none" => return Ok(Self(BTreeSet::new())),
            _ => {}
        }
        let known = || Fault::ALL.map(Fault::name).join(", ");
        let fault = |name: &str| {
            Fault::named(name).ok_or_else(|| format!("no fault {name:?}; there are: {}", known()))
        };
        text.split(',').map(fault).collect::<Result<_, _>>().map(Self)
    }
}

/// The name of an attack or a defence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownName(pub(crate) &'static str);

impl KnownName {
    fn attack(text: &str) -> Result<Self, String> {
        let known = || Attack::ALL.map(Attack::name).join(", ");
        let attack =
            Attack::named(text).ok_or_else(|| format!("no attack {text:?}; there are: {}", known()))?;
        Ok(Self(attack.name()))
    }

    fn defence(text: &str) -> Result<Self, String> {
        let known = || Defence::ALL.map(Defence::name).join(", ");
        let defence =
            Defence::named(text).ok_or_else(|| format!("no defence {text:?}; there are: {}", known()))?;
        Ok(Self(defence.name()))
    }
}

/// Arguments of `murmur watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Run directory, or the state folder of a peer; the newest below runs/ if not given.
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<PathBuf>,
    /// Print one frame as text and stop; also where stdout is no terminal.
    #[arg(long)]
    pub(crate) once: bool,
    /// Columns and rows of that frame; 80x24 if not given.
    #[arg(long, value_name = "WxH", value_parser = Size::parse)]
    pub(crate) size: Option<Size>,
    /// Tab to begin with.
    #[arg(long, value_name = "NAME", value_enum, ignore_case = true, default_value_t = Tab::Overview)]
    pub(crate) tab: Tab,
    /// Look back at this round in that frame.
    #[arg(long, value_name = "N")]
    pub(crate) round: Option<u32>,
    /// Print everything recorded so far as one JSON object and stop.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur report`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Run directory, or the state folder of a peer; the newest below runs/ if not given.
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<PathBuf>,
    /// File to write; RUN/report.html if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `murmur replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// Run directory, or one log.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Verify every log of the run, and that they agree, instead of showing the rounds of one.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Only this peer's log.
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Option<String>,
    /// Stop when this round has ended.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) to_round: Option<u32>,
    /// Compare with another run directory, log, or peer of this run: the first round settled differently.
    #[arg(long, value_name = "OTHER")]
    pub(crate) diff: Option<PathBuf>,
    /// Also compute training steps again, drawn by the newest certificate, and compare every bit.
    #[arg(long, requires = "verify", conflicts_with = "to_round")]
    pub(crate) updates: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `murmur credit`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreditArgs {
    /// Run directory, or one log.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// By this peer's log; by the one with the most rounds if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Option<String>,
    /// Stop when this round has ended.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) to_round: Option<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of the hidden command that runs scripts.
#[derive(Debug, clap::Args)]
pub(crate) struct ScriptWorkerArgs {
    /// The limits of this process are set already.
    #[arg(long)]
    pub(crate) limited: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
