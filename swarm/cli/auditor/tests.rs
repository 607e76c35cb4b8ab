//! Audits with real models: engines under a virtual clock, policies that sample and are computed again.
//!
//! `MURMUR_AUDIT_SEEDS=5 cargo test --release --bin murmur cheats_are_caught -- --nocapture` prints the table, which takes
//! minutes; without the variable a few of its rows are checked, for one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use judge::{AuditOutcome, Finding, MARKS_MAX, PeerKey};
use policy::{LoraConfig, Policy, Sampling};
use swarm::blob::{Blob, Store};
use swarm::engine::{Defences, Engine, Input, Output, Resume, Setup, Work};
use swarm::identity::Identity;
use swarm::manifest::{FaultModel, Genesis, Manifest, PackPin, RoundRules};
use swarm::membership::Membership;
use swarm::topic::Topic;
use swarm::wire::Hash;
use tasks::{Catalogue, Item, Pack};

use super::audit;
use crate::plant;
use crate::weights::{Bases, Sharing};

const PROMPTS: u16 = 6;
const COMPLETIONS: u16 = 4;
const NEW_TOKENS: u16 = 24;
/// Round in which cheats begin: their records are clean until then.
const BEGIN: u32 = 8;

/// What one peer does that the others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Honest,
    /// Says that its own model answers; another one does.
    OtherModel,
    /// Alters a character in a quarter of its prompts.
    Edits,
    /// Samples hotter than it says.
    Temperature,
    /// Answers with one model and offers it, but committed to the hash of another.
    OtherHash,
    /// Serves its weights to nobody.
    Keeps,
    /// Passes everybody without looking.
    Lazy,
    /// Fails everybody.
    Slanders,
    /// Two of them answer with another model and pass each other.
    Ring,
}

struct Peer {
    engine: Engine,
    role: Role,
    policy: Policy,
    other: Policy,
    sharing: Sharing,
    store: Store,
    items: Vec<Item>,
}

/// Seven peers and what became of their audits.
struct World {
    peers: BTreeMap<PeerKey, Peer>,
    bases: Bases,
    ring: BTreeSet<PeerKey>,
    now: u64,
    wire: VecDeque<(PeerKey, Topic, Vec<u8>)>,
    /// By round: the records after it, and its outcomes.
    state: judge::Audits,
    round: u32,
    outcomes: Vec<(u32, PeerKey, AuditOutcome)>,
    /// Findings of auditors that look, with what each took in microseconds.
    looked: Vec<(Finding, u64)>,
}

fn sampling() -> Sampling {
    Sampling { new_tokens_max: NEW_TOKENS.into(), ..Sampling::default() }
}

fn manifest(keys: &[PeerKey], seed: u64) -> Manifest {
    Manifest {
        name: "audits".into(),
        seed: seed.to_string(),
        packs: vec![PackPin { id: "native:six".into(), weight: 1 }],
        models: Vec::new(),
        faults: FaultModel::Auto,
        available: false,
        genesis: Genesis { peers: keys.iter().map(PeerKey::hex).collect(), peers_min: keys.len() as u16 },
        membership: Membership::default(),
        round: RoundRules {
            prompts: PROMPTS,
            completions: COMPLETIONS,
            new_tokens_max: NEW_TOKENS,
            ..RoundRules::default()
        },
        judge: judge::Rules::default(),
        parent: None,
    }
}

