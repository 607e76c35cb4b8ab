//! The base models that ship inside the binary, so that a swarm runs without a download.

use crate::error::{PolicyError, Result};
use crate::files;
use crate::policy::Policy;

struct Base {
    name: &'static str,
    config: &'static str,
    weights: &'static [u8],
    tokenizer: &'static str,
}

macro_rules! base {
    ($name:literal) => {
        Base {
            name: $name,
            config: include_str!(concat!("../bases/", $name, "/config.json")),
            weights: include_bytes!(concat!("../bases/", $name, "/model.safetensors")),
            tokenizer: include_str!(concat!("../bases/", $name, "/tokenizer.json")),
        }
    };
}

const NAMES: [&str; 0] = [];
static BASES: [Base; 0] = [];

/// Names of the embedded bases.
pub fn bases() -> &'static [&'static str] {
    &NAMES
}

impl Policy {
    /// An embedded base by name.
    ///
    /// # Errors
    /// [`PolicyError::UnknownBase`].
    pub fn embedded(name: &str) -> Result<Self> {
        let unknown = || PolicyError::UnknownBase { name: name.to_owned(), known: NAMES.join(", ") };
        let base = BASES.iter().find(|base| base.name == name).ok_or_else(unknown)?;
        files::from_texts(base.config, base.weights, base.tokenizer)
    }
}
