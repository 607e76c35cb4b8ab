//! Defences by name: in the engine, or in the rules of the vote.

use serde::Serialize;

use crate::engine::Defences;
use crate::manifest::Manifest;

/// A defence that a simulation can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defence {
    /// See [`Defences::cover`].
    Cover,
    /// See [`Defences::one_slot`].
    OneSlot,
    /// See [`Defences::one_statement`].
    OneStatement,
    /// See [`Defences::turns`].
    Turns,
    /// See [`Defences::recompute`].
    Recompute,
    /// See [`Defences::rosters`].
    Rosters,
    /// See [`Defences::signatures`].
    Signatures,
    /// See [`Defences::swarms`].
    Swarms,
    /// See [`Defences::quota`].
    Quota,
    /// See [`Defences::reputation`].
    Reputation,
    /// Commits without reveals cost weight: [`judge::Rules::withheld_permille`] and [`judge::Rules::missed_permille`].
    Liveness,
    /// New peers carry no weight at first: [`judge::Rules::probation_ballots`].
    Probation,
}

impl Defence {
    /// Every defence.
    pub const ALL: [Defence; 12] = [
        Self::Cover,
        Self::OneSlot,
        Self::OneStatement,
        Self::Turns,
        Self::Recompute,
        Self::Rosters,
        Self::Signatures,
        Self::Swarms,
        Self::Quota,
        Self::Reputation,
        Self::Liveness,
        Self::Probation,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cover => "cover",
            Self::OneSlot => "one-slot",
            Self::OneStatement => "one-statement",
            Self::Turns => "turns",
            Self::Recompute => "recompute",
            Self::Rosters => "rosters",
            Self::Signatures => "signatures",
            Self::Swarms => "swarms",
            Self::Quota => "quota",
            Self::Reputation => "reputation",
            Self::Liveness => "liveness",
            Self::Probation => "probation",
        }
    }

    /// What it does, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Cover => "a reveal counts only if its commit covers it",
            Self::OneSlot => "the first message for a slot counts",
            Self::OneStatement => "one signature a view, views rising",
            Self::Turns => "the beacon says whose turn it is",
            Self::Recompute => "nobody signs a settlement it does not compute",
            Self::Rosters => "nobody signs peers it does not see",
            Self::Signatures => "every message is signed by its author",
            Self::Swarms => "every message names its swarm",
            Self::Quota => "shared tables have a share for each peer",
            Self::Reputation => "votes weigh what gold says of their authors",
            Self::Liveness => "a commit without reveal costs weight",
            Self::Probation => "new peers carry no weight until tried on gold",
        }
    }

    /// The defence of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|defence| defence.name() == name)
    }

    /// Switches it off in the rules of the vote, where it lives there.
    pub(super) fn leave_out(self, manifest: &mut Manifest) {
        let rules = &mut manifest.judge;
        match self {
            Self::Liveness => (rules.withheld_permille, rules.missed_permille) = (1000, 1000),
            Self::Probation => rules.probation_ballots = 0,
            _ => {}
        }
    }
}

/// All defences of an engine but one.
pub(super) fn without(defence: Option<Defence>) -> Defences {
    let mut up = Defences::default();
    match defence {
        Some(Defence::Cover) => up.cover = false,
        Some(Defence::OneSlot) => up.one_slot = false,
        Some(Defence::OneStatement) => up.one_statement = false,
        Some(Defence::Turns) => up.turns = false,
        Some(Defence::Recompute) => up.recompute = false,
        Some(Defence::Rosters) => up.rosters = false,
        Some(Defence::Signatures) => up.signatures = false,
        Some(Defence::Swarms) => up.swarms = false,
        Some(Defence::Quota) => up.quota = false,
        Some(Defence::Reputation) => up.reputation = false,
        Some(Defence::Liveness | Defence::Probation) | None => {}
    }
    up
}
