//! Where two logs of one swarm part.

use std::fmt;

use super::Outcome;

/// The first round that two logs settled differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The round.
    pub round: u32,
    /// What differs: `settlement`, or `certificate` where only views or rosters do.
    pub field: &'static str,
    /// The first log's.
    pub one: Outcome,
    /// The second's.
    pub other: Outcome,
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, field, one, other } = self;
        let hashes = |outcome: &Outcome| match *field {
            "settlement" => outcome.settlement.short(),
            _ => outcome.statement.short(),
        };
        write!(
            f,
            "round {round}, {field}: {} in view {} here, {} in view {} there",
            hashes(one),
            one.view,
            hashes(other),
            other.view
        )
    }
}

/// The first of the rounds that both settled in which they differ. Both lists rise.
pub fn compare(one: &[Outcome], other: &[Outcome]) -> Option<Parting> {
    one.iter().find_map(|one| {
        let at = other.binary_search_by_key(&one.round, |outcome| outcome.round).ok()?;
        let other = other.get(at)?;
        let field = match () {
            () if one.settlement != other.settlement => "settlement",
            () if one.statement != other.statement => "certificate",
            () => return None,
        };
        Some(Parting { round: one.round, field, one: one.clone(), other: other.clone() })
    })
}
