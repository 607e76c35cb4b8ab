//! Scripts of packs, each in a process of its own.
//!
//! The limits of the script engine decide whether a script is valid, alike on all peers. This process is the second
//! wall, for what the first one may have overlooked: it has little memory and processor time, no environment, and is
//! killed when it takes too long. What that stops is told as this machine's own failure, not as a verdict on the pack.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, setrlimit};
use tasks::{Made, PackError, Program};

use crate::args::ScriptWorkerArgs;
use crate::exit::Outcome;

/// Name of the hidden command.
pub(crate) const COMMAND: &str = "script-worker";
/// Memory that a script's process may write to.
pub(crate) const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Processor time of a script's process, in seconds.
const CPU_SECONDS_MAX: u64 = 20;
/// Time until a script's process is killed; longer than its processor time, for busy machines.
const PATIENCE: Duration = Duration::from_secs(60);
/// How an error begins that is this machine's own.
const OURS: &str = "this machine could not run it";
/// Bytes of what it says: the items of a pack, quoted.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Whether an error says nothing of the pack.
pub(crate) fn is_ours(error: &PackError) -> bool {
    error.message.starts_with(OURS)
}

/// Runs a script in a process of its own.
///
/// # Errors
/// What is wrong with the script; or that the process could not be started or was stopped.
pub(crate) fn run(program: &Program) -> Result<Made, PackError> {
    let answer = start().and_then(|child| ask(child, program, PATIENCE));
    answer.unwrap_or_else(|error| {
        Err(PackError {
            file: program.file.clone(),
            line: 0,
            message: format!("{OURS}: {error:#}"),
            hint: "a script that takes seconds or much memory is too large a problem; make it smaller".into(),
        })
    })
}

fn start() -> anyhow::Result<Child> {
    let binary = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(binary);
    command.arg(COMMAND).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context("cannot start a process")
}

/// Hands the script over and waits for what it made.
fn ask(mut child: Child, program: &Program, patience: Duration) -> anyhow::Result<Result<Made, PackError>> {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let question = serde_json::to_vec(program).context("cannot write the script")?;
    let (send, answer) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // A process that ended already reads nothing; its answer says why.
        if let Some(stdin) = &mut stdin {
            let _ = stdin.write_all(&question);
        }
        drop(stdin);
        let mut bytes = Vec::new();
        let read = stdout.map(|stdout| stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes));
        // Nobody waits any more when the process was killed.
        let _ = send.send(read.is_some_and(|read| read.is_ok()).then_some(bytes));
    });
    let answer = answer.recv_timeout(patience);
    // It has nothing left to say, or was too slow.
    let _ = child.kill();
    let status = child.wait().context("cannot wait for the process")?;
    match answer {
        Err(_) => anyhow::bail!("it took longer than {} seconds", patience.as_secs()),
        Ok(None) => anyhow::bail!("its answer could not be read"),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|_| match status.signal() {
            Some(signal) => {
                anyhow::anyhow!("its process was stopped by signal {signal} (memory, time or a fault)")
            }
            None => anyhow::anyhow!("its process ended without an answer ({status})"),
        }),
    }
}

/// The hidden command: takes a script from stdin and prints what it made, or what is wrong with it.
///
/// # Errors
/// Stdin or stdout is closed, or the limits cannot be set.
pub(crate) fn work(args: &ScriptWorkerArgs) -> anyhow::Result<Outcome> {
    if !args.limited {
        // The allocator took hold of address space before the first line of this program ran, so the limits hold
        // from the start of the next one.
        limit().context("cannot limit this process")?;
        let binary = std::env::current_exe().context("cannot find this program")?;
        return Err(Command::new(binary).args([COMMAND, "--limited"]).exec()).context("cannot start again");
    }
    let mut question = Vec::new();
    std::io::stdin()
        .lock()
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut question)
        .context("cannot read the script")?;
    let program: Program = serde_json::from_slice(&question).context("not a script")?;
    drop(question);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer(&mut out, &program.run()).context("cannot answer")?;
    out.flush().context("cannot answer")?;
    Ok(Outcome::Done)
}

fn limit() -> nix::Result<()> {
    // Only Linux counts memory that is written to; elsewhere the limits of the script engine stand alone.
    #[cfg(target_os = "linux")]
    setrlimit(Resource::RLIMIT_DATA, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX)?;
    setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS_MAX, CPU_SECONDS_MAX)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(command: &str, patience: Duration) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = Program {
            file: "task.rhai".into(),
            source: String::new(),
            data: Default::default(),
            levels: Vec::new(),
            count: 1,
        };
        match ask(shell.spawn().unwrap(), &program, patience) {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_process_that_fails_is_told_and_harms_nothing() {
        for (command, expected) in [
            ("exit 3", "ended without an answer (exit status: 3)"),
            ("kill -SEGV $$", "stopped by signal 11"),
            ("echo '{\"Ok\": 1}'", "ended without an answer"),
            (
                "cat >/dev/null; echo '{\"Ok\":{\"items\":\"\",\"drawn\":1,\"fuel\":2,\"fuel_max\":2}}'",
                "drawn: 1",
            ),
        ] {
            let told = told(command, PATIENCE);
            assert!(told.contains(expected), "{command}: {told}");
        }
        let told = told("exec tail -f /dev/null", Duration::from_millis(50));
        assert_eq!(told, "it took longer than 0 seconds");
    }
}
