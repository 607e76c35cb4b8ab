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

const NAMES: [&str; 3] = ["amber", "birch", "cedar"];
static BASES: [Base; 3] = [base!("amber"), base!("birch"), base!("cedar")];

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every published figure belongs to these weights: whoever changes a base measures again.
    #[test]
    fn bases_are_the_published_ones() {
        let published = [
            ("amber", "c834208bbd472ecf943ba4b56ab119cb2bc3a5b86cbc5eea8e1648cbc622ffa8"),
            ("birch", "df8c9537b05c5fe6de9675988495d87c227276bba1532752c99061210e47b3a8"),
            ("cedar", "e2753adb9ac9d911cb255688b1e657eca2969fc509f59e7a8b244bd8322a4f95"),
        ];
        assert_eq!(published.map(|(name, _)| name), NAMES);
        for (name, expected) in published {
            let hash: String =
                Policy::embedded(name).unwrap().hash().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hash, expected, "{name}");
        }
        assert!(Policy::embedded("ambre").unwrap_err().to_string().contains("amber, birch, cedar"));
    }
}
