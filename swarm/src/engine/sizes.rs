//! How much an engine holds, beside its bounds.

use super::Engine;
use crate::limits::{
    BRANCHES_MAX, CHAIN_MAX, EARLY_BYTES_MAX, EARLY_MESSAGES_MAX, ENVELOPE_BYTES_MAX, OUTPUTS_MAX,
    PRESENCE_MAX, PROPOSALS_MAX, ROSTER_MAX, SIGNED_VIEWS_MAX, STATEMENTS_MAX,
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

impl Engine {
    /// Every collection that a stranger's messages can make grow, with its bound.
    pub fn sizes(&self) -> [Size; 10] {
        let early_bytes = self.early.iter().map(|early| early.bytes.len()).sum();
        let items = self.round.iter().flat_map(|round| round.items.all()).count();
        let item_bytes =
            self.round.iter().flat_map(|round| round.items.all()).map(|(_, bytes)| bytes.len()).sum();
        let slots = self.head().roster.len() * self.slots_each();
        let (proposals, statements) = self.agreement.sizes();
        let (branches, chain) = self.branches.sizes();
        let size = |name, held, bound| Size { name, held, bound };
        [
            size("outputs", self.outputs.len(), OUTPUTS_MAX),
            size("messages of the next round", self.early.len(), EARLY_MESSAGES_MAX),
            size("bytes of the next round", early_bytes, EARLY_BYTES_MAX),
            size("messages of the round", items, slots),
            size("bytes of the round", item_bytes, slots * ENVELOPE_BYTES_MAX),
            size("proposals", proposals, PROPOSALS_MAX),
            size("statements", statements, STATEMENTS_MAX.max(SIGNED_VIEWS_MAX * ROSTER_MAX)),
            size("peers", self.presence.len(), PRESENCE_MAX),
            size("branches", branches, BRANCHES_MAX),
            size("certificates", chain, CHAIN_MAX),
        ]
    }
}
