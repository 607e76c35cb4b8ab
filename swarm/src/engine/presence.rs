//! Who is there: heartbeats, by the local clock.

use std::collections::BTreeMap;

use judge::PeerKey;

use crate::limits::{HEARTBEAT_MS, HEARTBEAT_PEERS, HEARTBEATS_MAX, PRESENCE_MAX, SILENT_HEARTBEATS};
use crate::membership::Ticket;
use crate::message::Presence;

/// Heartbeats after which a silent peer is forgotten.
const FORGOTTEN_HEARTBEATS: u64 = 20 * SILENT_HEARTBEATS;

/// What is known of one peer.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) heard_ms: u64,
    pub(super) order: (u32, u32),
    pub(super) view: u32,
    pub(super) attempt: u32,
    pub(super) ready: bool,
    pub(super) leaving: Option<String>,
    pub(super) ticket: Option<Ticket>,
    /// Where it can be dialled.
    addresses: Vec<String>,
    /// When it missed a deadline last.
    missed_ms: Option<u64>,
    /// When it was first seen to have started again.
    restarted_ms: Option<u64>,
    /// Since when its heartbeats are counted, and how many there were.
    counted: (u64, u32),
}

/// What a heartbeat changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Older than one already seen, or the table is full.
    Stale,
    /// One more than its share.
    TooMany,
    /// Nothing but the time.
    Alive,
    /// It can be dialled elsewhere now.
    Moved,
    Appeared,
    Left(String),
}

/// Peers by key; at most [`PRESENCE_MAX`].
#[derive(Clone, Debug)]
pub(super) struct Table {
    peers: BTreeMap<PeerKey, Seen>,
    beat_ms: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), beat_ms: HEARTBEAT_MS }
    }
}

impl Table {
    /// Sets the pace for a roster of so many: all of them together say about as much in a second as
    /// [`HEARTBEAT_PEERS`] do. The roster is certified, so no crowd of strangers slows it.
    pub(super) fn pace(&mut self, roster: usize) {
        self.beat_ms = HEARTBEAT_MS * (roster as u64).div_ceil(HEARTBEAT_PEERS).max(1);
    }

    /// Milliseconds between heartbeats.
    pub(super) fn beat_ms(&self) -> u64 {
        self.beat_ms
    }

    /// Whether a peer last heard at `heard_ms` counts as silent.
    pub(super) fn silent(&self, now: u64, heard_ms: u64) -> bool {
        now.saturating_sub(heard_ms) > SILENT_HEARTBEATS * self.beat_ms
    }

    pub(super) fn heartbeat(
        &mut self,
        now: u64,
        peer: PeerKey,
        sequence: u32,
        presence: &Presence,
    ) -> Change {
        self.expire(now);
        let order = (presence.incarnation, sequence);
        let before = self.peers.get(&peer);
        if before.is_some_and(|seen| order <= seen.order)
            || (before.is_none() && self.peers.len() >= PRESENCE_MAX)
        {
            return Change::Stale;
        }
        let counted = match before.map_or((now, 0), |seen| seen.counted) {
            (since_ms, count) if now < since_ms + HEARTBEAT_MS => (since_ms, count + 1),
            _ => (now, 1),
        };
        if counted.1 > HEARTBEATS_MAX {
            return Change::TooMany;
        }
        // A peer that started again may listen elsewhere and know nobody: it is met like a new one.
        let was_here = before.is_some_and(|seen| {
            seen.leaving.is_none() && !self.silent(now, seen.heard_ms) && seen.order.0 == presence.incarnation
        });
        let moved = before.is_some_and(|seen| seen.addresses != presence.addresses);
        let restarted = before.is_some_and(|seen| seen.order.0 < presence.incarnation);
        let seen = Seen {
            heard_ms: now,
            order,
            view: presence.view,
            attempt: presence.attempt,
            ready: presence.ready,
            leaving: presence.leaving.clone(),
            ticket: presence.ticket.clone(),
            addresses: presence.addresses.clone(),
            missed_ms: before.and_then(|seen| seen.missed_ms),
            restarted_ms: if restarted { Some(now) } else { before.and_then(|seen| seen.restarted_ms) },
            counted,
        };
        self.peers.insert(peer, seen);
        match &presence.leaving {
            Some(reason) if was_here => Change::Left(reason.clone()),
            None if !was_here => Change::Appeared,
            None if moved => Change::Moved,
            _ => Change::Alive,
        }
    }

    /// Any other new message shows life too.
    pub(super) fn heard(&mut self, now: u64, peer: &PeerKey) {
        if let Some(seen) = self.peers.get_mut(peer) {
            seen.heard_ms = now;
        }
    }

    /// A deadline passed without the peer.
    pub(super) fn missed(&mut self, now: u64, peer: &PeerKey) {
        if let Some(seen) = self.peers.get_mut(peer) {
            seen.missed_ms = Some(now);
        }
    }

