//! Audits: which answers this peer is to look at, their weights, and what it says of them.
//!
//! The answers of a round are looked at while the next one runs: the beacon that starts it draws what and by whom.
//! Findings are sealed in this peer's critique and opened in its ballot, so audits need no messages of their own and
//! hold up no phase: what is not found by then is not said.

use std::collections::{BTreeMap, BTreeSet};

use judge::{Duty, Finding, PLANT_COST, PeerKey};

use super::event::Event;
use super::play::Play;
use super::rounds::sampling_seed;
use super::{AuditCase, Engine, Output, ShownAnswers, Work};
use crate::blob::Address;
use crate::limits::HEARTBEAT_MS;
use crate::message::{AuditOffer, Found, Opened, findings_seal, planted_seal};
use crate::wire::Hash;

/// How far this peer is with an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The weights are to be asked for, from then on.
    Due {
        from_ms: u64,
    },
    /// The caller fetches them.
    Fetching,
    /// The caller looks at the answers.
    Looking,
    Found(Finding),
}

/// An audit that is this peer's to do.
#[derive(Clone, Debug)]
struct Todo {
    stage: Stage,
    attempts: u32,
    /// Whether whoever was asked did not give the weights. That they are still on their way is nobody's fault.
    missed: bool,
}

/// Answers that were drawn, with what their author committed to.
#[derive(Clone, Debug)]
struct Case {
    work: AuditCase,
    weights: Address,
}

/// What this peer knows and does of a round's audits.
#[derive(Clone, Debug, Default)]
pub(super) struct Audits {
    /// By whom they are of. Of everybody, since anybody may be drawn for a dispute.
    cases: BTreeMap<PeerKey, Case>,
    todo: BTreeMap<PeerKey, Todo>,
    /// Whether this peer is audited.
    audited: bool,
    /// This peer's offer of the round in progress, and whether it spoilt an answer.
    mine: Option<(Address, Vec<u8>)>,
    planted: bool,
    /// Findings that the critique sealed.
    sealed: Vec<Found>,
}

impl Audits {
    fn wanting(&mut self, blob: &Address) -> Option<PeerKey> {
        let fetching =
            |peer: &&PeerKey| self.todo.get(*peer).is_some_and(|todo| todo.stage == Stage::Fetching);
        let of_blob = self.cases.iter().filter(|(_, case)| case.weights == *blob).map(|(peer, _)| peer);
        of_blob.into_iter().find(fetching).copied()
    }
}

impl Engine {
    /// Whether this peer is to spoil an answer of the round in progress on purpose, to test its auditors. A caller that
    /// does says so with its [weights](super::Input::Weights).
    pub fn plants(&self) -> bool {
        let rules = &self.manifest.judge.audit;
        let Some(audits) = self.head().state.as_ref().map(|state| &state.audits) else { return false };
        let number = self.round_number();
        // One at a time: what the one before takes is not known yet.
        let open = audits.disputes.contains_key(&self.me)
            || audits
                .offers
                .get(&self.me)
                .is_some_and(|offer| self.spoilt(offer, number.saturating_sub(1)).is_some());
        let secret = self.plant_secret(number);
        let lot = u16::from_le_bytes([secret.0[0], secret.0[1]]) % 1000;
        u32::from(lot) < rules.plant_permille
            && audits.plant_permille(&self.me) >= PLANT_COST
            && !audits.is_suspended(&self.me)
            && !open
    }

    /// The secret of an offer of this peer's own, if it planted in that round.
    fn spoilt(&self, offer: &judge::Offer, round: u32) -> Option<Hash> {
        let secret = self.plant_secret(round);
        (planted_seal(&self.me, &secret).0 == offer.seal).then_some(secret)
    }

    /// Nobody else can know it, and this peer finds it again after a restart.
    fn plant_secret(&self, round: u32) -> Hash {
        let signed = [&self.swarm.0[..], &round.to_le_bytes()].concat();
        Hash::of("murmur v1 plant secret", &[&self.identity.sign(b"murmur v1 plant", &signed)])
    }

    /// Offers the weights that this peer's answers of the round are sampled with.
    pub(super) fn take_weights(&mut self, number: u32, bytes: Vec<u8>, planted: bool) {
        let rules = &self.manifest.judge.audit;
        if number != self.round_number()
            || rules.share_permille == 0
            || bytes.len() > rules.bytes_max as usize
        {
            return self.count_drop("weights that nobody may ask for", Some(self.me));
        }
        let Ok(address) = Address::of(&bytes) else {
            return self.count_drop("weights that nobody may ask for", Some(self.me));
        };
        self.output(Output::Keep { round: number, blob: address, bytes: bytes.clone() });
        self.audits.mine = Some((address, bytes));
        self.audits.planted = planted;
    }

