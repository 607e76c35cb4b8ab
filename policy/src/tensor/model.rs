//! The transformer in candle's operations, on any device, with a gradient wherever a weight is a variable.
//!
//! candle's fused `rms_norm` and `softmax_last_dim` have no backward and cut the gradient without an error:
//! they serve only where nothing upstream learns. Attention of grouped heads never repeats keys: the query
//! heads of one key head are further rows of one product.
//!
//! B sequences, T time, C channels, H query heads, K key heads, D head size, V vocabulary.

use candle_core::{D, DType, Result, Tensor};

use super::linear::Linear;
use crate::config::{ModelConfig, RopeScaling};

/// A decoder block.
#[derive(Clone)]
pub(super) struct Block {
    norm1: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    qk_norm: Option<[Tensor; 2]>,
    o: Linear,
    norm2: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A model whose tensors share storage with whoever gave them.
#[derive(Clone)]
pub(super) struct TensorModel {
    config: ModelConfig,
    dtype: DType,
    embedding: Tensor,
    pub(super) blocks: Vec<Block>,
    norm: Tensor,
    head: Linear,
    /// Turn per position in radians, `[D / 2]`.
    frequencies: Tensor,
}

/// Cosines and sines of positions: `[B or 1, 1, T, D / 2]` each.
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

/// Positions of whole sequences, and what hides the future from them: 0 or −∞, `[T, T]`.
pub(super) struct Frame {
    rotary: Rotary,
    mask: Tensor,
}

/// Finds a model's tensors by Hugging Face's names.
pub(super) trait Source {
    /// The tensor of this name.
    fn tensor(&self, name: &str) -> Result<Tensor>;
    /// The matrix `name.weight` with `name.bias`, if the config has one, and its adapter, if there is one.
    fn linear(&self, name: &str, bias: bool) -> Result<Linear>;
}

impl TensorModel {
    /// Assembles a model that computes in `dtype`.
    pub(super) fn new(
        config: &ModelConfig,
        dtype: DType,
        device: &candle_core::Device,
        source: &impl Source,
    ) -> Result<Self> {
        let embedding = source.tensor("model.embed_tokens.weight")?;
        let head = if config.tie_word_embeddings {
            Linear { weight: embedding.clone(), bias: None, adapter: None }
        } else {
            source.linear("lm_head", false)?
        };
        let blocks = (0..config.num_hidden_layers).map(|layer| block(config, layer, source));
        Ok(Self {
            config: config.clone(),
            dtype,
            embedding,
            blocks: blocks.collect::<Result<_>>()?,
            norm: source.tensor("model.norm.weight")?,
            head,
            frequencies: Tensor::from_vec(frequencies(config), config.head_dim / 2, device)?,
        })
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn device(&self) -> &candle_core::Device {
        self.frequencies.device()
    }

    /// The numbers that it computes in.
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same weights without gradients, in the numbers that it computes in.
    pub(super) fn detached(&self) -> Result<Self> {
        let change = |tensor: &Tensor| tensor.detach().to_dtype(self.dtype);
        let embedding = change(&self.embedding)?;
        let head = if self.config.tie_word_embeddings {
            Linear { weight: embedding.clone(), bias: None, adapter: None }
        } else {
            self.head.map(&change)?
        };
        let blocks = self.blocks.iter().map(|block| block.map(&change)).collect::<Result<_>>()?;
        Ok(Self { embedding, blocks, head, norm: change(&self.norm)?, ..self.clone() })
    }

    /// The same model with its adapters off.
    pub(super) fn without_adapter(mut self) -> Self {
        for block in &mut self.blocks {
            for linear in block.linears() {
                linear.adapter = None;
            }
        }
        self
    }

    /// Ids `[B, T]` → `[B, T, C]`.
    pub(super) fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, t) = ids.dims2()?;
        let x = self.embedding.index_select(&ids.flatten_all()?, 0)?;
        x.reshape((b, t, ()))?.to_dtype(self.dtype)
    }

