//! How fast a large content comes, and whether it comes at all: over loopback, against a plain copy over TCP.
//!
//! `cargo run --release -p murmur-swarm --example download -- --mb 300`
//!
//! Each part is a download of so many megabytes: from one source, from three, with one of three lying from the
//! middle on, with a process killed half way, with the only source gone half way and another one appearing. All of
//! them end with the file whose hash was asked for, or the program ends with an error.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use swarm::identity::Identity;
use swarm::net::{Download, NetConfig, Network, Progress, Share, Target, TransferConfig};
use swarm::topic::SwarmId;
use swarm::tree::{Content, Outline};
use swarm::wire::Hash;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

type Failure = Box<dyn Error + Send + Sync>;

const SWARM: SwarmId = SwarmId([9; 32]);
const MB: u64 = 1_000_000;
const UNLIMITED: u64 = 1 << 40;
const HALF_WITHIN: Duration = Duration::from_secs(120);

/// A source with a thread of its own, as every peer is a process of its own.
struct Source {
    key: judge::PeerKey,
    address: String,
    /// Dropping it ends the source.
    _stop: oneshot::Sender<()>,
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

fn network(seed: u8, bootstrap: &[String], rate: u64) -> impl Future<Output = Result<Network, Failure>> {
    let transfers = TransferConfig { bytes_per_s: rate, peer_bytes_per_s: rate };
    let listen = vec!["127.0.0.1:0".to_owned()];
    let config = NetConfig { listen, bootstrap: bootstrap.to_vec(), transfers, ..NetConfig::default() };
    async move { Ok(Network::bind(&identity(seed), SWARM, config).await?) }
}

fn source(seed: u8, share: Share, rate: u64) -> Result<Source, Failure> {
    let (stop, mut stopped) = oneshot::channel::<()>();
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<(), Failure> {
        Runtime::new()?.block_on(async {
            let mut network = network(seed, &[], rate).await?;
            network.share(share);
            told.send(network.listen_addresses().remove(0))?;
            loop {
                tokio::select! {
                    _ = network.next() => {}
                    _ = &mut stopped => return Ok(()),
                }
            }
        })
    });
    Ok(Source { key: identity(seed).public(), address: address.recv()?, _stop: stop })
}

/// Drives the network until the download ends or `half` of it is here; how far it is.
async fn drive(
    network: &mut Network,
    download: &mut Download,
    half: Option<u64>,
) -> Result<Progress, Failure> {
    let deadline = Instant::now() + HALF_WITHIN;
    loop {
        let progress = download.progress();
        if half.is_some_and(|half| progress.here >= half) {
            return Ok(progress);
        }
        if Instant::now() > deadline {
            return Err(format!("too slow: {progress:?}").into());
        }
        tokio::select! {
            ended = download.finished() => {
                ended?;
                return Ok(download.progress());
            }
            _ = network.next() => {}
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
}

struct Bench {
    dir: PathBuf,
    content: Content,
}

impl Bench {
    fn share(&self, name: &str) -> Share {
        Share { content: self.content, path: self.dir.join(name), offset: 0 }
    }

    fn target(&self) -> Target {
        Target { path: self.dir.join("fetched"), prefix: Vec::new() }
    }

    /// Reads the file again and hashes it.
    fn check(&self) -> Result<(), Failure> {
        let outline = Outline::of(&mut File::open(self.target().path)?)?;
        if outline.content() != self.content {
            return Err("the file is not what was asked for".into());
        }
        Ok(fs::remove_file(self.target().path)?)
    }

    fn tell(&self, what: &str, took: Duration, progress: &Progress) -> Result<(), Failure> {
        self.check()?;
        let rate = (progress.here - progress.resumed) as f64 / 1e6 / took.as_secs_f64();
        let mut given: Vec<String> =
            progress.given.iter().map(|(peer, bytes)| format!("{} {}", peer.name(), bytes / MB)).collect();
        given.extend(progress.liars.iter().map(|(peer, why)| format!("{} lied: {why}", peer.name())));
        println!(
            "{what:<44} {rate:>6.0} MB/s  {:>6.2} s  resumed {:>4} MB  ({})",
            took.as_secs_f64(),
            progress.resumed / MB,
            given.join(", ")
        );
        Ok(())
    }

    fn fetch(&self, runtime: &Runtime, what: &str, sources: &[Source]) -> Result<(), Failure> {
        runtime.block_on(async {
            let bootstrap: Vec<String> = sources.iter().map(|source| source.address.clone()).collect();
            let mut network = network(100, &bootstrap, UNLIMITED).await?;
            while network.peers().len() < sources.len() {
                network.next().await;
            }
            let keys: Vec<judge::PeerKey> = sources.iter().map(|source| source.key).collect();
            let begun = Instant::now();
            let mut download = network.download(self.content, self.target(), &keys);
            let progress = drive(&mut network, &mut download, None).await?;
            self.tell(what, begun.elapsed(), &progress)
        })
    }
}

/// The same file over plain TCP, to a file that is synced.
fn plain_copy(bench: &Bench) -> Result<Duration, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let from = bench.dir.join("served");
    let sender = std::thread::spawn(move || -> io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        io::copy(&mut File::open(from)?, &mut stream)
    });
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    let mut file = File::create(bench.target().path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read])?;
    }
    file.sync_all()?;
    let took = begun.elapsed();
    sender.join().map_err(|_| "the sender failed")??;
    bench.check()?;
    Ok(took)
}

