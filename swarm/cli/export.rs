//! `murmur export`: the best model of a run for other programs, and to the hub.

use std::path::PathBuf;

use anyhow::{Context, bail};
use policy::export::{BaseFiles, Export, Format, Precision, Quantization};
use policy::{Checkpoint, ExportCard, Hub, HubId, Policy, PushOptions};
use serde::Serialize;
use tasks::{Catalogue, Split};

use crate::args::{DtypeName, ExportArgs, FormatName, QuantizationName};
use crate::config::ConfigError;
use crate::evaluation::{self, Evaluation};
use crate::exit::Outcome;
use crate::model::{self, Source};
use crate::record::{Report, RunDir, RunInfo};
use crate::{card, dataset, packs, printer};

/// Items of each family a choice or a card is made by.
const PER_FAMILY: usize = 100;
/// What is written when nothing else is asked for.
pub(crate) const DEFAULT: Format = Format::HuggingFace(Precision::F32);

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
    /// Whose model.
    pub(crate) peer: String,
    /// Where it is, or would be.
    pub(crate) out: PathBuf,
    /// Its files.
    pub(crate) files: Vec<FileSize>,
    /// Hash of the policy, in hexadecimal.
    pub(crate) hash: String,
    /// Greedy accuracy on the test split of what it began as.
    pub(crate) before: Option<Evaluation>,
    /// Greedy accuracy on the test split.
    pub(crate) after: Evaluation,
    /// How many items of each family were asked, in words.
    #[serde(skip)]
    items: String,
    /// Address of the commit on the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
}

/// A file of an export.
#[derive(Debug, Serialize)]
pub(crate) struct FileSize {
    /// Its name.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
}

/// Runs the command.
///
/// # Errors
/// The directory is no run, the peer is unknown, nothing was saved yet, the policy has no such form, the
/// destination is occupied, the hub does not take it.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<Outcome> {
    if let Some(dir) = &args.dataset {
        return dataset::run(args, dir);
    }
    let format = format(args)?;
    let hub_id = args.push.as_deref().map(hub_id).transpose()?;
    let (run, info) = RunDir::open(&args.run)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&run, format));
    let (export, mut exported) = prepare(&run, &info, args.peer.as_deref(), format, out)?;
    if !args.dry_run {
        export.write(&exported.out)?;
        if let Some(id) = &hub_id {
            exported.commit = push(&exported, id, args.public, &info)?;
        }
    }
    if args.json {
        printer::json(&exported)?;
    } else if args.dry_run {
        printer::data(&printer::table(&listing(&exported.files)))?;
    } else {
        let mut rows = vec![("after", &exported.after)];
        if let Some(before) = &exported.before {
            rows.insert(0, ("before", before));
        }
        let items = &exported.items;
        let heading = format!("greedy accuracy of {} (test split, {items})", exported.peer);
        printer::data(&format!("{heading}\n{}", printer::table(&card::rows(&rows))))?;
    }
    printer::note(&conclusion(
        &exported,
        format,
        hub_id.as_ref(),
        (args.dry_run, args.peer.is_none() && info.peers.len() > 1),
    ));
    Ok(Outcome::Done)
}

/// The format that the flags name.
fn format(args: &ExportArgs) -> anyhow::Result<Format> {
    let unfit = |flag: &str, format: &str| {
        ConfigError::new(flag, format!("belongs to --format {format}"), "leave it out or change --format")
    };
    if args.dtype.is_some() && args.format != FormatName::Hf {
        return Err(unfit("--dtype", "hf").into());
    }
    if args.quantization.is_some() && args.format != FormatName::Gguf {
        return Err(unfit("--quantization", "gguf").into());
    }
    Ok(match args.format {
        FormatName::Hf => Format::HuggingFace(match args.dtype {
            None | Some(DtypeName::F32) => Precision::F32,
            Some(DtypeName::F16) => Precision::F16,
            Some(DtypeName::Bf16) => Precision::Bf16,
        }),
        FormatName::Peft => Format::Peft,
        FormatName::Gguf => Format::Gguf(match args.quantization {
            None | Some(QuantizationName::F16) => Quantization::F16,
            Some(QuantizationName::Q8) => Quantization::Q8_0,
        }),
    })
}

