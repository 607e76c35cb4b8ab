//! The slots of a round: filled twice, not at all, or with somebody else's answers.

use std::collections::BTreeMap;

use judge::PeerKey;

use crate::engine::{Input, Output, Verdict, Work};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{Ballot, Commit, Kind, Reveal};
use crate::simulate::adversary::{Acts, Adversary, Place, payload, place_of};
use crate::simulate::policy::bare;
use crate::topic::Topic;
use crate::wire::{self, Hash};

/// Two commits and two ballots in each round, one for each half of the swarm.
pub(in crate::simulate) struct TwoMessages;

impl Adversary for TwoMessages {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Output::Publish(topic, bytes) = output else { return Some(output) };
        let Some(payload) = payload(&bytes) else { return Some(Output::Publish(topic, bytes)) };
        let place = place_of(&payload);
        let other = match payload.kind {
            Kind::Commit => {
                let commitment = Hash(acts.dice.bytes());
                acts.sign(&place, payload.sequence, Kind::Commit, &Commit { commitment, audit: None })
            }
            Kind::Ballot => {
                let abstention = Ballot { prompts: Vec::new(), audits: None, packs: Vec::new() };
                acts.sign(&place, payload.sequence, Kind::Ballot, &abstention)
            }
            _ => return Some(Output::Publish(topic, bytes)),
        };
        acts.fire("two-messages");
        acts.publish_half(0, topic, bytes);
        acts.publish_half(1, topic, other);
        None
    }
}

/// Commits and never reveals.
pub(in crate::simulate) struct Withhold;

impl Adversary for Withhold {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        match &output {
            Output::Publish(Topic::Answers, bytes)
                if payload(bytes).is_some_and(|p| p.kind == Kind::Reveal) =>
            {
                acts.fire("withhold");
                None
            }
            _ => Some(output),
        }
    }

    fn serves(&self) -> bool {
        false // its engine holds the answers
    }
}

/// Commits to anything, waits for somebody's answers, and reveals them as its own.
///
/// With `again` it commits a second time, now to the answers that it has seen.
#[derive(Default)]
pub(in crate::simulate) struct Copy {
    again: bool,
    at: Place,
    heard: BTreeMap<PeerKey, BTreeMap<u16, Reveal>>,
    prompts: usize,
    done: bool,
    sequence: u32,
}

impl Copy {
    /// Commits again once it has seen answers.
    pub(in crate::simulate) fn again() -> Self {
        Self { again: true, ..Self::default() }
    }

    fn copy(&mut self, acts: &mut Acts<'_>) {
        let Some(answers) = self.heard.values().find(|reveals| reveals.len() == self.prompts) else { return };
        self.done = true;
        let nonce = Hash(acts.dice.bytes());
        let texts: Vec<&[String]> = answers.values().map(|reveal| &reveal.completions[..]).collect();
        let leaves: Vec<Hash> =
            (0u16..).zip(&texts).map(|(i, texts)| crate::message::answers_leaf(i, texts)).collect();
        let policy = Hash([1; 32]);
        let mut said = Vec::new();
        if self.again {
            let root = crate::merkle::root(&leaves);
            let round = self.at.round;
            let commitment =
                crate::message::commitment(&acts.swarm, round, &acts.me, &nonce, &root, &policy, "simulated");
            said.push((Kind::Commit, wire::encode(&Commit { commitment, audit: None })));
        }
        for (prompt, texts) in (0u16..).zip(texts) {
            let proof = crate::merkle::proof(&leaves, prompt.into());
            let numerics = "simulated".to_string();
            let reveal =
                Reveal { prompt, nonce, policy, numerics, completions: texts.to_vec(), proof, body: None };
            said.push((Kind::Reveal, wire::encode(&reveal)));
        }
        for (kind, body) in said {
            self.sequence += 1;
            let bytes = acts.sign_body(&self.at, self.sequence, kind, body);
            acts.publish(Topic::Answers, bytes);
        }
        acts.fire(if self.again { "recommit" } else { "copy" });
    }
}

impl Adversary for Copy {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Output::Publish(topic, bytes) = &output else { return Some(output) };
        let Some(payload) = payload(bytes) else { return Some(output) };
        self.sequence = self.sequence.max(payload.sequence);
        match payload.kind {
            Kind::Reveal => {
                self.copy(acts);
                None
            }
            Kind::Commit => {
                let place = place_of(&payload);
                if place != self.at {
                    *self = Self {
                        again: self.again,
                        at: place,
                        prompts: self.prompts,
                        sequence: self.sequence,
                        ..Self::default()
                    };
                }
                acts.publish(*topic, bytes.clone());
                None
            }
            _ => Some(output),
        }
    }

    fn heard(&mut self, _topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        let Some(payload) = payload(bytes).filter(|payload| payload.kind == Kind::Reveal) else { return };
        if place_of(&payload) != self.at || self.done || acts.accomplices.contains(&payload.sender) {
            return;
        }
        if let Ok(reveal) = wire::decode::<Reveal>(&payload.body, ENVELOPE_BYTES_MAX) {
            self.heard.entry(payload.sender).or_default().insert(reveal.prompt, reveal);
            self.copy(acts);
        }
    }

    fn work(&mut self, work: &Work, _acts: &mut Acts<'_>) -> Option<Input> {
        let Work::Answer { round, items, completions, .. } = work else { return None };
        self.prompts = items.len();
        let nothing = vec![vec![bare(0); usize::from(*completions)]; items.len()];
        Some(Input::Answers { round: *round, completions: nothing, policy: Hash([1; 32]) })
    }
    fn serves(&self) -> bool {
        false // its engine holds the answers that it committed to
    }
}
