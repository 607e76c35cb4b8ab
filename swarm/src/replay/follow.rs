//! Where a log goes on from: what its owner had stored, a checkpoint, certificates that it only followed.

use serde_bytes::ByteBuf;

use super::Finding;
use super::fold::Fold;
use super::names::refuted;
use crate::certificate::{CertificateError, statement_hash};
use crate::chain::{Link, Place};
use crate::engine::STATE_DOMAIN;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::log::RECORD_BYTES_MAX;
use crate::message::{Certificate, Statement};
use crate::wire::{self, Hash};

impl Fold {
    /// A start: the peer goes on from what it had stored.
    pub(super) fn open(
        &mut self,
        certificates: &[ByteBuf],
        place: &[u8],
        state: &[u8],
    ) -> Result<(), Finding> {
        let Some((first, later)) = certificates.split_first() else { return Ok(()) };
        let wrong = |field: &'static str, why: String| Finding::new("start", field, why);
        let place: Place =
            wire::decode(place, ENVELOPE_BYTES_MAX).map_err(|why| wrong("place", why.to_string()))?;
        let refused = |why: CertificateError| wrong("certificates", why.to_string());
        let mut newest = Link::trusted(first, place).map_err(refused)?;
        for bytes in later {
            newest = self.verify(bytes, Some(&newest)).map_err(refused)?;
        }
        let state = self.state("start", state, &newest.statement)?;
        if let Some(known) = self.held(&newest.hash) {
            let same = known.link.as_ref().is_some_and(|known| *known == newest);
            let why = || wrong("certificates", "are not those logged before".into());
            return same.then_some(()).ok_or_else(why);
        }
        // Stored by a start that this log does not hold: there is nothing to check it against.
        self.skip(newest.statement.round, false);
        self.push(newest, state, None);
        Ok(())
    }

    /// A checkpoint: the owner's word for a certificate, and those before it that say who signs after it.
    pub(super) fn checkpoint(&mut self, certificates: &[ByteBuf]) -> Result<(), Finding> {
        let wrong = |why: String| Finding::new("checkpoint", "certificates", why);
        let last = certificates.last().ok_or_else(|| wrong("there are none".into()))?;
        let last: Certificate =
            wire::decode(last, ENVELOPE_BYTES_MAX).map_err(|why| wrong(why.to_string()))?;
        let hash = statement_hash(&last.statement);
        let link = Link::vouched(certificates, &self.manifest, &self.swarm, &hash)
            .map_err(|why| wrong(why.to_string()))?;
        self.skip(link.statement.round, false);
        self.followed = Some(link);
        Ok(())
    }

    /// Certificates that were followed without the messages of their rounds.
    pub(super) fn gap(&mut self, certificates: &[ByteBuf], state: &[u8]) -> Result<(), Finding> {
        let wrong = |field: &str, why: String| Finding::new("gap", field, why);
        let mut newest: Option<Link> = None;
        for bytes in certificates {
            let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX)
                .map_err(|why| wrong("certificates", why.to_string()))?;
            let known = self.held(&statement_hash(&certificate.statement));
            let known = known.and_then(|held| held.link.clone());
            let again = self.followed.as_ref().filter(|followed| followed.bytes == **bytes);
            if let Some(known) = known.as_ref().or(again) {
                newest = Some(known.clone());
                continue;
            }
            let parent = match &newest {
                Some(newest) => Some(newest.clone()),
                None => self.parent_of(&certificate),
            };
            let link = self.verify(bytes, parent.as_ref()).map_err(|error| {
                let statement: Option<Statement> =
                    wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok();
                let (field, why) = refuted(statement.as_ref(), &error);
                let ended = parent.as_ref().map_or(0, |parent| parent.statement.round);
                wrong(field, format!("of a certificate that was followed: {why}")).in_round(ended)
            })?;
            self.convict(&link)?;
            newest = Some(link);
        }
        let Some(newest) = newest else { return Err(wrong("certificates", "there are none".into())) };
        if state.is_empty() {
            self.followed = Some(newest);
            return Ok(());
        }
        self.followed = None;
        let state = self.state("gap", state, &newest.statement)?;
        if self.held(&newest.hash).is_none() {
            self.skip(newest.statement.round, true);
            self.push(newest, state, None);
        }
        Ok(())
    }

    /// The held certificate that another one names as its parent.
    fn parent_of(&self, certificate: &Certificate) -> Option<Link> {
        let statement: Statement = wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok()?;
        let followed = self.followed.as_ref().filter(|followed| followed.hash == statement.parent);
        followed.or_else(|| self.held(&statement.parent)?.link.as_ref()).cloned()
    }

    /// A state that must be the one a statement names.
    fn state(
        &self,
        what: &'static str,
        bytes: &[u8],
        statement: &Statement,
    ) -> Result<judge::State, Finding> {
        let hash = Hash::of(STATE_DOMAIN, &[bytes]);
        if hash != statement.state {
            return Err(Finding::new(what, "state", "is not the one that its certificate names"));
        }
        wire::decode(bytes, RECORD_BYTES_MAX).map_err(|why| Finding::new(what, "state", why.to_string()))
    }
}
