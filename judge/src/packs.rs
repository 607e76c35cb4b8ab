//! Task packs that a swarm takes in while it runs: who proposes which, who is for it, what came of it.
//!
//! A vote for a pack that nobody has proposed is a proposal. Every ballot repeats its author's votes, so the newest
//! ballot counts and whoever leaves the roster has no say. A pack is *accepted* with as many members for it as a
//! certificate needs signatures: these have it and have checked it, so the swarm can go on drawing from it. It is
//! drawn from once the certificate that accepts it is final. It is *refused* once too few are left, and *expires* when
//! nobody decides. A vote that failed is forgotten: its settlement tells of it and no state does.

use crate::bytes;
use crate::key::PeerKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// Votes of one ballot; further ones do not count.
pub const PACK_VOTES_MAX: usize = 4;
/// Packs under vote, one of each proposer; a further one has to wait.
pub const PACKS_OPEN_MAX: usize = PACK_VOTES_MAX;
/// Packs accepted in the life of a swarm; after that a fork has to name them in its manifest.
pub const PACKS_ACCEPTED_MAX: usize = 16;
/// Settlements after which an undecided proposal expires.
pub const PACK_ROUNDS_MAX: u32 = 32;
/// Largest weight of a proposed pack.
pub const PACK_WEIGHT_MAX: u32 = 1_000_000;

/// A pack by its content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackKey(pub [u8; 32]);

impl Serialize for PackKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for PackKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes::deserialize(deserializer).map(Self)
    }
}

/// What a member says of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackVote {
    /// The pack.
    pub pack: PackKey,
    /// How often it is to be drawn, relative to the manifest's packs; 1 to [`PACK_WEIGHT_MAX`]. A vote with another
    /// weight than the proposal's is a vote against it.
    pub weight: u32,
    /// Whether the member has it, has checked it and wants it.
    pub accept: bool,
}

/// What a round's included ballots say of packs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackVotes {
    /// Members that must be for a pack; `None` while nothing can be decided, as without a quorum.
    pub quorum: Option<u32>,
    /// By member.
    pub votes: BTreeMap<PeerKey, Vec<PackVote>>,
}

/// A pack under vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPack {
    /// Who proposed it.
    pub proposer: PeerKey,
    /// How often it would be drawn.
    pub weight: u32,
    /// Settlements that it has been open for.
    pub rounds: u32,
    /// The newest word of each member that was heard.
    pub votes: BTreeMap<PeerKey, bool>,
}

/// The packs of a swarm besides its manifest's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packs {
    /// Under vote.
    pub open: BTreeMap<PackKey, OpenPack>,
    /// Accepted.
    pub accepted: BTreeMap<PackKey, AcceptedPack>,
}

/// A pack that the swarm took in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedPack {
    /// How often it is drawn, relative to the manifest's packs.
    pub weight: u32,
    /// The round that the certificate which accepts it starts.
    pub round: u32,
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackOutcome {
    /// It is under vote now.
    Proposed,
    /// The swarm draws from it once this is final.
    Accepted,
    /// Too many are against it.
    Refused,
    /// Nobody decided.
    Expired,
}

