//! `murmur task check`: what is wrong with a pack, and how to mend it.

use tasks::{Report, Severity};

use super::CheckArgs;
use crate::exit::Outcome;
use crate::{packs, printer, sandbox};

/// Runs the command.
///
/// # Errors
/// When the files cannot be read.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Outcome> {
    let files = packs::read(&args.pack.pack)?;
    let report = tasks::check(&files, &sandbox::run);
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
        lines.push(format!("{severity}: {}: {}", finding.what.place(), finding.what.message));
        lines.push(format!("  hint: {}", finding.what.hint));
    }
    if let (Some(name), Some(id)) = (&report.name, &report.id) {
        let count = |split: &str| report.items.get(split).copied().unwrap_or(0);
        let items =
            format!("{} train, {} validation, {} test", count("train"), count("validation"), count("test"));
        lines.push(format!("{name}: {items}; {} level(s)", report.levels.len()));
        let agree = report.chance_agreement_permille;
        lines.push(format!("chance that two random answers agree: {agree} in 1000"));
        if let Some(fuel) = report.fuel_per_item {
            lines.push(format!("fuel of an item: {fuel} of {}", tasks::FUEL_AVERAGE));
        }
        if report.golden_cases > 0 {
            lines.push(format!("golden cases that hold: {}", report.golden_cases));
        }
        lines.push(id.clone());
    }
    lines.push(if report.passes() { "ok".into() } else { "not usable yet".into() });
    lines.join("\n")
}
