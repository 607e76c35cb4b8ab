//! Who votes and what is voted on: peers by public key, candidates by content hash.

use crate::bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A peer: the 32 bytes of its ed25519 public key. Ordered by those bytes.
///
/// Displayed as eight hex digits; serialised as bytes, or as 64 hex digits in text formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

/// A distinct canonical answer to one prompt of a round, by content hash.
///
/// Eight bytes keep ballots small. Two answers that share an id would count as one candidate; finding such a
/// pair takes about 2³² hashes and gains its author nothing that proposing one of the two would not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandidateId(pub [u8; 8]);

/// Text that is not a key or id in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {digits} lower-case hex digits: {text:?}")]
pub struct HexError {
    /// How many digits were expected.
    pub digits: usize,
    /// The first characters of what was found.
    pub text: String,
}

impl PeerKey {
    /// All 64 hex digits.
    pub fn hex(&self) -> String {
        bytes::hex(&self.0)
    }
}

impl CandidateId {
    /// The id of a canonical answer: the first eight bytes of BLAKE3 over a domain tag, the prompt's index in its
    /// round (two bytes, little-endian) and the answer.
    ///
    /// ```
    /// # use judge::CandidateId;
    /// assert_eq!(CandidateId::of(3, "42"), CandidateId::of(3, "42"));
    /// assert_ne!(CandidateId::of(3, "42"), CandidateId::of(4, "42"), "another prompt, another candidate");
    /// ```
    pub fn of(prompt_index: u16, answer: &str) -> CandidateId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"murmur/candidate/1\0");
        hasher.update(&prompt_index.to_le_bytes());
        hasher.update(answer.as_bytes());
        let mut id = [0; 8];
        hasher.finalize_xof().fill(&mut id);
        CandidateId(id)
    }
}

macro_rules! byte_string {
    ($name:ident, $bytes:literal, $shown:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&bytes::hex(&self.0[..$shown]))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<$name, HexError> {
                let short = || text.chars().take(80).collect();
                bytes::from_hex(text).map($name).ok_or_else(|| HexError { digits: 2 * $bytes, text: short() })
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                bytes::serialize(&self.0, s)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$name, D::Error> {
                bytes::deserialize(d).map($name)
            }
        }
    };
}

byte_string!(PeerKey, 32, 4);
byte_string!(CandidateId, 8, 8);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn keys_are_bytes_on_the_wire_and_hex_in_text_also_as_map_keys() {
        let map = BTreeMap::from([(PeerKey([0xab; 32]), CandidateId([1; 8]))]);
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, format!("{{\"{}\":\"0101010101010101\"}}", "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<BTreeMap<PeerKey, CandidateId>>(&json).unwrap(), map);
        let wire = rmp_serde::to_vec(&map).unwrap();
        assert_eq!(
            wire.len(),
            1 + 2 + 32 + 2 + 8,
            "a map of one: two byte strings, each with a two-byte head"
        );
        assert_eq!(rmp_serde::from_slice::<BTreeMap<PeerKey, CandidateId>>(&wire).unwrap(), map);
        let list = rmp_serde::to_vec(&[1_u8; 8]).unwrap();
        assert_eq!(rmp_serde::from_slice::<CandidateId>(&list).unwrap(), CandidateId([1; 8]));
    }

    #[test]
    fn only_the_right_length_and_one_spelling_is_a_key() {
        for text in ["", "0", "0101", &"AB".repeat(32), &"g".repeat(64), &"é".repeat(32), &"00".repeat(33)] {
            assert!(text.parse::<PeerKey>().is_err(), "{text}");
            assert!(serde_json::from_value::<PeerKey>(text.into()).is_err(), "{text}");
        }
        for length in [0, 7, 9, 32] {
            let wire = rmp_serde::to_vec(&vec![1_u8; length]).unwrap();
            assert!(rmp_serde::from_slice::<CandidateId>(&wire).is_err(), "a list of {length}");
            let mut wire = vec![0xc4, length as u8];
            wire.resize(2 + length, 1);
            assert!(rmp_serde::from_slice::<CandidateId>(&wire).is_err(), "{length} bytes");
        }
        let key = PeerKey([0x5c; 32]);
        assert_eq!(key.hex().parse(), Ok(key));
        assert_eq!(
            (key.to_string().as_str(), format!("{key:?}").as_str()),
            ("5c5c5c5c", "PeerKey(5c5c5c5c)")
        );
    }

    #[test]
    fn candidate_ids_never_change() {
        assert_eq!(CandidateId::of(0, "42").to_string(), "d041fcba782c49b0");
        assert_eq!(CandidateId::of(258, "").to_string(), "c3cbce6f3fc20267");
    }
}