impl Packs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.accepted.is_empty()
    }

    /// Packs that are drawn from, and how often, where the newest final certificate starts round `final_round`.
    pub fn in_use(&self, final_round: u32) -> BTreeMap<PackKey, u32> {
        let drawn = self.accepted.iter().filter(|(_, accepted)| accepted.round <= final_round);
        drawn.map(|(pack, accepted)| (*pack, accepted.weight)).collect()
    }

    /// Counts the votes of a round; what was decided or begun. `round` is the one that follows.
    pub(crate) fn count(
        &mut self,
        round: u32,
        roster: &BTreeSet<PeerKey>,
        votes: &PackVotes,
    ) -> BTreeMap<PackKey, PackOutcome> {
        let mut outcomes = BTreeMap::new();
        for (peer, votes) in votes.votes.iter().filter(|(peer, _)| roster.contains(peer)) {
            for vote in votes.iter().take(PACK_VOTES_MAX) {
                if self.hear(*peer, vote) {
                    outcomes.insert(vote.pack, PackOutcome::Proposed);
                }
            }
        }
        let Some(quorum) = votes.quorum.map(|quorum| quorum as usize) else { return outcomes };
        let mut decided = Vec::new();
        for (pack, open) in &mut self.open {
            open.votes.retain(|peer, _| roster.contains(peer));
            open.rounds = open.rounds.saturating_add(1);
            let yes = open.votes.values().filter(|accept| **accept).count();
            let no = open.votes.len() - yes;
            let full = self.accepted.len() + decided.len() >= PACKS_ACCEPTED_MAX;
            if yes >= quorum && !full {
                decided.push((*pack, PackOutcome::Accepted));
            } else if full || no + quorum > roster.len() {
                decided.push((*pack, PackOutcome::Refused));
            } else if open.rounds >= PACK_ROUNDS_MAX {
                decided.push((*pack, PackOutcome::Expired));
            }
        }
        for (pack, outcome) in decided {
            let weight = self.open.remove(&pack).map(|open| open.weight);
            if let Some(weight) = weight.filter(|_| outcome == PackOutcome::Accepted) {
                self.accepted.insert(pack, AcceptedPack { weight, round });
            }
            outcomes.insert(pack, outcome);
        }
        outcomes
    }

    /// Takes a vote; whether it is a proposal.
    fn hear(&mut self, peer: PeerKey, vote: &PackVote) -> bool {
        if let Some(open) = self.open.get_mut(&vote.pack) {
            open.votes.insert(peer, vote.accept && vote.weight == open.weight);
            return false;
        }
        let proposes = vote.accept
            && (1..=PACK_WEIGHT_MAX).contains(&vote.weight)
            && !self.accepted.contains_key(&vote.pack)
            && self.open.len() < PACKS_OPEN_MAX
            && self.open.values().all(|open| open.proposer != peer);
        if proposes {
            let votes = BTreeMap::from([(peer, true)]);
            let open = OpenPack { proposer: peer, weight: vote.weight, rounds: 0, votes };
            self.open.insert(vote.pack, open);
        }
        proposes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackKey = PackKey([7; 32]);

    fn peer(n: u8) -> PeerKey {
        PeerKey([n; 32])
    }

    fn roster() -> BTreeSet<PeerKey> {
        (1..=4).map(peer).collect()
    }

    fn votes(said: &[(u8, bool)]) -> PackVotes {
        let vote = |accept| vec![PackVote { pack: PACK, weight: 5, accept }];
        PackVotes {
            quorum: Some(3),
            votes: said.iter().map(|(n, accept)| (peer(*n), vote(*accept))).collect(),
        }
    }

    #[test]
    fn a_pack_enters_with_a_quorum_of_members_for_it() {
        let mut packs = Packs::default();
        let outcome = |packs: &mut Packs, said: &[(u8, bool)]| {
            packs.count(7, &roster(), &votes(said)).get(&PACK).copied()
        };
        assert_eq!(outcome(&mut packs, &[(1, false)]), None, "nobody proposed it");
        assert_eq!(outcome(&mut packs, &[(1, true)]), Some(PackOutcome::Proposed));
        assert_eq!(outcome(&mut packs, &[(1, true), (2, true), (3, false)]), None);
        assert_eq!(outcome(&mut packs, &[(9, true)]), None, "no member");
        assert_eq!(outcome(&mut packs, &[(4, true)]), Some(PackOutcome::Accepted), "words last");
        let accepted = BTreeMap::from([(PACK, AcceptedPack { weight: 5, round: 7 })]);
        assert_eq!((packs.accepted.clone(), packs.open.len()), (accepted, 0));
        assert_eq!((packs.in_use(6), packs.in_use(7)), (BTreeMap::new(), BTreeMap::from([(PACK, 5)])));
        assert_eq!(outcome(&mut packs, &[(1, true)]), None, "it is in already");
    }

    #[test]
    fn a_vote_that_fails_leaves_nothing() {
        let against = [(1, true), (2, false), (3, false)];
        let mut packs = Packs::default();
        assert_eq!(packs.count(7, &roster(), &votes(&against))[&PACK], PackOutcome::Refused);
        assert!(packs.is_empty());
        let mut rounds = 0;
        while packs.count(7, &roster(), &votes(&[(1, true)])).get(&PACK) != Some(&PackOutcome::Expired) {
            rounds += 1;
        }
        assert_eq!(rounds + 1, PACK_ROUNDS_MAX);
        assert!(packs.is_empty());
    }

    #[test]
    fn nothing_is_decided_without_a_quorum_nor_by_who_has_left_nor_under_another_weight() {
        let mut packs = Packs::default();
        let all = votes(&[(1, true), (2, true), (3, true), (4, true)]);
        packs.count(7, &roster(), &PackVotes { quorum: None, ..all.clone() });
        assert!(packs.accepted.is_empty() && packs.open[&PACK].rounds == 0);
        let small: BTreeSet<PeerKey> = [1, 2].map(peer).into();
        packs.count(7, &small, &PackVotes { quorum: Some(3), ..PackVotes::default() });
        assert!(packs.accepted.is_empty() && packs.open.is_empty(), "two can never be three");
        let mut mixed = all;
        mixed.votes.get_mut(&peer(1)).unwrap()[0].weight = 6;
        mixed.votes.get_mut(&peer(2)).unwrap()[0].weight = 6;
        assert_eq!(packs.count(7, &roster(), &mixed)[&PACK], PackOutcome::Refused, "two for 5, two for 6");
    }

    #[test]
    fn one_proposer_has_one_proposal_and_there_are_few() {
        let mut packs = Packs::default();
        let many = |n: u8| {
            (0..9).map(move |i| PackVote { pack: PackKey([n * 16 + i; 32]), weight: 1, accept: true })
        };
        let votes = PackVotes {
            quorum: None,
            votes: roster().into_iter().map(|p| (p, many(p.0[0]).collect())).collect(),
        };
        packs.count(7, &roster(), &votes);
        assert_eq!(packs.open.len(), PACKS_OPEN_MAX);
        let proposers: BTreeSet<PeerKey> = packs.open.values().map(|open| open.proposer).collect();
        assert_eq!(proposers.len(), PACKS_OPEN_MAX);
    }
}
