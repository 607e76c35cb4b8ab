//! The policy's own thread: jobs come in over a bounded channel and are done in order.
//!
//! The engine never waits for the model; it says what it wants and hears of it when it is done. Policy and optimiser
//! stay in their thread, which also writes the checkpoints: a copy of a large model would not fit beside it.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use policy::{Group, Learner, Sampling, UpdateReport};
use swarm::log::Training;
use swarm::wire::Hash;
use tokio::sync::mpsc as results;

use crate::critic::{Ask, Critic, Critiques};
use crate::history;
use crate::weights::Sharing;

/// Jobs that may wait: the engine asks for one at a time, training comes between.
const JOBS_MAX: usize = 8;

/// What the policy is to do.
pub(crate) enum Job {
    /// Sample groups for a round's prompts, and take down the weights where they are shared.
    Answer {
        round: u32,
        prompts: Vec<String>,
        completions: usize,
        sampling: Sampling,
        seed: [u8; 32],
        sharing: Option<Sharing>,
    },
    /// Score completions of prompts, and judge some of them in words.
    Score { round: u32, pairs: Vec<Vec<(String, String)>>, asks: Vec<Ask>, seed: [u8; 32] },
    /// Take one step, and store a checkpoint if it says where; `seed` is that of the round's answers.
    Train { round: u32, seed: [u8; 32], groups: Vec<(Group, Vec<f32>)>, checkpoint: Option<PathBuf> },
}

/// What it did, and how long that took.
pub(crate) enum Done {
    /// Groups, one a prompt, the hash of the weights, and themselves for auditors.
    Answered { round: u32, groups: Vec<Group>, policy: [u8; 32], weights: Option<Vec<u8>>, took_ms: u64 },
    /// Milli-nats, aligned with the pairs, and what was written.
    Scored { round: u32, scores: Vec<Vec<Option<i16>>>, critiques: Critiques, took_ms: u64 },
    /// The step, as it is logged; its checkpoint, if one was asked for, is stored.
    Trained { report: UpdateReport, step: Training, stored: bool, took_ms: u64 },
    /// The model cannot do it.
    Failed(policy::PolicyError),
}

/// What the policy's thread leaves behind.
pub(crate) struct Left {
    pub(crate) learner: Learner,
    /// Round of the newest step; 0 before the first.
    pub(crate) trained: u32,
    /// Round of the newest checkpoint.
    pub(crate) stored: Option<u32>,
    /// The newest step, if the peer was gone before it heard of it.
    pub(crate) untold: Option<Training>,
    /// Hash of the policy as it is, once somebody asked for it.
    hash: Option<Hash>,
}

/// The handle of a policy's thread; dropping it ends the thread after the job in hand.
pub(crate) struct Worker {
    jobs: mpsc::SyncSender<Job>,
    pub(crate) done: results::Receiver<Done>,
    thread: JoinHandle<Left>,
}

impl Worker {
    /// Starts the thread; `resumed` is the round of the checkpoint that the learner comes from. Without a critic it
    /// is asked for no words.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        name: &str,
        learner: Learner,
        resumed: Option<u32>,
        critic: Option<Critic>,
    ) -> anyhow::Result<Self> {
        let (jobs, receive) = mpsc::sync_channel(JOBS_MAX);
        let (send, done) = results::channel(JOBS_MAX);
        let work = move || {
            let mut left =
                Left { learner, trained: resumed.unwrap_or(0), stored: resumed, untold: None, hash: None };
            while let Ok(job) = receive.recv() {
                // Nobody waits for the rest of the jobs.
                if send.is_closed() {
                    break;
                }
                let done = left.perform(critic.as_ref(), job).unwrap_or_else(Done::Failed);
                if let Err(results::error::SendError(done)) = send.blocking_send(done) {
                    // The peer is gone.
                    if let Done::Trained { step, .. } = done {
                        left.untold = Some(step);
                    }
                    break;
                }
            }
            left
        };
        let thread = std::thread::Builder::new()
            .name(format!("policy-{name}"))
            .spawn(work)
            .context("no thread for the policy")?;
        Ok(Self { jobs, done, thread })
    }

    /// Ends the thread after the job in hand and takes back what it worked on.
    ///
    /// # Errors
    /// The thread came to an unexpected end.
    pub(crate) async fn finish(self) -> anyhow::Result<Left> {
        let Self { jobs, done, thread } = self;
        drop((jobs, done));
        let left = tokio::task::spawn_blocking(|| thread.join()).await.context("no thread to wait in")?;
        left.map_err(|_| anyhow::anyhow!("the policy's thread stopped unexpectedly"))
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The thread ended, or jobs pile up because the model is slower than the rounds.
    pub(crate) fn ask(&self, job: Job) -> anyhow::Result<()> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => anyhow::anyhow!("the model is too slow for the rounds: {JOBS_MAX} jobs wait\nhint: raise work_deadline_ms in [swarm.round]"),
            mpsc::TrySendError::Disconnected(_) => anyhow::anyhow!("the policy's thread has ended"),
        })
    }
}

