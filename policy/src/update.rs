//! Learning: one optimiser step from rewarded groups, or from reference completions.
//!
//! A step is taken in micro-batches: gradients add up in one slice, the optimiser runs once. Whatever
//! is not finite leaves the weights as they were, and says so.

use serde::{Deserialize, Serialize};

use crate::backward::{Sinks, backward};
use crate::batch::Batch;
use crate::buffers::Buffers;
use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::forward::{Keep, forward};
use crate::head::{Scored, score, score_gradient};
use crate::kernel::rows::{Adam, adam, sum_of_squares};
use crate::loss::{LossConfig, Sequence, Totals, advantages, sequence_loss};
use crate::model::Model;
use crate::policy::Policy;
use crate::rollout::{Group, Rollout};

/// Most rows of one micro-batch: enough for full-speed products, little enough to stay in cache.
const MICRO_BATCH_TOKENS: usize = 2048;
/// Most activations that a micro-batch keeps: 640 MiB.
const ACTIVATIONS_MAX: usize = 160 * 1024 * 1024;
/// Values of one item of the optimiser's work.
const ITEM_VALUES: usize = 1 << 16;

/// How a policy learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateConfig {
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Rounds over which it rises linearly from 0.
    pub warmup_rounds: u32,
    /// Round at which the linear decay ends.
    pub total_rounds: u32,
    /// Part of the learning rate that is left then.
    pub final_fraction: f32,
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
    /// How token losses are averaged: `grpo`, `dr_grpo`, `bnpo` or `dapo`.
    pub loss_type: crate::loss::LossType,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            warmup_rounds: 8,
            total_rounds: 30,
            final_fraction: 0.1,
            adam_beta1: 0.9,
            adam_beta2: 0.98,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            loss_temperature: 1.0,
            loss_type: crate::loss::LossType::Dapo,
        }
    }
}

impl UpdateConfig {
    /// Says whether every value is in its range.
    ///
    /// # Errors
    /// A sentence naming the first key that is not, with its range.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (key, value, low, high) in [
            ("learning_rate", self.learning_rate, 0.0, 1.0),
            ("final_fraction", self.final_fraction, 0.0, 1.0),
            ("adam_beta1", self.adam_beta1, 0.0, 0.999_999),
            ("adam_beta2", self.adam_beta2, 0.0, 0.999_999),
            ("adam_epsilon", self.adam_epsilon, 1e-12, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 10.0),
            ("clip_norm", self.clip_norm, 1e-6, 1e6),
            ("loss_temperature", self.loss_temperature, 0.01, 100.0),
        ] {
            if !(low..=high).contains(&value) {
                return Err(format!("{key} is {value}, must be {low} to {high}"));
            }
        }
        Ok(())
    }

    /// Learning rate of a round (from 1): linear warm-up, then linear decay to `final_fraction`.
    ///
    /// ```
    /// let config = policy::UpdateConfig::default();
    /// assert!((config.rate(4) - 1.5e-4).abs() < 1e-9);
    /// assert!((config.rate(30) - 3e-5).abs() < 1e-9);
    /// assert_eq!(config.rate(99), config.rate(30));
    /// ```
    pub fn rate(&self, round: u32) -> f32 {
        let warm = (round as f32 / self.warmup_rounds.max(1) as f32).min(1.0);
        let falling = self.total_rounds.saturating_sub(self.warmup_rounds).max(1);
        let past = round.saturating_sub(self.warmup_rounds).min(falling) as f32 / falling as f32;
        self.learning_rate * warm * (1.0 - past * (1.0 - self.final_fraction))
    }
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Policy-gradient loss.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate used.
    pub learning_rate: f32,
    /// Completion tokens trained on.
    pub tokens: usize,
    /// Groups with different rewards within them.
    pub groups_used: usize,
    /// Groups that had the same reward throughout and so nothing to teach.
    pub groups_dropped: usize,
    /// Mean entropy of the trained tokens' distributions, in nats.
    pub entropy: f32,
    /// Why no step was taken, when none was.
    pub skipped: Option<String>,
}

/// An optimiser (AdamW) and its state.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) config: UpdateConfig,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) steps: u64,
    gradients: Vec<f32>,
    buffers: Buffers,
}

