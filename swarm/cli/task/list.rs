//! `murmur task list`: the packs that are here.

use std::collections::BTreeSet;

use serde::Serialize;
use tasks::{Category, Definition, Family};

use super::ListArgs;
use crate::exit::Outcome;
use crate::printer;
use crate::store::Store;

/// One pack of `--json`.
#[derive(Debug, Serialize)]
struct Listed {
    /// What a config calls it.
    pack: String,
    name: String,
    version: String,
    summary: String,
}

/// Runs the command.
///
/// # Errors
/// A store that cannot be read.
pub(super) fn run(args: &ListArgs) -> anyhow::Result<Outcome> {
    let mut listed = native();
    let store = Store::open()?;
    for id in store.list()? {
        match store.get(&id).and_then(|files| Ok(Definition::read(&files)?)) {
            Ok(Definition { name, version, summary, .. }) => {
                listed.push(Listed { pack: id.to_string(), name, version, summary });
            }
            // One damaged pack must not hide the others.
            Err(error) => printer::note(&format!("{id}: {error:#}")),
        }
    }
    if args.json {
        printer::json(&listed)?;
    } else {
        let line = |pack: &Listed| {
            format!("{}\n  {} {} {}", pack.pack, pack.name, pack.version, pack.summary).trim_end().to_owned()
        };
        printer::data(&listed.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Outcome::Done)
}

fn native() -> Vec<Listed> {
    let listed = |name: &str, summary: String| Listed {
        pack: format!("native:{name}"),
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        summary,
    };
    let six =
        listed("six", "the families sum, cnt, max, mod, add and seq, which the embedded bases know".into());
    let families = tasks::families().map(|family| {
        let levels = family.levels();
        listed(
            family.name(),
            format!(
                "{}, levels {} to {}: {}",
                family.category(),
                levels.start(),
                levels.end(),
                family.asks()
            ),
        )
    });
    let categories: BTreeSet<Category> = tasks::families().map(Family::category).collect();
    let categories = categories
        .into_iter()
        .map(|category| listed(&category.to_string(), "all families of this category".into()));
    std::iter::once(six).chain(categories).chain(families).collect()
}
