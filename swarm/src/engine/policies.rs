//! What shows that a certificate covers a peer's policy: the ids of everything that it includes, and a reveal among
//! them.

use judge::PeerKey;

use super::Engine;
use super::settle::item_ids;
use crate::policies::Evidence;

impl Engine {
    /// Evidence of the policy with which a member answered the round that the newest certificate ended; `None` where
    /// its answers are not included, or that round's messages are not here.
    pub fn policy_evidence(&self, peer: &PeerKey) -> Option<Evidence> {
        let link = self.head().link.as_ref()?;
        let (statement, node) = (&link.statement, self.branches.get(&link.statement.parent)?);
        let round = self.previous.as_ref().filter(|round| round.start == statement.parent)?;
        let at = node.roster.binary_search(peer).ok().filter(|at| statement.answers.contains(*at));
        let reveals = &round.items.said(&node.roster[at?])?.reveals;
        let reveal = reveals.values().min_by_key(|reveal| reveal.bytes.len())?;
        let ids = item_ids(round, &node.roster, statement)?;
        Some(Evidence::new(link.hash, &ids, &reveal.bytes))
    }
}
