//! The transformer over a batch, forward and backward, written out by hand.
//!
//! Every step is split into items that own the rows (or the outputs) they write. The forward pass keeps
//! what the backward pass needs, or only each block's input (checkpointing), from which the rest is
//! computed again. Weight gradients are added in place. [`reference`](mod@crate::reference) computes the
//! same with candle's automatic differentiation and is what the tests hold this against.
//!
//! N rows of the batch, C channels, Q query width, K key/value width, F feed-forward width.

use crate::attention::{Heads, attend};
use crate::batch::Batch;
use crate::buffers::Buffers;
use crate::kernel::rows::{add, rms_norm, swiglu};
use crate::model::Model;
use crate::scratch::Scratch;
use crate::weights::Module;

/// Most rows of one item of work: few enough for its activations to stay in cache.
const ITEM_ROWS_MAX: usize = 96;
/// Rows of an item are a multiple of the largest tile.
const ITEM_ROWS_STEP: usize = 12;

/// What a forward pass keeps of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All that the backward pass needs.
    Everything,
    /// The block's input: the backward pass computes the rest again.
    Inputs,
    /// Keys and values.
    KeysAndValues,
    /// Nothing.
    Nothing,
}

/// Activations of one block; empty where they are not kept.
#[derive(Default)]
pub(crate) struct Stash {
    pub(crate) x: Vec<f32>,
    pub(crate) inverse1: Vec<f32>,
    /// Queries and keys before their norms, and 1 / rms of each head (Qwen3).
    pub(crate) raw: [Vec<f32>; 2],
    pub(crate) inverse_raw: [Vec<f32>; 2],
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) attended: Vec<f32>,
    pub(crate) mid: Vec<f32>,
    pub(crate) inverse2: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
}

impl Stash {
    /// Gives back what is not kept.
    fn reduce(mut self, keep: Keep, buffers: &mut Buffers) -> Self {
        let mut kept = Self::default();
        match keep {
            Keep::Everything => return self,
            Keep::Inputs => kept.x = std::mem::take(&mut self.x),
            Keep::KeysAndValues => {
                // They stay for long, and what they lie in may be much larger.
                kept.k = self.k.to_vec();
                kept.v = self.v.to_vec();
            }
            Keep::Nothing => {}
        }
        self.free(buffers);
        kept
    }

    /// Gives everything back.
    pub(crate) fn free(self, buffers: &mut Buffers) {
        let Self { x, inverse1, raw, inverse_raw, q, k, v, attended, mid, inverse2, gate, up } = self;
        let [raw_q, raw_k] = raw;
        let [inverse_q, inverse_k] = inverse_raw;
        for buffer in
            [x, inverse1, raw_q, raw_k, inverse_q, inverse_k, q, k, v, attended, mid, inverse2, gate, up]
        {
            buffers.give(buffer);
        }
    }
}

/// A forward pass, ready to be taken back.
pub(crate) struct Pass {
    pub(crate) batch: Batch,
    pub(crate) positions: Vec<usize>,
    pub(crate) keep: Keep,
    pub(crate) stashes: Vec<Stash>,
    /// Output of the last block, `[N, C]`, and 1 / rms of its rows.
    pub(crate) x: Vec<f32>,
    pub(crate) inverse: Vec<f32>,
    /// Normalised hidden states, `[N, C]`.
    pub(crate) hidden: Vec<f32>,
}

impl Pass {
    /// Gives all buffers back.
    pub(crate) fn free(self, buffers: &mut Buffers) {
        self.stashes.into_iter().for_each(|stash| stash.free(buffers));
        [self.x, self.inverse, self.hidden].into_iter().for_each(|buffer| buffers.give(buffer));
    }
}

/// Rows of one item of work.
pub(crate) fn item_rows(rows: usize, threads: usize) -> usize {
    let even = rows.div_ceil(threads).next_multiple_of(ITEM_ROWS_STEP);
    even.clamp(ITEM_ROWS_STEP, ITEM_ROWS_MAX)
}

