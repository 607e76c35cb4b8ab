//! The scripted policy: right as often as it is told to be, wrong in its own way otherwise.

use judge::{CandidateId, Finding};
use tasks::Item;

use super::dice::Dice;
use crate::engine::{Input, Work};
use crate::wire::Hash;

/// How well a policy answers and scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skill {
    /// Completions that are right, in permille.
    pub(super) accuracy_permille: u64,
    /// Whether its scores tell reasoning from a bare answer; else they are all alike.
    pub(super) discerning: bool,
}

/// Score of reasoning, in milli-nats.
const REASONED: i16 = -100;
/// Score of a bare answer.
const BARE: i16 = -900;
/// Wrong answers are drawn from this many.
const WRONG_ANSWERS: u64 = 900;

/// A bare answer.
pub(super) fn bare(answer: impl std::fmt::Display) -> String {
    format!("<answer>{answer}</answer>")
}

/// A right completion of a native item.
pub(super) fn right(item: &Item) -> String {
    item.worked().unwrap_or_default()
}

impl Skill {
    /// What a policy of this skill makes of its work.
    pub(super) fn perform(self, work: &Work) -> Input {
        match work {
            Work::Answer { round, items, completions, seed } => {
                let mut dice = Dice::new(u64::from_le_bytes(first(seed)), "answers");
                let mut complete = |item: &Item| {
                    if dice.chance(self.accuracy_permille) {
                        right(item)
                    } else {
                        bare(100 + dice.below(WRONG_ANSWERS))
                    }
                };
                let completions =
                    items.iter().map(|item| (0..*completions).map(|_| complete(item)).collect()).collect();
                Input::Answers { round: *round, completions, policy: Hash([1; 32]) }
            }
            Work::Critique { round, traces, .. } => {
                let score = |(_, text): &(CandidateId, String)| {
                    Some(if !self.discerning || tasks::has_trace(text) { REASONED } else { BARE })
                };
                let scores = traces.iter().map(|traces| traces.iter().map(score).collect()).collect();
                Input::Critiques { round: *round, scores, texts: Vec::new() }
            }
            // Scripted answers have no weights to offer.
            Work::Audit(case) => {
                Input::Audited { round: case.round, peer: case.peer, finding: Finding::Inconclusive }
            }
        }
    }
}

fn first(seed: &[u8; 32]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&seed[..8]);
    bytes
}
