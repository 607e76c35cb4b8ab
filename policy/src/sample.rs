//! Choosing one token from a row of logits, reproducibly.
//!
//! Randomness is a counter: `u = hash(seed, prompt, sample, step)` picks the token whose cumulative
//! probability, in order of ids, first exceeds `u`. A token therefore depends on nothing but the row and
//! its place in the rollout.

use crate::kernel::rows::{SUM_BLOCK, exponentials};
use crate::rollout::Sampling;

/// Scratch for choosing; one a thread.
#[derive(Default)]
pub(crate) struct Chooser {
    e: Vec<f32>,
    blocks: Vec<f32>,
    order: Vec<u32>,
}

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) token: u32,
    /// Its log-probability at the sampling temperature (1 for greedy choice) under the whole
    /// distribution, before top-k, top-p and min-p.
    pub(crate) logprob: f32,
}

impl Chooser {
    /// The token that `u` in [0, 1) picks.
    pub(crate) fn choose(&mut self, logits: &[f32], sampling: &Sampling, u: f32) -> Chosen {
        let greedy = sampling.temperature == 0.0;
        let scale = if greedy { 1.0 } else { 1.0 / sampling.temperature };
        self.e.resize(logits.len(), 0.0);
        let (max, sum) = exponentials(&mut self.e, &mut self.blocks, logits, scale);
        let log_sum = max + libm::logf(sum);
        let token = if greedy {
            likeliest(logits)
        } else {
            let sum = if sampling.filters() { self.filter(sampling, sum) } else { sum };
            self.draw(u * sum)
        };
        Chosen { token: token as u32, logprob: logits[token] * scale - log_sum }
    }

    /// Inverse CDF in order of ids: block by block, then token by token.
    fn draw(&self, target: f32) -> usize {
        let mut before = 0.0;
        for (block, sum) in self.blocks.iter().enumerate() {
            if target >= before + sum && block + 1 < self.blocks.len() {
                before += sum;
                continue;
            }
            let first = block * SUM_BLOCK;
            let values = &self.e[first..self.e.len().min(first + SUM_BLOCK)];
            let mut within = before;
            for (i, value) in values.iter().enumerate() {
                within += value;
                if target < within && *value > 0.0 {
                    return first + i;
                }
            }
            // The block's sum was rounded differently: its last possible token.
            if let Some(last) = values.iter().rposition(|value| *value > 0.0) {
                return first + last;
            }
        }
        self.e.iter().rposition(|value| *value > 0.0).unwrap_or(0)
    }

    /// Zeroes what min-p, top-k and top-p leave out, in this order; returns what the rest sums to.
    fn filter(&mut self, sampling: &Sampling, sum: f32) -> f32 {
        // The largest exponential is 1.
        let floor = sampling.min_p;
        self.order.clear();
        self.order.extend((0..self.e.len() as u32).filter(|i| self.e[*i as usize] >= floor));
        let e = &self.e;
        let by_size = |a: &u32, b: &u32| e[*b as usize].total_cmp(&e[*a as usize]).then(a.cmp(b));
        if sampling.top_k > 0 && sampling.top_k < self.order.len() {
            self.order.select_nth_unstable_by(sampling.top_k - 1, by_size);
            self.order.truncate(sampling.top_k);
        }
        if sampling.top_p < 1.0 {
            let total: f32 = if self.order.len() == e.len() {
                sum
            } else {
                self.order.sort_unstable();
                self.order.iter().map(|i| e[*i as usize]).sum()
            };
            // Tokens this small are, all together, less than what is left out; halved so that rounding never
            // drops the largest.
            let small = 0.5 * (1.0 - sampling.top_p) * total / self.order.len() as f32;
            self.order.retain(|i| e[*i as usize] > small);
            self.order.sort_unstable_by(by_size);
            let mut reached = 0.0;
            let kept = self.order.iter().position(|i| {
                reached += e[*i as usize];
                reached >= sampling.top_p * total
            });
            self.order.truncate(kept.map_or(self.order.len(), |last| last + 1));
        }
        self.order.sort_unstable();
        let mut kept = self.order.iter().copied().peekable();
        for (i, value) in self.e.iter_mut().enumerate() {
            if kept.next_if_eq(&(i as u32)).is_none() {
                *value = 0.0;
            }
        }
        let mut total = 0.0;
        for (sum, values) in self.blocks.iter_mut().zip(self.e.chunks(SUM_BLOCK)) {
            *sum = values.iter().sum();
            total += *sum;
        }
        total
    }
}

