//! Being reached: names, QUIC, relay points, what is remembered over a restart.

use super::*;
use crate::net::address::Address;
use crate::net::relay::{RelayConfig, RelayEvent, RelayPoint};

/// Seed of the relay point's key.
const RELAY: u8 = 99;

/// A relay point that runs beside the test, and its address.
pub(super) async fn relay_point() -> String {
    let config = RelayConfig { listen: vec!["127.0.0.1:0".to_string()], external: Vec::new() };
    let mut point = RelayPoint::bind(&Identity::from_seed([RELAY; 32]), &config).unwrap();
    let RelayEvent::Listening(address) = point.next().await else { panic!("it does not listen") };
    tokio::spawn(async move {
        loop {
            point.next().await;
        }
    });
    address
}

pub(super) async fn wait_for(peers: &mut [Network], what: &str, done: impl Fn(&[Network]) -> bool) {
    let deadline = Instant::now() + WITHIN;
    let mut log = Vec::new();
    while !done(peers) {
        assert!(Instant::now() < deadline, "waited in vain for: {what}\n{log:#?}\n{peers:?}");
        if let Some((at, event)) = one_event(peers, Instant::now() + Duration::from_millis(20)).await {
            log.push(format!("{at}: {event:?}"));
        }
    }
}

pub(super) fn linked(peers: &[Network], relayed: bool) -> bool {
    peers.iter().all(|peer| matches!(&peer.links()[..], [link] if link.relayed == relayed))
}

#[tokio::test]
async fn peers_that_cannot_be_dialled_meet_and_talk_through_a_relay_point() {
    let relay = relay_point().await;
    let dials_only = || NetConfig { listen: Vec::new(), ..config(std::slice::from_ref(&relay)) };
    let mut peers = [bind(1, SWARM, dials_only()).await, bind(2, SWARM, dials_only()).await];
    wait_for(&mut peers, "a relayed link", |peers| linked(peers, true)).await;
    let addresses = peers[0].listen_addresses();
    assert!(addresses.iter().all(|address| address.contains("p2p-circuit")) && !addresses.is_empty());
    wait_for(&mut peers, "listeners", |peers| peers.iter().all(|peer| peer.has_listeners(1))).await;
    peers[0].publish(Topic::Votes, vec![7; 20_000]).unwrap();
    drive(
        &mut peers,
        "a message larger than libp2p's own bound would let through twice",
        |_, at, seen| matches!(seen, Seen::Message { bytes, .. } if at == 1 && bytes.len() == 20_000),
    )
    .await;
    // Blobs never go this way.
    let blob = peers[0].pin(vec![1; 1000]).unwrap();
    peers[1].fetch(1, blob, &[key(1)]);
    drive(&mut peers, "no blob", |_, _, seen| {
        assert!(!matches!(seen, Seen::Other(NetEvent::Fetched { .. })));
        matches!(seen, Seen::Other(NetEvent::FetchFailed { .. }))
    })
    .await;
}

#[tokio::test]
async fn a_direct_connection_replaces_a_relayed_one() {
    let relay = relay_point().await;
    let both = || config(std::slice::from_ref(&relay));
    let mut peers = [bind(1, SWARM, both()).await, bind(2, SWARM, both()).await];
    wait_for(&mut peers, "a direct link", |peers| linked(peers, false)).await;
}

#[tokio::test]
async fn a_relay_point_of_somebody_elses_choice_is_turned_away() {
    let address = relay_point().await;
    let mut peers = [bind(1, SWARM, config(&[])).await];
    peers[0].dial(key(RELAY), vec![address]);
    drive(&mut peers, "its refusal", |_, _, seen| match seen {
        Seen::Other(NetEvent::Refused { why, .. }) => {
            assert!(why.contains("another swarm"), "{why}");
            true
        }
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn names_and_quic_lead_there_too() {
    let quic = |bootstrap: &[String]| NetConfig {
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_string()],
        ..config(bootstrap)
    };
    let first = bind(1, SWARM, quic(&[])).await;
    let second = bind(2, SWARM, quic(&first.listen_addresses())).await;
    let mut peers = [first, second];
    mesh(&mut peers).await;
    peers[0].publish(Topic::Votes, vec![7; 60_000]).unwrap();
    drive(&mut peers, "a message over QUIC", |_, at, seen| matches!(seen, Seen::Message { .. }) && at == 1)
        .await;

    let first = bind(3, SWARM, config(&[])).await;
    let port = Address::parse(&first.listen_addresses()[0]).unwrap().port;
    let second = bind(4, SWARM, config(&[format!("localhost:{port}")])).await;
    let mut peers = [first, second];
    wait_for(&mut peers, "a link by name", |peers| linked(peers, false)).await;
}

#[tokio::test]
async fn who_was_met_is_found_again_without_a_bootstrap_address_and_bans_outlive_the_process() {
    let mut three = peers(3).await;
    mesh(&mut three).await;
    for n in 0..3 {
        three[2].smuggle(Topic::Presence, vec![n; Topic::Presence.bytes_max() + 1]);
    }
    let mut banned_by = BTreeSet::new();
    drive(&mut three, "two bans", |_, at, seen| {
        if let Seen::Other(NetEvent::Refused { peer, .. }) = seen {
            assert_eq!(peer, Some(key(3)));
            banned_by.insert(at);
        }
        banned_by.len() == 2
    })
    .await;
    let book = three[1].book();
    // Whoever dialled: it was configured with the first alone.
    assert!(three.iter().skip(1).all(|peer| !peer.book().peers.is_empty()));
    assert_eq!(
        book.banned.iter().map(|ban| (&ban.peer[..], ban.strikes)).collect::<Vec<_>>(),
        [(&*key(3).hex(), 1)]
    );
    let [first, second, _third] = <[Network; 3]>::try_from(three).unwrap();
    drop(second);
    let mut again = bind(2, SWARM, config(&[])).await;
    again.recall(&book);
    assert_eq!(again.book().banned[0].strikes, 1);
    again.forget(key(1));
    assert_eq!(again.book().peers.len(), book.peers.len(), "who left may come back");
    again.recall(&book);
    let mut peers = [first, again];
    // It knows nothing but the book.
    wait_for(&mut peers[..], "an old acquaintance", |peers| linked(peers, false)).await;
    let blocked = peers[1].swarm.behaviour().blocked.blocked_peers();
    assert!(blocked.contains(&peer_id(&key(3)).unwrap()), "it is still kept away");
}