impl World {
    fn new(seed: u64, roles: &[Role]) -> World {
        let identity = |at: usize| {
            Identity::from_seed(blake3::derive_key(
                "audits",
                &[seed.to_le_bytes(), (at as u64).to_le_bytes()].concat(),
            ))
        };
        let identities: Vec<Identity> = (0..roles.len()).map(identity).collect();
        let mut keys: Vec<PeerKey> = identities.iter().map(Identity::public).collect();
        keys.sort();
        let manifest = manifest(&keys, seed);
        let bases = policy::bases();
        let mut peers = BTreeMap::new();
        for (at, (identity, role)) in identities.into_iter().zip(roles).enumerate() {
            let base = bases[at % bases.len()];
            // No two peers have the same weights, or they could serve each other's.
            let policy = Policy::embedded(base).unwrap();
            let own: Vec<f32> =
                policy.learnt_values().iter().map(|value| value * (1.0 + 0.001 * at as f32)).collect();
            let policy = policy.with_learnt_values(&own).unwrap();
            let setup = Setup {
                entropy: blake3::derive_key(
                    "entropy",
                    &[seed.to_le_bytes(), (at as u64).to_le_bytes()].concat(),
                ),
                identity,
                manifest: manifest.clone(),
                catalogue: Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap(),
                ready: true,
                addresses: Vec::new(),
                ticket: None,
                numerics: policy.sampling_weights().numerics().into(),
                resume: Resume::default(),
                defences: Defences::default(),
            };
            let sharing = Sharing::of(&policy, base, sampling(), manifest.judge.audit.bytes_max).unwrap();
            let peer = Peer {
                engine: Engine::new(setup, 0).unwrap(),
                role: *role,
                policy,
                other: Policy::embedded(bases[(at + 1) % bases.len()]).unwrap(),
                sharing,
                store: Store::new(1 << 26),
                items: Vec::new(),
            };
            peers.insert(peer.engine.me(), peer);
        }
        let ring = peers.iter().filter(|(_, peer)| peer.role == Role::Ring).map(|(key, _)| *key).collect();
        let bases = Bases::new(&Policy::embedded("amber").unwrap()).unwrap();
        World {
            peers,
            bases,
            ring,
            now: 0,
            wire: VecDeque::new(),
            state: judge::Audits::default(),
            round: 0,
            outcomes: Vec::new(),
            looked: Vec::new(),
        }
    }

    /// Runs until a round is settled or `done` says so. A round takes no time where nobody waits.
    fn run(&mut self, rounds: u32, done: impl Fn(&World) -> bool) {
        loop {
            assert!(self.now < 3_600_000, "round {} is not settled", self.round + 1);
            for key in self.peers.keys().copied().collect::<Vec<_>>() {
                self.drain(key);
            }
            while let Some((to, topic, bytes)) = self.wire.pop_front() {
                let now = self.now;
                self.peers.get_mut(&to).unwrap().engine.receive(now, topic, &bytes);
                self.drain(to);
                if self.round >= rounds || done(self) {
                    return;
                }
            }
            self.now =
                self.peers.values().map(|peer| peer.engine.deadline()).min().unwrap().max(self.now + 1);
            for key in self.peers.keys().copied().collect::<Vec<_>>() {
                self.input(key, Input::Tick);
            }
        }
    }

    fn input(&mut self, key: PeerKey, input: Input) {
        let now = self.now;
        self.peers.get_mut(&key).unwrap().engine.handle(now, input);
    }

    fn drain(&mut self, key: PeerKey) {
        while let Some(output) = self.peers.get_mut(&key).unwrap().engine.poll() {
            match output {
                Output::Publish(topic, bytes) => {
                    let others = self.peers.keys().filter(|other| **other != key);
                    self.wire.extend(others.map(|other| (*other, topic, bytes.clone())));
                }
                Output::Ask(to, bytes) => {
                    if let Some(bytes) = self.peers[&to].engine.serve(&bytes) {
                        self.input(key, Input::Repair { from: to, bytes });
                    }
                }
                Output::Work(work) => self.work(key, work),
                Output::Keep { round, bytes, .. } => {
                    assert!(self.peers.get_mut(&key).unwrap().store.keep(round, Blob::new(bytes).unwrap()));
                }
                Output::Fetch { blob, from, .. } => {
                    let held = from.iter().map(|holder| &self.peers[holder]);
                    let held = held.filter(|holder| holder.role != Role::Keeps);
                    let bytes = held.filter_map(|holder| holder.store.get(&blob)).next();
                    let bytes = bytes.map(|blob| blob.bytes().to_vec());
                    let input = match bytes {
                        Some(bytes) => Input::Fetched { blob, bytes },
                        None => Input::FetchFailed { blob },
                    };
                    self.input(key, input);
                }
                Output::Settled(settled) => {
                    if settled.round > self.round {
                        self.round = settled.round;
                        let audits = &settled.settlement.audits;
                        let outcomes =
                            audits.iter().map(|(peer, report)| (settled.round, *peer, report.outcome));
                        self.outcomes.extend(outcomes);
                        self.state = settled.settlement.next.audits;
                    }
                }
                Output::Persist(_) | Output::Log(_) | Output::Dial(..) | Output::Event(_) => {}
            }
        }
    }

