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
use crate::policy::Policy;
use crate::rollout::Sampling;
use crate::weights::{Layout, Parameter};
use batch::Limits;
use linear::{Linear, LowRank};
use model::{Source, TensorModel};

pub use decode::Sampled;
pub use device::{Device, Precision};
pub use train::{Moments, SequenceLoss, StepOptions, TensorTrainer};

/// Tokens of one pass without gradients, padding included.
const PASS_TOKENS_MAX: usize = 1 << 14;

/// A LoRA adapter in PEFT's names: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` `[rank, in]`
/// and `….lora_B.weight` `[out, rank]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankAdapter {
    /// What B · A is multiplied by: alpha / rank.
    pub scale: f32,
    /// Its matrices and their values (row-major).
    pub parameters: Vec<(Parameter, Vec<f32>)>,
}

/// A policy's weights on a device.
pub struct TensorPolicy {
    layout: Layout,
    precision: Precision,
    /// What learns, always f32: all weights, or an adapter's.
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
    /// Copies a policy's weights to a device; all of them learn.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a device that this binary or machine lacks, or a precision that the device
    /// lacks; [`PolicyError::Tensor`], as when the device's memory is too small.
    pub fn new(policy: &Policy, device: Device, precision: Precision) -> Result<Self> {
        let target = open(device, precision)?;
        let mut variables = Vec::new();
        for parameter in policy.layout().parameters() {
            let values = policy.layout().values(policy.weights(), parameter);
            let variable = Var::from_vec(values, parameter.shape.as_slice(), &target)?;
            variables.push((parameter.clone(), variable));
        }
        Self::assemble(policy, &target, precision, variables, HashMap::new(), 1.0)
    }

    /// Copies a policy's weights to a device, where they stay as they are, and an adapter, which learns.
    ///
    /// # Errors
    /// As [`Self::new`], and [`PolicyError::Input`] for an adapter that does not fit the model.
    pub fn with_adapter(
        policy: &Policy,
        adapter: &LowRankAdapter,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let target = open(device, precision)?;
        check_adapter(policy.layout(), adapter)?;
        let mut frozen = HashMap::new();
        for parameter in policy.layout().parameters() {
            let values = policy.layout().values(policy.weights(), parameter);
            let tensor = Tensor::from_vec(values, parameter.shape.as_slice(), &target)?;
            frozen.insert(parameter.name.clone(), tensor.to_dtype(precision.dtype())?);
        }
        let variable = |(parameter, values): &(Parameter, Vec<f32>)| {
            let variable = Var::from_slice(values, parameter.shape.as_slice(), &target)?;
            Ok((parameter.clone(), variable))
        };
        let variables = adapter.parameters.iter().map(variable).collect::<TensorResult<_>>()?;
        Self::assemble(policy, &target, precision, variables, frozen, adapter.scale)
    }

