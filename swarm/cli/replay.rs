//! `murmur replay RUN`: folds the logs of a run again, and says whether everything in them follows.
//!
//! Nothing is shown that does not: a fold stops at the first difference, with `--verify` or without.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use swarm::replay::{Replayed, compare};

use crate::args::ReplayArgs;
use crate::exit::Outcome;
use crate::logs::{self, LogFile};
use crate::printer;

/// One log in `--json`.
#[derive(Debug, Serialize)]
struct LogReport {
    peer: String,
    log: String,
    rounds: usize,
    last_round: u32,
    skipped_rounds: u32,
    training_steps: usize,
    records: u64,
    unsealed_records: u64,
    torn_bytes: u64,
    closed: bool,
    bytes: u64,
    seconds: f64,
    rounds_per_second: f64,
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
    let wanted = if args.verify { logs.len() } else { 1 };
    let mut first: Option<(String, Replayed)> = None;
    for log in logs.iter().take(wanted) {
        let replayed = replay(log, args.to_round, report)?;
        match &first {
            Some((name, first)) => agree(name, first, &shown(log, &replayed), &replayed)?,
            None => first = Some((shown(log, &replayed), replayed)),
        }
    }
    let (name, first) = first.context("there is no log")?;
    if !args.verify {
        report.rounds = rounds(&first);
    }
    match &args.diff {
        Some(other) => diff(args, &name, &first, other, report),
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

/// Compares with the first log of another run, or another peer of this one.
fn diff(
    args: &ReplayArgs,
    name: &str,
    first: &Replayed,
    other: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let found = match other.exists() {
        true => logs::find(other, None)?,
        false => logs::find(&args.run, other.to_str())?,
    };
    for log in found {
        let replayed = replay(&log, args.to_round, report)?;
        agree(name, first, &shown(&log, &replayed), &replayed)?;
    }
    Ok(())
}

fn replay(log: &LogFile, to_round: Option<u32>, report: &mut Report) -> anyhow::Result<Replayed> {
    let begun = Instant::now();
    let replayed = log.replay(to_round).with_context(|| format!("the log of {}", log.name))?;
    let seconds = begun.elapsed().as_secs_f64();
    report.logs.push(LogReport {
        peer: shown(log, &replayed),
        log: log.path.display().to_string(),
        rounds: replayed.rounds.len(),
        last_round: replayed.rounds.last().map_or(0, |outcome| outcome.round),
        skipped_rounds: replayed.skipped.iter().map(|skipped| skipped.to - skipped.from + 1).sum(),
        training_steps: replayed.steps.len(),
        records: replayed.records,
        unsealed_records: replayed.unsealed,
        torn_bytes: replayed.torn.map_or(0, |torn| torn.bytes),
        closed: replayed.closed,
        bytes: replayed.bytes,
        seconds,
        rounds_per_second: replayed.rounds.len() as f64 / seconds.max(1e-9),
    });
    Ok(replayed)
}

fn shown(log: &LogFile, replayed: &Replayed) -> String {
    if log.name.is_empty() { replayed.peer.name() } else { log.name.clone() }
}

fn agree(name: &str, one: &Replayed, other_name: &str, other: &Replayed) -> anyhow::Result<()> {
    match compare(&one.rounds, &other.rounds) {
        Some(parting) => anyhow::bail!("the logs of {name} (here) and {other_name} (there) part: {parting}"),
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