/// A buffer in items of rows of `width` values; empty slices for an empty buffer.
pub(crate) fn split_rows(buffer: &mut [f32], width: usize, rows: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut rest = buffer;
    std::iter::repeat_with(move || {
        let now = rest.len().min(rows * width);
        let (item, later) = std::mem::take(&mut rest).split_at_mut(now);
        rest = later;
        item
    })
}

/// Runs the model over a batch.
pub(crate) fn forward(model: Model, batch: Batch, keep: Keep, buffers: &mut Buffers) -> Pass {
    let (n, c) = (batch.rows(), model.config.hidden_size);
    let positions = batch.positions();
    let mut x = buffers.take(n * c);
    x.clear();
    batch.tokens.iter().for_each(|token| model.embed(*token, &mut x));
    let mut stashes = Vec::with_capacity(model.layout.blocks.len());
    for layer in 0..model.layout.blocks.len() {
        let (stash, y) = block_forward(model, layer, &batch, &positions, x, buffers);
        stashes.push(stash.reduce(keep, buffers));
        x = y;
    }
    let (mut hidden, mut inverse) = (buffers.take(n * c), buffers.take(n));
    let norm = &model.weights[model.layout.norm.clone()];
    rms_norm(&mut hidden, &mut inverse, &x, norm, model.config.rms_norm_eps);
    Pass { batch, positions, keep, stashes, x, inverse, hidden }
}

/// One decoder block: what it keeps, and its output.
pub(crate) fn block_forward(
    model: Model,
    layer: usize,
    batch: &Batch,
    positions: &[usize],
    x: Vec<f32>,
    buffers: &mut Buffers,
) -> (Stash, Vec<f32>) {
    let (n, c) = (batch.rows(), model.config.hidden_size);
    let mut stash = Stash { x, ..queries(model, n, buffers) };
    before_attention(model, layer, positions, &mut stash);
    stash.attended = buffers.take(n * model.config.query_width());
    let heads = Heads { q: &stash.q, k: &stash.k, v: &stash.v };
    attend(model.config, model.team, batch, heads, &mut stash.attended);
    stash.mid = buffers.take(n * c);
    stash.inverse2 = buffers.take(n);
    stash.gate = buffers.take(n * model.config.intermediate_size);
    stash.up = buffers.take(n * model.config.intermediate_size);
    let mut y = buffers.take(n * c);
    after_attention(model, layer, &mut stash, &mut y);
    (stash, y)
}

/// Buffers for what comes before attention.
fn queries(model: Model, n: usize, buffers: &mut Buffers) -> Stash {
    let (q, kv, d) = (model.config.query_width(), model.config.kv_width(), model.config.head_dim);
    let mut stash = Stash {
        inverse1: buffers.take(n),
        q: buffers.take(n * q),
        k: buffers.take(n * kv),
        v: buffers.take(n * kv),
        ..Stash::default()
    };
    if model.config.qk_norm() {
        stash.raw = [buffers.take(n * q), buffers.take(n * kv)];
        stash.inverse_raw = [buffers.take(n * q / d), buffers.take(n * kv / d)];
    }
    stash
}

