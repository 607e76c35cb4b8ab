//! Propose → sign → certify.
//!
//! Views rise by one; the beacon names one proposer a view. A peer signs a statement if it builds on
//! the newest certificate it knows, includes only messages it holds, and states the settlement it
//! computes itself. It signs at most one statement a view, in rising views, and its signature is on
//! disk before it is sent. Without a certificate by the deadline the view is void and the next
//! proposer proposes the same round again: the answers are not lost.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::event::Event;
use super::settle::{STATE_DOMAIN, items_hash, settled, settlement_hashes};
use super::{Engine, Output, Persist, Resume};
use crate::admission::{Admitted, Body, Refusal};
use crate::bitmap::Bitmap;
use crate::certificate::{self, Certified, Electorate, beacon, proposer, read_statement, statement_hash};
use crate::identity;
use crate::limits::{
    BEHIND_VIEWS_MAX, CHAIN_MAX, ENVELOPE_BYTES_MAX, PROPOSALS_MAX, ROSTER_MAX, STATEMENTS_MAX,
};
use crate::manifest::Manifest;
use crate::message::{Certificate, Kind, Proposal, STATEMENT_DOMAIN, Signature, Signed, Statement};
use crate::wire::{self, Hash, Sig};

/// A proposal whose time has not come.
struct Pending {
    sender: PeerKey,
    statement: Statement,
    bytes: Vec<u8>,
}

/// What this peer knows of the views after its head.
pub(super) struct Agreement {
    signed_view: u32,
    /// Views given up since the head.
    voids: u32,
    proposed_view: u32,
    until_ms: u64,
    view_ms: u64,
    pending: BTreeMap<Hash, Pending>,
    signatures: BTreeMap<(u32, Hash), BTreeMap<PeerKey, Sig>>,
}

impl Agreement {
    pub(super) fn new(signed_view: u32, now: u64, manifest: &Manifest) -> Self {
        let view_ms = manifest.round.view_deadline_ms.into();
        Self {
            signed_view,
            voids: 0,
            proposed_view: 0,
            until_ms: now + view_ms,
            view_ms,
            pending: BTreeMap::new(),
            signatures: BTreeMap::new(),
        }
    }

    /// Deadline of the view in progress.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Proposals and statements held.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.pending.len(), self.signatures.len())
    }

    /// Forgets what a new head at `view` has overtaken.
    fn restart(&mut self, view: u32) {
        self.voids = 0;
        self.until_ms = u64::MAX;
        self.pending.retain(|_, pending| pending.statement.view > view);
        self.signatures.retain(|(of, _), _| *of > view);
    }
}

impl Engine {
    /// Continues from what an earlier run stored. It may have spoken in the stored round already, so it
    /// says nothing more in it.
    pub(super) fn resume(&mut self, now: u64, resume: &Resume) {
        let Ok(certificate) = wire::decode::<Certificate>(&resume.certificate, ENVELOPE_BYTES_MAX) else {
            return;
        };
        let Ok(statement) = read_statement(&certificate.statement, ROSTER_MAX) else { return };
        let Ok(state) = wire::decode::<judge::State>(&resume.state, usize::MAX) else { return };
        if Hash::of(STATE_DOMAIN, &[&resume.state]) != statement.state {
            return;
        }
        let hash = statement_hash(&certificate.statement);
        let certified = Certified { statement, hash, bytes: resume.certificate.clone() };
        self.set_head(certified, state);
        self.open_round(now, true);
    }

    /// Starts the first view after a round's votes are closed.
    pub(super) fn open_views(&mut self, now: u64) {
        self.agreement.until_ms = now + self.agreement.view_ms;
    }

    fn view(&self) -> u32 {
        self.newest().0.saturating_add(1).saturating_add(self.agreement.voids)
    }

    /// Whose turn it is in `view`. Before the first certificate of an open swarm that is the lowest
    /// key among the peers to start with.
    fn proposer(&self, now: u64, view: u32) -> Option<PeerKey> {
        if self.round.is_none() && self.listed.is_empty() {
            return self.present(now).first().copied();
        }
        proposer(&self.head.roster, &self.head.beacon, view)
    }

