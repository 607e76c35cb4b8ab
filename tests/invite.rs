//! A swarm that asks for invitations: who has none is told so, who has one plays.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::peers::{Peer, alone, murmur, records};
use crate::process::{Murmur, PATIENCE};

/// The key that a peer will have.
fn key(dir: &Path, peer: &str) -> String {
    let (out, err, code) = murmur(dir, &["key", &format!("state-{peer}"), "--new"]);
    assert_eq!(code, 0, "{err}");
    out
}

/// Starts a peer of a swarm that belongs to these three.
fn start(dir: &Path, name: &str, bootstrap: &str, members: &[String], more: &str) -> Murmur {
    let rule = format!("[swarm.membership]\nrule = \"invited\"\npeers = {members:?}\n[swarm.round]");
    let text = Peer { name, bootstrap, ..Peer::default() }.text().replace("[swarm.round]", &rule) + more;
    fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    Murmur::join(dir, name)
}

#[test]
fn a_stranger_is_told_how_to_get_in_and_plays_with_a_ticket() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let members = ["a", "b", "c"].map(|peer| key(dir.path(), peer));
    assert_eq!(members[0], key(dir.path(), "a"), "a key is made once");
    let mut a = start(dir.path(), "a", "", &members, "");
    let bootstrap = a.address();
    let _others = ["b", "c"].map(|peer| start(dir.path(), peer, &bootstrap, &members, ""));
    a.next_round();

    let (code, told) = start(dir.path(), "d", &bootstrap, &members, "").end();
    let guest = key(dir.path(), "d");
    let advice = format!("hint: ask a member for: murmur invite CONFIG --guest {guest}");
    assert!(code == 2 && told.contains("[peer] has no `ticket`") && told.contains(&advice), "{code}: {told}");

    let (ticket, err, code) = murmur(dir.path(), &["invite", "a.toml", "--guest", &guest]);
    assert!(
        code == 0 && ticket.starts_with("ticket = \"") && err.contains("put this line under [peer]"),
        "{err}"
    );
    // Somebody else's ticket is no use.
    let (code, told) = start(dir.path(), "e", &bootstrap, &members, &ticket).end();
    assert!(
        code == 2 && told.contains("`ticket` invites ") && told.contains(&key(dir.path(), "e")),
        "{told}"
    );

    let mut d = start(dir.path(), "d", &bootstrap, &members, &ticket);
    let name = d.name();
    let until = Instant::now() + PATIENCE;
    let plays = || {
        let last = records(dir.path(), "a", "rounds.jsonl").pop().unwrap();
        last["roster"].as_array().unwrap().iter().any(|member| *member == name.as_str())
    };
    while !plays() {
        assert!(Instant::now() < until, "the guest was never let in:\n{}", d.shown());
        a.next_round();
    }
    d.next_round();
}
