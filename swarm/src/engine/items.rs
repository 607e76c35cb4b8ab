//! The messages of one round, one slot a (kind, author, prompt).
//!
//! A slot is filled once. A second, different message for a filled slot is a conflict: its author
//! signed two messages for one slot.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::Defences;
use super::bodies::Bodies;
use crate::admission::{Admitted, Body};
use crate::merkle;
use crate::message::{Ballot, Commit, Critique, Reveal, commitment};
use crate::topic::SwarmId;
use crate::wire::Hash;

/// A body with the envelope it came in.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) body: T,
    pub(crate) id: Hash,
    pub(crate) bytes: Vec<u8>,
}

/// What one peer said in this round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) commit: Option<Stored<Commit>>,
    pub(crate) reveals: BTreeMap<u16, Stored<Reveal>>,
    pub(crate) critique: Option<Stored<Critique>>,
    pub(crate) ballot: Option<Stored<Ballot>>,
}

/// What came of putting a message in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    New,
    Duplicate,
    Conflict,
    /// A reveal that its author's commit does not cover.
    Uncommitted,
}

/// All slots of one round.
#[derive(Clone, Debug)]
pub(crate) struct Items {
    swarm: SwarmId,
    round: u32,
    prompts: usize,
    said: BTreeMap<PeerKey, Said>,
    pub(super) bodies: Bodies,
    pub(super) defences: Defences,
}

fn fill<T>(slot: &mut Option<Stored<T>>, new: Stored<T>, defences: Defences) -> Placed {
    if !defences.one_slot && slot.as_ref().is_some_and(|old| old.id != new.id) {
        *slot = None;
    }
    match slot {
        None => {
            *slot = Some(new);
            Placed::New
        }
        Some(old) if old.id == new.id => Placed::Duplicate,
        Some(_) => Placed::Conflict,
    }
}

impl Items {
    pub(crate) fn new(swarm: SwarmId, round: u32, prompts: usize, roster: &[PeerKey]) -> Self {
        let said = roster.iter().map(|&peer| (peer, Said::default())).collect();
        Self { swarm, round, prompts, said, bodies: Bodies::default(), defences: Defences::default() }
    }

    /// Members of the round.
    pub(super) fn members(&self) -> usize {
        self.said.len()
    }

    pub(crate) fn said(&self, peer: &PeerKey) -> Option<&Said> {
        self.said.get(peer)
    }

    /// Puts a commit, reveal, critique or ballot in its slot; `None` for a peer outside the roster.
    pub(crate) fn place(&mut self, message: Admitted) -> Option<Placed> {
        let Admitted { sender, id, bytes, body, .. } = message;
        match body {
            Body::Commit(body) => self.commit(&sender, Stored { body, id, bytes }),
            Body::Reveal(body) => self.reveal(&sender, Stored { body, id, bytes }),
            Body::Critique(body) => self.critique(&sender, Stored { body, id, bytes }),
            Body::Ballot(body) => self.ballot(&sender, Stored { body, id, bytes }),
            Body::Presence(_)
            | Body::Proposal(_)
            | Body::Signature(_)
            | Body::Certificate(_)
            | Body::Proof(..) => None,
        }
    }

    fn commit(&mut self, peer: &PeerKey, new: Stored<Commit>) -> Option<Placed> {
        let (swarm, round, prompts, defences) = (self.swarm, self.round, self.prompts, self.defences);
        let said = self.said.get_mut(peer)?;
        let commitment = new.body.commitment;
        let placed = fill(&mut said.commit, new, defences);
        if placed == Placed::New && defences.cover {
            // Reveals that overtook their commit are judged now.
            said.reveals.retain(|_, reveal| covers(&swarm, round, prompts, peer, &commitment, &reveal.body));
            said.reveals.values().for_each(|reveal| self.bodies.want(peer, &reveal.body));
        }
        Some(placed)
    }

    fn reveal(&mut self, peer: &PeerKey, new: Stored<Reveal>) -> Option<Placed> {
        let said = self.said.get_mut(peer)?;
        if let Some(old) = said.reveals.get(&new.body.prompt) {
            return Some(if old.id == new.id { Placed::Duplicate } else { Placed::Conflict });
        }
        let covered = match &said.commit {
            Some(commit) => {
                covers(&self.swarm, self.round, self.prompts, peer, &commit.body.commitment, &new.body)
            }
            None => usize::from(new.body.prompt) < self.prompts,
        };
        if !covered && self.defences.cover {
            return Some(Placed::Uncommitted);
        }
        if said.commit.is_some() {
            self.bodies.want(peer, &new.body);
        }
        said.reveals.insert(new.body.prompt, new);
        Some(Placed::New)
    }

