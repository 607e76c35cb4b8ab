//! The defences that a simulation can switch off, one at a time, to show what each is for.

/// Which defences are up; all of them by default.
///
/// This exists for [`simulate`](crate::simulate) only: no config and no option of a running peer sets it, and a
/// peer that lacks a defence harms itself first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defences {
    /// A reveal counts only if its author's commit covers it.
    pub cover: bool,
    /// The first message for a slot counts, a second is a conflict.
    pub one_slot: bool,
    /// One statement a view, in rising views (rule S1).
    pub one_statement: bool,
    /// A proposal counts only from the peer whose turn it is.
    pub turns: bool,
    /// Nobody signs a settlement that it does not compute itself.
    pub recompute: bool,
    /// Nobody signs a roster with peers that are not there.
    pub rosters: bool,
    /// Every message is signed by its author.
    pub signatures: bool,
    /// A message belongs to one swarm.
    pub swarms: bool,
    /// No peer can fill a shared table alone.
    pub quota: bool,
    /// Votes weigh what gold says of their authors.
    pub reputation: bool,
}

impl Default for Defences {
    fn default() -> Self {
        Self {
            cover: true,
            one_slot: true,
            one_statement: true,
            turns: true,
            recompute: true,
            rosters: true,
            signatures: true,
            swarms: true,
            quota: true,
            reputation: true,
        }
    }
}