    /// Turns for `positions`, `rows` sequences of equal length one behind the other.
    pub(super) fn rotary(&self, positions: &[u32], rows: usize) -> Result<Rotary> {
        let positions: Vec<f32> = positions.iter().map(|position| *position as f32).collect();
        let shape = (rows, 1, positions.len() / rows.max(1), 1);
        let positions = Tensor::from_vec(positions, shape, self.frequencies.device())?;
        let angles = positions.broadcast_mul(&self.frequencies.reshape((1, 1, 1, ()))?)?;
        Ok(Rotary { cos: angles.cos()?.to_dtype(self.dtype)?, sin: angles.sin()?.to_dtype(self.dtype)? })
    }

    /// What blocks need to know of whole sequences of T tokens.
    pub(super) fn frame(&self, t: usize) -> Result<Frame> {
        let positions: Vec<u32> = (0..t as u32).collect();
        let mask = (0..t * t).map(|at| if at % t > at / t { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::from_vec(mask.collect(), (t, t), self.device())?;
        Ok(Frame { rotary: self.rotary(&positions, 1)?, mask })
    }

    /// One block over whole sequences, `[B, T, C]` → `[B, T, C]`.
    pub(super) fn block(&self, block: &Block, x: &Tensor, frame: &Frame) -> Result<Tensor> {
        let (q, k, v) = self.project(block, x, &frame.rotary)?;
        self.finish(block, x, &self.attend(&q, &k, &v, &frame.mask)?)
    }

    /// The first half of a block: `[B, T, C]` → turned queries `[B, H, T, D]` and keys, and values,
    /// `[B, K, T, D]`.
    pub(super) fn project(
        &self,
        block: &Block,
        x: &Tensor,
        rotary: &Rotary,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (b, t, _) = x.dims3()?;
        let split = |x: Tensor| x.reshape((b, t, (), self.config.head_dim));
        let h = self.normed(x, &block.norm1)?;
        let (mut q, mut k) = (split(block.q.apply(&h)?)?, split(block.k.apply(&h)?)?);
        if let Some([q_norm, k_norm]) = &block.qk_norm {
            (q, k) = (self.normed(&q, q_norm)?, self.normed(&k, k_norm)?);
        }
        let v = split(block.v.apply(&h)?)?.transpose(1, 2)?.contiguous()?;
        let turned = |x: Tensor| rotary.turn(&x.transpose(1, 2)?.contiguous()?);
        Ok((turned(q)?, turned(k)?, v))
    }

    /// Attention of whole sequences: `[B, H, T, D]` → `[B, T, H·D]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, heads, t, d) = q.dims4()?;
        let kv = k.dim(1)?;
        let scores = self.scores(&q.reshape((b, kv, heads / kv * t, d))?, k)?;
        let scores = scores.reshape((b, heads, t, t))?.broadcast_add(mask)?;
        let p = self.softmax(&scores)?.reshape((b, kv, heads / kv * t, t))?;
        p.matmul(v)?.reshape((b, heads, t, d))?.transpose(1, 2)?.reshape((b, t, heads * d))
    }

    /// q · kᵀ / √D over the last two dimensions, in f32.
    pub(super) fn scores(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?.to_dtype(DType::F32)?;
        scores / (self.config.head_dim as f64).sqrt()
    }

    /// Attention weights of scores, in the numbers that the model computes in.
    pub(super) fn softmax(&self, scores: &Tensor) -> Result<Tensor> {
        let p = if scores.track_op() {
            candle_nn::ops::softmax(scores, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&scores.contiguous()?)?
        };
        p.to_dtype(self.dtype)
    }

    /// The second half of a block: the residual `x` and what was attended, both `[B, T, …]`.
    pub(super) fn finish(&self, block: &Block, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let x = (x + block.o.apply(attended)?)?;
        let h = self.normed(&x, &block.norm2)?;
        let gate = candle_nn::ops::silu(&block.gate.apply(&h)?)?;
        x + block.down.apply(&(gate * block.up.apply(&h)?)?)?
    }

    /// The last norm, `[…, C]`.
    pub(super) fn last_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.normed(x, &self.norm)
    }

