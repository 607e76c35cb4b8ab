//! Audits through the engines: offers, seals, disputes, planted cases, and what crosses a restart.

use std::collections::BTreeSet;

use judge::{AuditOutcome, Finding, PeerKey};

use super::*;
use crate::engine::AuditCase;
use crate::message::{Ballot, Critique};

/// Weights are the peer's key, and whoever has them knows what the scripted policy answers.
#[derive(Default)]
pub(super) struct Script {
    /// Peers that answer something else.
    fakes: BTreeSet<PeerKey>,
    /// What auditors say without looking.
    says: BTreeMap<PeerKey, Finding>,
    /// Peers that spoilt an answer on purpose, and the round.
    planted: Vec<(PeerKey, u32)>,
}

impl Script {
    /// Gives the weights that go before answers, and does audits.
    pub(super) fn perform(
        &mut self,
        key: &PeerKey,
        work: Work,
        plants: bool,
        done: &mut Input,
    ) -> Option<Input> {
        match (work, done) {
            (Work::Answer { round, .. }, Input::Answers { completions, .. }) => {
                if self.fakes.contains(key) || plants {
                    completions.iter_mut().for_each(|texts| texts[1] = "<answer>5</answer>".into());
                }
                self.planted.extend(plants.then_some((*key, round)));
                Some(Input::Weights { round, bytes: key.0.to_vec(), planted: plants })
            }
            (Work::Audit(case), Input::Audited { finding, .. }) => {
                *finding = self.says.get(key).copied().unwrap_or_else(|| look(&case));
                None
            }
            _ => None,
        }
    }
}

fn look(case: &AuditCase) -> Finding {
    let key = PeerKey(case.weights.clone().try_into().unwrap());
    assert_eq!((key, case.policy, case.numerics.as_str()), (case.peer, Hash([1; 32]), "test"));
    let items = case.answers.iter().map(|shown| shown.item.clone()).collect();
    let (round, completions, seed) = (case.round, case.completions, case.seed);
    let work = Work::Answer { round, items, completions, seed };
    let Input::Answers { completions, .. } = scripted(&key, work, |_, _| None) else { panic!() };
    let same = case.answers.iter().zip(&completions).all(|(shown, texts)| shown.texts == *texts);
    if same { Finding::Pass } else { Finding::Fail }
}

fn world(count: u8) -> World {
    let mut world = World::new(count, true, count.into());
    world.manifest.judge.audit.plant_permille = 0;
    world.audits = Some(Script::default());
    restarted(world)
}

/// The same peers with the manifest as it is now.
fn restarted(world: World) -> World {
    let World { manifest, identities, audits, .. } = world;
    World { audits, ..World::of(manifest, identities) }
}

impl World {
    fn outcomes(&self, of: PeerKey) -> Vec<(u32, AuditOutcome)> {
        let settled = self.peers[&self.key(0)].settled.iter();
        settled.filter_map(|s| Some((s.round, s.settlement.audits.get(&of)?.outcome))).collect()
    }

    fn script(&mut self) -> &mut Script {
        self.audits.as_mut().unwrap()
    }

    fn record(&self, of: PeerKey) -> judge::AuditRecord {
        let last = self.peers[&self.key(0)].settled.last().unwrap();
        last.settlement.next.audits.records.get(&of).cloned().unwrap_or_default()
    }

    fn sealed_and_opened(&self) -> (Vec<Critique>, Vec<Ballot>) {
        let (mut critiques, mut ballots) = (Vec::new(), Vec::new());
        for (_, bytes) in &self.published {
            let envelope: Envelope = wire::decode(bytes, bytes.len()).unwrap();
            let payload: Payload = wire::decode(&envelope.payload, bytes.len()).unwrap();
            match payload.kind {
                Kind::Critique => critiques.push(wire::decode(&payload.body, bytes.len()).unwrap()),
                Kind::Ballot => ballots.push(wire::decode(&payload.body, bytes.len()).unwrap()),
                _ => {}
            }
        }
        (critiques, ballots)
    }
}

#[test]
fn honest_answers_pass_and_findings_are_sealed_before_they_are_opened() {
    let mut world = world(5);
    world.run_to(6, 60_000);
    world.assert_agreement();
    for i in 0..5 {
        let outcomes = world.outcomes(world.key(i));
        assert!(
            outcomes.len() >= 3 && outcomes.iter().all(|(_, it)| *it == AuditOutcome::Passed),
            "{outcomes:?}"
        );
    }
    let (critiques, ballots) = world.sealed_and_opened();
    let sealed = critiques.iter().filter(|it| it.audits.is_some()).count();
    let opened =
        ballots.iter().filter_map(|it| it.audits.as_ref()).filter(|it| !it.findings.is_empty()).count();
    assert!(sealed > 0 && sealed.abs_diff(opened) <= 5, "{sealed} sealed, {opened} opened");
}

#[test]
fn whoever_answers_something_else_than_its_weights_loses_its_weight() {
    let mut world = world(5);
    let faker = world.key(2);
    world.script().fakes.insert(faker);
    world.run_to(4, 60_000);
    world.assert_agreement();
    assert_eq!(world.outcomes(faker)[0], (2, AuditOutcome::Failed));
    let settled = &world.peers[&world.key(0)].settled;
    assert!(settled[0].settlement.weights[&faker] > 0);
    assert_eq!(settled[1].settlement.weights[&faker], 0);
    for i in [0, 1, 3, 4] {
        let record = world.record(world.key(i));
        assert_eq!((record.failed, record.marks), (0, 0));
    }
}

