//! Reputation: how much a peer's vote weighs, and why.
//!
//! A peer is tried on *gold*: prompts whose reference answer everybody can recompute, and of which nobody knew while
//! answering that they would count, because the next round's beacon draws them. Success is the part of the ballot
//! that was on the right answer. The weight of a peer is its success rate over the best peer's. Never is a peer
//! believed for agreeing with itself or with the majority: a liar that repeats one string does both perfectly.
//!
//! Evidence ages only when new evidence arrives: a peer that stays away keeps its record, so leaving for a while
//! neither launders a bad one nor wears out a good one.

use crate::audits::Audits;
use crate::curriculum::Courses;
use crate::key::PeerKey;
use crate::packs::Packs;
use crate::rules::Rules;
use crate::settlement::{GoldBallots, GoldReport};
use crate::verdicts::{CriticRecord, GoldVerdicts};
use crate::votes::{BALLOT_FULL, Conduct};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One whole, in micro-units.
pub const MICRO: u32 = 1_000_000;

/// Records kept. Above it, absent peers with the fewest gold ballots are forgotten; if they return, they are on
/// probation like anybody new.
pub const REPUTATIONS_MAX: usize = 4096;

/// Everything that one settlement hands to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What is known about each peer.
    pub reputations: BTreeMap<PeerKey, Reputation>,
    /// The previous round's prompts with a reference answer, by index, waiting for the draw.
    pub pending: BTreeMap<u32, PendingPrompt>,
    /// Whether gold was ever drawn. Until then nothing tells peers apart, and weights are equal.
    pub anchored: bool,
    /// Settlements so far.
    pub rounds: u32,
    /// What is known about each peer as a writer of critiques; apart from its ballots.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub critics: BTreeMap<PeerKey, CriticRecord>,
    /// Verdicts on the previous round's prompts with a reference answer, by index, waiting for the draw.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending_verdicts: BTreeMap<u32, BTreeMap<PeerKey, GoldVerdicts>>,
    /// What audits found, and what the next ones are drawn from.
    #[serde(default, skip_serializing_if = "Audits::is_empty")]
    pub audits: Audits,
    /// Task packs besides the manifest's.
    #[serde(default, skip_serializing_if = "Packs::is_empty")]
    pub packs: Packs,
    /// How far the families have come, where there is a curriculum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub courses: Courses,
}

/// What is known about one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// In the swarm from its first round, so never on probation.
    pub founder: bool,
    /// Gold prompts on which the peer was ever tried.
    pub gold_ballots: u32,
    /// Aged sum of ballot mass on right answers, in micro-ballots. Starts at one.
    pub successes_micro: u64,
    /// Aged sum of trials, in micro-ballots. Starts at three.
    pub trials_micro: u64,
    /// What missed deadlines and withheld answers left of the weight, 0 to 1000.
    pub liveness_permille: u32,
    /// Aged sum of how critiques ranked right over wrong candidates, in micro-prompts, both signs.
    pub critique_micro: i64,
    /// Aged number of prompts in that sum, in micro-prompts.
    pub critique_trials_micro: u64,
}

/// A prompt of the previous round, in case it is drawn as gold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPrompt {
    /// Ballot mass on the right answer, in permille, of each peer that was tried.
    pub mass_permille: BTreeMap<PeerKey, u16>,
    /// How each peer's critiques ranked the right candidate over the wrong ones, -1000 to 1000.
    pub ranking_permille: BTreeMap<PeerKey, i16>,
    /// Whether the consensus was right.
    pub consensus_right: bool,
    /// Decided labels.
    pub labels: u32,
    /// How many of them were right.
    pub labels_right: u32,
}

impl Reputation {
    fn new(founder: bool) -> Reputation {
        Reputation {
            founder,
            gold_ballots: 0,
            successes_micro: u64::from(MICRO),
            trials_micro: 3 * u64::from(MICRO),
            liveness_permille: 1000,
            critique_micro: 0,
            critique_trials_micro: 0,
        }
    }

