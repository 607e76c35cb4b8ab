//! Peers that die: processes over loopback, one of which is killed every few seconds, at whatever it does, and
//! started again.
//!
//! The long form, with its figures:
//! `MURMUR_KILL_PEERS=8 MURMUR_KILL_SECONDS=240 cargo test --release --test integration kills -- --nocapture`

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{Peer, alone, murmur, records};
use crate::process::{Murmur, PATIENCE, round_of};

const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
const BASES: [&str; 3] = ["amber", "birch", "cedar"];
/// Between one start again and the next kill; the mean is half of it.
const KILLS_WITHIN: Duration = Duration::from_secs(4);
/// From a kill to the start again, at most.
const DEAD_FOR: Duration = Duration::from_millis(1500);
/// What one death may cost the swarm: the others wait for the dead one's answers for the `work_floor_ms` of
/// [`Peer::text`] and, when it was its turn to propose, for a `view_deadline_ms` more.
const STALL: Duration = Duration::from_millis(3_000 + 3_000);
/// What a loaded machine may add to that.
const SLACK: Duration = Duration::from_secs(6);

/// A setting of this test's own.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// A seeded stream of numbers (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn within(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(longest.as_millis() as u64))
    }
}

/// A peer and what is known of it.
struct Place {
    name: &'static str,
    base: &'static str,
    process: Murmur,
    address: String,
    /// The newest round it told of.
    round: u32,
    /// Round of the checkpoint it resumed from last.
    stored: u32,
}

/// A swarm of processes, and when it ended its rounds.
struct Swarm {
    dir: TempDir,
    places: Vec<Place>,
    newest: u32,
    ended: Instant,
    /// From one round's end to the next one's, and deaths since shortly before.
    gaps: Vec<(Duration, u32)>,
    deaths: Vec<Instant>,
}

impl Swarm {
    fn start(peers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut places: Vec<Place> = Vec::new();
        for (name, base) in NAMES.into_iter().zip(BASES.into_iter().cycle()).take(peers) {
            let bootstrap = addresses(&places);
            let mut process = Peer { name, base, bootstrap: &bootstrap, ..Peer::default() }.start(dir.path());
            let address = process.address();
            places.push(Place { name, base, process, address, round: 0, stored: 0 });
        }
        Self { dir, places, newest: 0, ended: Instant::now(), gaps: Vec::new(), deaths: Vec::new() }
    }

    /// Watches until then. Fails when the swarm stands still, or a peer ends by itself.
    fn watch(&mut self, until: Instant) {
        while Instant::now() < until {
            let soon = until.min(Instant::now() + Duration::from_millis(500));
            self.read(soon);
            let still = self.ended.elapsed();
            let allowed = STALL * self.deaths_before(Instant::now()).max(1) + SLACK;
            if self.newest > 0 && still > allowed {
                let told: Vec<String> = self.places.iter().map(|place| place.process.shown()).collect();
                panic!("no round after {} for {still:?}:\n{}", self.newest, told.join("---\n"));
            }
        }
    }

    /// Deaths that may delay the round in progress.
    fn deaths_before(&self, end: Instant) -> u32 {
        let counts = |death: &&Instant| **death + STALL >= self.ended && **death <= end;
        self.deaths.iter().filter(counts).count() as u32
    }

    /// Reads what peers tell until then; those that are dead tell nothing.
    fn read(&mut self, until: Instant) {
        let mut rounds = Vec::new();
        for place in &mut self.places {
            // The first waits, for the others there is only something left to read.
            for (at, line) in place.process.lines_until(until) {
                if let Some(round) = round_of(&line) {
                    place.round = round;
                    rounds.push((at, round));
                }
            }
        }
        rounds.sort_unstable();
        for (at, round) in rounds {
            if round > self.newest && self.newest > 0 {
                self.gaps.push((at.saturating_duration_since(self.ended), self.deaths_before(at)));
            }
            if round > self.newest {
                (self.newest, self.ended) = (round, at);
            }
        }
    }

    /// Kills a peer, leaves it dead for a while, and starts it again.
    fn kill(&mut self, index: usize, dead_for: Duration) {
        let mut place = self.places.remove(index);
        place.process.kill();
        self.deaths.push(Instant::now());
        self.watch(Instant::now() + dead_for);
        let bootstrap = addresses(&self.places);
        let Place { name, base, .. } = place;
        let peer = Peer { name, base, bootstrap: &bootstrap, ..Peer::default() };
        place.process = peer.start(self.dir.path());
        // What it had learnt is there again, though perhaps nothing newer: it learns nothing from rounds it was away in.
        if place.stored > 0 || place.round > 2 {
            let line =
                place.process.expect(PATIENCE, "its checkpoint", |line| line.starts_with("resuming from "));
            let stored: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(stored >= place.stored, "{name} resumed from round {} before: {line}", place.stored);
            place.stored = stored;
        }
        place.address = place.process.address();
        self.places.insert(index, place);
    }

