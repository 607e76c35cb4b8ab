//! A model ready to compute with: its parts by name, and what multiplies with them.

use std::ops::Range;

use crate::config::{ModelConfig, RopeScaling};
use crate::kernel::rows::{add, multiply, rotate, swiglu};
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

    /// The outputs of some panels.
    fn part(&self, panels: Range<usize>) -> Self {
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

/// Several matrices times the same rows, their outputs shared out over the team: for few rows of a large
/// model, whose weights are then read once by all threads together.
pub(crate) fn apply_split<const N: usize>(
    team: &Team,
    x: &[f32],
    rows: usize,
    dense: [Dense; N],
    y: [&mut Vec<f32>; N],
) {
    let outputs = dense.map(|dense| dense.outputs());
    split(team, rows, outputs, y, |which, panels, y| dense[which].part(panels).apply(y, x, rows));
}

/// As [`apply_split`]: silu(gate·x) · up·x.
pub(crate) fn gated_split(team: &Team, x: &[f32], rows: usize, [gate, up]: [Dense; 2], y: &mut Vec<f32>) {
    split(team, rows, [gate.outputs()], [y], |_, panels, y| {
        let (mut g, mut u) = (Scratch::new(y.len()), Scratch::new(y.len()));
        gate.part(panels.clone()).apply(&mut g, x, rows);
        up.part(panels).apply(&mut u, x, rows);
        swiglu(y, &g, &u);
    });
}

/// Fills matrices `[rows × outputs]`: every thread `compute`s its share of the panels of each.
fn split<const N: usize>(
    team: &Team,
    rows: usize,
    outputs: [usize; N],
    mut y: [&mut Vec<f32>; N],
    compute: impl Fn(usize, Range<usize>, &mut [f32]) + Sync + Send,
) {
    let threads = team.threads();
    for (y, outputs) in y.iter_mut().zip(outputs) {
        y.resize(rows * outputs, 0.0);
    }
    if threads == 1 {
        for (which, (y, outputs)) in y.iter_mut().zip(outputs).enumerate() {
            compute(which, 0..outputs.div_ceil(PANEL), y);
        }
        return;
    }
    let share = |outputs: usize, thread: usize| {
        let panels = outputs.div_ceil(PANEL);
        panels * thread / threads..panels * (thread + 1) / threads
    };
    let width = |outputs: usize, share: &Range<usize>| outputs.min(share.end * PANEL) - share.start * PANEL;
    let shares = team.map((0..threads).collect(), |thread| {
        let mut which = 0;
        outputs.map(|outputs| {
            let share = share(outputs, thread);
            let mut part = vec![0.0; rows * width(outputs, &share)];
            compute(which, share, &mut part);
            which += 1;
            part
        })
    });
    for (thread, parts) in shares.into_iter().enumerate() {
        for ((y, part), outputs) in y.iter_mut().zip(parts).zip(outputs) {
            let share = share(outputs, thread);
            let (first, width) = (share.start * PANEL, width(outputs, &share));
            if width > 0 {
                for (to, from) in y.chunks_exact_mut(outputs).zip(part.chunks_exact(width)) {
                    to[first..first + width].copy_from_slice(from);
                }
            }
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
