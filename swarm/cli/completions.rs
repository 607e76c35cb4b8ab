//! `murmur completions SHELL`: what a shell needs to complete commands and arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::exit::Outcome;
use crate::printer;

/// Arguments of `murmur completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "murmur", &mut script);
    printer::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}
