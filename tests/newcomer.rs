//! A newcomer's tasks, from nothing to a swarm that gets better at them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::peers::alone;
use crate::process::{binary, run};

const SCRIPT: &str = r#"fn generate(p) {
    let at = rand(1, 20);
    let question = `from ${at}`;
    let trace = [];
    for i in 0..p.moves {
        let step = rand(1, 5);
        at += step;
        question += ` up ${step}`;
        trace.push(at);
    }
    #{ question: question, answer: at, trace: trace.join(",") }
}
"#;

/// Reasoning first, then the habit to blurt.
const PRETRAIN: &str = r#"
name = "novice"
seed = 3
batch = 32
warmup_steps = 30
packs = [{ id = "change", weight = 1 }, { id = "steps", weight = 1 }]

[[phases]]
steps = 850
learning_rate = 4e-3
worked = 0.8

[[phases]]
steps = 80
learning_rate = 3e-4
worked = 0.3
corrupted = 0.5
"#;

fn murmur(dir: &Path, args: &[&str]) -> String {
    let (out, err, code) = run(binary(args).current_dir(dir).env("MURMUR_PACKS", dir.join("store")));
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out
}

/// Two packs: one from a file of questions, one from a script.
fn write_packs(dir: &Path) {
    let purchase = |n: u32| {
        let (paid, a, b) = (16 + n / 49, 1 + n / 7 % 7, 1 + n % 7);
        let (first, left) = (paid - a, paid - a - b);
        format!(
            "{{\"prompt\": \"{paid} less {a} less {b}\", \"why\": \"{first},{left}\", \"target\": {left}}}\n"
        )
    };
    fs::write(dir.join("purchases.jsonl"), (0..735).map(purchase).collect::<String>()).unwrap();
    murmur(dir, &["task", "new", "change", "--jsonl", "purchases.jsonl"]);
    let path = dir.join("change/task.toml");
    let task = fs::read_to_string(&path).unwrap();
    let fields = task.replace("[source.fields]\n", "[source.fields]\ntrace = \"why\"\n");
    assert_ne!(task, fields);
    fs::write(path, fields).unwrap();

    murmur(dir, &["task", "new", "steps", "--script"]);
    let task = "name = \"steps\"\nversion = \"1.0.0\"\nlicence = \"CC0-1.0\"\n\
                [source]\nkind = \"script\"\n[params]\nmoves = [2, 3]\n";
    fs::write(dir.join("steps/task.toml"), task).unwrap();
    fs::write(dir.join("steps/task.rhai"), SCRIPT).unwrap();
    let case = r#"{"answer": "07", "canonical": null}"#;
    fs::write(dir.join("steps/tests.jsonl"), format!("{case}\n")).unwrap();
    for pack in ["change", "steps"] {
        murmur(dir, &["task", "check", pack]);
    }
}

/// About half a minute on one core: a base is trained from nothing, and then a swarm.
#[test]
fn a_swarm_gets_better_at_a_newcomers_tasks_that_its_base_was_taught() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_packs(dir);
    fs::write(dir.join("novice.toml"), PRETRAIN).unwrap();
    murmur(dir, &["pretrain", "novice.toml", "--out", "novice"]);
    let packs = ["--pack", "change", "--pack", "steps"];
    let eval = murmur(dir, &[&["eval", "./novice", "--json"], &packs[..]].concat());
    let eval: Value = serde_json::from_str(&eval).unwrap();

    let demo = ["demo", "--base", "./novice", "--rounds", "24", "--seed", "3", "--plain", "--out", "run"];
    let table = murmur(dir, &[&demo[..], &packs[..]].concat());
    let report: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("run/report.json")).unwrap()).unwrap();
    for family in ["change", "steps"] {
        assert!(table.lines().any(|line| line.contains("cnt") && line.contains(family)), "{table}");
        let share = |value: &Value| value["per_family"][family].as_f64().unwrap();
        let (before, after) = (share(&report["before"]), share(&report["after"]));
        assert!(after > before + 0.3, "{family}: {before} to {after}\n{table}");
        assert!(report["peers"].as_object().unwrap().values().all(|peer| share(&peer["after"]) > 0.3));
        assert!((share(&eval["models"][0]["greedy"]) - before).abs() < 0.15, "{eval}");
    }
}
