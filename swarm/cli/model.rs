//! Models by what the user types: the name of an embedded base, or a directory.

use std::path::Path;

use policy::{ChatTemplate, Policy};

use crate::config::{ConfigError, nearest};

/// Opens a model without its text (see [`Policy::without_text`]); a directory needs no tokenizer then.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_without_text(name: &str) -> anyhow::Result<Policy> {
    let path = Path::new(name);
    match path.is_dir() && !policy::bases().contains(&name) {
        true => Ok(Policy::load_without_text(path)?),
        false => Ok(open(name)?.without_text()),
    }
}

/// Opens a model. A name without a path separator is an embedded base first; `./amber` is always a directory.
///
/// # Errors
/// [`ConfigError`] when there is neither, else what is wrong with the directory.
pub(crate) fn open(name: &str) -> anyhow::Result<Policy> {
    if policy::bases().contains(&name) {
        return Ok(Policy::embedded(name)?);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Policy::load(path)?);
    }
    let known = policy::bases();
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean the embedded base `{near}`?"),
        None => format!("give a Hugging Face directory or an embedded base ({})", known.join(", ")),
    };
    Err(ConfigError::new(name, "no such model", hint).into())
}

/// The chat template that came with a model; `None` if it has none, as the embedded bases.
///
/// # Errors
/// A template that cannot be read.
pub(crate) fn chat_template(name: &str) -> anyhow::Result<Option<ChatTemplate>> {
    if policy::bases().contains(&name) {
        return Ok(None);
    }
    Ok(ChatTemplate::load(Path::new(name))?)
}

/// The first eight bytes of the hash of the weights, in hexadecimal.
pub(crate) fn short_hash(policy: &Policy) -> String {
    hex(&policy.hash()[..8])
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
