//! Chat templates and tokenizers of the published kinds, against Python transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use policy::{ChatTemplate, GenerationConfig, Message};
use serde_json::Value;

const FAMILIES: [&str; 4] = ["qwen2", "qwen3", "llama3", "smollm2"];

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name)
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, &[("bos_token", "<s>")]).unwrap()
}

#[test]
fn conversations_are_rendered_as_transformers_does() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/chat_renders.json")).unwrap();
    for name in FAMILIES {
        let template = ChatTemplate::load(&family(name)).unwrap().unwrap();
        let renders = fixture["renders"][name].as_array().unwrap();
        assert_eq!(renders.len(), 10);
        for (case, expected) in fixture["conversations"].as_array().unwrap().iter().zip(renders) {
            let prompt = case["add_generation_prompt"].as_bool().unwrap();
            let rendered = template.render(&messages(&case["messages"]), prompt).unwrap();
            assert_eq!(rendered, expected.as_str().unwrap(), "{name}: {case}");
        }
    }
}

#[test]
fn a_directory_without_a_template_has_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(ChatTemplate::load(dir.path()).unwrap().is_none());
    assert!(ChatTemplate::load(&family("qwen2_untied")).unwrap().is_none());
}

#[test]
fn special_tokens_are_texts_or_objects_and_a_file_of_its_own_counts_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
        "chat_template": "from the config"}"#;
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let load = || ChatTemplate::load(dir.path()).unwrap().unwrap().render(&[], false).unwrap();
    assert_eq!(load(), "from the config");
    let source = "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}";
    fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
    assert_eq!(load(), "<s>|</s>|False");
}

#[test]
fn damaged_template_files_are_named() {
    let cases = [
        ("tokenizer_config.json", "{", "EOF"),
        ("tokenizer_config.json", r#"{"chat_template": 3}"#, "not a text"),
        ("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": ""}]}"#, "none named"),
        ("chat_template.jinja", "{% for %}", "cannot be read"),
    ];
    for (file, text, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        let error = ChatTemplate::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(says), "{error}");
    }
}

#[test]
fn pythons_ways_are_known() {
    let cases = [
        (
            "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
            "B",
        ),
        ("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", "A"),
        ("{{ {'a': [1, 'é<'], 'b': none} | tojson }}", r#"{"a": [1, "é<"], "b": null}"#),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ strftime_now('%Y-%m-%d %H:%M') }}", "2024-07-26 00:00"),
        ("{{ messages[-1].content.lower().strip('b') }}|{{ messages[::-1][0]['role'] }}", "|assistant"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("a\n {%- generation -%} b {% endgeneration %}\n c{{ '{%' }}", "ab  c{%"),
        (
            "{{ tools is iterable }} {{ nothing is iterable }} {{ 'x' is sequence }} {{ {} is sequence }}",
            "False True True True",
        ),
    ];
    let messages = [Message::new("user", "A"), Message::new("assistant", "B")];
    for (source, expected) in cases {
        assert_eq!(template(source).render(&messages, false).unwrap(), expected, "{source}");
    }
}

#[test]
fn a_template_that_refuses_hangs_or_floods_is_an_error() {
    let cases = [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for a in range(9999) %}{{ '0123456789abcdef' * 4096 }}{% endfor %}", "more than 8388608 bytes"),
        ("{{ 'x' * 100000000000 }}", "too large"),
        ("{% include '/etc/passwd' %}", "template not found"),
        ("{{ strftime_now('%Q') }}", "%Q"),
        ("{{ messages[0].content.nothing.at_all }}", "undefined"),
    ];
    for (source, says) in cases {
        let error = template(source).render(&[], false).unwrap_err().to_string();
        assert!(error.contains(says), "{source}: {error}");
    }
    let long = "x".repeat(256 * 1024 + 1);
    assert!(ChatTemplate::new(&long, &[]).unwrap_err().to_string().contains("262145 bytes"));
}

#[test]
fn generation_configs_of_the_families_are_read() {
    let config = |name| GenerationConfig::load(&family(name)).unwrap().unwrap();
    assert_eq!(config("qwen2").unsupported, ["repetition_penalty 1.1"]);
    assert_eq!((config("qwen3").temperature, config("qwen3").top_k), (Some(0.6), Some(20)));
    assert_eq!(config("llama3").eos_token_ids, [281, 284, 285]);
    assert_eq!(config("smollm2").do_sample, None);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(GenerationConfig::load(dir.path()).unwrap(), None);
    fs::write(dir.path().join("generation_config.json"), r#"{"top_p": 7}"#).unwrap();
    let error = GenerationConfig::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("generation_config.json") && error.contains("top_p"), "{error}");
}
