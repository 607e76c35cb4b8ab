//! What a peer that starts again takes from its log: what it still has to answer for, and what others may ask it for.

use std::collections::VecDeque;

use serde_bytes::ByteBuf;

use super::record::Record;
use crate::certificate::{CertificateError, unverified};
use crate::chain::{Link, Place};
use crate::limits::{CHAIN_MAX, ENVELOPE_BYTES_MAX, OFFENDERS_MAX, PROOF_BYTES_MAX};
use crate::manifest::Manifest;
use crate::message::{Envelope, Kind, Payload, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// Bytes of messages and bodies of one round that are taken back; what is beyond them is asked of other peers.
pub const RECALL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Gathered from a log, record by record.
///
/// The log was checked as a whole when it was opened, and its owner wrote into it only what it had verified, so
/// signatures on certificates are not verified again here.
#[derive(Debug)]
pub struct Recall {
    manifest: Manifest,
    swarm: SwarmId,
    start: Hash,
    /// Messages and bodies of the round that `start` started, in the order they came.
    pub(crate) round: Vec<Record>,
    bytes: usize,
    /// Records of that round for which there was no room.
    pub left_out: usize,
    /// Messages with proofs, the newest at most [`OFFENDERS_MAX`].
    pub(crate) proofs: VecDeque<Vec<u8>>,
    /// The newest certificates of one chain, oldest first, at most [`CHAIN_MAX`].
    pub(crate) chain: VecDeque<Link>,
}

impl Recall {
    /// Gathers what belongs to the round that the statement with the hash `start` started, and what outlives rounds.
    pub fn of(manifest: &Manifest, start: Hash) -> Self {
        Self {
            manifest: manifest.clone(),
            swarm: manifest.id(),
            start,
            round: Vec::new(),
            bytes: 0,
            left_out: 0,
            proofs: VecDeque::new(),
            chain: VecDeque::new(),
        }
    }

    /// Takes the next record of the log.
    pub fn note(&mut self, record: &Record) {
        match record {
            Record::Message { envelope, .. } => self.message(record, envelope),
            // Bodies are named by messages that came before them.
            Record::Body { bytes, .. } if !self.round.is_empty() => self.keep(record, bytes.len()),
            Record::Certificate { certificate } => self.certificates(&[ByteBuf::from(certificate.clone())]),
            Record::Gap { certificates, .. } => self.certificates(certificates),
            Record::Checkpoint { certificates } => self.checkpoint(certificates),
            Record::Opened { certificates, place, .. } => self.opened(certificates, place),
            Record::Body { .. }
            | Record::Header(_)
            | Record::Learner { .. }
            | Record::Training(_)
            | Record::Seal(_) => {}
        }
    }

    fn message(&mut self, record: &Record, envelope: &[u8]) {
        let read = wire::decode::<Envelope>(envelope, PROOF_BYTES_MAX);
        let Ok(payload) = read.and_then(|read| wire::decode::<Payload>(&read.payload, PROOF_BYTES_MAX))
        else {
            return;
        };
        if payload.kind == Kind::Proof {
            if self.proofs.len() == OFFENDERS_MAX {
                self.proofs.pop_front();
            }
            self.proofs.push_back(envelope.to_vec());
        } else if payload.start == self.start {
            self.keep(record, envelope.len());
        }
    }

    fn keep(&mut self, record: &Record, bytes: usize) {
        if self.bytes + bytes > RECALL_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.bytes += bytes;
        self.round.push(record.clone());
    }

    /// A start from what was stored; where the log has not what led there, the chain begins with it.
    fn opened(&mut self, certificates: &[ByteBuf], place: &[u8]) {
        let Some((first, later)) = certificates.split_first() else { return };
        let place = wire::decode::<Place>(place, ENVELOPE_BYTES_MAX).ok();
        let Some(first) = place.and_then(|place| Link::trusted(first, place).ok()) else { return };
        if !self.chain.iter().any(|link| link.hash == first.hash) {
            self.chain = VecDeque::from([first]);
        }
        self.certificates(later);
    }

    fn checkpoint(&mut self, certificates: &[ByteBuf]) {
        let Some((hash, _)) = certificates.last().and_then(|last| unverified(last)) else { return };
        if let Ok(link) = Link::vouched(certificates, &self.manifest, &self.swarm, &hash) {
            self.chain = VecDeque::from([link]);
        }
    }

    fn certificates(&mut self, certificates: &[ByteBuf]) {
        for bytes in certificates {
            let Some((hash, Statement { parent, .. })) = unverified(bytes) else { return };
            if self.chain.iter().rev().any(|link| link.hash == hash) {
                continue;
            }
            // On another branch, or from the genesis again, what came after its parent counts no more.
            let keep = self.chain.iter().rposition(|link| link.hash == parent).map_or(0, |at| at + 1);
            let known = keep.checked_sub(1).and_then(|at| self.chain.get(at));
            let Ok(link) = self.child(bytes, known) else { return };
            self.chain.truncate(keep);
            if self.chain.len() == CHAIN_MAX {
                self.chain.pop_front();
            }
            self.chain.push_back(link);
        }
    }

    fn child(&self, bytes: &[u8], parent: Option<&Link>) -> Result<Link, CertificateError> {
        Link::verify(bytes, &self.manifest, &self.swarm, parent, |_, _| true)
    }
}
