//! Replays of logs, whole and tampered with.

mod tampered;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use judge::PeerKey;
use tasks::{Catalogue, Pack};

use super::{Difference, Replay, ReplayError, Replayed, Transcript, compare};
use crate::certificate::{beacon, read_statement, statement_hash};
use crate::engine::tests::World;
use crate::engine::{Verdict, sampling_seed};
use crate::limits::ROSTER_MAX;
use crate::log::{Reader, Record, Training, Writer};
use crate::message::{Certificate, Commit, Kind};
use crate::topic::Topic;
use crate::wire::{self, Hash};

/// The policy of the scripted peers, which training leaves as it is.
const POLICY: Hash = Hash([1; 32]);

fn catalogue() -> Catalogue {
    Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap()
}

fn replay(path: &Path, to_round: Option<u32>) -> Result<Replayed, ReplayError> {
    Replay::open(Reader::open(path).unwrap())?.run(catalogue(), to_round)
}

fn difference(path: &Path) -> Difference {
    match replay(path, None) {
        Err(ReplayError::Differs(difference)) => *difference,
        other => panic!("no difference: {other:?}"),
    }
}

/// What the peers of a world were asked to log, with a training step after every round that its peer played.
fn logged(world: &World) -> BTreeMap<PeerKey, Vec<Record>> {
    let of_peer = |(key, peer): (&PeerKey, &crate::engine::tests::Peer)| {
        let mut records = Vec::new();
        let mut seed: Option<(u32, Hash)> = None;
        for record in &peer.log {
            records.push(record.clone());
            if let Record::Opened { .. } = record {
                records.push(Record::Learner { settings: "{}".into() });
            }
            let newest = match record {
                Record::Certificate { certificate } => &certificate[..],
                Record::Gap { certificates, .. } => certificates.last().unwrap().as_ref(),
                Record::Opened { certificates, .. } if !certificates.is_empty() => {
                    certificates.last().unwrap().as_ref()
                }
                _ => continue,
            };
            let newest: Certificate = wire::decode(newest, 1 << 20).unwrap();
            if let (Some((round, seed)), Record::Certificate { .. }) = (seed.take(), record) {
                records.push(Record::Training(step(round, seed)));
            }
            let statement = read_statement(&newest.statement, ROSTER_MAX).unwrap();
            let beacon = beacon(&statement_hash(&newest.statement));
            let plays = statement.roster.contains(key);
            seed = plays.then(|| (statement.round, sampling_seed(&beacon, key)));
        }
        (*key, records)
    };
    world.peers.iter().map(of_peer).collect()
}

fn step(round: u32, seed: Hash) -> Training {
    Training {
        round,
        seed,
        before: POLICY,
        after: POLICY,
        batch: Hash([2; 32]),
        optimizer: Hash([3; 32]),
        learning_rate: 3e-4f32.to_bits(),
        numerics: "test".into(),
    }
}

/// Writes the log of a peer as its driver would.
fn write(dir: &Path, world: &World, key: &PeerKey, records: &[Record]) -> PathBuf {
    let path = dir.join(key.name());
    let (mut log, _) = Writer::open(&path, &world.identities[key], &world.manifest).unwrap();
    records.iter().for_each(|record| log.append(record).unwrap());
    log.close().unwrap();
    path
}

/// All logs of a world, replayed.
fn replayed(world: &World) -> BTreeMap<PeerKey, Replayed> {
    let dir = tempfile::tempdir().unwrap();
    let of_peer = |(key, records): (PeerKey, Vec<Record>)| {
        let path = write(dir.path(), world, &key, &records);
        let replayed = replay(&path, None).unwrap_or_else(|error| panic!("{}: {error}", key.name()));
        (key, replayed)
    };
    logged(world).into_iter().map(of_peer).collect()
}

/// Every log has the settlements that its engine reported, and those of all others.
fn assert_alike(world: &World, logs: &BTreeMap<PeerKey, Replayed>) {
    for (key, log) in logs {
        for settled in &world.peers[key].settled {
            let outcome = log.rounds.iter().find(|outcome| outcome.round == settled.round).unwrap();
            assert_eq!((outcome.statement, outcome.view), (settled.statement, settled.view));
        }
        for other in logs.values() {
            assert_eq!(compare(&log.rounds, &other.rounds), None);
        }
    }
}

