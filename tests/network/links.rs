//! Peers whose links are slow: rounds go on, and wait as long as the links need.
//!
//! Other links, and with audits:
//! `MURMUR_LINK_RATES='1mbit 100kbit' MURMUR_LINK_AUDITS=1 cargo test --release --test integration links -- --nocapture`

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::lab::Lab;
use crate::kills::setting;
use crate::peers::{Peer, alone, records};
use crate::process::Murmur;

const PEERS: [(&str, &str); 4] = [("a", "amber"), ("b", "birch"), ("c", "cedar"), ("d", "amber")];
/// Rounds at least that a kind of link is measured for.
const ROUNDS: u32 = 4;
/// Rounds before that.
const ADAPT: u32 = 2;
/// Auditors fetch weights, which is more than all that a round says, and as much as the model is large.
const NO_AUDITS: &str = "[swarm.judge.audit]\nshare_permille = 0\n";
const PHASES: [&str; 4] = ["answer", "reveal", "critique", "vote"];

/// A swarm of four on a switch.
pub(super) struct Swarm {
    pub(super) lab: Lab,
    pub(super) dir: TempDir,
    peers: Vec<Murmur>,
    addresses: Vec<String>,
}

impl Swarm {
    pub(super) fn start(lab: Lab) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut swarm = Self { lab, dir, peers: Vec::new(), addresses: Vec::new() };
        for (n, (name, base)) in PEERS.into_iter().enumerate() {
            let address = format!("10.77.0.{}", n + 1);
            swarm.lab.host(name, &address);
            let listen = &format!("{address}:0");
            let bootstrap = &swarm.addresses.join(" ");
            swarm.write(&Peer { name, base, listen, bootstrap, ..Peer::default() });
            let mut peer = swarm.lab.join(name, swarm.dir.path(), name);
            swarm.addresses.push(peer.address());
            swarm.peers.push(peer);
        }
        swarm
    }

    pub(super) fn write(&self, peer: &Peer<'_>) {
        let audits = if setting("MURMUR_LINK_AUDITS", 0) == 0 { NO_AUDITS } else { "" };
        fs::write(self.dir.path().join(format!("{}.toml", peer.name)), peer.text() + audits).unwrap();
    }

    /// Where each peer listens.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn shape(&self, rate: Option<&str>) {
        PEERS.iter().for_each(|(name, _)| self.lab.shape(name, rate));
    }

    /// Bytes that each peer has sent and got so far.
    fn bytes(&self) -> Vec<(u64, u64)> {
        PEERS.iter().map(|(name, _)| self.lab.bytes(name)).collect()
    }

    /// Waits until every peer has ended this round.
    pub(super) fn reach(&mut self, round: u32) {
        for peer in &mut self.peers {
            while peer.next_round() < round {}
        }
    }

    /// The newest round that the first peer has ended.
    pub(super) fn ended(&self) -> u32 {
        let rounds = records(self.dir.path(), "a", "rounds.jsonl");
        rounds.last().map_or(0, |record| record["round"].as_u64().unwrap() as u32)
    }

    /// Rounds over links of this rate, once peers know how slow they are.
    fn stage(&mut self, rate: Option<&str>) -> Stage {
        self.shape(rate);
        self.reach(self.ended() + ADAPT);
        let (before, begun, from) = (self.bytes(), Instant::now(), self.ended());
        self.reach(from + ROUNDS);
        let (after, took, to) = (self.bytes(), begun.elapsed(), self.ended());
        let count = to - from;
        let spent = |of: fn(&(u64, u64)) -> u64| -> Vec<u64> {
            before
                .iter()
                .zip(&after)
                .map(|(before, after)| (of(after) - of(before)) / u64::from(count))
                .collect()
        };
        let all = records(self.dir.path(), "a", "rounds.jsonl");
        let within = |record: &&Value| (from + 1..=to).contains(&(record["round"].as_u64().unwrap() as u32));
        let rounds: Vec<&Value> = all.iter().filter(within).collect();
        let stage = Stage {
            rate: rate.unwrap_or("unlimited").into(),
            round: took / count,
            phases: PHASES
                .map(|phase| mean(rounds.iter().filter_map(|round| round["phases_ms"][phase].as_u64()))),
            sent: spent(|bytes| bytes.0),
            received: spent(|bytes| bytes.1),
            rounds: rounds.len(),
            complete: rounds.iter().filter(|round| answered(round) == PEERS.len()).count(),
        };
        stage.tell();
        stage
    }
}

/// What rounds were like over one kind of link.
struct Stage {
    rate: String,
    /// From one round's end to the next one's.
    round: Duration,
    /// Means in milliseconds.
    phases: [u64; PHASES.len()],
    /// Bytes of each peer in a round.
    sent: Vec<u64>,
    received: Vec<u64>,
    rounds: usize,
    /// Rounds among them in which everybody's answers counted.
    complete: usize,
}

impl Stage {
    fn tell(&self) {
        let phases: Vec<String> =
            PHASES.iter().zip(self.phases).map(|(phase, took)| format!("{phase} {took:>5}")).collect();
        println!(
            "{:>9}  round {:>6.0?}  ms: {}  bytes a peer and round: {} sent, {} got, at most {}  complete {}/{}",
            self.rate,
            self.round,
            phases.join(" "),
            mean(self.sent.iter().copied()),
            mean(self.received.iter().copied()),
            self.sent.iter().chain(&self.received).max().unwrap(),
            self.complete,
            self.rounds,
        );
    }
}

fn answered(round: &Value) -> usize {
    let peers = round["peers"].as_object().unwrap();
    peers.values().filter(|peer| peer["answered"] == true).count()
}

fn mean(values: impl Iterator<Item = u64>) -> u64 {
    let values: Vec<u64> = values.collect();
    values.iter().sum::<u64>() / values.len().max(1) as u64
}

#[test]
fn rounds_wait_for_slow_links_and_no_longer() {
    let _alone = alone();
    let Some(lab) = Lab::new(&["tc"]) else { return };
    let rates = std::env::var("MURMUR_LINK_RATES").unwrap_or_else(|_| "10mbit 1mbit 500kbit".into());
    let mut swarm = Swarm::start(lab);
    let fast = swarm.stage(None);
    let slow: Vec<Stage> = rates.split_whitespace().map(|rate| swarm.stage(Some(rate))).collect();
    let again = swarm.stage(None);

    let slowest = slow.iter().map(|stage| stage.round).max().unwrap();
    assert!(slowest > 2 * fast.round && slowest > 2 * again.round, "the links made no difference");
    // Other work on this machine may cost a peer a phase now and then.
    for stage in slow.iter().chain([&fast, &again]) {
        assert!(4 * stage.complete >= 3 * stage.rounds, "{}: too many answers came too late", stage.rate);
    }
}
