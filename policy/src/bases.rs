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
            ("amber", "91749cd3252e86530f2441adfbd77a1ea239c6e0ad2f63b4af2cc18dc79f94c0"),
            ("birch", "061c90756135b02824c923d831198139baf3d077c769079168a60ee5c4af6543"),
            ("cedar", "7f1008e2b64336cb573eb544671e3bc7802a86d49c68fc24911e36729c120f76"),
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
