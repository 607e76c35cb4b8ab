//! `murmur replay RUN`: folds the logs of a run again, and says whether everything in them follows.
//!
//! Nothing is shown that does not: a fold stops at the first difference, with `--verify` or without.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use swarm::replay::{Conviction, Replayed, compare};

use crate::args::ReplayArgs;
use crate::exit::Outcome;
use crate::logs::{self, LogFile};
use crate::printer;
use crate::updates::{self, Updates};

/// One log in `--json`.
#[derive(Debug, Serialize)]
struct LogReport {
    peer: String,
    log: String,
    rounds: usize,
    last_round: u32,
    skipped_rounds: u32,
    training_steps: usize,
    /// Peers that certificates convicted of saying two things.
    convictions: Vec<ConvictionReport>,
    /// The newest final certificate, for a newcomer's `trusted_checkpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    records: u64,
    unsealed_records: u64,
    torn_bytes: u64,
    closed: bool,
    bytes: u64,
    seconds: f64,
    rounds_per_second: f64,
    /// With `--updates`.
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<Updates>,
}

/// One peer that was left out for good.
#[derive(Debug, Serialize)]
struct ConvictionReport {
    peer: String,
    round: u32,
    /// Whether the log has the proof; else a quorum's word is taken for it.
    proven: bool,
}

/// One round in `--json`, without `--verify`; hashes in hexadecimal.
#[derive(Debug, Serialize)]
struct RoundReport {
    round: u32,
    view: u32,
    roster: Vec<String>,
    statement: String,
    settlement: String,
    state: String,
}

/// The object of `--json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    verified: bool,
    logs: Vec<LogReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<RoundReport>,
    /// The first difference, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// No log, or one that cannot be read.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<Outcome> {
    let mut report = Report::default();
    let logs = logs::find(&args.run, args.peer.as_deref())?;
    let folded = fold(args, &logs, &mut report);
    let outcome = if folded.is_ok() { Outcome::Done } else { Outcome::Failed };
    report.verified = folded.is_ok() && args.verify;
    report.difference = folded.err().map(|error| format!("{error:#}"));
    show(args, &report)?;
    Ok(outcome)
}

/// Replays the logs that were asked for: all of them to verify, else one.
fn fold(args: &ReplayArgs, logs: &[LogFile], report: &mut Report) -> anyhow::Result<()> {
    let wanted = if args.verify { logs } else { &logs[..logs.len().min(1)] };
    let replayed = replay_all(wanted, args, args.updates, report)?;
    let (first, others) = replayed.split_first().context("there is no log")?;
    others.iter().try_for_each(|other| agree(first, other))?;
    if !args.verify {
        report.rounds = rounds(first);
    }
    match &args.diff {
        Some(other) => diff(args, first, other, report),
        None => Ok(()),
    }
}

fn rounds(replayed: &Replayed) -> Vec<RoundReport> {
    let of = |outcome: &swarm::replay::Outcome| RoundReport {
        round: outcome.round,
        view: outcome.view,
        roster: outcome.roster.iter().map(judge::PeerKey::name).collect(),
        statement: outcome.statement.to_string(),
        settlement: outcome.settlement.to_string(),
        state: outcome.state.to_string(),
    };
    replayed.rounds.iter().map(of).collect()
}

/// Compares with the logs of another run, or another peer of this one.
fn diff(args: &ReplayArgs, first: &Replayed, other: &Path, report: &mut Report) -> anyhow::Result<()> {
    let found =
        if other.exists() { logs::find(other, None)? } else { logs::find(&args.run, other.to_str())? };
    replay_all(&found, args, false, report)?.iter().try_for_each(|other| agree(first, other))
}

/// Replays logs, as many at once as there are cores, up to the first in which something does not follow.
fn replay_all(
    logs: &[LogFile],
    args: &ReplayArgs,
    updates: bool,
    report: &mut Report,
) -> anyhow::Result<Vec<Replayed>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::with_capacity(logs.len());
    for logs in logs.chunks(cores) {
        let done: Vec<anyhow::Result<(LogReport, Replayed)>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                logs.iter().map(|log| scope.spawn(move || replay(log, args.to_round, updates))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a replay stopped unexpectedly")))
            };
            threads.into_iter().map(join).collect()
        });
        for (done, log) in done.into_iter().zip(logs) {
            let (told, replayed) = done.with_context(|| format!("the log {}", log.path.display()))?;
            report.logs.push(told);
            all.push(replayed);
        }
    }
    Ok(all)
}

