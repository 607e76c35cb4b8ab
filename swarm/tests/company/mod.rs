//! A swarm of real peers in one process: each has its own engine and its own network, only their policies are scripted.
//! For measurements, and for tests of rounds over bad networks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use judge::{AuditRules, PeerKey};
use swarm::engine::{Defences, Engine, Input, Output, Resume, Settled, Setup, Work};
use swarm::identity::Identity;
use swarm::manifest::{Genesis, Manifest, PackPin, RoundRules};
use swarm::net::{NetConfig, NetCounters, NetError, NetEvent, Network, Verdict};
use swarm::topic::Topic;
use swarm::wire::Hash;
use tasks::{Catalogue, Item, Pack};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Completions of four that are right.
const RIGHT_OF_FOUR: u8 = 3;
/// How often a peer of ill will says more than its part.
const VICE_EVERY: Duration = Duration::from_millis(20);

/// What a peer of ill will does once the company has turned bad.
pub(crate) struct Vice {
    /// Whether it still answers and writes critiques.
    pub(crate) works: bool,
    /// What it says besides its part in the rounds: asked again and again, each time with what its engine has published
    /// since.
    pub(crate) says: Saying,
}

pub(crate) type Saying = Box<dyn FnMut(&[Vec<u8>]) -> Vec<(Topic, Vec<u8>)> + Send>;

/// What a company works on, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) peers: u8,
    pub(crate) prompts: u16,
    pub(crate) completions: u16,
    /// Bytes of a completion.
    pub(crate) text_bytes: u16,
    /// Answers are ready at any time within this, critiques within a quarter of it.
    pub(crate) work: Duration,
    /// How long the others wait for a proposer.
    pub(crate) view: Duration,
}

impl Course {
    pub(crate) fn manifest(&self) -> Manifest {
        let mut keys: Vec<String> = (1..=self.peers).map(|seed| identity(seed).public().hex()).collect();
        keys.sort_unstable();
        Manifest {
            name: "company".into(),
            seed: String::new(),
            packs: vec![PackPin { id: "native:six".into(), weight: 1 }],
            models: Vec::new(),
            faults: swarm::manifest::FaultModel::Auto,
            available: false,
            membership: swarm::membership::Membership::default(),
            genesis: Genesis { peers: keys, peers_min: self.peers.into() },
            round: RoundRules {
                prompts: self.prompts,
                completions: self.completions,
                completion_bytes_max: self.text_bytes + 256,
                work_floor_ms: 2 * self.work.as_millis() as u32 + 1_000,
                view_deadline_ms: self.view.as_millis() as u32,
                ..RoundRules::default()
            },
            // Weights are fetched, not gossiped.
            judge: judge::Rules {
                audit: AuditRules { share_permille: 0, ..AuditRules::default() },
                ..judge::Rules::default()
            },
            parent: None,
        }
    }
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

/// A round that a peer has ended.
pub(crate) struct Ended {
    pub(crate) peer: usize,
    pub(crate) round: u32,
    /// Since the peer ended the round before.
    #[allow(dead_code, reason = "not every user measures single rounds")]
    pub(crate) took: Duration,
    /// Members whose answers counted.
    pub(crate) answered: Vec<PeerKey>,
    /// Proposers that were waited for in vain.
    #[allow(dead_code, reason = "not every user has peers of ill will")]
    pub(crate) voids: u32,
    /// What went through that peer's network until then.
    pub(crate) net: NetCounters,
}

/// What came of the messages of peers of ill will at the others, and of the others' links.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spam {
    digests: HashSet<u64>,
    begun: Option<Instant>,
    /// How often another peer's engine looked at such a message, by what it made of it, and when that was last.
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    pub(crate) last: Duration,
    /// When another peer cut its link with such a peer first, by both.
    pub(crate) cut: BTreeMap<(usize, PeerKey), Duration>,
    /// What others said who cut links among themselves.
    pub(crate) wronged: Vec<String>,
}

impl Spam {
    /// Messages so far.
    #[allow(dead_code, reason = "not every user has peers of ill will")]
    pub(crate) fn sent(&self) -> usize {
        self.digests.len()
    }

