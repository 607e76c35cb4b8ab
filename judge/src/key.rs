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
