//! What people may see of the engine: everything that happens, every wait, every drop.

use std::collections::BTreeMap;

use judge::{AuditReport, CandidateId, PeerKey, Settlement};
use serde::Serialize;
use tasks::{Answer, Item};

use crate::message::TextCritique;
use crate::proof::Slot;
use crate::wire::Hash;

/// The phases of a round, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// No certificate yet: waiting for peers.
    Gather,
    /// Sampling, then commits.
    Answer,
    /// Answers are shown.
    Reveal,
    /// Candidates are scored.
    Critique,
    /// Ballots.
    Vote,
    /// A certificate forms.
    Settle,
}

impl PhaseName {
    /// The phase that follows in a round.
    pub fn next(self) -> Self {
        match self {
            Self::Gather => Self::Answer,
            Self::Answer => Self::Reveal,
            Self::Reveal => Self::Critique,
            Self::Critique => Self::Vote,
            Self::Vote | Self::Settle => Self::Settle,
        }
    }

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Answer => "answer",
            Self::Reveal => "reveal",
            Self::Critique => "critique",
            Self::Vote => "vote",
            Self::Settle => "settle",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A peer was heard for the first time, or again.
    PeerAppeared {
        /// Who.
        peer: PeerKey,
    },
    /// A peer said that it leaves.
    PeerLeft {
        /// Who.
        peer: PeerKey,
        /// Why.
        reason: String,
    },
    /// A phase ended.
    PhaseClosed {
        /// Round.
        round: u32,
        /// Phase.
        phase: PhaseName,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Members that were not in by the deadline.
        missing: Vec<PeerKey>,
    },
    /// A certificate started a round.
    Certified {
        /// View.
        view: u32,
        /// Round that starts.
        round: u32,
        /// Members of its roster.
        roster: u32,
        /// Whether this peer is one of them.
        member: bool,
        /// Whether only a part of the swarm stands behind it.
        degraded: bool,
    },
    /// A certificate, and all before it, can no longer be overtaken.
    Final {
        /// Its view.
        view: u32,
        /// The round that it starts.
        round: u32,
        /// Hash of its statement.
        statement: Hash,
    },
    /// Another branch of certificates turned out to be better; the round it settles again counts there.
    Switched {
        /// View of the certificate given up.
        from: u32,
        /// View of the one this peer builds on now.
        to: u32,
    },
    /// No certificate by the deadline.
    ViewVoid {
        /// View.
        view: u32,
        /// Whose turn it was.
        proposer: PeerKey,
        /// Peers whose signature under its proposal did not come, where it needed more; `None` if no proposal came.
        unsigned: Option<Vec<PeerKey>>,
    },
    /// This peer missed something and continues from a later certificate, without training.
    CaughtUp {
        /// Rounds skipped.
        rounds: u32,
    },
    /// The swarm knows this peer's key, and nothing was stored beside it: it takes no part before a certificate of a
    /// later view than this is final, so that it cannot contradict what it may have signed.
    Quiet {
        /// The newest view of the swarm so far.
        view: u32,
    },
    /// That certificate is final; this peer takes part again.
    QuietOver {
        /// View of the newest final certificate.
        view: u32,
    },
    /// A message was dropped; emitted for the first of each reason, counted ever after.
    Dropped {
        /// Why.
        reason: &'static str,
        /// Author or forwarder, when known.
        peer: Option<PeerKey>,
    },
    /// A peer is proven to have said two things where it may say one. It is left out from now on.
    Equivocated {
        /// Who.
        peer: PeerKey,
        /// Where.
        slot: Slot,
        /// The message with the proof, which convinces anybody.
        #[serde(skip)]
        proof: Vec<u8>,
    },
    /// A peer's reveal names a body that holds other texts than it committed to, or none: its answers of this round
    /// do not count.
    Spoilt {
        /// Who.
        peer: PeerKey,
        /// Position of the prompt.
        prompt: u16,
        /// What is wrong with the body.
        why: &'static str,
    },
    /// Other peers looked at whether answers are what their author's weights sample.
    Audited {
        /// Whose answers.
        peer: PeerKey,
        /// Who found what, and what came of it.
        report: AuditReport,
    },
    /// The caller's work came after its phase.
    TooLate {
        /// Round.
        round: u32,
        /// Phase it was for.
        phase: PhaseName,
    },
}

/// What a round came to.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The round that ended.
    pub round: u32,
    /// View of the certificate that ended it.
    pub view: u32,
    /// Hash of its statement.
    pub statement: Hash,
    /// Hash of the statement that started it.
    pub start: Hash,
    /// The round's prompts.
    pub schedule: Vec<Item>,
    /// The roster that played it.
    pub roster: Vec<PeerKey>,
    /// Peers whose answers were included.
    pub answered: Vec<PeerKey>,
    /// Per prompt, the answer behind each candidate.
    pub candidates: Vec<BTreeMap<CandidateId, Answer>>,
    /// Per prompt, each peer's included ballot in permille.
    pub ballots: Vec<BTreeMap<PeerKey, BTreeMap<CandidateId, u16>>>,
    /// Per prompt, the included text critiques with their authors, assigned or not.
    pub critiques: Vec<Vec<(PeerKey, TextCritique)>>,
    /// Labels, rewards and reputations.
    pub settlement: Settlement,
    /// Milliseconds spent in each phase by this peer.
    pub durations_ms: BTreeMap<PhaseName, u64>,
    /// Views without a certificate.
    pub voids: u32,
}

/// Where the engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Round in progress; 0 before the first.
    pub round: u32,
    /// View of the newest certificate; 0 before the first.
    pub view: u32,
    /// View of the newest final one; 0 before the first.
    pub final_view: u32,
    /// Phase in progress.
    pub phase: PhaseName,
    /// Members not in yet.
    pub awaited: Vec<PeerKey>,
    /// Milliseconds until the phase gives up on them.
    pub deadline_in_ms: u64,
    /// Current roster.
    pub roster: Vec<PeerKey>,
    /// Whether this peer is in it.
    pub member: bool,
    /// Peers heard lately, besides this one.
    pub live: usize,
    /// Peers that must be here before the first round.
    pub wanted: usize,
    /// Who is not here while too few of those are who sign the next certificate, and why it left if it said so. Empty
    /// while those here suffice, and outside of [`PhaseName::Settle`].
    pub lacks: BTreeMap<PeerKey, Option<String>>,
}
