//! From hidden states to log-probabilities of tokens, and back.
//!
//! Logits of a large vocabulary would not fit for a whole batch: they are computed for a few rows at a
//! time, and for the gradient a few thousand outputs at a time, unless they are small enough to keep.
//!
//! M scored rows, C channels, V vocabulary.

use crate::backward::matrix_gradient;
use crate::buffers::Buffers;
use crate::forward::{item_rows, split_rows};
use crate::kernel::rows::{add, entropy, exponentials, negative_probabilities};
use crate::kernel::{Left, Out, PANEL, Panels, panels_len, product, transpose_panel};
use crate::model::Model;
use crate::scratch::Scratch;

/// Logits that are kept for the gradient: at most this many values.
pub(crate) const KEPT_LOGITS_MAX: usize = 32 * 1024 * 1024;
/// Logits of one item of work, about.
pub(crate) const ITEM_LOGITS: usize = 1024 * 1024;
/// Panels of the output matrix that enter the gradient at a time.
pub(crate) const BLOCK_PANELS: usize = 128;

/// A row of hidden states and the token that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) row: usize,
    pub(crate) token: u32,
}

/// What the model says of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scored {
    /// Log-probability of the token, in nats.
    pub(crate) logprob: f32,
    /// ln Σ exp of the row's logits.
    pub(crate) log_sum: f32,
    /// Entropy of the row's distribution, in nats.
    pub(crate) entropy: f32,
}

/// Scored targets, and their logits when they were small enough to keep.
pub(crate) struct Scores {
    pub(crate) scored: Vec<Scored>,
    /// Hidden states of the targets, `[M, C]`.
    chosen: Vec<f32>,
    logits: Option<Vec<f32>>,
}

impl Scores {
    /// Gives all buffers back.
    pub(crate) fn free(self, buffers: &mut Buffers) {
        buffers.give(self.chosen);
        self.logits.into_iter().for_each(|logits| buffers.give(logits));
    }
}

/// Scores targets at a temperature.
pub(crate) fn score(
    model: Model,
    hidden: &[f32],
    targets: &[Target],
    temperature: f32,
    keep: bool,
    buffers: &mut Buffers,
) -> Scores {
    let (c, v) = (model.config.hidden_size, model.config.vocab_size);
    let mut chosen = buffers.take(targets.len() * c);
    for (to, target) in chosen.chunks_exact_mut(c).zip(targets) {
        to.copy_from_slice(&hidden[target.row * c..][..c]);
    }
    let kept = keep && targets.len() * v <= KEPT_LOGITS_MAX;
    let mut logits = if kept { buffers.take(targets.len() * v) } else { Vec::new() };
    let mut scored = vec![Scored::default(); targets.len()];
    let rows = item_rows(targets.len(), model.team.threads()).min((ITEM_LOGITS / v).max(1));
    let mut kept_rows = split_rows(&mut logits, v, rows);
    let mut items = Vec::new();
    for ((chosen, targets), scored) in
        chosen.chunks(rows * c).zip(targets.chunks(rows)).zip(scored.chunks_mut(rows))
    {
        items.push((chosen, targets, scored, kept_rows.next().unwrap_or_default()));
    }
    drop(kept_rows);
    model.team.each(items, |(chosen, targets, scored, kept)| {
        let mut own = Scratch::default();
        let logits = if kept.is_empty() {
            own.renew(targets.len() * v);
            &mut own[..]
        } else {
            kept
        };
        model.head().apply(logits, chosen, targets.len());
        let (mut e, mut blocks) = (Scratch::new(v), Vec::new());
        for ((row, target), scored) in logits.chunks_exact(v).zip(targets).zip(scored) {
            let scale = 1.0 / temperature;
            let (max, sum) = exponentials(&mut e, &mut blocks, row, scale);
            let log_sum = max + libm::logf(sum);
            let logprob = row[target.token as usize] * scale - log_sum;
            *scored = Scored { logprob, log_sum, entropy: entropy(&e, row, scale, max, sum) };
        }
    });
    Scores { scored, chosen, logits: kept.then_some(logits) }
}

