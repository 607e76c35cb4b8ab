//! Followers of real engines' certificates.

use judge::PeerKey;

use super::*;
use crate::engine::tests::World;

const SOON_MS: u64 = 600_000;

/// Asks one peer until it has no more.
fn follow(follower: &mut Follower, world: &World, peer: &PeerKey) -> Result<(), FollowError> {
    let engine = world.peers[peer].engine.as_ref().unwrap();
    for _ in 0..100 {
        if !follower.take(&engine.serve(&follower.request()).unwrap())? {
            return Ok(());
        }
    }
    panic!("no end");
}

fn world(rounds: u32) -> (World, PeerKey) {
    let mut world = World::new(4, true, 4);
    world.run_to(rounds, SOON_MS);
    let peer = *world.peers.keys().next().unwrap();
    (world, peer)
}

#[test]
fn it_knows_what_peers_know_and_everything_passed_on_the_way() {
    let (mut world, peer) = world(4);
    let mut follower = Follower::new(world.manifest.clone(), None);
    assert!(follower.newest().is_none() && follower.state().is_none());
    follow(&mut follower, &world, &peer).unwrap();
    let round = follower.newest().unwrap().round;
    assert!(round >= 5, "{round}");
    assert_eq!(follower.passed.len(), round as usize);
    let settled = world.peers[&peer].settled.last().unwrap();
    assert_eq!(follower.state(), Some(&settled.settlement.next));
    let statement = settled.statement;
    assert_eq!(follower.newest.as_ref().unwrap().hash, statement);
    world.run_to(6, SOON_MS);
    follow(&mut follower, &world, &peer).unwrap();
    assert!(follower.newest().unwrap().round > round);
    assert!(follower.items(&statement).is_some(), "what is older is remembered");
}

#[test]
fn a_chain_longer_than_one_answer_is_followed_to_its_end() {
    let (world, peer) = world(140);
    let mut follower = Follower::new(world.manifest.clone(), None);
    follow(&mut follower, &world, &peer).unwrap();
    assert_eq!(follower.passed.len(), follower.newest().unwrap().round as usize);
    assert!(follower.state().is_some() && follower.links.len() < 10);
}

#[test]
fn from_a_checkpoint_it_believes_nothing_else() {
    let (world, peer) = world(50);
    let settled = &world.peers[&peer].settled[45];
    let checkpoint = Checkpoint { view: settled.view, statement: settled.statement };
    let mut follower = Follower::new(world.manifest.clone(), Some(checkpoint));
    follow(&mut follower, &world, &peer).unwrap();
    assert!(follower.newest().unwrap().round > 45 && follower.passed.len() < 50);
    let other = Checkpoint { statement: Hash([7; 32]), ..checkpoint };
    let mut follower = Follower::new(world.manifest.clone(), Some(other));
    assert_eq!(follow(&mut follower, &world, &peer), Err(FollowError::Checkpoint));
    assert!(follower.newest().is_none());
}

#[test]
fn nothing_is_believed_that_does_not_verify() {
    let (world, peer) = world(3);
    let engine = world.peers[&peer].engine.as_ref().unwrap();
    let fresh = || Follower::new(world.manifest.clone(), None);
    let good = engine.serve(&fresh().request()).unwrap();
    let answer: RepairAnswer = wire::decode(&good, good.len()).unwrap();
    let take = |change: &dyn Fn(&mut RepairAnswer)| {
        let mut answer = answer.clone();
        change(&mut answer);
        let mut follower = fresh();
        (follower.take(&wire::encode(&answer)), follower.newest().is_some(), follower.state().is_some())
    };
    assert_eq!(take(&|_| {}), (Ok(false), true, true));
    assert_eq!(take(&|answer| answer.state = None), (Ok(true), true, false));
    assert_eq!(
        take(&|answer| drop(answer.certificates.remove(0))),
        (Err(FollowError::Unknown), false, false)
    );
    assert_eq!(
        take(&|answer| answer.certificates[0] = vec![1].into()),
        (Err(FollowError::Certificate), false, false)
    );
    let forged = |answer: &mut RepairAnswer| {
        let last = answer.certificates.last_mut().unwrap();
        let mut certificate: crate::message::Certificate = wire::decode(last, last.len()).unwrap();
        certificate.signatures.truncate(1);
        *last = wire::encode(&certificate).into();
    };
    assert_eq!(take(&forged), (Err(FollowError::Certificate), true, false));
    let lie = |answer: &mut RepairAnswer| answer.state.as_mut().unwrap()[9] ^= 1;
    assert_eq!(take(&lie), (Err(FollowError::State), true, false));
    assert_eq!(fresh().take(b"rubbish"), Err(FollowError::Malformed));
    let mut another = world.manifest.clone();
    another.seed = "another".into();
    assert!(Follower::new(another, None).take(&good).is_err());
}
