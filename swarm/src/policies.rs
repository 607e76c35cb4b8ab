//! Policies between peers: who can give which, and what shows that it is the one that a certificate covers.
//!
//! A peer's reveals name the hash of the policy that sampled its answers, and a certificate covers the ids of all
//! messages that its round came to. So a reveal, and those ids, show whoever verified the certificate which policy
//! a peer had. The hash is that of a tree ([`Content`]), so nothing else needs to be believed: every chunk of the
//! values is checked as it arrives. Shape, tokenizer and whatever else a policy is made of come from the model that
//! both began with, which the asker has: only numbers are taken from strangers.

use judge::PeerKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::admission::{self, Body};
use crate::engine::hash_of_items;
use crate::limits::{OFFERS_MAX, POLICY_ANSWER_BYTES_MAX, POLICY_REQUEST_BYTES_MAX, PROTOCOL};
use crate::manifest::Manifest;
use crate::topic::{SwarmId, Topic};
use crate::tree::Content;
use crate::wire::{self, DecodeError, Hash};

/// Asks a peer which policies it can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRequest {
    /// Protocol version.
    pub version: u32,
    /// Swarm.
    pub swarm: Hash,
    /// Offers wanted at most.
    pub policies: u32,
}

/// The answer to a [`PolicyRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// What it can give, the newest first.
    #[serde(deserialize_with = "wire::at_most::<_, _, OFFERS_MAX>")]
    pub offers: Vec<Offer>,
}

/// A policy that somebody can give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What is to be fetched: the values that training changed.
    pub values: Content,
    /// What they are put on, where they are an adapter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterOf>,
    /// Whose it is.
    pub evidence: Evidence,
}

/// What an adapter's hash covers besides its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterOf {
    /// Policy hash of the model beneath it.
    pub base: Hash,
    /// Bits of the f32 that its product is scaled by.
    pub scale: u32,
}

impl AdapterOf {
    /// Policy hash of the model with the adapter.
    fn policy(&self, values: &Hash) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 adapter");
        hasher.update(&self.base.0).update(&self.scale.to_le_bytes()).update(&values.0);
        Hash(*hasher.finalize().as_bytes())
    }
}

/// What shows whose policy it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The certificate that ended the round, by the hash of its statement.
    pub statement: Hash,
    /// Ids of the messages that it includes, joined, in the order of its `items`.
    pub ids: ByteBuf,
    /// Envelope of a reveal among them.
    pub reveal: ByteBuf,
}

/// A policy that a certificate covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Whose it is.
    pub peer: PeerKey,
    /// The round in which it answered with it.
    pub round: u32,
    /// Its hash.
    pub policy: Hash,
}

/// Why an offer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The ids are not those of the certificate.
    #[error("messages that the certificate does not include")]
    Items,
    /// No reveal, or not among the ids.
    #[error("no answer that the certificate includes")]
    Reveal,
    /// The reveal names another policy.
    #[error("another policy than the one that its author answered with")]
    Policy,
    /// A length that no policy has.
    #[error("a length that no policy has")]
    Length,
}

impl Evidence {
    pub(crate) fn new(statement: Hash, ids: &[Hash], reveal: &[u8]) -> Self {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        Self { statement, ids: ByteBuf::from(ids), reveal: ByteBuf::from(reveal) }
    }
}

impl Offer {
    /// Checks the offer against the `items` of the certificate that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(
        &self,
        manifest: &Manifest,
        swarm: &SwarmId,
        items: &Hash,
    ) -> Result<Certified, OfferError> {
        let (ids, rest) = self.evidence.ids.as_chunks::<32>();
        let ids: Vec<Hash> = ids.iter().map(|id| Hash(*id)).collect();
        if !rest.is_empty() || hash_of_items(&ids) != *items {
            return Err(OfferError::Items);
        }
        let message = admission::authenticate(swarm, Some(Topic::Answers), &self.evidence.reveal)
            .and_then(|message| admission::admit(manifest, message))
            .map_err(|_| OfferError::Reveal)?;
        let Body::Reveal(reveal) = &message.body else { return Err(OfferError::Reveal) };
        if !ids.contains(&message.id) {
            return Err(OfferError::Reveal);
        }
        if self.policy() != reveal.policy {
            return Err(OfferError::Policy);
        }
        if !self.values.is_sound() || !self.values.len.is_multiple_of(4) {
            return Err(OfferError::Length);
        }
        Ok(Certified { peer: message.sender, round: message.round, policy: reveal.policy })
    }

    /// Hash of the policy that it would make.
    pub fn policy(&self) -> Hash {
        self.adapter.map_or(self.values.hash, |adapter| adapter.policy(&self.values.hash))
    }
}

impl PolicyRequest {
    /// The bytes of a question.
    pub fn of(swarm: &SwarmId) -> Vec<u8> {
        wire::encode(&Self { version: PROTOCOL, swarm: Hash(swarm.0), policies: OFFERS_MAX as u32 })
    }
}

impl PolicyAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode(bytes, POLICY_ANSWER_BYTES_MAX)
    }

    /// Answers a question with as many of these as fit, the newest first; `None` for bytes that are none of this
    /// swarm.
    pub fn serve<'a>(
        request: &[u8],
        swarm: &SwarmId,
        offers: impl Iterator<Item = &'a Offer>,
    ) -> Option<Vec<u8>> {
        let request: PolicyRequest = wire::decode(request, POLICY_REQUEST_BYTES_MAX).ok()?;
        if request.version != PROTOCOL || request.swarm.0 != swarm.0 {
            return None;
        }
        let mut answer = Self::default();
        for offer in offers.take(OFFERS_MAX.min(request.policies as usize)) {
            answer.offers.push(offer.clone());
            if wire::encode(&answer).len() > POLICY_ANSWER_BYTES_MAX {
                answer.offers.pop();
            }
        }
        Some(wire::encode(&answer))
    }
}

#[cfg(test)]
mod tests;