    /// Aged part of its gold ballots that was on the right answer, in micro-units; one third before any.
    pub fn accuracy_micro(&self) -> u32 {
        if self.trials_micro == 0 {
            return MICRO / 3;
        }
        let ratio = u128::from(self.successes_micro) * u128::from(MICRO) / u128::from(self.trials_micro);
        u32::try_from(ratio).unwrap_or(MICRO).min(MICRO)
    }

    /// How well its critiques tell right from wrong, -1000 (always the wrong way round) to 1000; 0 before any, and
    /// 0 for a critic that says the same of every candidate.
    ///
    /// A figure to show. It does not enter the vote weight: what a critique does to a score is bounded by the
    /// median already, and a second channel into the weights would be a second thing to game.
    pub fn critique_permille(&self) -> i32 {
        if self.critique_trials_micro == 0 {
            return 0;
        }
        let ratio = i128::from(self.critique_micro) * 1000 / i128::from(self.critique_trials_micro);
        i32::try_from(ratio.clamp(-1000, 1000)).unwrap_or(0)
    }

    /// Whether its votes do not count yet.
    pub fn on_probation(&self, rules: &Rules) -> bool {
        !self.founder && self.gold_ballots < rules.probation_ballots
    }
}

impl State {
    /// The state before the first round of a swarm with these founders.
    ///
    /// Without it (`State::default()`), the roster of the first settlement founds the swarm.
    pub fn founded_by(founders: &[PeerKey]) -> State {
        let reputations = founders.iter().map(|peer| (*peer, Reputation::new(true))).collect();
        State { reputations, ..State::default() }
    }

    /// Gives newcomers a record.
    pub(crate) fn admit(&mut self, roster: &BTreeSet<PeerKey>) {
        let founders = self.reputations.is_empty();
        for peer in roster {
            self.reputations.entry(*peer).or_insert_with(|| Reputation::new(founders));
        }
    }

    /// Draws gold from the pending prompts, tries every ballot on it, and empties `pending`.
    pub(crate) fn draw_gold(&mut self, rules: &Rules, seed: &[u8; 32]) -> GoldReport {
        let before = self.clone();
        let pending = std::mem::take(&mut self.pending);
        let mut report = GoldReport { drawn: draw(rules, &pending, seed), ..GoldReport::default() };
        let mut masses: BTreeMap<PeerKey, (u32, u64)> = BTreeMap::new();
        let mut rankings: BTreeMap<PeerKey, (u32, i64)> = BTreeMap::new();
        for prompt in report.drawn.iter().filter_map(|index| pending.get(index)) {
            report.consensus_right += u32::from(prompt.consensus_right); // at most the number of prompts
            report.labels = report.labels.saturating_add(prompt.labels);
            report.labels_right = report.labels_right.saturating_add(prompt.labels_right);
            for (peer, mass) in &prompt.mass_permille {
                let (tried, sum) = masses.entry(*peer).or_default();
                *tried += 1; // at most the number of prompts, whose indices are u32
                *sum += u64::from((*mass).min(BALLOT_FULL));
            }
            for (peer, ranking) in &prompt.ranking_permille {
                let (tried, sum) = rankings.entry(*peer).or_default();
                *tried += 1;
                *sum += i64::from((*ranking).clamp(-1000, 1000));
            }
        }
        self.anchored |= !report.drawn.is_empty();
        let mean = |tried: u32, sum: u64| u16::try_from(sum / u64::from(tried.max(1))).unwrap_or(BALLOT_FULL);
        report.ballots = masses
            .iter()
            .map(|(peer, (tried, sum))| {
                (*peer, GoldBallots { tried: *tried, mass_permille: mean(*tried, *sum) })
            })
            .collect();
        report.forgiven = before.most_fail(rules, &report.ballots);
        if !report.forgiven {
            for (peer, (tried, sum)) in masses {
                self.try_ballots(rules, peer, tried, sum);
            }
        }
        for (peer, (tried, sum)) in rankings {
            self.try_critiques(rules, peer, tried, sum);
        }
        self.try_verdicts(rules, &mut report);
        report
    }

