//! Exports: every format of every family, against what llama.cpp's own converter and PEFT make of the same model.
//!
//! What the first test writes stays in the target directory's `tmp/export`; `fixtures/export_check.py` loads it
//! in transformers, peft and llama.cpp.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, quantized::GgmlDType};
use policy::export::{BaseFiles, Export, Format, Precision, Quantization};
use policy::{Checkpoint, ExportCard, LoraConfig, ModelConfig, Policy, PolicyError, Trainer, UpdateConfig};
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn families() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(fixtures().join("families")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path)).collect();
    found.sort();
    assert_eq!(found.len(), 7);
    found
}

fn card(name: &str, dir: &Path) -> ExportCard {
    ExportCard {
        readme: format!("# {name}\n"),
        name: name.to_owned(),
        base: dir.display().to_string(),
        base_files: BaseFiles::load(dir).unwrap(),
    }
}

/// An adapter that changes something everywhere.
fn adapted(policy: Policy, targets: &[&str]) -> Policy {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let mut policy = policy.with_adapter(LoraConfig { rank: 3, alpha: 6.0, targets }, 1).unwrap();
    let adapter = policy.adapter_mut().unwrap();
    for parameter in adapter.parameters().to_vec() {
        let wave = (0..parameter.len()).map(|i| 0.05 * (1.0 + i as f32 * 0.7).sin()).collect::<Vec<_>>();
        adapter.set_values(&parameter, &wave);
    }
    policy
}

const ALL: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const FORMATS: [(&str, Format); 6] = [
    ("hf-f32", Format::HuggingFace(Precision::F32)),
    ("hf-f16", Format::HuggingFace(Precision::F16)),
    ("hf-bf16", Format::HuggingFace(Precision::Bf16)),
    ("gguf-f16", Format::Gguf(Quantization::F16)),
    ("gguf-q8_0", Format::Gguf(Quantization::Q8_0)),
    ("peft", Format::Peft),
];

/// Writes it and compares the promised list of files with the directory.
fn write(policy: &Policy, format: Format, card: &ExportCard, out: &Path) {
    let export = Export::new(policy, format, card).unwrap();
    export.write(out).unwrap();
    let mut found: Vec<(String, u64)> = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    assert_eq!(export.files(), found, "{}", out.display());
}

#[test]
fn every_family_in_every_format() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export");
    if out.exists() {
        fs::remove_dir_all(&out).unwrap();
    }
    let bases = policy::bases().iter().map(|name| (name.to_string(), Policy::embedded(name).unwrap()));
    let read = families().into_iter().map(|(name, dir)| (name, Policy::load(&dir).unwrap()));
    for (name, policy) in read.chain(bases) {
        let dir = match policy::bases().contains(&name.as_str()) {
            true => Path::new(env!("CARGO_MANIFEST_DIR")).join("bases").join(&name),
            false => fixtures().join("families").join(&name),
        };
        let card = card(&name, &dir);
        for (folder, format) in FORMATS.into_iter().filter(|(_, format)| *format != Format::Peft) {
            write(&policy, format, &card, &out.join(&name).join(folder));
        }
        let adapted = adapted(policy.clone(), &ALL);
        let peft = out.join(&name).join("peft");
        write(&adapted, Format::Peft, &card, &peft);
        write(&adapted, Format::HuggingFace(Precision::F32), &card, &out.join(&name).join("merged"));
        assert_eq!(policy.clone().with_adapter_from(&peft).unwrap().hash(), adapted.hash(), "{name}");
        let merged = Policy::load(&out.join(&name).join("merged")).unwrap();
        assert_eq!(merged.hash(), adapted.merged().hash(), "{name}");

        let whole = Policy::load(&out.join(&name).join("hf-f32")).unwrap();
        assert_eq!((whole.hash(), whole.config()), (policy.hash(), policy.config()), "{name}");
        let template = |dir: &Path| fs::read_to_string(dir.join("chat_template.jinja")).ok();
        assert_eq!(template(&dir), template(&out.join(&name).join("hf-f32")), "{name}");
        let greedy = |policy: &Policy| policy.greedy(&[7, 8, 9], 8).unwrap();
        let half = Policy::load(&out.join(&name).join("hf-bf16")).unwrap();
        assert_eq!(greedy(&half).len(), 8);
        let config = fs::read_to_string(out.join(&name).join("hf-bf16/config.json")).unwrap();
        assert!(config.contains("\"torch_dtype\": \"bfloat16\""), "{config}");
    }
}

fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A metadata value as the fixture writes it.
fn described(value: &Value) -> serde_json::Value {
    let one = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::I32(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    match value {
        Value::Array(values) => {
            let joined = values.iter().map(one).collect::<Vec<_>>().join("\0");
            serde_json::json!([values.len(), short_hash(joined.as_bytes())])
        }
        Value::String(text) if text.chars().count() > 64 => {
            serde_json::json!([1, short_hash(text.as_bytes())])
        }
        Value::String(text) => text.as_str().into(),
        Value::U32(number) => (*number).into(),
        Value::F32(number) => f64::from(*number).into(),
        Value::Bool(yes) => (*yes).into(),
        other => panic!("{other:?}"),
    }
}

type Tensors = BTreeMap<String, serde_json::Value>;

fn read_gguf(path: &Path) -> (BTreeMap<String, serde_json::Value>, Tensors, Vec<f32>) {
    let mut file = fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let metadata = content.metadata.iter().map(|(key, value)| (key.clone(), described(value))).collect();
    let (mut tensors, mut frequencies) = (Tensors::new(), Vec::new());
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        if name == "rope_freqs.weight" {
            frequencies = tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
            continue;
        }
        let kind = match tensor.dtype() {
            GgmlDType::F32 => "F32",
            GgmlDType::F16 => "F16",
            GgmlDType::Q8_0 => "Q8_0",
            other => panic!("{other:?}"),
        };
        let hash = short_hash(&tensor.data().unwrap());
        tensors.insert(name.clone(), serde_json::json!([kind, tensor.shape().dims(), hash]));
    }
    (metadata, tensors, frequencies)
}

