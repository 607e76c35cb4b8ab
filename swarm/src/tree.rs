//! The hash of a policy's values as a tree, so that every mebibyte of them can be checked by itself.
//!
//! BLAKE3 *is* a tree: the hash that a peer's reveals name, and certificates thereby cover, is the root over the
//! chaining values of any aligned pieces of the values. The list of those of all chunks (the *outline*) is checked
//! against the hash before a chunk is asked for, and each chunk against the outline before it is written. So
//! nothing had to be added to the protocol for others to fetch what a hash names, and whoever lies is found within
//! one chunk. No IO but reading.

use std::io::{self, Read};

use blake3::Hasher;
use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use serde::{Deserialize, Serialize};

use crate::wire::Hash;

/// Bytes of a chunk; the last one may be shorter. A power of two of BLAKE3's own chunks, as its tree asks.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes of the largest content; anything larger has no chunks.
pub const CONTENT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// What a policy's values are hashed under.
const DOMAIN: &str = "murmur v1 weights";

/// The name of a policy's values: `f32`, little endian, in the order of Hugging Face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Content {
    /// BLAKE3 in derive-key mode over the values.
    pub hash: Hash,
    /// Bytes, 1 to [`CONTENT_BYTES_MAX`].
    pub len: u64,
}

impl Content {
    /// Whether the length is one that a content may have.
    pub fn is_sound(&self) -> bool {
        (1..=CONTENT_BYTES_MAX).contains(&self.len)
    }

    /// Its chunks.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.len.min(CONTENT_BYTES_MAX).div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
    }

    /// Bytes of a chunk; 0 beyond the end.
    pub fn chunk_len(&self, index: u32) -> usize {
        let left = self.len.saturating_sub(u64::from(index) * CHUNK_BYTES as u64);
        usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)
    }

    /// Bytes of the outline; none for a single chunk, which the hash itself covers.
    pub fn outline_len(&self) -> usize {
        if self.chunks() == 1 { 0 } else { self.chunks() as usize * 32 }
    }
}

/// The chaining values of all chunks of a content, checked against its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    content: Content,
    values: Vec<ChainingValue>,
}

impl Outline {
    /// The outline of a content from its bytes on the wire; `None` if they are another's, or the content's length is
    /// none.
    pub fn read(content: Content, bytes: &[u8]) -> Option<Self> {
        if !content.is_sound() || bytes.len() != content.outline_len() {
            return None;
        }
        let values: Vec<ChainingValue> = bytes.as_chunks().0.to_vec();
        (values.is_empty() || root(&values) == content.hash).then_some(Self { content, values })
    }

    /// Hashes all of a source; content and outline.
    ///
    /// # Errors
    /// The source cannot be read, is empty or too long.
    pub fn of(source: &mut impl Read) -> io::Result<Self> {
        let (mut values, mut len, mut chunk) = (Vec::new(), 0, Vec::with_capacity(CHUNK_BYTES));
        let mut first = Hash::default();
        loop {
            chunk.clear();
            source.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            if values.is_empty() {
                first = whole(&chunk);
            }
            values.push(value(values.len() as u32, &chunk));
            len += chunk.len() as u64;
            if len > CONTENT_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "more bytes than a content may have",
                ));
            }
        }
        match values.len() {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no bytes")),
            1 => Ok(Self { content: Content { hash: first, len }, values: Vec::new() }),
            _ => Ok(Self { content: Content { hash: root(&values), len }, values }),
        }
    }

    /// What it outlines.
    pub fn content(&self) -> Content {
        self.content
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        self.values.as_flattened()
    }

    /// Whether these are the bytes of a chunk.
    pub fn holds(&self, index: u32, bytes: &[u8]) -> bool {
        let of_length = !bytes.is_empty() && bytes.len() == self.content.chunk_len(index);
        of_length
            && match self.values.get(index as usize) {
                Some(expected) => value(index, bytes) == *expected,
                None => self.values.is_empty() && whole(bytes) == self.content.hash,
            }
    }
}

/// Asks a peer for a part of a content, on a stream: a length (u32, big endian), then this. Each part comes as a
/// length, 0 if the peer does not have it, and as many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// The content.
    pub content: Content,
    /// Which part of it.
    pub part: RangePart,
}

