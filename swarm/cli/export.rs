//! `murmur export`: the best model of a run as a Hugging Face directory.

use std::path::PathBuf;

use anyhow::{Context, bail};
use policy::{ExportCard, Policy};
use serde::Serialize;
use tasks::Split;

use crate::args::ExportArgs;
use crate::config::ConfigError;
use crate::evaluation::{self, Evaluation};
use crate::exit::Outcome;
use crate::record::{Report, RunDir, RunInfo};
use crate::{card, model, packs, printer};

/// Items of each family a choice or a card is made by.
const PER_FAMILY: usize = 100;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
    /// Whose model.
    pub(crate) peer: String,
    /// Where it is.
    pub(crate) out: PathBuf,
    /// Hash of the weights, in hexadecimal.
    pub(crate) hash: String,
    /// Greedy accuracy on the test split of what it began as.
    pub(crate) before: Option<Evaluation>,
    /// Greedy accuracy on the test split.
    pub(crate) after: Evaluation,
}

/// Runs the command.
///
/// # Errors
/// The directory is no run, the peer is unknown, nothing was saved yet, the destination is occupied.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<Outcome> {
    let (run, info) = RunDir::open(&args.run)?;
    let out = args.out.clone().unwrap_or_else(|| run.export());
    let exported = export(&run, &info, args.peer.as_deref(), out)?;
    if args.json {
        printer::json(&exported)?;
    } else {
        let mut rows = vec![("after", &exported.after)];
        if let Some(before) = &exported.before {
            rows.insert(0, ("before", before));
        }
        printer::data(&printer::table(&card::rows(&rows)))?;
    }
    let out = exported.out.display();
    printer::note(&format!(
        "{} is in {out}\nnext: murmur generate {out} --prompt \"add 417+201\"",
        exported.peer
    ));
    Ok(Outcome::Done)
}

/// Exports one peer's model, the best on the validation split unless `peer` names one.
///
/// # Errors
/// As [`run`].
pub(crate) fn export(
    run: &RunDir,
    info: &RunInfo,
    peer: Option<&str>,
    out: PathBuf,
) -> anyhow::Result<Exported> {
    let catalogue = packs::catalogue("run.json", &info.packs)?;
    let report = run.report()?.unwrap_or_default();
    let (peer, policy) = match peer {
        Some(name) => (name.to_owned(), named(run, info, name)?),
        None => best(run, info, &report, &catalogue)?,
    };
    let items = catalogue.held_out(Split::Test, PER_FAMILY);
    let base = info.peers.iter().find(|known| known.name == peer).map(|known| known.base.as_str());
    // The base may be gone by now; the card then lacks the comparison.
    let before = match base.and_then(|base| model::open(base, true).ok()) {
        Some(base) => Some(evaluation::evaluate(&base, &items)?),
        None => None,
    };
    let after = evaluation::evaluate(&policy, &items)?;
    let rounds = run.rounds()?.last().map_or(report.rounds, |round| round.round);
    let readme = card::exported(info, rounds, &peer, "test", before.as_ref(), &after, &policy);
    policy.save(&out, &ExportCard { readme })?;
    Ok(Exported { peer, out, hash: model::hex(&policy.hash()), before, after })
}

fn named(run: &RunDir, info: &RunInfo, name: &str) -> anyhow::Result<Policy> {
    let names: Vec<&str> = info.peers.iter().map(|peer| peer.name.as_str()).collect();
    if !names.contains(&name) {
        let hint = format!("this run has {}", names.join(", "));
        return Err(ConfigError::new("--peer", format!("no peer is called {name:?}"), hint).into());
    }
    load(run, name)
}

fn load(run: &RunDir, peer: &str) -> anyhow::Result<Policy> {
    let path = run.checkpoint(peer)?;
    if !path.is_dir() {
        bail!("{peer} has no checkpoint yet\nhint: wait for the end of a round, or name another --peer");
    }
    Policy::load(&path).with_context(|| format!("cannot load the checkpoint of {peer}"))
}

/// The peer best on the validation split: by the report, or measured now when the run has not ended.
fn best(
    run: &RunDir,
    info: &RunInfo,
    report: &Report,
    catalogue: &tasks::Catalogue,
) -> anyhow::Result<(String, Policy)> {
    let items = catalogue.held_out(Split::Validation, PER_FAMILY);
    let mut best: Option<(f64, String, Policy)> = None;
    for peer in &info.peers {
        if !run.checkpoint(&peer.name)?.is_dir() {
            continue;
        }
        let policy = load(run, &peer.name)?;
        let value = match report.peers.get(&peer.name).and_then(|peer| peer.validation) {
            Some(value) => value,
            None => evaluation::evaluate(&policy, &items)?.mean,
        };
        if best.as_ref().is_none_or(|(most, ..)| value > *most) {
            best = Some((value, peer.name.clone(), policy));
        }
    }
    let Some((_, name, policy)) = best else {
        bail!("{} has no checkpoint yet\nhint: wait for the end of a round", run.path().display())
    };
    Ok((name, policy))
}
