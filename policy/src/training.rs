//! One round of learning, wherever the gradients are computed.

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::loss::{ImportanceSamplingLevel, ScaleRewards, advantages};
use crate::rollout::{Group, Rollout};
use crate::settings::UpdateConfig;
use crate::step::{Lesson, Objective, Sums};
use crate::update::{IdPair, UpdateReport};

/// A policy and its optimiser, on the CPU or on a device: the required methods compute, the provided ones are
/// the same for both.
pub(crate) trait Training {
    /// How it learns.
    fn config(&self) -> &UpdateConfig;

    /// Log-probabilities of the lessons' tokens under the reference; `None` where there is no reference.
    fn reference_logprobs(&mut self, lessons: &[Lesson]) -> Result<Option<Vec<Vec<f32>>>>;

    /// Computes the gradient of all lessons.
    fn accumulate(&mut self, lessons: &[Lesson], objective: &Objective) -> Result<Sums>;

    /// Euclidean norm of the gradient.
    fn gradient_norm(&self) -> Result<f32>;

    /// Takes an optimiser step along the gradient, multiplied by `scale`.
    fn step(&mut self, rate: f32, scale: f32) -> Result<()>;

    /// One round of group-relative policy gradient.
    fn update(&mut self, groups: &[(Group, Vec<f32>)], round: u32) -> Result<UpdateReport> {
        let rate = self.config().rate(round);
        let mut report = UpdateReport { learning_rate: rate, ..UpdateReport::default() };
        let mut lessons = lessons(groups, self.config().scale_rewards, &mut report)?;
        if lessons.is_empty() {
            report.skipped = Some("no group had rewards that differ".into());
            return Ok(report);
        }
        let reference = self.reference(&lessons)?;
        for (lesson, reference) in lessons.iter_mut().zip(&reference) {
            lesson.reference = Some(reference);
        }
        let first = self.iterate(&lessons, rate, &mut report)?;
        for (lesson, old) in lessons.iter_mut().zip(&first.logprobs) {
            lesson.old = Some(old);
        }
        for _ in 1..self.config().num_iterations {
            if report.skipped.is_none() {
                self.iterate(&lessons, rate, &mut report)?;
            }
        }
        Ok(report)
    }

    /// One step of imitation; returns the mean token loss in nats.
    fn imitate(&mut self, pairs: &[IdPair], rate: f32) -> Result<f32> {
        let sums = self.accumulate(&imitations(pairs), &Objective::Imitate)?;
        let mut report = UpdateReport { loss: sums.part.loss, ..UpdateReport::default() };
        self.finish(rate, &mut report)?;
        match report.skipped {
            Some(why) => Err(PolicyError::input(why, "lower the learning rate")),
            None => Ok(report.loss),
        }
    }

    /// Log-probabilities under the reference, where `beta` asks for them.
    fn reference(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        let beta = self.config().beta;
        if beta == 0.0 {
            return Ok(Vec::new());
        }
        self.reference_logprobs(lessons)?.ok_or_else(|| {
            let what = format!("beta is {beta} but there is no reference policy");
            PolicyError::input(what, "set beta = 0, or train an adapter")
        })
    }

    /// One optimiser step on the lessons.
    fn iterate(&mut self, lessons: &[Lesson], rate: f32, report: &mut UpdateReport) -> Result<Sums> {
        let objective = Objective::Reward(self.config().loss());
        let sums = self.accumulate(lessons, &objective)?;
        let by_sequence = self.config().importance_sampling_level == ImportanceSamplingLevel::Sequence;
        report.note(&sums, if by_sequence { lessons.len() } else { report.tokens });
        self.finish(rate, report)?;
        Ok(sums)
    }

    /// Clips, checks and takes the step.
    fn finish(&mut self, rate: f32, report: &mut UpdateReport) -> Result<()> {
        let norm = self.gradient_norm()?;
        report.grad_norm = norm;
        if !norm.is_finite() || !report.loss.is_finite() {
            report.skipped = Some(format!(
                "loss {} or gradient norm {norm} is not finite; the weights stay as they were",
                report.loss
            ));
            return Ok(());
        }
        let clip_norm = self.config().clip_norm;
        self.step(rate, if norm > clip_norm { clip_norm / norm } else { 1.0 })
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

/// The rollouts of all groups that have something to teach.
fn lessons<'a>(
    groups: &'a [(Group, Vec<f32>)],
    scale: ScaleRewards,
    report: &mut UpdateReport,
) -> Result<Vec<Lesson<'a>>> {
    let all_rewards: Vec<&[f32]> = groups.iter().map(|(_, rewards)| rewards.as_slice()).collect();
    let all_advantages = advantages(&all_rewards, scale);
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

/// Pairs as lessons of imitation.
pub(crate) fn imitations(pairs: &[IdPair]) -> Vec<Lesson<'_>> {
    let mut lessons = Vec::with_capacity(pairs.len());
    for (prompt, completion) in pairs {
        let (old, reference) = (None, None);
        lessons.push(Lesson { prompt, completion, advantage: 1.0, truncated: false, old, reference });
    }
    lessons
}

/// Says whether a model can read a pair.
///
/// # Errors
/// [`PolicyError::Input`].
pub(crate) fn check_pair(config: &ModelConfig, (prompt, completion): &IdPair) -> Result<()> {
    if prompt.is_empty() || !config.knows(prompt) || !config.knows(completion) {
        return Err(PolicyError::input("ids that this model does not read", "use its tokenizer"));
    }
    let room = config.context().saturating_sub(prompt.len());
    if completion.is_empty() || completion.len() > room {
        let what = format!("a completion of {} tokens where 1 to {room} fit", completion.len());
        return Err(PolicyError::input(what, "shorten the completion"));
    }
    Ok(())
}
