//! Canonical forms of answers, strictly.
//!
//! Votes cluster on the canonical form, so two spellings of one answer must not stay two. A form either merges
//! spellings (`6/8` is `3/4`, `2.50` is `2.5`) or refuses all but one (an integer has no plus sign, no leading zeros
//! and no minus zero). There is no credit for a part of an answer.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 256;
/// Digits of a number.
const DIGITS_MAX: usize = 18;

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
    /// A number with up to 18 digits before and behind the point; zeros at its end do not count.
    Decimal,
    /// `a/b` in lowest terms, or a whole number; numerator and denominator of up to 18 digits.
    Fraction,
    /// A letter of a choice, without regard to case.
    Choice,
    /// Any text; runs of white space count as one space.
    Text,
    /// Texts between commas; order and repetition do not count.
    Set,
    /// Texts between commas, in order.
    Sequence,
    /// Rows of equal length between line breaks or semicolons; cells between blanks.
    Grid,
}

impl Form {
    /// The canonical form of `text`, or `None` when it is no such answer.
    ///
    /// ```
    /// use tasks::Form;
    /// assert_eq!(Form::Integer.canonical(" -07 "), None, "leading zeros are another spelling");
    /// assert_eq!(Form::Integer.canonical("-7").unwrap().as_str(), "-7");
    /// assert_eq!(Form::Fraction.canonical("-6/8").unwrap().as_str(), "-3/4");
    /// assert_eq!(Form::Set.canonical("pear, apple").unwrap().as_str(), "apple,pear");
    /// ```
    pub fn canonical(self, text: &str) -> Option<Answer> {
        // Long before the limit on the result: a stranger's text is not worth sorting.
        if text.len() > 4 * ANSWER_BYTES_MAX {
            return None;
        }
        let canonical = match self {
            Self::Integer => integer(text)?.to_owned(),
            Self::Decimal => decimal(text.trim())?,
            Self::Fraction => fraction(text.trim())?,
            Self::Choice => choice(text.trim())?,
            Self::Text => one_spaced(text),
            Self::Set => {
                elements(text)?.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
            }
            Self::Sequence => elements(text)?.join(","),
            Self::Grid => grid(text)?,
        };
        (1..=ANSWER_BYTES_MAX).contains(&canonical.len()).then_some(Answer(canonical))
    }

    /// An example, for hints.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Integer => "an integer such as -12: no plus sign, no leading zeros",
            Self::Decimal => "a decimal such as 2.5",
            Self::Fraction => "a fraction such as 3/4, or a whole number",
            Self::Choice => "a letter such as B",
            Self::Text => "a text of at most 256 bytes",
            Self::Set => "texts between commas, in any order: 2,3,5",
            Self::Sequence => "texts between commas, in order: 5,3,2",
            Self::Grid => "rows of equal length between semicolons, cells between blanks: 1 2;3 4",
        }
    }
}

fn digits(text: &str) -> bool {
    (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits with no zero before them but zero itself.
fn natural(text: &str) -> Option<&str> {
    (digits(text) && (text == "0" || !text.starts_with('0'))).then_some(text)
}

fn integer(text: &str) -> Option<&str> {
    match text.strip_prefix('-') {
        Some(rest) => natural(rest).filter(|rest| *rest != "0").map(|_| text),
        None => natural(text),
    }
}

/// The sign, and the text without it.
fn sign(text: &str) -> (&str, &str) {
    text.strip_prefix('-').map_or(("", text), |rest| ("-", rest))
}

fn decimal(text: &str) -> Option<String> {
    let (minus, number) = sign(text);
    let (whole, part) = match number.split_once('.') {
        Some((whole, part)) => (natural(whole)?, digits(part).then(|| part.trim_end_matches('0'))?),
        None => (natural(number)?, ""),
    };
    let minus = if whole == "0" && part.is_empty() { "" } else { minus };
    Some(if part.is_empty() { format!("{minus}{whole}") } else { format!("{minus}{whole}.{part}") })
}

fn fraction(text: &str) -> Option<String> {
    let (minus, number) = sign(text);
    let (above, below) = number.split_once('/').unwrap_or((number, "1"));
    let parse = |text: &str| natural(text.trim())?.parse::<u64>().ok();
    let (above, below) = (parse(above)?, parse(below).filter(|below| *below > 0)?);
    let divisor = gcd(above, below);
    let (above, below) = (above / divisor, below / divisor);
    let minus = if above == 0 { "" } else { minus };
    Some(if below == 1 { format!("{minus}{above}") } else { format!("{minus}{above}/{below}") })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn choice(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let letter = letters.next().filter(char::is_ascii_alphabetic)?;
    letters.next().is_none().then(|| letter.to_ascii_uppercase().to_string())
}

fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn elements(text: &str) -> Option<Vec<String>> {
    let elements: Vec<String> = text.split(',').map(one_spaced).collect();
    elements.iter().all(|element| !element.is_empty()).then_some(elements)
}

fn grid(text: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> =
        text.trim().split(['\n', ';']).map(|row| row.split_whitespace().collect()).collect();
    let width = rows.first()?.len();
    let even = width > 0 && rows.iter().all(|row| row.len() == width);
    even.then(|| rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>().join(";"))
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
            (Form::Decimal, " 2.50 ", Some("2.5")),
            (Form::Decimal, "2.00", Some("2")),
            (Form::Decimal, "-0.0", Some("0")),
            (Form::Decimal, "-0.05", Some("-0.05")),
            (Form::Decimal, "02.5", None),
            (Form::Decimal, ".5", None),
            (Form::Decimal, "5.", None),
            (Form::Decimal, "1e3", None),
            (Form::Fraction, "6/8", Some("3/4")),
            (Form::Fraction, "-6/3", Some("-2")),
            (Form::Fraction, "-0/3", Some("0")),
            (Form::Fraction, "7", Some("7")),
            (Form::Fraction, "1/0", None),
            (Form::Fraction, "1/-2", None),
            (Form::Fraction, "1/2/3", None),
            (Form::Choice, " c ", Some("C")),
            (Form::Choice, "cc", None),
            (Form::Text, "  two   words ", Some("two words")),
            (Form::Text, "   ", None),
            (Form::Set, "3, 1,3", Some("1,3")),
            (Form::Set, "3,,1", None),
            (Form::Sequence, "3, 1,3", Some("3,1,3")),
            (Form::Sequence, "", None),
            (Form::Grid, "1 2\n3  4\n", Some("1 2;3 4")),
            (Form::Grid, "1 2;3", None),
            (Form::Grid, ";", None),
        ] {
            assert_eq!(form.canonical(text).as_ref().map(Answer::as_str), expected, "{form:?} {text:?}");
        }
    }

    #[test]
    fn a_canonical_answer_is_its_own_canonical_form_and_no_longer_than_allowed() {
        for (form, text) in [
            (Form::Decimal, "-3.1400"),
            (Form::Fraction, "100/64"),
            (Form::Set, "b,a , c"),
            (Form::Sequence, "b , a"),
            (Form::Grid, "a b\nc d"),
        ] {
            let once = form.canonical(text).unwrap();
            assert_eq!(form.canonical(once.as_str()), Some(once));
        }
        assert!(Form::Text.canonical(&"x".repeat(ANSWER_BYTES_MAX)).is_some());
        assert_eq!(Form::Text.canonical(&"x".repeat(ANSWER_BYTES_MAX + 1)), None);
        assert_eq!(Form::Set.canonical(&"x,".repeat(1_000_000)), None);
    }
}
