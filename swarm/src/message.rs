//! What peers say to each other: one type a kind of message.
//!
//! Every message travels as an [`Envelope`]: the raw bytes of a [`Payload`] and one signature over
//! them. The body inside is decoded only after size, swarm and signature were checked
//! (see [`crate::admission`]).

use judge::{CandidateId, Finding, PackVote, PeerKey, Verdict};
use serde::{Deserialize, Serialize};

use crate::bitmap::Bitmap;
use crate::blob::Address;
use crate::limits::{
    ADDRESSES_MAX, COMPLETIONS_MAX, OFFENDERS_MAX, PLANTED_MAX, PROMPTS_MAX, PROOF_MAX,
    REPAIR_CERTIFICATES_MAX, REPAIR_ENVELOPES_MAX, REPAIR_HAVE_MAX, ROSTER_MAX, SIGNATURES_MAX,
};
use crate::membership::Ticket;
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash, Sig};

/// The outer form of every message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Encoded [`Payload`].
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// The sender's signature over `payload` under [`ENVELOPE_DOMAIN`].
    pub signature: Sig,
}

/// Domain of envelope signatures.
pub const ENVELOPE_DOMAIN: &[u8] = b"murmur v1 envelope";
/// Domain of signatures on statements.
pub const STATEMENT_DOMAIN: &[u8] = b"murmur v1 statement";

/// What a sender signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Protocol version.
    pub version: u32,
    /// Swarm, by the hash of its manifest.
    pub swarm: Hash,
    /// Which body follows.
    pub kind: Kind,
    /// Round the message belongs to (the current round of the sender for presence).
    pub round: u32,
    /// Hash of the statement that started that round; the swarm id before the first. Branches of the chain
    /// have rounds of the same number, and what is said in one does not count in another.
    pub start: Hash,
    /// Author.
    pub sender: PeerKey,
    /// Rising per sender since it started.
    pub sequence: u32,
    /// Encoded body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// The kinds of message; on the wire their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Presence`].
    Presence,
    /// [`Commit`].
    Commit,
    /// [`Reveal`].
    Reveal,
    /// [`Critique`].
    Critique,
    /// [`Ballot`].
    Ballot,
    /// [`Proposal`].
    Proposal,
    /// [`Signature`].
    Signature,
    /// [`Certificate`].
    Certificate,
    /// [`Proof`](crate::proof::Proof).
    Proof,
}

impl Kind {
    /// Topic that carries this kind.
    pub fn topic(self) -> Topic {
        match self {
            Self::Presence => Topic::Presence,
            Self::Commit | Self::Reveal => Topic::Answers,
            Self::Critique | Self::Ballot => Topic::Votes,
            Self::Proposal | Self::Signature | Self::Certificate => Topic::Control,
            Self::Proof => Topic::Proofs,
        }
    }
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// How often this peer has started; with the sequence it orders heartbeats.
    pub incarnation: u32,
    /// View of the newest certificate it knows; 0 for none.
    pub view: u32,
    /// Hash of that certificate's statement; the swarm id for none.
    pub statement: Hash,
    /// View that it waits for.
    pub attempt: u32,
    /// Whether it wants to be in the next roster.
    pub ready: bool,
    /// Why it leaves, when it does.
    pub leaving: Option<String>,
    /// Where it can be dialled (multiaddresses).
    #[serde(deserialize_with = "wire::at_most::<_, _, ADDRESSES_MAX>")]
    pub addresses: Vec<String>,
    /// Who invited it; not on the wire without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
}

/// A promise of answers; see [`commitment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// [`commitment`] over nonce, answers, policy and numerics profile.
    pub commitment: Hash,
    /// What auditors may ask for; not on the wire where nothing is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditOffer>,
}

/// A peer's offer to show the weights that its answers are sampled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditOffer {
    /// The blob that holds them.
    pub weights: Address,
    /// [`planted_seal`] of a secret if an answer is spoilt on purpose, any other hash if none is.
    pub seal: Hash,
}

/// The answers to one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// Position of the prompt in the round's schedule.
    pub prompt: u16,
    /// The nonce of the commitment.
    pub nonce: Hash,
    /// Hash of the weights that answered.
    pub policy: Hash,
    /// Name of the arithmetic that produced the tokens, at most 32 bytes.
    pub numerics: String,
    /// Completions, in sampling order; none where there is a body.
    #[serde(deserialize_with = "wire::at_most::<_, _, { COMPLETIONS_MAX as usize }>")]
    pub completions: Vec<String>,
    /// Siblings in the Merkle tree over all prompts.
    #[serde(deserialize_with = "wire::at_most::<_, _, PROOF_MAX>")]
    pub proof: Vec<Hash>,
    /// Where the completions are, if they are too long for a message; not on the wire otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyRef>,
}

