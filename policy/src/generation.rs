//! What a model's authors say about sampling from it: Hugging Face's `generation_config.json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{PolicyError, Result};
use crate::load::read_if_present;

/// End tokens of a model; Llama 3 has three.
const ENDS_MAX: usize = 1024;
const HINT: &str = "correct the file or copy it from the model again";
/// Settings that change which token comes next, with the value that does nothing.
const NOT_IMPLEMENTED: [(&str, f64); 10] = [
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("penalty_alpha", 0.0),
    ("top_h", 0.0),
    ("num_beams", 1.0),
    ("guidance_scale", 1.0),
];

/// The settings that the file names; a field is `None` where it is silent (transformers' own defaults, such as
/// `top_k` 50, are not filled in).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Whether the authors sample at all; transformers takes the likeliest token otherwise.
    pub do_sample: Option<bool>,
    /// Divides the logits; 0 means the likeliest token.
    pub temperature: Option<f32>,
    /// Only so many likeliest tokens are drawn from; 0 means all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability, in (0, 1].
    pub top_p: Option<f32>,
    /// Only tokens at least this fraction as likely as the likeliest, in [0, 1].
    pub min_p: Option<f32>,
    /// Longest completion, in tokens.
    pub max_new_tokens: Option<usize>,
    /// Ids that end a completion, beside those of `config.json`.
    pub eos_token_ids: Vec<u32>,
    /// Settings that ask for something this crate does not do, as "name value"; a user should be told.
    pub unsupported: Vec<String>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model directory; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or says what makes no sense, with the field named.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("generation_config.json");
        let parsed = read_if_present(&path)?.map(|text| Self::from_json(&text));
        parsed.transpose().map_err(|why| PolicyError::damaged(&path, why, HINT))
    }

    /// Reads the text of a `generation_config.json`.
    ///
    /// # Errors
    /// A sentence that names the field and the values it may have.
    pub fn from_json(text: &str) -> std::result::Result<Self, String> {
        let map: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        Ok(Self {
            do_sample: field(&map, "do_sample", "true or false", Value::as_bool)?,
            temperature: number(&map, "temperature", "a number from 0 to 100", |x| {
                (0.0..=100.0).contains(&x)
            })?,
            top_k: count(&map, "top_k", 0)?,
            top_p: number(&map, "top_p", "above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?,
            min_p: number(&map, "min_p", "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?,
            max_new_tokens: count(&map, "max_new_tokens", 1)?,
            eos_token_ids: ends(&map)?,
            unsupported: unsupported(&map),
        })
    }
}

fn field<T>(
    map: &Map<String, Value>,
    name: &str,
    range: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> std::result::Result<Option<T>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| format!("{name} is {value}, must be {range}")),
    }
}

fn number(
    map: &Map<String, Value>,
    name: &str,
    range: &str,
    fits: impl Fn(f32) -> bool,
) -> std::result::Result<Option<f32>, String> {
    field(map, name, range, |value| value.as_f64().map(|x| x as f32).filter(|x| fits(*x)))
}

fn count(map: &Map<String, Value>, name: &str, least: usize) -> std::result::Result<Option<usize>, String> {
    let read = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= least);
    field(map, name, &format!("a whole number of at least {least}"), read)
}

/// One id or a list of them.
fn ends(map: &Map<String, Value>) -> std::result::Result<Vec<u32>, String> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let read = |value: &Value| match value {
        Value::Array(list) if list.len() <= ENDS_MAX => list.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    Ok(field(map, "eos_token_id", "a token id or a list of them", read)?.unwrap_or_default())
}

fn unsupported(map: &Map<String, Value>) -> Vec<String> {
    let asked = |(name, neutral): &(&str, f64)| {
        let value = map.get(*name).filter(|value| !value.is_null())?;
        (value.as_f64() != Some(*neutral)).then(|| format!("{name} {value}"))
    };
    NOT_IMPLEMENTED.iter().filter_map(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_file_is_read() {
        let text = r#"{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643],
            "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "num_beams": 1}"#;
        let config = GenerationConfig::from_json(text).unwrap();
        let expected = GenerationConfig {
            do_sample: Some(true),
            temperature: Some(0.7),
            top_k: Some(20),
            top_p: Some(0.8),
            eos_token_ids: vec![151_645, 151_643],
            unsupported: vec!["repetition_penalty 1.1".into()],
            ..GenerationConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn silence_stays_silence() {
        let config = GenerationConfig::from_json(r#"{"eos_token_id": 2, "temperature": null}"#).unwrap();
        assert_eq!(config, GenerationConfig { eos_token_ids: vec![2], ..GenerationConfig::default() });
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            (r#"{"temperature": -1}"#, "temperature is -1"),
            (r#"{"top_p": 0}"#, "top_p is 0"),
            (r#"{"min_p": 2}"#, "min_p is 2"),
            (r#"{"top_k": -1}"#, "top_k is -1"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens is 0"),
            (r#"{"eos_token_id": "</s>"}"#, "eos_token_id is"),
            (r#"{"eos_token_id": [1, -2]}"#, "eos_token_id is"),
            (r#"{"do_sample": 1}"#, "do_sample is 1"),
            ("[]", "not a JSON object"),
        ];
        for (text, says) in cases {
            let error = GenerationConfig::from_json(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
