//! Task packs by what a config or the user calls them.
//!
//! | name | means |
//! |---|---|
//! | `native:six`, `native:gcd` | families inside this binary |
//! | `b3:` and 64 hexadecimal digits | the pack of this content in the store (`murmur task add`) |
//! | anything else | the folder of this path |
//!
//! Behind each, `@2` or `@1-3` takes only these levels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tasks::{Catalogue, PACK_BYTES_MAX, Pack, PackFiles};

use crate::config::{self, ConfigError};
use crate::sandbox;
use crate::store::Store;

/// Names that a wrong one may have meant.
const ALIKE_MAX: usize = 3;
/// How much alike they are at least: names are short, and heard as often as read.
const ALIKE_LEAST: f64 = 0.65;

/// A pack of a config and how often it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackSource {
    /// `native:six`, the content address of a stored pack, or the path of a folder.
    pub(crate) id: String,
    /// Relative to the other packs.
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

fn one() -> u32 {
    1
}

/// The packs that are there without any config.
pub(crate) fn native() -> Vec<PackSource> {
    vec![PackSource { id: "native:six".into(), weight: 1 }]
}

/// The catalogue of the packs; `file` is the config they come from.
///
/// # Errors
/// [`ConfigError`] for an unknown native pack or packs that make no catalogue; else what is wrong with a folder.
pub(crate) fn catalogue(file: &str, sources: &[PackSource]) -> anyhow::Result<Catalogue> {
    let mut packs = Vec::with_capacity(sources.len());
    for source in sources {
        let pack = native_pack(file, &source.id)?.map_or_else(|| open(&source.id), Ok)?;
        packs.push((pack, source.weight));
    }
    Catalogue::new(packs).map_err(|error| ConfigError::new(file, error.to_string(), "see [[packs]]").into())
}

/// A pack inside this binary; `None` for a name of another kind. `file` is where the name stands.
///
/// # Errors
/// No native pack has this name, or these levels.
pub(crate) fn native_pack(file: &str, name: &str) -> Result<Option<Pack>, ConfigError> {
    if let Some(pack) = Pack::native(name) {
        return Ok(Some(pack));
    }
    let Some(inner) = name.strip_prefix("native:") else { return Ok(None) };
    let (plain, levels) = inner.rsplit_once('@').unwrap_or((inner, ""));
    if let Some(pack) = Pack::native(&format!("native:{plain}")) {
        let have: Vec<String> = pack.levels().iter().map(u8::to_string).collect();
        let what = format!("native:{plain} has no level {levels}");
        return Err(ConfigError::new(file, what, format!("it has {}", have.join(", "))));
    }
    let families =
        tasks::families().flat_map(|family| [family.name().to_owned(), family.category().to_string()]);
    let known: BTreeSet<String> = families.chain(["six".to_owned()]).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let alike = config::alike(plain, &known, ALIKE_LEAST).into_iter().take(ALIKE_MAX);
    let hint = match alike.map(|name| format!("native:{name}")).collect::<Vec<_>>()[..] {
        [] => "`murmur task list` names them and their levels".into(),
        ref alike => format!("did you mean {}?", alike.join(" or ")),
    };
    Err(ConfigError::new(file, format!("no native pack is called {plain:?}"), hint))
}

/// A pack from the store or a folder; its script runs in a process of its own.
///
/// # Errors
/// What is wrong with the pack, or that it is not there.
pub(crate) fn open(name: &str) -> anyhow::Result<Pack> {
    let (place, levels) = tasks::split_levels(name).unwrap_or((name, None));
    let pack = Pack::open(&read(place)?, &sandbox::run).with_context(|| place.to_owned())?;
    let Some(levels) = levels else { return Ok(pack) };
    let have: Vec<String> = pack.levels().iter().map(u8::to_string).collect();
    pack.with_levels(levels).with_context(|| {
        format!("{name} has no such level to train on\nhint: {place} has {}", have.join(", "))
    })
}

/// What a manifest names a pack by: `native:NAME` or its content address, with the levels that were asked for. A
/// folder goes to the store, where joining looks for it.
///
/// # Errors
/// As [`open`], and a store that cannot be written.
pub(crate) fn pin(name: &str) -> anyhow::Result<String> {
    if native_pack(name, name)?.is_some() {
        return Ok(name.to_owned());
    }
    open(name)?;
    let (place, _) = tasks::split_levels(name).unwrap_or((name, None));
    let files = read(place)?;
    Store::open()?.put(&files)?;
    Ok(format!("{}{}", files.id(), &name[place.len()..]))
}

/// A native pack, or one from the store or a folder.
///
/// # Errors
/// As [`open`].
pub(crate) fn named(name: &str) -> anyhow::Result<Pack> {
    native_pack(name, name)?.map_or_else(|| open(name), Ok)
}

/// The files of a pack in the store or in a folder.
///
/// # Errors
/// As [`Store::get`] and [`read_folder`].
pub(crate) fn read(name: &str) -> anyhow::Result<PackFiles> {
    match tasks::PackId::parse(name) {
        Some(id) => Store::open()?.get(&id),
        None if name.starts_with("b3:") => {
            bail!(
                "{name} is no content address\nhint: b3: and 64 hexadecimal digits, as `murmur task hash` prints it"
            )
        }
        None => read_folder(Path::new(name)),
    }
}

