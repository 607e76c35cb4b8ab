//! A forward pass taken back: gradients by all weights, or by the adapters alone.
//!
//! Weight gradients are chains over the batch's rows in order, continued from what the sink holds, so
//! micro-batches add up in place and threads change nothing.
//!
//! N rows of the batch, C channels, Q query width, K key/value width, F feed-forward width.

use std::ops::Range;

use crate::attention::{HeadGradients, Heads, attend_gradient};
use crate::batch::Batch;
use crate::buffers::Buffers;
use crate::forward::{Keep, Pass, Stash, block_forward, item_rows, split_rows};
use crate::kernel::rows::{
    add, multiply, rms_norm_again, rms_norm_gradient, rms_norm_weight_gradient, swiglu_gradient,
};
use crate::kernel::{Left, Out, PANEL, Panels, pack_columns, panels_len, product, transpose_panel};
use crate::lora::Lora;
use crate::model::{Model, place};
use crate::scratch::Scratch;
use crate::team::Team;
use crate::weights::Module;

/// Panels of weight gradients of one item of work.
const ITEM_PANELS: usize = 4;
/// Rows of the batch that enter a weight gradient at a time, to stay in cache.
const ITEM_CHAIN: usize = 256;

/// Where gradients are added; `None` for weights that are frozen.
pub(crate) struct Sinks<'a> {
    /// In the layout of the model's weights.
    pub(crate) base: Option<&'a mut [f32]>,
    /// In the layout of the adapter's.
    pub(crate) adapter: Option<&'a mut [f32]>,
}

/// Adds what `d_hidden`, the loss's gradient by the normalised hidden states, leads to. The output
/// matrix is the caller's.
pub(crate) fn backward(model: Model, pass: Pass, d_hidden: &[f32], sinks: &mut Sinks, buffers: &mut Buffers) {
    let c = model.config.hidden_size;
    let Pass { batch, positions, keep, stashes, x, inverse, hidden } = pass;
    buffers.give(hidden);
    let mut dx = buffers.zeros(x.len());
    let norm = model.layout.norm.clone();
    rms_norm_gradient(&mut dx, d_hidden, &x, &model.weights[norm.clone()], &inverse);
    if let Some(base) = &mut sinks.base {
        rms_norm_weight_gradient(&mut base[norm], d_hidden, &x, &inverse);
    }
    buffers.give(x);
    buffers.give(inverse);
    for (layer, stash) in stashes.into_iter().enumerate().rev() {
        let stash = match keep {
            Keep::Inputs => {
                let (stash, y) = block_forward(model, layer, &batch, &positions, stash.x, buffers);
                buffers.give(y);
                stash
            }
            _ => stash,
        };
        let context = Context { model, layer, batch: &batch, positions: &positions };
        dx = block_backward(context, stash, dx, sinks, buffers);
    }
    if let Some(base) = &mut sinks.base {
        for (token, dx) in batch.tokens.iter().zip(dx.chunks_exact(c)) {
            let to = base[place(model.layout.embedding, *token)..].iter_mut().step_by(PANEL);
            to.zip(dx).for_each(|(to, dx)| *to += dx);
        }
    }
    buffers.give(dx);
}

#[derive(Clone, Copy)]
struct Context<'a> {
    model: Model<'a>,
    layer: usize,
    batch: &'a Batch,
    positions: &'a [usize],
}

/// A matrix and its adapter the other way round: what leads from outputs back to inputs.
struct Turned {
    inputs: usize,
    outputs: usize,
    weight: Vec<f32>,
    /// Transposes of A and B, rank and scale.
    lora: Option<(Vec<f32>, Vec<f32>, usize, f32)>,
}

