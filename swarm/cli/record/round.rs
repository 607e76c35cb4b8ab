//! What is recorded of a round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audits::AuditsRecord;

/// One line of `rounds.jsonl`. Shares are from 0 to 1; what was not measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RoundRecord {
    /// Round, from 1.
    pub(crate) round: u32,
    /// When it ended, RFC 3339 in UTC.
    pub(crate) at: String,
    /// From one certificate to the next.
    pub(crate) wall_ms: u64,
    /// Milliseconds of each phase.
    pub(crate) phases_ms: BTreeMap<String, u64>,
    /// Right ones among the sampled answers (known here because the packs have reference answers).
    pub(crate) sampled_accuracy: Option<f64>,
    /// Right ones among the prompts the vote decided.
    pub(crate) vote_accuracy: Option<f64>,
    /// Prompts the vote did not decide.
    pub(crate) undecided_share: Option<f64>,
    /// Mean share of the winners.
    pub(crate) mean_share: Option<f64>,
    /// Share of completions that show reasoning.
    pub(crate) trace_share: Option<f64>,
    /// Mean reward of the completions that peers in this process learn from.
    pub(crate) reward: Option<f64>,
    /// Labels that teach nothing, by reason.
    pub(crate) undecided_why: BTreeMap<String, u32>,
    /// What the prompts drawn as gold say of the round before: how many, and how many the vote had right.
    pub(crate) gold: Option<GoldRecord>,
    /// By name.
    pub(crate) peers: BTreeMap<String, PeerRecord>,
    /// By the name of the family.
    pub(crate) families: BTreeMap<String, FamilyRecord>,
    /// Packs besides the manifest's: accepted, or under vote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) packs: Vec<PackRecord>,
    /// How many levels of a family are open, where the swarm has a curriculum and the family came further than the
    /// lowest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) open_levels: BTreeMap<String, u16>,
    /// Views without a certificate.
    pub(crate) voids: u32,
    /// Bytes of gossip that came and went since the process of the first peer began.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Milliseconds spent on anything but the model.
    pub(crate) overhead_ms: Option<u64>,
    /// Names of the peers that took part.
    pub(crate) roster: Vec<String>,
    /// Loss of each peer's update.
    pub(crate) loss: BTreeMap<String, Option<f64>>,
    /// Text critiques; absent where nobody wrote any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) critiques: Option<CritiqueRecord>,
    /// Audits of the answers of the round before; absent where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audits: Option<AuditsRecord>,
}

/// The gold prompts of a draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GoldRecord {
    pub(crate) drawn: usize,
    pub(crate) right: u32,
}

/// How a peer stands after a round. Shares are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PeerRecord {
    /// Its part of the round's vote weight.
    pub(crate) weight: f64,
    /// Aged part of its gold ballots on the right answer.
    pub(crate) accuracy: f64,
    /// Gold prompts on which it was ever tried.
    pub(crate) tried: u32,
    /// What missed deadlines left of its weight.
    pub(crate) liveness: f64,
    /// Whether its answers were in.
    pub(crate) answered: bool,
}

/// How a family of tasks went in a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FamilyRecord {
    /// Lowest and highest level asked.
    pub(crate) levels: [u8; 2],
    pub(crate) prompts: usize,
    /// Sampled by honest peers of this process, and right ones among them.
    pub(crate) completions: usize,
    pub(crate) right: usize,
    /// Prompts with a winner, and right ones among them where there is a reference answer.
    pub(crate) decided: usize,
    pub(crate) decided_right: usize,
}

/// A pack that the swarm took in or votes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PackRecord {
    /// Content address.
    pub(crate) id: String,
    /// How often it is drawn, relative to the manifest's packs.
    pub(crate) weight: u32,
    /// Whether it is accepted.
    pub(crate) accepted: bool,
    /// Since when, or who is for it and who against, in words.
    pub(crate) state: String,
}

/// What critics said in a round, and what gold said of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CritiqueRecord {
    /// Included critiques.
    pub(crate) count: usize,
    /// Mean of the shares of right and of wrong candidates that were judged so, unclear ones counted half; chance
    /// is 0.5.
    pub(crate) verdict_accuracy: Option<f64>,
    /// What each critic earned by its critiques of the round before on the prompts drawn as gold, -1 to 1.
    pub(crate) rewards: BTreeMap<String, f64>,
    /// Each critic's standing over all rounds, -1 to 1.
    pub(crate) skill: BTreeMap<String, f64>,
    /// Candidates whose critiques taught peers in this process.
    pub(crate) trained: usize,
    /// The first critiques, at most 64.
    pub(crate) said: Vec<SaidRecord>,
}

/// One text critique.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SaidRecord {
    /// Name of the critic.
    pub(crate) critic: String,
    /// Position of the prompt in its round.
    pub(crate) prompt: usize,
    /// The candidate's answer.
    pub(crate) answer: String,
    /// `right`, `wrong` or `unclear`.
    pub(crate) verdict: String,
    /// The critic's reason, in one line.
    pub(crate) reason: String,
}
