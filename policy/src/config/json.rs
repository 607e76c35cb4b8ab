//! Hugging Face's `config.json` and `generation_config.json`.
//!
//! transformers 4 writes `rope_theta` and `rope_scaling` at the top level, transformers 5 both inside
//! `rope_parameters`; either is read, and both are written. Anything that would change the arithmetic and is
//! not implemented here is refused rather than ignored.

use serde_json::{Map, Value, json};

use super::{Architecture, ModelConfig, RopeScaling};

type Fields = Map<String, Value>;

impl ModelConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// A sentence that says which field is missing, malformed or asks for arithmetic that is not implemented.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let config = Self::read(text)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Self::from_json`], but end tokens may still be missing: `generation_config.json` can name them.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let map = &object(text)?;
        let architecture = architecture(map)?;
        refuse_other_arithmetic(map)?;
        let hidden_size = count(map, "hidden_size")?;
        let num_attention_heads = count(map, "num_attention_heads")?;
        let qwen2 = architecture == Architecture::Qwen2;
        let attention_bias = !qwen2 && flag(map, "attention_bias")?;
        Ok(Self {
            architecture,
            rope_scaling: rope_scaling(map)?,
            qkv_bias: qwen2 || attention_bias,
            output_bias: attention_bias,
            mlp_bias: architecture == Architecture::Llama && flag(map, "mlp_bias")?,
            vocab_size: count(map, "vocab_size")?,
            hidden_size,
            intermediate_size: count(map, "intermediate_size")?,
            num_hidden_layers: count(map, "num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: optional_count(map, "num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: match (optional_count(map, "head_dim")?, architecture) {
                (Some(width), _) => width,
                // Its class has a default of its own.
                (None, Architecture::Qwen3) => 128,
                (None, _) => hidden_size / num_attention_heads,
            },
            rope_theta: rope_theta(map)?,
            rms_norm_eps: optional_number(map, "rms_norm_eps")?.unwrap_or(1e-6),
            max_position_embeddings: count(map, "max_position_embeddings")?,
            tie_word_embeddings: flag(map, "tie_word_embeddings")?,
            pad_token_id: tokens(map, "pad_token_id")?.first().copied(),
            bos_token_id: tokens(map, "bos_token_id")?.first().copied(),
            eos_token_ids: tokens(map, "eos_token_id")?,
        })
    }

    /// Adds the end tokens that a `generation_config.json` names.
    pub(crate) fn add_generation(&mut self, text: &str) -> Result<(), String> {
        for id in tokens(&object(text)?, "eos_token_id")? {
            if id as usize >= self.vocab_size {
                return Err(format!("eos_token_id is {id}, beyond vocab_size {}", self.vocab_size));
            }
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
        Ok(())
    }

    /// The text of a `config.json` that transformers 4 and 5 both read.
    pub fn to_json(&self) -> String {
        let theta = number(self.rope_theta);
        let mut rope = self.rope_scaling.as_ref().map_or_else(|| json!({ "rope_type": "default" }), scaling);
        let rope_scaling = self.rope_scaling.as_ref().map(|_| rope.clone());
        rope["rope_theta"] = theta.clone();
        let mut value = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
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
            "rope_theta": theta,
            "rope_scaling": rope_scaling,
            "rope_parameters": rope,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_dropout": 0.0,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_json(),
        });
        if self.architecture != Architecture::Qwen2 {
            value["attention_bias"] = json!(self.qkv_bias);
        }
        match self.architecture {
            Architecture::Llama => value["mlp_bias"] = json!(self.mlp_bias),
            Architecture::Qwen2 | Architecture::Qwen3 => value["use_sliding_window"] = json!(false),
        }
        format!("{value:#}\n")
    }

    /// The end tokens as Hugging Face writes them: a number, or a list of several.
    pub(crate) fn eos_json(&self) -> Value {
        match self.eos_token_ids.as_slice() {
            [id] => json!(id),
            ids => json!(ids),
        }
    }
}

