//! Learning: one optimiser step (or several) from rewarded groups, or from reference completions.
//!
//! A step is taken in micro-batches: gradients add up in one slice, the optimiser runs once. Whatever
//! is not finite leaves the weights as they were, and says so.

use serde::{Deserialize, Serialize};

use crate::buffers::Buffers;
use crate::error::{PolicyError, Result};
use crate::forward::Keep;
use crate::kernel::rows::sum_of_squares;
use crate::loss::{ImportanceSamplingLevel, Totals, advantages};
use crate::optimizer::{AdamW, ITEM_VALUES};
use crate::policy::Policy;
use crate::rollout::{Group, Rollout};
pub use crate::settings::UpdateConfig;
use crate::step::{Lesson, Objective, Step, Sums, logprobs, micro_batch_tokens};

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
    reference: Option<Policy>,
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
    /// [`PolicyError::Input`] when rewards and rollouts do not match in number, or when `beta` asks for a
    /// reference and there is none.
    pub fn update(
        &mut self,
        policy: &mut Policy,
        groups: &[(Group, Vec<f32>)],
        round: u32,
    ) -> Result<UpdateReport> {
        let rate = self.config.rate(round);
        let mut report = UpdateReport { learning_rate: rate, ..UpdateReport::default() };
        let mut lessons = self.lessons(groups, &mut report)?;
        if lessons.is_empty() {
            report.skipped = Some("no group had rewards that differ".into());
            return Ok(report);
        }
        let reference = self.reference_logprobs(policy, &lessons)?;
        for (lesson, reference) in lessons.iter_mut().zip(&reference) {
            lesson.reference = Some(reference);
        }
        let first = self.iterate(policy, &lessons, rate, &mut report);
        for (lesson, old) in lessons.iter_mut().zip(&first.logprobs) {
            lesson.old = Some(old);
        }
        for _ in 1..self.config.num_iterations {
            if report.skipped.is_none() {
                self.iterate(policy, &lessons, rate, &mut report);
            }
        }
        Ok(report)
    }

    /// One optimiser step on the lessons.
    fn iterate(
        &mut self,
        policy: &mut Policy,
        lessons: &[Lesson],
        rate: f32,
        report: &mut UpdateReport,
    ) -> Sums {
        let objective = Objective::Reward(self.config.loss());
        let sums = self.accumulate(policy, lessons, &objective);
        let by_sequence = self.config.importance_sampling_level == ImportanceSamplingLevel::Sequence;
        report.note(&sums, if by_sequence { lessons.len() } else { report.tokens });
        self.finish(policy, rate, report);
        sums
    }

    /// The rollouts of all groups that have something to teach.
    fn lessons<'a>(
        &self,
        groups: &'a [(Group, Vec<f32>)],
        report: &mut UpdateReport,
    ) -> Result<Vec<Lesson<'a>>> {
        let all_rewards: Vec<&[f32]> = groups.iter().map(|(_, rewards)| rewards.as_slice()).collect();
        let all_advantages = advantages(&all_rewards, self.config.scale_rewards);
        let mut lessons = Vec::new();
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
        Ok(lessons)
    }

    /// Log-probabilities under the reference, where `beta` asks for them: the policy without its adapter,
    /// or the one given.
    fn reference_logprobs(&mut self, policy: &Policy, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        if self.config.beta == 0.0 {
            return Ok(Vec::new());
        }
        let model = match (policy.adapter(), &self.reference) {
            (Some(_), _) => policy.base_model(),
            (None, Some(reference)) => reference.model(),
            (None, None) => {
                let what = format!("beta is {} but there is no reference policy", self.config.beta);
                return Err(PolicyError::input(what, "set beta = 0, or train an adapter"));
            }
        };
        let budget = micro_batch_tokens(policy.config(), Keep::Nothing);
        let (temperature, buffers) = (self.config.loss_temperature, &mut self.buffers);
        Ok(policy.run(|| logprobs(model, lessons, temperature, budget, buffers)))
    }

    /// One step of imitation on (prompt, completion) pairs; returns the mean token loss in nats.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for text outside the alphabet, too long, or a loss that is not finite.
    pub fn supervise(&mut self, policy: &mut Policy, pairs: &[(String, String)], rate: f32) -> Result<f32> {
        let encoded = encode(policy, pairs)?;
        self.imitate(policy, &encoded, rate)
    }

    /// As [`Self::supervise`], for (prompt, completion) pairs that are ids already.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for ids that the model does not read, or a loss that is not finite.
    pub fn supervise_ids(&mut self, policy: &mut Policy, pairs: &[IdPair], rate: f32) -> Result<f32> {
        pairs.iter().try_for_each(|pair| check_pair(policy, pair))?;
        self.imitate(policy, pairs, rate)
    }

    fn imitate(&mut self, policy: &mut Policy, pairs: &[IdPair], rate: f32) -> Result<f32> {
        let sums = self.accumulate(policy, &imitations(pairs), &Objective::Imitate);
        let mut report = UpdateReport { loss: sums.part.loss, ..UpdateReport::default() };
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
        let (loss, temperature) = match objective {
            Objective::Imitate => (Default::default(), 1.0),
            Objective::Reward(loss) => (*loss, config.loss_temperature),
        };
        let keep = if config.gradient_checkpointing { Keep::Inputs } else { Keep::Everything };
        let fits = micro_batch_tokens(policy.config(), keep);
        let step = Step {
            model: policy.model(),
            totals: Totals::count(&loss, lessons.iter().map(|it| (it.completion.len(), it.truncated))),
            objective,
            temperature,
            keep,
            budget: config.micro_batch_tokens.map_or(fits, |tokens| fits.min(tokens as usize)),
        };
        policy.run(|| step.run(lessons, gradients, buffers))
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
        self.optimizer.step(policy, &self.config, &self.gradients, rate, scale);
    }

    fn gradient_norm(&self, policy: &Policy) -> f32 {
        let parts = policy.team().map(self.gradients.chunks(ITEM_VALUES).collect(), sum_of_squares);
        parts.into_iter().sum::<f64>().sqrt() as f32
    }
}

