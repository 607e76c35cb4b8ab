//! A model ready to compute with: its parts by name, and what multiplies with them.

use crate::config::{ModelConfig, RopeScaling};
use crate::kernel::rows::{add, multiply, rotate};
use crate::kernel::{Left, Out, PANEL, PanelValue, Panels, product};
use crate::lora::{Adapter, Lora};
use crate::scratch::Scratch;
use crate::team::Team;
use crate::weights::{Layout, Matrix, Module};

/// What a pass needs to know of the model.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) weights: &'a [f32],
    /// The matrices rounded to bf16, at the same places: what sampling reads when there are any.
    pub(crate) half: Option<&'a [u16]>,
    pub(crate) rotary: &'a Rotary,
    pub(crate) adapter: Option<&'a Adapter>,
    pub(crate) team: &'a Team,
}

impl<'a> Model<'a> {
    /// One of a block's seven matrices, with its bias and its adapter.
    pub(crate) fn dense(&self, layer: usize, module: Module) -> Dense<'a> {
        let linear = &self.layout.blocks[layer].linears[module as usize];
        let bias = linear.bias.clone().map(|range| &self.weights[range]);
        let lora = self.adapter.and_then(|adapter| adapter.view(layer, module));
        Dense { weight: self.matrix(linear.weight), bias, lora }
    }

    /// The output matrix.
    pub(crate) fn head(&self) -> Dense<'a> {
        Dense { weight: self.matrix(self.layout.head), bias: None, lora: None }
    }

    fn matrix(&self, matrix: Matrix) -> Weight<'a> {
        match self.half {
            Some(half) => Weight::Half(Panels::new(&half[matrix.range()], matrix.outputs, matrix.inputs)),
            None => Weight::Full(matrix.panels(self.weights)),
        }
    }

    /// The embedding of a token, appended to `x`.
    pub(crate) fn embed(&self, token: u32, x: &mut Vec<f32>) {
        let c = self.config.hidden_size;
        let first = place(self.layout.embedding, token);
        let places = first..first + (c - 1) * PANEL + 1;
        match self.half {
            Some(half) => x.extend(
                half[places].iter().step_by(PANEL).map(|bits| f32::from_bits(u32::from(*bits) << 16)),
            ),
            None => x.extend(self.weights[places].iter().step_by(PANEL)),
        }
    }
}

/// Position of the first value of a row of a matrix; the next is a panel's width further.
pub(crate) fn place(matrix: Matrix, row: u32) -> usize {
    let row = row as usize;
    matrix.offset + row / PANEL * PANEL * matrix.inputs + row % PANEL
}

/// A matrix in f32 or in bf16.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    Full(Panels<'a>),
    Half(Panels<'a, u16>),
}

/// y = W·x + scale · B·(A·x) + bias.
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a> {
    pub(crate) weight: Weight<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) lora: Option<Lora<'a>>,
}

impl Dense<'_> {
    /// Outputs.
    pub(crate) fn outputs(&self) -> usize {
        match self.weight {
            Weight::Full(panels) => panels.outputs,
            Weight::Half(panels) => panels.outputs,
        }
    }

    fn panels(&self) -> usize {
        self.outputs().div_ceil(PANEL)
    }

    /// The outputs of some panels.
    fn part(&self, panels: std::ops::Range<usize>) -> Self {
        let outputs = panels.start * PANEL..self.outputs().min(panels.end * PANEL);
        Dense {
            weight: match self.weight {
                Weight::Full(all) => Weight::Full(all.part(panels.clone())),
                Weight::Half(all) => Weight::Half(all.part(panels.clone())),
            },
            bias: self.bias.map(|bias| &bias[outputs]),
            lora: self.lora.map(|lora| Lora { b: lora.b.part(panels), ..lora }),
        }
    }

    /// Computes `y[rows × outputs]` from `x[rows × inputs]`.
    pub(crate) fn apply(&self, y: &mut [f32], x: &[f32], rows: usize) {
        match self.weight {
            Weight::Full(panels) => self.apply_to(panels, y, x, rows),
            Weight::Half(panels) => self.apply_to(panels, y, x, rows),
        }
    }

    fn apply_to<B: PanelValue>(&self, panels: Panels<B>, y: &mut [f32], x: &[f32], rows: usize) {
        let outputs = panels.outputs;
        product(Out::rows(y, outputs), Left::rows(x, rows, panels.inputs), panels, false);
        if let Some(lora) = self.lora {
            let rank = lora.a.outputs;
            let mut low = Scratch::new(rows * rank);
            product(Out::rows(&mut low, rank), Left::rows(x, rows, lora.a.inputs), lora.a, false);
            multiply(&mut low, lora.scale);
            product(Out::rows(y, outputs), Left::rows(&low, rows, rank), lora.b, true);
        }
        if let Some(bias) = self.bias {
            y.chunks_exact_mut(outputs).for_each(|row| add(row, bias));
        }
    }
}

/// Several matrices times the same rows, split over the team by outputs: for few rows of a large model,
/// whose weights are then read once by all threads together.
pub(crate) fn apply_split(team: &Team, x: &[f32], rows: usize, parts: &mut [(Dense, &mut Vec<f32>)]) {
    let threads = team.threads();
    if threads == 1 {
        for (dense, y) in parts {
            y.resize(rows * dense.outputs(), 0.0);
            dense.apply(y, x, rows);
        }
        return;
    }
    let mut items = Vec::new();
    for (at, (dense, _)) in parts.iter().enumerate() {
        let step = dense.panels().div_ceil(threads).max(1);
        for first in (0..dense.panels()).step_by(step) {
            items.push((at, first * PANEL, dense.part(first..dense.panels().min(first + step))));
        }
    }
    let results = team.map(items, |(at, first, dense)| {
        let mut y = vec![0.0; rows * dense.outputs()];
        dense.apply(&mut y, x, rows);
        (at, first, dense.outputs(), y)
    });
    for (dense, y) in parts.iter_mut() {
        y.resize(rows * dense.outputs(), 0.0);
    }
    for (at, first, width, part) in results {
        let (dense, y) = &mut parts[at];
        for (to, from) in y.chunks_exact_mut(dense.outputs()).zip(part.chunks_exact(width)) {
            to[first..first + width].copy_from_slice(from);
        }
    }
}

/// Cosines and sines of rotary positions: `[position][D / 2]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim / 2;
        let frequency = |i: usize| {
            let plain = 1.0 / libm::powf(config.rope_theta, 2.0 * i as f32 / config.head_dim as f32);
            config.rope_scaling.map_or(plain, |scaling| stretched(plain, &scaling))
        };
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = (0..config.context())
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency));
        let (cos, sin) = angles.map(|angle| (libm::cosf(angle), libm::sinf(angle))).unzip();
        Self { cos, sin, half }
    }

    /// Turns every head of `row` (a multiple of D wide) to `position`, or back (`direction` −1).
    pub(crate) fn turn(&self, row: &mut [f32], position: usize, direction: f32) {
        let at = position * self.half..(position + 1) * self.half;
        rotate(row, &self.cos[at.clone()], &self.sin[at], direction);
    }
}

/// Llama 3's frequency after scaling (transformers, `_compute_llama3_parameters`).
fn stretched(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = *scaling;
    let context = scaling.original_max_position_embeddings as f32;
    let wavelength = std::f32::consts::TAU / frequency;
    if wavelength > context / low {
        frequency / factor
    } else if wavelength < context / high {
        frequency
    } else {
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
