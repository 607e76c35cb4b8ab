//! How peers find each other without an address, and how a peer learns whether others reach it.

use std::fs;
use std::time::Instant;

use super::lab::{Lab, Router};
use crate::peers::{Peer, alone};
use crate::process::{Murmur, PATIENCE};

/// Where the relay point is; like the others' an address that counts as public.
const RELAY: &str = "20.77.0.1";
const OPEN: &str = "20.77.0.2";
/// Rounds that peers end once they have met.
const ROUNDS: u32 = 3;
/// What a peer says once somebody came back to its own address.
const REACHED: &str = "others reach this peer at ";

fn play(peers: &mut [Murmur]) {
    for peer in peers {
        while peer.next_round() < ROUNDS {}
    }
}

#[test]
fn peers_on_one_network_find_each_other_without_any_address() {
    let _alone = alone();
    let Some(lab) = Lab::new(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let start = |(n, (name, base)): (usize, (&str, &str))| {
        lab.host(name, &format!("10.77.0.{}", n + 1));
        let text = Peer { name, base, listen: "0.0.0.0:0", ..Peer::default() }.text() + "lan = true\n";
        fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        lab.join(name, dir.path(), name)
    };
    let mut peers: Vec<Murmur> =
        [("a", "amber"), ("b", "birch"), ("c", "cedar")].into_iter().enumerate().map(start).collect();
    play(&mut peers);
}

#[test]
fn a_peer_says_that_others_reach_it_where_a_relay_point_came_back_to_it_and_only_there() {
    let _alone = alone();
    let Some(lab) = Lab::new(&["nft"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    lab.host("relay", RELAY);
    let mut relay =
        lab.start("relay", dir.path(), &["relay", "--listen", &format!("{RELAY}:4100"), "--state", "relay"]);
    let bootstrap = relay.datum();
    lab.host("open", OPEN);
    lab.home("home", "20.77.1.1", &Router::Usual);
    let knocks = |table: &str| table.lines().find(|line| line.contains(RELAY)).unwrap().to_owned();
    let rule = format!("nft add rule ip home in ip saddr {RELAY} ct state new counter");
    lab.sh(&format!("ip netns exec home-router {rule}"));

    let start = |(name, base, listen): (&str, &str, &str)| {
        let peer = Peer { name, base, listen, bootstrap: &bootstrap, ..Peer::default() };
        let text = peer.text().replace("peers_min = 3", "peers_min = 2");
        fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        lab.join(name, dir.path(), name)
    };
    let mut open = start(("open", "amber", &format!("{OPEN}:4200")));
    let home = start(("home", "birch", "0.0.0.0:4200"));
    let said = open.expect(PATIENCE, "an address that others reach", |line| line.contains(REACHED));
    assert!(said.ends_with(&format!("{REACHED}/ip4/{OPEN}/tcp/4200")), "{said}");

    // The relay point has knocked at the router, which lets nobody in.
    let until = Instant::now() + PATIENCE;
    let mut peers = [open, home];
    while knocks(&lab.sh("ip netns exec home-router nft list chain ip home in")).contains("packets 0 ") {
        assert!(Instant::now() < until, "nobody knocked:\n{}", peers[1].shown());
        peers[1].next_round();
    }
    play(&mut peers);
    let [_, home] = peers;
    assert!(!home.told.iter().any(|line| line.contains(REACHED)), "{}", home.shown());
}
