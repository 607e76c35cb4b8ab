//! The transformer over a ragged batch, forward and backward, written out by hand.
//!
//! Sequences lie one behind the other without padding: every product runs over all N tokens at once,
//! attention runs within each sequence. The forward pass keeps what the backward pass needs; weight
//! gradients are added in place to one slice of the weights' layout. `reference` computes the same
//! with candle's automatic differentiation and is what the tests hold this against.
//!
//! N tokens of the batch, C channels, Q query width, K key/value width, F feed-forward width,
//! D head size, V vocabulary.

use crate::config::ModelConfig;
use crate::math::{Rotary, add_scaled, dot, rms_norm, rms_norm_gradient, softmax, swiglu, swiglu_gradient};
use crate::product::{linear, linear_input_gradient, linear_weight_gradient};
use crate::weights::{Block, Layout};

/// What a pass needs to know of the model.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) weights: &'a [f32],
    pub(crate) rotary: &'a Rotary,
}

/// Token ids of several sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tokens: Vec<u32>,
    /// First token of each sequence, and the end of the last.
    pub(crate) starts: Vec<usize>,
}

impl Batch {
    pub(crate) fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self { tokens: Vec::new(), starts: vec![0] };
        for sequence in sequences {
            batch.tokens.extend_from_slice(sequence);
            batch.starts.push(batch.tokens.len());
        }
        batch
    }

    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }
}

/// Activations of one block that its backward pass needs.
struct Stash {
    x: Vec<f32>,
    inverse1: Vec<f32>,
    h1: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    mid: Vec<f32>,
    inverse2: Vec<f32>,
    h2: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    act: Vec<f32>,
}

/// A forward pass, ready to be taken back.
pub(crate) struct Pass {
    batch: Batch,
    stashes: Vec<Stash>,
    x: Vec<f32>,
    inverse: Vec<f32>,
    /// Normalised hidden states, `[N, C]`.
    pub(crate) hidden: Vec<f32>,
}

impl Pass {
    /// Keys (turned) and values of every block, `[N, K]` each.
    pub(crate) fn into_keys_and_values(self) -> impl Iterator<Item = (Vec<f32>, Vec<f32>)> {
        self.stashes.into_iter().map(|stash| (stash.k, stash.v))
    }
}

/// Runs the model over a batch.
pub(crate) fn forward(model: Model, batch: Batch) -> Pass {
    let (n, c) = (batch.tokens.len(), model.config.hidden_size);
    let embedding = &model.weights[model.layout.embedding.clone()];
    let mut x = Vec::with_capacity(n * c);
    for &token in &batch.tokens {
        x.extend_from_slice(&embedding[token as usize * c..][..c]);
    }
    let mut stashes = Vec::with_capacity(model.layout.blocks.len());
    for block in &model.layout.blocks {
        let (stash, y) = block_forward(model, block, &batch, x);
        stashes.push(stash);
        x = y;
    }
    let (mut hidden, mut inverse) = (vec![0.0; n * c], vec![0.0; n]);
    let norm = &model.weights[model.layout.norm.clone()];
    rms_norm(&mut hidden, &mut inverse, &x, norm, model.config.rms_norm_eps);
    Pass { batch, stashes, x, inverse, hidden }
}

fn block_forward(model: Model, block: &Block, batch: &Batch, x: Vec<f32>) -> (Stash, Vec<f32>) {
    let (config, w) = (model.config, model.weights);
    let (n, c, f) = (batch.tokens.len(), config.hidden_size, config.intermediate_size);
    let (qw, kw) = (config.query_width(), config.kv_width());
    let eps = config.rms_norm_eps;
    let (mut h1, mut inverse1) = (vec![0.0; n * c], vec![0.0; n]);
    rms_norm(&mut h1, &mut inverse1, &x, &w[block.norm1.clone()], eps);
    let (mut q, mut k, mut v) = (vec![0.0; n * qw], vec![0.0; n * kw], vec![0.0; n * kw]);
    linear(&mut q, &h1, &w[block.q.weight.clone()], n, c, qw);
    linear(&mut k, &h1, &w[block.k.weight.clone()], n, c, kw);
    linear(&mut v, &h1, &w[block.v.weight.clone()], n, c, kw);
    for range in batch.ranges() {
        for (position, token) in range.enumerate() {
            model.rotary.turn(&mut q[token * qw..][..qw], position);
            model.rotary.turn(&mut k[token * kw..][..kw], position);
        }
    }
    let mut attended = vec![0.0; n * qw];
    let mut scores = Vec::new();
    for range in batch.ranges() {
        for head in 0..config.num_attention_heads {
            for token in range.clone() {
                attention_row(config, head, range.start, token, &q, &k, &mut scores);
                let out = head_of(&mut attended, token, head, qw, config.head_dim);
                for (past, p) in (range.start..).zip(&scores) {
                    add_scaled(out, *p, kv_of(&v, past, head, config));
                }
            }
        }
    }
    let mut mid = vec![0.0; n * c];
    linear(&mut mid, &attended, &w[block.o.weight.clone()], n, qw, c);
    add_scaled(&mut mid, 1.0, &x);
    let (mut h2, mut inverse2) = (vec![0.0; n * c], vec![0.0; n]);
    rms_norm(&mut h2, &mut inverse2, &mid, &w[block.norm2.clone()], eps);
    let (mut gate, mut up, mut act) = (vec![0.0; n * f], vec![0.0; n * f], vec![0.0; n * f]);
    linear(&mut gate, &h2, &w[block.gate.weight.clone()], n, c, f);
    linear(&mut up, &h2, &w[block.up.weight.clone()], n, c, f);
    swiglu(&mut act, &gate, &up);
    let mut y = vec![0.0; n * c];
    linear(&mut y, &act, &w[block.down.weight.clone()], n, f, c);
    add_scaled(&mut y, 1.0, &mid);
    (Stash { x, inverse1, h1, q, k, v, attended, mid, inverse2, h2, gate, up, act }, y)
}

