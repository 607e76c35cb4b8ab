//! Sampling: all completions of all prompts advance together, one token a step.
//!
//! A prompt is read once, and its keys and values are shared by the group. Randomness is a counter:
//! `u = hash(seed, prompt, sample, step)` picks the token whose cumulative probability, in order of
//! ids, first exceeds `u`. A rollout therefore does not depend on which others run beside it.

use crate::config::ModelConfig;
use crate::forward::{self, Batch, Model};
use crate::math::{add_scaled, dot, exp, log_sum_exp, rms_norm, softmax, swiglu};
use crate::product::linear;
use crate::weights::Block;

/// Keys and values of one sequence's own tokens, per block: `[block][token][K]`.
#[derive(Clone, Default)]
struct Cache {
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

/// A prompt that was read: its cache and the hidden state of its last token.
pub(crate) struct Read {
    cache: Cache,
    tokens: usize,
    last: Vec<f32>,
}

/// One completion in the making.
pub(crate) struct Stream {
    prompt: usize,
    key: [u8; 32],
    cache: Cache,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) finished: bool,
}

/// Reads prompts (with anything forced behind them).
pub(crate) fn read(model: Model, prompts: &[Vec<u32>]) -> Vec<Read> {
    prompts
        .iter()
        .map(|prompt| {
            let pass = forward::forward(model, Batch::new([prompt.as_slice()]));
            let c = model.config.hidden_size;
            let last = pass.hidden[(prompt.len() - 1) * c..].to_vec();
            let (k, v) = pass.into_keys_and_values().unzip();
            Read { cache: Cache { k, v }, tokens: prompt.len(), last }
        })
        .collect()
}

/// How to choose tokens.
pub(crate) struct Choice<'a> {
    /// 0 chooses the likeliest token.
    pub(crate) temperature: f32,
    pub(crate) new_tokens_max: usize,
    pub(crate) ends: &'a [u32],
}

/// Continues every prompt once for each of its keys.
pub(crate) fn decode(
    model: Model,
    prompts: &[Read],
    keys: &[(usize, [u8; 32])],
    choice: &Choice,
) -> Vec<Stream> {
    let blocks = model.layout.blocks.len();
    let empty = Cache { k: vec![Vec::new(); blocks], v: vec![Vec::new(); blocks] };
    let start = |&(prompt, key): &(usize, [u8; 32])| Stream {
        prompt,
        key,
        cache: empty.clone(),
        tokens: Vec::new(),
        logprobs: Vec::new(),
        finished: false,
    };
    let mut streams: Vec<Stream> = keys.iter().map(start).collect();
    let mut active: Vec<usize> = (0..streams.len()).collect();
    let mut hidden: Vec<f32> =
        streams.iter().flat_map(|stream| &prompts[stream.prompt].last).copied().collect();
    for step in 0..choice.new_tokens_max {
        let rows: Vec<usize> = (0..active.len()).collect();
        let mut logits = forward::logits(model, &hidden, &rows);
        for (&at, row) in active.iter().zip(logits.chunks_exact_mut(model.config.vocab_size)) {
            let stream = &mut streams[at];
            let (token, logprob) = pick(row, choice.temperature, &stream.key, step);
            stream.tokens.push(token);
            stream.logprobs.push(logprob);
            stream.finished = choice.ends.contains(&token);
        }
        active.retain(|&at| !streams[at].finished);
        if active.is_empty() || step + 1 == choice.new_tokens_max {
            break;
        }
        hidden = advance(model, prompts, &mut streams, &active);
    }
    streams
}

/// The token that a step draws, and its log-probability at the temperature.
fn pick(logits: &mut [f32], temperature: f32, key: &[u8; 32], step: usize) -> (u32, f32) {
    if temperature > 0.0 {
        logits.iter_mut().for_each(|logit| *logit /= temperature);
    }
    let total = log_sum_exp(logits);
    let token = if temperature > 0.0 { draw(logits, total, uniform(key, step)) } else { likeliest(logits) };
    (token as u32, logits[token] - total)
}

/// The first of the largest values.
fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// Inverse CDF in order of ids.
fn draw(logits: &[f32], total: f32, u: f32) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (i, logit) in logits.iter().enumerate() {
        let p = exp(logit - total);
        if p > 0.0 {
            last = i;
        }
        sum += p;
        if u < sum {
            return i;
        }
    }
    last // rounding left the sum below u
}

/// Uniform in [0, 1), a multiple of 2⁻²⁴.
pub(crate) fn uniform(key: &[u8; 32], step: usize) -> f32 {
    let hash = blake3::keyed_hash(key, &(step as u64).to_le_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    (u32::from_le_bytes([a, b, c, 0]) as f32) / (1u32 << 24) as f32
}

/// The key of one rollout's randomness.
pub(crate) fn stream_key(seed: &[u8; 32], prompt: usize, sample: usize) -> [u8; 32] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(prompt as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(sample as u64).to_le_bytes());
    *blake3::keyed_hash(seed, &bytes).as_bytes()
}

