//! Config files: TOML into any type, and errors that say where, what and what instead.
//!
//! Types derive `Deserialize` with `deny_unknown_fields`, so a misspelt key is never silently a default.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

/// Bytes of a config file; more is not a config.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a config or an argument; exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: String,
    line: Option<usize>,
    message: String,
    hint: String,
}

impl ConfigError {
    /// A value that was read and cannot be used.
    pub(crate) fn value(file: impl fmt::Display, key: &str, what: impl fmt::Display) -> Self {
        Self {
            file: file.to_string(),
            line: None,
            message: format!("`{key}` {what}"),
            hint: format!("change `{key}`"),
        }
    }

    /// What serde says of the values of a file, variable or argument.
    pub(crate) fn explained(file: impl fmt::Display, message: &str) -> Self {
        let (message, hint) = explain(message);
        Self::new(file, message, hint)
    }

    /// Anything else about a file or argument, with what to do.
    pub(crate) fn new(file: impl fmt::Display, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: None, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.hint) }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a config file.
///
/// # Errors
/// [`ConfigError`]: not readable, too long, not TOML, an unknown key, a value of the wrong type, a missing key.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&path.display().to_string(), &text(path)?)
}

/// The text of a config file.
///
/// # Errors
/// [`ConfigError`]: not readable, too long.
pub(crate) fn text(path: &Path) -> Result<String, ConfigError> {
    let file = path.display();
    let unreadable = |e: std::io::Error| {
        ConfigError::new(&file, format!("cannot read the config: {e}"), "give the path of a TOML file")
    };
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    opened.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let what = format!("longer than {CONFIG_BYTES_MAX} bytes");
        return Err(ConfigError::new(file, what, "give the path of a TOML file"));
    }
    Ok(text)
}

/// The number of the line that holds the byte at `offset`.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Reads the text of a config; `file` is its name in errors.
///
/// # Errors
/// As [`read`].
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        let (message, hint) = explain(error.message());
        ConfigError { file: file.into(), line, message, hint }
    })
}

/// What an error says, and the hint behind it: the program's own put it on a line of its own, the libraries' behind a
/// semicolon. Empty where there is none.
pub(crate) fn split_hint(text: &str) -> (&str, &str) {
    text.split_once("\nhint: ").or_else(|| text.split_once("; hint: ")).unwrap_or((text, ""))
}

/// Serde's sentence as ours, with the nearest known name.
fn explain(message: &str) -> (String, String) {
    let names = quoted(message);
    for (start, what) in [("unknown field", "key"), ("unknown variant", "value")] {
        let (Some(_), Some((unknown, known))) = (message.strip_prefix(start), names.split_first()) else {
            continue;
        };
        let hint = match nearest(unknown, known) {
            Some(name) => format!("did you mean `{name}`?"),
            None if known.is_empty() => "remove it".into(),
            None => format!("known here: {}", known.join(", ")),
        };
        return (format!("unknown {what} `{unknown}`"), hint);
    }
    if let (true, Some(name)) = (message.starts_with("missing field"), names.first()) {
        return (format!("the key `{name}` is missing"), format!("add `{name} = …`"));
    }
    match message.split_once(", expected ") {
        Some((got, expected)) => (format!("{got}, expected {expected}"), wanted(expected)),
        None => (message.trim_end().to_owned(), String::new()),
    }
}

/// What a reader of TOML expects, in words for whoever writes it.
fn wanted(expected: &str) -> String {
    let whole =
        |low: &dyn fmt::Display, high: &dyn fmt::Display| format!("give a whole number from {low} to {high}");
    match expected.trim() {
        "u8" => whole(&u8::MIN, &u8::MAX),
        "u16" => whole(&u16::MIN, &u16::MAX),
        "u32" => whole(&u32::MIN, &u32::MAX),
        "u64" | "usize" => "give a whole number, not below 0".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "give a whole number".into(),
        "f32" | "f64" => "give a number".into(),
        "a boolean" => "give true or false".into(),
        "`,`" => "separate the values with a comma, or close the list before this line".into(),
        "a string" | "path string" | "literal string" => "give text in quotes".into(),
        "a sequence" => "give a list in brackets, such as [\"…\"]".into(),
        "a map" => "give a section, such as [name], or { key = value }".into(),
        closing if matches!(closing, "`]`" | "`}`" | "`)`" | "`\"`" | "`'`" | "`]]`") => {
            format!("close what was opened before with {closing}")
        }
        section if section.starts_with("struct ") => "give a section with its keys".into(),
        other => format!("write {other} there"),
    }
}

/// What stands between backticks.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The known name most like `unknown`, if any is like it at all.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    alike(unknown, known, 0.75).into_iter().next()
}

/// The known names that are like `unknown`, by at least so much of 1, the most alike first.
pub(crate) fn alike<'a>(unknown: &str, known: &[&'a str], least: f64) -> Vec<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase());
    let mut alike: Vec<(f64, &str)> = known.iter().map(|name| (likeness(name), *name)).collect();
    alike.retain(|(likeness, _)| *likeness >= least);
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        rounds: u32,
        #[serde(default)]
        pace: Pace,
        #[serde(default)]
        net: Net,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Pace {
        #[default]
        Fast,
        Careful,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code)]
    struct Net {
        listen: Vec<String>,
        peers_max: u32,
    }

    #[test]
    fn errors_say_where_what_and_what_instead() {
        for (text, expected) in [
            ("rounds = 3\nruonds = 4", "c.toml:2: unknown key `ruonds`\nhint: did you mean `rounds`?"),
            (
                "rounds = 3\n[net]\nlisten = []\npeer_max = 2",
                "c.toml:4: unknown key `peer_max`\nhint: did you mean `peers_max`?",
            ),
            (
                "rounds = 3\n[net]\nzzz = 1",
                "c.toml:3: unknown key `zzz`\nhint: known here: listen, peers_max",
            ),
            (
                "rounds = \"x\"",
                "c.toml:1: invalid type: string \"x\", expected u32\nhint: give a whole number from 0 to 4294967295",
            ),
            (
                "rounds = 3\npace = \"carefull\"",
                "c.toml:2: unknown value `carefull`\nhint: did you mean `careful`?",
            ),
            ("pace = \"fast\"", "c.toml:1: the key `rounds` is missing\nhint: add `rounds = …`"),
        ] {
            assert_eq!(parse::<Sample>("c.toml", text).unwrap_err().to_string(), expected, "{text}");
        }
        let torn = parse::<Sample>("c.toml", "rounds = 1\n[net").unwrap_err().to_string();
        assert!(
            torn.starts_with("c.toml:2: ") && torn.ends_with("\nhint: close what was opened before with `]`"),
            "{torn}"
        );
        assert!(parse::<Sample>("c.toml", "rounds = 3").is_ok());
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = read::<Sample>(Path::new("no/such.toml")).unwrap_err().to_string();
        assert!(error.starts_with("no/such.toml: cannot read the config"), "{error}");
    }
}
