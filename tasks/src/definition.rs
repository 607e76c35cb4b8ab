//! `task.toml`: what a pack says of itself.
//!
//! ```toml
//! name = "capitals"             # 1 to 32 of a-z, 0-9 and -
//! version = "1.0.0"             # a label; the identity is the content
//! licence = "CC0-1.0"
//! authors = ["Ada"]
//! summary = "Capitals of countries."
//! parent = "b3:…"               # the pack it was forked from
//!
//! [source]                      # all of it may be left out
//! kind = "items"                # items | script
//! file = "items.jsonl"          # task.rhai for a script
//! count = 1000                  # script: items of each level
//! answer_after = "####"         # items: the answer follows this mark, the reasoning is before it
//! [source.fields]               # items: names of fields in a file written for something else
//! question = "problem"
//! answer = "solution"
//!
//! [params]                      # script: what `generate(p)` gets; a list has one value a level
//! digits = [1, 2, 3]
//!
//! [prompt]
//! template = "{question}"       # what the policy reads; {choices} are lines such as "A) Paris"
//!
//! [answer]
//! form = "text"                 # integer | decimal | fraction | choice | text | set | sequence | grid
//! extract = "tags"              # tags | boxed | last-number | letter | whole
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::answer::{Extract, Reading};
use crate::error::{PackError, at};
use crate::files::{PackFiles, TASK_TOML};
use crate::form::Form;
use crate::lines::letter_of;
use crate::script::MADE_MAX;

/// Bytes of `task.toml`.
pub const TASK_TOML_BYTES_MAX: usize = 64 * 1024;
/// Levels of a pack.
pub const LEVELS_MAX: usize = 32;
/// Values of `[params]`.
const PARAMS_MAX: usize = 32;
/// Items of each level of a script that does not say.
const COUNT_DEFAULT: usize = 1000;

/// What a pack says of itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name; the name of its family in results.
    pub name: String,
    /// A label for people.
    pub version: String,
    /// Licence of the content.
    #[serde(default)]
    pub licence: String,
    /// Who wrote it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// One line for lists.
    #[serde(default)]
    pub summary: String,
    /// Content address of the pack it was forked from.
    pub parent: Option<String>,
    #[serde(default)]
    pub(crate) source: Source,
    #[serde(default)]
    params: BTreeMap<String, Levelled>,
    #[serde(default)]
    pub(crate) prompt: Prompt,
    #[serde(default)]
    answer: AnswerToml,
}

/// Where items come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    #[serde(default)]
    pub(crate) kind: Kind,
    file: Option<String>,
    count: Option<usize>,
    pub(crate) answer_after: Option<String>,
    pub(crate) fields: Option<Fields>,
}

/// Tier of a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Written down, a line each.
    #[default]
    Items,
    /// Made by a script in a sandbox.
    Script,
}

/// Names of fields in a file written for something else; other fields of it are not looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fields {
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) choices: String,
    pub(crate) level: String,
    pub(crate) trace: String,
}

impl Default for Fields {
    fn default() -> Self {
        let [id, question, answer, choices, level, trace] =
            ["id", "question", "answer", "choices", "level", "trace"].map(str::to_owned);
        Self { id, question, answer, choices, level, trace }
    }
}

