//! Downloads over real sockets: sources that die, lie, dawdle, and processes that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use tempfile::TempDir;

use super::reach::{linked, relay_point, wait_for};
use super::*;
use crate::net::transfer::Vice;
use crate::tree::{CHUNK_BYTES, Content, Outline, RangePart, RangeRequest};
use crate::wire::{self, Hash};

const MIB: usize = 1024 * 1024;
/// What the process that is to be killed gets: directory, address, hash and length of the content.
const CHILD: &str = "MURMUR_TEST_DOWNLOAD";
const HEAD: &[u8] = b"header ";

/// A content in a file of its own directory.
struct Made {
    dir: TempDir,
    content: Content,
    bytes: Vec<u8>,
}

impl Made {
    fn new(len: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            (0..len).map(|i| 0x5a ^ (i % 251) as u8 ^ (i / 8191) as u8 ^ (i / CHUNK_BYTES) as u8).collect();
        fs::write(dir.path().join("served"), [b"..", &bytes[..]].concat()).unwrap();
        let content = Outline::of(&mut &bytes[..]).unwrap().content();
        Self { dir, content, bytes }
    }

    fn share(&self) -> Share {
        Share { content: self.content, path: self.dir.path().join("served"), offset: 2 }
    }

    fn target(&self) -> Target {
        Target { path: self.dir.path().join("fetched"), prefix: HEAD.to_vec() }
    }

    fn check(&self) {
        let fetched = fs::read(self.target().path).unwrap();
        assert!(fetched == [HEAD, &self.bytes].concat(), "{} bytes", fetched.len());
        assert!(!self.target().partial().exists());
    }
}

fn fast() -> TransferConfig {
    TransferConfig { bytes_per_s: 1 << 30, peer_bytes_per_s: 1 << 30, vice: None }
}

/// Sources with these vices, and last one that asks.
async fn sources(made: &Made, transfers: &[TransferConfig]) -> Vec<Network> {
    let mut peers: Vec<Network> = Vec::new();
    for (at, transfers) in transfers.iter().chain([&fast()]).enumerate() {
        let first = peers.first().map(Network::listen_addresses).unwrap_or_default();
        let config = NetConfig { transfers: transfers.clone(), ..config(&first) };
        peers.push(bind(at as u8 + 1, SWARM, config).await);
    }
    peers[..transfers.len()].iter().for_each(|peer| peer.share(made.share()));
    mesh(&mut peers).await;
    peers
}

fn vicious(vice: Vice) -> TransferConfig {
    TransferConfig { vice: Some(vice), ..fast() }
}

/// Begins a download from all others.
fn start(made: &Made, peers: &[Network]) -> Download {
    let (asker, sources) = peers.split_last().unwrap();
    let sources: Vec<PeerKey> =
        sources.iter().map(|peer| peer_key(peer.swarm.local_peer_id()).unwrap()).collect();
    asker.download(made.content, made.target(), &sources)
}

/// Drives everybody until something is true of the download; whether it ended instead.
async fn until(
    peers: &mut [Network],
    download: &mut Download,
    what: &str,
    mut done: impl FnMut(&[Network], &Progress) -> bool,
) -> bool {
    let deadline = Instant::now() + WITHIN;
    while !done(peers, &download.progress()) {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", download.progress());
        tokio::select! {
            ended = download.finished() => {
                ended.unwrap();
                return true;
            }
            _ = one_event(peers, Instant::now() + Duration::from_millis(5)) => {}
        }
    }
    false
}

async fn finish(peers: &mut [Network], download: &mut Download) -> Progress {
    assert!(until(peers, download, "the end", |_, _| false).await);
    download.progress()
}

fn total(progress: &Progress) -> u64 {
    progress.given.values().sum()
}

#[tokio::test]
async fn contents_of_every_size_come_from_all_sources_at_once() {
    for len in [1, 70_000, MIB, MIB + 1, 40 * MIB + 5] {
        let made = Made::new(len);
        let mut peers = sources(&made, &[fast(), fast(), fast()]).await;
        let mut download = start(&made, &peers);
        let progress = finish(&mut peers, &mut download).await;
        made.check();
        assert_eq!((progress.here, progress.len, progress.resumed), (len as u64, len as u64, 0));
        assert!(progress.liars.is_empty() && progress.trouble.is_none(), "{progress:?}");
        if len > 40 * MIB {
            assert_eq!(progress.given.len(), 3, "{:?}", progress.given);
            let outlines = 2 * 3 * made.content.outline_len() as u64;
            let served: u64 = peers.iter().map(|peer| peer.counters().transfer_bytes_out).sum();
            // Towards the end a chunk or two may come twice, and one may be cut off.
            let twice = 8 * MIB as u64;
            assert!((len as u64..=len as u64 + outlines + twice).contains(&served), "{served}");
        }
        assert!(peers.iter().all(|peer| peer.counters().dropped.is_empty()));
    }
}

