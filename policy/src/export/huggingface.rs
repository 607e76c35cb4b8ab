//! A model directory as `transformers` writes it.

use std::path::Path;

use serde_json::{Value, json};

use super::{CARD, ExportCard};
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::load::{WeightFiles, read_if_present};
use crate::policy::Policy;
use crate::store::{Precision, write, write_weights};

pub(crate) const WEIGHTS: &str = "model.safetensors";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const GENERATION: &str = "generation_config.json";
/// What training does not change and a base may have.
const KEPT: [&str; 4] = [TOKENIZER_CONFIG, "special_tokens_map.json", CHAT_TEMPLATE, GENERATION];
/// Every file that such a directory may have.
pub(super) const FILES: [&str; 8] =
    ["config.json", WEIGHTS, "tokenizer.json", CARD, KEPT[0], KEPT[1], KEPT[2], KEPT[3]];

/// Files of a model that training does not change, taken over as they are: settings of the tokenizer, the chat
/// template, settings of generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseFiles {
    texts: Vec<(&'static str, String)>,
    chat_template: Option<String>,
}

impl BaseFiles {
    /// Reads those that a model directory has.
    ///
    /// # Errors
    /// A file that cannot be read, is malformed or too long.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut texts = Vec::new();
        for name in KEPT {
            let path = dir.join(name);
            let Some(text) = read_if_present(&path)? else { continue };
            if name.ends_with(".json") {
                let object: std::result::Result<serde_json::Map<String, Value>, _> =
                    serde_json::from_str(&text);
                object.map_err(|error| {
                    PolicyError::damaged(&path, error.to_string(), "copy it from the model again")
                })?;
            }
            texts.push((name, text));
        }
        let chat_template = ChatTemplate::load(dir)?.map(|template| template.source().to_owned());
        Ok(Self { texts, chat_template })
    }

    /// Jinja source of the chat template, if the model chats.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Spelling of a special token (`eos_token`, `pad_token`) in the tokenizer's settings.
    pub(super) fn special_token(&self, name: &str) -> Option<String> {
        let (_, text) = self.texts.iter().find(|(name, _)| *name == TOKENIZER_CONFIG)?;
        let settings: Value = serde_json::from_str(text).ok()?;
        // Older files describe the token, newer ones only spell it.
        let token = &settings[name];
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    }

    fn has(&self, name: &str) -> bool {
        self.texts.iter().any(|(kept, _)| *kept == name)
    }
}

/// Names and contents of everything but the weights.
pub(super) fn texts(policy: &Policy, card: &ExportCard, precision: Precision) -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("config.json", config_text(policy, precision)),
        ("tokenizer.json", policy.tokenizer_json().to_owned()),
        (CARD, card.readme.clone()),
    ];
    let kept = &card.base_files;
    if !kept.has(TOKENIZER_CONFIG) {
        texts.extend(tokenizer_texts(policy).into_iter().filter(|(name, _)| !kept.has(name)));
    }
    if !kept.has(GENERATION) {
        texts.push((GENERATION, generation_text(policy)));
    }
    if let (Some(template), None) = (policy.chat(), kept.chat_template()) {
        texts.push((CHAT_TEMPLATE, template.source().to_owned()));
    }
    texts.extend(kept.texts.iter().cloned());
    texts
}

fn config_text(policy: &Policy, precision: Precision) -> String {
    let text = policy.config().to_json();
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) => {
            value["torch_dtype"] = precision.torch_name().into();
            format!("{value:#}\n")
        }
        Err(_) => text,
    }
}

fn tokenizer_texts(policy: &Policy) -> [(&'static str, String); 2] {
    let config = policy.config();
    let spelling = |id: Option<u32>| id.and_then(|id| policy.spelling(id));
    let tokens = json!({
        "bos_token": spelling(config.bos_token_id),
        "eos_token": spelling(config.eos_token_ids.first().copied()),
        "pad_token": spelling(config.pad_token_id),
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": false,
        "padding_side": "left",
        "bos_token": tokens["bos_token"], "eos_token": tokens["eos_token"], "pad_token": tokens["pad_token"],
    });
    [(TOKENIZER_CONFIG, format!("{settings:#}\n")), ("special_tokens_map.json", format!("{tokens:#}\n"))]
}

fn generation_text(policy: &Policy) -> String {
    let config = policy.config();
    let generation = json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_json(),
        "pad_token_id": config.pad_token_id,
    });
    format!("{generation:#}\n")
}

/// Writes all files of a policy without adapters.
pub(crate) fn fill(dir: &Path, policy: &Policy, card: &ExportCard, precision: Precision) -> Result<()> {
    for (name, text) in texts(policy, card, precision) {
        write(&dir.join(name), text.as_bytes())?;
    }
    write_weights(&dir.join(WEIGHTS), policy.layout().parameters(), policy.weights(), precision)
}

/// Whether a directory holds this policy, as far as the precision allows.
pub(super) fn reads_back(dir: &Path, policy: &Policy, precision: Precision) -> Result<bool> {
    let weights = WeightFiles::open(dir)?;
    Ok(weights.holds(policy.layout().parameters(), policy.weights(), precision)?
        && ModelConfig::load(dir)? == *policy.config())
}
