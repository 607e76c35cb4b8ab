//! Peers that come late, and start from what others have learnt.

use std::fs;
use std::path::Path;

use crate::peers::{Peer, alone, murmur, peer_dir, records, three};
use crate::process::{Murmur, PATIENCE};

/// Rounds within which a newcomer plays. On a quiet machine it is the next one; but rounds take a tenth of a second here, and
/// a process that has just started does not get its turn in time on a loaded one.
const SOON: u64 = 20;

/// Files of a peer's offers with this ending, by name.
fn offered(dir: &Path, peer: &str, ending: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(peer_dir(dir, peer).join("offers")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

fn late(dir: &Path, name: &str, bootstrap: &str, from: &str) -> Murmur {
    Peer { name, bootstrap, ..Peer::default() }.write(dir);
    Murmur::start(dir, &["join", &format!("{name}.toml"), "--from", from, "--plain"])
}

/// The rounds that a peer has settled in which it answered.
fn played(dir: &Path, peer: &str, name: &str) -> Vec<u64> {
    let rounds = records(dir, peer, "rounds.jsonl");
    let theirs = rounds.iter().filter(|round| {
        round["roster"].as_array().unwrap().iter().any(|member| member.as_str() == Some(name))
    });
    theirs.map(|round| round["round"].as_u64().unwrap()).collect()
}

#[test]
fn newcomers_start_from_what_others_have_learnt_and_play_soon() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [(mut a, _), (_b, _), (_c, name_c)] = three(dir, 0);
    while ["a", "b", "c"].iter().any(|peer| offered(dir, peer, ".offer").is_empty()) {
        a.next_round();
    }
    let bootstrap = a.told.iter().find_map(|line| line.strip_prefix("listening on ")).unwrap().to_owned();

    let mut late = [
        ("d", late(dir, "d", &bootstrap, "best")),
        ("e", late(dir, "e", &bootstrap, &format!("peer:{name_c}"))),
    ];
    for (peer, process) in &mut late {
        let line =
            process.expect(PATIENCE, "the choice", |line| line.starts_with("starting from the policy of "));
        assert!(*peer == "d" || line.contains(&name_c), "{line}");
        process.expect(PATIENCE, "the policy", |line| {
            line.starts_with("the policy of ") && line.contains(" is here: ")
        });
        let name = process.name();
        // The round that was in progress when it could begin.
        let ready = 1 + records(dir, "a", "rounds.jsonl").last().unwrap()["round"].as_u64().unwrap();
        let first = loop {
            process.expect(PATIENCE, "a round of its own", |line| line.starts_with("round "));
            if let Some(first) = played(dir, peer, &name).first() {
                break *first;
            }
        };
        assert!(first <= ready + SOON, "ready in round {ready}, plays in round {first}");
        // The very bytes of whoever gave it, and given on.
        let [file] = &offered(dir, peer, ".safetensors")[..] else { panic!("{peer} keeps one") };
        let own = fs::read(peer_dir(dir, peer).join("offers").join(file)).unwrap();
        let giver = ["a", "b", "c"].map(|giver| peer_dir(dir, giver).join("offers").join(file));
        assert!(giver.iter().filter_map(|path| fs::read(path).ok()).any(|bytes| bytes == own));
        assert_eq!(offered(dir, peer, ".offer").len(), 1);
    }

    let (_, err, code) =
        murmur(dir, &["join", "d.toml", "--state", "other", "--from", "peer:no-body", "--plain"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("nobody gave the policy of no-body") && err.contains("hint: policies can be had of "),
        "{err}"
    );
}

#[test]
fn what_cannot_be_started_from_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Peer::default().write(dir);
    for (from, words) in [
        ("nothing", "is not base, best, peer:NAME or hub"),
        ("hub", "base = \"amber\" is no model of the hub"),
        ("best", "bootstrap names nobody to fetch a policy from"),
    ] {
        let (_, err, code) = murmur(dir, &["join", "a.toml", "--from", from, "--plain"]);
        assert_ne!(code, 0);
        assert!(err.contains(words), "{from}: {err}");
    }
}
