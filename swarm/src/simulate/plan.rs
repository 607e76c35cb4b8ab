//! What a simulation is asked to do.

use std::collections::BTreeSet;

use serde::Serialize;

use super::attack::Attack;
use super::defence::Defence;
use super::fault::Fault;

/// One simulation: the same plan gives the same trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Peers that found the swarm, dishonest ones included.
    pub peers: u16,
    /// Rounds to settle.
    pub rounds: u32,
    /// Seed of everything.
    pub seed: u64,
    /// Dishonest peers: exactly so many.
    pub byzantine: u16,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// What the dishonest peers do; drawn for each of them if nothing is named.
    pub attack: Option<Attack>,
    /// A defence that everybody does without.
    pub defence_off: Option<Defence>,
}

impl Plan {
    /// All faults and as many dishonest peers as the protocol claims to bear.
    pub fn new(peers: u16, rounds: u32, seed: u64) -> Self {
        let byzantine = tolerated(peers);
        Self { peers, rounds, seed, byzantine, faults: Fault::ALL.into(), attack: None, defence_off: None }
    }

    /// The command that plays this plan again.
    pub fn command(&self) -> String {
        let faults: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        let faults = if faults.is_empty() { "none".to_string() } else { faults.join(",") };
        let attack = self.attack.map(|attack| format!(" --attack {}", attack.name())).unwrap_or_default();
        let off = self.defence_off.map(|off| format!(" --defence-off {}", off.name())).unwrap_or_default();
        format!(
            "murmur simulate --peers {} --rounds {} --seed {} --byzantine {} --faults {faults}{attack}{off}",
            self.peers, self.rounds, self.seed, self.byzantine
        )
    }
}

/// How many of `peers` may be dishonest: fewer than a third.
pub fn tolerated(peers: u16) -> u16 {
    peers.saturating_sub(1) / 3
}
