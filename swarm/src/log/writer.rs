//! Writing a log: appending, sealing, and going on where an earlier start left off.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::frame::{LogError, frame};
use super::reader::{Reader, Torn};
use super::record::{Header, Record, SEAL_DOMAIN, Seal};
use crate::identity::Identity;
use crate::limits::PROTOCOL;
use crate::manifest::Manifest;
use crate::topic::SwarmId;
use crate::wire::{self, Hash, Sig};

/// Bytes of marks after which a seal is written even without a certificate, so that a seal stays a small record.
const MARKS_BYTES_MAX: usize = 256 * 1024;

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Records of earlier starts; 0 for a new log.
    pub records: u64,
    /// The torn tail that was cut off.
    pub torn: Option<Torn>,
    /// Whether the start before ended in good order; true for a new log.
    pub closed: bool,
}

/// A log being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    identity: Identity,
    swarm: SwarmId,
    chain: Hash,
    records: u64,
    marks: Vec<u8>,
}

impl Writer {
    /// Opens the log of a peer to append to it, or begins it. A torn tail is cut.
    ///
    /// # Errors
    /// [`LogError`]; a log that is damaged, or of another peer or swarm, stays as it is.
    pub fn open(path: &Path, identity: &Identity, manifest: &Manifest) -> Result<(Self, Opening), LogError> {
        Self::open_with(path, identity, manifest, |_| {})
    }

    /// As [`Self::open`]; `note` sees every record that is there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        path: &Path,
        identity: &Identity,
        manifest: &Manifest,
        note: impl FnMut(&Record),
    ) -> Result<(Self, Opening), LogError> {
        let io = |source| LogError::Io { path: path.to_path_buf(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let swarm = manifest.id();
        let header = Header {
            version: PROTOCOL,
            swarm: Hash(swarm.0),
            manifest: wire::encode(manifest),
            peer: identity.public(),
        };
        let len = file.metadata().map_err(io)?.len();
        let mut reader = Reader::new(path, file.try_clone().map_err(io)?, len);
        let (marks, closed) = read_back(path, &mut reader, &header, note)?;
        let opening = Opening { records: reader.records(), torn: reader.torn(), closed };
        file.set_len(reader.offset()).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut log = Self {
            path: path.to_path_buf(),
            file,
            identity: identity.clone(),
            swarm,
            chain: reader.chain(),
            records: reader.records(),
            marks,
        };
        if log.records == 0 {
            log.append(&Record::Header(header))?;
        }
        log.sync()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok((log, opening))
    }

    /// Appends a record; a certificate is sealed at once.
    ///
    /// # Errors
    /// [`LogError::TooLong`], or [`LogError::Io`], after which the log must be opened again.
    pub fn append(&mut self, record: &Record) -> Result<(), LogError> {
        self.write(record)?;
        let round_ends = matches!(record, Record::Certificate { .. } | Record::Gap { .. });
        if round_ends || self.marks.len() >= MARKS_BYTES_MAX { self.seal(false) } else { Ok(()) }
    }

    /// Seals the log for good: a reader will know that nothing is missing at its end.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn close(mut self) -> Result<(), LogError> {
        self.seal(true)
    }

    fn seal(&mut self, closing: bool) -> Result<(), LogError> {
        let (records, head) = (self.records, self.chain);
        let marks = std::mem::take(&mut self.marks);
        let mut seal = Seal { records, head, marks, closing, signature: Sig([0; 64]) };
        seal.signature = Sig(self.identity.sign(SEAL_DOMAIN, &seal.signed(&self.swarm).0));
        self.write(&Record::Seal(seal))?;
        self.sync()
    }

    fn write(&mut self, record: &Record) -> Result<(), LogError> {
        let (bytes, chain) = frame(&self.chain, &wire::encode(record))?;
        self.file.write_all(&bytes).map_err(|source| self.io(source))?;
        self.chain = chain;
        self.records += 1;
        self.marks.extend(record.parts().iter().flat_map(|(_, mark)| *mark));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> LogError {
        LogError::Io { path: self.path.clone(), source }
    }
}

/// Reads an existing log to its end: the marks since its last seal, that one's included, and whether it is closed.
fn read_back(
    path: &Path,
    reader: &mut Reader,
    header: &Header,
    mut note: impl FnMut(&Record),
) -> Result<(Vec<u8>, bool), LogError> {
    let foreign = |what| LogError::Foreign { path: path.to_path_buf(), what };
    let (mut marks, mut closed) = (Vec::new(), true);
    while let Some(frame) = reader.next_frame()? {
        match (&frame.record, frame.index) {
            (Record::Header(found), 0) if found.swarm != header.swarm => {
                return Err(foreign("of another swarm"));
            }
            (Record::Header(found), 0) if found.peer != header.peer => {
                return Err(foreign("of another peer"));
            }
            (Record::Header(_), 0) => {}
            (_, 0) | (Record::Header(_), _) => return Err(foreign("not a log that begins with its header")),
            _ => {}
        }
        note(&frame.record);
        if let Record::Seal(_) = &frame.record {
            marks.clear();
        }
        closed = matches!(&frame.record, Record::Seal(seal) if seal.closing);
        marks.extend(frame.record.parts().iter().flat_map(|(_, mark)| *mark));
    }
    Ok((marks, closed))
}
