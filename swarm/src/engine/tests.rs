//! The engine under a virtual clock: several peers, a lossless or lossy network of 1 ms, and a scripted
//! policy that answers at once.

mod again;
mod audits;
pub(crate) mod bodies;
mod branches;
pub(crate) mod critiques;
mod joining;
mod newcomers;
pub(crate) mod offences;
pub(crate) mod packs;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use judge::{CandidateId, PeerKey};
use tasks::{Catalogue, Pack};

use super::{
    Defences, Engine, Event, Input, Output, Persist, PhaseName, Resume, Settled, Setup, Verdict, Work,
};
use crate::blob::{Address, Blob, Store};
use crate::checkpoint::Checkpoint;
use crate::identity::Identity;
use crate::limits::PROTOCOL;
use crate::log::{Recall, Record};
use crate::manifest::{FaultModel, Genesis, Manifest, PackPin, RoundRules};
use crate::membership::Ticket;
use crate::message::{ENVELOPE_DOMAIN, Envelope, Kind, Payload, TextCritique};
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash, Sig};

pub(crate) fn manifest(listed: &[PeerKey], peers_min: u16) -> Manifest {
    Manifest {
        name: "test".into(),
        seed: String::new(),
        packs: vec![PackPin { id: "native:six".into(), weight: 1 }],
        models: Vec::new(),
        faults: FaultModel::Auto,
        available: false,
        genesis: Genesis { peers: listed.iter().map(PeerKey::hex).collect(), peers_min },
        membership: crate::membership::Membership::default(),
        round: RoundRules { prompts: 4, completions: 4, work_floor_ms: 1_000, ..RoundRules::default() },
        judge: judge::Rules::default(),
        parent: None,
    }
}

/// How long the scripted policy works, in milliseconds.
const WORK_MS: u64 = 300;

pub(crate) struct Peer {
    pub(crate) engine: Option<Engine>,
    disk: Resume,
    pub(crate) settled: Vec<Settled>,
    events: Vec<Event>,
    /// What it was asked to log, over all its starts.
    pub(crate) log: Vec<Record>,
    /// Whether the scripted policy still answers.
    pub(crate) answers: bool,
}

/// Whether a peer dies before it does what its engine asks for.
type Fuse = Box<dyn FnMut(&PeerKey, &Output) -> bool>;

/// Whether to lose a message of a kind (none: a repair answer) from one peer to another.
type Lost = Box<dyn Fn(&PeerKey, &PeerKey, Option<Kind>) -> bool>;

pub(crate) struct World {
    pub(crate) manifest: Manifest,
    pub(crate) peers: BTreeMap<PeerKey, Peer>,
    pub(crate) identities: BTreeMap<PeerKey, Identity>,
    tickets: BTreeMap<PeerKey, Ticket>,
    /// What newcomers verify from.
    pub(crate) trusted: BTreeMap<PeerKey, Checkpoint>,
    pub(crate) now: u64,
    /// Gossip on its way: (receiver, topic, bytes).
    wire: Vec<(PeerKey, Topic, Vec<u8>)>,
    /// Repair answers on their way: (receiver, from, bytes).
    answers: Vec<(PeerKey, PeerKey, Vec<u8>)>,
    /// Work in progress: (due, peer, result).
    work: Vec<(u64, PeerKey, Input)>,
    /// Messages to lose: every n-th.
    pub(crate) lose_every: Option<usize>,
    lost: Lost,
    sent: usize,
    /// Whether a peer dies once it has performed this output.
    fuse: Option<Fuse>,
    /// Everything published, in order.
    published: Vec<(Topic, Vec<u8>)>,
    /// What a peer says in words of a candidate that is right, or not; `None` from a policy that cannot write.
    says: fn(&PeerKey, bool) -> Option<judge::Verdict>,
    /// What the scripted policy thinks aloud before every answer, in bytes.
    thinks_bytes: usize,
    /// How peers offer weights and audit, where they do.
    audits: Option<audits::Script>,
    /// Blobs that each peer keeps, and fetches in progress: (asker, blob, holders).
    stores: BTreeMap<PeerKey, Store>,
    fetches: Vec<(PeerKey, Address, Vec<PeerKey>)>,
    /// Whether a holder serves an asker at all.
    serves: fn(&PeerKey, &PeerKey) -> bool,
    /// Who gave a blob to whom.
    served: Vec<(PeerKey, PeerKey)>,
}

impl World {
    pub(crate) fn new(count: u8, listed: bool, peers_min: u16) -> Self {
        let identities: BTreeMap<PeerKey, Identity> =
            (1..=count).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
        let keys: Vec<PeerKey> = identities.keys().copied().collect();
        Self::of(manifest(if listed { &keys } else { &[] }, peers_min), identities)
    }

