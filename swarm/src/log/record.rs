//! What a log records.

use judge::PeerKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::blob::Address;
use crate::topic::SwarmId;
use crate::wire::{Hash, Sig};

/// Domain of the owner's signatures on its log.
pub(crate) const SEAL_DOMAIN: &[u8] = b"murmur v1 log seal";
/// Bytes of the digest by which a seal names a part of a record.
pub(crate) const MARK_BYTES: usize = 8;

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// Whose log this is; the first record and no other.
    Header(Header),
    /// The peer has started, from what it had stored.
    Opened {
        /// How often it has started.
        incarnation: u32,
        /// Certificates from the newest final one to the one that it went on from, encoded; none for a first start.
        certificates: Vec<ByteBuf>,
        /// The place of the first of them in the chain, encoded.
        #[serde(with = "serde_bytes")]
        place: Vec<u8>,
        /// The judge's state after it, encoded.
        #[serde(with = "serde_bytes")]
        state: Vec<u8>,
    },
    /// A commit, reveal, critique or ballot that filled its slot, or the first of its author that contradicts one; or a
    /// proof that somebody said two things.
    Message {
        /// Whether the phase it belongs to had ended, by this peer's clock.
        late: bool,
        /// The envelope as received.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// Completions that are too long for their reveal, which names them: a good body that this peer got, or made.
    Body {
        /// What reveals call it.
        blob: Address,
        /// All its bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A certificate that ended a round which this peer settled itself.
    Certificate {
        /// The certificate, encoded.
        #[serde(with = "serde_bytes")]
        certificate: Vec<u8>,
    },
    /// Certificates up to one that this peer's operator trusts, which is the last: the peer verifies from there.
    Checkpoint {
        /// Certificates, encoded, each the parent of the next.
        certificates: Vec<ByteBuf>,
    },
    /// Certificates that this peer followed without the messages of their rounds, and the state after the last.
    Gap {
        /// Certificates, encoded, each the parent of the next.
        certificates: Vec<ByteBuf>,
        /// The judge's state after the last of them, encoded; empty where the next gap goes on.
        #[serde(with = "serde_bytes")]
        state: Vec<u8>,
    },
    /// What somebody needs who computes this peer's steps again: base, sampling and learning.
    Learner {
        /// The settings, as JSON. No rule of the protocol reads them.
        settings: String,
    },
    /// A training step of this peer.
    Training(Training),
    /// The owner's signature on everything before.
    Seal(Seal),
}

/// What a log begins with. The manifest names static packs by their content, so it says everything that a replay needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Protocol version.
    pub version: u32,
    /// Swarm: the hash of the manifest.
    pub swarm: Hash,
    /// The manifest, encoded.
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// The owner.
    pub peer: PeerKey,
}

/// One training step: what went in, what came out, by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Round whose rewards it learns from.
    pub round: u32,
    /// Seed by which the round's completions were sampled.
    pub seed: Hash,
    /// Policy before.
    pub before: Hash,
    /// Policy after; the same where no step was taken.
    pub after: Hash,
    /// Hash of rollouts and rewards.
    pub batch: Hash,
    /// Optimiser's state after.
    pub optimizer: Hash,
    /// The learning rate, an f32 by its bits.
    pub learning_rate: u32,
    /// Name of the arithmetic.
    pub numerics: String,
}

/// The owner's word for the log up to here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Records before this one.
    pub records: u64,
    /// The chain after the last of them.
    pub head: Hash,
    /// Eight bytes for each part of each record since the seal before, that one included; see [`Record::parts`].
    #[serde(with = "serde_bytes")]
    pub marks: Vec<u8>,
    /// Whether the peer ended here, in good order.
    pub closing: bool,
    /// The owner's signature over all of this and the swarm.
    pub signature: Sig,
}

impl Seal {
    /// What the signature covers.
    pub(crate) fn signed(&self, swarm: &SwarmId) -> Hash {
        let Self { records, head, marks, closing, .. } = self;
        let parts: [&[u8]; 5] = [&swarm.0, &records.to_le_bytes(), &head.0, marks, &[u8::from(*closing)]];
        Hash::of("murmur v1 log seal", &parts)
    }
}

/// A part of a record: its name, and eight bytes of a hash of its value.
pub type Part = (&'static str, [u8; MARK_BYTES]);

impl Record {
    /// What kind of record it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Opened { .. } => "start",
            Self::Message { .. } => "message",
            Self::Body { .. } => "body",
            Self::Certificate { .. } => "certificate",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Gap { .. } => "gap",
            Self::Learner { .. } => "learner",
            Self::Training(_) => "training step",
            Self::Seal(_) => "seal",
        }
    }

    /// The record in parts, so that a seal can say which of them was changed.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Header(Header { version, swarm, manifest, peer }) => vec![
                part("version", &version.to_le_bytes()),
                part("swarm", &swarm.0),
                part("manifest", manifest),
                part("peer", &peer.0),
            ],
            Self::Opened { incarnation, certificates, place, state } => vec![
                part("incarnation", &incarnation.to_le_bytes()),
                parts_of("certificates", &whole(certificates)),
                part("place", place),
                part("state", state),
            ],
            Self::Message { late, envelope } => {
                vec![part("late", &[u8::from(*late)]), part("envelope", envelope)]
            }
            Self::Body { blob: Address { hash, len }, bytes } => {
                vec![parts_of("blob", &[&hash.0, &len.to_le_bytes()]), part("bytes", bytes)]
            }
            Self::Certificate { certificate } => vec![part("certificate", certificate)],
            Self::Checkpoint { certificates } => vec![parts_of("certificates", &whole(certificates))],
            Self::Gap { certificates, state } => {
                vec![parts_of("certificates", &whole(certificates)), part("state", state)]
            }
            Self::Learner { settings } => vec![part("settings", settings.as_bytes())],
            Self::Training(training) => training.parts(),
            Self::Seal(Seal { records, head, marks, closing, signature }) => vec![
                part("records", &records.to_le_bytes()),
                part("head", &head.0),
                part("marks", marks),
                part("closing", &[u8::from(*closing)]),
                part("signature", &signature.0),
            ],
        }
    }
}

impl Training {
    fn parts(&self) -> Vec<Part> {
        vec![
            part("round", &self.round.to_le_bytes()),
            part("seed", &self.seed.0),
            part("before", &self.before.0),
            part("after", &self.after.0),
            part("batch", &self.batch.0),
            part("optimizer", &self.optimizer.0),
            part("learning_rate", &self.learning_rate.to_le_bytes()),
            part("numerics", self.numerics.as_bytes()),
        ]
    }
}

fn whole(certificates: &[ByteBuf]) -> Vec<&[u8]> {
    certificates.iter().map(|bytes| &bytes[..]).collect()
}

fn part(name: &'static str, value: &[u8]) -> Part {
    parts_of(name, &[value])
}

fn parts_of(name: &'static str, values: &[&[u8]]) -> Part {
    let hash = Hash::of("murmur v1 log mark", values);
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&hash.0[..MARK_BYTES]);
    (name, mark)
}
