//! Proof that a peer said two things where it may say one.
//!
//! An honest peer fills every [`Slot`] once: it stores where it stands before it speaks in a round, and says
//! nothing more in a round that it comes back to after a restart. So two different signed messages for one slot
//! convict their author, and anybody can check that from their bytes and the swarm's id alone: what does not
//! [verify](Proof::verify) is rejected, what does is acted on by everybody alike.
//!
//! A message is named by its payload. The same answer under another sequence number is another message: two
//! halves of a swarm that hold one each could never agree on the hash of what a round includes.

use std::fmt;

use judge::PeerKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::certificate::{signed_bytes, statement_hash};
use crate::identity;
use crate::limits::{ENVELOPE_BYTES_MAX, PROTOCOL};
use crate::message::{
    ENVELOPE_DOMAIN, Envelope, Kind, Payload, Proposal, Reveal, STATEMENT_DOMAIN, Signature, Signed,
    Statement,
};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// Where a peer may say one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The commit, critique or ballot of the round that a statement started.
    Round {
        /// Which of them.
        kind: Kind,
        /// Hash of the statement.
        start: Hash,
    },
    /// The answers to one prompt of the round that a statement started.
    Answers {
        /// Hash of the statement.
        start: Hash,
        /// Position of the prompt.
        prompt: u16,
    },
    /// The proposal of a view.
    Proposal {
        /// The view.
        view: u32,
    },
    /// The signature on a statement of a view.
    Signature {
        /// The view.
        view: u32,
    },
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Round { kind: Kind::Commit, .. } => f.write_str("two commits in one round"),
            Self::Round { kind: Kind::Critique, .. } => f.write_str("two critiques in one round"),
            Self::Round { .. } => f.write_str("two ballots in one round"),
            Self::Answers { prompt, .. } => write!(f, "two reveals for prompt {prompt} of one round"),
            Self::Proposal { view } => write!(f, "two proposals in view {view}"),
            Self::Signature { view } => write!(f, "two statements in view {view}"),
        }
    }
}

/// Something that a peer signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// A message: an encoded [`Envelope`].
    Envelope(ByteBuf),
    /// A signature on a statement, out of a certificate.
    Signature {
        /// Encoded [`Statement`].
        statement: ByteBuf,
        /// Signer and signature.
        signed: Signed,
    },
}

/// Two signed things that cannot both be an honest peer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// One of them.
    pub first: Evidence,
    /// The other.
    pub second: Evidence,
}

/// What a proof proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Who.
    pub peer: PeerKey,
    /// Where it said two things.
    pub slot: Slot,
}

/// Why something is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A piece of evidence is not a message or signed statement of this swarm.
    #[error("evidence that is not of this swarm or has no slot")]
    Evidence,
    /// Its signature is not its author's.
    #[error("evidence whose signature does not verify")]
    Signature,
    /// The two do not exclude each other.
    #[error("evidence that an honest peer may have signed")]
    Compatible,
}

/// What a piece of evidence says: who filled which slot with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) peer: PeerKey,
    pub(crate) slot: Slot,
    /// Hash of what the slot was filled with.
    pub(crate) content: Hash,
}

impl Proof {
    /// Who is convicted, and of what.
    ///
    /// # Errors
    /// [`ProofError`]; it follows from the bytes alone, so all peers agree on it.
    pub fn verify(&self, swarm: &SwarmId) -> Result<Offence, ProofError> {
        let [first, second] = [&self.first, &self.second].map(|evidence| evidence.claim(swarm));
        let (first, second) = (first?, second?);
        if first.peer != second.peer || first.slot != second.slot || first.content == second.content {
            return Err(ProofError::Compatible);
        }
        if !self.first.is_signed(swarm) || !self.second.is_signed(swarm) {
            return Err(ProofError::Signature);
        }
        Ok(Offence { peer: first.peer, slot: first.slot })
    }
}

impl Evidence {
    /// What it says, whether or not its author said it.
    pub(crate) fn claim(&self, swarm: &SwarmId) -> Result<Claim, ProofError> {
        match self {
            Self::Envelope(bytes) => {
                let (envelope, payload) = read(bytes)?;
                if payload.version != PROTOCOL || payload.swarm.0 != swarm.0 {
                    return Err(ProofError::Evidence);
                }
                claim_of(&payload, Hash::of("murmur v1 message", &[&envelope.payload]))
                    .ok_or(ProofError::Evidence)
            }
            Self::Signature { statement, signed } => {
                let Statement { view, .. } = body(statement)?;
                let slot = Slot::Signature { view };
                Ok(Claim { peer: signed.peer, slot, content: statement_hash(statement) })
            }
        }
    }

    fn is_signed(&self, swarm: &SwarmId) -> bool {
        match self {
            Self::Envelope(bytes) => read(bytes).is_ok_and(|(Envelope { payload, signature }, read)| {
                identity::verify(&read.sender, ENVELOPE_DOMAIN, &payload, &signature.0)
            }),
            Self::Signature { statement, signed } => {
                let bytes = signed_bytes(swarm, &statement_hash(statement));
                identity::verify(&signed.peer, STATEMENT_DOMAIN, &bytes, &signed.signature.0)
            }
        }
    }
}

/// The slot that a message fills, and with what; `None` for kinds that may be sent any number of times.
fn claim_of(payload: &Payload, id: Hash) -> Option<Claim> {
    let Payload { kind, start, sender, body: bytes, .. } = payload;
    let (slot, content) = match kind {
        Kind::Commit | Kind::Critique | Kind::Ballot => (Slot::Round { kind: *kind, start: *start }, id),
        Kind::Reveal => {
            let Reveal { prompt, .. } = body(bytes).ok()?;
            (Slot::Answers { start: *start, prompt }, id)
        }
        // Proposals and signatures are of a statement; the same one may be sent again.
        Kind::Proposal => {
            let Proposal { statement } = body(bytes).ok()?;
            let Statement { view, .. } = body(&statement).ok()?;
            (Slot::Proposal { view }, statement_hash(&statement))
        }
        Kind::Signature => {
            let Signature { view, statement, .. } = body(bytes).ok()?;
            (Slot::Signature { view }, statement)
        }
        Kind::Presence | Kind::Certificate | Kind::Proof => return None,
    };
    Some(Claim { peer: *sender, slot, content })
}

fn read(bytes: &[u8]) -> Result<(Envelope, Payload), ProofError> {
    let envelope: Envelope = body(bytes)?;
    let payload = body(&envelope.payload)?;
    Ok((envelope, payload))
}

fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ProofError> {
    wire::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|_| ProofError::Evidence)
}
