//! What a dishonest peer can do: everything that its own key allows.
//!
//! Each wraps an honest engine, whose outputs it may drop, change or add to.

use std::collections::BTreeSet;

use judge::PeerKey;
use serde::Serialize;

use super::dice::Dice;
use crate::certificate::{signed_bytes, statement_hash};
use crate::engine::{Engine, Input, Output, Verdict, Work};
use crate::identity::Identity;
use crate::limits::PROTOCOL;
use crate::manifest::Manifest;
use crate::message::{ENVELOPE_DOMAIN, Envelope, Kind, Payload, STATEMENT_DOMAIN, Signature, Statement};
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash, Sig};

/// A round, by its number and the statement that started it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) round: u32,
    pub(super) start: Hash,
}

/// What a dishonest peer knows and may do at one moment.
pub(super) struct Acts<'a> {
    /// Its key.
    pub(super) identity: &'a Identity,
    pub(super) me: PeerKey,
    pub(super) manifest: &'a Manifest,
    pub(super) swarm: SwarmId,
    pub(super) dice: &'a mut Dice,
    /// Its engine; none at the moment when that stops.
    pub(super) engine: Option<&'a Engine>,
    /// Everybody, in the order of their seats.
    pub(super) peers: &'a [PeerKey],
    /// Its own seat.
    pub(super) seat: usize,
    /// Those that work with it.
    pub(super) accomplices: &'a BTreeSet<PeerKey>,
    /// Messages to send: to which seats, and what.
    pub(super) sent: Vec<(Vec<usize>, Topic, Vec<u8>)>,
    /// How often an attack was carried out.
    pub(super) fired: Vec<&'static str>,
    /// Statements put forward against the rules.
    pub(super) stolen: Vec<Hash>,
    /// What honest peers said in another swarm.
    pub(super) recorded: &'a [Vec<u8>],
}

impl Acts<'_> {
    /// An envelope of this peer's.
    pub(super) fn sign<T: Serialize>(&self, at: &Place, sequence: u32, kind: Kind, body: &T) -> Vec<u8> {
        envelope(self.identity, self.swarm, at, sequence, kind, wire::encode(body))
    }

    /// The same with an encoded body.
    pub(super) fn sign_body(&self, at: &Place, sequence: u32, kind: Kind, body: Vec<u8>) -> Vec<u8> {
        envelope(self.identity, self.swarm, at, sequence, kind, body)
    }

    /// This peer's signature on a statement.
    pub(super) fn sign_statement(&self, statement: &Statement) -> Signature {
        let hash = statement_hash(&wire::encode(statement));
        let signature = Sig(self.identity.sign(STATEMENT_DOMAIN, &signed_bytes(&self.swarm, &hash)));
        Signature { view: statement.view, statement: hash, signature }
    }

    /// Seats of everybody else.
    pub(super) fn others(&self) -> Vec<usize> {
        (0..self.peers.len()).filter(|&seat| seat != self.seat).collect()
    }

    /// The seats of one of two halves.
    pub(super) fn half(&self, which: usize) -> Vec<usize> {
        self.others().into_iter().filter(|seat| seat % 2 == which).collect()
    }

    /// Sends to everybody else.
    pub(super) fn publish(&mut self, topic: Topic, bytes: Vec<u8>) {
        let everybody = self.others();
        self.sent.push((everybody, topic, bytes));
    }

    /// Sends to one of two halves.
    pub(super) fn publish_half(&mut self, which: usize, topic: Topic, bytes: Vec<u8>) {
        let half = self.half(which);
        self.sent.push((half, topic, bytes));
    }

    /// The attack was carried out once.
    pub(super) fn fire(&mut self, name: &'static str) {
        self.fired.push(name);
    }
}

/// A signed envelope.
pub(super) fn envelope(
    author: &Identity,
    swarm: SwarmId,
    at: &Place,
    sequence: u32,
    kind: Kind,
    body: Vec<u8>,
) -> Vec<u8> {
    let sender = author.public();
    let payload = wire::encode(&Payload {
        version: PROTOCOL,
        swarm: Hash(swarm.0),
        kind,
        round: at.round,
        start: at.start,
        sender,
        sequence,
        body,
    });
    let signature = Sig(author.sign(ENVELOPE_DOMAIN, &payload));
    wire::encode(&Envelope { payload, signature })
}

/// The payload of an envelope, unchecked.
pub(super) fn payload(bytes: &[u8]) -> Option<Payload> {
    let envelope: Envelope = wire::decode(bytes, usize::MAX).ok()?;
    wire::decode(&envelope.payload, usize::MAX).ok()
}

/// Where an author is, by what it says.
pub(super) fn place_of(payload: &Payload) -> Place {
    Place { round: payload.round, start: payload.start }
}

/// A dishonest character.
pub(super) trait Adversary {
    /// Its engine is about to do something; what is given back is done.
    fn perform(&mut self, output: Output, _acts: &mut Acts<'_>) -> Option<Output> {
        Some(output)
    }

    /// A message arrived, and its engine took it or not.
    fn heard(&mut self, _topic: Topic, _bytes: &[u8], _verdict: Verdict, _acts: &mut Acts<'_>) {}

    /// What it makes of its work, when not what the scripted policy would.
    fn work(&mut self, _work: &Work, _acts: &mut Acts<'_>) -> Option<Input> {
        None
    }

    /// Whether it answers requests for repair.
    fn serves(&self) -> bool {
        true
    }

    /// What it says instead of its engine's answer to such a request.
    fn answer(&self, answer: Vec<u8>, _acts: &mut Acts<'_>) -> Vec<u8> {
        answer
    }

    /// What it gives the peer at a seat instead of a body that it holds.
    fn body(&self, _to: usize, bytes: &[u8], _acts: &mut Acts<'_>) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}
