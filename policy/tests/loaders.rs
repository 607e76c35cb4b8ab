//! Model directories as transformers writes them, and as nobody should.
//!
//! `fixtures/loaders.py` made the models. The tokenizer of the embedded bases is put beside each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use policy::{
    Architecture, ChatTemplate, ExportCard, GenerationConfig, ModelConfig, Policy, char_level_json,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MODELS: [&str; 4] = ["llama", "llama-biases", "qwen2", "qwen3"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of a model of transformers, whole.
fn model(folder: &Path, name: &str) -> PathBuf {
    let dir = folder.join(name);
    fs::create_dir_all(&dir).unwrap();
    for entry in fs::read_dir(fixtures().join("models").join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    fs::write(dir.join("tokenizer.json"), char_level_json()).unwrap();
    dir
}

/// SHA-256 as `loaders.py` computes it.
fn digest(policy: &Policy) -> String {
    let mut parameters: Vec<_> = policy.layout().parameters().iter().collect();
    parameters.sort_by_key(|parameter| &parameter.name);
    let mut hasher = Sha256::new();
    for parameter in parameters {
        for value in policy.layout().values(policy.weights(), parameter) {
            hasher.update(value.to_le_bytes());
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn models_of_transformers_are_read_as_they_were_written() {
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("models.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in MODELS {
        let dir = model(folder.path(), name);
        let new = Policy::load(&dir).unwrap();
        assert_eq!(digest(&new), expected["models"][name]["sha256"].as_str().unwrap(), "{name}");
        assert_eq!(json!(new.config().parameters()), expected["models"][name]["parameters"], "{name}");
        fs::rename(dir.join("config.old.json"), dir.join("config.json")).unwrap();
        assert_eq!(Policy::load(&dir).unwrap().config(), new.config(), "{name}, transformers 4");
        for half in [false, true] {
            let out = folder.path().join(format!("{name}-{half}"));
            let save = if half { Policy::save_half } else { Policy::save };
            save(&new, &out, &ExportCard::default()).unwrap();
            let again = Policy::load(&out).unwrap();
            assert_eq!(again.config(), new.config(), "{name}");
            assert!(half || again.hash() == new.hash(), "{name}");
        }
    }
    let config = |name: &str| Policy::load(&folder.path().join(name)).unwrap().config().clone();
    let scaling = config("llama").rope_scaling.unwrap();
    assert_eq!((scaling.factor, scaling.original_max_position_embeddings), (8.0, 64));
    assert_eq!(config("llama").rope_theta, 500_000.0);
    let biases = config("llama-biases");
    assert!(biases.qkv_bias && biases.output_bias && biases.mlp_bias);
    let qwen2 = config("qwen2");
    assert!(qwen2.qkv_bias && !qwen2.output_bias && qwen2.tie_word_embeddings);
    assert_eq!((config("qwen3").architecture, config("qwen3").head_dim), (Architecture::Qwen3, 16));
}

/// A safetensors file of given tensors: name, type, shape, bytes.
fn tensors(list: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (json!({}), Vec::new());
    for (name, dtype, shape, bytes) in list {
        let start = data.len();
        data.extend_from_slice(bytes);
        header[name] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
    }
    file(&header.to_string(), &data)
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The tensors of a policy.
fn contents(policy: &Policy) -> Vec<(String, &'static str, Vec<usize>, Vec<u8>)> {
    let one = |parameter: &policy::Parameter| {
        let values = policy.layout().values(policy.weights(), parameter);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (parameter.name.clone(), "F32", parameter.shape.clone(), bytes)
    };
    policy.layout().parameters().iter().map(one).collect()
}

fn tiny() -> Policy {
    let config = ModelConfig {
        hidden_size: 8,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    };
    Policy::init(config, 1).unwrap()
}

fn refused(dir: &Path, expected: &str) {
    let error = Policy::load(dir).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("\nhint: "), "{expected:?}: {error}");
    assert!(error.len() < 1000, "{error}");
}

#[test]
fn a_tied_model_may_store_its_output_matrix_but_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let policy = tiny();
    policy.save(&dir, &ExportCard::default()).unwrap();
    let mut all = contents(&policy);
    let embedding = all[0].clone();
    assert_eq!(embedding.0, "model.embed_tokens.weight");
    let inverse = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
    all.push((inverse, "F32", vec![2], vec![0; 8]));
    all.push(("lm_head.weight".into(), "F32", embedding.2, embedding.3));
    fs::write(dir.join("model.safetensors"), tensors(&all)).unwrap();
    assert_eq!(Policy::load(&dir).unwrap().hash(), policy.hash());
    *all.last_mut().unwrap().3.last_mut().unwrap() ^= 1;
    fs::write(dir.join("model.safetensors"), tensors(&all)).unwrap();
    refused(&dir, "lm_head.weight differs from model.embed_tokens.weight");
}

#[test]
fn end_tokens_come_from_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let dir = model(folder.path(), "qwen2");
    fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": [6, 5]}"#).unwrap();
    assert_eq!(Policy::load(&dir).unwrap().config().eos_token_ids, [5, 6]);
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    fs::write(dir.join("config.json"), config.replace("\"eos_token_id\": 5", "\"eos_token_id\": null"))
        .unwrap();
    assert_eq!(Policy::load(&dir).unwrap().config().eos_token_ids, [6, 5]);
    fs::remove_file(dir.join("generation_config.json")).unwrap();
    refused(&dir, "config.json: eos_token_id is missing");
    fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": 9999}"#).unwrap();
    refused(&dir, "generation_config.json: eos_token_id is 9999");
}

#[test]
fn hostile_weights_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let policy = tiny();
    policy.save(&dir, &ExportCard::default()).unwrap();
    let good = contents(&policy);
    type Tensors = Vec<(String, &'static str, Vec<usize>, Vec<u8>)>;
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut all = good.clone();
        change(&mut all);
        tensors(&all)
    };
    let whole = changed(&|_| {});
    let float = |value: f32| value.to_le_bytes();
    let header = |text: &str| file(text, &[0; 64]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("shorter than its header", vec![0; 5]),
        ("a header of 18446744073709551615 bytes", vec![0xff; 64]),
        ("a header of 4294967296 bytes", [&(1u64 << 32).to_le_bytes()[..], &[b' '; 64]].concat()),
        ("ends within its header", [&4096u64.to_le_bytes()[..], b"{}"].concat()),
        ("bytes where its header says", whole[..whole.len() - 1].to_vec()),
        ("bytes where its header says", [&whole[..], b"x"].concat()),
        ("not a safetensors file", header("[1, 2]")),
        ("not a safetensors file", header(&"[".repeat(100_000))),
        (
            "its header contradicts itself",
            header(
                r#"{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
                       "b": {"dtype": "F32", "shape": [8], "data_offsets": [16, 48]}}"#,
            ),
        ),
        (
            "its header contradicts itself",
            header(r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 64]}}"#),
        ),
        (
            "bytes where its header says",
            header(r#"{"a": {"dtype": "F32", "shape": [4294967296], "data_offsets": [0, 17179869184]}}"#),
        ),
        (
            "tensor a is there twice",
            header(
                r#"{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
                       "a": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}"#,
            ),
        ),
        (
            "tensor model.norm.weight is missing",
            changed(&|all| all.retain(|tensor| tensor.0 != "model.norm.weight")),
        ),
        (
            "tensor model.layers.7.mlp.up_proj.weight belongs to no part",
            changed(&|all| {
                all.push(("model.layers.7.mlp.up_proj.weight".into(), "F32", vec![1], vec![0; 4]))
            }),
        ),
        (
            "tensor model.embed_tokens.weight has shape [8, 104], the config needs [104, 8]",
            changed(&|all| all[0].2.reverse()),
        ),
        (
            "tensor model.norm.weight is of type I32; f32, f16 and bf16 are read",
            changed(&|all| {
                all.iter_mut().filter(|tensor| tensor.0 == "model.norm.weight").for_each(|t| t.1 = "I32")
            }),
        ),
        (
            "tensor model.embed_tokens.weight has values that are not finite",
            changed(&|all| all[0].3[40..44].copy_from_slice(&float(f32::NAN))),
        ),
        (
            "tensor model.norm.weight has values that are not finite",
            changed(&|all| {
                let norm = all.iter_mut().find(|tensor| tensor.0 == "model.norm.weight").unwrap();
                norm.3[..4].copy_from_slice(&float(f32::NEG_INFINITY));
            }),
        ),
    ];
    for (expected, bytes) in cases {
        fs::write(dir.join("model.safetensors"), bytes).unwrap();
        refused(&dir, expected);
    }
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    refused(&dir, "has neither model.safetensors nor model.safetensors.index.json");
    fs::create_dir(dir.join("model.safetensors")).unwrap();
    refused(&dir, "not a regular file");
}

