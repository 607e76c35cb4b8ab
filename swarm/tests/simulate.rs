//! Simulated swarms: fixed seeds, one fresh seed, and every attack with its defence and without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use swarm::simulate::{Attack, Defence, Fault, Plan, Report, Run, ZOO_SEED, play, play_seeds, table, zoo};

/// Threads of a test.
const THREADS: usize = 2;

fn honest(peers: u16, rounds: u32, seed: u64, faults: &[Fault]) -> Plan {
    Plan { byzantine: 0, faults: faults.iter().copied().collect(), ..Plan::new(peers, rounds, seed) }
}

/// Everything that did not hold.
fn broken(run: &Run) -> Vec<String> {
    run.violations.iter().map(|violation| format!("{violation:?}; again with: {}", run.command)).collect()
}

/// What did not hold of that which no luck may excuse: a final certificate may need a fourth round where chance
/// draws dishonest proposers and newcomers together, a second one of a round may never be.
fn broken_safety(run: &Run) -> Vec<String> {
    let later = ["final within three rounds", "no storms of messages"];
    let unsafe_ones = run.violations.iter().filter(|violation| !later.contains(&violation.invariant));
    unsafe_ones.map(|violation| format!("{violation:?}; again with: {}", run.command)).collect()
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
        assert_eq!(broken(run), Vec::<String>::new());
    }
}

#[test]
fn everything_holds_on_fixed_seeds_and_what_is_final_on_a_fresh_one() {
    let mut fired = BTreeSet::new();
    let mut run = |peers, seed| {
        let plan = Plan::new(peers, 15, seed);
        println!("{}", plan.command());
        let run = play(&plan).unwrap();
        fired.extend(run.faults.keys().copied());
        run
    };
    for (peers, seed) in [(4, 1), (4, 2), (7, 3), (7, 4), (7, 5), (16, 6)] {
        assert_eq!(broken(&run(peers, seed)), Vec::<String>::new());
    }
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    assert_eq!(broken_safety(&run(7, fresh.into())), Vec::<String>::new());
    for fault in Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::LostDisk | Fault::NeverReturn)) {
        assert!(fired.contains(fault.name()), "{} never struck", fault.name());
    }
}

/// The document with the table of attacks, and the lines around the table.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ADVERSARIES.md");
const BEGIN: &str = "<!-- begin: murmur simulate --zoo -->\n";
const END: &str = "\n<!-- end -->";

#[test]
fn every_defence_is_what_stops_its_attack_and_the_document_shows_it() {
    let trials = zoo(ZOO_SEED, THREADS).unwrap();
    for trial in &trials {
        assert!(trial.shows(), "{trial:?}");
    }
    for defence in Defence::ALL {
        assert!(trials.iter().any(|trial| trial.defence == Some(defence)), "no attack shows {defence:?}");
    }
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END.trim_start()).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", table(&trials));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(DOCUMENT, expected).unwrap();
    } else {
        assert!(
            document == expected,
            "{DOCUMENT} is not what `murmur simulate --zoo` prints; hint: UPDATE_EXPECT=1"
        );
    }
}

/// Whoever may propose must not choose who signs after it.
#[test]
fn a_proposer_alone_takes_nobodys_seat_on_any_seed() {
    for seed in 1..=10 {
        let run = play(&Plan::of_attack(Attack::Expel, None, seed)).unwrap();
        assert!(run.attacks.contains_key("expel"), "{run:?}");
        assert_eq!(run.measures.rounds_taken, 0, "{}", run.command);
    }
}