fn replay(log: &LogFile, to_round: Option<u32>, updates: bool) -> anyhow::Result<(LogReport, Replayed)> {
    let begun = Instant::now();
    let replayed = log.replay(to_round)?;
    let seconds = begun.elapsed().as_secs_f64();
    let checked = if updates { Some(updates::check(log, &replayed)?) } else { None };
    let told = LogReport {
        peer: replayed.peer.name(),
        log: log.path.display().to_string(),
        rounds: replayed.rounds.len(),
        last_round: replayed.rounds.last().map_or(0, |outcome| outcome.round),
        skipped_rounds: replayed.skipped.iter().map(|skipped| skipped.to - skipped.from + 1).sum(),
        training_steps: replayed.steps.len(),
        convictions: replayed.convictions.iter().map(conviction).collect(),
        checkpoint: replayed.checkpoint.as_ref().map(ToString::to_string),
        records: replayed.records,
        unsealed_records: replayed.unsealed,
        torn_bytes: replayed.torn.map_or(0, |torn| torn.bytes),
        closed: replayed.closed,
        bytes: replayed.bytes,
        seconds,
        rounds_per_second: replayed.rounds.len() as f64 / seconds.max(1e-9),
        updates: checked,
    };
    Ok((told, replayed))
}

fn conviction(conviction: &Conviction) -> ConvictionReport {
    let Conviction { peer, round, proven } = conviction;
    ConvictionReport { peer: peer.name(), round: *round, proven: *proven }
}

fn agree(one: &Replayed, other: &Replayed) -> anyhow::Result<()> {
    match compare(&one.rounds, &other.rounds) {
        Some(parting) => {
            let (here, there) = (one.peer.name(), other.peer.name());
            anyhow::bail!("the logs of {here} (here) and {there} (there) part: {parting}")
        }
        None => Ok(()),
    }
}

fn show(args: &ReplayArgs, report: &Report) -> anyhow::Result<()> {
    if args.json {
        return printer::json(report);
    }
    if !report.rounds.is_empty() {
        printer::data(&printer::table(&round_rows(&report.rounds)))?;
    } else if !report.logs.is_empty() {
        printer::data(&printer::table(&log_rows(&report.logs)))?;
    }
    for log in &report.logs {
        let told = match &log.updates {
            Some(Updates::Equal { first, last }) if first == last => {
                format!("step {last} computed again: equal")
            }
            Some(Updates::Equal { first, last }) => format!("steps {first} to {last} computed again: equal"),
            Some(Updates::Inconclusive { why }) => format!("inconclusive: {why}"),
            None => continue,
        };
        printer::data(&format!("{}: {told}", log.peer))?;
    }
    let convictions: BTreeMap<&str, &ConvictionReport> =
        report.logs.iter().flat_map(|log| &log.convictions).map(|of| (&of.peer[..], of)).collect();
    for (peer, ConvictionReport { round, proven, .. }) in convictions {
        let by = if *proven { "the proof is in the log" } else { "on a quorum's word" };
        printer::data(&format!("{peer} was convicted in round {round} of saying two things: {by}"))?;
    }
    if let Some(checkpoint) = report.logs.iter().find_map(|log| log.checkpoint.as_ref()) {
        printer::data(&format!("checkpoint for newcomers: {checkpoint}"))?;
    }
    match &report.difference {
        Some(difference) => printer::data(&format!("difference: {difference}"))?,
        None if report.verified => {
            printer::data("everything follows: signatures, settlements, states and certificates")?;
        }
        None => {}
    }
    Ok(())
}

fn round_rows(rounds: &[RoundReport]) -> Vec<Vec<String>> {
    let mut rows = vec![["round", "view", "settlement", "roster"].map(str::to_owned).to_vec()];
    rows.extend(rounds.iter().map(|round| {
        let settlement = round.settlement.chars().take(16).collect();
        vec![round.round.to_string(), round.view.to_string(), settlement, round.roster.join(" ")]
    }));
    rows
}

fn log_rows(logs: &[LogReport]) -> Vec<Vec<String>> {
    let head = ["log", "rounds", "skipped", "steps", "records", "MiB", "rounds/s", "end"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(logs.iter().map(|log| {
        let end = match (log.closed, log.torn_bytes) {
            (true, _) => "closed".to_owned(),
            (false, 0) => format!("open, {} records unsealed", log.unsealed_records),
            (false, torn) => format!("torn, {torn} bytes"),
        };
        vec![
            log.peer.clone(),
            log.rounds.to_string(),
            log.skipped_rounds.to_string(),
            log.training_steps.to_string(),
            log.records.to_string(),
            format!("{:.1}", log.bytes as f64 / (1024.0 * 1024.0)),
            format!("{:.0}", log.rounds_per_second),
            end,
        ]
    }));
    rows
}
