//! `prompts.jsonl`: a round prompt by prompt, as one peer of this process lived it.

use std::collections::BTreeMap;

use judge::{CandidateId, Label, PeerKey, Reason};
use serde::{Deserialize, Serialize};
use swarm::engine::Settled;

use crate::news::RoundNews;
use crate::sampled::SampledPrompt;

/// Candidates of a prompt that are recorded; the strongest.
const CANDIDATES_MAX: usize = 8;
/// Characters of a question that are recorded.
const QUESTION_CHARS: usize = 600;

/// One line of `prompts.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RoundDetail {
    /// Round, from 1.
    pub(crate) round: u32,
    /// Name of the peer whose labels and answers these are.
    pub(crate) peer: String,
    /// In the round's order.
    pub(crate) prompts: Vec<PromptRecord>,
}

/// One prompt. Shares are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PromptRecord {
    pub(crate) family: String,
    pub(crate) level: u8,
    pub(crate) question: String,
    /// The reference answer, where the pack has one.
    pub(crate) gold: Option<String>,
    /// The strongest first.
    pub(crate) candidates: Vec<CandidateRecord>,
    /// Candidates beyond those.
    pub(crate) more: usize,
    /// What the others' votes say the peer should have answered.
    pub(crate) label: LabelRecord,
    /// The peer's own completions by answer, the most frequent first.
    pub(crate) own: Vec<OwnRecord>,
    /// Its first completion.
    pub(crate) completion: String,
}

/// An answer and who stands behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CandidateRecord {
    pub(crate) answer: String,
    /// Its part of the vote weight.
    pub(crate) share: f64,
    /// Peers with a ballot on it.
    pub(crate) backers: Vec<String>,
    pub(crate) right: Option<bool>,
}

/// What a prompt teaches a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LabelRecord {
    /// The answer to agree with, or the one that came closest.
    pub(crate) answer: Option<String>,
    pub(crate) share: f64,
    pub(crate) supporters: u32,
    /// Why the prompt teaches nothing; absent where it does.
    pub(crate) undecided: Option<String>,
}

/// Own completions with one answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OwnRecord {
    /// `None` where no answer could be read.
    pub(crate) answer: Option<String>,
    pub(crate) count: usize,
    /// What each of them earned.
    pub(crate) reward: Option<f64>,
}

impl RoundDetail {
    /// A round as `me` lived it.
    pub(crate) fn of(me: &PeerKey, news: &RoundNews) -> Self {
        let settled = &*news.settled;
        let prompt = |at: usize| {
            let sampled = news.sampled.prompts.get(at).filter(|_| news.sampled.round == settled.round);
            prompt(me, settled, at, sampled)
        };
        let prompts = (0..settled.schedule.len()).filter_map(prompt).collect();
        Self { round: settled.round, peer: me.name(), prompts }
    }
}

fn prompt(
    me: &PeerKey,
    settled: &Settled,
    at: usize,
    sampled: Option<&SampledPrompt>,
) -> Option<PromptRecord> {
    let (item, answers) = (settled.schedule.get(at)?, settled.candidates.get(at)?);
    let outcome = settled.settlement.prompts.get(at)?;
    let gold = item.gold();
    let shares = shares(settled, at);
    let mut candidates: Vec<CandidateRecord> = answers
        .iter()
        .map(|(id, answer)| {
            let (share, backers) = shares.get(id).cloned().unwrap_or_default();
            let right = gold.map(|gold| gold.matches(answer));
            CandidateRecord { answer: answer.to_string(), share, backers, right }
        })
        .collect();
    candidates.sort_by(|a, b| b.share.total_cmp(&a.share));
    let more = candidates.len().saturating_sub(CANDIDATES_MAX);
    candidates.truncate(CANDIDATES_MAX);
    let named = |id: &CandidateId| answers.get(id).map(ToString::to_string);
    Some(PromptRecord {
        family: item.family().to_owned(),
        level: item.level(),
        question: item.question().chars().take(QUESTION_CHARS).collect(),
        gold: gold.map(|gold| gold.answer().to_string()),
        candidates,
        more,
        label: outcome.labels.get(me).map(|label| label_record(label, named)).unwrap_or_default(),
        own: sampled.map(|s| own(s, outcome.rewards.get(me).map(Vec::as_slice))).unwrap_or_default(),
        completion: sampled.map(|sampled| sampled.first.clone()).unwrap_or_default(),
    })
}

/// Each candidate's part of the vote weight, and who gave it.
fn shares(settled: &Settled, at: usize) -> BTreeMap<CandidateId, (f64, Vec<String>)> {
    let weights = &settled.settlement.weights;
    let whole: f64 = weights.values().map(|weight| f64::from(*weight)).sum();
    let mut shares: BTreeMap<CandidateId, (f64, Vec<String>)> = BTreeMap::new();
    for (peer, ballot) in settled.ballots.get(at).into_iter().flatten() {
        let weight = weights.get(peer).map_or(0.0, |weight| f64::from(*weight));
        for (candidate, permille) in ballot.iter().filter(|(_, permille)| **permille > 0) {
            let entry = shares.entry(*candidate).or_default();
            entry.0 += if whole > 0.0 { weight * f64::from(*permille) / 1000.0 / whole } else { 0.0 };
            entry.1.push(peer.name());
        }
    }
    shares
}

fn label_record(label: &Label, named: impl Fn(&CandidateId) -> Option<String>) -> LabelRecord {
    let share = |permille: u16| f64::from(permille) / 1000.0;
    match label {
        Label::Decided { candidate, share_permille, supporters } => LabelRecord {
            answer: named(candidate),
            share: share(*share_permille),
            supporters: *supporters,
            undecided: None,
        },
        Label::Undecided { best, share_permille, supporters, reason } => LabelRecord {
            answer: best.as_ref().and_then(named),
            share: share(*share_permille),
            supporters: *supporters,
            undecided: Some(why(*reason).into()),
        },
    }
}

/// Why a prompt teaches nothing, in words.
pub(crate) fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::TooFewVoters => "fewer than three voters",
        Reason::NoBallots => "nobody else voted",
        Reason::BelowGate => "winner below the gate",
        Reason::TooFewSupporters => "too few behind the winner",
    }
}

fn own(sampled: &SampledPrompt, rewards: Option<&[u16]>) -> Vec<OwnRecord> {
    let mut own: Vec<OwnRecord> = Vec::new();
    for (at, answer) in sampled.answers.iter().enumerate() {
        let reward =
            rewards.and_then(|rewards| rewards.get(at)).map(|permille| f64::from(*permille) / 1000.0);
        match own.iter_mut().find(|record| record.answer == *answer && record.reward == reward) {
            Some(record) => record.count += 1,
            None => own.push(OwnRecord { answer: answer.clone(), count: 1, reward }),
        }
    }
    own.sort_by_key(|record| std::cmp::Reverse(record.count));
    own
}
