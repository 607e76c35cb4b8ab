//! What a peer did wrong beside gossip, told to gossip as its application score: who gives wrong bytes or asks for too
//! much is no neighbour to choose, and is not listened to. Who sends what is of no use here does nothing wrong: this
//! peer may be the one that is behind.

use std::collections::HashMap;

use libp2p::PeerId;
use tokio::time::Instant;

use super::event::DropReason;
use super::{Network, limits};

/// Something that no honest peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Bytes that their hash does not name.
    Bytes,
    /// A request that cannot be read.
    Rubbish,
    /// A request beyond a link's share.
    Greed,
}

impl Wrong {
    /// What it takes from a score. Wrong bytes outweigh what a good neighbour earns in gossip.
    fn points(self) -> f64 {
        match self {
            Self::Bytes => 50.0,
            Self::Rubbish => 5.0,
            Self::Greed => 0.5,
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Record {
    points: f64,
    lies: u32,
}

/// The wrongdoers; a disconnection changes nothing.
#[derive(Debug)]
pub(super) struct Conduct {
    records: HashMap<PeerId, Record>,
    at: Instant,
}

impl Conduct {
    pub(super) fn new(now: Instant) -> Self {
        Self { records: HashMap::new(), at: now }
    }

    /// Takes a wrong down.
    fn note(&mut self, peer: PeerId, wrong: Wrong) -> Record {
        if self.records.len() >= limits::TARGETS_MAX && !self.records.contains_key(&peer) {
            self.forget_mildest();
        }
        let record = self.records.entry(peer).or_default();
        record.points = (record.points + wrong.points()).min(limits::CONDUCT_POINTS_MAX);
        record.lies += u32::from(wrong == Wrong::Bytes);
        *record
    }

    fn forget_mildest(&mut self) {
        let mildest = self.records.iter().min_by(|(_, a), (_, b)| a.points.total_cmp(&b.points));
        if let Some(peer) = mildest.map(|(peer, _)| *peer) {
            self.records.remove(&peer);
        }
    }

    /// The scores of those that did wrong, which time mends; 0 for who is forgiven.
    fn scores(&mut self, now: Instant) -> Vec<(PeerId, f64)> {
        let halvings =
            now.saturating_duration_since(self.at).as_secs_f64() / limits::CONDUCT_HALVES.as_secs_f64();
        self.at = now;
        let rate = (-halvings).exp2();
        self.records.values_mut().for_each(|record| record.points *= rate);
        let scores = self.records.iter().map(|(peer, record)| match record.points {
            points if points < limits::CONDUCT_POINTS_MIN => (*peer, 0.0),
            points => (*peer, -points),
        });
        let scores = scores.collect();
        self.records.retain(|_, record| record.points >= limits::CONDUCT_POINTS_MIN);
        scores
    }
}

impl Network {
    /// A peer did wrong. Gossip hears of it at once, and who lied too often is banned.
    pub(super) fn blame(&mut self, peer: PeerId, wrong: Wrong, why: &str) {
        let record = self.conduct.note(peer, wrong);
        self.swarm.behaviour_mut().gossip.set_application_score(&peer, -record.points);
        if wrong == Wrong::Bytes {
            self.drops.count(DropReason::BlobLie, 1);
            if record.lies >= limits::BLOB_LIES_MAX {
                self.conduct.records.remove(&peer);
                self.ban(peer, Instant::now(), &format!("it gave {why}, and not for the first time"));
            }
        }
    }

    /// Tells gossip what time has mended, and of those that came back.
    pub(super) fn score_conduct(&mut self, now: Instant) {
        for (peer, score) in self.conduct.scores(now) {
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrongs_add_up_to_a_bound_are_forgiven_in_time_and_few_are_remembered() {
        let mut now = Instant::now();
        let mut conduct = Conduct::new(now);
        let (liar, greedy) = (PeerId::random(), PeerId::random());
        for _ in 0..10 {
            conduct.note(greedy, Wrong::Greed);
        }
        assert_eq!(conduct.note(liar, Wrong::Bytes), Record { points: 50.0, lies: 1 });
        assert_eq!(conduct.note(liar, Wrong::Bytes), Record { points: limits::CONDUCT_POINTS_MAX, lies: 2 });
        now += limits::CONDUCT_HALVES;
        let scores: HashMap<PeerId, f64> = conduct.scores(now).into_iter().collect();
        assert_eq!(scores[&liar], -limits::CONDUCT_POINTS_MAX / 2.0);
        assert_eq!(scores[&greedy], -2.5);
        now += 4 * limits::CONDUCT_HALVES;
        let scores: HashMap<PeerId, f64> = conduct.scores(now).into_iter().collect();
        assert_eq!(scores[&greedy], 0.0, "forgiven");
        assert_eq!(conduct.scores(now).len(), 1);
        for _ in 0..limits::TARGETS_MAX {
            conduct.note(PeerId::random(), Wrong::Rubbish);
        }
        assert_eq!(conduct.records.len(), limits::TARGETS_MAX);
        assert!(!conduct.records.contains_key(&liar), "by now the mildest");
    }
}
