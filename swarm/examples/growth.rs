//! What a larger swarm costs: bytes, delays and processor time against the number of peers.
//!
//! `cargo run --release -p murmur-swarm --example growth -- swarm/docs` writes `growth.csv` and `growth.svg` there. The
//! peers are real ones over the loopback of a network namespace of their own, whose counters tell the bytes on the wire.

#![allow(clippy::expect_used, reason = "a measurement that cannot be made ends")]

#[path = "growth/chart.rs"]
mod chart;
#[path = "../tests/company/mod.rs"]
mod company;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use chart::{Chart, Curve};
use company::{Company, Course, Ended};
use swarm::net::{NetConfig, NetCounters};
use swarm::simulate::{Plan, play_seeds};

/// Sizes of the swarms, unless others are asked for.
const PEERS: [u8; 5] = [4, 8, 16, 32, 64];
/// Sizes of simulated ones, and rounds.
const SIMULATED: [u16; 5] = [16, 32, 64, 128, 256];
const SIMULATED_ROUNDS: u32 = 3;
/// Rounds before those that are measured, and those.
const FIRST: u32 = 2;
const ROUNDS: u32 = 3;
/// Time to work for each peer of the swarm: more peers need more of this machine, which they share.
const WORK_PER_PEER: Duration = Duration::from_millis(250);
/// Set inside the namespace.
const INSIDE: &str = "MURMUR_GROWTH_INSIDE";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((out, sizes)) = arguments.split_first() else {
        eprintln!(
            "error: name a folder for the results, and sizes if others are wanted: growth FOLDER [PEERS…]"
        );
        return ExitCode::FAILURE;
    };
    let result =
        if std::env::var_os(INSIDE).is_some() { measure(Path::new(out), sizes) } else { enter(&arguments) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Starts again where nobody else uses the loopback.
fn enter(arguments: &[String]) -> Result<(), Failure> {
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(INSIDE, "1")
        .status()
        .map_err(|error| format!("unshare: {error}; hint: this needs Linux with util-linux and iproute2"))?;
    if status.success() { Ok(()) } else { Err("not measured".into()) }
}

fn measure(out: &Path, sizes: &[String]) -> Result<(), Failure> {
    let whole = sizes.is_empty();
    let sizes = match sizes {
        [] => PEERS.to_vec(),
        sizes => sizes.iter().map(|size| size.parse()).collect::<Result<_, _>>()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    println!("{}", Row::HEAD);
    for peers in sizes {
        let row = runtime.block_on(Row::measure(peers))?;
        println!("{}", row.line());
        rows.push(row);
    }
    fs::create_dir_all(out)?;
    if whole {
        fs::write(out.join("simulated.csv"), simulated()?)?;
    }
    let lines: Vec<String> =
        std::iter::once(Row::HEAD.to_owned()).chain(rows.iter().map(Row::line)).collect();
    fs::write(out.join("growth.csv"), lines.join("\n") + "\n")?;
    Ok(fs::write(out.join("growth.svg"), plot(&rows))?)
}

/// What one size costs.
struct Row {
    peers: u8,
    round: Duration,
    /// Answers that counted, of all that could have.
    answered: f64,
    /// Messages that a peer says in a round, and their bytes.
    messages: f64,
    said_bytes: f64,
    /// Bytes on the wire that a peer gets in a round, headers included; as many are sent.
    wire_bytes: f64,
    /// Those for each byte that was new to its receiver.
    amplification: f64,
    /// Messages that arrived, of all that should have.
    delivered: f64,
    /// From author to receiver: the median, all but one in a hundred, the longest.
    delays: [Duration; 3],
    /// Processor time for each message that arrived.
    processor: Duration,
}

/// What there was at one time.
struct Reading {
    wire_bytes: u64,
    processor: Duration,
    net: Vec<NetCounters>,
}

impl Row {
    const HEAD: &str = "peers,round_ms,answered,messages,said_bytes,wire_bytes,amplification,delivered,delay_p50_ms,\
                        delay_p99_ms,delay_max_ms,processor_us";

    async fn measure(peers: u8) -> Result<Self, Failure> {
        let course =
            Course { peers, prompts: 6, completions: 4, text_bytes: 400, work: WORK_PER_PEER * peers.into() };
        let net = NetConfig {
            listen: vec!["127.0.0.1:0".into()],
            peers_expected: peers.into(),
            ..NetConfig::default()
        };
        let mut company = Company::start(&course, &net).await?;
        let before = Reading::of(&company.reach(FIRST, peers).await, peers)?;
        company.post.take();
        let begun = Instant::now();
        let ended = company.reach(FIRST + ROUNDS, peers).await;
        let (after, took) = (Reading::of(&ended, peers)?, begun.elapsed());
        let delays = company.post.take();
        company.stop().await;

        let of = |pick: fn(&NetCounters) -> u64| -> f64 {
            let pairs = before.net.iter().zip(&after.net);
            pairs.map(|(before, after)| pick(after) - pick(before)).sum::<u64>() as f64
        };
        let rounds_of_all = f64::from(peers) * f64::from(ROUNDS);
        let wire_bytes = (after.wire_bytes - before.wire_bytes) as f64;
        let at =
            |permille: usize| delays.get((delays.len() * permille / 1000).min(delays.len() - 1)).copied();
        let answered: usize = ended.iter().map(|ended| ended.answered).sum();
        Ok(Self {
            peers,
            round: took / ROUNDS,
            answered: answered as f64 / (ended.len() * usize::from(peers)) as f64,
            messages: of(|net| net.sent) / rounds_of_all,
            said_bytes: of(|net| net.bytes_out) / rounds_of_all,
            wire_bytes: wire_bytes / rounds_of_all,
            amplification: wire_bytes / of(|net| net.bytes_in),
            delivered: of(|net| net.received) / (of(|net| net.sent) * (f64::from(peers) - 1.0)),
            delays: [500, 990, 1000].map(|permille| at(permille).unwrap_or_default()),
            processor: (after.processor - before.processor) / delays.len() as u32,
        })
    }

    fn line(&self) -> String {
        let Self { peers, answered, messages, said_bytes, wire_bytes, amplification, delivered, .. } = self;
        let [p50, p99, max] = self.delays.map(|delay| delay.as_secs_f64() * 1000.0);
        format!(
            "{peers},{},{answered:.3},{messages:.1},{said_bytes:.0},{wire_bytes:.0},{amplification:.2},{delivered:.4},\
             {p50:.1},{p99:.1},{max:.1},{}",
            self.round.as_millis(),
            self.processor.as_micros()
        )
    }
}

impl Reading {
    fn of(ended: &[Ended], peers: u8) -> Result<Self, Failure> {
        let newest =
            |place| ended.iter().rev().find(|ended| ended.peer == place).map(|ended| ended.net.clone());
        Ok(Self {
            wire_bytes: loopback_bytes()?,
            processor: processor_time()?,
            net: (0..peers.into()).filter_map(newest).collect(),
        })
    }
}

/// Bytes that the loopback of this namespace has carried.
fn loopback_bytes() -> Result<u64, Failure> {
    let table = fs::read_to_string("/proc/self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).ok_or("no loopback")?;
    Ok(line.split_whitespace().next().ok_or("no count")?.parse()?)
}

/// Processor time of this process, user and system.
fn processor_time() -> Result<Duration, Failure> {
    // Fields 14 and 15, in hundredths of a second; names may have blanks, and end with a parenthesis.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields
        .get(11..13)
        .ok_or("no times")?
        .iter()
        .map(|field| field.parse::<u64>())
        .sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// Larger swarms in virtual time: bytes that a peer says in a round of little work, by topic, and gets from all others.
fn simulated() -> Result<String, Failure> {
    let topics = ["presence", "answers", "votes", "control"];
    let mut lines = format!("peers,round_ms,{},heard_bytes,computed_ms\n", topics.join(","));
    for peers in SIMULATED {
        let whole = Plan::new(peers, SIMULATED_ROUNDS, 1);
        let plan = Plan { byzantine: 0, faults: BTreeSet::new(), ..whole };
        let begun = Instant::now();
        let runs = play_seeds(&plan, 1, 1)?;
        let run = runs.first().ok_or("nothing was played")?;
        let shares = u64::from(peers) * u64::from(run.rounds.max(1));
        let said = topics.map(|topic| run.said.get(topic).map_or(0, |[_, bytes]| bytes / shares));
        let heard = said.iter().sum::<u64>() * u64::from(peers - 1);
        let line = format!(
            "{peers},{},{},{heard},{}",
            run.virtual_ms / u64::from(run.rounds.max(1)),
            said.map(|bytes| bytes.to_string()).join(","),
            begun.elapsed().as_millis() as u64 / shares,
        );
        println!("{line}");
        lines += &(line + "\n");
    }
    Ok(lines)
}

fn plot(rows: &[Row]) -> String {
    let curve = |name: &'static str, of: &dyn Fn(&Row) -> f64| Curve {
        name,
        points: rows.iter().map(|row| (f64::from(row.peers), of(row))).collect(),
    };
    let charts = [
        Chart {
            title: "kB a peer and round",
            curves: vec![
                curve("on the wire", &|row| row.wire_bytes / 1000.0),
                curve("new to its receiver", &|row| row.wire_bytes / row.amplification / 1000.0),
            ],
        },
        Chart {
            title: "ms from author to receiver",
            curves: vec![
                curve("99 of 100", &|row| row.delays[1].as_secs_f64() * 1000.0),
                curve("median", &|row| row.delays[0].as_secs_f64() * 1000.0),
            ],
        },
        Chart {
            title: "bytes on the wire for each new one",
            curves: vec![curve("", &|row| row.amplification)],
        },
    ];
    chart::page(&charts)
}
