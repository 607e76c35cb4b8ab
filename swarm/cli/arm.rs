//! What a peer is rewarded for. The swarm's vote is the product; the other arms are the controls without
//! which a gain proves nothing. Machinery, prompts, gate and steps are the same in all of them.

use clap::ValueEnum;
use judge::{CandidateId, Label, PeerKey};
use policy::Group;
use swarm::engine::Settled;
use tasks::{Item, has_trace};

/// The source of training rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arm {
    /// Agreement with the vote of all other peers.
    #[default]
    Swarm,
    /// Agreement with the majority of the peer's own answers.
    OwnMajority,
    /// Agreement with the reference answer.
    Gold,
    /// Showing a reasoning trace, right or wrong.
    Trace,
    /// A coin.
    Random,
    /// An answer that parses, right or wrong.
    Format,
}

impl Arm {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::OwnMajority => "own-majority",
            Self::Gold => "gold",
            Self::Trace => "trace",
            Self::Random => "random",
            Self::Format => "format",
        }
    }

    /// The arm of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::value_variants().iter().find(|arm| arm.name() == name).copied()
    }

    /// Rewards for a peer's groups; prompts that the gate leaves undecided are left out.
    pub(crate) fn rewards(
        self,
        me: &PeerKey,
        rules: &judge::Rules,
        settled: &Settled,
        groups: Vec<Group>,
    ) -> Vec<(Group, Vec<f32>)> {
        let prompts = settled.settlement.prompts.iter().zip(&settled.schedule);
        let rewarded = prompts.zip(groups).enumerate().filter_map(|(at, ((prompt, item), group))| {
            let rewards = match self {
                Self::Swarm => prompt.rewards.get(me).map(|rewards| permille(rewards)),
                Self::OwnMajority => own_majority(rules, at, item, &group),
                other => {
                    let decided = matches!(prompt.labels.get(me), Some(Label::Decided { .. }));
                    decided.then(|| other.plain(settled, at, item, &group))
                }
            }?;
            (rewards.len() == group.rollouts().len()).then_some((group, rewards))
        });
        rewarded.collect()
    }

    /// The rewards that look at one completion at a time.
    fn plain(self, settled: &Settled, at: usize, item: &Item, group: &Group) -> Vec<f32> {
        let coin = |sample: usize| {
            let mut hasher = blake3::Hasher::new_keyed(&settled.statement.0);
            hasher.update(&(at as u64).to_le_bytes()).update(&(sample as u64).to_le_bytes());
            hasher.finalize().as_bytes()[0] & 1 == 1
        };
        let paid = |(sample, text): (usize, &str)| match self {
            Self::Gold => item.parse(text).is_some_and(|a| item.gold().is_some_and(|gold| gold.matches(&a))),
            Self::Trace => has_trace(text),
            Self::Format => item.parse(text).is_some(),
            Self::Random => coin(sample),
            Self::Swarm | Self::OwnMajority => false,
        };
        let texts = group.rollouts().iter().map(|rollout| rollout.text.as_str());
        texts.enumerate().map(|text| f32::from(u8::from(paid(text)))).collect()
    }
}

fn permille(rewards: &[u16]) -> Vec<f32> {
    rewards.iter().map(|reward| f32::from(*reward) / 1000.0).collect()
}

fn own_majority(rules: &judge::Rules, at: usize, item: &Item, group: &Group) -> Option<Vec<f32>> {
    let candidate = |text: &str| item.parse(text).map(|answer| CandidateId::of(at as u16, answer.as_str()));
    let own: Vec<Option<CandidateId>> =
        group.rollouts().iter().map(|rollout| candidate(&rollout.text)).collect();
    let label = judge::own_majority(rules, &judge::ballot_from_completions(&own));
    label.rewards(&own).map(|rewards| permille(&rewards))
}
