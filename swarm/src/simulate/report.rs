//! What a simulation came to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::attack::Outcome;
use super::fault::Fault;
use super::ledger;
use super::measure::Measures;
use super::plan::Plan;
use super::watch::{self, Violation};
use super::world::World;
use crate::memo::Counts;
use crate::wire::Hash;

/// Why a simulation could not be played.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SimulationError {
    /// The swarm cannot be set up.
    #[error("the simulated swarm: {0}; hint: choose 1 to 256 peers")]
    Setting(String),
}

/// What one seed came to.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Rounds certified.
    pub rounds: u32,
    /// The newest round with a final certificate.
    pub final_round: u32,
    /// Certificates, and how many of them share a parent with another.
    pub certificates: usize,
    /// See [`Self::certificates`].
    pub forks: usize,
    /// Certificates that could not be checked, because nobody has shown their parents.
    pub orphans: usize,
    /// Views that honest peers gave up.
    pub voids: u64,
    /// Times that honest peers changed branch.
    pub switches: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Things that happened.
    pub events: u64,
    /// Signatures made, checks asked for, checks made.
    pub signatures: [u64; 3],
    /// How often each invariant was checked.
    pub checked: BTreeMap<&'static str, u64>,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each attack was carried out.
    pub attacks: BTreeMap<&'static str, u64>,
    /// Invariants that did not hold; the first few.
    pub violations: Vec<Violation>,
    /// All of them.
    pub violations_total: u64,
    /// What dishonest peers got out of it.
    pub measures: Measures,
    /// Messages that honest peers dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Messages that peers said, and their bytes, by topic; each once, however many heard it.
    pub said: BTreeMap<String, [u64; 2]>,
    /// Hash over everything that happened, in order: equal for equal plans.
    pub trace: String,
    /// Plays this seed again.
    pub command: String,
}

impl Run {
    pub(super) fn of(world: &World, counts: Counts, events: u64, trace: [u8; 32]) -> Self {
        let (certificates, forks) = world.watch.ledger.forks();
        let mut dropped = BTreeMap::new();
        for engine in world.seats.iter().filter_map(|seat| seat.engine.as_ref()) {
            for (reason, count) in engine.dropped() {
                *dropped.entry(*reason).or_default() += count;
            }
        }
        Self {
            seed: world.plan.seed,
            rounds: world.round.saturating_sub(1),
            final_round: world.watch.ledger.final_round(),
            certificates,
            forks,
            orphans: world.watch.ledger.orphans(),
            voids: world.voids,
            switches: world.switches,
            virtual_ms: world.now_ms,
            events,
            signatures: [counts.signed, counts.asked, counts.checked],
            checked: world.watch.checked.clone(),
            faults: world.tally.faults.clone(),
            attacks: world.tally.attacks.clone(),
            violations: world.watch.violations.clone(),
            violations_total: world.watch.violations_total,
            measures: measures(world),
            dropped,
            said: world
                .tally
                .said
                .iter()
                .map(|(topic, said)| (format!("{topic:?}").to_lowercase(), *said))
                .collect(),
            trace: Hash(trace).to_string(),
            command: world.plan.command(),
        }
    }
}

fn measures(world: &World) -> Measures {
    let count = |invariants: &[&str]| invariants.iter().map(|name| world.watch.broken(name)).sum();
    let out_of_turn = |hash: &Hash| {
        let proposer = world.watch.proposer(hash);
        proposer.is_some_and(|proposer| !world.ruler.is_dishonest(&proposer))
    };
    let mut measures = world.ruler.finish(world.now_ms, out_of_turn);
    measures.blamed = count(&[watch::BLAMELESS]);
    measures.conflicts = count(&[ledger::ONE_FINAL, ledger::BUILDS_ON_FINAL, ledger::ONE_A_VIEW]);
    measures.wrong_states = count(&[watch::COVERED]);
    measures.two_finals = world.watch.two_finals();
    measures.unsigned_settlements = count(&[watch::CERTIFIED_REWARD]);
    measures
}

