//! Earlier checkpoints of a peer, kept so that somebody can compute again what it learnt since.
//!
//! A checkpoint is replaced as a whole and its files never change, so a second name for each file keeps it at no
//! cost but the room it takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Checkpoints kept, the newest included.
const KEPT: usize = 2;

fn folder(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

/// Where a peer keeps the checkpoint of a round.
pub(crate) fn kept(dir: &Path, round: u32) -> PathBuf {
    folder(dir).join(round.to_string())
}

/// Keeps the checkpoint of a round that was just stored, and forgets the oldest beyond [`KEPT`].
///
/// # Errors
/// The file system does not take it (some have no second names).
pub(crate) fn keep(checkpoint: &Path, round: u32) -> io::Result<()> {
    let Some(dir) = checkpoint.parent() else { return Ok(()) };
    let (kept, temporary) = (folder(dir).join(round.to_string()), folder(dir).join("new.tmp"));
    for left in [&temporary, &kept] {
        if left.exists() {
            fs::remove_dir_all(left)?;
        }
    }
    fs::create_dir_all(&temporary)?;
    for entry in fs::read_dir(checkpoint)? {
        let entry = entry?;
        fs::hard_link(entry.path(), temporary.join(entry.file_name()))?;
    }
    fs::rename(&temporary, &kept)?;
    let mut all = list(dir)?;
    while all.len() > KEPT {
        fs::remove_dir_all(all.remove(0).1)?;
    }
    Ok(())
}

/// The kept checkpoints of a peer by round, rising.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match fs::read_dir(folder(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(round) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
            all.push((round, path));
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_whatever_becomes_of_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        for round in [9, 10, 11] {
            if checkpoint.exists() {
                fs::remove_dir_all(&checkpoint).unwrap();
            }
            fs::create_dir(&checkpoint).unwrap();
            fs::write(checkpoint.join("weights"), round.to_string()).unwrap();
            keep(&checkpoint, round).unwrap();
        }
        keep(&checkpoint, 11).unwrap();
        fs::remove_dir_all(&checkpoint).unwrap();
        let kept = list(dir.path()).unwrap();
        let rounds: Vec<u32> = kept.iter().map(|(round, _)| *round).collect();
        assert_eq!(rounds, [10, 11]);
        for (round, path) in kept {
            assert_eq!(fs::read_to_string(path.join("weights")).unwrap(), round.to_string());
        }
        assert_eq!(list(&dir.path().join("none")).unwrap(), []);
    }
}
