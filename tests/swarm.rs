//! Swarms of processes: `demo`, and `join` as people use it, with peers that are killed, leave, come back, or are
//! configured wrongly.
//!
//! Nothing sleeps: a test waits for a line that a peer writes, each time with a deadline, and every process dies
//! with its test. Ports are chosen by the system.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy::{ChatTemplate, ExportCard, Policy, Trainer, UpdateConfig};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of a peer that a failure shows; everything else it wrote is shown.
const SHOWN_ROUNDS: usize = 5;

/// One swarm at a time: a busy machine delays answers past their deadlines, and rosters shrink.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process of the binary; killed when dropped.
struct Murmur {
    child: Child,
    stderr: Receiver<String>,
    stdout: Receiver<String>,
    told: Vec<String>,
}

impl Murmur {
    fn start<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: &[S]) -> Self {
        Self::start_logging(dir, args, "error")
    }

    fn start_logging<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: &[S], log: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_murmur"))
            .args(args)
            .current_dir(dir)
            .env("MURMUR_LOG", log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = lines_of(child.stderr.take().unwrap());
        let stdout = lines_of(child.stdout.take().unwrap());
        Self { child, stderr, stdout, told: Vec::new() }
    }

    fn join(dir: &Path, name: &str) -> Self {
        Self::start(dir, &["join", &format!("{name}.toml"), "--plain"])
    }

    /// The next line on stderr; `None` when it is closed.
    fn line(&mut self, until: Instant) -> Option<String> {
        match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.told.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing more in time; the last lines:\n{}", self.shown())
            }
        }
    }

    fn shown(&self) -> String {
        let is_round = |line: &&String| line.starts_with("round ");
        let mut skipped = self.told.iter().filter(is_round).count().saturating_sub(SHOWN_ROUNDS);
        let mut shown = String::new();
        for line in &self.told {
            if is_round(&line) && skipped > 0 {
                skipped -= 1;
            } else {
                shown.push_str(&format!("  {line}\n"));
            }
        }
        shown
    }

    /// The first of the next lines on stderr that passes.
    fn expect(&mut self, within: Duration, what: &str, pass: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + within;
        while let Some(line) = self.line(until) {
            if pass(&line) {
                return line;
            }
        }
        panic!("ended without {what}; the last lines:\n{}", self.shown())
    }

    /// Where it listens, as a bootstrap address.
    fn address(&mut self) -> String {
        let line = self.expect(PATIENCE, "an address", |line| line.starts_with("listening on "));
        line.trim_start_matches("listening on ").to_owned()
    }

    /// The name it gave itself.
    fn name(&mut self) -> String {
        let line = self.expect(PATIENCE, "a name", |line| line.contains(" joins swarm "));
        line.split(' ').next().unwrap().to_owned()
    }

    /// Waits for a round it tells from now on; its number.
    fn next_round(&mut self) -> u32 {
        // A note may begin with a round too: "round 7: no update, …".
        let is_round = |line: &str| line.starts_with("round ") && line.ends_with(" overhead");
        let line = self.expect(PATIENCE, "a round", is_round);
        line.split_whitespace().nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
    }

    /// Waits for its end; exit code and the rest of its lines.
    fn end(&mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        let mut rest = String::new();
        while let Some(line) = self.line(until) {
            rest.push_str(&line);
            rest.push('\n');
        }
        // Its stderr is closed, so it has ended or is about to.
        let status: ExitStatus = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), rest)
    }

    /// All of stdout; only after the end.
    fn output(&self) -> Vec<String> {
        self.stdout.iter().collect()
    }

    /// As ctrl-c does.
    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// As a power cut does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Murmur {
    fn drop(&mut self) {
        // Ended already, most of the time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

/// Runs a command to its end; stdout, stderr, exit code.
fn murmur(dir: &Path, args: &[&str]) -> (String, String, i32) {
    let mut process = Murmur::start(dir, args);
    let (code, stderr) = process.end();
    (process.output().join("\n"), stderr, code)
}

/// A peer of a small, quick swarm.
struct Peer<'a> {
    swarm: &'a str,
    name: &'a str,
    base: &'a str,
    bootstrap: &'a str,
    listen: &'a str,
    rounds: u32,
}

