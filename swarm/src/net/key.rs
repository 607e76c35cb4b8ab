//! libp2p's names for peers and ours: both are the same ed25519 public key.

use judge::PeerKey;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::{PeerId, identity};

use crate::identity::Identity;

/// What stands before the 32 bytes of an ed25519 key in a peer id: an identity multihash of a protobuf.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The transport's name for a peer; `None` where the bytes are no key.
pub fn peer_id(peer: &PeerKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The key in a transport name; `None` where it is of another kind than ed25519.
pub fn peer_key(peer: &PeerId) -> Option<PeerKey> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PREFIX)?;
    Some(PeerKey(key.try_into().ok()?))
}

/// The transport's form of the signing key.
pub(super) fn keypair(identity: &Identity) -> Result<Keypair, identity::DecodingError> {
    Keypair::ed25519_from_bytes(identity.seed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_the_same_thing() {
        for seed in 0..32 {
            let identity = Identity::from_seed([seed; 32]);
            let id = keypair(&identity).unwrap().public().to_peer_id();
            assert_eq!(peer_id(&identity.public()), Some(id));
            assert_eq!(peer_key(&id), Some(identity.public()));
        }
    }

    #[test]
    fn what_is_no_ed25519_key_has_no_name() {
        let no_point = (0..=255).map(|byte| PeerKey([byte; 32])).find(|key| peer_id(key).is_none());
        assert!(no_point.is_some(), "half of all byte strings are not on the curve");
        let hashed = PeerId::from_bytes(&[&[0x12, 0x20][..], &[7; 32]].concat()).unwrap();
        assert_eq!(peer_key(&hashed), None, "the hash of an RSA key");
        let short = PeerId::from_bytes(&[0x00, 0x03, 1, 2, 3]).unwrap();
        assert_eq!(peer_key(&short), None);
    }
}
