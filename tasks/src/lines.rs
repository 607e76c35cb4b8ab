//! Items as they are written down: one JSON object a line.
//!
//! `{"id": "q1", "question": "…", "answer": "…", "choices": ["…"], "level": 0, "trace": "…"}`; only the question must
//! be there. A script's items take the same form, so that everything behind it is the same for both.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::answer::Reading;
use crate::definition::{Definition, Fields, LEVELS_MAX};
use crate::error::{PackError, at};
use crate::form::{Answer, Form};

/// Bytes of a file of items.
pub const ITEMS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Items of a pack.
pub const ITEMS_MAX: usize = 100_000;
/// Bytes of a question.
pub const QUESTION_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a worked trace; longer than any model here writes.
const TRACE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an id.
const ID_BYTES_MAX: usize = 64;
/// Letters there are for choices.
const CHOICES_MAX: usize = 26;

/// One item as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Line, from 1.
    #[serde(skip)]
    pub number: usize,
    /// Name of the item in its pack.
    pub id: String,
    /// What is asked.
    pub question: String,
    /// The reference answer, in canonical form; items without one are for votes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Choices, in the order of their letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Difficulty, from 0.
    pub level: u8,
    /// Reasoning that leads to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Reads the items of a pack: `text` is the content of `file`.
///
/// # Errors
/// The first line that is wrong.
pub(crate) fn read(definition: &Definition, file: &str, text: &str) -> Result<Vec<Line>, PackError> {
    if text.len() > ITEMS_BYTES_MAX {
        return Err(at(file, 0, "larger than 16 MiB", "split the pack in two"));
    }
    let reader = Reader::new(definition, file);
    let (mut lines, mut ids) = (Vec::new(), BTreeMap::new());
    for (i, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let number = i + 1;
        if lines.len() == ITEMS_MAX {
            return Err(at(file, number, "more than 100,000 items", "split the pack in two"));
        }
        let line = reader.line(number, text).map_err(|(message, hint)| at(file, number, message, hint))?;
        if let Some(first) = ids.insert(line.id.clone(), number) {
            let message = format!("the id {:?} is already used in line {first}", line.id);
            return Err(at(file, number, message, "give every item its own id"));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(at(file, 1, "no items", "add at least one line"));
    }
    Ok(lines)
}

/// What is wrong and what to do.
type Wrong = (String, String);

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), hint.into()))
}

struct Reader<'a> {
    fields: Fields,
    /// Whether the file was written for something else.
    foreign: bool,
    answer_after: Option<&'a str>,
    reading: Reading,
}

impl<'a> Reader<'a> {
    fn new(definition: &'a Definition, file: &str) -> Self {
        // What a script made is always in this program's own layout.
        let foreign = definition.source.fields.as_ref().filter(|_| file == definition.file());
        Self {
            fields: foreign.cloned().unwrap_or_default(),
            foreign: foreign.is_some(),
            answer_after: definition.source.answer_after.as_deref(),
            reading: definition.reading(),
        }
    }