    /// Normalised hidden states of whole sequences from position 0: ids `[B, T]` → `[B, T, C]`.
    pub(super) fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let frame = self.frame(ids.dim(1)?)?;
        let mut x = self.embed(ids)?;
        for block in &self.blocks {
            x = self.block(block, &x, &frame)?;
        }
        self.last_norm(&x)
    }

    /// [`Self::hidden`], and the keys and values of every block, `[B, K, T, D]` each.
    pub(super) fn read(&self, ids: &Tensor) -> Result<(Tensor, Vec<(Tensor, Tensor)>)> {
        let frame = self.frame(ids.dim(1)?)?;
        let mut x = self.embed(ids)?;
        let mut cache = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (q, k, v) = self.project(block, &x, &frame.rotary)?;
            x = self.finish(block, &x, &self.attend(&q, &k, &v, &frame.mask)?)?;
            cache.push((k, v));
        }
        Ok((self.last_norm(&x)?, cache))
    }

    /// Logits of normalised hidden states: `[N, C]` → `[N, V]`, in f32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.apply(hidden)?.to_dtype(DType::F32)
    }

    /// x / rms(x) · w over the last dimension.
    fn normed(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let w = w.to_dtype(self.dtype)?;
        if !x.track_op() && !w.track_op() {
            return candle_nn::ops::rms_norm(&x.contiguous()?, &w, self.config.rms_norm_eps);
        }
        let wide = x.to_dtype(DType::F32)?;
        let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let root = (mean + f64::from(self.config.rms_norm_eps))?.sqrt()?;
        wide.broadcast_div(&root)?.to_dtype(self.dtype)?.broadcast_mul(&w)
    }
}

impl Block {
    fn linears(&mut self) -> [&mut Linear; 7] {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        [q, k, v, o, gate, up, down]
    }

    fn map(&self, change: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut block = self.clone();
        for linear in block.linears() {
            *linear = linear.map(change)?;
        }
        for norm in [&mut block.norm1, &mut block.norm2].into_iter().chain(block.qk_norm.iter_mut().flatten())
        {
            *norm = change(norm)?;
        }
        Ok(block)
    }
}

fn block(config: &ModelConfig, layer: usize, source: &impl Source) -> Result<Block> {
    let name = |part: &str| format!("model.layers.{layer}.{part}");
    let tensor = |part: &str| source.tensor(&name(part));
    let linear = |part: &str, bias: bool| source.linear(&name(part), bias);
    let qk_norm = if config.qk_norm() {
        Some([tensor("self_attn.q_norm.weight")?, tensor("self_attn.k_norm.weight")?])
    } else {
        None
    };
    Ok(Block {
        norm1: tensor("input_layernorm.weight")?,
        q: linear("self_attn.q_proj", config.qkv_bias)?,
        k: linear("self_attn.k_proj", config.qkv_bias)?,
        v: linear("self_attn.v_proj", config.qkv_bias)?,
        qk_norm,
        o: linear("self_attn.o_proj", config.output_bias)?,
        norm2: tensor("post_attention_layernorm.weight")?,
        gate: linear("mlp.gate_proj", config.mlp_bias)?,
        up: linear("mlp.up_proj", config.mlp_bias)?,
        down: linear("mlp.down_proj", config.mlp_bias)?,
    })
}

impl Rotary {
    /// `[B, heads, T, D]` turned in the pairs (i, i + D/2), as Hugging Face's `rotate_half`.
    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (low, high) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let turned_low = (low.broadcast_mul(&self.cos)? - high.broadcast_mul(&self.sin)?)?;
        let turned_high = (high.broadcast_mul(&self.cos)? + low.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[turned_low, turned_high], D::Minus1)
    }
}

/// Turn per position of each pair, in radians: θ^(−2i/D), long wavelengths stretched where Llama 3 does.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let d = config.head_dim;
    let plain = (0..d / 2).map(|i| 1.0 / libm::powf(config.rope_theta, 2.0 * i as f32 / d as f32));
    match &config.rope_scaling {
        None => plain.collect(),
        Some(scaling) => plain.map(|frequency| stretched(frequency, scaling)).collect(),
    }
}

/// transformers' `_compute_llama3_parameters`.
fn stretched(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = *scaling;
    let context = scaling.original_max_position_embeddings as f32;
    let wavelength = std::f32::consts::TAU / frequency;
    if wavelength < context / high {
        frequency
    } else if wavelength > context / low {
        frequency / factor
    } else {
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