    /// Peers that want in, this one included, sorted.
    fn present(&self, now: u64) -> Vec<PeerKey> {
        let ready = self.presence.live(now).filter(|(_, seen)| seen.ready).map(|(&peer, _)| peer);
        let mut peers: Vec<PeerKey> = ready.collect();
        if self.ready && self.leaving.is_none() {
            peers.push(self.me);
        }
        peers.sort();
        peers.truncate(ROSTER_MAX);
        peers
    }

    /// Proposes when it is this peer's turn; gives a view up when its deadline has passed or its
    /// proposer is known to be gone.
    pub(super) fn pursue_agreement(&mut self, now: u64) {
        if self.round.as_ref().is_some_and(|round| !round.settling()) {
            return;
        }
        // As many views as there are members can be skipped at once: their proposers are all gone.
        for _ in 0..=self.head.roster.len() {
            let view = self.view();
            let Some(proposer) = self.proposer(now, view) else { break };
            if proposer == self.me {
                self.propose(now, view);
            }
            let absent = self.round.as_ref().is_some_and(|round| round.missed.contains_key(&proposer))
                || (self.round.is_some() && proposer != self.me && self.presence.left(&proposer));
            if now < self.agreement.until_ms && !absent {
                break;
            }
            if self.round.is_some() {
                self.event(Event::ViewVoid { view, proposer });
            }
            self.agreement.voids = self.agreement.voids.saturating_add(1);
            self.agreement.until_ms = now + self.agreement.view_ms;
        }
    }

    fn propose(&mut self, now: u64, view: u32) {
        let entitled = self.round.is_none() || self.is_member();
        if self.agreement.proposed_view >= view || self.agreement.signed_view >= view || !entitled {
            return;
        }
        let Some(statement) = self.statement(now, view) else { return };
        self.agreement.proposed_view = view;
        let bytes = wire::encode(&statement);
        self.publish(Kind::Proposal, &Proposal { statement: bytes.clone() });
        self.agreement.pending.insert(statement_hash(&bytes), Pending { sender: self.me, statement, bytes });
        self.consider_proposals(now);
    }

    /// The statement this peer would make now, or `None` while too few peers are present to start.
    fn statement(&self, now: u64, view: u32) -> Option<Statement> {
        let (_, parent) = self.newest();
        let Some(round) = &self.round else { return self.genesis_statement(now, view, parent) };
        let included = |has: &dyn Fn(&PeerKey) -> bool| -> Bitmap {
            self.head.roster.iter().enumerate().filter(|(_, peer)| has(peer)).map(|(i, _)| i).collect()
        };
        let mut statement = Statement {
            view,
            round: self.round_number().saturating_add(1),
            parent,
            commits: included(&|peer| round.items.committed(peer)),
            answers: included(&|peer| round.items.answered(peer)),
            critiques: included(&|peer| round.items.critiqued(peer)),
            ballots: included(&|peer| round.items.voted(peer)),
            items: Hash::default(),
            settlement: Hash::default(),
            state: Hash::default(),
            roster: self.next_roster(now),
        };
        let settlement = self.settle(round, &statement);
        statement.items = items_hash(round, &self.head.roster, &statement)?;
        (statement.settlement, statement.state) = settlement_hashes(&settlement);
        Some(statement)
    }

