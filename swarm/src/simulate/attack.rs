//! The dishonest characters by name: what each does, what stands against it, and how to tell who won.

use serde::Serialize;

use super::adversary::Adversary;
use super::attacks::{
    Bombs, Copy, Crowd, Flood, Forge, ForgeCertificates, Garbage, Hide, Intrude, Oversize, Poison, Replay,
    Rewind, Ring, Silence, SwapBodies, Twist, TwoMessages, TwoStatements, Undead, Usurp, Withhold,
    WithholdBodies,
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
    /// Not a peer but the network: it keeps two branches of certificates alive.
    Fork,
    /// With the network, which hides certificates: ends a round once more when it is final for some.
    Rewind,
    /// Many new identities come when most of the swarm has gone, and certify by themselves.
    Crowd,
    /// Certificates with signatures that nobody made.
    ForgeCertificates,
    /// Leaves everybody else out of the next roster.
    Expel,
    /// Convicts honest peers of nothing.
    Slander,
    /// Repeats what peers said that have stopped.
    Undead,
    /// Many identities that nobody invited.
    Sybils,
    /// The same with tickets that nobody signed.
    ForgeTickets,
    /// Names bodies that nobody can fetch.
    WithholdBodies,
    /// Gives each half of the swarm another body.
    SwapBodies,
    /// Declares lengths that nobody has room for.
    Bombs,
    /// Answers those that catch up with a state of its own making.
    Poison,
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
    pub const ALL: [Attack; 30] = [
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
        Self::Fork,
        Self::Rewind,
        Self::Crowd,
        Self::ForgeCertificates,
        Self::Expel,
        Self::Slander,
        Self::Undead,
        Self::Sybils,
        Self::ForgeTickets,
        Self::WithholdBodies,
        Self::SwapBodies,
        Self::Bombs,
        Self::Poison,
    ];

    /// Those that a dishonest peer is drawn from when none is asked for: what one peer can do in any setting.
    pub(super) fn drawn() -> Vec<Self> {
        let in_any = |attack: &Self| {
            !matches!(attack, Self::Fork | Self::Rewind | Self::Crowd | Self::Sybils | Self::ForgeTickets)
        };
        Self::ALL.into_iter().filter(in_any).collect()
    }

    /// Whether it needs answers that are too long for a message.
    pub(super) fn is_on_bodies(self) -> bool {
        matches!(self, Self::WithholdBodies | Self::SwapBodies)
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        self.described().0
    }

    /// What it does, in a few words.
    pub fn words(self) -> &'static str {
        self.described().1
    }

    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Silence => ("silence", "nothing but heartbeats"),
            Self::TwoMessages => ("two-messages", "one commit and ballot for each half of the swarm"),
            Self::Recommit => ("recommit", "a second commit, after the others' answers were seen"),
            Self::Withhold => ("withhold", "commits without reveals"),
            Self::Copy => ("copy", "reveals somebody else's answers"),
            Self::Ring => ("ring", "two of seven vote for one wrong answer with all they have"),
            Self::Newcomers => ("newcomers", "two come late and vote for one wrong answer"),
            Self::Garbage => ("garbage", "random and damaged bytes"),
            Self::Forge => ("forge", "messages in others' names"),
            Self::Oversize => ("oversize", "messages of megabytes"),
            Self::Replay => ("replay", "what was said before, or in another swarm"),
            Self::Flood => ("flood", "a hundred messages a second for rounds to come"),
            Self::TwoStatements => ("two-statements", "two proposals and signatures in one view"),
            Self::Usurp => ("usurp", "takes over others' proposals, out of turn"),
            Self::Ghosts => ("ghosts", "rosters of peers that do not exist"),
            Self::Cook => ("cook", "settlements that do not follow"),
            Self::Hide => ("hide", "proposals shown to half, certificates to nobody"),
            Self::Fork => ("fork", "the network shows each of two branches to half of the swarm"),
            Self::Rewind => ("rewind", "ends a round again while the network hides that it is final"),
            Self::Crowd => ("crowd", "four of seven stop, seven new ones certify by themselves"),
            Self::ForgeCertificates => ("forge-certificates", "certificates with signatures nobody made"),
            Self::Expel => ("expel", "rosters with nobody else in them"),
            Self::Slander => ("slander", "statements that convict an honest peer"),
            Self::Undead => ("undead", "repeats the heartbeats of a peer that stopped"),
            Self::Sybils => ("sybils", "seven new identities where members invite"),
            Self::ForgeTickets => ("forge-tickets", "the same with invitations nobody signed"),
            Self::WithholdBodies => ("withhold-bodies", "reveals of bodies that it does not serve"),
            Self::SwapBodies => ("swap-bodies", "another body for each half of the swarm"),
            Self::Bombs => ("bombs", "declared lengths of gigabytes"),
            Self::Poison => ("poison", "wrong states for peers that catch up"),
        }
    }

    /// The attack of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }

    /// The defences of which each alone stands against it; none where several others do the same.
    pub fn defences(self) -> &'static [Defence] {
        match self {
            Self::TwoMessages => &[Defence::Proofs],
            Self::Recommit => &[Defence::OneSlot],
            Self::Withhold | Self::WithholdBodies => &[Defence::Liveness],
            Self::Copy => &[Defence::Cover],
            Self::Ring => &[Defence::Reputation],
            Self::Newcomers => &[Defence::Probation],
            Self::Forge => &[Defence::Signatures],
            Self::Replay => &[Defence::Swarms],
            Self::Flood => &[Defence::Quota],
            Self::TwoStatements => &[Defence::OneStatement],
            Self::Usurp => &[Defence::Turns],
            Self::Ghosts => &[Defence::Rosters],
            Self::Cook => &[Defence::Recompute],
            Self::Fork => &[Defence::NextView],
            Self::Rewind => &[Defence::NewestParent],
            Self::Crowd => &[Defence::FullRoster],
            Self::ForgeCertificates => &[Defence::Certificates],
            Self::Expel => &[Defence::Seats],
            Self::Slander => &[Defence::Convictions],
            Self::Undead => &[Defence::Fresh],
            Self::Sybils => &[Defence::Invitation],
            Self::ForgeTickets => &[Defence::Tickets],
            Self::SwapBodies => &[Defence::Bodies],
            Self::Bombs => &[Defence::Lengths],
            Self::Poison => &[Defence::States],
            Self::Silence | Self::Garbage | Self::Oversize | Self::Hide => &[],
        }
    }

    /// What it came to.
    pub fn outcome(self, measures: &Measures) -> Outcome {
        let m = measures;
        let (what, measured, succeeded) = match self {
            // Rounds still end now and then: whoever cannot settle one takes over what others did.
            Self::TwoMessages | Self::Replay => {
                ("rounds a minute", m.rounds_a_minute, m.rounds_a_minute < 33)
            }
            Self::Silence | Self::Garbage | Self::Hide | Self::Forge | Self::SwapBodies => {
                ("rounds a minute", m.rounds_a_minute, m.rounds_a_minute < 2)
            }
            Self::Flood => ("messages kept for later", m.early, m.early > 100),
            Self::Recommit | Self::Copy => {
                let what = "reward of its answers, permille";
                (what, m.reward_permille, m.reward_permille * 2 > m.honest_reward_permille)
            }
            Self::Withhold | Self::WithholdBodies => {
                ("its part of the vote weight, permille", m.weight_permille, m.weight_permille > 75)
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
            Self::Fork | Self::Rewind => {
                ("rounds with two final certificates", m.two_finals, m.two_finals > 0)
            }
            Self::Crowd | Self::ForgeCertificates | Self::Expel => {
                ("rounds without an honest member", m.rounds_taken, m.rounds_taken > 0)
            }
            Self::Slander => ("times honest peers were convicted", m.blamed, m.blamed > 0),
            Self::Undead => {
                ("rounds with a dead member, permille", m.with_dead_permille, m.with_dead_permille > 300)
            }
            Self::Sybils | Self::ForgeTickets => ("members nobody invited", m.intruders, m.intruders > 0),
            Self::Bombs => ("bytes to fetch for one body", m.fetch_bytes, m.fetch_bytes > 1 << 20),
            Self::Poison => ("states without a certificate", m.wrong_states, m.wrong_states > 0),
        };
        Outcome { what, measured, succeeded }
    }

    /// How many dishonest peers show it best: a ring needs company.
    pub fn company(self) -> u16 {
        match self {
            Self::Fork => 0,
            Self::Ring | Self::Newcomers => 2,
            Self::Crowd | Self::Sybils | Self::ForgeTickets => 7,
            _ => 1,
        }
    }

    /// Among how many peers, those included.
    pub fn peers(self) -> u16 {
        match self {
            Self::Fork | Self::Rewind => 4,
            Self::Crowd | Self::Sybils | Self::ForgeTickets => 14,
            _ => 7,
        }
    }

    /// Honest peers that stop for good once the swarm runs.
    pub(super) fn deserters(self) -> u16 {
        match self {
            Self::Crowd => 4,
            Self::Undead => 1,
            _ => 0,
        }
    }

    /// Whether its peers are not among those that found the swarm.
    pub(super) fn comes_late(self) -> bool {
        matches!(self, Self::Newcomers | Self::Crowd | Self::Sybils | Self::ForgeTickets)
    }

    /// A peer that does it; none where the network does.
    pub(super) fn adversary(self) -> Option<Box<dyn Adversary>> {
        Some(match self {
            Self::Silence => Box::new(Silence),
            Self::TwoMessages => Box::new(TwoMessages),
            Self::Recommit => Box::new(Copy::again()),
            Self::Withhold => Box::new(Withhold),
            Self::Copy => Box::new(Copy::default()),
            Self::Ring => Box::new(Ring { name: "ring" }),
            Self::Newcomers => Box::new(Ring { name: "newcomers" }),
            Self::Garbage => Box::new(Garbage),
            Self::Forge => Box::new(Forge::default()),
            Self::Oversize => Box::new(Oversize),
            Self::Replay => Box::new(Replay::default()),
            Self::Flood => Box::new(Flood { nth: 0 }),
            Self::TwoStatements => Box::new(TwoStatements),
            Self::Usurp => Box::new(Usurp),
            Self::Ghosts => Box::new(Twist::ghosts()),
            Self::Cook => Box::new(Twist::cook()),
            Self::Hide => Box::new(Hide),
            Self::Fork => return None,
            Self::Rewind => Box::new(Rewind::default()),
            Self::Crowd => Box::new(Crowd),
            Self::ForgeCertificates => Box::new(ForgeCertificates),
            Self::Expel => Box::new(Twist::expel()),
            Self::Slander => Box::new(Twist::slander()),
            Self::Undead => Box::new(Undead::default()),
            Self::Sybils => Box::new(Intrude { name: "sybils", forges: false }),
            Self::ForgeTickets => Box::new(Intrude { name: "forge-tickets", forges: true }),
            Self::WithholdBodies => Box::new(WithholdBodies),
            Self::SwapBodies => Box::new(SwapBodies),
            Self::Bombs => Box::new(Bombs::default()),
            Self::Poison => Box::new(Poison::default()),
        })
    }
}
