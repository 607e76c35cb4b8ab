//! `join` with configs and files that are wrong, and with those that the project ships.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::peers::{Peer, contents, murmur, peer_dir};
use crate::process::{binary, run};

#[test]
fn wrong_configs_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let good = Peer::default().text();
    for (from, to, expected) in [
        (
            "peers_min = 3",
            "pers_min = 3",
            "c.toml:4: unknown key `pers_min`\nhint: did you mean `peers_min`?",
        ),
        (
            "peers_min = 3",
            "peers_min = 0",
            "c.toml: [swarm] genesis.peers_min: 0 is out of range\nhint: choose 1 to ",
        ),
        (
            "prompts = 6",
            "prompts = 0",
            "c.toml: [swarm] round.prompts: 0 is out of range\nhint: choose 1 to ",
        ),
        ("rounds = 0", "ruonds = 0", "unknown key `ruonds`\nhint: did you mean `rounds`?"),
        ("native:six", "native:sicks", "no native pack is called \"sicks\"\nhint: did you mean "),
        ("base = \"amber\"\n", "", "the key `base` is missing\nhint: add `base = …`"),
        ("amber", "ambre", "did you mean the embedded base `amber`?"),
        ("127.0.0.1:0", "127.0.0.1", "c.toml: [peer] the address \"127.0.0.1\": "),
    ] {
        fs::write(dir.path().join("c.toml"), good.replacen(from, to, 1)).unwrap();
        let (out, err, code) = murmur(dir.path(), &["join", "c.toml"]);
        assert!(err.contains(expected), "{to}: {err}");
        assert_eq!((out.as_str(), code), ("", 2), "{to}: {err}");
    }
}

#[test]
fn a_config_says_where_its_values_are_from() {
    let dir = tempfile::tempdir().unwrap();
    Peer::default().write(dir.path());
    let show = |args: &[&str]| {
        let mut command = binary(&[&["config", "show", "a.toml"], args].concat());
        run(command.current_dir(dir.path()).env("MURMUR_PEER__BASE", "cedar"))
    };
    let (out, err, code) = show(&["--origin", "--set", "learning.beta=0.1"]);
    assert_eq!(code, 0, "{err}");
    for line in [
        "swarm.name = \"test\"|a.toml:2",
        "peer.base = \"cedar\"|MURMUR_PEER__BASE",
        "learning.beta = 0.1|--set learning.beta",
        "learning.epsilon = 0.2|default",
    ] {
        let (value, origin) = line.split_once('|').unwrap();
        let says = |shown: &str| shown.starts_with(value) && shown.ends_with(&format!("# {origin}"));
        assert!(out.lines().any(says), "{line} is not in\n{out}");
    }
    // Without origins it is a config again.
    let (out, _, _) = show(&[]);
    fs::write(dir.path().join("a.toml"), &out).unwrap();
    assert_eq!(show(&[]).0, out);
}

/// `UPDATE_EXPECT=1 cargo test --release --test integration the_schema` writes it anew.
#[test]
fn the_schema_for_editors_is_of_this_version() {
    let (schema, err, code) = run(&mut binary(&["config", "schema"]));
    assert_eq!(code, 0, "{err}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/join.schema.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == schema, "hint: UPDATE_EXPECT=1 writes it anew");
    for word in [
        "\"checkpoint_every\"",
        "Rounds between checkpoints",
        "\"byzantine\"",
        "\"additionalProperties\": false",
    ] {
        assert!(schema.contains(word), "{word}");
    }
}

#[test]
fn a_busy_port_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = busy.local_addr().unwrap().to_string();
    Peer { listen: &listen, ..Peer::default() }.write(dir.path());
    let (out, err, code) = murmur(dir.path(), &["join", "a.toml"]);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.contains("address already in use") && err.contains("hint: "), "{err}");
    assert!(err.contains("choose another port"), "{err}");
}

#[test]
fn a_state_folder_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Peer::default().start(dir.path());
    running.name();
    let (out, err, code) = murmur(dir.path(), &["join", "a.toml"]);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.contains("belongs to a peer that runs already\nhint: "), "{err}");
    // Whatever ends it, it lets go.
    running.kill();
    Peer::default().start(dir.path()).name();
}