/// Attention weights of one query over the tokens up to itself.
fn attention_row(
    config: &ModelConfig,
    head: usize,
    start: usize,
    token: usize,
    q: &[f32],
    k: &[f32],
    scores: &mut Vec<f32>,
) {
    let d = config.head_dim;
    let scale = 1.0 / (d as f32).sqrt();
    let query = &q[token * config.query_width() + head * d..][..d];
    scores.clear();
    scores.extend((start..=token).map(|past| dot(query, kv_of(k, past, head, config)) * scale));
    softmax(scores);
}

fn head_of(x: &mut [f32], token: usize, head: usize, width: usize, d: usize) -> &mut [f32] {
    &mut x[token * width + head * d..][..d]
}

/// The key or value that query head `head` reads (grouped heads share one).
fn kv_at(token: usize, head: usize, config: &ModelConfig) -> usize {
    let group = config.num_attention_heads / config.num_key_value_heads;
    token * config.kv_width() + head / group * config.head_dim
}

fn kv_of<'a>(x: &'a [f32], token: usize, head: usize, config: &ModelConfig) -> &'a [f32] {
    &x[kv_at(token, head, config)..][..config.head_dim]
}

/// Takes a pass back: adds to `gradients` (in the weights' layout) what `d_hidden`, the loss's gradient
/// by the normalised hidden states, leads to. The output matrix is the caller's.
pub(crate) fn backward(model: Model, pass: Pass, d_hidden: &[f32], gradients: &mut [f32]) {
    let c = model.config.hidden_size;
    let mut dx = vec![0.0; pass.x.len()];
    let norm = model.layout.norm.clone();
    rms_norm_gradient(
        &mut dx,
        &mut gradients[norm.clone()],
        d_hidden,
        &pass.x,
        &model.weights[norm],
        &pass.inverse,
    );
    for (block, stash) in model.layout.blocks.iter().zip(pass.stashes).rev() {
        dx = block_backward(model, block, &pass.batch, stash, dx, gradients);
    }
    let embedding = &mut gradients[model.layout.embedding.clone()];
    for (token, dx) in pass.batch.tokens.iter().zip(dx.chunks_exact(c)) {
        add_scaled(&mut embedding[*token as usize * c..][..c], 1.0, dx);
    }
}

fn block_backward(
    model: Model,
    block: &Block,
    batch: &Batch,
    mut s: Stash,
    dy: Vec<f32>,
    g: &mut [f32],
) -> Vec<f32> {
    let (config, w) = (model.config, model.weights);
    let (n, c, f) = (batch.tokens.len(), config.hidden_size, config.intermediate_size);
    let (qw, kw) = (config.query_width(), config.kv_width());
    // Feed-forward part: y = mid + down(swiglu(gate(h2), up(h2))).
    let mut d_act = vec![0.0; n * f];
    linear_input_gradient(&mut d_act, false, &dy, &w[block.down.weight.clone()], (n, f, c));
    linear_weight_gradient(&mut g[block.down.weight.clone()], &dy, &s.act, (n, f, c));
    swiglu_gradient(&d_act, &mut s.gate, &mut s.up);
    let mut dh = vec![0.0; n * c];
    linear_input_gradient(&mut dh, false, &s.gate, &w[block.gate.weight.clone()], (n, c, f));
    linear_input_gradient(&mut dh, true, &s.up, &w[block.up.weight.clone()], (n, c, f));
    linear_weight_gradient(&mut g[block.gate.weight.clone()], &s.gate, &s.h2, (n, c, f));
    linear_weight_gradient(&mut g[block.up.weight.clone()], &s.up, &s.h2, (n, c, f));
    let mut d_mid = dy;
    let norm2 = block.norm2.clone();
    rms_norm_gradient(&mut d_mid, &mut g[norm2.clone()], &dh, &s.mid, &w[norm2], &s.inverse2);
    // Attention part: mid = x + o(attend(q(h1), k(h1), v(h1))).
    let mut d_attended = vec![0.0; n * qw];
    linear_input_gradient(&mut d_attended, false, &d_mid, &w[block.o.weight.clone()], (n, qw, c));
    linear_weight_gradient(&mut g[block.o.weight.clone()], &d_mid, &s.attended, (n, qw, c));
    let (dq, dk, dv) = attention_backward(model, batch, &s, &d_attended);
    linear_input_gradient(&mut dh, false, &dq, &w[block.q.weight.clone()], (n, c, qw));
    linear_input_gradient(&mut dh, true, &dk, &w[block.k.weight.clone()], (n, c, kw));
    linear_input_gradient(&mut dh, true, &dv, &w[block.v.weight.clone()], (n, c, kw));
    linear_weight_gradient(&mut g[block.q.weight.clone()], &dq, &s.h1, (n, c, qw));
    linear_weight_gradient(&mut g[block.k.weight.clone()], &dk, &s.h1, (n, c, kw));
    linear_weight_gradient(&mut g[block.v.weight.clone()], &dv, &s.h1, (n, c, kw));
    let mut dx = d_mid;
    let norm1 = block.norm1.clone();
    rms_norm_gradient(&mut dx, &mut g[norm1.clone()], &dh, &s.x, &w[norm1], &s.inverse1);
    dx
}

