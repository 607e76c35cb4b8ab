//! Blobs: bytes too large for a message, named by what they are and carried in chunks.
//!
//! A blob's hash covers its length and the hashes of its chunks, so everything about it follows from its
//! [`Address`]: the list of chunk hashes (the *outline*) is checked against the address, and each chunk
//! against the outline as it arrives. Whoever lies is found within one chunk, and what is here already is kept
//! whoever brings the rest. No IO: [`Assembly`] and [`Store`] hold what others carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::wire::Hash;

/// Bytes of a chunk; the last one of a blob may be shorter.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of the largest blob; a larger one has no address.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the largest outline.
pub const OUTLINE_BYTES_MAX: usize = BLOB_BYTES_MAX.div_ceil(CHUNK_BYTES) * 32;

const BLOB: &str = "murmur v1 blob";
const CHUNK: &str = "murmur v1 blob chunk";

/// The name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// `H("murmur v1 blob"; u32 length, chunk hashes joined)`.
    pub hash: Hash,
    /// Its bytes, 1 to [`BLOB_BYTES_MAX`].
    pub len: u32,
}

/// Why bytes are not part of a blob, or not a blob at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Empty, or more than wanted.
    #[error("a blob of {len} bytes where 1 to {max} are allowed")]
    Length {
        /// Its bytes.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the list of chunk hashes that the address names.
    #[error("a list of chunks that the address does not cover")]
    Outline,
    /// There is no such chunk, or its hash is not known yet.
    #[error("chunk {0}, which nobody asked for")]
    Unasked(u32),
    /// Not the bytes of this chunk.
    #[error("chunk {0} with other bytes than its hash names")]
    Chunk(u32),
}

/// A part of a blob that can be asked for: the outline, or one chunk. Outlines come first in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The hashes of all chunks, joined.
    Outline,
    /// One chunk, by position.
    Chunk(u32),
}

/// Asks a peer for a part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRequest {
    /// The blob.
    pub blob: Address,
    /// Which part of it.
    pub part: Part,
}

/// The answer to a [`BlobRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobAnswer {
    /// The part.
    Part(ByteBuf),
    /// The peer does not have the blob, or the blob has no such part.
    Absent,
    /// The asker has had its share for now; it may ask again after so many milliseconds.
    Busy(u32),
}

impl Address {
    /// The address of `bytes`, which must be a blob's.
    ///
    /// # Errors
    /// [`BlobError::Length`].
    pub fn of(bytes: &[u8]) -> Result<Self, BlobError> {
        check_len(bytes.len(), BLOB_BYTES_MAX)?;
        Ok(Self::over(bytes.len() as u32, &outline(bytes)))
    }

    fn over(len: u32, outline: &[u8]) -> Self {
        Self { hash: Hash::of(BLOB, &[&len.to_le_bytes(), outline]), len }
    }

    fn chunks(&self) -> u32 {
        self.len.div_ceil(CHUNK_BYTES as u32)
    }

    /// Bytes of a part; 0 for a chunk beyond the end.
    pub fn part_len(&self, part: Part) -> usize {
        match part {
            Part::Outline => self.chunks() as usize * 32,
            Part::Chunk(index) => (self.len as usize).saturating_sub(at(index)).min(CHUNK_BYTES),
        }
    }
}

fn check_len(len: usize, max: usize) -> Result<(), BlobError> {
    let max = max.min(BLOB_BYTES_MAX);
    if (1..=max).contains(&len) { Ok(()) } else { Err(BlobError::Length { len, max }) }
}

/// Where a chunk begins.
fn at(index: u32) -> usize {
    (index as usize).saturating_mul(CHUNK_BYTES)
}

fn outline(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(CHUNK_BYTES).flat_map(|chunk| Hash::of(CHUNK, &[chunk]).0).collect()
}

/// A whole blob, ready to be served.
#[derive(Clone, Debug)]
pub struct Blob {
    address: Address,
    outline: Vec<u8>,
    bytes: Vec<u8>,
}

