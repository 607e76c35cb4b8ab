//! The connected peers: who they are and when they were last heard.

use std::collections::HashMap;
use std::time::Duration;

use judge::PeerKey;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::event::LinkInfo;
use super::key::peer_key;
use super::limits;
use super::quota::Quota;

/// One of a peer's connections.
struct Connection {
    id: ConnectionId,
    /// Whether it goes through a relay point.
    relayed: bool,
    since: Instant,
}

/// A connected peer.
pub(super) struct Link {
    pub(super) key: Option<PeerKey>,
    /// Said that it belongs to this swarm; only then the caller hears of it.
    pub(super) proved: bool,
    /// A relay point, which belongs to no swarm.
    pub(super) relay_point: bool,
    connections: Vec<Connection>,
    /// Whether the connection stays on this computer.
    pub(super) local: bool,
    /// Why we close it, if we do.
    pub(super) closing: Option<String>,
    /// Turned away: it is not dialled again before its time.
    pub(super) refused: bool,
    /// What it may still bring.
    pub(super) quota: Quota,
    /// The newest round trip of a ping.
    pub(super) rtt: Option<Duration>,
    /// Gossip that it was the first to bring: messages and their bytes.
    pub(super) first: (u64, u64),
    since: Instant,
    subscribed: Option<Instant>,
    heard: Option<Instant>,
}

impl Link {
    fn is_direct(&self) -> bool {
        self.connections.iter().any(|connection| !connection.relayed)
    }
}

/// All of them, and the patience with those that were silent before.
#[derive(Default)]
pub(super) struct Links {
    links: HashMap<PeerId, Link>,
    /// Doublings of the patience; kept over a reconnection, ended by a message.
    patience: HashMap<PeerId, u32>,
}

impl Links {
    /// A connection stands. `local`: it stays on this computer; `relayed`: it goes through a relay point.
    pub(super) fn add(
        &mut self,
        peer: PeerId,
        (id, relayed): (ConnectionId, bool),
        local: bool,
        now: Instant,
    ) {
        let link = self.links.entry(peer).or_insert_with(|| Link {
            key: peer_key(&peer),
            proved: false,
            relay_point: false,
            connections: Vec::new(),
            local,
            closing: None,
            refused: false,
            quota: Quota::new(now),
            rtt: None,
            first: (0, 0),
            since: now,
            subscribed: None,
            heard: None,
        });
        link.connections.push(Connection { id, relayed, since: now });
    }

    /// One of several connections is gone.
    pub(super) fn lose(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(link) = self.links.get_mut(peer) {
            link.connections.retain(|known| known.id != connection);
        }
    }

    /// Whether a peer is connected without a relay point between.
    pub(super) fn is_direct(&self, peer: &PeerId) -> bool {
        self.links.get(peer).is_some_and(Link::is_direct)
    }

    /// Relayed connections beside a direct one that has stood for a while: they only carry twice what others pay for.
    /// Not at once: the other side may not have seen the direct one yet. To it the last connection would be gone, it
    /// would greet us as new, and gossip, which greets only on a first connection, would stay silent one way.
    pub(super) fn superfluous(&self, now: Instant) -> Vec<ConnectionId> {
        let stands = |connection: &Connection| {
            !connection.relayed && now >= connection.since + limits::RELAYED_BESIDE_DIRECT
        };
        let links = self.links.values().filter(|link| link.connections.iter().any(stands));
        let connections = links.flat_map(|link| &link.connections);
        connections.filter(|connection| connection.relayed).map(|connection| connection.id).collect()
    }

    /// The longest newest round trip of a link.
    pub(super) fn longest_rtt(&self) -> Option<Duration> {
        self.links.values().filter_map(|link| link.rtt).max()
    }

    /// Peers of this swarm that this peer has a link with, relay points not counted.
    pub(super) fn count(&self) -> usize {
        self.links.values().filter(|link| !link.relay_point).count()
    }