impl Turned {
    /// dx (+)= dy · W, and the adapter's part.
    fn apply(&self, dx: &mut [f32], dy: &[f32], rows: usize, keep: bool) {
        let weight = Panels::new(&self.weight, self.inputs, self.outputs);
        product(Out::rows(dx, self.inputs), Left::rows(dy, rows, self.outputs), weight, keep);
        if let Some((a, b, rank, scale)) = &self.lora {
            let mut low = Scratch::new(rows * rank);
            let b = Panels::new(b, *rank, self.outputs);
            product(Out::rows(&mut low, *rank), Left::rows(dy, rows, self.outputs), b, false);
            multiply(&mut low, *scale);
            let a = Panels::new(a, self.inputs, *rank);
            product(Out::rows(dx, self.inputs), Left::rows(&low, rows, *rank), a, true);
        }
    }
}

/// Turns all seven matrices of a block.
fn turn(context: Context, buffers: &mut Buffers) -> Vec<Turned> {
    let Context { model, layer, .. } = context;
    let mut all: Vec<(Turned, Panels, Option<Lora>)> = Vec::new();
    for module in Module::ALL {
        let matrix = model.layout.blocks[layer].linears[module as usize].weight.panels(model.weights);
        let lora = model.adapter.and_then(|adapter| adapter.view(layer, module));
        let turned = Turned {
            inputs: matrix.inputs,
            outputs: matrix.outputs,
            weight: buffers.take(panels_len(matrix.inputs, matrix.outputs)),
            lora: lora.map(|lora| {
                let rank = lora.a.outputs;
                let a = vec![0.0; panels_len(matrix.inputs, rank)];
                (a, vec![0.0; panels_len(rank, matrix.outputs)], rank, lora.scale)
            }),
        };
        all.push((turned, matrix, lora));
    }
    let mut items = Vec::new();
    for (turned, matrix, lora) in &mut all {
        transposes(&mut items, &mut turned.weight, *matrix);
        if let (Some((a, b, ..)), Some(lora)) = (&mut turned.lora, lora) {
            transposes(&mut items, a, lora.a);
            transposes(&mut items, b, lora.b);
        }
    }
    model.team.each(items, |(to, matrix, panel)| transpose_panel(to, matrix, panel));
    all.into_iter().map(|(turned, ..)| turned).collect()
}

fn transposes<'a>(
    items: &mut Vec<(&'a mut [f32], Panels<'a>, usize)>,
    to: &'a mut [f32],
    matrix: Panels<'a>,
) {
    let panels = to.chunks_exact_mut(matrix.outputs * PANEL).enumerate();
    items.extend(panels.map(|(panel, to)| (to, matrix, panel)));
}

fn block_backward(
    context: Context,
    mut s: Stash,
    dy: Vec<f32>,
    sinks: &mut Sinks,
    buffers: &mut Buffers,
) -> Vec<f32> {
    let config = context.model.config;
    let (n, c, f) = (context.positions.len(), config.hidden_size, config.intermediate_size);
    let (qw, kw) = (config.query_width(), config.kv_width());
    let turned = turn(context, buffers);
    let mut g = Gradients {
        d_mid: buffers.take(n * c),
        h2: buffers.take(n * c),
        dh2: buffers.take(n * c),
        act: buffers.take(n * f),
        d_attended: buffers.take(n * qw),
        q: buffers.take(n * qw),
        k: buffers.take(n * kw),
        v: buffers.take(n * kw),
        normed: if config.qk_norm() {
            [buffers.take(n * qw), buffers.take(n * kw)]
        } else {
            Default::default()
        },
        h1: buffers.take(n * c),
        dh1: buffers.take(n * c),
        dx: buffers.take(n * c),
    };
    feed_forward_backward(context, &turned, &mut s, &dy, &mut g);
    let (mut q, mut k, mut v) = (buffers.take(n * qw), buffers.take(n * kw), buffers.take(n * kw));
    let heads = Heads { q: &s.q, k: &s.k, v: &s.v };
    let by_head = HeadGradients { q: &mut q, k: &mut k, v: &mut v };
    attend_gradient(config, context.model.team, context.batch, heads, &g.d_attended, by_head);
    gather_heads(context, [&q, &k, &v], &mut g);
    [q, k, v].into_iter().for_each(|buffer| buffers.give(buffer));
    project_backward(context, &turned, &s, &mut g);
    weight_gradients(context, &s, &dy, &g, sinks, buffers);
    turned.into_iter().for_each(|turned| buffers.give(turned.weight));
    s.free(buffers);
    buffers.give(dy);
    g.free(buffers)
}

