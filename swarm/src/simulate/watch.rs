//! The invariants, checked as things happen.

use std::collections::{BTreeMap, BTreeSet};

use judge::PeerKey;
use serde::Serialize;

use super::ledger::{self, Ledger};
use crate::chain::Link;
use crate::engine::{Engine, PhaseName, Settled};
use crate::limits::{ENVELOPE_BYTES_MAX, PHASE_FLOOR_MS};
use crate::manifest::Manifest;
use crate::message::{Envelope, Kind, Payload, Proposal, Reveal, Signature, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// What an honest peer takes for final is final by the certificates.
pub(super) const FINAL_ALIKE: &str = "honest peers know what is final";
/// Honest peers agree on what a certificate settles.
pub(super) const SETTLED_ALIKE: &str = "honest peers settle alike";
/// A settlement belongs to a certificate of a quorum, and is the one that was signed.
pub(super) const CERTIFIED_REWARD: &str = "no reward without a certificate";
/// Honest peers sign one message a slot and one statement a view, restarts included.
pub(super) const ONE_SLOT: &str = "honest peers fill a slot once";
/// Nobody calls an honest peer an equivocator.
pub(super) const BLAMELESS: &str = "honest peers are not blamed";
/// What honest peers say is never rejected.
pub(super) const WELCOME: &str = "honest bytes are not rejected";
/// Queues and maps stay within their bounds.
pub(super) const BOUNDED: &str = "queues and maps are bounded";
/// Every wait has an owner, a name and a deadline.
pub(super) const OWNED_WAITS: &str = "waits have owner and deadline";
/// Peers do not answer messages with more and more messages.
pub(super) const QUIET: &str = "no storms of messages";
/// Without faults a final certificate forms within three rounds.
pub(super) const PROGRESS: &str = "final within three rounds";

/// Every invariant, by name.
pub const INVARIANTS: [&str; 14] = [
    ledger::ONE_A_VIEW,
    ledger::ONE_FINAL,
    ledger::BUILDS_ON_FINAL,
    ledger::QUORUM,
    FINAL_ALIKE,
    SETTLED_ALIKE,
    CERTIFIED_REWARD,
    ONE_SLOT,
    BLAMELESS,
    WELCOME,
    BOUNDED,
    OWNED_WAITS,
    QUIET,
    PROGRESS,
];

/// Violations kept of each invariant and seed; the first is the one to look at.
const VIOLATIONS_MAX: usize = 2;
/// Slots remembered of a peer; beyond it those of old rounds are forgotten.
const SLOTS_MAX: usize = 4_096;
/// Rounds whose slots are never forgotten.
const SLOTS_KEPT_ROUNDS: u32 = 8;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What was seen.
    pub what: String,
}

/// A place that an honest peer may fill once: kind, start of the round, view, prompt.
type Slot = (Kind, Hash, u32, u16);

/// The eye on everything.
pub(super) struct Watch {
    manifest: Manifest,
    swarm: SwarmId,
    honest: BTreeSet<PeerKey>,
    pub(super) ledger: Ledger,
    /// Per round and statement, the hash of the settlement.
    settlements: BTreeMap<u32, BTreeMap<Hash, Hash>>,
    slots: BTreeMap<PeerKey, BTreeMap<Slot, (Hash, u32)>>,
    pub(super) checked: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<Violation>,
    broken: BTreeMap<&'static str, u64>,
    pub(super) violations_total: u64,
}

impl Watch {
    pub(super) fn new(manifest: Manifest, honest: BTreeSet<PeerKey>) -> Self {
        Self {
            swarm: manifest.id(),
            manifest,
            honest,
            ledger: Ledger::default(),
            settlements: BTreeMap::new(),
            slots: BTreeMap::new(),
            checked: INVARIANTS.iter().map(|name| (*name, 0)).collect(),
            violations: Vec::new(),
            broken: BTreeMap::new(),
            violations_total: 0,
        }
    }

    pub(super) fn is_honest(&self, peer: &PeerKey) -> bool {
        self.honest.contains(peer)
    }

    /// Counts a check and keeps what it found.
    pub(super) fn check(&mut self, invariant: &'static str, at_ms: u64, broken: Option<String>) {
        *self.checked.entry(invariant).or_default() += 1;
        if let Some(what) = broken {
            self.violations_total += 1;
            *self.broken.entry(invariant).or_default() += 1;
            if self.violations.iter().filter(|known| known.invariant == invariant).count() < VIOLATIONS_MAX {
                self.violations.push(Violation { invariant, at_ms, what });
            }
        }
    }

    /// How often an invariant did not hold.
    pub(super) fn broken(&self, invariant: &str) -> u64 {
        self.broken.get(invariant).copied().unwrap_or(0)
    }

    /// A certificate that somebody holds; gives the hashes of those that are new.
    pub(super) fn certificate(&mut self, at_ms: u64, bytes: &[u8]) -> Vec<Hash> {
        let added = self.ledger.add(&self.manifest, &self.swarm, bytes);
        let new = added.certified.len() as u64;
        for name in [ledger::ONE_A_VIEW, ledger::ONE_FINAL, ledger::BUILDS_ON_FINAL, ledger::QUORUM] {
            *self.checked.entry(name).or_default() += new;
        }
        for (invariant, what) in added.broken {
            self.check(invariant, at_ms, Some(what));
        }
        added.certified
    }

