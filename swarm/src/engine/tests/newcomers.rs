//! Newcomers to a swarm that has certified for a long time: from the genesis, and from a checkpoint.

use serde_bytes::ByteBuf;

use super::*;
use crate::bitmap::Bitmap;
use crate::certificate::{signed_bytes, statement_hash};
use crate::chain::Link;
use crate::engine::StoredHead;
use crate::engine::settle::STATE_DOMAIN;
use crate::limits::{CHECKPOINT_VIEWS, REPAIR_CERTIFICATES_MAX};
use crate::log::{Reader, Writer};
use crate::message::{Certificate, STATEMENT_DOMAIN, Signed, Statement};
use crate::replay::{Replay, ReplayError, Replayed};

const LENGTH: u32 = 1_500;

/// A swarm of three, and one chain of its certificates.
struct History {
    world: World,
    links: Vec<Link>,
    state: Vec<u8>,
}

impl History {
    /// `items` tells histories apart from the certificate of round `other_from` on.
    fn of(length: u32, other_from: u32) -> Self {
        let world = World::new(3, true, 3);
        let keys: Vec<PeerKey> = world.identities.keys().copied().collect();
        let state = wire::encode(&judge::State::founded_by(&keys));
        let swarm = world.manifest.id();
        let mut links: Vec<Link> = Vec::new();
        for round in 1..=length {
            let parent = links.last();
            let statement = wire::encode(&Statement {
                view: round,
                round,
                parent: parent.map_or(Hash(swarm.0), |parent| parent.hash),
                commits: Bitmap::default(),
                answers: Bitmap::default(),
                critiques: Bitmap::default(),
                ballots: Bitmap::default(),
                items: Hash([u8::from(round >= other_from); 32]),
                settlement: Hash::default(),
                state: Hash::of(STATE_DOMAIN, &[&state]),
                roster: keys.clone(),
                offenders: Vec::new(),
                degraded: false,
            });
            let hash = statement_hash(&statement);
            let sign = |identity: &Identity| Signed {
                peer: identity.public(),
                signature: Sig(identity.sign(STATEMENT_DOMAIN, &signed_bytes(&swarm, &hash))),
            };
            let signatures = world.identities.values().map(sign).collect();
            let bytes = wire::encode(&Certificate { statement, signatures });
            links.push(Link::verify(&bytes, &world.manifest, &swarm, parent, |_, _| true).unwrap());
        }
        Self { world, links, state }
    }

    /// A member that has just started again, from its store and its log.
    fn member(&self) -> Engine {
        let [.., before, newest] = &self.links[..] else { panic!("too short") };
        let path = [before, newest].map(|link| ByteBuf::from(link.bytes.clone())).to_vec();
        let head = StoredHead { path, place: wire::encode(&before.place), state: self.state.clone() };
        let resume = Resume { incarnation: 1, signed_view: newest.statement.view, head };
        let mut recall = Recall::of(&self.world.manifest, newest.hash);
        for link in &self.links {
            recall.note(&Record::Certificate { certificate: link.bytes.clone() });
        }
        let mut member = Engine::new(self.world.setup(self.world.key(0), resume), 0).unwrap();
        member.handle(0, Input::Recalled(Box::new(recall)));
        member
    }

    fn at(&self, view: u32) -> Checkpoint {
        Checkpoint { view, statement: self.links[view as usize - 1].hash }
    }
}

struct Newcomer {
    identity: Identity,
    engine: Engine,
    log: Vec<Record>,
    asks: usize,
    now: u64,
}

impl Newcomer {
    fn to(history: &History) -> Self {
        let identity = Identity::from_seed([70; 32]);
        let setup = Setup {
            identity: identity.clone(),
            ..history.world.setup(history.world.key(0), Resume::default())
        };
        Self { identity, engine: Engine::new(setup, 0).unwrap(), log: Vec::new(), asks: 0, now: 0 }
    }

    /// Asks `member` once a second, and at once where it is in the middle of something.
    fn ask(&mut self, member: &Engine, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1_000;
            let now = self.now;
            self.engine.handle(now, Input::Tick);
            self.engine.ask(now, member.me());
            while let Some(output) = self.engine.poll() {
                match output {
                    Output::Ask(_, request) => {
                        self.asks += 1;
                        let bytes = member.serve(&request).unwrap();
                        self.engine.handle(now, Input::Repair { from: member.me(), bytes });
                    }
                    Output::Log(record) => self.log.push(record),
                    _ => {}
                }
            }
        }
    }

    fn replayed(&self, history: &History) -> Result<Replayed, ReplayError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, _) = Writer::open(&path, &self.identity, &history.world.manifest).unwrap();
        self.log.iter().for_each(|record| log.append(record).unwrap());
        log.close().unwrap();
        let catalogue = Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap();
        Replay::open(Reader::open(&path).unwrap())?.run(catalogue, None)
    }
}

