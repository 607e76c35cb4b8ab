//! Messages that are broken, too large, too many, too old, or somebody else's.

use std::collections::VecDeque;

use crate::certificate::signed_bytes;
use crate::engine::{Output, Verdict};
use crate::limits::PROTOCOL;
use crate::message::{
    Ballot, Commit, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Reveal, STATEMENT_DOMAIN, Signature,
};
use crate::simulate::adversary::{Acts, Adversary, Place, payload, place_of};
use crate::topic::Topic;
use crate::wire::{self, Hash, Sig};

/// Hashes in an oversize reveal: some megabytes of them.
const OVERSIZE_HASHES: usize = 100_000;
/// Signatures and messages of a flood, at each heartbeat.
const FLOOD: u32 = 64;
/// Old messages remembered for a replay.
const REPLAYED_MAX: usize = 512;
/// Old messages repeated at each heartbeat.
const REPLAYED_EACH: usize = 16;

/// Whether an output is a heartbeat, and where its author is.
pub(super) fn heartbeat(output: &Output) -> Option<(Place, u32)> {
    let Output::Publish(Topic::Presence, bytes) = output else { return None };
    payload(bytes).map(|payload| (place_of(&payload), payload.sequence))
}

/// Random bytes, and what it heard with one bit turned.
pub(in crate::simulate) struct Garbage;

impl Adversary for Garbage {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if heartbeat(&output).is_some() {
            for topic in Topic::ALL {
                let length = acts.dice.below(1_000) as usize;
                let bytes: Vec<u8> =
                    std::iter::repeat_with(|| acts.dice.bytes()).flatten().take(length).collect();
                acts.publish(topic, bytes);
                acts.fire("garbage");
            }
        }
        Some(output)
    }

    fn heard(&mut self, topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        if acts.dice.chance(20) {
            let mut bytes = bytes.to_vec();
            let at = acts.dice.below(bytes.len() as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << acts.dice.below(8);
            }
            acts.publish(topic, bytes);
            acts.fire("garbage");
        }
    }
}

/// Commits in everybody's name, with a signature that is none.
#[derive(Default)]
pub(in crate::simulate) struct Forge {
    /// The newest round it did so in.
    round: u32,
}

impl Adversary for Forge {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if let Some((place, _)) = heartbeat(&output) {
            self.forge(place, acts);
        }
        Some(output)
    }

    fn heard(&mut self, _topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        if let Some(payload) = payload(bytes) {
            self.forge(place_of(&payload), acts);
        }
    }
}

impl Forge {
    fn forge(&mut self, place: Place, acts: &mut Acts<'_>) {
        // Once a round: two forgers that answered each other would never end.
        if place.round <= self.round {
            return;
        }
        self.round = place.round;
        for victim in acts.peers.iter().copied().filter(|peer| !acts.accomplices.contains(peer)) {
            let payload = wire::encode(&Payload {
                version: PROTOCOL,
                swarm: Hash(acts.swarm.0),
                kind: Kind::Commit,
                round: place.round,
                start: place.start,
                sender: victim,
                sequence: u32::MAX,
                body: wire::encode(&Commit { commitment: Hash(acts.dice.bytes()), audit: None }),
            });
            // Its own signature, under another's name.
            let signature = Sig(acts.identity.sign(ENVELOPE_DOMAIN, &payload));
            let everybody = acts.others();
            acts.sent.push((everybody, Topic::Answers, wire::encode(&Envelope { payload, signature })));
            acts.fired.push("forge");
        }
    }
}

/// Reveals of megabytes, before any commit that could cover them.
pub(in crate::simulate) struct Oversize;

impl Adversary for Oversize {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Output::Publish(Topic::Answers, bytes) = &output else { return Some(output) };
        let Some(payload) = payload(bytes) else { return Some(output) };
        if payload.kind == Kind::Commit {
            let reveal = Reveal {
                prompt: 0,
                nonce: Hash::default(),
                policy: Hash::default(),
                numerics: String::new(),
                completions: Vec::new(),
                proof: vec![Hash(acts.dice.bytes()); OVERSIZE_HASHES],
                body: None,
            };
            let bytes = acts.sign(&place_of(&payload), payload.sequence, Kind::Reveal, &reveal);
            acts.publish(Topic::Answers, bytes);
            acts.fire("oversize");
        }
        None
    }
}

/// What was said in earlier rounds, and what honest peers said in another swarm: there they said goodbye.
#[derive(Default)]
pub(in crate::simulate) struct Replay {
    old: VecDeque<(Topic, Vec<u8>)>,
}

impl Adversary for Replay {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if heartbeat(&output).is_some() {
            let recorded = acts.recorded.to_vec();
            for bytes in recorded {
                acts.publish(Topic::Presence, bytes);
                acts.fire("replay");
            }
            for _ in 0..REPLAYED_EACH {
                let Some((topic, bytes)) = self.old.pop_front() else { break };
                acts.publish(topic, bytes);
                acts.fire("replay");
            }
        }
        Some(output)
    }

    fn heard(&mut self, topic: Topic, bytes: &[u8], _verdict: Verdict, _acts: &mut Acts<'_>) {
        if self.old.len() < REPLAYED_MAX {
            self.old.push_back((topic, bytes.to_vec()));
        }
    }
}

/// Signatures on statements that do not exist, and ballots for rounds that have not begun.
pub(in crate::simulate) struct Flood {
    pub(in crate::simulate) nth: u32,
}

impl Adversary for Flood {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if let Some((place, sequence)) = heartbeat(&output) {
            for _ in 0..FLOOD {
                self.nth += 1;
                let (view, statement) = (1_000_000 + self.nth, Hash(acts.dice.bytes()));
                let signature =
                    Sig(acts.identity.sign(STATEMENT_DOMAIN, &signed_bytes(&acts.swarm, &statement)));
                let body = Signature { view, statement, signature };
                let bytes = acts.sign(&place, sequence, Kind::Signature, &body);
                acts.publish(Topic::Control, bytes);
                let ahead = Place { round: place.round + 1, start: Hash(acts.dice.bytes()) };
                let bytes = acts.sign(
                    &ahead,
                    sequence,
                    Kind::Ballot,
                    &Ballot { prompts: Vec::new(), audits: None, packs: Vec::new() },
                );
                acts.publish(Topic::Votes, bytes);
                acts.fire("flood");
            }
        }
        Some(output)
    }
}
