//! Many engines, one queue of events.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use judge::PeerKey;
use tasks::{Catalogue, Pack};

use super::adversary::{Acts, Place, envelope};
use super::censor::Censor;
use super::defence::without;
use super::dice::Dice;
use super::fault::Fault;
use super::measure::Ruler;
use super::network::Network;
use super::plan::Plan;
use super::queue::{Happening, Message, Queue};
use super::report::{Run, SimulationError};
use super::seat::{Character, Seat};
use super::setting::Setting;
use super::storm::Weather;
use super::tally::Tally;
use super::watch::{self, Watch};
use crate::blob::Address;
use crate::engine::{Defences, Engine, Event, Input, Output, Persist, Resume, Setup, Verdict, Work};
use crate::manifest::Manifest;
use crate::memo::Remembering;
use crate::message::{Kind, Presence};
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash};

/// Shortest and longest work of a scripted policy, in milliseconds.
const WORK_MS: (u64, u64) = (80, 400);
/// How long a peer waits for a body from one that does not answer, in milliseconds.
const FETCH_MS: u64 = 500;
/// Virtual milliseconds after which a simulation is over whatever it has reached, for each round asked for.
const ROUND_MAX_MS: u64 = 120_000;
/// Events for each pair of peers and round that are taken for a storm of messages: some five times the usual.
const EVENTS_EACH: u64 = 40;
/// Rounds' worth of events that faults may cost.
const ROUNDS_LOST: u64 = 50;
/// Virtual milliseconds that any simulation may take.
const START_MAX_MS: u64 = 600_000;

/// A swarm in virtual time.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) manifest: Manifest,
    swarm: SwarmId,
    catalogue: Catalogue,
    pub(super) seats: Vec<Seat>,
    pub(super) keys: Vec<PeerKey>,
    seat_of: BTreeMap<PeerKey, usize>,
    accomplices: BTreeSet<PeerKey>,
    /// What honest peers said in another swarm.
    recorded: Vec<Vec<u8>>,
    defences: Defences,
    pub(super) ruler: Ruler,
    pub(super) network: Network,
    /// What the network does on purpose.
    pub(super) censor: Option<Censor>,
    pub(super) dice: Dice,
    mischief: Dice,
    pub(super) queue: Queue,
    pub(super) now_ms: u64,
    pub(super) watch: Watch,
    pub(super) tally: Tally,
    pub(super) weather: Weather,
    /// The newest round that an honest peer is in.
    pub(super) round: u32,
    pub(super) voids: u64,
    pub(super) switches: u64,
    trace: blake3::Hasher,
    events: u64,
    /// Set when there is nothing left to learn.
    pub(super) over: bool,
}

impl World {
    pub(super) fn new(plan: Plan, setting: Setting) -> Result<Self, SimulationError> {
        let Setting { manifest, seats } = setting;
        let catalogue = Catalogue::new(vec![(Pack::native_six(), 1)])
            .map_err(|error| SimulationError::Setting(error.to_string()))?;
        let keys: Vec<PeerKey> = seats.iter().map(|seat| seat.key).collect();
        let sister = SwarmId([7; 32]);
        let recorded = seats
            .iter()
            .filter(|seat| seat.character == Character::Honest)
            .map(|seat| farewell(seat, sister));
        let recorded = recorded.collect();
        let of = |wanted: Character| {
            seats.iter().filter(move |seat| seat.character == wanted).map(|seat| seat.key)
        };
        let mut world = Self {
            swarm: manifest.id(),
            watch: Watch::new(manifest.clone(), of(Character::Honest).collect()),
            ruler: Ruler::new(&seats),
            censor: Censor::of(plan.attack, &seats),
            recorded,
            defences: without(plan.defence_off),
            accomplices: of(Character::Dishonest).collect(),
            manifest,
            catalogue,
            seat_of: keys.iter().enumerate().map(|(seat, key)| (*key, seat)).collect(),
            network: Network::new(plan.seed, keys.len()),
            dice: Dice::new(plan.seed, "world"),
            mischief: Dice::new(plan.seed, "mischief"),
            keys,
            seats,
            queue: Queue::default(),
            now_ms: 0,
            tally: Tally::default(),
            weather: Weather::new(plan.seed),
            round: 0,
            voids: 0,
            switches: 0,
            trace: blake3::Hasher::new(),
            events: 0,
            over: false,
            plan,
        };
        world.begin();
        Ok(world)
    }