    pub(crate) fn of(manifest: Manifest, identities: BTreeMap<PeerKey, Identity>) -> Self {
        let keys: Vec<PeerKey> = identities.keys().copied().collect();
        let mut world = Self {
            manifest,
            peers: BTreeMap::new(),
            identities,
            tickets: BTreeMap::new(),
            trusted: BTreeMap::new(),
            now: 0,
            wire: Vec::new(),
            answers: Vec::new(),
            work: Vec::new(),
            lose_every: None,
            lost: Box::new(|_, _, _| false),
            sent: 0,
            fuse: None,
            published: Vec::new(),
            says: |_, _| None,
            thinks_bytes: 0,
            audits: None,
            stores: BTreeMap::new(),
            fetches: Vec::new(),
            serves: |_, _| true,
            served: Vec::new(),
        };
        for key in keys {
            world.start(key);
        }
        world
    }

    pub(crate) fn key(&self, i: usize) -> PeerKey {
        *self.identities.keys().nth(i).unwrap()
    }

    pub(crate) fn start(&mut self, key: PeerKey) {
        let disk = self.peers.get(&key).map(|peer| peer.disk.clone()).unwrap_or_default();
        let mut engine = Engine::new(self.setup(key, disk.clone()), self.now).unwrap();
        if let Some(checkpoint) = self.trusted.get(&key) {
            engine.trust(*checkpoint);
        }
        if let Some(peer) = self.peers.get(&key) {
            let start = disk.head.start(Hash(engine.swarm().0)).unwrap();
            let mut recall = Recall::of(&self.manifest, start);
            peer.log.iter().for_each(|record| recall.note(record));
            engine.handle(self.now, Input::Recalled(Box::new(recall)));
        }
        let disk = Resume { incarnation: engine.incarnation(), ..disk };
        let (settled, events, log) =
            self.peers.remove(&key).map(|old| (old.settled, old.events, old.log)).unwrap_or_default();
        self.peers.insert(key, Peer { engine: Some(engine), disk, settled, events, log, answers: true });
        self.drain(key);
    }

    /// What a peer starts from.
    fn setup(&self, key: PeerKey, resume: Resume) -> Setup {
        Setup {
            identity: self.identities[&key].clone(),
            manifest: self.manifest.clone(),
            catalogue: Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap(),
            ready: true,
            addresses: Vec::new(),
            ticket: self.tickets.get(&key).cloned(),
            entropy: key.0,
            numerics: "test".into(),
            resume,
            defences: Defences::default(),
        }
    }

    pub(crate) fn kill(&mut self, key: PeerKey) {
        self.peers.get_mut(&key).unwrap().engine = None;
        self.work.retain(|(_, of, _)| *of != key);
    }

    pub(crate) fn input(&mut self, key: PeerKey, input: Input) {
        let now = self.now;
        if let Some(engine) = &mut self.peers.get_mut(&key).unwrap().engine {
            engine.handle(now, input);
        }
        self.drain(key);
    }

