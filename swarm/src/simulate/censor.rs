//! A network that works against the swarm: it delays what is said about certificates as it likes.
//!
//! Signatures of a view reach one peer, so that one alone knows a certificate; others learn of it now and then. All
//! peers are honest. Agreement must bear this for ever; only progress may suffer.

use std::collections::BTreeMap;

use super::dice::Dice;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{Kind, Signature};
use crate::topic::Topic;
use crate::wire;

use super::adversary::payload;

/// Certificates that reach somebody, in permille.
const CERTIFICATES_PERMILLE: u64 = 100;
/// Answers to requests for repair that reach who asked, in permille.
const REPAIRS_PERMILLE: u64 = 50;
/// Views remembered.
const VIEWS_MAX: usize = 64;

/// Who hears of what.
pub(super) struct Censor {
    dice: Dice,
    seats: u64,
    /// Per view, the seat that hears its signatures.
    hearers: BTreeMap<u32, usize>,
}

impl Censor {
    pub(super) fn new(seed: u64, seats: usize) -> Self {
        Self { dice: Dice::new(seed, "censor"), seats: seats as u64, hearers: BTreeMap::new() }
    }

    /// Whether a gossiped message may reach a seat.
    pub(super) fn passes(&mut self, to: usize, topic: Topic, bytes: &[u8]) -> bool {
        let Some(payload) = payload(bytes).filter(|_| topic == Topic::Control) else { return true };
        match payload.kind {
            Kind::Signature => {
                let Ok(signature) = wire::decode::<Signature>(&payload.body, ENVELOPE_BYTES_MAX) else {
                    return true;
                };
                while self.hearers.len() > VIEWS_MAX {
                    self.hearers.pop_first();
                }
                let seats = self.seats;
                let draw = || self.dice.below(seats) as usize;
                *self.hearers.entry(signature.view).or_insert_with(draw) == to
            }
            Kind::Certificate => self.dice.chance(CERTIFICATES_PERMILLE),
            _ => true,
        }
    }

    /// Whether an answer to a request for repair may pass.
    pub(super) fn repairs(&mut self) -> bool {
        self.dice.chance(REPAIRS_PERMILLE)
    }
}
