//! Somebody who opens connections and says nothing on them: the peers play on, and newcomers still come in.

use std::time::{Duration, Instant};

use super::lab::Lab;
use super::links::Swarm;
use crate::peers::{Peer, alone};
use crate::process::PATIENCE;

/// Opens connections to an address and port, holds them for a few seconds, and begins again.
const FLOOD: &str = "ulimit -n 1024
    while :; do
        fds=()
        for i in {1..500}; do { exec {fd}<>/dev/tcp/$0/$1 && fds+=($fd); } 2> /dev/null; done
        read -r -t 3 <> <(:)
        for fd in ${fds[@]}; do exec {fd}>&-; done
    done";
/// How soon a newcomer is there although all of its peers' places for newcomers are wanted by somebody else.
const IN_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn connections_that_say_nothing_keep_no_newcomer_out() {
    let _alone = alone();
    let Some(lab) = Lab::new(&["bash"]) else { return };
    let mut swarm = Swarm::start(lab);
    swarm.reach(2);
    let addresses = swarm.addresses();
    let [ip, port] = ["ip4", "tcp"].map(|part| part_of(&addresses[0], part));
    swarm.lab.host("flooder", "10.77.0.99");
    let _flood = swarm.lab.spawn("flooder", &["bash", "-c", FLOOD, ip, port]);
    let before = swarm.ended();
    swarm.reach(before + 2);

    swarm.lab.host("e", "10.77.0.5");
    let peer =
        Peer { name: "e", base: "birch", bootstrap: &addresses[0], listen: "10.77.0.5:0", ..Peer::default() };
    swarm.write(&peer);
    let begun = Instant::now();
    let mut newcomer = swarm.lab.join("e", swarm.dir.path(), "e");
    newcomer.expect(PATIENCE, "the others", |line| line.ends_with(" is here"));
    let took = begun.elapsed();
    println!("a newcomer is in after {took:.1?}");
    let ended = swarm.ended();
    swarm.reach(ended + 4);
    assert!(took < IN_WITHIN, "{took:?}");
}

/// What follows a protocol's name in an address.
fn part_of<'a>(address: &'a str, name: &str) -> &'a str {
    let mut parts = address.split('/').skip_while(|part| *part != name);
    parts.nth(1).unwrap()
}
