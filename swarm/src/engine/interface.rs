//! What an engine starts from, what goes in, and what it asks its caller to do.

use std::collections::BTreeSet;

use judge::{CandidateId, Finding, PackVote, PeerKey};
use serde::{Deserialize, Serialize};
use tasks::{Catalogue, Item, Pack, PackId};

use super::event::{Event, Settled};
use crate::blob::Address;
use crate::defences::Defences;
use crate::identity::Identity;
use crate::log::{Recall, Record};
use crate::manifest::Manifest;
use crate::membership::Ticket;
use crate::message::TextCritique;
use crate::topic::Topic;
use crate::wire::Hash;

/// What an engine starts from.
pub struct Setup {
    /// This peer's key.
    pub identity: Identity,
    /// What the swarm agrees on.
    pub manifest: Manifest,
    /// The packs it names, and set aside those that the swarm has taken in besides, as far as they are here.
    pub catalogue: Catalogue,
    /// Whether this peer takes part (rather than only follows).
    pub ready: bool,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Who invited it, where a swarm asks.
    pub ticket: Option<Ticket>,
    /// Secret randomness for nonces.
    pub entropy: [u8; 32],
    /// Name of the arithmetic that produces its tokens, at most 32 bytes.
    pub numerics: String,
    /// What an earlier run of this peer left.
    pub resume: Resume,
    /// Defences that are up; for simulations, see [`Defences`].
    pub defences: Defences,
}

/// What must survive a restart; see [`Persist`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resume {
    /// That of the peer's last start. It rises with every start, however: others take an older one for a replay.
    pub incarnation: u32,
    /// Highest view in which it has signed or proposed a statement.
    pub signed_view: u32,
    /// Where it stood.
    pub head: StoredHead,
}

/// The newest certificate and what is needed to go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredHead {
    /// Encoded certificates from the newest final one to the newest; empty before the first.
    pub path: Vec<serde_bytes::ByteBuf>,
    /// Encoded [`Place`](crate::chain::Place) of the first of them.
    #[serde(with = "serde_bytes")]
    pub place: Vec<u8>,
    /// The judge's state after the last of them, encoded.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
}

/// An input besides messages.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The weights that sample the round's answers, for auditors; before the answers.
    Weights {
        /// Round they are for.
        round: u32,
        /// The blob that auditors may fetch.
        bytes: Vec<u8>,
        /// Whether an answer is spoilt on purpose, as [`Engine::plants`](super::Engine::plants) asked.
        planted: bool,
    },
    /// What came of a [`Work::Audit`].
    Audited {
        /// Round it was for.
        round: u32,
        /// Whose answers.
        peer: PeerKey,
        /// What was found.
        finding: Finding,
    },
    /// The completions of [`Work::Answer`], one list a prompt, and the hash of the weights.
    Answers {
        /// Round they are for.
        round: u32,
        /// Completions in sampling order, one list a prompt.
        completions: Vec<Vec<String>>,
        /// Hash of the weights that sampled them.
        policy: Hash,
    },
    /// The scores of [`Work::Critique`], aligned with its traces; `None` for a text that cannot be scored.
    Critiques {
        /// Round they are for.
        round: u32,
        /// Milli-nats, one list a prompt.
        scores: Vec<Vec<Option<i16>>>,
        /// What was written of assigned candidates, one list a prompt in candidate order; may be empty.
        texts: Vec<Vec<TextCritique>>,
    },
    /// A peer answered a repair request.
    Repair {
        /// Who.
        from: PeerKey,
        /// Encoded [`crate::message::RepairAnswer`].
        bytes: Vec<u8>,
    },
    /// A blob that [`Output::Fetch`] asked for is here.
    Fetched {
        /// Its name.
        blob: Address,
        /// All its bytes.
        bytes: Vec<u8>,
    },
    /// Nobody gave it; the engine asks again, naming other holders.
    FetchFailed {
        /// Its name.
        blob: Address,
    },
    /// A pack besides the manifest's, checked; for votes, and to draw from once it is accepted.
    Pack(Box<Pack>),
    /// What to say of a pack from now on, in every ballot, until it is decided on. Who is for it gives it as
    /// [`Input::Pack`] first.
    PackVote(PackVote),
    /// Nothing is to be said of a pack any more, and it is not needed: the vote on it failed.
    PackGone(PackId),
    /// What the log of earlier starts holds; once, right after a start, before anything else.
    Recalled(Box<Recall>),
    /// Where this peer can be dialled from now on, at most [`ADDRESSES_MAX`](crate::limits::ADDRESSES_MAX).
    Addresses(Vec<String>),
    /// This peer is about to stop.
    Leave {
        /// Why, at most 128 bytes.
        reason: String,
    },
}

