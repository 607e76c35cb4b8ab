//! What a peer keeps on disk between its starts, besides its policy: its log, and the head with what it signed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use swarm::engine::Resume;
use swarm::log::{Recall, Writer};
use swarm::net::Book;
use swarm::wire::{self, Hash};
use tasks::PackId;

use crate::printer;
use crate::setup::PeerSetup;

/// Bytes of the file that a restart resumes from.
const RESUME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a peer's log is.
pub(crate) fn log_path(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// Opens the log to go on with it, and says what an end without notice left of it.
pub(crate) fn open_log(setup: &PeerSetup, resume: &Resume) -> anyhow::Result<(Writer, Recall)> {
    let path = log_path(&setup.dir);
    let start = resume.head.start(Hash(setup.manifest.id().0));
    let start = start.with_context(|| resume_path(&setup.dir).display().to_string())?;
    let mut recall = Recall::of(&setup.manifest, start);
    let (log, found) =
        Writer::open_with(&path, &setup.identity, &setup.manifest, |record| recall.note(record))?;
    if recall.left_out > 0 {
        printer::note(&format!(
            "{}: {} messages of the round in progress are asked of other peers, for want of room",
            path.display(),
            recall.left_out
        ));
    }
    if let Some(torn) = found.torn {
        printer::note(&format!(
            "{}: {} bytes of a record that was not written to its end were cut off",
            path.display(),
            torn.bytes
        ));
    }
    Ok((log, recall))
}

pub(crate) fn resume_path(dir: &Path) -> PathBuf {
    dir.join("resume.bin")
}

/// What an earlier run left; nothing for a first one.
pub(crate) fn read_resume(dir: &Path) -> anyhow::Result<Resume> {
    let path = resume_path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(first_start()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    wire::decode(&bytes, RESUME_BYTES_MAX).map_err(|error| {
        let shown = path.display();
        anyhow::anyhow!("{shown} is damaged: {error}\nhint: nothing is lost, the log has it too; move this file away (not the log) and start again: the peer then catches up with the others, and says nothing until it cannot contradict what it has signed")
    })
}

/// Peers take a lower incarnation than one they know for a replay, and this key may be known to them although nothing
/// is stored here: seconds are higher than any number of starts.
fn first_start() -> Resume {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Resume { incarnation: u32::try_from(since.as_secs()).unwrap_or(u32::MAX / 2), ..Resume::default() }
}

/// Packs that the swarm had taken in when this peer ended.
pub(crate) fn taken_in(resume: &Resume) -> Vec<PackId> {
    // What cannot be read, the engine says.
    let state = wire::decode::<judge::State>(&resume.head.state, RESUME_BYTES_MAX).unwrap_or_default();
    state.packs.accepted.keys().map(|pack| PackId(pack.0)).collect()
}

pub(crate) fn store_resume(dir: &Path, resume: &Resume) -> anyhow::Result<()> {
    let (path, temporary) = (resume_path(dir), dir.join("resume.bin.tmp"));
    let write = || -> std::io::Result<()> {
        replace(&temporary, &path, &wire::encode(resume))?;
        // The name, too, must be there after a power cut.
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn book_path(dir: &Path) -> PathBuf {
    dir.join("peers.json")
}

/// Whom this peer met before, and whom it keeps away. Only a help: what cannot be read is told and left behind.
pub(crate) fn read_book(dir: &Path) -> Book {
    let path = book_path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Book::default(),
        Err(error) => {
            printer::note(&format!("{}: {error}; it goes on without", path.display()));
            return Book::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        printer::note(&format!("{} cannot be read ({error}); it is written anew", path.display()));
        Book::default()
    })
}

/// Keeps whom this peer met.
pub(crate) fn store_book(dir: &Path, book: &Book) -> anyhow::Result<()> {
    let path = book_path(dir);
    let text = serde_json::to_vec_pretty(book).context("a list of peers")?;
    replace(&path.with_extension("json.tmp"), &path, &text)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Puts a file in the place of another as a whole: whoever reads sees the old one or the new one.
pub(crate) fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