/// Completions that travel as a blob: the encoded list of texts, longer than
/// [`INLINE_BYTES_MAX`](crate::limits::INLINE_BYTES_MAX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRef {
    /// The blob's name.
    pub blob: Address,
    /// [`answers_leaf`] over the texts: what the commit covers is known before anything is fetched.
    pub leaf: Hash,
}

/// What such a blob holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Completions(
    /// Completions, in sampling order.
    #[serde(deserialize_with = "wire::at_most::<_, _, { COMPLETIONS_MAX as usize }>")]
    pub Vec<String>,
);

impl Reveal {
    /// The leaf that this reveal says it opens.
    pub fn leaf(&self) -> Hash {
        match &self.body {
            Some(body) => body.leaf,
            None => answers_leaf(self.prompt, &self.completions),
        }
    }
}

/// How well each candidate's reasoning reads to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Critique {
    /// Per prompt of the schedule, scores of candidates in candidate order.
    #[serde(deserialize_with = "wire::at_most::<_, _, { PROMPTS_MAX as usize }>")]
    pub prompts: Vec<Vec<Score>>,
    /// Per prompt of the schedule, what the author says in words of the candidates assigned to it, in candidate
    /// order; empty (and then not on the wire) where it writes nothing.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "wire::at_most::<_, _, { PROMPTS_MAX as usize }>"
    )]
    pub texts: Vec<Vec<TextCritique>>,
    /// [`findings_seal`] of what the author found in its audits; not on the wire where it found nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audits: Option<Hash>,
}

/// One score of a [`Critique`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Candidate.
    pub candidate: CandidateId,
    /// Mean token log-probability in milli-nats, −4000 to 0.
    pub millinats: i16,
}

/// What a critic says of one candidate in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextCritique {
    /// Candidate.
    pub candidate: CandidateId,
    /// Whether its answer is right.
    pub verdict: Verdict,
    /// Why, for people: one line without control characters, at most 256 bytes. No rule reads it.
    pub reason: String,
}

/// A peer's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// Per prompt of the schedule, shares in candidate order; empty to abstain.
    #[serde(deserialize_with = "wire::at_most::<_, _, { PROMPTS_MAX as usize }>")]
    pub prompts: Vec<Vec<Share>>,
    /// What the author has to say of audits; not on the wire where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audits: Option<Opened>,
    /// What the author says of task packs under vote, or proposes, packs rising; not on the wire where that is
    /// nothing.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "wire::at_most::<_, _, { judge::PACK_VOTES_MAX }>"
    )]
    pub packs: Vec<PackVote>,
}

/// The audits' part of a [`Ballot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The nonce of the seal.
    pub nonce: Hash,
    /// What the author found, as it sealed it; peers rising.
    #[serde(deserialize_with = "wire::at_most::<_, _, { judge::DUTIES_MAX }>")]
    pub findings: Vec<Found>,
    /// Secrets of rounds in which it spoilt an answer on purpose, where it is audited; not on the wire if none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "wire::at_most::<_, _, PLANTED_MAX>"
    )]
    pub planted: Vec<Hash>,
}

/// What an auditor found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whose answers it looked at.
    pub peer: PeerKey,
    /// What it found.
    pub finding: Finding,
}

/// One part of a [`Ballot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Candidate.
    pub candidate: CandidateId,
    /// Share of the ballot in permille; at most 1000 a prompt in all.
    pub permille: u16,
}

