//! Levels of difficulty that a swarm works its way up, one family at a time.
//!
//! A family is drawn from its lowest level up to the one that is *open*. What the swarm makes of the open level is
//! counted over some prompts: where they have a reference answer, the part of the ballots on it, else the part that
//! agreed. If that is much, the next level opens; if little, the open one closes again. It moves with the state after
//! a certificate, so it is the same for everybody who plays on it. Of the ballots the median member counts: less than
//! half of the voters can neither hurry nor stop it.

use crate::key::PeerKey;
use crate::reputation::PendingPrompt;
use crate::settlement::PromptSettlement;
use crate::votes::{PromptVotes, RoundVotes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When levels open and close. Part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumRules {
    /// Prompts of the open level after which it is looked at. At least 1.
    pub prompts: u32,
    /// The next level opens with at least this mean success. 1 to 1000.
    pub raise_permille: u32,
    /// The open level closes with less than this; below `raise_permille`.
    pub lower_permille: u32,
}

impl Default for CurriculumRules {
    fn default() -> Self {
        Self { prompts: 16, raise_permille: 700, lower_permille: 200 }
    }
}

/// Where a prompt stands in its family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the family.
    pub family: String,
    /// How many of the family's levels are below the prompt's.
    pub rank: u8,
    /// How many levels it has.
    pub ranks: u8,
}

/// How far a family has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// How many levels are open above the lowest.
    pub rank: u8,
    /// Prompts of the open level since it was last looked at.
    pub prompts: u32,
    /// Sum of their success, in permille.
    pub success_permille: u64,
}

/// The families' courses, by name; one that is not there is at its lowest level.
pub type Courses = BTreeMap<String, Course>;

/// The part of the ballots on the reference answer, or without one on the consensus, in permille.
pub(crate) fn success(
    votes: &PromptVotes,
    weights: &BTreeMap<PeerKey, u32>,
    pending: Option<&PendingPrompt>,
    settled: &PromptSettlement,
) -> u16 {
    if votes.gold.is_none() {
        return settled.consensus.map_or(0, |consensus| consensus.share_permille);
    }
    let masses = pending.iter().flat_map(|pending| &pending.mass_permille);
    let counted = masses.filter(|(peer, _)| weights.get(*peer).is_some_and(|weight| *weight > 0));
    let mut masses: Vec<u16> = counted.map(|(_, mass)| *mass).collect();
    masses.sort_unstable();
    // The lower one of two.
    masses.get(masses.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Counts a round's prompts and their success; the rank of every family that moved.
pub(crate) fn advance(
    rules: &CurriculumRules,
    courses: &mut Courses,
    votes: &RoundVotes,
    success: &[u16],
) -> BTreeMap<String, u8> {
    let mut ranks: BTreeMap<&str, u8> = BTreeMap::new();
    for (prompt, success) in votes.prompts.iter().zip(success) {
        let Some(stage) = &prompt.stage else { continue };
        let course = courses.entry(stage.family.clone()).or_default();
        ranks.insert(&stage.family, stage.ranks);
        if stage.rank == course.rank {
            course.prompts = course.prompts.saturating_add(1);
            course.success_permille = course.success_permille.saturating_add(u64::from(*success));
        }
    }
    let mut moved = BTreeMap::new();
    for (family, ranks) in ranks {
        let Some(course) = courses.get_mut(family) else { continue };
        if course.prompts < rules.prompts.max(1) {
            continue;
        }
        let mean = course.success_permille / u64::from(course.prompts);
        let rank = if mean >= u64::from(rules.raise_permille) {
            course.rank.saturating_add(1).min(ranks.saturating_sub(1))
        } else if mean < u64::from(rules.lower_permille) {
            course.rank.saturating_sub(1)
        } else {
            course.rank
        };
        if rank != course.rank {
            moved.insert(family.to_owned(), rank);
        }
        *course = Course { rank, ..Course::default() };
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::CandidateId;
    use crate::{Rules, State, settle};

    fn peer(n: u8) -> PeerKey {
        PeerKey([n; 32])
    }

    /// A prompt of the family on which the members put so much on the right answer, 7.
    fn prompt(index: u16, rank: u8, masses: &[u16]) -> PromptVotes {
        let [right, wrong] = ["7", "8"].map(|answer| CandidateId::of(index, answer));
        let members = (1..).zip(masses);
        PromptVotes {
            completions: members.clone().map(|(n, _)| (peer(n), vec![Some(right), Some(wrong)])).collect(),
            ballots: members
                .map(|(n, mass)| (peer(n), [(right, *mass), (wrong, 1000 - mass)].into()))
                .collect(),
            gold: Some(right),
            stage: Some(Stage { family: "gcd".into(), rank, ranks: 3 }),
            ..PromptVotes::default()
        }
    }

    fn play(state: &State, rank: u8, masses: &[u16]) -> (State, BTreeMap<String, u8>) {
        let rules = CurriculumRules { prompts: 4, ..CurriculumRules::default() };
        let rules = Rules { curriculum: Some(rules), ..Rules::default() };
        let roster = (1..).zip(masses).map(|(n, _)| peer(n)).collect();
        let prompts = (0..2).map(|index| prompt(index, rank, masses)).collect();
        let settlement = settle(&rules, state, &RoundVotes { roster, prompts, ..RoundVotes::default() });
        (settlement.next, settlement.levels)
    }

    #[test]
    fn levels_open_with_success_close_without_and_stop_at_both_ends() {
        let mut state = State::default();
        let mut moves = Vec::new();
        let said = [(0, 800), (1, 500), (1, 750), (2, 900), (2, 100), (1, 0), (0, 0), (1, 1000)];
        for (rank, mass) in said {
            for _ in 0..2 {
                let (next, moved) = play(&state, rank, &[mass; 4]);
                state = next;
                moves.extend(moved.into_values());
            }
        }
        assert_eq!(
            moves,
            [1, 2, 1, 0],
            "up at .8 and .75, not above the last; down at .1 and 0, not below the first"
        );
        assert_eq!(state.courses["gcd"], Course::default(), "what is not of the open level does not count");
    }

    #[test]
    fn a_minority_neither_hurries_nor_stops_it() {
        let moved = |masses: &[u16]| {
            let (state, _) = play(&State::default(), 0, masses);
            play(&state, 0, masses).1.into_values().next()
        };
        assert_eq!(moved(&[900, 900, 900, 0, 0]), Some(1));
        assert_eq!(moved(&[300, 300, 300, 1000, 1000]), None);
    }

    #[test]
    fn agreement_counts_where_nobody_knows_the_answer() {
        let mut votes = prompt(0, 0, &[800; 4]);
        votes.gold = None;
        let consensus =
            crate::Consensus { candidate: CandidateId::of(0, "7"), share_permille: 750, supporters: 4 };
        let settled = PromptSettlement { consensus: Some(consensus), ..PromptSettlement::default() };
        assert_eq!(success(&votes, &BTreeMap::new(), None, &settled), 750);
        assert_eq!(success(&votes, &BTreeMap::new(), None, &PromptSettlement::default()), 0);
    }
}