fn object(text: &str) -> Result<Fields, String> {
    match serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))? {
        Value::Object(map) => Ok(map),
        _ => Err("not a JSON object".into()),
    }
}

fn architecture(map: &Fields) -> Result<Architecture, String> {
    let known = Architecture::ALL.map(Architecture::model_type).join(", ");
    let name = match map.get("model_type") {
        Some(Value::String(name)) => name,
        _ => return Err(format!("model_type is missing; known are {known}")),
    };
    Architecture::ALL.into_iter().find(|a| a.model_type() == name).ok_or_else(|| {
        let name: String = name.chars().take(60).collect();
        format!("model_type is \"{name}\"; known are {known}")
    })
}

fn refuse_other_arithmetic(map: &Fields) -> Result<(), String> {
    let plain = [
        ("hidden_act", vec![json!("silu"), json!("swish")]),
        ("pretraining_tp", vec![json!(1)]),
        ("partial_rotary_factor", vec![json!(1), json!(1.0)]),
        ("is_encoder_decoder", vec![json!(false)]),
        ("add_cross_attention", vec![json!(false)]),
    ];
    for (field, known) in plain {
        if let Some(value) = map.get(field).filter(|value| !value.is_null() && !known.contains(value)) {
            return Err(format!("{field} is {}, only {} is implemented", short(value), known[0]));
        }
    }
    if map.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err("quantization_config is set: weights are read in f32, f16 and bf16 only".into());
    }
    refuse_short_windows(map)
}

/// A window that no sequence outgrows is full attention.
fn refuse_short_windows(map: &Fields) -> Result<(), String> {
    let mut slides = flag(map, "use_sliding_window")?;
    if let Some(Value::Array(kinds)) = map.get("layer_types") {
        for kind in kinds {
            match kind.as_str() {
                Some("full_attention") => {}
                Some("sliding_attention") => slides = true,
                _ => {
                    return Err(format!(
                        "layer_types has {}, only full attention is implemented",
                        short(kind)
                    ));
                }
            }
        }
    }
    let window = optional_count(map, "sliding_window")?.unwrap_or(4096);
    let longest = count(map, "max_position_embeddings")?;
    if slides && window < longest {
        return Err(format!(
            "sliding_window is {window}, shorter than max_position_embeddings ({longest}): only full attention is implemented"
        ));
    }
    Ok(())
}

/// Where this config keeps its rotary settings besides the top level.
fn rope_fields(map: &Fields) -> impl Iterator<Item = (&'static str, &Fields)> {
    ["rope_parameters", "rope_scaling"]
        .into_iter()
        .filter_map(|key| map.get(key).and_then(Value::as_object).map(|inner| (key, inner)))
}

fn rope_theta(map: &Fields) -> Result<f32, String> {
    let nested = rope_fields(map).map(|(_, inner)| optional_number(inner, "rope_theta"));
    let mut all = nested.chain([optional_number(map, "rope_theta")]);
    let theta = all.find_map(Result::transpose).transpose()?;
    Ok(theta.unwrap_or(10_000.0))
}

fn rope_scaling(map: &Fields) -> Result<Option<RopeScaling>, String> {
    let mut found: Option<RopeScaling> = None;
    for (key, inner) in rope_fields(map) {
        if optional_number(inner, "partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
            return Err(format!("{key} has a partial_rotary_factor, only 1 is implemented"));
        }
        let kind = inner.get("rope_type").or(inner.get("type")).unwrap_or(&Value::Null);
        match kind.as_str() {
            Some("llama3") => {
                let scaling = read_scaling(key, inner)?;
                if found.replace(scaling).is_some_and(|other| other != scaling) {
                    return Err("rope_parameters and rope_scaling contradict each other".into());
                }
            }
            Some("default") => {}
            None if kind.is_null() && !inner.values().any(Value::is_object) => {}
            _ => {
                let kind = short(kind);
                return Err(format!("{key} asks for rope_type {kind}; known are \"default\", \"llama3\""));
            }
        }
    }
    Ok(found)
}

