//! Weights of tokens for [`weighted_sequence_loss`](super::weighted_sequence_loss): corrections for text
//! that another computation or another policy sampled, and the choice of tokens by entropy.

use libm::exp;
use serde::{Deserialize, Serialize};

/// How the ratio between the trainer's and the sampler's probabilities is formed and bounded; TRL's
/// `vllm_importance_sampling_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerRatio {
    /// A ratio a token, cut to the bounds.
    TokenTruncate,
    /// A ratio a token, 0 outside the bounds.
    TokenMask,
    /// The product over the sequence, cut to the bounds.
    SequenceTruncate,
    /// The product over the sequence, 0 outside the bounds.
    #[default]
    SequenceMask,
}

/// Importance weights for a sampler that computes other probabilities than the trainer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerCorrection {
    /// How the ratio is formed and bounded.
    pub ratio: SamplerRatio,
    /// Lower bound, at least 0.
    pub low: f32,
    /// Upper bound.
    pub high: f32,
}

impl Default for SamplerCorrection {
    fn default() -> Self {
        Self { ratio: SamplerRatio::SequenceMask, low: 0.0, high: 3.0 }
    }
}

/// Multiplies each token's weight by the probability under the trainer's computation (log-probabilities
/// `old`) over that under the sampler's. A token whose difference is NaN counts as equal.
pub fn sampler_ratios(correction: &SamplerCorrection, old: &[f32], sampler: &[f32], weights: &mut [f32]) {
    let differences = old.iter().zip(sampler).map(|(old, sampler)| {
        let d = f64::from(*old) - f64::from(*sampler);
        if d.is_nan() { 0.0 } else { d }
    });
    match correction.ratio {
        SamplerRatio::TokenTruncate | SamplerRatio::TokenMask => {
            weights.iter_mut().zip(differences).for_each(|(weight, d)| *weight *= correction.bounded(d));
        }
        SamplerRatio::SequenceTruncate | SamplerRatio::SequenceMask => {
            let ratio = correction.bounded(differences.sum());
            weights.iter_mut().for_each(|weight| *weight *= ratio);
        }
    }
}

impl SamplerCorrection {
    fn bounded(&self, log_ratio: f64) -> f32 {
        let ratio = exp(log_ratio) as f32;
        let (below, above) = (ratio < self.low, ratio > self.high);
        match self.ratio {
            SamplerRatio::TokenMask | SamplerRatio::SequenceMask if below || above => 0.0,
            _ if below => self.low,
            _ if above => self.high,
            _ => ratio,
        }
    }
}

/// Whether a sequence is too far from the policy to be learnt from (DeepSeek-V3.2): its advantage is
/// negative and its mean of sampler − new, an estimate of the divergence in nats, exceeds `threshold`.
/// `sampler` are the sampler's own log-probabilities, or `old` where there are none.
pub fn off_policy(threshold: f32, advantage: f32, new: &[f32], sampler: &[f32]) -> bool {
    let differences = sampler.iter().zip(new).map(|(sampler, new)| f64::from(*sampler) - f64::from(*new));
    let sum: f64 = differences.filter(|d| !d.is_nan()).sum();
    let near = sum / new.len().max(1) as f64 <= f64::from(threshold);
    advantage < 0.0 && !near
}

/// The entropy a token of the step needs to be among the `top` share (0 to 1) of the most uncertain
/// (Wang et al. 2025): the quantile 1 − `top` of all the step's entropies, linear between ranks. Sorts
/// `entropies`; `None` when there are none.
pub fn entropy_threshold(top: f32, entropies: &mut [f32]) -> Option<f32> {
    entropies.sort_unstable_by(f32::total_cmp);
    let last = entropies.len().checked_sub(1)?;
    let rank = (1.0 - f64::from(top)).clamp(0.0, 1.0) * last as f64;
    // A NaN rank becomes 0.
    let (below, part) = (rank as usize, rank.fract());
    let (low, high) = (f64::from(entropies[below]), f64::from(entropies[(below + 1).min(last)]));
    Some((low + (high - low) * part) as f32)
}
