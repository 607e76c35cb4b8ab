//! `metrics.jsonl`: one line a round and peer, under the names that TRL's trainers log where it has one.

use judge::{Label, PeerKey};
use policy::UpdateReport;
use serde::{Deserialize, Serialize};

use crate::news::RoundNews;
use crate::sampled::Sampled;

/// One line of `metrics.jsonl`. What was not measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metrics {
    /// Round, from 1.
    pub(crate) round: u32,
    /// Name of the peer.
    pub(crate) peer: String,
    /// Mean reward of the completions that the step learns from, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<f64>,
    /// Mean over groups of the standard deviation of rewards within.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward_std: Option<f64>,
    /// Groups in which all rewards are equal, so that they teach nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frac_reward_zero_std: Option<f64>,
    #[serde(flatten)]
    pub(crate) step: Option<Step>,
    /// Why no step was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
    /// Tokens of a completion.
    #[serde(rename = "completions/mean_length", skip_serializing_if = "Option::is_none")]
    pub(crate) mean_length: Option<f64>,
    #[serde(rename = "completions/min_length", skip_serializing_if = "Option::is_none")]
    pub(crate) min_length: Option<f64>,
    #[serde(rename = "completions/max_length", skip_serializing_if = "Option::is_none")]
    pub(crate) max_length: Option<f64>,
    /// Completions that were cut off before their end token.
    #[serde(rename = "completions/clipped_ratio", skip_serializing_if = "Option::is_none")]
    pub(crate) clipped_ratio: Option<f64>,
    /// Seconds of sampling and scoring for this round, and of the step before it.
    pub(crate) step_time: f64,
    /// Sampled tokens a second.
    #[serde(rename = "sampling/tokens_per_second", skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_second: Option<f64>,
    /// Right ones among this peer's completions, by the reference answers; no reward comes from them.
    #[serde(rename = "swarm/gold_accuracy", skip_serializing_if = "Option::is_none")]
    pub(crate) gold_accuracy: Option<f64>,
    /// Reward less `swarm/gold_accuracy` on the rewarded prompts: what the vote pays beyond what is right.
    #[serde(rename = "swarm/consensus_gold_gap", skip_serializing_if = "Option::is_none")]
    pub(crate) consensus_gold_gap: Option<f64>,
    /// Seconds from one certificate to the next.
    #[serde(rename = "swarm/round_seconds")]
    pub(crate) round_seconds: f64,
}

/// A step that was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) loss: f64,
    /// Mean divergence from the reference, in nats; 0 without one.
    pub(crate) kl: f64,
    /// Mean over tokens, in nats.
    pub(crate) entropy: f64,
    /// Trained tokens whose ratio was clipped.
    pub(crate) clip_ratio: f64,
    pub(crate) grad_norm: f64,
    pub(crate) learning_rate: f64,
    /// Completion tokens of this step.
    #[serde(rename = "train/tokens")]
    pub(crate) tokens: usize,
}

impl Metrics {
    /// What a round says before its step is taken.
    pub(crate) fn of(me: &PeerKey, news: &RoundNews) -> Self {
        let settled = &news.settled;
        let sampled = Some(&*news.sampled).filter(|sampled| sampled.round == settled.round);
        let sampled = sampled.filter(|sampled| sampled.completions > 0);
        let share = |n: usize, of: usize| (of > 0).then(|| n as f64 / of as f64);
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let lengths = sampled.map(|sampled| (sampled.lengths, sampled.completions));
        let reward = mean(news.rewards.iter().flatten().map(|reward| f64::from(*reward)));
        Self {
            round: settled.round,
            peer: me.name(),
            reward,
            reward_std: mean(news.rewards.iter().map(|rewards| deviation(rewards))),
            frac_reward_zero_std: mean(news.rewards.iter().map(|group| f64::from(u8::from(flat(group))))),
            step: None,
            skipped: None,
            mean_length: lengths.and_then(|(lengths, n)| share(lengths.sum, n)),
            min_length: lengths.map(|(lengths, _)| lengths.min as f64),
            max_length: lengths.map(|(lengths, _)| lengths.max as f64),
            clipped_ratio: lengths.and_then(|(lengths, n)| share(lengths.clipped, n)),
            step_time: seconds(news.train_ms + news.answer_ms + news.critique_ms),
            tokens_per_second: lengths
                .filter(|_| news.answer_ms > 0)
                .map(|(lengths, _)| lengths.sum as f64 / seconds(news.answer_ms)),
            gold_accuracy: sampled.and_then(|sampled| share(sampled.right, sampled.completions)),
            consensus_gold_gap: reward
                .zip(sampled.and_then(|s| right_where_decided(me, news, s)))
                .map(|(a, b)| a - b),
            round_seconds: seconds(news.wall_ms),
        }
    }

