//! Rollouts and groups: what sampling produces and training consumes.

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};

/// How completions are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this before the softmax; 0 means greedy. Not negative, finite.
    pub temperature: f32,
    /// Longest completion in tokens, the end token included; at least 1.
    pub new_tokens_max: usize,
    /// Only the `top_k` likeliest tokens are drawn; 0 means all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens whose probabilities reach this are drawn; 1 means all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the likeliest are drawn; 0 means all.
    pub min_p: f32,
}

impl Sampling {
    /// The likeliest token at every step.
    pub fn greedy(new_tokens_max: usize) -> Self {
        Self { temperature: 0.0, new_tokens_max, ..Self::default() }
    }

    /// Whether some tokens are left out before the draw.
    pub(crate) fn filters(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0
    }

    /// Says whether every value is in its range.
    ///
    /// # Errors
    /// A sentence naming the first setting that is not, with its range.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (key, value, high) in
            [("temperature", self.temperature, 100.0), ("top_p", self.top_p, 1.0), ("min_p", self.min_p, 1.0)]
        {
            if !(0.0..=high).contains(&value) {
                return Err(format!("{key} is {value}, must be 0 to {high}"));
            }
        }
        if self.new_tokens_max == 0 {
            return Err("new_tokens_max is 0, must be at least 1".into());
        }
        Ok(())
    }

    /// Says whether `group` completions can be sampled so.
    pub(crate) fn check_group(&self, group: usize) -> Result<()> {
        self.check().map_err(|why| PolicyError::input(why, "correct the sampling settings"))?;
        match group {
            0 => Err(PolicyError::input("an empty group", "ask for at least one completion")),
            _ => Ok(()),
        }
    }

    /// The same, with completions that fit behind a prompt of so many tokens.
    pub(crate) fn within(&self, config: &ModelConfig, prompt: usize) -> Self {
        let room = config.context().saturating_sub(prompt);
        Self { new_tokens_max: self.new_tokens_max.min(room), ..*self }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.7, new_tokens_max: 22, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// One completion of one prompt, with what is needed to learn from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Token ids of the prompt, the begin token first.
    pub prompt: Vec<u32>,
    /// Token ids of the completion, the end token included if it was reached.
    pub completion: Vec<u32>,
    /// Log-probability of each completion token at the sampling temperature (temperature 1 for greedy
    /// decoding); empty for text of foreign origin.
    pub logprobs: Vec<f32>,
    /// The completion as text, special tokens spelled out; of a model that chats without its end token.
    pub text: String,
    /// Whether the end token was reached.
    pub finished: bool,
    /// Version of the policy that sampled it: optimiser steps taken before.
    pub version: u64,
}

/// Rollouts of one and the same prompt; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    rollouts: Vec<Rollout>,
}

impl Group {
    /// Joins rollouts of one prompt.
    ///
    /// # Errors
    /// [`PolicyError::Input`] when there is no rollout, a completion is empty, or the prompts differ.
    pub fn new(rollouts: Vec<Rollout>) -> Result<Self> {
        let hint = "build one group per prompt from non-empty completions";
        let Some(first) = rollouts.first() else {
            return Err(PolicyError::input("a group needs at least one rollout", hint));
        };
        if let Some(at) = rollouts.iter().position(|r| r.prompt != first.prompt) {
            return Err(PolicyError::input(format!("rollout {at} of the group has another prompt"), hint));
        }
        if let Some(at) = rollouts.iter().position(|r| r.completion.is_empty() || r.prompt.is_empty()) {
            return Err(PolicyError::input(format!("rollout {at} of the group is empty"), hint));
        }
        Ok(Self { rollouts })
    }

    /// The rollouts, in sampling order.
    pub fn rollouts(&self) -> &[Rollout] {
        &self.rollouts
    }

    /// Takes the rollouts out.
    pub fn into_rollouts(self) -> Vec<Rollout> {
        self.rollouts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(prompt: &[u32], completion: &[u32]) -> Rollout {
        Rollout {
            prompt: prompt.to_vec(),
            completion: completion.to_vec(),
            logprobs: vec![],
            text: String::new(),
            finished: true,
            version: 0,
        }
    }

    #[test]
    fn a_group_cannot_mix_prompts() {
        assert!(Group::new(vec![rollout(&[1], &[5]), rollout(&[1], &[4, 5])]).is_ok());
        assert!(Group::new(vec![rollout(&[1], &[5]), rollout(&[2], &[5])]).is_err());
        assert!(Group::new(vec![]).is_err());
        assert!(Group::new(vec![rollout(&[1], &[])]).is_err());
    }
}