impl Default for Peer<'_> {
    fn default() -> Self {
        Self { swarm: "test", name: "a", base: "amber", bootstrap: "", listen: "127.0.0.1:0", rounds: 0 }
    }
}

impl Peer<'_> {
    fn text(&self) -> String {
        let Self { swarm, name, base, listen, rounds, .. } = self;
        let bootstrap =
            if self.bootstrap.is_empty() { String::new() } else { format!("{:?}", self.bootstrap) };
        format!(
            "[swarm]\nname = \"{swarm}\"\n\
             [swarm.genesis]\npeers_min = 3\n\
             [swarm.round]\nprompts = 6\ncompletions = 4\nwork_floor_ms = 3000\n\
             [[swarm.packs]]\nid = \"native:six\"\nweight = 1\n\
             [peer]\nlisten = [\"{listen}\"]\nbootstrap = [{bootstrap}]\nbase = \"{base}\"\n\
             state = \"state-{name}\"\nrounds = {rounds}\n"
        )
    }

    fn write(&self, dir: &Path) {
        fs::write(dir.join(format!("{}.toml", self.name)), self.text()).unwrap();
    }

    fn start(&self, dir: &Path) -> Murmur {
        self.write(dir);
        Murmur::join(dir, self.name)
    }
}

/// Three peers with three bases, the first one the others' bootstrap; with their names.
fn three(dir: &Path, rounds: u32) -> [(Murmur, String); 3] {
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
fn records(dir: &Path, peer: &str, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(format!("state-{peer}/run/{file}"))).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn roster(record: &Value) -> Vec<&str> {
    record["roster"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn last_roster(dir: &Path, peer: &str) -> usize {
    records(dir, peer, "rounds.jsonl").last().map_or(0, |record| roster(record).len())
}

/// Where a peer keeps checkpoint and resume file.
fn peer_dir(dir: &Path, peer: &str) -> PathBuf {
    let mut found = fs::read_dir(dir.join(format!("state-{peer}/run/peers"))).unwrap();
    found.next().unwrap().unwrap().path()
}

/// A folder with a static pack of `items` additions.
fn write_pack(dir: &Path, items: u32) {
    fs::create_dir_all(dir).unwrap();
    let task = "name = \"small-sums\"\nversion = \"1.0.0\"\nlicence = \"CC0-1.0\"\n\
                summary = \"Sums.\"\n[answer]\nform = \"integer\"\n";
    fs::write(dir.join("task.toml"), task).unwrap();
    let item = |n: u32| {
        let (a, b) = (10 + 7 * n, 3 + 5 * n);
        format!("{{\"id\": \"q{n}\", \"question\": \"add {a}+{b}\", \"answer\": \"{}\"}}\n", a + b)
    };
    fs::write(dir.join("items.jsonl"), (0..items).map(item).collect::<String>()).unwrap();
}

#[test]
fn a_short_demo_with_a_fresh_seed_learns_and_exports() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = ((nanos ^ std::process::id().rotate_left(16)) % 1_000_000).to_string();
    println!("repeat with: murmur demo --rounds 12 --seed {seed}");
    let mut demo =
        Murmur::start(dir.path(), &["demo", "--rounds", "12", "--seed", &seed, "--json", "--plain"]);
    let (code, err) = demo.end();
    assert_eq!(code, 0, "{err}");
    let result: Value = serde_json::from_str(demo.output().last().unwrap()).unwrap();
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "arm seed peers liars rounds accuracy controls vote_accuracy undecided overhead_ms_per_round wall_s cpu_s \
         rss_mib run export"
    );
    assert_eq!([&result["peers"], &result["liars"], &result["rounds"]], [4, 0, 12]);
    assert_eq!((result["arm"].as_str(), result["seed"].to_string()), (Some("swarm"), seed));
    for key in ["forced_trace", "majority_16"] {
        assert!((0.3..=1.0).contains(&result["controls"][key].as_f64().unwrap()), "{result}");
    }
    let accuracy = &result["accuracy"];
    let of = |key: &str| accuracy[key].as_f64().unwrap();
    // Seeds gain .28 to .30.
    assert!(of("after") > of("before") + 0.15, "{result}");
    assert!(of("after_min") <= of("after"), "{result}");
    assert_eq!(accuracy["per_family"].as_object().unwrap().len(), 6, "{result}");
    assert!(result["vote_accuracy"].as_f64().unwrap() > 0.5, "{result}");
    assert!(result["rss_mib"].as_u64().unwrap() < 2048, "{result}");
    assert!(err.contains("round  12/12"), "{err}");

    let export = result["export"].as_str().unwrap();
    let (out, err, code) = murmur(dir.path(), &["eval", export, "--per-family", "10", "--json"]);
    assert_eq!(code, 0, "{err}");
    let evaluated: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(evaluated["items"], 60, "{out}");
}

#[test]
fn three_processes_finish_their_rounds_together() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let peers = three(dir.path(), 4);
    let mut names: Vec<String> = peers.iter().map(|(_, name)| name.clone()).collect();
    names.sort();
    for (mut peer, name) in peers {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{name}: {err}");
        assert!(err.contains(&format!("{name} left after round 4; go on with: murmur join")), "{err}");
    }
    for peer in ["a", "b", "c"] {
        let rounds = records(dir.path(), peer, "rounds.jsonl");
        let numbers: Vec<u64> = rounds.iter().map(|record| record["round"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4], "{peer}");
        for record in &rounds[1..] {
            let mut present = roster(record);
            present.sort_unstable();
            assert_eq!(present, names, "{peer}: {record}");
        }
    }
}