#[tokio::test]
async fn one_of_three_lies_and_is_left_and_blamed() {
    let made = Made::new(24 * MIB);
    let mut peers = sources(&made, &[fast(), vicious(Vice::Lies), fast()]).await;
    let mut download = start(&made, &peers);
    let progress = finish(&mut peers, &mut download).await;
    made.check();
    assert_eq!(progress.liars.keys().collect::<Vec<_>>(), [&key(2)], "{progress:?}");
    assert!(!progress.given.contains_key(&key(2)));
    let asker = peers.len() - 1;
    until_counted(&mut peers, asker, DropReason::BlobLie).await;
}

#[tokio::test]
async fn a_lie_that_comes_late_costs_one_chunk() {
    let made = Made::new(24 * MIB);
    let slow = TransferConfig { bytes_per_s: 6 * MIB as u64, ..fast() };
    let mut peers = sources(&made, &[slow]).await;
    let mut download = start(&made, &peers);
    assert!(!until(&mut peers, &mut download, "some of it", |_, now| now.here > 13 * MIB as u64).await);
    let mut other = made.bytes.clone();
    other.iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(made.dir.path().join("served"), [b"..", &other[..]].concat()).unwrap();
    until(&mut peers, &mut download, "the lie", |_, now| now.liars.contains_key(&key(1))).await;
    let (_, why) = download.progress().liars.pop_first().unwrap();
    assert!(why.contains("with other bytes than its hash names"), "{why}");
    // Another source appears.
    fs::write(made.dir.path().join("served"), [b"..", &made.bytes[..]].concat()).unwrap();
    let first = peers[0].listen_addresses();
    peers.insert(1, bind(9, SWARM, NetConfig { transfers: fast(), ..config(&first) }).await);
    peers[1].share(made.share());
    let at = peers[1].listen_addresses();
    peers[2].dial(key(9), at);
    download.add(&key(9));
    finish(&mut peers, &mut download).await;
    made.check();
}