    fn drain(&mut self, key: PeerKey) {
        loop {
            let peer = self.peers.get_mut(&key).unwrap();
            let Some(output) = peer.engine.as_mut().and_then(Engine::poll) else { break };
            let dies = self.fuse.as_mut().is_some_and(|dies| dies(&key, &output));
            match output {
                Output::Publish(topic, bytes) => {
                    self.published.push((topic, bytes.clone()));
                    let kind = kind(&bytes);
                    for &other in self.identities.keys().filter(|&&other| other != key) {
                        self.sent += 1;
                        let lost = (self.lost)(&key, &other, Some(kind));
                        if !lost && self.lose_every.is_none_or(|n| !self.sent.is_multiple_of(n)) {
                            self.wire.push((other, topic, bytes.clone()));
                        }
                    }
                }
                Output::Ask(to, bytes) => {
                    let answer = self.peers[&to].engine.as_ref().and_then(|engine| engine.serve(&bytes));
                    let answer = answer.filter(|_| !(self.lost)(&to, &key, None));
                    self.answers.extend(answer.map(|bytes| (key, to, bytes)));
                }
                Output::Persist(Persist::SignedView(view)) => peer.disk.signed_view = view,
                Output::Persist(Persist::Head(head)) => peer.disk.head = head,
                Output::Work(work) => {
                    if peer.answers {
                        let plants = peer.engine.as_ref().is_some_and(Engine::plants);
                        let mut done = scripted(&key, work.clone(), self.says);
                        if let Some(script) = &mut self.audits {
                            let offer = script.perform(&key, work, plants, &mut done);
                            self.work.extend(offer.map(|offer| (self.now + WORK_MS, key, offer)));
                        }
                        if let Input::Answers { completions, .. } = &mut done {
                            let thoughts: String =
                                key.name().chars().cycle().take(self.thinks_bytes).collect();
                            for text in completions.iter_mut().flatten().filter(|_| !thoughts.is_empty()) {
                                let text_only = text.trim_start_matches("<think>");
                                let end = if text_only.contains("</think>") { "" } else { "</think>" };
                                *text = format!("<think>{thoughts}{end}{text_only}");
                            }
                        }
                        self.work.push((self.now + WORK_MS, key, done));
                    }
                }
                Output::Settled(settled) => peer.settled.push(*settled),
                Output::Log(record) => peer.log.push(record),
                Output::Dial(..) => {}
                Output::Fetch { blob, from, .. } => self.fetches.push((key, blob, from)),
                Output::Keep { round, blob, bytes } => {
                    let bytes = Blob::new(bytes).unwrap();
                    assert_eq!(bytes.address(), blob);
                    self.stores.entry(key).or_insert_with(|| Store::new(1 << 24)).keep(round, bytes);
                }
                Output::Event(event) => peer.events.push(event),
            }
            if dies {
                self.fuse = None;
                self.kill(key);
            }
        }
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            let now = self.now;
            for (to, topic, bytes) in std::mem::take(&mut self.wire) {
                if let Some(engine) = &mut self.peers.get_mut(&to).unwrap().engine {
                    assert_ne!(engine.receive(now, topic, &bytes), Verdict::Reject, "honest bytes");
                }
                self.drain(to);
            }
            for (to, from, bytes) in std::mem::take(&mut self.answers) {
                self.input(to, Input::Repair { from, bytes });
            }
            for (key, blob, from) in std::mem::take(&mut self.fetches) {
                let has = |holder: &PeerKey| {
                    let runs = self.peers[holder].engine.is_some() && (self.serves)(holder, &key);
                    Some((*holder, self.stores.get(holder).filter(|_| runs)?.get(&blob)?.bytes().to_vec()))
                };
                let found = from.iter().find_map(has);
                self.served.extend(found.as_ref().map(|(holder, _)| (*holder, key)));
                let input = match found {
                    Some((_, bytes)) => Input::Fetched { blob, bytes },
                    None => Input::FetchFailed { blob },
                };
                self.input(key, input);
            }
            for (due, key, input) in std::mem::take(&mut self.work) {
                if due <= now {
                    self.input(key, input);
                } else {
                    self.work.push((due, key, input));
                }
            }
            for key in self.peers.keys().copied().collect::<Vec<_>>() {
                let due = self.peers[&key].engine.as_ref().is_some_and(|engine| engine.deadline() <= now);
                if due {
                    self.input(key, Input::Tick);
                }
            }
        }
    }

    /// Whether `peer` holds the commit of `author`.
    pub(crate) fn has_said(&self, peer: PeerKey, author: PeerKey) -> bool {
        let round = self.peers[&peer].engine.as_ref().and_then(|engine| engine.round.as_ref());
        round.is_some_and(|round| round.items.committed(&author))
    }

    /// A message signed by a peer of this world, in the round that the first peer is in.
    pub(crate) fn sign<T: serde::Serialize>(
        &self,
        peer: PeerKey,
        kind: Kind,
        round: u32,
        body: &T,
    ) -> Vec<u8> {
        let payload = wire::encode(&Payload {
            version: PROTOCOL,
            swarm: Hash(self.manifest.id().0),
            kind,
            round,
            start: self.peers[&self.key(0)].engine.as_ref().unwrap().newest().1,
            sender: peer,
            sequence: 1,
            body: wire::encode(body),
        });
        let signature = Sig(self.identities[&peer].sign(ENVELOPE_DOMAIN, &payload));
        wire::encode(&Envelope { payload, signature })
    }

    pub(crate) fn rounds(&self, key: PeerKey) -> u32 {
        self.peers[&key].settled.last().map_or(0, |settled| settled.round)
    }

    /// Runs until every running peer has settled `round`.
    pub(crate) fn run_to(&mut self, round: u32, within_ms: u64) {
        let end = self.now + within_ms;
        while self.now < end {
            self.run(10);
            let running = self.peers.iter().filter(|(_, peer)| peer.engine.is_some()).map(|(key, _)| *key);
            if running.collect::<Vec<_>>().into_iter().all(|key| self.rounds(key) >= round) {
                return;
            }
        }
        let state: Vec<_> =
            self.peers.values().filter_map(|p| p.engine.as_ref()).map(|e| e.status(self.now)).collect();
        panic!("round {round} not reached: {state:#?}");
    }

    /// Every peer settled every round alike.
    fn assert_agreement(&self) {
        let mut seen: BTreeMap<u32, Hash> = BTreeMap::new();
        for peer in self.peers.values() {
            for settled in &peer.settled {
                assert_eq!(*seen.entry(settled.round).or_insert(settled.statement), settled.statement);
            }
        }
        assert!(!seen.is_empty());
    }
}

