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
    /// Nobody signs a statement whose parent is older than the newest certificate it knows (rule S2).
    pub newest_parent: bool,
    /// A certificate is final only once that of the very next view builds on it (rule F).
    pub next_view: bool,
    /// Only the last full roster counts towards a degraded certificate.
    pub full_roster: bool,
    /// Every signature of a certificate is checked.
    pub certificates: bool,
    /// Nobody signs a roster that leaves out members that are there.
    pub seats: bool,
    /// Nobody signs a conviction that it holds no proof for.
    pub convictions: bool,
    /// Who says two things where it may say one is proven to, and left out.
    pub proofs: bool,
    /// Only a message that was not heard before shows that its author is alive.
    pub fresh: bool,
    /// A ticket is its sender's, and its inviter signed it.
    pub tickets: bool,
    /// A body counts only with the hash that its reveal names.
    pub bodies: bool,
    /// What a reveal says of its body's length is checked before anything is fetched.
    pub lengths: bool,
    /// A state taken over from another peer is the one that a certificate covers.
    pub states: bool,
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
            newest_parent: true,
            next_view: true,
            full_roster: true,
            certificates: true,
            seats: true,
            convictions: true,
            proofs: true,
            fresh: true,
            tickets: true,
            bodies: true,
            lengths: true,
            states: true,
        }
    }
}
