//! Completions that are too long for a message.

use super::*;
use crate::admission::{self, Body, Refusal};
use crate::limits::{COMPLETIONS_MAX, INLINE_BYTES_MAX, PROMPTS_MAX, PROTOCOL, REVEAL_OVERHEAD_BYTES};
use crate::merkle;
use crate::message::{
    BodyRef, Commit, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Reveal, answers_leaf, commitment,
};
use crate::wire::{self, Sig};

/// Four peers that think aloud for six kilobytes before each of four answers.
fn thinkers() -> World {
    let mut world = World::new(0, false, 4);
    world.identities = World::new(4, true, 4).identities;
    let keys: Vec<PeerKey> = world.identities.keys().copied().collect();
    world.manifest = manifest(&keys, 4);
    world.manifest.round.completion_bytes_max = 8_192;
    world.thinks_bytes = 6_000;
    keys.into_iter().for_each(|key| world.start(key));
    world
}

fn run_until(world: &mut World, done: impl Fn(&World) -> bool) {
    while !done(world) {
        assert!(world.now < 20_000, "waited in vain");
        world.run(1);
    }
}

fn reveals(world: &World) -> Vec<(Reveal, usize)> {
    let swarm = world.manifest.id();
    let admitted = world.published.iter().map(|(topic, bytes)| {
        let message = admission::authenticate(&swarm, Some(*topic), bytes);
        message.and_then(|message| admission::admit(&world.manifest, message)).unwrap()
    });
    admitted
        .filter_map(|message| match message.body {
            Body::Reveal(reveal) => Some((reveal, message.bytes.len())),
            _ => None,
        })
        .collect()
}

#[test]
fn answers_above_the_inline_limit_settle_alike() {
    let mut world = thinkers();
    world.run_to(5, 30_000);
    world.assert_agreement();
    for peer in world.peers.values() {
        assert!(peer.settled.iter().all(|settled| settled.answered.len() == 4));
        let rewards = &peer.settled[0].settlement.prompts[0].rewards;
        assert!(rewards.values().flatten().any(|reward| *reward == 1000), "{rewards:?}");
        assert!(!peer.events.iter().any(|event| matches!(event, Event::Spoilt { .. })));
    }
    let reveals = reveals(&world);
    assert!(reveals.len() >= 5 * 4 * 4);
    for (reveal, bytes) in &reveals {
        assert!(reveal.body.unwrap().blob.len as usize > INLINE_BYTES_MAX && reveal.completions.is_empty());
        assert!(*bytes < 1_000, "{bytes} bytes of gossip");
    }
    assert!(world.now < 5 * (2 * WORK_MS + 200), "nothing waits for a deadline: {} ms", world.now);
}

#[test]
fn short_answers_stay_in_their_reveals() {
    let mut world = World::new(4, true, 4);
    world.run_to(2, 20_000);
    assert!(reveals(&world).iter().all(|(reveal, _)| reveal.body.is_none()));
    assert!(world.served.is_empty());
}

#[test]
fn whoever_has_a_body_serves_it() {
    let mut world = thinkers();
    // Authors give their bodies to the peer before them only; everybody else must look further.
    world.serves = |holder, asker| {
        let mut order: Vec<PeerKey> = (1..=4).map(|i| Identity::from_seed([i; 32]).public()).collect();
        order.sort();
        let at = |peer: &PeerKey| order.binary_search(peer).unwrap();
        (at(holder) + 4 - at(asker)) % 4 == 1
    };
    world.run_to(4, 60_000);
    world.assert_agreement();
    let settled = world.peers[&world.key(0)].settled.last().unwrap();
    assert_eq!(settled.answered.len(), 4, "bodies went all the way round");
    let serves = world.serves;
    assert!(world.served.iter().all(|(holder, asker)| serves(holder, asker)));
}

#[test]
fn lost_messages_and_bodies_are_pulled() {
    let mut world = thinkers();
    world.lose_every = Some(11);
    world.run_to(6, 200_000);
    world.assert_agreement();
}

#[test]
fn bodies_that_nobody_gives_cost_one_deadline() {
    let mut world = thinkers();
    world.serves = |holder, _| *holder != Identity::from_seed([4; 32]).public();
    let selfish = Identity::from_seed([4; 32]).public();
    world.run_to(3, 60_000);
    world.assert_agreement();
    let other = world.key(usize::from(world.key(0) == selfish));
    let settled = &world.peers[&other].settled;
    assert!(settled.iter().all(|settled| !settled.answered.contains(&selfish)));
    let missed = |event: &&Event| matches!(event, Event::PhaseClosed { phase: PhaseName::Reveal, missing, .. } if missing.contains(&selfish));
    assert!(world.peers[&other].events.iter().filter(missed).count() >= 1);
}

