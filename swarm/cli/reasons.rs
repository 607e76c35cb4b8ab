//! Why peers that were asked for something gave nothing yet.

use std::collections::BTreeMap;
use std::fmt;

/// Reasons that are told; further ones are counted.
const TOLD_MAX: usize = 8;

/// The newest reason of each peer or address.
#[derive(Debug, Default)]
pub(crate) struct Reasons(BTreeMap<String, String>);

impl Reasons {
    /// Takes a reason down in place of an older one.
    pub(crate) fn say(&mut self, who: String, what: String) {
        self.0.insert(who, what);
    }

    /// Whether there is a reason already.
    pub(crate) fn has(&self, who: &str) -> bool {
        self.0.contains_key(who)
    }

    /// Takes a reason down if there is none yet.
    pub(crate) fn say_first(&mut self, who: String, what: &str) {
        self.0.entry(who).or_insert_with(|| what.to_owned());
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told: Vec<String> =
            self.0.iter().take(TOLD_MAX).map(|(who, what)| format!("{who}: {what}")).collect();
        if told.is_empty() {
            told.push("nobody answered".into());
        }
        if self.0.len() > TOLD_MAX {
            told.push(format!("and {} more", self.0.len() - TOLD_MAX));
        }
        f.write_str(&told.join("; "))
    }
}
