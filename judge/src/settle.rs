//! Settling a round: the gold of the previous one, weights, labels, rewards, conduct.

use crate::curriculum;
use crate::key::PeerKey;
use crate::reputation::{PendingPrompt, State, weights};
use crate::rules::Rules;
use crate::settlement::{Label, PromptSettlement, Settlement, Void, VoidReason};
use crate::tally::{Electorate, Tally};
use crate::verdicts;
use crate::votes::{PromptVotes, RoundVotes};
use std::collections::{BTreeMap, BTreeSet};

/// Settles a round.
///
/// In this order: the gold of the previous round is drawn with this round's beacon and tried; audits of its answers
/// are closed; the weights follow; every prompt is counted with them; levels move; conduct moves the liveness that the
/// *next* round's weights will carry.
///
/// Total: no input makes it fail. What breaks a rule is void and reported.
pub fn settle(rules: &Rules, state: &State, votes: &RoundVotes) -> Settlement {
    let roster: BTreeSet<PeerKey> = votes.roster.iter().copied().collect();
    let mut next = state.clone();
    next.admit(&roster);
    let gold = next.draw_gold(rules, &votes.gold_seed);
    let audits = next.audits.close(&rules.audit, next.rounds, votes);
    let weights = weights(rules, &next, &votes.roster);
    let electorate = Electorate::new(&weights);
    let voters: BTreeSet<PeerKey> = votes.prompts.iter().flat_map(voted).collect();
    let mut speakers = verdicts::speakers(votes.prompts.iter());
    speakers.retain(|peer| roster.contains(peer));

    let mut settlement = Settlement {
        prompts: Vec::with_capacity(votes.prompts.len()),
        weights: BTreeMap::new(),
        anchored: next.anchored,
        gold,
        labels_decided: 0,
        labels_undecided: 0,
        prompts_undecided: 0,
        voids: BTreeMap::new(),
        conduct_forgiven: false,
        audits,
        packs: next.packs.count(next.rounds.saturating_add(2), &roster, &votes.packs),
        levels: BTreeMap::new(),
        next: State::default(),
    };
    let mut success = Vec::with_capacity(votes.prompts.len());
    for (index, prompt) in (0_u32..).zip(&votes.prompts) {
        let tally = Tally::new(&electorate, prompt);
        let settled = settle_prompt(rules, &electorate, &tally, prompt);
        let pending = pend(&electorate, &tally, &voters, prompt, &settled);
        success.push(curriculum::success(prompt, &weights, pending.as_ref(), &settled));
        if let Some(pending) = pending {
            next.pending.insert(index, pending);
        }
        let tried = prompt.gold.map(|gold| verdicts::tried(prompt, &speakers, gold));
        if let Some(tried) = tried.filter(|tried| !tried.is_empty()) {
            next.pending_verdicts.insert(index, tried);
        }
        settlement.count(&settled);
        settlement.prompts.push(settled);
    }
    if let Some(rules) = &rules.curriculum {
        settlement.levels = curriculum::advance(rules, &mut next.courses, votes, &success);
    }
    settlement.conduct_forgiven = next.conduct(rules, &weights, &votes.conduct);
    next.forget(&roster);
    next.rounds = next.rounds.saturating_add(1);
    settlement.weights = weights;
    settlement.next = next;
    settlement
}

impl Settlement {
    fn count(&mut self, prompt: &PromptSettlement) {
        let decided = decided(&prompt.labels);
        let undecided = u32::try_from(prompt.labels.len()).unwrap_or(u32::MAX).saturating_sub(decided);
        self.labels_decided = self.labels_decided.saturating_add(decided);
        self.labels_undecided = self.labels_undecided.saturating_add(undecided);
        self.prompts_undecided = self.prompts_undecided.saturating_add(u32::from(decided == 0));
        for void in &prompt.voids {
            let count = self.voids.entry(void.reason).or_default();
            *count = count.saturating_add(1);
        }
    }
}

fn decided(labels: &BTreeMap<PeerKey, Label>) -> u32 {
    u32::try_from(labels.values().filter(|label| label.candidate().is_some()).count()).unwrap_or(u32::MAX)
}

/// Peers with a ballot that names anything.
fn voted(prompt: &PromptVotes) -> impl Iterator<Item = PeerKey> + '_ {
    prompt.ballots.iter().filter(|(_, ballot)| !ballot.is_empty()).map(|(peer, _)| *peer)
}

fn settle_prompt(
    rules: &Rules,
    electorate: &Electorate,
    tally: &Tally,
    votes: &PromptVotes,
) -> PromptSettlement {
    let labels: BTreeMap<PeerKey, Label> =
        electorate.seats.iter().map(|(peer, seat)| (*peer, tally.label(rules, *seat))).collect();
    let reward =
        |(peer, label): (&PeerKey, &Label)| Some((*peer, label.rewards(votes.completions.get(peer)?)?));
    PromptSettlement {
        consensus: tally.consensus(),
        rewards: labels.iter().filter_map(reward).collect(),
        labels,
        candidates: u32::try_from(tally.candidates()).unwrap_or(u32::MAX),
        voids: tally.voids.iter().copied().chain(strays(votes)).collect(),
    }
}

fn strays(votes: &PromptVotes) -> impl Iterator<Item = Void> + '_ {
    verdicts::strays(votes).map(|peer| Void { peer, reason: VoidReason::UnassignedVerdict })
}

/// What the next settlement needs to know about a prompt in case it is drawn as gold.
///
/// A peer is tried on a prompt that it answered or voted on, if it voted at all in the round. Leaving the ballot of
/// an answered prompt empty is a failed trial, or peers would vote only where they are sure; a peer whose whole vote
/// was late or lost is not tried, since liveness covers that.
fn pend(
    electorate: &Electorate,
    tally: &Tally,
    voters: &BTreeSet<PeerKey>,
    votes: &PromptVotes,
    settled: &PromptSettlement,
) -> Option<PendingPrompt> {
    let gold = votes.gold?;
    let mut pending = PendingPrompt {
        consensus_right: settled.consensus.is_some_and(|c| c.candidate == gold),
        labels: decided(&settled.labels),
        ..PendingPrompt::default()
    };
    let right = settled.labels.values().filter(|label| label.candidate() == Some(gold)).count();
    pending.labels_right = u32::try_from(right).unwrap_or(u32::MAX);
    for (peer, seat) in &electorate.seats {
        let answered = votes.completions.get(peer).is_some_and(|completions| !completions.is_empty());
        let voted = votes.ballots.get(peer).is_some_and(|ballot| !ballot.is_empty());
        if voters.contains(peer) && (answered || voted) {
            let mass = votes.ballots.get(peer).map_or(0, |ballot| tally.mass_permille(ballot, gold));
            pending.mass_permille.insert(*peer, mass);
        }
        let ranking = votes.critiques.get(peer).and_then(|critiques| tally.ranking(*seat, critiques, gold));
        if let Some(ranking) = ranking {
            pending.ranking_permille.insert(*peer, ranking);
        }
    }
    Some(pending)
}
