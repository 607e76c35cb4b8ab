//! Following the certificates of a swarm without taking part, as a newcomer does before it has a policy.
//!
//! The same questions and the same checks as in [`engine`](crate::engine)'s repair, from the genesis or a
//! checkpoint: what a certificate says is believed for its signatures, the judge's state for the hash in the newest
//! one. Of every certificate passed on the way, what it includes is remembered, so that a policy which an older one
//! covers is recognised. No IO.

use std::collections::BTreeMap;

use crate::certificate::unverified;
use crate::chain::Link;
use crate::checkpoint::Checkpoint;
use crate::engine::STATE_DOMAIN;
use crate::limits::{CHAIN_MAX, CHECKPOINT_VIEWS, PROTOCOL, REPAIR_BYTES_MAX};
use crate::manifest::Manifest;
use crate::message::{RepairAnswer, RepairRequest, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// What somebody knows of a swarm from its certificates alone.
#[derive(Debug)]
pub struct Follower {
    manifest: Manifest,
    swarm: SwarmId,
    /// Where to begin, until there is a certificate.
    checkpoint: Option<Checkpoint>,
    /// Verified certificates from the newest final one on, by hash.
    links: BTreeMap<Hash, Link>,
    newest: Option<Link>,
    /// Whether an answer did not follow from the newest: then what is final is asked for.
    lost: bool,
    /// Round and `items` of every certificate passed, by hash.
    passed: BTreeMap<Hash, (u32, Hash)>,
    /// The judge's state after the newest, once somebody gave it.
    state: Option<(Hash, judge::State)>,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// It does not decode.
    #[error("no answer")]
    Malformed,
    /// A certificate that does not follow, or without the signatures that it needs.
    #[error("certificates that do not verify")]
    Certificate,
    /// Certificates that begin nowhere known.
    #[error("certificates that begin nowhere known")]
    Unknown,
    /// Certificates without the checkpoint, or with too few before it.
    #[error("certificates that do not include the checkpoint and enough before it")]
    Checkpoint,
    /// A state of another certificate.
    #[error("a state that its certificate does not cover")]
    State,
}

impl Follower {
    /// One that knows the manifest, and perhaps a certificate that its operator trusts.
    pub fn new(manifest: Manifest, checkpoint: Option<Checkpoint>) -> Self {
        Self {
            swarm: manifest.id(),
            manifest,
            checkpoint,
            links: BTreeMap::new(),
            newest: None,
            lost: false,
            passed: BTreeMap::new(),
            state: None,
        }
    }

    /// What to ask a peer.
    pub fn request(&self) -> Vec<u8> {
        let (view, head) = match (&self.newest, self.checkpoint) {
            (Some(newest), _) if self.lost => (newest.place.final_view, newest.hash),
            // The state comes with the newest certificate only, so the last is asked for again.
            (Some(newest), _) => (newest.statement.view.saturating_sub(1), Hash::default()),
            (None, Some(checkpoint)) => {
                (checkpoint.view.saturating_sub(CHECKPOINT_VIEWS), Hash(self.swarm.0))
            }
            (None, None) => (0, Hash(self.swarm.0)),
        };
        let have = Vec::new();
        wire::encode(&RepairRequest { version: PROTOCOL, swarm: Hash(self.swarm.0), view, head, have })
    }

    /// Takes an answer; whether there is more to ask for.
    ///
    /// # Errors
    /// It shows nothing; what is known already stays.
    pub fn take(&mut self, answer: &[u8]) -> Result<bool, FollowError> {
        let answer: RepairAnswer =
            wire::decode(answer, 2 * REPAIR_BYTES_MAX).map_err(|_| FollowError::Malformed)?;
        let mut certificates = &answer.certificates[..];
        if let (None, Some(checkpoint)) = (&self.newest, self.checkpoint)
            && !certificates.is_empty()
        {
            certificates = self.begin(certificates, &checkpoint)?;
        }
        for bytes in certificates {
            self.pass(bytes)?;
        }
        self.lost = false;
        let Some(state) = answer.state else { return Ok(!answer.certificates.is_empty()) };
        let hash = Hash::of(STATE_DOMAIN, &[&state]);
        let newest = self.newest.as_ref().filter(|newest| newest.statement.state == hash);
        let statement = newest.map(|newest| newest.hash).ok_or(FollowError::State)?;
        let state = wire::decode(&state, REPAIR_BYTES_MAX).map_err(|_| FollowError::State)?;
        self.state = Some((statement, state));
        Ok(false)
    }

    /// From the checkpoint; the certificates after it.
    fn begin<'a>(
        &mut self,
        all: &'a [serde_bytes::ByteBuf],
        checkpoint: &Checkpoint,
    ) -> Result<&'a [serde_bytes::ByteBuf], FollowError> {
        let shown: Vec<(Hash, Statement)> = all.iter().map_while(|bytes| unverified(bytes)).collect();
        let at = shown.iter().position(|(hash, _)| *hash == checkpoint.statement);
        let (before, after) = all.split_at(at.ok_or(FollowError::Checkpoint)? + 1);
        let link = Link::vouched(before, &self.manifest, &self.swarm, &checkpoint.statement)
            .map_err(|_| FollowError::Checkpoint)?;
        for (hash, statement) in &shown[..before.len()] {
            self.passed.insert(*hash, (statement.round, statement.items));
        }
        self.add(link);
        Ok(after)
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<(), FollowError> {
        let (hash, statement) = unverified(bytes).ok_or(FollowError::Certificate)?;
        if self.links.contains_key(&hash) {
            return Ok(());
        }
        let parent = self.links.get(&statement.parent);
        if parent.is_none() && (statement.parent.0 != self.swarm.0 || self.checkpoint.is_some()) {
            self.lost = true;
            return Err(FollowError::Unknown);
        }
        let link = Link::verify(bytes, &self.manifest, &self.swarm, parent, |_, _| false);
        self.add(link.map_err(|_| FollowError::Certificate)?);
        Ok(())
    }

    fn add(&mut self, link: Link) {
        self.passed.insert(link.hash, (link.statement.round, link.statement.items));
        self.links.insert(link.hash, link.clone());
        if self.newest.as_ref().is_none_or(|newest| link.rank() > newest.rank()) {
            let (round, final_view) = (link.statement.round, link.place.final_view);
            self.links.retain(|_, link| link.statement.view >= final_view);
            if self.passed.len() > CHAIN_MAX {
                let oldest = round.saturating_sub(CHAIN_MAX as u32 / 2);
                self.passed.retain(|_, (round, _)| *round >= oldest);
            }
            self.newest = Some(link);
        }
    }

    /// What a certificate includes, by the hash of its statement, if it was verified here.
    pub fn items(&self, statement: &Hash) -> Option<Hash> {
        self.passed.get(statement).map(|(_, items)| *items)
    }

    /// The newest certificate.
    pub fn newest(&self) -> Option<&Statement> {
        self.newest.as_ref().map(|newest| &newest.statement)
    }

    /// The judge's state after the newest certificate, once it is here.
    pub fn state(&self) -> Option<&judge::State> {
        let newest = self.newest.as_ref()?.hash;
        self.state.as_ref().filter(|(of, _)| *of == newest).map(|(_, state)| state)
    }
}

#[cfg(test)]
mod tests;
