//! `murmur export` on runs of whole policies and of adapters.

use std::fs;
use std::path::{Path, PathBuf};

use policy::{Checkpoint, LoraConfig, Policy, Trainer, UpdateConfig};
use serde_json::{Value, json};

use crate::process::{binary, run};

/// Runs the binary with a hub that nobody answers for and no stored token; stdout, stderr, exit code.
fn murmur(home: &Path, token: Option<&str>, args: &[&str]) -> (String, String, i32) {
    run(binary(args).env("HF_HOME", home).envs(token.map(|token| ("HF_TOKEN", token))))
}

/// A run of one peer that began as `base` and holds `policy` now.
fn run_of(dir: &Path, base: &str, policy: &Policy) -> PathBuf {
    let run = dir.join("run");
    let checkpoint = run.join("peers/brisk-otter/checkpoint");
    fs::create_dir_all(checkpoint.parent().unwrap()).unwrap();
    let info = json!({"version": "0.1.0", "started": "2031-05-04T13:59:00Z", "command": "murmur demo --seed 3",
        "arm": "swarm", "seed": 3, "swarm": "0123456789abcdef", "rounds": 2,
        "peers": [{"name": "brisk-otter", "base": base}]});
    fs::write(run.join("run.json"), info.to_string()).unwrap();
    fs::write(run.join("rounds.jsonl"), "{\"round\": 1}\n{\"round\": 2}\n").unwrap();
    Checkpoint::save(&checkpoint, policy, &Trainer::new(policy, UpdateConfig::default()), 2).unwrap();
    run
}

fn adapted() -> Policy {
    let config = LoraConfig { rank: 2, alpha: 4.0, targets: vec!["v_proj".into()] };
    let mut policy = Policy::embedded("amber").unwrap().with_adapter(config, 1).unwrap();
    let adapter = policy.adapter_mut().unwrap();
    for parameter in adapter.parameters().to_vec() {
        let values: Vec<f32> = (0..parameter.len()).map(|i| (i % 7) as f32 / 50.0).collect();
        adapter.set_values(&parameter, &values);
    }
    policy
}

fn names_and_sizes(dir: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

#[test]
fn an_adapter_goes_out_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let policy = adapted();
    let run = run_of(dir.path(), "amber", &policy);
    let shown = run.to_str().unwrap();
    for (format, folder, weights) in [
        (&["--format", "hf", "--dtype", "bf16"][..], "export", "model.safetensors"),
        (&["--format", "peft"], "export-peft", "adapter_model.safetensors"),
        (&["--format", "gguf"], "export-gguf-f16", "model-f16.gguf"),
        (&["--format", "gguf", "--quantization", "q8_0"], "export-gguf-q8_0", "model-q8_0.gguf"),
    ] {
        let before = names_and_sizes(&run);
        let planned = murmur(dir.path(), None, &[&["export", shown, "--dry-run", "--json"], format].concat());
        assert_eq!(planned.2, 0, "{}", planned.1);
        assert_eq!(names_and_sizes(&run), before, "a dry run writes nothing");
        let (out, err, code) = murmur(dir.path(), None, &[&["export", shown, "--json"], format].concat());
        assert_eq!(code, 0, "{err}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report, serde_json::from_str::<Value>(&planned.0).unwrap(), "as planned");
        assert!(report["before"]["mean"].is_number() && report["commit"].is_null(), "{report}");
        let written = names_and_sizes(&run.join(folder));
        let listed: Vec<(String, u64)> = report["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| (file["name"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap()))
            .collect();
        assert_eq!(listed, written);
        assert!(written.iter().any(|(name, _)| name == weights), "{written:?}");
        let card = fs::read_to_string(run.join(folder).join("README.md")).unwrap();
        for part in ["0123456789abcdef", "after 2 rounds", "| before |", "murmur demo --seed 3", "`b3:"] {
            assert!(card.contains(part), "{part}: {card}");
        }
        assert!(card.contains(&format!("--peer brisk-otter {}", format[..2].join(" "))), "{card}");
    }
    let read = Policy::embedded("amber").unwrap().with_adapter_from(&run.join("export-peft")).unwrap();
    assert_eq!(read.hash(), policy.hash());
    let (out, err, code) = murmur(dir.path(), None, &["export", shown, "--dry-run"]);
    assert!(code == 0 && out.contains("bytes in all") && err.contains("nothing was"), "{out}{err}");
}

#[test]
fn a_chat_models_template_and_settings_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/tests/fixtures/families/llama3");
    let run = run_of(dir.path(), base.to_str().unwrap(), &Policy::load(&base).unwrap());
    let (_, err, code) = murmur(dir.path(), None, &["export", run.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    for name in ["chat_template.jinja", "tokenizer_config.json", "generation_config.json", "tokenizer.json"] {
        let same = fs::read(base.join(name)).unwrap() == fs::read(run.join("export").join(name)).unwrap();
        assert!(same, "{name} is copied byte for byte");
    }
    let card = fs::read_to_string(run.join("export/README.md")).unwrap();
    assert!(!card.contains("license:"), "not ours to give: {card}");
}

#[test]
fn flags_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_of(dir.path(), "birch", &Policy::embedded("amber").unwrap());
    let shown = run.to_str().unwrap();
    for (flags, exit, says) in [
        (&["--format", "gguf", "--dtype", "f16"][..], 2, "--dtype: belongs to --format hf"),
        (&["--quantization", "q8_0"], 2, "--quantization: belongs to --format gguf"),
        (&["--push", "no-owner"], 2, "--push: \"no-owner\" is no model on the hub"),
        (&["--push", "a/b@main"], 2, "write OWNER/NAME"),
        (&["--public"], 2, "--push"),
        (&["--format", "safetensors"], 2, "hf, peft, gguf"),
        (&["--format", "peft"], 1, "has no adapter"),
    ] {
        let (out, err, code) = murmur(dir.path(), None, &[&["export", shown], flags].concat());
        assert!((out.as_str(), code) == ("", exit) && err.contains(says), "{flags:?}: {out}{err}");
    }
    assert_eq!(fs::read_dir(&run).unwrap().count(), 3, "nothing was written");
}

#[test]
fn a_push_needs_a_token_and_never_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_of(dir.path(), "birch", &Policy::embedded("amber").unwrap());
    let push = ["export", run.to_str().unwrap(), "--push", "me/otter"];
    let (out, err, code) = murmur(dir.path(), Some("hf_secret"), &[&push[..], &["--dry-run"]].concat());
    assert!(code == 0 && err.contains("pushed to me/otter; nothing was"), "{err}");
    assert!(!(out + err.as_str()).contains("hf_secret") && !run.join("export").exists());
    let (_, err, code) = murmur(dir.path(), None, &push);
    assert!(code == 1 && err.contains("token") && err.contains("HF_TOKEN"), "{err}");
    assert!(err.contains("is written, but was not pushed") && run.join("export/README.md").exists(), "{err}");
    fs::write(dir.path().join("token"), "hf_secret\n").unwrap();
    for token in [None, Some("hf_secret")] {
        let (out, err, code) = murmur(dir.path(), token, &push);
        assert!(code == 1 && err.contains("me/otter") && err.contains("127.0.0.1:9"), "{err}");
        assert!(!(out + err.as_str()).contains("hf_secret"), "{err}");
    }
}

#[test]
fn an_adapter_without_its_base_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_of(dir.path(), "birch", &adapted());
    let (_, err, code) = murmur(dir.path(), None, &["export", run.to_str().unwrap()]);
    assert!(code == 1 && err.contains("of the base with hash") && err.contains("hint: "), "{err}");
}
