//! How good a model is on held-out items, and the controls a gain is judged against.
//!
//! *Greedy* is what the model does by habit. *Forced* makes it reason first: what it could do. *Majority* of 16
//! samples is what it knows without anybody's help. A swarm that ends above the base's majority learnt more than
//! to repeat itself.

use std::collections::BTreeMap;

use policy::{Policy, Sampling};
use serde::{Deserialize, Serialize};
use tasks::{Answer, Item, has_trace};

/// Completions of one prompt in the controls.
pub(crate) const SAMPLES: usize = 16;
/// Longest completion in an evaluation, in tokens; the longest native one has 17.
pub(crate) const NEW_TOKENS_MAX: usize = 24;

/// A share of right answers per family, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    /// By family.
    pub(crate) per_family: BTreeMap<String, f64>,
    /// Mean over families, each counted once.
    pub(crate) mean: f64,
    /// Items looked at.
    pub(crate) items: usize,
}

/// How many items of each family there are, in words: `most`, or fewer where a pack has no more.
pub(crate) fn items_words(items: &[Item], most: usize) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    items.iter().for_each(|item| *counts.entry(item.family()).or_default() += 1);
    let fewer = counts.iter().filter(|(_, count)| **count < most);
    let fewer: String = fewer.map(|(family, count)| format!(", {count} of {family}")).collect();
    format!("{most} items a family{fewer}")
}

impl Evaluation {
    /// From one value an item.
    pub(crate) fn of(items: &[Item], values: impl IntoIterator<Item = f64>) -> Self {
        let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        let mut count = 0;
        for (item, value) in items.iter().zip(values) {
            let sum = sums.entry(item.family().to_owned()).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
            count += 1;
        }
        let per_family: BTreeMap<String, f64> =
            sums.into_iter().map(|(family, (sum, n))| (family, sum / n as f64)).collect();
        let mean = per_family.values().sum::<f64>() / per_family.len().max(1) as f64;
        Self { per_family, mean, items: count }
    }

    /// Family by family divided by another evaluation; 0 where that is 0.
    fn ratio(mut self, whole: &Evaluation) -> Self {
        for (family, value) in &mut self.per_family {
            let whole = whole.per_family.get(family).copied().unwrap_or(0.0);
            *value = if whole > 0.0 { *value / whole } else { 0.0 };
        }
        self.mean = self.per_family.values().sum::<f64>() / self.per_family.len().max(1) as f64;
        self
    }

    /// The mean of several evaluations of the same items, such as of all peers.
    pub(crate) fn mean_of(evaluations: &[Evaluation]) -> Self {
        let n = evaluations.len().max(1) as f64;
        let mut mean = Evaluation { items: evaluations.first().map_or(0, |e| e.items), ..Self::default() };
        for evaluation in evaluations {
            mean.mean += evaluation.mean / n;
            for (family, value) in &evaluation.per_family {
                *mean.per_family.entry(family.clone()).or_default() += value / n;
            }
        }
        mean
    }
}

fn right(item: &Item, completion: &str) -> bool {
    item.parse(completion).is_some_and(|answer| is_gold(item, &answer))
}

fn is_gold(item: &Item, answer: &Answer) -> bool {
    item.gold().is_some_and(|gold| gold.matches(answer))
}

fn prompts(items: &[Item]) -> Vec<&str> {
    items.iter().map(Item::prompt).collect()
}

/// Greedy accuracy.
///
/// # Errors
/// When the policy cannot read a prompt.
pub(crate) fn evaluate(policy: &Policy, items: &[Item]) -> policy::Result<Evaluation> {
    completed(policy, items, "")
}

/// Greedy accuracy when every completion must begin with reasoning.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn forced_trace(policy: &Policy, items: &[Item]) -> policy::Result<Evaluation> {
    completed(policy, items, "<think>")
}

