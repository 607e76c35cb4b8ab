//! Verdicts against gold: what a text critique is worth.
//!
//! A critic says of each candidate assigned to it whether it is right. Most candidates are wrong, so a critic that
//! always says "wrong" is right most of the time and knows nothing. Hits are therefore counted for right and wrong
//! candidates apart, +1 for a verdict that is true, −1 for one that is false, 0 for none, and the two means are
//! averaged:
//!
//! ```text
//! S_r = Σ verdicts on the n_r right candidates, S_w = the same on the n_w wrong ones
//! reward = (S_r / n_r + S_w / n_w) / 2, from −1 to 1; 0 while either kind is missing
//! ```
//!
//! This is Youden's index (1950): saying the same of everything earns (1 − 1) / 2 = 0 whatever the shares, and so
//! does any verdict that does not depend on the candidate. As a reward of single verdicts for training it is a
//! payment of n_w for a true verdict on a right candidate and of n_r on a wrong one, negative when false, over
//! max(n_r, n_w): [`GoldVerdicts::reward`].
//!
//! All of it stays apart from ballots and answers: own sums, own trials, no part in the vote weight. A critic's text
//! is never read here.

use crate::key::{CandidateId, PeerKey};
use crate::reputation::{MICRO, aged};
use crate::rules::Rules;
use crate::votes::PromptVotes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a critic says of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its answer is right.
    Right,
    /// Its answer is wrong.
    Wrong,
    /// The critic could not tell, or its text did not say.
    Unclear,
}

impl Verdict {
    /// +1 where the verdict is true of a candidate that is `right` (or not), −1 where it is false, 0 if unclear.
    pub fn sign(self, right: bool) -> i32 {
        match self {
            Verdict::Unclear => 0,
            verdict if (verdict == Verdict::Right) == right => 1,
            _ => -1,
        }
    }
}

/// One critic's verdicts on the gold prompts of a draw (or of one prompt, while the draw is awaited).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldVerdicts {
    /// Right candidates assigned to it: n_r.
    pub right: u32,
    /// Sum of the signs of its verdicts on them: S_r.
    pub right_sum: i32,
    /// Wrong candidates assigned to it: n_w.
    pub wrong: u32,
    /// Sum of the signs of its verdicts on them: S_w.
    pub wrong_sum: i32,
}

impl GoldVerdicts {
    /// Counts one assigned candidate; a critic that is silent on it counts as unclear.
    pub fn count(&mut self, verdict: Verdict, right: bool) {
        let (tried, sum) = match right {
            true => (&mut self.right, &mut self.right_sum),
            false => (&mut self.wrong, &mut self.wrong_sum),
        };
        *tried = tried.saturating_add(1);
        *sum = sum.saturating_add(verdict.sign(right));
    }

    /// Joins the counts of another prompt or round.
    pub fn add(&mut self, other: &GoldVerdicts) {
        self.right = self.right.saturating_add(other.right);
        self.right_sum = self.right_sum.saturating_add(other.right_sum);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.wrong_sum = self.wrong_sum.saturating_add(other.wrong_sum);
    }

    /// The critic's reward in permille, −1000 to 1000, rounded towards 0; 0 unless it was tried on candidates of
    /// both kinds.
    ///
    /// ```
    /// # use judge::{GoldVerdicts, Verdict};
    /// let mut critic = GoldVerdicts::default();
    /// for (verdict, right) in [(Verdict::Right, true), (Verdict::Wrong, false), (Verdict::Right, false)] {
    ///     critic.count(verdict, right);
    /// }
    /// assert_eq!(critic.reward_permille(), 500); // (1/1 + 0/2) / 2
    ///
    /// let mut always_wrong = GoldVerdicts::default();
    /// for right in [true, false, false, false, false] {
    ///     always_wrong.count(Verdict::Wrong, right);
    /// }
    /// assert_eq!(always_wrong.reward_permille(), 0);
    /// ```
    pub fn reward_permille(&self) -> i32 {
        balanced([(self.right_sum.into(), self.right.into()), (self.wrong_sum.into(), self.wrong.into())])
    }

    /// The reward of one verdict in a draw with these counts, as numerator and denominator (at least 1): from −1
    /// to 1. Over all candidates of the draw, verdicts that are all alike sum to exactly 0.
    pub fn reward(&self, verdict: Verdict, right: bool) -> (i64, u32) {
        let of_the_other_kind = if right { self.wrong } else { self.right };
        let numerator = i64::from(verdict.sign(right)) * i64::from(of_the_other_kind);
        (numerator, self.right.max(self.wrong).max(1))
    }
}