/// Reads the files of a pack's folder; names that begin with a dot are no part of it.
///
/// # Errors
/// A file that is a link or no plain file, too many bytes, what [`PackFiles::new`] refuses.
pub(crate) fn read_folder(dir: &Path) -> anyhow::Result<PackFiles> {
    let meta = fs::symlink_metadata(dir)
        .with_context(|| format!("cannot read the pack {}\nhint: give its folder", dir.display()))?;
    if !meta.is_dir() {
        bail!("{} is not a folder\nhint: give the folder that holds task.toml", dir.display());
    }
    let mut reader = FolderReader { files: BTreeMap::new(), bytes_left: PACK_BYTES_MAX };
    reader.read(dir, "")?;
    PackFiles::new(reader.files).with_context(|| dir.display().to_string())
}

/// Reads plain files only. A pack may come from a stranger: a link could point anywhere, and a pipe would never end.
struct FolderReader {
    files: BTreeMap<String, Vec<u8>>,
    bytes_left: usize,
}

impl FolderReader {
    fn read(&mut self, dir: &Path, prefix: &str) -> anyhow::Result<()> {
        let shown = dir.display();
        for entry in fs::read_dir(dir).with_context(|| format!("cannot read {shown}"))? {
            let entry = entry.with_context(|| format!("cannot read {shown}"))?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!("{shown} holds a name that is not UTF-8\nhint: rename it");
            };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            if self.files.len() > tasks::FILES_MAX {
                bail!(
                    "{shown} holds more than {} files\nhint: a pack has few; move the others",
                    tasks::FILES_MAX
                );
            }
            let kind = entry.file_type().with_context(|| format!("cannot read {path}"))?;
            if kind.is_dir() && prefix.is_empty() {
                self.read(&entry.path(), &format!("{name}/"))?;
            } else {
                let content = self.plain_file(&entry.path())?;
                self.files.insert(path, content);
            }
        }
        Ok(())
    }

    fn plain_file(&mut self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let shown = path.display();
        let meta = fs::symlink_metadata(path).with_context(|| format!("cannot read {shown}"))?;
        if !meta.is_file() {
            bail!("{shown} is not a plain file\nhint: packs must not contain links; copy the file itself");
        }
        let mut content = Vec::new();
        let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        file.take(self.bytes_left as u64 + 1)
            .read_to_end(&mut content)
            .with_context(|| format!("cannot read {shown}"))?;
        let Some(left) = self.bytes_left.checked_sub(content.len()) else {
            bail!("the pack has more than {PACK_BYTES_MAX} bytes with {shown}\nhint: split the pack in two");
        };
        self.bytes_left = left;
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_without_following_anything() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |part: &str| {
            let error = format!("{:#}", read_folder(dir.path()).unwrap_err());
            assert!(error.contains(part) && error.contains("hint: "), "{error}");
        };
        refused("task.toml: is missing");
        fs::write(dir.path().join("task.toml"), "name = 1").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/words.txt"), "a").unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(read_folder(dir.path()).unwrap().iter().count(), 2);

        fs::create_dir(dir.path().join("data/deep")).unwrap();
        refused("deep is not a plain file");
        fs::remove_dir(dir.path().join("data/deep")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        refused("link is not a plain file");
        fs::remove_file(dir.path().join("link")).unwrap();
        fs::write(dir.path().join("a b"), "").unwrap();
        refused("a path that a pack cannot have");
        fs::remove_file(dir.path().join("a b")).unwrap();
        File::create(dir.path().join("long")).unwrap().set_len(PACK_BYTES_MAX as u64 + 1).unwrap();
        refused("split the pack in two");
        fs::remove_file(dir.path().join("long")).unwrap();
        for i in 0..=tasks::FILES_MAX {
            fs::write(dir.path().join(format!("f{i}")), "").unwrap();
        }
        refused("more than 64 files");
    }

    #[test]
    fn unknown_native_packs_are_config_errors() {
        for (id, expected) in [
            ("native:gcd@9", "a.toml: native:gcd has no level 9\nhint: it has 1, 2, 3, 4, 5"),
            ("native:gcd@hard", "a.toml: native:gcd has no level hard\nhint: it has 1, 2, 3, 4, 5"),
            (
                "native:",
                "a.toml: no native pack is called \"\"\nhint: `murmur task list` names them and their levels",
            ),
        ] {
            let Err(error) = catalogue("a.toml", &[PackSource { id: id.into(), weight: 1 }]) else {
                panic!("accepted {id}")
            };
            assert!(error.is::<ConfigError>(), "{error}");
            assert_eq!(error.to_string(), expected);
        }
        for (id, meant) in [("native:sicks", "native:six"), ("native:knigths", "did you mean native:knights")]
        {
            let error = native_pack("a.toml", id).unwrap_err().to_string();
            assert!(error.contains(meant), "{error}");
        }
        assert!(catalogue("a.toml", &native()).is_ok());
    }
}
