//! The dishonest characters by name: what each does, what stands against it, and how to tell who won.

use serde::Serialize;

use super::adversary::{Adversary, Place};
use super::attacks::{
    Cook, Copy, Flood, Forge, Garbage, Ghosts, Hide, Oversize, Replay, Ring, Silence, TwoMessages,
    TwoStatements, Usurp, Withhold,
};
use super::defence::Defence;
use super::measure::Measures;

/// What a dishonest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Says nothing at all but that it is there.
    Silence,
    /// Says one thing to one half of the swarm and another to the other.
    TwoMessages,
    /// Commits again when it has seen the others' answers.
    Recommit,
    /// Commits and never reveals.
    Withhold,
    /// Reveals somebody else's answers.
    Copy,
    /// Votes for one wrong answer with all it has, together with the others of its kind.
    Ring,
    /// Comes late, with others of its kind, and then votes like a ring.
    Newcomers,
    /// Random and damaged bytes.
    Garbage,
    /// Messages in others' names.
    Forge,
    /// Messages of megabytes.
    Oversize,
    /// What was said before, or in another swarm.
    Replay,
    /// More than anybody can keep.
    Flood,
    /// Two proposals and two signatures in one view.
    TwoStatements,
    /// Proposes whatever others proposed, out of turn.
    Usurp,
    /// Proposes rosters of peers that do not exist.
    Ghosts,
    /// Proposes settlements that do not follow.
    Cook,
    /// Shows proposals to some and certificates to nobody.
    Hide,
}

/// Who won, by what number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What was measured.
    pub what: &'static str,
    /// How much of it.
    pub measured: u64,
    /// Whether that is what the attack was after.
    pub succeeded: bool,
}

