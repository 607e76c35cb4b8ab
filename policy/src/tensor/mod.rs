//! The policy on candle tensors: the oracle of the CPU engine's tests, and the path for GPUs.
//!
//! Everything here is candle's own operations and runs on any of its devices. Reading order: [`Device`],
//! `model` (the transformer), `decode` (sampling), `train` (a step). Weights come from a [`Policy`] and go back
//! to it by name.

mod batch;
mod decode;
mod device;
mod linear;
mod model;
mod train;

use std::collections::HashMap;

use candle_core::{DType, Result as TensorResult, Tensor, Var};

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::lora::{Adapter, LoraConfig};
use crate::policy::Policy;
use crate::rollout::Sampling;
use crate::weights::Parameter;
use batch::Limits;
use linear::{Linear, LowRank};
use model::{Source, TensorModel};

pub use decode::Sampled;
pub use device::{Device, Precision};
pub use train::TensorTrainer;

/// Tokens of one pass without gradients, padding included.
const PASS_TOKENS_MAX: usize = 1 << 14;

/// A policy's weights on a device. What learns there is what learns in the policy: its adapter if it has one,
/// else all weights.
pub struct TensorPolicy {
    precision: Precision,
    /// Settings of the adapter that learns.
    lora: Option<LoraConfig>,
    /// What learns, always f32.
    variables: Vec<(Parameter, Var)>,
    model: TensorModel,
}

/// The tensors that a model is assembled from.
struct Tensors {
    named: HashMap<String, Tensor>,
    scale: f32,
}

impl Tensors {
    fn low_rank(&self, name: &str) -> Option<LowRank> {
        let factor =
            |letter| self.named.get(&format!("base_model.model.{name}.lora_{letter}.weight")).cloned();
        Some(LowRank { a: factor('A')?, b: factor('B')?, scale: f64::from(self.scale) })
    }
}

impl Source for Tensors {
    fn tensor(&self, name: &str) -> TensorResult<Tensor> {
        let found = self.named.get(name).cloned();
        found.ok_or_else(|| candle_core::Error::CannotFindTensor { path: name.to_string() })
    }

    fn linear(&self, name: &str, bias: bool) -> TensorResult<Linear> {
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"))).transpose()?;
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(Linear { weight, bias, adapter: self.low_rank(name) })
    }
}

impl TensorPolicy {
    /// Copies a policy to a device.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a device that this binary or machine lacks, or a precision that the device
    /// lacks; [`PolicyError::Tensor`], as when the device's memory is too small.
    pub fn new(policy: &Policy, device: Device, precision: Precision) -> Result<Self> {
        if device == Device::Cpu && precision == Precision::Bf16 {
            let hint = "set precision f32, or use a GPU";
            return Err(PolicyError::input("bf16 tensors on the device cpu", hint));
        }
        Ok(Self::copied(policy, &device.open()?, precision)?)
    }