    /// An honest peer ended a round.
    pub(super) fn settled(&mut self, at_ms: u64, peer: &PeerKey, settled: &Settled) {
        let hash = Hash::of("murmur v1 settlement", &[&wire::encode(&settled.settlement)]);
        let tell = |what: &str| format!("{} of round {}: {what}", peer.name(), settled.round);
        let known =
            *self.settlements.entry(settled.round).or_default().entry(settled.statement).or_insert(hash);
        self.check(SETTLED_ALIKE, at_ms, (known != hash).then(|| tell("two settlements of one statement")));
        let wrong = match self.ledger.get(&settled.statement) {
            None => Some("no certificate"),
            Some(certified) if certified.statement.settlement != hash => {
                Some("another settlement was signed")
            }
            Some(certified) => {
                let answered: BTreeSet<&PeerKey> = settled.answered.iter().collect();
                let paid = settled.settlement.prompts.iter().flat_map(|prompt| prompt.rewards.keys());
                let stray = paid.into_iter().any(|peer| !answered.contains(peer));
                let more = answered.len() != certified.statement.answers.len();
                (stray || more).then_some("a reward for an answer that was not included")
            }
        };
        self.check(CERTIFIED_REWARD, at_ms, wrong.map(tell));
    }

    /// An honest peer takes a certificate for final.
    pub(super) fn called_final(&mut self, at_ms: u64, peer: &PeerKey, round: u32, statement: &Hash) {
        let broken = (self.ledger.final_of(round) != Some(statement))
            .then(|| format!("{}: {} of round {round}", peer.name(), statement.short()));
        self.check(FINAL_ALIKE, at_ms, broken);
    }

    /// An honest peer published something.
    pub(super) fn published(&mut self, at_ms: u64, peer: &PeerKey, bytes: &[u8]) {
        let Some((slot, round, content)) = slot(bytes) else { return };
        let slots = self.slots.entry(*peer).or_default();
        let known = slots.entry(slot).or_insert((content, round)).0;
        if slots.len() > SLOTS_MAX {
            slots.retain(|_, (_, of)| *of + SLOTS_KEPT_ROUNDS > round);
        }
        let broken = (known != content).then(|| format!("{}: two for {slot:?}", peer.name()));
        self.check(ONE_SLOT, at_ms, broken);
    }

    pub(super) fn blamed(&mut self, at_ms: u64, by: &PeerKey, peer: &PeerKey) {
        let broken = self.is_honest(peer).then(|| format!("{} blames {}", by.name(), peer.name()));
        self.check(BLAMELESS, at_ms, broken);
    }

    /// Looks at an honest peer's collections and at what it waits for.
    pub(super) fn inspect(&mut self, at_ms: u64, local_ms: u64, engine: &Engine) {
        let over = engine.sizes().into_iter().find(|size| size.held > size.bound);
        let broken =
            over.map(|size| format!("{}: {} {} of {}", engine.me().name(), size.held, size.name, size.bound));
        self.check(BOUNDED, at_ms, broken);
        let status = engine.status(local_ms);
        let rules = &self.manifest.round;
        let longest = match status.phase {
            PhaseName::Answer | PhaseName::Critique => rules.work_deadline_ms.into(),
            PhaseName::Reveal | PhaseName::Vote => PHASE_FLOOR_MS.max(rules.phase_deadline_ms.into()),
            PhaseName::Gather | PhaseName::Settle => rules.view_deadline_ms.into(),
        };
        let waits_for_members =
            !matches!(status.phase, PhaseName::Gather | PhaseName::Settle) && status.deadline_in_ms > 0;
        let broken = if status.deadline_in_ms > longest {
            Some(format!("{} for {} ms", status.phase.as_str(), status.deadline_in_ms))
        } else if waits_for_members && status.awaited.is_empty() {
            Some(format!("{} for nobody", status.phase.as_str()))
        } else {
            None
        };
        self.check(OWNED_WAITS, at_ms, broken.map(|what| format!("{} waits in {what}", engine.me().name())));
    }

    /// Whose turn it was to propose a certified statement.
    pub(super) fn proposer(&self, hash: &Hash) -> Option<PeerKey> {
        let Statement { view, parent, .. } = &self.ledger.get(hash)?.statement;
        self.ledger.get(parent)?.proposer(*view)
    }

    /// Whether the proposer of the view right after a certificate is honest.
    pub(super) fn next_is_honest(&self, hash: &Hash) -> bool {
        let proposer = |link: &Link| link.proposer(link.statement.view.saturating_add(1));
        self.ledger.get(hash).and_then(proposer).is_some_and(|proposer| self.is_honest(&proposer))
    }
}

/// The slot that a message fills, its round, and what it says there.
fn slot(bytes: &[u8]) -> Option<(Slot, u32, Hash)> {
    let envelope: Envelope = wire::decode(bytes, ENVELOPE_BYTES_MAX).ok()?;
    let payload: Payload = wire::decode(&envelope.payload, ENVELOPE_BYTES_MAX).ok()?;
    let content = Hash::of("murmur v1 simulated slot", &[&envelope.payload]);
    let slot = match payload.kind {
        Kind::Presence | Kind::Certificate | Kind::Proof => return None,
        Kind::Commit | Kind::Critique | Kind::Ballot => (payload.kind, payload.start, 0, 0),
        Kind::Reveal => {
            let reveal: Reveal = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).ok()?;
            (payload.kind, payload.start, 0, reveal.prompt)
        }
        Kind::Proposal => {
            let proposal: Proposal = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).ok()?;
            let statement: Statement = wire::decode(&proposal.statement, ENVELOPE_BYTES_MAX).ok()?;
            (payload.kind, Hash::default(), statement.view, 0)
        }
        Kind::Signature => {
            let signature: Signature = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).ok()?;
            (payload.kind, Hash::default(), signature.view, 0)
        }
    };
    Some((slot, payload.round, content))
}
