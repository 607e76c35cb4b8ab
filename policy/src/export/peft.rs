//! A LoRA adapter as PEFT stores it: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CARD, ExportCard};
use crate::error::{PolicyError, Result};
use crate::load::{AGAIN, CONFIG_BYTES_MAX, WeightFiles, read_text};
use crate::lora::{Adapter, LoraConfig};
use crate::policy::Policy;
use crate::store::{Precision, write, write_weights};

const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// Every file that such a directory may have.
pub(super) const FILES: [&str; 3] = [CONFIG, WEIGHTS, CARD];
/// Settings of PEFT that change what an adapter computes or covers; read only where they are off.
const OTHER_FORMS: [&str; 15] = [
    "alpha_pattern",
    "alora_invocation_tokens",
    "arrow_config",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
];

impl Policy {
    /// The policy with the adapter of a PEFT directory, in place of any that it has.
    ///
    /// # Errors
    /// A file is missing or damaged, a form of adapter that is not LoRA on whole layers, or one that does not
    /// fit this model.
    pub fn with_adapter_from(self, dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let config = read_config(&read_text(&path, CONFIG_BYTES_MAX)?)
            .map_err(|why| PolicyError::damaged(&path, why, AGAIN))?;
        let mut adapter = Adapter::new(self.config(), config, 0)?;
        adapter.weights = WeightFiles::open_one(&dir.join(WEIGHTS))?.read(adapter.parameters())?;
        Ok(self.with_adapter_in_place(adapter))
    }
}

fn read_config(text: &str) -> std::result::Result<LoraConfig, String> {
    let map: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let field = |name: &str| map.get(name).unwrap_or(&Value::Null);
    if field("peft_type") != "LORA" {
        return Err(format!("peft_type is {}, only \"LORA\" is read", short(field("peft_type"))));
    }
    if !(field("bias").is_null() || field("bias") == "none") {
        return Err(format!("bias is {}, only \"none\" is read", short(field("bias"))));
    }
    if let Some(name) = OTHER_FORMS.iter().find(|name| !is_off(field(name))) {
        return Err(format!("{name} is {}, adapters are read without it", short(field(name))));
    }
    let rank = field("r").as_u64().and_then(|rank| usize::try_from(rank).ok());
    let alpha = field("lora_alpha").as_f64().map(|alpha| alpha as f32);
    let targets = field("target_modules").as_array().map(|names| {
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    });
    let config = LoraConfig {
        rank: rank.ok_or_else(|| format!("r is {}, must be a number", short(field("r"))))?,
        alpha: alpha
            .ok_or_else(|| format!("lora_alpha is {}, must be a number", short(field("lora_alpha"))))?,
        targets: targets.flatten().ok_or_else(|| {
            format!("target_modules is {}, must be a list of names", short(field("target_modules")))
        })?,
    };
    config.check().map(|()| config)
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value as an error shows it: a stranger's file may hold megabytes.
fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// Names and contents of everything but the weights.
pub(super) fn texts(adapter: &Adapter, card: &ExportCard) -> Vec<(&'static str, String)> {
    let config = adapter.config();
    // As short as the number allows: f32 has no exact 0.1.
    let alpha = config.alpha.to_string().parse::<f64>().unwrap_or_default();
    let value = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": (!card.base.is_empty()).then_some(&card.base),
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": config.targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "use_dora": false,
        "modules_to_save": null,
        "inference_mode": true,
    });
    vec![(CONFIG, format!("{value:#}\n")), (CARD, card.readme.clone())]
}

/// Writes all files of an adapter.
pub(crate) fn fill(dir: &Path, adapter: &Adapter, card: &ExportCard) -> Result<()> {
    for (name, text) in texts(adapter, card) {
        write(&dir.join(name), text.as_bytes())?;
    }
    write_weights(&dir.join(WEIGHTS), adapter.parameters(), &adapter.weights, Precision::F32)
}

/// Whether a directory holds this adapter.
pub(super) fn reads_back(dir: &Path, adapter: &Adapter) -> Result<bool> {
    let weights = WeightFiles::open_one(&dir.join(WEIGHTS))?;
    let config = read_config(&read_text(&dir.join(CONFIG), CONFIG_BYTES_MAX)?);
    Ok(weights.holds(adapter.parameters(), &adapter.weights, Precision::F32)?
        && config.as_ref() == Ok(adapter.config()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(field: &str, value: Value) -> std::result::Result<LoraConfig, String> {
        let mut config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "q_proj"],
            "bias": "none", "rank_pattern": {}, "use_dora": false, "lora_dropout": 0.05, "revision": null });
        config[field] = value;
        read_config(&config.to_string())
    }

    #[test]
    fn pefts_own_file_is_read() {
        let targets = ["v_proj".to_owned(), "q_proj".to_owned()].into();
        assert_eq!(with("task_type", "CAUSAL_LM".into()), Ok(LoraConfig { rank: 4, alpha: 8.0, targets }));
    }

    #[test]
    fn other_forms_are_refused_by_name() {
        for (field, value) in [
            ("peft_type", json!("IA3")),
            ("bias", json!("all")),
            ("use_dora", json!(true)),
            ("rank_pattern", json!({ "q_proj": 8 })),
            ("layers_to_transform", json!([0])),
            ("modules_to_save", json!(["lm_head"])),
            ("r", json!(-4)),
            ("lora_alpha", json!("8")),
            ("target_modules", json!("all-linear")),
            ("target_modules", json!([1])),
        ] {
            let error = with(field, value).unwrap_err();
            assert!(error.starts_with(field), "{field}: {error}");
        }
        assert!(with("r", json!(1_000_000)).unwrap_err().contains("rank"), "bounded");
        assert!(with("target_modules", json!(["c_attn"])).unwrap_err().contains("c_attn"));
        assert!(read_config("[]").unwrap_err().contains("not a JSON object"));
    }
}
