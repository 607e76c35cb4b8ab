//! What a peer remembers of others when it starts again: where those were whom it met, and who is kept away.
//!
//! With it a restart needs none of the configured addresses, and a ban outlives the process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use judge::PeerKey;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::address::Address;
use super::event::NetEvent;
use super::key::{peer_id, peer_key};
use super::{Network, limits};

/// To be stored and handed to [`Network::recall`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Book {
    /// Peers of this swarm that were met, at most [`BOOK_PEERS_MAX`](limits::BOOK_PEERS_MAX).
    pub peers: Vec<Known>,
    /// Peers kept away.
    pub banned: Vec<Banned>,
}

/// Where a peer was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its key in hexadecimal digits.
    pub peer: String,
    /// Multiaddresses.
    pub addresses: Vec<String>,
}

/// Until when a peer is kept away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Banned {
    /// Its key in hexadecimal digits.
    pub peer: String,
    /// In seconds since 1970.
    pub until_s: u64,
    /// How often it was banned; each ban is longer.
    pub strikes: u32,
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn known(peer: &PeerId, addresses: &[Multiaddr]) -> Option<Known> {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    Some(Known { peer: peer_key(peer)?.hex(), addresses })
}

impl Network {
    /// What to remember of others.
    pub fn book(&self) -> Book {
        let (now, now_s) = (Instant::now(), since_1970().as_secs());
        let mut peers: Vec<Known> =
            self.targets.met().filter_map(|(peer, addresses)| known(&peer, addresses)).collect();
        let before: Vec<Known> = self
            .acquaintances
            .iter()
            .filter(|before| peers.iter().all(|known| known.peer != before.peer))
            .cloned()
            .collect();
        peers.extend(before);
        peers.truncate(limits::BOOK_PEERS_MAX);
        let banned = self.bans.offenders().filter_map(|(peer, until, strikes)| {
            let until_s = now_s + until.saturating_duration_since(now).as_secs();
            Some(Banned { peer: peer_key(&peer)?.hex(), until_s, strikes })
        });
        Book { peers, banned: banned.collect() }
    }

    /// Forgets the learned addresses of a peer, as when it has said goodbye; after a restart it may be there again.
    pub fn forget(&mut self, peer: PeerKey) {
        let Some(id) = peer_id(&peer) else { return };
        let left = self.targets.met().find(|(met, _)| *met == id);
        if let Some(left) = left.and_then(|(peer, addresses)| known(&peer, addresses)) {
            self.acquaintances.retain(|known| known.peer != left.peer);
            self.acquaintances.insert(0, left);
            self.acquaintances.truncate(limits::BOOK_PEERS_MAX);
        }
        self.targets.forget(&id);
    }

    /// Goes on with what was remembered: those who were there are dialled, those kept away stay away. What cannot be
    /// read of it is left out.
    pub fn recall(&mut self, book: &Book) {
        let (now, now_s) = (Instant::now(), since_1970().as_secs());
        for known in book.peers.iter().take(limits::BOOK_PEERS_MAX) {
            let peer = known.peer.parse::<PeerKey>().ok().and_then(|key| peer_id(&key));
            let Some(peer) = peer.filter(|peer| peer != self.swarm.local_peer_id()) else { continue };
            let addresses: Vec<Address> =
                known.addresses.iter().filter_map(|text| Address::parse(text).ok()).collect();
            self.targets.learn(peer, &addresses, false, now);
            self.acquaintances.push(known.clone());
        }
        for ban in book.banned.iter().take(limits::BANS_MAX) {
            let Some(peer) = ban.peer.parse::<PeerKey>().ok().and_then(|key| peer_id(&key)) else { continue };
            // A clock that went back must not keep somebody away for ever.
            let left = Duration::from_secs(ban.until_s.saturating_sub(now_s)).min(limits::BAN_MAX);
            self.bans.recall(peer, now + left, ban.strikes);
            if !left.is_zero() {
                self.swarm.behaviour_mut().blocked.block_peer(peer);
            }
        }
        if !book.peers.is_empty() {
            let known = format!("{} peers are remembered from before", book.peers.len());
            self.events.push_back(NetEvent::Reach(known));
        }
    }
}
