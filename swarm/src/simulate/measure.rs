//! What dishonest peers got out of a simulation, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use judge::{CandidateId, PeerKey};
use serde::Serialize;

use super::seat::{Character, Seat};
use crate::blob::Address;
use crate::engine::{Settled, Size};
use crate::wire::Hash;

/// The numbers that attacks are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measures {
    /// Rounds settled in a virtual minute.
    pub rounds_a_minute: u64,
    /// Mean reward of a dishonest peer's completions, in permille.
    pub reward_permille: u64,
    /// Mean reward of an honest peer's completions, in permille.
    pub honest_reward_permille: u64,
    /// The dishonest peers' part of the whole vote weight in the last round, in permille.
    pub weight_permille: u64,
    /// Decided labels that were wrong in the second half of the rounds, in permille.
    pub wrong_labels_permille: u64,
    /// The same in the round where it was most.
    pub wrong_labels_worst_permille: u64,
    /// Members of rosters that are nobody, over all rounds.
    pub ghosts: u64,
    /// Statements that were proposed against the rules and certified.
    pub stolen: u64,
    /// Times that an honest peer was called an equivocator.
    pub blamed: u64,
    /// Most messages that an honest peer kept for later.
    pub early: u64,
    /// Certificates that contradict a final one, or one of the same view.
    pub conflicts: u64,
    /// Settlements that are not what was signed.
    pub unsigned_settlements: u64,
    /// Rounds of which honest peers take two certificates for final.
    pub two_finals: u64,
    /// Rounds without an honest member.
    pub rounds_taken: u64,
    /// Rounds with a member that has stopped for good, in permille.
    pub with_dead_permille: u64,
    /// Members, over all rounds, of those that nobody invited.
    pub intruders: u64,
    /// Most bytes that an honest peer was to fetch for one body.
    pub fetch_bytes: u64,
    /// States that an honest peer took over and that no certificate covers.
    pub wrong_states: u64,
    /// Most bytes of one round that an honest peer held.
    pub round_bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    paid: u64,
    answers: u64,
    wrong: u64,
    labels: u64,
}

/// Adds up what honest peers settle.
#[derive(Default)]
pub(super) struct Ruler {
    pub(super) measures: Measures,
    dishonest: BTreeSet<PeerKey>,
    /// Honest peers that are to stop for good.
    deserters: BTreeSet<PeerKey>,
    everybody: BTreeSet<PeerKey>,
    /// Those that found the swarm.
    founders: BTreeSet<PeerKey>,
    seen: u32,
    rounds: u64,
    rounds_with_dead: u64,
    honest_sums: Sums,
    dishonest_sums: Sums,
    labels: BTreeMap<u32, Sums>,
    /// Statements proposed against the rules.
    pub(super) stolen: BTreeSet<Hash>,
}

fn permille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(0)
}

impl Ruler {
    pub(super) fn is_dishonest(&self, peer: &PeerKey) -> bool {
        self.dishonest.contains(peer)
    }

    pub(super) fn new(seats: &[Seat]) -> Self {
        let keys = |wanted: &dyn Fn(&Seat) -> bool| {
            seats.iter().filter(|seat| wanted(seat)).map(|seat| seat.key).collect()
        };
        Self {
            dishonest: keys(&|seat| seat.character == Character::Dishonest),
            deserters: keys(&|seat| seat.character == Character::Leaver),
            everybody: keys(&|_| true),
            founders: keys(&|seat| seat.founder),
            ..Self::default()
        }
    }

    fn count_members(&mut self, roster: &[PeerKey]) {
        let count =
            |counts: &dyn Fn(&PeerKey) -> bool| roster.iter().filter(|peer| counts(peer)).count() as u64;
        let measures = &mut self.measures;
        measures.ghosts += count(&|peer| !self.everybody.contains(peer));
        measures.intruders += count(&|peer| self.dishonest.contains(peer) && !self.founders.contains(peer));
        measures.rounds_taken += u64::from(count(&|peer| !self.dishonest.contains(peer)) == 0);
        self.rounds += 1;
        self.rounds_with_dead += u64::from(count(&|peer| self.deserters.contains(peer)) > 0);
    }

    /// An honest peer's settlement; the first of each round counts.
    pub(super) fn settled(&mut self, settled: &Settled) {
        if settled.round <= self.seen {
            return;
        }
        self.seen = settled.round;
        self.count_members(&settled.roster);
        let weight = |dishonest: bool| -> u64 {
            let weights = settled.settlement.weights.iter();
            weights
                .filter(|(peer, _)| self.dishonest.contains(peer) == dishonest)
                .map(|(_, w)| u64::from(*w))
                .sum()
        };
        self.measures.weight_permille = permille(weight(true), weight(true) + weight(false));
        for (index, (prompt, item)) in (0u16..).zip(settled.settlement.prompts.iter().zip(&settled.schedule))
        {
            for (peer, rewards) in &prompt.rewards {
                let sums = if self.dishonest.contains(peer) {
                    &mut self.dishonest_sums
                } else {
                    &mut self.honest_sums
                };
                sums.paid += rewards.iter().map(|reward| u64::from(*reward)).sum::<u64>();
                sums.answers += rewards.len() as u64;
            }
            let gold = item.gold().map(|gold| CandidateId::of(index, gold.answer().as_str()));
            let sums = self.labels.entry(settled.round).or_default();
            for (_, label) in prompt.labels.iter().filter(|(peer, _)| !self.dishonest.contains(peer)) {
                sums.labels += u64::from(label.candidate().is_some());
                sums.wrong += u64::from(label.candidate().is_some() && label.candidate() != gold);
            }
        }
    }

    /// An honest peer is to fetch a body.
    pub(super) fn asked_to_fetch(&mut self, blob: &Address) {
        self.measures.fetch_bytes = self.measures.fetch_bytes.max(blob.len.into());
    }

    /// What an honest peer holds.
    pub(super) fn sizes(&mut self, sizes: &[Size]) {
        let held =
            |name: &str| sizes.iter().find(|size| size.name == name).map_or(0, |size| size.held as u64);
        let measures = &mut self.measures;
        measures.round_bytes = measures.round_bytes.max(held("bytes of the round"));
        measures.early = measures.early.max(held("messages of the next round"));
    }

    /// The final numbers.
    pub(super) fn finish(&self, virtual_ms: u64, out_of_turn: impl Fn(&Hash) -> bool) -> Measures {
        let worst = self.labels.values().map(|sums| permille(sums.wrong, sums.labels)).max().unwrap_or(0);
        let late = self.labels.range(self.seen / 2 + 1..).fold(Sums::default(), |sum, (_, of)| Sums {
            wrong: sum.wrong + of.wrong,
            labels: sum.labels + of.labels,
            ..sum
        });
        let mean = |sums: Sums| sums.paid.checked_div(sums.answers).unwrap_or(0);
        Measures {
            rounds_a_minute: (u64::from(self.seen) * 60_000).checked_div(virtual_ms).unwrap_or(0),
            reward_permille: mean(self.dishonest_sums),
            honest_reward_permille: mean(self.honest_sums),
            wrong_labels_permille: permille(late.wrong, late.labels),
            wrong_labels_worst_permille: worst,
            with_dead_permille: permille(self.rounds_with_dead, self.rounds),
            stolen: self.stolen.iter().filter(|hash| out_of_turn(hash)).count() as u64,
            ..self.measures.clone()
        }
    }
}