fn kind(bytes: &[u8]) -> Kind {
    let envelope: Envelope = wire::decode(bytes, bytes.len()).unwrap();
    wire::decode::<Payload>(&envelope.payload, bytes.len()).unwrap().kind
}

/// A policy that mostly gives the reference answer.
fn scripted(key: &PeerKey, work: Work, says: fn(&PeerKey, bool) -> Option<judge::Verdict>) -> Input {
    match work {
        Work::Answer { round, items, completions, .. } => {
            let answer = |item: &tasks::Item, i: u16| {
                let wrong = (u16::from(key.0[0]) + i).is_multiple_of(3);
                if wrong {
                    format!("<answer>{}</answer>", 500 + i)
                } else {
                    item.worked().unwrap_or_else(|| {
                        format!("<answer>{}</answer>", item.gold().unwrap().answer().as_str())
                    })
                }
            };
            let completions =
                items.iter().map(|item| (0..completions).map(|i| answer(item, i)).collect()).collect();
            Input::Answers { round, completions, policy: Hash([1; 32]) }
        }
        Work::Critique { round, items, traces, assigned, .. } => {
            let score = |text: &String| if tasks::has_trace(text) { Some(-100) } else { Some(-900) };
            let scores =
                traces.iter().map(|traces| traces.iter().map(|(_, text)| score(text)).collect()).collect();
            let text = |(item, assigned): (&tasks::Item, &BTreeSet<CandidateId>), prompt: usize| {
                let gold = item.gold().unwrap().answer().as_str();
                let gold = CandidateId::of(prompt as u16, gold);
                let text = |&candidate: &CandidateId| {
                    let verdict = says(key, candidate == gold)?;
                    Some(TextCritique { candidate, verdict, reason: format!("as {}", key.name()) })
                };
                assigned.iter().filter_map(text).collect()
            };
            let texts =
                items.iter().zip(&assigned).enumerate().map(|(prompt, of)| text(of, prompt)).collect();
            Input::Critiques { round, scores, texts }
        }
        Work::Audit(case) => {
            Input::Audited { round: case.round, peer: case.peer, finding: judge::Finding::Inconclusive }
        }
    }
}

#[test]
fn four_peers_settle_rounds_alike_and_pay_for_agreement() {
    let mut world = World::new(4, true, 4);
    world.run_to(5, 20_000);
    world.assert_agreement();
    let settled = &world.peers[&world.key(0)].settled[0];
    assert_eq!(settled.roster.len(), 4);
    assert_eq!(settled.answered.len(), 4);
    let rewards = &settled.settlement.prompts[0].rewards[&world.key(0)];
    assert!(rewards.contains(&1000), "{rewards:?}");
    assert!(
        world.now < 5 * (2 * WORK_MS + 200),
        "nothing waits for a deadline when all are in: {} ms",
        world.now
    );
}

#[test]
fn an_open_swarm_starts_when_enough_peers_see_each_other() {
    let mut world = World::new(3, false, 3);
    world.run_to(2, 20_000);
    world.assert_agreement();
    let mut alone = World::new(2, false, 3);
    alone.run(10_000);
    assert_eq!(alone.rounds(alone.key(0)), 0, "two of three wait");
}

#[test]
fn a_killed_peer_costs_one_deadline_and_comes_back() {
    let mut world = World::new(4, true, 4);
    world.run_to(4, 20_000);
    let victim = world.key(2);
    world.kill(victim);
    let before = world.now;
    world.run_to(7, 60_000);
    let lost_ms = world.now - before;
    assert!(lost_ms < 6_000, "{lost_ms} ms for three rounds");
    let missed: Vec<_> = world.peers[&world.key(0)]
        .events
        .iter()
        .filter(|event| matches!(event, Event::PhaseClosed { missing, .. } if missing.contains(&victim)))
        .collect();
    assert_eq!(missed.len(), 1, "{missed:?}");
    world.start(victim);
    let back = world.rounds(world.key(0)) + 4;
    world.run_to(back, 60_000);
    world.assert_agreement();
    let last = world.peers[&world.key(0)].settled.last().unwrap();
    assert!(last.answered.contains(&victim), "takes part again");
}