async fn until_counted(peers: &mut [Network], at: usize, reason: DropReason) {
    let deadline = Instant::now() + WITHIN;
    while !peers[at].counters().dropped.contains_key(&reason) {
        assert!(Instant::now() < deadline, "{reason:?} is not counted: {:?}", peers[at].counters());
        one_event(peers, Instant::now() + Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn other_lengths_than_asked_for_are_refused_before_anything_is_read() {
    for declared in [u32::MAX, 31, CHUNK_BYTES as u32 + 1] {
        let made = Made::new(6 * MIB);
        let mut peers = sources(&made, &[vicious(Vice::Declares(declared)), fast()]).await;
        let mut download = start(&made, &peers);
        let progress = finish(&mut peers, &mut download).await;
        made.check();
        let why = &progress.liars[&key(1)];
        assert!(why.starts_with(&format!("{declared} bytes where ")), "{why}");
    }
    // And what nobody can have is not even begun.
    let made = Made::new(6 * MIB);
    let peers = sources(&made, &[]).await;
    for len in [0, u64::MAX] {
        let content = Content { len, ..made.content };
        let mut download = peers[0].download(content, made.target(), &[]);
        assert!(matches!(download.finished().await, Err(DownloadError::Length(of)) if of == len));
        assert!(!made.target().partial().exists());
    }
}

#[tokio::test]
async fn a_slow_drip_keeps_nobody_waiting() {
    let made = Made::new(12 * MIB);
    let drip = vicious(Vice::Drips(Duration::from_millis(100)));
    let mut peers = sources(&made, &[drip, fast()]).await;
    let mut download = start(&made, &peers);
    let begun = Instant::now();
    let progress = finish(&mut peers, &mut download).await;
    made.check();
    assert!(begun.elapsed() < limits::CHUNK_WITHIN / 3, "{:?}", begun.elapsed());
    assert_eq!(progress.given.keys().collect::<Vec<_>>(), [&key(2)]);
}

#[tokio::test]
async fn the_only_source_dies_half_way_and_another_one_gives_the_rest() {
    let made = Made::new(24 * MIB);
    let slow = TransferConfig { bytes_per_s: 6 * MIB as u64, ..fast() };
    let mut peers = sources(&made, &[slow]).await;
    let first = peers[0].listen_addresses();
    let mut download = start(&made, &peers);
    assert!(!until(&mut peers, &mut download, "half of it", |_, now| now.here >= 12 * MIB as u64).await);
    peers.remove(0);
    until(&mut peers, &mut download, "trouble", |_, now| now.trouble.is_some()).await;
    let before = download.progress();
    peers.insert(0, bind(9, SWARM, NetConfig { transfers: fast(), ..config(&first) }).await);
    peers[0].share(made.share());
    let at = peers[0].listen_addresses();
    peers[1].dial(key(9), at);
    download.add(&key(9));
    let progress = finish(&mut peers, &mut download).await;
    made.check();
    assert_eq!(progress.given[&key(9)] + before.here, made.bytes.len() as u64, "nothing comes twice");
}

#[tokio::test]
async fn nobody_gets_more_than_the_rate_and_nothing_is_lost_by_it() {
    let made = Made::new(12 * MIB);
    let rate = 4 * MIB as u64;
    for (bytes_per_s, peer_bytes_per_s) in [(rate, 1 << 30), (1 << 30, rate)] {
        let mean = TransferConfig { bytes_per_s, peer_bytes_per_s, vice: None };
        let mut peers = sources(&made, &[mean]).await;
        let begun = Instant::now();
        let mut download = start(&made, &peers);
        let progress = finish(&mut peers, &mut download).await;
        made.check();
        // Two seconds' worth goes at once, the rest at the rate.
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
        assert!(progress.trouble.is_none() && total(&progress) == made.bytes.len() as u64);
        fs::remove_file(made.target().path).unwrap();
    }
}

#[tokio::test]
async fn what_is_not_there_or_changed_is_not_served_and_nonsense_ends_its_stream() {
    let made = Made::new(6 * MIB);
    let mut peers = sources(&made, &[fast(), fast()]).await;
    fs::write(made.dir.path().join("other"), vec![7; 6 * MIB]).unwrap();
    peers[0].share(Share { path: made.dir.path().join("other"), offset: 0, ..made.share() });
    peers[1].unshare(&made.content.hash);
    let mut download = start(&made, &peers);
    until(&mut peers, &mut download, "trouble", |_, now| {
        now.trouble.as_ref().is_some_and(|(_, why)| why == "it does not have it")
    })
    .await;
    assert!(download.progress().liars.is_empty());
    peers[1].share(made.share());

    let content = made.content;
    let framed = |part| {
        let request = wire::encode(&RangeRequest { content, part });
        [&(request.len() as u32).to_be_bytes()[..], &request].concat()
    };
    let chunks = |first, count| framed(RangePart::Chunks { first, count });
    let nonsense = [
        vec![0xff; 4],
        vec![0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        chunks(6, 1),
        chunks(0, 0),
        chunks(0, limits::RUN_CHUNKS_MAX + 1),
        chunks(u32::MAX, u32::MAX),
    ];
    let (opener, to) = (peers[2].transfers.opener(), peer_id(&key(2)).unwrap());
    for bytes in nonsense {
        let ends = async {
            let mut stream: Stream = loop {
                match opener.open(to).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            stream.write_all(&bytes).await.unwrap();
            stream.flush().await.unwrap();
            stream.read(&mut [0; 16]).await.unwrap_or(0)
        };
        tokio::pin!(ends);
        let deadline = Instant::now() + WITHIN;
        let got = loop {
            assert!(Instant::now() < deadline, "{bytes:?} is not refused");
            tokio::select! {
                got = &mut ends => break got,
                _ = one_event(&mut peers, deadline) => {}
            }
        };
        assert_eq!(got, 0, "{bytes:?}");
    }
    finish(&mut peers, &mut download).await;
    made.check();
}

#[tokio::test]
async fn nothing_goes_through_a_relay_point_and_everything_once_there_is_a_direct_connection() {
    let relay = relay_point().await;
    let dials_only =
        || NetConfig { listen: Vec::new(), transfers: fast(), ..config(std::slice::from_ref(&relay)) };
    let made = Made::new(6 * MIB);
    let mut peers = [bind(1, SWARM, dials_only()).await, bind(2, SWARM, dials_only()).await];
    peers[0].share(made.share());
    wait_for(&mut peers, "a relayed link", |peers| linked(peers, true)).await;
    let mut download = start(&made, &peers);
    until(&mut peers, &mut download, "trouble", |_, now| {
        now.trouble.as_ref().is_some_and(|(_, why)| why == "no direct connection")
    })
    .await;
    // Whoever opens a stream there all the same finds no protocol.
    assert_eq!(peers[0].counters().transfer_bytes_out, 0);
    let mut direct = [
        bind(1, SWARM, NetConfig { transfers: fast(), ..config(&[]) }).await,
        peers.into_iter().next_back().unwrap(),
    ];
    direct[0].share(made.share());
    let at = direct[0].listen_addresses();
    direct[1].dial(key(1), at);
    finish(&mut direct, &mut download).await;
    made.check();
}

#[tokio::test]
async fn more_streams_than_are_served_are_told_so_and_come_again() {
    let made = Made::new(4 * MIB);
    let mean = TransferConfig { bytes_per_s: 2 * MIB as u64, ..fast() };
    let mut peers = sources(&made, &[mean]).await;
    let target = |n: u32| Target { path: made.dir.path().join(n.to_string()), ..made.target() };
    let mut downloads: Vec<Download> =
        (0..3).map(|n| peers[1].download(made.content, target(n), &[key(1)])).collect();
    for download in &mut downloads {
        finish(&mut peers, download).await;
    }
    assert!((0..3).all(|n| fs::read(target(n).path).unwrap()[HEAD.len()..] == made.bytes));
    until_counted(&mut peers, 0, DropReason::BlobBusy).await;
}

/// A process of its own, killed when the test ends; the test binary again, with the test below.
struct Killed(Child);

impl Killed {
    fn start(made: &Made, address: &str) -> Self {
        let Content { hash, len } = made.content;
        let told = format!("{} {address} {hash} {len}", made.dir.path().display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "net::tests::transfers::a_process_downloads_where_it_is_told_to"]);
        Self(command.env(CHILD, told).spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_process_downloads_where_it_is_told_to() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [dir, address, hash, len] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let hash = Hash(crate::manifest::parse_key(hash).unwrap().0);
    let content = Content { hash, len: len.parse().unwrap() };
    let target = Target { path: PathBuf::from(dir).join("fetched"), prefix: HEAD.to_vec() };
    let mut peers = [bind(7, SWARM, config(&[address.to_owned()])).await];
    let mut download = peers[0].download(content, target, &[key(1)]);
    finish(&mut peers, &mut download).await;
}

#[tokio::test]
async fn a_download_goes_on_after_its_process_was_killed() {
    static TOLD: OnceLock<()> = OnceLock::new();
    assert!(std::env::var(CHILD).is_err() && TOLD.set(()).is_ok(), "not within itself");
    let made = Made::new(32 * MIB);
    let slow = TransferConfig { bytes_per_s: 8 * MIB as u64, ..fast() };
    let mut peers = sources(&made, &[slow]).await;
    let mut asker = peers.pop().unwrap();
    let killed = Killed::start(&made, &peers[0].listen_addresses()[0]);
    let deadline = Instant::now() + WITHIN;
    while peers[0].counters().transfer_bytes_out < 20 * MIB as u64 {
        assert!(Instant::now() < deadline, "the process fetches nothing");
        one_event(&mut peers, Instant::now() + Duration::from_millis(5)).await;
    }
    drop(killed);
    assert!(!made.target().path.exists() && whole(&made.target().partial()));
    let first = peers[0].listen_addresses();
    asker.dial(key(1), first);
    peers.push(asker);
    let mut download = start(&made, &peers);
    let progress = finish(&mut peers, &mut download).await;
    made.check();
    // What the source had sent and the process not yet written is at most what the streams hold.
    assert!(progress.resumed >= 12 * MIB as u64, "{progress:?}");
    assert_eq!(progress.resumed + total(&progress), made.bytes.len() as u64);
}

fn whole(partial: &Path) -> bool {
    fs::metadata(partial).is_ok_and(|file| file.len() > HEAD.len() as u64)
}