    fn copied(policy: &Policy, device: &candle_core::Device, precision: Precision) -> TensorResult<Self> {
        let mut named = HashMap::new();
        if policy.adapter().is_some() {
            for parameter in policy.layout().parameters() {
                let values = policy.layout().values(policy.weights(), parameter);
                let frozen = Tensor::from_vec(values, parameter.shape.as_slice(), device)?;
                named.insert(parameter.name.clone(), frozen.to_dtype(precision.dtype())?);
            }
        }
        let mut variables = Vec::new();
        for parameter in policy.trainable() {
            let values = policy.trainable_values(parameter);
            let variable = Var::from_vec(values, parameter.shape.as_slice(), device)?;
            named.insert(parameter.name.clone(), variable.as_tensor().clone());
            variables.push((parameter.clone(), variable));
        }
        let lora = policy.adapter().map(|adapter| adapter.config().clone());
        let tensors = Tensors { named, scale: lora.as_ref().map_or(1.0, LoraConfig::scale) };
        let model = TensorModel::new(policy.config(), precision.dtype(), device, &tensors)?;
        Ok(Self { precision, lora, variables, model })
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What learns, by name, with its variable.
    pub fn variables(&self) -> &[(Parameter, Var)] {
        &self.variables
    }

    /// Length of what learns, as the policy stores it.
    fn values_len(&self) -> usize {
        self.variables.last().map_or(0, |(last, _)| last.stored().end)
    }

    /// One tensor for each that learns, as the policy stores them; 0 where there is none.
    fn stored<'t>(&self, tensors: impl Iterator<Item = Option<&'t Tensor>>) -> TensorResult<Vec<f32>> {
        let mut all = vec![0.0; self.values_len()];
        for ((parameter, _), tensor) in self.variables.iter().zip(tensors) {
            if let Some(tensor) = tensor {
                parameter.write_rows(&mut all, 0, &tensor.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(all)
    }

    /// Another policy on the same device in the same numbers, which does not learn.
    fn beside(&self, other: &Policy) -> TensorResult<TensorModel> {
        Self::copied(other, self.model.device(), self.precision)?.model.detached()
    }

    fn model(&self) -> &TensorModel {
        &self.model
    }

    /// Logits of every position of a sequence, with their graph: `[T, V]`.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for ids that the model does not read; [`PolicyError::Tensor`].
    pub fn logits(&self, ids: &[u32]) -> Result<Tensor> {
        self.check_sequences(&[(ids, &[])])?;
        let ids = Tensor::new(ids, self.model.device())?.unsqueeze(0)?;
        Ok(self.model.logits(&self.model.hidden(&ids)?.squeeze(0)?)?)
    }

    /// Samples `group` completions of each prompt, as [`Policy::rollout`] does: `seed` decides everything, and
    /// a completion depends on its prompt's position and its own position in the group only. Rounding differs
    /// from the CPU engine's, so that a token may differ where two running sums of probabilities do.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for settings out of range, an empty group, or prompts that the model does not
    /// read; [`PolicyError::Tensor`].
    pub fn rollout_ids(
        &self,
        prompts: &[Vec<u32>],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Vec<Sampled>>> {
        sampling.check_group(group)?;
        let pairs: Vec<(&[u32], &[u32])> =
            prompts.iter().map(|prompt| (prompt.as_slice(), &[][..])).collect();
        self.check_sequences(&pairs)?;
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        let sampling = sampling.within(self.config(), shortest);
        let ends = &self.config().eos_token_ids;
        let request = decode::Request { prompts, group, sampling, ends, seed };
        let limits = Limits { tokens_max: PASS_TOKENS_MAX };
        Ok(decode::rollout(&self.model.detached()?, &request, limits)?)
    }

    /// Log-probabilities of the completion tokens of (prompt, completion) pairs at a temperature above 0.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for empty or too long sequences, or ids beyond the vocabulary;
    /// [`PolicyError::Tensor`].
    pub fn logprobs(&self, sequences: &[(&[u32], &[u32])], temperature: f32) -> Result<Vec<Vec<f32>>> {
        self.scored(self.model.detached()?, sequences, temperature)
    }

    /// [`Self::logprobs`] with the adapter off: the reference that a KL term compares with.
    ///
    /// # Errors
    /// As [`Self::logprobs`].
    pub fn base_logprobs(&self, sequences: &[(&[u32], &[u32])], temperature: f32) -> Result<Vec<Vec<f32>>> {
        self.scored(self.model.detached()?.without_adapter(), sequences, temperature)
    }

    fn scored(
        &self,
        model: TensorModel,
        sequences: &[(&[u32], &[u32])],
        temperature: f32,
    ) -> Result<Vec<Vec<f32>>> {
        self.check_sequences(sequences)?;
        Ok(train::logprobs(&model, sequences, temperature, Limits { tokens_max: PASS_TOKENS_MAX })?)
    }

    /// Copies what learns from a policy again, as after weights came from elsewhere. What an adapter was put on
    /// stays.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a policy of another shape; [`PolicyError::Tensor`].
    pub fn read(&mut self, policy: &Policy) -> Result<()> {
        self.check_shape(policy)?;
        for (parameter, variable) in &self.variables {
            let values = policy.trainable_values(parameter);
            variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
        }
        Ok(())
    }

    /// Copies what learns back to a policy; counts as a new version.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a policy of another shape; [`PolicyError::Tensor`]; the policy is then as it
    /// was.
    pub fn write_back(&self, policy: &mut Policy) -> Result<()> {
        self.check_shape(policy)?;
        let learnt = self.stored(self.variables.iter().map(|(_, variable)| Some(variable.as_tensor())))?;
        policy.trainable_mut().1.copy_from_slice(&learnt);
        Ok(())
    }

    fn check_shape(&self, policy: &Policy) -> Result<()> {
        if policy.config() == self.config() && policy.adapter().map(Adapter::config) == self.lora.as_ref() {
            return Ok(());
        }
        Err(PolicyError::input(
            "the policy has another shape, or another adapter, than its tensors",
            "use the policy they came from",
        ))
    }

    fn check_trains(&self) -> Result<()> {
        if self.precision.dtype() == DType::F16 {
            return Err(PolicyError::input("gradients vanish in f16", "train with f32 or bf16"));
        }
        Ok(())
    }

    /// Prompts must not be empty, completions may.
    fn check_sequences(&self, sequences: &[(&[u32], &[u32])]) -> Result<()> {
        let config = self.config();
        for (n, (prompt, completion)) in sequences.iter().enumerate() {
            let length = prompt.len() + completion.len();
            let known = config.knows(prompt) && config.knows(completion);
            if prompt.is_empty() || length > config.context() || !known {
                let what = format!(
                    "sequence {n}: no prompt, an id beyond {}, or {length} tokens where {} fit",
                    config.vocab_size,
                    config.context()
                );
                return Err(PolicyError::input(
                    what,
                    "encode it with this model's tokenizer, and shorten it",
                ));
            }
        }
        Ok(())
    }
}