#[test]
fn damaged_state_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // A single peer is a swarm too, and a quick one.
    let alone = Peer { rounds: 1, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 1");
    fs::write(dir.path().join("a.toml"), &alone).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert_eq!(code, 0, "{err}");
    let peer = peer_dir(dir.path(), "a");
    for (file, expected) in [
        ("resume.bin", "resume.bin is damaged"),
        ("checkpoint/model.safetensors", "model.safetensors"),
        ("checkpoint/adam_first.safetensors", "adam_first.safetensors"),
        ("checkpoint/trainer.json", "trainer.json"),
    ] {
        let path = peer.join(file);
        let good = fs::read(&path).unwrap();
        for damage in [&good[..good.len() / 2], &b""[..], &[0xff; 64][..]] {
            fs::write(&path, damage).unwrap();
            let before = contents(&peer);
            let (out, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
            assert_eq!((out.as_str(), code), ("", 1), "{file} of {} bytes: {err}", damage.len());
            assert!(err.contains(expected) && err.contains("hint: "), "{file}: {err}");
            assert!(contents(&peer) == before, "{file}: something was overwritten");
        }
        fs::write(&path, &good).unwrap();
    }
    // A checkpoint that lost a file is not taken for no checkpoint.
    let trainer = peer.join("checkpoint/trainer.json");
    let good = fs::read(&trainer).unwrap();
    fs::remove_file(&trainer).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert!(code == 1 && err.contains("has no trainer.json"), "{code}: {err}");
    assert!(!trainer.exists(), "the checkpoint was replaced");
    fs::write(&trainer, good).unwrap();
    let key = dir.path().join("state-a/identity.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, &good[..good.len() / 2]).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert!(code == 1 && err.contains("identity.key"), "{code}: {err}");
    assert_eq!(fs::read(&key).unwrap(), &good[..good.len() / 2], "the key was overwritten");
}

#[test]
fn a_damaged_base_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tiny =
        "name = \"tiny\"\nseed = 1\nbatch = 4\n[[phases]]\nsteps = 1\nlearning_rate = 1e-3\nworked = 0.5\n";
    fs::write(dir.path().join("tiny.toml"), tiny).unwrap();
    let (_, err, code) = murmur(dir.path(), &["pretrain", "tiny.toml", "--out", "tiny", "--json"]);
    assert_eq!(code, 0, "{err}");
    Peer { base: "tiny", ..Peer::default() }.write(dir.path());
    for (file, damage) in [("model.safetensors", "short"), ("config.json", "{"), ("tokenizer.json", "[]")] {
        let path = dir.path().join("tiny").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, damage).unwrap();
        for args in [&["join", "a.toml"][..], &["demo", "--base", "tiny", "--rounds", "1"]] {
            let (out, err, code) = murmur(dir.path(), args);
            assert_eq!((out.as_str(), code), ("", 1), "{file}: {err}");
            assert!(err.contains(file) && err.contains("hint: "), "{file}: {err}");
        }
        assert_eq!(fs::read(&path).unwrap(), damage.as_bytes());
        fs::write(&path, &good).unwrap();
    }
}

/// Those of `pretrain` are loaded in a test beside it.
#[test]
fn every_config_of_a_peer_is_loaded() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut files: Vec<PathBuf> = fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut ids = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let path = file.to_str().unwrap();
        if name.starts_with("qwen") {
            // Its model is on the hub; a dry run says so and downloads nothing.
            let (out, err, code) = murmur(dir.path(), &["join", path, "--dry-run"]);
            assert_eq!(code, 0, "{name}: {err}");
            assert!(out.contains("\n[lora]\nrank = 16\n"), "{name}: {out}");
            let told = err.contains("is not on this machine: the first start downloads");
            assert!(told || err.contains("memory: this takes up to"), "{name}: {err}");
        } else if name.starts_with("peer-") {
            let (out, err, code) = murmur(dir.path(), &["join", path, "--dry-run"]);
            assert_eq!(code, 0, "{name}: {err}");
            let id = out.lines().next().unwrap().strip_prefix("# swarm id ").unwrap().to_owned();
            // What is printed is a config itself, of the same swarm.
            fs::write(dir.path().join(name), &out).unwrap();
            let (again, err, _) = murmur(dir.path(), &["join", name, "--dry-run"]);
            assert_eq!(again, out, "{name}: {err}");
            ids.push(id);
        } else {
            let known = name.starts_with("pretrain-") || name == "join.schema.json";
            assert!(known, "{name}: test this kind of config too");
        }
    }
    assert_eq!(ids.len(), 3, "{files:?}");
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 64), "{ids:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "a dry run leaves nothing behind");
}