/// Feeds every active stream its last token; returns the normalised hidden states, `[active, C]`.
fn advance(model: Model, prompts: &[Read], streams: &mut [Stream], active: &[usize]) -> Vec<f32> {
    let c = model.config.hidden_size;
    let embedding = &model.weights[model.layout.embedding.clone()];
    let mut x = Vec::with_capacity(active.len() * c);
    for &at in active {
        let token = streams[at].tokens.last().map_or(0, |token| *token as usize);
        x.extend_from_slice(&embedding[token * c..][..c]);
    }
    for (layer, block) in model.layout.blocks.iter().enumerate() {
        block_step(model, block, layer, prompts, streams, active, &mut x);
    }
    let (mut hidden, mut inverse) = (vec![0.0; x.len()], vec![0.0; active.len()]);
    rms_norm(
        &mut hidden,
        &mut inverse,
        &x,
        &model.weights[model.layout.norm.clone()],
        model.config.rms_norm_eps,
    );
    hidden
}

fn block_step(
    model: Model,
    block: &Block,
    layer: usize,
    prompts: &[Read],
    streams: &mut [Stream],
    active: &[usize],
    x: &mut [f32],
) {
    let (config, w, n) = (model.config, model.weights, active.len());
    let (c, f, qw, kw) =
        (config.hidden_size, config.intermediate_size, config.query_width(), config.kv_width());
    let (mut h, mut inverse) = (vec![0.0; n * c], vec![0.0; n]);
    rms_norm(&mut h, &mut inverse, x, &w[block.norm1.clone()], config.rms_norm_eps);
    let (mut q, mut k, mut v) = (vec![0.0; n * qw], vec![0.0; n * kw], vec![0.0; n * kw]);
    linear(&mut q, &h, &w[block.q.weight.clone()], n, c, qw);
    linear(&mut k, &h, &w[block.k.weight.clone()], n, c, kw);
    linear(&mut v, &h, &w[block.v.weight.clone()], n, c, kw);
    let mut attended = vec![0.0; n * qw];
    let mut scores = Vec::new();
    for (row, &at) in active.iter().enumerate() {
        let stream = &mut streams[at];
        let read = &prompts[stream.prompt];
        let position = read.tokens + stream.tokens.len() - 1;
        model.rotary.turn(&mut q[row * qw..][..qw], position);
        model.rotary.turn(&mut k[row * kw..][..kw], position);
        stream.cache.k[layer].extend_from_slice(&k[row * kw..][..kw]);
        stream.cache.v[layer].extend_from_slice(&v[row * kw..][..kw]);
        let keys = [&read.cache.k[layer][..], &stream.cache.k[layer][..]];
        let values = [&read.cache.v[layer][..], &stream.cache.v[layer][..]];
        let out = &mut attended[row * qw..][..qw];
        attend(config, &q[row * qw..][..qw], keys, values, out, &mut scores);
    }
    let mut y = vec![0.0; n * c];
    linear(&mut y, &attended, &w[block.o.weight.clone()], n, qw, c);
    add_scaled(x, 1.0, &y);
    rms_norm(&mut h, &mut inverse, x, &w[block.norm2.clone()], config.rms_norm_eps);
    let (mut gate, mut up, mut act) = (vec![0.0; n * f], vec![0.0; n * f], vec![0.0; n * f]);
    linear(&mut gate, &h, &w[block.gate.weight.clone()], n, c, f);
    linear(&mut up, &h, &w[block.up.weight.clone()], n, c, f);
    swiglu(&mut act, &gate, &up);
    linear(&mut y, &act, &w[block.down.weight.clone()], n, f, c);
    add_scaled(x, 1.0, &y);
}

/// Attention of one token over the prompt's cache and then its own.
fn attend(
    config: &ModelConfig,
    q: &[f32],
    keys: [&[f32]; 2],
    values: [&[f32]; 2],
    out: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let (d, kw) = (config.head_dim, config.kv_width());
    let group = config.num_attention_heads / config.num_key_value_heads;
    let scale = 1.0 / (d as f32).sqrt();
    for head in 0..config.num_attention_heads {
        let at = head / group * d;
        let query = &q[head * d..][..d];
        scores.clear();
        let rows = keys.iter().flat_map(|part| part.chunks_exact(kw));
        scores.extend(rows.map(|key| dot(query, &key[at..at + d]) * scale));
        softmax(scores);
        let rows = values.iter().flat_map(|part| part.chunks_exact(kw));
        for (value, p) in rows.zip(scores.iter()) {
            add_scaled(&mut out[head * d..][..d], *p, &value[at..at + d]);
        }
    }
}
