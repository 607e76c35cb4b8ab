//! Propose → sign → certify.
//!
//! Views rise by one; the beacon names one proposer a view. A peer signs a statement if it builds on
//! the certificate it builds on itself, includes only messages it holds, and states the settlement it
//! computes itself. It signs at most one statement a view, in rising views, and its signature is on
//! disk before it is sent. Without a certificate by the deadline the view is void and the next
//! proposer proposes the same round again: the answers are not lost. [`chain`](crate::chain) says who must
//! sign and why nothing final is ever overtaken.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::settle::{STATE_DOMAIN, items_hash, settlement_hashes};
use super::{Engine, Output, Persist};
use crate::admission::Refusal;
use crate::bitmap::Bitmap;
use crate::certificate::{read_statement, signed_bytes, statement_hash};
use crate::chain::{self, Electorate};
use crate::identity;
use crate::limits::{
    BEHIND_VIEWS_MAX, ENVELOPE_BYTES_MAX, PROPOSALS_EACH, PROPOSALS_MAX, ROSTER_MAX, SIGNED_VIEWS_MAX,
    STATEMENTS_MAX,
};
use crate::manifest::Manifest;
use crate::membership::{Joining, Membership, Ticket};
use crate::message::{Certificate, Kind, Proposal, STATEMENT_DOMAIN, Signature, Statement};
use crate::wire::{self, Hash, Sig};

/// A proposal whose time has not come.
pub(super) struct Pending {
    pub(super) sender: PeerKey,
    pub(super) statement: Statement,
    pub(super) bytes: Vec<u8>,
}

/// What this peer knows of the views after its head.
pub(super) struct Agreement {
    signed_view: u32,
    /// Views given up since the head.
    pub(super) voids: u32,
    /// The view that this peer would like to be in; 0 while it is content.
    pub(super) wanted_view: u32,
    proposed_view: u32,
    /// View of the last proposal that was answered with the certificate it overlooks.
    corrected_view: u32,
    /// When the swarm counts as stalled, if it goes on then.
    pub(super) stalled_ms: u64,
    pub(super) until_ms: u64,
    pub(super) view_ms: u64,
    pub(super) pending: BTreeMap<Hash, Pending>,
    pub(super) signatures: BTreeMap<(u32, Hash), BTreeMap<PeerKey, Sig>>,
}

impl Agreement {
    pub(super) fn new(signed_view: u32, now: u64, manifest: &Manifest) -> Self {
        let view_ms = manifest.round.view_deadline_ms.into();
        Self {
            signed_view,
            voids: 0,
            wanted_view: 0,
            proposed_view: 0,
            corrected_view: 0,
            stalled_ms: u64::MAX,
            until_ms: now + view_ms,
            view_ms,
            pending: BTreeMap::new(),
            signatures: BTreeMap::new(),
        }
    }

    /// Whether anything was signed or proposed, in this run or an earlier one.
    pub(super) fn has_signed(&self) -> bool {
        self.signed_view > 0 || self.proposed_view > 0
    }

    /// Proposals and statements held.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.pending.len(), self.signatures.len())
    }

    /// Forgets what a new head at `view` has overtaken.
    pub(super) fn restart(&mut self, view: u32) {
        self.signed_view = self.signed_view.max(view);
        self.voids = 0;
        self.wanted_view = 0;
        self.until_ms = u64::MAX;
        self.stalled_ms = u64::MAX;
        self.pending.retain(|_, pending| pending.statement.view > view);
        self.signatures.retain(|(of, _), _| *of > view);
    }
}

/// Makes room for one more signature of a peer: no peer can fill the table alone, and its newest views count.
fn forget_oldest(signatures: &mut BTreeMap<(u32, Hash), BTreeMap<PeerKey, Sig>>, peer: &PeerKey) {
    let theirs: Vec<(u32, Hash)> =
        signatures.iter().filter(|(_, by)| by.contains_key(peer)).map(|(slot, _)| *slot).collect();
    for slot in theirs.iter().take((theirs.len() + 1).saturating_sub(SIGNED_VIEWS_MAX)) {
        if let Some(by) = signatures.get_mut(slot) {
            by.remove(peer);
        }
        signatures.retain(|_, by| !by.is_empty());
    }
}

/// Makes room for one more proposal of a peer; that of its newest view stays.
fn forget_oldest_proposal(pending: &mut BTreeMap<Hash, Pending>, peer: &PeerKey) {
    let theirs = pending.iter().filter(|(_, other)| other.sender == *peer);
    let mut theirs: Vec<(u32, Hash)> = theirs.map(|(hash, other)| (other.statement.view, *hash)).collect();
    theirs.sort_unstable();
    for (_, hash) in theirs.iter().take((theirs.len() + 1).saturating_sub(PROPOSALS_EACH)) {
        pending.remove(hash);
    }
}

