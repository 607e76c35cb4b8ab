//! A policy that samples, scores and learns on one device.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{PolicyError, Result};
use crate::optimizer::AdamW;
use crate::policy::Policy;
use crate::rollout::{Group, Sampling};
use crate::tensor::{Device, Precision, Sampled, TensorPolicy, TensorTrainer};
use crate::update::{Trainer, UpdateReport};
use crate::weights;

/// A policy, its optimiser and the device that computes: on the CPU exactly [`Policy`] and [`Trainer`], on a GPU
/// the same up to rounding.
///
/// The policy on the host follows the one on the device after every update; the optimiser does when a snapshot
/// is asked for.
pub struct Learner {
    policy: Policy,
    trainer: Trainer,
    tensors: Option<Tensors>,
}

/// What a device holds.
struct Tensors {
    policy: TensorPolicy,
    trainer: TensorTrainer,
}

impl Learner {
    /// Takes over a policy and its optimiser, and copies them to the device; numbers there are f32.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for the optimiser of another policy, or a device that this binary or machine lacks;
    /// [`PolicyError::Tensor`], as when the device's memory is too small.
    pub fn new(policy: Policy, trainer: Trainer, device: Device) -> Result<Self> {
        let (moments, learnt) = (trainer.optimizer.first.len(), policy.trainable_len());
        if moments != learnt {
            let what = format!("moments of {moments} values where {learnt} learn");
            return Err(PolicyError::input(what, "use the trainer that belongs to this policy"));
        }
        let tensors = match device {
            Device::Cpu => None,
            device => Some(Tensors::new(&policy, &trainer, device)?),
        };
        Ok(Self { policy, trainer, tensors })
    }

