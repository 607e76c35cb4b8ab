//! Peers over real sockets of this computer. Nothing sleeps: every wait is for an event and has a deadline.

mod abuse;
mod blobs;
#[path = "../../tests/company/mod.rs"]
mod company;
mod reach;
mod spam;
mod transfers;
pub(super) mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use judge::PeerKey;
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::identity::Identity;
use crate::topic::SwarmId;

const WITHIN: Duration = Duration::from_secs(20);
const SWARM: SwarmId = SwarmId([1; 32]);

fn key(seed: u8) -> PeerKey {
    Identity::from_seed([seed; 32]).public()
}

fn config(bootstrap: &[String]) -> NetConfig {
    NetConfig {
        listen: vec!["127.0.0.1:0".to_string()],
        bootstrap: bootstrap.to_vec(),
        ..NetConfig::default()
    }
}

async fn bind(seed: u8, swarm: SwarmId, config: NetConfig) -> Network {
    Network::bind(&Identity::from_seed([seed; 32]), swarm, config).await.unwrap()
}

/// Peers with the seeds 1, 2, …; each knows the address of the first alone.
async fn peers(count: u8) -> Vec<Network> {
    let mut peers = vec![bind(1, SWARM, config(&[])).await];
    let first = peers[0].listen_addresses();
    for seed in 2..=count {
        peers.push(bind(seed, SWARM, config(&first)).await);
    }
    peers
}

/// Drives all peers until `done`, which sees each event with the index of the peer it happened to. Messages are
/// accepted before they are shown.
async fn drive(peers: &mut [Network], what: &str, mut done: impl FnMut(&mut [Network], usize, Seen) -> bool) {
    let deadline = Instant::now() + WITHIN;
    let mut log = Vec::new();
    loop {
        let Some((at, event)) = one_event(peers, deadline).await else {
            let counters: Vec<NetCounters> = peers.iter().map(Network::counters).collect();
            panic!("waited in vain for: {what}\n{}\n{counters:#?}", log.join("\n"));
        };
        log.push(format!("{at}: {event:?}").chars().take(300).collect::<String>());
        let seen = match event {
            NetEvent::Message { token, topic, bytes, from } => {
                peers[at].verdict(token, Verdict::Accept);
                Seen::Message { topic, bytes, from }
            }
            other => Seen::Other(other),
        };
        if done(peers, at, seen) {
            return;
        }
    }
}

async fn one_event(peers: &mut [Network], until: Instant) -> Option<(usize, NetEvent)> {
    let next = select_all(peers.iter_mut().map(|peer| peer.next().boxed_local()));
    timeout_at(until, next).await.ok().map(|(event, at, _)| (at, event))
}

enum Seen {
    Message { topic: Topic, bytes: Vec<u8>, from: PeerKey },
    Other(NetEvent),
}

/// Connects everybody with everybody, as presence messages would.
async fn mesh(peers: &mut [Network]) {
    let addresses: Vec<Vec<String>> = peers.iter().map(Network::listen_addresses).collect();
    for (at, peer) in peers.iter_mut().enumerate() {
        for (other, addresses) in addresses.iter().enumerate().filter(|(other, _)| *other != at) {
            peer.dial(key(other as u8 + 1), addresses.clone());
        }
    }
    let all = peers.len() - 1;
    let deadline = Instant::now() + WITHIN;
    // Subscriptions follow connections and are no event, so this looks again every few milliseconds.
    while !peers.iter().all(|peer| peer.peers().len() == all && peer.has_listeners(all)) {
        assert!(Instant::now() < deadline, "not everybody met everybody: {peers:?}");
        let event = one_event(peers, Instant::now() + Duration::from_millis(5)).await;
        assert!(!matches!(event, Some((_, NetEvent::Message { .. }))), "a message before the test began");
    }
}

