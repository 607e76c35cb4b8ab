//! `murmur eval`: held-out accuracy of models side by side.

use serde::Serialize;
use tasks::Split;

use crate::args::EvalArgs;
use crate::evaluation::{self, Evaluation, Sampled};
use crate::exit::Outcome;
use crate::packs::PackSource;
use crate::printer::{self, Progress};
use crate::{card, model, packs};

/// One model's figures.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    hash: String,
    greedy: Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    controls: Option<Controls>,
}

/// What a gain is judged against.
#[derive(Debug, Serialize)]
struct Controls {
    forced_trace: Evaluation,
    /// 16 samples at temperature 0.7.
    sampled: Sampled,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    split: &'static str,
    items: usize,
    models: Vec<Row>,
}

/// Runs the command.
///
/// # Errors
/// A model that is not there or damaged.
pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<Outcome> {
    let split: Split = args.split.into();
    let items = packs::catalogue("--pack", &sources(&args.pack))?.held_out(split, args.per_family as usize);
    // All are opened before the first is measured: a typing error shows at once.
    let opened = args
        .models
        .iter()
        .map(|name| model::open(name, args.hub.offline))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut progress = Progress::new();
    let mut models = Vec::with_capacity(opened.len());
    for (name, policy) in args.models.iter().zip(&opened) {
        progress.show(|| format!("evaluating {name} on {} items", items.len()));
        let controls = match args.controls {
            false => None,
            true => Some(Controls {
                forced_trace: evaluation::forced_trace(policy, &items)?,
                sampled: evaluation::majority_16(policy, &items, 0.7, &[0; 32])?,
            }),
        };
        let greedy = evaluation::evaluate(policy, &items)?;
        models.push(Row { model: name.clone(), hash: model::short_hash(policy), greedy, controls });
    }
    progress.finish(&format!(
        "{} model(s), {} items of the {} split",
        models.len(),
        items.len(),
        split.as_str()
    ));
    if args.json {
        printer::json(&Report { split: split.as_str(), items: items.len(), models })?;
    } else {
        printer::data(&text(&models))?;
    }
    Ok(Outcome::Done)
}

fn sources(named: &[String]) -> Vec<PackSource> {
    let source = |id: &String| PackSource { id: id.clone(), weight: 1 };
    if named.is_empty() { packs::native() } else { named.iter().map(source).collect() }
}

fn text(models: &[Row]) -> String {
    let mut lines: Vec<(String, &Evaluation)> = Vec::new();
    for row in models {
        lines.push((row.model.clone(), &row.greedy));
        if let Some(controls) = &row.controls {
            lines.push(("  forced to reason".into(), &controls.forced_trace));
            lines.push(("  one sample, T .7".into(), &controls.sampled.accuracy));
            lines.push(("  shows reasoning, T .7".into(), &controls.sampled.traces));
            lines.push(("  right if it does, T .7".into(), &controls.sampled.traced));
            lines.push(("  majority of 16, T .7".into(), &controls.sampled.majority));
        }
    }
    let lines: Vec<(&str, &Evaluation)> = lines.iter().map(|(name, e)| (name.as_str(), *e)).collect();
    printer::table(&card::rows(&lines))
}