impl Clone for Trainer {
    /// A copy of the optimiser's state; what is only scratch starts empty.
    fn clone(&self) -> Self {
        Self::restore(self.config.clone(), self.first.clone(), self.second.clone(), self.steps)
    }
}

/// One completion to learn from.
#[derive(Clone, Copy)]
struct Lesson<'a> {
    prompt: &'a [u32],
    completion: &'a [u32],
    advantage: f32,
}

/// Which loss a step uses.
enum Objective {
    /// −Σ log-probability / tokens.
    Imitate,
    Reward(LossConfig),
}

#[derive(Default)]
struct Sums {
    loss: f32,
    entropy: f32,
}

impl Trainer {
    /// A fresh optimiser for a policy.
    pub fn new(policy: &Policy, config: UpdateConfig) -> Self {
        let zeros = vec![0.0; policy.trainable_len()];
        Self::restore(config, zeros.clone(), zeros, 0)
    }

    /// Its settings.
    pub fn config(&self) -> &UpdateConfig {
        &self.config
    }

    pub(crate) fn restore(config: UpdateConfig, first: Vec<f32>, second: Vec<f32>, steps: u64) -> Self {
        Self { config, first, second, steps, gradients: Vec::new(), buffers: Buffers::default() }
    }

    /// One step of group-relative policy gradient: `rewards` per rollout of each group, `round` from 1.
    ///
    /// # Errors
    /// [`PolicyError::Input`] when rewards and rollouts do not match in number.
    pub fn update(
        &mut self,
        policy: &mut Policy,
        groups: &[(Group, Vec<f32>)],
        round: u32,
    ) -> Result<UpdateReport> {
        let rate = self.config.rate(round);
        let mut report = UpdateReport { learning_rate: rate, ..UpdateReport::default() };
        let mut lessons = Vec::new();
        for (group, rewards) in groups {
            if rewards.len() != group.rollouts().len() {
                return Err(PolicyError::input(
                    format!("{} rewards for {} rollouts", rewards.len(), group.rollouts().len()),
                    "give one reward a rollout",
                ));
            }
            if rewards.iter().all(|reward| *reward == rewards[0]) {
                report.groups_dropped += 1;
                continue;
            }
            report.groups_used += 1;
            lessons.extend(group.rollouts().iter().zip(advantages(rewards)).map(lesson));
        }
        report.tokens = lessons.iter().map(|lesson| lesson.completion.len()).sum();
        if lessons.is_empty() {
            report.skipped = Some("no group had rewards that differ".into());
            return Ok(report);
        }
        let objective = Objective::Reward(LossConfig {
            loss_type: self.config.loss_type,
            completion_tokens_max: lessons.iter().map(|lesson| lesson.completion.len()).max().unwrap_or(1),
            ..LossConfig::default()
        });
        let sums = self.accumulate(policy, &lessons, &objective);
        report.loss = sums.loss;
        report.entropy = sums.entropy / report.tokens as f32;
        self.finish(policy, rate, &mut report);
        Ok(report)
    }

    /// One step of imitation on (prompt, completion) pairs; returns the mean token loss in nats.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for text outside the alphabet, too long, or a loss that is not finite.
    pub fn supervise(&mut self, policy: &mut Policy, pairs: &[(String, String)], rate: f32) -> Result<f32> {
        let encoded = encode(policy, pairs)?;
        let sums = self.accumulate(policy, &imitations(&encoded), &Objective::Imitate);
        let mut report = UpdateReport { loss: sums.loss, ..UpdateReport::default() };
        self.finish(policy, rate, &mut report);
        match report.skipped {
            Some(why) => Err(PolicyError::input(why, "lower the learning rate")),
            None => Ok(report.loss),
        }
    }

    /// The gradient of the imitation loss by all weights (or adapters), in their layout: for checks
    /// against other implementations.
    ///
    /// # Errors
    /// As [`Self::supervise`].
    pub fn imitation_gradient(policy: &Policy, pairs: &[(String, String)]) -> Result<(f32, Vec<f32>)> {
        let mut trainer = Self::new(policy, UpdateConfig::default());
        let encoded = encode(policy, pairs)?;
        let sums = trainer.accumulate(policy, &imitations(&encoded), &Objective::Imitate);
        Ok((sums.loss, trainer.gradients))
    }

