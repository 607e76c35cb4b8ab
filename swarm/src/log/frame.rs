//! Frames: how records follow each other in the file.

use std::io;
use std::path::PathBuf;

use crate::limits::{COMPLETION_BYTES_MAX, COMPLETIONS_MAX, ENVELOPE_BYTES_MAX};
use crate::wire::Hash;

/// Bytes of one record: the largest are a gap's certificates and state, which come from one repair answer, and the
/// bodies of reveals. A longer one is refused before memory is taken.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;
const _: () = assert!(
    COMPLETIONS_MAX as usize * (COMPLETION_BYTES_MAX as usize + 5) + ENVELOPE_BYTES_MAX <= RECORD_BYTES_MAX
);
/// Bytes before a body.
pub(super) const HEAD_BYTES: usize = 8;
/// Bytes after a body.
pub(super) const CHECKSUM_BYTES: usize = 8;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read or written.
    #[error("log {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A frame that was written whole is not as it was written.
    #[error(
        "log {path}, record {record} at byte {offset}: {why}\nhint: restore it from a copy; to go on without its past, move it away"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Position of the record, from 0.
        record: u64,
        /// Where its frame begins.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The log is of another peer or swarm.
    #[error("log {path} is {what}\nhint: move it away, or use another directory")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        what: &'static str,
    },
    /// A record that no reader would take.
    #[error("a record of {len} bytes is too long for the log, which takes {RECORD_BYTES_MAX}")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
}

/// The chain after one more body.
pub(super) fn link(chain: &Hash, body: &[u8]) -> Hash {
    Hash::of("murmur v1 log", &[&chain.0, body])
}

/// The checksum of a frame that brings the chain to `chain`.
pub(super) fn checksum(chain: &Hash) -> [u8; CHECKSUM_BYTES] {
    let mut bytes = [0; CHECKSUM_BYTES];
    bytes.copy_from_slice(&chain.0[..CHECKSUM_BYTES]);
    bytes
}

/// A frame around `body`, and the chain after it.
///
/// # Errors
/// [`LogError::TooLong`].
pub(super) fn frame(chain: &Hash, body: &[u8]) -> Result<(Vec<u8>, Hash), LogError> {
    let too_long = LogError::TooLong { len: body.len() };
    if body.len() > RECORD_BYTES_MAX {
        return Err(too_long);
    }
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    let next = link(chain, body);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + CHECKSUM_BYTES);
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(body);
    bytes.extend(checksum(&next));
    Ok((bytes, next))
}

/// The length that a frame's head declares; `None` when its two halves disagree.
pub(super) fn declared(head: &[u8; HEAD_BYTES]) -> Option<u32> {
    let (length, complement) = head.split_first_chunk::<4>()?;
    let (complement, _) = complement.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    (length == !u32::from_le_bytes(*complement)).then_some(length)
}
