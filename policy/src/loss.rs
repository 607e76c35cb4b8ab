//! The policy-gradient losses, names and formulas as in TRL's `GRPOTrainer._compute_loss`.
//!
//! With ratio ρ = exp(new − old) per token and advantage A per sequence, the loss of a token is
//! −min(ρA, clip(ρ, 1−ε, 1+ε_high)A). The types differ in how tokens are averaged: `grpo` within each
//! sequence and then over sequences, `bnpo` and `dapo` over all tokens of the step (they differ only
//! when one step is spread over several machines), `dr_grpo` by a constant.
//!
//! Left out for now: KL to a reference, sequence-level ratios, masks for off-policy text.

use serde::{Deserialize, Serialize};

/// How token losses are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over sequences of the mean over a sequence's tokens.
    Grpo,
    /// Sum over tokens by (sequences × longest completion allowed).
    DrGrpo,
    /// Mean over the step's tokens.
    Bnpo,
    /// Mean over the step's tokens.
    #[default]
    Dapo,
}

/// A loss and its clipping range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossConfig {
    /// How token losses are averaged.
    pub loss_type: LossType,
    /// ε: the ratio counts down to 1 − ε.
    pub epsilon: f32,
    /// ε_high: the ratio counts up to 1 + ε_high.
    pub epsilon_high: f32,
    /// Longest completion in tokens; the divisor of `dr_grpo`.
    pub completion_tokens_max: usize,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { loss_type: LossType::Dapo, epsilon: 0.2, epsilon_high: 0.2, completion_tokens_max: 24 }
    }
}

/// Log-probabilities of one sequence's completion tokens.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Under the policy that is trained.
    pub new: &'a [f32],
    /// Under the policy that sampled.
    pub old: &'a [f32],
    /// Advantage of the completion.
    pub advantage: f32,
}

/// What a step's averages divide by; known before any part of the step is computed, so that a step can
/// be taken in micro-batches.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Sequences of the step.
    pub sequences: usize,
    /// Completion tokens of the step.
    pub tokens: usize,
}

/// Adds one sequence's part of the loss; returns it, and writes ∂loss/∂new per token to `gradient`.
pub fn sequence_loss(config: &LossConfig, totals: Totals, sequence: Sequence, gradient: &mut [f32]) -> f32 {
    let Sequence { new, old, advantage } = sequence;
    let divisor = match config.loss_type {
        LossType::Grpo => totals.sequences * new.len(),
        LossType::DrGrpo => totals.sequences * config.completion_tokens_max,
        LossType::Bnpo | LossType::Dapo => totals.tokens,
    };
    let weight = 1.0 / divisor.max(1) as f32;
    let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high);
    let mut loss = 0.0;
    for ((new, old), gradient) in new.iter().zip(old).zip(gradient) {
        let ratio = libm::expf(new - old);
        let (plain, clipped) = (ratio * advantage, ratio.clamp(low, high) * advantage);
        loss -= plain.min(clipped) * weight;
        // Where the clipped term is strictly smaller it is constant in `new`.
        *gradient = if clipped < plain { 0.0 } else { -plain * weight };
    }
    loss
}

/// Reward minus the group's mean: no division by the standard deviation, which would blow up a lone
/// success among failures.
pub fn advantages(rewards: &[f32]) -> Vec<f32> {
    let mean = rewards.iter().sum::<f32>() / rewards.len().max(1) as f32;
    rewards.iter().map(|reward| reward - mean).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    /// Values and gradients computed with TRL's own code.
    #[test]
    fn losses_equal_trl() {
        let fixture: Value = serde_json::from_str(include_str!("../tests/fixtures/trl_grpo.json")).unwrap();
        let inputs = &fixture["inputs"];
        for (name, loss_type) in [
            ("grpo", LossType::Grpo),
            ("dr_grpo", LossType::DrGrpo),
            ("bnpo", LossType::Bnpo),
            ("dapo", LossType::Dapo),
            ("dapo_clip_higher", LossType::Dapo),
        ] {
            let case = &fixture["cases"][name];
            let epsilon_high = case["config"]["eps_high"].as_f64().unwrap_or(0.2) as f32;
            let config = LossConfig { loss_type, epsilon: 0.2, epsilon_high, completion_tokens_max: 8 };
            let lengths: Vec<usize> = inputs["mask"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| floats(row).iter().sum::<f32>() as usize)
                .collect();
            let totals = Totals { sequences: lengths.len(), tokens: lengths.iter().sum() };
            let mut loss = 0.0;
            for (i, &length) in lengths.iter().enumerate() {
                let row = |key: &str| floats(&inputs[key][i])[..length].to_vec();
                let (new, old) = (row("new_logps"), row("old_logps"));
                let advantage = inputs["advantages"][i].as_f64().unwrap() as f32;
                let mut gradient = vec![0.0; length];
                loss += sequence_loss(
                    &config,
                    totals,
                    Sequence { new: &new, old: &old, advantage },
                    &mut gradient,
                );
                let expected = floats(&case["dloss_dlogps"][i]);
                for (t, got) in gradient.iter().enumerate() {
                    assert!((got - expected[t]).abs() < 1e-6, "{name} {i} {t}: {got} {}", expected[t]);
                }
            }
            let expected = case["loss"].as_f64().unwrap() as f32;
            assert!((loss - expected).abs() < 1e-6, "{name}: {loss} {expected}");
        }
    }

    #[test]
    fn advantages_equal_trl_without_scaling() {
        let fixture: Value = serde_json::from_str(include_str!("../tests/fixtures/trl_grpo.json")).unwrap();
        let rewards = floats(&fixture["advantages"]["rewards"]);
        let got: Vec<f32> = rewards.chunks(4).flat_map(advantages).collect();
        for (got, expected) in got.iter().zip(floats(&fixture["advantages"]["none"])) {
            assert!((got - expected).abs() < 1e-6);
        }
    }
}
