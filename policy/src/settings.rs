//! How a policy learns: the keys of a config's `[learning]`, with their ranges.
//!
//! Keys that TRL or transformers have too carry the same name and meaning; their ranges here keep out
//! values that no run can want.

use serde::{Deserialize, Serialize};

use crate::loss::{ImportanceSamplingLevel, LossConfig, LossType, ScaleRewards};
use crate::schedule::Schedule;

/// How a policy learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateConfig {
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Rounds over which it rises linearly from 0.
    pub warmup_rounds: u32,
    /// Round at which the decay ends.
    pub total_rounds: u32,
    /// Part of the learning rate that is left then.
    pub final_fraction: f32,
    /// Shape of the decay: `constant`, `linear` or `cosine`.
    pub lr_scheduler_type: Schedule,
    /// Decay of the mean of gradients.
    pub adam_beta1: f32,
    /// Decay of the mean of their squares.
    pub adam_beta2: f32,
    /// Added to the root of that mean.
    pub adam_epsilon: f32,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f32,
    /// Largest gradient norm; a larger gradient is scaled down.
    pub clip_norm: f32,
    /// Temperature of the log-probabilities in the loss.
    pub loss_temperature: f32,
    /// Optimiser steps on the same rollouts; from the second on, ratios differ from 1.
    pub num_iterations: u32,
    /// Loss of a token and how tokens are averaged: `grpo`, `dr_grpo`, `bnpo`, `dapo`, `cispo`, `luspo`,
    /// `sapo` or `vespo`.
    pub loss_type: LossType,
    /// Ratios of `token`s or of the whole `sequence` (GSPO: `sequence` with `loss_type = "grpo"`).
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// ε: ratios count down to 1 − ε.
    pub epsilon: f32,
    /// ε_high: ratios count up to 1 + ε_high (`cispo`: up to ε_high); ε if not given.
    pub epsilon_high: Option<f32>,
    /// Cap of ratios for negative advantages too; none if not given.
    pub delta: Option<f32>,
    /// β: weight of the divergence (k3) from the reference; 0 for no reference.
    pub beta: f32,
    /// Whether the divergence is corrected by the ratio.
    pub use_bias_correction_kl: bool,
    /// What a reward's distance from its group's mean is divided by: the standard deviation of the
    /// `group` or of the `batch`, or `none`.
    pub scale_rewards: ScaleRewards,
    /// Whether completions that did not end are left out of the loss.
    pub mask_truncated_completions: bool,
    /// Longest completion in tokens, the divisor of `dr_grpo`; 24 if not given.
    pub max_completion_length: Option<u32>,
    /// Whether the backward pass computes activations again instead of keeping them: slower by a third,
    /// for much less memory.
    pub gradient_checkpointing: bool,
    /// Most tokens whose activations are in memory at once; chosen from the model if not given.
    pub micro_batch_tokens: Option<u32>,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            warmup_rounds: 8,
            total_rounds: 30,
            final_fraction: 0.1,
            lr_scheduler_type: Schedule::Linear,
            adam_beta1: 0.9,
            adam_beta2: 0.98,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            loss_temperature: 1.0,
            num_iterations: 1,
            loss_type: LossType::Dapo,
            importance_sampling_level: ImportanceSamplingLevel::Token,
            epsilon: 0.2,
            epsilon_high: None,
            delta: None,
            beta: 0.0,
            use_bias_correction_kl: false,
            scale_rewards: ScaleRewards::None,
            mask_truncated_completions: false,
            max_completion_length: None,
            gradient_checkpointing: false,
            micro_batch_tokens: None,
        }
    }
}

impl UpdateConfig {
    /// Says whether every value is in its range, and whether the values fit together.
    ///
    /// # Errors
    /// A sentence naming the first key that is not, with its range.
    pub fn check(&self) -> std::result::Result<(), String> {
        // A cap below 1 would shrink every token's gradient, also where the policy did not move.
        let epsilon_high_min = if self.loss_type == LossType::Cispo { 1.0 } else { 0.0 };
        for (key, value, low, high) in [
            ("learning_rate", self.learning_rate, 0.0, 1.0),
            ("final_fraction", self.final_fraction, 0.0, 1.0),
            ("adam_beta1", self.adam_beta1, 0.0, 0.999_999),
            ("adam_beta2", self.adam_beta2, 0.0, 0.999_999),
            ("adam_epsilon", self.adam_epsilon, 1e-12, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 10.0),
            ("clip_norm", self.clip_norm, 1e-6, 1e6),
            ("loss_temperature", self.loss_temperature, 0.01, 100.0),
            ("epsilon", self.epsilon, 0.0, 1.0),
            ("epsilon_high", self.loss().epsilon_high, epsilon_high_min, 1e3),
            ("delta", self.delta.unwrap_or(1.0), 1.0, 1e6),
            ("beta", self.beta, 0.0, 100.0),
        ] {
            if !(low..=high).contains(&value) {
                return Err(format!("{key} is {value}, must be {low} to {high}"));
            }
        }
        for (key, value, low, high) in [
            ("num_iterations", self.num_iterations, 1, 64),
            ("max_completion_length", self.max_completion_length.unwrap_or(1), 1, 1 << 20),
            ("micro_batch_tokens", self.micro_batch_tokens.unwrap_or(1), 1, 1 << 20),
        ] {
            if !(low..=high).contains(&value) {
                return Err(format!("{key} is {value}, must be {low} to {high}"));
            }
        }
        if self.delta.is_some() && !self.loss_type.clips() {
            return Err("delta is given, but only grpo, dr_grpo, bnpo, dapo and luspo have it".into());
        }
        Ok(())
    }

    /// Learning rate of a round (from 1): linear warm-up, then down to `final_fraction` in the shape of
    /// `lr_scheduler_type`.
    ///
    /// ```
    /// let config = policy::UpdateConfig::default();
    /// assert!((config.rate(4) - 1.5e-4).abs() < 1e-9);
    /// assert!((config.rate(30) - 3e-5).abs() < 1e-9);
    /// assert_eq!(config.rate(99), config.rate(30));
    /// ```
    pub fn rate(&self, round: u32) -> f32 {
        let schedule = self.lr_scheduler_type;
        self.learning_rate
            * schedule.factor(round, self.warmup_rounds, self.total_rounds, self.final_fraction)
    }

    /// The loss of its steps.
    pub fn loss(&self) -> LossConfig {
        LossConfig {
            loss_type: self.loss_type,
            importance_sampling_level: self.importance_sampling_level,
            epsilon: self.epsilon,
            epsilon_high: self.epsilon_high.unwrap_or(self.epsilon),
            delta: self.delta,
            beta: self.beta,
            use_bias_correction_kl: self.use_bias_correction_kl,
            mask_truncated_completions: self.mask_truncated_completions,
            max_completion_length: self
                .max_completion_length
                .map_or(LossConfig::default().max_completion_length, |tokens| tokens as usize),
        }
    }
}