    fn line(&self, number: usize, text: &str) -> Result<Line, Wrong> {
        let hint = r#"one object a line: {"id": "q1", "question": "…", "answer": "…"}"#;
        let mut object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| (error.to_string(), hint.to_owned()))?;
        let mut take = |name: &str| object.remove(name).filter(|value| !value.is_null());
        let [id, question, answer] =
            [&self.fields.id, &self.fields.question, &self.fields.answer].map(|name| take(name));
        let [choices, level, trace] =
            [&self.fields.choices, &self.fields.level, &self.fields.trace].map(|name| take(name));
        if let Some((unknown, _)) = object.iter().next().filter(|_| !self.foreign) {
            let hint = "known: id, question, answer, choices, level, trace; other names go under [source.fields] in task.toml";
            return wrong(format!("unknown field `{unknown}`"), hint);
        }
        let mut line = Line { number, id: self.id(number, id)?, ..Line::default() };
        line.question = self.question(question, &object)?;
        line.choices = choices.map_or(Ok(Vec::new()), choice_texts)?;
        line.level = level.map_or(Ok(0), level_number)?;
        line.trace = trace.map(|trace| text_of("trace", trace)).transpose()?;
        if let Some(answer) = answer {
            let (trace, answer) = self.split_answer(text_of("answer", answer)?)?;
            line.trace = line.trace.or(trace);
            line.answer = Some(self.gold(&answer, &line.choices)?.to_string());
        }
        if line
            .trace
            .as_ref()
            .is_some_and(|trace| trace.len() > TRACE_BYTES_MAX || trace.contains("</think>"))
        {
            return wrong("a trace that is too long or ends itself", "at most 8 KiB, without </think>");
        }
        Ok(line)
    }

    fn id(&self, number: usize, id: Option<Value>) -> Result<String, Wrong> {
        let Some(id) = id else { return Ok(number.to_string()) };
        let id = text_of("id", id)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return wrong(
                format!("an id of {} bytes", id.len()),
                format!("1 to {ID_BYTES_MAX} bytes, or no id"),
            );
        }
        Ok(id)
    }

    fn question(&self, question: Option<Value>, rest: &Map<String, Value>) -> Result<String, Wrong> {
        let Some(question) = question else {
            let names: Vec<&str> = rest.keys().map(String::as_str).take(8).collect();
            let hint = if names.is_empty() {
                "write \"question\": \"…\"".to_owned()
            } else {
                format!("name the right one of {} under [source.fields] in task.toml", names.join(", "))
            };
            return wrong(format!("missing field `{}`", self.fields.question), hint);
        };
        let question = text_of("question", question)?;
        if question.trim().is_empty() || question.len() > QUESTION_BYTES_MAX {
            let hint = format!("1 to {QUESTION_BYTES_MAX} bytes");
            return wrong(format!("a question of {} bytes", question.len()), hint);
        }
        Ok(question)
    }

    /// The reasoning before the mark, where there is a mark, and the answer behind it.
    fn split_answer(&self, text: String) -> Result<(Option<String>, String), Wrong> {
        let Some(mark) = self.answer_after else { return Ok((None, text)) };
        match text.rsplit_once(mark) {
            Some((trace, answer)) => Ok((Some(trace.trim().to_owned()), answer.trim().to_owned())),
            None => wrong(format!("no {mark:?} in the answer"), "see answer_after in task.toml"),
        }
    }

    fn gold(&self, text: &str, choices: &[String]) -> Result<Answer, Wrong> {
        let form = self.reading.form;
        let letter = choices.iter().position(|choice| choice == text).filter(|_| form == Form::Choice);
        let text = match (letter, form) {
            (Some(at), _) => letter_of(at).to_string(),
            (None, Form::Integer | Form::Decimal) if self.foreign => without_separators(text),
            (None, _) => text.to_owned(),
        };
        let Some(gold) = form.canonical(&text) else {
            return wrong(format!("the answer {text:?} is not of the form in task.toml"), form.example());
        };
        let letters = choices.len();
        let there = form != Form::Choice
            || letters == 0
            || (0..letters).any(|at| gold.as_str() == letter_of(at).to_string());
        if !there {
            return wrong(format!("the answer {gold} is none of {letters} choices"), "A is the first choice");
        }
        Ok(gold)
    }
}

/// The letter of a choice.
pub(crate) fn letter_of(at: usize) -> char {
    char::from(b'A' + (at % CHOICES_MAX) as u8)
}

/// `1,234` is `1234`: reference answers of other people's files are often written for reading.
fn without_separators(text: &str) -> String {
    let groups: Vec<&str> = text.trim().trim_start_matches('-').split(',').collect();
    let grouped = groups.len() > 1
        && groups[1..].iter().all(|group| group.split('.').next().is_some_and(|g| g.len() == 3));
    if grouped { text.replace(',', "") } else { text.to_owned() }
}

/// Texts and numbers as text; lists with commas, lists of lists as a grid.
fn text_of(field: &str, value: Value) -> Result<String, Wrong> {
    let cells = |values: Vec<Value>| -> Result<Vec<String>, Wrong> {
        values.into_iter().map(|value| plain_text(field, value)).collect()
    };
    match value {
        Value::Array(rows) if field == "answer" && rows.iter().all(Value::is_array) && !rows.is_empty() => {
            let row =
                |row| if let Value::Array(row) = row { Ok(cells(row)?.join(" ")) } else { Ok(String::new()) };
            Ok(rows.into_iter().map(row).collect::<Result<Vec<String>, Wrong>>()?.join(";"))
        }
        Value::Array(values) if field == "answer" => Ok(cells(values)?.join(",")),
        value => plain_text(field, value),
    }
}

fn plain_text(field: &str, value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => wrong(format!("`{field}` is neither text nor number"), "write it as a text"),
    }
}

fn choice_texts(value: Value) -> Result<Vec<String>, Wrong> {
    let Value::Array(values) = value else {
        return wrong("`choices` is no list", "write [\"…\", \"…\"]");
    };
    if values.len() > CHOICES_MAX {
        return wrong(format!("{} choices", values.len()), format!("at most {CHOICES_MAX}, a letter each"));
    }
    values.into_iter().map(|value| plain_text("choices", value)).collect()
}

