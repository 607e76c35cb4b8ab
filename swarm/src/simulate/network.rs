//! The simulated network: how long a message takes, and whether it arrives.

use std::collections::BTreeSet;

use super::dice::Dice;
use super::fault::Fault;
use super::tally::Tally;

/// Shortest way between two peers, in milliseconds.
const NEAR_MS: u64 = 2;
/// Longest way of a peer to the middle of the network, in milliseconds.
const FAR_MS: u64 = 60;
/// Variation of each message's way, in milliseconds.
const JITTER_MS: u64 = 20;
/// How late a message can be that others overtake, in milliseconds.
const OVERTAKEN_MS: u64 = 2_500;
/// Most messages lost in a storm, in permille.
const LOSS_MAX_PERMILLE: u64 = 300;
/// Most messages doubled or overtaken in a storm, in permille.
const DISTURBED_MAX_PERMILLE: u64 = 200;

/// A wall between two groups of peers.
#[derive(Clone, Debug)]
struct Wall {
    inside: BTreeSet<usize>,
    /// Whether messages still pass from the inside out.
    one_way: bool,
}

/// The state of the network.
#[derive(Debug)]
pub(super) struct Network {
    dice: Dice,
    ways_ms: Vec<u64>,
    lost_permille: u64,
    doubled_permille: u64,
    overtaken_permille: u64,
    walls: Vec<Wall>,
}

impl Network {
    /// A calm network of `peers`.
    pub(super) fn new(seed: u64, peers: usize) -> Self {
        let mut dice = Dice::new(seed, "network");
        let ways_ms = (0..peers).map(|_| dice.between(NEAR_MS, FAR_MS)).collect();
        Self {
            dice,
            ways_ms,
            lost_permille: 0,
            doubled_permille: 0,
            overtaken_permille: 0,
            walls: Vec::new(),
        }
    }

    /// A fault of the network begins.
    pub(super) fn disturb(&mut self, fault: Fault) {
        match fault {
            Fault::Loss => self.lost_permille = self.dice.between(20, LOSS_MAX_PERMILLE),
            Fault::Duplicate => self.doubled_permille = self.dice.between(20, DISTURBED_MAX_PERMILLE),
            Fault::Reorder => self.overtaken_permille = self.dice.between(20, DISTURBED_MAX_PERMILLE),
            Fault::Partition | Fault::OneWay => {
                let peers = self.ways_ms.len() as u64;
                let count = self.dice.between(1, (peers / 2).max(1));
                let inside = (0..count).map(|_| self.dice.below(peers) as usize).collect();
                self.walls.push(Wall { inside, one_way: fault == Fault::OneWay });
            }
            _ => {}
        }
    }

    /// Everything that disturbed the network ends.
    pub(super) fn calm(&mut self) {
        (self.lost_permille, self.doubled_permille, self.overtaken_permille) = (0, 0, 0);
        self.walls.clear();
    }

    /// After how many milliseconds a message from one peer reaches another: once, twice or never.
    pub(super) fn carry(&mut self, from: usize, to: usize, tally: &mut Tally) -> [Option<u64>; 2] {
        let stops = |wall: &&Wall| {
            wall.inside.contains(&from) != wall.inside.contains(&to)
                && !(wall.one_way && wall.inside.contains(&from))
        };
        if let Some(wall) = self.walls.iter().find(stops) {
            tally.fault(if wall.one_way { Fault::OneWay } else { Fault::Partition });
            return [None, None];
        }
        if self.dice.chance(self.lost_permille) {
            tally.fault(Fault::Loss);
            return [None, None];
        }
        let way = self.way(from, to, tally);
        let second = self.dice.chance(self.doubled_permille).then(|| {
            tally.fault(Fault::Duplicate);
            self.way(from, to, tally)
        });
        [Some(way), second]
    }

    fn way(&mut self, from: usize, to: usize, tally: &mut Tally) -> u64 {
        let mut way = self.dice.between(0, JITTER_MS);
        way += self.ways_ms.get(from).copied().unwrap_or(NEAR_MS)
            + self.ways_ms.get(to).copied().unwrap_or(NEAR_MS);
        if self.dice.chance(self.overtaken_permille) {
            tally.fault(Fault::Reorder);
            way += self.dice.between(FAR_MS, OVERTAKEN_MS);
        }
        way
    }
}
