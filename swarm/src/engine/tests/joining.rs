//! Who gets into a roster.

use super::*;
use crate::membership::{Joining, Membership};

const WHILE_MS: u64 = 20_000;

/// Four founders under a rule, and a fifth peer that comes later.
fn fifth(
    rule: Joining,
    peers: Vec<String>,
    ticket: impl Fn(&World, PeerKey) -> Option<Ticket>,
) -> (World, PeerKey) {
    let founders: BTreeMap<PeerKey, Identity> =
        (1..=4).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
    let keys: Vec<PeerKey> = founders.keys().copied().collect();
    let membership = Membership { rule, peers };
    let mut world = World::of(Manifest { membership, ..manifest(&keys, 4) }, founders);
    world.run_to(2, WHILE_MS);
    let newcomer = newcomer();
    let key = newcomer.public();
    world.identities.insert(key, newcomer);
    if let Some(ticket) = ticket(&world, key) {
        world.tickets.insert(key, ticket);
    }
    world.start(key);
    world.run(WHILE_MS);
    (world, key)
}

fn newcomer() -> Identity {
    Identity::from_seed([50; 32])
}

fn plays(world: &World, key: PeerKey) -> bool {
    let founder = world.identities.keys().find(|other| **other != key).unwrap();
    let last = world.peers[founder].settled.last().unwrap();
    last.answered.contains(&key)
}

#[test]
fn rules_say_who_joins() {
    let none = |_: &World, _| None;
    let by = |inviter: u8, until_round| {
        move |world: &World, guest| {
            let swarm = world.manifest.id();
            Some(Ticket::sign(&Identity::from_seed([inviter; 32]), &swarm, guest, until_round))
        }
    };
    let named = || vec![newcomer().public().hex()];
    for (what, (world, key), expected) in [
        ("everybody", fifth(Joining::Open, Vec::new(), none), true),
        ("not on the list", fifth(Joining::Listed, Vec::new(), none), false),
        ("on the list", fifth(Joining::Listed, named(), none), true),
        ("without a ticket", fifth(Joining::Invited, Vec::new(), none), false),
        ("invited by a member", fifth(Joining::Invited, Vec::new(), by(2, 0)), true),
        ("invited by a stranger", fifth(Joining::Invited, Vec::new(), by(60, 0)), false),
        ("an invitation that ran out", fifth(Joining::Invited, Vec::new(), by(2, 1)), false),
        ("a ticket where a list counts", fifth(Joining::Listed, Vec::new(), by(2, 0)), false),
    ] {
        assert_eq!(plays(&world, key), expected, "{what}");
    }
}

#[test]
fn a_ticket_of_somebody_else_is_rejected() {
    let (mut world, key) = fifth(Joining::Invited, Vec::new(), |world, _| {
        Some(Ticket::sign(&Identity::from_seed([2; 32]), &world.manifest.id(), PeerKey([9; 32]), 0))
    });
    assert!(!plays(&world, key));
    // World::run asserts that honest bytes are not rejected; this peer's are, so it says nothing admissible.
    let engine = world.peers.get_mut(&key).unwrap().engine.as_mut().unwrap();
    assert!(engine.dropped().contains_key("own message beyond the manifest's bounds"));
}

#[test]
fn rules_that_let_nobody_in_or_lists_that_nothing_reads_are_refused() {
    let strict = |rule, peers| Manifest { membership: Membership { rule, peers }, ..manifest(&[], 3) };
    let key = || vec![newcomer().public().hex()];
    for (rule, peers, valid) in [
        (Joining::Open, Vec::new(), true),
        (Joining::Open, key(), false),
        (Joining::Listed, Vec::new(), false),
        (Joining::Listed, key(), true),
        (Joining::Invited, Vec::new(), false),
        (Joining::Invited, vec!["12".into()], false),
        (Joining::Invited, [key(), key()].concat(), false),
    ] {
        assert_eq!(strict(rule, peers.clone()).validate().is_ok(), valid, "{rule:?} {peers:?}");
    }
}
