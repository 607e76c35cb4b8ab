//! Learning: one optimiser step (or several) from rewarded groups, or from reference completions.
//!
//! A step is taken in micro-batches: gradients add up in one slice, the optimiser runs once. Whatever
//! is not finite leaves the weights as they were, and says so. What a round consists of is in
//! `training`.

use serde::{Deserialize, Serialize};

use crate::buffers::Buffers;
use crate::error::{PolicyError, Result};
use crate::forward::Keep;
use crate::kernel::rows::sum_of_squares;
use crate::optimizer::{AdamW, ITEM_VALUES};
use crate::policy::Policy;
use crate::rollout::Group;
use crate::score::logprobs;
pub use crate::settings::UpdateConfig;
use crate::step::{Lesson, Objective, Step, Sums, micro_batch_tokens, pairs};
use crate::training::{Training, check_pair, imitations};

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Policy-gradient loss, of the last iteration.
    pub loss: f32,
    /// Norm of the gradient before clipping, of the last iteration.
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
    /// Mean divergence (k3) of the trained tokens from the reference, in nats; 0 without a reference.
    #[serde(default)]
    pub kl: f32,
    /// Share of the trained tokens (sequences, with sequence-level ratios) whose ratio was clipped.
    #[serde(default)]
    pub clip_fraction: f32,
    /// Why no step was taken, when none was.
    pub skipped: Option<String>,
}

/// An optimiser (AdamW) and its state.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) config: UpdateConfig,
    pub(crate) optimizer: AdamW,
    pub(crate) reference: Option<Policy>,
    gradients: Vec<f32>,
    buffers: Buffers,
}

impl Clone for Trainer {
    /// A copy of the optimiser's state; what is only scratch starts empty.
    fn clone(&self) -> Self {
        let copy = Self::restore(self.config.clone(), self.optimizer.clone());
        Self { reference: self.reference.clone(), ..copy }
    }
}

impl Trainer {
    /// A fresh optimiser for a policy.
    pub fn new(policy: &Policy, config: UpdateConfig) -> Self {
        Self::restore(config, AdamW::new(policy.trainable_len()))
    }

    pub(crate) fn restore(config: UpdateConfig, optimizer: AdamW) -> Self {
        Self { config, optimizer, reference: None, gradients: Vec::new(), buffers: Buffers::default() }
    }

    /// Takes `reference` as the policy that `beta` holds the trained one to. Not needed where an adapter
    /// is trained: its base is the reference then.
    pub fn with_reference(mut self, reference: Policy) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The same optimiser with other settings.
    pub fn with_config(mut self, config: UpdateConfig) -> Self {
        self.config = config;
        self
    }

    /// Its settings.
    pub fn config(&self) -> &UpdateConfig {
        &self.config
    }

    /// One round of group-relative policy gradient, `num_iterations` steps: `rewards` per rollout of each
    /// group, `round` from 1.
    ///
    /// # Errors
    /// [`PolicyError::Input`](crate::PolicyError::Input) when rewards and rollouts do not match in number, or when `beta` asks for a
    /// reference and there is none.
    pub fn update(
        &mut self,
        policy: &mut Policy,
        groups: &[(Group, Vec<f32>)],
        round: u32,
    ) -> Result<UpdateReport> {
        OnCpu { trainer: self, policy }.update(groups, round)
    }

    /// One step of imitation on (prompt, completion) pairs; returns the mean token loss in nats.
    ///
    /// # Errors
    /// [`PolicyError::Input`](crate::PolicyError::Input) for text outside the alphabet, too long, or a loss that is not finite.
    pub fn supervise(&mut self, policy: &mut Policy, pairs: &[(String, String)], rate: f32) -> Result<f32> {
        let encoded = encode(policy, pairs)?;
        OnCpu { trainer: self, policy }.imitate(&encoded, rate)
    }

    /// As [`Self::supervise`], for (prompt, completion) pairs that are ids already.
    ///
    /// # Errors
    /// [`PolicyError::Input`](crate::PolicyError::Input) for ids that the model does not read, or a loss that is not finite.
    pub fn supervise_ids(&mut self, policy: &mut Policy, pairs: &[IdPair], rate: f32) -> Result<f32> {
        pairs.iter().try_for_each(|pair| check_pair(policy.config(), pair))?;
        OnCpu { trainer: self, policy }.imitate(pairs, rate)
    }

