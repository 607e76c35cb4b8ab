//! How peers that trust nobody agree on what was a good answer.
//!
//! Every round, all peers of a swarm answer the same prompts, several times each. Nobody is told the right answers.
//! But wrong answers disagree and right answers agree, so the vote over everybody's answers is right more often than
//! any one peer; rewarding agreement with it makes the better habit the default. This crate is that vote: signed
//! statements in, labels and rewards and reputations out. It does no IO, reads no clock and computes in integers, so
//! every peer gets the same result to the last bit and anybody can recompute it later from the log.
//!
//! What it leaves out: who is in the roster, which statements were in time and included (crate `swarm`), what the
//! prompts and their reference answers are (`tasks`), how completions are sampled and trained on (`policy`).
//!
//! # The vote, by example
//!
//! Four peers answer the prompt `17+25`, four completions each. Lia is a liar who always says 43 (one of Ben's honest
//! mistakes, as it happens).
//!
//! ```
//! use judge::*;
//! # use std::collections::BTreeMap;
//! let [ada, ben, cyd, lia] = [1, 2, 3, 4].map(|n| PeerKey([n; 32]));
//! let is = |answer: &str| Some(CandidateId::of(0, answer));
//! let mut prompt = PromptVotes {
//!     completions: BTreeMap::from([
//!         (ada, vec![is("42"), is("42"), is("52"), None]), // None: no readable answer
//!         (ben, vec![is("42"), is("43"), is("42"), is("41")]),
//!         (cyd, vec![is("42"), is("32"), None, None]),
//!         (lia, vec![is("43"); 4]),
//!     ]),
//!     ..PromptVotes::default()
//! };
//! ```
//!
//! **Candidates** are the distinct answers: 32, 41, 42, 43, 52. A **ballot** is what part of a peer's own completions
//! gives which answer, in permille. Lia, being always certain, has the same mass on 43 with one peer's vote as three
//! honest peers have on 42, less Ben's slip: 500 + 500 + 250 against 1000 + 250, a tie.
//!
//! ```
//! # use judge::*;
//! # use std::collections::BTreeMap;
//! # let [ada, ben, cyd, lia] = [1, 2, 3, 4].map(|n| PeerKey([n; 32]));
//! # let is = |answer: &str| Some(CandidateId::of(0, answer));
//! # let mut prompt = PromptVotes::default();
//! # prompt.completions.insert(ada, vec![is("42"), is("42"), is("52"), None]);
//! # let ballot = ballot_from_completions(&prompt.completions[&ada]);
//! assert_eq!(ballot, BTreeMap::from([(CandidateId::of(0, "42"), 500), (CandidateId::of(0, "52"), 250)]));
//! ```
//!
//! **Critiques** settle it. Each peer scores every candidate by how probable its own model finds the reasoning that
//! somebody else wrote for it: the mean log-probability of a token, in milli-nats, 0 at best and -4000 at worst. The
//! **score** of a candidate is the sum of weight × ballot, times E of the *weighted median* of its critiques, with
//! E(x) = exp(3·x). The three honest peers find the reasoning for 42 likely (-100, -120, -150) and that for 43 not
//! (-900 and worse); Lia slanders 42 with -4000 and praises 43 with 0. The medians are -150 and -900, as if Lia had
//! said nothing: an accusation needs half of the weight behind it (the *lower* median is taken on a tie), praise more
//! than half. A critic who is silent about one candidate gives it the worst critique; if critics with less than half
//! of the weight speak at all, critiques are left out. So 42 scores 1250 · exp(-0.45) = 797 and 43 scores 1250 · exp(-2.7) = 84.
//!
//! **Labels** leave one out: what Ada should have answered is computed from everybody's votes but Ada's. The label's
//! **share** is the winner's part of the others' whole weight, where unreadable completions and abstentions count in
//! the whole: for Ada (500 + 250) / 3000 = 250 permille. A label trains only behind two **gates**: a share of at least
//! τ (250) and at least two others behind the answer. Else it is undecided and nobody is paid. **Rewards** are 1000
//! permille for every completion that agrees with the label of its author, and 0 for every other.
//!
//! ```
//! # use judge::*;
//! # use std::collections::BTreeMap;
//! # let [ada, ben, cyd, lia] = [1, 2, 3, 4].map(|n| PeerKey([n; 32]));
//! # let is = |answer: &str| Some(CandidateId::of(0, answer));
//! # let mut prompt = PromptVotes {
//! #     completions: BTreeMap::from([
//! #         (ada, vec![is("42"), is("42"), is("52"), None]),
//! #         (ben, vec![is("42"), is("43"), is("42"), is("41")]),
//! #         (cyd, vec![is("42"), is("32"), None, None]),
//! #         (lia, vec![is("43"); 4]),
//! #     ]),
//! #     ..PromptVotes::default()
//! # };
//! let [right, wrong] = ["42", "43"].map(|answer| CandidateId::of(0, answer));
//! for (peer, completions) in &prompt.completions {
//!     prompt.ballots.insert(*peer, ballot_from_completions(completions));
//! }
//! for (peer, of_right, of_wrong) in [(ada, -100, -900), (ben, -120, -900), (cyd, -150, -1000), (lia, -4000, 0)] {
//!     prompt.critiques.insert(peer, BTreeMap::from([(right, of_right), (wrong, of_wrong)]));
//! }
//! prompt.gold = Some(right); // see below; the vote does not look at it
//! let mut votes = RoundVotes { roster: vec![ada, ben, cyd, lia], prompts: vec![prompt], ..RoundVotes::default() };
//! let settled = settle(&Rules::default(), &State::default(), &votes);
//!
//! let prompt = &settled.prompts[0];
//! assert_eq!(prompt.consensus, Some(Consensus { candidate: right, share_permille: 312, supporters: 3 }));
//! assert_eq!(prompt.labels[&ada], Label::Decided { candidate: right, share_permille: 250, supporters: 2 });
//! assert_eq!(prompt.rewards[&ada], [1000, 1000, 0, 0]);
//! assert_eq!(prompt.rewards[&lia], [0, 0, 0, 0]);
//!
//! // The next round begins. Its beacon draws the gold prompts of this one.
//! votes.prompts.clear();
//! let settled = settle(&Rules::default(), &settled.next, &votes);
//! assert_eq!(settled.gold.drawn, [0]);
//! assert_eq!(settled.weights, BTreeMap::from([(ada, 1_000_000), (ben, 1_000_000), (cyd, 831_080), (lia, 662_160)]));
//! ```
//!
//! **Weights** come from *gold*: prompts whose reference answer everybody can recompute. Which prompts of a round were
//! gold is drawn by the beacon of the next round, so nobody knows while answering. A peer's success is its ballot mass
//! on the right answer: 500 for Ada and Ben, 250 for Cyd, 0 for Lia. Everybody starts with one success in three trials,
//! and old evidence fades by 0.98 a round; after this one draw Ada's accuracy is (0.98 · 1 + 0.5) / (0.98 · 3 + 1) =
//! .376 and Lia's .98 / 3.94 = .249. A weight is accuracy over the best accuracy: .662 for Lia. After ten
//! rounds of twenty-four prompts it is about .06, and after thirty gold ballots anything below .4 becomes 0. See
//! [`weights`] for the cap, probation and liveness, and [`Settlement::gold`] for the alarm: how often
//! consensus itself was right.
//!
//! **Text critiques** are optional and stand apart. A few critics a candidate ([`assign`]) say in words whether it is
//! right. Their verdicts move no vote: they are tried on gold a round later like ballots, as the mean of their hits on
//! right and on wrong candidates ([`GoldVerdicts`]), and make a standing of their own ([`CriticRecord`]).
//!
//! # What an attacker gains
//!
//! | attack | what happens |
//! |---|---|
//! | a ballot of more than 1000 permille, or two entries for one candidate | void as a whole; the type has one entry each |
//! | ballots and critiques from outside the roster | ignored and counted |
//! | votes for answers nobody revealed | those entries are void |
//! | always certain of one wrong answer | one peer's weight at most, less with every gold draw |
//! | slander, praise | does not move a weighted median by itself, nor count while most critics are silent |
//! | praise of a text that honest policies cannot read | their silence outweighs it |
//! | praise of an answer only oneself gave | does not count |
//! | voting only where one is sure | an empty ballot on an answered gold prompt is a failed trial |
//! | always the same verdict, or none where one is unsure | earns exactly 0; silence on an assigned candidate counts as unclear |
//! | verdicts on candidates of one's own choice | void |
//! | keeping answers back after the commit | halves the liveness factor |
//! | many new identities | weight 0 until tried on gold (where there is any), and admission (crate `swarm`) |
//! | being right for long, then lying (camouflage) | works until gold catches up, which forgets .02 of the past a round; critiques stand against it meanwhile |
//! | answers of another model, edited ones | found by two auditors who compute them again, where weights are shared ([`duties`]) |
//! | slander of answers, passing them unseen | overruled by a jury, and not asked any more |
//! | newcomers who fail on purpose, so that nobody is blamed | "most" is counted by weight, and theirs is 0 |
//!
//! A majority of vote weight has to be honest. Without gold the weights are equal, which the settlement says:
//! [`Settlement::anchored`].
//!
//! # Where to read next
//!
//! [`settle`] is the whole order of events; `tally.rs` counts one prompt; `reputation.rs` holds what outlives a round;
//! `critics.rs` and `verdicts.rs` are the text critiques, `audits.rs` is what audits of answers come to,
//! `packs.rs` what the swarm takes in of further task packs, `curriculum.rs` which levels it draws from.

