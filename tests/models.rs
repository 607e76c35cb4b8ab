//! What a model's name means, and how a join config says what is computed with it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::{binary, run};

/// Runs the binary in `dir` with a cache of the hub there and without a network; stdout, stderr, exit code.
fn murmur(dir: &Path, args: &[&str]) -> (String, String, i32) {
    run(binary(args).current_dir(dir).env("HF_HOME", dir.join("hf")))
}

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/tests/fixtures/families").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Puts a model into the cache as Hugging Face's tools do.
fn cache(dir: &Path, repo: &str, model: &Path) {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let root = dir.join("hf/hub").join(format!("models--{}", repo.replace('/', "--")));
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), commit).unwrap();
    copy(model, &root.join("snapshots").join(commit));
}

#[test]
fn a_name_means_one_model_or_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let generate = |model: &str| {
        murmur(dir.path(), &["generate", model, "--prompt", "add 1+2", "--new-tokens-max", "4", "--json"])
    };
    let hash = |model: &str| {
        let (out, err, code) = generate(model);
        assert_eq!(code, 0, "{model}: {err}");
        serde_json::from_str::<Value>(&out).unwrap()["hash"].as_str().unwrap().to_owned()
    };
    // The hub: nothing in the cache, no network.
    for (args, expected) in [
        (&["generate", "a/b", "--prompt", "x"][..], "no connection to http://127.0.0.1:9"),
        (&["generate", "a/b@v1", "--prompt", "x", "--offline"], "a/b@v1: not in the cache: config.json"),
        (&["eval", "a/b", "--offline"], "hint: download it once with a network"),
    ] {
        let (out, err, code) = murmur(dir.path(), args);
        assert_eq!((out.as_str(), code), ("", 1), "{args:?}: {err}");
        assert!(err.contains(expected) && err.contains("hint: "), "{args:?}: {err}");
        assert!(err.contains("is no directory here and was taken for a model of the hub"), "{err}");
    }
    // From the cache, with and without asking.
    cache(dir.path(), "a/b", &family("smollm2"));
    let cached = hash("a/b");
    assert_eq!(cached, hash("a/b@main"));
    assert_eq!(cached, hash(family("smollm2").to_str().unwrap()));
    // A directory of the same name: either may be meant.
    copy(&family("qwen2"), &dir.path().join("a/b"));
    let (out, err, code) = generate("a/b");
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(err.contains("write ./a/b for the directory, or a/b@main for the model of the hub"), "{err}");
    assert_eq!(hash("a/b@main"), cached);
    assert_eq!(hash("./a/b"), hash(family("qwen2").to_str().unwrap()));
    // A directory alone needs nothing more, and an embedded base comes before a directory.
    copy(&family("qwen3"), &dir.path().join("c/d"));
    assert_eq!(hash("c/d"), hash(family("qwen3").to_str().unwrap()));
    copy(&family("qwen3"), &dir.path().join("amber"));
    assert_ne!(hash("amber"), hash("./amber"));
    // Neither.
    fs::write(dir.path().join("model.gguf"), "GGUF").unwrap();
    for (model, expected) in [
        ("model.gguf", "is a file, not a model directory\nhint: give the directory that it lies in"),
        ("ambre", "hint: did you mean the embedded base `amber`?"),
        (
            "./nowhere",
            "no such model\nhint: give an embedded base (amber, birch, cedar), a Hugging Face directory",
        ),
    ] {
        let (out, err, code) = generate(model);
        assert_eq!((out.as_str(), code), ("", 2), "{model}: {err}");
        assert!(err.contains(expected), "{model}: {err}");
    }
}

const PEER: &str = "[swarm]\nname = \"test\"\n[swarm.genesis]\npeers_min = 3\n\
    [[swarm.packs]]\nid = \"native:six\"\nweight = 1\n\
    [peer]\nbase = \"BASE\"\nstate = \"state\"\n";

fn dry_run(dir: &Path, base: &str, more: &str) -> (String, String, i32) {
    fs::write(dir.join("c.toml"), PEER.replace("BASE", base) + more).unwrap();
    murmur(dir, &["join", "c.toml", "--dry-run"])
}

