//! Whose signatures are missing: what a void view and a wait for a quorum say.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::Engine;
use crate::chain::{self, Electorate};
use crate::message::Statement;

impl Engine {
    /// Whether the peers that are here could not make the next certificate without this one.
    pub fn is_needed(&self, now: u64) -> bool {
        let mut others: Vec<&PeerKey> = self.presence.live(now).map(|(peer, _)| peer).collect();
        others.retain(|peer| **peer != self.me);
        !others.is_empty() && self.unmet(&others).iter().any(|electorate| electorate.contains(&self.me))
    }

    /// Electorates of the next certificate that these peers are too few for.
    fn unmet(&self, peers: &[&PeerKey]) -> Vec<Electorate> {
        let Some(link) = &self.head().link else { return Vec::new() };
        let next = Statement { degraded: false, ..link.statement.clone() };
        let mut electorates = chain::needed(&next, &self.manifest, Some(link));
        electorates.retain(|electorate| !electorate.is_met(peers.iter().copied()));
        electorates
    }

    /// Who is not here while the others cannot make the next certificate, and why it left if it said so.
    pub(super) fn lacking(&self, now: u64) -> BTreeMap<PeerKey, Option<String>> {
        let mut here: Vec<&PeerKey> = self.presence.live(now).map(|(peer, _)| peer).collect();
        here.push(&self.me);
        let unmet = self.unmet(&here);
        let absent =
            unmet.iter().flat_map(|electorate| electorate.peers.iter()).filter(|peer| !here.contains(peer));
        absent.map(|peer| (*peer, self.presence.get(peer).and_then(|seen| seen.leaving.clone()))).collect()
    }

    /// Whose signature the proposal of a view still needs, or could take; `None` without a proposal.
    pub(super) fn unsigned(&self, view: u32, proposer: &PeerKey) -> Option<Vec<PeerKey>> {
        let mut pending = self.agreement.pending.iter();
        let (hash, pending) =
            pending.find(|(_, pending)| pending.statement.view == view && pending.sender == *proposer)?;
        let none = BTreeMap::new();
        let signed = self.agreement.signatures.get(&(view, *hash)).unwrap_or(&none);
        let mut electorates = self.electorates(&pending.statement);
        electorates.retain(|electorate| !electorate.is_met(signed.keys()));
        let mut unsigned: Vec<PeerKey> =
            electorates.iter().flat_map(|electorate| electorate.peers.iter()).copied().collect();
        unsigned.retain(|peer| !signed.contains_key(peer));
        unsigned.sort();
        unsigned.dedup();
        Some(unsigned)
    }
}