/// The gradient of Σ weight · log-probability by the hidden states `[N, C]`; that by the output matrix is
/// added to `sink`, in the weights' layout.
pub(crate) fn score_gradient(
    model: Model,
    rows: usize,
    targets: &[Target],
    (scores, temperature): (&Scores, f32),
    weights: &[f32],
    mut sink: Option<&mut [f32]>,
    buffers: &mut Buffers,
) -> Vec<f32> {
    let c = model.config.hidden_size;
    let matrix = model.layout.head.panels(model.weights);
    let mut d_chosen = buffers.zeros(targets.len() * c);
    let width = matrix.outputs.min(BLOCK_PANELS * PANEL);
    let mut block = buffers.take(targets.len() * width);
    let mut turned = buffers.take(panels_len(c, width));
    for first in (0..matrix.count()).step_by(BLOCK_PANELS) {
        let panels = first..matrix.count().min(first + BLOCK_PANELS);
        let part = matrix.part(panels.clone());
        let (first, width) = (first * PANEL, part.outputs);
        block.resize(targets.len() * width, 0.0);
        turned.resize(panels_len(c, width), 0.0);
        let transposes = turned.chunks_exact_mut(width * PANEL).enumerate();
        model.team.each(transposes.collect(), |(panel, to)| transpose_panel(to, part, panel));
        let back = Panels::new(&turned, c, width);
        let step = item_rows(targets.len(), model.team.threads());
        let items = (0..targets.len()).step_by(step);
        let items = items.zip(block.chunks_mut(step * width).zip(d_chosen.chunks_mut(step * c)));
        let kept = scores.logits.as_deref();
        model.team.each(items.collect(), |(start, (block, d_chosen))| {
            let n = d_chosen.len() / c;
            match kept {
                Some(logits) => {
                    let v = model.config.vocab_size;
                    for (i, to) in block.chunks_exact_mut(width).enumerate() {
                        to.copy_from_slice(&logits[(start + i) * v + first..][..width]);
                    }
                }
                None => {
                    let left = Left::rows(&scores.chosen[start * c..], n, c);
                    product(Out::rows(block, width), left, part, false);
                }
            }
            for (i, row) in block.chunks_exact_mut(width).enumerate() {
                let (target, weight) = (targets[start + i], weights[start + i] / temperature);
                negative_probabilities(row, 1.0 / temperature, scores.scored[start + i].log_sum, weight);
                if let Some(value) = (target.token as usize).checked_sub(first).and_then(|at| row.get_mut(at))
                {
                    *value += weight;
                }
            }
            product(Out::rows(d_chosen, c), Left::rows(block, n, width), back, true);
        });
        if let Some(sink) = sink.as_deref_mut() {
            let at = model.layout.head.offset + first * c;
            let to = sink[at..at + panels.len() * PANEL * c].chunks_mut(4 * PANEL * c).enumerate();
            model.team.each(to.collect(), |(i, to)| {
                matrix_gradient(to, i * 4 * PANEL, &block, &scores.chosen, width, c);
            });
        }
    }
    let mut d_hidden = buffers.zeros(rows * c);
    for (target, d) in targets.iter().zip(d_chosen.chunks_exact(c)) {
        add(&mut d_hidden[target.row * c..][..c], d);
    }
    [d_chosen, block, turned].into_iter().for_each(|buffer| buffers.give(buffer));
    d_hidden
}

/// Logits of the chosen rows of `hidden`: `[rows, V]`.
pub(crate) fn logits(model: Model, hidden: &[f32], rows: &[usize]) -> Vec<f32> {
    let (c, v) = (model.config.hidden_size, model.config.vocab_size);
    let chosen: Vec<f32> = rows.iter().flat_map(|row| &hidden[row * c..][..c]).copied().collect();
    let mut logits = vec![0.0; rows.len() * v];
    model.head().apply(&mut logits, &chosen, rows.len());
    logits
}
