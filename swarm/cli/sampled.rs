//! A peer's own completions of a round, looked at once: answers, right ones, reasoning, lengths.

use policy::Group;
use tasks::{Item, has_trace};

/// Characters of a completion that are kept to show.
const SHOWN_CHARS: usize = 240;

/// A peer's own samples of a round, against the reference answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) round: u32,
    pub(crate) completions: usize,
    pub(crate) right: usize,
    pub(crate) traces: usize,
    /// One entry a prompt.
    pub(crate) prompts: Vec<SampledPrompt>,
    pub(crate) lengths: Lengths,
}

/// The completions of one prompt.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampledPrompt {
    /// In order; `None` where no answer could be read.
    pub(crate) answers: Vec<Option<String>>,
    pub(crate) right: usize,
    /// The first completion.
    pub(crate) first: String,
}

/// Lengths of completions in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) sum: usize,
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// Completions that were cut off.
    pub(crate) clipped: usize,
}

impl Sampled {
    /// What the groups of a round's prompts came to.
    pub(crate) fn of(round: u32, items: &[Item], groups: &[Group]) -> Self {
        let mut sampled = Self { round, ..Self::default() };
        sampled.lengths.min = usize::MAX;
        for (item, group) in items.iter().zip(groups) {
            let prompt = sampled.prompt(item, group);
            sampled.right += prompt.right;
            sampled.prompts.push(prompt);
        }
        sampled.lengths.min = sampled.lengths.min.min(sampled.lengths.max);
        sampled
    }

    fn prompt(&mut self, item: &Item, group: &Group) -> SampledPrompt {
        let mut prompt = SampledPrompt::default();
        for rollout in group.rollouts() {
            let answer = item.parse(&rollout.text);
            let right = answer.as_ref().is_some_and(|a| item.gold().is_some_and(|gold| gold.matches(a)));
            prompt.right += usize::from(right);
            prompt.answers.push(answer.map(|answer| answer.to_string()));
            self.completions += 1;
            self.traces += usize::from(has_trace(&rollout.text));
            self.lengths.count(rollout.completion.len(), rollout.finished);
        }
        let first = group.rollouts().first().map(|rollout| rollout.text.as_str()).unwrap_or_default();
        prompt.first = first.chars().take(SHOWN_CHARS).collect();
        prompt
    }
}

impl Lengths {
    fn count(&mut self, tokens: usize, finished: bool) {
        self.sum += tokens;
        self.min = self.min.min(tokens);
        self.max = self.max.max(tokens);
        self.clipped += usize::from(!finished);
    }
}
