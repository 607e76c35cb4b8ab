//! All parameters of a model in one slice, and where each of them lies.
//!
//! One slice makes optimiser, gradients, checkpoints and hashes one loop each. Names and shapes are
//! Hugging Face's.

use crate::config::ModelConfig;

/// A named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[out, in]` of a matrix, `[width]` of a norm.
    pub shape: Vec<usize>,
    /// Position of its first value.
    pub offset: usize,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never for a checked config.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of its values.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Where a matrix `[out, in]` and its bias lie.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: std::ops::Range<usize>,
    pub(crate) bias: Option<std::ops::Range<usize>>,
}

/// Where a decoder block's parameters lie.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) norm1: std::ops::Range<usize>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// Norms of queries and keys, `[D]` each (Qwen3).
    pub(crate) qk_norm: Option<[std::ops::Range<usize>; 2]>,
    pub(crate) o: Linear,
    pub(crate) norm2: std::ops::Range<usize>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The order of all parameters.
#[derive(Clone, Debug)]
pub struct Layout {
    parameters: Vec<Parameter>,
    pub(crate) embedding: std::ops::Range<usize>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: std::ops::Range<usize>,
    /// The output matrix; the embedding when they are tied.
    pub(crate) head: std::ops::Range<usize>,
}

/// Lays parameters one behind the other.
#[derive(Default)]
struct Builder {
    parameters: Vec<Parameter>,
    next: usize,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[usize]) -> std::ops::Range<usize> {
        let parameter = Parameter { name, shape: shape.to_vec(), offset: self.next };
        self.next += parameter.len();
        let range = parameter.range();
        self.parameters.push(parameter);
        range
    }

    fn linear(&mut self, name: String, shape: &[usize; 2], bias: bool) -> Linear {
        let weight = self.add(format!("{name}.weight"), shape);
        Linear { weight, bias: bias.then(|| self.add(format!("{name}.bias"), &shape[..1])) }
    }

    fn block(&mut self, config: &ModelConfig, layer: usize) -> Block {
        let (c, f, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.query_width(), config.kv_width());
        let (qkv_bias, output_bias, mlp_bias) = (config.qkv_bias, config.output_bias, config.mlp_bias);
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        Block {
            norm1: self.add(name("input_layernorm.weight"), &[c]),
            q: self.linear(name("self_attn.q_proj"), &[q, c], qkv_bias),
            k: self.linear(name("self_attn.k_proj"), &[kv, c], qkv_bias),
            v: self.linear(name("self_attn.v_proj"), &[kv, c], qkv_bias),
            qk_norm: config.qk_norm().then(|| {
                ["self_attn.q_norm.weight", "self_attn.k_norm.weight"].map(|part| self.add(name(part), &[d]))
            }),
            o: self.linear(name("self_attn.o_proj"), &[c, q], output_bias),
            norm2: self.add(name("post_attention_layernorm.weight"), &[c]),
            gate: self.linear(name("mlp.gate_proj"), &[f, c], mlp_bias),
            up: self.linear(name("mlp.up_proj"), &[f, c], mlp_bias),
            down: self.linear(name("mlp.down_proj"), &[c, f], mlp_bias),
        }
    }
}

impl Layout {
    /// The layout of a checked config.
    pub fn new(config: &ModelConfig) -> Self {
        let mut builder = Builder::default();
        let embedding =
            builder.add("model.embed_tokens.weight".into(), &[config.vocab_size, config.hidden_size]);
        let blocks = (0..config.num_hidden_layers).map(|layer| builder.block(config, layer)).collect();
        let norm = builder.add("model.norm.weight".into(), &[config.hidden_size]);
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            builder.add("lm_head.weight".into(), &[config.vocab_size, config.hidden_size])
        };
        Self { parameters: builder.parameters, embedding, blocks, norm, head }
    }

    /// A parameter's values in Hugging Face's order (row-major).
    pub fn values(&self, weights: &[f32], parameter: &Parameter) -> Vec<f32> {
        weights[parameter.range()].to_vec()
    }

    /// Sets a parameter's values from Hugging Face's order (row-major).
    pub fn set_values(&self, weights: &mut [f32], parameter: &Parameter, values: &[f32]) {
        weights[parameter.range()].copy_from_slice(values);
    }

    /// Every parameter, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of values of all parameters.
    pub fn len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range().end)
    }

    /// Whether there are no parameters; never for a checked config.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Starting values: norms 1, biases 0, matrices normal with standard deviation 0.02 as transformers does for
    /// Llama, from a seeded hash stream so that every machine starts alike.
    pub(crate) fn initial(&self, seed: u64) -> Vec<f32> {
        let mut weights = vec![1.0; self.len()];
        for (index, parameter) in self.parameters.iter().enumerate() {
            if parameter.name.ends_with(".bias") {
                weights[parameter.range()].fill(0.0);
            }
            if parameter.shape.len() < 2 {
                continue;
            }
            let mut hasher = blake3::Hasher::new_derive_key("murmur v1 initial weights");
            hasher.update(&seed.to_le_bytes()).update(&(index as u64).to_le_bytes());
            let mut stream = hasher.finalize_xof();
            for pair in weights[parameter.range()].chunks_mut(2) {
                let mut bytes = [0; 8];
                stream.fill(&mut bytes);
                let [a, b] = [0, 4].map(|i| {
                    let word = u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
                    ((word >> 8) as f32 + 0.5) / (1u32 << 24) as f32
                });
                // Box–Muller, with libm so that the values do not depend on the platform's C library.
                let radius = 0.02 * libm::sqrtf(-2.0 * libm::logf(a));
                let angle = std::f32::consts::TAU * b;
                for (value, normal) in pair.iter_mut().zip([libm::cosf(angle), libm::sinf(angle)]) {
                    *value = radius * normal;
                }
            }
        }
        weights
    }
}

/// BLAKE3 over all values, little endian, in layout order.
pub(crate) fn hash(weights: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 weights");
    for chunk in weights.chunks(1024) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    *hasher.finalize().as_bytes()
}