    /// Plays until the rounds are settled and what followed the last fault is seen.
    pub(super) fn play(mut self) -> Result<Run, SimulationError> {
        let remembering = Remembering::start();
        self.run()?;
        Ok(Run::of(&self, remembering.counts(), self.events, self.trace.finalize().into()))
    }

    fn run(&mut self) -> Result<(), SimulationError> {
        let end_ms = START_MAX_MS + u64::from(self.plan.rounds) * ROUND_MAX_MS;
        while !self.over {
            let Some((at_ms, seat, happening)) = self.queue.pop() else { break };
            self.now_ms = at_ms;
            if at_ms > end_ms {
                let what = format!("round {} after {end_ms} ms", self.round);
                self.watch.check(watch::PROGRESS, at_ms, Some(what));
                break;
            }
            if self.events > self.events_max() {
                let what = format!("{} events by round {}", self.events, self.round);
                self.watch.check(watch::QUIET, at_ms, Some(what));
                break;
            }
            self.record(seat, &happening);
            self.happen(seat, happening)?;
            self.mind_progress();
        }
        self.watch.check(watch::QUIET, self.now_ms, None);
        Ok(())
    }

    /// Events that no swarm of this size needs for its rounds.
    fn events_max(&self) -> u64 {
        let peers = self.seats.len() as u64;
        EVENTS_EACH * peers * peers * (ROUNDS_LOST + u64::from(self.plan.rounds))
    }

    fn record(&mut self, seat: usize, happening: &Happening) {
        // What dishonest peers send, they send; what honest peers make of it counts.
        self.events += u64::from(self.is_of_honest(seat, happening));
        self.trace.update(&self.now_ms.to_le_bytes());
        self.trace.update(&[happening.tag(), seat as u8, (seat >> 8) as u8]);
        // The end of an envelope is its signature, which depends on everything before it.
        let bytes = happening.bytes();
        self.trace.update(&bytes[bytes.len().saturating_sub(16)..]);
    }

    fn is_of_honest(&self, seat: usize, happening: &Happening) -> bool {
        let by = match happening {
            Happening::Gossip(message) => message.from,
            Happening::Request { from, .. } | Happening::Answer { from, .. } => *from,
            _ => seat,
        };
        self.seats[by].character == Character::Honest
    }

    fn happen(&mut self, seat: usize, happening: Happening) -> Result<(), SimulationError> {
        match happening {
            Happening::Gossip(message) => self.deliver(seat, &message),
            Happening::Request { from, bytes } => self.serve(seat, from, &bytes),
            Happening::Answer { from, bytes } => {
                let from = self.keys[from];
                self.feed(seat, Input::Repair { from, bytes });
            }
            Happening::Work { life, input } => {
                if self.seats[seat].life == life {
                    self.feed(seat, input);
                }
            }
            Happening::Wake => self.wake(seat),
            Happening::Start => self.start(seat)?,
            Happening::Stop => self.stop(seat, Fault::Crash),
            Happening::Cut(outputs) => {
                if self.seats[seat].engine.is_some() {
                    self.seats[seat].cut_after = Some(outputs);
                }
            }
            Happening::Storm => self.storm(),
            Happening::Calm => self.calm(),
        }
        Ok(())
    }

    /// Starts a peer from what its disk holds.
    fn start(&mut self, seat: usize) -> Result<(), SimulationError> {
        let now_ms = self.now_ms;
        let peer = &mut self.seats[seat];
        if peer.engine.is_some() {
            return Ok(());
        }
        let setup = Setup {
            identity: peer.identity.clone(),
            manifest: self.manifest.clone(),
            catalogue: self.catalogue.clone(),
            ready: true,
            addresses: Vec::new(),
            ticket: None,
            entropy: self.dice.bytes(),
            numerics: "simulated".into(),
            resume: peer.disk.clone(),
            defences: self.defences,
        };
        let recall = peer.recall(&self.manifest).map_err(SimulationError::Setting)?;
        let local_ms = peer.clock.local(now_ms);
        let mut engine =
            Engine::new(setup, local_ms).map_err(|error| SimulationError::Setting(error.to_string()))?;
        engine.handle(local_ms, Input::Recalled(Box::new(recall)));
        peer.disk = Resume { incarnation: engine.incarnation(), ..std::mem::take(&mut peer.disk) };
        peer.engine = Some(engine);
        self.drain(seat);
        Ok(())
    }