    /// Tries the verdicts on the drawn prompts and empties `pending_verdicts`.
    fn try_verdicts(&mut self, rules: &Rules, report: &mut GoldReport) {
        let pending = std::mem::take(&mut self.pending_verdicts);
        for (peer, verdicts) in report.drawn.iter().filter_map(|index| pending.get(index)).flatten() {
            report.critics.entry(*peer).or_default().add(verdicts);
        }
        for (peer, verdicts) in &report.critics {
            self.critics.entry(*peer).or_default().learn(rules, verdicts);
        }
    }

    /// Whether peers with more than half of the tried peers' vote weight put less than a quarter of their usual mass
    /// on the right answers: then the prompts were out of reach, or the reference answers are wrong, and nobody is to
    /// blame. By weight, or a crowd of newcomers could shield a liar by failing on purpose.
    fn most_fail(&self, rules: &Rules, ballots: &BTreeMap<PeerKey, GoldBallots>) -> bool {
        let fails = |peer: &PeerKey| {
            let usual = self.reputations.get(peer).map_or(MICRO / 3, Reputation::accuracy_micro);
            // Permille to micro: at most 4000 times 1000.
            ballots.get(peer).is_some_and(|ballots| u32::from(ballots.mass_permille) * 1000 * 4 < usual)
        };
        let tried: Vec<PeerKey> = ballots.keys().copied().collect();
        most(&weights(rules, self, &tried), fails)
    }

    fn try_ballots(&mut self, rules: &Rules, peer: PeerKey, tried: u32, mass_permille: u64) {
        let Some(r) = self.reputations.get_mut(&peer) else { return };
        r.gold_ballots = r.gold_ballots.saturating_add(tried);
        r.successes_micro = aged(rules, r.successes_micro).saturating_add(mass_permille.saturating_mul(1000));
        r.trials_micro = aged(rules, r.trials_micro).saturating_add(u64::from(tried) * u64::from(MICRO));
    }

    fn try_critiques(&mut self, rules: &Rules, peer: PeerKey, tried: u32, ranking_permille: i64) {
        let Some(r) = self.reputations.get_mut(&peer) else { return };
        let old = aged(rules, r.critique_micro.unsigned_abs()).min(i64::MAX as u64) as i64
            * r.critique_micro.signum();
        r.critique_micro = old.saturating_add(ranking_permille.saturating_mul(1000));
        r.critique_trials_micro =
            aged(rules, r.critique_trials_micro).saturating_add(u64::from(tried) * u64::from(MICRO));
    }

    /// Applies what each roster member did in time; true if most (by weight) failed, and so nobody is blamed.
    pub(crate) fn conduct(
        &mut self,
        rules: &Rules,
        weights: &BTreeMap<PeerKey, u32>,
        conduct: &BTreeMap<PeerKey, Conduct>,
    ) -> bool {
        let of = |peer: &PeerKey| conduct.get(peer).copied().unwrap_or_default();
        let forgiven = most(weights, |peer| of(peer) != Conduct::CLEAN);
        for peer in weights.keys() {
            let Some(r) = self.reputations.get_mut(peer) else { continue };
            let keep = |permille: u32| r.liveness_permille.min(1000) * permille.min(1000) / 1000;
            r.liveness_permille = match of(peer) {
                Conduct::CLEAN => r.liveness_permille.saturating_add(rules.recovery_permille).min(1000),
                _ if forgiven => r.liveness_permille,
                c if c.withheld() => keep(rules.withheld_permille),
                _ => keep(rules.missed_permille),
            };
        }
        forgiven
    }