fn level_number(value: Value) -> Result<u8, Wrong> {
    let level = value
        .as_u64()
        .and_then(|level| u8::try_from(level).ok())
        .filter(|level| usize::from(*level) < LEVELS_MAX);
    level.map_or_else(|| wrong(format!("a level of {value}"), "a whole number from 0 to 31"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{PackFiles, TASK_TOML};

    fn read_one(more: &str, line: &str) -> Result<Line, String> {
        let task = format!("name = \"x\"\nversion = \"1\"\n{more}");
        let files = PackFiles::new(BTreeMap::from([(TASK_TOML.to_owned(), task.into_bytes())])).unwrap();
        let definition = Definition::read(&files).unwrap();
        read(&definition, "items.jsonl", line)
            .map(|mut lines| lines.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn other_peoples_files_are_read_by_the_names_of_their_fields() {
        let gsm = "[source]\nanswer_after = \"####\"\n[source.fields]\n";
        let line = r#"{"question": "How many?", "answer": "2 and 3 is <<2+3=5>>5.\n#### 1,005"}"#;
        let read = read_one(gsm, line).unwrap();
        assert_eq!((read.id.as_str(), read.answer.as_deref()), ("1", Some("1005")));
        assert_eq!(read.trace.as_deref(), Some("2 and 3 is <<2+3=5>>5."));

        let named = "[source.fields]\nid = \"uuid\"\nquestion = \"prompt\"\nanswer = \"target\"\n";
        let read = read_one(named, r#"{"uuid": 7, "prompt": "p", "target": 12, "split": "x"}"#).unwrap();
        assert_eq!(
            (read.id.as_str(), read.question.as_str(), read.answer.as_deref()),
            ("7", "p", Some("12"))
        );

        let error = read_one("", r#"{"prompt": "p", "target": 12}"#).unwrap_err();
        assert!(error.contains("unknown field `prompt`") && error.contains("[source.fields]"), "{error}");
        let error = read_one("[source.fields]\n", r#"{"prompt": "p", "target": 12}"#).unwrap_err();
        assert!(error.contains("missing field `question`") && error.contains("prompt, target"), "{error}");
    }

    #[test]
    fn answers_are_brought_into_form() {
        let choice = "[answer]\nform = \"choice\"\n";
        let capital = |answer: &str| {
            read_one(
                choice,
                &format!(r#"{{"question": "q", "choices": ["Rome", "Oslo"], "answer": "{answer}"}}"#),
            )
        };
        assert_eq!(capital("Oslo").unwrap().answer.as_deref(), Some("B"));
        assert_eq!(capital("a").unwrap().answer.as_deref(), Some("A"));
        assert!(capital("C").unwrap_err().contains("none of 2 choices"));
        for (form, answer, expected) in [
            ("set", r#"["b", "a"]"#, "a,b"),
            ("sequence", "[2, 1]", "2,1"),
            ("grid", "[[1, 2], [3, 4]]", "1 2;3 4"),
            ("fraction", "\"6/8\"", "3/4"),
            ("decimal", "2.50", "2.5"),
        ] {
            let line = format!(r#"{{"question": "q", "answer": {answer}}}"#);
            let read = read_one(&format!("[answer]\nform = \"{form}\"\n"), &line).unwrap();
            assert_eq!(read.answer.as_deref(), Some(expected));
        }
        let error = read_one("", r#"{"question": "q", "answer": "007"}"#).unwrap_err();
        assert!(error.contains("items.jsonl:1") && error.contains("no leading zeros"), "{error}");
    }

    #[test]
    fn wrong_lines_are_told_apart() {
        for (line, expected) in [
            ("{", "EOF"),
            ("[1]", "expected a map"),
            (r#"{"question": ""}"#, "a question of 0 bytes"),
            (r#"{"question": ["q"]}"#, "neither text nor number"),
            (r#"{"question": "q", "level": 40}"#, "a level of 40"),
            (r#"{"question": "q", "level": -1}"#, "a level of -1"),
            (r#"{"question": "q", "choices": "ab"}"#, "`choices` is no list"),
            (r#"{"question": "q", "id": ""}"#, "an id of 0 bytes"),
            (r#"{"question": "q", "trace": "a</think>b"}"#, "ends itself"),
            ("", "no items"),
        ] {
            let error = read_one("", line).unwrap_err();
            assert!(error.contains(expected) && error.contains("hint: "), "{error}");
        }
        let long = format!(r#"{{"question": "{}"}}"#, "x".repeat(QUESTION_BYTES_MAX + 1));
        assert!(read_one("", &long).unwrap_err().contains("a question of 4097 bytes"));
        let twice = "{\"id\": \"a\", \"question\": \"q\"}\n\n{\"id\": \"a\", \"question\": \"r\"}\n";
        assert!(
            read_one("", twice)
                .unwrap_err()
                .contains("items.jsonl:3: the id \"a\" is already used in line 1")
        );
    }
}
