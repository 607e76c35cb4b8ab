//! What another machine needs, besides the model that it has, to compute as a policy does.

use std::path::Path;

use crate::error::{PolicyError, Result};
use crate::load::WeightFiles;
use crate::lora::LoraConfig;
use crate::policy::{Policy, SamplingWeights};
use crate::store::{self, Precision};

/// A prompt by which two ways of putting prompts to a model are told apart.
const PROBE: &str = "1+1";

impl SamplingWeights {
    /// Name of the CPU's arithmetic with them: equal names, equal tokens.
    pub fn numerics(self) -> &'static str {
        match self {
            Self::F32 => "cpu-f32/2",
            Self::Bf16 => "cpu-bf16/2",
        }
    }
}

impl Policy {
    /// Precision of the weights that sampling reads.
    pub fn sampling_weights(&self) -> SamplingWeights {
        if self.samples_in_bf16() { SamplingWeights::Bf16 } else { SamplingWeights::F32 }
    }

    /// What training changes, parameter by parameter, row-major: the adapters where there are any, else the weights.
    pub fn learnt_values(&self) -> Vec<f32> {
        self.trainable().iter().flat_map(|parameter| self.trainable_values(parameter)).collect()
    }

    /// The policy with other values of what training changes.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for too many or too few values, or one that is not finite.
    pub fn with_learnt_values(mut self, values: &[f32]) -> Result<Self> {
        let parameters = self.trainable().to_vec();
        let count: usize = parameters.iter().map(|parameter| parameter.len()).sum();
        if count != values.len() || values.iter().any(|value| !value.is_finite()) {
            let what = format!("{} values where {count} finite ones fit", values.len());
            return Err(PolicyError::input(what, "take the values of a policy of this shape"));
        }
        let mut rest = values;
        let mut parts = Vec::with_capacity(parameters.len());
        for parameter in &parameters {
            let (now, later) = rest.split_at(parameter.len());
            parts.push((parameter, now));
            rest = later;
        }
        if let Some(adapter) = self.adapter_mut() {
            parts.iter().for_each(|(parameter, values)| adapter.set_values(parameter, values));
            return Ok(self);
        }
        let layout = self.layout().clone();
        let weights = self.weights_mut();
        parts.iter().for_each(|(parameter, values)| layout.set_values(weights, parameter, values));
        Ok(self)
    }

    /// The policy with adapters of these values instead of its own.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for settings out of range, or values that do not fit them.
    pub fn with_adapter_values(self, config: LoraConfig, values: &[f32]) -> Result<Self> {
        // Values grow with the rank alone, so a declared rank is checked before memory is taken for it.
        let rank = config.rank;
        let smallest = self.with_adapter(LoraConfig { rank: 1, ..config.clone() }, 0)?;
        let each = smallest
            .adapter()
            .map_or(0, |adapter| adapter.parameters().iter().map(|parameter| parameter.len()).sum());
        if each.checked_mul(rank) != Some(values.len()) {
            let what =
                format!("{} values where an adapter of rank {rank} has {each} times as many", values.len());
            return Err(PolicyError::input(what, "take the values of an adapter of this shape"));
        }
        smallest.with_adapter(config, 0)?.with_learnt_values(values)
    }

    /// Bytes of what training changes, as f32.
    pub fn learnt_bytes(&self) -> u64 {
        self.trainable().iter().map(|parameter| 4 * parameter.len() as u64).sum()
    }

    /// What stands before [`Self::learnt_values`] in a weight file that holds just those.
    pub fn learnt_head(&self) -> Vec<u8> {
        store::head(self.trainable(), Precision::F32)
    }

    /// As [`Self::with_learnt_values`], from a weight file; they are in memory once.
    ///
    /// # Errors
    /// The file is none of this policy's shape, or has values that are not finite.
    pub fn with_learnt_from(mut self, path: &Path) -> Result<Self> {
        let version = self.version();
        let files = WeightFiles::open_one(path)?;
        let (parameters, values) = self.trainable_mut();
        files.read_over(&parameters, values)?;
        self.set_version(version);
        Ok(self)
    }

    /// Hash over how a prompt is put to the model: template, system prompt, tokens.
    ///
    /// # Errors
    /// The template refuses a question, or there is no tokenizer.
    pub fn prompting_hash(&self) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 prompting");
        for id in self.prompt_ids(PROBE)? {
            hasher.update(&id.to_le_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }
}
