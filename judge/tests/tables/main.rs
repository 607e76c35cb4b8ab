//! The rule as text: a small script of votes above the line, what was settled below it.
//!
//! Peers are letters, candidates words of up to eight letters (their bytes are their id, so "lowest id" reads as
//! "first in the alphabet"). One line a statement:
//!
//! ```text
//! rules tau=400 cut_after=0          permille or counts, as in Rules
//! roster A B C                       who is in (otherwise: everybody who revealed, without "!")
//! found A B C                        the founders (otherwise: the first roster)
//! know L accuracy=20 ballots=50      a peer's record, permille; also liveness=; joiner
//! A: 7 7 9 -                         completions; the ballot is their counts
//! A: 7 7 9 - | 7=1000                ... unless one is given; "|" alone abstains
//! !X: 7 7                            the same from outside the roster
//! A ? 7=-100 9=-900                  critiques
//! gold 7                             the reference answer of the prompt
//! prompt                             the next prompt of the round
//! late A                             missed the vote; "withheld A": no reveal
//! settle 10                          settle this round so often, each with another beacon
//! clear                              a new round
//! show votes | weights | gold | reputation | totals
//! ```
//!
//! `UPDATE_EXPECT=1 cargo test -p murmur-judge` rewrites what is below the lines.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod critiques;
mod liars;
mod reputation;
mod script;
mod shares;
