//! `murmur simulate`: whole swarms in virtual time, under faults and attacks.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Context;
use swarm::simulate::{Attack, Defence, Fault, Plan, Report, ZOO_SEED, play_seeds, table, tolerated, zoo};

use crate::args::SimulateArgs;
use crate::exit::Outcome;
use crate::printer;

/// Peers, if nothing asks for another number.
const PEERS: u16 = 7;
/// Failing seeds whose violations are printed.
const FAILURES_SHOWN: usize = 5;

/// Runs the command.
///
/// # Errors
/// A swarm that cannot be set up, or a closed stdout.
pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<Outcome> {
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n.into(),
    };
    if args.zoo {
        return show_zoo(args.seed.unwrap_or(ZOO_SEED), threads, args.json);
    }
    let seed = args.seed.map_or_else(fresh, Ok)?;
    let plan = plan(args, seed);
    let started = Instant::now();
    let runs = play_seeds(&plan, args.seeds.into(), threads)?;
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = Report::of(&plan, &runs, wall_ms);
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&text(&report))?;
        printer::data(conclusion(&plan, &report))?;
    }
    Ok(if is_as_expected(&plan, &report) { Outcome::Done } else { Outcome::Failed })
}

/// Whether the swarm did what it is to do: hold with every defence up. Without one an attack is to succeed, or the
/// defence would be for nothing, and without an attack nothing is expected.
fn is_as_expected(plan: &Plan, report: &Report) -> bool {
    match (plan.attack, plan.defence_off) {
        (Some(_), Some(_)) => report.outcomes.iter().all(|outcome| outcome.succeeded),
        (None, Some(_)) => true,
        (_, None) => report.passes(),
    }
}

/// The last line, which explains the exit code.
fn conclusion(plan: &Plan, report: &Report) -> &'static str {
    match (plan.defence_off, is_as_expected(plan, report)) {
        (None, true) if !report.faults_not_fired.is_empty() => "all holds under the faults that struck",
        (None, true) => "all holds",
        (None, false) => "not everything holds",
        (Some(_), true) if plan.attack.is_some() => "as expected: without its defence the attack succeeds",
        (Some(_), true) if report.passes() => "all holds, though without a defence nothing was promised",
        (Some(_), true) => "not everything holds, and without a defence nothing was promised",
        (Some(_), false) => {
            "not as expected: the attack fails without the defence too; hint: another --seed, or more --rounds"
        }
    }
}

fn fresh() -> anyhow::Result<u64> {
    let bytes = swarm::identity::entropy().context("a fresh seed; hint: give one with --seed")?;
    let (first, _) = bytes.split_first_chunk::<4>().context("no bytes")?;
    Ok(u32::from_le_bytes(*first).into())
}

fn plan(args: &SimulateArgs, seed: u64) -> Plan {
    let attack = args.attack.and_then(|name| Attack::named(name.0));
    let defence_off = args.defence_off.and_then(|name| Defence::named(name.0));
    let peers = args.peers.unwrap_or_else(|| attack.map_or(PEERS, Attack::peers));
    let byzantine = attack.map_or_else(|| tolerated(peers), Attack::company);
    let faults = match (&args.faults, attack) {
        (Some(faults), _) => faults.0.clone(),
        (None, Some(_)) => BTreeSet::new(),
        (None, None) => Fault::ALL.into(),
    };
    Plan {
        peers,
        rounds: args.rounds,
        seed,
        byzantine: args.byzantine.unwrap_or(byzantine).min(peers),
        faults,
        attack,
        defence_off,
    }
}

fn show_zoo(seed: u64, threads: usize, json: bool) -> anyhow::Result<Outcome> {
    let trials = zoo(seed, threads)?;
    if json {
        printer::json(&trials)?;
    } else {
        printer::data(&table(&trials))?;
        printer::note(&format!("bold: the attack succeeds; again with: murmur simulate --zoo --seed {seed}"));
    }
    let as_expected = trials.iter().all(swarm::simulate::Trial::shows);
    Ok(if as_expected { Outcome::Done } else { Outcome::Failed })
}

fn counts<'a>(counts: impl IntoIterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let one = |(name, count): (&&str, &u64)| format!("  {count:>12}  {name}");
    counts.into_iter().map(one).collect::<Vec<_>>().join("\n")
}

fn text(report: &Report) -> String {
    let Report { peers, byzantine, seeds, rounds, virtual_ms, wall_ms, events, .. } = report;
    let [signed, asked, checked] = report.signatures;
    let mut lines = vec![
        format!("peers {peers}, dishonest {byzantine}, seeds {seeds}, rounds {rounds}"),
        format!(
            "virtual time {:.1} s, wall time {:.1} s, events {events}",
            *virtual_ms as f64 / 1000.0,
            *wall_ms as f64 / 1000.0
        ),
        format!("signatures made {signed}, asked about {asked}, checked {checked}"),
        format!("void views {}, forks {}, branches changed {}", report.voids, report.forks, report.switches),
        "invariants checked:".into(),
        counts(&report.checked),
    ];
    if !report.faults.is_empty() {
        lines.push("faults:".into());
        lines.push(counts(&report.faults));
    }
    if !report.attacks.is_empty() {
        lines.push("attacks:".into());
        lines.push(counts(&report.attacks));
    }
    for outcome in &report.outcomes {
        let verdict = if outcome.succeeded { "the attack succeeds" } else { "the attack fails" };
        lines.push(format!("{}: {} ({verdict})", outcome.what, outcome.measured));
    }
    if !report.faults_not_fired.is_empty() {
        lines.push(format!("never struck: {}", report.faults_not_fired.join(", ")));
        lines.push("  more rounds or more seeds would meet them".into());
    }
    for failure in report.failures.iter().take(FAILURES_SHOWN) {
        for violation in &failure.violations {
            let at = violation.at_ms as f64 / 1000.0;
            lines.push(format!("violated after {at:.3} s: {}: {}", violation.invariant, violation.what));
        }
        lines.push(format!("  again with: {}", failure.command));
    }
    if report.failures.len() > FAILURES_SHOWN {
        lines.push(format!("… and {} more seeds", report.failures.len() - FAILURES_SHOWN));
    }
    lines.push(format!("trace {}", report.trace));
    lines.join("\n")
}