#[tokio::test]
async fn two_and_four_peers_hear_each_other_on_every_topic() {
    for count in [2, 4] {
        let mut peers = peers(count).await;
        mesh(&mut peers).await;
        for (at, peer) in peers.iter_mut().enumerate() {
            let others: BTreeSet<PeerKey> =
                (1..=count).map(key).filter(|other| *other != key(at as u8 + 1)).collect();
            assert_eq!(peer.peers().into_iter().collect::<BTreeSet<_>>(), others);
            for topic in Topic::ALL {
                peer.publish(topic, format!("{topic:?} of {at}").into_bytes()).unwrap();
            }
        }
        let mut heard: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let expected = Topic::ALL.len() * (usize::from(count) - 1);
        drive(&mut peers, "all topics at all peers", |_, at, seen| {
            if let Seen::Message { topic, bytes, from } = seen {
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.starts_with(&format!("{topic:?} of ")), "{text} came on {topic:?}");
                assert_ne!(from, key(at as u8 + 1));
                assert!(heard.entry(at).or_default().insert(text), "a message came twice");
            }
            heard.values().map(BTreeSet::len).sum::<usize>() == expected * usize::from(count)
        })
        .await;
        let counters = peers[0].counters();
        assert_eq!(
            (counters.sent, counters.received),
            (Topic::ALL.len() as u64, expected as u64),
            "{counters:?}"
        );
        assert!(
            counters.bytes_in > 0 && counters.bytes_out > 0 && counters.dropped.is_empty(),
            "{counters:?}"
        );
    }
}

/// With the usual peer scores each of these would be marked down for sharing its address with the others.
#[tokio::test]
async fn sixteen_peers_behind_one_address_keep_hearing_each_other() {
    let mut peers = Vec::new();
    for seed in 1..=16 {
        peers.push(bind(seed, SWARM, NetConfig { peers_expected: 16, ..config(&[]) }).await);
    }
    mesh(&mut peers).await;
    // Scores are computed once a second: by the third message they are.
    let (mut heard, mut sent) = (0, 0);
    let mut next = Instant::now();
    let deadline = next + WITHIN;
    while heard < 3 * 15 {
        assert!(Instant::now() < deadline, "{heard} of 45 arrived");
        if sent < 3 && Instant::now() >= next {
            next += Duration::from_millis(700);
            sent += 1;
            peers[0].publish(Topic::Presence, vec![sent]).unwrap();
        }
        if let Some((at, NetEvent::Message { token, .. })) = one_event(&mut peers, next.min(deadline)).await {
            peers[at].verdict(token, Verdict::Accept);
            heard += 1;
        }
        if sent == 3 {
            next = deadline;
        }
    }
    assert!(peers.iter().all(|peer| peer.peers().len() == 15));
}

