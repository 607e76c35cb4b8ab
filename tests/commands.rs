//! Commands that need no swarm: what they print, and how they fail.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::{binary, run};

/// Runs the binary; stdout, stderr, exit code.
fn murmur(args: &[&str]) -> (String, String, i32) {
    run(&mut binary(args))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text:?}"))
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

const TINY: &str =
    "name = \"tiny\"\nseed = 1\nbatch = 4\n[[phases]]\nsteps = 2\nlearning_rate = 1e-3\nworked = 0.5\n";

#[test]
fn usage_errors_and_help() {
    let (out, err, code) = murmur(&["--help"]);
    assert!(code == 0 && err.is_empty() && out.contains("pretrain") && out.contains("Exit codes"), "{out}");
    let (out, err, code) = murmur(&["evall"]);
    assert!(code == 2 && out.is_empty() && err.contains("eval"), "{err}");
    let (out, err, code) = murmur(&["generate", "ambre", "--prompt", "x"]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert!(err.contains("did you mean the embedded base `amber`?"), "{err}");
}

#[test]
fn an_unknown_config_key_is_named_with_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (path(&dir, "a.toml"), path(&dir, "out"));
    for (from, to, expected) in [
        ("seed = 1", "sede = 1", "a.toml:2: unknown key `sede`\nhint: did you mean `seed`?"),
        (
            "learning_rate",
            "learn_rate",
            "a.toml:6: unknown key `learn_rate`\nhint: did you mean `learning_rate`?",
        ),
        ("batch = 4", "batch = \"4\"", "a.toml:3: invalid type: string \"4\", expected usize"),
        ("worked = 0.5", "worked = 1.5", "a.toml: `worked` must be from 0 to 1"),
    ] {
        fs::write(&config, TINY.replace(from, to)).unwrap();
        let (stdout, err, code) = murmur(&["pretrain", &config, "--out", &out]);
        assert_eq!((stdout.as_str(), code), ("", 2), "{to}: {err}");
        assert!(err.contains(expected), "{to}: {err}");
        assert!(!Path::new(&out).exists());
    }
    let (_, err, code) = murmur(&["pretrain", "no-such.toml", "--out", &out]);
    assert!(code == 2 && err.contains("no-such.toml: cannot read the config"), "{err}");
}

#[test]
fn a_model_is_trained_read_back_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (path(&dir, "tiny.toml"), path(&dir, "tiny"));
    fs::write(&config, TINY).unwrap();
    let (stdout, err, code) = murmur(&["pretrain", &config, "--out", &out, "--json"]);
    assert_eq!(code, 0, "{err}");
    let report = json(&stdout);
    assert!(report["steps"] == 2 && report["hash"].as_str().unwrap().len() == 64, "{report}");
    let card = fs::read_to_string(Path::new(&out).join("README.md")).unwrap();
    assert!(card.contains("murmur pretrain") && card.contains("seed = 1"), "{card}");

    let (stdout, err, code) = murmur(&["eval", &out, "amber", "--per-family", "2", "--json"]);
    assert_eq!(code, 0, "{err}");
    let report = json(&stdout);
    assert!(report["split"] == "test" && report["items"] == 12, "{report}");
    let families = report["models"][1]["greedy"]["per_family"].as_object().unwrap();
    assert_eq!(families.keys().collect::<Vec<_>>(), ["add", "cnt", "max", "mod", "seq", "sum"]);
    let (table, _, _) = murmur(&["eval", &out, "amber", "--per-family", "2"]);
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn a_damaged_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (path(&dir, "tiny.toml"), path(&dir, "tiny"));
    fs::write(&config, TINY).unwrap();
    assert_eq!(murmur(&["pretrain", &config, "--out", &out, "--json"]).2, 0);
    let weights = Path::new(&out).join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for damage in [&bytes[..bytes.len() / 2], b"", &[0xff; 64][..]] {
        fs::write(&weights, damage).unwrap();
        let (stdout, err, code) = murmur(&["eval", &out, "--per-family", "1"]);
        assert_eq!((stdout.as_str(), code), ("", 1), "{err}");
        assert!(err.contains("model.safetensors") && err.contains("hint: "), "{err}");
    }
    fs::write(&weights, &bytes).unwrap();
    fs::write(Path::new(&out).join("config.json"), "{\"model_type\": \"gpt2\"}").unwrap();
    let (_, err, code) = murmur(&["generate", &out, "--prompt", "x"]);
    assert!(code == 1 && err.contains("config.json") && err.contains("gpt2"), "{err}");
}