/// A critic's standing: aged sums over all draws so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriticRecord {
    /// Aged S_r, in micro-verdicts.
    pub right_sum_micro: i64,
    /// Aged n_r, in micro-verdicts.
    pub right_micro: u64,
    /// Aged S_w, in micro-verdicts.
    pub wrong_sum_micro: i64,
    /// Aged n_w, in micro-verdicts.
    pub wrong_micro: u64,
}

impl CriticRecord {
    /// How well its verdicts tell right from wrong, −1000 to 1000; 0 before it was tried on both kinds, and 0 for
    /// ever for a critic that says the same of everything.
    pub fn skill_permille(&self) -> i32 {
        balanced([(self.right_sum_micro, self.right_micro), (self.wrong_sum_micro, self.wrong_micro)])
    }

    /// Ages what is known by one draw and adds the draw.
    pub(crate) fn learn(&mut self, rules: &Rules, draw: &GoldVerdicts) {
        let sum = |old: i64, new: i32| {
            let kept = aged(rules, old.unsigned_abs()).min(i64::MAX as u64) as i64 * old.signum();
            kept.saturating_add(i64::from(new) * i64::from(MICRO))
        };
        let tried = |old: u64, new: u32| aged(rules, old).saturating_add(u64::from(new) * u64::from(MICRO));
        *self = CriticRecord {
            right_sum_micro: sum(self.right_sum_micro, draw.right_sum),
            right_micro: tried(self.right_micro, draw.right),
            wrong_sum_micro: sum(self.wrong_sum_micro, draw.wrong_sum),
            wrong_micro: tried(self.wrong_micro, draw.wrong),
        };
    }
}

/// The mean of two means in permille. Each half is rounded towards 0 by itself, which is exact for ±1: verdicts that
/// are all alike cancel exactly.
fn balanced(kinds: [(i64, u64); 2]) -> i32 {
    if kinds.iter().any(|(_, tried)| *tried == 0) {
        return 0;
    }
    let half = |(sum, tried): (i64, u64)| i128::from(sum) * 500 / i128::from(tried);
    // A sum beyond its trials can only come from a state that no settlement made.
    kinds.map(half).iter().map(|half| (*half).clamp(-500, 500) as i32).sum()
}

/// Critics that gave a verdict on anything assigned to them. The others are not tried: they were late or do not
/// write at all, and earn nothing.
pub(crate) fn speakers<'a>(prompts: impl Iterator<Item = &'a PromptVotes>) -> BTreeSet<PeerKey> {
    let spoke = |votes: &'a PromptVotes| {
        votes.assigned.iter().filter(|(peer, assigned)| {
            votes.verdicts.get(*peer).is_some_and(|given| given.keys().any(|c| assigned.contains(c)))
        })
    };
    prompts.flat_map(spoke).map(|(peer, _)| *peer).collect()
}

/// Every speaker's verdicts on one prompt. Whoever spoke at all is tried on everything assigned to it, or critics
/// would speak only where they are sure.
pub(crate) fn tried(
    votes: &PromptVotes,
    speakers: &BTreeSet<PeerKey>,
    gold: CandidateId,
) -> BTreeMap<PeerKey, GoldVerdicts> {
    let mut tried: BTreeMap<PeerKey, GoldVerdicts> = BTreeMap::new();
    for (peer, assigned) in votes.assigned.iter().filter(|(peer, _)| speakers.contains(*peer)) {
        let given = votes.verdicts.get(peer);
        let counts = tried.entry(*peer).or_default();
        for candidate in assigned {
            let verdict = given.and_then(|given| given.get(candidate)).copied();
            counts.count(verdict.unwrap_or(Verdict::Unclear), *candidate == gold);
        }
    }
    tried
}

/// Peers that gave a verdict on a candidate that was not theirs to judge; those verdicts do not count.
pub(crate) fn strays(votes: &PromptVotes) -> impl Iterator<Item = PeerKey> + '_ {
    let stray = |(peer, given): &(&PeerKey, &BTreeMap<CandidateId, Verdict>)| {
        let assigned = votes.assigned.get(*peer);
        given.keys().any(|candidate| !assigned.is_some_and(|assigned| assigned.contains(candidate)))
    };
    votes.verdicts.iter().filter(stray).map(|(peer, _)| *peer)
}