#[tokio::test]
async fn links_outlive_what_gossip_says_of_many_messages() {
    const PEERS: usize = 8;
    const BATCHES: usize = 10;
    let mut peers = peers(PEERS as u8).await;
    mesh(&mut peers).await;
    // More in a few heartbeats than libp2p's defaults let anybody read.
    for batch in 0..BATCHES {
        for n in 0..100 {
            peers[n % PEERS].publish(Topic::Votes, format!("{batch} {n}").into_bytes()).unwrap();
        }
        let mut heard = 0;
        drive(&mut peers, "a batch", |_, _, seen| {
            heard += usize::from(matches!(seen, Seen::Message { .. }));
            heard == 100 * (PEERS - 1)
        })
        .await;
    }
    // Everybody still hears everybody without another one between.
    let (deadline, mut direct) = (Instant::now() + WITHIN, BTreeSet::new());
    let mut said = 0_u32;
    while direct.len() < PEERS * (PEERS - 1) {
        assert!(Instant::now() < deadline, "only {direct:?} hear each other");
        for (author, peer) in peers.iter_mut().enumerate() {
            let mut text = format!("{author} {said} ").into_bytes();
            text.resize(limits::IDONTWANT_BYTES_MIN, b'.');
            peer.publish(Topic::Votes, text).unwrap();
        }
        said += 1;
        let until = Instant::now() + Duration::from_millis(300);
        while let Some((at, event)) = one_event(&mut peers, until).await {
            if let NetEvent::Message { token, bytes, from, .. } = event {
                peers[at].verdict(token, Verdict::Accept);
                let author = usize::from(bytes[0] - b'0');
                if from == key(author as u8 + 1) && said > 4 {
                    direct.insert((author, at));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_burst_of_large_messages_arrives_whole() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for n in 0..40_u8 {
        peers[0].publish(Topic::Answers, vec![n; 60_000]).unwrap();
    }
    peers[0].publish(Topic::Control, b"and a small one".to_vec()).unwrap();
    let mut missing: BTreeSet<u8> = (0..40).collect();
    let mut small = false;
    drive(&mut peers, "40 large messages and a small one", |_, _, seen| {
        if let Seen::Message { bytes, .. } = seen {
            small |= bytes == b"and a small one";
            missing.remove(&bytes[0]);
        }
        missing.is_empty() && small
    })
    .await;
    peers[0].publish(Topic::Answers, vec![9; Topic::Answers.bytes_max()]).unwrap();
    drive(
        &mut peers,
        "a message of the largest size",
        |_, _, seen| matches!(seen, Seen::Message { bytes, .. } if bytes.len() == Topic::Answers.bytes_max()),
    )
    .await;
}

#[tokio::test]
async fn oversize_is_an_error_to_the_publisher_and_rejected_by_the_receiver() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for topic in Topic::ALL {
        let error = peers[0].publish(topic, vec![0; topic.bytes_max() + 1]).unwrap_err();
        let expected = format!("at most {}", topic.bytes_max());
        assert!(error.to_string().contains(&expected) && error.to_string().contains("too large"), "{error}");
    }
    // A peer without our scruples.
    peers[0].smuggle(Topic::Presence, vec![0; Topic::Presence.bytes_max() + 1]);
    drive(&mut peers, "the loss is told", |_, at, seen| match seen {
        Seen::Message { .. } => panic!("an oversize message came through"),
        Seen::Other(NetEvent::Dropped { reason: DropReason::Oversize, count: 1 }) => at == 1,
        Seen::Other(_) => false,
    })
    .await;
    let counters = peers[1].counters();
    assert_eq!((counters.rejected, counters.dropped[&DropReason::Oversize]), (1, 1));
}

#[tokio::test]
async fn a_peer_that_sends_rubbish_is_banned() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for n in 0..3 {
        peers[0].smuggle(Topic::Presence, vec![n; Topic::Presence.bytes_max() + 1]);
    }
    drive(&mut peers, "the ban", |_, at, seen| match seen {
        Seen::Other(NetEvent::Refused { peer, why }) => {
            assert_eq!((at, peer), (1, Some(key(1))));
            assert!(why.contains("too many invalid messages") && why.contains("10 minutes"), "{why}");
            true
        }
        _ => false,
    })
    .await;
    let mut gone = [false; 2];
    drive(&mut peers, "the disconnection", |_, at, seen| {
        gone[at] |= matches!(seen, Seen::Other(NetEvent::Disconnected { .. }));
        gone == [true; 2]
    })
    .await;
}

#[tokio::test]
async fn a_link_that_goes_on_beyond_its_share_is_closed() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    let deadline = Instant::now() + WITHIN;
    let (mut sent, mut read, mut refused) = (0_u32, 0, false);
    while !refused {
        for _ in 0..100 {
            sent += 1;
            peers[0].publish(Topic::Votes, sent.to_le_bytes().to_vec()).unwrap();
        }
        let until = deadline.min(Instant::now() + Duration::from_millis(10));
        while let Some((at, event)) = one_event(&mut peers, until).await {
            match event {
                NetEvent::Message { token, .. } => {
                    read += 1;
                    peers[at].verdict(token, Verdict::Ignore);
                }
                NetEvent::Refused { peer, why } => {
                    assert!(at == 1 && peer == Some(key(1)) && why.contains("more than its share"), "{why}");
                    refused = true;
                }
                _ => {}
            }
        }
        assert!(Instant::now() < deadline, "{sent} sent, {read} read: {:?}", peers[1].counters());
    }
    let dropped = peers[1].counters().dropped[&DropReason::LinkQuota];
    let share = 2 * limits::LINK_MESSAGES_PER_S;
    assert!(read >= share && dropped > share && u64::from(sent) >= read + dropped, "{read} and {dropped}");
}

/// It grafts itself into meshes that pruned it before, which gossipsub takes for an offence.
#[tokio::test]
async fn a_peer_that_starts_again_and_again_is_not_banned() {
    let mut peers = peers(8).await;
    for _ in 0..4 {
        mesh(&mut peers).await;
        let until = Instant::now() + 3 * limits::GOSSIP_HEARTBEAT;
        while let Some((at, event)) = one_event(&mut peers, until).await {
            assert!(!matches!(event, NetEvent::Refused { .. }), "{at}: {event:?}");
        }
        peers.pop();
        peers.push(bind(8, SWARM, config(&peers[0].listen_addresses())).await);
    }
}

#[tokio::test]
async fn messages_published_before_anybody_listens_arrive_later() {
    let mut first = bind(1, SWARM, config(&[])).await;
    for n in 0..20 {
        for topic in [Topic::Answers, Topic::Votes, Topic::Control, Topic::Presence] {
            first.publish(topic, format!("{topic:?} {n}").into_bytes()).unwrap();
        }
    }
    assert_eq!((first.counters().sent, first.counters().superseded), (0, 19));
    let second = bind(2, SWARM, config(&first.listen_addresses())).await;
    let mut heard = BTreeSet::new();
    let mut peers = [first, second];
    drive(&mut peers, "61 messages", |_, _, seen| {
        if let Seen::Message { bytes, .. } = seen {
            assert!(heard.insert(String::from_utf8(bytes).unwrap()));
        }
        heard.len() == 61
    })
    .await;
    assert!(heard.contains("Presence 19"), "only the newest presence");
    peers[0].publish(Topic::Votes, b"Votes 1".to_vec()).unwrap();
    assert_eq!(
        (peers[0].counters().sent, peers[0].counters().duplicates),
        (61, 1),
        "the same bytes travel once"
    );
}

#[tokio::test]
async fn full_queues_delay_messages_but_do_not_lose_them() {
    let small = NetConfig { link_queue_messages: 4, ..config(&[]) };
    let first = bind(1, SWARM, small).await;
    let second = bind(2, SWARM, config(&first.listen_addresses())).await;
    let mut peers = [first, second];
    mesh(&mut peers).await;
    // The connection's own task does not run in between, so that the fifth finds the queue full.
    for n in 0..12_u8 {
        peers[0].publish(Topic::Votes, vec![n; 100]).unwrap();
    }
    let mut missing: BTreeSet<u8> = (0..12).collect();
    drive(&mut peers, "all twelve", |_, _, seen| {
        if let Seen::Message { bytes, .. } = seen {
            assert!(missing.remove(&bytes[0]), "twice");
        }
        missing.is_empty()
    })
    .await;
    assert!(peers[0].counters().retried > 0);
}

#[tokio::test]
async fn requests_are_answered_refused_and_bounded() {
    let mut peers = peers(2).await;
    assert_eq!(peers[0].request(key(2), Vec::new()), Err(RequestError::NotConnected(key(2))));
    mesh(&mut peers).await;
    let too_large = peers[0].request(key(2), vec![0; limits::REQUEST_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(too_large.to_string(), "65537 bytes are too many: at most 65536");
    let mut open: BTreeMap<RequestToken, &str> = BTreeMap::new();
    let sizes = ["largest", "empty", "refused", "too large"];
    for what in sizes {
        let mut bytes = what.as_bytes().to_vec();
        if what == "largest" {
            bytes.resize(limits::REQUEST_BYTES_MAX, b' ');
        }
        open.insert(peers[0].request(key(2), bytes).unwrap(), what);
    }
    let mut kept = None;
    drive(&mut peers, "four outcomes", |peers, _, seen| {
        match seen {
            Seen::Other(NetEvent::Request { from, bytes, channel }) => {
                assert_eq!(from, key(1));
                match String::from_utf8(bytes).unwrap().trim() {
                    "largest" => peers[1].respond(channel, vec![7; limits::RESPONSE_BYTES_MAX]).unwrap(),
                    "empty" => peers[1].respond(channel, Vec::new()).unwrap(),
                    "refused" => drop(channel),
                    _ => {
                        let error =
                            peers[1].respond(channel, vec![0; limits::RESPONSE_BYTES_MAX + 1]).unwrap_err();
                        assert!(matches!(error, RequestError::TooLarge { .. }));
                    }
                }
            }
            Seen::Other(NetEvent::Response { from, request, bytes }) => {
                assert_eq!(from, key(2));
                match open.remove(&request) {
                    Some("largest") => assert_eq!(bytes, vec![7; limits::RESPONSE_BYTES_MAX]),
                    Some("empty") => assert!(bytes.is_empty()),
                    other => panic!("an answer to {other:?}"),
                }
            }
            Seen::Other(NetEvent::RequestFailed { to, request, why }) => {
                assert_eq!(to, key(2));
                assert!(["refused", "too large"].contains(&open.remove(&request).unwrap()), "{why}");
            }
            _ => {}
        }
        open.is_empty()
    })
    .await;
    // A peer that goes away leaves no request open.
    let open = peers[0].request(key(2), b"last".to_vec()).unwrap();
    drive(&mut peers, "the request arrives", |_, _, seen| {
        if let Seen::Other(NetEvent::Request { channel, .. }) = seen {
            kept = Some(channel);
        }
        kept.is_some()
    })
    .await;
    let [first, _] = <[Network; 2]>::try_from(peers).unwrap();
    drive(
        &mut [first],
        "its failure",
        |_, _, seen| matches!(seen, Seen::Other(NetEvent::RequestFailed { request, .. }) if request == open),
    )
    .await;
}

#[tokio::test]
async fn too_many_open_requests_are_an_error() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for _ in 0..limits::REQUESTS_MAX {
        peers[0].request(key(2), Vec::new()).unwrap();
    }
    assert_eq!(peers[0].request(key(2), Vec::new()), Err(RequestError::TooMany(limits::REQUESTS_MAX)));
}

#[tokio::test]
async fn a_busy_port_is_explained() {
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = bind(1, SWARM, config(&[])).await;
    let ours = ours.listen_addresses()[0].clone();
    for address in [format!("127.0.0.1:{}", foreign.local_addr().unwrap().port()), ours] {
        let busy = NetConfig { listen: vec![address.clone()], ..NetConfig::default() };
        let error = Network::bind(&Identity::from_seed([2; 32]), SWARM, busy).await.unwrap_err().to_string();
        let port = address.rsplit(['/', ':']).next().unwrap();
        for part in
            ["cannot listen on /ip4/127.0.0.1/tcp/", port, "address already in use", "hint: ", "port 0"]
        {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_errors() {
    for (listen, bootstrap, part) in [
        ("nonsense", "127.0.0.1:1", "\"nonsense\""),
        ("127.0.0.1:0", "example.org", "\"example.org\""),
        ("example.org:4001", "127.0.0.1:1", "cannot be listened on"),
        ("127.0.0.1:0", "127.0.0.1:0", "hint: give the address and port"),
        ("192.0.2.1:0", "127.0.0.1:1", "this computer has no such address; hint: use 0.0.0.0"),
    ] {
        let config = NetConfig { listen: vec![listen.to_string()], ..config(&[bootstrap.to_string()]) };
        let error =
            Network::bind(&Identity::from_seed([1; 32]), SWARM, config).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("hint: "), "{error}");
    }
}

#[tokio::test]
async fn another_swarm_is_turned_away_with_an_explanation() {
    let first = bind(1, SWARM, config(&[])).await;
    let stranger = bind(2, SwarmId([2; 32]), config(&first.listen_addresses())).await;
    let mut peers = [first, stranger];
    for peer in &mut peers {
        peer.publish(Topic::Votes, b"not for strangers".to_vec()).unwrap();
    }
    let mut refused = [false; 2];
    drive(&mut peers, "both refuse", |_, at, seen| {
        match seen {
            Seen::Message { .. } | Seen::Other(NetEvent::Connected(_)) => panic!("swarms mix"),
            Seen::Other(NetEvent::Refused { peer, why }) => {
                assert_eq!(peer, Some(key(2 - at as u8)));
                assert!(why.contains("another swarm") && why.contains("[swarm] section"), "{why}");
                refused[at] = true;
            }
            Seen::Other(_) => {}
        }
        // The one that is refused first may lose the connection before it hears why.
        refused.contains(&true)
    })
    .await;
    assert!(peers.iter().all(|peer| peer.peers().is_empty()));
}

#[tokio::test]
async fn a_silent_link_is_closed_and_dialled_again() {
    let first = bind(1, SWARM, NetConfig { silence: Duration::from_millis(400), ..config(&[]) }).await;
    let second = bind(2, SWARM, config(&first.listen_addresses())).await;
    let mut peers = [first, second];
    let mut steps = Vec::new();
    drive(&mut peers, "connected, disconnected, connected", |_, at, seen| {
        if at == 0 {
            match seen {
                Seen::Other(NetEvent::Connected(_)) => steps.push("connected"),
                Seen::Other(NetEvent::Disconnected { why, .. }) => {
                    assert!(why.contains("nothing was heard"), "{why}");
                    steps.push("disconnected");
                }
                _ => {}
            }
        }
        steps == ["connected", "disconnected", "connected"]
    })
    .await;
    assert_eq!(peers[0].counters().silent_links, 1);
}

#[tokio::test]
async fn a_bootstrap_peer_that_comes_late_or_comes_back_is_found() {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap().to_string();
    drop(probe);
    let mut second = [bind(2, SWARM, config(std::slice::from_ref(&address))).await];
    drive(&mut second, "the failure is told", |_, _, seen| match seen {
        Seen::Other(NetEvent::Unreachable { address: told, why, attempts: 1 }) => {
            assert!(told.starts_with("/ip4/127.0.0.1/tcp/") && why.contains("refused"), "{told}: {why}");
            true
        }
        _ => false,
    })
    .await;
    let [mut second] = second;
    // Another peer than the first time: the address was given without a name.
    for seed in [1, 3] {
        let here = NetConfig { listen: vec![address.clone()], ..NetConfig::default() };
        let mut peers = [bind(seed, SWARM, here).await, second];
        drive(&mut peers, "connected", |_, at, seen| {
            at == 1 && matches!(seen, Seen::Other(NetEvent::Connected(peer)) if peer == key(seed))
        })
        .await;
        let [first, rest] = peers;
        second = rest;
        drop(first);
        let mut alone = [second];
        drive(&mut alone, "disconnected", |_, _, seen| {
            matches!(seen, Seen::Other(NetEvent::Disconnected { peer, .. }) if peer == key(seed))
        })
        .await;
        [second] = alone;
    }
}

#[tokio::test]
async fn two_peers_that_dial_each_other_at_once_are_connected_once() {
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = ports.map(|port| port.local_addr().unwrap().to_string());
    let mut peers = Vec::new();
    for (seed, here, there) in [(1, 0, 1), (2, 1, 0)] {
        let listen = vec![addresses[here].clone()];
        peers.push(bind(seed, SWARM, NetConfig { listen, ..config(&addresses[there..=there]) }).await);
    }
    let (mut told, mut published) = (Vec::new(), false);
    drive(&mut peers, "a message over whatever connections there are", |peers, at, seen| {
        match seen {
            Seen::Message { .. } => return true,
            Seen::Other(NetEvent::Connected(_)) => told.push((at, true)),
            Seen::Other(NetEvent::Disconnected { .. }) => told.push((at, false)),
            Seen::Other(_) => {}
        }
        if told.len() == 2 && !published {
            published = true;
            peers[0].publish(Topic::Control, b"still there".to_vec()).unwrap();
        }
        false
    })
    .await;
    told.sort_unstable();
    assert_eq!(told, [(0, true), (1, true)], "each is told once, and nobody is lost");
}

#[tokio::test]
async fn leaving_delivers_what_was_published_and_says_goodbye() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for n in 0..20_u8 {
        peers[0].publish(Topic::Answers, vec![n; 30_000]).unwrap();
    }
    let [first, second] = <[Network; 2]>::try_from(peers).unwrap();
    let mut left = [second];
    let mut missing: BTreeSet<u8> = (0..20).collect();
    let stays = drive(&mut left, "20 messages, then a goodbye", |_, _, seen| match seen {
        Seen::Message { bytes, .. } => {
            missing.remove(&bytes[0]);
            false
        }
        Seen::Other(NetEvent::Disconnected { .. }) => true,
        Seen::Other(_) => false,
    });
    let (unsent, ()) = futures::join!(first.leave(WITHIN), stays);
    assert_eq!((unsent, missing.len()), (0, 0));
}

#[tokio::test]
async fn leaving_alone_ends_at_the_deadline_and_says_what_nobody_got() {
    let mut alone = bind(1, SWARM, config(&[])).await;
    alone.publish(Topic::Answers, vec![1]).unwrap();
    let start = Instant::now();
    assert_eq!(alone.leave(Duration::from_millis(100)).await, 1);
    assert!(start.elapsed() < Duration::from_secs(5));
    let idle = bind(1, SWARM, config(&[])).await;
    assert_eq!(idle.leave(WITHIN).await, 0);
}
