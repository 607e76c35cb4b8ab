//! The identity of a swarm and the gossip topics that carry it.

use std::fmt;

use crate::limits::{ENVELOPE_BYTES_MAX, PROOF_BYTES_MAX};

/// A swarm, by the hash of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmId(pub [u8; 32]);

impl SwarmId {
    /// The first eight hexadecimal digits, as used in topic names.
    pub fn short(&self) -> String {
        self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a message is gossiped. Messages of one topic share a size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Heartbeats.
    Presence,
    /// Commits and reveals.
    Answers,
    /// Critiques and ballots.
    Votes,
    /// Proposals, signatures, certificates.
    Control,
    /// Proofs of equivocation, each with two messages of another topic inside.
    Proofs,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 5] = [Self::Presence, Self::Answers, Self::Votes, Self::Control, Self::Proofs];

    /// The gossipsub topic: `/murmur/<first eight hexadecimal digits of the swarm>/<topic>/1`.
    pub fn name(self, swarm: &SwarmId) -> String {
        let topic = match self {
            Self::Presence => "presence",
            Self::Answers => "answers",
            Self::Votes => "votes",
            Self::Control => "control",
            Self::Proofs => "proofs",
        };
        format!("/murmur/{}/{topic}/1", swarm.short())
    }

    /// Largest message of the topic, in bytes.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Presence => 4 * 1024,
            Self::Control => 48 * 1024,
            Self::Answers | Self::Votes => ENVELOPE_BYTES_MAX,
            Self::Proofs => PROOF_BYTES_MAX,
        }
    }
}