#[test]
fn a_killed_peer_comes_back_and_a_stopped_one_says_so() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [(mut a, name_a), (mut b, _), (mut c, name_c)] = three(dir.path(), 0);
    while c.next_round() < 3 {}
    c.kill();
    // The others wait for it once, say so, and go on as two.
    let missing = format!("went on without {name_c}");
    let line = a.expect(PATIENCE, "the missing peer", |line| line.contains(&missing));
    let died = a.next_round();
    while a.next_round() < died + 3 {}
    while b.next_round() < died + 3 {}
    let events = records(dir.path(), "a", "events.jsonl");
    let waits = events.iter().filter(|event| event["text"].as_str().unwrap().contains(&missing)).count();
    assert!(waits <= 2, "waited {waits} times for a dead peer, first: {line}");
    assert_eq!(last_roster(dir.path(), "a"), 2);

    let mut c = Murmur::join(dir.path(), "c");
    c.expect(PATIENCE, "resuming", |line| line.starts_with("resuming from the checkpoint of round "));
    assert_eq!(c.name(), name_c, "the same identity");
    for _ in 0..2 {
        c.expect(PATIENCE, "the other peers", |line| line.ends_with(" is here"));
    }
    let back = Instant::now() + PATIENCE;
    while last_roster(dir.path(), "a") < 3 {
        assert!(Instant::now() < back, "it never came back:\n{}\n{}", a.shown(), c.shown());
        a.next_round();
    }
    c.next_round();

    a.interrupt();
    for peer in [&mut b, &mut c] {
        let left = format!("{name_a} left: stopped by its user");
        peer.expect(Duration::from_secs(10), "the farewell", |line| line == left);
    }
    let (code, err) = a.end();
    assert_eq!(code, 130, "{err}");
    assert!(
        err.contains("leaving; ctrl-c again stops at once") && err.contains("everything is saved"),
        "{err}"
    );
    // Two are a majority of three: they go on.
    let now = b.next_round();
    while c.next_round() < now + 2 {}
}