fn read_scaling(key: &str, inner: &Fields) -> Result<RopeScaling, String> {
    let needed = |field: &str| {
        let value = optional_number(inner, field).map_err(|why| format!("{key}.{why}"))?;
        value.ok_or_else(|| format!("{key}.{field} is missing"))
    };
    Ok(RopeScaling {
        factor: needed("factor")?,
        low_freq_factor: needed("low_freq_factor")?,
        high_freq_factor: needed("high_freq_factor")?,
        original_max_position_embeddings: count(inner, "original_max_position_embeddings")
            .map_err(|why| format!("{key}.{why}"))?,
    })
}

fn scaling(scaling: &RopeScaling) -> Value {
    json!({
        "rope_type": "llama3",
        "factor": number(scaling.factor),
        "low_freq_factor": number(scaling.low_freq_factor),
        "high_freq_factor": number(scaling.high_freq_factor),
        "original_max_position_embeddings": scaling.original_max_position_embeddings,
    })
}

/// An f32 as the shortest decimal that means it (1e-6, not 9.999999974752427e-7).
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, |v| json!(v))
}

/// A value as an error shows it: a stranger's file may hold megabytes.
fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn optional_count(map: &Fields, field: &str) -> Result<Option<usize>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_u64() {
            Some(n) if n > 0 && n < 1 << 32 => Ok(Some(n as usize)),
            _ => Err(format!("{field} is {}, must be a positive whole number", short(v))),
        },
    }
}

fn count(map: &Fields, field: &str) -> Result<usize, String> {
    optional_count(map, field)?.ok_or_else(|| format!("{field} is missing"))
}

fn optional_number(map: &Fields, field: &str) -> Result<Option<f32>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(format!("{field} is {}, must be a number", short(v))),
        },
    }
}

/// A switch; off where it is not there, as in all three families.
fn flag(map: &Fields, field: &str) -> Result<bool, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(v) => Err(format!("{field} is {}, must be true or false", short(v))),
    }
}

