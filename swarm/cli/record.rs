//! The run directory: what a run leaves behind, for `watch`, `export` and people with other tools.
//!
//! ```text
//! run.json                    what runs: arm, seed, peers, swarm, versions, when it began     written once
//! status.json                 the phase it is in                                              replaced
//! network.json                how the first peer's network stands                             replaced
//! rounds.jsonl                one object a round                                              appended
//! prompts.jsonl               one object a round: its prompts, one by one                     appended
//! metrics.jsonl               one object a round and peer, under TRL's names                  appended
//! events.jsonl                one object for each thing people may want to know               appended
//! report.json                 the result; there when the run has ended                        written once
//! peers/NAME/checkpoint/      a peer's policy and training state
//! peers/NAME/checkpoints/     earlier ones, by round, for computing steps again                replaced
//! peers/NAME/log              everything it was told and did, for `replay` and `credit`        appended
//! export/                     the exported model
//! ```
//! Whole files are replaced by renaming, so a reader sees the old or the new one. An appended line is written in
//! one piece; a torn last line (power cut) is ignored by readers and cut off before the next append.

mod event;
mod round;

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::detail::RoundDetail;
use crate::disk;
use crate::evaluation::Evaluation;
use crate::metrics::Metrics;
use crate::packs::{self, PackSource};
use crate::traffic::Traffic;

pub(crate) use event::{Event, Level};
pub(crate) use round::{
    CritiqueRecord, FamilyRecord, GoldRecord, PackRecord, PeerRecord, RoundRecord, SaidRecord,
};

/// Bytes of one record file that a reader takes in; more is not a run of this program.
const RECORD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunInfo {
    /// Version of murmur.
    pub(crate) version: String,
    /// When it began, RFC 3339 in UTC.
    pub(crate) started: String,
    /// The command line that made it.
    pub(crate) command: String,
    /// What was rewarded: `swarm`, `own-majority`, `gold`, …
    pub(crate) arm: String,
    /// Seed.
    pub(crate) seed: u64,
    /// Swarm id, in hexadecimal; empty without a swarm.
    #[serde(default)]
    pub(crate) swarm: String,
    /// Rounds to be done; 0 is until somebody stops it.
    #[serde(default)]
    pub(crate) rounds: u32,
    /// Peers whose models are kept here.
    pub(crate) peers: Vec<PeerInfo>,
    /// The command with which others join its swarm; empty where none is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) join: String,
    /// Task packs.
    #[serde(default = "packs::native")]
    pub(crate) packs: Vec<PackSource>,
}

/// One peer of `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerInfo {
    /// Name for people, such as `brisk-otter`; also the name of its directory.
    pub(crate) name: String,
    /// Public key, in hexadecimal; empty without a swarm.
    #[serde(default)]
    pub(crate) key: String,
    /// Model it began with.
    pub(crate) base: String,
}

/// `status.json`: where a running run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Round, from 1.
    pub(crate) round: u32,
    /// Phase, such as `answers` or `update`.
    pub(crate) phase: String,
    /// What it waits for, in a sentence; may be empty.
    pub(crate) waiting: String,
    /// When this was written, RFC 3339 in UTC.
    pub(crate) at: String,
    /// The same in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// When the phase gives up on who is not in.
    pub(crate) deadline_ms: u64,
    /// Names of who is not in.
    pub(crate) awaited: Vec<String>,
    /// Names of the roster.
    pub(crate) roster: Vec<String>,
    /// Whether the first peer of this process is in it.
    pub(crate) member: bool,
    /// Peers heard lately, besides that one.
    pub(crate) live: usize,
    /// Peers that must be here before the first round.
    pub(crate) wanted: usize,
    /// Names of who is not here while too few of those are who must sign.
    pub(crate) lacks: Vec<String>,
    /// View of the newest certificate, and of the newest final one.
    pub(crate) view: u32,
    pub(crate) final_view: u32,
    /// The process has ended, as it should.
    pub(crate) ended: bool,
}

/// `report.json`: how the run ended. A command may add more keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Rounds done.
    pub(crate) rounds: u32,
    /// Whether all of them were.
    pub(crate) finished: bool,
    /// Mean over peers on the test split, before.
    pub(crate) before: Option<Evaluation>,
    /// Mean over peers on the test split, after.
    pub(crate) after: Option<Evaluation>,
    /// By peer.
    pub(crate) peers: BTreeMap<String, PeerReport>,
    /// Wall seconds.
    pub(crate) wall_seconds: f64,
    /// Processor seconds of the process.
    pub(crate) cpu_seconds: f64,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