    /// Keeps the records bounded: newcomers that left without a gold ballot go, then the least tried absentees.
    pub(crate) fn forget(&mut self, roster: &BTreeSet<PeerKey>) {
        self.reputations.retain(|peer, r| r.founder || r.gold_ballots > 0 || roster.contains(peer));
        let excess = self.reputations.len().saturating_sub(REPUTATIONS_MAX);
        let absent = self.reputations.iter().filter(|(peer, _)| !roster.contains(*peer));
        let mut absent: Vec<(u32, PeerKey)> = absent.map(|(peer, r)| (r.gold_ballots, *peer)).collect();
        absent.sort_unstable();
        for (_, peer) in absent.into_iter().take(excess) {
            self.reputations.remove(&peer);
        }
        self.critics.retain(|peer, _| self.reputations.contains_key(peer));
        self.audits.records.retain(|peer, _| self.reputations.contains_key(peer));
        self.audits.disputes.retain(|peer, _| self.reputations.contains_key(peer));
    }
}

/// Whether these peers carry more than half of the weight.
fn most(weights: &BTreeMap<PeerKey, u32>, which: impl Fn(&PeerKey) -> bool) -> bool {
    let sum =
        |peers: &mut dyn Iterator<Item = (&PeerKey, &u32)>| peers.map(|(_, w)| u128::from(*w)).sum::<u128>();
    2 * sum(&mut weights.iter().filter(|(peer, _)| which(peer))) > sum(&mut weights.iter())
}

/// One round of ageing.
pub(crate) fn aged(rules: &Rules, micro: u64) -> u64 {
    // Not above `micro`, so it fits.
    (u128::from(micro) * u128::from(rules.weight_decay_permille.min(1000)) / 1000) as u64
}

/// Which pending prompts are gold: those with the lowest hash of seed and index, in order of index.
fn draw(rules: &Rules, pending: &BTreeMap<u32, PendingPrompt>, seed: &[u8; 32]) -> Vec<u32> {
    let share = pending.len() as u128 * u128::from(rules.gold_share_permille.min(1000));
    let count = usize::try_from((share + 500) / 1000).unwrap_or(usize::MAX).max(1); // the nearest, but one at least
    let lot = |index: u32| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"murmur/gold/1\0").update(seed).update(&index.to_le_bytes());
        *hasher.finalize().as_bytes()
    };
    let mut lots: Vec<([u8; 32], u32)> = pending.keys().map(|index| (lot(*index), *index)).collect();
    lots.sort_unstable();
    lots.truncate(count);
    let mut drawn: Vec<u32> = lots.into_iter().map(|(_, index)| index).collect();
    drawn.sort_unstable();
    drawn
}

