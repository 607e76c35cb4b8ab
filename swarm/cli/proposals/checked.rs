//! What a check of a proposed pack says.

use std::cell::RefCell;

use tasks::{Catalogue, Definition, Pack, PackError, PackFiles, PackId, Program, Severity};

use crate::sandbox;

/// A pack that was checked.
pub(crate) struct Checked {
    pub(super) id: PackId,
    /// Its name, version, licence and summary, as far as they can be read, and its address.
    pub(super) card: String,
    pub(super) finding: Finding,
}

/// What a check found.
pub(super) enum Finding {
    /// Nothing wrong.
    Passes(Box<Pack>, PackFiles),
    /// The first thing that would mislead a swarm; it can be drawn from.
    Fails(String, Box<Pack>, PackFiles),
    /// It cannot be drawn from, here or anywhere.
    Broken(String),
    /// This machine failed, which says nothing of the pack.
    Unknown(String),
}

/// Checks a pack and whether it goes with others.
pub(super) fn examine(files: PackFiles, catalogue: &Catalogue) -> Checked {
    let id = files.id();
    let card = card(&files, &id);
    let ours = RefCell::new(None);
    let sandbox = |program: &Program| {
        sandbox::run(program).inspect_err(|error| {
            if sandbox::is_ours(error) {
                ours.replace(Some(error.to_string()));
            }
        })
    };
    let report = tasks::check(&files, &sandbox);
    let opened = Pack::open(&files, &sandbox);
    let wrong = report.findings.iter().find(|finding| finding.severity == Severity::Error);
    let wrong = wrong.map(|finding| finding.what.to_string());
    let finding = match (ours.into_inner(), opened) {
        (Some(why), _) => Finding::Unknown(why),
        (None, Err(error)) => Finding::Broken(error.to_string()),
        (None, Ok(pack)) => match wrong.or_else(|| clash(&pack, catalogue)) {
            Some(why) => Finding::Fails(why, Box::new(pack), files),
            None => Finding::Passes(Box::new(pack), files),
        },
    };
    Checked { id, card, finding }
}

/// Why a pack cannot stand beside others.
fn clash(pack: &Pack, catalogue: &Catalogue) -> Option<String> {
    let with = catalogue.packs().iter().cloned().chain([(pack.clone(), 1)]);
    Catalogue::new(with.collect()).err().map(|error| error.to_string())
}

fn card(files: &PackFiles, id: &PackId) -> String {
    let read: Result<Definition, PackError> = Definition::read(files);
    let Ok(Definition { name, version, licence, summary, .. }) = read else { return id.to_string() };
    let parts = [licence, summary].into_iter().filter(|part| !part.is_empty());
    let parts: Vec<String> = [format!("{name} {version}")].into_iter().chain(parts).collect();
    // A stranger wrote it.
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    format!("{} ({id})", parts.join(", ").chars().map(plain).take(200).collect::<String>())
}
