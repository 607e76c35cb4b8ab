//! A pack as one piece of bytes, to be sent.
//!
//! The listing, an empty line, and the contents of the files in its order. There is one archive of a pack and no
//! other, and it proves itself: the listing hashes to the pack's address, and each file to its line.

use std::collections::BTreeMap;

use crate::files::{FILES_MAX, PACK_BYTES_MAX, PATH_BYTES_MAX, PackFiles, read_listing};
use crate::item::PackId;

/// Bytes of the longest line of a listing: hash, size and path.
const LINE_BYTES_MAX: usize = 64 + 1 + 8 + 1 + PATH_BYTES_MAX + 1;
/// Bytes of the longest archive.
pub const ARCHIVE_BYTES_MAX: usize = FILES_MAX * LINE_BYTES_MAX + 1 + PACK_BYTES_MAX;

impl PackFiles {
    /// The pack's archive.
    ///
    /// ```
    /// let files = tasks::PackFiles::new([("task.toml".to_owned(), b"name = \"a\"".to_vec())].into()).unwrap();
    /// assert_eq!(tasks::PackFiles::from_archive(&files.id(), &files.archive()), Some(files));
    /// ```
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = self.listing().into_bytes();
        archive.push(b'\n');
        self.iter().for_each(|(_, content)| archive.extend(content));
        archive
    }

    /// The pack of an archive, if it is the one of this address.
    pub fn from_archive(id: &PackId, archive: &[u8]) -> Option<Self> {
        let listing_max = FILES_MAX * LINE_BYTES_MAX + 1;
        let head = &archive[..archive.len().min(listing_max)];
        let end = head.windows(2).position(|pair| pair == b"\n\n")? + 1;
        let (listing, mut rest) = (std::str::from_utf8(&archive[..end]).ok()?, &archive[end + 1..]);
        let mut files = BTreeMap::new();
        for file in read_listing(id, listing)? {
            let (content, behind) = rest.split_at_checked(file.size)?;
            if blake3::hash(content).to_hex().as_str() != file.hash {
                return None;
            }
            files.insert(file.path, content.to_vec());
            rest = behind;
        }
        let files = Self::new(files).ok()?;
        (rest.is_empty() && files.id() == *id).then_some(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> PackFiles {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        PackFiles::new(
            [file("task.toml", "a\n\nb"), file("data/empty", ""), file("items.jsonl", "{}")].into(),
        )
        .unwrap()
    }

    #[test]
    fn an_archive_is_its_pack_and_any_other_bytes_are_not() {
        let (files, archive) = (pack(), pack().archive());
        assert_eq!(PackFiles::from_archive(&files.id(), &archive), Some(files.clone()));
        assert!(archive.ends_with(b"\n\n{}a\n\nb"), "{}", String::from_utf8_lossy(&archive));
        for at in 0..archive.len() {
            let mut other = archive.clone();
            other[at] ^= 1;
            assert_eq!(PackFiles::from_archive(&files.id(), &other), None, "byte {at} is another");
            assert_eq!(PackFiles::from_archive(&files.id(), &archive[..at]), None, "cut at {at}");
        }
        let longer = [&archive[..], b"x"].concat();
        assert_eq!(PackFiles::from_archive(&files.id(), &longer), None);
        assert_eq!(PackFiles::from_archive(&PackId([1; 32]), &archive), None);
    }

    #[test]
    fn a_listing_that_no_pack_has_is_refused_although_it_hashes_to_its_name() {
        for listing in [
            "0000000000000000000000000000000000000000000000000000000000000000 18446744073709551615 task.toml\n",
            "0000000000000000000000000000000000000000000000000000000000000000 0 ../task.toml\n",
            "",
            "\n",
        ] {
            let id = PackId(blake3::derive_key("murmur v1 pack", listing.as_bytes()));
            let archive = [listing.as_bytes(), b"\nx"].concat();
            assert_eq!(PackFiles::from_archive(&id, &archive), None, "{listing}");
        }
        // The longest archive is one of as many files, paths and bytes as a pack may have.
        let name = |i: usize| format!("{i:02}{}", "x".repeat(PATH_BYTES_MAX - 2));
        let mut files: BTreeMap<String, Vec<u8>> = (2..FILES_MAX).map(|i| (name(i), Vec::new())).collect();
        files.insert("task.toml".into(), Vec::new());
        let rest = PACK_BYTES_MAX;
        files.insert(name(0), vec![0; rest]);
        let files = PackFiles::new(files).unwrap();
        assert!(files.archive().len() <= ARCHIVE_BYTES_MAX);
        assert_eq!(PackFiles::from_archive(&files.id(), &files.archive()), Some(files));
    }
}
