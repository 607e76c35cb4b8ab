//! From a completion to a canonical answer, strictly.
//!
//! A completion is `<think>…</think><answer>…</answer>`, the reasoning optional, nothing else. Votes
//! cluster on the canonical form, so two spellings of one answer must not stay two: an integer has no
//! plus sign, no leading zeros and no minus zero; everything else is not an integer. There is no credit for a part of an
//! answer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 64;
/// Bytes of a completion that is looked at; a longer one has no answer.
pub const COMPLETION_BYTES_MAX: usize = 16 * 1024;

const OPEN: &str = "<answer>";
const CLOSE: &str = "</answer>";

/// A canonical answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Answer(String);

impl Answer {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What answers of a pack look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A whole number of up to 18 digits.
    #[default]
    Integer,
    /// A letter of a choice, without regard to case.
    Choice,
    /// Any text; runs of white space count as one space.
    Text,
}

impl Form {
    /// The canonical form of `text`, or `None` when it is no such answer.
    ///
    /// ```
    /// use tasks::Form;
    /// assert_eq!(Form::Integer.canonical(" -07 "), None, "leading zeros are another spelling");
    /// assert_eq!(Form::Integer.canonical("-7").unwrap().as_str(), "-7");
    /// assert_eq!(Form::Choice.canonical("b").unwrap().as_str(), "B");
    /// ```
    pub fn canonical(self, text: &str) -> Option<Answer> {
        let canonical = match self {
            Self::Integer => integer(text)?,
            Self::Choice => choice(text.trim())?,
            Self::Text => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        (1..=ANSWER_BYTES_MAX).contains(&canonical.len()).then_some(Answer(canonical))
    }
}

fn integer(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let spelled_once = text == "0" || !digits.starts_with('0');
    (plain && spelled_once).then(|| text.to_string())
}

fn choice(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let letter = letters.next().filter(char::is_ascii_alphabetic)?;
    letters.next().is_none().then(|| letter.to_ascii_uppercase().to_string())
}

/// The text between the answer tags of a well-formed completion.
pub(crate) fn extract(completion: &str) -> Option<&str> {
    if completion.len() > COMPLETION_BYTES_MAX {
        return None;
    }
    let rest = match split_trace(completion) {
        Some((_, rest)) => rest,
        None => completion,
    };
    let answer = rest.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    (!answer.contains('<')).then_some(answer)
}

/// Reasoning and the rest, when the completion opens with reasoning.
fn split_trace(completion: &str) -> Option<(&str, &str)> {
    completion.strip_prefix("<think>")?.split_once("</think>")
}

/// Whether a completion opens with reasoning that is not empty.
pub fn has_trace(completion: &str) -> bool {
    split_trace(completion).is_some_and(|(trace, _)| !trace.trim().is_empty())
}

/// `<answer>…</answer>`, after reasoning when there is some.
pub(crate) fn completion(trace: Option<&str>, answer: &str) -> String {
    match trace {
        Some(trace) => format!("<think>{trace}</think>{OPEN}{answer}{CLOSE}"),
        None => format!("{OPEN}{answer}{CLOSE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_an_answer() {
        for (form, text, expected) in [
            (Form::Integer, "16", Some("16")),
            (Form::Integer, "-3", Some("-3")),
            (Form::Integer, "0", Some("0")),
            (Form::Integer, "-0", None),
            (Form::Integer, "007", None),
            (Form::Integer, "+3", None),
            (Form::Integer, "3.0", None),
            (Form::Integer, "", None),
            (Form::Integer, "-", None),
            (Form::Integer, "٣", None),
            (Form::Integer, "1234567890123456789", None),
            (Form::Choice, " c ", Some("C")),
            (Form::Choice, "cc", None),
            (Form::Text, "  two   words ", Some("two words")),
            (Form::Text, "   ", None),
        ] {
            assert_eq!(form.canonical(text).as_ref().map(Answer::as_str), expected, "{text:?}");
        }
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
            assert_eq!(extract(completion), expected, "{completion:?}");
        }
        assert_eq!(extract(&"<".repeat(COMPLETION_BYTES_MAX + 1)), None);
        assert!(has_trace("<think>1</think>"));
        assert!(!has_trace("<think> </think><answer>1</answer>") && !has_trace("<answer>1</answer>"));
    }
}
