//! A swarm of one's own, and the line with which others join it.

use std::fs;

use crate::peers::{alone, murmur};
use crate::process::Murmur;

#[test]
fn others_join_with_the_line_that_new_prints() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (line, err, code) = murmur(dir.path(), &["new", "Oak & Elm", "--dir", "oak"]);
    assert!(code == 0 && err.contains("run this peer with: murmur join oak/peer.toml"), "{err}");
    let (_, err, code) = murmur(dir.path(), &["new", "Oak & Elm", "--dir", "oak"]);
    assert!(code == 2 && err.contains("there is a swarm here already\nhint: "), "{err}");
    let line: Vec<&str> = line.split_whitespace().collect();
    let ["murmur", "join", word] = line[..] else { panic!("{line:?}") };

    let join = |what: &str| Murmur::start(dir.path(), &["join", what, "--plain"]);
    let mut founder = join("oak/peer.toml");
    let mut others = [join(word), join(word)];
    let names = others.each_mut().map(|peer| peer.name());
    assert_ne!(names[0], names[1], "the same line on the same machine is another peer");
    founder.next_round();
    assert!(others.each_mut().map(|peer| peer.next_round()).iter().all(|round| *round > 0));
    let places = fs::read_dir(dir.path().join("data/murmur/swarms")).unwrap();
    let mut places: Vec<String> =
        places.map(|place| place.unwrap().file_name().into_string().unwrap()).collect();
    places.sort();
    assert!(places[0].starts_with("oak---elm-") && places[1] == format!("{}-2", places[0]), "{places:?}");

    // Whom it met it finds again, although the only peer that the line names is gone.
    let [mut first, mut second] = others;
    let own = dir.path().join("data/murmur/swarms").join(&places[0]).join("run/peers");
    let met = || {
        let book = fs::read_dir(&own).unwrap().next().unwrap().unwrap().path().join("peers.json");
        fs::read_to_string(book).unwrap_or_default().matches("\"peer\"").count()
    };
    while met() < 1 {
        first.next_round();
    }
    founder.kill();
    first.kill();
    // The first place is free again, and its peer goes on.
    let mut again = join(word);
    let told = again.expect(crate::process::PATIENCE, "a name", |line| line.contains(" joins swarm "));
    assert!(names.iter().any(|name| told.starts_with(name.as_str())), "{told}");
    assert!(again.next_round() > 0 && second.next_round() > 0);
}

/// As behind routers that let nobody in: nobody listens but the relay point.
#[test]
fn a_swarm_meets_at_a_relay_point_and_plays_through_it() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut relay = Murmur::start(dir.path(), &["relay", "--listen", "127.0.0.1:0", "--state", "relay"]);
    let point = relay.datum();
    let (line, err, code) = murmur(dir.path(), &["new", "oak", "--relay", &point]);
    assert_eq!(code, 0, "{err}");
    let word = line.split_whitespace().last().unwrap();
    let join = |what| Murmur::start(dir.path(), &["join", what, "--plain", "--set", "peer.listen=[]"]);
    let mut peers = [join("oak/peer.toml"), join(word), join(word)];
    assert!(peers.each_mut().map(|peer| peer.next_round()).iter().all(|round| *round > 0));
    // Records of the network are a second old at most.
    let network = || fs::read_to_string(dir.path().join("oak/state/run/network.json")).unwrap();
    while !(network().contains("p2p-circuit") && network().contains("\"relayed\": true")) {
        assert!(peers[0].next_round() < 100, "{}", network());
    }
    relay.interrupt();
    assert_eq!(relay.end().0, 0);
}

#[test]
fn what_cannot_be_made_or_read_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["new", "oak", "--reach", "internet"][..], "or a relay point\nhint: "),
        (&["new", "oak", "--relay", "somewhere"], "--relay: "),
        (&["new", "oak", "--reach", "internet", "--address", "here"], "\"here\" leads nowhere"),
        (&["new", "oak", "--pack", "native:oka"], "native:oka"),
        (&["join", "murmur1Ym9vdHN0cmFwID0"], "the code"),
    ] {
        let (out, err, code) = murmur(dir.path(), args);
        assert!(out.is_empty() && code != 0 && err.contains(expected) && err.contains("hint: "), "{err}");
    }
    assert!(!dir.path().join("oak").exists(), "nothing is left behind");
}