    fn work(&mut self, key: PeerKey, work: Work) {
        match work {
            Work::Answer { round, items, seed, .. } => {
                let peer = self.peers.get_mut(&key).unwrap();
                peer.items = items;
                let planted = peer.engine.plants();
                let (completions, weights, policy) = peer.answer(round, &seed, planted);
                self.input(key, Input::Weights { round, bytes: weights, planted });
                self.input(key, Input::Answers { round, completions, policy });
            }
            Work::Critique { round, traces, .. } => {
                let scores = traces.iter().map(|traces| vec![Some(-100); traces.len()]).collect();
                self.input(key, Input::Critiques { round, scores, texts: Vec::new() });
            }
            Work::Audit(case) => {
                let begun = Instant::now();
                let finding = match self.peers[&key].role {
                    Role::Lazy => Finding::Pass,
                    Role::Slanders => Finding::Fail,
                    Role::Ring if self.ring.contains(&case.peer) => Finding::Pass,
                    _ => {
                        let finding = audit(&self.bases, &case, NEW_TOKENS.into()).finding;
                        self.looked.push((finding, begun.elapsed().as_micros() as u64));
                        finding
                    }
                };
                self.input(key, Input::Audited { round: case.round, peer: case.peer, finding });
            }
        }
    }

    fn of(&self, role: Role) -> Vec<PeerKey> {
        self.peers.iter().filter(|(_, peer)| peer.role == role).map(|(key, _)| *key).collect()
    }

    fn record(&self, peer: &PeerKey) -> judge::AuditRecord {
        self.state.records.get(peer).cloned().unwrap_or_default()
    }
}

impl Peer {
    /// Texts, weights for auditors, and the policy's hash, as the peer's role has it.
    fn answer(&self, round: u32, seed: &[u8; 32], planted: bool) -> (Vec<Vec<String>>, Vec<u8>, Hash) {
        let cheats = round >= BEGIN;
        let sample = |policy: &Policy, sampling: &Sampling| -> Vec<Vec<String>> {
            let prompts: Vec<&str> = self.items.iter().map(Item::prompt).collect();
            let groups = policy.rollout(&prompts, COMPLETIONS.into(), sampling, seed).unwrap();
            let texts = |group: &policy::Group| group.rollouts().iter().map(|it| it.text.clone()).collect();
            groups.iter().map(texts).collect()
        };
        let mut hash = Hash(self.policy.hash());
        let mut offered = &self.policy;
        let mut texts = match self.role {
            Role::OtherModel | Role::Ring if cheats => sample(&self.other, &sampling()),
            Role::Temperature if cheats => sample(&self.policy, &Sampling { temperature: 1.0, ..sampling() }),
            Role::OtherHash if cheats => {
                (offered, hash) = (&self.other, Hash(self.policy.hash()));
                sample(&self.other, &sampling())
            }
            _ => sample(&self.policy, &sampling()),
        };
        if self.role == Role::Edits && cheats {
            plant::spoil(&mut texts[..usize::from(PROMPTS.div_ceil(4))]);
        }
        if planted {
            plant::spoil(&mut texts);
        }
        let weights = self.sharing.blob(offered).unwrap();
        (texts, weights, hash)
    }
}

