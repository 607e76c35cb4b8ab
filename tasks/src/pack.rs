//! A task pack: native families, or a folder with `task.toml` and `items.jsonl`.
//!
//! ```toml
//! # task.toml
//! name = "capitals"
//! version = "1.0.0"
//! licence = "CC0-1.0"
//! summary = "Capitals of countries."
//! [answer]
//! form = "text"            # integer | choice | text
//! ```
//! `items.jsonl` has one object a line: `{"id": "q1", "question": "…", "answer": "…"}`, with `level`,
//! `choices` and `trace` where they help. The identity of a pack is the hash of its content.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::answer::Form;
use crate::families::{Family, SIX};
use crate::item::{Item, PackId, Split};
use crate::rng::Rng;

/// Bytes of `task.toml`.
pub const TASK_TOML_BYTES_MAX: usize = 64 * 1024;
/// Bytes of `items.jsonl`.
pub const ITEMS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Items of a static pack.
pub const ITEMS_MAX: usize = 100_000;
/// Bytes of a question.
pub const QUESTION_BYTES_MAX: usize = 1024;
/// Draws until a native item of the wanted split is found; one in eight fits, so this never ends early.
const DRAWS_MAX: u64 = 1_000;

/// What is wrong with a pack, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}; hint: {hint}")]
pub struct PackError {
    /// `task.toml` or `items.jsonl`.
    pub file: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

pub(crate) fn at(
    file: &'static str,
    line: usize,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> PackError {
    PackError { file, line, message: message.into(), hint: hint.into() }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskToml {
    name: String,
    version: String,
    #[serde(default)]
    #[allow(dead_code, reason = "part of the format; shown by later commands")]
    licence: String,
    #[serde(default)]
    #[allow(dead_code, reason = "part of the format; shown by later commands")]
    summary: String,
    #[serde(default)]
    answer: AnswerToml,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerToml {
    #[serde(default)]
    form: Form,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) answer: Option<String>,
    #[serde(default)]
    pub(crate) choices: Vec<String>,
    #[serde(default)]
    level: u8,
    trace: Option<String>,
}

#[derive(Clone)]
enum Source {
    Native(&'static [Family]),
    Static(BTreeMap<Split, Vec<Item>>),
}

/// A pack that was checked enough to draw from.
#[derive(Clone)]
pub struct Pack {
    id: PackId,
    name: String,
    source: Source,
}

impl Pack {
    /// The families `sum`, `cnt`, `max`, `mod`, `add`, `seq`.
    pub fn native_six() -> Self {
        let id = blake3::derive_key("murmur v1 native pack", b"six 1");
        Self { id: PackId(id), name: "native:six".into(), source: Source::Native(&SIX) }
    }

    /// A native pack by the name a manifest gives it (`native:six`).
    pub fn native(name: &str) -> Option<Self> {
        (name == "native:six").then(Self::native_six)
    }

    /// A static pack from the text of its two files.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn from_static(task_toml: &str, items_jsonl: &str) -> Result<Self, PackError> {
        let task = read_task(task_toml)?;
        let id = content_address(&[("items.jsonl", items_jsonl), ("task.toml", task_toml)]);
        let name = task.name;
        let mut items: BTreeMap<Split, Vec<Item>> = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for (number, line) in lines(items_jsonl)? {
            if let Some(first) = ids.insert(line.id.clone(), number) {
                let message = format!("the id {:?} is already used in line {first}", line.id);
                return Err(at("items.jsonl", number, message, "give every item its own id"));
            }
            let item = item(&id, &name, task.answer.form, number, line)?;
            items.entry(item.split()).or_default().push(item);
        }
        Ok(Self { id, name, source: Source::Static(items) })
    }

    /// Content address.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// `native:NAME`, or the name in `task.toml`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a manifest calls it: `native:NAME`, or `b3:` and the content address.
    pub fn pin(&self) -> String {
        match self.source {
            Source::Native(_) => self.name.clone(),
            Source::Static(_) => self.id.to_string(),
        }
    }

    /// Names of its families; a static pack is one family.
    pub fn families(&self) -> Vec<String> {
        match &self.source {
            Source::Native(families) => families.iter().map(|family| family.name.to_string()).collect(),
            Source::Static(_) => vec![self.name.clone()],
        }
    }

    /// Item `index` of a family and split under `key`: random access, the same everywhere. `None` when
    /// a static pack has no item of that split, or the family is unknown.
    pub(crate) fn draw(&self, family: &str, key: &[u8; 32], index: u64, split: Split) -> Option<Item> {
        let parts = [&self.id.0[..], family.as_bytes(), split.as_str().as_bytes(), &index.to_le_bytes()];
        let mut rng = Rng::keyed(key, &parts);
        match &self.source {
            Source::Static(items) => {
                let items = items.get(&split)?;
                items.get(rng.below(items.len() as u64) as usize).cloned()
            }
            Source::Native(families) => {
                let family = families.iter().find(|known| known.name == family)?;
                (0..DRAWS_MAX).find_map(|_| {
                    let item = family.any_item(&self.id, &mut rng, 0);
                    (item.split() == split).then_some(item)
                })
            }
        }
    }

    /// Distinct items of a split of a static pack, in file order; empty for a native pack.
    pub fn static_items(&self, split: Split) -> &[Item] {
        match &self.source {
            Source::Static(items) => items.get(&split).map_or(&[], Vec::as_slice),
            Source::Native(_) => &[],
        }
    }
}

fn content_address(files: &[(&str, &str)]) -> PackId {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 pack");
    for (path, text) in files {
        hasher.update(format!("{} {} {path}\n", blake3::hash(text.as_bytes()), text.len()).as_bytes());
    }
    PackId(*hasher.finalize().as_bytes())
}

fn read_task(text: &str) -> Result<TaskToml, PackError> {
    if text.len() > TASK_TOML_BYTES_MAX {
        return Err(at("task.toml", 1, "larger than 64 KiB", "keep texts in README.md"));
    }
    let task: TaskToml = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        at(
            "task.toml",
            line,
            error.message(),
            "needed: name, version; optional: licence, summary, [answer] form",
        )
    })?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if task.name.is_empty() || task.name.len() > 32 || !task.name.chars().all(plain) {
        let message = format!("the name {:?} is not usable", task.name);
        return Err(at("task.toml", 1, message, "1 to 32 of a-z, 0-9 and -"));
    }
    if task.version.is_empty() {
        return Err(at("task.toml", 1, "the version is empty", "write version = \"1.0.0\""));
    }
    Ok(task)
}

/// The lines of `items.jsonl` with their numbers; blank lines are skipped.
pub(crate) fn lines(text: &str) -> Result<Vec<(usize, Line)>, PackError> {
    if text.len() > ITEMS_BYTES_MAX {
        return Err(at("items.jsonl", 1, "larger than 16 MiB", "split the pack in two"));
    }
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines: Result<Vec<_>, _> = numbered
        .map(|(i, line)| {
            let parsed = serde_json::from_str(line);
            parsed.map(|line| (i + 1, line)).map_err(|error| {
                let hint = r#"one object a line: {"id": "q1", "question": "…", "answer": "…"}"#;
                at("items.jsonl", i + 1, error.to_string(), hint)
            })
        })
        .collect();
    let lines = lines?;
    match lines.len() {
        0 => Err(at("items.jsonl", 1, "no items", "add at least one line")),
        n if n > ITEMS_MAX => {
            Err(at("items.jsonl", ITEMS_MAX, "more than 100,000 items", "split the pack in two"))
        }
        _ => Ok(lines),
    }
}

fn item(pack: &PackId, name: &str, form: Form, number: usize, line: Line) -> Result<Item, PackError> {
    let length = line.question.len();
    if line.question.trim().is_empty() || length > QUESTION_BYTES_MAX {
        let message = format!("a question of {length} bytes");
        return Err(at("items.jsonl", number, message, format!("1 to {QUESTION_BYTES_MAX} bytes")));
    }
    let gold = line.answer.map(|text| {
        form.canonical(&text).ok_or_else(|| {
            let message = format!("the answer {text:?} is not of the form in task.toml");
            at(
                "items.jsonl",
                number,
                message,
                "write it in canonical form (integer: no leading zeros, no plus sign)",
            )
        })
    });
    Ok(Item::new(pack, name, line.level, line.question, form, gold.transpose()?, line.trace))
}
