//! A few peers in one process, on a lossless network that takes a millisecond, through the engine's public interface;
//! with a scripted policy, and everything that anybody says or stores kept. The same arguments give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use judge::{CandidateId, CurriculumRules, Finding, PackKey, PackVote, PeerKey, Verdict};
use swarm::blob::Address;
use swarm::engine::{Engine, Input, Output, Persist, Resume, Settled, Setup, Work};
use swarm::identity::Identity;
use swarm::limits::{INLINE_BYTES_MAX, PROOF_BYTES_MAX};
use swarm::log::Record;
use swarm::manifest::{Critiques, FaultModel, Genesis, Manifest, PackPin, RoundRules};
use swarm::message::{Ballot, ENVELOPE_DOMAIN, Envelope, Kind, Payload, TextCritique};
use swarm::topic::Topic;
use swarm::wire::{self, Hash, Sig};
use tasks::{Catalogue, Item, Pack, PackFiles};

/// How long the scripted policy works, in milliseconds.
const WORK_MS: u64 = 50;
/// No round of a lossless network takes longer, even if somebody is late, in milliseconds.
const ROUND_MS: u64 = 150_000;

/// The longest completion: four of them are too long for a message.
const LONG_BYTES: usize = INLINE_BYTES_MAX / 3;

/// A swarm and all that was said in it.
pub(crate) struct Rehearsal {
    pub(crate) manifest: Manifest,
    pub(crate) identities: BTreeMap<PeerKey, Identity>,
    pub(crate) engines: BTreeMap<PeerKey, Engine>,
    /// Gossip in the order of speaking.
    pub(crate) published: Vec<(Topic, Vec<u8>)>,
    /// What each peer stored.
    pub(crate) persisted: BTreeMap<PeerKey, Vec<Persist>>,
    pub(crate) settled: BTreeMap<PeerKey, Vec<Settled>>,
    /// What each peer was asked to log.
    #[allow(dead_code, reason = "not every test that rehearses looks at logs")]
    pub(crate) logs: BTreeMap<PeerKey, Vec<Record>>,
    /// Completions that are too long for a message, for whoever asks.
    bodies: BTreeMap<Address, Vec<u8>>,
    /// Whose next ballot comes twice.
    double: Option<PeerKey>,
    now: u64,
    wire: Vec<(PeerKey, Topic, Vec<u8>)>,
    work: Vec<(u64, PeerKey, Input)>,
}

/// A swarm of listed peers with text critiques.
pub(crate) fn manifest(peers: &[PeerKey]) -> Manifest {
    let round = RoundRules {
        prompts: 4,
        completions: 4,
        completion_bytes_max: LONG_BYTES as u16,
        work_floor_ms: 1_000,
        critiques: Critiques::Reputation,
        ..RoundRules::default()
    };
    Manifest {
        name: "rehearsal".into(),
        seed: String::new(),
        packs: vec![
            PackPin { id: "native:six".into(), weight: 1 },
            PackPin { id: "native:gcd".into(), weight: 1 },
        ],
        models: Vec::new(),
        faults: FaultModel::Auto,
        available: false,
        membership: swarm::membership::Membership::default(),
        genesis: Genesis { peers: peers.iter().map(PeerKey::hex).collect(), peers_min: peers.len() as u16 },
        round,
        judge: judge::Rules {
            curriculum: Some(CurriculumRules { prompts: 3, raise_permille: 500, lower_permille: 200 }),
            ..judge::Rules::default()
        },
        parent: None,
    }
}

/// The packs of the manifest.
pub(crate) fn catalogue() -> Catalogue {
    let gcd = Pack::native("native:gcd").unwrap();
    Catalogue::new(vec![(Pack::native_six(), 1), (gcd, 1)]).unwrap()
}

/// A pack that somebody proposes while the swarm runs.
pub(crate) fn proposed(name: &str) -> Pack {
    let item =
        |i: u32| format!("{{\"question\": \"{name} {i}?\", \"answer\": \"{i}\", \"level\": {}}}\n", i % 2);
    let task = format!("name = \"{name}\"\nversion = \"1\"\n");
    let files = [("task.toml", task), ("items.jsonl", (0..40).map(item).collect())];
    let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
    Pack::open(&PackFiles::new(files.into()).unwrap(), &|_| panic!("no script")).unwrap()
}

