//! The model a second time, with candle's automatic differentiation: the oracle of the tests.

use candle_core::{D, Tensor};

use crate::error::{PolicyError, Result};
use crate::policy::Policy;
use crate::tensor::{Device, Precision, TensorPolicy};

/// A policy's parameters as candle variables.
pub struct Reference {
    tensors: TensorPolicy,
}

impl Reference {
    /// Copies a policy's weights.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn new(policy: &Policy) -> Result<Self> {
        Ok(Self { tensors: TensorPolicy::new(policy, Device::Cpu, Precision::F32)? })
    }

    /// Logits of every position: `[T, V]`.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn logits(&self, ids: &[u32]) -> Result<Tensor> {
        self.tensors.logits(ids)
    }

    /// −log-probability of `completion` after `prompt`, summed over tokens.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn loss(&self, prompt: &[u32], completion: &[u32]) -> Result<Tensor> {
        let ids = [prompt, completion].concat();
        let logits = self.logits(&ids[..ids.len() - 1])?;
        let rows = logits.narrow(0, prompt.len() - 1, completion.len())?;
        let logprobs = candle_nn::ops::log_softmax(&rows, D::Minus1)?;
        let targets = Tensor::new(completion, logprobs.device())?.unsqueeze(1)?;
        Ok(logprobs.gather(&targets, 1)?.sum_all()?.neg()?)
    }

    /// Gradient of a loss by every parameter, in layout order, row-major.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`], or a parameter that the gradient does not reach.
    pub fn gradient(&self, loss: &Tensor) -> Result<Vec<Vec<f32>>> {
        let gradients = loss.backward()?;
        let mut all = Vec::new();
        for (_, variable) in self.tensors.variables() {
            let gradient = gradients.get(variable.as_tensor());
            let gradient = gradient
                .ok_or_else(|| PolicyError::input("a parameter without a gradient", "report this"))?;
            all.push(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    }
}