#[test]
fn a_peer_of_another_swarm_is_refused_with_a_reason() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut a = Peer::default().start(dir.path());
    let bootstrap = a.address();
    let other = Peer { swarm: "other", name: "b", bootstrap: &bootstrap, ..Peer::default() };
    let mut b = other.start(dir.path());
    for peer in [&mut a, &mut b] {
        let line = peer.expect(PATIENCE, "a refusal", |line| line.contains("another swarm"));
        assert!(line.contains("need the same [swarm] section"), "{line}");
    }
    for peer in ["a", "b"] {
        assert_eq!(records(dir.path(), peer, "rounds.jsonl"), Vec::<Value>::new());
        let events = records(dir.path(), peer, "events.jsonl");
        assert!(
            events.iter().all(|event| !event["text"].as_str().unwrap().contains("is here")),
            "{events:?}"
        );
    }
}

#[test]
fn wrong_configs_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let good = Peer::default().text();
    for (from, to, expected) in [
        (
            "peers_min = 3",
            "pers_min = 3",
            "c.toml:4: unknown key `pers_min`\nhint: did you mean `peers_min`?",
        ),
        (
            "peers_min = 3",
            "peers_min = 0",
            "c.toml: [swarm] genesis.peers_min: 0 is out of range\nhint: choose 1 to ",
        ),
        (
            "prompts = 6",
            "prompts = 0",
            "c.toml: [swarm] round.prompts: 0 is out of range\nhint: choose 1 to ",
        ),
        ("rounds = 0", "ruonds = 0", "unknown key `ruonds`\nhint: did you mean `rounds`?"),
        ("native:six", "native:sicks", "[swarm] names the pack native:sicks, which is not here\nhint: "),
        ("base = \"amber\"\n", "", "the key `base` is missing\nhint: add `base = …`"),
        ("amber", "ambre", "did you mean the embedded base `amber`?"),
        ("127.0.0.1:0", "127.0.0.1", "c.toml: [peer] the address \"127.0.0.1\": "),
    ] {
        fs::write(dir.path().join("c.toml"), good.replacen(from, to, 1)).unwrap();
        let (out, err, code) = murmur(dir.path(), &["join", "c.toml"]);
        assert!(err.contains(expected), "{to}: {err}");
        assert_eq!((out.as_str(), code), ("", 2), "{to}: {err}");
    }
}

#[test]
fn a_busy_port_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = busy.local_addr().unwrap().to_string();
    Peer { listen: &listen, ..Peer::default() }.write(dir.path());
    let (out, err, code) = murmur(dir.path(), &["join", "a.toml"]);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.contains("address already in use") && err.contains("hint: "), "{err}");
    assert!(err.contains("choose another port"), "{err}");
}