    fn since(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}

/// How long messages took from their author to each other peer.
#[derive(Default)]
pub(crate) struct Post {
    said: Mutex<HashMap<u64, Instant>>,
    delays: Mutex<Vec<Duration>>,
    /// Peers of ill will.
    bad: Vec<PeerKey>,
    spam: Mutex<Spam>,
}

impl Post {
    fn said(&self, bytes: &[u8]) {
        lock(&self.said).insert(digest(bytes), Instant::now());
    }

    fn heard(&self, bytes: &[u8]) {
        if let Some(said) = lock(&self.said).get(&digest(bytes)) {
            lock(&self.delays).push(said.elapsed());
        }
    }

    /// Another peer's engine looked at a message. Returns whether it was spam.
    fn judged(&self, bytes: &[u8], verdict: Verdict) -> bool {
        let mut spam = lock(&self.spam);
        let is_spam = spam.digests.contains(&digest(bytes));
        if is_spam {
            spam.last = spam.since();
            let name = match verdict {
                Verdict::Accept => "accepted",
                Verdict::Ignore => "ignored",
                Verdict::Reject => "rejected",
            };
            *spam.verdicts.entry(name).or_default() += 1;
        }
        is_spam
    }

    /// The peer at a place has turned somebody away.
    fn refused(&self, place: usize, peer: Option<PeerKey>, why: String) {
        let mut spam = lock(&self.spam);
        let since = spam.since();
        match peer.filter(|peer| self.bad.contains(peer)) {
            Some(peer) => drop(spam.cut.entry((place, peer)).or_insert(since)),
            None => spam.wronged.push(why),
        }
    }

    /// What came of spam so far.
    #[allow(dead_code, reason = "not every user has peers of ill will")]
    pub(crate) fn spam(&self) -> Spam {
        lock(&self.spam).clone()
    }

