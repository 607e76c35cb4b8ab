//! What llama.cpp calls the parts of a policy: metadata keys, tensor names, the order of rotary pairs.
//!
//! Names and values are those that llama.cpp's `convert_hf_to_gguf.py` writes for the same model.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::container::{self, Tensor, TensorType, Value};
use super::{Quantization, readback, vocabulary};
use crate::config::{Architecture, ModelConfig, RopeScaling};
use crate::error::{PolicyError, Result};
use crate::export::ExportCard;
use crate::policy::Policy;
use crate::weights::Parameter;

/// Revision of the layout of quantised blocks that llama.cpp expects a file to name.
const QUANTISATION_VERSION: u32 = 2;
/// Bytes gathered before they go to the disk.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
const OTHER_FORMAT: &str = "export it as a Hugging Face directory";
const NOT_WRITTEN: &str = "see the reason; check free space";

/// A policy as a GGUF file, without its weights.
#[derive(Debug)]
pub(in crate::export) struct Model {
    quantization: Quantization,
    metadata: Vec<(String, Value)>,
    pub(super) parts: Vec<Part>,
}

/// A tensor of the file and where its values come from.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tensor: Tensor,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Parameter(Parameter),
    /// Rows `[heads × head_dim]` whose rotary pairs are brought side by side.
    Rotary(Parameter, usize),
    Values(Vec<f32>),
}

impl Model {
    pub(in crate::export) fn new(
        policy: &Policy,
        quantization: Quantization,
        card: &ExportCard,
    ) -> Result<Self> {
        let config = policy.config();
        supported(config).map_err(|why| PolicyError::input(why, OTHER_FORMAT))?;
        let mut metadata = describe(config, &card.name, quantization);
        metadata.extend(
            vocabulary::metadata(policy.tokenizer_json(), config, &card.base_files)
                .map_err(|why| PolicyError::input(format!("tokenizer.json: {why}"), OTHER_FORMAT))?,
        );
        let mut parts = Vec::new();
        if let Some(scaling) = &config.rope_scaling {
            let values = frequency_divisors(config, scaling);
            let tensor = tensor("rope_freqs.weight".into(), vec![values.len()], quantization);
            parts.push(Part { tensor, source: Source::Values(values) });
        }
        for parameter in policy.layout().parameters() {
            let Some(name) = gguf_name(&parameter.name) else {
                let what = format!("llama.cpp has no name for tensor {}", parameter.name);
                return Err(PolicyError::input(what, OTHER_FORMAT));
            };
            let source = match rotary_heads(config, &name) {
                Some(heads) => Source::Rotary(parameter.clone(), heads),
                None => Source::Parameter(parameter.clone()),
            };
            parts.push(Part { tensor: tensor(name, parameter.shape.clone(), quantization), source });
        }
        Ok(Self { quantization, metadata, parts })
    }

    pub(in crate::export) fn file_name(&self) -> &'static str {
        self.quantization.file_name()
    }

    /// Bytes of the file.
    pub(in crate::export) fn bytes(&self) -> u64 {
        let tensors: usize = self.tensors().map(Tensor::stored_bytes).sum();
        (container::head(&self.metadata, self.tensors()).len() + tensors) as u64
    }

    fn tensors(&self) -> impl ExactSizeIterator<Item = &Tensor> {
        self.parts.iter().map(|part| &part.tensor)
    }

    /// Writes the file, one tensor at a time, and reads it back: whether it holds what it should.
    pub(in crate::export) fn store(&self, policy: &Policy, path: &Path) -> Result<bool> {
        let failed = || PolicyError::io("write", path, NOT_WRITTEN);
        let open = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, open.map_err(failed())?);
        out.write_all(&container::head(&self.metadata, self.tensors())).map_err(failed())?;
        for part in &self.parts {
            let values = part.values(policy);
            let Tensor { name, kind, .. } = &part.tensor;
            if !kind.holds(&values) {
                let what = format!("tensor {name} has values beyond the range of an f16");
                return Err(PolicyError::input(what, OTHER_FORMAT));
            }
            kind.write(&values, &mut out).map_err(failed())?;
        }
        out.flush().map_err(failed())?;
        let mut file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(failed())?;
        readback::holds(&mut file, policy, &self.parts, self.metadata.len()).map_err(PolicyError::io(
            "read back",
            path,
            "check the disk",
        ))
    }
}

impl Part {
    /// Its values in the file's order.
    pub(super) fn values(&self, policy: &Policy) -> Vec<f32> {
        let read = |parameter| policy.layout().values(policy.weights(), parameter);
        match &self.source {
            Source::Parameter(parameter) => read(parameter),
            Source::Rotary(parameter, heads) => {
                pairs_side_by_side(&read(parameter), *heads, parameter.shape[0])
            }
            Source::Values(values) => values.clone(),
        }
    }
}

