//! Sequences of different length in one rectangle, and how many of them a pass may take.

use candle_core::{Device, Result, Tensor};

use crate::config::ModelConfig;

/// Values of one block's attention scores (1 GiB in f32).
const SCORE_VALUES_MAX: usize = 1 << 28;

/// What one pass may hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Tokens, padding included.
    pub(super) tokens_max: usize,
}

impl Limits {
    /// How many sequences of this length fit into one pass; at least one.
    pub(super) fn sequences_of(self, length: usize, config: &ModelConfig) -> usize {
        let length = length.max(1);
        let scores = config.num_attention_heads * length * length;
        (self.tokens_max / length).min(SCORE_VALUES_MAX / scores.max(1)).max(1)
    }

    /// Positions of all sequences in parts that fit, the longest first, so that little is padding.
    pub(super) fn parts(self, lengths: &[usize], config: &ModelConfig) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(lengths[*n]));
        let mut parts = Vec::new();
        let mut rest = &order[..];
        while let Some(longest) = rest.first() {
            let count = self.sequences_of(lengths[*longest], config).min(rest.len());
            let (part, later) = rest.split_at(count);
            parts.push(part.to_vec());
            rest = later;
        }
        parts
    }
}

/// Ids `[B, T]`, padded on the right with id 0: what follows a token cannot be seen by it.
pub(super) fn padded<S: AsRef<[u32]>>(sequences: &[S], t: usize, device: &Device) -> Result<Tensor> {
    let mut ids = vec![0; sequences.len() * t];
    for (row, sequence) in ids.chunks_exact_mut(t.max(1)).zip(sequences) {
        row[..sequence.as_ref().len()].copy_from_slice(sequence.as_ref());
    }
    Tensor::from_vec(ids, (sequences.len(), t), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_every_sequence_once_and_stay_within_the_limit() {
        let lengths = [5, 40, 7, 7, 100, 1, 12];
        let parts = Limits { tokens_max: 50 }.parts(&lengths, &ModelConfig::default());
        let mut all: Vec<usize> = parts.concat();
        all.sort();
        assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        for part in parts {
            let longest = part.iter().map(|n| lengths[*n]).max().unwrap();
            assert!(part.len() == 1 || part.len() * longest <= 50, "{part:?}");
        }
    }
}