#[test]
fn a_slanderer_is_overruled_by_others_who_look_at_the_same_answers() {
    let mut world = world(7);
    let slanderer = world.key(3);
    world.script().says.insert(slanderer, Finding::Fail);
    world.run_to(12, 120_000);
    assert!(world.record(slanderer).marks >= judge::MARKS_MAX);
    let all: Vec<PeerKey> = world.identities.keys().copied().collect();
    let disputed = all.iter().flat_map(|key| world.outcomes(*key));
    assert!(disputed.into_iter().any(|(_, outcome)| outcome == AuditOutcome::Disputed));
    for key in all {
        assert_eq!(world.record(key).failed, 0);
        assert!(key == slanderer || world.record(key).marks == 0);
    }
}

#[test]
fn weights_that_a_peer_keeps_to_itself_are_withheld() {
    let mut world = world(5);
    world.serves = |holder, _| *holder != Identity::from_seed([1; 32]).public();
    let miser = Identity::from_seed([1; 32]).public();
    world.run_to(6, 60_000);
    let outcomes = world.outcomes(miser);
    assert!(outcomes.iter().any(|(_, outcome)| *outcome == AuditOutcome::Withheld), "{outcomes:?}");
    assert_eq!(world.record(miser).failed, 1, "{outcomes:?}");
}

#[test]
fn planted_cases_are_opened_and_show_lazy_auditors() {
    let mut world = World::new(7, true, 7);
    world.manifest.judge.audit.plant_permille = 500;
    world.manifest.judge.audit.share_permille = 1000;
    world.audits = Some(Script::default());
    let mut world = restarted(world);
    let lazy = world.key(1);
    world.script().says.insert(lazy, Finding::Pass);
    world.run_to(20, 200_000);
    world.assert_agreement();
    assert!(!world.script().planted.is_empty());
    let all: Vec<PeerKey> = world.identities.keys().copied().collect();
    let planted = all.iter().flat_map(|key| world.outcomes(*key));
    assert!(planted.into_iter().any(|(_, outcome)| outcome == AuditOutcome::Planted));
    assert!(world.record(lazy).marks >= judge::MARKS_MAX, "{:?}", world.record(lazy));
    for key in all {
        assert_eq!(world.record(key).failed, 0, "planting is no fault");
        assert!(key == lazy || world.record(key).marks == 0);
    }
}

#[test]
fn a_peer_that_restarts_after_it_planted_is_not_at_fault() {
    let mut world = World::new(7, true, 7);
    world.manifest.judge.audit.plant_permille = 500;
    world.manifest.judge.audit.share_permille = 1000;
    world.audits = Some(Script::default());
    let mut world = restarted(world);
    let (planter, round) = loop {
        world.run(20);
        assert!(world.now < 200_000, "nobody planted");
        if let Some(planted) = world.script().planted.last() {
            break *planted;
        }
    };
    // Its answers are in, and it dies before it can open anything.
    let watcher = world.identities.keys().find(|key| **key != planter).copied().unwrap();
    while world.rounds(watcher) < round {
        world.run(10);
    }
    world.kill(planter);
    world.run(200);
    world.start(planter);
    while world.rounds(watcher) < round + 6 {
        world.run(10);
        assert!(world.now < 400_000);
    }
    let settled = &world.peers[&watcher].settled;
    let audited: Vec<_> = settled.iter().filter_map(|it| it.settlement.audits.get(&planter)).collect();
    assert!(audited.iter().all(|report| report.outcome != AuditOutcome::Failed), "{audited:?}");
}

#[test]
fn without_weights_nobody_is_audited_unless_the_swarm_insists() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let settled = &world.peers[&world.key(0)].settled;
    assert!(
        settled
            .iter()
            .all(|it| it.settlement.audits.is_empty() && it.settlement.next.audits.records.is_empty())
    );

    let mut insisting = manifest(&[], 4);
    insisting.judge.audit.required = true;
    let admit = |manifest: &Manifest, kind: Kind, body: Vec<u8>| {
        let bytes = world.sign(world.key(0), kind, 1, &());
        let envelope: Envelope = wire::decode(&bytes, bytes.len()).unwrap();
        let mut payload: Payload = wire::decode(&envelope.payload, bytes.len()).unwrap();
        payload.body = body;
        let message = crate::admission::Authentic { payload, id: Hash([0; 32]), bytes };
        crate::admission::admit(manifest, message).map(|_| ()).map_err(|refusal| refusal.reason())
    };
    let commit = |len: Option<u32>| {
        let weights = |len| crate::message::AuditOffer {
            weights: Address { hash: Hash([2; 32]), len },
            seal: Hash([3; 32]),
        };
        wire::encode(&crate::message::Commit { commitment: Hash([1; 32]), audit: len.map(weights) })
    };
    let required = Err("a commit without weights in a swarm that audits everybody");
    assert_eq!(admit(&insisting, Kind::Commit, commit(None)), required);
    assert_eq!(admit(&insisting, Kind::Commit, commit(Some(1))), Ok(()));
    let largest = insisting.judge.audit.bytes_max;
    let too_large = Err("larger weights than the manifest allows");
    assert_eq!(admit(&insisting, Kind::Commit, commit(Some(largest + 1))), too_large);
    let mut without = insisting.clone();
    without.judge.audit.share_permille = 0;
    let none = Err("a word on audits in a swarm without them");
    assert_eq!(admit(&without, Kind::Commit, commit(Some(1))), none);
    assert_eq!(admit(&without, Kind::Commit, commit(None)), Ok(()));
}
