//! What a larger swarm costs: bytes, delays and processor time against the number of peers.
//!
//! `cargo run --release -p murmur-swarm --example growth -- swarm/docs` writes `growth.csv`, `growth.svg` and, of swarms that
//! are too large for one machine, `simulated.csv` there. The others are real, over the loopback of a network namespace of
//! their own, whose counters tell the bytes on the wire.

#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be made ends")]

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
const PEERS: [u16; 5] = [4, 8, 16, 32, 64];
/// Larger ones are simulated.
const REAL_MAX: u8 = 64;
/// Sizes of simulated ones, unless others are asked for, and rounds.
const SIMULATED: [u16; 2] = [128, 256];
const SIMULATED_ROUNDS: u32 = 3;
const SIMULATED_HEAD: &str = "peers,round_ms,presence,answers,votes,control,heard_bytes,computed_ms";
/// Rounds before those that are measured, and those.
const FIRST: u32 = 2;
const ROUNDS: u32 = 3;
/// Time to work for each peer of the swarm: more peers need more of this machine, which they share.
const WORK_PER_PEER: Duration = Duration::from_millis(250);
/// How long a proposer is waited for.
const VIEW: Duration = Duration::from_secs(3);
/// How long the rounds of one size may take.
const WITHIN: Duration = Duration::from_secs(200);
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

/// Measures these sizes, or all, and draws them with those measured before.
fn measure(out: &Path, sizes: &[String]) -> Result<(), Failure> {
    let sizes: Vec<u16> = match sizes {
        [] => PEERS.into_iter().chain(SIMULATED).collect(),
        sizes => sizes.iter().map(|size| size.parse()).collect::<Result<_, _>>()?,
    };
    fs::create_dir_all(out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (real, simulated) = (out.join("growth.csv"), out.join("simulated.csv"));
    for peers in sizes {
        match u8::try_from(peers).ok().filter(|peers| *peers <= REAL_MAX) {
            Some(peers) => record(&real, Row::HEAD, &runtime.block_on(Row::measure(peers))?.line())?,
            None => record(&simulated, SIMULATED_HEAD, &simulate(peers)?)?,
        }
    }
    match fs::read_to_string(real) {
        Ok(table) => Ok(fs::write(out.join("growth.svg"), plot(&table)?)?),
        // Only simulated sizes were asked for.
        Err(_) => Ok(()),
    }
}

/// Puts a line into a table, for that of the same size if there is one.
fn record(path: &Path, head: &str, line: &str) -> Result<(), Failure> {
    println!("{head}\n{line}");
    let before = fs::read_to_string(path).unwrap_or_default();
    let size = |line: &str| line.split(',').next().and_then(|size| size.parse::<u32>().ok());
    let others = before.lines().filter(|other| size(other).is_some() && size(other) != size(line));
    let mut lines: Vec<&str> = others.chain([line]).collect();
    lines.sort_by_key(|line| size(line));
    Ok(fs::write(path, format!("{head}\n{}\n", lines.join("\n")))?)
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
        let course = Course {
            peers,
            prompts: 6,
            completions: 4,
            text_bytes: 400,
            work: WORK_PER_PEER * peers.into(),
            view: VIEW,
        };
        let net = NetConfig {
            listen: vec!["127.0.0.1:0".into()],
            peers_expected: peers.into(),
            ..NetConfig::default()
        };
        let mut company = Company::start(&course, &net, Vec::new()).await?;
        let before = Reading::of(&company.reach(FIRST, peers, WITHIN).await, peers)?;
        company.post.take();
        let begun = Instant::now();
        let ended = company.reach(FIRST + ROUNDS, peers, WITHIN).await;
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
        let answered: usize = ended.iter().map(|ended| ended.answered.len()).sum();
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

/// A larger swarm in virtual time: bytes that a peer says in a round of little work, by topic, and gets from all others.
fn simulate(peers: u16) -> Result<String, Failure> {
    let whole = Plan::new(peers, SIMULATED_ROUNDS, 1);
    let plan = Plan { byzantine: 0, faults: BTreeSet::new(), ..whole };
    let begun = Instant::now();
    let runs = play_seeds(&plan, 1, 1)?;
    let run = runs.first().filter(|run| run.rounds > 0).ok_or("no round ended")?;
    let shares = u64::from(peers) * u64::from(run.rounds);
    let topics = ["presence", "answers", "votes", "control"];
    let said = topics.map(|topic| run.said.get(topic).map_or(0, |[_, bytes]| bytes / shares));
    let heard = said.iter().sum::<u64>() * u64::from(peers - 1);
    let computed = begun.elapsed().as_millis() as u64 / shares;
    let said = said.map(|bytes| bytes.to_string()).join(",");
    Ok(format!("{peers},{},{said},{heard},{computed}", run.virtual_ms / u64::from(run.rounds)))
}

fn plot(table: &str) -> Result<String, Failure> {
    let cells = |line: &str| line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>();
    let rows = table.lines().skip(1).map(cells).collect::<Result<Vec<_>, _>>()?;
    let place = |column: &str| {
        let place = Row::HEAD.split(',').position(|name| name == column);
        place.ok_or_else(|| format!("the table has no {column}"))
    };
    let curve = |name, column: &str, unit: f64| -> Result<Curve, Failure> {
        let (x, y) = (place("peers")?, place(column)?);
        let points = rows.iter().filter_map(|row| Some((*row.get(x)?, row.get(y)? / unit))).collect();
        Ok(Curve { name, points })
    };
    let charts = [
        Chart { title: "kB on the wire a peer and round", curves: vec![curve("", "wire_bytes", 1000.0)?] },
        Chart {
            title: "ms from author to receiver",
            curves: vec![curve("99 of 100", "delay_p99_ms", 1.0)?, curve("median", "delay_p50_ms", 1.0)?],
        },
        Chart { title: "bytes on the wire for each new one", curves: vec![curve("", "amplification", 1.0)?] },
    ];
    Ok(chart::page(&charts))
}
