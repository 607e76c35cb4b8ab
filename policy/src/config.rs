//! The shape of a model, and Hugging Face's `config.json` in both directions.
//!
//! Only the Llama layout is read: RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
//! transformers 4 writes `rope_theta` at the top level, transformers 5 inside `rope_parameters`; both are
//! accepted. Anything that would change the arithmetic and is not implemented here is refused rather than
//! ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Tokens of the longest sequence that is computed, whatever a model allows.
pub const CONTEXT_MAX: usize = 32_768;

/// Families that share the decoder: they differ in biases and in normalised queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: queries and keys normalised per head.
    Qwen3,
}

/// Llama 3's stretching of long rotary wavelengths (`rope_type` "llama3").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// Long wavelengths grow by this.
    pub factor: f32,
    /// Wavelengths above `original_max_position_embeddings` / this are long.
    pub low_freq_factor: f32,
    /// Wavelengths below `original_max_position_embeddings` / this stay.
    pub high_freq_factor: f32,
    /// Context the model was first trained with, in tokens.
    pub original_max_position_embeddings: usize,
}

/// Shape and constants of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Stretching of long wavelengths, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f32,
    /// Longest sequence, prompt and completion together, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output matrix is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output has a bias.
    pub output_bias: bool,
    /// Whether the three matrices of the feed-forward part have biases.
    pub mlp_bias: bool,
    /// Id of the padding token, if there is one.
    pub pad_token_id: Option<u32>,
    /// Id put before a plain prompt, if there is one.
    pub bos_token_id: Option<u32>,
    /// Ids that end a completion; at least one.
    pub eos_token_ids: Vec<u32>,
}

impl Default for ModelConfig {
    /// The shape of the embedded bases: 314,784 parameters.
    fn default() -> Self {
        Self {
            architecture: Architecture::Llama,
            vocab_size: 104,
            hidden_size: 96,
            intermediate_size: 256,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 24,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-6,
            max_position_embeddings: 128,
            tie_word_embeddings: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            pad_token_id: Some(0),
            bos_token_id: Some(1),
            eos_token_ids: vec![5],
        }
    }
}

impl ModelConfig {
    /// Whether queries and keys are normalised per head.
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Longest sequence that is computed, prompt and completion together, in tokens.
    pub fn context(&self) -> usize {
        self.max_position_embeddings.min(CONTEXT_MAX)
    }

    /// Width of all query heads together.
    pub(crate) fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads (or all value heads) together.
    pub(crate) fn kv_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        crate::weights::Layout::new(self).parameters().iter().map(crate::weights::Parameter::len).sum()
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// A sentence that says which field is missing, malformed or asks for arithmetic that is not implemented.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let root: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
        let map = root.as_object().ok_or("not a JSON object")?;
        let model_type = map.get("model_type").and_then(Value::as_str).unwrap_or("");
        if model_type != "llama" {
            return Err(format!("model_type is \"{model_type}\", only \"llama\" is implemented"));
        }
        for (field, plain) in
            [("attention_bias", json!(false)), ("mlp_bias", json!(false)), ("hidden_act", json!("silu"))]
        {
            if map.get(field).is_some_and(|v| !v.is_null() && *v != plain) {
                return Err(format!("{field} is {}, only {plain} is implemented", map[field]));
            }
        }
        let hidden_size = count(map, "hidden_size")?;
        let num_attention_heads = count(map, "num_attention_heads")?;
        let config = Self {
            architecture: Architecture::Llama,
            rope_scaling: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            vocab_size: count(map, "vocab_size")?,
            hidden_size,
            intermediate_size: count(map, "intermediate_size")?,
            num_hidden_layers: count(map, "num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: optional_count(map, "num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: match optional_count(map, "head_dim")? {
                Some(n) => n,
                None => hidden_size / num_attention_heads,
            },
            rope_theta: rope_theta(map)?,
            rms_norm_eps: map.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6) as f32,
            max_position_embeddings: count(map, "max_position_embeddings")?,
            tie_word_embeddings: map.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            pad_token_id: token(map, "pad_token_id")?,
            bos_token_id: token(map, "bos_token_id")?,
            eos_token_ids: vec![token(map, "eos_token_id")?.ok_or("eos_token_id is missing")?],
        };
        config.check()?;
        Ok(config)
    }

    /// Says whether the numbers fit together and stay within what one machine can hold.
    ///
    /// # Errors
    /// A sentence naming the first field that does not fit.
    pub fn check(&self) -> Result<(), String> {
        let bounded = [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("hidden_size", self.hidden_size, 1 << 15),
            ("intermediate_size", self.intermediate_size, 1 << 17),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
        ];
        for (field, value, max) in bounded {
            if value == 0 || value > max {
                return Err(format!("{field} is {value}, must be 1..={max}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err("num_key_value_heads does not divide num_attention_heads".into());
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim is {}, must be even", self.head_dim));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err("rope_theta must be a positive number".into());
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err("rms_norm_eps must not be negative".into());
        }
        let special = self.pad_token_id.iter().map(|id| ("pad_token_id", *id));
        let special = special.chain(self.bos_token_id.iter().map(|id| ("bos_token_id", *id)));
        for (field, id) in special.chain(self.eos_token_ids.iter().map(|id| ("eos_token_id", *id))) {
            if id as usize >= self.vocab_size {
                return Err(format!("{field} is {id}, beyond vocab_size {}", self.vocab_size));
            }
        }
        Ok(())
    }

    /// The text of a `config.json` that transformers 4 and 5 both read.
    pub fn to_json(&self) -> String {
        let value = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": number(self.rms_norm_eps),
            "rope_theta": number(self.rope_theta),
            "rope_parameters": { "rope_type": "default", "rope_theta": number(self.rope_theta) },
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": false,
            "mlp_bias": false,
            "attention_dropout": 0.0,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_ids.first(),
        });
        format!("{value:#}\n")
    }
}

