//! The dishonest characters by name.

use serde::Serialize;

use super::adversary::Adversary;

/// What a dishonest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Says nothing at all but that it is there.
    Silence,
}

impl Attack {
    /// Every attack.
    pub const ALL: [Attack; 1] = [Self::Silence];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
        }
    }

    /// The attack of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }

    /// A peer that does it.
    pub(super) fn adversary(self) -> Box<dyn Adversary> {
        match self {
            Self::Silence => Box::new(super::attacks::Silence),
        }
    }
}
