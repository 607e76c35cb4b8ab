//! Peers that start again: with everything stored, with a stored head that cannot be read, with nothing but their key.

use super::offences::{assert_nobody_said_two_things, open};
use super::*;
use crate::engine::{StartError, StoredHead};

/// Runs until everybody holds everything that was to be said in the round in progress.
fn all_voted(world: &mut World) {
    let voted = |world: &World| {
        world.peers.values().all(|peer| {
            let round = peer.engine.as_ref().and_then(|engine| engine.round.as_ref());
            round.is_some_and(|round| world.identities.keys().all(|key| round.items.voted(key)))
        })
    };
    world.run_until(voted);
}

/// Everybody dies, with everything that was on its way, and starts again.
fn stop_and_start(world: &mut World, keys: &[PeerKey]) {
    world.peers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|key| world.kill(key));
    world.wire.clear();
    world.answers.clear();
    world.fetches.clear();
    keys.iter().for_each(|key| world.start(*key));
}

#[test]
fn a_swarm_that_stops_as_a_whole_loses_no_answers() {
    for mut world in [World::new(4, true, 4), bodies::thinkers()] {
        world.run_to(2, 20_000);
        world.run_until(|world| world.rounds(world.key(0)) == 2);
        all_voted(&mut world);
        let round = world.rounds(world.key(0)) + 1;
        let keys: Vec<PeerKey> = world.peers.keys().copied().collect();
        // What was fetched is served again, from the logs alone.
        world.stores.clear();
        stop_and_start(&mut world, &keys);
        world.run_to(round, 200_000);
        for peer in world.peers.values() {
            let settled = peer.settled.iter().find(|settled| settled.round == round).unwrap();
            assert_eq!(settled.answered.len(), 4, "round {round}");
        }
        world.run_to(round + 2, 200_000);
        world.assert_agreement();
        assert_nobody_said_two_things(&world);
    }
}

#[test]
fn a_body_that_only_the_log_has_reaches_who_lacks_it() {
    let mut world = bodies::thinkers();
    world.run_to(1, 20_000);
    let (author, other) = (world.key(0), world.key(1));
    all_voted(&mut world);
    let bodies = |world: &World, key: &PeerKey| {
        let body = |record: &&Record| matches!(record, Record::Body { .. });
        world.peers[key].log.iter().filter(body).count()
    };
    let (before, rounds) = (bodies(&world, &author), world.rounds(author) as usize + 1);
    assert_eq!(before, 16 * rounds, "each of four prompts of four peers, once");
    world.stores.remove(&author);
    world.kill(author);
    world.start(author);
    assert!(world.stores.contains_key(&author), "kept for others again");
    world.run(100);
    assert_eq!(bodies(&world, &author), before, "and logged once");
    assert!(world.rounds(other) > 0);
}

#[test]
fn a_proof_that_no_certificate_has_acted_on_outlives_a_stop_of_all() {
    let mut world = World::new(5, true, 5);
    world.run_to(2, 20_000);
    let offender = world.key(1);
    world.equivocate(offender);
    let logged =
        |record: &Record| matches!(record, Record::Message { envelope, .. } if kind(envelope) == Kind::Proof);
    world.run_until(|world| world.peers.values().any(|peer| peer.log.iter().any(logged)));
    let keepers: Vec<PeerKey> =
        world.peers.iter().filter(|(_, peer)| peer.log.iter().any(logged)).map(|(key, _)| *key).collect();
    assert!(keepers.len() == 1 && world.head_of(&keepers[0]).offenders.is_empty(), "one alone knows");
    // The offender's second commit is gone for good.
    let honest = world.honest(&offender);
    stop_and_start(&mut world, &honest);
    let round = world.rounds(honest[0]);
    for _ in 0..4 {
        if honest.iter().all(|key| world.rounds(*key) < round + 3) {
            world.run(100_000);
        }
    }
    for key in &honest {
        assert_eq!(world.head_of(key).offenders, [offender]);
        assert!(world.peers[key].log.iter().filter(|record| logged(record)).count() == 1, "logged once");
    }
}

/// What became of a stored head.
type Damage = fn(&mut StoredHead);