/// What a certificate certifies: the end of one round and the start of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Rises with every attempt.
    pub view: u32,
    /// The round that this statement starts.
    pub round: u32,
    /// Hash of the statement it builds on; the swarm id at genesis.
    pub parent: Hash,
    /// Members of the ending round's roster whose commits are included.
    pub commits: Bitmap,
    /// Members all of whose answers are included.
    pub answers: Bitmap,
    /// Members whose critiques are included.
    pub critiques: Bitmap,
    /// Members whose ballots are included.
    pub ballots: Bitmap,
    /// Hash over the payload hashes of every included message, in order of kind, member, prompt.
    pub items: Hash,
    /// Hash of the settlement that follows from them.
    pub settlement: Hash,
    /// Hash of the judge's state after it.
    pub state: Hash,
    /// Roster of the round it starts, sorted.
    #[serde(deserialize_with = "wire::at_most::<_, _, ROSTER_MAX>")]
    pub roster: Vec<PeerKey>,
    /// Peers convicted by a [proof](crate::proof) so far, sorted; not on the wire where there are none. Nothing of
    /// theirs is included from the statement on that convicts them, and no later roster has them.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "wire::at_most::<_, _, OFFENDERS_MAX>"
    )]
    pub offenders: Vec<PeerKey>,
    /// Whether the live part of the swarm goes on without a quorum; not on the wire otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
}

/// A statement put forward by the view's proposer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Encoded [`Statement`].
    #[serde(with = "serde_bytes")]
    pub statement: Vec<u8>,
}

/// One peer's signature on a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// View of the statement.
    pub view: u32,
    /// Hash of the statement.
    pub statement: Hash,
    /// Signature over swarm and hash under [`STATEMENT_DOMAIN`].
    pub signature: Sig,
}

/// A statement with the signatures of a quorum of the roster it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Encoded [`Statement`].
    #[serde(with = "serde_bytes")]
    pub statement: Vec<u8>,
    /// Signatures in signer order.
    #[serde(deserialize_with = "wire::at_most::<_, _, SIGNATURES_MAX>")]
    pub signatures: Vec<Signed>,
}

/// A signer and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Signer.
    pub peer: PeerKey,
    /// Its signature over swarm and statement's hash.
    pub signature: Sig,
}

/// Asks a peer for what is missing: certificates after a view, and messages of the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRequest {
    /// Protocol version.
    pub version: u32,
    /// Swarm.
    pub swarm: Hash,
    /// View after which the asker wants certificates: of the newest it knows to be final, or of the last link
    /// of a chain that it follows.
    pub view: u32,
    /// Hash of the newest statement it has; the swarm id for none.
    pub head: Hash,
    /// Payload hashes of the round's messages it has.
    #[serde(deserialize_with = "wire::at_most::<_, _, REPAIR_HAVE_MAX>")]
    pub have: Vec<Hash>,
}

/// The answer: everything is verified by the asker as if it had been gossiped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairAnswer {
    /// Encoded certificates, rising.
    #[serde(deserialize_with = "wire::at_most::<_, _, REPAIR_CERTIFICATES_MAX>")]
    pub certificates: Vec<serde_bytes::ByteBuf>,
    /// The judge's state after the newest certificate, when the asker is behind.
    pub state: Option<serde_bytes::ByteBuf>,
    /// Encoded envelopes of the current round.
    #[serde(deserialize_with = "wire::at_most::<_, _, REPAIR_ENVELOPES_MAX>")]
    pub envelopes: Vec<serde_bytes::ByteBuf>,
}

/// Leaf of the Merkle tree for one prompt's completions.
pub fn answers_leaf(prompt: u16, completions: &[String]) -> Hash {
    let mut bytes = prompt.to_le_bytes().to_vec();
    for completion in completions {
        bytes.extend((completion.len() as u32).to_le_bytes());
        bytes.extend(completion.as_bytes());
    }
    crate::merkle::leaf(&bytes)
}

/// What a commit promises. It binds swarm, round and author, so copying another peer's commit is
/// useless, and the nonce keeps guessable answers secret until the reveal.
pub fn commitment(
    swarm: &SwarmId,
    round: u32,
    peer: &PeerKey,
    nonce: &Hash,
    root: &Hash,
    policy: &Hash,
    numerics: &str,
) -> Hash {
    Hash::of(
        "murmur v1 commitment",
        &[&swarm.0, &round.to_le_bytes(), &peer.0, &nonce.0, &root.0, &policy.0, numerics.as_bytes()],
    )
}

/// What an auditor's critique shows of its findings before anybody opens any: nobody can copy them.
pub fn findings_seal(beacon: &Hash, peer: &PeerKey, nonce: &Hash, findings: &[Found]) -> Hash {
    Hash::of("murmur v1 findings", &[&beacon.0, &peer.0, &nonce.0, &wire::encode(&findings)])
}

/// The seal of a commit whose author spoilt an answer on purpose.
pub fn planted_seal(peer: &PeerKey, secret: &Hash) -> Hash {
    Hash::of("murmur v1 planted", &[&peer.0, &secret.0])
}
