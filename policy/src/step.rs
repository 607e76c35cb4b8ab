//! The gradient of a step's loss, micro-batch by micro-batch.

use crate::backward::{Sinks, backward};
use crate::batch::{Batch, Pair, runs};
use crate::buffers::Buffers;
use crate::config::ModelConfig;
use crate::forward::{Keep, forward};
use crate::head::{Scored, score, score_gradient};
use crate::loss::{LossConfig, Sequence, SequenceLoss, Totals, sequence_loss};
use crate::model::Model;
use crate::settings::UpdateConfig;

/// Most rows of one micro-batch: enough for full-speed products, little enough to stay in cache.
pub(crate) const MICRO_BATCH_TOKENS: usize = 2048;
/// Most activations that a micro-batch keeps: 640 MiB.
const ACTIVATIONS_MAX: usize = 160 * 1024 * 1024;

/// One completion to learn from. `old` and `reference`: log-probabilities of its tokens under the policy
/// before the step's first iteration, and under the one it must not leave; `None` for no such thing.
#[derive(Clone, Copy)]
pub(crate) struct Lesson<'a> {
    pub(crate) prompt: &'a [u32],
    pub(crate) completion: &'a [u32],
    pub(crate) advantage: f32,
    pub(crate) truncated: bool,
    pub(crate) old: Option<&'a [f32]>,
    pub(crate) reference: Option<&'a [f32]>,
}

/// The lessons' prompts and completions.
pub(crate) fn pairs<'a>(lessons: &[Lesson<'a>]) -> Vec<Pair<'a>> {
    lessons.iter().map(|lesson| (lesson.prompt, lesson.completion)).collect()
}

/// Which loss a step uses.
pub(crate) enum Objective {
    /// −Σ log-probability / tokens.
    Imitate,
    /// A policy-gradient loss.
    Reward(LossConfig),
}

impl Objective {
    /// What a step's averages divide by.
    pub(crate) fn totals(&self, lessons: &[Lesson]) -> Totals {
        let loss = match self {
            Self::Imitate => LossConfig::default(),
            Self::Reward(loss) => *loss,
        };
        Totals::count(&loss, lessons.iter().map(|it| (it.completion.len(), it.truncated)))
    }

    /// Temperature of the log-probabilities.
    pub(crate) fn temperature(&self, config: &UpdateConfig) -> f32 {
        match self {
            Self::Imitate => 1.0,
            Self::Reward(_) => config.loss_temperature,
        }
    }

    /// A lesson's part of the loss; writes its gradient by the log-probabilities.
    pub(crate) fn loss(
        &self,
        totals: Totals,
        lesson: &Lesson,
        logprobs: &[f32],
        gradient: &mut [f32],
    ) -> SequenceLoss {
        match self {
            Self::Imitate => {
                gradient.fill(-lesson.advantage / totals.tokens as f32);
                let loss = -logprobs.iter().sum::<f32>() / totals.tokens as f32;
                SequenceLoss { loss, ..SequenceLoss::default() }
            }
            Self::Reward(config) => {
                let sequence = Sequence {
                    new: logprobs,
                    // In the first iteration the policy that sampled is the one that is trained.
                    old: lesson.old.unwrap_or(logprobs),
                    reference: lesson.reference,
                    advantage: lesson.advantage,
                    truncated: lesson.truncated,
                };
                sequence_loss(config, totals, sequence, gradient)
            }
        }
    }
}

/// What the micro-batches of a step add up.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) part: SequenceLoss,
    pub(crate) entropy: f32,
    /// Log-probabilities of each lesson's tokens.
    pub(crate) logprobs: Vec<Vec<f32>>,
}

impl Sums {
    /// Adds a lesson's part.
    pub(crate) fn add(&mut self, part: SequenceLoss) {
        self.part.loss += part.loss;
        self.part.kl += part.kl;
        self.part.clipped_low += part.clipped_low;
        self.part.clipped_high += part.clipped_high;
    }
}

