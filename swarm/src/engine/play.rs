//! A round as its messages tell it: its prompts and the slots that are filled, without phases, clock and own work.
//!
//! What a round comes to follows from this alone, so the engine and the replay of a log settle it by the same code.

use judge::{CandidateId, PeerKey};
use tasks::{Catalogue, Item};

use super::items::Items;
use crate::manifest::Manifest;
use crate::topic::SwarmId;
use crate::wire::Hash;

/// Prompts and messages of one round.
#[derive(Clone)]
pub(crate) struct Play {
    pub(crate) items: Items,
    pub(crate) schedule: Vec<Item>,
}

impl Play {
    /// The round that a certificate starts, before anybody has spoken.
    pub(crate) fn open(
        swarm: SwarmId,
        manifest: &Manifest,
        catalogue: &Catalogue,
        number: u32,
        roster: &[PeerKey],
        beacon: &Hash,
    ) -> Self {
        let schedule = catalogue.schedule(&beacon.0, manifest.round.prompts.into());
        Self { items: Items::new(swarm, number, schedule.len(), roster), schedule }
    }

    /// A complete peer's candidates for one prompt, in sampling order.
    pub(crate) fn candidates_of(&self, peer: &PeerKey, prompt: usize) -> Vec<Option<CandidateId>> {
        let Some(item) = self.schedule.get(prompt) else { return Vec::new() };
        let texts = self.items.completions(peer, prompt as u16);
        let candidate =
            |text: &String| item.parse(text).map(|answer| CandidateId::of(prompt as u16, answer.as_str()));
        texts.iter().map(candidate).collect()
    }
}
