//! A config in layers: defaults, the file, the environment, the command line; and which of them each value is from.
//!
//! `MURMUR_PEER__BASE=cedar` sets `base` under `[peer]`, as `--set peer.base=cedar` does: a value is TOML, and text
//! where it is none. What a swarm shares is in its file only, since any other value makes another swarm.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::config::{self, ConfigError};

/// What the names of variables that set keys begin with; a double underscore follows later, which no other variable of
/// Murmur's has.
const VARIABLE: &str = "MURMUR_";
/// The section that all peers share.
const SHARED: &str = "swarm";

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// The file sets it in this line.
    Line(usize),
    /// This variable.
    Variable(String),
    /// This argument.
    Argument(String),
}

/// A value for one key, from outside the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Override {
    key: Vec<String>,
    value: Value,
    origin: Origin,
}

impl Override {
    /// A value for a key with dots, given by the argument of that name.
    pub(crate) fn by_argument(key: &str, value: impl Into<Value>, argument: &str) -> Self {
        let key = key.split('.').map(str::to_owned).collect();
        Self { key, value: value.into(), origin: Origin::Argument(argument.into()) }
    }

    /// `KEY=VALUE`, as `--set` takes it.
    ///
    /// # Errors
    /// No `=`, or no key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as peer.base=cedar")?;
        let key: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if key.iter().any(String::is_empty) {
            return Err("write KEY=VALUE, such as peer.base=cedar".into());
        }
        Ok(Self { value: value_of(value), origin: Origin::Argument(format!("--set {}", key.join("."))), key })
    }

    /// All that the environment sets.
    fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let mut found: Vec<Self> = variables
            .filter_map(|(name, value)| {
                let path = name.strip_prefix(VARIABLE).filter(|path| path.contains("__"))?;
                let key = path.split("__").map(str::to_lowercase).collect();
                Some(Self { key, value: value_of(&value), origin: Origin::Variable(name) })
            })
            .collect();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        found
    }

    fn name(&self) -> String {
        match &self.origin {
            Origin::Variable(name) | Origin::Argument(name) => name.clone(),
            Origin::Default | Origin::Line(_) => self.key.join("."),
        }
    }

    fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        let wrong = |what: &str, hint: &str| Err(ConfigError::new(self.name(), what, hint));
        let Some((last, sections)) = self.key.split_last() else { return Ok(()) };
        if self.key.first().is_some_and(|section| section == SHARED) {
            return wrong(
                "sets what all peers of the swarm share",
                "change it in the file, for all of them: it makes another swarm",
            );
        }
        let mut section = table;
        for name in sections {
            let inner = section.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else {
                return wrong("sets a key inside of a value", "see `murmur config show CONFIG --origin`");
            };
            section = inner;
        }
        section.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

fn value_of(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| text.into())
}

/// A config and where its values are from.
#[derive(Debug)]
pub(crate) struct Layered<T> {
    pub(crate) config: T,
    file: String,
    origins: BTreeMap<String, Origin>,
}

/// Reads a config through all layers; later ones of `arguments` win.
///
/// # Errors
/// As [`config::read`], and whatever is wrong with a value from outside the file, by its name.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    arguments: &[Override],
) -> Result<Layered<T>, ConfigError> {
    let text = config::text(path)?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut overrides = Override::from_environment(variables);
    overrides.extend_from_slice(arguments);
    layered(&path.display().to_string(), &text, &overrides)
}

fn layered<T: DeserializeOwned>(
    file: &str,
    text: &str,
    overrides: &[Override],
) -> Result<Layered<T>, ConfigError> {
    let mut origins = lines(text);
    for set in overrides {
        origins.insert(set.key.join("."), set.origin.clone());
    }
    let config = match overrides {
        [] => config::parse(file, text)?,
        _ => merged(file, text, overrides)?,
    };
    Ok(Layered { config, file: file.into(), origins })
}

fn merged<T: DeserializeOwned>(file: &str, text: &str, overrides: &[Override]) -> Result<T, ConfigError> {
    let table: Table = config::parse(file, text)?;
    let of = |overrides: &mut dyn Iterator<Item = &Override>| {
        let mut table = table.clone();
        for set in overrides {
            set.apply(&mut table)?;
        }
        let read: Result<T, toml::de::Error> = table.try_into();
        Ok::<_, ConfigError>(read)
    };
    let error = match of(&mut overrides.iter())? {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    for (nth, suspect) in overrides.iter().enumerate() {
        let others = overrides.iter().enumerate().filter(|(other, _)| *other != nth);
        if of(&mut others.map(|(_, set)| set))?.is_ok() {
            return Err(ConfigError::explained(suspect.name(), error.message()));
        }
    }
    // Alone, the file says in which line.
    config::parse::<T>(file, text)?;
    Err(ConfigError::explained(file, error.message()))
}

/// The line of every key in a file.
fn lines(text: &str) -> BTreeMap<String, Origin> {
    let mut found = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        note_lines(text, "", table.get_ref(), &mut found);
    }
    found
}

