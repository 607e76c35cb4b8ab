//! From enough signatures, or somebody else's certificate, to the next round.
//!
//! A certificate is adopted when this peer settles the round that it ends to the same hashes; otherwise what is
//! missing is asked for.

use judge::PeerKey;

use super::event::Settled;
use super::rounds::Round;
use super::settle::{STATE_DOMAIN, items_hash, settled, settlement_hashes};
use super::{Engine, Output};
use crate::admission::{Admitted, Body, Refusal};
use crate::certificate::{CertificateError, statement_hash};
use crate::chain::Link;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::log::Record;
use crate::message::{Certificate, Kind, Signed, Statement};
use crate::wire::{self, Hash};

/// What comes to its end with a certificate.
pub(super) enum Ended {
    /// The wait before the first round; the state that it begins with.
    Genesis(judge::State),
    /// A round.
    Round(Box<judge::Settlement>),
}

impl Engine {
    /// The round that a statement here started, in progress or the one before.
    fn round_started_by(&self, start: &Hash) -> Option<&Round> {
        [&self.round, &self.previous].into_iter().flatten().find(|round| round.start == *start)
    }

    /// What a statement ends, if this peer holds everything that the statement includes and settles it to the
    /// same hashes.
    pub(super) fn ended_by(&self, statement: &Statement) -> Option<Ended> {
        let node = self.branches.get(&statement.parent)?;
        if node.link.is_none() {
            let founders = if self.listed.is_empty() { &statement.roster } else { &self.listed };
            let state = judge::State::founded_by(founders);
            let alike =
                statement.round == 1 && statement.state == Hash::of(STATE_DOMAIN, &[&wire::encode(&state)]);
            return alike.then_some(Ended::Genesis(state));
        }
        let round = self.round_started_by(&statement.parent)?;
        if items_hash(round, &node.roster, statement) != Some(statement.items) {
            return None;
        }
        let settlement = self.settle(node, round, statement)?;
        let alike = settlement_hashes(&settlement) == (statement.settlement, statement.state);
        (alike || !self.defences.recompute).then_some(Ended::Round(Box::new(settlement)))
    }

    /// Makes the certificate of a pending statement and moves on to its round.
    pub(super) fn certify(&mut self, now: u64, hash: &Hash, proposed_here: bool) {
        let Some(pending) = self.agreement.pending.get(hash) else { return };
        let electorates = self.electorates(&pending.statement);
        let entitled = |peer: &PeerKey| electorates.iter().any(|electorate| electorate.contains(peer));
        let by = self.agreement.signatures.get(&(pending.statement.view, *hash));
        let signatures = by.into_iter().flatten().filter(|(peer, _)| entitled(peer));
        let signatures: Vec<Signed> =
            signatures.map(|(&peer, &signature)| Signed { peer, signature }).collect();
        let certificate = Certificate { statement: pending.bytes.clone(), signatures };
        let parent = self.branches.get(&pending.statement.parent).and_then(|node| node.link.as_ref());
        let Ok(link) = self.verify(&wire::encode(&certificate), parent) else { return };
        let Some(ended) = self.ended_by(&link.statement) else {
            // A quorum holds a message that is missing here; without it this peer's state would be another one.
            let sender = pending.sender;
            return self.ask(now, sender);
        };
        if proposed_here {
            self.publish(Kind::Certificate, &certificate);
        }
        self.adopt(now, link, ended);
    }

    /// Checks a certificate; signatures that came one by one are not verified again.
    pub(super) fn verify(&self, bytes: &[u8], parent: Option<&Link>) -> Result<Link, CertificateError> {
        let known = |hash: &Hash, signed: &Signed| {
            let by = self.agreement.signatures.iter().find(|((_, of), _)| of == hash);
            by.is_some_and(|(_, by)| by.get(&signed.peer) == Some(&signed.signature))
        };
        Link::verify_under(self.defences, bytes, &self.manifest, &self.swarm, parent, known)
    }

    pub(super) fn accept_certificate(&mut self, now: u64, message: &Admitted) -> Result<(), Refusal> {
        let Body::Certificate(certificate) = &message.body else {
            return Err(Refusal::Reject("not a certificate"));
        };
        let statement: Statement = wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX)
            .map_err(|_| Refusal::Reject("a certificate without a statement"))?;
        if self.branches.get(&statement_hash(&certificate.statement)).is_some()
            || statement.view <= self.final_view()
        {
            return Err(Refusal::Known("already here"));
        }
        let Some(parent) = self.branches.get(&statement.parent) else {
            self.ask(now, message.sender);
            return Err(Refusal::Ignore("a certificate that something is missing for"));
        };
        let link = self
            .verify(&wire::encode(certificate), parent.link.as_ref())
            .map_err(|_| Refusal::Ignore("a certificate that does not verify"))?;
        if !self.branches.is_better(&link) {
            return Err(Refusal::Known("a certificate of a branch that lost"));
        }
        let Some(ended) = self.ended_by(&link.statement) else {
            self.ask(now, message.sender);
            return Err(Refusal::Ignore("a certificate that something is missing for"));
        };
        self.adopt(now, link, ended);
        Ok(())
    }

    /// Goes on from a certificate and what this peer computed that it ends.
    fn adopt(&mut self, now: u64, link: Link, ended: Ended) {
        if self.checkpoint.is_some() {
            return; // it follows from there alone
        }
        let (state, settlement) = match ended {
            Ended::Genesis(state) => (state, None),
            Ended::Round(settlement) => (settlement.next.clone(), Some(settlement)),
        };
        let parent = &link.statement.parent;
        let round = self.branches.get(parent).zip(self.round_started_by(parent));
        let settled = round.zip(settlement).map(|((node, round), settlement)| {
            let (durations_ms, voids) = (round.durations_ms.clone(), self.agreement.voids);
            Settled { durations_ms, voids, ..settled(round, &node.roster, &link, *settlement) }
        });
        self.output(Output::Log(Record::Certificate { certificate: link.bytes.clone() }));
        let muted = self.set_head(vec![link], state);
        if let Some(settled) = settled {
            self.tell_audits(&settled.settlement);
            self.forget_decided(&settled.settlement);
            self.output(Output::Settled(Box::new(settled)));
        }
        self.open_round(now, muted);
    }
}