#[test]
fn settings_of_computing_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    for (more, expected) in [
        ("[policy]\nthread = 2", "unknown key `thread`\nhint: did you mean `threads`?"),
        ("[policy]\nthreads = 999", "[policy] threads is 999, must be 0 to 256"),
        (
            "[policy]\ndevice = \"gpu\"",
            "device is \"gpu\", must be \"cpu\", \"cuda\", \"cuda:1\" or \"metal\"",
        ),
        ("[policy]\nsampling_weights = \"bf61\"", "unknown value `bf61`\nhint: did you mean `bf16`?"),
        ("[sampling]\ntop_pp = 0.5", "unknown key `top_pp`\nhint: did you mean `top_p`?"),
        ("[sampling]\ntop_p = 1.5", "[sampling] top_p is 1.5, must be 0 to 1"),
        ("[sampling]\ntemperature = 0.0", "[sampling] temperature is 0: equal answers teach nothing"),
        ("[lora]\nrank = 0", "[lora] rank is 0, must be 1 to 1024"),
        ("[lora]\ntargets = [\"q_porj\"]", "[lora] targets names q_porj, known are q_proj, "),
        ("[lora]\nalhpa = 1.0", "unknown key `alhpa`\nhint: did you mean `alpha`?"),
        ("[learning]\nloss_type = \"dr_gpro\"", "unknown value `dr_gpro`\nhint: did you mean `dr_grpo`?"),
        ("[learning]\ngradient_checkpoint = true", "did you mean `gradient_checkpointing`?"),
        ("[learning]\nbeta = -1.0", "[learning] beta is -1, must be 0 to 100"),
        ("checkpoint_every = 0", "`checkpoint_every` must be at least 1"),
    ] {
        let (out, err, code) = dry_run(dir.path(), "amber", more);
        assert_eq!((out.as_str(), code), ("", 2), "{more}: {err}");
        assert!(err.contains("c.toml") && err.contains(expected), "{more}: {err}");
    }
    assert!(!dir.path().join("state").exists(), "a dry run leaves nothing behind");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_this_binary_lacks_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (out, err, code) = dry_run(dir.path(), "amber", "[policy]\ndevice = \"cuda:1\"");
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(err.contains("c.toml: [policy] device \"cuda:1\": this binary was built without"), "{err}");
    assert!(err.contains("hint: cargo install --features cuda"), "{err}");
}

#[test]
fn memory_is_predicted_before_weights_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (out, err, code) = dry_run(dir.path(), "amber", "");
    assert!(code == 0 && out.starts_with("# swarm id "), "{err}");
    assert!(err.starts_with("memory: this takes up to ") && err.contains(" MiB (weights 2 MiB"), "{err}");
    // A model of the hub that is not here is not downloaded to be looked at.
    let (out, err, code) = dry_run(dir.path(), "a/b", "");
    assert!(code == 0 && out.contains("base = \"a/b\""), "{err}");
    assert!(err.contains("a/b is not on this machine: the first start downloads config.json"), "{err}");

    // Far too large; its weights are another model's, so that reading them would be another error.
    let model = dir.path().join("giant");
    copy(&family("qwen2"), &model);
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in [("hidden_size", 16_384), ("num_attention_heads", 128), ("num_hidden_layers", 512)] {
        config[key] = json!(value);
    }
    fs::write(&path, config.to_string()).unwrap();
    let (_, err, code) = dry_run(dir.path(), "giant", "");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("error: this needs ") && err.contains(" GiB are free\nhint: "), "{err}");
    let (_, err, code) = murmur(dir.path(), &["join", "c.toml"]);
    assert!(code == 1 && err.contains("error: this needs "), "{err}");
    let (out, _, code) = murmur(dir.path(), &["doctor", "c.toml"]);
    assert!(code == 1 && out.contains("FAIL  need") && out.contains(" GiB are free"), "{out}");
}

#[test]
fn what_the_authors_say_about_sampling_is_told_where_it_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    copy(&family("qwen2"), &dir.path().join("chat"));
    let (_, err, code) = dry_run(dir.path(), "chat", "");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("chat asks for repetition_penalty 1.1, which is not done here"), "{err}");
    // Not asked through its template, it is a model like any other.
    let (_, err, code) = dry_run(dir.path(), "chat", "[policy]\nchat = false");
    assert!(code == 0 && !err.contains("repetition_penalty"), "{err}");
}