impl Left {
    fn perform(&mut self, critic: Option<&Critic>, job: Job) -> policy::Result<Done> {
        let begun = Instant::now();
        let took_ms = || begun.elapsed().as_millis() as u64;
        let learner = &mut self.learner;
        match job {
            Job::Answer { round, prompts, completions, sampling, seed, sharing } => {
                let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
                let groups = learner.rollout(&prompts, completions, &sampling, &seed)?;
                let weights = sharing.and_then(|sharing| sharing.blob(learner.policy()));
                Ok(Done::Answered { round, groups, policy: self.hash().0, weights, took_ms: took_ms() })
            }
            Job::Score { round, pairs, asks, seed } => {
                let flat: Vec<(&str, &str)> =
                    pairs.iter().flatten().map(|(p, c)| (p.as_str(), c.as_str())).collect();
                let mut scores = learner.score(&flat).into_iter().map(|score| score.map(millinats));
                let scores = pairs.iter().map(|pairs| scores.by_ref().take(pairs.len()).collect()).collect();
                let critiques =
                    critic.map(|critic| critic.write(learner.policy(), asks, &seed)).transpose()?;
                let critiques = critiques.unwrap_or_default();
                Ok(Done::Scored { round, scores, critiques, took_ms: took_ms() })
            }
            Job::Train { round, seed, groups, checkpoint } => {
                let before = self.hash();
                let report = self.learner.update(&groups, round)?;
                let took_ms = took_ms();
                self.trained = round;
                if report.skipped.is_none() {
                    self.hash = None;
                }
                let step = Training {
                    round,
                    seed: Hash(seed),
                    before,
                    after: self.hash(),
                    batch: batch_hash(&groups),
                    optimizer: self.learner.optimizer_hash().map(Hash).unwrap_or_default(),
                    learning_rate: report.learning_rate.to_bits(),
                    numerics: self.learner.numerics().into(),
                };
                let stored = checkpoint.is_some();
                if let Some(out) = checkpoint {
                    self.learner.store(&out, round)?;
                    self.stored = Some(round);
                    if let Err(error) = history::keep(&out, round) {
                        tracing::warn!(%error, "no earlier checkpoint is kept: steps cannot be computed again");
                    }
                }
                Ok(Done::Trained { report, step, stored, took_ms })
            }
        }
    }

    fn hash(&mut self) -> Hash {
        *self.hash.get_or_insert_with(|| Hash(self.learner.policy().hash()))
    }
}

/// Hash over everything that a step learns from: ids, log-probabilities and rewards by their bits.
pub(crate) fn batch_hash(groups: &[(Group, Vec<f32>)]) -> Hash {
    let ids = |ids: &[u32]| -> Vec<u8> { ids.iter().flat_map(|id| id.to_le_bytes()).collect() };
    let bits = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let mut parts = Vec::new();
    for (group, rewards) in groups {
        parts.push(bits(rewards));
        for rollout in group.rollouts() {
            parts.extend([ids(&rollout.prompt), ids(&rollout.completion), bits(&rollout.logprobs)]);
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Hash::of("murmur v1 batch", &parts)
}

/// Nats as clamped integer milli-nats.
fn millinats(nats: f32) -> i16 {
    (nats * 1000.0).round().clamp(f32::from(judge::CRITIQUE_MIN), 0.0) as i16
}
