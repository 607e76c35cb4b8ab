//! Task packs between peers: who has one, and under which name its archive can be fetched.
//!
//! The name of a pack is a hash of its content, that of a blob another one. So whoever lacks a pack asks for its
//! blob first; what comes is then checked against the pack's own name, and a wrong answer is told by it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tasks::PackId;

use crate::blob::Address;
use crate::limits::{PACK_ANSWER_BYTES_MAX, PACK_REQUEST_BYTES_MAX, PROTOCOL};
use crate::topic::SwarmId;
use crate::wire::{self, DecodeError, Hash};

/// Asks a peer for the blob of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRequest {
    /// Protocol version.
    pub version: u32,
    /// Swarm.
    pub swarm: Hash,
    /// Content address of the pack.
    pub pack: Hash,
}

/// The answer to a [`PackRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackAnswer {
    /// The blob that is the pack's archive, if the peer has it.
    pub blob: Option<Address>,
}

impl PackRequest {
    /// The bytes of a question.
    pub fn of(swarm: &SwarmId, pack: &PackId) -> Vec<u8> {
        wire::encode(&Self { version: PROTOCOL, swarm: Hash(swarm.0), pack: Hash(pack.0) })
    }
}

impl PackAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode(bytes, PACK_ANSWER_BYTES_MAX)
    }
}

/// The packs that a peer gives to others.
#[derive(Clone, Debug)]
pub struct Shelf {
    swarm: SwarmId,
    packs: BTreeMap<PackId, Address>,
}

impl Shelf {
    /// An empty shelf of a swarm's peer.
    pub fn new(swarm: SwarmId) -> Self {
        Self { swarm, packs: BTreeMap::new() }
    }

    /// Says from now on where a pack is.
    pub fn add(&mut self, pack: PackId, blob: Address) {
        self.packs.insert(pack, blob);
    }

    /// Has a pack no more; where it was.
    pub fn remove(&mut self, pack: &PackId) -> Option<Address> {
        self.packs.remove(pack)
    }

    /// Answers a question about a pack; `None` for bytes that are none of this swarm.
    pub fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        let request: PackRequest = wire::decode(request, PACK_REQUEST_BYTES_MAX).ok()?;
        let ours = request.version == PROTOCOL && request.swarm.0 == self.swarm.0;
        let blob = self.packs.get(&PackId(request.pack.0)).copied();
        ours.then(|| wire::encode(&PackAnswer { blob }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RepairRequest;

    #[test]
    fn questions_about_packs_are_answered_and_nothing_else() {
        let (swarm, pack) = (SwarmId([1; 32]), PackId([2; 32]));
        let mut shelf = Shelf::new(swarm);
        let ask = |shelf: &Shelf| {
            let answer = shelf.serve(&PackRequest::of(&swarm, &pack)).unwrap();
            PackAnswer::read(&answer).unwrap().blob
        };
        assert_eq!(ask(&shelf), None);
        let blob = Address::of(b"archive").unwrap();
        shelf.add(pack, blob);
        assert_eq!(ask(&shelf), Some(blob));
        assert_eq!((shelf.clone().remove(&pack), shelf.clone().remove(&PackId([9; 32]))), (Some(blob), None));
        assert_eq!(shelf.serve(&PackRequest::of(&SwarmId([3; 32]), &pack)), None);

        let (swarm, head) = (Hash(swarm.0), Hash::default());
        let repair = RepairRequest { version: PROTOCOL, swarm, view: 0, head, have: Vec::new() };
        assert_eq!(shelf.serve(&wire::encode(&repair)), None, "the engine's to answer");
        assert_eq!(shelf.serve(&[0; 300]), None);
    }
}