/// What all seeds of a plan came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Peers.
    pub peers: u16,
    /// Dishonest ones.
    pub byzantine: u16,
    /// Seeds played.
    pub seeds: usize,
    /// Rounds certified, over all seeds.
    pub rounds: u64,
    /// Virtual time over all seeds, in milliseconds.
    pub virtual_ms: u64,
    /// Wall time, in milliseconds.
    pub wall_ms: u64,
    /// Sum of [`Run::events`].
    pub events: u64,
    /// Sums of [`Run::signatures`].
    pub signatures: [u64; 3],
    /// Sum of [`Run::forks`].
    pub forks: usize,
    /// Sum of [`Run::voids`].
    pub voids: u64,
    /// Sum of [`Run::switches`].
    pub switches: u64,
    /// Sums of [`Run::checked`].
    pub checked: BTreeMap<&'static str, u64>,
    /// Sums of [`Run::faults`].
    pub faults: BTreeMap<&'static str, u64>,
    /// Sums of [`Run::attacks`].
    pub attacks: BTreeMap<&'static str, u64>,
    /// Faults that were asked for and never struck: a failure.
    pub faults_not_fired: Vec<&'static str>,
    /// Invariants that did not hold, by name, with the number of seeds.
    pub violated: BTreeMap<&'static str, u64>,
    /// What the attack that was asked for came to, by seed.
    pub outcomes: Vec<Outcome>,
    /// Seeds with a violation: what was seen first, and the command that plays it again.
    pub failures: Vec<Failure>,
    /// Hash over the traces of all seeds, in order.
    pub trace: String,
}

/// A seed on which an invariant did not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was seen, first things first.
    pub violations: Vec<Violation>,
    /// Plays it again.
    pub command: String,
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: &BTreeMap<&'static str, u64>) {
    for (name, count) in counts {
        *sums.entry(name).or_default() += count;
    }
}

impl Report {
    /// Adds up the runs of a plan.
    pub fn of(plan: &Plan, runs: &[Run], wall_ms: u64) -> Self {
        let mut report = Self {
            peers: plan.peers,
            byzantine: plan.byzantine,
            seeds: runs.len(),
            rounds: runs.iter().map(|run| u64::from(run.rounds)).sum(),
            virtual_ms: runs.iter().map(|run| run.virtual_ms).sum(),
            wall_ms,
            events: runs.iter().map(|run| run.events).sum(),
            signatures: [0, 1, 2].map(|i| runs.iter().map(|run| run.signatures[i]).sum()),
            forks: runs.iter().map(|run| run.forks).sum(),
            voids: runs.iter().map(|run| run.voids).sum(),
            switches: runs.iter().map(|run| run.switches).sum(),
            checked: BTreeMap::new(),
            faults: BTreeMap::new(),
            attacks: BTreeMap::new(),
            faults_not_fired: Vec::new(),
            violated: BTreeMap::new(),
            outcomes: Vec::new(),
            failures: Vec::new(),
            trace: String::new(),
        };
        for run in runs {
            add(&mut report.checked, &run.checked);
            add(&mut report.faults, &run.faults);
            add(&mut report.attacks, &run.attacks);
            let names: std::collections::BTreeSet<_> = run.violations.iter().map(|v| v.invariant).collect();
            names.into_iter().for_each(|name| *report.violated.entry(name).or_default() += 1);
            report.outcomes.extend(plan.attack.map(|attack| attack.outcome(&run.measures)));
            if !run.violations.is_empty() {
                let (violations, command) = (run.violations.clone(), run.command.clone());
                report.failures.push(Failure { seed: run.seed, violations, command });
            }
        }
        let fired = |fault: &Fault| report.faults.get(fault.name()).is_some_and(|count| *count > 0);
        report.faults_not_fired =
            plan.faults.iter().filter(|fault| !fired(fault)).map(|fault| fault.name()).collect();
        let traces: Vec<&[u8]> = runs.iter().map(|run| run.trace.as_bytes()).collect();
        report.trace = Hash::of("murmur v1 simulation traces", &traces).to_string();
        report
    }

    /// Whether every invariant held and no attack succeeded. Few rounds need not meet every fault.
    pub fn passes(&self) -> bool {
        self.failures.is_empty() && self.outcomes.iter().all(|outcome| !outcome.succeeded)
    }
}