    /// The delays since this was asked last, in rising order.
    #[allow(dead_code, reason = "not every user measures delays")]
    pub(crate) fn take(&self) -> Vec<Duration> {
        let mut delays = std::mem::take(&mut *lock(&self.delays));
        delays.sort_unstable();
        delays
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Peers at work; they stop when it is dropped.
pub(crate) struct Company {
    pub(crate) post: Arc<Post>,
    pub(crate) ended: mpsc::UnboundedReceiver<Ended>,
    stage: watch::Sender<Stage>,
    tasks: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Good,
    Bad,
    Over,
}

impl Company {
    /// Starts everybody. Each knows two that are there; the last ones are of ill will, with these vices.
    pub(crate) async fn start(course: &Course, net: &NetConfig, vices: Vec<Vice>) -> Result<Self, NetError> {
        let (tell, ended) = mpsc::unbounded_channel();
        let (stage, stages) = watch::channel(Stage::Good);
        let honest = usize::from(course.peers) - vices.len();
        let bad = (honest..course.peers.into()).map(key).collect();
        let (post, manifest) = (Arc::new(Post { bad, ..Post::default() }), course.manifest());
        let mut company = Self { post, ended, stage, tasks: JoinSet::new() };
        let mut vices = vices.into_iter();
        let mut addresses: Vec<String> = Vec::new();
        for seed in 1..=course.peers {
            let known = [addresses.len() / 2, addresses.len().saturating_sub(1)];
            let bootstrap = known.iter().filter_map(|place| addresses.get(*place).cloned()).collect();
            let net = NetConfig { bootstrap, ..net.clone() };
            let network = Network::bind(&identity(seed), manifest.id(), net).await?;
            addresses.extend(network.listen_addresses().into_iter().next());
            let mut member =
                Member::new(seed, course.clone(), manifest.clone(), network, Arc::clone(&company.post));
            member.vice = if usize::from(seed) > honest { vices.next() } else { None };
            company.tasks.spawn(member.run(tell.clone(), stages.clone()));
        }
        Ok(company)
    }

    /// From now on peers of ill will have their way.
    #[allow(dead_code, reason = "not every user has peers of ill will")]
    pub(crate) fn turn_bad(&self) {
        lock(&self.post.spam).begun = Some(Instant::now());
        self.stage.send_replace(Stage::Bad);
    }

    /// Waits until so many, the first ones, have ended this round; what each said of the rounds up to it.
    ///
    /// # Panics
    /// Somebody takes too long.
    pub(crate) async fn reach(&mut self, round: u32, peers: u8, within: Duration) -> Vec<Ended> {
        let mut all = Vec::new();
        let mut newest = vec![0; peers.into()];
        let until = Instant::now() + within;
        while newest.iter().any(|newest| *newest < round) {
            let next = tokio::time::timeout_at(until, self.ended.recv()).await;
            let ended = next.unwrap_or_else(|_| panic!("not everybody ended round {round}: {newest:?}"));
            let Some(ended) = ended else { break };
            newest[ended.peer] = ended.round;
            all.push(ended);
        }
        all
    }

    /// Stops everybody.
    pub(crate) async fn stop(mut self) {
        self.stage.send_replace(Stage::Over);
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Member {
    place: usize,
    course: Course,
    engine: Engine,
    network: Network,
    post: Arc<Post>,
    begun: Instant,
    /// Work that is done then.
    due: Vec<(Instant, Input)>,
    /// When it ended a round last.
    ended: Instant,
    idle: bool,
    vice: Option<Vice>,
    /// What its engine has published since the vice was asked last.
    said: Vec<Vec<u8>>,
    next_vice: Instant,
}

impl Member {
    fn new(seed: u8, course: Course, manifest: Manifest, network: Network, post: Arc<Post>) -> Self {
        let setup = Setup {
            identity: identity(seed),
            manifest,
            catalogue: Catalogue::new(vec![(Pack::native_six(), 1)]).expect("the native pack"),
            ready: true,
            addresses: network.listen_addresses(),
            ticket: None,
            entropy: [seed; 32],
            numerics: "scripted".into(),
            resume: Resume::default(),
            defences: Defences::default(),
        };
        let engine = Engine::new(setup, 0).expect("a manifest that holds");
        Self {
            place: usize::from(seed) - 1,
            course,
            engine,
            network,
            post,
            begun: Instant::now(),
            due: Vec::new(),
            ended: Instant::now(),
            idle: false,
            vice: None,
            said: Vec::new(),
            next_vice: Instant::now(),
        }
    }

    async fn run(mut self, tell: mpsc::UnboundedSender<Ended>, mut stages: watch::Receiver<Stage>) {
        loop {
            self.drain(&tell);
            let now = Instant::now();
            let vice = match *stages.borrow_and_update() {
                Stage::Good => None,
                Stage::Bad => self.indulge(now),
                Stage::Over => return,
            };
            while let Some(at) = self.due.iter().position(|(due, _)| *due <= now) {
                let (_, input) = self.due.swap_remove(at);
                let now = self.now();
                self.engine.handle(now, input);
                self.drain(&tell);
            }
            let deadline = self.begun + Duration::from_millis(self.engine.deadline());
            let wake = self.due.iter().map(|(due, _)| *due).chain(vice).fold(deadline, Instant::min);
            tokio::select! {
                event = self.network.next() => self.on_event(event),
                () = tokio::time::sleep_until(wake) => {
                    let now = self.now();
                    self.engine.handle(now, Input::Tick);
                }
                _ = stages.changed() => {}
            }
        }
    }

    /// A peer of ill will says what else it has to say; when it does so next.
    fn indulge(&mut self, now: Instant) -> Option<Instant> {
        let vice = self.vice.as_mut()?;
        self.idle = !vice.works;
        if self.next_vice <= now {
            self.next_vice = now + VICE_EVERY;
            for (topic, bytes) in (vice.says)(&std::mem::take(&mut self.said)) {
                lock(&self.post.spam).digests.insert(digest(&bytes));
                self.network.publish(topic, bytes).expect("a message that fits its topic");
            }
        }
        Some(self.next_vice)
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn on_event(&mut self, event: NetEvent) {
        let now = self.now();
        match event {
            NetEvent::Message { token, topic, bytes, .. } => {
                self.post.heard(&bytes);
                let verdict = self.engine.receive(now, topic, &bytes);
                // Peers of ill will are in league.
                let spam = self.vice.is_some() || self.post.judged(&bytes, verdict);
                assert!(spam || verdict != Verdict::Reject, "an honest message is rejected");
                self.network.verdict(token, verdict);
            }
            NetEvent::Refused { peer, why } if self.vice.is_none() => {
                self.post.refused(self.place, peer, why);
            }
            NetEvent::Request { bytes, channel, .. } => {
                if let Some(answer) = self.engine.serve(&bytes) {
                    // Who asked may be gone.
                    let _ = self.network.respond(channel, answer);
                }
            }
            NetEvent::Response { from, bytes, .. } => self.engine.handle(now, Input::Repair { from, bytes }),
            NetEvent::Fetched { blob, bytes } => self.engine.handle(now, Input::Fetched { blob, bytes }),
            NetEvent::FetchFailed { blob, .. } => self.engine.handle(now, Input::FetchFailed { blob }),
            _ => {}
        }
    }

    fn drain(&mut self, tell: &mpsc::UnboundedSender<Ended>) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Publish(topic, bytes) => {
                    self.post.said(&bytes);
                    if self.vice.is_some() {
                        self.said.push(bytes.clone());
                    }
                    self.network.publish(topic, bytes).expect("a message that fits its topic");
                }
                // Not connected: the engine asks somebody else in turn.
                Output::Ask(peer, bytes) => drop(self.network.request(peer, bytes)),
                Output::Work(work) => self.work(work),
                Output::Settled(settled) => self.settled(&settled, tell),
                Output::Fetch { round, blob, from } => self.network.fetch(round, blob, &from),
                Output::Keep { round, bytes, .. } => drop(self.network.keep(round, bytes)),
                Output::Dial(peer, addresses) => self.network.dial(peer, addresses),
                Output::Persist(_) | Output::Log(_) | Output::Event(_) => {}
            }
        }
    }

    fn settled(&mut self, settled: &Settled, tell: &mpsc::UnboundedSender<Ended>) {
        if self.vice.is_some() {
            return;
        }
        for size in self.engine.sizes() {
            assert!(size.held <= size.bound, "{size:?}");
        }
        let ended = Ended {
            peer: self.place,
            round: settled.round,
            took: self.ended.elapsed(),
            answered: settled.answered.clone(),
            voids: settled.voids,
            net: self.network.counters(),
        };
        self.ended = Instant::now();
        // Nobody listens while the company stops.
        let _ = tell.send(ended);
    }

    fn work(&mut self, work: Work) {
        let (input, within, luck) = match work {
            Work::Answer { round, items, completions, seed } => {
                let answer = |item: &Item| {
                    (0..completions)
                        .map(|n| completion(item, seed[usize::from(n) % 32], &self.course))
                        .collect()
                };
                let completions = items.iter().map(answer).collect();
                (Input::Answers { round, completions, policy: Hash([1; 32]) }, self.course.work, seed)
            }
            Work::Critique { round, traces, seed, .. } => {
                let score = |text: &str| Some(if tasks::has_trace(text) { -100 } else { -900 });
                let scores =
                    traces.iter().map(|of| of.iter().map(|(_, text)| score(text)).collect()).collect();
                (Input::Critiques { round, scores, texts: Vec::new() }, self.course.work / 4, seed)
            }
            Work::Audit(_) => return,
        };
        if self.idle {
            return;
        }
        let late = within * u32::from(u16::from_le_bytes([luck[30], luck[31]])) / u32::from(u16::MAX);
        self.due.push((Instant::now() + late, input));
    }
}

/// A completion of the course's length, mostly right.
fn completion(item: &Item, luck: u8, course: &Course) -> String {
    let right = item.gold().map(|gold| gold.answer().to_string()).unwrap_or_default();
    let answer = if luck % 4 < RIGHT_OF_FOUR { right } else { format!("{}", 500 + u16::from(luck)) };
    let thoughts: String = "step by step ".chars().cycle().take(course.text_bytes.into()).collect();
    format!("<think>{thoughts}</think><answer>{answer}</answer>")
}

/// Keys in the order of places.
#[allow(dead_code, reason = "not every user asks who is who")]
pub(crate) fn key(place: usize) -> PeerKey {
    identity(place as u8 + 1).public()
}
