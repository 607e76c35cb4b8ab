//! Attention within a batch: each row attends to the rows before it in its own segment, after those of
//! the prompt that the segment continues. Forward and backward, as products of packed panels.
//!
//! R rows, T positions, D head size.

use std::ops::Range;

use crate::batch::{Batch, Tree};
use crate::config::ModelConfig;
use crate::kernel::rows::{softmax, softmax_gradient};
use crate::kernel::{Left, Out, Panels, pack_columns, pack_rows, panels_len, product};
use crate::scratch::Scratch;
use crate::team::Team;

/// Rows whose scores are held at a time.
const BLOCK_ROWS: usize = 64;
/// Rows of one item of work, about.
const ITEM_ROWS: usize = 192;

/// Queries, keys and values of a batch, row-major, every head side by side.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

/// Widths that the arithmetic needs.
#[derive(Clone, Copy)]
struct Widths {
    d: usize,
    q: usize,
    kv: usize,
    group: usize,
    scale: f32,
}

impl Widths {
    fn new(config: &ModelConfig) -> Self {
        Self {
            d: config.head_dim,
            q: config.query_width(),
            kv: config.kv_width(),
            group: config.num_attention_heads / config.num_key_value_heads,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
        }
    }
}

/// Keys and values of some rows and one head, packed for products.
#[derive(Default)]
struct Part {
    len: usize,
    /// Positions are outputs: for scores.
    keys: Scratch,
    /// Channels are outputs: for sums of values.
    values: Scratch,
}

impl Part {
    fn pack(&mut self, keys: &[f32], values: &[f32], rows: Range<usize>, head: usize, w: Widths) {
        self.len = rows.len();
        self.keys.renew(panels_len(self.len, w.d));
        self.values.renew(panels_len(w.d, self.len));
        let rows = rows.start * w.kv..rows.end * w.kv;
        pack_rows(&mut self.keys, &keys[rows.clone()], w.kv, head * w.d, w.d);
        pack_columns(&mut self.values, &values[rows], w.kv, head * w.d, w.d);
    }

    fn keys(&self, d: usize) -> Panels<'_> {
        Panels::new(&self.keys, self.len, d)
    }

    fn values(&self, d: usize) -> Panels<'_> {
        Panels::new(&self.values, d, self.len)
    }
}

/// Some rows of one segment.
#[derive(Clone)]
struct Rows {
    parent: Range<usize>,
    /// Where the segment begins.
    start: usize,
    rows: Range<usize>,
}

impl Rows {
    /// Positions that row `i` of these sees.
    fn seen(&self, i: usize) -> usize {
        self.parent.len() + self.rows.start - self.start + i + 1
    }
}

/// The rows of a tree in blocks, none across two segments.
fn blocks(tree: &Tree) -> Vec<Rows> {
    let mut blocks = Vec::new();
    for segment in &tree.segments {
        for first in segment.rows.clone().step_by(BLOCK_ROWS) {
            let rows = first..segment.rows.end.min(first + BLOCK_ROWS);
            blocks.push(Rows { parent: segment.parent.clone(), start: segment.rows.start, rows });
        }
    }
    blocks
}

/// Writes the attended values of all heads, `[N, Q]`.
pub(crate) fn attend(config: &ModelConfig, team: &Team, batch: &Batch, heads: Heads, out: &mut [f32]) {
    let w = Widths::new(config);
    let mut items: Vec<(Vec<Rows>, &mut [f32])> = Vec::new();
    let mut rest = out;
    for tree in &batch.trees {
        let mut waiting = Vec::new();
        let mut rows = 0;
        let mut all = blocks(tree).into_iter().peekable();
        while let Some(block) = all.next() {
            rows += block.rows.len();
            waiting.push(block);
            if rows >= ITEM_ROWS || all.peek().is_none() {
                let (out, later) = rest.split_at_mut(rows * w.q);
                items.push((std::mem::take(&mut waiting), out));
                rest = later;
                rows = 0;
            }
        }
    }
    let kv_heads = config.num_key_value_heads;
    team.each(items, |(blocks, out)| {
        (0..kv_heads).for_each(|head| attend_item(w, head, &blocks, heads, out));
    });
}

fn attend_item(w: Widths, head: usize, blocks: &[Rows], heads: Heads, out: &mut [f32]) {
    let first = blocks.first().map_or(0, |block| block.rows.start);
    let (mut parent, mut own, mut p) = (Part::default(), Part::default(), Scratch::default());
    let mut packed = None;
    for block in blocks {
        if packed.as_ref() != Some(&block.parent) {
            parent.pack(heads.k, heads.v, block.parent.clone(), head, w);
            packed = Some(block.parent.clone());
        }
        own.pack(heads.k, heads.v, block.start..block.rows.end, head, w);
        let out = &mut out[(block.rows.start - first) * w.q..(block.rows.end - first) * w.q];
        for query in head * w.group..(head + 1) * w.group {
            probabilities(w, query, block, heads.q, [&parent, &own], &mut p);
            let out = Out::rows(&mut out[query * w.d..], w.q);
            mix(out, &p, block.rows.len(), [&parent, &own], w.d);
        }
    }
}

/// Attention weights `[R, T]` of one query head.
fn probabilities(w: Widths, query: usize, block: &Rows, q: &[f32], parts: [&Part; 2], p: &mut Scratch) {
    let (rows, t) = (block.rows.len(), parts[0].len + parts[1].len);
    p.renew(rows * t);
    let left = Left { data: &q[block.rows.start * w.q + query * w.d..], rows, row: w.q, k: 1 };
    score(p, left, parts, w.d);
    for (i, row) in p.chunks_exact_mut(t).enumerate() {
        let (seen, later) = row.split_at_mut(block.seen(i));
        softmax(seen, w.scale);
        later.fill(0.0);
    }
}

