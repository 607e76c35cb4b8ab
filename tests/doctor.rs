//! Common mistakes, and what `murmur doctor` and `murmur join` say of each.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::peers::{Peer, murmur};

/// The findings about one thing.
fn findings(dir: &Path, more: &[&str], about: &str) -> Vec<Value> {
    let (out, err, _) = murmur(dir, &[&["doctor", "a.toml", "--json"], more].concat());
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let all = report["findings"].as_array().unwrap().clone();
    all.into_iter().filter(|finding| finding["about"] == about).collect()
}

#[test]
fn a_healthy_machine_passes() {
    let dir = tempfile::tempdir().unwrap();
    Peer::default().write(dir.path());
    let (out, err, code) = murmur(dir.path(), &["doctor", "a.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    for expected in
        ["a known rollout is the same to the bit", "127.0.0.1:0 is free", "native:six, with the hashes"]
    {
        assert!(out.contains(expected), "{out}");
    }
    let (out, _, code) = murmur(dir.path(), &["doctor"]);
    assert!(code == 0 && out.contains("processor") && !out.contains("bootstrap"), "{out}");
}

#[test]
fn each_common_mistake_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Peer::default().write(dir.path());
    let pack = format!("[[swarm.packs]]\nid = \"b3:{}\"\nweight = 1\n[peer]", "ab".repeat(32));
    let set = |key: &str, value: &str| format!("{key}={value}");
    let (taken, nobody) = (format!("[\"{taken}\"]"), format!("[\"{nobody}\"]"));
    // What is set, under what it is found, and what is said.
    for (set, about, says) in [
        (set("peer.listen", &taken), "listen", "in use"),
        (set("peer.listen", "[\"example.org:4101\"]"), "listen", "cannot be listened on"),
        (set("peer.bootstrap", &nobody), "bootstrap", "nobody answers"),
        (set("peer.base", "ambre"), "model", "no such model"),
        (set("peer.bsae", "amber"), "config", "unknown key `bsae`"),
        (set("peer.state", "/dev/null/x"), "state", "cannot be written"),
        // There is never room.
        (set("peer.state", "/proc/murmur"), "disk", "0 MiB are free"),
        (set("policy.device", "cuda"), "device", "built without the feature cuda"),
    ] {
        fails(dir.path(), &["--set", &set], about, says);
    }
    for (from, to, about, says) in [
        ("[peer]", &*pack, "packs", "which is not here"),
        ("peers_min", "pers_min", "config", "unknown key `pers_min`"),
    ] {
        fs::write(dir.path().join("a.toml"), Peer::default().text().replacen(from, to, 1)).unwrap();
        fails(dir.path(), &[], about, says);
    }
    // A folder with another content than the swarm names.
    murmur(dir.path(), &["task", "new", "quiz", "--script"]);
    fs::write(dir.path().join("a.toml"), Peer::default().text().replacen("[peer]", &pack, 1)).unwrap();
    let found = findings(dir.path(), &["--set", "peer.packs=[\"quiz\"]"], "packs");
    assert!(
        found[0]["hint"].as_str().unwrap().starts_with("no configured folder has this content"),
        "{found:?}"
    );
}

/// Asserts that the doctor fails this, says so and what to do.
fn fails(dir: &Path, more: &[&str], about: &str, says: &str) {
    let found = findings(dir, more, about);
    let named = |finding: &Value| {
        finding["grade"] == "fail"
            && finding["what"].as_str().unwrap().contains(says)
            && finding["hint"] != ""
    };
    assert!(found.iter().any(named), "{more:?}: {found:?}");
    let (_, _, code) = murmur(dir, &[&["doctor", "a.toml"], more].concat());
    assert_eq!(code, if about == "config" { 2 } else { 1 }, "{more:?}");
}

#[test]
fn a_key_that_others_can_read_is_refused_by_both() {
    let dir = tempfile::tempdir().unwrap();
    Peer::default().write(dir.path());
    murmur(dir.path(), &["key", "state-a", "--new"]);
    let key = dir.path().join("state-a/identity.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let found = findings(dir.path(), &[], "key");
    assert!(
        found[0]["grade"] == "fail" && found[0]["hint"].as_str().unwrap().starts_with("chmod 600"),
        "{found:?}"
    );
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml"]);
    assert!(code == 1 && err.contains("can be read by others") && err.contains("hint: chmod 600"), "{err}");
}

#[test]
fn a_clock_that_went_back_is_told() {
    let dir = tempfile::tempdir().unwrap();
    Peer::default().write(dir.path());
    let run = dir.path().join("state-a/run");
    fs::create_dir_all(&run).unwrap();
    let status = File::create(run.join("status.json")).unwrap();
    assert_eq!(findings(dir.path(), &[], "state")[0]["grade"], "pass");
    status.set_modified(SystemTime::now() + Duration::from_secs(7200)).unwrap();
    let found = findings(dir.path(), &[], "state");
    assert!(
        found[0]["grade"] == "warn" && found[0]["what"].as_str().unwrap().contains("from the future"),
        "{found:?}"
    );
}

#[test]
fn a_disk_that_a_run_fills_within_a_day_is_told() {
    let dir = tempfile::tempdir().unwrap();
    Peer::default().write(dir.path());
    let peer = dir.path().join("state-a/run/peers/x");
    fs::create_dir_all(&peer).unwrap();
    let run = dir.path().join("state-a/run");
    let info = r#"{"version":"0","started":"","command":"","arm":"swarm","seed":0,"peers":[]}"#;
    fs::write(run.join("run.json"), info).unwrap();
    fs::write(run.join("rounds.jsonl"), "{\"round\":1,\"wall_ms\":1000}\n").unwrap();
    let says = || findings(dir.path(), &[], "disk")[0].clone();
    assert!(says()["what"].as_str().unwrap().contains(" a day at this run's pace"), "{}", says());
    // 64 GiB in a second, of which the disk keeps none.
    File::create(peer.join("log")).unwrap().set_len(64 << 30).unwrap();
    let found = says();
    assert!(
        found["grade"] == "warn" && found["hint"].as_str().unwrap().contains("full in less than a day"),
        "{found}"
    );
}

#[test]
fn the_key_of_a_folder_that_is_not_there_is_not_made_by_a_typo() {
    let dir = tempfile::tempdir().unwrap();
    let (out, err, code) = murmur(dir.path(), &["key", "stat"]);
    assert!(code == 2 && out.is_empty() && err.contains("there is no key yet\nhint: "), "{err}");
    assert!(!dir.path().join("stat").exists());
    let (out, _, code) = murmur(dir.path(), &["key", "stat", "--new"]);
    assert!(code == 0 && murmur(dir.path(), &["key", "stat"]) == (out, String::new(), 0));
}
