//! Reading a log: one record at a time, nothing believed before it was checked.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::frame::{CHECKSUM_BYTES, HEAD_BYTES, LogError, RECORD_BYTES_MAX, checksum, declared, link};
use super::record::Record;
use crate::wire::{self, Hash};

/// Bytes read at once while looking for anything but zeros.
const CHUNK_BYTES: usize = 4096;

/// A record and its place.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Position of the record, from 0.
    pub index: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// The chain before it.
    pub before: Hash,
    /// The record.
    pub record: Record,
}

/// A frame that the file ends within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins.
    pub offset: u64,
    /// What is there of it.
    pub bytes: u64,
}

/// A log being read.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes of the file when it was opened; what a running peer appends meanwhile is left out.
    len: u64,
    offset: u64,
    records: u64,
    chain: Hash,
    torn: Option<Torn>,
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(io(io::Error::other("not a plain file")));
        }
        Ok(Self::new(path, file, meta.len()))
    }

    pub(super) fn new(path: &Path, file: File, len: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            file: BufReader::new(file),
            len,
            offset: 0,
            records: 0,
            chain: Hash::default(),
            torn: None,
        }
    }

    /// The next record; `None` at the end, or at a torn tail.
    ///
    /// # Errors
    /// [`LogError::Io`], or [`LogError::Damaged`] for a complete frame that is not as it was written.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, LogError> {
        let left = self.len.saturating_sub(self.offset);
        if left == 0 || self.torn.is_some() {
            return Ok(None);
        }
        if left < HEAD_BYTES as u64 {
            return Ok(self.ends_within(left));
        }
        let mut head = [0; HEAD_BYTES];
        self.read(&mut head)?;
        let Some(length) = declared(&head) else {
            if head.iter().all(|byte| *byte == 0) && self.only_zeros(left)? {
                return Ok(self.ends_within(left));
            }
            return Err(self.damaged("its length is not as it was written"));
        };
        if length as usize > RECORD_BYTES_MAX {
            return Err(self.damaged("it declares more bytes than a record may have"));
        }
        let whole = (HEAD_BYTES + CHECKSUM_BYTES) as u64 + u64::from(length);
        if left < whole {
            return Ok(self.ends_within(left));
        }
        let mut body = vec![0; length as usize];
        self.read(&mut body)?;
        let mut sum = [0; CHECKSUM_BYTES];
        self.read(&mut sum)?;
        let chain = link(&self.chain, &body);
        if sum != checksum(&chain) {
            return Err(
                self.damaged("its checksum is wrong: it was changed, or a record before it was removed")
            );
        }
        let record: Record =
            wire::decode(&body, RECORD_BYTES_MAX).map_err(|why| self.damaged(&why.to_string()))?;
        let frame = Frame { index: self.records, offset: self.offset, before: self.chain, record };
        self.chain = chain;
        self.offset += whole;
        self.records += 1;
        Ok(Some(frame))
    }

    /// The torn tail, once it was reached.
    pub fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// Bytes of complete records read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The chain after them.
    pub fn chain(&self) -> Hash {
        self.chain
    }

    fn ends_within(&mut self, bytes: u64) -> Option<Frame> {
        self.torn = Some(Torn { offset: self.offset, bytes });
        None
    }

    /// Whether the rest of the file, of which `left` bytes began with a head, is zero.
    fn only_zeros(&mut self, left: u64) -> Result<bool, LogError> {
        let mut left = left.saturating_sub(HEAD_BYTES as u64);
        let mut chunk = [0; CHUNK_BYTES];
        while left > 0 {
            let now = left.min(CHUNK_BYTES as u64) as usize;
            self.read(&mut chunk[..now])?;
            if chunk[..now].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            left -= now as u64;
        }
        Ok(true)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), LogError> {
        self.file.read_exact(bytes).map_err(|source| LogError::Io { path: self.path.clone(), source })
    }

    fn damaged(&self, why: &str) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            record: self.records,
            offset: self.offset,
            why: why.to_owned(),
        }
    }
}
