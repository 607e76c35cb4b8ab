//! Processes of the binary: run to their end, or watched line by line and killed with their test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for anything; only a failure takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of a peer that a failure shows; everything else it wrote is shown.
const SHOWN_ROUNDS: usize = 5;

/// The binary, without this machine's settings for it, and with a hub that nobody answers for.
pub(crate) fn binary<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_murmur"));
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "MURMUR_LOG"] {
        command.env_remove(name);
    }
    // Nothing listens on port 9.
    command.args(args).env("HF_ENDPOINT", "http://127.0.0.1:9");
    command
}

/// Runs a command to its end; stdout, stderr, exit code.
pub(crate) fn run(command: &mut Command) -> (String, String, i32) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().unwrap())
}

/// A process of the binary; killed when dropped.
pub(crate) struct Murmur {
    child: Child,
    stderr: Receiver<(Instant, String)>,
    stdout: Receiver<(Instant, String)>,
    pub(crate) told: Vec<String>,
}

impl Murmur {
    pub(crate) fn start<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Self {
        Self::start_with(dir, args, &[])
    }

    pub(crate) fn start_logging<S: AsRef<OsStr>>(dir: &Path, args: &[S], log: &str) -> Self {
        Self::start_with(dir, args, &[("MURMUR_LOG", Path::new(log))])
    }

    pub(crate) fn start_with<S: AsRef<OsStr>>(dir: &Path, args: &[S], env: &[(&str, &Path)]) -> Self {
        let mut child = binary(args)
            .current_dir(dir)
            .env("XDG_DATA_HOME", dir.join("data"))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = lines_of(child.stderr.take().unwrap());
        let stdout = lines_of(child.stdout.take().unwrap());
        Self { child, stderr, stdout, told: Vec::new() }
    }

    pub(crate) fn join(dir: &Path, name: &str) -> Self {
        Self::start(dir, &["join", &format!("{name}.toml"), "--plain"])
    }

    /// The next line on stderr; `None` when it is closed.
    fn line(&mut self, until: Instant) -> Option<String> {
        match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((_, line)) => {
                self.told.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing more in time; the last lines:\n{}", self.shown())
            }
        }
    }

    /// All it writes to stderr until then, with the times.
    pub(crate) fn lines_until(&mut self, until: Instant) -> Vec<(Instant, String)> {
        let mut lines = Vec::new();
        loop {
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((at, line)) => {
                    self.told.push(line.clone());
                    lines.push((at, line));
                }
                Err(RecvTimeoutError::Timeout) => return lines,
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended by itself; the last lines:\n{}", self.shown())
                }
            }
        }
    }

    pub(crate) fn shown(&self) -> String {
        let is_round = |line: &&String| line.starts_with("round ");
        let mut skipped = self.told.iter().filter(is_round).count().saturating_sub(SHOWN_ROUNDS);
        let mut shown = String::new();
        for line in &self.told {
            if is_round(&line) && skipped > 0 {
                skipped -= 1;
            } else {
                shown.push_str(&format!("  {line}\n"));
            }
        }
        shown
    }

    /// The first of the next lines on stderr that passes.
    pub(crate) fn expect(&mut self, within: Duration, what: &str, pass: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + within;
        while let Some(line) = self.line(until) {
            if pass(&line) {
                return line;
            }
        }
        panic!("ended without {what}; the last lines:\n{}", self.shown())
    }

    /// Where it listens, as a bootstrap address.
    pub(crate) fn address(&mut self) -> String {
        let line = self.expect(PATIENCE, "an address", |line| line.starts_with("listening on "));
        line.trim_start_matches("listening on ").to_owned()
    }

    /// The name it gave itself.
    pub(crate) fn name(&mut self) -> String {
        let line = self.expect(PATIENCE, "a name", |line| line.contains(" joins swarm "));
        line.split(' ').next().unwrap().to_owned()
    }

    /// Waits for a round it tells from now on; its number.
    pub(crate) fn next_round(&mut self) -> u32 {
        let line = self.expect(PATIENCE, "a round", |line| round_of(line).is_some());
        round_of(&line).unwrap()
    }

    /// Waits for its end; exit code and the rest of its lines.
    pub(crate) fn end(&mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        let mut rest = String::new();
        while let Some(line) = self.line(until) {
            rest.push_str(&line);
            rest.push('\n');
        }
        // Its stderr is closed, so it has ended or is about to.
        let status: ExitStatus = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), rest)
    }

    /// The next line on stdout.
    pub(crate) fn datum(&mut self) -> String {
        self.stdout.recv_timeout(PATIENCE).unwrap().1
    }

    /// All of stdout; only after the end.
    pub(crate) fn output(&self) -> Vec<String> {
        self.stdout.iter().map(|(_, line)| line).collect()
    }

    /// As ctrl-c does.
    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// As a power cut does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Murmur {
    fn drop(&mut self) {
        // Ended already, most of the time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The round that a line tells the end of.
pub(crate) fn round_of(line: &str) -> Option<u32> {
    // A note may begin with a round too: "round 7: no update, …".
    let rest = line.strip_prefix("round ").filter(|rest| rest.ends_with(" overhead"))?;
    rest.split_whitespace().next()?.split('/').next()?.parse().ok()
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<(Instant, String)> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    receive
}
