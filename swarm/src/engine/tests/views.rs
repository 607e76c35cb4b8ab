//! Deadlines that differ from peer to peer, and views that a quorum enters together.

use super::*;

fn engine(world: &World, i: usize) -> &Engine {
    world.peers[&world.key(i)].engine.as_ref().unwrap()
}

fn closed(world: &World, i: usize, wanted: PhaseName) -> Vec<(u32, u64)> {
    let closed = world.peers[&world.key(i)].events.iter().filter_map(|event| match event {
        Event::PhaseClosed { round, phase, took_ms, .. } if *phase == wanted => Some((*round, *took_ms)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn views_do_not_run_apart_while_nobody_hears_anybody() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    world.lost = Box::new(|_, _, _| true);
    world.run(300_000);
    for i in 0..4 {
        let engine = engine(&world, i);
        assert!(engine.view() <= engine.newest().0 + 2, "a quorum gives views up, not one peer");
        assert_eq!(engine.wanted_view(), engine.view() + 1);
    }
    world.lost = Box::new(|_, _, _| false);
    let before = world.now;
    world.run_to(5, 20_000);
    world.assert_agreement();
    assert!(world.now - before < 10_000, "{} ms", world.now - before);
}

#[test]
fn who_never_answers_does_not_hold_up_every_round_anew() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let silent = world.key(3);
    world.peers.get_mut(&silent).unwrap().answers = false;
    world.run_to(5, 120_000);
    let rules = &world.manifest.round;
    for (round, took_ms) in closed(&world, 0, PhaseName::Answer).into_iter().skip(1) {
        assert!(took_ms <= 8 * WORK_MS.max(rules.work_floor_ms.into()), "{took_ms} ms in round {round}");
    }
}

#[test]
fn who_waits_longer_follows_those_who_went_on() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let (deaf, unheard) = (world.key(2), world.key(3));
    world.lost = Box::new(move |from, to, kind| {
        *to == deaf && (kind.is_none() || *from == unheard && kind != Some(Kind::Presence))
    });
    // Nothing was learned yet: alone, it would wait for a minute.
    world.peers.get_mut(&deaf).unwrap().engine.as_mut().unwrap().durations.clear();
    world.run(5_000);
    let waits: Vec<_> = closed(&world, 2, PhaseName::Answer).into_iter().skip(1).collect();
    let (_, took_ms) = waits[0];
    assert!(took_ms > WORK_MS && took_ms < 4_000, "{waits:?}");
    assert!(closed(&world, 2, PhaseName::Vote).len() > 1, "and is in time for the rest of the round");
}

#[test]
fn a_swarm_that_cannot_go_on_says_who_is_lacking_and_who_left() {
    let mut world = World::new(3, true, 3);
    world.run_to(3, 20_000);
    let [left, dead] = [1, 2].map(|i| world.key(i));
    assert!(engine(&world, 0).status(world.now).lacks.is_empty());
    world.input(left, Input::Leave { reason: "ctrl-c".into() });
    world.kill(left);
    world.kill(dead);
    world.run(240_000);
    let status = engine(&world, 0).status(world.now);
    assert_eq!(status.phase, PhaseName::Settle, "{status:?}");
    assert_eq!(status.lacks, [(left, Some("ctrl-c".to_owned())), (dead, None)].into());
    // Back again, they agree.
    world.start(left);
    world.start(dead);
    world.run(60_000);
    assert!(engine(&world, 0).status(world.now).lacks.is_empty());
}

#[test]
fn a_void_view_says_whose_signatures_did_not_come() {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 20_000);
    world.lost = Box::new(|_, _, kind| kind == Some(Kind::Signature));
    world.run(60_000);
    let me = world.key(0);
    let void = world.peers[&me].events.iter().find_map(|event| match event {
        Event::ViewVoid { unsigned, .. } => Some(unsigned.clone().unwrap()),
        _ => None,
    });
    assert_eq!(void.unwrap(), [1, 2, 3].map(|i| world.key(i)), "its own is here");
}

#[test]
fn nobody_insists_on_a_member_that_nobody_waited_for() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let [here, silent] = [1, 3].map(|i| world.key(i));
    world.peers.get_mut(&silent).unwrap().answers = false;
    let answered = |world: &World| engine(world, 0).round.as_ref().unwrap().items.committed(&silent);
    while engine(&world, 0).status(world.now).phase != PhaseName::Critique || answered(&world) {
        world.run(1);
    }
    let (now, me) = (world.now, world.key(0));
    let engine = world.peers.get_mut(&me).unwrap().engine.as_mut().unwrap();
    // As if it had not been heard when the round began; now it is.
    engine.round.as_mut().unwrap().missed.clear();
    let mut statement = engine.head().link.as_ref().unwrap().statement.clone();
    assert_eq!(statement.roster.len(), 4);
    statement.roster.retain(|peer| *peer != silent);
    assert!(engine.is_fair(now, &statement));
    statement.roster.retain(|peer| *peer != here);
    assert!(!engine.is_fair(now, &statement), "who answered stays");
}