/// Whatever is wrong with what was stored, the peer does not start, says so, and says what to do.
#[test]
fn a_stored_head_that_cannot_be_read_is_an_error() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    let key = world.key(0);
    let good = world.peers[&key].disk.clone();
    let damages: [(&str, Damage); 6] = [
        ("no certificates", |head| head.path.clear()),
        ("a damaged certificate", |head| head.path.last_mut().unwrap()[40] ^= 1),
        ("another order", |head| head.path.reverse()),
        ("no place", |head| head.place.clear()),
        ("another state", |head| *head.state.last_mut().unwrap() ^= 1),
        ("no state", |head| head.state.clear()),
    ];
    for (what, damage) in damages {
        let mut resume = good.clone();
        damage(&mut resume.head);
        let started = Engine::new(world.setup(key, resume), world.now);
        let Err(StartError::Stored(why)) = started.map(|_| ()) else { panic!("{what}: started") };
        let told = StartError::Stored(why).to_string();
        assert!(told.contains("hint: nothing is lost, the log has them"), "{what}: {told}");
    }
    assert!(Engine::new(world.setup(key, good), world.now).is_ok());
}

/// Starts a peer that has its key and nothing else.
fn start_without_disk(world: &mut World, key: PeerKey) {
    world.kill(key);
    world.run(100);
    let peer = world.peers.get_mut(&key).unwrap();
    // As the program does: higher than any number of starts.
    peer.disk = Resume { incarnation: 1_700_000_000, ..Resume::default() };
    peer.log.clear();
    peer.settled.clear();
    world.stores.remove(&key);
    world.start(key);
}

/// What `key` said in the last messages but heartbeats.
fn said(world: &World, key: PeerKey, from: usize) -> Vec<Kind> {
    let said = world.published[from..].iter().map(|(_, bytes)| open(bytes));
    said.filter(|said| said.sender == key && said.kind != Kind::Presence).map(|said| said.kind).collect()
}

fn quiet_over(world: &World, key: PeerKey) -> bool {
    world.peers[&key].events.iter().any(|event| matches!(event, Event::QuietOver { .. }))
}

#[test]
fn a_key_without_its_disk_is_quiet_until_it_cannot_contradict_itself() {
    for after_ms in (0..1_000).step_by(83) {
        let mut world = World::new(4, true, 4);
        world.run_to(4, 20_000);
        world.run(after_ms);
        let key = world.key(after_ms as usize % 4);
        start_without_disk(&mut world, key);
        let from = world.published.len();
        world.run_until(|world| quiet_over(world, key));
        let told = said(&world, key, from);
        assert!(told.is_empty(), "after {after_ms} ms: {told:?}");
        let view = world.peers[&key].events.iter().find_map(|event| match event {
            Event::Quiet { view } => Some(*view),
            _ => None,
        });
        assert!(view.is_some_and(|view| view < world.peers[&key].engine.as_ref().unwrap().final_view()));
        let round = world.rounds(world.key(0)) + 4;
        world.run_to(round, 120_000);
        let last = world.peers[&key].settled.last().unwrap();
        assert!(last.answered.contains(&key), "it takes part again");
        assert_nobody_said_two_things(&world);
        world.assert_agreement();
    }
}

#[test]
fn who_starts_for_the_first_time_is_not_quiet() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 60_000);
    let newcomer = Identity::from_seed([50; 32]);
    let key = newcomer.public();
    world.identities.insert(key, newcomer);
    world.start(key);
    world.run_until(|world| world.rounds(key) > 3);
    let quiet = |event: &Event| matches!(event, Event::Quiet { .. });
    assert!(!world.peers.values().any(|peer| peer.events.iter().any(quiet)));
}

/// One dishonest peer that claims to wait for views far ahead keeps nobody quiet for ever.
#[test]
fn a_far_view_that_one_peer_names_keeps_nobody_quiet() {
    // A quorum of five is there without the two.
    let mut world = World::new(7, true, 7);
    world.run_to(4, 20_000);
    let (liar, key) = (world.key(0), world.key(3));
    start_without_disk(&mut world, key);
    let now = world.now;
    let engine = world.peers.get_mut(&liar).unwrap().engine.as_mut().unwrap();
    engine.agreement.voids = 1_000_000;
    engine.handle(now, Input::Tick);
    engine.publish_presence();
    world.drain(liar);
    world.run_until(|world| quiet_over(world, key));
}
