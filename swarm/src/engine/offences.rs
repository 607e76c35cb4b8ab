//! Peers that said two things where they may say one: found, proven to everybody, left out.
//!
//! Whoever holds both messages publishes the [`Proof`]; one for each offender goes round. From then on a peer
//! proposes and signs no roster with the offender. A statement names the offenders that it convicts, and every
//! later one names them too, so whoever joins later learns it with the certificate. A peer signs a new conviction
//! only if it holds the proof itself.

use std::collections::{BTreeMap, VecDeque};

use judge::PeerKey;
use serde_bytes::ByteBuf;

use super::event::Event;
use super::{Engine, Output};
use crate::admission::{Admitted, Body, Refusal};
use crate::chain::Link;
use crate::limits::{ENVELOPE_BYTES_MAX, HEARD_BYTES_MAX, OFFENDERS_MAX, ROSTER_MAX};
use crate::log::Record;
use crate::message::{Certificate, Kind, Statement};
use crate::proof::{Claim, Evidence, Offence, Proof, Slot};
use crate::wire::{self, Hash};

/// A message with a proof that this peer checked.
struct Proven {
    id: Hash,
    bytes: Vec<u8>,
}

/// A proposal or signature, kept to be compared with later ones.
struct Heard {
    slot: Slot,
    content: Hash,
    bytes: Vec<u8>,
}

/// What this peer knows of offenders.
#[derive(Default)]
pub(super) struct Offences {
    proofs: BTreeMap<PeerKey, Proven>,
    /// By author, newest last; the messages of a round have slots of their own.
    heard: BTreeMap<PeerKey, VecDeque<Heard>>,
}

impl Offences {
    /// The message of another content that `claim`'s author filled the same slot with.
    fn contradicted(&self, claim: &Claim) -> Option<&Heard> {
        let heard = self.heard.get(&claim.peer)?;
        heard.iter().find(|heard| heard.slot == claim.slot && heard.content != claim.content)
    }

    pub(super) fn len(&self) -> usize {
        self.proofs.len()
    }

    /// Keeps a message with a proof against `peer`.
    pub(super) fn hold(&mut self, message: Admitted, peer: PeerKey) {
        self.proofs.insert(peer, Proven { id: message.id, bytes: message.bytes });
    }

    fn remember(&mut self, claim: &Claim, bytes: &[u8]) {
        let heard = self.heard.entry(claim.peer).or_default();
        if heard.iter().any(|heard| heard.slot == claim.slot) {
            return;
        }
        heard.push_back(Heard { slot: claim.slot, content: claim.content, bytes: bytes.to_vec() });
        while heard.iter().map(|heard| heard.bytes.len()).sum::<usize>() > HEARD_BYTES_MAX {
            heard.pop_front();
        }
    }
}

impl Engine {
    /// Whether a peer is proven or convicted to have said two things.
    pub(super) fn is_offender(&self, peer: &PeerKey) -> bool {
        self.offences.proofs.contains_key(peer) || self.convicted().binary_search(peer).is_ok()
    }

    /// Peers convicted by the newest certificate, sorted.
    fn convicted(&self) -> &[PeerKey] {
        self.head().link.as_ref().map_or(&[], |link| &link.statement.offenders)
    }

    /// Whom a statement on the head convicts: everybody convicted before, and as many more as there is room for.
    pub(super) fn offenders(&self) -> Vec<PeerKey> {
        let convicted = self.convicted();
        let room = OFFENDERS_MAX.saturating_sub(convicted.len());
        let new = self.offences.proofs.keys().filter(|peer| convicted.binary_search(peer).is_err());
        let mut offenders: Vec<PeerKey> = convicted.iter().chain(new.take(room)).copied().collect();
        offenders.sort_unstable();
        offenders
    }

    /// Whether this peer holds a proof of every new conviction of a statement, and knows nothing against its roster.
    pub(super) fn convicts_rightly(&self, statement: &Statement) -> bool {
        statement.offenders.iter().all(|peer| self.is_offender(peer))
            && !statement.roster.iter().any(|peer| self.is_offender(peer))
    }

    /// Proofs that no certificate has acted on yet, for peers that lack them.
    pub(super) fn proofs(&self) -> impl Iterator<Item = (&Hash, &[u8])> {
        let open = |peer: &PeerKey| self.convicted().binary_search(peer).is_err();
        let proofs = self.offences.proofs.iter().filter(move |(peer, _)| open(peer));
        proofs.map(|(_, proven)| (&proven.id, &proven.bytes[..]))
    }

