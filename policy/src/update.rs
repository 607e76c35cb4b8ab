//! Learning: one optimiser step from rewarded groups, or from reference completions.
//!
//! A step is taken in micro-batches: gradients add up in one slice, the optimiser runs once. Whatever
//! is not finite leaves the weights as they were, and says so.

use serde::{Deserialize, Serialize};

use crate::error::{PolicyError, Result};
use crate::forward::{self, Batch, Model};
use crate::loss::{LossConfig, Sequence, Totals, advantages, sequence_loss};
use crate::math::{exp, log_sum_exp};
use crate::policy::Policy;
use crate::rollout::{Group, Rollout};
pub use crate::settings::UpdateConfig;

/// Tokens of one micro-batch: enough for full-speed products, little enough to stay in cache.
const MICRO_BATCH_TOKENS: usize = 2048;

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
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(crate) config: UpdateConfig,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) steps: u64,
    gradients: Vec<f32>,
}

/// One sequence to learn from.
struct Lesson<'a> {
    prompt: &'a [u32],
    completion: &'a [u32],
    /// Weight of imitation, or the advantage.
    advantage: f32,
    truncated: bool,
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
        let zeros = vec![0.0; policy.weights().len()];
        Self { config, first: zeros.clone(), second: zeros.clone(), steps: 0, gradients: zeros }
    }

    /// Its settings.
    pub fn config(&self) -> &UpdateConfig {
        &self.config
    }

    pub(crate) fn restore(config: UpdateConfig, first: Vec<f32>, second: Vec<f32>, steps: u64) -> Self {
        let gradients = vec![0.0; first.len()];
        Self { config, first, second, steps, gradients }
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
        let all_rewards: Vec<&[f32]> = groups.iter().map(|(_, rewards)| rewards.as_slice()).collect();
        let all_advantages = advantages(&all_rewards, self.config.scale_rewards);
        for ((group, rewards), advantages) in groups.iter().zip(all_advantages) {
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
            lessons.extend(group.rollouts().iter().zip(advantages).map(lesson));
        }
        report.tokens = lessons.iter().map(|lesson| lesson.completion.len()).sum();
        if lessons.is_empty() {
            report.skipped = Some("no group had rewards that differ".into());
            return Ok(report);
        }
        let objective = Objective::Reward(self.config.loss());
        let sums = self.accumulate(policy, &lessons, &objective)?;
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
        let mut encoded = Vec::with_capacity(pairs.len());
        for (prompt, completion) in pairs {
            let completion_ids = policy.encode_exactly(completion)?;
            encoded.push((policy.prompt_ids(prompt)?, completion_ids));
        }
        let lessons: Vec<Lesson> = encoded
            .iter()
            .map(|(prompt, completion)| Lesson { prompt, completion, advantage: 1.0, truncated: false })
            .collect();
        let sums = self.accumulate(policy, &lessons, &Objective::Imitate)?;
        let mut report = UpdateReport { loss: sums.loss, ..UpdateReport::default() };
        self.finish(policy, rate, &mut report);
        match report.skipped {
            Some(why) => Err(PolicyError::input(why, "lower the learning rate")),
            None => Ok(report.loss),
        }
    }

    /// The gradient of a loss by all weights, for checks against other implementations.
    ///
    /// # Errors
    /// As [`Self::supervise`].
    pub fn imitation_gradient(policy: &Policy, pairs: &[(String, String)]) -> Result<(f32, Vec<f32>)> {
        let mut trainer = Self::new(policy, UpdateConfig::default());
        let mut encoded = Vec::with_capacity(pairs.len());
        for (prompt, completion) in pairs {
            encoded.push((policy.prompt_ids(prompt)?, policy.encode_exactly(completion)?));
        }
        let lessons: Vec<Lesson> = encoded
            .iter()
            .map(|(prompt, completion)| Lesson { prompt, completion, advantage: 1.0, truncated: false })
            .collect();
        let sums = trainer.accumulate(policy, &lessons, &Objective::Imitate)?;
        Ok((sums.loss, trainer.gradients))
    }

    /// Adds up the gradient of all lessons.
    fn accumulate(&mut self, policy: &Policy, lessons: &[Lesson], objective: &Objective) -> Result<Sums> {
        self.gradients.fill(0.0);
        let model = policy.model();
        let loss = match objective {
            Objective::Imitate => LossConfig::default(),
            Objective::Reward(config) => *config,
        };
        let totals =
            Totals::count(&loss, lessons.iter().map(|lesson| (lesson.completion.len(), lesson.truncated)));
        let mut sums = Sums::default();
        let mut rest = lessons;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|lesson| {
                tokens += lesson.prompt.len() + lesson.completion.len();
                tokens <= MICRO_BATCH_TOKENS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            micro_batch(
                model,
                now,
                totals,
                objective,
                self.config.loss_temperature,
                &mut self.gradients,
                &mut sums,
            );
            rest = later;
        }
        Ok(sums)
    }

    /// Clips, checks and takes the step.
    fn finish(&mut self, policy: &mut Policy, rate: f32, report: &mut UpdateReport) {
        let square: f64 = self.gradients.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
        let norm = square.sqrt() as f32;
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

    /// AdamW (Loshchilov and Hutter), bias-corrected; weight decay on matrices only.
    fn adam_step(&mut self, policy: &mut Policy, rate: f32, scale: f32) {
        self.steps += 1;
        let UpdateConfig { adam_beta1: b1, adam_beta2: b2, adam_epsilon: eps, weight_decay, .. } =
            self.config;
        let correct1 = 1.0 - libm::pow(f64::from(b1), self.steps as f64) as f32;
        let correct2 = 1.0 - libm::pow(f64::from(b2), self.steps as f64) as f32;
        let layout = policy.layout_handle();
        let weights = policy.weights_mut();
        for parameter in layout.parameters() {
            let decay = if parameter.shape.len() > 1 { 1.0 - rate * weight_decay } else { 1.0 };
            let range = parameter.range();
            let state = self.first[range.clone()].iter_mut().zip(&mut self.second[range.clone()]);
            for ((w, g), (m, v)) in weights[range.clone()].iter_mut().zip(&self.gradients[range]).zip(state) {
                let g = g * scale;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w = *w * decay - rate * (*m / correct1) / ((*v / correct2).sqrt() + eps);
            }
        }
    }
}

