//! Blobs over real sockets: holders that die, lie, dawdle or have had enough.

use super::*;
use crate::blob::{Address, BLOB_BYTES_MAX, CHUNK_BYTES, Part};

const ROUND: u32 = 1;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / CHUNK_BYTES) as u8).collect()
}

/// Its parts in bytes, when each comes once.
fn once(blob: &Address) -> u64 {
    let outline = if blob.len as usize > CHUNK_BYTES { blob.part_len(Part::Outline) } else { 0 };
    u64::from(blob.len) + outline as u64
}

fn keep(peers: &mut [Network], bytes: &[u8]) -> Address {
    assert!(peers.iter_mut().all(|peer| peer.keep(ROUND, bytes.to_vec())));
    Address::of(bytes).unwrap()
}

/// Drives everybody until the last peer has the blob.
async fn fetched(peers: &mut [Network], blob: Address) -> Vec<u8> {
    let (asker, mut found) = (peers.len() - 1, None);
    drive(peers, "the blob", |_, at, seen| {
        match seen {
            Seen::Other(NetEvent::Fetched { blob: of, bytes }) => {
                assert_eq!((at, of), (asker, blob));
                found = Some(bytes);
            }
            Seen::Other(NetEvent::FetchFailed { why, .. }) => panic!("{why}"),
            _ => {}
        }
        found.is_some()
    })
    .await;
    found.unwrap_or_default()
}

/// Lets everybody work until `done`, which may look at counters: progress is no event.
async fn watch(peers: &mut [Network], what: &str, mut done: impl FnMut(&mut [Network]) -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !done(peers) {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        one_event(peers, Instant::now() + Duration::from_millis(1)).await;
    }
}

/// Two holders and one that asks, which takes parts no longer than half a second old.
async fn two_holders_and_an_asker() -> Vec<Network> {
    let mut peers = peers(2).await;
    let hasty = BlobConfig { part_within: Duration::from_millis(500), ..BlobConfig::default() };
    let first = peers[0].listen_addresses();
    peers.push(bind(3, SWARM, NetConfig { blobs: hasty, ..config(&first) }).await);
    mesh(&mut peers).await;
    peers
}

#[tokio::test]
async fn small_and_large_blobs_arrive_each_part_once() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    for len in [1, 60_000, 200_000, 20_000_000] {
        let blob = keep(&mut peers[..1], &bytes(len));
        let before = peers[1].counters();
        peers[1].fetch(ROUND, blob, &[key(1)]);
        assert!(fetched(&mut peers, blob).await == bytes(len), "{len} bytes");
        let (served, after) = (peers[0].counters(), peers[1].counters());
        assert_eq!(after.blob_bytes_in - before.blob_bytes_in, once(&blob));
        assert_eq!(served.blob_bytes_out, after.blob_bytes_in);
        assert_eq!(served.blob_parts_out, after.blob_parts_in);
        assert!(after.dropped.is_empty() && served.dropped.is_empty(), "{after:?} {served:?}");
    }
}

#[tokio::test]
async fn a_holder_dies_at_half_and_another_one_gives_the_rest() {
    let mut peers = two_holders_and_an_asker().await;
    let blob = keep(&mut peers[..2], &bytes(20_000_000));
    peers[2].fetch(ROUND, blob, &[key(1), key(2)]);
    watch(&mut peers, "half of it", |peers| peers[2].counters().blob_bytes_in > 10_000_000).await;
    let first = peers[0].counters().blob_bytes_out;
    drop(peers.remove(0));
    assert!(fetched(&mut peers, blob).await == bytes(20_000_000));
    assert_eq!(peers[1].counters().blob_bytes_in, once(&blob), "nothing is fetched twice");
    // What was under way from the first one came, or did not.
    let (second, under_way) = (peers[0].counters().blob_bytes_out, 4 * CHUNK_BYTES as u64);
    assert!((0..=under_way).contains(&(first + second - once(&blob))), "{first} and {second}");
    assert!(first > 2_000_000 && second > 10_000_000, "{first} and {second}");
}

#[tokio::test]
async fn three_slow_holders_give_a_blob_together() {
    let slow = BlobConfig { peer_bytes_per_s: 200_000, ..BlobConfig::default() };
    let mut peers = vec![bind(1, SWARM, NetConfig { blobs: slow.clone(), ..config(&[]) }).await];
    let first = peers[0].listen_addresses();
    for seed in [2, 3] {
        peers.push(bind(seed, SWARM, NetConfig { blobs: slow.clone(), ..config(&first) }).await);
    }
    peers.push(bind(4, SWARM, config(&first)).await);
    mesh(&mut peers).await;
    let mut took = Vec::new();
    for (len, holders) in [(1_000_000, &[key(1)][..]), (1_000_001, &[key(1), key(2), key(3)])] {
        let blob = keep(&mut peers[..3], &bytes(len));
        let start = Instant::now();
        peers[3].fetch(ROUND, blob, holders);
        assert!(fetched(&mut peers, blob).await == bytes(len));
        took.push(start.elapsed());
    }
    assert!(peers[..3].iter().all(|peer| peer.counters().blob_bytes_out > 100_000));
    // The first one has nothing left of what it may give at once, the others do.
    assert!(took[0] > Duration::from_millis(2500) && 2 * took[1] < took[0], "{took:?}");
}

