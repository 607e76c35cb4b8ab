//! `murmur task solve`: how much of a pack a model can do, level by level.
//!
//! A level that is never solved teaches nothing, and one that always is neither: a swarm learns in between.

use std::collections::BTreeMap;

use serde::Serialize;
use tasks::{Item, Split};

use super::{SolveArgs, preview};
use crate::exit::Outcome;
use crate::printer::{self, Progress};
use crate::{model, packs};

/// Prompts that are completed at once.
const BATCH: usize = 64;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    pack: String,
    model: String,
    hash: String,
    split: &'static str,
    levels: BTreeMap<u8, Level>,
}

/// Greedy completions of a level's items.
#[derive(Debug, Default, Serialize)]
struct Level {
    items: usize,
    /// Completions with an answer of the right form.
    answered: usize,
    right: usize,
}

/// Runs the command.
///
/// # Errors
/// A pack or a model that is not there.
pub(super) fn run(args: &SolveArgs) -> anyhow::Result<Outcome> {
    let pack = packs::named(&args.pack.pack)?;
    let split: Split = args.split.into();
    let items = preview::items(&pack, split, args.items as usize, None)?;
    let policy = model::open(&args.model, args.hub.offline)?;
    let mut progress = Progress::new();
    let mut levels: BTreeMap<u8, Level> = BTreeMap::new();
    for (i, batch) in items.chunks(BATCH).enumerate() {
        progress.show(|| format!("{} of {} items", i * BATCH, items.len()));
        let prompts: Vec<&str> = batch.iter().map(Item::prompt).collect();
        let rollouts = policy.complete(&prompts, "", args.new_tokens_max as usize)?;
        for (item, rollout) in batch.iter().zip(&rollouts) {
            let level = levels.entry(item.level()).or_default();
            let answer = item.parse(&rollout.text);
            level.items += 1;
            level.answered += usize::from(answer.is_some());
            let right = answer.is_some_and(|answer| item.gold().is_some_and(|gold| gold.matches(&answer)));
            level.right += usize::from(right);
        }
    }
    let hash = model::short_hash(&policy);
    let report = Report { pack: pack.pin(), model: args.model.clone(), hash, split: split.as_str(), levels };
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&text(&report))?;
    }
    Ok(Outcome::Done)
}

fn text(report: &Report) -> String {
    let head = ["level", "items", "answered", "right"].map(str::to_owned).to_vec();
    let rows = report.levels.iter().map(|(level, of)| {
        let share = |n: usize| format!("{:.3}", n as f64 / of.items.max(1) as f64);
        vec![level.to_string(), of.items.to_string(), share(of.answered), share(of.right)]
    });
    printer::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