fn lesson((rollout, advantage): (&Rollout, f32)) -> Lesson<'_> {
    Lesson {
        prompt: &rollout.prompt,
        completion: &rollout.completion,
        advantage,
        truncated: !rollout.finished,
    }
}

/// Forward, loss and backward of a few sequences.
fn micro_batch(
    model: Model,
    lessons: &[Lesson],
    totals: Totals,
    objective: &Objective,
    temperature: f32,
    gradients: &mut [f32],
    sums: &mut Sums,
) {
    let sequences: Vec<Vec<u32>> = lessons.iter().map(|l| [l.prompt, l.completion].concat()).collect();
    let batch = Batch::new(sequences.iter().map(Vec::as_slice));
    // Row i of the hidden states predicts token i + 1: these rows predict completions.
    let rows = lessons.iter().zip(&batch.starts).flat_map(|(lesson, start)| {
        let first = start + lesson.prompt.len() - 1;
        first..first + lesson.completion.len()
    });
    let rows: Vec<usize> = rows.collect();
    let pass = forward::forward(model, batch);
    let mut logits = forward::logits(model, &pass.hidden, &rows);
    let temperature = if matches!(objective, Objective::Imitate) { 1.0 } else { temperature };
    let mut logit_rows = logits.chunks_exact_mut(model.config.vocab_size);
    for lesson in lessons {
        let rows: Vec<&mut [f32]> = logit_rows.by_ref().take(lesson.completion.len()).collect();
        lesson_gradient(lesson, rows, totals, objective, temperature, sums);
    }
    let d_hidden = forward::logits_gradient(model, &pass.hidden, &rows, &logits, gradients);
    forward::backward(model, pass, &d_hidden, gradients);
}

/// Turns the logits of one completion into the loss's gradient by them.
fn lesson_gradient(
    lesson: &Lesson,
    rows: Vec<&mut [f32]>,
    totals: Totals,
    objective: &Objective,
    temperature: f32,
    sums: &mut Sums,
) {
    let mut logprobs = Vec::with_capacity(rows.len());
    let mut lse = Vec::with_capacity(rows.len());
    let mut rows = rows;
    for (row, token) in rows.iter_mut().zip(lesson.completion) {
        row.iter_mut().for_each(|logit| *logit /= temperature);
        lse.push(log_sum_exp(row));
        logprobs.push(row[*token as usize] - lse[lse.len() - 1]);
    }
    let mut gradient = vec![0.0; logprobs.len()];
    sums.loss += match objective {
        Objective::Imitate => {
            gradient.fill(-lesson.advantage / totals.tokens as f32);
            -logprobs.iter().sum::<f32>() / totals.tokens as f32
        }
        // One step a rollout: the policy that sampled is the policy that is trained, so the ratio is 1.
        Objective::Reward(config) => {
            let sequence = Sequence {
                new: &logprobs,
                old: &logprobs,
                reference: None,
                advantage: lesson.advantage,
                truncated: lesson.truncated,
            };
            sequence_loss(config, totals, sequence, &mut gradient).loss
        }
    };
    for (((row, token), lse), gradient) in rows.iter_mut().zip(lesson.completion).zip(lse).zip(gradient) {
        for logit in row.iter_mut() {
            let logprob = *logit - lse;
            let p = exp(logprob);
            sums.entropy -= p * logprob;
            *logit = -p * gradient / temperature;
        }
        row[*token as usize] += gradient / temperature;
    }
}
