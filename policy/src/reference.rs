//! The model a second time, with candle's plain differentiable operations: slow, short, and the oracle
//! of the tests.
//!
//! candle's fused `rms_norm`, `softmax_last_dim` and `rope` have no backward and cut the gradient
//! without an error, so none of them is used here. T time, C channels, H heads, D head size.

use candle_core::{D, DType, Device, Tensor, Var};

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::policy::Policy;

/// A policy's parameters as candle variables, in layout order.
pub struct Reference {
    config: ModelConfig,
    variables: Vec<Var>,
}

impl Reference {
    /// Copies a policy's weights.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn new(policy: &Policy) -> Result<Self> {
        let variable = |parameter: &crate::weights::Parameter| {
            let values = policy.layout().values(policy.weights(), parameter);
            Var::from_slice(&values, parameter.shape.as_slice(), &Device::Cpu)
        };
        let variables =
            policy.layout().parameters().iter().map(variable).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self { config: policy.config().clone(), variables })
    }

    /// Logits of every position: `[T, V]`.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn logits(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(self.run(ids)?)
    }

    /// −log-probability of `completion` after `prompt`, summed over tokens.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn loss(&self, prompt: &[u32], completion: &[u32]) -> Result<Tensor> {
        let ids = [prompt, completion].concat();
        let logits = self.run(&ids[..ids.len() - 1])?;
        let rows = logits.narrow(0, prompt.len() - 1, completion.len())?;
        let logprobs = candle_nn::ops::log_softmax(&rows, D::Minus1)?;
        let targets = Tensor::from_slice(completion, (completion.len(), 1), &Device::Cpu)?;
        Ok(logprobs.gather(&targets, 1)?.sum_all()?.neg()?)
    }

    /// Gradient of a loss by every parameter, in layout order.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`], or a parameter that the gradient does not reach.
    pub fn gradient(&self, loss: &Tensor) -> Result<Vec<Vec<f32>>> {
        let gradients = loss.backward()?;
        let mut flat = Vec::new();
        for variable in &self.variables {
            let gradient = gradients.get(variable.as_tensor());
            let gradient = gradient
                .ok_or_else(|| PolicyError::input("a parameter without a gradient", "report this"))?;
            flat.push(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(flat)
    }

    fn run(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let t = ids.len();
        let ids = Tensor::from_slice(ids, t, &Device::Cpu)?;
        let (embedding, rest) = (&self.variables[0], &self.variables[1..]);
        let mut x = embedding.index_select(&ids, 0)?;
        for block in rest.chunks_exact(9).take(self.config.num_hidden_layers) {
            let h = self.norm(&x, &block[0])?;
            let attended =
                self.attend(&linear(&h, &block[1])?, &linear(&h, &block[2])?, &linear(&h, &block[3])?)?;
            x = (x + linear(&attended, &block[4])?)?;
            let h = self.norm(&x, &block[5])?;
            let gate = candle_nn::ops::silu(&linear(&h, &block[6])?)?;
            x = (x + linear(&(gate * linear(&h, &block[7])?)?, &block[8])?)?;
        }
        let norm = &rest[9 * self.config.num_hidden_layers];
        let head = rest.get(9 * self.config.num_hidden_layers + 1).unwrap_or(embedding);
        linear(&self.norm(&x, norm)?, head)
    }

    fn norm(&self, x: &Tensor, w: &Var) -> candle_core::Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        let root = (mean + f64::from(self.config.rms_norm_eps))?.sqrt()?;
        x.broadcast_div(&root)?.broadcast_mul(w.as_tensor())
    }

    /// q `[T, H·D]`, k and v `[T, H_kv·D]` → `[T, H·D]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> candle_core::Result<Tensor> {
        let (t, d) = (q.dim(0)?, self.config.head_dim);
        let (heads, kv) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        let split = |x: &Tensor, heads: usize| x.reshape((t, heads, d))?.transpose(0, 1)?.contiguous();
        let repeat = |x: Tensor| {
            x.unsqueeze(1)?.broadcast_as((kv, heads / kv, t, d))?.contiguous()?.reshape((heads, t, d))
        };
        let q = self.rope(&split(q, heads)?)?;
        let k = repeat(self.rope(&split(k, kv)?)?)?;
        let v = repeat(split(v, kv)?)?;
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? / (d as f64).sqrt())?;
        let mask: Vec<f32> =
            (0..t * t).map(|at| if at % t > at / t { f32::NEG_INFINITY } else { 0.0 }).collect();
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, t, t), &Device::Cpu)?)?;
        let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
        p.matmul(&v)?.transpose(0, 1)?.contiguous()?.reshape((t, heads * d))
    }

    /// `[H, T, D]` turned by position, pairs (i, i + D/2).
    fn rope(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (_, t, d) = x.dims3()?;
        let inverse: Vec<f32> =
            (0..d / 2).map(|i| 1.0 / self.config.rope_theta.powf(2.0 * i as f32 / d as f32)).collect();
        let inverse = Tensor::from_vec(inverse, (1, d / 2), &Device::Cpu)?;
        let positions =
            Tensor::arange(0u32, t as u32, &Device::Cpu)?.to_dtype(DType::F32)?.reshape((t, 1))?;
        let angles = positions.matmul(&inverse)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let (low, high) = (x.narrow(2, 0, d / 2)?, x.narrow(2, d / 2, d / 2)?);
        let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Tensor::cat(&[turned_low, turned_high], 2)
    }
}

fn linear(x: &Tensor, w: &Var) -> candle_core::Result<Tensor> {
    x.matmul(&w.t()?)
}
