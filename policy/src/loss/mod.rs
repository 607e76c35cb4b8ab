//! The policy-gradient losses, names and formulas as in TRL's `GRPOTrainer._compute_loss`.
//!
//! With log-ratio δ = new − old per token, ratio ρ and advantage A per sequence, a token's loss L is one of
//!
//! | [`LossType`] | L | averaged over |
//! |---|---|---|
//! | `grpo` | −min(ρA, clip(ρ, 1−ε, 1+ε_high)A) | each sequence, then the step's sequences |
//! | `dr_grpo` | as `grpo` | step's sequences × `max_completion_length` |
//! | `bnpo`, `dapo` | as `grpo` | the step's tokens |
//! | `luspo` | as `grpo` | the step's sequences, tokens summed |
//! | `cispo` | −stop(min(ρ, ε_high))·A·new | the step's tokens |
//! | `sapo` | −(4/τ)·σ(τ(ρ−1))·A | as `grpo` |
//! | `vespo` | −stop(φ)·A·new | the step's tokens |
//!
//! where stop(·) has no gradient; `bnpo` and `dapo` differ only when one step is spread over machines.
//! ρ = exp δ (`token`), or exp of the sequence's mean δ (`sequence`): GSPO (Zheng et al. 2025) is `grpo`
//! with `sequence`, ε = 3e-4 and ε_high = 4e-4. A reference adds β·KL to every token's loss, with
//! Schulman's estimator k3: KL = e^d − d − 1 for d = reference − new.
//!
//! A token's loss is computed in f32, sums over tokens run in f64 and index order, and exponentials come
//! from `libm`: equal inputs give equal bits on every platform. Inputs that are not finite give a loss
//! that is not, never a panic.

mod advantage;
mod term;

use libm::{exp, expf, expm1};
use serde::{Deserialize, Serialize};

pub use advantage::{ScaleRewards, advantages};
use term::Term;

/// Which loss a token has and how tokens are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over sequences of the mean over a sequence's tokens (Shao et al. 2024).
    Grpo,
    /// Sum over tokens by (sequences × longest completion allowed) (Liu et al. 2025).
    DrGrpo,
    /// Mean over the step's tokens.
    Bnpo,
    /// Mean over the step's tokens (Yu et al. 2025).
    #[default]
    Dapo,
    /// The ratio is capped and only weighs the log-probability: no token loses its gradient
    /// (MiniMax 2025). `epsilon_high` is the cap itself, 5 in TRL's examples.
    Cispo,
    /// Mean over sequences of the sum over a sequence's tokens; meant for `sequence` ratios.
    Luspo,
    /// A sigmoid of the ratio in place of the clip.
    Sapo,
    /// The log-probability weighed by a gamma density of the whole sequence's ratio.
    Vespo,
}

impl LossType {
    /// Whether it clips the ratio to 1 − ε … 1 + ε_high (and to `delta`).
    pub fn clips(self) -> bool {
        !matches!(self, LossType::Cispo | LossType::Sapo | LossType::Vespo)
    }
}

/// What a ratio is a ratio of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSamplingLevel {
    /// Each token's probabilities.
    #[default]
    Token,
    /// The geometric mean of the sequence's token ratios, the same for all its tokens.
    Sequence,
}

/// A loss and its constants; TRL's names and meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossConfig {
    /// Which loss a token has and how tokens are averaged.
    pub loss_type: LossType,
    /// What a ratio is a ratio of.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// ε: the ratio counts down to 1 − ε.
    pub epsilon: f32,
    /// ε_high: the ratio counts up to 1 + ε_high (`cispo`: up to ε_high).
    pub epsilon_high: f32,
    /// Cap of the ratio also where the clip does not bind, that is for negative advantages.
    pub delta: Option<f32>,
    /// β: weight of the divergence from the reference; 0 for none.
    pub beta: f32,
    /// Whether a token's divergence is multiplied by its ratio.
    pub use_bias_correction_kl: bool,
    /// Whether a completion without an end has no loss.
    pub mask_truncated_completions: bool,
    /// Longest completion in tokens; the divisor of `dr_grpo`.
    pub max_completion_length: usize,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            loss_type: LossType::Dapo,
            importance_sampling_level: ImportanceSamplingLevel::Token,
            epsilon: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.0,
            use_bias_correction_kl: false,
            mask_truncated_completions: false,
            max_completion_length: 24,
        }
    }
}