impl Engine {
    /// Peers that want in, this one included, sorted.
    pub(super) fn present(&self, now: u64) -> Vec<PeerKey> {
        let ready = self.presence.live(now).filter(|(_, seen)| seen.ready).map(|(&peer, _)| peer);
        let mut peers: Vec<PeerKey> = ready.filter(|peer| self.is_welcome(peer)).collect();
        if self.takes_part() && self.leaving.is_none() && self.is_welcome(&self.me) {
            peers.push(self.me);
        }
        peers.retain(|peer| !self.is_offender(peer));
        peers.sort();
        peers.truncate(ROSTER_MAX);
        peers
    }

    /// Whether the swarm lets a peer in, or has let it in.
    pub(super) fn is_welcome(&self, peer: &PeerKey) -> bool {
        let Membership { rule, .. } = &self.manifest.membership;
        let member = |peer: &PeerKey| {
            self.welcome.binary_search(peer).is_ok()
                || self.head().link.is_some() && self.head().roster.binary_search(peer).is_ok()
        };
        let own = self.ticket.as_ref().filter(|_| *peer == self.me);
        let ticket = || own.or_else(|| self.presence.get(peer)?.ticket.as_ref());
        let invited = |ticket: &Ticket| {
            member(&ticket.inviter) && (ticket.until_round == 0 || self.round_number() <= ticket.until_round)
        };
        match rule {
            Joining::Open => true,
            Joining::Listed => member(peer),
            Joining::Invited => member(peer) || ticket().is_some_and(invited),
        }
    }

    pub(super) fn propose(&mut self, now: u64, view: u32) {
        if self.agreement.proposed_view >= view || self.agreement.signed_view >= view || !self.takes_part() {
            return;
        }
        let Some(statement) = self.statement(now, view) else { return };
        self.agreement.proposed_view = view;
        // After a crash another proposal for this view would convict this peer.
        self.output(Output::Persist(Persist::SignedView(view)));
        let bytes = wire::encode(&statement);
        self.publish(Kind::Proposal, &Proposal { statement: bytes.clone() });
        forget_oldest_proposal(&mut self.agreement.pending, &self.me);
        self.agreement.pending.insert(statement_hash(&bytes), Pending { sender: self.me, statement, bytes });
        self.consider_proposals(now);
    }

    /// The statement this peer would make now, or `None` while too few peers are present to start.
    fn statement(&self, now: u64, view: u32) -> Option<Statement> {
        let (_, parent) = self.newest();
        let Some(round) = &self.round else { return self.genesis_statement(now, view, parent) };
        let offenders = self.offenders();
        let counts = |peer: &PeerKey| offenders.binary_search(peer).is_err();
        let included = |has: &dyn Fn(&PeerKey) -> bool| -> Bitmap {
            let members = self.head().roster.iter().enumerate();
            members.filter(|(_, peer)| has(peer) && counts(peer)).map(|(i, _)| i).collect()
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
            offenders: offenders.clone(),
            degraded: now >= self.agreement.stalled_ms,
        };
        self.settle_statement(&mut statement)?;
        Some(statement)
    }

    /// Who plays the round in progress.
    pub(crate) fn roster(&self) -> &[PeerKey] {
        &self.head().roster
    }

    /// Puts into a statement on the head what follows from the messages that it includes.
    pub(crate) fn settle_statement(&self, statement: &mut Statement) -> Option<()> {
        let round = self.round.as_ref()?;
        let settlement = self.settle(self.head(), round, statement)?;
        statement.items = items_hash(round, &self.head().roster, statement)?;
        (statement.settlement, statement.state) = settlement_hashes(&settlement);
        Some(())
    }