/// Refuses what llama.cpp would load without the parts that it does not know, or not at all.
fn supported(config: &ModelConfig) -> std::result::Result<(), String> {
    let (biases, others) = (config.qkv_bias, config.output_bias || config.mlp_bias);
    let fits = match config.architecture {
        Architecture::Llama => true,
        Architecture::Qwen2 => biases && !others && config.rope_scaling.is_none(),
        Architecture::Qwen3 => !biases && !others && config.rope_scaling.is_none(),
    };
    fits.then_some(()).ok_or_else(|| {
        format!("llama.cpp does not know {} with these biases or this rope scaling", architecture(config))
    })
}

fn architecture(config: &ModelConfig) -> &'static str {
    match config.architecture {
        Architecture::Llama => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
    }
}

fn describe(config: &ModelConfig, name: &str, quantization: Quantization) -> Vec<(String, Value)> {
    let arch = architecture(config);
    let mut metadata = vec![
        ("general.architecture".to_owned(), Value::Text(arch.into())),
        ("general.type".to_owned(), Value::Text("model".into())),
        ("general.name".to_owned(), Value::Text(name.into())),
        ("general.file_type".to_owned(), Value::U32(quantization.file_type())),
        ("general.quantization_version".to_owned(), Value::U32(QUANTISATION_VERSION)),
    ];
    let counts = [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ];
    // Checked configs stay far below 2³².
    metadata.extend(counts.map(|(key, count)| (format!("{arch}.{key}"), Value::U32(count as u32))));
    metadata.push((format!("{arch}.rope.freq_base"), Value::F32(config.rope_theta)));
    metadata.push((format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(config.rms_norm_eps)));
    metadata
}

/// What rotary frequencies are divided by, one a pair of dimensions (`rope_freqs.weight`): 1 for short
/// wavelengths, the factor for long ones, smooth between. Formula of Llama 3.1, as in transformers'
/// `_compute_llama3_parameters`.
fn frequency_divisors(config: &ModelConfig, scaling: &RopeScaling) -> Vec<f32> {
    let context = scaling.original_max_position_embeddings as f64;
    let [factor, low, high] =
        [scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor].map(f64::from);
    let divisor = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.head_dim as f64;
        let wavelength = std::f64::consts::TAU * libm::pow(f64::from(config.rope_theta), exponent);
        let divisor = if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        divisor as f32
    };
    (0..config.head_dim / 2).map(divisor).collect()
}

/// Matrices take the type asked for where their rows allow it; what is added or multiplied elementwise stays
/// f32, as llama.cpp's kernels expect.
fn tensor(name: String, shape: Vec<usize>, quantization: Quantization) -> Tensor {
    let kind = match (shape.as_slice(), quantization) {
        ([_, row], Quantization::Q8_0) if TensorType::Q8_0.divides(*row) => TensorType::Q8_0,
        ([_, _], _) => TensorType::F16,
        _ => TensorType::F32,
    };
    Tensor { name, shape, kind }
}

fn gguf_name(name: &str) -> Option<String> {
    let known = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => return block_name(name),
    };
    Some(known.to_owned())
}

fn block_name(name: &str) -> Option<String> {
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = part.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{kind}"))
}

/// Heads of the rows to be reordered. llama.cpp turns neighbouring dimensions in its `llama`
/// architecture, and dimensions half a head apart, as Hugging Face does everywhere, in the others.
fn rotary_heads(config: &ModelConfig, name: &str) -> Option<usize> {
    let module = name.split('.').nth(2)?;
    match (config.architecture, module) {
        (Architecture::Llama, "attn_q") => Some(config.num_attention_heads),
        (Architecture::Llama, "attn_k") => Some(config.num_key_value_heads),
        _ => None,
    }
}

/// Reorders rows (values, of a bias) so that dimension `i` of a head's first half is followed by dimension `i`
/// of its second half.
fn pairs_side_by_side(values: &[f32], heads: usize, rows: usize) -> Vec<f32> {
    let (width, half) = (values.len() / rows, rows / heads / 2);
    let mut reordered = Vec::with_capacity(values.len());
    for head in values.chunks_exact(2 * half * width) {
        let (first, second) = head.split_at(half * width);
        for (a, b) in first.chunks_exact(width).zip(second.chunks_exact(width)) {
            reordered.extend_from_slice(a);
            reordered.extend_from_slice(b);
        }
    }
    reordered
}