#[test]
fn damaged_state_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // A single peer is a swarm too, and a quick one.
    let alone = Peer { rounds: 1, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 1");
    fs::write(dir.path().join("a.toml"), &alone).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert_eq!(code, 0, "{err}");
    let peer = peer_dir(dir.path(), "a");
    for (file, expected) in [
        ("resume.bin", "resume.bin is damaged"),
        ("checkpoint/model.safetensors", "model.safetensors"),
        ("checkpoint/adam_first.safetensors", "adam_first.safetensors"),
        ("checkpoint/trainer.json", "trainer.json"),
    ] {
        let path = peer.join(file);
        let good = fs::read(&path).unwrap();
        for damage in [&good[..good.len() / 2], &b""[..], &[0xff; 64][..]] {
            fs::write(&path, damage).unwrap();
            let before = contents(&peer);
            let (out, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
            assert_eq!((out.as_str(), code), ("", 1), "{file} of {} bytes: {err}", damage.len());
            assert!(err.contains(expected) && err.contains("hint: "), "{file}: {err}");
            assert!(contents(&peer) == before, "{file}: something was overwritten");
        }
        fs::write(&path, &good).unwrap();
    }
    // A checkpoint that lost a file is not taken for no checkpoint.
    let trainer = peer.join("checkpoint/trainer.json");
    let good = fs::read(&trainer).unwrap();
    fs::remove_file(&trainer).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert!(code == 1 && err.contains("has no trainer.json"), "{code}: {err}");
    assert!(!trainer.exists(), "the checkpoint was replaced");
    fs::write(&trainer, good).unwrap();
    let key = dir.path().join("state-a/identity.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, &good[..good.len() / 2]).unwrap();
    let (_, err, code) = murmur(dir.path(), &["join", "a.toml", "--plain"]);
    assert!(code == 1 && err.contains("identity.key"), "{code}: {err}");
    assert_eq!(fs::read(&key).unwrap(), &good[..good.len() / 2], "the key was overwritten");
}

/// Every file below a folder, with its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
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

#[test]
fn a_damaged_base_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tiny =
        "name = \"tiny\"\nseed = 1\nbatch = 4\n[[phases]]\nsteps = 1\nlearning_rate = 1e-3\nworked = 0.5\n";
    fs::write(dir.path().join("tiny.toml"), tiny).unwrap();
    let (_, err, code) = murmur(dir.path(), &["pretrain", "tiny.toml", "--out", "tiny", "--json"]);
    assert_eq!(code, 0, "{err}");
    Peer { base: "tiny", ..Peer::default() }.write(dir.path());
    for (file, damage) in [("model.safetensors", "short"), ("config.json", "{"), ("tokenizer.json", "[]")] {
        let path = dir.path().join("tiny").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, damage).unwrap();
        for args in [&["join", "a.toml"][..], &["demo", "--base", "tiny", "--rounds", "1"]] {
            let (out, err, code) = murmur(dir.path(), args);
            assert_eq!((out.as_str(), code), ("", 1), "{file}: {err}");
            assert!(err.contains(file) && err.contains("hint: "), "{file}: {err}");
        }
        assert_eq!(fs::read(&path).unwrap(), damage.as_bytes());
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn a_static_pack_is_trained_on_and_named_by_its_content() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    write_pack(&dir.path().join("pack"), 40);
    let (out, err, code) = murmur(dir.path(), &["task", "check", "pack", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let id = report["id"].as_str().unwrap();
    assert!(id.starts_with("b3:"), "{id}");

    let args = ["demo", "--rounds", "2", "--pack", "pack", "--json", "--plain", "--out", "run"];
    let (out, err, code) = murmur(dir.path(), &args);
    assert_eq!(code, 0, "{err}");
    let result: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!(result["accuracy"]["per_family"]["small-sums"].is_array(), "{result}");
    assert_eq!(result["rounds"], 2);

    let text = Peer::default().text().replace("native:six", id) + "packs = [\"pack\"]\n";
    fs::write(dir.path().join("p.toml"), &text).unwrap();
    let (out, err, code) = murmur(dir.path(), &["join", "p.toml", "--dry-run"]);
    assert!(code == 0 && out.starts_with("# swarm id ") && out.contains(id), "{out}{err}");
    let wrong = format!("b3:{}", "0".repeat(id.len() - 3));
    fs::write(dir.path().join("p.toml"), text.replace(id, &wrong)).unwrap();
    let (out, err, code) = murmur(dir.path(), &["join", "p.toml", "--dry-run"]);
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(err.contains(&wrong) && err.contains(id), "{err}");
    assert!(!dir.path().join("state-a").exists(), "a dry run leaves nothing behind");
}

/// A chat model with random weights that was only taught to end its replies with a verdict: a coin.
fn write_chat_model(dir: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/tests/fixtures/families/smollm2");
    fs::create_dir_all(dir).unwrap();
    for entry in fs::read_dir(&fixture).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    let roomy = config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 1024");
    assert_ne!(config, roomy);
    fs::write(dir.join("config.json"), roomy).unwrap();
    let mut policy = Policy::load(dir).unwrap();
    let template = ChatTemplate::load(dir).unwrap().unwrap();
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    for step in 0..150 {
        let lesson = |n: usize| {
            let (a, b) = (11 + 7 * step % 80, 13 + 17 * n);
            let answer = format!("<answer>{}</answer>", a + b);
            let prompt = policy.critique_prompt(&template, &format!("add {a}+{b}"), &answer, 800).unwrap();
            let word = if n.is_multiple_of(2) { "right" } else { "wrong" };
            let mut reply = policy.encode(&format!("so\nVerdict: {word}"));
            reply.push(policy.config().eos_token_ids[0]);
            (prompt, reply)
        };
        let lessons: Vec<_> = (0..4).map(lesson).collect();
        trainer.supervise_ids(&mut policy, &lessons, 3e-3).unwrap();
    }
    policy.save(&dir.with_extension("taught"), &ExportCard::default()).unwrap();
    fs::copy(dir.with_extension("taught").join("model.safetensors"), dir.join("model.safetensors")).unwrap();
}

#[test]
fn a_chat_model_writes_critiques_beside_models_that_cannot_and_learns_from_them() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    write_chat_model(&dir.path().join("chat"));
    let mut bootstrap = String::new();
    let mut peers = Vec::new();
    for (name, base) in [("a", "amber"), ("b", "birch"), ("c", "chat")] {
        let text = Peer { name, base, bootstrap: &bootstrap, rounds: 4, ..Peer::default() }.text();
        // Every prompt is gold, so that every round tries candidates of both kinds.
        let text = text
            .replace("work_floor_ms", "critiques = \"train\"\nwork_floor_ms")
            .replace("[[swarm.packs]]", "[swarm.judge]\ngold_share_permille = 1000\n[[swarm.packs]]");
        fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        let mut peer = Murmur::join(dir.path(), name);
        if base != "chat" {
            let why = format!("{base} has no chat template");
            peer.expect(PATIENCE, "the reason for no critiques", |line| line.starts_with(&why));
        }
        let own_name = if base == "chat" { peer.name() } else { String::new() };
        if name == "a" {
            bootstrap = peer.address();
        }
        peers.push((peer, own_name));
    }
    let critic = peers[2].1.clone();
    for (peer, _) in &mut peers {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("verdicts right"), "{err}");
    }

    // Every peer computed every critic's reward by itself, from messages alone, and all to the same.
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|peer| records(dir.path(), peer, "rounds.jsonl"));
    let trained: Vec<u64> =
        c.iter().map(|record| record["critiques"]["trained"].as_u64().unwrap_or(0)).collect();
    let losses: Vec<bool> = c.iter().map(|record| record["loss"][&critic].is_number()).collect();
    for record in a.iter_mut().chain(&mut b).chain(&mut c) {
        record["critiques"]["trained"] = Value::Null;
    }
    let mut rewards = Vec::new();
    for ((a, b), c) in a.iter().zip(&b).zip(&c) {
        let critiques = &a["critiques"];
        assert!(*critiques == b["critiques"] && *critiques == c["critiques"], "{a}\n{b}\n{c}");
        assert!(critiques["count"].as_u64().unwrap() > 4, "{a}");
        for said in critiques["said"].as_array().unwrap() {
            assert_eq!(said["critic"], critic.as_str(), "the others have no words: {said}");
            assert!(["right", "wrong", "unclear"].contains(&said["verdict"].as_str().unwrap()), "{said}");
        }
        rewards.extend(critiques["rewards"][&critic].as_f64());
    }
    assert_eq!(rewards.len(), 3, "gold of the round before, from round 2 on: {a:?}");
    assert!(rewards.iter().all(|reward| (-1.0..=1.0).contains(reward)));
    // Its own answers are noise, so only critiques can have taught it: those of a round once gold is drawn, and the
    // loss of that step stands in the round after.
    assert!(trained[0] == 0 && trained[1..].iter().sum::<u64>() > 0, "{trained:?}");
    let expected: Vec<bool> = [0].iter().chain(&trained[..3]).map(|groups| *groups > 0).collect();
    assert_eq!(losses, expected, "{trained:?}");

    let (out, err, code) = murmur(dir.path(), &["watch", "state-b/run", "--once"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("verdicts right") && out.contains(&format!("critics         {critic} ")), "{out}");
    assert!(out.contains(&format!("  {critic} of ")), "{out}");
    let (out, _, _) = murmur(dir.path(), &["watch", "state-b/run", "--json"]);
    let view: Value = serde_json::from_str(&out).unwrap();
    assert!(view["rounds"][3]["critiques"]["skill"][&critic].is_number(), "{out}");
}

/// Those of `pretrain` are loaded in a test beside it.
#[test]
fn every_config_of_a_peer_is_loaded() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut files: Vec<PathBuf> = fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut ids = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let path = file.to_str().unwrap();
        if name.starts_with("qwen") {
            // Its model is on the hub; a dry run says so and downloads nothing.
            let (out, err, code) = murmur(dir.path(), &["join", path, "--dry-run"]);
            assert_eq!(code, 0, "{name}: {err}");
            assert!(out.contains("\n[lora]\nrank = 16\n"), "{name}: {out}");
            let told = err.contains("is not on this machine: the first start downloads");
            assert!(told || err.contains("memory: this takes up to"), "{name}: {err}");
        } else if name.starts_with("peer-") {
            let (out, err, code) = murmur(dir.path(), &["join", path, "--dry-run"]);
            assert_eq!(code, 0, "{name}: {err}");
            let id = out.lines().next().unwrap().strip_prefix("# swarm id ").unwrap().to_owned();
            // What is printed is a config itself, of the same swarm.
            fs::write(dir.path().join(name), &out).unwrap();
            let (again, err, _) = murmur(dir.path(), &["join", name, "--dry-run"]);
            assert_eq!(again, out, "{name}: {err}");
            ids.push(id);
        } else {
            assert!(name.starts_with("pretrain-"), "{name}: test this kind of config too");
        }
    }
    assert_eq!(ids.len(), 3, "{files:?}");
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 64), "{ids:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "a dry run leaves nothing behind");
}

