//! Token ids of several sequences, one behind the other without padding.
//!
//! Completions of one prompt share it: a tree is a prompt and the completions that continue it, and the
//! prompt's rows are computed once.

use std::ops::Range;

use crate::head::Target;

/// A prompt and the completion that follows it.
pub(crate) type Pair<'a> = (&'a [u32], &'a [u32]);

/// Neighbours in runs that cost at most `budget` together, or one that costs more. `cost` sees an item and the one
/// before it in its run.
pub(crate) fn runs<T>(
    items: &[T],
    budget: usize,
    cost: impl Fn(Option<&T>, &T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut sum, mut before) = (0, None);
        let fits = rest.iter().take_while(|item| {
            sum += cost(before.replace(*item), item);
            sum <= budget
        });
        let (now, later) = rest.split_at(fits.count().clamp(rest.len().min(1), rest.len()));
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

/// Rows that follow each other in one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) rows: Range<usize>,
    /// Rows of the prompt that they continue; empty for a prompt.
    pub(crate) parent: Range<usize>,
}

/// A prompt's segment and those that continue it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) segments: Vec<Segment>,
}

impl Tree {
    /// All its rows.
    pub(crate) fn rows(&self) -> Range<usize> {
        let start = self.segments.first().map_or(0, |segment| segment.rows.start);
        start..self.segments.last().map_or(start, |segment| segment.rows.end)
    }
}

/// Rows of a pass over the model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) trees: Vec<Tree>,
}

impl Batch {
    /// Adds a prompt and what continues it.
    pub(crate) fn push(&mut self, prompt: &[u32], continuations: &[&[u32]]) {
        let mut segments = Vec::with_capacity(continuations.len() + 1);
        let parent = self.append(prompt);
        segments.push(Segment { rows: parent.clone(), parent: 0..0 });
        for continuation in continuations {
            let rows = self.append(continuation);
            segments.push(Segment { rows, parent: parent.clone() });
        }
        segments.retain(|segment| !segment.rows.is_empty());
        self.trees.push(Tree { segments });
    }

    /// Prompts with the completions that follow them, and what predicts each completion token. Neighbours with one
    /// prompt share it. A completion's last token predicts nothing and is not computed.
    pub(crate) fn of_pairs(pairs: &[Pair]) -> (Self, Vec<Target>) {
        let (mut batch, mut targets) = (Self::default(), Vec::new());
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let prompt = same[0].0;
            let last = batch.rows() + prompt.len() - 1;
            let mut next = last + 1;
            for (_, completion) in same {
                let rows = std::iter::once(last).chain(next..);
                targets.extend(rows.zip(completion.iter()).map(|(row, token)| Target { row, token: *token }));
                next += completion.len() - 1;
            }
            let continuations: Vec<&[u32]> = same.iter().map(|(_, it)| &it[..it.len() - 1]).collect();
            batch.push(prompt, &continuations);
        }
        (batch, targets)
    }

    fn append(&mut self, tokens: &[u32]) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        start..self.tokens.len()
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Position of every row in its sequence.
    pub(crate) fn positions(&self) -> Vec<usize> {
        let segments = self.trees.iter().flat_map(|tree| &tree.segments);
        segments.flat_map(|segment| segment.parent.len()..segment.parent.len() + segment.rows.len()).collect()
    }
}
