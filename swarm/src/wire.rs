//! The only place that turns values into bytes and back.
//!
//! MessagePack maps with field names (`rmp-serde`), so that any language can read them. Hashes and
//! signatures cover raw bytes as received, never a re-encoding: `from_slice` accepts several forms
//! of one value: a struct as the list of its values, an integer or a length in more bytes than it needs.
//! Sizes, declared lengths and nesting are checked before decoding, left-over bytes are refused, lists
//! end where their limits do, and no type on the wire is recursive.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scan;

/// A BLAKE3 hash; on the wire a byte string of 32.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hash of `parts` under a domain. Every part is preceded by its length (u64, little endian), so
    /// that no two lists of parts look alike.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(domain);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// A detached ed25519 signature; on the wire a byte string of 64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sig(pub [u8; 64]);

impl fmt::Debug for Sig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sig({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Serialize for Sig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// Reads a byte string of exactly `N` bytes.
fn fixed_bytes<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    struct Exactly<const N: usize>;
    impl<'de, const N: usize> Visitor<'de> for Exactly<N> {
        type Value = [u8; N];
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a byte string of {N} bytes")
        }
        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }
    deserializer.deserialize_bytes(Exactly)
}

/// Reads a list of at most `N` values; for fields, so that a message of empty values cannot take many times its
/// size in memory.
///
/// # Errors
/// A longer list, at its first value too many.
pub fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const N: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for AtMost<T, N> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {N} values")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::with_capacity(values.size_hint().unwrap_or(0).min(N));
            while let Some(value) = values.next_element()? {
                if list.len() == N {
                    return Err(de::Error::invalid_length(N + 1, &self));
                }
                list.push(value);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(AtMost::<T, N>(PhantomData))
}

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes than this kind of value may have; nothing was decoded.
    #[error("{len} bytes where at most {max} are allowed")]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not a MessagePack value of the expected shape.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Encodes a value. Total for the types of this crate: they have no shape MessagePack lacks.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    // Writing to memory cannot fail, and the types on the wire have no unsupported shape; an empty
    // result would fail every signature check and test.
    match value.serialize(&mut serializer) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Decodes a value of at most `max` bytes and nothing after it.
///
/// # Errors
/// [`DecodeError`] naming what is wrong with the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge { len: bytes.len(), max });
    }
    let follows = scan::value(bytes)?.len();
    if follows > 0 {
        return Err(DecodeError::Trailing(follows));
    }
    let mut rest = bytes;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Pair {
        hash: Hash,
        list: Vec<u16>,
    }

    #[test]
    fn what_is_encoded_decodes_and_nothing_may_follow() {
        let pair = Pair { hash: Hash([7; 32]), list: vec![1, 500] };
        let mut bytes = encode(&pair);
        assert_eq!(decode::<Pair>(&bytes, 1000), Ok(pair));
        assert!(matches!(decode::<Pair>(&bytes, 10), Err(DecodeError::TooLarge { .. })));
        bytes.push(0);
        assert_eq!(decode::<Pair>(&bytes, 1000), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        for bomb in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(decode::<Vec<u64>>(bomb, 100).is_err());
            assert!(decode::<Pair>(bomb, 100).is_err());
            assert!(decode::<Hash>(bomb, 100).is_err());
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Hash::of("d", &[b"ab", b"c"]), Hash::of("d", &[b"a", b"bc"]));
        assert_ne!(Hash::of("d", &[b"a"]), Hash::of("e", &[b"a"]));
    }
}
