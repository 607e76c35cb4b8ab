//! What is fetched: bodies that nobody serves or everybody gets differently, bodies of gigabytes, and states.

use serde_bytes::ByteBuf;

use super::noise::heartbeat;
use crate::blob::Address;
use crate::engine::{Output, Verdict};
use crate::limits::{ENVELOPE_BYTES_MAX, REPAIR_BYTES_MAX};
use crate::merkle;
use crate::message::{BodyRef, Commit, Completions, Kind, Presence, RepairAnswer, Reveal, commitment};
use crate::simulate::adversary::{Acts, Adversary, Place, payload, place_of};
use crate::simulate::policy::bare;
use crate::topic::Topic;
use crate::wire::{self, Hash};

/// Serves no body, its own included.
pub(in crate::simulate) struct WithholdBodies;

impl Adversary for WithholdBodies {
    fn body(&self, _to: usize, _bytes: &[u8], acts: &mut Acts<'_>) -> Option<Vec<u8>> {
        acts.fire("withhold-bodies");
        None
    }

    fn serves(&self) -> bool {
        false
    }
}

/// Gives every second peer a body of its own making, so that neither kind is a quorum.
pub(in crate::simulate) struct SwapBodies;

impl Adversary for SwapBodies {
    fn body(&self, to: usize, bytes: &[u8], acts: &mut Acts<'_>) -> Option<Vec<u8>> {
        acts.fire("swap-bodies");
        if to % 2 == acts.seat % 2 {
            return Some(bytes.to_vec());
        }
        let Completions(texts) = wire::decode(bytes, usize::MAX).ok()?;
        Some(wire::encode(&vec![bare(to); texts.len()]))
    }
}

/// Commits to bodies and says that they have gigabytes; with each heartbeat some messages that declare as much.
#[derive(Default)]
pub(in crate::simulate) struct Bombs {
    nonce: Hash,
    leaves: Vec<Hash>,
}

/// Says of a list, a map, a text and bytes that they are as long as can be.
const DECLARED: [[u8; 5]; 4] = [
    [0xdd, 0xff, 0xff, 0xff, 0xff],
    [0xdf, 0xff, 0xff, 0xff, 0xff],
    [0xdb, 0xff, 0xff, 0xff, 0xff],
    [0xc6, 0xff, 0xff, 0xff, 0xff],
];
const NUMERICS: &str = "simulated";

impl Bombs {
    fn commit(&mut self, round: u32, acts: &mut Acts<'_>) -> Commit {
        let prompts = usize::from(acts.manifest.round.prompts);
        self.nonce = Hash(acts.dice.bytes());
        self.leaves = (0..prompts).map(|_| Hash(acts.dice.bytes())).collect();
        let root = merkle::root(&self.leaves);
        let (swarm, policy) = (acts.swarm, Hash::default());
        let commitment = commitment(&swarm, round, &acts.me, &self.nonce, &root, &policy, NUMERICS);
        Commit { commitment, audit: None }
    }

    fn reveal(&self, prompt: u16) -> Option<Reveal> {
        let leaf = *self.leaves.get(usize::from(prompt))?;
        Some(Reveal {
            prompt,
            nonce: self.nonce,
            policy: Hash::default(),
            numerics: NUMERICS.into(),
            completions: Vec::new(),
            proof: merkle::proof(&self.leaves, prompt.into()),
            body: Some(BodyRef { blob: Address { hash: leaf, len: u32::MAX }, leaf }),
        })
    }
}

impl Adversary for Bombs {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if heartbeat(&output).is_some() {
            for (topic, bomb) in Topic::ALL.into_iter().zip(DECLARED) {
                acts.publish(topic, bomb.to_vec());
            }
        }
        let Output::Publish(topic @ Topic::Answers, bytes) = &output else { return Some(output) };
        let payload = payload(bytes)?;
        let place = place_of(&payload);
        let message = match payload.kind {
            Kind::Commit => {
                let commit = self.commit(place.round, acts);
                acts.sign(&place, payload.sequence, Kind::Commit, &commit)
            }
            _ => {
                let Reveal { prompt, .. } = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).ok()?;
                acts.sign(&place, payload.sequence, Kind::Reveal, &self.reveal(prompt)?)
            }
        };
        acts.publish(*topic, message);
        acts.fire("bombs");
        None
    }

    fn serves(&self) -> bool {
        false // its engine holds other answers
    }
}

/// Says that it is ahead of everybody, at once to whoever is behind, and answers with a state in which only its own
/// kind has a name.
#[derive(Default)]
pub(in crate::simulate) struct Poison {
    last: Option<(Place, u32, Presence)>,
}

impl Poison {
    fn show(&mut self, acts: &mut Acts<'_>) {
        let Some((place, sequence, presence)) = &mut self.last else { return };
        let bytes = acts.sign(place, *sequence, Kind::Presence, presence);
        *sequence += 1;
        acts.publish(Topic::Presence, bytes);
    }
}

impl Adversary for Poison {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence)) = heartbeat(&output) else { return Some(output) };
        let Output::Publish(_, bytes) = output else { return None };
        let presence: Presence = wire::decode(&payload(&bytes)?.body, ENVELOPE_BYTES_MAX).ok()?;
        self.last = Some((place, sequence, Presence { view: presence.view + 1, ..presence }));
        self.show(acts);
        None
    }

    fn heard(&mut self, topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        let Some(payload) = payload(bytes).filter(|_| topic == Topic::Presence) else { return };
        let behind = self.last.as_ref().is_some_and(|(place, ..)| payload.round < place.round);
        if behind {
            self.show(acts);
        }
    }

    fn answer(&self, answer: Vec<u8>, acts: &mut Acts<'_>) -> Vec<u8> {
        let Ok(mut poisoned) = wire::decode::<RepairAnswer>(&answer, 2 * REPAIR_BYTES_MAX) else {
            return answer;
        };
        if poisoned.state.is_none() {
            return answer;
        }
        acts.fire("poison");
        poisoned.state = Some(ByteBuf::from(wire::encode(&judge::State::founded_by(&[acts.me]))));
        wire::encode(&poisoned)
    }
}
