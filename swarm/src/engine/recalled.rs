//! Going on after a restart: from what was stored, and from what the log has besides.
//!
//! What is stored says where this peer stood; without the rest it would have to ask for everything that it knew.
//! The log brings back the messages and bodies of the round in progress (without them, a swarm that stopped as a whole
//! would have lost the round), proofs that no certificate has acted on, and certificates for newcomers. Nothing of
//! it is said or logged again, and the peer stays silent in the round that it comes back to: what the log holds of
//! its own words is enough to be judged by, not enough to go on with (nonce and completions died with the process).

use super::settle::STATE_DOMAIN;
use super::{Engine, Output, Resume, StoredHead};
use crate::admission::{self, Admitted, Body};
use crate::blob::Address;
use crate::chain::Link;
use crate::limits::OFFENDERS_MAX;
use crate::log::{Recall, Record};
use crate::manifest::ManifestError;
use crate::wire::{self, Hash};

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A manifest that cannot work.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The stored certificates or state cannot be read.
    #[error(
        "the stored certificates cannot be used: {0}\nhint: nothing is lost, the log has them too; move the stored file away (not the log) and start again: the peer then catches up with the others, and says nothing until it cannot contradict what it has signed"
    )]
    Stored(String),
}

impl StoredHead {
    /// Hash of the statement that started the stored round; the swarm id before the first.
    ///
    /// # Errors
    /// [`StartError::Stored`].
    pub fn start(&self, swarm: Hash) -> Result<Hash, StartError> {
        let Some(newest) = self.path.last() else { return Ok(swarm) };
        let place = wire::decode(&self.place, crate::limits::ENVELOPE_BYTES_MAX);
        let place = place.map_err(|why| StartError::Stored(why.to_string()))?;
        Link::trusted(newest, place).map(|link| link.hash).map_err(|why| StartError::Stored(why.to_string()))
    }
}

impl Engine {
    /// Continues from what an earlier run stored. It may have spoken in the stored round already, so it
    /// says nothing more in it.
    pub(super) fn resume(&mut self, now: u64, resume: &Resume) -> Result<(), StartError> {
        if resume.head == StoredHead::default() {
            return Ok(());
        }
        let links = self.stored_links(&resume.head).map_err(StartError::Stored)?;
        let covers = |link: &Link| link.statement.state == Hash::of(STATE_DOMAIN, &[&resume.head.state]);
        if !links.last().is_some_and(covers) {
            return Err(StartError::Stored("the state is not the one that the newest of them names".into()));
        }
        let state = wire::decode::<judge::State>(&resume.head.state, usize::MAX)
            .map_err(|why| StartError::Stored(why.to_string()))?;
        self.set_head(links, state);
        self.open_round(now, true);
        Ok(())
    }

    /// Takes back what the log has besides. See [`super::Input::Recalled`].
    pub(super) fn take_recall(&mut self, recall: Recall) {
        self.branches.remember(recall.chain);
        for envelope in &recall.proofs {
            self.recall_proof(envelope);
        }
        for record in recall.round {
            match record {
                Record::Message { envelope, .. } => self.recall_message(&envelope),
                Record::Body { blob, bytes } => self.recall_body(blob, bytes),
                _ => {}
            }
        }
    }

    fn recalled(&self, envelope: &[u8]) -> Option<Admitted> {
        let message = admission::authenticate(&self.swarm, None, envelope).ok()?;
        admission::admit(&self.manifest, message).ok()
    }

    fn recall_proof(&mut self, envelope: &[u8]) {
        let Some(message) = self.recalled(envelope) else { return };
        if let Body::Proof(_, offence) = message.body
            && !self.is_offender(&offence.peer)
            && self.offences.len() < OFFENDERS_MAX
        {
            self.offences.hold(message, offence.peer);
        }
    }

    fn recall_message(&mut self, envelope: &[u8]) {
        let Some(message) = self.recalled(envelope).filter(|message| message.start == self.newest().1) else {
            return;
        };
        if let Some(round) = &mut self.round {
            round.play.items.place(message);
        }
    }

    fn recall_body(&mut self, blob: Address, bytes: Vec<u8>) {
        let number = self.round_number();
        let Some(round) = &mut self.round else { return };
        let filled = round.play.items.take_body(&self.manifest, &blob, &bytes);
        if filled.iter().any(|(_, _, outcome)| outcome.is_ok()) {
            self.output(Output::Keep { round: number, blob, bytes });
        }
    }
}