    /// Adds what came of the step.
    pub(crate) fn trained(&mut self, report: &UpdateReport) {
        self.skipped = report.skipped.clone();
        self.step = report.skipped.is_none().then(|| Step {
            loss: report.loss.into(),
            kl: report.kl.into(),
            entropy: report.entropy.into(),
            clip_ratio: report.clip_fraction.into(),
            grad_norm: report.grad_norm.into(),
            learning_rate: report.learning_rate.into(),
            tokens: report.tokens,
        });
    }
}

/// Right ones among own completions of the prompts that the vote decided for the peer.
fn right_where_decided(me: &PeerKey, news: &RoundNews, sampled: &Sampled) -> Option<f64> {
    let outcomes = news.settled.settlement.prompts.iter().zip(&sampled.prompts);
    let decided =
        outcomes.filter(|(outcome, _)| matches!(outcome.labels.get(me), Some(Label::Decided { .. })));
    let (right, all) =
        decided.fold((0, 0), |(right, all), (_, own)| (right + own.right, all + own.answers.len()));
    (all > 0).then(|| right as f64 / all as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn flat(rewards: &[f32]) -> bool {
    rewards.windows(2).all(|pair| pair[0] == pair[1])
}

/// Standard deviation of a group, as TRL's (over n − 1).
fn deviation(rewards: &[f32]) -> f64 {
    let n = rewards.len();
    let Some(mean) = mean(rewards.iter().map(|reward| f64::from(*reward))).filter(|_| n > 1) else {
        return 0.0;
    };
    let squares: f64 = rewards.iter().map(|reward| (f64::from(*reward) - mean).powi(2)).sum();
    (squares / (n - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_names_of_trl() {
        let mut metrics = Metrics { round: 3, peer: "brisk-otter".into(), ..Metrics::default() };
        metrics.reward = Some(0.5);
        metrics.mean_length = Some(12.0);
        metrics.trained(&UpdateReport { loss: -0.25, skipped: None, ..report() });
        let line = serde_json::to_value(&metrics).unwrap();
        for name in ["reward", "loss", "kl", "entropy", "clip_ratio", "grad_norm", "completions/mean_length"]
        {
            assert!(line[name].is_number(), "{name} in {line}");
        }
        assert_eq!(serde_json::from_value::<Metrics>(line).unwrap(), metrics);
        metrics.trained(&UpdateReport { skipped: Some("nothing to learn".into()), ..report() });
        let line = serde_json::to_value(&metrics).unwrap();
        assert!(line.get("loss").is_none() && line["skipped"] == "nothing to learn", "{line}");
        assert_eq!(serde_json::from_value::<Metrics>(line).unwrap(), metrics);
    }

    fn report() -> UpdateReport {
        UpdateReport {
            loss: 0.0,
            grad_norm: 1.0,
            learning_rate: 1e-3,
            tokens: 100,
            groups_used: 1,
            groups_dropped: 0,
            entropy: 0.5,
            kl: 0.0,
            clip_fraction: 0.0,
            skipped: None,
        }
    }

    #[test]
    fn deviations_are_those_of_a_sample() {
        assert_eq!(deviation(&[1.0, 1.0, 1.0]), 0.0);
        assert!((deviation(&[0.0, 1.0]) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert!(flat(&[0.5, 0.5]) && !flat(&[0.5, 0.25]) && deviation(&[1.0]) == 0.0);
    }
}
