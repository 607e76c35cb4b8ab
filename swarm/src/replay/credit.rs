//! What each peer contributed, from the messages that certificates include.

use std::collections::BTreeMap;

use judge::{AuditOutcome, AuditReport, CandidateId, PeerKey, Settlement};
use serde::Serialize;

use crate::engine::Play;
use crate::message::{Share, Statement};

/// One peer's contribution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Credit {
    /// Rounds in whose roster it was.
    pub rounds: u32,
    /// Rounds whose certificate includes its answers.
    pub answered: u32,
    /// Prompts that it was rewarded on.
    pub prompts_rewarded: u32,
    /// Its completions on them.
    pub completions_rewarded: u64,
    /// Sum of their rewards in permille.
    pub reward_permille: u64,
    /// Prompts whose settled answer was the one it had voted for most.
    pub consensus_wins: u32,
    /// Prompts drawn as gold on which it was tried, ever.
    pub gold_ballots: u32,
    /// Aged part of its ballots that was right on gold, in micro-units; unknown to the swarm where absent.
    pub accuracy_micro: Option<u32>,
    /// Rounds whose certificate includes its critiques.
    pub critiqued: u32,
    /// Candidates that it judged in words.
    pub critiques_written: u32,
    /// Rounds that ended without its commit or its ballot.
    pub missed: u32,
    /// Rounds in which it committed and kept its answers back.
    pub withheld: u32,
    /// Audits of its answers that they passed.
    pub audits_passed: u32,
    /// Audits of its answers that found others than its weights sample.
    pub audits_failed: u32,
    /// Audits of others in which it said what it found.
    pub audits_done: u32,
    /// Audits in which it found the contrary of the majority, or opened a test that was none.
    pub audits_wrong: u32,
    /// Messages that came after their phase, by the clock of the log's owner.
    pub late: u32,
    /// 1 if the log has a proof that it said two things where it may say one.
    pub equivocations: u32,
    /// Its vote weight now, in micro-units; 0 outside the roster.
    pub weight_micro: u32,
}

impl Credit {
    /// Adds what rounds contributed; what only the newest state says is left as it is.
    pub(super) fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.answered += other.answered;
        self.prompts_rewarded += other.prompts_rewarded;
        self.completions_rewarded += other.completions_rewarded;
        self.reward_permille += other.reward_permille;
        self.consensus_wins += other.consensus_wins;
        self.critiqued += other.critiqued;
        self.critiques_written += other.critiques_written;
        self.missed += other.missed;
        self.withheld += other.withheld;
        self.audits_passed += other.audits_passed;
        self.audits_failed += other.audits_failed;
        self.audits_done += other.audits_done;
        self.audits_wrong += other.audits_wrong;
        self.late += other.late;
        self.equivocations += other.equivocations;
    }

    /// Mean reward of a rewarded completion, 0 to 1.
    pub fn mean_reward(&self) -> Option<f64> {
        let whole = self.completions_rewarded as f64 * 1000.0;
        (self.completions_rewarded > 0).then(|| self.reward_permille as f64 / whole)
    }
}

/// What each member of a roster contributed to one round.
pub(super) fn contributions(
    play: &Play,
    roster: &[PeerKey],
    statement: &Statement,
    settlement: &Settlement,
) -> BTreeMap<PeerKey, Credit> {
    let of = |(i, peer): (usize, &PeerKey)| {
        let (committed, answered) = (statement.commits.contains(i), statement.answers.contains(i));
        let (critiqued, voted) = (statement.critiques.contains(i), statement.ballots.contains(i));
        let rewards = || settlement.prompts.iter().filter_map(|prompt| prompt.rewards.get(peer));
        let outcome = settlement.audits.get(peer).map(|audit| audit.outcome);
        let audits = |has: &dyn Fn(&AuditReport) -> bool| {
            settlement.audits.values().filter(|audit| has(audit)).count() as u32
        };
        let credit = Credit {
            rounds: 1,
            answered: u32::from(answered),
            prompts_rewarded: rewards().count() as u32,
            completions_rewarded: rewards().map(|rewards| rewards.len() as u64).sum(),
            reward_permille: rewards().flatten().map(|reward| u64::from(*reward)).sum(),
            consensus_wins: if voted { wins(play, peer, settlement) } else { 0 },
            critiqued: u32::from(critiqued),
            critiques_written: if critiqued { written(play, peer) } else { 0 },
            missed: u32::from(!committed || !voted),
            withheld: u32::from(committed && !answered),
            audits_passed: u32::from(outcome == Some(AuditOutcome::Passed)),
            audits_failed: u32::from(outcome == Some(AuditOutcome::Failed)),
            audits_done: audits(&|audit| audit.findings.contains_key(peer)),
            audits_wrong: audits(&|audit| audit.marked.contains(peer)),
            ..Credit::default()
        };
        (*peer, credit)
    };
    roster.iter().enumerate().map(of).collect()
}

/// Prompts whose settled answer has the largest share of a peer's ballot.
fn wins(play: &Play, peer: &PeerKey, settlement: &Settlement) -> u32 {
    let ballot = play.items.said(peer).and_then(|said| said.ballot.as_ref());
    let prompts = ballot.map_or(&[][..], |ballot| &ballot.body.prompts);
    let won = |(shares, settled): &(&Vec<Share>, &judge::PromptSettlement)| {
        let consensus = settled.consensus.map(|consensus| consensus.candidate);
        consensus.is_some() && consensus == most(shares)
    };
    prompts.iter().zip(&settlement.prompts).filter(won).count() as u32
}

/// The candidate with the largest share; the first among equals.
fn most(shares: &[Share]) -> Option<CandidateId> {
    shares.iter().rev().max_by_key(|share| share.permille).map(|share| share.candidate)
}

fn written(play: &Play, peer: &PeerKey) -> u32 {
    let critique = play.items.said(peer).and_then(|said| said.critique.as_ref());
    critique.map_or(0, |critique| critique.body.texts.iter().map(Vec::len).sum::<usize>() as u32)
}