fn hub_id(text: &str) -> anyhow::Result<HubId> {
    // Uploads make commits on the main branch, so a revision has no meaning here.
    let id = HubId::parse(text).filter(|_| !text.contains('@'));
    let wrong = || ConfigError::new("--push", format!("{text:?} is no model on the hub"), "write OWNER/NAME");
    Ok(id.ok_or_else(wrong)?)
}

fn default_out(run: &RunDir, format: Format) -> PathBuf {
    let suffix = match format {
        Format::HuggingFace(_) => return run.export(),
        Format::Peft => "-peft".to_owned(),
        Format::Gguf(quantization) => format!("-gguf-{}", quantization.name()),
    };
    let mut path = run.export().into_os_string();
    path.push(suffix);
    path.into()
}

fn listing(files: &[FileSize]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> =
        files.iter().map(|file| vec![file.name.clone(), file.bytes.to_string()]).collect();
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    rows.push(vec!["bytes in all".into(), total.to_string()]);
    rows
}

fn conclusion(
    exported: &Exported,
    format: Format,
    push: Option<&HubId>,
    (dry_run, chosen): (bool, bool),
) -> String {
    let (peer, out) = (&exported.peer, exported.out.display());
    if dry_run {
        let push = push.map(|id| format!(" and pushed to {id}")).unwrap_or_default();
        return format!("{peer} would be written to {out}{push}; nothing was");
    }
    let chosen = if chosen { " (best on the validation split)" } else { "" };
    let next = match (&exported.commit, format) {
        (Some(commit), _) => format!("pushed: {commit}"),
        (None, Format::HuggingFace(_)) => format!("next: murmur generate {out} --prompt \"add 417+201\""),
        (None, Format::Peft) => format!("next: PeftModel.from_pretrained(BASE, \"{out}\")"),
        (None, Format::Gguf(quantization)) => {
            format!("next: llama-cli -m {out}/{}", quantization.file_name())
        }
    };
    format!("{peer}{chosen} is in {out}\n{next}")
}

fn push(exported: &Exported, id: &HubId, public: bool, info: &RunInfo) -> anyhow::Result<Option<String>> {
    let swarm = info.swarm.get(..8).unwrap_or(&info.swarm);
    let message = format!("{} of swarm {swarm}, murmur {}", exported.peer, info.version);
    let options = PushOptions { private: !public, message, dry_run: false };
    let pushed = Hub::from_env()?
        .push(&exported.out, id, &options)
        .with_context(|| format!("{} is written, but was not pushed", exported.out.display()))?;
    Ok(pushed.commit)
}

/// Exports one peer's model, the best on the validation split unless `peer` names one.
///
/// # Errors
/// As [`run`].
pub(crate) fn export(
    run: &RunDir,
    info: &RunInfo,
    peer: Option<&str>,
    format: Format,
    out: PathBuf,
) -> anyhow::Result<Exported> {
    let (export, exported) = prepare(run, info, peer, format, out)?;
    export.write(&exported.out)?;
    Ok(exported)
}

