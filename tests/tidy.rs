//! The rules of the house, checked: who may know whom, what stays pure, what no file may contain.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Modules that exist for tests only.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem == "chance")
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|ext| ext == "rs") && !is_test(&entry) {
                let text = fs::read_to_string(&entry).unwrap();
                found.push((entry, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

#[test]
fn crates_know_only_whom_they_may() {
    for (name, may) in [
        ("tasks", &[][..]),
        ("judge", &[]),
        ("policy", &[]),
        ("swarm", &["judge.workspace", "tasks.workspace"]),
    ] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for local in ["judge.workspace", "policy.workspace", "swarm.workspace", "tasks.workspace"] {
            let known = manifest.lines().any(|line| line.starts_with(local));
            assert!(!known || may.contains(&local), "{name} must not know {local}");
        }
        if name != "policy" {
            assert!(!manifest.contains("candle"), "{name} must not know candle");
        }
    }
}

#[test]
fn what_peers_agree_on_is_pure() {
    for folder in ["tasks/src", "judge/src", "swarm/src/engine"] {
        for (path, text) in sources(folder) {
            for word in ["HashMap", "HashSet", "std::time", "std::fs", "tokio", "libp2p", "println!"] {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn only_the_printer_prints() {
    for folder in ["tasks/src", "judge/src", "policy/src", "swarm/src", "swarm/cli"] {
        // A build script speaks to cargo.
        for (path, text) in sources(folder).into_iter().filter(|(path, _)| !path.ends_with("build.rs")) {
            for word in ["println!(", "print!(", "dbg!("] {
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                assert!(!code.into_iter().any(|line| line.contains(word)), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn files_hold_one_idea_and_say_which() {
    for folder in ["tasks/src", "judge/src", "policy/src", "swarm/src", "swarm/cli"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines before its tests", path.display());
            assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
        }
    }
}
