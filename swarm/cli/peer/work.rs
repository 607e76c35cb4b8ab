//! What the engine asks of the model, and what the model's thread gives back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use judge::VOTERS_MIN;
use policy::Group;
use swarm::engine::{Input, Work};
use swarm::log::Record;
use swarm::wire::Hash;
use tasks::Item;

use super::Peer;
use crate::news::News;
use crate::sampled::Sampled;
use crate::worker::{Done, Job};
use crate::{critic, plant};

/// Longest pause before a round is answered that has too few voters for anybody to learn from: without it two waiting
/// peers would write twenty rounds a second to their logs.
const IDLE_FOR: Duration = Duration::from_secs(1);

/// A job that waits.
pub(super) struct Held {
    pub(super) until: Instant,
    job: Job,
}

impl Peer {
    /// Does what was held, once it is time.
    pub(super) fn ask_held(&mut self) -> anyhow::Result<()> {
        match self.held.take_if(|held| held.until <= Instant::now()) {
            Some(held) => self.worker.ask(held.job),
            None => Ok(()),
        }
    }

    pub(super) fn work(&mut self, work: Work) -> anyhow::Result<()> {
        match work {
            Work::Answer { round, items, completions, seed } => {
                let prompts = items.iter().map(|item| item.prompt().to_owned()).collect();
                self.items = items;
                self.seed = (round, seed);
                let job = Job::Answer {
                    round,
                    prompts,
                    completions: completions.into(),
                    sampling: self.sampling,
                    seed,
                    sharing: self.sharing.clone(),
                };
                if self.engine.status(self.now()).roster.len() >= VOTERS_MIN {
                    return self.worker.ask(job);
                }
                // Far below what the others wait for an answer at least.
                let floor = Duration::from_millis(self.manifest.round.work_floor_ms.into());
                self.held = Some(Held { until: Instant::now() + IDLE_FOR.min(floor / 4), job });
                Ok(())
            }
            Work::Critique { round, items, traces, assigned, seed } => {
                let pair = |item: &Item, text: &str| (item.prompt().to_owned(), text.to_owned());
                let pairs = items
                    .iter()
                    .zip(&traces)
                    .map(|(item, traces)| traces.iter().map(|(_, text)| pair(item, text)).collect());
                let pairs = pairs.collect();
                let asks = critic::asks(&items, &traces, &assigned);
                self.traces = traces;
                self.worker.ask(Job::Score { round, pairs, asks, seed })
            }
            Work::Audit(case) => {
                if !self.auditor.ask(case) {
                    tracing::debug!("an audit is left out: too many wait");
                }
                Ok(())
            }
        }
    }

    pub(super) async fn done(&mut self, done: Done) -> anyhow::Result<()> {
        let now = self.now();
        match done {
            Done::Answered { round, groups, policy, weights, took_ms } => {
                self.took.insert("answer", took_ms);
                self.sampled = Arc::new(Sampled::of(round, &self.items, &groups));
                let texts =
                    |group: &Group| group.rollouts().iter().map(|rollout| rollout.text.clone()).collect();
                let honest: Vec<Vec<String>> = groups.iter().map(texts).collect();
                let mut completions = match self.lie {
                    Some(lie) => lie.answers(&self.items, honest),
                    None => honest,
                };
                self.groups = Some((round, groups));
                if let Some(bytes) = weights {
                    let planted = self.engine.plants();
                    if planted {
                        plant::spoil(&mut completions);
                        self.planted = round;
                    }
                    self.engine.handle(now, Input::Weights { round, bytes, planted });
                }
                self.answered = (round, Hash(policy));
                self.engine.handle(now, Input::Answers { round, completions, policy: Hash(policy) });
            }
            Done::Scored { round, scores, critiques, took_ms } => {
                self.took.insert("critique", took_ms);
                let scores = match self.lie {
                    Some(lie) => lie.critiques(&self.items, &self.traces, scores),
                    None => scores,
                };
                if let Some((count, why)) = critiques.passed_over {
                    self.tell(News::Network(format!(
                        "{count} candidates without a critique in round {round}: {why}"
                    )))
                    .await;
                }
                let texts = critic::texts(&critiques.written, self.items.len());
                self.written.insert(round, critiques.written);
                self.engine.handle(now, Input::Critiques { round, scores, texts });
            }
            Done::Trained { report, step, stored, took_ms } => {
                let round = step.round;
                if stored {
                    self.offers.stored(step.after, round);
                }
                self.log.append(&Record::Training(step))?;
                self.took.insert("train", took_ms);
                self.loss = report.skipped.is_none().then_some(report.loss);
                self.trained_round = round;
                self.tell(News::Trained(round, Box::new(report))).await;
            }
            Done::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }
}
