//! What a peer with this config would meet.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy::memory::{self, Estimate};
use swarm::identity::Identity;
use swarm::net;
use tasks::Catalogue;

use super::{CONFIG, Finding};
use crate::compute::Compute;
use crate::config;
use crate::growth::Growth;
use crate::join::{self, JoinConfig};
use crate::join_code::JoinCode;
use crate::layers::{self, Layered, Override};
use crate::model::Source;
use crate::packs::PackSource;
use crate::record::RunDir;
use crate::state::identity_path;

/// How long a peer has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Room for logs, records and exports besides checkpoints.
const RECORDS_BYTES: u64 = 1 << 30;
/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

pub(super) fn findings(path: &Path, set: &[Override]) -> Vec<Finding> {
    let file = path.display().to_string();
    match JoinCode::parse(path) {
        Ok(None) => {}
        Ok(Some(_)) => {
            let hint = "`murmur join CODE --dry-run` writes a config and says where; give that file";
            return vec![Finding::fail(CONFIG, "this is a code and not a config", hint)];
        }
        Err(error) => return vec![Finding::of_error(CONFIG, &error)],
    }
    let layered: Layered<JoinConfig> = match layers::read(path, set) {
        Ok(layered) => layered,
        Err(error) => return vec![Finding::of_error(CONFIG, &error)],
    };
    let config = &layered.config;
    if let Err(error) = config.swarm.validate() {
        return vec![Finding::fail(
            CONFIG,
            format!("{file}: [swarm] {}: {}", error.key, error.why),
            error.hint,
        )];
    }
    let mut findings =
        vec![Finding::pass(CONFIG, format!("swarm {} ({})", config.swarm.id().short(), config.swarm.name))];
    // Opening a pack may run its script: once is enough.
    let catalogue = join::catalogue(&file, config);
    let (model, estimate) = model(&file, config, catalogue.as_ref().ok().map(|(catalogue, _)| catalogue));
    findings.extend(model);
    findings.extend([packs(config, catalogue), key(&config.peer.state), state(&config.peer.state)]);
    findings.push(disk(&config.peer.state, estimate.as_ref()));
    findings.extend(config.peer.listen.iter().map(|address| port(address)));
    findings.extend(bootstrap(config));
    findings
}

/// The model, whether it computes here, and the memory it takes.
fn model(file: &str, config: &JoinConfig, catalogue: Option<&Catalogue>) -> (Vec<Finding>, Option<Estimate>) {
    let base = &config.peer.base;
    let found = Source::of(base).and_then(|source| source.here());
    let model = match found {
        Err(error) => return (vec![Finding::of_error("model", &error)], None),
        Ok(Err(missing)) => {
            let what = format!("{base} is not here: {} to download", missing.join(", "));
            let hint = "the first `murmur join` downloads it, and predicts its memory then";
            return (vec![Finding::warn("model", what, hint)], None);
        }
        Ok(Ok(model)) => model,
    };
    let here = Finding::pass("model", format!("{base} is here"));
    let compute = match Compute::new(file, config) {
        Ok(compute) => compute,
        Err(error) => return (vec![here, Finding::of_error("device", &error)], None),
    };
    let Some(catalogue) = catalogue else { return (vec![here], None) };
    match compute.memory(&model, &config.swarm.round, catalogue) {
        Ok(estimate) => (vec![here, Finding::pass("need", format!("up to {estimate}"))], Some(estimate)),
        Err(error) => (vec![here, Finding::of_error("need", &error)], None),
    }
}

fn packs(config: &JoinConfig, catalogue: anyhow::Result<(Catalogue, Vec<PackSource>)>) -> Finding {
    match catalogue {
        Ok((_, packs)) => {
            let names: Vec<&str> = packs.iter().map(|pack| pack.id.as_str()).collect();
            Finding::pass("packs", format!("{}, with the hashes that [swarm] names", names.join(", ")))
        }
        // Members have it.
        Err(error) if !config.peer.bootstrap.is_empty() => {
            let finding = Finding::of_error("packs", &error);
            Finding::warn("packs", finding.what, "`murmur join` asks its bootstrap peers for it")
        }
        Err(error) => Finding::of_error("packs", &error),
    }
}

fn key(state: &Path) -> Finding {
    let path = identity_path(state);
    if fs::symlink_metadata(&path).is_err() {
        return Finding::pass("key", format!("the first start makes {}", path.display()));
    }
    match Identity::load(&path) {
        Ok(identity) => Finding::pass(
            "key",
            format!("{} in {}, for its owner only", identity.public().name(), path.display()),
        ),
        Err(error) => {
            let finding = Finding::of_error("key", &error);
            match finding.hint.as_str() {
                "" => Finding { hint: "see whether you may read it".into(), ..finding },
                _ => finding,
            }
        }
    }
}

/// The nearest of a path and the folders above it that is there.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

