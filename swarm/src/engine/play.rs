//! A round as its messages tell it: its prompts and the slots that are filled, without phases, clock and own work.
//!
//! What a round comes to follows from this alone, so the engine and the replay of a log settle it by the same code.

use judge::{CandidateId, Courses, PeerKey, Stage};
use tasks::{Catalogue, Item};

use super::items::Items;
use crate::manifest::Manifest;
use crate::topic::SwarmId;
use crate::wire::Hash;

fn stage(catalogue: &Catalogue, item: &Item) -> Option<Stage> {
    let (rank, ranks) = catalogue.rank(item)?;
    Some(Stage { family: item.family().to_owned(), rank, ranks })
}

/// Prompts and messages of one round.
#[derive(Clone)]
pub(crate) struct Play {
    pub(crate) items: Items,
    pub(crate) schedule: Vec<Item>,
    /// Where each prompt stands in its family; empty without a curriculum.
    pub(crate) stages: Vec<Option<Stage>>,
}

impl Play {
    /// The round that a certificate starts, before anybody has spoken; `courses` are those of the state after it.
    pub(crate) fn open(
        swarm: SwarmId,
        manifest: &Manifest,
        catalogue: &Catalogue,
        number: u32,
        roster: &[PeerKey],
        beacon: &Hash,
        courses: &Courses,
    ) -> Self {
        let prompts = manifest.round.prompts.into();
        let (schedule, stages) = if manifest.judge.curriculum.is_some() {
            let open = |family: &str| courses.get(family).map_or(0, |course| course.rank);
            let schedule = catalogue.schedule_up_to(&beacon.0, prompts, open);
            let stages = schedule.iter().map(|item| stage(catalogue, item)).collect();
            (schedule, stages)
        } else {
            (catalogue.schedule(&beacon.0, prompts), Vec::new())
        };
        Self { items: Items::new(swarm, number, schedule.len(), roster), schedule, stages }
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
