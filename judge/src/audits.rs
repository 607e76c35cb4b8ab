//! Audits: some peers compute again what another says that its policy sampled.
//!
//! Sampling is a function of weights, prompt and seed, so whoever is given the weights can tell to the bit whether
//! an answer is what they sample. A peer whose answers are included and whose weights are small enough to share
//! *offers* them. The beacon of the next round draws who is audited, by which two others, on which prompts; the
//! answers were fixed before. Auditors seal their findings before anybody opens any, or one could copy the other.
//!
//! * **Two accusers.** Both find that the answers are not what the weights sample: a *fault*. The peer has weight 0
//!   until it passed [`CLEAN_PASSES`] audits.
//! * **Disputes.** One accuser alone decides nothing: up to [`JURY`] others look at the same answers in the next
//!   round, the majority of all decides, and whoever found the contrary is *marked*. With [`MARKS_MAX`] marks a peer
//!   is not drawn any more, so neither slander nor saying "pass" without looking goes on for long.
//! * **Planted cases.** Saying "pass" without looking would be free where everybody is honest. So a peer now and then
//!   alters an answer on purpose, having sealed in its commit that it does, and opens that once the findings are
//!   sealed. It is no fault then, and an auditor that passed it is marked once others confirm. How often a peer may
//!   plant is limited ([`AuditRecord::plant_permille`]), or it would be an excuse for anything.
//! * **Weights not served** is a soft failure; [`SOFT_FAILURES`] of them are a fault.

use crate::key::PeerKey;
use crate::votes::RoundVotes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Auditors of one peer; all of them must accuse it.
pub const AUDITORS: usize = 2;
/// Further auditors where the first disagree, as far as there are so many.
pub const JURY: usize = 5;
/// Audits to pass before a peer is audited by chance only, and after a fault before its votes count again.
pub const CLEAN_PASSES: u32 = 3;
/// Audits without weights that make a fault.
pub const SOFT_FAILURES: u32 = 3;
/// Findings against the majority with which a peer is no longer drawn as an auditor.
pub const MARKS_MAX: u32 = 2;
/// Audits of one auditor in one round.
pub const DUTIES_MAX: usize = 8;
/// What a planted case takes from [`AuditRecord::plant_permille`].
pub const PLANT_COST: u32 = 1000;
const PLANT_SAVED_MAX: u32 = 3 * PLANT_COST;

/// How answers are audited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditRules {
    /// Chance that a peer with a clean record is audited on a round's answers. 0 to 1000; 0 for no audits at all.
    pub share_permille: u32,
    /// Prompts whose completions are computed again, at least 1; all of a round if it has fewer.
    pub prompts: u32,
    /// Largest weights that are offered, in bytes; peers with larger ones are not audited.
    pub bytes_max: u32,
    /// Part of its audits that a peer may spoil on purpose to test its auditors. 0 to 500.
    pub plant_permille: u32,
    /// Whether answers without an offer of weights are refused.
    pub required: bool,
}

impl Default for AuditRules {
    fn default() -> AuditRules {
        AuditRules {
            share_permille: 250,
            prompts: 2,
            bytes_max: 8 * 1024 * 1024,
            plant_permille: 50,
            required: false,
        }
    }
}

impl AuditRules {
    pub(crate) fn is_default(&self) -> bool {
        *self == AuditRules::default()
    }
}

/// What an auditor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Every answer looked at is what the weights sample.
    Pass,
    /// One is not, or the weights are not those that were committed to.
    Fail,
    /// Nobody served the weights.
    Withheld,
    /// They compute by another arithmetic, or with a model that the auditor does not have.
    Inconclusive,
}

/// What came of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// The answers are what the weights sample.
    Passed,
    /// They are not.
    Failed,
    /// They are not, and the peer had sealed that this is a test.
    Planted,
    /// The peer opened a test that was none.
    Unplanted,
    /// The auditors disagree, or one of them alone says anything, or their peer could not open a test: more of them
    /// look at it in the next round.
    Disputed,
    /// No auditor was given the weights.
    Withheld,
    /// Too few could tell.
    Unclear,
}

/// An audit that a settlement closes, or hands to more auditors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// What came of it.
    pub outcome: AuditOutcome,
    /// Who found what, those of a dispute's first round included; who was drawn and is not here said nothing.
    pub findings: BTreeMap<PeerKey, Finding>,
    /// Who found the contrary of the majority, or planted nothing where it said so.
    pub marked: BTreeSet<PeerKey>,
}