/// Gradients by q, k and v before the rotary turn; attention weights are recomputed rather than kept.
fn attention_backward(
    model: Model,
    batch: &Batch,
    s: &Stash,
    d_attended: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let config = model.config;
    let (d, qw, kw) = (config.head_dim, config.query_width(), config.kv_width());
    let scale = 1.0 / (d as f32).sqrt();
    let (mut dq, mut dk, mut dv) = (vec![0.0; s.q.len()], vec![0.0; s.k.len()], vec![0.0; s.v.len()]);
    let (mut p, mut dp) = (Vec::new(), Vec::new());
    for range in batch.ranges() {
        for head in 0..config.num_attention_heads {
            for token in range.clone() {
                attention_row(config, head, range.start, token, &s.q, &s.k, &mut p);
                let d_out = &d_attended[token * qw + head * d..][..d];
                dp.clear();
                for (past, p) in (range.start..).zip(&p) {
                    dp.push(dot(d_out, kv_of(&s.v, past, head, config)));
                    add_scaled(&mut dv[kv_at(past, head, config)..][..d], *p, d_out);
                }
                let mean = dot(&p, &dp);
                let query = &s.q[token * qw + head * d..][..d];
                for (past, (p, dp)) in (range.start..).zip(p.iter().zip(&dp)) {
                    let d_score = p * (dp - mean) * scale;
                    add_scaled(
                        head_of(&mut dq, token, head, qw, d),
                        d_score,
                        kv_of(&s.k, past, head, config),
                    );
                    add_scaled(&mut dk[kv_at(past, head, config)..][..d], d_score, query);
                }
            }
        }
        for (position, token) in range.enumerate() {
            model.rotary.turn_back(&mut dq[token * qw..][..qw], position);
            model.rotary.turn_back(&mut dk[token * kw..][..kw], position);
        }
    }
    (dq, dk, dv)
}

/// Logits of the chosen rows of `hidden`: `[rows, V]`.
pub(crate) fn logits(model: Model, hidden: &[f32], rows: &[usize]) -> Vec<f32> {
    let (c, v) = (model.config.hidden_size, model.config.vocab_size);
    let chosen = gather(hidden, rows, c);
    let mut logits = vec![0.0; rows.len() * v];
    linear(&mut logits, &chosen, &model.weights[model.layout.head.clone()], rows.len(), c, v);
    logits
}

/// The gradient of [`logits`]: adds the output matrix's to `gradients`, returns that of all of `hidden`.
pub(crate) fn logits_gradient(
    model: Model,
    hidden: &[f32],
    rows: &[usize],
    d_logits: &[f32],
    gradients: &mut [f32],
) -> Vec<f32> {
    let (c, v) = (model.config.hidden_size, model.config.vocab_size);
    let head = model.layout.head.clone();
    let chosen = gather(hidden, rows, c);
    linear_weight_gradient(&mut gradients[head.clone()], d_logits, &chosen, (rows.len(), c, v));
    let mut d_chosen = vec![0.0; rows.len() * c];
    linear_input_gradient(&mut d_chosen, false, d_logits, &model.weights[head], (rows.len(), c, v));
    let mut d_hidden = vec![0.0; hidden.len()];
    for (row, d) in rows.iter().zip(d_chosen.chunks_exact(c)) {
        add_scaled(&mut d_hidden[row * c..][..c], 1.0, d);
    }
    d_hidden
}

fn gather(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|row| &x[row * width..][..width]).copied().collect()
}