/// What every micro-batch of a step has in common.
pub(crate) struct Step<'a> {
    pub(crate) model: Model<'a>,
    pub(crate) totals: Totals,
    pub(crate) objective: &'a Objective,
    pub(crate) temperature: f32,
    pub(crate) keep: Keep,
    /// Rows of a micro-batch.
    pub(crate) budget: usize,
}

impl Step<'_> {
    /// Adds the gradient of all lessons to `gradients`.
    pub(crate) fn run(&self, lessons: &[Lesson], gradients: &mut [f32], buffers: &mut Buffers) -> Sums {
        let mut sums = Sums::default();
        // A prompt counts once for those that share it.
        let rows = |before: Option<&Lesson>, lesson: &Lesson| {
            let shares = before.is_some_and(|before| before.prompt == lesson.prompt);
            lesson.completion.len() - 1 + if shares { 0 } else { lesson.prompt.len() }
        };
        for now in runs(lessons, self.budget, rows) {
            self.take(now, gradients, buffers, &mut sums);
        }
        sums
    }

    /// Forward, loss and backward of a few lessons; neighbours with one prompt share it.
    fn take(&self, lessons: &[Lesson], gradients: &mut [f32], buffers: &mut Buffers, sums: &mut Sums) {
        let model = self.model;
        let (batch, targets) = Batch::of_pairs(&pairs(lessons));
        let rows = batch.rows();
        let pass = forward(model, batch, self.keep, buffers);
        let scores = score(model, &pass.hidden, &targets, self.temperature, true, buffers);
        let weights = self.loss(lessons, &scores.scored, sums);
        let mut sinks = match model.adapter {
            Some(_) => Sinks { base: None, adapter: Some(gradients) },
            None => Sinks { base: Some(gradients), adapter: None },
        };
        let at = (&scores, self.temperature);
        let d_hidden =
            score_gradient(model, rows, &targets, at, &weights, sinks.base.as_deref_mut(), buffers);
        scores.free(buffers);
        backward(model, pass, &d_hidden, &mut sinks, buffers);
        buffers.give(d_hidden);
    }

    /// The loss's gradient by every target's log-probability.
    fn loss(&self, lessons: &[Lesson], scored: &[Scored], sums: &mut Sums) -> Vec<f32> {
        let mut weights = vec![0.0; scored.len()];
        let (mut rest, mut gradients) = (scored, &mut weights[..]);
        for lesson in lessons {
            let (now, later) = rest.split_at(lesson.completion.len());
            let (gradient, gradients_later) = gradients.split_at_mut(now.len());
            let logprobs: Vec<f32> = now.iter().map(|scored| scored.logprob).collect();
            sums.add(self.objective.loss(self.totals, lesson, &logprobs, gradient));
            sums.logprobs.push(logprobs);
            (rest, gradients) = (later, gradients_later);
        }
        sums.entropy += scored.iter().map(|scored| scored.entropy).sum::<f32>();
        weights
    }
}

/// Rows of a micro-batch: enough for full-speed products, and activations that fit in memory.
pub(crate) fn micro_batch_tokens(config: &ModelConfig, keep: Keep) -> usize {
    (ACTIVATIONS_MAX / kept_activations(config, keep)).clamp(1, MICRO_BATCH_TOKENS)
}

/// Values that a forward pass keeps for each token.
pub(crate) fn kept_activations(config: &ModelConfig, keep: Keep) -> usize {
    match keep {
        Keep::Inputs => config.num_hidden_layers * config.hidden_size + block_activations(config),
        _ => config.num_hidden_layers * block_activations(config),
    }
}

/// Values that the backward pass of a block needs for each token.
pub(crate) fn block_activations(config: &ModelConfig) -> usize {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.kv_width());
    let raw = if config.qk_norm() { q + kv } else { 0 };
    2 * c + 2 * q + 2 * kv + 2 * f + raw
}