/// What is known about one peer from audits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Audits of it that were passed.
    pub passed: u32,
    /// Faults.
    pub failed: u32,
    /// Audits without weights since it last passed one, or had a fault.
    pub withheld: u32,
    /// Audits to pass until its votes count again; 0 if they do.
    pub suspended: u32,
    /// What is left for planting: each audit of it adds `plant_permille`, each planted case takes [`PLANT_COST`].
    pub plant_permille: u32,
    /// Findings of its own that were those of the majority.
    pub right: u32,
    /// Findings of its own that were not.
    pub marks: u32,
}

impl Default for AuditRecord {
    fn default() -> AuditRecord {
        AuditRecord {
            passed: 0,
            failed: 0,
            withheld: 0,
            suspended: 0,
            plant_permille: PLANT_COST,
            right: 0,
            marks: 0,
        }
    }
}

/// A peer offers its weights to auditors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Hash of a secret if an answer was spoilt on purpose, of anything else if none was.
    #[serde(with = "crate::bytes")]
    pub seal: [u8; 32],
}

/// An audit that is not decided: more auditors are to look at it, or its peer could not speak yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// What the peer offered then.
    pub offer: Offer,
    /// The round of the answers.
    pub round: u32,
    /// What auditors found so far.
    pub findings: BTreeMap<PeerKey, Finding>,
    /// Whether the peer opened that it was a test.
    pub planted: bool,
}

/// What audits hand from one settlement to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audits {
    /// Peers whose answers of the round were included and who offered their weights.
    pub offers: BTreeMap<PeerKey, Offer>,
    /// Audits that are not decided yet.
    pub disputes: BTreeMap<PeerKey, Dispute>,
    /// What is known about each peer.
    pub records: BTreeMap<PeerKey, AuditRecord>,
}

/// What a round's messages say of audits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVotes {
    /// Offers of peers whose answers are included.
    pub offers: BTreeMap<PeerKey, Offer>,
    /// What each auditor found of whom, as sealed and opened; findings that nobody asked for do not count.
    pub findings: BTreeMap<PeerKey, BTreeMap<PeerKey, Finding>>,
    /// Hashes of the secrets that each peer opened.
    pub opened: BTreeMap<PeerKey, BTreeSet<[u8; 32]>>,
}

/// Who is to audit a peer in a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duty {
    /// The auditors, at most [`AUDITORS`], or [`JURY`] in a dispute.
    pub auditors: BTreeSet<PeerKey>,
    /// Whether it is about the answers of the round before the last, over which the first auditors disagreed.
    pub disputed: bool,
}

/// The audits of a round, by whom they are of: of the answers of the round before it, drawn with its own beacon.
pub fn duties(
    rules: &AuditRules,
    audits: &Audits,
    roster: &[PeerKey],
    beacon: &[u8; 32],
) -> BTreeMap<PeerKey, Duty> {
    // Whoever offers its own weights has what it takes to look at another's.
    let able: BTreeSet<PeerKey> = roster
        .iter()
        .filter(|peer| audits.offers.contains_key(*peer) && audits.marks(peer) < MARKS_MAX)
        .copied()
        .collect();
    let mut load: BTreeMap<PeerKey, usize> = BTreeMap::new();
    let mut draw = |of: &PeerKey, besides: &BTreeMap<PeerKey, Finding>, count: usize| {
        let free = able.iter().filter(|peer| *peer != of && !besides.contains_key(*peer));
        let free = free.filter(|peer| load.get(*peer).is_none_or(|load| *load < DUTIES_MAX));
        let mut free: Vec<([u8; 32], PeerKey)> = free.map(|peer| (lot(beacon, &[of, peer]), *peer)).collect();
        free.sort_unstable();
        let drawn: BTreeSet<PeerKey> = free.into_iter().take(count).map(|(_, peer)| peer).collect();
        drawn.iter().for_each(|peer| *load.entry(*peer).or_default() += 1);
        drawn
    };
    let mut duties = BTreeMap::new();
    for (peer, dispute) in &audits.disputes {
        let count = (AUDITORS + JURY).saturating_sub(dispute.findings.len());
        duties.insert(*peer, Duty { auditors: draw(peer, &dispute.findings, count), disputed: true });
    }
    for peer in audits.offers.keys().filter(|peer| roster.contains(peer)) {
        if duties.contains_key(peer) || !audits.is_due(rules, peer, beacon) {
            continue;
        }
        let auditors = draw(peer, &BTreeMap::new(), AUDITORS);
        if auditors.len() == AUDITORS {
            duties.insert(*peer, Duty { auditors, disputed: false });
        }
    }
    duties
}