    pub(super) fn stop(&mut self, seat: usize, fault: Fault) {
        if self.seats[seat].engine.is_some() {
            self.tally.fault(fault);
            self.seats[seat].stop();
        }
    }

    fn wake(&mut self, seat: usize) {
        let now_ms = self.now_ms;
        let peer = &mut self.seats[seat];
        if peer.wake_ms != now_ms {
            return; // overtaken by an earlier one, or of an earlier life
        }
        peer.wake_ms = u64::MAX;
        let local_ms = peer.clock.local(now_ms);
        if peer.engine.as_ref().is_some_and(|engine| engine.deadline() <= local_ms) {
            self.feed(seat, Input::Tick);
        } else {
            self.expect_wake(seat);
        }
        let peer = &self.seats[seat];
        if let (Character::Honest, Some(engine)) = (peer.character, &peer.engine) {
            self.watch.inspect(now_ms, local_ms, engine);
            self.ruler.sizes(&engine.sizes());
        }
    }

    /// Makes sure that a tick comes no later than the engine's deadline.
    fn expect_wake(&mut self, seat: usize) {
        let peer = &mut self.seats[seat];
        let Some(engine) = &peer.engine else { return };
        let due_ms = peer.clock.when(engine.deadline()).max(self.now_ms + 1);
        if due_ms < peer.wake_ms {
            peer.wake_ms = due_ms;
            self.queue.push(due_ms, seat, Happening::Wake);
        }
    }

    pub(super) fn feed(&mut self, seat: usize, input: Input) {
        let now_ms = self.now_ms;
        let peer = &mut self.seats[seat];
        if let Some(engine) = &mut peer.engine {
            engine.handle(peer.clock.local(now_ms), input);
            self.drain(seat);
        }
    }

    fn deliver(&mut self, seat: usize, message: &Message) {
        let now_ms = self.now_ms;
        let peer = &mut self.seats[seat];
        let Some(engine) = &mut peer.engine else { return };
        let verdict = engine.receive(peer.clock.local(now_ms), message.topic, &message.bytes);
        let honest = |seat: &Seat| seat.character == Character::Honest;
        if honest(&self.seats[seat]) && honest(&self.seats[message.from]) {
            let broken = (verdict == Verdict::Reject).then(|| format!("by {}", self.keys[seat].name()));
            self.watch.check(watch::WELCOME, now_ms, broken);
        }
        self.drain(seat);
        if self.seats[seat].adversary.is_some() {
            self.act(seat, |adversary, acts| adversary.heard(message.topic, &message.bytes, verdict, acts));
        }
    }

    fn serve(&mut self, seat: usize, from: usize, bytes: &[u8]) {
        let peer = &self.seats[seat];
        if peer.adversary.as_ref().is_some_and(|adversary| !adversary.serves()) {
            return;
        }
        let Some(mut answer) = peer.engine.as_ref().and_then(|engine| engine.serve(bytes)) else { return };
        if let Some(other) = self.act(seat, |adversary, acts| adversary.answer(answer.clone(), acts)) {
            answer = other;
        }
        if self.censor.as_ref().is_some_and(|censor| !censor.repairs(seat, from)) {
            return self.censored();
        }
        for way in self.network.carry(seat, from, &mut self.tally).into_iter().flatten() {
            let answer = Happening::Answer { from: seat, bytes: answer.clone() };
            self.queue.push(self.now_ms + way, from, answer);
        }
    }

    /// Performs what an engine asks for.
    fn drain(&mut self, seat: usize) {
        let mut written = false;
        loop {
            if self.seats[seat].is_cut() {
                if written {
                    *self.tally.faults.entry("cut right after a write").or_default() += 1;
                }
                self.stop(seat, Fault::Cut);
                break;
            }
            let Some(output) = self.seats[seat].poll() else { break };
            written = matches!(output, Output::Persist(_));
            if self.seats[seat].adversary.is_none() {
                self.perform(seat, output);
            } else if let Some(output) =
                self.act(seat, |adversary, acts| adversary.perform(output, acts)).flatten()
            {
                self.perform(seat, output);
            }
        }
        self.expect_wake(seat);
    }

