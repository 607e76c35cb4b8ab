//! `murmur doctor [CONFIG]`: whether this machine can take part, and what to do where it cannot.

mod machine;
mod peer;

use std::path::PathBuf;

use serde::Serialize;

use crate::config;
use crate::exit::Outcome;
use crate::printer;
use crate::show::SetArgs;

/// Arguments of `murmur doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Join config; without one only the machine is looked at.
    #[arg(value_name = "CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// What findings about the config as such are about.
const CONFIG: &str = "config";

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Pass,
    /// It works, though not as well as it could.
    Warn,
    /// `murmur join` would not work, or not for long.
    Fail,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    about: &'static str,
    grade: Grade,
    what: String,
    /// What to do; empty where nothing is to be done.
    hint: String,
}

impl Finding {
    fn pass(about: &'static str, what: impl Into<String>) -> Self {
        Self { about, grade: Grade::Pass, what: what.into(), hint: String::new() }
    }

    fn warn(about: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { about, grade: Grade::Warn, what: what.into(), hint: hint.into() }
    }

    fn fail(about: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { about, grade: Grade::Fail, what: what.into(), hint: hint.into() }
    }

    /// A failure from an error whose text ends with a hint, as ours do.
    fn of_error(about: &'static str, error: &impl std::fmt::Display) -> Self {
        let text = format!("{error:#}");
        let (what, hint) = config::split_hint(&text);
        Self::fail(about, what, hint)
    }
}

/// The findings of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    worst: Grade,
    findings: Vec<Finding>,
}

/// Runs the command; the answer is no if anything fails.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let mut findings = machine::findings();
    if let Some(config) = &args.config {
        findings.extend(peer::findings(config, &args.set.set));
    }
    let failed = |finding: &Finding| finding.grade == Grade::Fail;
    let misconfigured = findings.iter().any(|finding| failed(finding) && finding.about == CONFIG);
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Pass);
    if args.json {
        printer::json(&Report { worst, findings })?;
    } else {
        printer::data(&text(&findings))?;
    }
    Ok(match worst {
        Grade::Fail if misconfigured => Outcome::Misconfigured,
        Grade::Fail => Outcome::Failed,
        _ => Outcome::Done,
    })
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.about.len()).max().unwrap_or_default();
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let mut lines = Vec::new();
    for Finding { about, grade, what, hint } in findings {
        let grade = match grade {
            Grade::Pass => "pass",
            Grade::Warn => "warn",
            Grade::Fail => "FAIL",
        };
        lines.push(format!("{grade}  {about:width$}  {}", what.replace('\n', "; ")));
        if !hint.is_empty() {
            lines.push(format!("      {:width$}  hint: {hint}", ""));
        }
    }
    let (warned, failed) = (count(Grade::Warn), count(Grade::Fail));
    lines.push(format!("\n{} passed, {warned} to look at, {failed} failed", count(Grade::Pass)));
    lines.join("\n")
}