/// An f32 as the shortest decimal that means it (1e-6, not 9.999999974752427e-7).
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, |v| json!(v))
}

fn optional_count(map: &Map<String, Value>, field: &str) -> Result<Option<usize>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_u64() {
            Some(n) if n > 0 && n < 1 << 32 => Ok(Some(n as usize)),
            _ => Err(format!("{field} is {v}, must be a positive whole number")),
        },
    }
}

fn count(map: &Map<String, Value>, field: &str) -> Result<usize, String> {
    optional_count(map, field)?.ok_or_else(|| format!("{field} is missing"))
}

/// A token id; of a list (several end tokens) the first counts.
fn token(map: &Map<String, Value>, field: &str) -> Result<Option<u32>, String> {
    let value = match map.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list.first().unwrap_or(&Value::Null),
        Some(v) => v,
    };
    match value.as_u64().map(u32::try_from) {
        Some(Ok(id)) => Ok(Some(id)),
        _ => Err(format!("{field} is {value}, must be a token id")),
    }
}

fn rope_theta(map: &Map<String, Value>) -> Result<f32, String> {
    for key in ["rope_parameters", "rope_scaling"] {
        if let Some(Value::Object(inner)) = map.get(key) {
            let kind = inner.get("rope_type").or(inner.get("type")).and_then(Value::as_str);
            if !matches!(kind, None | Some("default")) {
                return Err(format!("{key} asks for rope_type {kind:?}, only \"default\" is implemented"));
            }
        }
    }
    let nested = map.get("rope_parameters").and_then(|p| p.get("rope_theta"));
    match nested.or(map.get("rope_theta")) {
        None => Ok(10_000.0),
        Some(v) => v.as_f64().map(|x| x as f32).ok_or_else(|| format!("rope_theta is {v}, must be a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_shape_has_the_published_size() {
        assert_eq!(ModelConfig::default().parameters(), 314_784);
    }

    #[test]
    fn both_forms_of_rope_theta_are_read() {
        let full: Value = serde_json::from_str(&ModelConfig::default().to_json()).unwrap();
        for (drop, theta) in [("rope_theta", 500.0), ("rope_parameters", 700.0)] {
            let mut v = full.clone();
            v["rope_theta"] = json!(700.0);
            v["rope_parameters"]["rope_theta"] = json!(500.0);
            v.as_object_mut().unwrap().remove(drop);
            assert_eq!(ModelConfig::from_json(&v.to_string()).unwrap().rope_theta, theta);
        }
    }

    #[test]
    fn what_is_not_implemented_is_refused() {
        let cases = [
            ("model_type", json!("qwen2"), "only \"llama\""),
            ("attention_bias", json!(true), "attention_bias"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("rope_parameters", json!({"rope_type": "llama3"}), "rope_type"),
            ("num_key_value_heads", json!(3), "does not divide"),
            ("head_dim", json!(23), "even"),
            ("vocab_size", json!(-4), "positive whole number"),
            ("hidden_size", Value::Null, "missing"),
            ("eos_token_id", json!(104), "beyond vocab_size"),
        ];
        for (field, value, says) in cases {
            let mut v: Value = serde_json::from_str(&ModelConfig::default().to_json()).unwrap();
            v[field] = value;
            let error = ModelConfig::from_json(&v.to_string()).unwrap_err();
            assert!(error.contains(says), "{field}: {error}");
        }
    }

    #[test]
    fn json_round_trip() {
        let config = ModelConfig::default();
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }
}