impl Rehearsal {
    pub(crate) fn new(count: u8) -> Self {
        let identities: BTreeMap<PeerKey, Identity> =
            (1..=count).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
        let manifest = manifest(&identities.keys().copied().collect::<Vec<_>>());
        let mut rehearsal = Self {
            manifest,
            identities: identities.clone(),
            engines: BTreeMap::new(),
            published: Vec::new(),
            persisted: BTreeMap::new(),
            settled: BTreeMap::new(),
            logs: BTreeMap::new(),
            bodies: BTreeMap::new(),
            double: None,
            now: 0,
            wire: Vec::new(),
            work: Vec::new(),
        };
        for (key, identity) in identities {
            let setup = Setup {
                defences: swarm::engine::Defences::default(),
                identity,
                manifest: rehearsal.manifest.clone(),
                catalogue: catalogue(),
                ready: true,
                addresses: vec!["/ip4/127.0.0.1/tcp/7001".into()],
                ticket: None,
                entropy: key.0,
                numerics: "rehearsed".into(),
                resume: Resume::default(),
            };
            rehearsal.engines.insert(key, Engine::new(setup, 0).unwrap());
        }
        for key in rehearsal.keys() {
            rehearsal.drain(key);
        }
        rehearsal
    }

    /// Has the peer in this place vote twice in the next round.
    pub(crate) fn equivocate(&mut self, place: usize) {
        self.double = self.keys().get(place).copied();
    }

    /// The peer in the first place proposes a pack; it and those in the other places have it and say this of it.
    pub(crate) fn propose(&mut self, pack: &Pack, said: &[(usize, bool)]) {
        for &(place, accept) in said {
            let key = self.keys()[place];
            let engine = self.engines.get_mut(&key).unwrap();
            engine.handle(self.now, Input::Pack(Box::new(pack.clone())));
            let vote = PackVote { pack: PackKey(pack.id().0), weight: 1, accept };
            engine.handle(self.now, Input::PackVote(vote));
            self.drain(key);
        }
    }

    fn publish(&mut self, key: PeerKey, topic: Topic, bytes: Vec<u8>) {
        let others = self.keys().into_iter().filter(|other| *other != key);
        self.wire.extend(others.map(|other| (other, topic, bytes.clone())));
        self.published.push((topic, bytes));
    }

    /// An empty ballot besides the one that an equivocator casts.
    fn second(&mut self, key: PeerKey, bytes: &[u8]) -> Option<Vec<u8>> {
        self.double.filter(|double| *double == key)?;
        let envelope: Envelope = wire::decode(bytes, PROOF_BYTES_MAX).unwrap();
        let mut payload: Payload = wire::decode(&envelope.payload, PROOF_BYTES_MAX).unwrap();
        if payload.kind != Kind::Ballot {
            return None;
        }
        self.double = None;
        payload.body = wire::encode(&Ballot { prompts: Vec::new(), audits: None, packs: Vec::new() });
        let payload = wire::encode(&payload);
        let signature = Sig(self.identities[&key].sign(ENVELOPE_DOMAIN, &payload));
        Some(wire::encode(&Envelope { payload, signature }))
    }

    fn keys(&self) -> Vec<PeerKey> {
        self.engines.keys().copied().collect()
    }

    /// Runs until every peer has settled `rounds` rounds; one that was left out settles those of the others.
    pub(crate) fn play(&mut self, rounds: usize) {
        let end = self.now + rounds as u64 * ROUND_MS;
        while self.now < end {
            self.step();
            if self.keys().iter().all(|key| self.settled.get(key).is_some_and(|of| of.len() >= rounds)) {
                return;
            }
        }
        panic!("not settled: {:#?}", self.engines.values().map(|e| e.status(self.now)).collect::<Vec<_>>());
    }

    fn step(&mut self) {
        self.now += 1;
        let now = self.now;
        for (to, topic, bytes) in std::mem::take(&mut self.wire) {
            self.engines.get_mut(&to).unwrap().receive(now, topic, &bytes);
            self.drain(to);
        }
        let (due, later) = std::mem::take(&mut self.work).into_iter().partition(|(due, ..)| *due <= now);
        self.work = later;
        let due: Vec<(u64, PeerKey, Input)> = due;
        for (_, key, input) in due {
            self.engines.get_mut(&key).unwrap().handle(now, input);
            self.drain(key);
        }
        for key in self.keys() {
            let engine = self.engines.get_mut(&key).unwrap();
            if engine.deadline() <= now {
                engine.handle(now, Input::Tick);
                self.drain(key);
            }
        }
    }