/// A policy directory of the project.
fn shipped(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy").join(folder).to_str().unwrap().to_owned()
}

#[test]
fn an_adapter_learns_and_a_chat_model_takes_part() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let start = |peer: Peer, more: &str| {
        let text =
            peer.text().replace("peers_min = 3", "peers_min = 4").replace("prompts = 6", "prompts = 16");
        fs::write(dir.path().join(format!("{}.toml", peer.name)), text + more).unwrap();
        Murmur::join(dir.path(), peer.name)
    };
    let rounds = 6;
    let mut a = start(Peer { rounds, ..Peer::default() }, "");
    let bootstrap = &a.address();
    let (birch, chat) = (&shipped("bases/birch"), &shipped("tests/fixtures/families/qwen2"));
    let adapter = "[lora]\nrank = 4\n[learning]\nlearning_rate = 3e-3\ngradient_checkpointing = true\n";
    let asked =
        "[lora]\nrank = 2\n[policy]\nthreads = 2\nsampling_weights = \"bf16\"\nsystem_prompt = \"\"\n";
    let mut b = start(Peer { name: "b", base: birch, bootstrap, rounds, ..Peer::default() }, adapter);
    let mut c = start(Peer { name: "c", base: chat, bootstrap, rounds, ..Peer::default() }, asked);
    let mut d = start(Peer { name: "d", base: "cedar", bootstrap, rounds, ..Peer::default() }, "");
    for peer in [&mut a, &mut b, &mut c, &mut d] {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{err}");
        assert!(
            peer.told.iter().any(|line| line.starts_with("memory: this takes up to ")),
            "{:?}",
            peer.told
        );
    }
    assert!(c.told.iter().any(|line| line.contains("asks for repetition_penalty 1.1")), "{:?}", c.told);
    let steps = |peer: &str| {
        let rounds = records(dir.path(), peer, "rounds.jsonl");
        assert_eq!(rounds.len(), 6, "{peer}");
        let losses = rounds.iter().flat_map(|round| round["loss"].as_object().unwrap().values().cloned());
        losses.filter(Value::is_number).count()
    };
    assert!(steps("b") > 0, "the adapter took no step: {:?}", records(dir.path(), "b", "rounds.jsonl"));
    // The adapter goes on from its checkpoint, on the base it was put on; so does the one of the model that chats.
    for name in ["b", "c"] {
        let checkpoint = peer_dir(dir.path(), name).join("checkpoint");
        let before = contents(&checkpoint);
        let mut again = Murmur::join(dir.path(), name);
        again.expect(PATIENCE, "resuming", |line| line.starts_with("resuming from the checkpoint of round "));
        // All others have left.
        again.expect(PATIENCE, "its loop", |line| line.contains("cannot reach"));
        again.interrupt();
        let (code, err) = again.end();
        assert_eq!(code, 130, "{name}: {err}");
        assert!(contents(&checkpoint) == before, "{name}: nothing was learnt, so nothing is stored");
    }
}