    /// Whether the peer missed a deadline and was not heard since.
    pub(super) fn is_quiet(&self, peer: &PeerKey) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|seen| seen.missed_ms.is_some_and(|missed_ms| seen.heard_ms <= missed_ms))
    }

    /// Whether the peer was heard since it missed a deadline, or so shortly before that it had no more to say.
    pub(super) fn shows_life(&self, peer: &PeerKey) -> bool {
        let heard = |seen: &Seen, missed_ms| seen.heard_ms + 2 * self.beat_ms > missed_ms;
        self.peers.get(peer).is_some_and(|seen| seen.missed_ms.is_none_or(|missed_ms| heard(seen, missed_ms)))
    }

    /// Whether the peer has started again since then.
    pub(super) fn restarted_since(&self, peer: &PeerKey, since_ms: u64) -> bool {
        self.peers.get(peer).and_then(|seen| seen.restarted_ms).is_some_and(|at_ms| at_ms >= since_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn get(&self, peer: &PeerKey) -> Option<&Seen> {
        self.peers.get(peer)
    }

    pub(super) fn left(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_some_and(|seen| seen.leaving.is_some())
    }

    /// Peers heard lately that have not left.
    pub(super) fn live(&self, now: u64) -> impl Iterator<Item = (&PeerKey, &Seen)> {
        self.peers.iter().filter(move |(_, seen)| seen.leaving.is_none() && !self.silent(now, seen.heard_ms))
    }

    /// Forgets peers long silent, so that the table stays bounded by the living.
    fn expire(&mut self, now: u64) {
        let forgotten_ms = FORGOTTEN_HEARTBEATS * self.beat_ms;
        self.peers.retain(|_, seen| now.saturating_sub(seen.heard_ms) < forgotten_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(incarnation: u32, leaving: Option<&str>) -> Presence {
        Presence {
            incarnation,
            view: 0,
            statement: crate::wire::Hash::default(),
            attempt: 0,
            ready: true,
            leaving: leaving.map(str::to_string),
            addresses: Vec::new(),
            ticket: None,
        }
    }

    #[test]
    fn heartbeats_beyond_a_peers_share_do_not_count() {
        let mut table = Table::default();
        let mut sequence = 0;
        let mut counted = |peer, from_ms| {
            let hello = |_: &u64| {
                sequence += 1;
                table.heartbeat(from_ms, PeerKey([peer; 32]), sequence, &presence(1, None)) != Change::TooMany
            };
            (0..100).filter(hello).count()
        };
        assert_eq!([counted(1, 0), counted(2, 10), counted(1, HEARTBEAT_MS - 1)], [8, 8, 0]);
        assert_eq!(counted(1, HEARTBEAT_MS), 8);
    }

    #[test]
    fn a_restart_is_met_like_a_new_peer() {
        let mut table = Table::default();
        let peer = PeerKey([1; 32]);
        let mut hello = |now, incarnation, sequence, leaving: Option<&str>| {
            table.heartbeat(now, peer, sequence, &presence(incarnation, leaving))
        };
        assert_eq!(hello(0, 1, 1, None), Change::Appeared);
        assert_eq!(hello(1_000, 1, 2, None), Change::Alive);
        assert_eq!(hello(1_100, 1, 2, None), Change::Stale, "a replay");
        assert_eq!(hello(2_000, 2, 1, None), Change::Appeared, "started again");
        assert_eq!(hello(2_100, 1, 9, None), Change::Stale, "of the start before");
        assert_eq!(hello(2_200, 2, 2, Some("bye")), Change::Left("bye".into()));
        assert_eq!(hello(9_000, 3, 1, None), Change::Appeared);
        assert_eq!(
            hello(9_000 + SILENT_HEARTBEATS * HEARTBEAT_MS + 1, 3, 2, None),
            Change::Appeared,
            "after silence"
        );
        let mut elsewhere = presence(3, None);
        elsewhere.addresses = vec!["/ip4/192.0.2.1/tcp/1".into()];
        let mut again = |sequence| {
            table.heartbeat(9_000 + SILENT_HEARTBEATS * HEARTBEAT_MS + 2, peer, sequence, &elsewhere)
        };
        assert_eq!([again(3), again(4)], [Change::Moved, Change::Alive]);
    }

    #[test]
    fn a_large_swarm_says_less_often_that_it_is_there() {
        let mut table = Table::default();
        for (roster, beat_ms) in [(0, 1_000), (16, 1_000), (17, 2_000), (256, 16_000)] {
            table.pace(roster);
            assert_eq!(table.beat_ms(), beat_ms);
            assert!(!table.silent(7 + 6 * beat_ms, 7) && table.silent(8 + 6 * beat_ms, 7));
        }
    }
}