/// Work for the policy.
#[derive(Debug, Clone)]
pub enum Work {
    /// Sample completions for the round's prompts.
    Answer {
        /// Round.
        round: u32,
        /// Its prompts.
        items: Vec<Item>,
        /// Completions a prompt.
        completions: u16,
        /// Seed of the sampling: drawn by the beacon, different for each peer.
        seed: [u8; 32],
    },
    /// Score one trace for each candidate, and judge the assigned ones in words if the policy can.
    Critique {
        /// Round.
        round: u32,
        /// Its prompts.
        items: Vec<Item>,
        /// Per prompt, candidates with the fullest completion by another author.
        traces: Vec<Vec<(CandidateId, String)>>,
        /// Per prompt, the candidates of `traces` to judge in words; empty without text critiques.
        assigned: Vec<BTreeSet<CandidateId>>,
        /// Seed of the sampling of those words: drawn by the beacon, different for each peer.
        seed: [u8; 32],
    },
    /// Say whether another peer's answers are what its weights sample.
    Audit(Box<AuditCase>),
}

/// Answers to compute again.
#[derive(Debug, Clone)]
pub struct AuditCase {
    /// The round in progress.
    pub round: u32,
    /// Who answered.
    pub peer: PeerKey,
    /// Hash of the policy, as it said.
    pub policy: Hash,
    /// Name of its arithmetic, as it said.
    pub numerics: String,
    /// Seed of its sampling.
    pub seed: [u8; 32],
    /// Completions that it was to give to each prompt.
    pub completions: u16,
    /// What it answered to the drawn prompts.
    pub answers: Vec<ShownAnswers>,
    /// The blob that it committed to.
    pub weights: Vec<u8>,
}

/// A peer's completions of one prompt.
#[derive(Debug, Clone)]
pub struct ShownAnswers {
    /// Position of the prompt in its round.
    pub position: u16,
    /// The prompt.
    pub item: Item,
    /// The completions, in sampling order.
    pub texts: Vec<String>,
}

/// Something that must be on disk before the next output is performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// The highest view in which this peer has signed or proposed a statement.
    SignedView(u32),
    /// A new head.
    Head(StoredHead),
}

/// What the caller is to do.
#[derive(Debug)]
pub enum Output {
    /// Gossip these bytes.
    Publish(Topic, Vec<u8>),
    /// Send a repair request; its answer comes back as [`Input::Repair`].
    Ask(PeerKey, Vec<u8>),
    /// Write to disk, durably, before going on.
    Persist(Persist),
    /// Append to the log before going on.
    Log(Record),
    /// Start this work.
    Work(Work),
    /// A round ended: train on it.
    Settled(Box<Settled>),
    /// Fetch a blob; it comes back as [`Input::Fetched`] or [`Input::FetchFailed`].
    Fetch {
        /// Round that needs it. Fetches of rounds before the previous one need not be finished.
        round: u32,
        /// Its name.
        blob: Address,
        /// Who may have it, the likeliest first.
        from: Vec<PeerKey>,
    },
    /// Keep a blob for other peers to fetch, as long as the round or the next one lasts.
    Keep {
        /// Round that needs it.
        round: u32,
        /// Its name.
        blob: Address,
        /// All its bytes.
        bytes: Vec<u8>,
    },
    /// A peer told where it can be reached.
    Dial(PeerKey, Vec<String>),
    /// Tell people.
    Event(Event),
}

/// Whether gossip may forward a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New and useful: forward.
    Accept,
    /// Drop without blame.
    Ignore,
    /// Drop and blame who sent it.
    Reject,
}