#[test]
fn a_newcomer_follows_a_long_chain_answer_by_answer() {
    let history = History::of(LENGTH, u32::MAX);
    let member = history.member();
    let mut newcomer = Newcomer::to(&history);
    newcomer.ask(&member, 1);
    assert_eq!(newcomer.engine.newest().1, history.links.last().unwrap().hash, "within a second");
    let answers = LENGTH.div_ceil(REPAIR_CERTIFICATES_MAX as u32) as usize;
    assert!(newcomer.asks <= answers + 2, "{} requests", newcomer.asks);
    let (branches, chain) = newcomer.engine.branches.sizes();
    assert!(branches <= REPAIR_CERTIFICATES_MAX && chain <= REPAIR_CERTIFICATES_MAX, "{branches}, {chain}");
    let replayed = newcomer.replayed(&history).unwrap();
    let [skipped] = replayed.skipped[..] else { panic!("{:?}", replayed.skipped) };
    assert!(skipped.linked && (skipped.from, skipped.to) == (1, LENGTH - 1), "{skipped:?}");
    assert_eq!(replayed.checkpoint, Some(history.at(LENGTH - 1)));
}

/// Somebody that shows the beginning again and again does not make the log grow, nor the newcomer begin again.
#[test]
fn a_beginning_that_is_shown_again_changes_nothing() {
    let history = History::of(400, u32::MAX);
    let member = history.member();
    let mut newcomer = Newcomer::to(&history);
    let beginning = |newcomer: &mut Newcomer| {
        let certificates = history.links[..100].iter().map(|link| ByteBuf::from(link.bytes.clone()));
        let answer = crate::message::RepairAnswer {
            certificates: certificates.collect(),
            state: None,
            envelopes: Vec::new(),
        };
        let from = member.me();
        newcomer.engine.handle(0, Input::Repair { from, bytes: wire::encode(&answer) });
        let logged = |output: &Output| matches!(output, Output::Log(Record::Gap { .. }));
        std::iter::from_fn(|| newcomer.engine.poll()).filter(logged).count()
    };
    assert_eq!(beginning(&mut newcomer), 1);
    newcomer.engine.branches.pursued = Some(history.links[199].clone());
    assert_eq!(beginning(&mut newcomer), 0);
    assert_eq!(newcomer.engine.branches.pursued, Some(history.links[199].clone()));
}

#[test]
fn a_newcomer_verifies_from_its_checkpoint() {
    let history = History::of(LENGTH, u32::MAX);
    let member = history.member();
    for view in [3, CHECKPOINT_VIEWS, LENGTH - 50, LENGTH - 1, LENGTH] {
        let mut newcomer = Newcomer::to(&history);
        newcomer.engine.trust(history.at(view));
        newcomer.ask(&member, 1);
        assert_eq!(newcomer.engine.newest().1, history.links.last().unwrap().hash, "view {view}");
        let answers = (LENGTH - view + CHECKPOINT_VIEWS).div_ceil(REPAIR_CERTIFICATES_MAX as u32) as usize;
        assert!(newcomer.asks <= answers + 2, "view {view}: {} requests", newcomer.asks);
        let replayed = newcomer.replayed(&history).unwrap();
        assert!(replayed.skipped.iter().any(|skipped| !skipped.linked), "view {view}: the owner's word");
    }
}

/// The founders' old keys sign another history from some round on: whoever trusts a checkpoint does not follow it.
#[test]
fn another_history_than_the_checkpoints_is_not_followed() {
    let (history, forged) = (History::of(300, u32::MAX), History::of(310, 100));
    let mut newcomer = Newcomer::to(&history);
    newcomer.engine.trust(history.at(200));
    newcomer.ask(&forged.member(), 3);
    assert_eq!(newcomer.engine.round_number(), 0);
    let another =
        |(reason, _): (&&str, &u64)| reason.starts_with("another certificate of the checkpoint's view");
    assert!(newcomer.engine.dropped().iter().any(another), "{:?}", newcomer.engine.dropped());
    newcomer.ask(&history.member(), 1);
    assert_eq!(newcomer.engine.newest().1, history.links[299].hash);
}

/// A peer whose certificates begin later than the checkpoint cannot show that it leads there.
#[test]
fn a_checkpoint_that_nobody_reaches_is_said() {
    let history = History::of(200, u32::MAX);
    let mut member = history.member();
    let mut newcomer = Newcomer::to(&history);
    newcomer.engine.trust(Checkpoint { view: 5_000, statement: Hash([9; 32]) });
    newcomer.ask(&member, 1);
    assert!(newcomer.engine.dropped().is_empty(), "nobody is there yet: {:?}", newcomer.engine.dropped());
    newcomer = Newcomer::to(&history);
    newcomer.engine.trust(history.at(20));
    member.branches = {
        let mut branches = super::super::Branches::new(
            Hash::default(),
            super::super::Node { link: None, state: None, roster: Vec::new(), beacon: Hash::default() },
        );
        let state = wire::decode(&history.state, 1 << 20).unwrap();
        branches.extend(history.links[100..].to_vec(), state);
        branches
    };
    newcomer.ask(&member, 1);
    assert_eq!(newcomer.engine.round_number(), 0);
    let out_of_reach = |(reason, _): (&&str, &u64)| reason.contains("a newer checkpoint may be needed");
    assert!(newcomer.engine.dropped().iter().any(out_of_reach), "{:?}", newcomer.engine.dropped());
}
