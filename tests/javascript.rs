//! A peer in another language, on js-libp2p: the wire is what `swarm/README.md` says, not what Rust makes of it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ::swarm::manifest::Manifest;
use judge::PeerKey;
use serde_json::Value;

use crate::peers::{alone, three};
use crate::process::{PATIENCE, skip};

/// Rounds that the other peer sees from commits to certificate.
const ROUNDS: usize = 3;
/// Prompts of a round, as `Peer::text` has them.
const PROMPTS: usize = 6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js")
}

/// The other peer; killed when dropped.
struct Node(Child);

impl Node {
    /// `None` where it cannot run.
    fn start(address: &str, swarm: &str) -> Option<Self> {
        if !folder().join("node_modules").is_dir() {
            skip("its packages are not installed; to install them: npm ci --prefix tests/js");
            return None;
        }
        let mut command = Command::new("node");
        command
            .current_dir(folder())
            .args(["peer.mjs", address, swarm, &PROMPTS.to_string(), &ROUNDS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                skip(&format!("node does not start ({error}); Node.js 20 or newer runs it"));
                None
            }
        }
    }

    /// What it has seen, at its end; it gives up by itself.
    fn report(&mut self) -> Value {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.0.wait().unwrap();
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: {error}: {text}"));
        assert!(status.success(), "{report}");
        report
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already, most of the time.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_peer_in_javascript_checks_every_message_and_is_heard() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [(mut a, _), (mut b, _), (mut c, _)] = three(dir.path(), 0);
    let text = fs::read_to_string(dir.path().join("a.toml")).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    let manifest: Manifest = config["swarm"].clone().try_into().unwrap();
    let address = a.told.iter().find_map(|line| line.strip_prefix("listening on ")).unwrap();
    let Some(mut node) = Node::start(address, &manifest.id().to_string()) else { return };

    let report = node.report();
    println!("{report}");
    for kind in ["presence", "commit", "reveal", "critique", "ballot", "proposal", "signature", "certificate"]
    {
        assert!(report["kinds"][kind].as_u64() > Some(0), "no {kind}: {report}");
    }
    assert!(report["opened"].as_u64() >= Some(3 * PROMPTS as u64), "{report}");
    assert!(report["ended"].as_array().unwrap().len() >= ROUNDS, "{report}");

    // It knows the first peer only: the others heard it through that one.
    let key: Vec<u8> = hex(report["peer"].as_str().unwrap());
    let name = PeerKey(key.try_into().unwrap()).name();
    for peer in [&mut a, &mut b, &mut c] {
        peer.expect(PATIENCE, "its heartbeat", |line| line == format!("{name} is here"));
        let now = peer.next_round();
        while peer.next_round() < now + 2 {}
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
