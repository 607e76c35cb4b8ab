//! Text critiques: who is asked for them, and what the judge hears of them.
//!
//! Critics are drawn from the beacon and from the nonces that this round's reveals opened, so nobody knows them while
//! answering. What counts is the assignment by the answers that the certificate includes; a critic that saw
//! other answers at its deadline may have written a few critiques for nothing.

use std::collections::{BTreeMap, BTreeSet};

use judge::{Assignment, CandidateId, PeerKey, PromptVotes};

use super::Engine;
use super::play::Play;
use super::settle::members;
use crate::limits::{CRITICS_PER_CANDIDATE, TEXT_CRITIQUES_MAX};
use crate::message::{Statement, TextCritique};
use crate::wire::Hash;

impl Engine {
    /// Per prompt, the candidates that this peer is to judge in words, by the answers that are here; empty without
    /// text critiques.
    pub(super) fn assigned_to_me(&self) -> Vec<BTreeSet<CandidateId>> {
        let Some(round) = self.round.as_ref().filter(|_| !self.manifest.round.critiques.is_off()) else {
            return Vec::new();
        };
        let answered: Vec<&PeerKey> =
            self.head().roster.iter().filter(|peer| round.items.answered(peer)).collect();
        let votes = |prompt: usize| PromptVotes {
            completions: answered.iter().map(|peer| (**peer, round.candidates_of(peer, prompt))).collect(),
            ..PromptVotes::default()
        };
        let prompts: Vec<PromptVotes> = (0..round.schedule.len()).map(votes).collect();
        let assignment = assignment(round, answered.into_iter(), &self.head().beacon, &prompts);
        assignment.into_iter().map(|mut of_prompt| of_prompt.remove(&self.me).unwrap_or_default()).collect()
    }
}

fn assignment<'a>(
    round: &Play,
    answered: impl Iterator<Item = &'a PeerKey>,
    beacon: &Hash,
    prompts: &[PromptVotes],
) -> Assignment {
    let nonces: BTreeMap<PeerKey, [u8; 32]> =
        answered.filter_map(|peer| Some((*peer, round.items.nonce(peer)?.0))).collect();
    judge::assign(&beacon.0, &nonces, CRITICS_PER_CANDIDATE, TEXT_CRITIQUES_MAX, prompts)
}

/// Adds to the votes what critics said, and who was to say something.
pub(super) fn hear(
    round: &Play,
    roster: &[PeerKey],
    statement: &Statement,
    beacon: &Hash,
    prompts: &mut [PromptVotes],
) {
    let written = written(round, roster, statement);
    if written.iter().all(Vec::is_empty) {
        return; // nobody is tried, so nobody needs an assignment
    }
    let assignment = assignment(round, members(roster, &statement.answers), beacon, prompts);
    for ((votes, assigned), written) in prompts.iter_mut().zip(assignment).zip(written) {
        votes.assigned = assigned;
        for (peer, text) in written {
            votes.verdicts.entry(peer).or_default().insert(text.candidate, text.verdict);
        }
    }
}

/// Per prompt, the included text critiques in roster order.
pub(super) fn written(
    round: &Play,
    roster: &[PeerKey],
    statement: &Statement,
) -> Vec<Vec<(PeerKey, TextCritique)>> {
    let of_prompt = |prompt: usize| {
        let texts = members(roster, &statement.critiques).filter_map(|peer| {
            let texts = round.items.said(peer)?.critique.as_ref()?.body.texts.get(prompt)?;
            Some(texts.iter().map(|text| (*peer, text.clone())))
        });
        texts.flatten().collect()
    };
    (0..round.schedule.len()).map(of_prompt).collect()
}
