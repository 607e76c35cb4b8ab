//! From a parsed command line to the module that does it. A new subcommand is a variant in [`crate::args`] and
//! a line here.

use crate::args::{Args, Command};
use crate::exit::Outcome;
use crate::{
    bench, completions, credit, dashboard, demo, doctor, eval, export, fork, generate, invite, join, key,
    new, pretrain, relay, replay, sandbox, show, simulate, task,
};

/// Runs the command.
///
/// # Errors
/// Whatever stopped it; [`crate::exit::code`] says which exit code that is.
pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Demo(args) => demo::run(&args),
        Command::New(args) => new::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config { command } => show::run(&command),
        Command::Key(args) => key::run(&args),
        Command::Invite(args) => invite::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Fork(args) => fork::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Watch(args) => dashboard::watch(&args),
        Command::Report(args) => dashboard::report::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Credit(args) => credit::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Bench { command } => bench::run(&command),
        Command::Completions(args) => completions::run(&args),
        Command::Task { command } => task::run(&command),
        Command::ScriptWorker(args) => sandbox::work(&args),
    }
}