    /// What this peer's commit says of its weights.
    pub(super) fn audit_offer(&self) -> Option<AuditOffer> {
        let (weights, _) = self.audits.mine.as_ref()?;
        let secret = self.plant_secret(self.round_number());
        let seal = match self.audits.planted {
            true => planted_seal(&self.me, &secret),
            false => Hash::of("murmur v1 not planted", &[&secret.0]),
        };
        Some(AuditOffer { weights: *weights, seal })
    }

    /// Draws the audits of the round that begins.
    pub(super) fn open_audits(&mut self, number: u32) {
        let before = std::mem::take(&mut self.audits);
        let duties = self.duties();
        let cases = duties.iter().filter_map(|(peer, duty)| {
            let case = if duty.disputed { before.cases.get(peer).cloned() } else { self.case(peer, number) };
            Some((*peer, case?))
        });
        self.audits.cases = cases.collect();
        let muted = self.round.as_ref().is_none_or(|round| round.muted);
        let mine = |(peer, duty): (&PeerKey, &Duty)| {
            let todo = Todo { stage: Stage::Due { from_ms: 0 }, attempts: 0, missed: false };
            (duty.auditors.contains(&self.me) && !muted).then_some((*peer, todo))
        };
        self.audits.todo = duties.iter().filter_map(mine).collect();
        self.audits.todo.retain(|peer, _| self.audits.cases.contains_key(peer));
        self.audits.audited = duties.contains_key(&self.me);
        if let Some((blob, bytes)) = before.mine.filter(|_| self.audits.audited) {
            // For a dispute in the round after this one.
            self.output(Output::Keep { round: number, blob, bytes });
        }
    }

    fn duties(&self) -> BTreeMap<PeerKey, Duty> {
        let head = self.head();
        let Some(state) = &head.state else { return BTreeMap::new() };
        judge::duties(&self.manifest.judge.audit, &state.audits, &head.roster, &head.beacon.0)
    }

    /// The answers of the round before that are drawn of a peer, if that round's messages are here.
    fn case(&self, peer: &PeerKey, number: u32) -> Option<Case> {
        let link = self.head().link.as_ref()?;
        let round = self.previous.as_ref().filter(|round| round.start == link.statement.parent)?;
        let seed = sampling_seed(&round.beacon, peer).0;
        let said = round.items.said(peer)?;
        let reveal = &said.reveals.values().next()?.body;
        let positions = drawn_prompts(&self.head().beacon, peer, round, self.manifest.judge.audit.prompts);
        let shown = |position: u16| {
            let item = round.schedule.get(usize::from(position))?.clone();
            Some(ShownAnswers { position, item, texts: round.items.completions(peer, position).to_vec() })
        };
        let work = AuditCase {
            round: number,
            peer: *peer,
            policy: reveal.policy,
            numerics: reveal.numerics.clone(),
            seed,
            completions: self.manifest.round.completions,
            answers: positions.into_iter().filter_map(shown).collect(),
            weights: Vec::new(),
        };
        Some(Case { work, weights: said.commit.as_ref()?.body.audit?.weights })
    }

    /// Asks for weights whose turn has come.
    pub(super) fn fetch_weights(&mut self, now: u64) {
        let round = self.round_number();
        let mut due = Vec::new();
        for (peer, todo) in &mut self.audits.todo {
            if let (Stage::Due { from_ms }, Some(case)) = (todo.stage, self.audits.cases.get(peer))
                && from_ms <= now
            {
                todo.stage = Stage::Fetching;
                todo.attempts = todo.attempts.saturating_add(1);
                due.push((*peer, case.weights, todo.attempts));
            }
        }
        for (peer, blob, attempt) in due {
            let from = self.holders(now, &blob, &BTreeSet::from([peer]), attempt);
            self.output(Output::Fetch { round, blob, from });
        }
    }