/// Some rows before attention.
struct Before<'a> {
    positions: &'a [usize],
    x: &'a [f32],
    inverse1: &'a mut [f32],
    raw: [&'a mut [f32]; 2],
    inverse_raw: [&'a mut [f32]; 2],
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
}

fn before_attention(model: Model, layer: usize, positions: &[usize], stash: &mut Stash) {
    let config = model.config;
    let (c, q, kv, d) = (config.hidden_size, config.query_width(), config.kv_width(), config.head_dim);
    let rows = item_rows(positions.len(), model.team.threads());
    let [raw_q, raw_k] = &mut stash.raw;
    let [inverse_q, inverse_k] = &mut stash.inverse_raw;
    let mut raws = split_rows(raw_q, q, rows).zip(split_rows(raw_k, kv, rows));
    let mut inverses = split_rows(inverse_q, q / d, rows).zip(split_rows(inverse_k, kv / d, rows));
    let (mut inverse1, mut qs) =
        (split_rows(&mut stash.inverse1, 1, rows), split_rows(&mut stash.q, q, rows));
    let (mut ks, mut vs) = (split_rows(&mut stash.k, kv, rows), split_rows(&mut stash.v, kv, rows));
    let mut items = Vec::new();
    for (positions, x) in positions.chunks(rows).zip(stash.x.chunks(rows * c)) {
        let (Some((raw_q, raw_k)), Some((inverse_q, inverse_k))) = (raws.next(), inverses.next()) else {
            break;
        };
        let (Some(inverse1), Some(q), Some(k), Some(v)) = (inverse1.next(), qs.next(), ks.next(), vs.next())
        else {
            break;
        };
        let (raw, inverse_raw) = ([raw_q, raw_k], [inverse_q, inverse_k]);
        items.push(Before { positions, x, inverse1, raw, inverse_raw, q, k, v });
    }
    model.team.each(items, |item| project(model, layer, item));
}

/// Queries, keys and values of some rows, turned to their positions.
fn project(model: Model, layer: usize, item: Before) {
    let (config, block) = (model.config, &model.layout.blocks[layer]);
    let n = item.positions.len();
    let mut h = Scratch::new(n * config.hidden_size);
    rms_norm(&mut h, item.inverse1, item.x, &model.weights[block.norm1.clone()], config.rms_norm_eps);
    model.dense(layer, Module::V).apply(item.v, &h, n);
    let [raw_q, raw_k] = item.raw;
    let [inverse_q, inverse_k] = item.inverse_raw;
    for (which, (module, to, raw, inverse)) in
        [(Module::Q, item.q, raw_q, inverse_q), (Module::K, item.k, raw_k, inverse_k)].into_iter().enumerate()
    {
        match &block.qk_norm {
            None => model.dense(layer, module).apply(to, &h, n),
            Some(norms) => {
                model.dense(layer, module).apply(raw, &h, n);
                let norm = &model.weights[norms[which].clone()];
                rms_norm(to, inverse, raw, norm, config.rms_norm_eps);
            }
        }
        let width = to.len() / n;
        for (row, position) in to.chunks_exact_mut(width).zip(item.positions) {
            model.rotary.turn(row, *position, 1.0);
        }
    }
}

/// Some rows after attention.
struct After<'a> {
    x: &'a [f32],
    attended: &'a [f32],
    mid: &'a mut [f32],
    inverse2: &'a mut [f32],
    gate: &'a mut [f32],
    up: &'a mut [f32],
    y: &'a mut [f32],
}

fn after_attention(model: Model, layer: usize, stash: &mut Stash, y: &mut [f32]) {
    let config = model.config;
    let (c, f, q) = (config.hidden_size, config.intermediate_size, config.query_width());
    let rows = item_rows(y.len() / c, model.team.threads());
    let items = stash
        .x
        .chunks(rows * c)
        .zip(stash.attended.chunks(rows * q))
        .zip(stash.mid.chunks_mut(rows * c).zip(stash.inverse2.chunks_mut(rows)))
        .zip(stash.gate.chunks_mut(rows * f).zip(stash.up.chunks_mut(rows * f)))
        .zip(y.chunks_mut(rows * c))
        .map(|((((x, attended), (mid, inverse2)), (gate, up)), y)| After {
            x,
            attended,
            mid,
            inverse2,
            gate,
            up,
            y,
        });
    model.team.each(items.collect(), |item| feed_forward(model, layer, item));
}

/// mid = x + o(attended); y = mid + down(silu(gate(h)) · up(h)), h the normalised mid.
fn feed_forward(model: Model, layer: usize, item: After) {
    let (config, block) = (model.config, &model.layout.blocks[layer]);
    let n = item.inverse2.len();
    model.dense(layer, Module::O).apply(item.mid, item.attended, n);
    add(item.mid, item.x);
    let mut h = Scratch::new(n * config.hidden_size);
    rms_norm(&mut h, item.inverse2, item.mid, &model.weights[block.norm2.clone()], config.rms_norm_eps);
    model.dense(layer, Module::Gate).apply(item.gate, &h, n);
    model.dense(layer, Module::Up).apply(item.up, &h, n);
    let mut act = Scratch::new(n * config.intermediate_size);
    swiglu(&mut act, item.gate, item.up);
    model.dense(layer, Module::Down).apply(item.y, &act, n);
    add(item.y, item.mid);
}