/// Whether the folder can be written, and nothing in it is from the future.
fn state(state: &Path) -> Finding {
    let folder = existing(state);
    let probe = folder.join(format!(".murmur-doctor-{}", std::process::id()));
    if let Err(error) = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)) {
        let what = format!("{} cannot be written: {error}", folder.display());
        return Finding::fail("state", what, "choose a `state` under [peer] that you may write");
    }
    let newest = fs::metadata(state.join("run/status.json")).and_then(|meta| meta.modified());
    match newest.map(|newest| newest.duration_since(SystemTime::now())) {
        Ok(Ok(ahead)) if ahead > Duration::from_secs(60) => Finding::warn(
            "state",
            format!("the newest record in {} is {} s from the future", state.display(), ahead.as_secs()),
            "the clock went back, or is wrong now; rounds do not mind, dates in records do",
        ),
        _ => Finding::pass("state", format!("{} can be written", state.display())),
    }
}

fn disk(state: &Path, estimate: Option<&Estimate>) -> Finding {
    let folder = existing(state);
    let stat = match nix::sys::statvfs::statvfs(&folder) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::fail("disk", format!("{}: {error}", folder.display()), "choose another `state`");
        }
    };
    // Their types differ from system to system.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
    // A checkpoint is written beside the one before, and two are kept.
    let checkpoints = estimate.map_or(0, |estimate| 3 * (estimate.weights + estimate.optimiser));
    let takes = match estimate {
        Some(_) => format!("checkpoints take up to {}", memory::amount(checkpoints)),
        None => "a model to download and its checkpoints are not counted, their size is not known yet".into(),
    };
    let day = day(state);
    let grows = match day {
        Some(day) => format!("log and records grow by {} a day at this run's pace", memory::amount(day)),
        None => "a round's log and records take some 100 kB".into(),
    };
    let what =
        format!("{} are free on the disk of {}; {takes}; {grows}", memory::amount(free), state.display());
    let left = free.saturating_sub(checkpoints);
    if free < checkpoints {
        Finding::fail("disk", what, "free some, or choose a `state` on another disk")
    } else if day.is_some_and(|day| left < day) {
        let hint = "it is full in less than a day: free some, or stop the peer and move its `state` to a larger disk";
        Finding::warn("disk", what, hint)
    } else if left < RECORDS_BYTES {
        Finding::warn("disk", what, "a long run writes logs besides, some hundred MiB a day")
    } else {
        Finding::pass("disk", what)
    }
}

/// Bytes by which the log and records of the run in a state folder grow a day; `None` before its first rounds.
fn day(state: &Path) -> Option<u64> {
    let (run, _) = RunDir::open(&state.join("run")).ok()?;
    let played_ms: u64 = run.rounds().ok()?.iter().map(|round| round.wall_ms).sum();
    let records = Growth::of(run.path()).records;
    (played_ms > 0).then(|| (records as f64 * DAY_MS / played_ms as f64) as u64)
}

fn port(address: &str) -> Finding {
    let near =
        || net::sockets(address).is_ok_and(|(sockets, _)| sockets.iter().all(|at| at.ip().is_loopback()));
    match net::can_listen(address) {
        Err(error) => Finding::of_error("listen", &error),
        Ok(()) if near() => {
            Finding::pass("listen", format!("{address} is free; only this machine reaches it"))
        }
        Ok(()) => Finding::pass("listen", format!("{address} is free")),
    }
}

/// Whether somebody answers at an address; QUIC answers only to peers.
fn reach(address: &str) -> Result<&'static str, String> {
    let (sockets, quic) = net::sockets(address)?;
    if quic {
        return Ok("is QUIC's, which only a peer can try");
    }
    let mut why = "it leads nowhere".to_owned();
    for socket in sockets {
        match TcpStream::connect_timeout(&socket, ANSWER_WITHIN) {
            Ok(_) => return Ok("answers"),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Whether somebody answers at the addresses to meet first.
fn bootstrap(config: &JoinConfig) -> Vec<Finding> {
    if config.peer.bootstrap.is_empty() {
        let what = "no bootstrap addresses: it waits for others to come";
        return vec![Finding::pass("bootstrap", what)];
    }
    let mut findings = Vec::new();
    let mut answered = 0;
    for address in &config.peer.bootstrap {
        match reach(address) {
            Ok(how) => {
                answered += 1;
                findings.push(Finding::pass("bootstrap", format!("{address} {how}")));
            }
            Err(why) => {
                let (why, _) = config::split_hint(&why);
                let hint =
                    "ask whether it runs and listens on that address; a firewall or router may be between";
                findings.push(Finding::warn("bootstrap", format!("{address}: {why}"), hint));
            }
        }
    }
    if answered == 0 {
        let what = "nobody answers: this peer would wait for others to come";
        findings.push(Finding::fail("bootstrap", what, "start the first peer, or ask for another address"));
    }
    findings
}