    /// Adds up the gradient of all lessons.
    fn accumulate(&mut self, policy: &Policy, lessons: &[Lesson], objective: &Objective) -> Sums {
        self.gradients.clear();
        self.gradients.resize(policy.trainable_len(), 0.0);
        let totals = Totals {
            sequences: lessons.len(),
            tokens: lessons.iter().map(|lesson| lesson.completion.len()).sum(),
        };
        let mut sums = Sums::default();
        let Self { gradients, buffers, config, .. } = self;
        let temperature = if matches!(objective, Objective::Imitate) { 1.0 } else { config.loss_temperature };
        let step = Step { model: policy.model(), totals, objective, temperature, keep: Keep::Everything };
        let budget = micro_batch_tokens(policy.config());
        policy.run(|| {
            let mut rest = lessons;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(micro_batch(rest, budget));
                step.take(now, gradients, buffers, &mut sums);
                rest = later;
            }
        });
        sums
    }

    /// Clips, checks and takes the step.
    fn finish(&mut self, policy: &mut Policy, rate: f32, report: &mut UpdateReport) {
        let norm = self.gradient_norm(policy);
        report.grad_norm = norm;
        if !norm.is_finite() || !report.loss.is_finite() {
            report.skipped = Some(format!(
                "loss {} or gradient norm {norm} is not finite; the weights stay as they were",
                report.loss
            ));
            return;
        }
        let scale = if norm > self.config.clip_norm { self.config.clip_norm / norm } else { 1.0 };
        self.adam_step(policy, rate, scale);
    }

    fn gradient_norm(&self, policy: &Policy) -> f32 {
        let parts = policy.team().map(self.gradients.chunks(ITEM_VALUES).collect(), sum_of_squares);
        parts.into_iter().sum::<f64>().sqrt() as f32
    }

    /// AdamW (Loshchilov and Hutter), bias-corrected; weight decay on matrices only.
    fn adam_step(&mut self, policy: &mut Policy, rate: f32, scale: f32) {
        self.steps += 1;
        let correction = |beta: f32| 1.0 - libm::pow(f64::from(beta), self.steps as f64) as f32;
        let UpdateConfig { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, .. } = self.config;
        let corrections = [correction(beta1), correction(beta2)];
        let plain = Adam { rate, beta1, beta2, epsilon, corrections, keep: 1.0, scale };
        let decayed = Adam { keep: 1.0 - rate * self.config.weight_decay, ..plain };
        let team = policy.team().clone();
        let (parameters, weights) = policy.trainable_mut();
        let mut items = Vec::new();
        let (mut w, mut m, mut v) = (weights, &mut self.first[..], &mut self.second[..]);
        for parameter in parameters {
            let range = parameter.stored();
            let adam = if parameter.is_matrix() { decayed } else { plain };
            let (w_now, w_later) = w.split_at_mut(range.len());
            let (m_now, m_later) = m.split_at_mut(range.len());
            let (v_now, v_later) = v.split_at_mut(range.len());
            let state = m_now.chunks_mut(ITEM_VALUES).zip(v_now.chunks_mut(ITEM_VALUES));
            let weights = w_now.chunks_mut(ITEM_VALUES).zip(self.gradients[range].chunks(ITEM_VALUES));
            items.extend(weights.zip(state).map(|parts| (parts, adam)));
            (w, m, v) = (w_later, m_later, v_later);
        }
        team.each(items, |(((w, g), (m, v)), constants)| adam(w, g, m, v, constants));
    }
}

fn lesson((rollout, advantage): (&Rollout, f32)) -> Lesson<'_> {
    Lesson { prompt: &rollout.prompt, completion: &rollout.completion, advantage }
}

type Pair = (Vec<u32>, Vec<u32>);

fn encode(policy: &Policy, pairs: &[(String, String)]) -> Result<Vec<Pair>> {
    let encode = |(prompt, completion): &(String, String)| {
        let pair = (policy.prompt_ids(prompt)?, policy.encode_exactly(completion)?);
        if pair.1.is_empty() || pair.0.len() + pair.1.len() > policy.config().context() {
            let what = format!("{} tokens where 1 to {} fit", pair.1.len(), policy.config().context());
            return Err(PolicyError::input(what, "shorten the completion"));
        }
        Ok(pair)
    };
    pairs.iter().map(encode).collect()
}