/// What one peer's cheating came to in one swarm.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    caught: u32,
    cheats: u32,
    rounds: u32,
    audits: usize,
    planted: usize,
    /// Honest peers that were found at fault, and that were marked.
    accused: usize,
    marked: usize,
}

/// Plays one swarm of seven until its cheats are caught.
fn play(seed: u64, role: Role, rounds: u32) -> (Row, Vec<(Finding, u64)>) {
    let mut roles = [Role::Honest; 7];
    roles[0] = role;
    roles[1] = if role == Role::Ring { Role::Ring } else { Role::Honest };
    let mut world = World::new(seed, &roles);
    let cheats: Vec<PeerKey> = if role == Role::Honest { Vec::new() } else { world.of(role) };
    let auditor = matches!(role, Role::Lazy | Role::Slanders);
    let caught = |world: &World, peer: &PeerKey| {
        let record = world.record(peer);
        if auditor { record.marks >= MARKS_MAX } else { record.failed > 0 }
    };
    world.run(rounds, |world| !cheats.is_empty() && cheats.iter().all(|peer| caught(world, peer)));
    let honest: Vec<judge::AuditRecord> =
        world.peers.keys().filter(|peer| !cheats.contains(peer)).map(|peer| world.record(peer)).collect();
    let row = Row {
        caught: cheats.iter().filter(|peer| caught(&world, peer)).count() as u32,
        cheats: cheats.len() as u32,
        // Since it began; answers of a round are looked at in the next one.
        rounds: if auditor || role == Role::Keeps { world.round } else { world.round.saturating_sub(BEGIN) },
        audits: world.outcomes.len(),
        planted: world.outcomes.iter().filter(|(_, _, outcome)| *outcome == AuditOutcome::Planted).count(),
        accused: honest.iter().filter(|record| record.failed > 0).count(),
        marked: honest.iter().filter(|record| record.marks > 0).count(),
    };
    (row, world.looked)
}

/// What one peer does, and for how many rounds others may take to find out; the first rows are always checked.
const TABLE: [(&str, Role, u32); 9] = [
    ("another model answers", Role::OtherModel, 40),
    ("a quarter is edited", Role::Edits, 60),
    ("honest", Role::Honest, 40),
    ("another model's weights", Role::OtherHash, 40),
    ("a hotter temperature", Role::Temperature, 40),
    ("weights kept back", Role::Keeps, 60),
    ("a ring of two", Role::Ring, 60),
    ("slander", Role::Slanders, 60),
    ("passes unseen", Role::Lazy, 200),
];
const ALWAYS: usize = 2;

/// Every way to cheat, and honest peers beside it.
#[test]
fn cheats_are_caught_and_nobody_else_is_accused() {
    let seeds = std::env::var("MURMUR_AUDIT_SEEDS").ok().map(|seeds| seeds.parse::<u64>().unwrap());
    let (seeds, rows) = seeds.map_or((1, &TABLE[..ALWAYS]), |seeds| (seeds, &TABLE[..]));
    println!("| one of seven | caught | mean rounds | audits | planted | accused | marked |");
    println!("|---|---|---|---|---|---|---|");
    let mut looked: Vec<(Finding, u64)> = Vec::new();
    for &(name, role, rounds) in rows {
        let begun = Instant::now();
        let played: Vec<(Row, Vec<(Finding, u64)>)> = std::thread::scope(|scope| {
            let swarms: Vec<_> =
                (1..=seeds).map(|seed| scope.spawn(move || play(seed, role, rounds))).collect();
            swarms.into_iter().map(|swarm| swarm.join().unwrap()).collect()
        });
        let sum = |of: &dyn Fn(&Row) -> usize| played.iter().map(|(row, _)| of(row)).sum::<usize>();
        let (caught, cheats) = (sum(&|row| row.caught as usize), sum(&|row| row.cheats as usize));
        let mean = sum(&|row| row.rounds as usize) as f64 / seeds as f64;
        let (accused, marked) = (sum(&|row| row.accused), sum(&|row| row.marked));
        println!(
            "| {name} | {caught} of {cheats} | {mean:.1} | {} | {} | {accused} | {marked} |",
            sum(&|row| row.audits),
            sum(&|row| row.planted),
        );
        eprintln!("{:.1} s", begun.elapsed().as_secs_f64());
        looked.extend(played.into_iter().flat_map(|(_, looked)| looked));
        assert_eq!((accused, marked), (0, 0), "{name}, seeds 1 to {seeds}: honest peers accused and marked");
        // Only planted cases show who does not look, and those are rare.
        let least = if role == Role::Lazy { cheats.div_ceil(2) } else { cheats };
        assert!(caught >= least, "{name}, seeds 1 to {seeds}: {caught} of {cheats} caught");
    }
    let count = |finding| looked.iter().filter(|(found, _)| *found == finding).count();
    let micros: u64 = looked.iter().map(|(_, micros)| micros).sum();
    println!(
        "{} looks by honest auditors: {} pass, {} fail, {} inconclusive; {:.1} ms each",
        looked.len(),
        count(Finding::Pass),
        count(Finding::Fail),
        count(Finding::Inconclusive),
        micros as f64 / 1000.0 / looked.len() as f64,
    );
    assert!(count(Finding::Pass) >= 50 && count(Finding::Inconclusive) == 0);
}