#[test]
fn logs_of_all_peers_fold_to_the_settlements_of_their_engines() {
    let mut world = World::new(4, true, 4);
    world.run_to(5, 20_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    for log in logs.values() {
        assert_eq!(log.rounds.iter().map(|outcome| outcome.round).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(log.steps.len(), 5);
        assert!(log.closed && log.unsealed == 0 && log.skipped.is_empty() && log.torn.is_none());
        for (key, credit) in &log.credit {
            assert_eq!((credit.rounds, credit.answered, credit.critiqued), (5, 5, 5), "{}", key.name());
            assert_eq!((credit.missed, credit.withheld, credit.equivocations, credit.late), (0, 0, 0, 0));
            assert!(credit.prompts_rewarded > 0 && credit.consensus_wins > 0 && credit.weight_micro > 0);
            let paid: u64 = world.peers[&log.peer]
                .settled
                .iter()
                .flat_map(|s| &s.settlement.prompts)
                .flat_map(|prompt| prompt.rewards.get(key))
                .flatten()
                .map(|reward| u64::from(*reward))
                .sum();
            assert_eq!(credit.reward_permille, paid);
        }
    }
}

#[test]
fn every_log_tells_each_round_in_the_same_words() {
    let mut world = World::new(4, true, 4);
    world.lose_every = Some(7);
    world.run_to(12, 200_000);
    let dir = tempfile::tempdir().unwrap();
    let mut told: BTreeMap<u32, String> = BTreeMap::new();
    for (key, records) in logged(&world) {
        let path = write(dir.path(), &world, &key, &records);
        let mut rounds = Vec::new();
        let tell = |transcript: Transcript| -> Result<(), ReplayError> {
            let Transcript { settled, answers, scores, ballots } = transcript;
            assert_eq!(answers.keys().copied().collect::<Vec<_>>(), sorted(&settled.answered));
            let completions = answers.values().map(|of| of.completions.iter().map(Vec::len).sum::<usize>());
            assert!(completions.sum::<usize>() > 0 && !ballots.is_empty());
            let (prompts, candidates) = (&settled.settlement.prompts, &settled.candidates);
            let words = format!("{answers:?} {scores:?} {ballots:?} {prompts:?} {candidates:?}");
            assert_eq!(told.entry(settled.round).or_insert_with(|| words.clone()), &words);
            rounds.push(settled.round);
            Ok(())
        };
        let log = Replay::open(Reader::open(&path).unwrap()).unwrap().transcripts(catalogue(), tell).unwrap();
        assert_eq!(rounds, log.rounds.iter().map(|outcome| outcome.round).collect::<Vec<_>>());
    }
    assert!(told.len() >= 12);
}

fn sorted(peers: &[PeerKey]) -> Vec<PeerKey> {
    let mut peers = peers.to_vec();
    peers.sort_unstable();
    peers
}

#[test]
fn a_replay_stops_where_it_is_told() {
    let mut world = World::new(4, true, 4);
    world.run_to(4, 20_000);
    let dir = tempfile::tempdir().unwrap();
    let key = world.key(0);
    let path = write(dir.path(), &world, &key, &logged(&world)[&key]);
    let log = replay(&path, Some(2)).unwrap();
    assert_eq!(log.rounds.iter().map(|outcome| outcome.round).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((log.unsealed, log.closed), (0, false));
}

#[test]
fn open_geneses_and_text_critiques_are_folded_too() {
    let mut world = World::new(3, false, 3);
    world.run_to(3, 20_000);
    assert_alike(&world, &replayed(&world));
    let mut world = crate::engine::tests::critiques::world_with_critics();
    world.run_to(4, 20_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    assert!(logs.values().all(|log| log.credit.values().any(|credit| credit.critiques_written > 0)));
}

#[test]
fn a_peer_that_was_away_says_which_rounds_it_could_not_settle() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let victim = world.key(2);
    world.kill(victim);
    world.run_to(6, 60_000);
    world.start(victim);
    let back = world.rounds(world.key(0)) + 3;
    world.run_to(back, 60_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    let log = &logs[&victim];
    let [skipped] = log.skipped[..] else { panic!("{:?}", log.skipped) };
    assert!(skipped.linked && skipped.from == 4 && skipped.to >= 6, "{skipped:?}");
    let settled: Vec<u32> = log.rounds.iter().map(|outcome| outcome.round).collect();
    let expected: Vec<u32> = (1..4).chain(skipped.to + 1..=back).collect();
    assert_eq!(settled[..expected.len()], expected);
    let credit = &logs[&world.key(0)].credit[&victim];
    assert!(credit.missed == 1 && credit.withheld == 0, "{credit:?}");
    assert!(credit.rounds < logs[&world.key(0)].credit[&world.key(0)].rounds);
}

#[test]
fn a_lossy_network_and_a_stop_of_all_leave_logs_that_fold() {
    let mut world = World::new(4, true, 4);
    world.lose_every = Some(7);
    world.run_to(5, 200_000);
    assert_alike(&world, &replayed(&world));
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let keys: Vec<PeerKey> = world.peers.keys().copied().collect();
    keys.iter().for_each(|key| world.kill(*key));
    keys.iter().for_each(|key| world.start(*key));
    world.run_to(6, 200_000);
    assert_alike(&world, &replayed(&world));
}

#[test]
fn who_misses_a_phase_is_said_by_every_log() {
    let mut world = World::new(4, true, 4);
    world.run_to(2, 20_000);
    let slow = world.key(3);
    world.peers.get_mut(&slow).unwrap().answers = false;
    world.run_to(5, 120_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    for log in logs.values() {
        let credit = &log.credit[&slow];
        assert!(credit.missed > 0 && credit.answered < credit.rounds, "{credit:?}");
    }
}

#[test]
fn a_contradiction_is_logged_and_counted_once() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let (me, author) = (world.key(0), world.key(1));
    let round = world.rounds(me) + 1;
    while world.now < 20_000 && !world.has_said(me, author) {
        world.run(1);
    }
    for i in 0..3 {
        let commit = Commit { commitment: Hash([i; 32]), audit: None };
        let bytes = world.sign(author, Kind::Commit, round, &commit);
        let now = world.now;
        let engine = world.peers.get_mut(&me).unwrap().engine.as_mut().unwrap();
        assert_eq!(engine.receive(now, Topic::Answers, &bytes), Verdict::Ignore);
    }
    world.run_to(3, 20_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    for log in logs.values() {
        assert_eq!(log.credit[&author].equivocations, 1, "the proof is in every log, once");
        let [conviction] = log.convictions[..] else { panic!("{:?}", log.convictions) };
        assert!(conviction.peer == author && conviction.proven && conviction.round <= round + 1);
    }
}

#[test]
fn a_member_with_a_message_missing_does_not_settle_without_it() {
    let mut late = 0;
    for lose_every in [5, 6, 7, 9, 11, 13] {
        let mut world = World::new(4, true, 4);
        world.lose_every = Some(lose_every);
        world.run(15_000);
        let logs = replayed(&world);
        assert_alike(&world, &logs);
        late += logs.values().flat_map(|log| log.credit.values()).map(|credit| credit.late).sum::<u32>();
    }
    assert!(late > 0, "what was pulled came after its phase");
}

#[test]
fn a_start_from_a_state_that_the_log_does_not_hold_is_told() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let key = world.key(1);
    world.kill(key);
    let peer = world.peers.get_mut(&key).unwrap();
    peer.log.clear();
    peer.settled.clear();
    world.start(key);
    world.run_to(5, 60_000);
    let logs = replayed(&world);
    assert_alike(&world, &logs);
    assert!(logs[&key].skipped.iter().any(|skipped| !skipped.linked), "{:?}", logs[&key].skipped);
}

#[test]
fn a_log_with_an_accepted_pack_replays_with_it_and_names_it_without() {
    use crate::engine::tests::packs::{pack, speak};
    let mut world = World::new(3, true, 3);
    world.run(3_000);
    let pack = pack("rivers");
    speak(&mut world, &pack, &[(0, true), (1, true), (2, true)]);
    world.run(15_000);
    let dir = tempfile::tempdir().unwrap();
    let (key, records) = logged(&world).pop_first().unwrap();
    let path = write(dir.path(), &world, &key, &records);
    let without = replay(&path, None).map(drop);
    assert!(matches!(without, Err(ReplayError::Pack(id)) if id == pack.id()), "{without:?}");
    let mut with = catalogue();
    with.set_aside(pack);
    let replayed = Replay::open(Reader::open(&path).unwrap()).unwrap().run(with, None).unwrap();
    assert!(replayed.rounds.len() > 5, "{}", replayed.rounds.len());
}