    pub(super) fn remove(&mut self, peer: &PeerId) -> Option<Link> {
        self.links.remove(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Link> {
        self.links.get_mut(peer)
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.links.contains_key(peer)
    }

    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.links.keys().copied().collect()
    }

    /// The peers of this swarm, in order.
    pub(super) fn proved(&self) -> Vec<PeerKey> {
        let mut keys: Vec<PeerKey> =
            self.links.values().filter(|link| link.proved).filter_map(|link| link.key).collect();
        keys.sort_unstable();
        keys
    }

    /// The same peers, with what is known of their links, in order.
    pub(super) fn told(&self, now: Instant) -> Vec<LinkInfo> {
        let told = |link: &Link| {
            Some(LinkInfo {
                peer: link.key.filter(|_| link.proved)?,
                rtt: link.rtt,
                relayed: !link.is_direct(),
                messages_first: link.first.0,
                bytes_first: link.first.1,
                connected_for: now.saturating_duration_since(link.since),
            })
        };
        let mut told: Vec<LinkInfo> = self.links.values().filter_map(told).collect();
        told.sort_unstable_by_key(|link| link.peer);
        told
    }

    pub(super) fn heard(&mut self, peer: &PeerId, now: Instant) {
        if let Some(link) = self.links.get_mut(peer) {
            link.heard = Some(now);
            self.patience.remove(peer);
        }
    }

    pub(super) fn subscribed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(link) = self.links.get_mut(peer) {
            link.subscribed.get_or_insert(now);
        }
    }

    /// A link was the first to bring a message.
    pub(super) fn brought(&mut self, peer: &PeerId, bytes: usize) {
        if let Some(link) = self.links.get_mut(peer) {
            link.first.0 += 1;
            link.first.1 += bytes as u64;
        }
    }

    /// Peers that never said which swarm they belong to.
    pub(super) fn anonymous(&self, now: Instant) -> Vec<PeerId> {
        let late = |link: &Link| {
            !link.proved
                && !link.relay_point
                && link.closing.is_none()
                && now >= link.since + limits::IDENTIFY_WITHIN
        };
        self.links.iter().filter(|(_, link)| late(link)).map(|(peer, _)| *peer).collect()
    }

    /// Subscribed peers silent for longer than `silence`, doubled for each time that they were silent before: a
    /// message counts for the peer that delivered it first, and a distant peer may always come second.
    pub(super) fn silent(
        &mut self,
        now: Instant,
        silence: Duration,
        expected: impl Fn(&PeerId) -> bool,
    ) -> Vec<PeerId> {
        let mut silent = Vec::new();
        for (peer, link) in &self.links {
            let Some(subscribed) = link.subscribed else { continue };
            let patience = self.patience.get(peer).copied().unwrap_or(0);
            let allowed = silence.saturating_mul(1 << patience.min(limits::PATIENCE_DOUBLINGS_MAX));
            let last = link.heard.map_or(subscribed, |heard| heard.max(subscribed));
            if link.closing.is_none() && now >= last + allowed && expected(peer) {
                silent.push(*peer);
            }
        }
        if self.patience.len() > limits::TARGETS_MAX {
            self.patience.clear();
        }
        for peer in &silent {
            let patience = self.patience.entry(*peer).or_default();
            *patience = (*patience + 1).min(limits::PATIENCE_DOUBLINGS_MAX);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_each_silence_and_a_message_ends_it() {
        let (mut links, start) = (Links::default(), Instant::now());
        let peer = PeerId::random();
        let second = Duration::from_secs(1);
        let everybody = |_: &PeerId| true;
        let connection = (ConnectionId::new_unchecked(1), false);
        links.add(peer, connection, true, start);
        assert!(links.silent(start + 100 * second, second, everybody).is_empty(), "it never subscribed");
        let mut now = start;
        for expected in [1, 2, 4, 8, 16, 16] {
            links.add(peer, connection, true, now);
            links.subscribed(&peer, now);
            assert!(links.silent(now + expected * second - second / 2, second, everybody).is_empty());
            now += expected * second;
            assert_eq!(links.silent(now, second, everybody), [peer]);
            links.remove(&peer);
        }
        links.add(peer, connection, true, now);
        links.subscribed(&peer, now);
        links.heard(&peer, now);
        assert_eq!(links.silent(now + second, second, everybody), [peer], "patience starts anew");
        assert!(links.silent(now + 10 * second, second, |_| false).is_empty(), "nothing is expected of it");
    }

    #[test]
    fn a_direct_connection_makes_relayed_ones_superfluous() {
        let (mut links, now, peer) = (Links::default(), Instant::now(), PeerId::random());
        let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
        let later = now + limits::RELAYED_BESIDE_DIRECT;
        links.add(peer, (first, true), false, now);
        assert!(!links.is_direct(&peer) && links.superfluous(later).is_empty());
        links.add(peer, (second, false), false, now);
        assert!(links.is_direct(&peer) && links.superfluous(now).is_empty(), "not at once");
        assert_eq!(links.superfluous(later), [first]);
        links.lose(&peer, second);
        assert!(!links.is_direct(&peer) && links.superfluous(later).is_empty());
    }
}
