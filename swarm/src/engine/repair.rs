//! Catching up: ask a peer for the certificates and messages that are missing.
//!
//! Gossip alone loses messages, and gossipsub suppresses a repeat of the same bytes, so what is
//! missing is pulled: a peer that waits, or hears of a newer certificate, names what it has and gets
//! the rest. Everything received is verified as if it had been gossiped.

use std::collections::BTreeSet;

use judge::PeerKey;
use serde_bytes::ByteBuf;

use super::event::Event;
use super::settle::STATE_DOMAIN;
use super::{Engine, Output};
use crate::admission;
use crate::certificate::statement_hash;
use crate::chain::Link;
use crate::limits::{
    ENVELOPE_BYTES_MAX, PROTOCOL, REPAIR_BYTES_MAX, REPAIR_CERTIFICATES_MAX, REPAIR_EVERY_MS, REPAIR_HAVE_MAX,
};
use crate::log::Record;
use crate::message::{Certificate, RepairAnswer, RepairRequest, Statement};
use crate::wire::{self, Hash};

impl Engine {
    /// Asks `peer`, at most once every [`REPAIR_EVERY_MS`].
    pub(super) fn ask(&mut self, now: u64, peer: PeerKey) {
        if now < self.next_repair_ms || peer == self.me {
            return;
        }
        self.next_repair_ms = now + REPAIR_EVERY_MS;
        let have = self.round.iter().flat_map(|round| round.items.all());
        let have = self.proofs().chain(have).map(|(id, _)| *id);
        let pursued = self.branches.pursued.as_ref().map(|link| link.statement.view);
        let request = RepairRequest {
            version: PROTOCOL,
            swarm: Hash(self.swarm.0),
            view: pursued.unwrap_or_else(|| self.final_view()),
            head: self.newest().1,
            have: have.take(REPAIR_HAVE_MAX).collect(),
        };
        self.output(Output::Ask(peer, wire::encode(&request)));
    }

    /// With every heartbeat: somebody ahead, or else one of the members in turn.
    pub(super) fn ask_for_what_is_missing(&mut self, now: u64) {
        let view = self.newest().0;
        let live: Vec<(PeerKey, u32)> =
            self.presence.live(now).map(|(peer, seen)| (*peer, seen.view)).collect();
        let ahead = live.iter().find(|(_, theirs)| *theirs > view).map(|(peer, _)| *peer);
        self.repair_turn = self.repair_turn.wrapping_add(1);
        let in_turn = live.get(self.repair_turn.checked_rem(live.len()).unwrap_or(0)).map(|(peer, _)| *peer);
        let waiting = self.round.as_ref().is_some_and(|_| !self.status(now).awaited.is_empty());
        let settling = self.round.as_ref().is_some_and(super::rounds::Round::settling);
        if let Some(peer) = ahead.or(in_turn.filter(|_| waiting || settling)) {
            self.ask(now, peer);
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
        for bytes in &answer.certificates {
            let Some((hash, parent)) = names(bytes) else {
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
        let pursued = self.branches.pursued.take();
        let newest = links.last().or(pursued.as_ref()).cloned();
        let Some(newest) = newest.filter(|link| self.branches.is_better(link)) else { return };
        let Some(state) = &answer.state else {
            self.branches.pursued = Some(newest);
            return;
        };
        if Hash::of(STATE_DOMAIN, &[state]) != newest.statement.state && self.defences.states {
            return self.count_drop("a state that its certificate does not cover", Some(from));
        }
        let encoded = state.to_vec();
        let Ok(state) = wire::decode::<judge::State>(state, REPAIR_BYTES_MAX) else { return };
        let rounds = newest.statement.round.saturating_sub(self.round_number());
        if links.is_empty() {
            links.push(newest);
        }
        let certificates = links.iter().map(|link| ByteBuf::from(link.bytes.clone())).collect();
        self.output(Output::Log(Record::Gap { certificates, state: encoded }));
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
}

/// Hashes of an encoded certificate's statement and of its parent.
fn names(certificate: &[u8]) -> Option<(Hash, Hash)> {
    let certificate: Certificate = wire::decode(certificate, ENVELOPE_BYTES_MAX).ok()?;
    let statement: Statement = wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok()?;
    Some((statement_hash(&certificate.statement), statement.parent))
}
