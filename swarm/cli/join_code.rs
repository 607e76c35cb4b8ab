//! Everything that somebody needs to join a swarm, in one word: `murmur join murmur1…`.
//!
//! The word is base64 of a little TOML: the `[swarm]` section without what is default, where to meet it, and how a
//! policy for it computes. Its beginning of the swarm's id tells whether it arrived whole, and whether this version of
//! Murmur has the same defaults as the one that wrote it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use swarm::identity::Identity;
use swarm::manifest::Manifest;
use toml::{Table, Value};

use crate::config::{self, ConfigError};
use crate::new::{self, ModelPreset, NewPeer};
use crate::state::{self, StateLock, identity_path};

/// What a code begins with; the digit is its version.
const PREFIX: &str = "murmur1";
/// Bytes of a code; a manifest that lists many peers has some kilobytes.
const CODE_BYTES_MAX: usize = 64 * 1024;
/// Peers of one swarm on one machine that joined by its code.
const PEERS_HERE_MAX: usize = 64;
/// Characters of a swarm's name in the name of a folder.
const NAME_CHARS_MAX: usize = 32;

/// What a code says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinCode {
    /// The first digits of the swarm's id.
    id: String,
    model: ModelPreset,
    /// Addresses of peers or relay points to meet first.
    bootstrap: Vec<String>,
    /// Whether its peers are on one local network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lan: bool,
    swarm: Manifest,
}

impl JoinCode {
    pub(crate) fn new(swarm: Manifest, model: ModelPreset, bootstrap: Vec<String>, lan: bool) -> Self {
        Self { id: swarm.id().short(), model, bootstrap, lan, swarm }
    }

    /// The code as one word.
    ///
    /// # Errors
    /// A manifest that TOML cannot hold.
    pub(crate) fn to_text(&self) -> anyhow::Result<String> {
        let mut table = Table::try_from(self).context("the code cannot be written")?;
        table.insert("swarm".into(), Value::Table(without_defaults(&self.swarm)?));
        let text = toml::to_string(&table).context("the code cannot be written")?;
        Ok(format!("{PREFIX}{}", BASE64.encode(text.trim_end())))
    }

    /// Reads the argument of `murmur join`; `None` if it is a path.
    ///
    /// # Errors
    /// A code that is damaged, or of a version with other defaults.
    pub(crate) fn parse(argument: &Path) -> Result<Option<Self>, ConfigError> {
        let Some(coded) = argument.to_str().and_then(|text| text.strip_prefix(PREFIX)) else {
            return Ok(None);
        };
        if argument.exists() {
            return Ok(None);
        }
        let wrong = |what: &str| {
            let hint = "copy the whole line that `murmur new` printed; it stands in the peer.toml of every member too";
            ConfigError::new("the code", what, hint)
        };
        if coded.len() > CODE_BYTES_MAX {
            return Err(wrong("is too long"));
        }
        let bytes = BASE64.decode(coded).map_err(|_| wrong("is not whole"))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not whole"))?;
        let code: Self = config::parse("the code", &text)?;
        if code.swarm.id().short() != code.id {
            return Err(wrong(
                "names another swarm than it describes: it is damaged, or made by another version",
            ));
        }
        Ok(Some(code))
    }

    /// Finds or makes the folder of a peer of this swarm that no other process has, with a config in it.
    ///
    /// # Errors
    /// A folder that cannot be written, or is in use.
    pub(crate) fn settle(&self, state: Option<&Path>) -> anyhow::Result<(PathBuf, StateLock)> {
        let (dir, lock) = match state {
            Some(dir) => (dir.to_owned(), StateLock::take(dir)?),
            None => self.free_place()?,
        };
        let path = dir.join("peer.toml");
        if !path.exists() {
            let identity = Identity::load_or_create(&identity_path(&dir))?;
            let peer = NewPeer {
                swarm: &self.swarm,
                model: self.model,
                listen: &new::listens(&self.bootstrap),
                bootstrap: &self.bootstrap,
                lan: self.lan,
                state: &dir,
                draw: identity.public().0[0],
                code: &self.to_text()?,
            };
            new::write(&path, &peer.config()?)?;
        }
        Ok((path, lock))
    }