/// The first of the largest values.
fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// Uniform in [0, 1), a multiple of 2⁻²⁴.
pub(crate) fn uniform(key: &[u8; 32], step: usize) -> f32 {
    let hash = blake3::keyed_hash(key, &(step as u64).to_le_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    (u32::from_le_bytes([a, b, c, 0]) as f32) / (1u32 << 24) as f32
}

/// The key of one rollout's randomness.
pub(crate) fn stream_key(seed: &[u8; 32], prompt: usize, sample: usize) -> [u8; 32] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(prompt as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(sample as u64).to_le_bytes());
    *blake3::keyed_hash(seed, &bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(logits: &[f32], sampling: Sampling) -> Vec<f32> {
        let mut counts = vec![0.0; logits.len()];
        let mut chooser = Chooser::default();
        for i in 0..10_000 {
            let chosen = chooser.choose(logits, &sampling, i as f32 / 10_000.0);
            counts[chosen.token as usize] += 1e-4;
        }
        counts
    }

    /// Probabilities .4, .3, .2, .1 behind 300 tokens that are next to impossible.
    fn logits() -> Vec<f32> {
        let mut logits = vec![-60.0; 304];
        for (i, p) in [0.4f32, 0.3, 0.2, 0.1].into_iter().enumerate() {
            logits[75 * i + 10] = p.ln();
        }
        logits
    }

    fn check(sampling: Sampling, expected: [f32; 4]) {
        let got = shares(&logits(), sampling);
        for (i, expected) in expected.into_iter().enumerate() {
            assert!((got[75 * i + 10] - expected).abs() < 2e-3, "{sampling:?}: {i}: {}", got[75 * i + 10]);
        }
    }

    #[test]
    fn every_token_gets_its_share() {
        let plain = Sampling { temperature: 1.0, ..Sampling::default() };
        check(plain, [0.4, 0.3, 0.2, 0.1]);
        check(Sampling { temperature: 0.0, ..plain }, [1.0, 0.0, 0.0, 0.0]);
        check(Sampling { temperature: 0.5, ..plain }, [16.0, 9.0, 4.0, 1.0].map(|x| x / 30.0));
        check(Sampling { top_k: 2, ..plain }, [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        check(Sampling { top_p: 0.85, ..plain }, [4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0]);
        check(Sampling { top_p: 0.05, ..plain }, [1.0, 0.0, 0.0, 0.0]);
        check(Sampling { min_p: 0.6, ..plain }, [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        // top-p works on what top-k left: .9 · .7 = .63 of .4 + .3.
        check(Sampling { top_k: 2, top_p: 0.5, ..plain }, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn log_probabilities_are_those_of_the_whole_distribution() {
        let mut chooser = Chooser::default();
        let sampling = Sampling { temperature: 1.0, top_k: 1, ..Sampling::default() };
        let chosen = chooser.choose(&logits(), &sampling, 0.99);
        assert_eq!(chosen.token, 10);
        assert!((chosen.logprob - 0.4f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn damaged_logits_still_choose_a_token() {
        let mut chooser = Chooser::default();
        let sampling = Sampling { temperature: 1.0, top_k: 3, top_p: 0.9, ..Sampling::default() };
        for row in [[f32::NAN; 5], [f32::NEG_INFINITY; 5], [f32::INFINITY; 5], [0.0; 5]] {
            assert!(chooser.choose(&row, &sampling, 0.5).token < 5);
        }
    }
}
