//! A download on its way to its file.
//!
//! What came is in a file beside the target until all of it is there; then that one is synced and renamed. There is
//! no list of the chunks that are here: after a process was killed, or a computer lost its power, each chunk in the
//! file is checked like one that arrives, which takes a second for two gigabytes and believes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::tree::{CHUNK_BYTES, Content, Outline};

/// Where a download ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file; there only when all of it is.
    pub path: PathBuf,
    /// Bytes that stand before the content, such as the header of a weight file.
    pub prefix: Vec<u8>,
}

impl Target {
    /// Where it is until then.
    pub fn partial(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        self.path.with_file_name(name)
    }
}

/// A file that is being filled.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    /// Begun now: whatever it seems to hold, nobody gave it.
    fresh: bool,
    target: Target,
}

impl Partial {
    /// Opens it, or goes on with what an earlier process left.
    pub(super) fn open(target: Target, content: &Content) -> io::Result<Self> {
        if let Some(dir) = target.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let fresh = !target.partial().exists();
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(target.partial())?;
        // Room is taken as chunks are written, where the file system can leave holes.
        file.set_len(target.prefix.len() as u64 + content.len)?;
        file.write_all(&target.prefix)?;
        Ok(Self { file, fresh, target })
    }

    fn seek(&mut self, index: u32) -> io::Result<u64> {
        let at = self.target.prefix.len() as u64 + u64::from(index) * CHUNK_BYTES as u64;
        self.file.seek(SeekFrom::Start(at))
    }

    /// The chunks that are here.
    pub(super) fn here(&mut self, outline: &Outline) -> io::Result<Vec<u32>> {
        if self.fresh {
            return Ok(Vec::new());
        }
        self.seek(0)?;
        let (content, mut chunk, mut here) = (outline.content(), Vec::new(), Vec::new());
        for index in 0..content.chunks() {
            chunk.resize(content.chunk_len(index), 0);
            self.file.read_exact(&mut chunk)?;
            if outline.holds(index, &chunk) {
                here.push(index);
            }
        }
        Ok(here)
    }

    /// Takes a checked chunk.
    pub(super) fn write(&mut self, index: u32, bytes: &[u8]) -> io::Result<()> {
        self.seek(index)?;
        self.file.write_all(bytes)
    }

    /// Puts the whole file in its place.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(self.target.partial(), &self.target.path)?;
        let dir = self.target.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_file_counts_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 9).map(|i| (i % 249) as u8 ^ (i >> 20) as u8).collect();
        let outline = Outline::of(&mut &bytes[..]).unwrap();
        let content = outline.content();
        let target = Target { path: dir.path().join("deep/values"), prefix: b"head".to_vec() };
        let open = || Partial::open(target.clone(), &content).unwrap();
        let chunk = |index: usize| &bytes[index * CHUNK_BYTES..bytes.len().min((index + 1) * CHUNK_BYTES)];
        let mut file = open();
        assert_eq!(file.here(&outline).unwrap(), [] as [u32; 0]);
        [3, 1].into_iter().for_each(|index| file.write(index, chunk(index as usize)).unwrap());
        drop(file);
        let mut file = open();
        assert_eq!(file.here(&outline).unwrap(), [1, 3]);
        file.write(1, &vec![0; CHUNK_BYTES]).unwrap();
        assert_eq!(file.here(&outline).unwrap(), [3], "as a power cut may leave it");
        (0..3).for_each(|index| file.write(index, chunk(index as usize)).unwrap());
        assert!(!target.path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&target.path).unwrap(), [&b"head"[..], &bytes].concat());
        assert!(!target.partial().exists());
    }
}