#[test]
fn a_file_that_may_be_absent_must_be_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let load = |dir: &Path| ChatTemplate::load(dir).map(drop).and(GenerationConfig::load(dir).map(drop));
    for name in ["tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        load(folder.path()).unwrap();
        // Reading a pipe would wait for its writer; a folder is no file either, and any machine can make one.
        fs::create_dir(folder.path().join(name)).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
        fs::remove_dir(folder.path().join(name)).unwrap();
    }
}

#[test]
fn hostile_indices_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = model(folder.path(), "qwen2");
    let index = dir.join("model.safetensors.index.json");
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let many: serde_json::Map<String, Value> =
        (0..300).map(|n| (format!("t{n}"), json!(format!("{n}.safetensors")))).collect();
    for (expected, map) in [
        ("\"../../x.safetensors\" is no plain name", json!({ "a": "../../x.safetensors" })),
        ("\"/etc/passwd\" is no plain name", json!({ "a": "/etc/passwd" })),
        ("\".safetensors\" is no plain name", json!({ "a": ".safetensors" })),
        ("not an index", json!({ "a": 7 })),
        ("names 0 files", json!({})),
        ("names 300 files", Value::Object(many)),
        ("absent.safetensors", json!({ "a": "absent.safetensors" })),
        ("is missing", json!({ "a": shards[1] })),
    ] {
        fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        refused(&dir, expected);
    }
    fs::write(&index, json!({ "weight_map": { "a": shards[0], "b": shards[1] } }).to_string()).unwrap();
    Policy::load(&dir).unwrap();
    fs::copy(dir.join(shards[0]), dir.join(shards[1])).unwrap();
    refused(&dir, "is in another file too");
}

