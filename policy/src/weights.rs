//! All parameters of a model in one slice, and where each of them lies.
//!
//! One slice makes optimiser, gradients and checkpoints one loop each. Names and shapes are Hugging
//! Face's; matrices lie in the panels that the kernels read ([`crate::kernel::panels`]), so training and
//! sampling share one copy and nothing is repacked after a step. Lanes beyond a matrix are 0 and stay 0:
//! their gradients are.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::kernel::{PANEL, Panels, panels_len};

/// A named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[out, in]` of a matrix, `[width]` of a norm or a bias.
    pub shape: Vec<usize>,
    offset: usize,
}

impl Parameter {
    pub(crate) fn new(name: String, shape: &[usize], offset: usize) -> Self {
        Self { name, shape: shape.to_vec(), offset }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never for a checked config.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of a matrix; every value of a vector is a row.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Whether it is a matrix.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Where it lies, padding included.
    pub(crate) fn stored(&self) -> Range<usize> {
        let len = if self.is_matrix() { panels_len(self.shape[0], self.shape[1]) } else { self.len() };
        self.offset..self.offset + len
    }

    /// Position of a value in the slice.
    pub fn index(&self, row: usize, column: usize) -> usize {
        if self.is_matrix() {
            self.offset + row / PANEL * PANEL * self.shape[1] + column * PANEL + row % PANEL
        } else {
            self.offset + row
        }
    }

    /// Some of its rows, row-major.
    pub fn read_rows(&self, weights: &[f32], rows: Range<usize>, to: &mut Vec<f32>) {
        to.clear();
        if !self.is_matrix() {
            to.extend_from_slice(&weights[self.stored()][rows]);
            return;
        }
        to.reserve(rows.len() * self.width());
        for row in rows {
            let first = self.index(row, 0);
            let last = first + (self.width() - 1) * PANEL;
            to.extend(weights[first..=last].iter().step_by(PANEL));
        }
    }

    /// Sets rows from `first` on, row-major.
    pub fn write_rows(&self, weights: &mut [f32], first: usize, values: &[f32]) {
        if !self.is_matrix() {
            weights[self.stored()][first..first + values.len()].copy_from_slice(values);
            return;
        }
        for (row, values) in (first..).zip(values.chunks_exact(self.width())) {
            let first = self.index(row, 0);
            for (place, value) in weights[first..].iter_mut().step_by(PANEL).zip(values) {
                *place = *value;
            }
        }
    }
}

/// Where a matrix `[outputs, inputs]` lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) offset: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

impl Matrix {
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset + panels_len(self.outputs, self.inputs)
    }

    pub(crate) fn panels<'a>(&self, weights: &'a [f32]) -> Panels<'a> {
        Panels::new(&weights[self.range()], self.outputs, self.inputs)
    }
}

/// Where a matrix and its bias lie.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Range<usize>>,
}

/// The seven matrices of a decoder block, in layout order; the names are Hugging Face's and PEFT's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Module {
    pub(crate) const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Hugging Face name.
    pub(crate) fn name(self) -> &'static str {
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"][self as usize]
    }

    /// The part of the block that it belongs to.
    pub(crate) fn part(self) -> &'static str {
        if (self as usize) < 4 { "self_attn" } else { "mlp" }
    }

    /// Outputs and inputs.
    pub(crate) fn shape(self, config: &ModelConfig) -> [usize; 2] {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        match self {
            Self::Q => [config.query_width(), c],
            Self::K | Self::V => [config.kv_width(), c],
            Self::O => [c, config.query_width()],
            Self::Gate | Self::Up => [f, c],
            Self::Down => [c, f],
        }
    }

    fn has_bias(self, config: &ModelConfig) -> bool {
        match self {
            Self::Q | Self::K | Self::V => config.qkv_bias,
            Self::O => config.output_bias,
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }
}

/// Where a decoder block's parameters lie.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) norm1: Range<usize>,
    /// Norms of queries and keys, `[D]` each (Qwen3).
    pub(crate) qk_norm: Option<[Range<usize>; 2]>,
    pub(crate) norm2: Range<usize>,
    /// Indexed by [`Module`].
    pub(crate) linears: Vec<Linear>,
}

/// The order of all parameters.
#[derive(Clone, Debug)]
pub struct Layout {
    parameters: Vec<Parameter>,
    pub(crate) embedding: Matrix,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Range<usize>,
    /// The output matrix; the embedding when they are tied.
    pub(crate) head: Matrix,
}