    /// Waits until every peer ends rounds after the newest one again.
    fn all_back(&mut self) {
        let (after, until) = (self.newest + 2, Instant::now() + PATIENCE);
        while self.places.iter().any(|place| place.round < after) {
            assert!(Instant::now() < until, "a peer did not come back: {:?}", self.rounds());
            self.watch(Instant::now() + Duration::from_millis(500));
        }
    }

    fn rounds(&self) -> Vec<(&str, u32)> {
        self.places.iter().map(|place| (place.name, place.round)).collect()
    }

    fn stop(&mut self) {
        self.places.iter().for_each(|place| place.process.interrupt());
        for place in &mut self.places {
            let (code, told) = place.process.end();
            assert_eq!(code, 130, "{}: {told}", place.name);
        }
    }

    /// Mean of the peers' accuracy in these rounds.
    fn accuracy(&self, rounds: impl Fn(u64) -> bool) -> f64 {
        let all = self.places.iter().flat_map(|place| records(self.dir.path(), place.name, "rounds.jsonl"));
        let chosen = all.filter(|record| rounds(record["round"].as_u64().unwrap()));
        let right: Vec<f64> = chosen.filter_map(|record| record["sampled_accuracy"].as_f64()).collect();
        right.iter().sum::<f64>() / right.len().max(1) as f64
    }
}

fn addresses(places: &[Place]) -> String {
    places.iter().map(|place| place.address.as_str()).collect::<Vec<_>>().join(" ")
}

/// Replays a peer's log and compares it with the first one's.
fn verify(dir: &Path, name: &str) -> Value {
    let (run, first) = (format!("state-{name}/run"), format!("state-{}/run", NAMES[0]));
    let (out, err, code) = murmur(dir, &["replay", &run, "--verify", "--diff", &first, "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert!(code == 0 && report["verified"] == true && report["logs"][0]["closed"] == true, "{report}");
    let (out, err, code) = murmur(dir, &["credit", &run, "--json"]);
    assert_eq!(code, 0, "{err}");
    let credit: Value = serde_json::from_str(&out).unwrap();
    for peer in credit["peers"].as_array().unwrap() {
        assert_eq!(peer["equivocations"], 0, "{name} saw a peer sign twice: {credit}");
    }
    report["logs"][0].clone()
}

fn tell_gaps(gaps: &mut [(Duration, u32)]) {
    gaps.sort_unstable();
    let longest = |deaths: &dyn Fn(u32) -> bool| {
        gaps.iter().rev().find(|gap| deaths(gap.1)).map_or(Duration::ZERO, |gap| gap.0)
    };
    println!(
        "between rounds: median {:.1?}, longest {:.1?} with one death, {:.1?} with more; a death may cost {STALL:?}",
        gaps[gaps.len() / 2].0,
        longest(&|deaths| deaths <= 1),
        longest(&|deaths| deaths > 1),
    );
    for seconds in 2..=9 {
        let count = gaps.iter().filter(|gap| gap.0 >= Duration::from_secs(seconds)).count();
        println!("  {count} of {} at least {seconds} s", gaps.len());
    }
}

#[test]
fn peers_killed_every_few_seconds_stall_nobody_learn_and_leave_logs_that_verify() {
    let _alone = alone();
    let peers = setting("MURMUR_KILL_PEERS", 5) as usize;
    let seconds = setting("MURMUR_KILL_SECONDS", 15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = setting("MURMUR_KILL_SEED", (now ^ std::process::id()).into());
    println!(
        "repeat the choices with: MURMUR_KILL_SEED={seed} MURMUR_KILL_PEERS={peers} MURMUR_KILL_SECONDS={seconds}"
    );
    let mut dice = Dice(seed);
    let mut swarm = Swarm::start(peers);
    swarm.all_back();
    let (end, mut kills) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        swarm.watch(Instant::now() + dice.within(KILLS_WITHIN));
        swarm.kill(dice.below(peers as u64) as usize, dice.within(DEAD_FOR));
        kills += 1;
    }
    swarm.all_back();
    swarm.stop();

    let last = u64::from(swarm.newest);
    let (first, after) = (swarm.accuracy(|round| round <= 3), swarm.accuracy(|round| round + 10 > last));
    println!("{peers} peers, {kills} kills, {last} rounds; accuracy {first:.3}, then {after:.3}");
    tell_gaps(&mut swarm.gaps);
    for place in &swarm.places {
        let log = verify(swarm.dir.path(), place.name);
        println!(
            "log {}: {} rounds, {} followed only, {} steps, {} bytes",
            place.name, log["rounds"], log["skipped_rounds"], log["training_steps"], log["bytes"]
        );
    }
    assert!(after > first + 0.1, "nothing was learnt: {first:.3}, then {after:.3}");
}