#[tokio::test]
async fn a_lying_holder_costs_a_few_parts_and_then_its_welcome() {
    let mut peers = two_holders_and_an_asker().await;
    for lie in 1..=limits::BLOB_LIES_MAX {
        let honest = bytes(1_000_000 + lie as usize);
        let blob = keep(&mut peers[..2], &honest);
        (0..15).for_each(|chunk| peers[0].damage_blob(&blob, chunk * CHUNK_BYTES + 5));
        let before = peers[2].counters().blob_bytes_in;
        peers[2].fetch(ROUND, blob, &[key(1), key(2)]);
        assert!(fetched(&mut peers, blob).await == honest);
        let after = peers[2].counters();
        let useless = after.blob_bytes_in - before - once(&blob);
        let under_way = (limits::BLOB_STREAMS_PER_PEER_MAX * CHUNK_BYTES) as u64;
        assert!((1..=under_way).contains(&useless), "{useless}: more than what was under way");
        assert_eq!(after.dropped[&DropReason::BlobLie], u64::from(lie));
        let score = |of| peers[2].swarm.behaviour().gossip.peer_score(&peer_id(&key(of)).unwrap());
        assert!(
            lie == limits::BLOB_LIES_MAX || score(1) < Some(0.0),
            "{:?}: gossip still trusts it",
            score(1)
        );
        assert!(score(2) >= Some(0.0), "{:?}", score(2));
    }
    assert_eq!(peers[2].counters().refused, 1);
    watch(&mut peers, "the disconnection", |peers| peers[2].peers() == [key(2)]).await;
}

#[tokio::test]
async fn a_slow_drip_is_left_for_another_holder() {
    let drip = BlobConfig { drip: Some(Duration::from_millis(100)), ..BlobConfig::default() };
    let mut peers = two_holders_and_an_asker().await;
    let first = peers[1].listen_addresses();
    peers[0] = bind(1, SWARM, NetConfig { blobs: drip, ..config(&first) }).await;
    mesh(&mut peers).await;
    let blob = keep(&mut peers[..2], &bytes(1_000_000));
    peers[2].fetch(ROUND, blob, &[key(1), key(2)]);
    let start = Instant::now();
    assert!(fetched(&mut peers, blob).await == bytes(1_000_000));
    let (took, counters) = (start.elapsed(), peers[2].counters());
    assert!(counters.dropped[&DropReason::BlobHolder] >= 1, "{counters:?}");
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(peers[1].counters().blob_bytes_out, 1_000_000, "the outline came in one drop");
}

#[tokio::test]
async fn oversize_and_wrong_declarations_move_nothing() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    let blob = keep(&mut peers[..1], &bytes(200_000));
    let bombs = [u32::MAX, BLOB_BYTES_MAX as u32 + 1, 0].map(|len| Address { len, ..blob });
    for bomb in bombs {
        peers[1].fetch(ROUND, bomb, &[key(1)]);
    }
    let orphan = Address { len: 7, ..blob };
    peers[1].fetch(ROUND, orphan, &[]);
    let mut failed = BTreeMap::new();
    drive(&mut peers, "four failures", |_, _, seen| {
        if let Seen::Other(NetEvent::FetchFailed { blob, why }) = seen {
            failed.insert(blob, why);
        }
        failed.len() == 4
    })
    .await;
    assert!(bombs.iter().all(|bomb| failed[bomb] == "it is empty or too large"));
    assert_eq!(failed[&orphan], "nobody is left to ask");
    // The right hash with another length names nothing that exists.
    peers[1].fetch(ROUND, Address { len: 199_999, ..blob }, &[key(1)]);
    watch(&mut peers, "two refusals", |peers| peers[0].counters().blob_absent >= 2).await;
    assert_eq!(peers[0].counters().blob_bytes_out, 0);
}

#[tokio::test]
async fn who_asks_for_too_much_is_told_to_wait_and_gets_it_in_time() {
    let first = config(&[]);
    let mean = BlobConfig { peer_bytes_per_s: 200_000, ..BlobConfig::default() };
    let mut peers = vec![bind(1, SWARM, NetConfig { blobs: mean, ..first }).await];
    let bootstrap = peers[0].listen_addresses();
    peers.push(bind(2, SWARM, config(&bootstrap)).await);
    mesh(&mut peers).await;
    let blob = keep(&mut peers[..1], &bytes(600_000));
    let start = Instant::now();
    peers[1].fetch(ROUND, blob, &[key(1)]);
    assert!(fetched(&mut peers, blob).await == bytes(600_000));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert!(peers[0].counters().dropped[&DropReason::BlobBusy] >= 1);
    assert_eq!(peers[1].counters().blob_bytes_in, once(&blob), "waiting costs no bytes");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_counted_and_harm_nobody() {
    let mut peers = peers(2).await;
    mesh(&mut peers).await;
    let blob = keep(&mut peers[..1], &bytes(200_000));
    let other = peer_id(&key(1)).unwrap();
    for rubbish in [vec![0xc1; 100], Vec::new(), vec![0; limits::BLOB_REQUEST_BYTES_MAX]] {
        peers[1].swarm.behaviour_mut().blobs.send_request(&other, rubbish);
    }
    watch(&mut peers, "three drops", |peers| {
        peers[0].counters().dropped.get(&DropReason::RequestFailed).is_some_and(|count| *count >= 3)
    })
    .await;
    peers[1].fetch(ROUND, blob, &[key(1)]);
    assert!(fetched(&mut peers, blob).await == bytes(200_000));
}

#[tokio::test]
async fn a_holder_that_comes_later_is_asked_too() {
    let mut peers = peers(3).await;
    mesh(&mut peers).await;
    let blob = Address::of(&bytes(100_000)).unwrap();
    peers[2].fetch(ROUND, blob, &[key(1)]);
    watch(&mut peers, "a refusal", |peers| peers[0].counters().blob_absent >= 1).await;
    keep(&mut peers[1..2], &bytes(100_000));
    peers[2].fetch(ROUND, blob, &[key(1), key(2)]);
    assert!(fetched(&mut peers, blob).await == bytes(100_000));
}
