//! Logs of real runs: what `demo` and `join` leave folds again, for every peer and after kills; what somebody changed
//! is found.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use ::swarm::identity::Identity;
use ::swarm::log::{Reader, Record, Training, Writer};
use ::swarm::manifest::Manifest;
use ::swarm::wire;
use serde_json::Value;

use crate::peers::{alone, murmur, peer_dir, three};
use crate::process::{Murmur, PATIENCE};

fn replay(dir: &Path, args: &[&str]) -> (Value, i32) {
    let (out, err, code) = murmur(dir, &[&["replay"], args, &["--json"]].concat());
    (serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")), code)
}

/// The logs of a run, by peer.
pub(crate) fn logs(run: &Path) -> Vec<(String, PathBuf)> {
    let peers = fs::read_dir(run.join("peers")).unwrap().map(|entry| entry.unwrap());
    let mut logs: Vec<(String, PathBuf)> =
        peers.map(|peer| (peer.file_name().into_string().unwrap(), peer.path().join("log"))).collect();
    logs.sort();
    logs
}

#[test]
fn the_logs_of_a_demo_verify_agree_and_give_credit() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let demo = ["demo", "--rounds", "4", "--prompts", "8", "--seed", "5", "--plain", "--out", "run"];
    let (_, err, code) = murmur(dir.path(), &demo);
    assert_eq!(code, 0, "{err}");

    let (report, code) = replay(dir.path(), &["run", "--verify"]);
    assert!(code == 0 && report["verified"] == true, "{report}");
    let checked = report["logs"].as_array().unwrap();
    assert_eq!(checked.len(), 4);
    for log in checked {
        assert!(log["rounds"] == 4 && log["closed"] == true && log["unsealed_records"] == 0, "{log}");
        assert!(log["training_steps"].as_u64().unwrap() >= 3, "{log}");
    }
    let (out, _, code) = murmur(dir.path(), &["replay", "run", "--verify"]);
    assert!(code == 0 && out.contains("rounds/s") && out.contains("everything follows"), "{out}");
    let (report, _) = replay(dir.path(), &["run", "--to-round", "2"]);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2, "{report}");

    let logs = logs(&dir.path().join("run"));
    let [(first, _), (second, _), ..] = &logs[..] else { panic!("{logs:?}") };
    let (report, code) = replay(dir.path(), &["run", "--peer", first, "--diff", second]);
    assert!(code == 0 && report["logs"].as_array().unwrap().len() == 2, "{report}");

    let (out, err, code) = murmur(dir.path(), &["credit", "run", "--json"]);
    assert_eq!(code, 0, "{err}");
    let credit: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(credit["peers"].as_array().unwrap().len(), 4, "{credit}");
    for peer in credit["peers"].as_array().unwrap() {
        assert!(peer["rounds"] == 4 && peer["answered"] == 4 && peer["equivocations"] == 0, "{peer}");
        assert!(peer["vote_weight"].as_f64().unwrap() > 0.0 && peer["mean_reward"].is_number(), "{peer}");
        assert!(peer["audits_failed"] == 0 && peer["audits_wrong"] == 0, "{peer}");
    }
    let sum = |field: &str| -> u64 {
        credit["peers"].as_array().unwrap().iter().map(|peer| peer[field].as_u64().unwrap()).sum()
    };
    assert!(sum("audits_passed") > 0 && sum("audits_done") > sum("audits_passed"), "{credit}");
    let (report, code) = replay(dir.path(), &["run", "--verify", "--updates"]);
    assert_eq!(code, 0, "{report}");
    for log in report["logs"].as_array().unwrap() {
        assert!(log["updates"]["outcome"] == "equal" && log["updates"]["first"] == 1, "{log}");
    }
    lied(dir.path(), &logs);
    tampered(dir.path(), &logs);
}

/// An owner that tells of another first step than it took, under its own seals: no message says otherwise, computing
/// it again does.
fn lied(dir: &Path, logs: &[(String, PathBuf)]) {
    for (field, lie) in [
        ("batch", (|step| step.batch.0[0] ^= 1) as fn(&mut Training)),
        ("optimizer", |step| step.optimizer.0[0] ^= 1),
        ("learning_rate", |step| step.learning_rate += 1),
    ] {
        let (name, path) = &logs[2];
        let good = fs::read(path).unwrap();
        let mut reader = Reader::open(path).unwrap();
        let mut records = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            records.push(frame.record);
        }
        let Record::Header(header) = &records[0] else { panic!("{:?}", records[0]) };
        let owner = demo_identity(5, |identity| identity.public() == header.peer);
        let manifest: Manifest = wire::decode(&header.manifest, 1 << 16).unwrap();
        fs::remove_file(path).unwrap();
        let (mut log, _) = Writer::open(path, &owner, &manifest).unwrap();
        for mut record in records {
            match &mut record {
                Record::Header(_) | Record::Seal(_) => continue,
                Record::Training(step) if step.round == 1 => lie(step),
                _ => {}
            }
            log.append(&record).unwrap();
        }
        log.close().unwrap();
        let (report, code) = replay(dir, &["run", "--verify", "--peer", name]);
        assert_eq!(code, 0, "{report}");
        let (report, code) = replay(dir, &["run", "--verify", "--peer", name, "--updates"]);
        let told = report["difference"].as_str().unwrap();
        let expected = format!("round 1, training step of {name}, {field}: ");
        assert!(code == 1 && told.contains(&expected), "{told}");
        fs::write(path, good).unwrap();
    }
}

