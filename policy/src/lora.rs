//! Low-rank adapters (Hu et al. 2021): y = W·x + alpha / rank · B·(A·x), with W frozen.
//!
//! Names and starting values are PEFT's: A uniform within ±1/√inputs, B zero.

use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::error::{PolicyError, Result};
use crate::kernel::{Left, Out, PANEL, Panels, panels_len, product, transpose_panel};
use crate::weights::{Builder, Matrix, Module, Parameter};

/// Largest rank.
pub const LORA_RANK_MAX: usize = 1024;

/// Which matrices get an adapter, and how large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Width between A and B, 1 to [`LORA_RANK_MAX`].
    pub rank: usize,
    /// The product is scaled by `alpha` / `rank`.
    pub alpha: f32,
    /// PEFT's `target_modules`: `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, targets: Module::ALL.map(|module| module.name().to_owned()).into() }
    }
}

impl LoraConfig {
    /// Says whether every value is in its range.
    ///
    /// # Errors
    /// A sentence naming the first key that is not, with its range.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.rank == 0 || self.rank > LORA_RANK_MAX {
            return Err(format!("rank is {}, must be 1 to {LORA_RANK_MAX}", self.rank));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1e6) {
            return Err(format!("alpha is {}, must be above 0 and at most 1000000", self.alpha));
        }
        let known = Module::ALL.map(Module::name);
        if self.targets.is_empty() {
            return Err(format!("targets is empty, name some of {}", known.join(", ")));
        }
        match self.targets.iter().find(|target| !known.contains(&target.as_str())) {
            Some(target) => Err(format!("targets names {target}, known are {}", known.join(", "))),
            None => Ok(()),
        }
    }

    /// Factor of the adapter's product.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// Where A `[rank, inputs]` and B `[outputs, rank]` of one matrix lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
}

/// The adapters of all blocks, in one slice.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: LoraConfig,
    parameters: Vec<Parameter>,
    pairs: Vec<[Option<Pair>; 7]>,
    pub(crate) weights: Vec<f32>,
}

impl Adapter {
    /// Fresh adapters: they change nothing until they are trained.
    ///
    /// # Errors
    /// A value out of its range.
    pub fn new(model: &ModelConfig, config: LoraConfig, seed: u64) -> Result<Self> {
        config.check().map_err(|why| PolicyError::input(why, "correct the [lora] settings"))?;
        let mut builder = Builder::default();
        let mut pairs = Vec::new();
        for layer in 0..model.num_hidden_layers {
            pairs.push(Module::ALL.map(|module| {
                let chosen = config.targets.iter().any(|target| target == module.name());
                chosen.then(|| {
                    let [outputs, inputs] = module.shape(model);
                    let name = |side: &str| {
                        let (part, module) = (module.part(), module.name());
                        format!("base_model.model.model.layers.{layer}.{part}.{module}.lora_{side}.weight")
                    };
                    Pair {
                        a: builder.matrix(name("A"), [config.rank, inputs]),
                        b: builder.matrix(name("B"), [outputs, config.rank]),
                    }
                })
            }));
        }
        let parameters = builder.parameters;
        let mut weights = vec![0.0; parameters.last().map_or(0, |last| last.stored().end)];
        for (index, parameter) in parameters.iter().enumerate().step_by(2) {
            let values = uniform_values(seed, index as u64, parameter);
            parameter.write_rows(&mut weights, 0, &values);
        }
        Ok(Self { config, parameters, pairs, weights })
    }

    /// Its settings.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Its parameters, by PEFT's names.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// A parameter's values, row-major.
    pub fn values(&self, parameter: &Parameter) -> Vec<f32> {
        let mut values = Vec::new();
        parameter.read_rows(&self.weights, 0..parameter.rows(), &mut values);
        values
    }

    /// Sets a parameter's values, row-major.
    pub fn set_values(&mut self, parameter: &Parameter, values: &[f32]) {
        parameter.write_rows(&mut self.weights, 0, values);
    }

    pub(crate) fn pair(&self, layer: usize, module: Module) -> Option<Pair> {
        self.pairs[layer][module as usize]
    }

    pub(crate) fn view(&self, layer: usize, module: Module) -> Option<Lora<'_>> {
        let pair = self.pair(layer, module)?;
        let (a, b) = (pair.a.panels(&self.weights), pair.b.panels(&self.weights));
        Some(Lora { a, b, scale: self.config.scale() })
    }
}

/// One adapter, ready to multiply.
#[derive(Clone, Copy)]
pub(crate) struct Lora<'a> {
    pub(crate) a: Panels<'a>,
    pub(crate) b: Panels<'a>,
    pub(crate) scale: f32,
}

impl Lora<'_> {
    /// W += scale · B·A, in W's panels.
    pub(crate) fn fold(&self, weight: &mut [f32]) {
        let (rank, inputs) = (self.a.outputs, self.a.inputs);
        // A with inputs as rows of the product: column i of A against every output's row of B.
        let mut a = vec![0.0; panels_len(inputs, rank)];
        a.chunks_exact_mut(rank * PANEL)
            .enumerate()
            .for_each(|(panel, to)| transpose_panel(to, self.a, panel));
        let mut column = vec![0.0; inputs * rank];
        for (panel, from) in a.chunks_exact(rank * PANEL).enumerate() {
            for lane in 0..PANEL.min(inputs - panel * PANEL) {
                let to = &mut column[(panel * PANEL + lane) * rank..][..rank];
                to.iter_mut().enumerate().for_each(|(k, to)| *to = from[k * PANEL + lane] * self.scale);
            }
        }
        product(Out::panels(weight, inputs), Left::rows(&column, inputs, rank), self.b.padded(), true);
    }
}

fn uniform_values(seed: u64, index: u64, parameter: &Parameter) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 initial adapter");
    hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let bound = 1.0 / (parameter.width() as f32).sqrt();
    let mut bytes = [0; 4];
    let mut next = || {
        stream.fill(&mut bytes);
        let unit = (u32::from_le_bytes(bytes) >> 8) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * bound
    };
    (0..parameter.len()).map(|_| next()).collect()
}