impl Attack {
    /// Every attack.
    pub const ALL: [Attack; 17] = [
        Self::Silence,
        Self::TwoMessages,
        Self::Recommit,
        Self::Withhold,
        Self::Copy,
        Self::Ring,
        Self::Newcomers,
        Self::Garbage,
        Self::Forge,
        Self::Oversize,
        Self::Replay,
        Self::Flood,
        Self::TwoStatements,
        Self::Usurp,
        Self::Ghosts,
        Self::Cook,
        Self::Hide,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::TwoMessages => "two-messages",
            Self::Recommit => "recommit",
            Self::Withhold => "withhold",
            Self::Copy => "copy",
            Self::Ring => "ring",
            Self::Newcomers => "newcomers",
            Self::Garbage => "garbage",
            Self::Forge => "forge",
            Self::Oversize => "oversize",
            Self::Replay => "replay",
            Self::Flood => "flood",
            Self::TwoStatements => "two-statements",
            Self::Usurp => "usurp",
            Self::Ghosts => "ghosts",
            Self::Cook => "cook",
            Self::Hide => "hide",
        }
    }

    /// What it does, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Silence => "nothing but heartbeats",
            Self::TwoMessages => "one commit and ballot for each half of the swarm",
            Self::Recommit => "a second commit, after the others' answers were seen",
            Self::Withhold => "commits without reveals",
            Self::Copy => "reveals somebody else's answers",
            Self::Ring => "two of seven vote for one wrong answer with all they have",
            Self::Newcomers => "two come late and vote for one wrong answer",
            Self::Garbage => "random and damaged bytes",
            Self::Forge => "messages in others' names",
            Self::Oversize => "messages of megabytes",
            Self::Replay => "what was said before, or in another swarm",
            Self::Flood => "hundreds of messages a second for rounds to come",
            Self::TwoStatements => "two proposals and signatures in one view",
            Self::Usurp => "takes over others' proposals, out of turn",
            Self::Ghosts => "rosters of peers that do not exist",
            Self::Cook => "settlements that do not follow",
            Self::Hide => "proposals shown to half, certificates to nobody",
        }
    }

    /// The attack of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }

    /// The defence that stands against it alone; `None` where there is no single one.
    pub fn defence(self) -> Option<Defence> {
        match self {
            Self::Recommit => Some(Defence::OneSlot),
            Self::Withhold => Some(Defence::Liveness),
            Self::Copy => Some(Defence::Cover),
            Self::Ring => Some(Defence::Reputation),
            Self::Newcomers => Some(Defence::Probation),
            Self::Forge => Some(Defence::Signatures),
            Self::Replay => Some(Defence::Swarms),
            Self::Flood => Some(Defence::Quota),
            Self::TwoStatements => Some(Defence::OneStatement),
            Self::Usurp => Some(Defence::Turns),
            Self::Ghosts => Some(Defence::Rosters),
            Self::Cook => Some(Defence::Recompute),
            Self::Silence | Self::TwoMessages | Self::Garbage | Self::Oversize | Self::Hide => None,
        }
    }

    /// What it came to.
    pub fn outcome(self, measures: &Measures) -> Outcome {
        let m = measures;
        let (what, measured, succeeded) = match self {
            Self::Silence | Self::TwoMessages | Self::Garbage | Self::Hide | Self::Forge => {
                ("rounds a minute", m.rounds_a_minute, m.rounds_a_minute < 2)
            }
            Self::Replay => ("rounds a minute", m.rounds_a_minute, m.rounds_a_minute < 20),
            Self::Flood => ("messages kept for later", m.early, m.early > 300),
            Self::Recommit | Self::Copy => {
                let what = "reward of its answers, permille";
                (what, m.reward_permille, m.reward_permille * 2 > m.honest_reward_permille)
            }
            Self::Withhold => {
                ("its part of the vote weight, permille", m.weight_permille, m.weight_permille > 100)
            }
            Self::Ring => ("wrong labels, permille", m.wrong_labels_permille, m.wrong_labels_permille > 400),
            Self::Newcomers => {
                let worst = m.wrong_labels_worst_permille;
                ("wrong labels in the worst round, permille", worst, worst > 400)
            }
            Self::Oversize => ("bytes of a round", m.round_bytes, m.round_bytes > 1 << 20),
            Self::TwoStatements => ("certificates in conflict", m.conflicts, m.conflicts > 0),
            Self::Usurp => ("certificates out of turn", m.stolen, m.stolen > 0),
            Self::Ghosts => ("members that are nobody", m.ghosts, m.ghosts > 0),
            Self::Cook => ("settlements nobody computed", m.unsigned_settlements, m.unsigned_settlements > 0),
        };
        Outcome { what, measured, succeeded }
    }

    /// How many peers show it best: a ring needs company.
    pub fn company(self) -> u16 {
        match self {
            Self::Ring | Self::Newcomers => 2,
            _ => 1,
        }
    }

    /// Whether its peers are not among those that found the swarm.
    pub(super) fn comes_late(self) -> bool {
        self == Self::Newcomers
    }

    /// A peer that does it.
    pub(super) fn adversary(self) -> Box<dyn Adversary> {
        match self {
            Self::Silence => Box::new(Silence),
            Self::TwoMessages => Box::new(TwoMessages),
            Self::Recommit => Box::new(Copy::again()),
            Self::Withhold => Box::new(Withhold),
            Self::Copy => Box::new(Copy::default()),
            Self::Ring => Box::new(Ring { name: "ring" }),
            Self::Newcomers => Box::new(Ring { name: "newcomers" }),
            Self::Garbage => Box::new(Garbage),
            Self::Forge => Box::new(Forge { at: Place::default() }),
            Self::Oversize => Box::new(Oversize),
            Self::Replay => Box::new(Replay::default()),
            Self::Flood => Box::new(Flood { nth: 0 }),
            Self::TwoStatements => Box::new(TwoStatements),
            Self::Usurp => Box::new(Usurp),
            Self::Ghosts => Box::new(Ghosts::default()),
            Self::Cook => Box::new(Cook::default()),
            Self::Hide => Box::new(Hide),
        }
    }
}