fn lot(beacon: &[u8; 32], peers: &[&PeerKey]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"murmur/audit/1\0").update(beacon);
    for peer in peers {
        hasher.update(&peer.0);
    }
    *hasher.finalize().as_bytes()
}

/// Findings of one audit, counted.
struct Count {
    passes: usize,
    fails: usize,
    withheld: usize,
}

impl Count {
    fn of(findings: &BTreeMap<PeerKey, Finding>) -> Count {
        let of = |finding: Finding| findings.values().filter(|found| **found == finding).count();
        Count { passes: of(Finding::Pass), fails: of(Finding::Fail), withheld: of(Finding::Withheld) }
    }

    /// What two auditors say.
    fn first(&self, planted: bool, voted: bool) -> AuditOutcome {
        match (self.passes, self.fails) {
            (0, AUDITORS..) if planted => AuditOutcome::Planted,
            // Whoever could not speak could not open a test either; it can in the next round.
            (0, AUDITORS..) if voted => AuditOutcome::Failed,
            (AUDITORS.., 0) if !planted => AuditOutcome::Passed,
            (0, 0) if self.withheld == AUDITORS => AuditOutcome::Withheld,
            (0, 0) => AuditOutcome::Unclear,
            (_, 0) if !planted => AuditOutcome::Unclear,
            _ => AuditOutcome::Disputed,
        }
    }

    /// What the majority of all says in the end.
    fn last(&self, planted: bool) -> AuditOutcome {
        if self.fails > self.passes && self.fails >= AUDITORS {
            return if planted { AuditOutcome::Planted } else { AuditOutcome::Failed };
        }
        if self.passes > self.fails && self.passes >= AUDITORS {
            return if planted { AuditOutcome::Unplanted } else { AuditOutcome::Passed };
        }
        AuditOutcome::Unclear
    }
}

