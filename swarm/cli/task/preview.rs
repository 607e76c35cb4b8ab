//! `murmur task preview`: items as a policy would read them, and what is expected of it.

use serde::Serialize;
use tasks::{Item, Pack, Split};

use super::PreviewArgs;
use crate::exit::Outcome;
use crate::{packs, printer};

/// Key of the items that are shown, so that two looks show the same.
const KEY: [u8; 32] = *b"murmur v1 items that are shown..";

/// One item of `--json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// What the item is called in its pack.
    id: String,
    family: &'a str,
    level: u8,
    split: &'static str,
    prompt: &'a str,
    answer: Option<&'a str>,
    /// The completion that would be right, with reasoning where the pack has some.
    completion: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(item: &'a Item) -> Self {
        let gold = item.gold().map(tasks::Gold::answer);
        Self {
            id: item.name(),
            family: item.family(),
            level: item.level(),
            split: item.split().as_str(),
            prompt: item.prompt(),
            answer: gold.map(tasks::Answer::as_str),
            completion: item.worked().or_else(|| gold.map(|gold| item.direct(gold))),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A pack that is not there, a level that it does not have.
pub(super) fn run(args: &PreviewArgs) -> anyhow::Result<Outcome> {
    let pack = packs::named(&args.pack.pack)?;
    let items = items(&pack, Split::Train, args.items as usize, args.level)?;
    let shown: Vec<Shown<'_>> = items.iter().map(Shown::of).collect();
    if args.json {
        printer::json(&shown)?;
    } else {
        printer::data(&shown.iter().map(text).collect::<Vec<_>>().join("\n\n"))?;
    }
    Ok(Outcome::Done)
}

/// Up to `count` distinct items of each family and level.
///
/// # Errors
/// There is none of this level.
pub(super) fn items(pack: &Pack, split: Split, count: usize, level: Option<u8>) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for family in pack.families() {
        for of_pack in pack.levels().into_iter().filter(|of_pack| level.is_none_or(|level| level == *of_pack))
        {
            items.extend(pack.sample(&family, &KEY, split, of_pack, count));
        }
    }
    if items.is_empty() {
        let levels: Vec<String> = pack.levels().iter().map(u8::to_string).collect();
        let split = split.as_str();
        anyhow::bail!(
            "no item of this level in the {split} split\nhint: the pack has levels {}",
            levels.join(", ")
        );
    }
    Ok(items)
}

fn text(item: &Shown<'_>) -> String {
    let answer = item.completion.as_deref().unwrap_or("(no reference answer: for votes only)");
    format!("{}, level {}, {}\n{}\n→ {answer}", item.family, item.level, item.split, item.prompt)
}
