//! `murmur task hash`, `fork` and `add`: packs by their content.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use swarm::identity::Identity;
use tasks::{Pack, PackFiles, PackId, Severity, TASK_TOML};

use super::{AddArgs, ForkArgs, HashArgs, ProposeArgs, new};
use crate::exit::Outcome;
use crate::join::JoinConfig;
use crate::proposals::{self, Wish};
use crate::store::{Store, Stored};
use crate::{config, courier, packs, printer, sandbox};

/// What `murmur task add --json` prints.
#[derive(Debug, Serialize)]
struct Added {
    pack: String,
    #[serde(flatten)]
    stored: Stored,
}

/// What `murmur task propose --json` prints.
#[derive(Debug, Serialize)]
struct Proposed {
    pack: String,
    name: String,
    weight: u32,
    /// Whether it passes its check here.
    passes: bool,
}

/// Prints the content address of a folder.
///
/// # Errors
/// Files that are not those of a pack.
pub(super) fn hash(args: &HashArgs) -> anyhow::Result<Outcome> {
    printer::data(&packs::read_folder(&args.folder)?.id().to_string())?;
    Ok(Outcome::Done)
}

/// Stores a pack that can be drawn from.
///
/// # Errors
/// What is wrong with the pack, or a store that cannot be written.
pub(super) fn add(args: &AddArgs) -> anyhow::Result<Outcome> {
    let (pack, stored) = match &args.from {
        Some(config) => fetch(&args.pack.pack, config)?,
        None => {
            let files = packs::read(&args.pack.pack)?;
            Pack::open(&files, &sandbox::run).context("not stored")?;
            (files.id().to_string(), Store::open()?.put(&files)?)
        }
    };
    if args.json {
        printer::json(&Added { pack, stored })?;
    } else {
        printer::data(&pack)?;
        printer::note(&format!("stored {} new file(s), {} bytes", stored.files, stored.bytes));
    }
    Ok(Outcome::Done)
}

/// Stores a pack and leaves word for the running peer of a config, which proposes it or votes for it.
///
/// # Errors
/// What is wrong with the pack or the config, or a folder that cannot be written.
pub(super) fn propose(args: &ProposeArgs) -> anyhow::Result<Outcome> {
    let config: JoinConfig = config::read(&args.config)?;
    let files = packs::read(&args.pack.pack)?;
    let report = tasks::check(&files, &sandbox::run);
    if let Some(error) =
        report.findings.iter().find(|finding| finding.severity == Severity::Error && !args.anyway)
    {
        bail!(
            "{}: {}\nhint: murmur task check {0} shows everything; with --anyway it is proposed as it is, and others vote by their own check",
            args.pack.pack,
            error.what
        );
    }
    let pack = Pack::open(&files, &sandbox::run).context("not proposed")?;
    Store::open()?.put(&files)?;
    let wish = Wish { weight: args.weight, anyway: args.anyway };
    proposals::leave_note(&config.peer.state, &files.id(), wish)?;
    if args.json {
        let (name, id, weight) = (pack.name().to_owned(), files.id().to_string(), args.weight);
        printer::json(&Proposed { pack: id, name, weight, passes: report.passes() })?;
        return Ok(Outcome::Done);
    }
    printer::data(&files.id().to_string())?;
    printer::note("the peer of this config proposes it, or votes for it, after its next round");
    Ok(Outcome::Done)
}

/// Fetches a pack from a swarm's peers.
fn fetch(name: &str, from: &Path) -> anyhow::Result<(String, Stored)> {
    let id = PackId::parse(name).with_context(|| {
        format!("{name} is no content address\nhint: with --from, give b3: and 64 hexadecimal digits")
    })?;
    if Store::open()?.has(&id) {
        return Ok((id.to_string(), Stored { files: 0, bytes: 0 }));
    }
    let config: JoinConfig = config::read(from)?;
    // A port that the system chooses is known to nobody.
    let own = config.peer.listen.into_iter().filter(|address| !address.ends_with(":0"));
    let peers: Vec<String> = own.chain(config.peer.bootstrap).collect();
    courier::somebody(&from.display().to_string(), &peers)?;
    let stored = courier::fetch(&Identity::generate()?, config.swarm.id(), &peers, &[id])?;
    Ok((id.to_string(), stored))
}

/// Copies a pack to a folder of its own name that remembers where it comes from.
///
/// # Errors
/// A pack that is not there, a folder that is.
pub(super) fn fork(args: &ForkArgs) -> anyhow::Result<Outcome> {
    let files = packs::read(&args.pack.pack)?;
    let name = new::pack_name(&args.folder)?;
    new::make_folder(&args.folder)?;
    for (path, content) in files.iter() {
        let place = args.folder.join(path);
        let dir = place.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let content = if path == TASK_TOML { forked(&files, &name)?.into_bytes() } else { content.to_vec() };
        fs::write(&place, content).with_context(|| format!("cannot write {}", place.display()))?;
    }
    printer::data(&packs::read_folder(&args.folder)?.id().to_string())?;
    printer::note(&format!("a fork of {} is in {}", files.id(), args.folder.display()));
    Ok(Outcome::Done)
}

/// `task.toml` with another name and parent; every other line stays what it is, comments too.
fn forked(files: &PackFiles, name: &str) -> anyhow::Result<String> {
    tasks::Definition::read(files)?;
    let text = String::from_utf8(files.get(TASK_TOML).unwrap_or_default().to_vec())?;
    let sets = |line: &str, key: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut lines = Vec::new();
    let (mut named, mut in_table) = (false, false);
    for line in text.lines() {
        in_table |= line.trim_start().starts_with('[');
        if !in_table && sets(line, "name") {
            lines.extend([format!("name = \"{name}\""), format!("parent = \"{}\"", files.id())]);
            named = true;
        } else if in_table || !sets(line, "parent") {
            lines.push(line.to_owned());
        }
    }
    if !named {
        bail!("task.toml does not set the name in a line of its own\nhint: write name = \"…\" first");
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_changes_name_and_parent_only() {
        let text =
            "# Mine.\nversion = \"2\"\nname = \"old\"   # short\nparent = \"b3:11\"\n[source]\n# name = 1\n";
        let files = PackFiles::new([(TASK_TOML.to_owned(), text.as_bytes().to_vec())].into()).unwrap();
        let parent = files.id().to_string();
        assert!(PackId::parse(&parent).is_some());
        let expected = format!(
            "# Mine.\nversion = \"2\"\nname = \"new\"\nparent = \"{parent}\"\n[source]\n# name = 1\n"
        );
        assert_eq!(forked(&files, "new").unwrap(), expected);
    }
}
