//! `murmur task check`: what is wrong with a task pack, before a swarm trains on it.

use tasks::{Report, Severity};

use crate::args::TaskCheckArgs;
use crate::exit::Outcome;
use crate::{packs, printer};

/// Runs the command.
///
/// # Errors
/// When the two files cannot be read.
pub(crate) fn check(args: &TaskCheckArgs) -> anyhow::Result<Outcome> {
    let files = packs::read_folder(&args.dir)?;
    let report = tasks::check(&files.task_toml, &files.items_jsonl);
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&text(&report))?;
    }
    Ok(if report.passes() { Outcome::Done } else { Outcome::Failed })
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        lines.push(format!("{severity}: {}:{}: {}", finding.file, finding.line, finding.message));
        lines.push(format!("  hint: {}", finding.hint));
    }
    if let (Some(name), Some(id)) = (&report.name, &report.id) {
        let count = |split: &str| report.items.get(split).copied().unwrap_or(0);
        let items =
            format!("{} train, {} validation, {} test", count("train"), count("validation"), count("test"));
        lines.push(format!("{name}: {items}"));
        lines.push(format!(
            "chance that two random answers agree: {} in 1000",
            report.chance_agreement_permille
        ));
        lines.push(id.clone());
    }
    lines.push(if report.passes() { "ok".into() } else { "not usable yet".into() });
    lines.join("\n")
}
