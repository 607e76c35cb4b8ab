//! The loss of one token, before averaging, and its two gradients.

use libm::expf;

use super::{LossConfig, LossType};

/// τ of `sapo` for positive advantages.
const SAPO_TEMPERATURE_POS: f32 = 1.0;
/// τ of `sapo` for the others: higher, so that they lose weight sooner.
const SAPO_TEMPERATURE_NEG: f32 = 1.05;

/// A token's loss, and how it changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    pub(super) value: f32,
    /// ∂value / ∂ln ρ: ρ may belong to the token or to the sequence.
    pub(super) by_log_ratio: f32,
    /// ∂value / ∂new with ρ held.
    pub(super) by_logprob: f32,
}

impl Term {
    pub(super) fn scaled(self, factor: f32) -> Self {
        Self {
            value: self.value * factor,
            by_log_ratio: self.by_log_ratio * factor,
            by_logprob: self.by_logprob * factor,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            by_log_ratio: self.by_log_ratio + other.by_log_ratio,
            by_logprob: self.by_logprob + other.by_logprob,
        }
    }
}

/// The policy-gradient loss of a token with log-probability `new`.
pub(super) fn policy_term(config: &LossConfig, ratio: f32, phi: f32, advantage: f32, new: f32) -> Term {
    match config.loss_type {
        LossType::Cispo => weighed_logprob(at_most(ratio, config.epsilon_high), advantage, new),
        LossType::Vespo => weighed_logprob(phi, advantage, new),
        LossType::Sapo => soft_clip(ratio, advantage),
        LossType::Grpo | LossType::DrGrpo | LossType::Bnpo | LossType::Dapo | LossType::Luspo => {
            hard_clip(config, ratio, advantage)
        }
    }
}

/// Whether the ratio is out of range on the side where that stops the gradient: (below, above).
pub(super) fn clipped(config: &LossConfig, ratio: f32, advantage: f32) -> (bool, bool) {
    match config.loss_type {
        LossType::Cispo => (false, ratio > config.epsilon_high && advantage > 0.0),
        LossType::Sapo | LossType::Vespo => (false, false),
        _ => {
            let ratio = config.delta.map_or(ratio, |delta| at_most(ratio, delta));
            let low = ratio < 1.0 - config.epsilon && advantage < 0.0;
            (low, ratio > 1.0 + config.epsilon_high && advantage > 0.0)
        }
    }
}

fn weighed_logprob(weight: f32, advantage: f32, new: f32) -> Term {
    let by_logprob = -weight * advantage;
    Term { value: by_logprob * new, by_log_ratio: 0.0, by_logprob }
}

fn soft_clip(ratio: f32, advantage: f32) -> Term {
    let temperature = if advantage > 0.0 { SAPO_TEMPERATURE_POS } else { SAPO_TEMPERATURE_NEG };
    let gate = 1.0 / (1.0 + expf(-temperature * (ratio - 1.0)));
    Term {
        value: -4.0 / temperature * gate * advantage,
        by_log_ratio: -4.0 * gate * (1.0 - gate) * ratio * advantage,
        by_logprob: 0.0,
    }
}

/// −min(min(ρ, δ)A, clip(ρ, 1−ε, 1+ε_high)A): each side changes with ρ only where its bound does not bind.
fn hard_clip(config: &LossConfig, ratio: f32, advantage: f32) -> Term {
    let capped = config.delta.map_or(ratio, |delta| at_most(ratio, delta));
    let inside = at_most(at_least(ratio, 1.0 - config.epsilon), 1.0 + config.epsilon_high);
    // Strictly smaller: where both sides are equal they are both ρA, or both constant.
    let counts = if inside * advantage < capped * advantage { inside } else { capped };
    let value = -(counts * advantage);
    // NaN differs from itself and must not pass for a bound, which has no gradient.
    let bound = counts != ratio && !ratio.is_nan();
    Term { value, by_log_ratio: if bound { 0.0 } else { value }, by_logprob: 0.0 }
}

/// The smaller value, NaN if `x` is (`f32::min` would hide it).
fn at_most(x: f32, high: f32) -> f32 {
    if x > high { high } else { x }
}

/// The larger value, NaN if `x` is.
fn at_least(x: f32, low: f32) -> f32 {
    if x < low { low } else { x }
}