/// A peer commits to honest leaves and names bodies that hold something else.
#[test]
fn a_body_that_is_not_what_was_committed_to_is_its_authors_fault() {
    for (wrong, expected) in [
        (wire::encode(&vec!["x".repeat(8_000); 4]), "a body with other texts than were committed to"),
        (vec![0xc1; 20_000], "a body that is no list of texts"),
        (wire::encode(&vec!["x".repeat(8_193); 3]), "a longer completion than the manifest allows"),
        (wire::encode(&vec!["x".repeat(4_000); 5]), "more completions than the manifest allows"),
    ] {
        let mut world = thinkers();
        let liar = world.key(1);
        world.peers.get_mut(&liar).unwrap().answers = false;
        let begun =
            |world: &World| world.peers.values().all(|p| p.engine.as_ref().unwrap().round_number() == 1);
        run_until(&mut world, begun);
        lie(&mut world, liar, &wrong);
        world.run_to(2, 60_000);
        world.assert_agreement();
        for (key, peer) in world.peers.iter().filter(|(key, _)| **key != liar) {
            let spoilt: Vec<_> =
                peer.events.iter().filter(|event| matches!(event, Event::Spoilt { .. })).collect();
            let named =
                matches!(spoilt[..], [Event::Spoilt { peer, why, .. }] if *peer == liar && *why == expected);
            assert!(named, "once, by name: {spoilt:?} at {key}");
            assert!(!peer.settled[0].answered.contains(&liar));
            assert!(peer.engine.as_ref().unwrap().dropped().contains_key(expected));
        }
    }
}

#[test]
fn naming_another_peers_body_harms_only_oneself() {
    let mut world = thinkers();
    let (liar, honest) = (world.key(1), world.key(2));
    world.peers.get_mut(&liar).unwrap().answers = false;
    run_until(&mut world, |world| world.published.iter().any(|(topic, _)| *topic == Topic::Answers));
    let text = scripted_body(&world, honest);
    lie(&mut world, liar, &text);
    world.stores.remove(&liar);
    world.run_to(2, 60_000);
    world.assert_agreement();
    let blob = Address::of(&text).unwrap();
    let named =
        reveals(&world).into_iter().filter(|(reveal, _)| reveal.body.is_some_and(|body| body.blob == blob));
    assert_eq!(named.count(), 4 + 1, "by the liar for each prompt, and by its author");
    let settled = &world.peers[&world.key(0)].settled[0];
    assert!(settled.answered.contains(&honest) && !settled.answered.contains(&liar));
    let spoilt = |event: &Event| matches!(event, Event::Spoilt { peer, .. } if *peer == liar);
    assert!(world.peers[&world.key(0)].events.iter().any(spoilt));
}

/// The body that `peer` will reveal for the first prompt of round 1.
fn scripted_body(world: &World, peer: PeerKey) -> Vec<u8> {
    let mut other = thinkers();
    run_until(&mut other, |other| other.stores.contains_key(&peer));
    assert_eq!(other.manifest, world.manifest);
    let reveals = reveals(&other).into_iter().map(|(reveal, _)| reveal.body.unwrap().blob);
    let own = reveals.filter_map(|blob| other.stores[&peer].get(&blob)).next().unwrap();
    own.bytes().to_vec()
}

fn lie(world: &mut World, liar: PeerKey, wrong: &[u8]) {
    let swarm = world.manifest.id();
    let truth: Vec<Vec<String>> = vec![vec!["y".repeat(5_000); 4]; 4];
    let leaves: Vec<Hash> =
        truth.iter().enumerate().map(|(i, texts)| answers_leaf(i as u16, texts)).collect();
    let (nonce, policy, root) = (Hash([1; 32]), Hash([2; 32]), merkle::root(&leaves));
    let commitment = commitment(&swarm, 1, &liar, &nonce, &root, &policy, "test");
    let blob = Blob::new(wrong.to_vec()).unwrap();
    let engine = world.peers.get_mut(&liar).unwrap().engine.as_mut().unwrap();
    engine.publish(Kind::Commit, &Commit { commitment, audit: None });
    for (prompt, leaf) in leaves.iter().enumerate() {
        let reveal = Reveal {
            prompt: prompt as u16,
            nonce,
            policy,
            numerics: "test".into(),
            completions: Vec::new(),
            proof: merkle::proof(&leaves, prompt),
            body: Some(BodyRef { blob: blob.address(), leaf: *leaf }),
        };
        engine.publish(Kind::Reveal, &reveal);
    }
    world.stores.entry(liar).or_insert_with(|| Store::new(1 << 24)).keep(1, blob);
    world.drain(liar);
}