impl Blob {
    /// The blob of `bytes`.
    ///
    /// # Errors
    /// [`BlobError::Length`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, BlobError> {
        check_len(bytes.len(), BLOB_BYTES_MAX)?;
        let outline = outline(&bytes);
        Ok(Self { address: Address::over(bytes.len() as u32, &outline), outline, bytes })
    }

    /// Its name.
    pub fn address(&self) -> Address {
        self.address
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A part of it, if it has it.
    pub fn part(&self, part: Part) -> Option<&[u8]> {
        match part {
            Part::Outline => Some(&self.outline),
            Part::Chunk(index) => {
                self.bytes.get(at(index)..)?.chunks(CHUNK_BYTES).next().filter(|chunk| !chunk.is_empty())
            }
        }
    }

    #[cfg(all(test, feature = "net"))]
    pub(crate) fn damage(&mut self, at: usize) {
        self.bytes[at] ^= 1;
    }
}

/// A blob on its way in. Parts may come from anybody, in any order, more than once.
///
/// ```
/// use swarm::blob::{Assembly, Blob, Part};
/// let blob = Blob::new(vec![7; 100_000]).unwrap();
/// let mut assembly = Assembly::new(blob.address(), 100_000).unwrap();
/// for part in [Part::Outline, Part::Chunk(1), Part::Chunk(0)] {
///     assembly.insert(part, blob.part(part).unwrap()).unwrap();
/// }
/// assert_eq!(assembly.finish().as_deref(), Some(blob.bytes()));
/// ```
#[derive(Clone, Debug)]
pub struct Assembly {
    address: Address,
    /// Empty until it is known; a blob of one chunk needs none.
    outline: Vec<u8>,
    /// Which chunks are here.
    here: Vec<bool>,
    missing: usize,
    /// As long as the blob once a chunk is here; the system gives memory to what is written only.
    bytes: Vec<u8>,
}

impl Assembly {
    /// Begins a blob of at most `bytes_max` bytes. Takes a byte of memory for each chunk and nothing more.
    ///
    /// # Errors
    /// [`BlobError::Length`]: the declared length is checked before anything is fetched.
    pub fn new(address: Address, bytes_max: usize) -> Result<Self, BlobError> {
        check_len(address.len as usize, bytes_max)?;
        let chunks = address.chunks() as usize;
        Ok(Self {
            address,
            outline: Vec::new(),
            here: vec![false; chunks],
            missing: chunks,
            bytes: Vec::new(),
        })
    }

    /// The blob's name.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The parts that can be asked for now: the outline alone while it is needed and unknown.
    pub fn wanted(&self) -> impl Iterator<Item = Part> + '_ {
        let outline = (self.here.len() > 1 && self.outline.is_empty()).then_some(Part::Outline);
        let chunks = self.here.iter().enumerate().filter(move |(_, here)| outline.is_none() && !**here);
        outline.into_iter().chain(chunks.map(|(index, _)| Part::Chunk(index as u32)))
    }

    /// Takes a part; whether it was new. A refused one changes nothing.
    ///
    /// # Errors
    /// The part is not what the address and the outline name, or was not [wanted](Self::wanted).
    pub fn insert(&mut self, part: Part, bytes: &[u8]) -> Result<bool, BlobError> {
        match part {
            Part::Outline => self.insert_outline(bytes),
            Part::Chunk(index) => self.insert_chunk(index, bytes),
        }
    }

    fn insert_outline(&mut self, outline: &[u8]) -> Result<bool, BlobError> {
        if outline.len() != self.address.part_len(Part::Outline)
            || Address::over(self.address.len, outline) != self.address
        {
            return Err(BlobError::Outline);
        }
        let new = self.outline.is_empty();
        self.outline = outline.to_vec();
        Ok(new)
    }

    fn insert_chunk(&mut self, index: u32, bytes: &[u8]) -> Result<bool, BlobError> {
        let position = index as usize;
        let here = *self.here.get(position).ok_or(BlobError::Unasked(index))?;
        if bytes.len() != self.address.part_len(Part::Chunk(index)) {
            return Err(BlobError::Chunk(index));
        }
        let hash = Hash::of(CHUNK, &[bytes]);
        if self.outline.is_empty() {
            if self.here.len() > 1 {
                return Err(BlobError::Unasked(index));
            }
            self.insert_outline(&hash.0).map_err(|_| BlobError::Chunk(index))?;
        } else if self.outline.get(position * 32..position * 32 + 32) != Some(&hash.0[..]) {
            return Err(BlobError::Chunk(index));
        }
        if here {
            return Ok(false);
        }
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.address.len as usize];
        }
        let start = at(index);
        if let Some(room) = self.bytes.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.here[position] = true;
        self.missing -= 1;
        Ok(true)
    }

    /// Whether every chunk is here.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The blob's bytes, if they are all here.
    pub fn finish(self) -> Option<Vec<u8>> {
        (self.missing == 0).then_some(self.bytes)
    }
}