    fn free_place(&self) -> anyhow::Result<(PathBuf, StateLock)> {
        let swarms = state::data_dir()
            .context("there is no place for the peer's folder\nhint: choose one with --state DIR")?
            .join("swarms");
        let place = format!("{}-{}", folder_name(&self.swarm.name), self.id);
        for nth in 1..=PEERS_HERE_MAX {
            let dir = match nth {
                1 => swarms.join(&place),
                _ => swarms.join(format!("{place}-{nth}")),
            };
            if let Some(lock) = StateLock::try_take(&dir)? {
                return Ok((dir, lock));
            }
        }
        anyhow::bail!(
            "{PEERS_HERE_MAX} peers of this swarm run here already\nhint: choose a folder with --state DIR"
        )
    }
}

/// The command in a config's comment with which others join, if it still is for this swarm.
pub(crate) fn command_in(config: &str, swarm: &Manifest) -> Option<String> {
    let word = config.split_whitespace().find(|word| word.starts_with(PREFIX))?;
    let code = JoinCode::parse(Path::new(word)).ok()??;
    (code.swarm.id() == swarm.id()).then(|| format!("murmur join {word}"))
}

/// The `[swarm]` section of a manifest, without what is default.
///
/// # Errors
/// A manifest that TOML cannot hold.
pub(crate) fn without_defaults(swarm: &Manifest) -> anyhow::Result<Table> {
    let least = "name = \"\"\npacks = []\ngenesis = { peers_min = 0 }";
    let least: Manifest = config::parse("", least)?;
    let least = Table::try_from(least).context("the manifest cannot be written")?;
    let table = Table::try_from(swarm).context("the manifest cannot be written")?;
    Ok(other_than(&table, &least))
}

/// What of a table another one does not say.
fn other_than(table: &Table, least: &Table) -> Table {
    let mut other = Table::new();
    for (key, value) in table {
        match (value, least.get(key)) {
            (value, Some(default)) if value == default => {}
            (Value::Table(inner), Some(Value::Table(default))) => {
                other.insert(key.clone(), Value::Table(other_than(inner, default)));
            }
            _ => drop(other.insert(key.clone(), value.clone())),
        }
    }
    other
}

/// A name as part of a path: letters, digits and dashes.
pub(crate) fn folder_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "swarm".into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> JoinCode {
        let swarm = "name = \"oak\"\ngenesis = { peers_min = 3 }\npacks = [{ id = \"native:six\", weight = 1 }]\n\
                     [round]\nprompts = 6\n[judge]\ntau_permille = 400";
        JoinCode::new(
            config::parse("", swarm).unwrap(),
            ModelPreset::Tiny,
            vec!["192.0.2.7:4101".into()],
            false,
        )
    }

    #[test]
    fn a_code_says_what_went_in() {
        let text = code().to_text().unwrap();
        assert!(text.len() < 320, "{} characters", text.len());
        assert_eq!(JoinCode::parse(Path::new(&text)), Ok(Some(code())));
        assert_eq!(JoinCode::parse(Path::new("configs/peer-a.toml")), Ok(None));
    }

    #[test]
    fn a_damaged_code_is_refused() {
        let text = code().to_text().unwrap();
        let encode = |toml: String| format!("{PREFIX}{}", BASE64.encode(toml));
        let toml = String::from_utf8(BASE64.decode(&text[PREFIX.len()..]).unwrap()).unwrap();
        for (damaged, expected) in [
            (text[..text.len() - 1].to_owned(), "the code"),
            (text.clone() + "é", "the code is not whole"),
            (format!("{PREFIX}{}", "A".repeat(CODE_BYTES_MAX + 4)), "the code is too long"),
            (encode(toml.replace("prompts = 6", "prompts = 7")), "names another swarm"),
            (encode(toml.replace("prompts", "promts")), "did you mean `prompts`?"),
        ] {
            let error = JoinCode::parse(Path::new(&damaged)).unwrap_err().to_string();
            assert!(error.replace(": ", " ").contains(&expected.replace(": ", " ")), "{error}");
        }
    }

    #[test]
    fn a_config_says_how_others_join_until_its_swarm_is_changed() {
        let mut swarm = code().swarm;
        let line = format!("murmur join {}", code().to_text().unwrap());
        let config = format!("# A peer\n# Others join with: {line}\n\n[swarm]\n");
        assert_eq!(command_in(&config, &swarm), Some(line));
        swarm.round.prompts += 1;
        assert_eq!(command_in(&config, &swarm), None);
        assert_eq!(command_in("[swarm]\n", &swarm), None);
    }

    #[test]
    fn names_become_folders() {
        for (name, folder) in
            [("Oak & Elm", "oak---elm"), ("../..", "swarm"), ("", "swarm"), ("ümlaut", "mlaut")]
        {
            assert_eq!(folder_name(name), folder);
        }
    }
}
