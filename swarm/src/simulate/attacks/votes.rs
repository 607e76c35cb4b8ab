//! Votes: a ring that always says the same wrong thing.

use tasks::Item;

use crate::engine::{Input, Work};
use crate::simulate::adversary::{Acts, Adversary};
use crate::simulate::policy::bare;
use crate::wire::Hash;

/// One wrong answer with full ballots, and the best of critiques for it.
pub(in crate::simulate) struct Ring {
    pub(in crate::simulate) name: &'static str,
}

/// The ring's answer: truth plus one.
fn lie(item: &Item) -> String {
    let truth: Option<i64> = item.gold().and_then(|gold| gold.answer().as_str().parse().ok());
    truth.map_or_else(|| bare(1), |truth| bare(truth.wrapping_add(1)))
}

impl Adversary for Ring {
    fn work(&mut self, work: &Work, acts: &mut Acts<'_>) -> Option<Input> {
        match work {
            Work::Answer { round, items, completions, .. } => {
                acts.fire(self.name);
                let completions =
                    items.iter().map(|item| vec![lie(item); usize::from(*completions)]).collect();
                Some(Input::Answers { round: *round, completions, policy: Hash([1; 32]) })
            }
            Work::Critique { round, items, traces, .. } => {
                let score = |item: &Item, text: &String| {
                    Some(if *text == lie(item) { 0 } else { judge::CRITIQUE_MIN })
                };
                let of_item = |(item, traces): (&Item, &Vec<(judge::CandidateId, String)>)| {
                    traces.iter().map(|(_, text)| score(item, text)).collect()
                };
                let scores = items.iter().zip(traces).map(of_item).collect();
                Some(Input::Critiques { round: *round, scores, texts: Vec::new() })
            }
            Work::Audit(_) => None,
        }
    }
}