impl Audits {
    /// Whether there is nothing to hand on.
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.disputes.is_empty() && self.records.is_empty()
    }

    /// Whether faults keep a peer's votes from counting.
    pub fn is_suspended(&self, peer: &PeerKey) -> bool {
        self.records.get(peer).is_some_and(|record| record.suspended > 0)
    }

    /// What is left to a peer for planting.
    pub fn plant_permille(&self, peer: &PeerKey) -> u32 {
        self.records.get(peer).map_or(PLANT_COST, |record| record.plant_permille)
    }

    fn marks(&self, peer: &PeerKey) -> u32 {
        self.records.get(peer).map_or(0, |record| record.marks)
    }

    fn is_due(&self, rules: &AuditRules, peer: &PeerKey, beacon: &[u8; 32]) -> bool {
        let record = self.records.get(peer);
        let known = record.is_some_and(|record| record.suspended == 0 && record.passed >= CLEAN_PASSES);
        let mut first = [0; 8];
        first.copy_from_slice(&lot(beacon, &[peer])[..8]);
        let drawn = u64::from_le_bytes(first) % 1000 < u64::from(rules.share_permille);
        rules.share_permille > 0 && (drawn || !known)
    }

    /// Closes the audits of a round, and keeps what the next one draws from.
    /// The offers are of `round`.
    pub(crate) fn close(
        &mut self,
        rules: &AuditRules,
        round: u32,
        votes: &RoundVotes,
    ) -> BTreeMap<PeerKey, AuditReport> {
        let mut reports = BTreeMap::new();
        let offers = std::mem::replace(&mut self.offers, votes.audits.offers.clone());
        let before = Audits { offers, disputes: std::mem::take(&mut self.disputes), ..self.clone() };
        for (peer, duty) in duties(rules, &before, &votes.roster, &votes.gold_seed) {
            let report = match before.disputes.get(&peer) {
                Some(dispute) => Some(self.decide(&peer, &duty, dispute.clone(), votes)),
                None => before.offers.get(&peer).map(|offer| {
                    let none = Dispute { offer: *offer, round, findings: BTreeMap::new(), planted: false };
                    self.look(rules, &peer, &duty, none, votes)
                }),
            };
            reports.extend(report.map(|report| (peer, report)));
        }
        reports
    }

    /// The first look at a peer's answers.
    fn look(
        &mut self,
        rules: &AuditRules,
        peer: &PeerKey,
        duty: &Duty,
        mut case: Dispute,
        votes: &RoundVotes,
    ) -> AuditReport {
        let voted = self.hear(peer, duty, &mut case, votes);
        let outcome = Count::of(&case.findings).first(case.planted, voted);
        let record = self.records.entry(*peer).or_default();
        record.plant_permille =
            record.plant_permille.saturating_add(rules.plant_permille).min(PLANT_SAVED_MAX);
        self.note(peer, outcome, case)
    }

    /// The last word on a peer's answers.
    fn decide(&mut self, peer: &PeerKey, duty: &Duty, mut case: Dispute, votes: &RoundVotes) -> AuditReport {
        let voted = self.hear(peer, duty, &mut case, votes);
        let outcome = match Count::of(&case.findings).last(case.planted) {
            // Nothing is lost by waiting for it: who does not vote has no weight to lose.
            AuditOutcome::Failed if !voted => AuditOutcome::Disputed,
            outcome => outcome,
        };
        self.note(peer, outcome, case)
    }

    /// Adds what a round says of a case; whether the peer itself could speak.
    fn hear(&mut self, peer: &PeerKey, duty: &Duty, case: &mut Dispute, votes: &RoundVotes) -> bool {
        case.findings.extend(votes.audits.found(peer, duty));
        case.planted = case.planted || self.opens(peer, &case.offer, votes);
        votes.conduct.get(peer).is_some_and(|conduct| conduct.voted)
    }

    /// Whether a peer opened, and may, that its answers were a test.
    fn opens(&mut self, peer: &PeerKey, offer: &Offer, votes: &RoundVotes) -> bool {
        if !votes.audits.opened.get(peer).is_some_and(|opened| opened.contains(&offer.seal)) {
            return false;
        }
        let record = self.records.entry(*peer).or_default();
        let left = record.plant_permille.checked_sub(PLANT_COST);
        record.plant_permille = left.unwrap_or(record.plant_permille);
        left.is_some()
    }

    /// Writes an outcome into the records of the peer and of its auditors; a dispute is kept.
    fn note(&mut self, peer: &PeerKey, outcome: AuditOutcome, case: Dispute) -> AuditReport {
        let findings = case.findings.clone();
        let record = self.records.entry(*peer).or_default();
        match outcome {
            AuditOutcome::Passed => {
                record.passed = record.passed.saturating_add(1);
                record.withheld = 0;
                record.suspended = record.suspended.saturating_sub(1);
            }
            AuditOutcome::Failed => record.fault(),
            AuditOutcome::Withheld => {
                record.withheld = record.withheld.saturating_add(1);
                if record.withheld >= SOFT_FAILURES {
                    record.fault();
                }
            }
            AuditOutcome::Disputed => drop(self.disputes.insert(*peer, case)),
            AuditOutcome::Planted | AuditOutcome::Unplanted | AuditOutcome::Unclear => {}
        }
        let (right, wrong) = match outcome {
            AuditOutcome::Passed | AuditOutcome::Unplanted => (Finding::Pass, Finding::Fail),
            AuditOutcome::Failed | AuditOutcome::Planted => (Finding::Fail, Finding::Pass),
            _ => return AuditReport { outcome, findings, marked: BTreeSet::new() },
        };
        let said = |finding| findings.iter().filter(move |(_, found)| **found == finding);
        for (auditor, _) in said(right) {
            let record = self.records.entry(*auditor).or_default();
            record.right = record.right.saturating_add(1);
        }
        let mut marked: BTreeSet<PeerKey> = said(wrong).map(|(auditor, _)| *auditor).collect();
        if outcome == AuditOutcome::Unplanted {
            marked.insert(*peer);
        }
        for auditor in &marked {
            let record = self.records.entry(*auditor).or_default();
            record.marks = record.marks.saturating_add(1);
        }
        AuditReport { outcome, findings, marked }
    }
}

impl AuditRecord {
    fn fault(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.suspended = CLEAN_PASSES;
        self.withheld = 0;
    }
}

impl AuditVotes {
    /// What the drawn auditors found of a peer.
    fn found(&self, peer: &PeerKey, duty: &Duty) -> BTreeMap<PeerKey, Finding> {
        let of = |auditor: &PeerKey| Some((*auditor, *self.findings.get(auditor)?.get(peer)?));
        duty.auditors.iter().filter_map(of).collect()
    }
}
