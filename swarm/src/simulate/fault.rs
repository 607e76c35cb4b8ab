//! What can go wrong without anybody being dishonest.

use serde::Serialize;

/// A fault that a simulation can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Messages are lost.
    Loss,
    /// Messages arrive twice.
    Duplicate,
    /// Messages overtake each other by seconds.
    Reorder,
    /// No message passes between two groups.
    Partition,
    /// Messages pass between two groups in one direction only.
    OneWay,
    /// A peer stops and starts again from its disk.
    Crash,
    /// A peer stops between two things that it was about to do, and starts again from its disk.
    Cut,
    /// A peer starts again without its disk. Such a peer may sign a second time what it has forgotten signing, so
    /// it counts among the dishonest.
    LostDisk,
    /// A peer stops for good. It counts among the dishonest, because a quorum may need it.
    NeverReturn,
    /// A peer's work takes longer than anybody waits for.
    Straggler,
    /// Clocks start up to 30 s apart.
    Skew,
    /// Clocks run up to 10 % fast or slow.
    Drift,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 12] = [
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::Partition,
        Self::OneWay,
        Self::Crash,
        Self::Cut,
        Self::LostDisk,
        Self::NeverReturn,
        Self::Straggler,
        Self::Skew,
        Self::Drift,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Crash => "crash",
            Self::Cut => "cut",
            Self::LostDisk => "lost-disk",
            Self::NeverReturn => "never-return",
            Self::Straggler => "straggler",
            Self::Skew => "skew",
            Self::Drift => "drift",
        }
    }

    /// The fault of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether a peer that suffers it counts among the dishonest.
    pub(super) fn is_of_a_peer(self) -> bool {
        matches!(self, Self::LostDisk | Self::NeverReturn)
    }

    /// Whether it comes and goes with a storm.
    pub(super) fn is_of_a_storm(self) -> bool {
        !self.is_of_a_peer() && !matches!(self, Self::Skew | Self::Drift)
    }
}