/// No token id, one, or a list.
fn tokens(map: &Fields, field: &str) -> Result<Vec<u32>, String> {
    let values = match map.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let mut ids = Vec::new();
    for value in values {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| format!("{field} is {}, must be a token id", short(value)))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > super::EOS_TOKENS_MAX {
            return Err(format!("{field} has more than {} ids", super::EOS_TOKENS_MAX));
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<ModelConfig> {
        let llama = ModelConfig { qkv_bias: true, output_bias: true, mlp_bias: true, ..Default::default() };
        let scaling = RopeScaling {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        vec![
            ModelConfig::default(),
            llama.clone(),
            ModelConfig { rope_scaling: Some(scaling), pad_token_id: None, ..ModelConfig::default() },
            ModelConfig { architecture: Architecture::Qwen2, qkv_bias: true, ..ModelConfig::default() },
            ModelConfig {
                architecture: Architecture::Qwen3,
                bos_token_id: None,
                eos_token_ids: vec![5, 7],
                ..ModelConfig::default()
            },
            ModelConfig { architecture: Architecture::Qwen3, mlp_bias: false, ..llama },
        ]
    }

    #[test]
    fn default_shape_has_the_published_size() {
        assert_eq!(ModelConfig::default().parameters(), 314_784);
    }

    #[test]
    fn json_round_trip() {
        for config in families() {
            assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn both_forms_of_rope_settings_are_read() {
        for config in families() {
            let full: Value = serde_json::from_str(&config.to_json()).unwrap();
            for old in [["rope_theta", "rope_scaling"].as_slice(), &["rope_parameters"]] {
                let mut v = full.clone();
                for key in old {
                    v.as_object_mut().unwrap().remove(*key);
                }
                assert_eq!(ModelConfig::from_json(&v.to_string()).unwrap(), config, "without {old:?}");
            }
        }
        let mut v: Value = serde_json::from_str(&families()[2].to_json()).unwrap();
        v.as_object_mut().unwrap().remove("rope_parameters");
        let kind = v["rope_scaling"].as_object_mut().unwrap().remove("rope_type").unwrap();
        v["rope_scaling"]["type"] = kind;
        assert_eq!(ModelConfig::from_json(&v.to_string()).unwrap(), families()[2]);
    }

    #[test]
    fn what_is_not_implemented_is_refused() {
        let cases = [
            ("model_type", json!("qwen3_moe"), "\"qwen3_moe\"; known are llama, qwen2, qwen3"),
            ("model_type", Value::Null, "model_type is missing"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("pretraining_tp", json!(2), "pretraining_tp"),
            ("quantization_config", json!({"bits": 4}), "quantization_config"),
            ("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0}), "rope_type \"yarn\""),
            ("rope_scaling", json!({"type": "linear", "factor": 4.0}), "rope_type \"linear\""),
            ("rope_parameters", json!({"full_attention": {"rope_theta": 1.0}}), "rope_type null"),
            ("rope_parameters", json!({"rope_type": "llama3"}), "rope_parameters.factor is missing"),
            (
                "rope_parameters",
                json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
                       "original_max_position_embeddings": 64}),
                "rising",
            ),
            ("rope_theta", json!("x"), "rope_theta is \"x\""),
            ("num_key_value_heads", json!(3), "does not divide"),
            ("head_dim", json!(23), "even"),
            ("vocab_size", json!(-4), "positive whole number"),
            ("hidden_size", Value::Null, "missing"),
            ("tie_word_embeddings", json!(1), "true or false"),
            ("eos_token_id", json!(104), "beyond vocab_size"),
            ("eos_token_id", Value::Null, "eos_token_id is missing"),
            ("eos_token_id", json!((0..100).collect::<Vec<u32>>()), "more than 64"),
            ("layer_types", json!(["linear_attention"]), "linear_attention"),
            ("use_sliding_window", json!(true), "sliding_window is 64, shorter than"),
        ];
        for (field, value, says) in cases {
            let mut v: Value = serde_json::from_str(&ModelConfig::default().to_json()).unwrap();
            if field.starts_with("rope") {
                v.as_object_mut().unwrap().remove("rope_parameters");
            }
            v["sliding_window"] = json!(64);
            v[field] = value;
            let error = ModelConfig::from_json(&v.to_string()).unwrap_err();
            assert!(error.contains(says), "{field}: {error}");
        }
    }

    #[test]
    fn a_window_that_nothing_outgrows_is_full_attention() {
        let mut v: Value = serde_json::from_str(&families()[3].to_json()).unwrap();
        v["use_sliding_window"] = json!(true);
        v["sliding_window"] = json!(128);
        v["layer_types"] = json!(["full_attention", "sliding_attention", "full_attention"]);
        assert_eq!(ModelConfig::from_json(&v.to_string()).unwrap(), families()[3]);
    }

    #[test]
    fn a_family_has_only_its_biases() {
        let config = ModelConfig { qkv_bias: true, ..ModelConfig::default() };
        assert!(config.check().unwrap_err().contains("llama has no models with"));
        let config = ModelConfig { architecture: Architecture::Qwen2, ..ModelConfig::default() };
        assert!(config.check().unwrap_err().contains("qwen2 has no models with"));
    }

    #[test]
    fn end_tokens_of_both_files_count() {
        let mut config = ModelConfig::default();
        config.add_generation(r#"{"eos_token_id": [7, 5, 6]}"#).unwrap();
        assert_eq!(config.eos_token_ids, [5, 7, 6]);
        assert!(config.add_generation(r#"{"eos_token_id": 104}"#).unwrap_err().contains("beyond"));
        config.add_generation("{}").unwrap();
    }
}
