//! What goes into a settlement: the included, signed statements of one round, already parsed.
//!
//! Everything here may come from strangers. Nothing is repaired: what breaks a rule is void and counted as such.

use crate::audits::AuditVotes;
use crate::curriculum::Stage;
use crate::key::{CandidateId, PeerKey};
use crate::packs::PackVotes;
use crate::verdicts::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The lowest critique that counts, in milli-nats; anything below is taken as this, anything above 0 as 0.
pub const CRITIQUE_MIN: i16 = -4000;

/// A whole ballot, in permille.
pub const BALLOT_FULL: u16 = 1000;

/// One prompt's answers and votes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptVotes {
    /// Each peer's revealed completions in order, as candidates; `None` is a completion without a readable answer.
    pub completions: BTreeMap<PeerKey, Vec<Option<CandidateId>>>,
    /// Each peer's ballot in permille, at most 1000 together; absent or empty means abstain.
    pub ballots: BTreeMap<PeerKey, BTreeMap<CandidateId, u16>>,
    /// Each peer's mean token log-probability of a candidate's best trace by another author, milli-nats, -4000 to 0.
    pub critiques: BTreeMap<PeerKey, BTreeMap<CandidateId, i16>>,
    /// The reference answer, recomputed from the pack; never taken from a peer.
    pub gold: Option<CandidateId>,
    /// The candidates each peer was to judge in words, by [`assign`](crate::assign); empty without text critiques.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assigned: BTreeMap<PeerKey, BTreeSet<CandidateId>>,
    /// What it said of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<PeerKey, BTreeMap<CandidateId, Verdict>>,
    /// Where it stands in its family, where there is a curriculum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
}

/// A round's votes over its roster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundVotes {
    /// The peers of the round, sorted; a repeated entry counts once.
    pub roster: Vec<PeerKey>,
    /// The round's prompts in schedule order.
    pub prompts: Vec<PromptVotes>,
    /// The beacon of this round: it draws which prompts of the *previous* round were gold.
    pub gold_seed: [u8; 32],
    /// What each peer did in time; a roster member that is missing here did nothing.
    pub conduct: BTreeMap<PeerKey, Conduct>,
    /// What was said of audits.
    #[serde(default)]
    pub audits: AuditVotes,
    /// What was said of task packs.
    #[serde(default)]
    pub packs: PackVotes,
}

/// What a peer did before the deadlines of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// Published its commit.
    pub committed: bool,
    /// Revealed what it had committed to.
    pub revealed: bool,
    /// Published its ballot.
    pub voted: bool,
}

impl Conduct {
    /// Everything in time.
    pub const CLEAN: Conduct = Conduct { committed: true, revealed: true, voted: true };

    /// Committed and then kept the answers back, perhaps because it had seen the others'.
    pub fn withheld(&self) -> bool {
        self.committed && !self.revealed
    }
}

/// The soft ballot of a peer: what part of its own completions gives which answer, in permille, rounded down.
///
/// Completions without a readable answer are part of the whole, so they weaken the ballot.
///
/// ```
/// # use judge::{CandidateId, ballot_from_completions};
/// let [seven, nine] = ["7", "9"].map(|answer| CandidateId::of(0, answer));
/// let ballot = ballot_from_completions(&[Some(seven), Some(seven), Some(nine), None]);
/// assert_eq!((ballot[&seven], ballot[&nine]), (500, 250));
/// let ballot = ballot_from_completions(&[Some(seven), Some(nine), Some(nine)]);
/// assert_eq!((ballot[&seven], ballot[&nine]), (333, 666));
/// ```
pub fn ballot_from_completions(completions: &[Option<CandidateId>]) -> BTreeMap<CandidateId, u16> {
    let mut counts: BTreeMap<CandidateId, u128> = BTreeMap::new();
    for candidate in completions.iter().flatten() {
        *counts.entry(*candidate).or_default() += 1;
    }
    let whole = completions.len().max(1) as u128;
    let permille =
        |count: u128| u16::try_from(count * u128::from(BALLOT_FULL) / whole).unwrap_or(BALLOT_FULL);
    counts
        .into_iter()
        .map(|(candidate, count)| (candidate, permille(count)))
        .filter(|(_, p)| *p > 0)
        .collect()
}
