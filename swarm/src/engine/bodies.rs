//! Bodies: completions too long for a message, which their reveal names and everybody fetches.
//!
//! A reveal counts only when its body is here. What the commit covers is checked before the fetch (the reveal names
//! the Merkle leaf), the length before that (by admission); what is fetched is then checked against the leaf, so
//! every honest peer judges a body alike, whoever served it.

use std::collections::{BTreeMap, BTreeSet};

use judge::PeerKey;

use super::event::Event;
use super::items::Items;
use super::{Engine, Output};
use crate::admission::{Refusal, check_completions};
use crate::blob::Address;
use crate::limits::{FETCHES_MAX, FETCHES_PER_AUTHOR_MAX, HEARTBEAT_MS, HOLDERS_MAX, INLINE_BYTES_MAX};
use crate::log::Record;
use crate::manifest::Manifest;
use crate::message::{BodyRef, Completions, Reveal, answers_leaf};
use crate::wire::{self, Hash};

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// To be asked for, from then on.
    Due { from_ms: u64 },
    /// The caller is at it.
    Running,
}

/// A body that is not here.
#[derive(Clone, Debug)]
struct Wanted {
    /// Who named it first, and answers for the time it takes.
    author: PeerKey,
    /// Authors and prompts: two peers may have said the very same.
    slots: BTreeSet<(PeerKey, u16)>,
    fetch: Fetch,
    attempts: u32,
}

/// The bodies of one round that are not here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    wanted: BTreeMap<Address, Wanted>,
    /// Prompts of a peer whose body is not here, or was found wrong.
    lacking: BTreeMap<PeerKey, BTreeSet<u16>>,
    /// Peers with a wrong body: the rest of theirs is not worth fetching.
    spoilt: BTreeSet<PeerKey>,
}

impl Bodies {
    /// Notes the body of a reveal that its author's commit covers.
    pub(super) fn want(&mut self, author: &PeerKey, reveal: &Reveal) {
        let Some(body) = &reveal.body else { return };
        self.lacking.entry(*author).or_default().insert(reveal.prompt);
        if self.spoilt.contains(author) {
            return;
        }
        let new = || Wanted {
            author: *author,
            slots: BTreeSet::new(),
            fetch: Fetch::Due { from_ms: 0 },
            attempts: 0,
        };
        self.wanted.entry(body.blob).or_insert_with(new).slots.insert((*author, reveal.prompt));
    }

    /// Whether a body that the peer named is not here.
    pub(crate) fn lacks(&self, peer: &PeerKey) -> bool {
        self.lacking.contains_key(peer)
    }

    /// Bodies to ask for now, with who named them and the attempt; they count as asked for.
    fn due(&mut self, now: u64) -> Vec<(Address, BTreeSet<PeerKey>, u32)> {
        let mut running: BTreeMap<PeerKey, usize> = BTreeMap::new();
        for wanted in self.wanted.values().filter(|wanted| wanted.fetch == Fetch::Running) {
            *running.entry(wanted.author).or_default() += 1;
        }
        let mut room = FETCHES_MAX.saturating_sub(running.values().sum());
        let mut due = Vec::new();
        for (blob, wanted) in &mut self.wanted {
            let of_author = running.entry(wanted.author).or_default();
            let ripe = matches!(wanted.fetch, Fetch::Due { from_ms } if from_ms <= now);
            if room == 0 || !ripe || *of_author >= FETCHES_PER_AUTHOR_MAX {
                continue;
            }
            room -= 1;
            *of_author += 1;
            wanted.fetch = Fetch::Running;
            wanted.attempts = wanted.attempts.saturating_add(1);
            let authors = wanted.slots.iter().map(|(author, _)| *author).collect();
            due.push((*blob, authors, wanted.attempts));
        }
        due
    }

    /// The first author and prompt that wait for a body.
    pub(crate) fn waiting(&self, blob: &Address) -> Option<(PeerKey, u16)> {
        self.wanted.get(blob)?.slots.first().copied()
    }

    fn arrived(&mut self, peer: &PeerKey, prompt: u16) {
        if let Some(prompts) = self.lacking.get_mut(peer) {
            prompts.remove(&prompt);
            if prompts.is_empty() {
                self.lacking.remove(peer);
            }
        }
    }

    /// Gives a peer up for this round; whether it was not given up before.
    fn spoil(&mut self, peer: PeerKey) -> bool {
        for wanted in self.wanted.values_mut() {
            wanted.slots.retain(|(author, _)| *author != peer);
        }
        self.wanted.retain(|_, wanted| !wanted.slots.is_empty());
        self.spoilt.insert(peer)
    }
}

/// A body, and how its reveal names it.
pub(super) type Detached = (BodyRef, Vec<u8>);

/// Parts completions that are too long for a message from their reveal.
pub(super) fn detach(prompt: u16, completions: Vec<String>) -> (Vec<String>, Option<Detached>) {
    let bytes = wire::encode(&completions);
    if bytes.len() <= INLINE_BYTES_MAX {
        return (completions, None);
    }
    // Without an address they stay inside, and the reveal is refused and counted as too large.
    let Ok(blob) = Address::of(&bytes) else { return (completions, None) };
    let leaf = answers_leaf(prompt, &completions);
    (Vec::new(), Some((BodyRef { blob, leaf }, bytes)))
}