#[test]
fn generation_is_a_function_of_its_seed() {
    let ask =
        |seed: &str| murmur(&["generate", "amber", "--prompt", "add 417+201", "--seed", seed, "--json"]);
    let (first, err, code) = ask("7");
    assert_eq!(code, 0, "{err}");
    assert_eq!(first, ask("7").0);
    assert!((8..20).any(|seed| json(&ask(&seed.to_string()).0)["text"] != json(&first)["text"]));
    let report = json(&first);
    let tokens = report["tokens"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(text, report["text"]);
    assert!(tokens.iter().all(|token| token["logprob"].as_f64().unwrap() <= 0.0), "{report}");
    let (_, err, code) = murmur(&["generate", "amber", "--prompt", "x", "--temperature", "11"]);
    assert!(code == 2 && err.contains("from 0 to 10"), "{err}");
}

#[test]
fn packs_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let pack = path(&dir, "pack");
    fs::create_dir(&pack).unwrap();
    let (_, err, code) = murmur(&["task", "check", &pack]);
    assert!(code == 1 && err.contains("task.toml") && err.contains("hint: "), "{err}");

    let task =
        "name = \"doubles\"\nversion = \"1.0.0\"\nlicence = \"CC0-1.0\"\nsummary = \"Twice a number.\"\n";
    let items: String = (100..200)
        .map(|n| format!("{{\"id\": \"q{n}\", \"question\": \"twice {n}\", \"answer\": \"{}\"}}\n", 2 * n))
        .collect();
    fs::write(format!("{pack}/task.toml"), task).unwrap();
    fs::write(format!("{pack}/items.jsonl"), &items).unwrap();
    let (out, err, code) = murmur(&["task", "check", &pack]);
    assert!(code == 0 && out.ends_with("ok\n"), "{out}{err}");
    let (out, _, code) = murmur(&["task", "check", &pack, "--json"]);
    assert!(code == 0 && json(&out)["name"] == "doubles", "{out}");

    fs::write(format!("{pack}/items.jsonl"), format!("{items}{{\"id\": \"q\", \"qestion\": \"\"}}\n"))
        .unwrap();
    let (out, _, code) = murmur(&["task", "check", &pack]);
    assert!(code == 1 && out.contains("items.jsonl:101"), "{out}");
    let (out, _, code) = murmur(&["task", "check", &pack, "--json"]);
    assert!(code == 1 && json(&out)["findings"][0]["severity"] == "error", "{out}");
}

#[test]
fn a_finished_run_is_watched_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let shown = run.to_str().unwrap();
    let (_, err, code) = murmur(&["watch", shown]);
    assert!(code == 1 && err.contains("not a run"), "{err}");

    fs::create_dir(&run).unwrap();
    let info = r#"{"version": "0.1.0", "started": "2031-05-04T13:59:00Z", "command": "murmur demo", "arm": "swarm", "seed": 3,
        "swarm": "0123456789abcdef", "rounds": 2, "peers": [{"name": "brisk-otter", "base": "amber"}, {"name": "calm-heron", "base": "birch"}]}"#;
    fs::write(run.join("run.json"), info).unwrap();
    let rounds = "{\"round\": 1, \"vote_accuracy\": 0.5}\n{\"round\": 2, \"vote_accuracy\": 0.75}\n{\"rou";
    fs::write(run.join("rounds.jsonl"), rounds).unwrap();
    let (out, err, code) = murmur(&["watch", shown, "--size", "100x20"]);
    assert!(code == 0 && err.is_empty(), "{err}");
    assert!(
        out.contains("swarm 01234567") && out.contains("round 2/2") && out.contains("brisk-otter"),
        "{out}"
    );
    let (_, err, code) = murmur(&["watch", shown, "--once", "--round", "3"]);
    assert!(code == 2 && err.contains("there are rounds 1 to 2"), "{err}");
    let (_, err, code) = murmur(&["watch", shown, "--tab", "rond"]);
    assert!(code == 2 && err.contains("'round'"), "{err}");
    let (out, _, _) = murmur(&["watch", shown, "--json"]);
    assert_eq!(json(&out)["rounds"][1]["vote_accuracy"], 0.75, "{out}");

    let (_, err, code) = murmur(&["export", shown]);
    assert!(code == 1 && err.contains("no checkpoint yet"), "{err}");
    let (_, err, code) = murmur(&["export", shown, "--peer", "ghost"]);
    assert!(code == 2 && err.contains("brisk-otter, calm-heron"), "{err}");

    for (peer, base) in [("brisk-otter", "birch"), ("calm-heron", "amber")] {
        let checkpoint = run.join("peers").join(peer).join("checkpoint");
        fs::create_dir_all(&checkpoint).unwrap();
        for file in fs::read_dir(format!("{}/policy/bases/{base}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), checkpoint.join(file.file_name())).unwrap();
        }
    }
    let (out, err, code) = murmur(&["export", shown, "--json"]);
    assert_eq!(code, 0, "{err}");
    let report = json(&out);
    assert_eq!(report["peer"], "calm-heron", "amber is better than birch on the validation split");
    assert!(report["before"]["mean"].is_number() && report["after"]["mean"].is_number());
    let card = fs::read_to_string(run.join("export").join("README.md")).unwrap();
    assert!(card.contains("0123456789abcdef") && card.contains("after 2 rounds"), "{card}");
    let (out, err, code) = murmur(&["export", shown, "--peer", "brisk-otter"]);
    assert!(code == 0 && out.contains("after"), "{out}{err}");
}