fn bases_and_blob(policy: &Policy, base: &str) -> (Bases, Sharing, Vec<u8>) {
    let sharing = Sharing::of(policy, base, sampling(), 1 << 23).unwrap();
    let blob = sharing.blob(policy).unwrap();
    (Bases::new(policy).unwrap(), sharing, blob)
}

#[test]
fn weights_come_out_as_they_went_in() {
    let amber = Policy::embedded("amber").unwrap();
    let mut adapted = amber.clone().with_adapter(LoraConfig { rank: 4, ..LoraConfig::default() }, 5).unwrap();
    let values: Vec<f32> =
        adapted.learnt_values().iter().enumerate().map(|(i, _)| (i % 7) as f32 * 0.01).collect();
    adapted = adapted.with_learnt_values(&values).unwrap();
    for policy in [amber, adapted] {
        let (bases, _, blob) = bases_and_blob(&policy, "amber");
        let (again, how) = bases.open(&blob, NEW_TOKENS.into()).unwrap();
        assert_eq!((again.hash(), how), (policy.hash(), sampling()));
    }
}

#[test]
fn damaged_weights_are_refused_whatever_is_damaged() {
    let policy =
        Policy::embedded("amber").unwrap().with_adapter(LoraConfig { rank: 1, ..LoraConfig::default() }, 5);
    let policy = policy.unwrap();
    let (bases, _, blob) = bases_and_blob(&policy, "amber");
    let mut usable = 0;
    for at in (0..600).chain((600..blob.len()).step_by(997)) {
        for bit in [1, 0x80] {
            let mut damaged = blob.clone();
            damaged[at] ^= bit;
            let Ok((other, how)) = bases.open(&damaged, NEW_TOKENS.into()) else { continue };
            // What can be computed with is other weights, or sampled otherwise: an audit finds it out.
            usable += 1;
            let alike = (other.hash(), how) == (policy.hash(), sampling());
            assert!(!alike || other.sampling_weights() != policy.sampling_weights(), "byte {at}");
        }
        assert!(bases.open(&blob[..at], NEW_TOKENS.into()).is_err());
    }
    assert!(usable > 0);
}

#[test]
fn weights_that_are_too_large_or_nobody_elses_are_not_shared() {
    let policy = Policy::embedded("amber").unwrap();
    let why = Sharing::of(&policy, "amber", sampling(), 1 << 18).unwrap_err();
    assert!(
        why.starts_with("weights of ") && why.ends_with("exceed the 0.2 MiB that the swarm shares"),
        "{why}"
    );
    assert!(Sharing::of(&policy, "my-model", sampling(), 1 << 23).is_err());
}