/// A parameter of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Levelled {
    Always(Param),
    ByLevel(Vec<Param>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prompt {
    pub(crate) template: String,
}

impl Default for Prompt {
    fn default() -> Self {
        Self { template: "{question}{choices}".into() }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerToml {
    #[serde(default)]
    form: Form,
    #[serde(default)]
    extract: Extract,
}

impl Prompt {
    /// What the policy reads. Choices are lines below the question where the template does not say where they go.
    pub(crate) fn show(&self, question: &str, choices: &[String]) -> String {
        let choices: String =
            choices.iter().enumerate().map(|(at, choice)| format!("\n{}) {choice}", letter_of(at))).collect();
        // What a question or a choice says in braces is its own.
        let parts: Vec<String> =
            self.template.split("{question}").map(|part| part.replace("{choices}", &choices)).collect();
        parts.join(question)
    }
}

impl Definition {
    /// Reads `task.toml`.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(files: &PackFiles) -> Result<Self, PackError> {
        let text = files.text(TASK_TOML, TASK_TOML_BYTES_MAX)?.unwrap_or_default();
        let definition: Self = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        definition
            .validate()
            .map_err(|(key, message, hint)| at(TASK_TOML, line_of(text, key), message, hint))?;
        Ok(definition)
    }

    fn validate(&self) -> Result<(), (&'static str, String, String)> {
        let fail = |key, message: String, hint: &str| Err((key, message, hint.to_owned()));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 32 || !self.name.chars().all(plain) {
            return fail(
                "name",
                format!("the name {:?} is not usable", self.name),
                "1 to 32 of a-z, 0-9 and -",
            );
        }
        if self.version.is_empty() {
            return fail("version", "the version is empty".into(), "write version = \"1.0.0\"");
        }
        let (source, script) = (&self.source, self.source.kind == Kind::Script);
        if !script && (source.count.is_some() || !self.params.is_empty()) {
            let key = if source.count.is_some() { "count" } else { "[params]" };
            return fail(
                key,
                format!("{key} is for scripts"),
                "write kind = \"script\" under [source], or remove it",
            );
        }
        if source.kind != Kind::Items && (source.fields.is_some() || source.answer_after.is_some()) {
            let key = if source.fields.is_some() { "[source.fields]" } else { "answer_after" };
            return fail(key, format!("{key} is for files of items"), "remove it");
        }
        if self.params.len() > PARAMS_MAX || self.levels() > LEVELS_MAX {
            let hint = "at most 32 parameters, at most 32 values of each";
            return fail("[params]", "too many parameters or levels".into(), hint);
        }
        if let Some((name, _)) =
            self.params.iter().find(|(_, p)| matches!(p, Levelled::ByLevel(v) if v.is_empty()))
        {
            return fail("[params]", format!("{name} has no value"), "give it at least one");
        }
        if source.count == Some(0) || self.count() > MADE_MAX {
            let hint = "count × levels may be 1 to 20,000";
            return fail("count", format!("{} items", self.count()), hint);
        }
        if !self.prompt.template.contains("{question}") {
            return fail(
                "template",
                "the template does not show the question".into(),
                "write {question} in it",
            );
        }
        self.validate_reading()
    }

    fn validate_reading(&self) -> Result<(), (&'static str, String, String)> {
        let Reading { extract, form } = self.reading();
        let fits = match extract {
            Extract::LastNumber => matches!(form, Form::Integer | Form::Decimal | Form::Fraction),
            Extract::Letter => form == Form::Choice,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let message = "extract and form do not go together".to_owned();
        let hint = "last-number is for integer, decimal and fraction; letter is for choice";
        Err(("extract", message, hint.to_owned()))
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading { extract: self.answer.extract, form: self.answer.form }
    }

    /// Where its items come from.
    pub fn kind(&self) -> Kind {
        self.source.kind
    }

    /// The file that the items are in or are made by.
    pub fn file(&self) -> &str {
        let default = if self.source.kind == Kind::Script { "task.rhai" } else { "items.jsonl" };
        self.source.file.as_deref().unwrap_or(default)
    }

    /// Levels of a script: the length of its longest list of parameters.
    pub(crate) fn levels(&self) -> usize {
        let length = |param: &Levelled| if let Levelled::ByLevel(values) = param { values.len() } else { 1 };
        self.params.values().map(length).max().unwrap_or(1)
    }

    /// Items of each level of a script.
    pub(crate) fn count_per_level(&self) -> usize {
        self.source.count.unwrap_or(COUNT_DEFAULT)
    }

    fn count(&self) -> usize {
        self.count_per_level().saturating_mul(self.levels())
    }

    /// The parameters of a level; the last value of a list that is too short counts for all further levels.
    pub(crate) fn params(&self, level: usize) -> BTreeMap<String, Param> {
        let value = |param: &Levelled| match param {
            Levelled::Always(value) => Some(value.clone()),
            Levelled::ByLevel(values) => values.get(level).or(values.last()).cloned(),
        };
        self.params.iter().filter_map(|(name, param)| Some((name.clone(), value(param)?))).collect()
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> PackError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let hint = "needed: name, version; optional: licence, authors, summary, parent, [source], [params], [prompt], [answer]";
    at(TASK_TOML, line, error.message(), hint)
}

/// The line that sets `key`; the first one when none does.
fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| key.starts_with('[') || rest.trim_start().starts_with('='))
    };
    text.lines().position(sets).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Definition, PackError> {
        let files = BTreeMap::from([(TASK_TOML.to_owned(), text.as_bytes().to_vec())]);
        Definition::read(&PackFiles::new(files)?)
    }

    #[test]
    fn parameters_go_by_level() {
        let text = "name = \"x\"\nversion = \"1\"\n[source]\nkind = \"script\"\n[params]\na = [1, 2, 3]\nb = [\"p\", \"q\"]\nc = true\n";
        let definition = read(text).unwrap();
        assert_eq!(definition.levels(), 3);
        let params = definition.params(2);
        assert_eq!(params["a"], Param::Integer(3));
        assert_eq!(params["b"], Param::Text("q".into()));
        assert_eq!(params["c"], Param::Bool(true));
        assert_eq!(definition.file(), "task.rhai");
    }

    #[test]
    fn wrong_definitions_name_their_line() {
        let script = "name = \"x\"\nversion = \"1\"\n[source]\nkind = \"script\"\n";
        for (text, expected) in [
            ("name = \"x\"\nversion = \"1\"\nfrom = 3\n".to_owned(), "task.toml:3: unknown field `from`"),
            ("version = \"1\"\n".into(), "missing field `name`"),
            (
                "version = \"1\"\nname = \"Bad Name\"\n".into(),
                "task.toml:2: the name \"Bad Name\" is not usable",
            ),
            ("name = \"x\"\nversion = \"\"\n".into(), "task.toml:2: the version is empty"),
            (
                "name = \"x\"\nversion = \"1\"\n[answer]\nform = \"number\"\n".into(),
                "unknown variant `number`",
            ),
            (
                "name = \"x\"\nversion = \"1\"\n[params]\na = 1\n".into(),
                "task.toml:3: [params] is for scripts",
            ),
            (format!("{script}answer_after = \"#\"\n"), "task.toml:5: answer_after is for files of items"),
            (format!("{script}count = 200000\n"), "task.toml:5: 200000 items"),
            (format!("{script}[params]\na = []\n"), "task.toml:5: a has no value"),
            (format!("{script}[params]\na = 1.5\n"), "task.toml:6"),
            (
                "name = \"x\"\nversion = \"1\"\n[prompt]\ntemplate = \"?\"\n".into(),
                "task.toml:4: the template",
            ),
            (
                "name = \"x\"\nversion = \"1\"\n[answer]\nextract = \"letter\"\n".into(),
                "task.toml:4: extract and form",
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("hint: "), "{error}");
        }
    }
}
