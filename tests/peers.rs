//! Peers of a small, quick swarm: their configs, and what they keep.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::process::Murmur;

/// One swarm at a time: a busy machine delays answers past their deadlines, and rosters shrink.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command to its end; stdout, stderr, exit code.
pub(crate) fn murmur(dir: &Path, args: &[&str]) -> (String, String, i32) {
    let mut process = Murmur::start(dir, args);
    let (code, stderr) = process.end();
    (process.output().join("\n"), stderr, code)
}

/// A peer of a small, quick swarm.
pub(crate) struct Peer<'a> {
    pub(crate) swarm: &'a str,
    pub(crate) name: &'a str,
    pub(crate) base: &'a str,
    /// Addresses with blanks between them.
    pub(crate) bootstrap: &'a str,
    pub(crate) listen: &'a str,
    pub(crate) rounds: u32,
}

impl Default for Peer<'_> {
    fn default() -> Self {
        Self { swarm: "test", name: "a", base: "amber", bootstrap: "", listen: "127.0.0.1:0", rounds: 0 }
    }
}

impl Peer<'_> {
    pub(crate) fn text(&self) -> String {
        let Self { swarm, name, base, listen, rounds, .. } = self;
        let bootstrap: Vec<&str> = self.bootstrap.split_whitespace().collect();
        format!(
            "[swarm]\nname = \"{swarm}\"\n\
             [swarm.genesis]\npeers_min = 3\n\
             [swarm.round]\nprompts = 6\ncompletions = 4\nwork_floor_ms = 3000\n\
             [[swarm.packs]]\nid = \"native:six\"\nweight = 1\n\
             [peer]\nlisten = [\"{listen}\"]\nbootstrap = {bootstrap:?}\nbase = \"{base}\"\n\
             state = \"state-{name}\"\nrounds = {rounds}\n"
        )
    }

    pub(crate) fn write(&self, dir: &Path) {
        fs::write(dir.join(format!("{}.toml", self.name)), self.text()).unwrap();
    }

    pub(crate) fn start(&self, dir: &Path) -> Murmur {
        self.write(dir);
        Murmur::join(dir, self.name)
    }
}

/// Three peers with three bases, the first one the others' bootstrap; with their names.
pub(crate) fn three(dir: &Path, rounds: u32) -> [(Murmur, String); 3] {
    let mut a = Peer { rounds, ..Peer::default() }.start(dir);
    let (name, bootstrap) = (a.name(), a.address());
    let [b, c] = [("b", "birch"), ("c", "cedar")].map(|(peer, base)| {
        let mut started =
            Peer { name: peer, base, bootstrap: &bootstrap, rounds, ..Peer::default() }.start(dir);
        let name = started.name();
        (started, name)
    });
    [(a, name), b, c]
}

/// Complete lines of a record file.
pub(crate) fn records(dir: &Path, peer: &str, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(format!("state-{peer}/run/{file}"))).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where a peer keeps checkpoint and resume file.
pub(crate) fn peer_dir(dir: &Path, peer: &str) -> PathBuf {
    let mut found = fs::read_dir(dir.join(format!("state-{peer}/run/peers"))).unwrap();
    found.next().unwrap().unwrap().path()
}

/// Every file below a folder, with its bytes.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