    fn genesis_statement(&self, now: u64, view: u32, parent: Hash) -> Option<Statement> {
        let present = self.present(now);
        let roster: Vec<PeerKey> = if self.listed.is_empty() {
            present
        } else {
            present.into_iter().filter(|peer| self.listed.binary_search(peer).is_ok()).collect()
        };
        // Somebody ahead means that the swarm has started: catch up instead.
        let started = self.presence.live(now).any(|(_, seen)| seen.view > 0);
        // A listed genesis waits one view for everybody and then starts with enough.
        let wanted = if self.agreement.voids < 2 { self.listed.len() } else { 0 };
        let enough = usize::from(self.manifest.genesis.peers_min).max(wanted).max(1);
        if started || roster.len() < enough {
            return None;
        }
        let founders = if self.listed.is_empty() { &roster } else { &self.listed };
        let state = wire::encode(&judge::State::founded_by(founders));
        Some(Statement {
            view,
            round: 1,
            parent,
            commits: Bitmap::default(),
            answers: Bitmap::default(),
            critiques: Bitmap::default(),
            ballots: Bitmap::default(),
            items: Hash::default(),
            settlement: Hash::default(),
            state: Hash::of(STATE_DOMAIN, &[&state]),
            roster,
        })
    }

    /// Who plays the next round: members that showed life, and peers that ask to come in.
    fn next_roster(&self, now: u64) -> Vec<PeerKey> {
        let newest = self.newest().0;
        let near = newest.saturating_sub(BEHIND_VIEWS_MAX);
        let caught_up = |peer: &PeerKey| self.presence.get(peer).is_some_and(|seen| seen.view >= near);
        let wants_in = |peer: &PeerKey| {
            self.head.roster.binary_search(peer).is_ok() && !self.presence.left(peer) || caught_up(peer)
        };
        let mut roster: Vec<PeerKey> = self
            .present(now)
            .into_iter()
            .filter(|peer| *peer == self.me || wants_in(peer) && self.presence.shows_life(peer))
            .collect();
        if roster.is_empty() {
            roster = vec![self.me];
        }
        roster
    }

