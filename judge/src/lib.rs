//! murmur-judge
#![deny(clippy::float_arithmetic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bytes;
mod exp;
mod key;
mod name;
mod reputation;
mod rules;
mod settle;
mod settlement;
mod tally;
mod votes;

pub use key::{CandidateId, HexError, PeerKey};
pub use name::names;
pub use reputation::{MICRO, PendingPrompt, REPUTATIONS_MAX, Reputation, State, weights};
pub use rules::{Rules, RulesError, VOTERS_MIN};
pub use settle::settle;
pub use settlement::{
    Consensus, GoldBallots, GoldReport, Label, PromptSettlement, Reason, Settlement, Void, VoidReason,
};
pub use tally::own_majority;
pub use votes::{BALLOT_FULL, CRITIQUE_MIN, Conduct, PromptVotes, RoundVotes, ballot_from_completions};
