//! Task packs from the disk and by name.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tasks::{Catalogue, ITEMS_BYTES_MAX, Pack, TASK_TOML_BYTES_MAX};

use crate::config::ConfigError;

/// A pack of a config and how often it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackSource {
    /// `native:six`, or the path of a folder with task.toml and items.jsonl.
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
        let pack = if source.id.starts_with("native:") {
            Pack::native(&source.id).ok_or_else(|| {
                ConfigError::new(
                    file,
                    format!("no native pack is called {:?}", source.id),
                    "use \"native:six\"",
                )
            })?
        } else {
            let files = read_folder(Path::new(&source.id))?;
            Pack::from_static(&files.task_toml, &files.items_jsonl).with_context(|| source.id.clone())?
        };
        packs.push((pack, source.weight));
    }
    Catalogue::new(packs).map_err(|error| ConfigError::new(file, error.to_string(), "see [[packs]]").into())
}

/// The text of a static pack.
#[derive(Debug)]
pub(crate) struct PackFiles {
    /// task.toml.
    pub(crate) task_toml: String,
    /// items.jsonl.
    pub(crate) items_jsonl: String,
}

/// Reads the two files of a pack.
///
/// # Errors
/// A file that is missing, a link or no plain file, too long, or not UTF-8.
pub(crate) fn read_folder(dir: &Path) -> anyhow::Result<PackFiles> {
    let meta =
        fs::symlink_metadata(dir).with_context(|| format!("cannot read the pack {}", dir.display()))?;
    if !meta.is_dir() {
        bail!(
            "{} is not a folder\nhint: give the folder that holds task.toml and items.jsonl",
            dir.display()
        );
    }
    Ok(PackFiles {
        task_toml: read_capped(&dir.join("task.toml"), TASK_TOML_BYTES_MAX)?,
        items_jsonl: read_capped(&dir.join("items.jsonl"), ITEMS_BYTES_MAX)?,
    })
}

/// Reads a plain file of at most `bytes_max`. A pack may come from a stranger: a link could point anywhere, and
/// a pipe would never end.
fn read_capped(path: &Path, bytes_max: usize) -> anyhow::Result<String> {
    let shown = path.display();
    let meta = fs::symlink_metadata(path)
        .with_context(|| format!("cannot read {shown}\nhint: a pack has task.toml and items.jsonl"))?;
    if !meta.is_file() {
        bail!("{shown} is not a plain file\nhint: packs must not contain links; copy the file itself");
    }
    if meta.len() > bytes_max as u64 {
        bail!("{shown} has {} bytes, at most {bytes_max} are allowed\nhint: split the pack", meta.len());
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > bytes_max {
        bail!("{shown} grew beyond {bytes_max} bytes while it was read");
    }
    String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_long_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::write(&real, "name = 1").unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("task.toml")).unwrap();
        let error = read_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a plain file"), "{error}");
        assert!(read_capped(&real, 8).is_ok());
        assert!(read_capped(&real, 7).unwrap_err().to_string().contains("8 bytes"));
    }

    #[test]
    fn unknown_native_packs_are_config_errors() {
        let sources = [PackSource { id: "native:sevn".into(), weight: 1 }];
        let Err(error) = catalogue("a.toml", &sources) else { panic!("accepted") };
        assert!(error.is::<ConfigError>(), "{error}");
        assert!(catalogue("a.toml", &native()).is_ok());
    }
}