/// One peer of `report.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PeerReport {
    /// Model it began with.
    pub(crate) base: String,
    /// Greedy accuracy on the test split, before.
    pub(crate) before: Option<Evaluation>,
    /// Greedy accuracy on the test split, after.
    pub(crate) after: Option<Evaluation>,
    /// Mean greedy accuracy on the validation split, after; the exported peer is chosen by it.
    pub(crate) validation: Option<f64>,
}

/// Whether a file must survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    /// It is written again within seconds.
    No,
}

/// A run directory.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a directory for a new run. One that is there already and empty will do.
    ///
    /// # Errors
    /// The directory is not empty or cannot be made.
    pub(crate) fn create(path: &Path, info: &RunInfo) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        // A start that was killed leaves at most a file that was to be renamed.
        let begun = |entry: io::Result<DirEntry>| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "tmp"))
        };
        if !entries.all(begun) {
            bail!("{} is not empty\nhint: choose another directory or move it away", path.display());
        }
        let run = Self { path: path.to_path_buf() };
        run.replace("run.json", info, Durable::Yes)?;
        Ok(run)
    }

    /// Opens the directory of a run.
    ///
    /// # Errors
    /// There is no readable run.json.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, RunInfo)> {
        let run = Self { path: path.to_path_buf() };
        let info = run.whole("run.json")?.with_context(|| {
            let shown = path.display();
            format!(
                "{shown} is not a run: no run.json\nhint: give the directory a demo or join command printed"
            )
        })?;
        Ok((run, info))
    }

    /// Opens what people name when they want to look at a run: its directory, the state folder of the peer that it is
    /// of, or nothing for the newest below `runs/`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<(Self, RunInfo)> {
        let Some(named) = named else { return Self::open(&newest(Path::new("runs"))?) };
        let inner = named.join("run");
        Self::open(if !named.join("run.json").exists() && inner.join("run.json").exists() {
            &inner
        } else {
            named
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a peer's policy and training state are.
    ///
    /// # Errors
    /// A name that is no plain name (it may come from a file somebody else wrote).
    pub(crate) fn checkpoint(&self, peer: &str) -> anyhow::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if peer.is_empty() || peer.len() > 64 || !peer.chars().all(plain) {
            bail!("{peer:?} is no name of a peer");
        }
        Ok(self.path.join("peers").join(peer).join("checkpoint"))
    }

    /// Where the exported model goes.
    pub(crate) fn export(&self) -> PathBuf {
        self.path.join("export")
    }

    /// Appends a round.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn append_round(&self, round: &RoundRecord) -> anyhow::Result<()> {
        self.append("rounds.jsonl", round)
    }

    /// Appends an event.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn append_event(&self, event: &Event) -> anyhow::Result<()> {
        self.append("events.jsonl", event)
    }

    /// Appends the prompts of a round.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn append_prompts(&self, detail: &RoundDetail) -> anyhow::Result<()> {
        self.append("prompts.jsonl", detail)
    }

    /// Appends a peer's metrics of a round.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn append_metrics(&self, metrics: &Metrics) -> anyhow::Result<()> {
        self.append("metrics.jsonl", metrics)
    }

    /// Says how the network stands.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn write_traffic(&self, traffic: &Traffic) -> anyhow::Result<()> {
        self.replace("network.json", traffic, Durable::No)
    }

    /// Says where the run is.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn write_status(&self, status: &Status) -> anyhow::Result<()> {
        self.replace("status.json", status, Durable::No)
    }

    /// Says how the run ended.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn write_report<T: Serialize>(&self, report: &T) -> anyhow::Result<()> {
        self.replace("report.json", report, Durable::Yes)
    }

    /// All complete rounds.
    ///
    /// # Errors
    /// A line that is no round.
    pub(crate) fn rounds(&self) -> anyhow::Result<Vec<RoundRecord>> {
        self.lines("rounds.jsonl")
    }

    /// How the run ended, if it has.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn report(&self) -> anyhow::Result<Option<Report>> {
        self.whole("report.json")
    }

    fn replace<T: Serialize>(&self, name: &str, value: &T, durable: Durable) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{name}.{}.tmp", std::process::id()));
        let write = || -> anyhow::Result<()> {
            let text = serde_json::to_string_pretty(value)? + "\n";
            if durable == Durable::Yes {
                return Ok(disk::replace(&temporary, &path, text.as_bytes())?);
            }
            fs::write(&temporary, text)?;
            Ok(fs::rename(&temporary, &path)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn append<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || -> anyhow::Result<()> {
            let mut file =
                OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
            let end = end_of_lines(&mut file)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.flush()?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn whole<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let shown = path.display();
            anyhow!("{shown} is damaged: {error}\nhint: restore it from a copy, or move its folder away")
        })
    }

    fn lines<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let path = self.path.join(name);
        let text = read(&path)?.unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(index, line): (usize, &str)| {
            serde_json::from_str(line).with_context(|| format!("{}:{} is damaged", path.display(), index + 1))
        };
        complete.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
    }
}