/// Gradients by activations of one block, `[N, …]`.
struct Gradients {
    d_mid: Vec<f32>,
    h2: Vec<f32>,
    dh2: Vec<f32>,
    act: Vec<f32>,
    d_attended: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// By the queries and keys after their norms, where these exist.
    normed: [Vec<f32>; 2],
    h1: Vec<f32>,
    dh1: Vec<f32>,
    dx: Vec<f32>,
}

impl Gradients {
    /// Gives everything back but the gradient by the block's input.
    fn free(self, buffers: &mut Buffers) -> Vec<f32> {
        let Self { d_mid, h2, dh2, act, d_attended, q, k, v, normed, h1, dh1, dx } = self;
        let [normed_q, normed_k] = normed;
        for buffer in [d_mid, h2, dh2, act, d_attended, q, k, v, normed_q, normed_k, h1, dh1] {
            buffers.give(buffer);
        }
        dx
    }
}

/// Some rows of the feed-forward part on the way back.
struct After<'a> {
    dy: &'a [f32],
    mid: &'a [f32],
    inverse2: &'a [f32],
    gate: &'a mut [f32],
    up: &'a mut [f32],
    act: &'a mut [f32],
    h2: &'a mut [f32],
    dh2: &'a mut [f32],
    d_mid: &'a mut [f32],
    d_attended: &'a mut [f32],
}

fn feed_forward_backward(context: Context, turned: &[Turned], s: &mut Stash, dy: &[f32], g: &mut Gradients) {
    let config = context.model.config;
    let (c, f, qw) = (config.hidden_size, config.intermediate_size, config.query_width());
    let rows = item_rows(context.positions.len(), context.model.team.threads());
    let read = dy.chunks(rows * c).zip(s.mid.chunks(rows * c)).zip(s.inverse2.chunks(rows));
    let wide = s.gate.chunks_mut(rows * f).zip(s.up.chunks_mut(rows * f)).zip(g.act.chunks_mut(rows * f));
    let hidden = g.h2.chunks_mut(rows * c).zip(g.dh2.chunks_mut(rows * c));
    let out = g.d_mid.chunks_mut(rows * c).zip(g.d_attended.chunks_mut(rows * qw));
    let items = read.zip(wide).zip(hidden).zip(out).map(
        |(((((dy, mid), inverse2), ((gate, up), act)), (h2, dh2)), (d_mid, d_attended))| After {
            dy,
            mid,
            inverse2,
            gate,
            up,
            act,
            h2,
            dh2,
            d_mid,
            d_attended,
        },
    );
    let norm = &context.model.weights[context.model.layout.blocks[context.layer].norm2.clone()];
    context.model.team.each(items.collect(), |item| {
        let n = item.inverse2.len();
        let mut d_act = Scratch::new(n * f);
        turned[Module::Down as usize].apply(&mut d_act, item.dy, n, false);
        swiglu_gradient(item.act, &d_act, item.gate, item.up);
        turned[Module::Gate as usize].apply(item.dh2, item.gate, n, false);
        turned[Module::Up as usize].apply(item.dh2, item.up, n, true);
        rms_norm_again(item.h2, item.inverse2, item.mid, norm);
        item.d_mid.copy_from_slice(item.dy);
        rms_norm_gradient(item.d_mid, item.dh2, item.mid, norm, item.inverse2);
        turned[Module::O as usize].apply(item.d_attended, item.d_mid, n, false);
    });
}