    /// Compares a proposal or signature of an entitled peer with what it said before.
    pub(super) fn compare(&mut self, now: u64, message: &Admitted) {
        if !matches!(message.body, Body::Proposal(_) | Body::Signature(_))
            || !self.is_entitled(now, &message.sender)
        {
            return;
        }
        let evidence = Evidence::Envelope(ByteBuf::from(message.bytes.clone()));
        let Ok(claim) = evidence.claim(&self.swarm) else { return };
        match self.offences.contradicted(&claim) {
            Some(heard) => {
                let first = Evidence::Envelope(ByteBuf::from(heard.bytes.clone()));
                self.accuse(Proof { first, second: evidence });
            }
            None => self.offences.remember(&claim, &message.bytes),
        }
        if self.offences.heard.len() > ROSTER_MAX {
            // Who may neither sign nor play any more is not watched.
            let mut heard = std::mem::take(&mut self.offences.heard);
            heard.retain(|peer, _| self.is_entitled(now, peer));
            self.offences.heard = heard;
        }
    }

    /// Compares the signatures of verified certificates with those that came one by one, and with those of other
    /// certificates of the same view.
    pub(super) fn compare_signatures(&mut self, links: &[Link]) {
        let mut proofs = Vec::new();
        for link in links {
            let rivals = self.branches.of_view(link.statement.view).filter(|rival| rival.hash != link.hash);
            let mut others: BTreeMap<PeerKey, Evidence> = BTreeMap::new();
            for rival in rivals {
                others.extend(signatures(&rival.bytes));
            }
            for (peer, second) in signatures(&link.bytes) {
                let slot = Slot::Signature { view: link.statement.view };
                let heard = self.offences.contradicted(&Claim { peer, slot, content: link.hash });
                let first = heard.map(|heard| Evidence::Envelope(ByteBuf::from(heard.bytes.clone())));
                proofs.extend(first.or_else(|| others.remove(&peer)).map(|first| Proof { first, second }));
            }
        }
        for proof in proofs {
            self.accuse(proof);
        }
    }

    /// Publishes a proof that this peer found, unless there is one against that peer already.
    pub(super) fn accuse(&mut self, proof: Proof) {
        // What does not verify is a certificate's signature that nobody checked because enough others were good.
        let Ok(Offence { peer, slot }) = proof.verify(&self.swarm) else { return };
        if self.is_offender(&peer) || self.offences.proofs.len() >= OFFENDERS_MAX || !self.defences.proofs {
            return;
        }
        if let Some(message) = self.signed(Kind::Proof, &proof) {
            let bytes = message.bytes.clone();
            self.take_proof(message, Offence { peer, slot });
            self.output(Output::Publish(Kind::Proof.topic(), bytes));
        }
    }

    /// Takes a proof that verified from somebody else.
    pub(super) fn accept_proof(
        &mut self,
        now: u64,
        message: Admitted,
        offence: Offence,
    ) -> Result<(), Refusal> {
        if self.is_offender(&offence.peer) {
            return Err(Refusal::Known("a proof against a known offender"));
        }
        // Anybody can make keys and convict them, so that the table is full when it matters.
        if !self.has_played(now, &offence.peer) {
            return Err(Refusal::Ignore("a proof against a stranger"));
        }
        if self.offences.proofs.len() >= OFFENDERS_MAX || !self.defences.proofs {
            return Err(Refusal::Ignore("more offenders than are remembered"));
        }
        self.take_proof(message, offence);
        Ok(())
    }

    fn has_played(&self, now: u64, peer: &PeerKey) -> bool {
        let known = self.head().state.as_ref().is_some_and(|state| state.reputations.contains_key(peer));
        known || *peer == self.me || self.is_entitled(now, peer)
    }

    /// Keeps a proof. It is in the log before this peer signs the conviction.
    fn take_proof(&mut self, message: Admitted, Offence { peer, slot }: Offence) {
        self.output(Output::Log(Record::Message { late: false, envelope: message.bytes.clone() }));
        self.offences.heard.remove(&peer);
        self.event(Event::Equivocated { peer, slot, proof: message.bytes.clone() });
        self.offences.hold(message, peer);
    }
}

/// The signatures of an encoded certificate, as evidence.
fn signatures(certificate: &[u8]) -> Vec<(PeerKey, Evidence)> {
    let Ok(Certificate { statement, signatures }) = wire::decode(certificate, ENVELOPE_BYTES_MAX) else {
        return Vec::new();
    };
    let evidence = |signed| Evidence::Signature { statement: ByteBuf::from(statement.clone()), signed };
    signatures.into_iter().map(|signed| (signed.peer, evidence(signed))).collect()
}