impl UpdateReport {
    /// Takes over what an iteration over `ratios` ratios summed up.
    fn note(&mut self, sums: &Sums, ratios: usize) {
        self.loss = sums.part.loss;
        self.entropy = sums.entropy / self.tokens as f32;
        self.kl = sums.part.kl / self.tokens as f32;
        self.clip_fraction = (sums.part.clipped_low + sums.part.clipped_high) as f32 / ratios as f32;
    }
}

fn lesson((rollout, advantage): (&Rollout, f32)) -> Lesson<'_> {
    Lesson {
        prompt: &rollout.prompt,
        completion: &rollout.completion,
        advantage,
        truncated: !rollout.finished,
        old: None,
        reference: None,
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
        check_pair(policy, &pair)?;
        Ok(pair)
    };
    pairs.iter().map(encode).collect()
}

fn check_pair(policy: &Policy, (prompt, completion): &IdPair) -> Result<()> {
    let config = policy.config();
    let known = prompt.iter().chain(completion).all(|id| (*id as usize) < config.vocab_size);
    if !known || prompt.is_empty() {
        return Err(PolicyError::input("ids that this model does not read", "use its tokenizer"));
    }
    let room = config.context().saturating_sub(prompt.len());
    if completion.is_empty() || completion.len() > room {
        let what = format!("a completion of {} tokens where 1 to {room} fit", completion.len());
        return Err(PolicyError::input(what, "shorten the completion"));
    }
    Ok(())
}

fn imitations(pairs: &[IdPair]) -> Vec<Lesson<'_>> {
    let mut lessons = Vec::with_capacity(pairs.len());
    for (prompt, completion) in pairs {
        let (old, reference) = (None, None);
        lessons.push(Lesson { prompt, completion, advantage: 1.0, truncated: false, old, reference });
    }
    lessons
}