    fn critique(&mut self, peer: &PeerKey, new: Stored<Critique>) -> Option<Placed> {
        Some(fill(&mut self.said.get_mut(peer)?.critique, new, self.defences))
    }

    fn ballot(&mut self, peer: &PeerKey, new: Stored<Ballot>) -> Option<Placed> {
        Some(fill(&mut self.said.get_mut(peer)?.ballot, new, self.defences))
    }

    /// Another message of the same author in the slot of this one, if there is one.
    pub(super) fn contradicted(&self, peer: &PeerKey, id: &Hash, body: &Body) -> Option<&[u8]> {
        let said = self.said.get(peer)?;
        let held = match body {
            Body::Commit(_) => said.commit.as_ref().map(|held| (&held.id, &held.bytes)),
            Body::Reveal(reveal) => said.reveals.get(&reveal.prompt).map(|held| (&held.id, &held.bytes)),
            Body::Critique(_) => said.critique.as_ref().map(|held| (&held.id, &held.bytes)),
            Body::Ballot(_) => said.ballot.as_ref().map(|held| (&held.id, &held.bytes)),
            _ => None,
        };
        held.filter(|(held, _)| *held != id).map(|(_, bytes)| &bytes[..])
    }

    pub(crate) fn committed(&self, peer: &PeerKey) -> bool {
        self.said.get(peer).is_some_and(|said| said.commit.is_some())
    }

    /// Whether every answer of a commit is here, bodies included.
    pub(crate) fn answered(&self, peer: &PeerKey) -> bool {
        self.said.get(peer).is_some_and(|said| said.commit.is_some() && said.reveals.len() == self.prompts)
            && !self.bodies.lacks(peer)
    }

    /// The reveal in a slot, to be given its completions.
    pub(super) fn reveal_mut(&mut self, peer: &PeerKey, prompt: u16) -> Option<&mut Reveal> {
        self.said.get_mut(peer)?.reveals.get_mut(&prompt).map(|stored| &mut stored.body)
    }

    pub(crate) fn critiqued(&self, peer: &PeerKey) -> bool {
        self.said.get(peer).is_some_and(|said| said.critique.is_some())
    }

    pub(crate) fn voted(&self, peer: &PeerKey) -> bool {
        self.said.get(peer).is_some_and(|said| said.ballot.is_some())
    }

    /// A complete peer's completions of one prompt.
    pub(crate) fn completions(&self, peer: &PeerKey, prompt: u16) -> &[String] {
        let reveal = self.said.get(peer).and_then(|said| said.reveals.get(&prompt));
        reveal.map_or(&[], |reveal| &reveal.body.completions)
    }

    /// The nonce that a peer's reveals opened.
    pub(crate) fn nonce(&self, peer: &PeerKey) -> Option<Hash> {
        let said = self.said.get(peer)?;
        said.reveals.values().next().map(|reveal| reveal.body.nonce)
    }

    /// Every message held, as (hash, envelope).
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Hash, &[u8])> {
        self.said.values().flat_map(|said| {
            let commit = said.commit.iter().map(|s| (&s.id, &s.bytes[..]));
            let reveals = said.reveals.values().map(|s| (&s.id, &s.bytes[..]));
            let critique = said.critique.iter().map(|s| (&s.id, &s.bytes[..]));
            let ballot = said.ballot.iter().map(|s| (&s.id, &s.bytes[..]));
            commit.chain(reveals).chain(critique).chain(ballot)
        })
    }
}

/// Whether `commitment` promised these completions.
fn covers(
    swarm: &SwarmId,
    round: u32,
    prompts: usize,
    peer: &PeerKey,
    promised: &Hash,
    reveal: &Reveal,
) -> bool {
    merkle::climb(reveal.leaf(), reveal.prompt.into(), prompts, &reveal.proof).is_some_and(|root| {
        commitment(swarm, round, peer, &reveal.nonce, &root, &reveal.policy, &reveal.numerics) == *promised
    })
}
