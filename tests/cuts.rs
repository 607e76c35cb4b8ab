//! Files of a peer's state, cut anywhere: what a crash can leave is gone on with, and what it cannot is named.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kills::{Dice, setting};
use crate::peers::{alone, contents, three};
use crate::process::{Murmur, PATIENCE};

/// Lengths that each file is cut to, drawn anew in each run.
const CUTS: usize = 2;

/// Starts the peer with its files as they are; how it refuses, if it does.
fn refusal(dir: &Path, peer: &str) -> Option<(i32, String)> {
    let config = format!("{peer}.toml");
    let mut process = Murmur::start_logging(dir, &["join", &config, "--plain"], "murmur::peer=info");
    // Logged once everything is read; the note of the same words comes before.
    let plays = |line: &str| line.contains("INFO") && line.contains("listening");
    let line = process.expect(PATIENCE, "a start", |line| plays(line) || line.starts_with("error: "));
    if plays(&line) {
        process.kill();
        return None;
    }
    let (code, rest) = process.end();
    Some((code, line + "\n" + rest.as_str()))
}

/// Written line by line or record by record, or for people.
const GONE_ON_WITH: [&str; 5] = ["log", "rounds.jsonl", "events.jsonl", "status.json", "README.md"];
/// Without these whole, a peer could sign twice, or lose what it learnt.
const NAMED: [&str; 5] = ["identity.key", "resume.bin", "run.json", "model.safetensors", "trainer.json"];

#[test]
fn a_file_cut_anywhere_is_gone_on_with_or_named() {
    let _alone = alone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = setting("MURMUR_KILL_SEED", (now ^ std::process::id()).into());
    println!("repeat with: MURMUR_KILL_SEED={seed}");
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut peers = three(dir.path(), 0);
    while peers[2].0.next_round() < 4 {}
    peers.iter_mut().for_each(|(peer, _)| peer.kill());

    let state = dir.path().join("state-c");
    let mut whole = contents(&state);
    // Other names of the checkpoint's files, and what a kill left of a new one.
    let aside =
        |part: &OsStr| part == "checkpoints" || Path::new(part).extension().is_some_and(|end| end == "tmp");
    whole.retain(|(path, _)| !path.iter().any(aside));
    let restore = || whole.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    for (path, bytes) in whole.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for _ in 0..CUTS {
            let len = dice.below(bytes.len() as u64) as usize;
            fs::write(path, &bytes[..len]).unwrap();
            let (told, shown) = (refusal(dir.path(), "c"), path.strip_prefix(&state).unwrap().display());
            let name = path.file_name().unwrap().to_str().unwrap();
            match told {
                None => {
                    let nothing_lost = bytes[len..] == *b"\n";
                    assert!(
                        nothing_lost || !NAMED.contains(&name),
                        "{shown} cut to {len} bytes was not noticed"
                    );
                }
                Some((code, told)) => {
                    assert!(code == 1 || code == 2, "{shown} cut to {len} bytes: {code}: {told}");
                    assert!(!GONE_ON_WITH.contains(&name), "{shown} cut to {len} bytes: {told}");
                    assert!(told.contains("hint: "), "{shown} cut to {len} bytes: {told}");
                    // The tokenizer's own messages name the file alone, whatever part of a checkpoint spoils it.
                    let named = told.contains("state-c") || told.contains("tokenizer");
                    assert!(named, "{shown} cut to {len} bytes: {told}");
                }
            }
            restore();
        }
    }
    // A first start that was killed before it named its files.
    let run = dir.path().join("state-new/run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("run.json.1.tmp"), "{").unwrap();
    fs::write(dir.path().join("state-new/identity.key.1.tmp"), "murmur").unwrap();
    let config = fs::read_to_string(dir.path().join("c.toml")).unwrap().replace("state-c", "state-new");
    fs::write(dir.path().join("new.toml"), config).unwrap();
    assert_eq!(refusal(dir.path(), "new"), None);
}
