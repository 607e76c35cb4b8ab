//! Every attack, with its defence and without.

use std::collections::BTreeSet;

use serde::Serialize;

use super::attack::{Attack, Outcome};
use super::defence::Defence;
use super::plan::Plan;
use super::report::SimulationError;

/// Seed of the trials in the document.
pub const ZOO_SEED: u64 = 1;
/// Rounds of most trials: gold needs some to tell peers apart, a proposer some to have its turn.
const ROUNDS: u32 = 40;
/// Rounds of a trial that shows it at once and takes long.
const FEWER_ROUNDS: u32 = 8;
/// Rounds of a trial in which chance has to bring several things together.
const ROUNDS_OF_CHANCE: u32 = 100;

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
        let rounds = match attack {
            Attack::Fork => ROUNDS_OF_CHANCE,
            Attack::Rewind => 2 * ROUNDS_OF_CHANCE,
            Attack::Poison => 2 * ROUNDS,
            Attack::SwapBodies => FEWER_ROUNDS,
            _ => ROUNDS,
        };
        let (peers, byzantine, faults) = (attack.peers(), attack.company(), BTreeSet::new());
        Self { peers, rounds, seed, byzantine, faults, attack: Some(attack), defence_off }
    }
}

/// Tries every attack twice.
///
/// # Errors
/// A swarm that cannot be set up.
pub fn zoo(seed: u64, threads: usize) -> Result<Vec<Trial>, SimulationError> {
    let pairs: Vec<(Attack, Option<Defence>)> = Attack::ALL.into_iter().flat_map(pairs).collect();
    super::shared(pairs.len(), threads, |nth| {
        let (attack, defence) = pairs[nth];
        Trial::of(attack, defence, seed)
    })
}

/// An attack with each defence that stands alone against it, or with none.
fn pairs(attack: Attack) -> Vec<(Attack, Option<Defence>)> {
    match attack.defences() {
        [] => vec![(attack, None)],
        defences => defences.iter().map(|defence| (attack, Some(*defence))).collect(),
    }
}

impl Trial {
    /// Tries one attack with everything up, and without a defence if one is named.
    ///
    /// # Errors
    /// A swarm that cannot be set up.
    pub fn of(attack: Attack, defence: Option<Defence>, seed: u64) -> Result<Self, SimulationError> {
        let play = |off| {
            let run = super::play(&Plan::of_attack(attack, off, seed))?;
            Ok(attack.outcome(&run.measures))
        };
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
