//! What a command came to, as an exit code: 0 done, 1 failed, 2 usage or config, 130 interrupted.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::printer;

/// Of arguments or a config that cannot be used.
const MISCONFIGURED: u8 = 2;
/// Of a command that was stopped by ctrl-c.
const INTERRUPTED: u8 = 130;

/// How a command ended when nothing stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what was asked.
    Done,
    /// It answered, and the answer is no: a pack with errors, a run that failed. Already printed.
    Failed,
    /// It answered, and the config is wrong. Already printed.
    Misconfigured,
}

/// The user pressed ctrl-c; carries how things stand, and how to go on.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "interrupted" } else { &self.0 })
    }
}

impl std::error::Error for Interrupted {}

/// The exit code of a result; an error is printed here, with its causes.
pub(crate) fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Failed) => return ExitCode::from(1),
        Ok(Outcome::Misconfigured) => return ExitCode::from(MISCONFIGURED),
        Err(error) => error,
    };
    // Somebody closed the pipe (`murmur … | head`): they have what they wanted.
    let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<std::io::Error>().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    let code = number(&error);
    // Somebody wanted it to stop: that is no error.
    if code == INTERRUPTED {
        printer::note(&format!("{error:#}"))
    } else {
        printer::error(&format!("{error:#}"))
    }
    ExitCode::from(code)
}

fn number(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() {
        INTERRUPTED
    } else if error.is::<ConfigError>() {
        MISCONFIGURED
    } else {
        1
    }
}

/// Prints what clap has to say (help and version included) and gives its exit code.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when the terminal is gone.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_context() {
        use anyhow::Context;
        let config: Result<(), _> = Err(ConfigError::value("a.toml", "rounds", "must be at least 1"));
        assert_eq!(number(&config.context("while starting").unwrap_err()), 2);
        assert_eq!(number(&Interrupted(String::new()).into()), INTERRUPTED);
        assert_eq!(number(&anyhow::anyhow!("disk full")), 1);
    }
}
