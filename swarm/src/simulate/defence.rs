//! Defences by name: in the engine, or in the rules of the swarm.

use serde::Serialize;

use crate::defences::Defences;
use crate::manifest::Manifest;
use crate::membership::Membership;

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
    /// See [`Defences::newest_parent`].
    NewestParent,
    /// See [`Defences::next_view`].
    NextView,
    /// See [`Defences::full_roster`].
    FullRoster,
    /// See [`Defences::certificates`].
    Certificates,
    /// See [`Defences::seats`].
    Seats,
    /// See [`Defences::convictions`].
    Convictions,
    /// See [`Defences::proofs`].
    Proofs,
    /// See [`Defences::fresh`].
    Fresh,
    /// Whom no member invited stays out: [`Membership`].
    Invitation,
    /// See [`Defences::tickets`].
    Tickets,
    /// See [`Defences::bodies`].
    Bodies,
    /// See [`Defences::lengths`].
    Lengths,
    /// See [`Defences::states`].
    States,
}

impl Defence {
    /// Every defence.
    pub const ALL: [Defence; 25] = [
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
        Self::NewestParent,
        Self::NextView,
        Self::FullRoster,
        Self::Certificates,
        Self::Seats,
        Self::Convictions,
        Self::Proofs,
        Self::Fresh,
        Self::Invitation,
        Self::Tickets,
        Self::Bodies,
        Self::Lengths,
        Self::States,
    ];

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
            Self::Cover => ("cover", "a reveal counts only if its commit covers it"),
            Self::OneSlot => ("one-slot", "the first message for a slot counts"),
            Self::OneStatement => ("one-statement", "one signature a view, views rising"),
            Self::Turns => ("turns", "the beacon says whose turn it is"),
            Self::Recompute => ("recompute", "nobody signs a settlement it does not compute"),
            Self::Rosters => ("rosters", "nobody signs peers it does not see"),
            Self::Signatures => ("signatures", "every message is signed by its author"),
            Self::Swarms => ("swarms", "every message names its swarm"),
            Self::Quota => ("quota", "shared tables have a share for each peer"),
            Self::Reputation => ("reputation", "votes weigh what gold says of their authors"),
            Self::Liveness => ("liveness", "a commit without reveal costs weight"),
            Self::Probation => ("probation", "new peers carry no weight until tried on gold"),
            Self::NewestParent => ("newest-parent", "nobody signs past the newest certificate it knows"),
            Self::NextView => ("next-view", "only the very next view makes a certificate final"),
            Self::FullRoster => ("full-roster", "degraded certificates count the last full roster"),
            Self::Certificates => ("certificates", "every signature of a certificate is checked"),
            Self::Seats => ("seats", "nobody signs a roster without members it sees"),
            Self::Convictions => ("convictions", "nobody signs a conviction without a proof"),
            Self::Proofs => ("proofs", "whoever says two things is proven to, and left out"),
            Self::Fresh => ("fresh", "only new messages show that their author is alive"),
            Self::Invitation => ("invitation", "whom no member invited stays out"),
            Self::Tickets => ("tickets", "a ticket is its sender's and its inviter signed it"),
            Self::Bodies => ("bodies", "a body counts only with the hash its reveal names"),
            Self::Lengths => ("lengths", "a declared length is checked before a fetch"),
            Self::States => ("states", "a state counts only if a certificate covers it"),
        }
    }

    /// The defence of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|defence| defence.name() == name)
    }

    /// Switches it off in the rules of the swarm, where it lives there.
    pub(super) fn leave_out(self, manifest: &mut Manifest) {
        let rules = &mut manifest.judge;
        match self {
            Self::Liveness => (rules.withheld_permille, rules.missed_permille) = (1000, 1000),
            Self::Probation => rules.probation_ballots = 0,
            Self::Invitation => manifest.membership = Membership::default(),
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
        Some(Defence::NewestParent) => up.newest_parent = false,
        Some(Defence::NextView) => up.next_view = false,
        Some(Defence::FullRoster) => up.full_roster = false,
        Some(Defence::Certificates) => up.certificates = false,
        Some(Defence::Seats) => up.seats = false,
        Some(Defence::Convictions) => up.convictions = false,
        Some(Defence::Proofs) => up.proofs = false,
        Some(Defence::Fresh) => up.fresh = false,
        Some(Defence::Tickets) => up.tickets = false,
        Some(Defence::Bodies) => up.bodies = false,
        Some(Defence::Lengths) => up.lengths = false,
        Some(Defence::States) => up.states = false,
        Some(Defence::Liveness | Defence::Probation | Defence::Invitation) | None => {}
    }
    up
}
