//! Packs on this machine, by content.
//!
//! ```text
//! packs/b3-HASH     the listing of a pack: a line `HASH SIZE PATH` for each file
//! files/ab/HASH     the content of a file
//! ```
//!
//! Equal files are stored once, so a fork of a pack costs what it changed. A listing verifies itself, because a pack's
//! address is the hash of it, and so does a file; what is damaged is told, never used. The store is in
//! `MURMUR_PACKS`, or else in `murmur/packs` below `XDG_DATA_HOME` or `~/.local/share`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tasks::{PackFiles, PackId};

use crate::state;

/// Packs on this machine.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What storing a pack came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Stored {
    /// Files that were not there yet.
    pub(crate) files: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
}

impl Store {
    /// The store that the environment names; it need not exist yet.
    ///
    /// # Errors
    /// The environment names no place.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let named = std::env::var_os("MURMUR_PACKS").filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = named.or_else(|| Some(state::data_dir()?.join("packs")));
        let root = root.context("there is no place for packs\nhint: set MURMUR_PACKS to a directory")?;
        Ok(Self { root })
    }

    /// Whether a pack is here.
    pub(crate) fn has(&self, id: &PackId) -> bool {
        self.listing_path(id).is_file()
    }

    /// Stores a pack; the listing comes last, so that a pack is here as a whole or not at all.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub(crate) fn put(&self, files: &PackFiles) -> anyhow::Result<Stored> {
        let mut stored = Stored { files: 0, bytes: 0 };
        for (_, content) in files.iter() {
            let path = self.file_path(blake3::hash(content).to_hex().as_str());
            // Written once and never changed; only a crash of the machine leaves a file of another length.
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() == content.len() as u64) {
                continue;
            }
            write(&path, content)?;
            stored = Stored { files: stored.files + 1, bytes: stored.bytes + content.len() };
        }
        write(&self.listing_path(&files.id()), files.listing().as_bytes())?;
        Ok(stored)
    }

    /// The files of a pack.
    ///
    /// # Errors
    /// A pack that is not here or damaged.
    pub(crate) fn get(&self, id: &PackId) -> anyhow::Result<PackFiles> {
        let path = self.listing_path(id);
        let listing = fs::read_to_string(&path).with_context(|| {
            format!("the pack {id} is not in the store {}\nhint: murmur task add FOLDER", self.root.display())
        })?;
        let Some(listed) = tasks::read_listing(id, &listing) else {
            bail!("{} is damaged\nhint: remove it and add the pack again", path.display());
        };
        let mut files = BTreeMap::new();
        for file in listed {
            let path = self.file_path(&file.hash);
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if blake3::hash(&content).to_hex().as_str() != file.hash {
                bail!("{} is damaged\nhint: remove it and add the pack again", path.display());
            }
            files.insert(file.path, content);
        }
        Ok(PackFiles::new(files)?)
    }

    /// The packs that are here, in order of their addresses.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<PackId>> {
        let dir = self.root.join("packs");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let name = entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
            ids.extend(name.to_str().and_then(|name| PackId::parse(&name.replacen('-', ":", 1))));
        }
        ids.sort();
        Ok(ids)
    }

    fn listing_path(&self, id: &PackId) -> PathBuf {
        self.root.join("packs").join(id.to_string().replace(':', "-"))
    }

    fn file_path(&self, hash: &str) -> PathBuf {
        self.root.join("files").join(&hash[..2]).join(hash)
    }
}

/// Writes a file as a whole: other processes see all of it or none.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let shown = path.display();
    let dir = path.parent().with_context(|| format!("{shown} has no folder"))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let fresh = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&fresh, content).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(task: &str, items: &str) -> PackFiles {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        PackFiles::new(BTreeMap::from([file("task.toml", task), file("items.jsonl", items)])).unwrap()
    }

    #[test]
    fn equal_files_are_stored_once_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { root: dir.path().join("deep/store") };
        assert!(store.list().unwrap().is_empty());
        let (first, fork) = (pack("a", &"items\n".repeat(1000)), pack("fork", &"items\n".repeat(1000)));
        assert_eq!(store.put(&first).unwrap(), Stored { files: 2, bytes: 6001 });
        assert_eq!(store.put(&fork).unwrap(), Stored { files: 1, bytes: 4 });
        assert_eq!(store.put(&fork).unwrap(), Stored { files: 0, bytes: 0 });
        let mut ids = vec![first.id(), fork.id()];
        ids.sort();
        assert_eq!(store.list().unwrap(), ids);
        assert_eq!(store.get(&fork.id()).unwrap(), fork);

        let error = store.get(&PackId([1; 32])).unwrap_err().to_string();
        assert!(error.contains("is not in the store") && error.contains("hint: "), "{error}");
        fs::write(store.file_path(blake3::hash(b"fork").to_hex().as_str()), "frok").unwrap();
        assert!(store.get(&fork.id()).unwrap_err().to_string().contains("is damaged"));
        assert_eq!(store.get(&first.id()).unwrap(), first);
        fs::write(store.listing_path(&first.id()), fork.listing()).unwrap();
        assert!(store.get(&first.id()).unwrap_err().to_string().contains("is damaged"));
    }
}
