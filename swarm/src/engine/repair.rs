//! Catching up: ask a peer for the certificates and messages that are missing.
//!
//! Gossip alone loses messages, and gossipsub suppresses a repeat of the same bytes, so what is
//! missing is pulled: a peer that waits, or hears of a newer certificate, names what it has and gets
//! the rest. Everything received is verified as if it had been gossiped.

use std::collections::BTreeSet;

use judge::PeerKey;
use serde_bytes::ByteBuf;

use super::event::Event;
use super::presence::Seen;
use super::settle::STATE_DOMAIN;
use super::{Engine, Output};
use crate::admission;
use crate::certificate::unverified;
use crate::chain::Link;
use crate::limits::{
    CHECKPOINT_VIEWS, ENVELOPE_BYTES_MAX, PROTOCOL, PURSUIT_ASKS_MAX, REPAIR_BYTES_MAX,
    REPAIR_CERTIFICATES_MAX, REPAIR_EVERY_MS, REPAIR_HAVE_MAX,
};
use crate::log::Record;
use crate::message::{RepairAnswer, RepairRequest, Statement};
use crate::wire::{self, Hash};

const ANOTHER_CHECKPOINT: &str =
    "another certificate of the checkpoint's view than the checkpoint: one of them is of another history";
const CHECKPOINT_OUT_OF_REACH: &str =
    "certificates that do not include the checkpoint and enough before it: a newer checkpoint may be needed";

impl Engine {
    /// Asks `peer`, at most once every [`REPAIR_EVERY_MS`].
    pub(super) fn ask(&mut self, now: u64, peer: PeerKey) {
        if now < self.next_repair_ms || peer == self.me {
            return;
        }
        self.next_repair_ms = now + REPAIR_EVERY_MS;
        let pursued = self.pursued_view();
        let have = self.round.iter().flat_map(|round| round.items.all());
        let have = self.proofs().chain(have).map(|(id, _)| *id);
        let request = RepairRequest {
            version: PROTOCOL,
            swarm: Hash(self.swarm.0),
            view: pursued.unwrap_or_else(|| self.final_view()),
            head: self.newest().1,
            have: have.take(REPAIR_HAVE_MAX).collect(),
        };
        self.output(Output::Ask(peer, wire::encode(&request)));
    }

    /// View after which a chain is followed that is longer than one answer, or that of a checkpoint with some before.
    fn pursued_view(&mut self) -> Option<u32> {
        self.branches.pursued_asks = self.branches.pursued_asks.saturating_add(1);
        if self.branches.pursued_asks > PURSUIT_ASKS_MAX {
            self.branches.pursued = None;
        }
        let checkpoint =
            || self.checkpoint.map(|checkpoint| checkpoint.view.saturating_sub(CHECKPOINT_VIEWS));
        self.branches.pursued.as_ref().map(|link| link.statement.view).or_else(checkpoint)
    }

    /// With every heartbeat: one of those who say that they are ahead and one of all peers, by turns, since who says
    /// so may lie.
    pub(super) fn ask_for_what_is_missing(&mut self, now: u64) {
        let view = self.newest().0;
        let (ahead, level): (Vec<_>, Vec<_>) =
            self.presence.live(now).partition(|(_, seen)| seen.view > view);
        let keys =
            |peers: Vec<(&PeerKey, &Seen)>| peers.into_iter().map(|(peer, _)| *peer).collect::<Vec<_>>();
        let (mut pool, level) = (keys(ahead), keys(level));
        self.repair_turn = self.repair_turn.wrapping_add(1);
        let waiting = self.round.as_ref().is_some_and(|_| !self.status(now).awaited.is_empty());
        let settling = self.round.as_ref().is_some_and(super::rounds::Round::settling);
        if pool.is_empty() && !waiting && !settling {
            return;
        }
        if pool.is_empty() || !self.repair_turn.is_multiple_of(2) {
            pool.extend(level);
        }
        let nth = (self.repair_turn / 2).checked_rem(pool.len()).unwrap_or(0);
        if let Some(peer) = pool.get(nth) {
            self.ask(now, *peer);
        }
    }