#[test]
fn a_tokenizer_that_does_not_match_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = model(folder.path(), "qwen2");
    let path = dir.join("tokenizer.json");
    let good: Value = serde_json::from_str(&char_level_json()).unwrap();
    let mut more = good.clone();
    for id in 104..113 {
        more["model"]["vocab"][format!("word{id}")] = json!(id);
    }
    fs::write(&path, more.to_string()).unwrap();
    refused(&dir, "the tokenizer has 113 ids, the model 112");
    let mut far = good.clone();
    far["model"]["vocab"]["far"] = json!(4_000_000_000u32);
    fs::write(&path, far.to_string()).unwrap();
    refused(&dir, "the tokenizer has 4000000001 ids, the model 112");
    fs::write(&path, "{}").unwrap();
    refused(&dir, "tokenizer.json");
    fs::File::create(&path).unwrap().set_len(40 << 20).unwrap();
    refused(&dir, "41943040 bytes where at most 33554432 are read");
}

/// A stream of numbers that a seed decides (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Every place in a JSON value.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            places(inner, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, inner)| places(inner, format!("{at}/{n}"), all));
        }
        _ => {}
    }
    all.push(at);
}

fn swap_json(bytes: &[u8], numbers: &mut Numbers) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let mut all = Vec::new();
    places(&value, String::new(), &mut all);
    let nasty = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(7),
        json!(0.5),
        json!(1e300),
        json!(u64::MAX),
        json!(4_294_967_295u64),
        json!(1_048_576),
        json!(""),
        json!("../../x"),
        json!("x".repeat(5000)),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({ "type": "Sequence" }),
    ];
    let target = &all[numbers.below(all.len())];
    let other = all[numbers.below(all.len())].clone();
    let new = match numbers.below(3) {
        0 => value.pointer(&other)?.clone(),
        _ => nasty[numbers.below(nasty.len())].clone(),
    };
    *value.pointer_mut(target)? = new;
    Some(value.to_string().into_bytes())
}

