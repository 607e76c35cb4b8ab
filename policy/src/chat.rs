//! Chat templates: a conversation to the text that an instruction-tuned model was trained on.
//!
//! The template is the model's own Jinja text, rendered as Python transformers does: blocks are trimmed,
//! `raise_exception`, `strftime_now`, `break` and `continue` exist, JSON is spaced as Python's. Peers must build
//! the same prompt on every machine and day, so `strftime_now` always speaks of [`TEMPLATE_DATE`].
//!
//! A template runs at most so many instructions and writes at most so many bytes. Texts that it joins on the way
//! and keeps in variables are not counted, so take models from authors you trust with your memory.

use std::error::Error as _;
use std::io;
use std::path::Path;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value as Jinja, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::error::{PolicyError, Result};
use crate::load::read_if_present;
use crate::policy::Policy;

/// The day that templates are told: the one Llama 3's template falls back to without a clock.
pub const TEMPLATE_DATE: &str = "2024-07-26";

/// Bytes of a template; the longest published ones have 20 KiB.
const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a rendered conversation.
const RENDERED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Instructions of one rendering; a thousand turns need 62 thousand with Qwen3's template, half with others.
const FUEL: u64 = 1_000_000;
const NAME: &str = "chat_template";
const HINT: &str = "use the chat template that came with the model";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: "system", "user", "assistant" or what else the template knows.
    pub role: String,
    /// What is said; [`guard`](crate::guard) it where it comes from a stranger.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template, compiled, with the spellings of its special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja` or else `chat_template` of `tokenizer_config.json` (a text, or a list where
    /// the one named "default" counts); `None` if the directory has neither.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed, or a template that is not Jinja or too long.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let (alone, config) = (dir.join("chat_template.jinja"), dir.join("tokenizer_config.json"));
        let fields = match read_if_present(&config)? {
            None => Map::new(),
            Some(text) => serde_json::from_str(&text)
                .map_err(|error| PolicyError::damaged(&config, error.to_string(), HINT))?,
        };
        let (path, source) = match read_if_present(&alone)? {
            Some(source) => (alone, Some(source)),
            None => {
                let source = template_of(&fields).map_err(|why| PolicyError::damaged(&config, why, HINT))?;
                (config, source)
            }
        };
        let compiled = source.map(|source| Self::compile(source, special_tokens(&fields)));
        compiled.transpose().map_err(|why| PolicyError::damaged(&path, why, HINT))
    }

    /// Compiles the text of a template; `special` are the variables for special tokens, such as
    /// (`"bos_token"`, `"<s>"`).
    ///
    /// # Errors
    /// [`PolicyError::Input`] with the line that is not Jinja, or for a text over 256 KiB.
    pub fn new(source: &str, special: &[(&str, &str)]) -> Result<Self> {
        let special = special.iter().map(|(name, token)| ((*name).to_owned(), (*token).to_owned())).collect();
        Self::compile(source.to_owned(), special).map_err(|why| PolicyError::input(why, HINT))
    }

    fn compile(source: String, special: Vec<(String, String)>) -> std::result::Result<Self, String> {
        if source.len() > TEMPLATE_BYTES_MAX {
            let size = source.len();
            return Err(format!(
                "a chat template of {size} bytes where at most {TEMPLATE_BYTES_MAX} are read"
            ));
        }
        let named = |error: Error| format!("the chat template cannot be read: {error}");
        let mut environment = environment().map_err(named)?;
        environment.add_template_owned(NAME, without_generation_tags(&source)).map_err(named)?;
        Ok(Self { environment, source, special })
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as the model reads it, special tokens spelled out; with `add_generation_prompt` it ends
    /// where the assistant begins to speak.
    ///
    /// # Errors
    /// [`PolicyError::Input`] with the template's reason (it may refuse an order of roles), or when it runs or
    /// writes beyond its limits.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let failed = |error: Error| {
            PolicyError::input(
                format!("the chat template: {}", with_causes(&error)),
                "change the conversation, or use the template that came with the model",
            )
        };
        let special =
            Jinja::from_pairs(self.special.iter().map(|(name, token)| (name.as_str(), token.as_str())));
        let turn = |message: &Message| {
            Jinja::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
        };
        let variables = context! {
            messages => messages.iter().map(turn).collect::<Jinja>(),
            add_generation_prompt => add_generation_prompt,
            tools => (),
            documents => (),
            ..special
        };
        let mut out = Limited(Vec::new());
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template.render_captured_to(variables, &mut out).map_err(failed)?;
        String::from_utf8(out.0).map_err(|error| PolicyError::input(error.to_string(), HINT))
    }
}

impl Policy {
    /// Ids of a rendered conversation: special tokens where the template wrote them, plain text where
    /// [`guard`](crate::guard) marked a stranger's words. No token is put before the text.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode_chat(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        self.check_text()?;
        Ok(self.codec().encode_guarded(&template.render(messages, add_generation_prompt)?))
    }

    /// Ids of a text in which no spelling counts as a special or added token.
    pub fn encode_plain(&self, text: &str) -> Vec<u32> {
        self.codec().encode_plain(text)
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn template_of(config: &Map<String, Value>) -> std::result::Result<Option<String>, String> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let template = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => {
            let default = list.iter().find(named).ok_or("chat_template has none named \"default\"")?;
            default.get("template").unwrap_or(&Value::Null)
        }
        Some(one) => one,
    };
    let text = template.as_str().ok_or("chat_template is not a text")?;
    Ok(Some(text.to_owned()))
}

/// Spellings given as a text or as `{"content": text, …}`.
fn special_tokens(config: &Map<String, Value>) -> Vec<(String, String)> {
    let spelled = |name: &str| {
        let value = config.get(name)?;
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some((name.to_owned(), text.to_owned()))
    };
    ["bos_token", "eos_token", "unk_token", "pad_token"].into_iter().filter_map(spelled).collect()
}

/// `{% generation %}` marks what the assistant says for training masks and renders its inside; minijinja knows no
/// such tag, and `{% if true %}` does the same to white space.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for (i, part) in source.split("{%").enumerate() {
        let tag = part.split("%}").next().unwrap_or_default();
        out.push_str(if i > 0 { "{%" } else { "" });
        match tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace()) {
            "generation" => out.push_str(&part.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&part.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(part),
        }
    }
    out
}

fn environment() -> std::result::Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.remove_global("debug");
    environment.add_filter("tojson", to_json);
    // Python iterates over undefined but not over none, and counts texts and mappings as sequences.
    environment.add_test("iterable", |value: &Jinja| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Jinja| {
        value.is_undefined() || matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_function("raise_exception", |message: &str| -> std::result::Result<Jinja, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
    });
    Ok(environment)
}

/// The fixed date through the directives that templates use.
fn strftime_now(format: &str) -> std::result::Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match chars.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d') => "26",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            other => {
                let directive = other.map(String::from).unwrap_or_default();
                let what = format!("strftime_now does not know the directive %{directive}");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        });
    }
    Ok(out)
}

/// As Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Jinja, options: Kwargs) -> std::result::Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent.map(|n| " ".repeat(n.min(8))) {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(indent) => {
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, pretty))
        }
    };
    let failed = |why: String| Error::new(ErrorKind::InvalidOperation, why);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

/// JSON on one line with Python's spaces after comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Bytes that refuse to grow beyond what a rendered conversation may have.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_BYTES_MAX {
            return Err(io::Error::other(format!("it writes more than {RENDERED_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