/// Log-probabilities of one sequence's completion tokens, in nats, and what the sequence earned. All
/// slices have one value a token.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Under the policy that is trained.
    pub new: &'a [f32],
    /// Under the policy that sampled.
    pub old: &'a [f32],
    /// Under the reference; without one, no divergence is computed whatever β is.
    pub reference: Option<&'a [f32]>,
    /// Advantage of the completion.
    pub advantage: f32,
    /// Whether the completion stopped at the longest length, not at an end token.
    pub truncated: bool,
}

/// What a step's averages divide by; known before any part of the step is computed, so that a step can
/// be taken in micro-batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sequences of the step; those masked for being truncated count, as in TRL.
    pub sequences: usize,
    /// Completion tokens of the step; those of masked sequences do not count.
    pub tokens: usize,
}

impl Totals {
    /// Counts a step's completions, each given as its tokens and whether it is truncated.
    pub fn count(config: &LossConfig, completions: impl IntoIterator<Item = (usize, bool)>) -> Self {
        completions.into_iter().fold(Self::default(), |totals, (tokens, truncated)| Self {
            sequences: totals.sequences + 1,
            tokens: totals.tokens + if config.masks(truncated) { 0 } else { tokens },
        })
    }
}

/// One sequence's part of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SequenceLoss {
    /// Its part of the step's loss: the parts of all sequences add up to it.
    pub loss: f32,
    /// Sum over its tokens of the divergence from the reference, in nats.
    pub kl: f32,
    /// Ratios below 1 − ε with a negative advantage: tokens, or 0 or 1 with `sequence` ratios.
    pub clipped_low: usize,
    /// Ratios above 1 + ε_high (`cispo`: ε_high) with a positive advantage, counted alike.
    pub clipped_high: usize,
}

impl LossConfig {
    fn masks(&self, truncated: bool) -> bool {
        self.mask_truncated_completions && truncated
    }

    /// What the loss of a token of a sequence with `tokens` tokens is multiplied by.
    fn token_weight(&self, totals: Totals, tokens: usize) -> f32 {
        let divisor = match self.loss_type {
            LossType::Grpo | LossType::Sapo => totals.sequences.saturating_mul(tokens),
            LossType::DrGrpo => totals.sequences.saturating_mul(self.max_completion_length),
            LossType::Luspo => totals.sequences,
            LossType::Bnpo | LossType::Dapo | LossType::Cispo | LossType::Vespo => totals.tokens,
        };
        1.0 / divisor.max(1) as f32
    }
}