    fn genesis_statement(&self, now: u64, view: u32, parent: Hash) -> Option<Statement> {
        let present = self.present(now);
        let roster: Vec<PeerKey> = if self.listed.is_empty() {
            present
        } else {
            present.into_iter().filter(|peer| self.listed.binary_search(peer).is_ok()).collect()
        };
        if self.begun_elsewhere(now) || roster.len() < self.founders_needed() {
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
            offenders: self.offenders(),
            degraded: false,
        })
    }

    /// Peers that must be here before the first round. A listed genesis waits one view for everybody and then starts
    /// with enough.
    pub(super) fn founders_needed(&self) -> usize {
        let wanted = if self.agreement.voids < 2 { self.listed.len() } else { 0 };
        usize::from(self.manifest.genesis.peers_min).max(wanted).max(1)
    }

    /// Whether a peer without a certificate hears of one from more than a third of those who may begin, so from an
    /// honest one: then it catches up, and begins nothing. One liar alone could keep a swarm from beginning.
    fn begun_elsewhere(&self, now: u64) -> bool {
        let founders = if self.listed.is_empty() { self.present(now) } else { self.listed.clone() };
        let ahead =
            |peer: &&PeerKey| self.presence.live(now).any(|(live, seen)| live == *peer && seen.view > 0);
        self.head().link.is_none() && 3 * founders.iter().filter(ahead).count() > founders.len()
    }

    /// Who plays the next round: members that showed life, and peers that ask to come in.
    fn next_roster(&self, now: u64) -> Vec<PeerKey> {
        let newest = self.newest().0;
        let near = newest.saturating_sub(BEHIND_VIEWS_MAX);
        let caught_up = |peer: &PeerKey| self.presence.get(peer).is_some_and(|seen| seen.view >= near);
        let admits = self.admits_newcomers(now);
        let wants_in = |peer: &PeerKey| {
            let member = self.head().roster.binary_search(peer).is_ok();
            member && !self.presence.left(peer) || (member || admits) && caught_up(peer)
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

    /// Whether this peer would propose newcomers. Some of the others may not see them yet, so not while finality is
    /// behind: a newcomer that shows itself to some only must not hold it up again and again.
    fn admits_newcomers(&self, now: u64) -> bool {
        let Some(link) = &self.head().link else { return true };
        let in_step = link.statement.view == link.place.final_view.saturating_add(1);
        in_step && self.agreement.voids == 0 || now >= self.agreement.stalled_ms
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
        if statement.parent != parent && !self.may_build_on(&statement.parent) {
            self.correct(now, sender, &statement);
            return Err(Refusal::Ignore("a proposal on another certificate"));
        }
        let statement = read_statement(bytes, self.ending_members(&statement.parent))
            .map(|_| statement)
            .map_err(|_| Refusal::Ignore("a proposal that contradicts itself"))?;
        let one_statement = self.defences.one_statement;
        let pending = &mut self.agreement.pending;
        let second = |other: &Pending| {
            other.sender == sender && other.statement.view == statement.view && one_statement
        };
        if self.defences.quota {
            forget_oldest_proposal(pending, &sender);
        }
        if pending.values().any(second) || pending.len() >= PROPOSALS_MAX {
            return Err(Refusal::Ignore("a second proposal for one view"));
        }
        pending.insert(statement_hash(bytes), Pending { sender, statement, bytes: bytes.to_vec() });
        Ok(())
    }

    /// A proposal overlooks the newest certificate, or builds on one that is not here: shows or asks for it.
    fn correct(&mut self, now: u64, sender: PeerKey, statement: &Statement) {
        let newest = self.head().link.as_ref().filter(|_| self.branches.get(&statement.parent).is_some());
        let Some(bytes) = newest.map(|link| link.bytes.clone()) else { return self.ask(now, sender) };
        if statement.view <= self.agreement.corrected_view {
            return;
        }
        self.agreement.corrected_view = statement.view;
        if let Ok(certificate) = wire::decode::<Certificate>(&bytes, ENVELOPE_BYTES_MAX) {
            self.publish(Kind::Certificate, &certificate);
        }
    }

    /// Whether this peer signs statements on that certificate: on none but its newest (rule S2).
    fn may_build_on(&self, parent: &Hash) -> bool {
        *parent == self.newest().1 || !self.defences.newest_parent && self.branches.get(parent).is_some()
    }

    /// Members of the roster whose round a statement on that certificate would end.
    fn ending_members(&self, parent: &Hash) -> usize {
        self.branches.get(parent).filter(|node| node.link.is_some()).map_or(0, |node| node.roster.len())
    }

    /// Signs what can be signed and certifies what has enough signatures.
    pub(super) fn consider_proposals(&mut self, now: u64) {
        let ready: Vec<Hash> =
            self.agreement.pending.iter().filter(|(_, p)| self.may_sign(now, p)).map(|(h, _)| *h).collect();
        for hash in ready {
            self.sign(&hash);
        }
        let certified = self.agreement.pending.iter().find(|(hash, pending)| {
            let statement = &pending.statement;
            let signatures = self.agreement.signatures.get(&(statement.view, **hash));
            let met = |signatures: &BTreeMap<PeerKey, Sig>| {
                self.electorates(statement).iter().all(|electorate| electorate.is_met(signatures.keys()))
            };
            self.may_build_on(&statement.parent) && signatures.is_some_and(met)
        });
        if let Some((hash, proposed_here)) = certified.map(|(hash, p)| (*hash, p.sender == self.me)) {
            self.certify(now, &hash, proposed_here);
        }
    }

    /// Who must sign a statement on a certificate that is here.
    pub(super) fn electorates(&self, statement: &Statement) -> Vec<Electorate> {
        let parent = self.branches.get(&statement.parent).and_then(|node| node.link.as_ref());
        chain::needed_under(self.defences, statement, &self.manifest, parent)
    }

    /// Whether a peer's proposals and signatures are kept: strangers must not fill the bounded tables.
    pub(super) fn is_entitled(&self, now: u64, peer: &PeerKey) -> bool {
        match &self.head().link {
            None if self.listed.is_empty() => self.present(now).binary_search(peer).is_ok(),
            None => self.listed.binary_search(peer).is_ok(),
            Some(link) => link.is_elector(peer) || self.head().roster.binary_search(peer).is_ok(),
        }
    }

    fn may_sign(&self, now: u64, pending: &Pending) -> bool {
        let Pending { sender, statement, .. } = pending;
        (statement.view > self.agreement.signed_view || !self.defences.one_statement)
            && self.may_build_on(&statement.parent)
            && self.electorates(statement).iter().any(|electorate| electorate.contains(&self.me))
            && (!statement.degraded || now >= self.agreement.stalled_ms)
            && self.takes_part()
            && !self.begun_elsewhere(now)
            && (self.is_proposer(now, sender, statement) || !self.defences.turns)
            && (self.convicts_rightly(statement) || !self.defences.convictions)
            && (statement.roster.iter().all(|peer| self.may_enter(now, peer)) || !self.defences.rosters)
            && (self.is_fair(now, statement) || !self.defences.seats)
            && self.ended_by(statement).is_some()
    }

    /// Whether a statement leaves no member out that this peer would keep: otherwise a proposer could make a roster of
    /// its own people, which becomes the electorate. About members that missed a deadline, or that nobody waited for,
    /// two honest peers may differ: one hears them again and the other does not.
    pub(super) fn is_fair(&self, now: u64, statement: &Statement) -> bool {
        let Statement { roster, offenders, .. } = statement;
        let missed = |peer: &PeerKey| self.round.as_ref().is_some_and(|round| round.went_on_without(peer));
        let member = |peer: &PeerKey| self.head().roster.binary_search(peer).is_ok();
        let keeps = |peer: &PeerKey| member(peer) && (*peer == self.me || !missed(peer));
        let stays =
            |peer: &PeerKey| roster.binary_search(peer).is_ok() || offenders.binary_search(peer).is_ok();
        self.next_roster(now).iter().all(|peer| !keeps(peer) || stays(peer))
    }

    fn is_proposer(&self, now: u64, sender: &PeerKey, statement: &Statement) -> bool {
        if self.head().link.is_none() && self.listed.is_empty() {
            // Unanimity makes an open genesis safe; the lowest key only keeps proposals few.
            return statement.roster.first() == Some(sender);
        }
        // A peer whose clock is a view behind signs; one that would skip many views does not.
        let parent = self.branches.get(&statement.parent).and_then(|node| node.link.as_ref());
        let turn =
            parent.map_or_else(|| self.proposer(now, statement.view), |link| link.proposer(statement.view));
        statement.view <= self.view().saturating_add(1) && turn == Some(*sender)
    }

    fn may_enter(&self, now: u64, peer: &PeerKey) -> bool {
        let member = self.head().link.is_some() && self.head().roster.binary_search(peer).is_ok();
        let here = || self.presence.live(now).any(|(live, seen)| live == peer && seen.ready);
        let present = || here() && self.is_welcome(peer);
        // A member that left meanwhile does no harm: nobody waits for it.
        *peer == self.me || member || present()
    }

    fn sign(&mut self, hash: &Hash) {
        let Some(view) = self.agreement.pending.get(hash).map(|pending| pending.statement.view) else {
            return;
        };
        let signed =
            self.agreement.signatures.get(&(view, *hash)).is_some_and(|by| by.contains_key(&self.me));
        if signed || (view <= self.agreement.signed_view && self.defences.one_statement) {
            return;
        }
        self.agreement.signed_view = self.agreement.signed_view.max(view);
        self.output(Output::Persist(Persist::SignedView(view.max(self.agreement.proposed_view))));
        let signature = Sig(self.identity.sign(STATEMENT_DOMAIN, &signed_bytes(&self.swarm, hash)));
        self.publish(Kind::Signature, &Signature { view, statement: *hash, signature });
        self.agreement.signatures.entry((view, *hash)).or_default().insert(self.me, signature);
    }

    pub(super) fn accept_signature(
        &mut self,
        now: u64,
        sender: PeerKey,
        signature: &Signature,
    ) -> Result<(), Refusal> {
        let signed = signed_bytes(&self.swarm, &signature.statement);
        if !identity::verify(&sender, STATEMENT_DOMAIN, &signed, &signature.signature.0) {
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
            && self.defences.one_statement
        {
            return Err(Refusal::Ignore("two signatures in one view"));
        }
        let most = if self.defences.quota {
            forget_oldest(signatures, &sender);
            SIGNED_VIEWS_MAX * ROSTER_MAX
        } else {
            STATEMENTS_MAX
        };
        if !signatures.contains_key(&slot) && signatures.len() >= most {
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
}