    fn assemble(
        policy: &Policy,
        device: &candle_core::Device,
        precision: Precision,
        variables: Vec<(Parameter, Var)>,
        mut named: HashMap<String, Tensor>,
        scale: f32,
    ) -> Result<Self> {
        named.extend(variables.iter().map(|(p, variable)| (p.name.clone(), variable.as_tensor().clone())));
        let tensors = Tensors { named, scale };
        let model = TensorModel::new(policy.config(), precision.dtype(), device, &tensors)?;
        Ok(Self { layout: policy.layout().clone(), precision, variables, model })
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What learns, by name, with its variable.
    pub fn variables(&self) -> &[(Parameter, Var)] {
        &self.variables
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
    /// [`PolicyError::Input`] for an empty request, a temperature outside 0 to 100, or prompts that the model
    /// does not read; [`PolicyError::Tensor`].
    pub fn rollout_ids(
        &self,
        prompts: &[Vec<u32>],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Vec<Sampled>>> {
        if group == 0 || sampling.new_tokens_max == 0 || !(0.0..=100.0).contains(&sampling.temperature) {
            return Err(PolicyError::input(
                "an empty group, an empty completion or a temperature outside 0 to 100",
                "ask for at least one completion of one token",
            ));
        }
        let pairs: Vec<(&[u32], &[u32])> =
            prompts.iter().map(|prompt| (prompt.as_slice(), &[][..])).collect();
        self.check_sequences(&pairs)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let room = self.config().max_position_embeddings.saturating_sub(longest);
        let sampling = Sampling { new_tokens_max: sampling.new_tokens_max.min(room), ..*sampling };
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

    /// Copies what learns from a policy again, as after weights came from elsewhere. An adapter stays.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a policy of another shape; [`PolicyError::Tensor`].
    pub fn read(&mut self, policy: &Policy) -> Result<()> {
        self.check_shape(policy)?;
        for (parameter, variable) in self.trained_weights() {
            let values = policy.layout().values(policy.weights(), parameter);
            variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
        }
        Ok(())
    }

    /// Copies trained weights back to a policy. With an adapter there are none: ask for
    /// [`Self::adapter_values`].
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a policy of another shape; [`PolicyError::Tensor`]; the policy is then as it
    /// was.
    pub fn write_back(&self, policy: &mut Policy) -> Result<()> {
        self.check_shape(policy)?;
        let mut trained = Vec::new();
        for (parameter, variable) in self.trained_weights() {
            trained.push((parameter, values_of(variable)?));
        }
        if trained.is_empty() {
            return Ok(());
        }
        let weights = policy.weights_mut();
        for (parameter, values) in trained {
            self.layout.set_values(weights, parameter, &values);
        }
        Ok(())
    }

    /// The adapter's matrices as trained so far; empty without an adapter.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn adapter_values(&self) -> Result<Vec<(Parameter, Vec<f32>)>> {
        let adapter = self.variables.iter().filter(|(parameter, _)| !self.is_weight(parameter));
        adapter.map(|(parameter, variable)| Ok((parameter.clone(), values_of(variable)?))).collect()
    }

    fn trained_weights(&self) -> impl Iterator<Item = &(Parameter, Var)> {
        self.variables.iter().filter(|(parameter, _)| self.is_weight(parameter))
    }

    fn is_weight(&self, parameter: &Parameter) -> bool {
        self.layout.parameters().contains(parameter)
    }

    fn check_shape(&self, policy: &Policy) -> Result<()> {
        if policy.layout().parameters() == self.layout.parameters() {
            return Ok(());
        }
        Err(PolicyError::input(
            "the policy has another shape than its tensors",
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
            let known = prompt.iter().chain(*completion).all(|id| (*id as usize) < config.vocab_size);
            if prompt.is_empty() || length > config.max_position_embeddings || !known {
                let what = format!(
                    "sequence {n}: no prompt, an id beyond {}, or {length} tokens where {} fit",
                    config.vocab_size, config.max_position_embeddings
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

fn values_of(variable: &Var) -> TensorResult<Vec<f32>> {
    variable.flatten_all()?.to_vec1()
}

/// Opens a device that can compute in these numbers.
fn open(device: Device, precision: Precision) -> Result<candle_core::Device> {
    if device == Device::Cpu && precision == Precision::Bf16 {
        return Err(PolicyError::input("bf16 tensors on the device cpu", "set precision f32, or use a GPU"));
    }
    device.open()
}

/// Whether every matrix of an adapter belongs to a matrix of the model and has its partner.
fn check_adapter(layout: &Layout, adapter: &LowRankAdapter) -> Result<()> {
    let hint = "use the adapter that was made for this model";
    let shape = |name: &str| {
        let found = adapter.parameters.iter().find(|(parameter, _)| parameter.name == name);
        found.map(|(parameter, _)| parameter.shape.as_slice())
    };
    for (parameter, values) in &adapter.parameters {
        let name = parameter.name.strip_prefix("base_model.model.");
        let name = name.and_then(|n| n.strip_suffix(".lora_A.weight").or(n.strip_suffix(".lora_B.weight")));
        let target = name.and_then(|name| {
            let wanted = format!("{name}.weight");
            let target = layout.parameters().iter().find(|target| target.name == wanted)?;
            let factor = |letter| shape(&format!("base_model.model.{name}.lora_{letter}.weight"));
            Some((target.shape.as_slice(), factor('A')?, factor('B')?))
        });
        let fits = match target {
            Some((&[out, width], &[rank, a], &[b, rank_b])) => a == width && b == out && rank == rank_b,
            _ => false,
        };
        if !fits || values.len() != parameter.len() {
            let what = format!("{} {:?} does not fit this model", parameter.name, parameter.shape);
            return Err(PolicyError::input(what, hint));
        }
    }
    Ok(())
}