    pub(super) fn accept_proposal(&mut self, now: u64, sender: PeerKey, bytes: &[u8]) -> Result<(), Refusal> {
        let statement: Statement = wire::decode(bytes, ENVELOPE_BYTES_MAX)
            .map_err(|_| Refusal::Reject("a proposal without a statement"))?;
        let (view, parent) = self.newest();
        if !self.is_entitled(now, &sender) {
            return Err(Refusal::Ignore("a proposal of a peer outside the roster"));
        }
        if statement.view <= view {
            return Err(Refusal::Known("a proposal of an old view"));
        }
        if statement.parent != parent {
            self.ask(now, sender);
            return Err(Refusal::Ignore("a proposal on another certificate"));
        }
        let statement = read_statement(bytes, self.ending_members())
            .map(|_| statement)
            .map_err(|_| Refusal::Ignore("a proposal that contradicts itself"))?;
        let pending = &mut self.agreement.pending;
        if pending.values().any(|other| other.sender == sender && other.statement.view == statement.view)
            || pending.len() >= PROPOSALS_MAX
        {
            return Err(Refusal::Ignore("a second proposal for one view"));
        }
        pending.insert(statement_hash(bytes), Pending { sender, statement, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Members of the roster whose round a statement on the head would end.
    fn ending_members(&self) -> usize {
        if self.head.certified.is_some() { self.head.roster.len() } else { 0 }
    }

    /// Signs what can be signed and certifies what has enough signatures.
    pub(super) fn consider_proposals(&mut self, now: u64) {
        let ready: Vec<Hash> =
            self.agreement.pending.iter().filter(|(_, p)| self.may_sign(now, p)).map(|(h, _)| *h).collect();
        for hash in ready {
            self.sign(&hash);
        }
        let mut certified = None;
        for (hash, pending) in &self.agreement.pending {
            let electorate = self.electorate(&pending.statement);
            let signatures = self.agreement.signatures.get(&(pending.statement.view, *hash));
            if signatures.is_some_and(|signatures| signatures.len() >= electorate.needed) {
                certified = Some((*hash, pending.sender == self.me));
            }
        }
        if let Some((hash, proposed_here)) = certified {
            self.certify(now, &hash, proposed_here);
        }
    }

    fn electorate(&self, statement: &Statement) -> Electorate {
        if self.head.certified.is_some() {
            Electorate::of_roster(&self.head.roster, self.manifest.faults)
        } else {
            Electorate::of_genesis(&self.manifest, &self.listed, statement)
        }
    }

    /// Whether a peer's proposals and signatures are kept: strangers must not fill the bounded tables.
    fn is_entitled(&self, now: u64, peer: &PeerKey) -> bool {
        if self.head.certified.is_none() && self.listed.is_empty() {
            return self.present(now).binary_search(peer).is_ok();
        }
        self.head.roster.binary_search(peer).is_ok()
    }

    fn may_sign(&self, now: u64, pending: &Pending) -> bool {
        let Pending { sender, statement, .. } = pending;
        let (_, parent) = self.newest();
        statement.view > self.agreement.signed_view
            && statement.parent == parent
            && self.electorate(statement).contains(&self.me)
            && self.ready
            && self.is_proposer(now, sender, statement)
            && self.settles_alike(statement)
            && statement.roster.iter().all(|peer| self.may_enter(now, peer))
    }

    fn is_proposer(&self, now: u64, sender: &PeerKey, statement: &Statement) -> bool {
        if self.head.certified.is_none() && self.listed.is_empty() {
            // Unanimity makes an open genesis safe; the lowest key only keeps proposals few.
            return statement.roster.first() == Some(sender);
        }
        // A peer whose clock is a view behind signs; one that would skip many views does not.
        statement.view <= self.view().saturating_add(1) && self.proposer(now, statement.view) == Some(*sender)
    }

    fn may_enter(&self, now: u64, peer: &PeerKey) -> bool {
        let member = self.head.certified.is_some() && self.head.roster.binary_search(peer).is_ok();
        let present = || self.presence.live(now).any(|(live, seen)| live == peer && seen.ready);
        // A member that left meanwhile does no harm: nobody waits for it.
        *peer == self.me || member || present()
    }

    /// Whether this peer holds everything the statement includes and settles it to the same hashes.
    fn settles_alike(&self, statement: &Statement) -> bool {
        match &self.round {
            Some(round) if self.head.certified.is_some() => {
                items_hash(round, &self.head.roster, statement) == Some(statement.items)
                    && settlement_hashes(&self.settle(round, statement))
                        == (statement.settlement, statement.state)
            }
            _ => {
                let founders = if self.listed.is_empty() { &statement.roster } else { &self.listed };
                let state = wire::encode(&judge::State::founded_by(founders));
                statement.round == 1 && statement.state == Hash::of(STATE_DOMAIN, &[&state])
            }
        }
    }

    fn sign(&mut self, hash: &Hash) {
        let Some(view) = self.agreement.pending.get(hash).map(|pending| pending.statement.view) else {
            return;
        };
        if view <= self.agreement.signed_view {
            return;
        }
        self.agreement.signed_view = view;
        self.output(Output::Persist(Persist::SignedView(view)));
        let signature = Sig(self.identity.sign(STATEMENT_DOMAIN, &hash.0));
        self.publish(Kind::Signature, &Signature { view, statement: *hash, signature });
        self.agreement.signatures.entry((view, *hash)).or_default().insert(self.me, signature);
    }

    pub(super) fn accept_signature(
        &mut self,
        now: u64,
        sender: PeerKey,
        signature: &Signature,
    ) -> Result<(), Refusal> {
        if !identity::verify(&sender, STATEMENT_DOMAIN, &signature.statement.0, &signature.signature.0) {
            return Err(Refusal::Reject("a signature that does not verify"));
        }
        if !self.is_entitled(now, &sender) {
            return Err(Refusal::Ignore("a signature of a peer outside the roster"));
        }
        if signature.view <= self.newest().0 {
            return Err(Refusal::Known("a signature of an old view"));
        }
        let slot = (signature.view, signature.statement);
        let signatures = &mut self.agreement.signatures;
        if signatures
            .iter()
            .any(|((view, other), by)| *view == slot.0 && *other != slot.1 && by.contains_key(&sender))
        {
            self.event(Event::Equivocated { peer: sender });
            return Err(Refusal::Ignore("two signatures in one view"));
        }
        if !signatures.contains_key(&slot) && signatures.len() >= STATEMENTS_MAX {
            return Err(Refusal::Ignore("too many statements at once"));
        }
        let by = signatures.entry(slot).or_default();
        if by.len() >= ROSTER_MAX {
            return Err(Refusal::Ignore("more signatures than a roster has members"));
        }
        if by.insert(sender, signature.signature).is_some() {
            return Err(Refusal::Known("already here"));
        }
        self.consider_proposals(now);
        Ok(())
    }

    /// Makes the certificate of a pending statement and moves on to its round.
    fn certify(&mut self, now: u64, hash: &Hash, proposed_here: bool) {
        let Some(pending) = self.agreement.pending.get(hash) else { return };
        let electorate = self.electorate(&pending.statement);
        let by = self.agreement.signatures.get(&(pending.statement.view, *hash));
        let signatures = by.into_iter().flatten().filter(|(peer, _)| electorate.contains(peer));
        let signatures: Vec<Signed> =
            signatures.map(|(&peer, &signature)| Signed { peer, signature }).collect();
        if signatures.len() < electorate.needed {
            return;
        }
        let certificate = Certificate { statement: pending.bytes.clone(), signatures };
        let statement = pending.statement.clone();
        if proposed_here {
            self.publish(Kind::Certificate, &certificate);
        }
        self.adopt(now, Certified { statement, hash: *hash, bytes: wire::encode(&certificate) });
    }

    pub(super) fn accept_certificate(&mut self, now: u64, message: &Admitted) -> Result<(), Refusal> {
        let Body::Certificate(certificate) = &message.body else {
            return Err(Refusal::Reject("not a certificate"));
        };
        if statement_hash(&certificate.statement) == self.newest().1 {
            return Err(Refusal::Known("already here"));
        }
        let bytes = wire::encode(certificate);
        match certificate::verify(&bytes, &self.manifest, &self.swarm, self.head.certified.as_ref()) {
            Ok(certified) if self.settles_alike(&certified.statement) => {
                self.adopt(now, certified);
                Ok(())
            }
            Ok(_) | Err(certificate::CertificateError::Parent { .. }) => {
                self.ask(now, message.sender);
                Err(Refusal::Ignore("a certificate that something is missing for"))
            }
            Err(_) => Err(Refusal::Ignore("a certificate that does not verify")),
        }
    }

    /// Ends the round with a certificate whose settlement this peer computes itself.
    pub(super) fn adopt(&mut self, now: u64, certified: Certified) {
        let settled = self.round.as_ref().filter(|_| self.head.certified.is_some()).map(|round| {
            let settlement = self.settle(round, &certified.statement);
            settled(round, &self.head.roster, &certified, settlement, self.agreement.voids)
        });
        let state = match &settled {
            Some(settled) => settled.settlement.next.clone(),
            None if self.listed.is_empty() => judge::State::founded_by(&certified.statement.roster),
            None => judge::State::founded_by(&self.listed),
        };
        self.set_head(certified, state);
        if let Some(settled) = settled {
            self.output(Output::Settled(Box::new(settled)));
        }
        self.open_round(now, false);
    }

    /// Makes a verified certificate the head and tells caller and people.
    pub(super) fn set_head(&mut self, certified: Certified, state: judge::State) {
        let Statement { view, round, roster, .. } = certified.statement.clone();
        self.agreement.restart(view);
        self.agreement.signed_view = self.agreement.signed_view.max(view);
        let stored = Persist::Head { certificate: certified.bytes.clone(), state: wire::encode(&state) };
        self.output(Output::Persist(stored));
        if self.chain.len() == CHAIN_MAX {
            self.chain.pop_front();
        }
        self.chain.push_back(certified.clone());
        self.head =
            super::Head { beacon: beacon(&certified.hash), roster, state, certified: Some(certified) };
        let member = self.is_member();
        self.event(Event::Certified { view, round, roster: self.head.roster.len() as u32, member });
        if !member {
            // Says at once that it keeps up, so that the next proposer can let it in.
            self.publish_presence();
        }
    }
}