/// The identity of a demo's peer: they follow from the seed.
pub(crate) fn demo_identity(seed: u64, is: impl Fn(&Identity) -> bool) -> Identity {
    let identities = (0..4u64).map(|index| {
        let mut key = blake3::Hasher::new_derive_key("murmur v1 demo identity");
        key.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
        Identity::from_seed(*key.finalize().as_bytes())
    });
    identities.into_iter().find(|identity| is(identity)).unwrap()
}

/// What was changed in one of the logs is found, and told in a sentence.
fn tampered(dir: &Path, logs: &[(String, PathBuf)]) {
    let (name, path) = &logs[1];
    let good = fs::read(path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let closing = good.windows(7).rposition(|bytes| bytes == b"closing").unwrap();
    for (bytes, expected) in [
        (&flipped[..], "checksum"),
        (&good[..closing], "closing seal"),
        (&fs::read(&logs[0].1).unwrap(), "header, peer"),
        (b"", "header"),
    ] {
        fs::write(path, bytes).unwrap();
        let (report, code) = replay(dir, &["run", "--verify"]);
        let told = report["difference"].as_str().unwrap();
        assert!(code == 1 && report["verified"] == false, "{report}");
        assert!(told.contains(expected) && told.contains(name), "{expected}: {told}");
    }
    fs::remove_file(path).unwrap();
    let (out, err, code) = murmur(dir, &["replay", "run", "--verify"]);
    assert!(code == 1 && out.is_empty() && err.contains("is missing"), "{out}{err}");
    fs::write(path, good).unwrap();
    assert_eq!(replay(dir, &["run", "--verify"]).1, 0);
}

/// Kills `c`, damages what it had stored, and starts it again: at first it does not, then it says nothing for a while.
fn without_its_store(dir: &Path, mut c: Murmur) -> Murmur {
    c.kill();
    let stored = peer_dir(dir, "c").join("resume.bin");
    let mut bytes = fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&stored, bytes).unwrap();
    let (_, err, code) = murmur(dir, &["join", "c.toml", "--plain"]);
    let told = ["resume.bin", "the state is not the one", "hint: nothing is lost, the log has them too"];
    assert!(code == 1 && told.iter().all(|part| err.contains(part)), "{err}");
    fs::remove_file(stored).unwrap();
    let mut c = Murmur::join(dir, "c");
    c.expect(PATIENCE, "its silence", |line| line.contains("takes no part before a certificate after view"));
    c
}

#[test]
fn the_log_of_a_peer_that_was_killed_goes_on_and_verifies() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [(mut a, _), (mut b, _), (mut c, _)] = three(dir.path(), 0);
    while c.next_round() < 3 {}
    c.kill();
    // As if it had been killed within a write.
    let log = peer_dir(dir.path(), "c").join("log");
    let whole = fs::metadata(&log).unwrap().len();
    let frame = [&200u32.to_le_bytes()[..], &(!200u32).to_le_bytes(), b"half a record"].concat();
    OpenOptions::new().append(true).open(&log).unwrap().write_all(&frame).unwrap();
    let (report, code) = replay(dir.path(), &["state-c/run", "--verify"]);
    assert_eq!((report["logs"][0]["torn_bytes"].as_u64(), code), (Some(21), 0), "{report}");

    let mut c = Murmur::join(dir.path(), "c");
    let told = c.expect(PATIENCE, "the torn tail", |line| line.contains("were cut off"));
    assert!(told.contains("21 bytes"), "{told}");
    c.next_round();
    let mut c = without_its_store(dir.path(), c);
    c.next_round();
    for peer in [&a, &b, &c] {
        peer.interrupt();
    }
    for peer in [&mut a, &mut b, &mut c] {
        assert_eq!(peer.end().0, 130);
    }
    assert!(fs::metadata(&log).unwrap().len() > whole);
    for peer in ["a", "b", "c"] {
        let run = format!("state-{peer}/run");
        let (report, code) = replay(dir.path(), &[&run, "--verify"]);
        assert!(code == 0 && report["verified"] == true, "{report}");
        assert!(report["logs"][0]["closed"] == true && report["logs"][0]["torn_bytes"] == 0, "{report}");
    }
    let (report, code) = replay(dir.path(), &["state-a/run", "--diff", "state-b/run"]);
    assert_eq!(code, 0, "{report}");
}