/// The vote weight of each roster member in micro-units, as the state stands.
///
/// A settlement first draws the gold of the previous round, then takes these weights; so what a round was counted
/// with is in [`Settlement::weights`](crate::Settlement::weights).
///
/// * Accuracy over the best accuracy in the roster; accuracy above `weight_cap_permille` of the median peer's (the
///   upper median, so that half of a roster can be liars) counts no further, so that one outstanding (or cheating) peer cannot make everybody else's votes worthless.
/// * 0 below `cut_permille` of the best, once tried on `cut_after_ballots` gold prompts.
/// * 0 on probation: not a founder, and tried on fewer than `probation_ballots` gold prompts.
/// * 0 after a fault that audits found, until it passed some (see [`Audits`]).
/// * In a swarm that has settled a round and has no gold, drawn or waiting to be drawn, all are equal, newcomers too:
///   nothing could end a probation.
/// * Times liveness.
pub fn weights(rules: &Rules, state: &State, roster: &[PeerKey]) -> BTreeMap<PeerKey, u32> {
    let probation = state.rounds == 0 || state.anchored || !state.pending.is_empty();
    let newcomer = Reputation::new(state.reputations.is_empty());
    let roster: BTreeSet<PeerKey> = roster.iter().copied().collect();
    let member = |peer: &PeerKey| state.reputations.get(peer).unwrap_or(&newcomer);
    let counts =
        |peer: &PeerKey| !(probation && member(peer).on_probation(rules) || state.audits.is_suspended(peer));
    let mut accuracies: Vec<u32> =
        roster.iter().filter(|peer| counts(peer)).map(|peer| member(peer).accuracy_micro()).collect();
    accuracies.sort_unstable();
    let best = u64::from(accuracies.last().copied().unwrap_or(0));
    let best = match accuracies.get(accuracies.len() / 2).copied().unwrap_or(0) {
        0 => best, // most have never been right; that says nothing about who is outstanding
        median => best.min(u64::from(median) * u64::from(rules.weight_cap_permille.max(1000)) / 1000),
    };
    let weight = |peer: &PeerKey| {
        let r = member(peer);
        if !counts(peer) {
            return 0;
        }
        // Nobody has ever been right: nobody is better than another.
        let ratio = if !state.anchored || best == 0 {
            u64::from(MICRO)
        } else {
            u64::from(r.accuracy_micro()).min(best) * u64::from(MICRO) / best // below 2^20 times 2^20
        };
        let cut = u64::from(rules.cut_permille) * u64::from(MICRO) / 1000;
        if r.gold_ballots >= rules.cut_after_ballots && ratio < cut {
            return 0;
        }
        // At most MICRO.
        (ratio * u64::from(r.liveness_permille.min(1000)) / 1000) as u32
    };
    roster.iter().map(|peer| (*peer, weight(peer))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u64) -> PeerKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        PeerKey(key)
    }

    #[test]
    fn every_prompt_is_gold_as_often_as_any_other_and_the_seed_decides() {
        let pending: BTreeMap<u32, PendingPrompt> = (0..24).map(|n| (n, PendingPrompt::default())).collect();
        let mut drawn = [0; 24];
        for n in 0..2400_u32 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            let gold = draw(&Rules::default(), &pending, &seed);
            assert_eq!(gold.len(), 5, "a fifth of 24, rounded");
            assert!(gold.is_sorted_by(|a, b| a < b));
            gold.iter().for_each(|index| drawn[*index as usize] += 1);
        }
        // 500 expected each, standard deviation 20; the seeds are fixed, so this cannot fail by chance.
        assert!(drawn.iter().all(|times| (420..580).contains(times)), "{drawn:?}");
    }

    #[test]
    fn the_draw_never_changes() {
        let pending: BTreeMap<u32, PendingPrompt> = (0..24).map(|n| (n, PendingPrompt::default())).collect();
        assert_eq!(draw(&Rules::default(), &pending, &[7; 32]), [2, 6, 7, 9, 12]);
    }

    #[test]
    fn passers_by_are_forgotten_and_records_are_bounded() {
        let founder = peer(u64::MAX);
        let mut state = State::founded_by(&[founder]);
        state.admit(&BTreeSet::from([peer(1)]));
        state.forget(&BTreeSet::from([peer(1)]));
        assert_eq!(state.reputations.len(), 2, "present");
        state.forget(&BTreeSet::new());
        assert_eq!(state.reputations.keys().collect::<Vec<_>>(), [&founder], "gone without a gold ballot");

        let present: BTreeSet<PeerKey> = (0..10).map(peer).collect();
        state.admit(&(0..5000).map(peer).collect());
        for (n, r) in (1..).zip(state.reputations.values_mut()) {
            r.gold_ballots = n;
        }
        state.forget(&present);
        assert_eq!(state.reputations.len(), REPUTATIONS_MAX);
        assert!(present.iter().all(|peer| state.reputations.contains_key(peer)), "whoever is present stays");
        assert!(!state.reputations.contains_key(&peer(10)) && state.reputations.contains_key(&peer(4999)));
    }
}