/// The completions of a body, or what its author did wrong.
fn read(manifest: &Manifest, bytes: &[u8]) -> Result<Vec<String>, &'static str> {
    let Completions(texts) =
        wire::decode(bytes, manifest.body_bytes_max()).map_err(|_| "a body that is no list of texts")?;
    check_completions(manifest, &texts).map(|()| texts)
}

/// A reveal that a body belongs to, and what is wrong with the body if anything is.
pub(crate) type Filled = (PeerKey, u16, Result<(), &'static str>);

impl Items {
    /// Gives a body of this address to the reveals that wait for it.
    pub(crate) fn take_body(&mut self, manifest: &Manifest, blob: &Address, bytes: &[u8]) -> Vec<Filled> {
        let Some(wanted) = self.bodies.wanted.remove(blob) else { return Vec::new() };
        let texts = read(manifest, bytes);
        let fill = |(author, prompt)| {
            (author, prompt, texts.clone().and_then(|texts| self.fill(&author, prompt, texts)))
        };
        wanted.slots.into_iter().map(fill).collect()
    }

    fn fill(&mut self, author: &PeerKey, prompt: u16, texts: Vec<String>) -> Result<(), &'static str> {
        let defences = self.defences;
        let Some(reveal) = self.reveal_mut(author, prompt) else { return Ok(()) };
        if answers_leaf(prompt, &texts) != reveal.leaf() && defences.bodies {
            return Err("a body with other texts than were committed to");
        }
        reveal.completions = texts;
        self.bodies.arrived(author, prompt);
        Ok(())
    }
}

impl Engine {
    /// Asks for bodies whose turn has come.
    pub(super) fn fetch_bodies(&mut self, now: u64) {
        let number = self.round_number();
        let Some(round) = &mut self.round else { return };
        for (blob, authors, attempt) in round.items.bodies.due(now) {
            let from = self.holders(now, &blob, &authors, attempt);
            self.output(Output::Fetch { round: number, blob, from });
        }
    }

    /// Who named it, then other members, in an order of this peer's own, so that not everybody asks the same one.
    pub(super) fn holders(
        &self,
        now: u64,
        blob: &Address,
        authors: &BTreeSet<PeerKey>,
        attempt: u32,
    ) -> Vec<PeerKey> {
        let attempt = attempt.to_le_bytes();
        let place =
            |peer: &PeerKey| Hash::of("murmur v1 holders", &[&blob.hash.0, &self.me.0, &attempt, &peer.0]);
        let live = self.presence.live(now).map(|(peer, _)| *peer);
        let mut others: Vec<PeerKey> = live
            .filter(|peer| !authors.contains(peer) && self.head().roster.binary_search(peer).is_ok())
            .collect();
        others.sort_by_cached_key(place);
        let mut first: Vec<PeerKey> = authors.iter().filter(|peer| **peer != self.me).copied().collect();
        first.sort_by_cached_key(place);
        // Whoever names what others said too does not keep them from being asked.
        first.truncate(HOLDERS_MAX / 2);
        first.into_iter().chain(others).take(HOLDERS_MAX).collect()
    }

    /// Nobody gave a body.
    pub(super) fn miss_body(&mut self, now: u64, blob: &Address) {
        let bodies = self.round.as_mut().map(|round| &mut round.items.bodies);
        if let Some(wanted) = bodies.and_then(|bodies| bodies.wanted.get_mut(blob)) {
            wanted.fetch = Fetch::Due { from_ms: now + HEARTBEAT_MS };
        }
    }

    /// Gives a body to the reveals that name it. A good one is logged before anybody can rely on it.
    pub(super) fn take_body(&mut self, now: u64, blob: Address, bytes: Vec<u8>) {
        let number = self.round_number();
        let Some(round) = self.round.as_mut().filter(|round| round.items.bodies.waiting(&blob).is_some())
        else {
            return self.count_refusal(Refusal::Known("a body that nobody waits for any more"), None);
        };
        if Address::of(&bytes) != Ok(blob) && self.defences.bodies {
            self.count_drop("a fetched body with another hash than was asked for", None);
            return self.miss_body(now, &blob);
        }
        let filled = round.items.take_body(&self.manifest, &blob, &bytes);
        let good = filled.iter().any(|(_, _, outcome)| outcome.is_ok());
        for (author, prompt, outcome) in filled {
            if let Err(why) = outcome {
                self.spoil(author, prompt, why);
            }
        }
        if good {
            self.output(Output::Log(Record::Body { blob, bytes: bytes.clone() }));
            self.output(Output::Keep { round: number, blob, bytes });
        }
    }

    fn spoil(&mut self, author: PeerKey, prompt: u16, why: &'static str) {
        *self.dropped.entry(why).or_default() += 1;
        if self.round.as_mut().is_some_and(|round| round.items.bodies.spoil(author)) {
            self.event(Event::Spoilt { peer: author, prompt, why });
        }
    }
}