/// Every row's products with every position: `[R, T]`.
fn score(to: &mut [f32], left: Left, parts: [&Part; 2], d: usize) {
    let t = parts[0].len + parts[1].len;
    product(Out::rows(to, t), left, parts[0].keys(d), false);
    product(Out::rows(&mut to[parts[0].len..], t), left, parts[1].keys(d), false);
}

/// Sums of values by weights `[R, T]`: one chain over all positions in order.
fn mix(out: Out, weights: &[f32], rows: usize, parts: [&Part; 2], d: usize) {
    let (parent, t) = (parts[0].len, parts[0].len + parts[1].len);
    let Out { data, row, panel } = out;
    if parent > 0 {
        let out = Out { data: &mut *data, row, panel };
        product(out, Left::rows(weights, rows, t), parts[0].values(d), false);
    }
    let left = Left::rows(&weights[parent..], rows, t);
    product(Out { data, row, panel }, left, parts[1].values(d), parent > 0);
}

/// Gradients by queries, keys and values, head by head within each tree: `[tree][kv head][row][…]`, so
/// that each item of work owns what it writes. Queries are `group · D` wide, keys and values D.
pub(crate) struct HeadGradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

/// Takes [`attend`] back. Attention weights are computed again rather than kept.
pub(crate) fn attend_gradient(
    config: &ModelConfig,
    team: &Team,
    batch: &Batch,
    heads: Heads,
    d_out: &[f32],
    gradients: HeadGradients,
) {
    let w = Widths::new(config);
    let mut items = Vec::new();
    let (mut q, mut k, mut v) = (gradients.q, gradients.k, gradients.v);
    for tree in &batch.trees {
        let rows = tree.rows().len();
        for head in 0..config.num_key_value_heads {
            let (q_now, q_rest) = q.split_at_mut(rows * w.group * w.d);
            let (k_now, k_rest) = k.split_at_mut(rows * w.d);
            let (v_now, v_rest) = v.split_at_mut(rows * w.d);
            items.push((tree, head, HeadGradients { q: q_now, k: k_now, v: v_now }));
            (q, k, v) = (q_rest, k_rest, v_rest);
        }
    }
    team.each(items, |(tree, head, gradients)| tree_gradient(w, tree, head, heads, d_out, gradients));
}

/// The two ways in which a part's keys and values enter the gradient.
#[derive(Default)]
struct BackwardPart {
    part: Part,
    /// Keys with channels as outputs, values with positions as outputs.
    turned: Part,
}

impl BackwardPart {
    fn pack(&mut self, heads: Heads, rows: Range<usize>, head: usize, w: Widths) {
        self.part.pack(heads.k, heads.v, rows.clone(), head, w);
        self.turned.pack(heads.v, heads.k, rows, head, w);
    }
}

fn tree_gradient(w: Widths, tree: &Tree, head: usize, heads: Heads, d_out: &[f32], g: HeadGradients) {
    let first = tree.rows().start;
    g.k.fill(0.0);
    g.v.fill(0.0);
    let (mut parent, mut own) = (BackwardPart::default(), BackwardPart::default());
    let mut packed = None;
    let (mut p, mut dp, mut right) = (Scratch::default(), Scratch::default(), Scratch::default());
    for block in blocks(tree) {
        if packed.as_ref() != Some(&block.parent) {
            parent.pack(heads, block.parent.clone(), head, w);
            packed = Some(block.parent.clone());
        }
        own.pack(heads, block.start..block.rows.end, head, w);
        let parts = [&parent.part, &own.part];
        let turned = [&parent.turned, &own.turned];
        let (rows, t) = (block.rows.len(), parts[0].len + parts[1].len);
        let block_rows = block.rows.start * w.q..block.rows.end * w.q;
        for query in 0..w.group {
            let column = (head * w.group + query) * w.d;
            probabilities(w, head * w.group + query, &block, heads.q, parts, &mut p);
            // dP = dO · Vᵀ, then the softmax's gradient.
            dp.renew(rows * t);
            let left = Left { data: &d_out[block_rows.start + column..], rows, row: w.q, k: 1 };
            score(&mut dp, left, turned, w.d);
            for (i, (dp, p)) in dp.chunks_exact_mut(t).zip(p.chunks_exact(t)).enumerate() {
                let (seen, later) = dp.split_at_mut(block.seen(i));
                softmax_gradient(seen, p, w.scale);
                later.fill(0.0);
            }
            // dQ = dS · K.
            let width = w.group * w.d;
            let dq = &mut g.q[(block.rows.start - first) * width + query * w.d..];
            mix(Out::rows(dq, width), &dp, rows, turned, w.d);
            // dV += Pᵀ · dO and dK += dSᵀ · Q, over this block's rows.
            right.renew(panels_len(w.d, rows));
            for (from, weights, to) in [(d_out, &p, &mut *g.v), (heads.q, &dp, &mut *g.k)] {
                pack_columns(&mut right, &from[block_rows.clone()], w.q, column, w.d);
                let mut position = 0;
                for (part, start) in parts.iter().zip([block.parent.start.max(first), block.start]) {
                    let left = Left::columns(&weights[position..], part.len, t);
                    let out = Out::rows(&mut to[(start - first) * w.d..], w.d);
                    product(out, left, Panels::new(&right, w.d, rows), true);
                    position += part.len;
                }
            }
        }
    }
}