    /// Hands weights on to be looked at; gives them back if no audit waits for them.
    pub(super) fn take_audited(&mut self, now: u64, blob: Address, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Some(peer) = self.audits.wanting(&blob) else { return Some(bytes) };
        if Address::of(&bytes) != Ok(blob) {
            self.count_drop("a fetched body with another hash than was asked for", None);
            self.miss_weights(now, &blob);
            return None;
        }
        let round = self.round_number();
        if let (Some(todo), Some(case)) = (self.audits.todo.get_mut(&peer), self.audits.cases.get(&peer)) {
            todo.stage = Stage::Looking;
            let work = AuditCase { round, weights: bytes.clone(), ..case.work.clone() };
            self.output(Output::Work(Work::Audit(Box::new(work))));
            self.output(Output::Keep { round, blob, bytes });
        }
        None
    }

    /// Nobody gave weights: they are asked for again. Whether an audit waited for them.
    pub(super) fn miss_weights(&mut self, now: u64, blob: &Address) -> bool {
        let Some(peer) = self.audits.wanting(blob) else { return false };
        if let Some(todo) = self.audits.todo.get_mut(&peer) {
            todo.stage = Stage::Due { from_ms: now + HEARTBEAT_MS };
            todo.missed = true;
        }
        true
    }

    pub(super) fn take_finding(&mut self, number: u32, peer: &PeerKey, finding: Finding) {
        let current = number == self.round_number();
        let looking = self.audits.todo.get_mut(peer).filter(|todo| current && todo.stage == Stage::Looking);
        match looking {
            Some(todo) => todo.stage = Stage::Found(finding),
            None => self.count_drop("a finding of an audit that is over", Some(self.me)),
        }
    }

    /// Seals what was found so far; weights that nobody gave are withheld.
    pub(super) fn seal_findings(&mut self) -> Option<Hash> {
        let found = |(peer, todo): (&PeerKey, &Todo)| match todo.stage {
            Stage::Found(finding) => Some(Found { peer: *peer, finding }),
            Stage::Due { .. } | Stage::Fetching if todo.missed => {
                Some(Found { peer: *peer, finding: Finding::Withheld })
            }
            Stage::Due { .. } | Stage::Fetching | Stage::Looking => None,
        };
        self.audits.sealed = self.audits.todo.iter().filter_map(found).collect();
        let (beacon, nonce) = (self.head().beacon, self.findings_nonce());
        let any = !self.audits.sealed.is_empty();
        any.then(|| findings_seal(&beacon, &self.me, &nonce, &self.audits.sealed))
    }

    fn findings_nonce(&self) -> Hash {
        Hash::of("murmur v1 findings nonce", &[&self.entropy, &self.newest().1.0])
    }

    /// Opens what was sealed, and what this peer planted where it is audited.
    pub(super) fn open_findings(&mut self) -> Option<Opened> {
        let findings = std::mem::take(&mut self.audits.sealed);
        let planted = self.planted();
        let any = !findings.is_empty() || !planted.is_empty();
        any.then(|| Opened { nonce: self.findings_nonce(), findings, planted })
    }

    fn planted(&self) -> Vec<Hash> {
        let Some(state) = self.head().state.as_ref().filter(|_| self.audits.audited) else {
            return Vec::new();
        };
        let before = self.round_number().saturating_sub(1);
        let offered = state.audits.offers.get(&self.me).map(|offer| (offer, before));
        let disputed = state.audits.disputes.get(&self.me).map(|dispute| (&dispute.offer, dispute.round));
        offered.into_iter().chain(disputed).filter_map(|(offer, round)| self.spoilt(offer, round)).collect()
    }

    /// Tells people what came of audits.
    pub(super) fn tell_audits(&mut self, settlement: &judge::Settlement) {
        for (peer, report) in &settlement.audits {
            self.event(Event::Audited { peer: *peer, report: report.clone() });
        }
    }
}

/// The prompts that are drawn of a peer's answers: those with the lowest lots.
fn drawn_prompts(beacon: &Hash, peer: &PeerKey, round: &Play, count: u32) -> Vec<u16> {
    let lot =
        |prompt: u16| Hash::of("murmur v1 audited prompt", &[&beacon.0, &peer.0, &prompt.to_le_bytes()]);
    let mut lots: Vec<(Hash, u16)> =
        (0..round.schedule.len()).map(|prompt| (lot(prompt as u16), prompt as u16)).collect();
    lots.sort_unstable();
    lots.truncate(count as usize);
    let mut prompts: Vec<u16> = lots.into_iter().map(|(_, prompt)| prompt).collect();
    prompts.sort_unstable();
    prompts
}
