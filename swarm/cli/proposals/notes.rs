//! Proposals of a peer's operator: notes in the peer's state folder, which it finds after a round.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tasks::PackId;

use super::{Proposals, Said, Wish};
use crate::disk;

/// Notes that are read at once; the rest waits.
const NOTES_MAX: usize = judge::PACK_VOTES_MAX;

/// Where the proposals of a peer's operator wait.
pub(crate) fn notes(state: &Path) -> PathBuf {
    state.join("proposals")
}

/// Leaves a proposal for the peer of a state folder.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn leave_note(state: &Path, id: &PackId, wish: Wish) -> anyhow::Result<()> {
    let dir = notes(state);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(id.to_string().replace(':', "-"));
    // The peer must not find half of it.
    let fresh = state.join("proposal.part");
    disk::replace(&fresh, &path, serde_json::to_string(&wish)?.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Proposals {
    /// Takes up what the operator has proposed since.
    pub(super) fn read_notes(&mut self, said: &mut Vec<Said>) {
        let Ok(entries) = fs::read_dir(&self.notes) else { return };
        for entry in entries.take(NOTES_MAX).filter_map(Result::ok) {
            let path = entry.path();
            match read_note(&path) {
                Some((id, wish)) => {
                    // Whatever was found before, the operator has looked at it since.
                    self.verdicts.remove(&id);
                    self.voted.remove(&id);
                    self.own.insert(id, wish);
                }
                None => said.push(Said::Note(format!("{} is not a proposal", path.display()))),
            }
            if let Err(error) = fs::remove_file(&path) {
                said.push(Said::Note(format!("cannot remove {}: {error}", path.display())));
            }
        }
    }
}

fn read_note(path: &Path) -> Option<(PackId, Wish)> {
    let id = PackId::parse(&path.file_name()?.to_str()?.replacen('-', ":", 1))?;
    let wish: Wish = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    (1..=judge::PACK_WEIGHT_MAX).contains(&wish.weight).then_some((id, wish))
}