fn completed(policy: &Policy, items: &[Item], prefix: &str) -> policy::Result<Evaluation> {
    let rollouts = policy.complete(&prompts(items), prefix, NEW_TOKENS_MAX)?;
    Ok(Evaluation::of(
        items,
        items.iter().zip(&rollouts).map(|(item, r)| f64::from(u8::from(right(item, &r.text)))),
    ))
}

/// What [`SAMPLES`] samples of every prompt show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sampled {
    /// Accuracy of one sample.
    pub(crate) accuracy: Evaluation,
    /// Share of samples that show reasoning.
    pub(crate) traces: Evaluation,
    /// Accuracy of the samples that show reasoning, each item weighted by how many do; 0 where none does.
    pub(crate) traced: Evaluation,
    /// Accuracy of the most frequent answer; of several equally frequent ones the first in order.
    pub(crate) majority: Evaluation,
}

/// Samples every prompt [`SAMPLES`] times. Temperature 0.7 is the default of a swarm, 1 the model as it is.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn majority_16(
    policy: &Policy,
    items: &[Item],
    temperature: f32,
    seed: &[u8; 32],
) -> policy::Result<Sampled> {
    let sampling = Sampling { temperature, new_tokens_max: NEW_TOKENS_MAX, ..Sampling::default() };
    let groups = policy.rollout(&prompts(items), SAMPLES, &sampling, seed)?;
    let (mut accuracy, mut traces, mut majority) = (Vec::new(), Vec::new(), Vec::new());
    let mut traced_right = Vec::new();
    for (item, group) in items.iter().zip(&groups) {
        let texts: Vec<&str> = group.rollouts().iter().map(|r| r.text.as_str()).collect();
        let share = |n: usize| n as f64 / texts.len().max(1) as f64;
        accuracy.push(share(texts.iter().filter(|text| right(item, text)).count()));
        traces.push(share(texts.iter().filter(|text| has_trace(text)).count()));
        traced_right.push(share(texts.iter().filter(|text| has_trace(text) && right(item, text)).count()));
        let chosen = plurality(texts.iter().filter_map(|text| item.parse(text)));
        majority.push(f64::from(u8::from(chosen.is_some_and(|answer| is_gold(item, &answer)))));
    }
    let traces = Evaluation::of(items, traces);
    Ok(Sampled {
        accuracy: Evaluation::of(items, accuracy),
        traced: Evaluation::of(items, traced_right).ratio(&traces),
        traces,
        majority: Evaluation::of(items, majority),
    })
}

/// The most frequent answer.
fn plurality(answers: impl Iterator<Item = Answer>) -> Option<Answer> {
    let mut counts: BTreeMap<Answer, usize> = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map(|(answer, _)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packs;
    use tasks::Split;

    #[test]
    fn families_count_once_each() {
        let items = packs::catalogue("", &packs::native()).unwrap().held_out(Split::Test, 2);
        let values = items.iter().map(|item| f64::from(u8::from(item.family() == "sum")));
        let evaluation = Evaluation::of(&items, values);
        assert_eq!(
            (evaluation.items, evaluation.per_family["sum"], evaluation.per_family["add"]),
            (12, 1.0, 0.0)
        );
        assert!((evaluation.mean - 1.0 / 6.0).abs() < 1e-12);
        let both = Evaluation::mean_of(&[evaluation.clone(), Evaluation::of(&items, vec![0.0; 12])]);
        assert!(
            (both.per_family["sum"] - 0.5).abs() < 1e-12 && (both.mean - evaluation.mean / 2.0).abs() < 1e-12
        );
    }

    #[test]
    fn ties_go_to_the_first_answer() {
        let item = &packs::catalogue("", &packs::native()).unwrap().held_out(Split::Test, 1)[0];
        let answers =
            |texts: &[&str]| -> Vec<Answer> { texts.iter().filter_map(|t| item.canonical(t)).collect() };
        let chosen = plurality(answers(&["7", "3", "3", "7"]).into_iter());
        assert_eq!(chosen.as_ref().map(Answer::as_str), Some("3"));
        assert_eq!(plurality(std::iter::empty()), None);
    }
}
