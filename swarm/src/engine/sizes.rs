//! How much an engine holds, beside its bounds.

use super::Engine;
use crate::limits::{
    BRANCHES_MAX, CHAIN_MAX, EARLY_BYTES_MAX, EARLY_MESSAGES_MAX, OUTPUTS_MAX, PRESENCE_MAX, PROPOSALS_MAX, STATEMENTS_MAX,
};

/// One collection of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What is held.
    pub name: &'static str,
    /// How much of it.
    pub held: usize,
    /// How much of it there may be.
    pub bound: usize,
}

/// Kinds of message that fill one slot a round: commit, critique, ballot.
const SINGLE_SLOTS: usize = 3;

impl Engine {
    /// Every collection that a stranger's messages can make grow, with its bound.
    pub fn sizes(&self) -> [Size; 9] {
        let early_bytes = self.early.iter().map(|early| early.bytes.len()).sum();
        let items = self.round.iter().flat_map(|round| round.items.all()).count();
        let slots = self.head().roster.len() * (SINGLE_SLOTS + usize::from(self.manifest.round.prompts));
        let (proposals, statements) = self.agreement.sizes();
        let (branches, chain) = self.branches.sizes();
        let size = |name, held, bound| Size { name, held, bound };
        [
            size("outputs", self.outputs.len(), OUTPUTS_MAX),
            size("messages of the next round", self.early.len(), EARLY_MESSAGES_MAX),
            size("bytes of the next round", early_bytes, EARLY_BYTES_MAX),
            size("messages of the round", items, slots),
            size("proposals", proposals, PROPOSALS_MAX),
            size("statements", statements, STATEMENTS_MAX),
            size("peers", self.presence.len(), PRESENCE_MAX),
            size("branches", branches, BRANCHES_MAX),
            size("certificates", chain, CHAIN_MAX),
        ]
    }
}