    /// Name of the arithmetic that samples. Rollouts can be replayed to the bit where it is the CPU's: there it
    /// depends on nothing but the precision of the weights.
    pub fn numerics(&self) -> &'static str {
        match &self.tensors {
            Some(_) => "tensors-f32",
            None => self.policy.sampling_weights().numerics(),
        }
    }

    /// As [`Policy::rollout`].
    ///
    /// # Errors
    /// As [`Policy::rollout`]; [`PolicyError::Tensor`].
    pub fn rollout(
        &mut self,
        prompts: &[&str],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Group>> {
        match &self.tensors {
            Some(tensors) => tensors.rollout(&self.policy, prompts, group, sampling, seed),
            None => self.policy.rollout(prompts, group, sampling, seed),
        }
    }

    /// As [`Policy::score`]. Where the device fails, as when its memory is too small, the CPU scores.
    pub fn score(&mut self, pairs: &[(&str, &str)]) -> Vec<Option<f32>> {
        let scores = self.tensors.as_ref().and_then(|tensors| tensors.score(&self.policy, pairs).ok());
        scores.unwrap_or_else(|| self.policy.score(pairs))
    }

    /// As [`Trainer::update`]. When it fails, steps that were taken before stay.
    ///
    /// # Errors
    /// As [`Trainer::update`]; [`PolicyError::Tensor`].
    pub fn update(&mut self, groups: &[(Group, Vec<f32>)], round: u32) -> Result<UpdateReport> {
        match &mut self.tensors {
            Some(tensors) => tensors.update(&mut self.policy, groups, round),
            None => self.trainer.update(&mut self.policy, groups, round),
        }
    }

    /// The policy as it is after the last update.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The optimiser's settings, and its state at the last [`Self::snapshot`] (on the CPU: its state).
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Stores policy and optimiser as they are now; nothing is copied for it on the CPU.
    ///
    /// # Errors
    /// As [`Checkpoint::save`]; [`PolicyError::Tensor`].
    pub fn store(&mut self, out: &Path, round: u32) -> Result<()> {
        self.write_back()?;
        Checkpoint::save(out, &self.policy, &self.trainer, round)
    }

    /// Hash of the optimiser's state after the last update; `None` on a device, whose state is not here.
    pub fn optimizer_hash(&self) -> Option<[u8; 32]> {
        if self.tensors.is_some() {
            return None;
        }
        let AdamW { first, second, steps } = &self.trainer.optimizer;
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 optimizer");
        hasher.update(&steps.to_le_bytes());
        for moments in [first, second] {
            hasher.update(&weights::hash(self.policy.trainable(), moments));
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// The policy as it is after the last update, for itself.
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    fn write_back(&mut self) -> Result<()> {
        match &self.tensors {
            Some(tensors) => tensors.trainer.write_back(&tensors.policy, &mut self.trainer),
            None => Ok(()),
        }
    }

    /// Copies of the policy and its optimiser as they are now, for a checkpoint.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn snapshot(&mut self) -> Result<(Policy, Trainer)> {
        self.write_back()?;
        Ok((self.policy.clone(), self.trainer.clone()))
    }
}

impl Tensors {
    fn new(policy: &Policy, trainer: &Trainer, device: Device) -> Result<Self> {
        let policy = TensorPolicy::new(policy, device, Precision::F32)?;
        Ok(Self { trainer: TensorTrainer::new(&policy, trainer)?, policy })
    }

    fn rollout(
        &self,
        host: &Policy,
        prompts: &[&str],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Group>> {
        let ids = prompts.iter().map(|prompt| host.prompt_ids(prompt)).collect::<Result<Vec<_>>>()?;
        let sampled = self.policy.rollout_ids(&ids, group, sampling, seed)?;
        let groups = ids.iter().zip(sampled).map(|(prompt, samples)| {
            let rollout = |s: Sampled| host.rollout_of(prompt, s.tokens, s.logprobs, s.finished);
            Group::new(samples.into_iter().map(rollout).collect())
        });
        groups.collect()
    }

    fn score(&self, host: &Policy, pairs: &[(&str, &str)]) -> Result<Vec<Option<f32>>> {
        host.score_by(pairs, |known| self.policy.logprobs(known, 1.0))
    }

    /// One round on the device, and its weights on the host, also when the round was left half-way.
    fn update(
        &mut self,
        host: &mut Policy,
        groups: &[(Group, Vec<f32>)],
        round: u32,
    ) -> Result<UpdateReport> {
        let before = self.trainer.steps();
        let report = self.trainer.update(&mut self.policy, groups, round);
        let steps = self.trainer.steps() - before;
        if steps > 0 {
            let version = host.version();
            self.policy.write_back(host)?;
            host.set_version(version + steps);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoraConfig, ModelConfig, UpdateConfig};

    const PROMPTS: [&str; 3] = ["sum 9+9-8+6", "cnt a:bbbcacab", "m"];

    fn policy() -> Policy {
        let config = ModelConfig {
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            ..ModelConfig::default()
        };
        let mut policy = Policy::init(config, 3).unwrap();
        policy.weights_mut().iter_mut().filter(|w| **w != 1.0).for_each(|w| *w *= 8.0);
        policy
    }

    fn trainer(policy: &Policy) -> Trainer {
        let config = UpdateConfig {
            num_iterations: 2,
            beta: 0.1,
            warmup_rounds: 1,
            learning_rate: 1e-3,
            adam_epsilon: 1e-6,
            ..UpdateConfig::default()
        };
        Trainer::new(policy, config).with_reference(self::policy())
    }

    /// A learner on tensors, of the device that `MURMUR_TEST_DEVICE` names or the CPU.
    fn on_tensors(policy: Policy) -> Learner {
        let device = std::env::var("MURMUR_TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap());
        let trainer = trainer(&policy);
        let tensors = Some(Tensors::new(&policy, &trainer, device).unwrap());
        Learner { policy, trainer, tensors }
    }

    fn adapted() -> Policy {
        policy().with_adapter(LoraConfig::default(), 7).unwrap()
    }

    fn sampling() -> Sampling {
        Sampling { temperature: 1.0, top_p: 0.95, new_tokens_max: 16, ..Sampling::default() }
    }

    fn rewarded(groups: Vec<Group>) -> Vec<(Group, Vec<f32>)> {
        groups.into_iter().map(|group| (group, vec![1.0, 0.0, 0.5, 0.0])).collect()
    }

    fn farthest(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn on_the_cpu_it_is_the_policy_and_its_trainer() {
        let (mut policy, mut trainer) = (adapted(), trainer(&adapted()));
        let mut learner = Learner::new(policy.clone(), trainer.clone(), Device::Cpu).unwrap();
        for round in 1..=2 {
            let groups = policy.rollout(&PROMPTS, 4, &sampling(), &[8; 32]).unwrap();
            assert_eq!(learner.rollout(&PROMPTS, 4, &sampling(), &[8; 32]).unwrap(), groups);
            let groups = rewarded(groups);
            let report = trainer.update(&mut policy, &groups, round).unwrap();
            assert_eq!(learner.update(&groups, round).unwrap(), report);
            assert_eq!(learner.policy().hash(), policy.hash());
            assert_eq!(learner.policy().version(), policy.version());
            let pairs = [("sum 1+1", "<answer>2</answer>")];
            assert_eq!(learner.score(&pairs), policy.score(&pairs));
        }
        let (_, kept) = learner.snapshot().unwrap();
        for kept in [&kept, learner.trainer()] {
            assert_eq!(kept.optimizer.first, trainer.optimizer.first);
            assert_eq!(kept.optimizer.second, trainer.optimizer.second);
        }
    }

    #[test]
    fn on_tensors_it_does_the_same_up_to_rounding() {
        for start in [policy(), adapted()] {
            let mut cpu = Learner::new(start.clone(), trainer(&start), Device::Cpu).unwrap();
            let mut ours = on_tensors(start.clone());
            for round in 1..=2 {
                let groups = cpu.rollout(&PROMPTS, 4, &sampling(), &[8; 32]).unwrap();
                let same = ours.rollout(&PROMPTS, 4, &sampling(), &[8; 32]).unwrap();
                for (a, b) in
                    groups.iter().zip(&same).flat_map(|(a, b)| a.rollouts().iter().zip(b.rollouts()))
                {
                    assert!(farthest(&a.logprobs, &b.logprobs) < 2e-3);
                    let logprobs = a.logprobs.clone();
                    assert_eq!(*a, crate::Rollout { logprobs, ..b.clone() });
                }
                let groups = rewarded(groups);
                let (report, expected) =
                    (ours.update(&groups, round).unwrap(), cpu.update(&groups, round).unwrap());
                assert!((report.loss - expected.loss).abs() < 1e-4, "{report:?} {expected:?}");
                assert_eq!(ours.policy().version(), cpu.policy().version());
                assert_ne!(ours.policy().hash(), start.hash());
            }
            assert!(ours.trainer().optimizer.first.iter().all(|m| *m == 0.0), "not asked for yet");
            let ((policy, kept), (_, expected)) = (ours.snapshot().unwrap(), cpu.snapshot().unwrap());
            assert_eq!((kept.optimizer.steps, policy.version()), (4, start.version() + 4));
            let largest = expected.optimizer.first.iter().fold(0.0, |most: f32, m| most.max(m.abs()));
            assert!(farthest(&kept.optimizer.first, &expected.optimizer.first) < 1e-3 * largest);
            // Another learner goes on where this one is.
            let mut later = Learner::new(policy, kept, Device::Cpu).unwrap();
            let groups = rewarded(cpu.rollout(&PROMPTS, 4, &sampling(), &[9; 32]).unwrap());
            for learner in [&mut later, &mut ours, &mut cpu] {
                learner.update(&groups, 3).unwrap();
            }
            let logprobs = |learner: &Learner| {
                groups.iter().flat_map(|(group, _)| group.rollouts()).fold(Vec::new(), |mut all, rollout| {
                    all.extend(learner.policy().recompute(rollout, 1.0));
                    all
                })
            };
            assert!(farthest(&logprobs(&ours), &logprobs(&cpu)) < 2e-3);
            assert!(farthest(&logprobs(&later), &logprobs(&cpu)) < 2e-3);
        }
    }

    #[test]
    fn strangers_texts_are_scored_under_the_same_conditions() {
        let long = "x".repeat(5000);
        let pairs = [
            ("sum 1+1", "<answer>2</answer>"),
            ("sum 1+1", "日本"),
            ("日本", "<think>"),
            ("sum 1+1", &long),
            ("sum 1+1", ""),
            ("sum 1+1", "<think>"),
            ("sum 1+1", "<pad><bos><answer>2</answer>"),
        ];
        let (scores, expected) = (on_tensors(adapted()).score(&pairs), policy().score(&pairs));
        assert_eq!(expected.iter().flatten().count(), 2);
        for (score, expected) in scores.iter().zip(&expected) {
            let near = match (score, expected) {
                (Some(score), Some(expected)) => (score - expected).abs() < 1e-4,
                (score, expected) => score == expected,
            };
            assert!(near, "{scores:?} {expected:?}");
        }
    }

    #[test]
    fn a_round_without_a_step_changes_nothing_and_bad_requests_are_named() {
        let mut learner = on_tensors(policy());
        let before = (learner.policy().hash(), learner.policy().version());
        let groups = learner.rollout(&PROMPTS, 4, &sampling(), &[1; 32]).unwrap();
        let flat: Vec<_> = groups.iter().map(|group| (group.clone(), vec![1.0; 4])).collect();
        assert!(learner.update(&flat, 1).unwrap().skipped.is_some());
        let short: Vec<_> = groups.into_iter().map(|group| (group, vec![1.0, 0.0])).collect();
        assert!(learner.update(&short, 1).unwrap_err().to_string().contains("2 rewards for 4 rollouts"));
        assert!(learner.rollout(&["日本"], 4, &sampling(), &[1; 32]).is_err());
        assert!(learner.rollout(&PROMPTS, 0, &sampling(), &[1; 32]).is_err());
        assert_eq!((learner.policy().hash(), learner.policy().version()), before);
        let error = Learner::new(policy(), trainer(&adapted()), Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("moments of"), "{error}");
    }

    #[test]
    fn a_thread_can_take_it_over() {
        fn is_send<T: Send + 'static>(_: &T) {}
        is_send(&on_tensors(policy()));
    }
}