fn imitations(pairs: &[Pair]) -> Vec<Lesson<'_>> {
    pairs.iter().map(|(prompt, completion)| Lesson { prompt, completion, advantage: 1.0 }).collect()
}

/// Rows of a micro-batch: enough for full-speed products, and activations that fit in memory.
fn micro_batch_tokens(config: &ModelConfig) -> usize {
    (ACTIVATIONS_MAX / activations_per_token(config)).clamp(1, MICRO_BATCH_TOKENS)
}

/// Values that the backward pass needs for each token.
pub(crate) fn activations_per_token(config: &ModelConfig) -> usize {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.kv_width());
    let raw = if config.qk_norm() { q + kv } else { 0 };
    config.num_hidden_layers * (2 * c + 2 * q + 2 * kv + 2 * f + raw)
}

/// How many of the lessons make the next micro-batch; a prompt counts once for those that share it.
fn micro_batch(lessons: &[Lesson], budget: usize) -> usize {
    let mut rows = 0;
    let mut last: Option<&[u32]> = None;
    let fits = lessons.iter().take_while(|lesson| {
        rows += lesson.completion.len() - 1;
        if last != Some(lesson.prompt) {
            rows += lesson.prompt.len();
            last = Some(lesson.prompt);
        }
        rows <= budget
    });
    fits.count().max(1)
}

/// What every micro-batch of a step has in common.
struct Step<'a> {
    model: Model<'a>,
    totals: Totals,
    objective: &'a Objective,
    temperature: f32,
    keep: Keep,
}

impl Step<'_> {
    /// Forward, loss and backward of a few lessons; neighbours with one prompt share it.
    fn take(&self, lessons: &[Lesson], gradients: &mut [f32], buffers: &mut Buffers, sums: &mut Sums) {
        let model = self.model;
        let (mut batch, mut targets) = (Batch::default(), Vec::new());
        for same in lessons.chunk_by(|a, b| a.prompt == b.prompt) {
            let completions: Vec<&[u32]> = same.iter().map(|lesson| lesson.completion).collect();
            batch.push_targets(same[0].prompt, &completions, &mut targets);
        }
        let rows = batch.rows();
        let pass = forward(model, batch, self.keep, buffers);
        let scores = score(model, &pass.hidden, &targets, self.temperature, true, buffers);
        let weights = self.loss(lessons, &scores.scored, sums);
        let mut sinks = match model.adapter {
            Some(_) => Sinks { base: None, adapter: Some(gradients) },
            None => Sinks { base: Some(gradients), adapter: None },
        };
        let at = (&scores, self.temperature);
        let d_hidden = score_gradient(model, rows, &targets, at, &weights, sinks.base.as_deref_mut(), buffers);
        scores.free(buffers);
        backward(model, pass, &d_hidden, &mut sinks, buffers);
        buffers.give(d_hidden);
    }

    /// The loss's gradient by every target's log-probability.
    fn loss(&self, lessons: &[Lesson], scored: &[Scored], sums: &mut Sums) -> Vec<f32> {
        let logprobs: Vec<f32> = scored.iter().map(|scored| scored.logprob).collect();
        let mut weights = vec![0.0; scored.len()];
        let (mut rest, mut gradients) = (&logprobs[..], &mut weights[..]);
        for lesson in lessons {
            let (now, later) = rest.split_at(lesson.completion.len());
            let (gradient, gradients_later) = gradients.split_at_mut(now.len());
            sums.loss += match self.objective {
                Objective::Imitate => {
                    gradient.fill(-lesson.advantage / self.totals.tokens as f32);
                    -now.iter().sum::<f32>() / self.totals.tokens as f32
                }
                // One step a rollout: the policy that sampled is the policy that is trained, so the ratio is 1.
                Objective::Reward(config) => {
                    let sequence = Sequence { new: now, old: now, advantage: lesson.advantage };
                    sequence_loss(config, self.totals, sequence, gradient)
                }
            };
            (rest, gradients) = (later, gradients_later);
        }
        sums.entropy += scored.iter().map(|scored| scored.entropy).sum::<f32>();
        weights
    }
}
