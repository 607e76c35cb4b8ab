//! Peers at home, behind routers that translate addresses, and a relay point that both can reach.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::lab::{Lab, Router};
use crate::peers::{Peer, alone};
use crate::process::{Murmur, PATIENCE};

/// Where the relay point is; like those of the routers an address that counts as public.
const RELAY: &str = "20.77.0.1";
const HOMES: [(&str, &str, &str); 2] = [("a", "amber", "20.77.1.1"), ("b", "birch", "20.77.2.1")];
/// Rounds that the peers end in each state of their link.
const ROUNDS: u32 = 5;

/// Two peers and a relay point.
struct Homes {
    dir: TempDir,
    peers: Vec<Murmur>,
    _relay: Murmur,
    // Last, so that the others end first.
    _lab: Lab,
}

impl Homes {
    /// `None` where this machine cannot have them.
    fn start(routers: [Router; 2]) -> Option<Self> {
        let lab = Lab::new(&["nft"])?;
        let dir = tempfile::tempdir().unwrap();
        lab.host("relay", RELAY);
        let listen = format!("{RELAY}:4100");
        let mut relay = lab.start("relay", dir.path(), &["relay", "--listen", &listen, "--state", "relay"]);
        let bootstrap = [relay.datum(), relay.datum()].join(" ");
        let start = |((name, base, address), router): (_, &Router)| {
            lab.home(name, address, router);
            let listen = "0.0.0.0:0\", \"/ip4/0.0.0.0/udp/0/quic-v1";
            let peer = Peer { name, base, bootstrap: &bootstrap, listen, ..Peer::default() };
            let text = peer.text().replace("peers_min = 3", "peers_min = 2");
            fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
            lab.join(name, dir.path(), name)
        };
        let peers = HOMES.into_iter().zip(&routers).map(start).collect();
        Some(Self { dir, peers, _relay: relay, _lab: lab })
    }

    /// Waits until both peers' link is relayed or not, as both see it, and for rounds after that.
    fn play(&mut self, relayed: bool) {
        let until = Instant::now() + PATIENCE;
        while !HOMES.iter().all(|(name, ..)| link(self.dir.path(), name) == Some(relayed)) {
            assert!(
                Instant::now() < until,
                "relayed or not: {}\n{}",
                self.peers[0].shown(),
                self.peers[1].shown()
            );
            self.peers[0].next_round();
        }
        for peer in &mut self.peers {
            let now = peer.next_round();
            while peer.next_round() < now + ROUNDS {}
        }
        assert!(HOMES.iter().all(|(name, ..)| link(self.dir.path(), name) == Some(relayed)));
    }
}

/// Whether a peer's only link is relayed.
fn link(dir: &Path, peer: &str) -> Option<bool> {
    let text = fs::read_to_string(dir.join(format!("state-{peer}/run/network.json"))).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let links = record["links"].as_object()?;
    links.values().next().filter(|_| links.len() == 1)?["relayed"].as_bool()
}

#[test]
fn peers_behind_usual_routers_meet_at_a_relay_point_and_then_talk_directly() {
    let _alone = alone();
    let Some(mut homes) = Homes::start([Router::Usual, Router::Usual]) else { return };
    homes.play(false);
}

#[test]
fn peers_whose_routers_let_nothing_through_go_on_through_the_relay_point() {
    let _alone = alone();
    let Some(mut homes) = Homes::start([Router::Symmetric, Router::Only(RELAY)]) else { return };
    homes.play(true);
}
