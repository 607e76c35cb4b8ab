//! The shape of a model.
//!
//! Llama, Qwen2 and Qwen3 share one decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU. They
//! differ in biases and in normalised queries and keys. [`json`] reads and writes Hugging Face's files.

mod json;

use serde::{Deserialize, Serialize};

/// Tokens that may end a completion.
const EOS_TOKENS_MAX: usize = 64;

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

impl Architecture {
    /// Every family, in the order in which errors list them.
    pub(crate) const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// The family's name in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class that `transformers` makes of it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
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

    /// Whether all ids are in its vocabulary.
    pub(crate) fn knows(&self, ids: &[u32]) -> bool {
        ids.iter().all(|id| (*id as usize) < self.vocab_size)
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

    /// Says whether the numbers fit together and stay within what one machine can hold.
    ///
    /// # Errors
    /// A sentence naming the first field that does not fit.
    pub fn check(&self) -> Result<(), String> {
        self.check_without_text()?;
        match self.eos_token_ids.is_empty() {
            true => Err("eos_token_id is missing".into()),
            false => Ok(()),
        }
    }

    /// As [`Self::check`], for a model that computes on ids only: it may have no end token.
    pub(crate) fn check_without_text(&self) -> Result<(), String> {
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
        self.check_rope_scaling()?;
        self.check_biases()?;
        self.check_tokens()
    }

    fn check_rope_scaling(&self) -> Result<(), String> {
        let Some(scaling) = &self.rope_scaling else { return Ok(()) };
        let RopeScaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = *scaling;
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(format!("the factor of the rope scaling is {factor}, must be at least 1"));
        }
        if !(low.is_finite() && high.is_finite() && 0.0 < low && low < high) {
            return Err(format!(
                "low_freq_factor {low} and high_freq_factor {high} of the rope scaling must be positive and rising"
            ));
        }
        let original = scaling.original_max_position_embeddings;
        if original == 0 || original > 1 << 20 {
            return Err(format!("original_max_position_embeddings is {original}, must be 1..={}", 1 << 20));
        }
        Ok(())
    }

    /// A `config.json` can only say what its family has.
    fn check_biases(&self) -> Result<(), String> {
        let biases = (self.qkv_bias, self.output_bias, self.mlp_bias);
        let possible = match self.architecture {
            Architecture::Llama => self.qkv_bias == self.output_bias,
            Architecture::Qwen2 => biases == (true, false, false),
            Architecture::Qwen3 => self.qkv_bias == self.output_bias && !self.mlp_bias,
        };
        possible.then_some(()).ok_or_else(|| {
            let name = self.architecture.model_type();
            format!("{name} has no models with (qkv_bias, output_bias, mlp_bias) = {biases:?}")
        })
    }

    fn check_tokens(&self) -> Result<(), String> {
        if self.eos_token_ids.len() > EOS_TOKENS_MAX {
            return Err(format!("eos_token_id has more than {EOS_TOKENS_MAX} ids"));
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
}