    /// Answers a repair request; `None` when it is not one of this swarm.
    pub fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        let request: RepairRequest = wire::decode(request, ENVELOPE_BYTES_MAX).ok()?;
        if request.version != PROTOCOL || request.swarm.0 != self.swarm.0 {
            return None;
        }
        let behind = request.head != self.newest().1;
        let newer = self.branches.after(request.view).take(if behind { REPAIR_CERTIFICATES_MAX } else { 0 });
        let newer: Vec<&Link> = newer.collect();
        let complete = newer.last().is_some_and(|last| last.hash == self.newest().1);
        let state = self.head().state.as_ref().filter(|_| complete);
        let mut answer = RepairAnswer {
            certificates: newer.iter().map(|link| ByteBuf::from(link.bytes.clone())).collect(),
            state: state.map(|state| ByteBuf::from(wire::encode(state))),
            envelopes: Vec::new(),
        };
        let have: BTreeSet<&Hash> = request.have.iter().collect();
        let current = self.round.iter().flat_map(|round| round.items.all());
        let previous = self.previous.iter().filter(|_| behind).flat_map(|round| round.items.all());
        let mut room = REPAIR_BYTES_MAX.saturating_sub(wire::encode(&answer).len());
        for (_, bytes) in self.proofs().chain(previous).chain(current).filter(|(id, _)| !have.contains(id)) {
            let Some(left) = room.checked_sub(bytes.len() + 8) else { break };
            room = left;
            answer.envelopes.push(ByteBuf::from(bytes.to_vec()));
        }
        Some(wire::encode(&answer))
    }

    pub(super) fn take_repair(&mut self, now: u64, from: PeerKey, bytes: &[u8]) {
        let Ok(answer) = wire::decode::<RepairAnswer>(bytes, 2 * REPAIR_BYTES_MAX) else {
            return self.count_drop("a repair answer that does not decode", Some(from));
        };
        for envelope in &answer.envelopes {
            let taken = admission::authenticate(&self.swarm, None, envelope)
                .and_then(|message| admission::admit(&self.manifest, message))
                .and_then(|message| self.accept(now, message));
            if let Err(refusal) = taken {
                self.count_refusal(refusal, Some(from));
            }
        }
        self.advance(now);
        self.follow(now, &answer, from);
    }

    /// Verifies a chain of certificates link by link, from one that is known. The first is adopted like a
    /// gossiped one when this peer holds what it includes; otherwise the last one's state is taken over. A chain
    /// longer than one answer is followed answer by answer.
    fn follow(&mut self, now: u64, answer: &RepairAnswer, from: PeerKey) {
        let mut links: Vec<Link> = Vec::new();
        for bytes in self.after_checkpoint(&answer.certificates, from) {
            let Some((hash, Statement { parent, .. })) = unverified(bytes) else {
                return self.count_drop("a chain of certificates that does not verify", Some(from));
            };
            if self.branches.link(&hash).is_some() {
                links.clear();
                continue;
            }
            let known = links.last().filter(|link| link.hash == parent);
            let known = known.or_else(|| self.branches.link(&parent));
            if known.is_none() && self.branches.get(&parent).is_none() {
                return self.count_drop("a chain of certificates that starts nowhere known", Some(from));
            }
            match self.verify(bytes, known) {
                Ok(link) => links.push(link),
                Err(_) => return self.count_drop("a chain of certificates that does not verify", Some(from)),
            }
        }
        let pursued = self.branches.pursued.as_ref();
        let newest = links.last().or(pursued).filter(|link| self.branches.is_better(link)).cloned();
        let further = |link: &Link| pursued.is_none_or(|pursued| link.rank() >= pursued.rank());
        let Some(newest) = newest.filter(further) else { return };
        let Some(state) = &answer.state else { return self.pursue(now, links, newest, from) };
        if Hash::of(STATE_DOMAIN, &[state]) != newest.statement.state && self.defences.states {
            return self.count_drop("a state that its certificate does not cover", Some(from));
        }
        let encoded = state.to_vec();
        let Ok(state) = wire::decode::<judge::State>(state, REPAIR_BYTES_MAX) else { return };
        let rounds = newest.statement.round.saturating_sub(self.round_number());
        if links.is_empty() {
            links.push(newest);
        }
        self.output(Output::Log(gap(&links, encoded)));
        self.consider_quiet(now, &links);
        self.checkpoint = None;
        let muted = self.set_head(links, state);
        self.event(Event::CaughtUp { rounds });
        self.open_round(now, muted);
        for envelope in &answer.envelopes {
            // Messages of the round just entered came in the same answer.
            let taken = admission::authenticate(&self.swarm, None, envelope)
                .and_then(|message| admission::admit(&self.manifest, message));
            if let Err(refusal) = taken.and_then(|message| self.accept(now, message)) {
                self.count_refusal(refusal, Some(from));
            }
        }
        self.advance(now);
    }

    /// Keeps the end of a chain that goes on, and asks for what comes next.
    fn pursue(&mut self, now: u64, links: Vec<Link>, newest: Link, from: PeerKey) {
        self.branches.pursued = Some(newest);
        if links.is_empty() {
            return;
        }
        self.branches.pursued_asks = 0;
        self.output(Output::Log(gap(&links, Vec::new())));
        self.next_repair_ms = now;
        self.ask(now, from);
    }

    /// The certificates to follow: where there is a checkpoint to verify from, those after it.
    fn after_checkpoint<'a>(&mut self, all: &'a [ByteBuf], from: PeerKey) -> &'a [ByteBuf] {
        let Some(checkpoint) = self.checkpoint.filter(|_| self.branches.pursued.is_none()) else {
            return all;
        };
        let shown: Vec<(Hash, Statement)> = all.iter().map_while(|bytes| unverified(bytes)).collect();
        let at = shown.iter().position(|(hash, _)| *hash == checkpoint.statement);
        let (before, after) = all.split_at(at.map_or(0, |at| at + 1));
        if let Ok(link) = Link::vouched(before, &self.manifest, &self.swarm, &checkpoint.statement) {
            self.output(Output::Log(Record::Checkpoint { certificates: before.to_vec() }));
            self.branches.pursued = Some(link);
            self.branches.pursued_asks = 0;
            return after;
        }
        if at.is_none() && shown.iter().any(|(_, statement)| statement.view == checkpoint.view) {
            self.count_drop(ANOTHER_CHECKPOINT, Some(from));
        } else if !all.is_empty() {
            self.count_drop(CHECKPOINT_OUT_OF_REACH, Some(from));
        }
        &[]
    }
}

fn gap(links: &[Link], state: Vec<u8>) -> Record {
    let certificates = links.iter().map(|link| ByteBuf::from(link.bytes.clone())).collect();
    Record::Gap { certificates, state }
}