/// Puts gradients by head side by side again, turned back to position 0.
fn gather_heads(context: Context, by_head: [&[f32]; 3], g: &mut Gradients) {
    let config = context.model.config;
    let heads = config.num_key_value_heads;
    let qk_norm = config.qk_norm();
    let [normed_q, normed_k] = &mut g.normed;
    let (q, k) = if qk_norm { (normed_q, normed_k) } else { (&mut g.q, &mut g.k) };
    let widths = [config.query_width(), config.kv_width(), config.kv_width()];
    for ((from, to), (width, turns)) in
        by_head.into_iter().zip([q, k, &mut g.v]).zip(widths.into_iter().zip([true, true, false]))
    {
        let part = width / heads;
        let (mut from, mut to) = (from, &mut to[..]);
        let mut items = Vec::new();
        for tree in &context.batch.trees {
            let rows = tree.rows();
            let (now, later) = from.split_at(rows.len() * width);
            let (to_now, to_later) = std::mem::take(&mut to).split_at_mut(rows.len() * width);
            items.push((now, to_now, &context.positions[rows]));
            (from, to) = (later, to_later);
        }
        context.model.team.each(items, |(from, to, positions)| {
            let rows = positions.len();
            for (i, (row, position)) in to.chunks_exact_mut(width).zip(positions).enumerate() {
                for (head, to) in row.chunks_exact_mut(part).enumerate() {
                    to.copy_from_slice(&from[(head * rows + i) * part..][..part]);
                }
                if turns {
                    context.model.rotary.turn(row, *position, -1.0);
                }
            }
        });
    }
}

