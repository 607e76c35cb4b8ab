//! Packs that a running swarm takes in: proposed, fetched, checked, voted on, drawn from; or refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use ::swarm::engine::Resume;
use ::swarm::log::{Reader, Record};
use ::swarm::manifest::Manifest;
use ::swarm::wire;
use serde_json::Value;

use crate::peers::{Peer, alone, peer_dir, records};
use crate::process::{Murmur, PATIENCE, binary, run};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn murmur(dir: &Path, store: &str, args: &[&str]) -> (String, String, i32) {
    run(binary(args).current_dir(dir).env("MURMUR_PACKS", dir.join(store)))
}

fn start(dir: &Path, name: &str, bootstrap: &str, policy: &str) -> Murmur {
    let text = Peer { name, bootstrap, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 4");
    fs::write(dir.join(format!("{name}.toml")), format!("{text}proposals = \"{policy}\"\n")).unwrap();
    again(dir, name)
}

fn again(dir: &Path, name: &str) -> Murmur {
    let (config, store) = (format!("{name}.toml"), dir.join(format!("store-{name}")));
    Murmur::start_with(dir, &["join", &config, "--plain"], &[("MURMUR_PACKS", &store)])
}

/// A folder with what the bases know under another name, and one in which every other guess is right.
fn write_packs(dir: &Path) {
    let head = |name: &str| format!("name = \"{name}\"\nversion = \"1\"\nlicence = \"CC0-1.0\"\n");
    let write = |path: &str, text: String| fs::write(dir.join(path), text).unwrap();
    for name in ["rest", "even"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    write("rest/task.toml", head("rest") + "[source]\nkind = \"script\"\ncount = 300\n");
    let draw = "let n = rand(100, 499); let d = rand(3, 9);";
    write(
        "rest/task.rhai",
        format!("fn generate(p) {{ {draw} #{{ question: `mod ${{n}},${{d}}`, answer: n % d }} }}"),
    );
    write("even/task.toml", head("even") + "[answer]\nform = \"text\"\n");
    let answer = |n: u32| if n.is_multiple_of(2) { "yes" } else { "no" };
    let line = |n| format!("{{\"question\": \"Is {n} even?\", \"answer\": \"{}\"}}\n", answer(n));
    write("even/items.jsonl", (100..160).map(line).collect());
}

/// What the peer's last certificate says of packs: those under vote and those accepted.
fn packs(dir: &Path, peer: &str) -> (usize, Vec<[u8; 32]>) {
    let bytes = fs::read(peer_dir(dir, peer).join("resume.bin")).unwrap();
    let resume: Resume = wire::decode(&bytes, bytes.len()).unwrap();
    let state: judge::State = wire::decode(&resume.head.state, bytes.len()).unwrap();
    (state.packs.open.len(), state.packs.accepted.keys().map(|key| key.0).collect())
}

/// Waits until so many rounds in turn have such a roster.
fn plays(dir: &Path, a: &mut Murmur, such: impl Fn(&[Value]) -> bool, rounds: usize) {
    let until = Instant::now() + PATIENCE;
    let mut whole = 0;
    while whole < rounds {
        assert!(Instant::now() < until, "not that roster:\n{}", a.shown());
        let round = a.next_round();
        let record = records(dir, "a", "rounds.jsonl").into_iter().find(|record| record["round"] == round);
        whole = if such(record.unwrap()["roster"].as_array().unwrap()) { whole + 1 } else { 0 };
    }
}

/// Rounds from which a peer's policy came out changed.
fn learnt_from(dir: &Path, peer: &str) -> BTreeSet<u64> {
    let mut reader = Reader::open(&peer_dir(dir, peer).join("log")).unwrap();
    let mut rounds = BTreeSet::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        if let Record::Training(step) = frame.record
            && step.before != step.after
        {
            rounds.insert(u64::from(step.round));
        }
    }
    rounds
}

/// Who disagrees goes on with other packs, and all who do so alike meet in one swarm.
fn forked(dir: &Path, rest: &str) {
    let fork = |store: &str, args: &[&str]| -> Value {
        let (out, err, code) = murmur(dir, store, &[&["fork"], args, &["--json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    };
    let (with, parent) = (fork("store-a", &["a.toml", "with"]), dir.join("a.toml"));
    let parent: toml::Table = toml::from_str(&fs::read_to_string(parent).unwrap()).unwrap();
    let parent: Manifest = parent["swarm"].clone().try_into().unwrap();
    assert_eq!(with["parent"], parent.id().to_string());
    assert_eq!(with["packs"], serde_json::json!(["native:six", rest]));
    let (_, err, code) = murmur(dir, "store-a", &["join", "with/peer.toml", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    let without = |store: &str, name: &str, to: &str| {
        fork(store, &[&format!("{name}.toml"), to, "--without", rest, "--pack", "native:gcd@1-2"])
    };
    let (one, other) = (without("store-a", "a", "one"), without("store-b", "b", "other"));
    assert_eq!(
        (&one["swarm"], &one["packs"]),
        (&other["swarm"], &serde_json::json!(["native:six", "native:gcd@1-2"]))
    );
    assert_ne!(one["base"], other["base"], "each goes on with what it has trained");
    let (_, err, code) = murmur(dir, "store-a", &["fork", "a.toml", "with"]);
    assert!(code == 2 && err.contains("hint: "), "{err}");
}

#[test]
fn a_proposed_pack_is_checked_voted_in_and_trained_on_and_one_that_fails_its_check_is_not() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_packs(dir);
    let mut a = start(dir, "a", "", "ask");
    let (name_a, bootstrap) = (a.name(), a.address());
    let policies = [("b", "auto"), ("c", "auto"), ("d", "never")];
    let mut others = policies.map(|(name, policy)| start(dir, name, &bootstrap, policy));
    let name_d = others[2].name();
    a.next_round();

    let (_, err, code) = murmur(dir, "store-a", &["task", "propose", "even", "a.toml"]);
    assert!(code == 1 && err.contains("guess") && err.contains("hint: "), "{err}");
    let propose = |pack: &str, more: &[&str]| {
        let (out, err, code) = murmur(dir, "store-a", &[&["task", "propose", pack, "a.toml"], more].concat());
        assert_eq!(code, 0, "{err}");
        out.trim().to_owned()
    };
    let even = propose("even", &["--anyway", "--json"]);
    let even: Value = serde_json::from_str(&even).unwrap();
    assert_eq!((&even["name"], &even["passes"]), (&"even".into(), &false.into()));
    let even = even["pack"].as_str().unwrap().to_owned();
    for b in &mut others[..2] {
        b.expect(PATIENCE, "a failed check", |line| line.contains(&even) && line.contains("fails its check"));
        b.expect(PATIENCE, "a refusal", |line| line == format!("the pack {even} was not taken in"));
    }
    assert_eq!(packs(dir, "b"), (0, Vec::new()), "nothing is left of it");

    let rest = propose("rest", &[]);
    let proposed = format!("{name_a} proposes the pack {rest} with weight 1");
    let taken = format!("the pack {rest} is taken in with weight 1");
    others[0].expect(PATIENCE, "a proposal", |line| line == proposed);
    for peer in others.iter_mut().chain([&mut a]) {
        peer.expect(PATIENCE, "a decision", |line| line == taken);
    }
    // It wanted nothing of it, and needs it now.
    let here = |line: &str| line.starts_with("the pack rest 1") && line.ends_with("is here");
    others[2].expect(PATIENCE, "the pack", here);

    others[2].interrupt();
    assert_eq!(others[2].end().0, 130);
    others[2] = again(dir, "d");
    let all = |roster: &[Value]| roster.len() == 4 && roster.contains(&Value::from(name_d.as_str()));
    plays(dir, &mut a, all, 3);
    // Who comes later fetches it before it plays.
    let mut late = start(dir, "e", &bootstrap, "ask");
    let name_e = late.name();
    late.expect(PATIENCE, "the pack", here);
    plays(dir, &mut a, |roster| roster.contains(&Value::from(name_e.as_str())), 1);
    a.interrupt();
    assert_eq!(a.end().0, 130);
    drop((others, late));

    let (_, err, code) = murmur(dir, "store-a", &["export", "state-a/run", "--dataset", "data"]);
    assert_eq!(code, 0, "{err}");
    let rows = |table: &str| -> Vec<Value> {
        let text = fs::read_to_string(dir.join(format!("data/data/{table}.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_rest = |rows: Vec<Value>| rows.into_iter().filter(|row| row["family"] == "rest");
    assert!(rows("prompts").iter().all(|row| row["family"] != "even"));
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for row in of_rest(rows("completions")) {
        *answered.entry(row["peer"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // The four, and perhaps the one that came late.
    assert!((4..=5).contains(&answered.len()), "{answered:?}");
    let decided = of_rest(rows("labels")).filter(|row| row["decided"] == true);
    let decided: BTreeSet<u64> = decided.map(|row| row["round"].as_u64().unwrap()).collect();
    assert!(!decided.is_disjoint(&learnt_from(dir, "a")), "{decided:?}");

    for name in NAMES {
        let (open, accepted) = packs(dir, name);
        let accepted: Vec<String> = accepted.iter().map(|id| tasks::PackId(*id).to_string()).collect();
        assert_eq!((open, accepted), (0, vec![rest.clone()]), "{name}");
        let store = dir.join(format!("store-{name}/packs"));
        let stored =
            fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let expected = if name == "a" { vec![even.clone(), rest.clone()] } else { vec![rest.clone()] };
        let expected: BTreeSet<String> = expected.iter().map(|id| id.replace(':', "-")).collect();
        assert_eq!(stored.collect::<BTreeSet<_>>(), expected, "{name}");
        let run = format!("state-{name}/run");
        let (out, err, code) = murmur(dir, &format!("store-{name}"), &["replay", &run, "--verify"]);
        assert_eq!(code, 0, "{out}{err}");
    }
    forked(dir, &rest);
    let (out, err, code) = murmur(dir, "nothing", &["replay", "state-a/run", "--verify"]);
    assert!(code != 0 && out.contains(&rest) && out.contains("hint: "), "{code} {out}{err}");
}