#[test]
fn a_peer_that_leaves_is_not_waited_for_at_all() {
    let mut world = World::new(4, true, 4);
    world.run_to(4, 20_000);
    let leaver = world.key(1);
    world.input(leaver, Input::Leave { reason: "ctrl-c".into() });
    world.kill(leaver);
    world.run_to(6, 5_000);
    let events = &world.peers[&world.key(0)].events;
    assert!(events.contains(&Event::PeerLeft { peer: leaver, reason: "ctrl-c".into() }));
    assert!(!world.peers[&world.key(0)].settled.last().unwrap().roster.contains(&leaver));
}

#[test]
fn lost_messages_are_pulled() {
    let mut world = World::new(4, true, 4);
    world.lose_every = Some(7);
    world.run_to(6, 200_000);
    world.assert_agreement();
}

#[test]
fn a_whole_swarm_that_stops_continues_from_disk() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let keys: Vec<PeerKey> = world.peers.keys().copied().collect();
    let views: Vec<u32> = keys.iter().map(|key| world.peers[key].disk.signed_view).collect();
    keys.iter().for_each(|key| world.kill(*key));
    world.wire.clear();
    keys.iter().for_each(|key| world.start(*key));
    world.run_to(6, 200_000);
    world.assert_agreement();
    for (key, view) in keys.iter().zip(views) {
        assert!(world.peers[key].disk.signed_view > view);
    }
}

#[test]
fn a_silent_policy_is_late_not_fatal() {
    let mut world = World::new(4, true, 4);
    world.run_to(4, 20_000);
    let slow = world.key(3);
    world.peers.get_mut(&slow).unwrap().answers = false;
    world.run_to(8, 120_000);
    let settled = &world.peers[&world.key(0)].settled;
    assert!(!settled.last().unwrap().answered.contains(&slow));
    let again =
        settled.iter().filter(|settled| settled.round > 6).any(|settled| settled.roster.contains(&slow));
    assert!(again, "it shows life, so it is proposed again");
}

#[test]
fn other_swarms_and_forgeries_are_rejected() {
    let mut world = World::new(4, true, 4);
    let mut other = World::new(4, true, 3);
    assert_ne!(world.manifest.id(), other.manifest.id(), "one changed key is another swarm");
    other.start(other.key(0));
    let (to, topic, bytes) = other.wire.pop().unwrap();
    let now = world.now;
    let engine = world.peers.get_mut(&to).unwrap().engine.as_mut().unwrap();
    assert_eq!(engine.receive(now, topic, &bytes), Verdict::Reject);
    let (to, topic, mut bytes) = world.wire.pop().unwrap();
    let engine = world.peers.get_mut(&to).unwrap().engine.as_mut().unwrap();
    assert_eq!(engine.receive(now, Topic::Control, &bytes), Verdict::Reject, "on the wrong topic");
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(engine.receive(now, topic, &bytes), Verdict::Reject, "signature");
    assert_eq!(engine.receive(now, topic, &vec![0; 5000]), Verdict::Reject, "too large");
    assert!(!engine.dropped().is_empty());
}

#[test]
fn mutated_messages_never_panic() {
    let mut world = World::new(4, true, 4);
    let mut messages = Vec::new();
    while world.now < 1_000 {
        world.run(1);
        messages.extend(world.wire.iter().cloned());
    }
    assert!(messages.len() > 100, "of every kind");
    let engine = world.peers.values_mut().next().unwrap().engine.as_mut().unwrap();
    let mut seed = 1u64;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (_, topic, bytes) = &messages[(seed >> 33) as usize % messages.len()];
        let mut bytes = bytes.clone();
        let at = (seed >> 20) as usize % bytes.len();
        bytes[at] = (seed >> 40) as u8;
        let verdict = engine.receive(1_001, *topic, &bytes);
        assert!(verdict != Verdict::Accept || messages.iter().any(|(_, _, known)| *known == bytes));
    }
}

#[test]
fn status_names_who_is_awaited() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let slow = world.key(3);
    world.peers.get_mut(&slow).unwrap().answers = false;
    world.run(3 * WORK_MS);
    let status = world.peers[&world.key(0)].engine.as_ref().unwrap().status(world.now);
    assert!(matches!(status.phase, PhaseName::Answer | PhaseName::Critique), "{status:?}");
    assert_eq!(status.awaited, [slow]);
    assert!(status.deadline_in_ms > 0);
}