/// The process that is killed: this program again.
fn child(args: &[String]) -> Result<(), Failure> {
    let [dir, address, key, hash, len] = args else { return Err("five arguments".into()) };
    let key = swarm::manifest::parse_key(key).ok_or("a key")?;
    let hash = Hash(swarm::manifest::parse_key(hash).ok_or("a hash")?.0);
    let bench = Bench { dir: dir.into(), content: Content { hash, len: len.parse()? } };
    Runtime::new()?.block_on(async {
        let mut network = network(101, std::slice::from_ref(address), UNLIMITED).await?;
        let mut download = network.download(bench.content, bench.target(), &[key]);
        drive(&mut network, &mut download, None).await?;
        Ok(())
    })
}

fn killed(bench: &Bench, runtime: &Runtime) -> Result<(), Failure> {
    // Slow enough to be killed half way.
    let slow = source(1, bench.share("served"), bench.content.len / 4)?;
    let Content { hash, len } = bench.content;
    let mut process = Command::new(std::env::current_exe()?)
        .arg("--child")
        .args([&bench.dir.display().to_string(), &slow.address, &slow.key.hex()])
        .args([hash.to_string(), len.to_string()])
        .spawn()?;
    let outline = Outline::of(&mut File::open(bench.dir.join("served"))?)?;
    let deadline = Instant::now() + HALF_WITHIN;
    while here(&bench.target().partial(), &outline)? < len / 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill()?;
    process.wait()?;
    drop(slow);
    let source = source(2, bench.share("served"), UNLIMITED)?;
    bench.fetch(runtime, "after a SIGKILL half way", &[source])
}

/// Bytes of whole chunks in a partial file.
fn here(partial: &Path, outline: &Outline) -> Result<u64, Failure> {
    let Ok(mut file) = File::open(partial) else { return Ok(0) };
    let (mut chunk, mut here) = (Vec::new(), 0);
    for index in 0..outline.content().chunks() {
        chunk.resize(outline.content().chunk_len(index), 0);
        if file.read_exact(&mut chunk).is_err() {
            break;
        }
        here += if outline.holds(index, &chunk) { chunk.len() as u64 } else { 0 };
    }
    Ok(here)
}

fn liar(bench: &Bench, runtime: &Runtime) -> Result<(), Failure> {
    let path = bench.dir.join("spoilt");
    fs::copy(bench.dir.join("served"), &path)?;
    let mut sources = vec![source(1, bench.share("spoilt"), UNLIMITED)?];
    // It must have hashed its file before that changes, or it would find that it has something else.
    bench.fetch(runtime, "(one source, to be spoilt)", &sources)?;
    let mut file = File::options().write(true).open(&path)?;
    file.seek(SeekFrom::Start(bench.content.len / 3))?;
    file.write_all(&vec![0xa5; (bench.content.len / 3) as usize])?;
    for seed in [2, 3] {
        sources.push(source(seed, bench.share("served"), UNLIMITED)?);
    }
    bench.fetch(runtime, "one of three lies in the middle third", &sources)
}

fn gone(bench: &Bench, runtime: &Runtime) -> Result<(), Failure> {
    let only = source(1, bench.share("served"), bench.content.len / 4)?;
    runtime.block_on(async {
        let mut network = network(100, std::slice::from_ref(&only.address), UNLIMITED).await?;
        while network.peers().is_empty() {
            network.next().await;
        }
        let begun = Instant::now();
        let mut download = network.download(bench.content, bench.target(), &[only.key]);
        drive(&mut network, &mut download, Some(bench.content.len / 2)).await?;
        drop(only);
        let other = source(2, bench.share("served"), UNLIMITED)?;
        network.dial(other.key, vec![other.address.clone()]);
        download.add(&other.key);
        let progress = drive(&mut network, &mut download, None).await?;
        bench.tell("the only source dies half way, another comes", begun.elapsed(), &progress)
    })
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mb: u64 = match args.split_first() {
        Some((first, rest)) if first == "--child" => return child(rest),
        Some((first, rest)) if first == "--mb" => rest.first().ok_or("--mb N")?.parse()?,
        None => 300,
        Some(_) => return Err("usage: download [--mb N]".into()),
    };
    let dir = std::env::temp_dir().join(format!("murmur-download-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let mut served = File::create(dir.join("served"))?;
    let mut values = blake3::Hasher::new().update(b"values").finalize_xof();
    let mut chunk = vec![0; MB as usize];
    for _ in 0..mb {
        values.fill(&mut chunk);
        served.write_all(&chunk)?;
    }
    served.sync_all()?;
    let begun = Instant::now();
    let content = Outline::of(&mut File::open(dir.join("served"))?)?.content();
    let bench = Bench { dir: dir.clone(), content };
    println!("{mb} MB, hashed in {:.2} s: {}", begun.elapsed().as_secs_f64(), content.hash);
    let measured = measure(&bench);
    fs::remove_dir_all(&dir)?;
    measured
}

fn measure(bench: &Bench) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    let plain = plain_copy(bench)?;
    let rate = bench.content.len as f64 / 1e6 / plain.as_secs_f64();
    println!("{:<44} {rate:>6.0} MB/s  {:>6.2} s", "a plain copy over TCP", plain.as_secs_f64());
    bench.fetch(&runtime, "from one source", &[source(1, bench.share("served"), UNLIMITED)?])?;
    let three: Result<Vec<Source>, Failure> =
        (1..=3).map(|seed| source(seed, bench.share("served"), UNLIMITED)).collect();
    bench.fetch(&runtime, "from three sources", &three?)?;
    liar(bench, &runtime)?;
    killed(bench, &runtime)?;
    gone(bench, &runtime)
}