#[test]
fn a_resumed_peer_takes_its_settings_from_the_config() {
    let dir = tempfile::tempdir().unwrap();
    // A single peer is a swarm too, and a quick one.
    let text = |rounds: u32, more: &str| {
        let alone = Peer { rounds, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 1");
        fs::write(dir.path().join("a.toml"), alone + more).unwrap();
        murmur(dir.path(), &["join", "a.toml", "--plain"])
    };
    let (_, err, code) = text(1, "[learning]\nbeta = 0.1\n");
    assert_eq!(code, 0, "{err}");
    let state = || {
        let text = fs::read_to_string(peer_dir(dir.path(), "a").join("checkpoint/trainer.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(
        (&state()["counters"]["round"], &state()["config"]["max_completion_length"]),
        (&1.into(), &24.into())
    );
    // With a reference, which is the base and not the checkpoint; and with another learning rate.
    let (_, err, code) = text(2, "[learning]\nbeta = 0.2\nlearning_rate = 0.5\n");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resuming from the checkpoint of round 1"), "{err}");
    assert_eq!(
        (&state()["counters"]["round"], &state()["config"]["learning_rate"]),
        (&2.into(), &0.5.into())
    );
    // What was trained cannot become something else.
    let before = contents(&peer_dir(dir.path(), "a"));
    let (_, err, code) = text(3, "[lora]\nrank = 4\n");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("was trained with no [lora], the config has [lora] rank = 4, alpha = 32"), "{err}");
    assert!(err.contains("hint: put [lora] back as it was"), "{err}");
    assert!(contents(&peer_dir(dir.path(), "a")) == before, "something was overwritten");
}

/// Models with random weights write to the end of their context: 64 completions of theirs do not fit a message.
#[test]
fn answers_too_long_for_a_message_are_fetched_and_count() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let rounds = 3;
    let start = |peer: Peer| {
        let text = peer.text().replace("prompts = 6", "prompts = 4").replace(
            "completions = 4",
            "completions = 64\ncompletion_bytes_max = 1024\nnew_tokens_max = 200",
        );
        fs::write(dir.path().join(format!("{}.toml", peer.name)), text).unwrap();
        let config = format!("{}.toml", peer.name);
        Murmur::start_logging(dir.path(), &["join", &config, "--plain"], "murmur::peer=debug")
    };
    let mut a = start(Peer { rounds, ..Peer::default() });
    let bootstrap = &a.address();
    let base = &shipped("tests/fixtures/families/qwen2_untied");
    let b = start(Peer { name: "b", base, bootstrap, rounds, ..Peer::default() });
    let c = start(Peer { name: "c", base, bootstrap, rounds, ..Peer::default() });
    for mut peer in [a, b, c] {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{err}");
        // A fourth round may have begun before it left.
        let counts = |line: &&String| line.contains("a body is here") && !line.contains("round=4 ");
        // Two long-winded peers, four prompts, three rounds; the base answers briefly.
        assert_eq!(peer.told.iter().filter(counts).count(), 2 * 4 * 3, "{}", peer.shown());
        assert!(!peer.told.iter().any(|line| line.contains("went on without")), "{}", peer.shown());
    }
    for record in ["a", "b", "c"].iter().flat_map(|peer| records(dir.path(), peer, "rounds.jsonl")) {
        assert_eq!(roster(&record).len(), 3, "{record}");
    }
}