/// Chooses and measures a model; everything is known then, and nothing written.
fn prepare(
    run: &RunDir,
    info: &RunInfo,
    peer: Option<&str>,
    format: Format,
    out: PathBuf,
) -> anyhow::Result<(Export, Exported)> {
    let catalogue = packs::catalogue("run.json", &info.packs)?;
    let report = run.report()?.unwrap_or_default();
    let (peer, policy) = match peer {
        Some(name) => (name.to_owned(), named(run, info, name)?),
        None => best(run, info, &report, &catalogue)?,
    };
    let base = base_of(info, &peer);
    let items = catalogue.held_out(Split::Test, PER_FAMILY);
    let before = before(&policy, base).map(|base| evaluation::evaluate(&base, &items)).transpose()?;
    let after = evaluation::evaluate(&policy, &items)?;
    let hash = model::hex(&policy.hash());
    let card = card::Exported {
        run: info,
        path: run.path(),
        rounds: run.rounds()?.last().map_or(report.rounds, |round| round.round),
        peer: &peer,
        base,
        catalogue: &catalogue,
        format,
        before: before.as_ref(),
        after: &after,
        hash: &hash,
    };
    let card = ExportCard {
        readme: card.text(),
        name: peer.clone(),
        base: base.to_owned(),
        base_files: base_files(base)?,
    };
    let export = Export::new(&policy, format, &card)?;
    let files = export.files().into_iter().map(|(name, bytes)| FileSize { name, bytes }).collect();
    let items = evaluation::items_words(&items, PER_FAMILY);
    Ok((export, Exported { peer, out, files, hash, before, after, items, commit: None }))
}

/// The model that a peer began with, as its run tells.
fn base_of<'a>(info: &'a RunInfo, peer: &str) -> &'a str {
    info.peers.iter().find(|known| known.name == peer).map_or("", |known| known.base.as_str())
}

/// What the policy was before the run. A directory may be gone by now; the card then lacks the comparison.
fn before(policy: &Policy, base: &str) -> Option<Policy> {
    match policy.adapter() {
        Some(_) => Some(policy.without_adapter()),
        None => model::open(base, true).ok(),
    }
}

/// Chat template and settings of the model it began with; nothing where that has none or is gone.
fn base_files(base: &str) -> anyhow::Result<BaseFiles> {
    match Source::of(base).and_then(|source| source.fetch(true)) {
        Ok(model) => Ok(model.base_files()?),
        Err(_) => {
            printer::note(&format!("{base} is not here: its chat template and settings are not taken over"));
            Ok(BaseFiles::default())
        }
    }
}

fn named(run: &RunDir, info: &RunInfo, name: &str) -> anyhow::Result<Policy> {
    let names: Vec<&str> = info.peers.iter().map(|peer| peer.name.as_str()).collect();
    if !names.contains(&name) {
        let hint = format!("this run has {}", names.join(", "));
        return Err(ConfigError::new("--peer", format!("no peer is called {name:?}"), hint).into());
    }
    load(run, info, name)?.with_context(|| {
        format!("{name} has no checkpoint yet\nhint: wait for the end of a round, or name another --peer")
    })
}

/// A peer's policy, if anything was saved yet.
fn load(run: &RunDir, info: &RunInfo, peer: &str) -> anyhow::Result<Option<Policy>> {
    let (path, base) = (run.checkpoint(peer)?, base_of(info, peer));
    let loaded = match Checkpoint::find(&path) {
        Some(whole) => Checkpoint::load_policy(&whole, || model::open(base, true)),
        // A model directory put there by hand.
        None if path.is_dir() => Policy::load(&path).map_err(anyhow::Error::from),
        None => return Ok(None),
    };
    let policy = loaded.with_context(|| format!("cannot load the checkpoint of {peer}"))?;
    // An adapter's base has it already.
    let template =
        if policy.chat().is_none() { model::chat_template(base).unwrap_or_default() } else { None };
    Ok(Some(match template {
        Some(template) => policy.with_chat(template, Some(model::SYSTEM_PROMPT))?,
        None => policy,
    }))
}

/// The peer best on the validation split: by the report, or measured now when the run has not ended.
fn best(
    run: &RunDir,
    info: &RunInfo,
    report: &Report,
    catalogue: &Catalogue,
) -> anyhow::Result<(String, Policy)> {
    let items = catalogue.held_out(Split::Validation, PER_FAMILY);
    let mut best: Option<(f64, String, Policy)> = None;
    for peer in &info.peers {
        let Some(policy) = load(run, info, &peer.name)? else { continue };
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
