//! `murmur replay --updates`: computes training steps of a peer again and compares every bit.
//!
//! A step's inputs follow from what is logged: the prompts from the beacon, the completions from the policy and the
//! seed, the rewards from the vote. So a kept state (the base, or a checkpoint) is all that is needed besides, and a
//! step is reached by computing those since. Which step is asked for, the newest certificate's beacon draws: nobody
//! knew it while training. Under another arithmetic nothing can be said.

use std::path::{Path, PathBuf};

use anyhow::Context;
use policy::tensor::Device;
use policy::{Checkpoint, Learner, Policy, Sampling, Trainer, UpdateConfig};
use serde::{Deserialize, Serialize};
use swarm::log::Training;
use swarm::manifest::{Critiques, Manifest};
use swarm::replay::{Replayed, StepInputs};
use swarm::wire::Hash;

use crate::arm::Arm;
use crate::history;
use crate::logs::LogFile;
use crate::plant;
use crate::worker::batch_hash;

/// Steps after a kept state within which one is drawn: as many are computed at most.
const STEPS_MAX: u32 = 10;

/// What a log says of how its owner learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learning {
    /// Model it began with.
    pub(crate) base: String,
    /// What it is rewarded for.
    pub(crate) arm: String,
    pub(crate) sampling: SamplingRecord,
    pub(crate) learning: UpdateConfig,
    /// Whether its model is asked through a chat template.
    pub(crate) chat: bool,
    /// Whether it trains an adapter.
    pub(crate) lora: bool,
}

/// How answers are drawn; see [`Sampling`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SamplingRecord {
    temperature: f32,
    new_tokens_max: usize,
    top_k: usize,
    top_p: f32,
    min_p: f32,
}

impl From<Sampling> for SamplingRecord {
    fn from(sampling: Sampling) -> Self {
        let Sampling { temperature, new_tokens_max, top_k, top_p, min_p } = sampling;
        Self { temperature, new_tokens_max, top_k, top_p, min_p }
    }
}

impl From<SamplingRecord> for Sampling {
    fn from(record: SamplingRecord) -> Self {
        let SamplingRecord { temperature, new_tokens_max, top_k, top_p, min_p } = record;
        Self { temperature, new_tokens_max, top_k, top_p, min_p }
    }
}

/// What computing steps again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Updates {
    /// Every step from the first to the last gave the policy that the log names.
    Equal { first: u32, last: u32 },
    /// Nothing can be said.
    Inconclusive { why: String },
}

/// A state that training can be taken up from.
struct Start {
    /// Rounds trained.
    round: u32,
    /// Nothing for the base.
    checkpoint: Option<PathBuf>,
}

/// Computes the drawn step of a log again, and those before it since a kept state.
///
/// # Errors
/// A step that gives something else than the log says, or state that cannot be read.
pub(crate) fn check(log: &LogFile, replayed: &Replayed) -> anyhow::Result<Updates> {
    let inconclusive = |why: &str| Ok(Updates::Inconclusive { why: why.to_owned() });
    let Some(settings) = &replayed.learner else {
        return inconclusive("the log does not say how its owner learns");
    };
    let learning: Learning =
        serde_json::from_str(settings).context("learner, settings: not as written by this program")?;
    if learning.chat || learning.lora || learning.learning.beta > 0.0 {
        return inconclusive("chat models, adapters and references are not computed again");
    }
    let dir = log.path.parent().unwrap_or(Path::new("."));
    let Some((start, last)) = draw(dir, replayed)? else {
        return inconclusive("no state of its training was kept");
    };
    let (policy, trainer) = match &start.checkpoint {
        Some(path) => {
            let base = || Err(anyhow::anyhow!("{} has an adapter", path.display()));
            let (policy, trainer, _) = Checkpoint::load(path, base)?;
            (policy, trainer.with_config(learning.learning.clone()))
        }
        None => {
            let policy = crate::model::open(&learning.base, true)?;
            let trainer = Trainer::new(&policy, learning.learning.clone());
            (policy, trainer)
        }
    };
    let mut again = Again {
        arm: Arm::named(&learning.arm).with_context(|| format!("no arm is called {:?}", learning.arm))?,
        manifest: &replayed.manifest,
        replayed,
        sampling: learning.sampling.into(),
        learner: Learner::new(policy.with_threads(0)?, trainer, Device::Cpu)?,
    };
    let first = start.round + 1;
    for inputs in log.inputs(first..=last)? {
        if let Some(why) = again.round(&inputs)? {
            return inconclusive(&why);
        }
    }
    Ok(Updates::Equal { first, last })
}

