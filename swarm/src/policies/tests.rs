//! Offers of policies that real engines' certificates cover.

use super::*;
use crate::engine::tests::World;
use crate::follow::Follower;

/// Four peers after a few rounds, the newest certificate's items, and an offer of the first peer's policy.
fn offered() -> (World, Hash, PeerKey, Offer) {
    let mut world = World::new(4, true, 4);
    world.run_to(3, 60_000);
    let peer = *world.peers.keys().next().unwrap();
    let engine = world.peers[&peer].engine.as_ref().unwrap();
    let mut follower = Follower::new(world.manifest.clone(), None);
    while follower.take(&engine.serve(&follower.request()).unwrap()).unwrap() {}
    let evidence = engine.policy_evidence(&peer).unwrap();
    let items = follower.items(&evidence.statement).unwrap();
    let reveal = admission::authenticate(&engine.swarm(), None, &evidence.reveal)
        .and_then(|message| admission::admit(&world.manifest, message))
        .unwrap();
    let Body::Reveal(reveal) = reveal.body else { panic!("no reveal") };
    let values = Content { hash: reveal.policy, len: 400 };
    (world, items, peer, Offer { values, adapter: None, evidence })
}

#[test]
fn a_certificate_covers_the_policy_of_whoever_answered() {
    let (world, items, peer, offer) = offered();
    let verify = |offer: &Offer| offer.verify(&world.manifest, &world.manifest.id(), &items);
    let certified = verify(&offer).unwrap();
    let settled = world.peers[&peer].settled.last().unwrap();
    assert_eq!((certified.peer, certified.round), (peer, settled.round));
    assert_eq!(certified.policy, offer.values.hash);
    // Whoever took part can show it of everybody.
    let other = *world.peers.keys().last().unwrap();
    let evidence = world.peers[&peer].engine.as_ref().unwrap().policy_evidence(&other).unwrap();
    let shown = verify(&Offer { evidence, ..offer.clone() });
    assert!(matches!(shown, Ok(Certified { peer, .. }) if peer == other) || shown == Err(OfferError::Policy));
    let stranger = PeerKey([3; 32]);
    assert_eq!(world.peers[&peer].engine.as_ref().unwrap().policy_evidence(&stranger), None);
}

#[test]
fn nothing_else_is_an_offer() {
    let (world, items, _, offer) = offered();
    let swarm = world.manifest.id();
    let changed = |change: &dyn Fn(&mut Offer)| {
        let mut offer = offer.clone();
        change(&mut offer);
        offer.verify(&world.manifest, &swarm, &items)
    };
    assert_eq!(changed(&|offer| offer.evidence.ids[40] ^= 1), Err(OfferError::Items));
    assert_eq!(changed(&|offer| offer.evidence.ids.truncate(63)), Err(OfferError::Items));
    assert_eq!(offer.verify(&world.manifest, &swarm, &Hash([1; 32])), Err(OfferError::Items));
    assert_eq!(changed(&|offer| offer.evidence.reveal[90] ^= 1), Err(OfferError::Reveal));
    assert_eq!(changed(&|offer| offer.evidence.reveal.truncate(90)), Err(OfferError::Reveal));
    assert_eq!(changed(&|offer| offer.values.hash.0[0] ^= 1), Err(OfferError::Policy));
    let adapter = AdapterOf { base: Hash([1; 32]), scale: 2.0_f32.to_bits() };
    assert_eq!(changed(&|offer| offer.adapter = Some(adapter)), Err(OfferError::Policy));
    for len in [0, 401, u64::MAX] {
        assert_eq!(changed(&|offer| offer.values.len = len), Err(OfferError::Length), "{len}");
    }
    // A signed message of another round that the certificate does not include.
    let old = world.peers.values().next().unwrap().log.iter().find_map(|record| match record {
        crate::log::Record::Message { envelope, .. } => {
            let message = admission::authenticate(&swarm, Some(Topic::Answers), envelope);
            let message = message.and_then(|message| admission::admit(&world.manifest, message)).ok()?;
            matches!(message.body, Body::Reveal(_)).then(|| envelope.clone())
        }
        _ => None,
    });
    assert_eq!(
        changed(&|offer| offer.evidence.reveal = old.clone().unwrap().into()),
        Err(OfferError::Reveal)
    );
}

#[test]
fn questions_of_this_swarm_are_answered_with_what_fits() {
    let (world, _, _, offer) = offered();
    let swarm = world.manifest.id();
    let ask = |request: &[u8], offers: &[Offer]| PolicyAnswer::serve(request, &swarm, offers.iter());
    let read = |answer: Vec<u8>| PolicyAnswer::read(&answer).unwrap().offers;
    let good = PolicyRequest::of(&swarm);
    assert_eq!(read(ask(&good, &[]).unwrap()), []);
    assert_eq!(read(ask(&good, std::slice::from_ref(&offer)).unwrap()), std::slice::from_ref(&offer));
    let many: Vec<Offer> = std::iter::repeat_n(offer.clone(), 2 * OFFERS_MAX).collect();
    assert_eq!(read(ask(&good, &many).unwrap()).len(), OFFERS_MAX);
    let mut huge = offer.clone();
    huge.evidence.ids = vec![0; POLICY_ANSWER_BYTES_MAX].into();
    assert_eq!(read(ask(&good, &[huge, offer.clone()]).unwrap()), [offer]);
    for other in
        [PolicyRequest::of(&SwarmId([8; 32])), crate::packs::PackRequest::of(&swarm, &tasks::PackId([1; 32]))]
    {
        assert_eq!(ask(&other, &many), None);
    }
    assert_eq!(ask(b"rubbish", &many), None);
    assert_eq!(ask(&Follower::new(world.manifest.clone(), None).request(), &many), None);
}
