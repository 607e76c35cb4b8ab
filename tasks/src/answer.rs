//! From a completion to the text of its answer, and back.
//!
//! A completion is reasoning in `<think>…</think>`, which may be missing, and then the answer, marked in the way its
//! pack says. Nothing is searched for in the reasoning.

use serde::{Deserialize, Serialize};

use crate::form::{Answer, Form};

/// Bytes of a completion that is looked at; a longer one has no answer.
pub const COMPLETION_BYTES_MAX: usize = 16 * 1024;

const OPEN: &str = "<answer>";
const CLOSE: &str = "</answer>";
const BOXED: &str = "\\boxed{";

/// Where a completion's answer stands, behind the reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extract {
    /// Exactly `<answer>…</answer>`, nothing before or behind.
    #[default]
    Tags,
    /// In the last `\boxed{…}`.
    Boxed,
    /// The last number; thousands may be separated by commas.
    LastNumber,
    /// The only letter from A to Z that stands alone.
    Letter,
    /// All of it.
    Whole,
}

/// How a completion of an item is read: where its answer stands, and what it looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) extract: Extract,
    pub(crate) form: Form,
}

impl Reading {
    /// The canonical answer of a completion.
    pub(crate) fn parse(self, completion: &str) -> Option<Answer> {
        self.form.canonical(&self.extract(completion)?)
    }

    fn extract(self, completion: &str) -> Option<String> {
        if completion.len() > COMPLETION_BYTES_MAX {
            return None;
        }
        let rest = split_trace(completion).map_or(completion, |(_, rest)| rest);
        match self.extract {
            Extract::Tags => {
                let answer = rest.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
                (!answer.contains('<')).then(|| answer.to_owned())
            }
            Extract::Boxed => boxed(rest),
            Extract::LastNumber => last_number(rest, self.form == Form::Fraction),
            Extract::Letter => only_letter(rest),
            Extract::Whole => Some(rest.trim().to_owned()),
        }
    }

    /// A completion with this answer, after reasoning when there is some.
    pub(crate) fn completion(self, trace: Option<&str>, answer: &str) -> String {
        let answer = match self.extract {
            Extract::Tags => format!("{OPEN}{answer}{CLOSE}"),
            Extract::Boxed => format!("{BOXED}{answer}}}"),
            Extract::LastNumber | Extract::Letter | Extract::Whole => answer.to_owned(),
        };
        match trace {
            Some(trace) => format!("<think>{trace}</think>{answer}"),
            None => answer,
        }
    }
}

/// Reasoning and the rest, when the completion opens with reasoning.
fn split_trace(completion: &str) -> Option<(&str, &str)> {
    completion.strip_prefix("<think>")?.split_once("</think>")
}

/// Whether a completion opens with reasoning that is not empty.
pub fn has_trace(completion: &str) -> bool {
    split_trace(completion).is_some_and(|(trace, _)| !trace.trim().is_empty())
}

/// What stands in the last `\boxed{…}`, braces inside it balanced.
fn boxed(text: &str) -> Option<String> {
    let inside = text.rsplit_once(BOXED)?.1;
    let mut depth = 1;
    for (at, c) in inside.char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(inside[..at].to_owned());
        }
    }
    None
}

/// The last number of a text: digits with commas, a point or, in fractions, a stroke inside, and a minus before.
fn last_number(text: &str, fractions: bool) -> Option<String> {
    let inner = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.') || (fractions && c == '/');
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = text[..end]
        .rfind(|c| !inner(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let number = text[start..end].trim_start_matches(|c: char| !c.is_ascii_digit());
    let before = &text[..end - number.len()];
    // A minus behind a letter or digit is a hyphen or a subtraction.
    let alone = |text: &str| !text.ends_with(|c: char| c.is_alphanumeric());
    let minus = before.strip_suffix('-').is_some_and(|before| alone(before) && !before.ends_with(')'));
    (minus || alone(before)).then(|| format!("{}{}", if minus { "-" } else { "" }, number.replace(',', "")))
}

/// The letter from A to Z that stands alone, if all that do are the same.
fn only_letter(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    let letter = |word: &&str| word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let first = words.find(letter)?;
    words.all(|word| !letter(&word) || word == first).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extract: Extract, completion: &str) -> Option<String> {
        Reading { extract, form: Form::Text }.extract(completion)
    }

    #[test]
    fn only_the_whole_form_has_an_answer() {
        for (completion, expected) in [
            ("<answer>5</answer>", Some("5")),
            ("<think>1,2</think><answer>5</answer>", Some("5")),
            ("<think></think><answer>5</answer>", Some("5")),
            ("<answer>5</answer> ", None),
            (" <answer>5</answer>", None),
            ("5", None),
            ("<answer>5", None),
            ("<answer>5</answer><answer>6</answer>", None),
            ("<think>1<answer>6</answer>", None),
            ("<think>1</think>2<answer>6</answer>", None),
            ("<think><think></think><answer>6</answer>", Some("6")),
        ] {
            assert_eq!(read(Extract::Tags, completion).as_deref(), expected, "{completion:?}");
        }
        assert_eq!(read(Extract::Tags, &"<".repeat(COMPLETION_BYTES_MAX + 1)), None);
        assert!(has_trace("<think>1</think>"));
        assert!(!has_trace("<think> </think><answer>1</answer>") && !has_trace("<answer>1</answer>"));
    }

    #[test]
    fn other_marks_are_found_behind_the_reasoning() {
        for (extract, completion, expected) in [
            (Extract::Boxed, r"so \boxed{4} or \boxed{\frac{1}{2}}.", Some(r"\frac{1}{2}")),
            (Extract::Boxed, r"\boxed{4", None),
            (Extract::Boxed, r"<think>\boxed{4}</think>none", None),
            (Extract::LastNumber, "5 and 1,234.", Some("1234")),
            (Extract::LastNumber, "it is -7 degrees", Some("-7")),
            (Extract::LastNumber, "10-3", Some("3")),
            (Extract::LastNumber, "10 - 3", Some("3")),
            (Extract::LastNumber, "= 2.50€", Some("2.50")),
            (Extract::LastNumber, "...42", Some("42")),
            (Extract::LastNumber, "x2", None),
            (Extract::LastNumber, "é 8", Some("8")),
            (Extract::LastNumber, "none", None),
            (Extract::Letter, "The answer is (B).", Some("B")),
            (Extract::Letter, "B, not A", None),
            (Extract::Letter, "b", None),
            (Extract::Whole, "<think>x</think> Paris ", Some("Paris")),
        ] {
            assert_eq!(read(extract, completion).as_deref(), expected, "{extract:?} {completion:?}");
        }
        let half = Reading { extract: Extract::LastNumber, form: Form::Fraction };
        assert_eq!(half.parse("about 2/4").unwrap().as_str(), "1/2");
    }

    #[test]
    fn a_completion_that_is_made_is_read_back() {
        for extract in [Extract::Tags, Extract::Boxed, Extract::LastNumber, Extract::Whole] {
            let reading = Reading { extract, form: Form::Integer };
            for answer in ["-12", "0"] {
                for trace in [None, Some("1,2")] {
                    let made = reading.completion(trace, answer);
                    assert_eq!(reading.parse(&made).unwrap().as_str(), answer, "{made}");
                }
            }
        }
        let letter = Reading { extract: Extract::Letter, form: Form::Choice };
        assert_eq!(letter.parse(&letter.completion(Some("A or B"), "C")).unwrap().as_str(), "C");
    }
}