/// Some rows before attention on the way back.
struct Before<'a> {
    x: &'a [f32],
    inverse1: &'a [f32],
    d_mid: &'a [f32],
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a [f32],
    normed: [&'a [f32]; 2],
    raw: [&'a [f32]; 2],
    inverse_raw: [&'a [f32]; 2],
    h1: &'a mut [f32],
    dh1: &'a mut [f32],
    dx: &'a mut [f32],
}

fn project_backward(context: Context, turned: &[Turned], s: &Stash, g: &mut Gradients) {
    let config = context.model.config;
    let (c, qw, kw, d) = (config.hidden_size, config.query_width(), config.kv_width(), config.head_dim);
    let n = context.positions.len();
    let rows = item_rows(n, context.model.team.threads());
    let part = |from: &'_ [f32], width: usize, first: usize| -> Range<usize> {
        if from.is_empty() { 0..0 } else { first * width..from.len().min((first + rows) * width) }
    };
    let mut qs = split_rows(&mut g.q, qw, rows).zip(split_rows(&mut g.k, kw, rows));
    let mut hs = split_rows(&mut g.h1, c, rows).zip(split_rows(&mut g.dh1, c, rows));
    let mut dxs = split_rows(&mut g.dx, c, rows);
    let mut items = Vec::new();
    for first in (0..n).step_by(rows) {
        let (Some((q, k)), Some((h1, dh1)), Some(dx)) = (qs.next(), hs.next(), dxs.next()) else { break };
        items.push(Before {
            x: &s.x[part(&s.x, c, first)],
            inverse1: &s.inverse1[part(&s.inverse1, 1, first)],
            d_mid: &g.d_mid[part(&g.d_mid, c, first)],
            q,
            k,
            v: &g.v[part(&g.v, kw, first)],
            normed: [
                &g.normed[0][part(&g.normed[0], qw, first)],
                &g.normed[1][part(&g.normed[1], kw, first)],
            ],
            raw: [&s.raw[0][part(&s.raw[0], qw, first)], &s.raw[1][part(&s.raw[1], kw, first)]],
            inverse_raw: [
                &s.inverse_raw[0][part(&s.inverse_raw[0], qw / d, first)],
                &s.inverse_raw[1][part(&s.inverse_raw[1], kw / d, first)],
            ],
            h1,
            dh1,
            dx,
        });
    }
    let block = &context.model.layout.blocks[context.layer];
    let norm = &context.model.weights[block.norm1.clone()];
    context.model.team.each(items, |item| {
        let n = item.inverse1.len();
        if let Some(norms) = &block.qk_norm {
            for (which, to) in [&mut *item.q, &mut *item.k].into_iter().enumerate() {
                to.fill(0.0);
                let norm = &context.model.weights[norms[which].clone()];
                rms_norm_gradient(to, item.normed[which], item.raw[which], norm, item.inverse_raw[which]);
            }
        }
        turned[Module::Q as usize].apply(item.dh1, item.q, n, false);
        turned[Module::K as usize].apply(item.dh1, item.k, n, true);
        turned[Module::V as usize].apply(item.dh1, item.v, n, true);
        rms_norm_again(item.h1, item.inverse1, item.x, norm);
        item.dx.copy_from_slice(item.d_mid);
        rms_norm_gradient(item.dx, item.dh1, item.x, norm, item.inverse1);
    });
}

/// What a weight's gradient is made of; all `[N, …]`.
enum Source<'a> {
    /// dyᵀ · x.
    Matrix { dy: &'a [f32], x: &'a [f32], outputs: usize, inputs: usize },
    /// Column sums of dy.
    Bias { dy: &'a [f32] },
    /// Column sums of dy · x / rms.
    Norm { dy: &'a [f32], x: &'a [f32], inverse: &'a [f32] },
}

fn weight_gradients(
    context: Context,
    s: &Stash,
    dy: &[f32],
    g: &Gradients,
    sinks: &mut Sinks,
    buffers: &mut Buffers,
) {
    let Context { model, layer, .. } = context;
    let block = &model.layout.blocks[layer];
    // By module: the gradient by its outputs, and its inputs.
    let ends: [(&[f32], &[f32]); 7] = [
        (&g.q, &g.h1),
        (&g.k, &g.h1),
        (&g.v, &g.h1),
        (&g.d_mid, &s.attended),
        (&s.gate, &g.h2),
        (&s.up, &g.h2),
        (dy, &g.act),
    ];
    if let Some(base) = &mut sinks.base {
        let mut jobs = vec![
            (block.norm1.clone(), Source::Norm { dy: &g.dh1, x: &s.x, inverse: &s.inverse1 }),
            (block.norm2.clone(), Source::Norm { dy: &g.dh2, x: &s.mid, inverse: &s.inverse2 }),
        ];
        for (which, norm) in block.qk_norm.iter().flatten().enumerate() {
            let (dy, x) = (&g.normed[which], &s.raw[which]);
            jobs.push((norm.clone(), Source::Norm { dy, x, inverse: &s.inverse_raw[which] }));
        }
        for (linear, (dy, x)) in block.linears.iter().zip(ends) {
            let (outputs, inputs) = (linear.weight.outputs, linear.weight.inputs);
            jobs.push((linear.weight.range(), Source::Matrix { dy, x, outputs, inputs }));
            jobs.extend(linear.bias.clone().map(|range| (range, Source::Bias { dy })));
        }
        accumulate(model.team, base, jobs);
    }
    if let (Some(sink), Some(adapter)) = (&mut sinks.adapter, model.adapter) {
        let n = context.positions.len();
        let mut lows = Vec::new();
        for (module, (dy, x)) in Module::ALL.into_iter().zip(ends) {
            if let (Some(pair), Some(lora)) = (adapter.pair(layer, module), adapter.view(layer, module)) {
                let low = low_rank_ends(model.team, lora, dy, x, n, buffers);
                lows.push((pair, low, dy, x));
            }
        }
        let mut jobs = Vec::new();
        for (pair, (low, d_low), dy, x) in &lows {
            let rank = pair.a.outputs;
            jobs.push((
                pair.a.range(),
                Source::Matrix { dy: d_low, x, outputs: rank, inputs: pair.a.inputs },
            ));
            jobs.push((pair.b.range(), Source::Matrix { dy, x: low, outputs: pair.b.outputs, inputs: rank }));
        }
        accumulate(model.team, sink, jobs);
        for (_, (low, d_low), ..) in lows {
            buffers.give(low);
            buffers.give(d_low);
        }
    }
}

/// scale · A·x and its gradient scale · dy·B, `[N, rank]` each.
fn low_rank_ends(
    team: &Team,
    lora: Lora,
    dy: &[f32],
    x: &[f32],
    n: usize,
    buffers: &mut Buffers,
) -> (Vec<f32>, Vec<f32>) {
    let (rank, inputs, outputs) = (lora.a.outputs, lora.a.inputs, lora.b.outputs);
    let (mut low, mut d_low) = (buffers.take(n * rank), buffers.take(n * rank));
    let mut b = vec![0.0; panels_len(rank, outputs)];
    b.chunks_exact_mut(outputs * PANEL)
        .enumerate()
        .for_each(|(panel, to)| transpose_panel(to, lora.b, panel));
    let b = Panels::new(&b, rank, outputs);
    let rows = item_rows(n, team.threads());
    let ends = low.chunks_mut(rows * rank).zip(d_low.chunks_mut(rows * rank));
    let items = ends.zip(x.chunks(rows * inputs).zip(dy.chunks(rows * outputs)));
    team.each(items.collect(), |((low, d_low), (x, dy))| {
        let n = low.len() / rank;
        product(Out::rows(low, rank), Left::rows(x, n, inputs), lora.a, false);
        product(Out::rows(d_low, rank), Left::rows(dy, n, outputs), b, false);
        multiply(low, lora.scale);
        multiply(d_low, lora.scale);
    });
    (low, d_low)
}

/// Adds gradients to disjoint parts of a sink.
fn accumulate(team: &Team, sink: &mut [f32], mut jobs: Vec<(Range<usize>, Source)>) {
    jobs.sort_by_key(|(range, _)| range.start);
    let mut items: Vec<(&mut [f32], usize, &Source)> = Vec::new();
    let (mut rest, mut at) = (sink, 0);
    for (range, source) in &jobs {
        let (_, from) = std::mem::take(&mut rest).split_at_mut(range.start - at);
        let (now, later) = from.split_at_mut(range.len());
        (rest, at) = (later, range.end);
        match source {
            Source::Matrix { inputs, .. } => {
                let parts = now.chunks_mut(ITEM_PANELS * inputs * PANEL).enumerate();
                items.extend(parts.map(|(i, part)| (part, i * ITEM_PANELS * PANEL, source)));
            }
            _ => items.push((now, 0, source)),
        }
    }
    team.each(items, |(to, first, source)| match source {
        Source::Matrix { dy, x, outputs, inputs } => {
            matrix_gradient(to, first, dy, x, *outputs, *inputs);
        }
        Source::Bias { dy } => dy.chunks_exact(to.len()).for_each(|row| add(to, row)),
        Source::Norm { dy, x, inverse } => rms_norm_weight_gradient(to, dy, x, inverse),
    });
}

/// Some panels of a matrix's gradient, outputs from `first` on: chains over the rows in order.
pub(crate) fn matrix_gradient(
    to: &mut [f32],
    first: usize,
    dy: &[f32],
    x: &[f32],
    outputs: usize,
    inputs: usize,
) {
    let panels = to.len() / (inputs * PANEL);
    let lanes = (panels * PANEL).min(outputs - first);
    let mut right = Scratch::default();
    for (dy, x) in dy.chunks(ITEM_CHAIN * outputs).zip(x.chunks(ITEM_CHAIN * inputs)) {
        let rows = x.len() / inputs;
        right.renew(panels * PANEL * rows);
        pack_columns(&mut right, dy, outputs, first, lanes);
        // All lanes count as outputs here, the padding too: it receives zeros.
        let right = Panels::new(&right, panels * PANEL, rows);
        product(Out::panels(to, inputs), Left::columns(x, inputs, inputs), right, true);
    }
}