/// One sequence's part of the loss; writes ∂loss/∂new per token to `gradient`.
///
/// ```
/// use policy::loss::{LossConfig, Sequence, Totals, sequence_loss};
/// let config = LossConfig::default();
/// let logprobs = [-0.5, -1.0];
/// let sequence =
///     Sequence { new: &logprobs, old: &logprobs, reference: None, advantage: 1.0, truncated: false };
/// let mut gradient = [0.0; 2];
/// let part = sequence_loss(&config, Totals { sequences: 1, tokens: 2 }, sequence, &mut gradient);
/// assert_eq!((part.loss, gradient), (-1.0, [-0.5, -0.5]));
/// ```
pub fn sequence_loss(
    config: &LossConfig,
    totals: Totals,
    sequence: Sequence,
    gradient: &mut [f32],
) -> SequenceLoss {
    gradient.fill(0.0);
    let Sequence { new, old, reference, advantage, truncated } = sequence;
    if config.masks(truncated) {
        return SequenceLoss::default();
    }
    let by_sequence = config.importance_sampling_level == ImportanceSamplingLevel::Sequence;
    let shared_ratio = by_sequence.then(|| expf(mean_log_ratio(new, old)));
    let phi = if config.loss_type == LossType::Vespo { gamma_weight(new, old, advantage) } else { 0.0 };
    let token_weight = config.token_weight(totals, new.len());
    let mut part = SequenceLoss::default();
    let (mut loss, mut divergence, mut by_shared_ratio) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (at, ((&new, &old), gradient)) in new.iter().zip(old).zip(gradient.iter_mut()).enumerate() {
        let ratio = shared_ratio.unwrap_or_else(|| expf(new - old));
        let mut token = term::policy_term(config, ratio, phi, advantage, new);
        if let Some(reference) = reference.and_then(|reference| reference.get(at)) {
            let kl = kl_term(config, ratio, *reference, new);
            divergence += f64::from(kl.value);
            if config.beta != 0.0 {
                token = token.plus(kl.scaled(config.beta));
            }
        }
        loss += f64::from(token.value * token_weight);
        let (low, high) = term::clipped(config, ratio, advantage);
        part.clipped_low += usize::from(low);
        part.clipped_high += usize::from(high);
        if by_sequence {
            *gradient = token.by_logprob * token_weight;
            by_shared_ratio += f64::from(token.by_log_ratio * token_weight);
        } else {
            *gradient = (token.by_logprob + token.by_log_ratio) * token_weight;
        }
    }
    if by_sequence {
        // Every token moves the mean log-ratio by 1 / n, and through it the loss of all n tokens.
        let share = (by_shared_ratio / new.len().max(1) as f64) as f32;
        gradient.iter_mut().for_each(|gradient| *gradient += share);
        part.clipped_low = part.clipped_low.min(1);
        part.clipped_high = part.clipped_high.min(1);
    }
    part.loss = loss as f32;
    part.kl = divergence as f32;
    part
}

fn log_ratios(new: &[f32], old: &[f32]) -> impl Iterator<Item = f64> {
    new.iter().zip(old).map(|(new, old)| f64::from(*new) - f64::from(*old))
}

fn mean_log_ratio(new: &[f32], old: &[f32]) -> f32 {
    (log_ratios(new, old).sum::<f64>() / new.len().max(1) as f64) as f32
}

/// k3 and its gradients; `expm1` because e^d − 1 is all rounding error where policies are close.
fn kl_term(config: &LossConfig, ratio: f32, reference: f32, new: f32) -> Term {
    let d = f64::from(reference) - f64::from(new);
    let growth = expm1(d);
    let plain = Term { value: (growth - d) as f32, by_log_ratio: 0.0, by_logprob: -growth as f32 };
    if !config.use_bias_correction_kl {
        return plain;
    }
    let corrected = plain.scaled(ratio);
    Term { by_log_ratio: corrected.value, ..corrected }
}

/// φ of `vespo`: e^λ·W^k·e^{−λW} for the ratio W of the whole sequence, 1 at W = 1. TRL's constants and
/// bounds; 0 where it is not finite.
fn gamma_weight(new: &[f32], old: &[f32], advantage: f32) -> f32 {
    const LOG_RATIO_MAX: f64 = 20.0;
    const LOG_RATIO_MIN: f64 = -18.420_680_743_952_367; // ln 1e-8
    let (k, lambda) = if advantage >= 0.0 { (2.0, 3.0) } else { (3.0, 2.0) };
    let sum: f64 = log_ratios(new, old).map(|d| d.clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)).sum();
    let log_w = sum.clamp(LOG_RATIO_MIN, LOG_RATIO_MAX);
    let phi = exp(lambda + k * log_w - lambda * exp(log_w));
    if phi.is_finite() { phi as f32 } else { 0.0 }
}