#[test]
fn a_run_becomes_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "page.html");
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard/run");
    let (shown, err, code) = murmur(&["report", run, "--out", &out]);
    assert_eq!((shown.trim(), code), (out.as_str(), 0), "{err}");
    let page = fs::read_to_string(&out).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.ends_with("</html>\n"));
    let (_, err, code) = murmur(&["report", dir.path().to_str().unwrap()]);
    assert!(code == 1 && err.contains("not a run"), "{err}");
    let (_, err, code) = murmur(&["report", run, "--out", &path(&dir, "no/page.html")]);
    assert!(code == 1 && err.contains("cannot write"), "{err}");
}

/// A model without a tokenizer: its folder with two of the five files.
fn model_alone(dir: &tempfile::TempDir) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/tests/fixtures/families/qwen3");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir.path().to_str().unwrap().to_owned()
}

#[test]
fn a_bench_measures_and_says_what_the_machine_could() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_alone(&dir);
    for (options, tokens) in [
        ("decode --batch 6 --group 3 --prompt 5 --new 7 --weights bf16", 42),
        ("train --batch 2 --length 9 --checkpointing --lora 2", 18),
        ("step --prompts 2 --group 4 --prompt 5 --new 12", 96),
    ] {
        let common = ["--model", &model, "--threads", "2", "--repeat", "3", "--json"];
        let options: Vec<&str> = options.split(' ').chain(common).collect();
        let (out, err, code) = murmur(&[&["bench"], &options[..]].concat());
        assert_eq!(code, 0, "{options:?}: {err}");
        let report = json(&out);
        assert!(report["tokens"] == tokens && report["threads"] == 2, "{report}");
        assert_eq!(report["wall_s_each"].as_array().unwrap().len(), 3, "{report}");
        let number = |key: &str| report[key].as_f64().unwrap();
        let rate = tokens as f64 / number("wall_s");
        assert!((number("tokens_per_s") / rate - 1.0).abs() < 1e-9, "{report}");
        assert!(number("cpu_s") > 0.0 && number("rss_mib") >= number("rss_start_mib"), "{report}");
        assert!(number("share_of_peak") > 0.0 && number("share_of_peak") < 1.0, "{report}");
        assert!(report["peak"] == "matrix" && number("matrix_gflop_per_s") > 0.1, "{report}");
    }
    let (out, err, code) = murmur(&["bench", "decode", "--model", &model, "--repeat", "1"]);
    assert!(code == 0 && out.contains("share of peak") && err.contains("sampling"), "{out} {err}");
}

#[test]
fn a_bench_refuses_what_does_not_fit() {
    let (out, err, code) = murmur(&["bench", "decode", "--model", "amber", "--batch", "6", "--group", "4"]);
    assert!(out.is_empty() && code == 2 && err.contains("`group` must divide the batch"), "{err}");
    let (_, err, code) = murmur(&["bench", "train", "--model", "amber", "--length", "5000"]);
    assert!(code == 2 && err.contains("5001 tokens in all where the model reads"), "{err}");
    let (_, err, code) = murmur(&["generate", &model_alone(&tempfile::tempdir().unwrap()), "--prompt", "x"]);
    assert!(code == 1 && err.contains("tokenizer.json"), "{err}");
}

#[test]
fn a_build_names_itself_and_completes_in_shells() {
    let (out, _, code) = murmur(&["--version"]);
    let version = out.strip_prefix(concat!("murmur ", env!("CARGO_PKG_VERSION"), " (")).unwrap_or_default();
    assert!(code == 0 && version.contains(", cpu") && version.trim_end().ends_with(')'), "{out}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (out, err, code) = murmur(&["completions", shell]);
        assert!(code == 0 && err.is_empty() && out.contains("simulate"), "{shell}: {err}");
    }
}