fn note_lines(text: &str, prefix: &str, table: &DeTable<'_>, found: &mut BTreeMap<String, Origin>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => note_lines(text, &format!("{path}."), inner, found),
            _ => drop(found.insert(path, Origin::Line(config::line_at(text, key.span().start)))),
        }
    }
}

/// One value of a config.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl<T: Serialize> Layered<T> {
    /// Every value that holds, in the order of the config.
    ///
    /// # Errors
    /// A config that TOML cannot hold.
    pub(crate) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.collect("", &Table::try_from(&self.config)?, &mut entries);
        Ok(entries)
    }

    fn collect(&self, prefix: &str, table: &Table, entries: &mut Vec<Entry>) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(inner) => self.collect(&format!("{key}."), inner, entries),
                value => {
                    let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
                    entries.push(Entry { key, value: short(value), origin });
                }
            }
        }
    }
}

/// A number as people write it: configs hold single precision, and 0.1 is not 0.10000000149011612.
fn short(value: &Value) -> Value {
    match value {
        Value::Float(number) => (*number as f32).to_string().parse().map_or(value.clone(), Value::Float),
        value => value.clone(),
    }
}

impl<T> Layered<T> {
    /// An origin in words.
    pub(crate) fn words(&self, origin: &Origin) -> impl fmt::Display {
        match origin {
            Origin::Default => "default".to_owned(),
            Origin::Line(line) => format!("{}:{line}", self.file),
            Origin::Variable(name) | Origin::Argument(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::JoinConfig;

    const FILE: &str = "[swarm]\nname = \"oak\"\npacks = [{ id = \"native:six\", weight = 1 }]\n\
                        genesis = { peers_min = 3 }\n[peer]\nbase = \"amber\"\nstate = \"s\"\nrounds = 5\n";

    fn read(overrides: &[Override]) -> Result<Layered<JoinConfig>, ConfigError> {
        layered("c.toml", FILE, overrides)
    }

    fn variable(name: &str, value: &str) -> Override {
        let pair = (name.to_owned(), value.to_owned());
        Override::from_environment(std::iter::once(pair)).pop().unwrap()
    }

    #[test]
    fn each_layer_wins_over_those_before_it_and_says_so() {
        let sets = [
            variable("MURMUR_PEER__BASE", "birch"),
            variable("MURMUR_PEER__ROUNDS", "7"),
            Override::parse("peer.rounds=9").unwrap(),
            Override::parse("learning.learning_rate=2e-5").unwrap(),
            Override::by_argument("peer.state", "t", "--state"),
        ];
        let layered = read(&sets).unwrap();
        let peer = &layered.config.peer;
        assert_eq!((peer.base.as_str(), peer.rounds, peer.state.as_path()), ("birch", 9, Path::new("t")));
        let entries = layered.entries().unwrap();
        let origin = |key: &str| {
            let entry = entries.iter().find(|entry| entry.key == key).unwrap_or_else(|| panic!("{key}"));
            layered.words(&entry.origin).to_string()
        };
        for (key, from) in [
            ("swarm.name", "c.toml:2"),
            ("swarm.genesis.peers_min", "c.toml:4"),
            ("swarm.round.prompts", "default"),
            ("peer.base", "MURMUR_PEER__BASE"),
            ("peer.rounds", "--set peer.rounds"),
            ("peer.state", "--state"),
            ("learning.learning_rate", "--set learning.learning_rate"),
            ("policy.threads", "default"),
        ] {
            assert_eq!(origin(key), from, "{key}");
        }
    }

    #[test]
    fn whoever_sets_a_wrong_value_is_named() {
        for (set, expected) in [
            (
                variable("MURMUR_PEER__BAES", "x"),
                "MURMUR_PEER__BAES: unknown key `baes`\nhint: did you mean `base`?",
            ),
            (
                Override::parse("peer.rounds=many").unwrap(),
                "--set peer.rounds: invalid type: string \"many\"",
            ),
            (
                variable("MURMUR_SWARM__NAME", "elm"),
                "MURMUR_SWARM__NAME: sets what all peers of the swarm share",
            ),
            (Override::parse("peer.base.x=1").unwrap(), "--set peer.base.x: sets a key inside of a value"),
        ] {
            let error = read(&[Override::parse("peer.rounds=9").unwrap(), set]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let typo = FILE.replace("rounds", "ruonds");
        let error = layered::<JoinConfig>("c.toml", &typo, &[variable("MURMUR_PEER__BASE", "birch")]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "c.toml:8: unknown key `ruonds`\nhint: did you mean `rounds`?"
        );
        for text in ["", "x", "=1", "a..b=1"] {
            assert!(Override::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_only_the_environment_has_is_not_missing() {
        let file = FILE.replace("base = \"amber\"\n", "");
        let layered: Layered<JoinConfig> =
            layered("c.toml", &file, &[variable("MURMUR_PEER__BASE", "birch")]).unwrap();
        assert_eq!(layered.config.peer.base, "birch");
    }
}
