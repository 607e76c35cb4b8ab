//! The reference answers of a run, as JSON, for a verifier that does not have the generators of the native packs:
//! `answers LOG [FOLDER…]`, where LOG is a peer's log and FOLDER one of the packs in it that are not native. See
//! `tests/verify/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use swarm::log::Reader;
use swarm::manifest::Manifest;
use swarm::replay::{Replay, Transcript};
use tasks::{Catalogue, Item, Pack, PackFiles, Program};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(log) = arguments.next() else {
        return fail("name a log");
    };
    match answers(&log, &arguments.collect::<Vec<_>>()) {
        Ok(text) if io::stdout().write_all(text.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => fail(&why.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

fn answers(log: &Path, folders: &[PathBuf]) -> Result<String, Failure> {
    let folders: Vec<Pack> = folders.iter().map(|folder| pack(folder)).collect::<Result<_, _>>()?;
    let replay = Replay::open(Reader::open(log)?)?;
    let (catalogue, all) = catalogues(replay.manifest(), &folders)?;
    let mut lines = Vec::new();
    replay.transcripts(catalogue, |transcript| {
        lines.push(line(&all, &transcript));
        Ok::<_, Failure>(())
    })?;
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// The packs that a manifest names, and with the others besides.
fn catalogues(manifest: &Manifest, folders: &[Pack]) -> Result<(Catalogue, Catalogue), Failure> {
    let named = |id: &str| {
        let (place, levels) = tasks::split_levels(id)?;
        let folder = || folders.iter().find(|pack| pack.pin() == place).cloned();
        Pack::native(id).or_else(|| levels.map_or_else(folder, |levels| folder()?.with_levels(levels)))
    };
    let pack = |id: &str| named(id).ok_or_else(|| format!("pack {id}\nhint: name its folder behind the log"));
    let packs: Vec<(Pack, u32)> =
        manifest.packs.iter().map(|pin| Ok((pack(&pin.id)?, pin.weight))).collect::<Result<_, Failure>>()?;
    let mut catalogue = Catalogue::new(packs.clone())?;
    let mut all = packs;
    for pack in
        folders.iter().filter(|pack| !manifest.packs.iter().any(|pin| pin.id.starts_with(&pack.pin())))
    {
        catalogue.set_aside(pack.clone());
        all.push((pack.clone(), 1));
    }
    Ok((catalogue, Catalogue::new(all)?))
}

fn pack(folder: &Path) -> Result<Pack, Failure> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().into_string().map_err(|_| "a name that is not UTF-8")?;
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(Pack::open(&PackFiles::new(files)?, &Program::run)?)
}

fn line(packs: &Catalogue, transcript: &Transcript) -> String {
    let answer = |item: &Item| {
        let answer = item.gold().map(|gold| format!(", \"answer\": \"{}\"", gold.answer()));
        let stage = packs.rank(item);
        let stage =
            stage.map(|(rank, ranks)| format!(", \"stage\": [\"{}\", {rank}, {ranks}]", item.family()));
        format!("{{\"form\": \"integer\"{}{}}}", answer.unwrap_or_default(), stage.unwrap_or_default())
    };
    let settled = &transcript.settled;
    let answers: Vec<String> = settled.schedule.iter().map(answer).collect();
    format!("  \"{}\": [{}]", settled.start, answers.join(", "))
}