/// Blobs kept for others to fetch, by the round that needs them, or for good.
///
/// Keeping a blob of a round drops all blobs of rounds before the previous one. Those of the two newest rounds
/// stay: when they and those kept for good fill the budget, a further blob is not kept.
#[derive(Debug)]
pub struct Store {
    /// No round for those kept for good.
    blobs: BTreeMap<Address, (Option<u32>, Blob)>,
    newest: u32,
    bytes: usize,
    bytes_max: usize,
}

impl Store {
    /// An empty store for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { blobs: BTreeMap::new(), newest: 0, bytes: 0, bytes_max }
    }

    /// Keeps a blob for a round; whether there is room.
    pub fn keep(&mut self, round: u32, blob: Blob) -> bool {
        self.newest = self.newest.max(round);
        let oldest = self.newest.saturating_sub(1);
        self.blobs.retain(|_, (round, _)| round.is_none_or(|round| round >= oldest));
        self.bytes = self.blobs.values().map(|(_, blob)| blob.bytes.len()).sum();
        if let Some((of, _)) = self.blobs.get_mut(&blob.address) {
            *of = of.map(|of| round.max(of));
            return true;
        }
        round >= oldest && self.insert(Some(round), blob)
    }

    /// Keeps a blob for good if all of those then have at most `bytes_max`; whether there was room.
    pub fn pin(&mut self, blob: Blob, bytes_max: usize) -> bool {
        let pinned = self.blobs.values().filter(|(round, _)| round.is_none());
        let pinned: usize = pinned.map(|(_, blob)| blob.bytes.len()).sum();
        match self.blobs.get_mut(&blob.address) {
            Some((None, _)) => true,
            _ if pinned + blob.bytes.len() > bytes_max => false,
            Some((round, _)) => {
                *round = None;
                true
            }
            None => self.insert(None, blob),
        }
    }

    /// Drops a blob that was kept for good.
    pub fn unpin(&mut self, address: &Address) {
        if let Some((None, blob)) = self.blobs.get(address) {
            self.bytes -= blob.bytes.len();
            self.blobs.remove(address);
        }
    }

    fn insert(&mut self, round: Option<u32>, blob: Blob) -> bool {
        if self.bytes + blob.bytes.len() > self.bytes_max {
            return false;
        }
        self.bytes += blob.bytes.len();
        self.blobs.insert(blob.address, (round, blob));
        true
    }

    /// A blob, if it is here.
    pub fn get(&self, address: &Address) -> Option<&Blob> {
        self.blobs.get(address).map(|(_, blob)| blob)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(all(test, feature = "net"))]
    pub(crate) fn damage(&mut self, address: &Address, at: usize) {
        self.blobs.get_mut(address).unwrap().1.damage(at);
    }
}

#[cfg(test)]
mod tests;