/// Lays parameters one behind the other.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) parameters: Vec<Parameter>,
}

impl Builder {
    fn next(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.stored().end)
    }

    fn vector(&mut self, name: String, width: usize) -> Range<usize> {
        let parameter = Parameter::new(name, &[width], self.next());
        let range = parameter.stored();
        self.parameters.push(parameter);
        range
    }

    pub(crate) fn matrix(&mut self, name: String, [outputs, inputs]: [usize; 2]) -> Matrix {
        let offset = self.next();
        self.parameters.push(Parameter::new(name, &[outputs, inputs], offset));
        Matrix { offset, outputs, inputs }
    }

    fn block(&mut self, config: &ModelConfig, layer: usize) -> Block {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let norm1 = self.vector(name("input_layernorm.weight"), config.hidden_size);
        let mut linears = Vec::with_capacity(Module::ALL.len());
        let mut add = |builder: &mut Self, modules: &[Module]| {
            for module in modules {
                let name = name(&format!("{}.{}", module.part(), module.name()));
                let weight = builder.matrix(format!("{name}.weight"), module.shape(config));
                let bias = module.has_bias(config);
                let bias = bias.then(|| builder.vector(format!("{name}.bias"), weight.outputs));
                linears.push(Linear { weight, bias });
            }
        };
        add(self, &Module::ALL[..3]);
        let qk_norm = config.qk_norm().then(|| {
            ["q", "k"].map(|x| self.vector(name(&format!("self_attn.{x}_norm.weight")), config.head_dim))
        });
        add(self, &Module::ALL[3..4]);
        let norm2 = self.vector(name("post_attention_layernorm.weight"), config.hidden_size);
        add(self, &Module::ALL[4..]);
        Block { norm1, qk_norm, norm2, linears }
    }
}

impl Layout {
    /// The layout of a checked config.
    pub fn new(config: &ModelConfig) -> Self {
        let mut builder = Builder::default();
        let table = [config.vocab_size, config.hidden_size];
        let embedding = builder.matrix("model.embed_tokens.weight".into(), table);
        let blocks = (0..config.num_hidden_layers).map(|layer| builder.block(config, layer)).collect();
        let norm = builder.vector("model.norm.weight".into(), config.hidden_size);
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            builder.matrix("lm_head.weight".into(), table)
        };
        Self { parameters: builder.parameters, embedding, blocks, norm, head }
    }

    /// A parameter's values in Hugging Face's order (row-major).
    pub fn values(&self, weights: &[f32], parameter: &Parameter) -> Vec<f32> {
        let mut values = Vec::new();
        parameter.read_rows(weights, 0..parameter.rows(), &mut values);
        values
    }

    /// Sets a parameter's values from Hugging Face's order (row-major).
    pub fn set_values(&self, weights: &mut [f32], parameter: &Parameter, values: &[f32]) {
        parameter.write_rows(weights, 0, values);
    }

    /// Number of trainable values.
    pub fn values_len(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Every parameter, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Length of the slice, padding included.
    pub fn len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.stored().end)
    }

    /// Whether there are no parameters; never for a checked config.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Starting values: norms 1, biases 0, matrices normal with standard deviation 0.02 as transformers
    /// does for Llama, from a seeded hash stream so that every machine starts alike.
    pub(crate) fn initial(&self, seed: u64) -> Vec<f32> {
        let mut weights = vec![0.0; self.len()];
        for (index, parameter) in self.parameters.iter().enumerate() {
            if !parameter.is_matrix() {
                let value = if parameter.name.ends_with(".bias") { 0.0 } else { 1.0 };
                weights[parameter.stored()].fill(value);
                continue;
            }
            let values = normal_values(seed, index as u64, parameter.len());
            parameter.write_rows(&mut weights, 0, &values);
        }
        weights
    }
}

/// `n` normal values of standard deviation 0.02 from a seeded hash stream.
pub(crate) fn normal_values(seed: u64, index: u64, n: usize) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 initial weights");
    hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let mut values = vec![0.0; n];
    for pair in values.chunks_mut(2) {
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
    values
}

/// BLAKE3 over all values, little endian, row-major, in layout order.
pub(crate) fn hash(parameters: &[Parameter], weights: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 weights");
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for parameter in parameters {
        for first in (0..parameter.rows()).step_by(PANEL) {
            let rows = first..parameter.rows().min(first + PANEL);
            parameter.read_rows(weights, rows, &mut values);
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
    *hasher.finalize().as_bytes()
}
