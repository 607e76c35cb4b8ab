//! Rounds without a coordinator.
//!
//! Peers answer the same prompts, commit to their answers before they see each other's, criticise and
//! vote, and a quorum of them signs what the round came to. This crate holds the protocol; what a vote
//! means is in `judge`, what a prompt is in `tasks`, and no model is known here.
//!
//! Reading order: [`manifest`] (what peers agree on before they meet), [`message`] (what they say),
//! [`admission`] (from bytes to trust), [`proof`] (what no honest peer says), [`certificate`], [`chain`] and
//! [`checkpoint`] (what is agreed and what is final), [`engine`] (one peer's view of it all, without IO), [`simulate`] (many
//! engines in virtual time, under faults and attacks), and, under the feature `net`, the libp2p adapter.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// Tests share code with examples, which know this crate by its name.
#[cfg(test)]
extern crate self as swarm;

pub mod admission;
pub mod bitmap;
pub mod blob;
pub mod certificate;
pub mod chain;
pub mod checkpoint;
mod defences;
pub mod engine;
pub mod follow;
pub mod identity;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod membership;
mod memo;
pub mod merkle;
pub mod message;
#[cfg(feature = "net")]
pub mod net;
pub mod packs;
pub mod policies;
pub mod proof;
pub mod replay;
mod scan;
pub mod simulate;
pub mod topic;
pub mod tree;
pub mod wire;
