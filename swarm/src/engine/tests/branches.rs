//! Certificates that some peers see and others do not.

use super::*;
use crate::limits::DEGRADED_AFTER_MS;

/// Seconds within which a swarm of four recovers from anything here.
const RECOVERED_MS: u64 = 60_000;

fn finals(world: &World, key: PeerKey) -> Vec<(u32, Hash)> {
    let finals = world.peers[&key].events.iter().filter_map(|event| match event {
        Event::Final { view, statement, .. } => Some((*view, *statement)),
        _ => None,
    });
    finals.collect()
}

fn switches(world: &World, key: PeerKey) -> usize {
    let switched = |event: &&Event| matches!(event, Event::Switched { .. });
    world.peers[&key].events.iter().filter(switched).count()
}

/// Lets one peer alone see the certificate of the round in progress, and cuts it off.
fn hide_a_certificate(world: &mut World) -> PeerKey {
    let hider = world.key(0);
    let before = world.peers[&hider].engine.as_ref().unwrap().status(world.now).view;
    world.lost = Box::new(move |from, to, kind| {
        *from == hider && kind != Some(Kind::Signature) && kind != Some(Kind::Proposal)
            || *to != hider && kind == Some(Kind::Signature)
    });
    let end = world.now + RECOVERED_MS;
    while world.peers[&hider].engine.as_ref().unwrap().status(world.now).view == before {
        assert!(world.now < end, "no certificate to hide");
        // Everything but proposals and certificates of this peer still arrives until it votes.
        world.run(1);
    }
    world.lost = Box::new(move |from, to, _| *from == hider || *to == hider);
    hider
}

#[test]
fn a_certificate_is_final_once_the_next_view_builds_on_it() {
    let mut world = World::new(4, true, 4);
    world.run_to(5, 20_000);
    let finals = finals(&world, world.key(0));
    assert!(finals.len() >= 4, "{finals:?}");
    let status = world.peers[&world.key(0)].engine.as_ref().unwrap().status(world.now);
    assert_eq!(status.final_view + 1, status.view, "one behind the newest");
    assert_eq!(switches(&world, world.key(0)), 0);
}

#[test]
fn a_hidden_certificate_is_overtaken_and_its_holder_changes_branch() {
    let mut world = World::new(4, true, 3);
    world.run_to(3, 20_000);
    // What the hider says of its round still arrives, so the others wait for nobody.
    let hider = hide_a_certificate(&mut world);
    let view = |world: &World, i| world.peers[&world.key(i)].engine.as_ref().unwrap().status(world.now).view;
    assert!(view(&world, 0) > view(&world, 1), "only the hider has it");
    let hidden = view(&world, 0);
    let others = world.rounds(world.key(1)) + 4;
    let end = world.now + RECOVERED_MS;
    while world.rounds(world.key(1)) < others {
        assert!(
            world.now < end,
            "{:#?}",
            world.peers[&world.key(1)].engine.as_ref().unwrap().status(world.now)
        );
        world.run(10);
    }
    assert_eq!(view(&world, 0), hidden, "cut off");
    world.lost = Box::new(|_, _, _| false);
    world.run_to(others + 3, RECOVERED_MS);
    assert_eq!(switches(&world, hider), 1);
    let theirs = finals(&world, world.key(1));
    for found in finals(&world, hider).iter().filter(|(view, _)| *view >= theirs[0].0) {
        assert!(theirs.contains(found), "nothing final was overtaken: {found:?}");
    }
}

#[test]
fn an_available_swarm_goes_on_without_a_quorum_and_a_crowd_cannot_take_it_over() {
    let founders: BTreeMap<PeerKey, Identity> =
        (1..=4).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
    let keys: Vec<PeerKey> = founders.keys().copied().collect();
    let strict = manifest(&keys, 3);
    let mut world = World::of(Manifest { available: true, ..strict.clone() }, founders.clone());
    let mut waiting = World::of(strict, founders);
    for world in [&mut world, &mut waiting] {
        world.run_to(3, 20_000);
        world.kill(keys[0]);
        world.kill(keys[1]);
    }
    let degraded = |world: &World, key: PeerKey| {
        let events = world.peers[&key].events.iter();
        events.filter(|event| matches!(event, Event::Certified { degraded: true, .. })).count()
    };
    let round = waiting.rounds(keys[2]);
    waiting.run(2 * DEGRADED_AFTER_MS);
    assert_eq!((waiting.rounds(keys[2]), degraded(&waiting, keys[2])), (round, 0), "a strict swarm waits");

    // Ten strangers join the two that are left; what is final stays with the founders.
    for i in 10..20 {
        let identity = Identity::from_seed([i; 32]);
        world.identities.insert(identity.public(), identity.clone());
        world.start(identity.public());
    }
    let round = world.rounds(keys[2]);
    let final_view = world.peers[&keys[2]].engine.as_ref().unwrap().final_view();
    world.run(5 * DEGRADED_AFTER_MS);
    assert!(world.rounds(keys[2]) > round && degraded(&world, keys[2]) > 1, "two of four go on");
    let engine = world.peers[&keys[2]].engine.as_ref().unwrap();
    assert_eq!(engine.final_view(), final_view, "nothing becomes final without a quorum");
    assert!(engine.status(world.now).roster.len() > 4, "strangers play");

    world.start(keys[0]);
    let end = world.now + 2 * RECOVERED_MS;
    while world.peers[&keys[2]].engine.as_ref().unwrap().final_view() <= final_view {
        assert!(world.now < end, "{:#?}", world.peers[&keys[2]].engine.as_ref().unwrap().status(world.now));
        world.run(100);
    }
    world.assert_agreement();
}