/// The start to compute from and the step to reach, drawn by the newest certificate.
fn draw(dir: &Path, replayed: &Replayed) -> anyhow::Result<Option<(Start, u32)>> {
    let mut starts: Vec<(u32, Option<PathBuf>)> = vec![(0, None)];
    starts.extend(history::list(dir)?.into_iter().map(|(round, path)| (round, Some(path))));
    let trained = |from: u32| {
        let rounds = replayed.steps.iter().map(|step| step.round);
        rounds.filter(move |round| (from + 1..=from + STEPS_MAX).contains(round))
    };
    let mut reachable: Vec<(u32, usize)> = Vec::new();
    for (at, (round, _)) in starts.iter().enumerate() {
        reachable.extend(trained(*round).map(|step| (step, at)));
    }
    // From the newest state before it each; the last of equal steps is that of the newest start.
    reachable.sort_unstable();
    reachable.reverse();
    reachable.dedup_by_key(|(step, _)| *step);
    let Some(newest) = replayed.rounds.last().filter(|_| !reachable.is_empty()) else { return Ok(None) };
    let seed = Hash::of("murmur v1 checked step", &[&newest.statement.0, &replayed.peer.0]);
    let (number, _) = seed.0.split_first_chunk::<8>().context("a hash has 32 bytes")?;
    let (step, at) = reachable[(u64::from_le_bytes(*number) % reachable.len() as u64) as usize];
    let (round, checkpoint) = starts.swap_remove(at);
    Ok(Some((Start { round, checkpoint }, step)))
}

/// Training, computed again.
struct Again<'a> {
    arm: Arm,
    manifest: &'a Manifest,
    replayed: &'a Replayed,
    sampling: Sampling,
    learner: Learner,
}

impl Again<'_> {
    /// Computes one round; says why nothing can be said, where that is so.
    fn round(&mut self, inputs: &StepInputs) -> anyhow::Result<Option<String>> {
        let (settled, peer) = (&inputs.settled, self.replayed.peer);
        let round = settled.round;
        // The newest of a round: a start before may have computed it too.
        let Some(logged) = self.replayed.steps.iter().rfind(|step| step.round == round) else {
            return Ok(None);
        };
        if logged.numerics != self.learner.numerics() {
            let why =
                format!("it computed by {}, this machine by {}", logged.numerics, self.learner.numerics());
            return Ok(Some(why));
        }
        if logged.before != Hash(self.learner.policy().hash()) {
            return Ok(Some(format!("the step of round {round} did not begin with the state that was kept")));
        }
        let prompts: Vec<&str> = settled.schedule.iter().map(tasks::Item::prompt).collect();
        let completions = self.manifest.round.completions.into();
        let groups = self.learner.rollout(&prompts, completions, &self.sampling, &inputs.seed.0)?;
        let texts =
            groups.iter().map(|group| group.rollouts().iter().map(|rollout| rollout.text.clone()).collect());
        let texts: Vec<Vec<String>> = texts.collect();
        let mut spoilt = texts.clone();
        plant::spoil(&mut spoilt);
        let planted = inputs.completions == spoilt;
        if inputs.completions.iter().any(|shown| !shown.is_empty()) && inputs.completions != texts && !planted
        {
            anyhow::bail!(
                "round {round}, reveal of {}, completions: are not what its policy samples",
                peer.name()
            );
        }
        let mut rewarded = self.arm.rewards(&peer, &self.manifest.judge, settled, groups);
        if planted {
            rewarded = plant::unspoilt(rewarded);
        }
        if batch_hash(&rewarded) != logged.batch && self.manifest.round.critiques == Critiques::Train {
            return Ok(Some(format!("round {round} taught critiques too, whose inputs are not logged")));
        }
        let batch = batch_hash(&rewarded);
        let report = self.learner.update(&rewarded, round)?;
        let computed = Training {
            batch,
            after: Hash(self.learner.policy().hash()),
            optimizer: self.learner.optimizer_hash().map(Hash).unwrap_or_default(),
            learning_rate: report.learning_rate.to_bits(),
            ..logged.clone()
        };
        match differing(&computed, logged) {
            None => Ok(None),
            Some(field) => anyhow::bail!(
                "round {round}, training step of {}, {field}: is another one when it is computed again",
                peer.name()
            ),
        }
    }
}

fn differing(computed: &Training, logged: &Training) -> Option<&'static str> {
    [
        ("batch", computed.batch == logged.batch),
        ("learning_rate", computed.learning_rate == logged.learning_rate),
        ("after", computed.after == logged.after),
        ("optimizer", computed.optimizer == logged.optimizer),
    ]
    .into_iter()
    .find_map(|(field, same)| (!same).then_some(field))
}

/// The settings of a peer, as its log keeps them.
pub(crate) fn settings(
    base: &str,
    arm: Arm,
    sampling: Sampling,
    policy: &Policy,
    learning: &UpdateConfig,
) -> String {
    let learning = Learning {
        base: base.to_owned(),
        arm: arm.name().to_owned(),
        sampling: sampling.into(),
        learning: learning.clone(),
        chat: policy.chats(),
        lora: policy.adapter().is_some(),
    };
    // Plain numbers and text: nothing in it that JSON lacks.
    serde_json::to_string(&learning).unwrap_or_default()
}