/// A part of a content that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangePart {
    /// The chaining values of all chunks, joined.
    Outline,
    /// Chunks, one after the other.
    Chunks {
        /// Position of the first.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// The hash of a content of one chunk.
fn whole(chunk: &[u8]) -> Hash {
    Hash(*Hasher::new_derive_key(DOMAIN).update(chunk).finalize().as_bytes())
}

/// The chaining value of one chunk of several.
fn value(index: u32, chunk: &[u8]) -> ChainingValue {
    let offset = u64::from(index) * CHUNK_BYTES as u64;
    Hasher::new_derive_key(DOMAIN).set_input_offset(offset).update(chunk).finalize_non_root()
}

/// The hash over two or more chaining values.
fn root(values: &[ChainingValue]) -> Hash {
    let key = hazmat::hash_derive_key_context(DOMAIN);
    let mode = Mode::DeriveKeyMaterial(&key);
    let (left, right) = halves(values);
    Hash(*hazmat::merge_subtrees_root(&merged(left, mode), &merged(right, mode), mode).as_bytes())
}

/// Recursion as deep as the logarithm of the chunks.
fn merged(values: &[ChainingValue], mode: Mode) -> ChainingValue {
    match values {
        [] => ChainingValue::default(),
        [one] => *one,
        _ => {
            let (left, right) = halves(values);
            hazmat::merge_subtrees_non_root(&merged(left, mode), &merged(right, mode), mode)
        }
    }
}

/// As BLAKE3 splits: the left half is the largest power of two that leaves something to the right.
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().div_ceil(2).next_power_of_two().min(values.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 ^ (i / CHUNK_BYTES) as u8).collect()
    }

    #[test]
    fn the_tree_ends_in_the_hash_that_reveals_name_whatever_the_length() {
        const M: usize = CHUNK_BYTES;
        for len in [1, 1024, M - 1, M, M + 1, 2 * M, 3 * M, 4 * M + 7, 5 * M, 7 * M - 1, 8 * M] {
            let bytes = bytes(len);
            let outline = Outline::of(&mut &bytes[..]).unwrap();
            let content = outline.content();
            assert_eq!(content.hash.0, blake3::derive_key(DOMAIN, &bytes), "{len} bytes");
            assert_eq!((content.len, outline.bytes().len()), (len as u64, content.outline_len()));
            assert_eq!(Outline::read(content, outline.bytes()).as_ref(), Some(&outline));
            let chunks = bytes.chunks(M).enumerate();
            assert!(chunks.clone().all(|(index, chunk)| outline.holds(index as u32, chunk)));
            assert_eq!(chunks.count(), content.chunks() as usize);
        }
    }

    #[test]
    fn nothing_else_passes() {
        let bytes = bytes(3 * CHUNK_BYTES + 5);
        let outline = Outline::of(&mut &bytes[..]).unwrap();
        let (content, good) = (outline.content(), outline.bytes());
        for at in 0..good.len() {
            let mut other = good.to_vec();
            other[at] ^= 1;
            assert_eq!(Outline::read(content, &other), None, "byte {at}");
        }
        assert_eq!(Outline::read(content, &good[..good.len() - 32]), None);
        for len in [0, content.len - CHUNK_BYTES as u64, content.len + CHUNK_BYTES as u64, u64::MAX] {
            assert_eq!(Outline::read(Content { len, ..content }, good), None, "{len} bytes");
        }
        let chunk = &bytes[CHUNK_BYTES..2 * CHUNK_BYTES];
        assert!(outline.holds(1, chunk) && !outline.holds(0, chunk) && !outline.holds(4, chunk));
        assert!(!outline.holds(3, &bytes[3 * CHUNK_BYTES..3 * CHUNK_BYTES + 4]) && !outline.holds(3, &[]));
        assert!(Outline::of(&mut &[][..]).is_err());
        let single = Outline::of(&mut &bytes[..9]).unwrap();
        assert!(single.holds(0, &bytes[..9]) && !single.holds(0, &bytes[1..10]) && !single.holds(1, &[]));
    }
}