    /// Lets a dishonest peer act.
    fn act<T>(
        &mut self,
        seat: usize,
        what: impl FnOnce(&mut dyn super::adversary::Adversary, &mut Acts<'_>) -> T,
    ) -> Option<T> {
        let mut adversary = self.seats[seat].adversary.take()?;
        let mut acts = Acts {
            identity: &self.seats[seat].identity,
            me: self.keys[seat],
            manifest: &self.manifest,
            engine: self.seats[seat].engine.as_ref(),
            swarm: self.swarm,
            dice: &mut self.mischief,
            peers: &self.keys,
            seat,
            accomplices: &self.accomplices,
            sent: Vec::new(),
            fired: Vec::new(),
            stolen: Vec::new(),
            recorded: &self.recorded,
        };
        let result = what(adversary.as_mut(), &mut acts);
        let Acts { sent, fired, stolen, .. } = acts;
        self.ruler.stolen.extend(stolen);
        self.seats[seat].adversary = Some(adversary);
        fired.into_iter().for_each(|name| self.tally.attack(name));
        for (to, topic, bytes) in sent {
            self.spread(seat, &to, topic, bytes);
        }
        Some(result)
    }

    fn perform(&mut self, seat: usize, output: Output) {
        let now_ms = self.now_ms;
        let honest = self.seats[seat].character == Character::Honest;
        match output {
            Output::Publish(topic, bytes) => {
                self.tally.said(topic, bytes.len());
                if honest {
                    self.watch.published(now_ms, &self.keys[seat], &bytes);
                }
                let others: Vec<usize> = (0..self.seats.len()).filter(|&other| other != seat).collect();
                self.spread(seat, &others, topic, bytes);
            }
            Output::Ask(to, bytes) => self.ask(seat, &to, &bytes),
            Output::Persist(persist) => {
                if let Persist::Head(head) = &persist {
                    for certificate in &head.path {
                        let new = self.watch.certificate(now_ms, certificate);
                        self.mind_certificates(&new);
                    }
                    if honest {
                        self.watch.has_state(now_ms, &self.keys[seat], head);
                    }
                }
                self.seats[seat].persist(persist);
            }
            Output::Work(work) => self.work(seat, &work),
            Output::Settled(settled) => {
                if honest {
                    self.watch.settled(now_ms, &self.keys[seat], &settled);
                    self.ruler.settled(&settled);
                }
            }
            Output::Fetch { blob, from, .. } => {
                if honest {
                    self.ruler.asked_to_fetch(&blob);
                }
                self.fetch(seat, blob, &from);
            }
            Output::Keep { round, blob, bytes } => self.seats[seat].keep(round, blob, bytes),
            Output::Log(record) => self.seats[seat].log.push(record),
            Output::Dial(..) => {}
            Output::Event(event) if honest => self.take_event(seat, &event),
            Output::Event(_) => {}
        }
    }

    fn take_event(&mut self, seat: usize, event: &Event) {
        match event {
            Event::Equivocated { peer, .. } => self.watch.blamed(self.now_ms, &self.keys[seat], peer),
            Event::Certified { round, .. } => self.round = self.round.max(*round),
            Event::Final { round, statement, .. } => {
                self.watch.called_final(self.now_ms, &self.keys[seat], *round, statement);
            }
            Event::Switched { .. } => self.switches += 1,
            Event::ViewVoid { .. } => self.voids += 1,
            _ => {}
        }
    }

    fn spread(&mut self, seat: usize, to: &[usize], topic: Topic, bytes: Vec<u8>) {
        let message = Rc::new(Message { from: seat, topic, bytes });
        for &other in to {
            if self.censor.as_ref().is_some_and(|censor| !censor.passes(seat, other, topic, &message.bytes)) {
                self.censored();
                continue;
            }
            for way in self.network.carry(seat, other, &mut self.tally).into_iter().flatten() {
                self.queue.push(self.now_ms + way, other, Happening::Gossip(Rc::clone(&message)));
            }
        }
    }

    fn censored(&mut self) {
        if let Some(attack) = self.plan.attack {
            self.tally.attack(attack.name());
        }
    }

    /// Brings a body from the first of `from` that gives it. Whoever gives another is passed over, as in the network.
    fn fetch(&mut self, seat: usize, blob: Address, from: &[PeerKey]) {
        let mut took_ms = 0;
        let mut found = None;
        for holder in from {
            let Some(&holder) = self.seat_of.get(holder) else { continue };
            let ways = [(seat, holder), (holder, seat)];
            let [there, back] = ways.map(|(a, b)| self.network.carry(a, b, &mut self.tally)[0]);
            took_ms += there.zip(back).map_or(FETCH_MS, |(there, back)| there + back);
            let arrives = there.is_some() && back.is_some();
            let given = self.give(holder, seat, &blob).filter(|_| arrives);
            found = given.filter(|bytes| !self.defences.bodies || Address::of(bytes) == Ok(blob));
            if found.is_some() {
                break;
            }
        }
        let input = match found {
            Some(bytes) => Input::Fetched { blob, bytes },
            None => Input::FetchFailed { blob },
        };
        let happening = Happening::Work { life: self.seats[seat].life, input };
        self.queue.push(self.now_ms + took_ms + 1, seat, happening);
    }

    /// What the peer at a seat gives another that asks for a body.
    fn give(&mut self, seat: usize, to: usize, blob: &Address) -> Option<Vec<u8>> {
        let (_, bytes) = self.seats[seat].bodies.get(blob)?.clone();
        match self.act(seat, |adversary, acts| adversary.body(to, &bytes, acts)) {
            None => Some(bytes),
            Some(given) => given,
        }
    }

    fn ask(&mut self, seat: usize, to: &PeerKey, bytes: &[u8]) {
        let Some(&to) = self.seat_of.get(to) else { return };
        for way in self.network.carry(seat, to, &mut self.tally).into_iter().flatten() {
            let request = Happening::Request { from: seat, bytes: bytes.to_vec() };
            self.queue.push(self.now_ms + way, to, request);
        }
    }

    fn work(&mut self, seat: usize, work: &Work) {
        let own = self.act(seat, |adversary, acts| adversary.work(work, acts)).flatten();
        let peer = &self.seats[seat];
        let input = own.unwrap_or_else(|| peer.skill.perform(work));
        if peer.slowness > 1 {
            self.tally.fault(Fault::Straggler);
        }
        let took_ms = self.dice.between(WORK_MS.0, WORK_MS.1) * peer.slowness;
        self.queue.push(self.now_ms + took_ms, seat, Happening::Work { life: peer.life, input });
    }
}

/// What a peer says when it leaves another swarm, long after this one.
fn farewell(seat: &Seat, swarm: SwarmId) -> Vec<u8> {
    let body = Presence {
        incarnation: u32::MAX,
        view: 0,
        statement: Hash(swarm.0),
        attempt: 0,
        ready: false,
        leaving: Some("enough".into()),
        addresses: Vec::new(),
        ticket: None,
    };
    let place = Place { round: 0, start: Hash(swarm.0) };
    envelope(&seat.identity, swarm, &place, u32::MAX, Kind::Presence, wire::encode(&body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Reader, Writer};
    use crate::replay::{Replay, Replayed, compare};
    use crate::simulate::Attack;

    /// The logs of all honest peers of a run, replayed.
    fn replayed(plan: Plan) -> Vec<Replayed> {
        let mut world = World::new(plan.clone(), Setting::of(&plan)).unwrap();
        world.run().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let honest = world.seats.iter().filter(|seat| seat.character == Character::Honest);
        let replay = |seat: &Seat| {
            let path = dir.path().join(seat.key.name());
            let (mut log, _) = Writer::open(&path, &seat.identity, &world.manifest).unwrap();
            seat.log.iter().for_each(|record| log.append(record).unwrap());
            log.close().unwrap();
            let replay = Replay::open(Reader::open(&path).unwrap()).unwrap();
            replay
                .run(world.catalogue.clone(), None)
                .unwrap_or_else(|why| panic!("{}: {why}\n{}", seat.key.name(), plan.command()))
        };
        honest.map(replay).collect()
    }

    #[test]
    fn logs_of_honest_peers_fold_alike_whoever_is_dishonest() {
        let mut convictions = 0;
        let storms = (1..=6).map(|seed| Plan::new(4, 12, seed));
        let attacks =
            [Attack::TwoMessages, Attack::TwoStatements, Attack::Recommit, Attack::Withhold, Attack::Hide]
                .map(|attack| Plan::of_attack(attack, None, 3));
        for plan in storms.chain(attacks) {
            let logs = replayed(plan.clone());
            assert!(logs.iter().any(|log| log.rounds.len() > 3), "{}", plan.command());
            for (one, other) in logs.iter().zip(logs.iter().skip(1)) {
                assert_eq!(compare(&one.rounds, &other.rounds), None, "{}", plan.command());
            }
            convictions += logs.iter().flat_map(|log| &log.convictions).filter(|of| of.proven).count();
        }
        assert!(convictions > 10, "{convictions} convictions with a proof in the log");
    }
}
