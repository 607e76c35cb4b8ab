//! Packs that the swarm takes in while it runs: what this peer says of them, and drawing from those that are in.
//!
//! Which packs are accepted is part of the judge's state after a certificate, so a certificate that is given up takes
//! them with it. Drawn from are those whose certificate is final on the chain that leads to the round, which is the same
//! for all who play it. A peer that lacks one cannot know the prompts: it follows the others, and does not ask for a
//! place in the roster until it has the pack.

use std::borrow::Cow;
use std::collections::BTreeMap;

use judge::{PACK_VOTES_MAX, PackKey, PackOutcome, PackVote, Packs, Settlement};
use tasks::{Catalogue, PackId};

use super::Engine;
use crate::chain::Link;

/// Packs that this peer may have something to say of at once: its own proposals, and all under vote.
const WISHES_MAX: usize = 2 * PACK_VOTES_MAX;

/// The packs that the round after a certificate draws from besides the manifest's, as a catalogue knows them.
pub(crate) fn in_use(packs: &Packs, link: Option<&Link>) -> BTreeMap<PackId, u32> {
    let drawn = packs.in_use(link.map_or(0, |link| link.place.final_round));
    drawn.into_iter().map(|(pack, weight)| (PackId(pack.0), weight)).collect()
}

impl Engine {
    /// Packs under vote and packs that are in, after the newest certificate; `None` where its state is not known.
    pub fn packs(&self) -> Option<&Packs> {
        self.head().state.as_ref().map(|state| &state.packs)
    }

    /// What the round that the head starts draws from, and whether something is missing from it here.
    pub(super) fn catalogue_now(&self) -> (Cow<'_, Catalogue>, bool) {
        let link = self.head().link.as_ref();
        let drawn = self.packs().map(|packs| in_use(packs, link)).unwrap_or_default();
        self.catalogue
            .with(&drawn)
            .map_or_else(|_| (Cow::Borrowed(&self.catalogue), true), |catalogue| (catalogue, false))
    }

    /// Whether an accepted pack is not here.
    pub(super) fn lacks_packs(&self) -> bool {
        let mut accepted = self.packs().into_iter().flat_map(|packs| packs.accepted.keys());
        accepted.any(|pack| !self.catalogue.has_aside(&PackId(pack.0)))
    }

    pub(super) fn take_pack_vote(&mut self, vote: PackVote) {
        if vote.accept && !self.catalogue.has_aside(&PackId(vote.pack.0)) {
            return self.count_drop("a vote for a pack that is not here", Some(self.me));
        }
        if self.pack_votes.len() >= WISHES_MAX && !self.pack_votes.contains_key(&vote.pack) {
            return self.count_drop("too many packs to vote on", Some(self.me));
        }
        self.pack_votes.insert(vote.pack, vote);
    }

    pub(super) fn drop_pack(&mut self, id: &PackId) {
        let accepted = self.packs().is_some_and(|packs| packs.accepted.contains_key(&PackKey(id.0)));
        self.pack_votes.remove(&PackKey(id.0));
        if !accepted {
            self.catalogue.forget(id);
        }
    }

    /// What the next ballot says of packs: of those under vote, then of own proposals as far as there is room.
    pub(super) fn pack_votes(&self) -> Vec<PackVote> {
        let Some(packs) = self.packs() else { return Vec::new() };
        let (open, new): (Vec<PackVote>, Vec<PackVote>) = self
            .pack_votes
            .values()
            .filter(|vote| !packs.accepted.contains_key(&vote.pack))
            .partition(|vote| packs.open.contains_key(&vote.pack));
        let new = new.into_iter().filter(|vote| vote.accept);
        let mut votes: Vec<PackVote> = open.into_iter().chain(new).take(PACK_VOTES_MAX).collect();
        votes.sort_by_key(|vote| vote.pack);
        votes
    }

    /// Says nothing more of what was decided on.
    pub(super) fn forget_decided(&mut self, settlement: &Settlement) {
        let decided = settlement.packs.iter().filter(|(_, outcome)| **outcome != PackOutcome::Proposed);
        for (pack, _) in decided {
            self.pack_votes.remove(pack);
        }
    }
}