#[test]
fn gguf_is_what_llama_cpps_converter_makes() {
    let text = fs::read_to_string(fixtures().join("gguf_converted.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let models = fixture["models"].as_object().unwrap();
    assert_eq!(models.len(), 8);
    for (name, expected) in models {
        let embedded = name == "amber";
        let dir = match embedded {
            true => Path::new(env!("CARGO_MANIFEST_DIR")).join("bases").join(name),
            false => fixtures().join("families").join(name),
        };
        let policy = Policy::load(&dir).unwrap();
        for quantization in [Quantization::F16, Quantization::Q8_0] {
            let out = folder.path().join(format!("{name}-{}", quantization.name()));
            write(&policy, Format::Gguf(quantization), &card(name, &dir), &out);
            let (metadata, tensors, frequencies) = read_gguf(&out.join(quantization.file_name()));
            let mut theirs: Tensors = serde_json::from_value(expected[quantization.name()].clone()).unwrap();
            // Computed in f32 there and in f64 here, so the last digits differ; checked below.
            let stretched = theirs.remove("rope_freqs.weight").is_some();
            assert_eq!(tensors, theirs, "{name} {}", quantization.name());
            assert_eq!(stretched, !frequencies.is_empty(), "{name}");
            for (key, value) in expected["metadata"].as_object().unwrap() {
                let file_type = key == "general.file_type" && quantization == Quantization::Q8_0;
                let value = if file_type { &7.into() } else { value };
                assert_eq!(metadata.get(key), Some(value), "{name} {key}");
            }
        }
        for (case, greedy) in cases(&dir).iter().zip(expected["greedy"].as_array().into_iter().flatten()) {
            let greedy: Vec<u32> = serde_json::from_value(greedy.clone()).unwrap();
            assert_eq!(policy.greedy(case, greedy.len()).unwrap(), greedy, "{name}: llama.cpp's tokens");
        }
    }
}

fn cases(dir: &Path) -> Vec<Vec<u32>> {
    let Ok(text) = fs::read_to_string(dir.join("expected.json")) else { return Vec::new() };
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |case: &serde_json::Value| serde_json::from_value(case["ids"].clone()).unwrap();
    expected["cases"].as_array().unwrap().iter().map(ids).collect()
}

/// Wavelengths of 16 dimensions with base 500000, as in the fixture's config: short ones stay, long ones are
/// stretched eightfold. The values are those that llama.cpp's converter wrote.
#[test]
fn rotary_frequencies_of_llama_3_are_stretched() {
    let dir = fixtures().join("families/llama3");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    write(&Policy::load(&dir).unwrap(), Format::Gguf(Quantization::F16), &card("llama3", &dir), &out);
    let (.., frequencies) = read_gguf(&out.join("model-f16.gguf"));
    let theirs = [1.0, 2.442_259_6, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0];
    assert_eq!(frequencies.len(), theirs.len());
    for (ours, theirs) in frequencies.iter().zip(theirs) {
        assert!((ours / theirs - 1.0).abs() < 1e-6, "{frequencies:?}");
    }
}

#[test]
fn what_llama_cpp_would_read_otherwise_is_refused() {
    let policy = |edit: &dyn Fn(&mut ModelConfig)| {
        let mut config = ModelConfig::default();
        edit(&mut config);
        Policy::init(config, 1).unwrap()
    };
    let gguf = Format::Gguf(Quantization::F16);
    let refused = |policy: &Policy| {
        let error = Export::new(policy, gguf, &ExportCard::default()).unwrap_err().to_string();
        assert!(error.contains("hint: export it as a Hugging Face directory"), "{error}");
        error
    };
    let scaling = policy::RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    use policy::Architecture::{Qwen2, Qwen3};
    let error = refused(&policy(&|config| {
        (config.architecture, config.qkv_bias, config.rope_scaling) = (Qwen2, true, Some(scaling));
    }));
    assert!(error.contains("qwen2"), "{error}");
    refused(&policy(&|config| {
        (config.architecture, config.qkv_bias, config.output_bias) = (Qwen3, true, true);
    }));

    let dir = fixtures().join("families/qwen2");
    let folder = tempfile::tempdir().unwrap();
    for (at, value, says) in [
        ("/normalizer", serde_json::json!({"type": "Lowercase"}), "normalizer"),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\w+|\\W+".into(), "pre_tokenizer"),
        ("/model/byte_fallback", true.into(), "byte_fallback"),
        ("/model/end_of_word_suffix", "</w>".into(), "end_of_word_suffix"),
    ] {
        let copy = folder.path().join("copy");
        Policy::load(&dir).unwrap().save(&copy, &ExportCard::default()).unwrap();
        let path = copy.join("tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        *json.pointer_mut(at).unwrap() = value;
        fs::write(&path, json.to_string()).unwrap();
        let error = refused(&Policy::load(&copy).unwrap());
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn values_beyond_a_type_are_named_and_nothing_is_left() {
    let mut policy = Policy::init(ModelConfig::default(), 1).unwrap();
    let parameter =
        policy.layout().parameters().iter().find(|it| it.name.contains("up_proj")).cloned().unwrap();
    let at = parameter.index(3, 5);
    policy.weights_mut()[at] = 1e9;
    let folder = tempfile::tempdir().unwrap();
    for (format, part) in [
        (Format::HuggingFace(Precision::F16), "layers.0.mlp.up_proj"),
        (Format::Gguf(Quantization::F16), "blk.0.ffn_up"),
        (Format::Gguf(Quantization::Q8_0), "blk.0.ffn_up"),
    ] {
        let export = Export::new(&policy, format, &ExportCard::default()).unwrap();
        let error = export.write(&folder.path().join("out")).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("f16") && error.contains("hint: "), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
    let bf16 = Export::new(&policy, Format::HuggingFace(Precision::Bf16), &ExportCard::default()).unwrap();
    bf16.write(&folder.path().join("out")).unwrap();
    let read = Policy::load(&folder.path().join("out")).unwrap();
    assert!((read.weights()[at] / 1e9 - 1.0).abs() < 4e-3);
}

#[test]
fn only_exports_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let policy = adapted(Policy::embedded("amber").unwrap(), &["q_proj"]);
    for (name, format) in FORMATS {
        let out = folder.path().join(name);
        let export = Export::new(&policy, format, &ExportCard::default()).unwrap();
        export.write(&out).unwrap();
        export.write(&out).unwrap();
        fs::write(out.join("notes.txt"), "mine").unwrap();
        let error = export.write(&out).unwrap_err();
        assert!(matches!(error, PolicyError::Occupied { .. }), "{error}");
        assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
        fs::remove_file(out.join("notes.txt")).unwrap();
        fs::create_dir(out.join("more")).unwrap();
        assert!(matches!(export.write(&out).unwrap_err(), PolicyError::Occupied { .. }), "{name}");
    }
    let gguf = Export::new(&policy, Format::Gguf(Quantization::F16), &ExportCard::default()).unwrap();
    let error = gguf.write(&folder.path().join("hf-f32")).unwrap_err();
    assert!(matches!(error, PolicyError::Occupied { .. }), "another format: {error}");
}

#[test]
fn an_adapter_is_needed_for_pefts_format_and_must_fit() {
    let amber = Policy::embedded("amber").unwrap();
    let error = Export::new(&amber, Format::Peft, &ExportCard::default()).unwrap_err().to_string();
    assert!(error.contains("no adapter") && error.contains("hint: "), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    write(&adapted(amber.clone(), &["v_proj", "down_proj"]), Format::Peft, &ExportCard::default(), &dir);
    let other = Policy::load(&fixtures().join("families/qwen3")).unwrap();
    let error = other.with_adapter_from(&dir).unwrap_err().to_string();
    assert!(error.contains("lora_A.weight") && error.contains("shape"), "{error}");

    let weights = dir.join("adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for damage in [&bytes[..bytes.len() - 4], b"", &[0xff; 64][..]] {
        fs::write(&weights, damage).unwrap();
        let error = amber.clone().with_adapter_from(&dir).unwrap_err().to_string();
        assert!(error.contains("adapter_model.safetensors") && error.contains("hint: "), "{error}");
    }
    fs::write(&weights, &bytes).unwrap();
    fs::write(dir.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 3, "use_dora": true}"#).unwrap();
    let error = amber.with_adapter_from(&dir).unwrap_err().to_string();
    assert!(error.contains("adapter_config.json") && error.contains("use_dora"), "{error}");
}

fn base(name: &'static str) -> impl FnOnce() -> policy::Result<Policy> {
    move || Policy::embedded(name)
}

#[test]
fn a_checkpoint_of_an_adapter_holds_the_adapter_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("checkpoint");
    let mut policy = adapted(Policy::embedded("amber").unwrap(), &["q_proj", "v_proj"]);
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    let lesson = [("add 1+2".to_owned(), "<answer>3</answer>".to_owned())];
    trainer.supervise(&mut policy, &lesson, 1e-3).unwrap();
    Checkpoint::save(&dir, &policy, &trainer, 4).unwrap();
    assert!(!dir.join("model.safetensors").exists());
    let size: u64 = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 60_000, "{size} bytes, the base alone has 630,000");

    let (mut policy2, mut trainer2, counters) = Checkpoint::load(&dir, base("amber")).unwrap();
    assert_eq!((counters, policy2.hash()), (Checkpoint { round: 4, steps: 1 }, policy.hash()));
    assert_eq!(policy2.adapter().unwrap().config(), policy.adapter().unwrap().config());
    let alone = Checkpoint::load_policy(&dir, base("amber")).unwrap();
    assert_eq!(alone.hash(), policy.hash());
    trainer.supervise(&mut policy, &lesson, 1e-3).unwrap();
    trainer2.supervise(&mut policy2, &lesson, 1e-3).unwrap();
    assert_eq!(policy.hash(), policy2.hash(), "the next step is the same");

    let error = Checkpoint::load(&dir, base("birch")).unwrap_err().to_string();
    assert!(error.contains("of the base with hash") && error.contains("hint: "), "{error}");
    let error = Checkpoint::load(&dir, base("ambre")).unwrap_err();
    assert!(matches!(error, PolicyError::UnknownBase { .. }), "{error}");
    Policy::embedded("amber").unwrap().with_adapter_from(&dir).unwrap();

    // The adapter of another step.
    let other = folder.path().join("other");
    Checkpoint::save(&other, &policy, &trainer, 5).unwrap();
    fs::copy(other.join("adapter_model.safetensors"), dir.join("adapter_model.safetensors")).unwrap();
    let error = Checkpoint::load(&dir, base("amber")).unwrap_err().to_string();
    assert!(error.contains("different checkpoints"), "{error}");
    // One kind replaces the other.
    let whole = policy.merged();
    Checkpoint::save(&dir, &whole, &Trainer::new(&whole, UpdateConfig::default()), 6).unwrap();
    assert!(!dir.join("adapter_config.json").exists());
    assert_eq!(Checkpoint::load(&dir, base("birch")).unwrap().0.hash(), whole.hash(), "needs no base");
}

#[test]
fn what_a_policys_hash_covers_is_the_end_of_a_file_and_makes_it_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, family) in families() {
        let base = Policy::load(&family).unwrap();
        let mut other = base.clone();
        other.weights_mut().iter_mut().for_each(|value| *value += 0.25);
        let blank =
            base.clone().with_adapter(LoraConfig { rank: 3, alpha: 6.0, targets: vec!["q_proj".into()] }, 9);
        for (policy, start) in [(other, base.clone()), (adapted(base, &["q_proj"]), blank.unwrap())] {
            let at = dir.path().join("checkpoint");
            Checkpoint::save(&at, &policy, &Trainer::new(&policy, UpdateConfig::default()), 1).unwrap();
            let (path, offset) = Checkpoint::learnt_values(&at).unwrap();
            let file = fs::read(path).unwrap();
            let (head, values) = file.split_at(offset as usize);
            assert!(head == policy.learnt_head() && values.len() as u64 == policy.learnt_bytes(), "{name}");
            let same = policy
                .learnt_values()
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .eq(values.iter().copied());
            assert!(same, "{name}");
            let hash = blake3::derive_key("murmur v1 weights", values);
            assert_eq!(hash == policy.hash(), policy.adapter().is_none(), "{name}");

            let fetched = dir.path().join("fetched");
            fs::write(&fetched, [&start.learnt_head()[..], values].concat()).unwrap();
            assert_ne!(start.hash(), policy.hash());
            let (version, made) = (start.version(), start.clone().with_learnt_from(&fetched).unwrap());
            assert_eq!((made.hash(), made.version()), (policy.hash(), version), "{name}");
            fs::write(&fetched, &file[..file.len() - 4]).unwrap();
            assert!(start.with_learnt_from(&fetched).is_err());
            fs::remove_dir_all(&at).unwrap();
        }
    }
}