#![deny(clippy::float_arithmetic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audits;
mod bytes;
#[cfg(test)]
mod chance;
mod critics;
mod curriculum;
mod exp;
mod key;
mod name;
mod packs;
mod reputation;
mod rules;
mod settle;
mod settlement;
mod tally;
mod verdicts;
mod votes;

pub use audits::{
    AUDITORS, AuditOutcome, AuditRecord, AuditReport, AuditRules, AuditVotes, Audits, CLEAN_PASSES,
    DUTIES_MAX, Dispute, Duty, Finding, JURY, MARKS_MAX, Offer, PLANT_COST, SOFT_FAILURES, duties,
};
pub use critics::{Assignment, assign};
pub use curriculum::{Course, Courses, CurriculumRules, Stage};
pub use key::{CandidateId, HexError, PeerKey};
pub use name::names;
pub use packs::{
    AcceptedPack, OpenPack, PACK_ROUNDS_MAX, PACK_VOTES_MAX, PACK_WEIGHT_MAX, PACKS_ACCEPTED_MAX,
    PACKS_OPEN_MAX, PackKey, PackOutcome, PackVote, PackVotes, Packs,
};
pub use reputation::{MICRO, PendingPrompt, REPUTATIONS_MAX, Reputation, State, weights};
pub use rules::{Rules, RulesError, VOTERS_MIN};
pub use settle::settle;
pub use settlement::{
    Consensus, GoldBallots, GoldReport, Label, PromptSettlement, Reason, Settlement, Void, VoidReason,
};
pub use tally::own_majority;
pub use verdicts::{CriticRecord, GoldVerdicts, Verdict};
pub use votes::{BALLOT_FULL, CRITIQUE_MIN, Conduct, PromptVotes, RoundVotes, ballot_from_completions};
