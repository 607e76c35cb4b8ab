//! Packs travel: who lacks one gets it from the swarm before it plays, and gives it on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use ::swarm::identity::Identity;
use ::swarm::manifest::Manifest;
use ::swarm::net::{NetConfig, NetEvent, Network};
use ::swarm::packs::Shelf;
use tasks::PackFiles;

use crate::peers::{Peer, alone, records};
use crate::process::{Murmur, PATIENCE, binary, run};

fn murmur(dir: &Path, store: &str, args: &[&str]) -> (String, String, i32) {
    run(binary(args).current_dir(dir).env("MURMUR_PACKS", dir.join(store)))
}

/// Writes the config of a peer in a swarm that needs the pack; two peers begin.
fn write(dir: &Path, name: &str, bootstrap: &str, pack: &str) -> String {
    let text = Peer { name, bootstrap, ..Peer::default() }.text();
    let text = text.replace("peers_min = 3", "peers_min = 2").replace("native:six", pack);
    fs::write(dir.join(format!("{name}.toml")), &text).unwrap();
    text
}

fn start(dir: &Path, name: &str, store: &str, bootstrap: &str, pack: &str) -> Murmur {
    write(dir, name, bootstrap, pack);
    let config = format!("{name}.toml");
    Murmur::start_with(dir, &["join", &config, "--plain"], &[("MURMUR_PACKS", &dir.join(store))])
}

#[test]
fn a_peer_without_the_pack_fetches_it_plays_and_gives_it_on() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(murmur(dir, "store", &["task", "new", "sums", "--script"]).2, 0);
    let id = murmur(dir, "store", &["task", "add", "sums"]).0.trim().to_owned();
    let mut a = start(dir, "a", "store", "", &id);
    let bootstrap = a.address();
    let _b = start(dir, "b", "store", &bootstrap, &id);
    a.next_round();

    let mut c = start(dir, "c", "empty", &bootstrap, &id);
    c.expect(PATIENCE, "a pack", |line| line.starts_with(&format!("the pack sums ({id}) came from ")));
    let name = c.name();
    let address = c.address();
    let until = Instant::now() + PATIENCE;
    let plays = || {
        let last = records(dir, "a", "rounds.jsonl").pop().unwrap();
        last["roster"].as_array().unwrap().iter().any(|member| *member == name.as_str())
    };
    while !plays() {
        assert!(Instant::now() < until, "it never played:\n{}", c.shown());
        a.next_round();
    }
    c.next_round();

    write(dir, "d", &address, &id);
    let (out, err, code) = murmur(dir, "third", &["task", "add", &id, "--from", "d.toml"]);
    assert!(code == 0 && out.trim() == id && err.contains(&format!("came from {name}")), "{out}{err}");
    let (_, err, code) = murmur(dir, "third", &["task", "check", &id]);
    assert_eq!(code, 0, "{err}");
}

/// A member that gives a pack as it is; where it listens.
fn giver(swarm: ::swarm::topic::SwarmId, files: PackFiles) -> String {
    let (send, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = NetConfig { listen: vec!["127.0.0.1:0".into()], ..NetConfig::default() };
            let identity = Identity::from_seed([7; 32]);
            let mut network = Network::bind(&identity, swarm, config).await.unwrap();
            let mut shelf = Shelf::new(swarm);
            shelf.add(files.id(), network.pin(files.archive()).unwrap());
            send.send(network.listen_addresses().remove(0)).unwrap();
            loop {
                if let NetEvent::Request { bytes, channel, .. } = network.next().await
                    && let Some(answer) = shelf.serve(&bytes)
                {
                    network.respond(channel, answer).unwrap();
                }
            }
        });
    });
    address.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_pack_that_is_hostile_under_its_own_address_is_not_stored_and_its_giver_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(murmur(dir, "store", &["task", "new", "sums", "--script"]).2, 0);
    fs::write(dir.join("sums/task.rhai"), "fn generate(p) { loop {} }").unwrap();
    let file = |name: &str| (name.to_owned(), fs::read(dir.join("sums").join(name)).unwrap());
    let files = PackFiles::new(BTreeMap::from(["task.toml", "task.rhai"].map(file))).unwrap();
    let id = files.id().to_string();

    let config: toml::Table = toml::from_str(&write(dir, "a", "", &id)).unwrap();
    let manifest: Manifest = config["swarm"].clone().try_into().unwrap();
    let address = giver(manifest.id(), files);
    write(dir, "a", &address, &id);
    let (_, err, code) = murmur(dir, "empty", &["join", "a.toml", "--plain"]);
    let name = Identity::from_seed([7; 32]).public().name();
    assert_eq!(code, 1, "{err}");
    for part in
        ["came whole from ", name.as_str(), "it was not stored", "task.rhai", "hint: its address is right"]
    {
        assert!(err.contains(part), "{part:?} is not in {err}");
    }
    assert!(!dir.join("empty").exists(), "nothing is stored");
}
