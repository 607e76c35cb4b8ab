//! Simulated swarms: fixed seeds, one fresh seed, and every attack with its defence and without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use swarm::simulate::{Attack, Fault, Plan, Report, Run, Trial, play, play_seeds};

/// Threads of a test.
const THREADS: usize = 2;

fn honest(peers: u16, rounds: u32, seed: u64, faults: &[Fault]) -> Plan {
    Plan { byzantine: 0, faults: faults.iter().copied().collect(), ..Plan::new(peers, rounds, seed) }
}

/// Violations of everything that must hold however bad the network is.
fn unsafe_ones(run: &Run) -> Vec<String> {
    let later = ["final within three rounds", "no storms of messages"];
    let broken = run.violations.iter().filter(|violation| !later.contains(&violation.invariant));
    broken.map(|violation| format!("{violation:?}; again with: {}", run.command)).collect()
}

#[test]
fn a_calm_swarm_makes_every_round_final_and_the_same_plan_the_same_trace() {
    let plan = honest(7, 30, 1, &[]);
    let run = play(&plan).unwrap();
    assert!(run.violations.is_empty(), "{run:?}");
    assert!(run.rounds >= 30 && run.final_round >= 29, "{run:?}");
    assert_eq!(run.trace, play(&plan).unwrap().trace);
    assert_ne!(run.trace, play(&Plan { seed: 2, ..plan }).unwrap().trace);
}

#[test]
fn clocks_doubled_messages_and_lost_disks_break_nothing() {
    let faults = [Fault::Skew, Fault::Drift, Fault::Duplicate, Fault::LostDisk, Fault::NeverReturn];
    let plan = honest(7, 20, 1, &faults);
    let runs = play_seeds(&plan, 8, THREADS).unwrap();
    let report = Report::of(&plan, &runs, 0);
    assert!(report.faults_not_fired.is_empty(), "{:?}", report.faults_not_fired);
    for run in &runs {
        assert_eq!(unsafe_ones(run), Vec::<String>::new());
    }
}

#[test]
fn nothing_final_is_ever_overtaken_on_fixed_seeds_and_a_fresh_one() {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let mut fired = BTreeSet::new();
    for (peers, seed) in [(4, 1), (4, 2), (7, 3), (7, 4), (7, 5), (16, 6), (7, u64::from(fresh))] {
        let plan = Plan::new(peers, 15, seed);
        println!("{}", plan.command());
        let run = play(&plan).unwrap();
        assert_eq!(unsafe_ones(&run), Vec::<String>::new());
        fired.extend(run.faults.keys().copied());
    }
    for fault in Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::LostDisk | Fault::NeverReturn)) {
        assert!(fired.contains(fault.name()), "{} never struck", fault.name());
    }
}

#[test]
fn every_defence_is_what_stops_its_attack() {
    for attack in Attack::ALL.into_iter().filter(|attack| attack.defence().is_some()) {
        let trial = Trial::of(attack, 1).unwrap();
        assert!(trial.shows(), "{trial:?}");
    }
}