    fn drain(&mut self, key: PeerKey) {
        while let Some(output) = self.engines.get_mut(&key).unwrap().poll() {
            match output {
                Output::Publish(topic, bytes) => {
                    let second = self.second(key, &bytes);
                    self.publish(key, topic, bytes);
                    if let Some(second) = second {
                        self.publish(key, topic, second);
                    }
                }
                Output::Persist(persist) => self.persisted.entry(key).or_default().push(persist),
                Output::Work(work) => {
                    if let Work::Answer { round, .. } = work {
                        self.offer_weights(key, round);
                    }
                    self.work.extend(scripted(&key, work).map(|input| (self.now + WORK_MS, key, input)));
                }
                Output::Settled(settled) => self.settled.entry(key).or_default().push(*settled),
                Output::Log(record) => self.logs.entry(key).or_default().push(record),
                Output::Keep { blob, bytes, .. } => drop(self.bodies.insert(blob, bytes)),
                Output::Fetch { blob, .. } => {
                    let input = match self.bodies.get(&blob) {
                        Some(bytes) => Input::Fetched { blob, bytes: bytes.clone() },
                        None => Input::FetchFailed { blob },
                    };
                    self.work.push((self.now + 1, key, input));
                }
                Output::Ask(..) | Output::Dial(..) | Output::Event(_) => {}
            }
        }
    }

    /// For auditors, who are as scripted as what they look at.
    fn offer_weights(&mut self, key: PeerKey, round: u32) {
        let now = self.now;
        let engine = self.engines.get_mut(&key).unwrap();
        let planted = engine.plants();
        let bytes = [&key.0[..], &round.to_le_bytes()].concat();
        engine.handle(now, Input::Weights { round, bytes, planted });
    }
}

/// A policy that mostly gives the reference answer, by the luck of a seed; now and then it is late.
fn scripted(key: &PeerKey, work: Work) -> Option<Input> {
    match work {
        Work::Answer { round, items, completions, seed } => {
            let luck = |prompt: usize, i: u16| seed[(prompt * 5 + usize::from(i)) % 31 + 1] % 16;
            let answer = |(prompt, item): (usize, &Item), i: u16| match luck(prompt, i) {
                0 => "no readable answer".into(),
                1..=3 => format!("<answer>{}</answer>", 500 + u16::from(luck(prompt, i))),
                4..=6 => "<think>all of these are alike</think><answer>7</answer>".into(),
                _ => item
                    .worked()
                    .unwrap_or_else(|| format!("<answer>{}</answer>", item.gold().unwrap().answer())),
            };
            let texts = items.iter().enumerate();
            let thoughtful =
                |prompt: usize| prompt == 0 && round.is_multiple_of(4) && seed[0].is_multiple_of(2);
            let answer = |item: (usize, &Item), i: u16| {
                let text = answer(item, i);
                if thoughtful(item.0) { at_length(&text) } else { text }
            };
            let completions = texts.map(|item| (0..completions).map(|i| answer(item, i)).collect());
            (seed[0] % 12 > 0).then(|| Input::Answers {
                round,
                completions: completions.collect(),
                policy: Hash([1; 32]),
            })
        }
        // Now and then one says what no other does.
        Work::Audit(case) => {
            let finding =
                if (case.seed[0] ^ key.0[0]).is_multiple_of(5) { Finding::Fail } else { Finding::Pass };
            Some(Input::Audited { round: case.round, peer: case.peer, finding })
        }
        Work::Critique { round, items, traces, assigned, seed } => {
            let score = |text: &String, luck: u8| {
                let noise = i16::from(luck) * 4;
                if tasks::has_trace(text) {
                    Some(-noise)
                } else {
                    (!luck.is_multiple_of(8)).then_some(-600 - noise)
                }
            };
            let scores = traces.iter().enumerate().map(|(prompt, traces)| {
                traces
                    .iter()
                    .enumerate()
                    .map(|(i, (_, text))| score(text, seed[(prompt * 7 + i) % 32]))
                    .collect()
            });
            let written = items.iter().zip(&assigned).enumerate();
            let texts = written.map(|(prompt, (item, assigned))| texts(key, prompt as u16, item, assigned));
            (seed[0] % 12 > 0).then(|| Input::Critiques {
                round,
                scores: scores.collect(),
                texts: texts.collect(),
            })
        }
    }
}

/// The same with as much reasoning as a completion may have.
fn at_length(text: &str) -> String {
    let text = text.strip_prefix("<think>").map_or_else(|| format!("</think>{text}"), str::to_owned);
    let thoughts = LONG_BYTES - "<think>".len() - text.len();
    format!("<think>{}{text}", "all of these are alike ".chars().cycle().take(thoughts).collect::<String>())
}

fn texts(key: &PeerKey, prompt: u16, item: &Item, assigned: &BTreeSet<CandidateId>) -> Vec<TextCritique> {
    let gold = CandidateId::of(prompt, item.gold().unwrap().answer().as_str());
    let slanders = key.0[0].is_multiple_of(4);
    let text = |&candidate: &CandidateId| {
        let verdict = if (candidate == gold) != slanders { Verdict::Right } else { Verdict::Wrong };
        TextCritique { candidate, verdict, reason: format!("as {} sees it", key.name()) }
    };
    assigned.iter().map(text).collect()
}