/// One of the ways in which a file goes wrong.
fn mutate(good: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match numbers.below(6) {
        0 => bytes.truncate(numbers.below(good.len())),
        1 => {
            for _ in 0..=numbers.below(8) {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
        }
        // The head of a weight file: its length and its header.
        2 => {
            let at = numbers.below(bytes.len().min(600));
            bytes[at] = numbers.next() as u8;
        }
        3 => {
            let (from, to) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
            bytes.copy_within(from..(from + 40).min(good.len()), to.min(good.len().saturating_sub(40)));
        }
        _ => {
            let header = good.get(..8).map(|b| u64::from_le_bytes(b.try_into().unwrap()) as usize);
            let header = header.and_then(|length| Some((length, good.get(8..8 + length)?)));
            match header {
                Some((length, text)) => {
                    if let Some(new) = swap_json(text, numbers) {
                        bytes = file(std::str::from_utf8(&new).unwrap(), &good[8 + length..]);
                    }
                }
                None => bytes = swap_json(good, numbers).unwrap_or(bytes),
            }
        }
    }
    bytes
}

/// Writes a file anew: some file systems flush one that is cut off and written again.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Thousands of damaged directories: each is a policy or an error that names a file, quickly. `FUZZ_SEED` replays
/// one mutation, which the message of a failure names.
#[test]
fn damaged_directories_never_panic() {
    const MUTATIONS: u64 = 6000;
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    tiny().save(&one, &ExportCard::default()).unwrap();
    let dirs = [one, model(folder.path(), "qwen2"), model(folder.path(), "llama-biases")];
    let seeds = match std::env::var("FUZZ_SEED") {
        Ok(seed) => seed.parse().unwrap()..seed.parse::<u64>().unwrap() + 1,
        Err(_) => 0..MUTATIONS,
    };
    let (mut read, mut slowest) = (0, (0.0, 0));
    for seed in seeds {
        let mut numbers = Numbers(seed);
        let dir = &dirs[numbers.below(dirs.len())];
        let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| !path.ends_with("README.md") && !path.ends_with("config.old.json"));
        files.sort();
        let path = &files[numbers.below(files.len())];
        let good = fs::read(path).unwrap();
        replace(path, &mutate(&good, &mut numbers));
        let start = Instant::now();
        let loaded = std::panic::catch_unwind(|| Policy::load(dir));
        let seconds = start.elapsed().as_secs_f64();
        replace(path, &good);
        match loaded {
            Ok(Ok(_)) => read += 1,
            Ok(Err(error)) => assert!(error.to_string().contains("hint: "), "FUZZ_SEED={seed}: {error}"),
            Err(_) => panic!("FUZZ_SEED={seed}: a panic over {}", path.display()),
        }
        if seconds > slowest.0 {
            slowest = (seconds, seed);
        }
    }
    assert!(slowest.0 < 2.0, "FUZZ_SEED={} takes {:.1} s", slowest.1, slowest.0);
    println!("{read} of {MUTATIONS} were still models; the slowest took {:.3} s", slowest.0);
}
