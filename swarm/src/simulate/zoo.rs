//! Every attack, with its defence and without.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::attack::{Attack, Outcome};
use super::defence::Defence;
use super::plan::Plan;
use super::report::SimulationError;

/// Peers of each trial.
const PEERS: u16 = 7;
/// Rounds of a trial about agreement.
const ROUNDS: u32 = 20;
/// Rounds of a trial about votes: gold needs some to tell peers apart.
const ROUNDS_OF_VOTES: u32 = 40;

/// One attack, with everything up and with its defence down.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The attack.
    pub attack: Attack,
    /// What stands against it; `None` where there is no single defence to switch off.
    pub defence: Option<Defence>,
    /// What it came to with every defence up.
    pub on: Outcome,
    /// What it came to without that one.
    pub off: Option<Outcome>,
    /// Plays the first.
    pub command: String,
}

impl Plan {
    /// The plan that shows an attack, with or without its defence.
    pub fn of_attack(attack: Attack, defence_off: Option<Defence>, seed: u64) -> Self {
        let votes = matches!(attack, Attack::Ring | Attack::Newcomers);
        let rounds = if votes { ROUNDS_OF_VOTES } else { ROUNDS };
        let (byzantine, faults) = (attack.company(), BTreeSet::new());
        Self { peers: PEERS, rounds, seed, byzantine, faults, attack: Some(attack), defence_off }
    }
}

/// Tries every attack twice.
///
/// # Errors
/// A swarm that cannot be set up.
pub fn zoo(seed: u64, threads: usize) -> Result<Vec<Trial>, SimulationError> {
    let next = AtomicUsize::new(0);
    let trials = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, Attack::ALL.len()) {
            scope.spawn(|| {
                while let Some(attack) = Attack::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let trial = Trial::of(*attack, seed);
                    // A poisoned lock still holds what the other threads put there.
                    trials.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((*attack, trial));
                }
            });
        }
    });
    let mut trials = trials.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    trials.sort_by_key(|(attack, _)| *attack);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

impl Trial {
    /// Tries one attack twice.
    ///
    /// # Errors
    /// A swarm that cannot be set up.
    pub fn of(attack: Attack, seed: u64) -> Result<Self, SimulationError> {
        let play = |off| {
            let run = super::play(&Plan::of_attack(attack, off, seed))?;
            Ok(attack.outcome(&run.measures))
        };
        let defence = attack.defence();
        let on = play(None)?;
        let off = defence.map(|defence| play(Some(defence))).transpose()?;
        let command = Plan::of_attack(attack, None, seed).command();
        Ok(Self { attack, defence, on, off, command })
    }

    /// Whether the defence is what stops the attack: it fails with it and succeeds without.
    pub fn shows(&self) -> bool {
        !self.on.succeeded && self.off.is_none_or(|off| off.succeeded)
    }
}

/// The trials as a table in Markdown.
pub fn table(trials: &[Trial]) -> String {
    let mut lines = vec![
        "| attack | what it does | defence | measured | with it | without it |".to_string(),
        "|---|---|---|---|--:|--:|".to_string(),
    ];
    for trial in trials {
        let mark = |outcome: Outcome| {
            let bold = if outcome.succeeded { "**" } else { "" };
            format!("{bold}{}{bold}", outcome.measured)
        };
        let defence = trial
            .defence
            .map_or("(several)".to_string(), |defence| format!("`{}`: {}", defence.name(), defence.words()));
        lines.push(format!(
            "| `{}` | {} | {defence} | {} | {} | {} |",
            trial.attack.name(),
            trial.attack.words(),
            trial.on.what,
            mark(trial.on),
            trial.off.map_or(String::new(), mark)
        ));
    }
    lines.join("\n")
}
