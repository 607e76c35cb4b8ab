//! The reference answers of a run, as JSON, for a verifier that does not have the generators of the native packs:
//! `answers LOG`, where LOG is a peer's log. See `tests/verify/README.md`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use serde_bytes::ByteBuf;
use swarm::certificate::{beacon, statement_hash};
use swarm::limits::{ENVELOPE_BYTES_MAX, REPAIR_BYTES_MAX};
use swarm::manifest::Manifest;
use swarm::message::Certificate;
use swarm::wire::{self, Hash};
use tasks::{Catalogue, Item, Pack};

/// The records of a log that matter here; the others are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record {
    Header { manifest: ByteBuf },
    Certificate { certificate: ByteBuf },
}

fn main() -> ExitCode {
    match std::env::args_os().nth(1).map(PathBuf::from).ok_or("name a log".into()).and_then(answers) {
        Ok(text) if io::stdout().write_all(text.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn answers(log: PathBuf) -> Result<String, String> {
    let bytes = std::fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut catalogue = None;
    let mut lines = Vec::new();
    for body in bodies(&bytes) {
        match wire::decode::<Record>(body, 4 * REPAIR_BYTES_MAX) {
            Ok(Record::Header { manifest }) => catalogue = Some(native(&manifest)?),
            Ok(Record::Certificate { certificate }) => {
                let (catalogue, prompts) = catalogue.as_ref().ok_or("a log without a header")?;
                let certificate: Certificate =
                    wire::decode(&certificate, ENVELOPE_BYTES_MAX).map_err(|error| error.to_string())?;
                let start = statement_hash(&certificate.statement);
                lines.push(line(&start, &catalogue.schedule(&beacon(&start).0, *prompts)));
            }
            Err(_) => {}
        }
    }
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// Bodies of the log's frames, up to a torn tail; `murmur replay` is who checks them.
fn bodies(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let end = 4 + u32::from_le_bytes(*length) as usize;
        let (Some(body), Some(rest)) = (rest.get(4..end), rest.get(end + 8..)) else { break };
        bodies.push(body);
        bytes = rest;
    }
    bodies
}

fn native(manifest: &[u8]) -> Result<(Catalogue, usize), String> {
    let manifest: Manifest =
        wire::decode(manifest, ENVELOPE_BYTES_MAX).map_err(|error| format!("manifest: {error}"))?;
    let pack = |id: &str| {
        Pack::native(id).ok_or_else(|| {
            format!("pack {id}\nhint: only native packs; a static pack's file has its answers")
        })
    };
    let packs: Result<Vec<_>, String> =
        manifest.packs.iter().map(|pin| Ok((pack(&pin.id)?, pin.weight))).collect();
    let catalogue = Catalogue::new(packs?).map_err(|error| error.to_string())?;
    Ok((catalogue, manifest.round.prompts.into()))
}

fn line(start: &Hash, schedule: &[Item]) -> String {
    let answer = |item: &Item| {
        let answer = item.gold().map(|gold| format!(", \"answer\": \"{}\"", gold.answer()));
        format!("{{\"form\": \"integer\"{}}}", answer.unwrap_or_default())
    };
    let answers: Vec<String> = schedule.iter().map(answer).collect();
    format!("  \"{start}\": [{}]", answers.join(", "))
}
