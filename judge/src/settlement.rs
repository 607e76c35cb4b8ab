//! What comes out of a settlement: labels, rewards and what the gold prompts showed.

use crate::audits::AuditReport;
use crate::key::{CandidateId, PeerKey};
use crate::packs::{PackKey, PackOutcome};
use crate::reputation::State;
use crate::verdicts::GoldVerdicts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The outcome of a round: a pure function of the rules, the state before it and its votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// One entry a prompt, in schedule order.
    pub prompts: Vec<PromptSettlement>,
    /// The weights this round was counted with, in micro-units.
    pub weights: BTreeMap<PeerKey, u32>,
    /// Whether those weights rest on at least one gold draw; if not, they are equal apart from liveness.
    pub anchored: bool,
    /// What the draw of the previous round's gold prompts showed.
    pub gold: GoldReport,
    /// Labels that train, over all peers and prompts.
    pub labels_decided: u32,
    /// Labels that do not.
    pub labels_undecided: u32,
    /// Prompts that train nobody.
    pub prompts_undecided: u32,
    /// Ballots and verdicts that were void, or void in part, by reason.
    pub voids: BTreeMap<VoidReason, u32>,
    /// Whether conduct was forgiven because peers with more than half of the weight failed.
    pub conduct_forgiven: bool,
    /// Audits of the previous round's answers, and disputes about those before, by whom they are of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audits: BTreeMap<PeerKey, AuditReport>,
    /// Task packs proposed or decided on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packs: BTreeMap<PackKey, PackOutcome>,
    /// Families that moved to another level, and how many of theirs are open above the lowest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, u8>,
    /// What the next settlement starts from.
    pub next: State,
}

/// The outcome of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSettlement {
    /// The answer shown as settled, from everybody's votes; `None` if no vote counted.
    pub consensus: Option<Consensus>,
    /// Each roster member's label, computed from everybody else's votes.
    pub labels: BTreeMap<PeerKey, Label>,
    /// Reward of each own completion in permille, in order; only peers whose label is decided.
    pub rewards: BTreeMap<PeerKey, Vec<u16>>,
    /// Distinct candidates.
    pub candidates: u32,
    /// Ballots and verdicts that were void, or void in part.
    pub voids: Vec<Void>,
}

/// The answer with the highest score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consensus {
    /// The answer.
    pub candidate: CandidateId,
    /// Its part of the whole vote weight, abstentions included, in permille.
    pub share_permille: u16,
    /// Peers of non-zero weight with a non-zero ballot on it.
    pub supporters: u32,
}

/// What the others' votes say a peer should have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Label {
    /// The prompt trains this peer.
    Decided {
        /// The answer to agree with.
        candidate: CandidateId,
        /// Its part of the others' vote weight, in permille.
        share_permille: u16,
        /// How many of the others stand behind it.
        supporters: u32,
    },
    /// The prompt does not train this peer.
    Undecided {
        /// The answer that came closest, if any vote counted.
        best: Option<CandidateId>,
        /// Its part of the others' vote weight, in permille.
        share_permille: u16,
        /// How many of the others stand behind it.
        supporters: u32,
        /// The first test that it failed.
        reason: Reason,
    },
}

/// Why a prompt trains a peer not, in the order of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The roster has fewer than three members of non-zero weight.
    TooFewVoters,
    /// None of the others' votes counted.
    NoBallots,
    /// The winner's share is below τ.
    BelowGate,
    /// Too few of the others stand behind the winner.
    TooFewSupporters,
}

/// A ballot or a critic's verdicts that did not count as cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// Who cast it.
    pub peer: PeerKey,
    /// What was wrong.
    pub reason: VoidReason,
}

/// What was wrong with a ballot or with verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// The author is not in the roster: the whole ballot is void.
    NotInRoster,
    /// Its entries sum to more than 1000: the whole ballot is void.
    Overfull,
    /// It names candidates that nobody revealed: those entries are void.
    UnknownCandidate,
    /// A verdict on a candidate that was not assigned to its author: those verdicts are void.
    UnassignedVerdict,
}

/// What the gold prompts of the previous round showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldReport {
    /// Indices, in the previous round, of the prompts drawn.
    pub drawn: Vec<u32>,
    /// How many of them the consensus answered right; a prompt without a consensus is not right.
    pub consensus_right: u32,
    /// Decided labels on them.
    pub labels: u32,
    /// How many of those labels were right.
    pub labels_right: u32,
    /// What each peer's ballots were worth.
    pub ballots: BTreeMap<PeerKey, GoldBallots>,
    /// Peers with more than half of the weight failed the draw, so it changed no weight.
    pub forgiven: bool,
    /// What each critic said of the candidates assigned to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub critics: BTreeMap<PeerKey, GoldVerdicts>,
}

/// One peer's ballots on the gold prompts of a draw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldBallots {
    /// Prompts on which the peer was tried.
    pub tried: u32,
    /// Its mean ballot mass on the right answer, in permille.
    pub mass_permille: u16,
}

impl Label {
    /// The answer to train on, if decided.
    pub fn candidate(&self) -> Option<CandidateId> {
        match self {
            Label::Decided { candidate, .. } => Some(*candidate),
            Label::Undecided { .. } => None,
        }
    }

    /// The best answer's part of the vote weight, in permille, decided or not.
    pub fn share_permille(&self) -> u16 {
        match self {
            Label::Decided { share_permille, .. } | Label::Undecided { share_permille, .. } => {
                *share_permille
            }
        }
    }

    /// The reward of each of a peer's completions in permille: 1000 where it agrees with the label, 0 elsewhere,
    /// and `None` if the label is undecided: nobody is paid for a vote that failed.
    pub fn rewards(&self, completions: &[Option<CandidateId>]) -> Option<Vec<u16>> {
        let label = self.candidate()?;
        Some(completions.iter().map(|candidate| if *candidate == Some(label) { 1000 } else { 0 }).collect())
    }
}
