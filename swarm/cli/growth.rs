//! What a run takes on disk, and how that grows: its log and records are never thinned out.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Folders within folders that are looked into: `run/peers/NAME/checkpoints/ROUND`.
const DEPTH: usize = 5;

/// Bytes of a run directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// All of it.
    pub(crate) whole: u64,
    /// Logs and records, which only grow.
    pub(crate) records: u64,
}

impl Growth {
    /// What there is now; what cannot be read counts nothing.
    pub(crate) fn of(run: &Path) -> Self {
        let mut growth = Self::default();
        growth.add(run, DEPTH, &mut BTreeSet::new());
        growth
    }

    /// Checkpoints share files under several names: each counts once.
    fn add(&mut self, dir: &Path, depth: usize, seen: &mut BTreeSet<u64>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
            if meta.is_dir() && depth > 0 {
                self.add(&path, depth - 1, seen);
            } else if meta.is_file() && seen.insert(meta.ino()) {
                self.whole += meta.len();
                let grows = path.extension().is_some_and(|extension| extension == "jsonl")
                    || path.file_name().is_some_and(|name| name == "log");
                self.records += if grows { meta.len() } else { 0 };
            }
        }
    }

    /// Mean growth of a round; `None` before the first.
    pub(crate) fn per_round(&self, rounds: u64) -> Option<u64> {
        self.records.checked_div(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_records_grow_and_shared_files_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let peer = dir.path().join("peers/a");
        fs::create_dir_all(peer.join("checkpoints/1")).unwrap();
        fs::write(dir.path().join("rounds.jsonl"), [0; 10]).unwrap();
        fs::write(peer.join("log"), [0; 20]).unwrap();
        fs::write(peer.join("weights"), [0; 300]).unwrap();
        fs::hard_link(peer.join("weights"), peer.join("checkpoints/1/weights")).unwrap();
        let growth = Growth::of(dir.path());
        assert_eq!(growth, Growth { whole: 330, records: 30 });
        assert_eq!((growth.per_round(3), growth.per_round(0)), (Some(10), None));
        assert_eq!(Growth::of(Path::new("no such folder")), Growth::default());
    }
}
