//! The files of a pack and their identity.
//!
//! The content address is a hash over the sorted lines `HASH SIZE PATH` of all files: no times, modes or owners. The
//! list of these lines is all one needs to ask for the files one by one, and it verifies itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::{PackError, at};
use crate::item::PackId;

/// Files of a pack.
pub const FILES_MAX: usize = 64;
/// Bytes of all files of a pack.
pub const PACK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a file's path in a pack.
pub const PATH_BYTES_MAX: usize = 80;
/// The one file that every pack has.
pub const TASK_TOML: &str = "task.toml";

/// The files of a pack: path and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackFiles(BTreeMap<String, Vec<u8>>);

impl PackFiles {
    /// The files, if their paths and sizes are those of a pack.
    ///
    /// # Errors
    /// A path that could leave the pack or hide in it, too many files, too many bytes, no `task.toml`.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, PackError> {
        if !files.contains_key(TASK_TOML) {
            return Err(at(TASK_TOML, 0, "is missing", "`murmur task new NAME` writes a pack to start from"));
        }
        if files.len() > FILES_MAX {
            let message = format!("one of {} files", files.len());
            return Err(at(TASK_TOML, 0, message, format!("a pack has at most {FILES_MAX}")));
        }
        if let Some(path) = files.keys().find(|path| !is_plain(path)) {
            let hint =
                "letters, digits, '.', '-' and '_', at most one folder deep, no name that begins with '.'";
            return Err(at(path, 0, "a path that a pack cannot have", hint));
        }
        let bytes: usize = files.values().map(Vec::len).sum();
        if bytes > PACK_BYTES_MAX {
            let largest = files.iter().max_by_key(|(_, content)| content.len()).map_or("", |(path, _)| path);
            let message = format!("the files have {bytes} bytes together, this one most of them");
            return Err(at(largest, 0, message, format!("at most {PACK_BYTES_MAX}; split the pack in two")));
        }
        Ok(Self(files))
    }

    /// Content address.
    pub fn id(&self) -> PackId {
        PackId(blake3::derive_key("murmur v1 pack", self.listing().as_bytes()))
    }

    /// The lines `HASH SIZE PATH`, sorted by path.
    pub fn listing(&self) -> String {
        let mut listing = String::new();
        for (path, content) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(listing, "{} {} {path}", blake3::hash(content), content.len());
        }
        listing
    }

    /// Paths and contents, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// The content of a file.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    /// The text of a file of at most `bytes_max`; `None` when there is no such file.
    pub(crate) fn text(&self, path: &str, bytes_max: usize) -> Result<Option<&str>, PackError> {
        let Some(content) = self.get(path) else { return Ok(None) };
        if content.len() > bytes_max {
            let message = format!("{} bytes, at most {bytes_max} are allowed", content.len());
            return Err(at(path, 0, message, "make it shorter"));
        }
        std::str::from_utf8(content).map(Some).map_err(|error| {
            let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            at(path, line, "is not UTF-8 text", "save the file as UTF-8")
        })
    }
}

/// Whether a path is one that a pack may have, on every system.
pub fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let parts: Vec<&str> = path.split('/').collect();
    path.len() <= PATH_BYTES_MAX
        && parts.len() <= 2
        && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain))
}

/// One line of a listing: hash, size and path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// BLAKE3 of the content, 64 hexadecimal digits.
    pub hash: String,
    /// Bytes.
    pub size: usize,
    /// Path in the pack.
    pub path: String,
}

/// The files of a listing, if it is the one of `id`.
pub fn read_listing(id: &PackId, listing: &str) -> Option<Vec<Listed>> {
    if blake3::derive_key("murmur v1 pack", listing.as_bytes()) != id.0 {
        return None;
    }
    let mut files = Vec::new();
    for line in listing.lines() {
        let mut parts = line.split(' ');
        let (hash, size, path) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let hex = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !is_plain(path) || parts.next().is_some() || files.len() == FILES_MAX {
            return None;
        }
        files.push(Listed { hash: hash.to_owned(), size, path: path.to_owned() });
    }
    let bytes = files.iter().try_fold(0_usize, |sum, file| sum.checked_add(file.size))?;
    (bytes <= PACK_BYTES_MAX).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(files: &[(&str, &str)]) -> Result<PackFiles, PackError> {
        PackFiles::new(files.iter().map(|(path, text)| ((*path).into(), text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn the_identity_is_the_content_and_nothing_else() {
        let files = pack(&[("task.toml", "a"), ("items.jsonl", "b")]).unwrap();
        assert_eq!(files.id(), pack(&[("items.jsonl", "b"), ("task.toml", "a")]).unwrap().id());
        assert_ne!(files.id(), pack(&[("task.toml", "b"), ("items.jsonl", "a")]).unwrap().id());
        assert_ne!(files.id(), pack(&[("task.toml", "a"), ("items.jsonx", "b")]).unwrap().id());
        // Configs name packs by it: it stays what it is.
        let pinned = "b3:807ba0c7c917fa1ef5a65dc6b8d7db6e3218ff6c44c111aef5f4f5a13009269c";
        assert_eq!(files.id().to_string(), pinned);
        let listed = read_listing(&files.id(), &files.listing()).unwrap();
        assert_eq!((listed.len(), listed[0].path.as_str(), listed[0].size), (2, "items.jsonl", 1));
        assert_eq!(read_listing(&files.id(), &files.listing().replace(" 1 ", " 2 ")), None);
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["task.toml", "data/words.txt", "a-b_c.1"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/b/c",
            "a//b",
            ".git",
            "data/.x",
            "a b",
            "a\\b",
            "ä",
            "a\0",
        ] {
            assert!(!is_plain(path), "{path}");
            let error = pack(&[("task.toml", ""), (path, "")]).unwrap_err().to_string();
            assert!(error.contains("a path that a pack cannot have"), "{error}");
        }
        assert!(!is_plain(&"x".repeat(PATH_BYTES_MAX + 1)));
        let listing = "0000000000000000000000000000000000000000000000000000000000000000 1 ../x\n";
        let id = PackId(blake3::derive_key("murmur v1 pack", listing.as_bytes()));
        assert_eq!(read_listing(&id, listing), None);
    }

    #[test]
    fn large_packs_are_refused() {
        let long = "x".repeat(PACK_BYTES_MAX);
        let error = pack(&[("task.toml", "a"), ("items.jsonl", &long)]).unwrap_err().to_string();
        assert!(error.starts_with("items.jsonl: ") && error.contains("split the pack"), "{error}");
        let names: Vec<String> = (0..FILES_MAX).map(|i| format!("f{i}")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        files.push(("task.toml", ""));
        assert!(pack(&files).unwrap_err().to_string().contains("at most 64"));
        assert!(pack(&files[..1]).unwrap_err().to_string().contains("is missing"));
    }
}