    /// The gradient of the imitation loss by all weights (or adapters), in their layout: for checks
    /// against other implementations.
    ///
    /// # Errors
    /// As [`Self::supervise`].
    pub fn imitation_gradient(
        policy: &Policy,
        pairs: &[(String, String)],
        config: UpdateConfig,
    ) -> Result<(f32, Vec<f32>)> {
        let mut trainer = Self::new(policy, config);
        let encoded = encode(policy, pairs)?;
        let sums = trainer.accumulate(policy, &imitations(&encoded), &Objective::Imitate);
        Ok((sums.part.loss, trainer.gradients))
    }

    /// Computes the gradient of all lessons.
    fn accumulate(&mut self, policy: &Policy, lessons: &[Lesson], objective: &Objective) -> Sums {
        let Self { gradients, buffers, config, .. } = self;
        gradients.resize(policy.trainable_len(), 0.0);
        policy.team().each(gradients.chunks_mut(ITEM_VALUES).collect(), |part| part.fill(0.0));
        let keep = if config.gradient_checkpointing { Keep::Inputs } else { Keep::Everything };
        let fits = micro_batch_tokens(policy.config(), keep);
        let step = Step {
            model: policy.model(),
            totals: objective.totals(lessons),
            objective,
            temperature: objective.temperature(config),
            keep,
            budget: config.micro_batch_tokens.map_or(fits, |tokens| fits.min(tokens as usize)),
        };
        policy.run(|| step.run(lessons, gradients, buffers))
    }
}

/// A trainer and what it trains.
struct OnCpu<'a> {
    trainer: &'a mut Trainer,
    policy: &'a mut Policy,
}

impl Training for OnCpu<'_> {
    fn config(&self) -> &UpdateConfig {
        &self.trainer.config
    }

    /// The reference is the policy without its adapter, or the one given.
    fn reference_logprobs(&mut self, lessons: &[Lesson]) -> Result<Option<Vec<Vec<f32>>>> {
        let Self { trainer, policy } = self;
        let model = match (policy.adapter(), &trainer.reference) {
            (Some(_), _) => policy.base_model(),
            (None, Some(reference)) => reference.model(),
            (None, None) => return Ok(None),
        };
        let budget = micro_batch_tokens(policy.config(), Keep::Nothing);
        let (temperature, buffers) = (trainer.config.loss_temperature, &mut trainer.buffers);
        Ok(Some(policy.run(|| logprobs(model, &pairs(lessons), temperature, budget, buffers))))
    }

    fn accumulate(&mut self, lessons: &[Lesson], objective: &Objective) -> Result<Sums> {
        Ok(self.trainer.accumulate(self.policy, lessons, objective))
    }

    fn gradient_norm(&self) -> Result<f32> {
        let parts = self.trainer.gradients.chunks(ITEM_VALUES).collect();
        let parts = self.policy.team().map(parts, sum_of_squares);
        Ok(parts.into_iter().sum::<f64>().sqrt() as f32)
    }

    fn step(&mut self, rate: f32, scale: f32) -> Result<()> {
        let Trainer { optimizer, config, gradients, .. } = &mut *self.trainer;
        optimizer.step(self.policy, config, gradients, rate, scale);
        Ok(())
    }
}

/// Ids of a prompt and of the completion that follows it.
pub type IdPair = (Vec<u32>, Vec<u32>);

fn encode(policy: &Policy, pairs: &[(String, String)]) -> Result<Vec<IdPair>> {
    let encode = |(prompt, completion): &(String, String)| {
        let completion = policy.completion_ids(completion).ok_or_else(|| {
            let what = format!("the completion {completion:?} is empty or has what this model cannot say");
            PolicyError::input(what, "use the model's alphabet")
        })?;
        let pair = (policy.prompt_ids(prompt)?, completion);
        check_pair(policy.config(), &pair)?;
        Ok(pair)
    };
    pairs.iter().map(encode).collect()
}