#[test]
fn a_caller_that_hands_over_other_bytes_is_not_believed() {
    let mut world = thinkers();
    world.serves = |_, _| false;
    let key = world.key(0);
    run_until(&mut world, |world| !world.fetches.is_empty());
    let blob = world.fetches.iter().find(|(asker, ..)| *asker == key).unwrap().1;
    world.input(key, Input::Fetched { blob, bytes: vec![7; blob.len as usize] });
    let engine = world.peers[&key].engine.as_ref().unwrap();
    assert_eq!(engine.dropped().get("a fetched body with another hash than was asked for"), Some(&1));
    world.serves = |_, _| true;
    world.run_to(1, 60_000);
    world.assert_agreement();
    world.input(key, Input::Fetched { blob, bytes: Vec::new() });
    let engine = world.peers[&key].engine.as_ref().unwrap();
    assert!(engine.dropped().contains_key("a body that nobody waits for any more"));
}

fn reveal(completions: Vec<String>, body: Option<BodyRef>) -> Reveal {
    let proof = vec![Hash([9; 32]); 8];
    let numerics = "n".repeat(32);
    Reveal { prompt: PROMPTS_MAX - 1, nonce: proof[0], policy: proof[0], numerics, completions, proof, body }
}

/// What receivers say of a signed reveal, or its bytes on the wire.
fn verdict(world: &World, reveal: &Reveal) -> Result<usize, Refusal> {
    let identity = &world.identities[&world.key(0)];
    let swarm = world.manifest.id();
    let payload = wire::encode(&Payload {
        version: PROTOCOL,
        swarm: Hash(swarm.0),
        kind: Kind::Reveal,
        round: u32::MAX,
        start: Hash::default(),
        sender: identity.public(),
        sequence: u32::MAX,
        body: wire::encode(reveal),
    });
    let signature = Sig(identity.sign(ENVELOPE_DOMAIN, &payload));
    let bytes = wire::encode(&Envelope { payload, signature });
    let message = admission::authenticate(&swarm, Some(Topic::Answers), &bytes)?;
    admission::admit(&world.manifest, message).map(|message| message.bytes.len())
}

#[test]
fn declared_lengths_are_judged_from_the_bytes_alone() {
    let mut world = World::new(4, true, 4);
    world.manifest.round.prompts = PROMPTS_MAX;
    world.manifest.round.completion_bytes_max = 8_192;
    let max = world.manifest.body_bytes_max();
    assert_eq!(max, 5 + 4 * (5 + 8_192));
    let body = |len: usize| {
        let leaf = Hash([3; 32]);
        Some(BodyRef { blob: Address { hash: leaf, len: len as u32 }, leaf })
    };
    for len in [INLINE_BYTES_MAX + 1, max] {
        let bytes = verdict(&world, &reveal(Vec::new(), body(len)));
        assert!(bytes.is_ok_and(|bytes| bytes < 1_000), "{bytes:?}");
    }
    let short = "short enough for the reveal itself";
    for (reveal, why) in [
        (reveal(Vec::new(), body(max + 1)), short),
        (reveal(Vec::new(), body(u32::MAX as usize)), short),
        (reveal(Vec::new(), body(INLINE_BYTES_MAX)), short),
        (reveal(Vec::new(), body(0)), short),
        (reveal(vec!["x".into()], body(max)), "both completions and a body"),
    ] {
        let refused = verdict(&world, &reveal);
        assert!(matches!(refused, Err(Refusal::Reject(reason)) if reason.contains(why)), "{refused:?}");
    }
    let large = reveal(vec!["x".repeat(8_192); 3], None);
    let refused = verdict(&world, &large);
    assert!(
        matches!(refused, Err(Refusal::Reject(reason)) if reason.contains("belong in a body")),
        "{refused:?}"
    );
}

#[test]
fn the_longest_inline_completions_fit_their_message() {
    let mut world = World::new(4, true, 4);
    world.manifest.round.prompts = PROMPTS_MAX;
    world.manifest.round.completions = COMPLETIONS_MAX;
    let each = (INLINE_BYTES_MAX - 5) / usize::from(COMPLETIONS_MAX) - 3;
    world.manifest.round.completion_bytes_max = each as u16;
    let texts = vec!["x".repeat(each); usize::from(COMPLETIONS_MAX)];
    let (inline, body) = super::super::bodies::detach(0, texts);
    assert!(body.is_none());
    let bytes = verdict(&world, &reveal(inline, None)).unwrap();
    assert!(bytes > INLINE_BYTES_MAX && bytes < INLINE_BYTES_MAX + REVEAL_OVERHEAD_BYTES, "{bytes}");
}