/// The run below a folder that was begun last.
fn newest(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let runs = entries.flat_map(|path| [path.join("run"), path]).filter_map(|path| {
        let begun = fs::metadata(path.join("run.json")).and_then(|file| file.modified()).ok()?;
        Some((begun, path))
    });
    runs.max().map(|(_, path)| path).with_context(|| {
        let shown = folder.display();
        format!(
            "there is no run below {shown}/\nhint: name its directory; murmur demo and join say where it is"
        )
    })
}

/// Bytes up to and with the last line break: a line without one was torn.
fn end_of_lines(file: &mut File) -> io::Result<u64> {
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut byte = [0];
    while at > 0 {
        file.seek(SeekFrom::Start(at - 1))?;
        file.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        at -= 1;
    }
    Ok(at)
}

/// A record file as text; `None` when it is not there.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    // A torn line may end within a character; complete ones are UTF-8.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(round: u32) -> RoundRecord {
        RoundRecord {
            round,
            vote_accuracy: Some(0.5),
            roster: vec!["brisk-otter".into()],
            ..RoundRecord::default()
        }
    }

    #[test]
    fn a_torn_last_line_is_ignored_and_then_cut() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("r"), &RunInfo::default()).unwrap();
        assert_eq!(run.rounds().unwrap(), []);
        run.append_round(&round(1)).unwrap();
        let path = run.path().join("rounds.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"round\": 2, \"ro").unwrap();
        assert_eq!(run.rounds().unwrap(), [round(1)]);
        run.append_round(&round(2)).unwrap();
        assert_eq!(run.rounds().unwrap(), [round(1), round(2)]);
        fs::write(&path, "{\"round\": 1}\nnonsense\n{\"round\": 3}\n").unwrap();
        let error = format!("{:#}", run.rounds().unwrap_err());
        assert!(error.contains("rounds.jsonl:2 is damaged"), "{error}");
    }

    #[test]
    fn reports_keep_what_others_added() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), &RunInfo::default()).unwrap();
        assert_eq!(run.report().unwrap(), None);
        run.write_report(&serde_json::json!({"rounds": 3, "controls": {"maj": 0.7}})).unwrap();
        let report = run.report().unwrap().unwrap();
        assert_eq!((report.rounds, report.more["controls"]["maj"].as_f64()), (3, Some(0.7)));
    }

    #[test]
    fn a_run_is_found_by_its_peer_and_as_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let (old, state) = (dir.path().join("demo"), dir.path().join("peer-a"));
        assert!(newest(dir.path()).is_err() && newest(&dir.path().join("none")).is_err());
        let run = RunDir::create(&old, &RunInfo::default()).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH;
        File::open(run.path().join("run.json")).unwrap().set_modified(past).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), old);
        RunDir::create(&state.join("run"), &RunInfo::default()).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), state.join("run"));
        for named in [&state, &state.join("run")] {
            assert_eq!(RunDir::find(Some(named)).unwrap().0.path(), state.join("run"));
        }
        assert!(RunDir::find(Some(dir.path())).is_err());
    }

    #[test]
    fn a_used_directory_and_odd_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RunDir::open(dir.path()).is_err());
        let run = RunDir::create(dir.path(), &RunInfo::default()).unwrap();
        assert!(RunDir::create(dir.path(), &RunInfo::default()).is_err());
        assert_eq!(RunDir::open(dir.path()).unwrap().1, RunInfo::default());
        for name in ["..", "a/b", "", "x\u{1b}"] {
            assert!(run.checkpoint(name).is_err(), "{name:?}");
        }
        assert!(run.checkpoint("brisk-otter").unwrap().ends_with("peers/brisk-otter/checkpoint"));
    }
}
