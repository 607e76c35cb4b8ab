//! Sampling: completions advance together, one token a step.
//!
//! A prompt is read once, and its keys and values are shared by its group. Small models are sampled by
//! every thread on its own, each with its share of the completions; the weights of a large model are
//! read once a step, by all threads together. Either way a completion is the same.
//! Keys lie with positions innermost and values with channels innermost, in the kernels' panels, so both
//! attention products read them as they are.

use crate::batch::{Batch, runs};
use crate::buffers::Buffers;
use crate::cache::Cache;
use crate::config::ModelConfig;
use crate::forward::{Keep, forward};
use crate::kernel::rows::{add, rms_norm, softmax};
use crate::kernel::{Left, Out, product};
use crate::model::{Model, apply_split, gated_split};
use crate::rollout::Sampling;
use crate::sample::{Chooser, uniform};
use crate::scratch::Scratch;
use crate::team::Team;
use crate::weights::Module;

/// Prompt tokens that are read at a time.
pub(crate) const READ_TOKENS: usize = 2048;
/// Bytes of weights above which threads share one reading of them: about a shared cache.
const SHARED_WEIGHTS_BYTES: usize = 24 * 1024 * 1024;
/// Completions that advance together: more would not make the products faster.
const WAVE_STREAMS: usize = 64;
/// Bytes of keys and values that exist at a time.
const CACHE_BYTES_MAX: usize = 1 << 30;
/// A thread's own reading of this many bytes of weights is worth it for one completion more, as measured;
/// with [`OWN_READING_STREAMS`] completions of its own it always is.
const OWN_READING_BYTES: usize = 6 * 1024 * 1024;
/// See [`OWN_READING_BYTES`].
const OWN_READING_STREAMS: usize = 16;

/// A prompt that was read: its keys and values, and the hidden state of its last token.
pub(crate) struct Read {
    cache: Cache,
    tokens: usize,
    last: Vec<f32>,
}

/// One completion in the making.
struct Stream {
    prompt: usize,
    key: [u8; 32],
    cache: Cache,
    /// Tokens that fit behind its prompt, at most those asked for.
    room: usize,
    made: Made,
}

/// A completion.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) finished: bool,
}

/// Reads prompts (with anything forced behind them).
pub(crate) fn read(model: Model, prompts: &[Vec<u32>]) -> Vec<Read> {
    let mut all = Vec::with_capacity(prompts.len());
    let mut buffers = Buffers::default();
    for now in runs(prompts, READ_TOKENS, |_, prompt| prompt.len()) {
        read_some(model, now, &mut buffers, &mut all);
    }
    all
}

fn read_some(model: Model, prompts: &[Vec<u32>], buffers: &mut Buffers, all: &mut Vec<Read>) {
    let config = model.config;
    let (c, d, kv) = (config.hidden_size, config.head_dim, config.kv_width());
    let mut batch = Batch::default();
    prompts.iter().for_each(|prompt| batch.push(prompt, &[]));
    let rows: Vec<_> = batch.trees.iter().map(|tree| tree.rows()).collect();
    let pass = forward(model, batch, Keep::KeysAndValues, buffers);
    let (stashes, hidden) = (&pass.stashes, &pass.hidden);
    all.extend(model.team.map(rows, |rows| {
        let mut cache = Cache::new(config, rows.len());
        for (layer, stash) in stashes.iter().enumerate() {
            let part = rows.start * kv..rows.end * kv;
            for head in 0..config.num_key_value_heads {
                let (k, v) = (&stash.k[part.clone()], &stash.v[part.clone()]);
                cache.fill(layer * config.num_key_value_heads + head, k, v, kv, head * d);
            }
        }
        Read { cache, tokens: rows.len(), last: hidden[(rows.end - 1) * c..rows.end * c].to_vec() }
    }));
    pass.free(buffers);
}

/// How to choose tokens, and when to stop.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) sampling: &'a Sampling,
    pub(crate) ends: &'a [u32],
}

/// How completions are split.
pub(crate) struct Waves {
    /// Completions that advance together.
    pub(crate) wave: usize,
    /// Whether every thread advances a wave of its own.
    pub(crate) alone: bool,
}

impl Waves {
    /// For a model whose weights have so many `bytes` as sampling reads them.
    pub(crate) fn of(
        config: &ModelConfig,
        bytes: usize,
        threads: usize,
        completions: usize,
        new_tokens_max: usize,
    ) -> Self {
        let worth = (bytes / OWN_READING_BYTES).min(OWN_READING_STREAMS) * threads;
        let together = bytes > SHARED_WEIGHTS_BYTES && completions < worth;
        let fit = (CACHE_BYTES_MAX / (4 * Cache::values(config, new_tokens_max)).max(1)).max(1);
        if threads == 1 || together {
            return Self { wave: fit.min(WAVE_STREAMS), alone: false };
        }
        let share = completions.div_ceil(threads).clamp(1, WAVE_STREAMS);
        Self { wave: share.min((fit / threads).max(1)), alone: true }
    }
}

/// Continues every prompt once for each of its keys; keys of one prompt stand together.
pub(crate) fn decode(
    model: Model,
    prompts: &[Read],
    keys: &[(usize, [u8; 32])],
    choice: Choice,
) -> Vec<Made> {
    let threads = model.team.threads();
    let bytes = model.weights.len() * if model.half.is_some() { 2 } else { 4 };
    let Waves { wave, alone } =
        Waves::of(model.config, bytes, threads, keys.len(), choice.sampling.new_tokens_max);
    if !alone {
        let waves = keys.chunks(wave);
        return waves.flat_map(|keys| Engine::new(model, prompts, choice).run(keys)).collect();
    }
    let team = Team::default();
    let made = model.team.map(keys.chunks(wave).collect(), |keys| {
        Engine::new(Model { team: &team, ..model }, prompts, choice).run(keys)
    });
    made.into_iter().flatten().collect()
}

/// Advances some completions, with buffers that every step uses again.
struct Engine<'a> {
    model: Model<'a>,
    prompts: &'a [Read],
    choice: Choice<'a>,
    x: Vec<f32>,
    hidden: Vec<f32>,
    inverse: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    wide: Vec<f32>,
    y: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> Engine<'a> {
    fn new(model: Model<'a>, prompts: &'a [Read], choice: Choice<'a>) -> Self {
        let empty = Vec::new;
        Self {
            model,
            prompts,
            choice,
            x: empty(),
            hidden: empty(),
            inverse: empty(),
            q: empty(),
            k: empty(),
            v: empty(),
            attended: empty(),
            wide: empty(),
            y: empty(),
            logits: empty(),
        }
    }

    fn run(&mut self, keys: &[(usize, [u8; 32])]) -> Vec<Made> {
        let (config, sampling) = (self.model.config, self.choice.sampling);
        let mut streams: Vec<Stream> = Vec::with_capacity(keys.len());
        for &(prompt, key) in keys {
            let room = sampling.within(config, self.prompts[prompt].tokens).new_tokens_max;
            let cache = Cache::new(config, room);
            streams.push(Stream { prompt, key, cache, room, made: Made::default() });
            self.hidden.extend(&self.prompts[prompt].last);
        }
        let mut active: Vec<usize> = (0..streams.len()).collect();
        for step in 0..sampling.new_tokens_max {
            self.choose(&mut streams, &active, step);
            active.retain(|&at| !streams[at].made.finished && step + 1 < streams[at].room);
            if active.is_empty() {
                break;
            }
            self.advance(&mut streams, &active);
        }
        streams.into_iter().map(|stream| stream.made).collect()
    }

    /// Adds a token to every active stream.
    fn choose(&mut self, streams: &mut [Stream], active: &[usize], step: usize) {
        let (model, choice) = (self.model, self.choice);
        apply_split(model.team, &self.hidden, active.len(), [model.head()], [&mut self.logits]);
        let rows = active.len().div_ceil(model.team.threads());
        let keys: Vec<[u8; 32]> = active.iter().map(|&at| streams[at].key).collect();
        let items = self.logits.chunks(rows * model.config.vocab_size).zip(keys.chunks(rows)).collect();
        let chosen = model.team.map(items, |(logits, keys)| {
            let mut chooser = Chooser::default();
            let rows = logits.chunks_exact(model.config.vocab_size).zip(keys);
            rows.map(|(row, key)| chooser.choose(row, choice.sampling, uniform(key, step)))
                .collect::<Vec<_>>()
        });
        for (&at, chosen) in active.iter().zip(chosen.into_iter().flatten()) {
            let made = &mut streams[at].made;
            made.tokens.push(chosen.token);
            made.logprobs.push(chosen.logprob);
            made.finished = choice.ends.contains(&chosen.token);
        }
    }

    /// Feeds every active stream its last token; leaves the normalised hidden states, `[active, C]`.
    fn advance(&mut self, streams: &mut [Stream], active: &[usize]) {
        let model = self.model;
        self.x.clear();
        for &at in active {
            let token = streams[at].made.tokens.last().copied().unwrap_or_default();
            model.embed(token, &mut self.x);
        }
        for layer in 0..model.layout.blocks.len() {
            self.block(layer, streams, active);
        }
        self.normalise(model.layout.norm.clone());
    }

    fn normalise(&mut self, norm: std::ops::Range<usize>) {
        self.hidden.resize(self.x.len(), 0.0);
        self.inverse.resize(self.x.len() / self.model.config.hidden_size, 0.0);
        let (norm, eps) = (&self.model.weights[norm], self.model.config.rms_norm_eps);
        rms_norm(&mut self.hidden, &mut self.inverse, &self.x, norm, eps);
    }

    fn block(&mut self, layer: usize, streams: &mut [Stream], active: &[usize]) {
        let (model, n) = (self.model, active.len());
        let block = &model.layout.blocks[layer];
        let dense = |module| model.dense(layer, module);
        self.normalise(block.norm1.clone());
        let qkv = [Module::Q, Module::K, Module::V].map(dense);
        apply_split(model.team, &self.hidden, n, qkv, [&mut self.q, &mut self.k, &mut self.v]);
        if let Some([q_norm, k_norm]) = &block.qk_norm {
            for (x, norm) in [(&mut self.q, q_norm), (&mut self.k, k_norm)] {
                let raw = x.clone();
                self.inverse.resize(raw.len() / model.config.head_dim, 0.0);
                let norm = &model.weights[norm.clone()];
                rms_norm(x, &mut self.inverse, &raw, norm, model.config.rms_norm_eps);
            }
        }
        self.remember(layer, streams, active);
        self.attend(layer, streams, active);
        apply_split(model.team, &self.attended, n, [dense(Module::O)], [&mut self.y]);
        add(&mut self.x, &self.y);
        self.normalise(block.norm2.clone());
        gated_split(model.team, &self.hidden, n, [Module::Gate, Module::Up].map(dense), &mut self.wide);
        apply_split(model.team, &self.wide, n, [dense(Module::Down)], [&mut self.y]);
        add(&mut self.x, &self.y);
    }

    /// Turns queries and keys to their positions and adds the keys and values to the caches.
    fn remember(&mut self, layer: usize, streams: &mut [Stream], active: &[usize]) {
        let config = self.model.config;
        let (d, heads) = (config.head_dim, config.num_key_value_heads);
        let rows = self.q.chunks_exact_mut(config.query_width()).zip(self.k.chunks_exact_mut(heads * d));
        for ((&at, (q, k)), v) in active.iter().zip(rows).zip(self.v.chunks_exact(heads * d)) {
            let stream = &mut streams[at];
            let own = stream.made.tokens.len() - 1;
            let position = self.prompts[stream.prompt].tokens + own;
            self.model.rotary.turn(q, position, 1.0);
            self.model.rotary.turn(k, position, 1.0);
            for (head, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
                stream.cache.set(layer * heads + head, own, k, v);
            }
        }
    }

    fn attend(&mut self, layer: usize, streams: &[Stream], active: &[usize]) {
        let (model, prompts) = (self.model, self.prompts);
        let width = model.config.query_width();
        self.attended.resize(active.len() * width, 0.0);
        // Runs of completions of one prompt, cut so that every thread gets some.
        let most = active.len().div_ceil(model.team.threads());
        let mut items = Vec::new();
        let (mut rest, mut q) = (&mut self.attended[..], &self.q[..]);
        for same in active.chunk_by(|a, b| streams[*a].prompt == streams[*b].prompt) {
            for run in same.chunks(most) {
                let (out, later) = std::mem::take(&mut rest).split_at_mut(run.len() * width);
                let (now, q_later) = q.split_at(run.len() * width);
                items.push((run, now, out));
                (rest, q) = (later, q_later);
            }
        }
        model.team.each(items, |(run, q, out)| {
            let streams: Vec<&Stream> = run.iter().map(|&at| &streams[at]).collect();
            attend_run(model, layer, &prompts[streams[0].prompt], &streams, q, out);
        });
    }
}

/// Attention of completions of one prompt, one new token each: over the prompt together, then over what
/// each has of its own. `p` is `[head of the group][stream][position]`.
fn attend_run(model: Model, layer: usize, read: &Read, streams: &[&Stream], q: &[f32], out: &mut [f32]) {
    let config = model.config;
    let (d, heads, width) = (config.head_dim, config.num_key_value_heads, config.query_width());
    let group = config.num_attention_heads / heads;
    let (n, own) = (streams.len(), streams.first().map_or(0, |stream| stream.made.tokens.len()));
    let t = read.tokens + own;
    let scale = 1.0 / (d as f32).sqrt();
    let mut p = Scratch::new(group * n * t);
    for head in 0..heads {
        let at = layer * heads + head;
        let first = head * group * d;
        for (g, p) in p.chunks_exact_mut(n * t).enumerate() {
            let left = Left { data: &q[first + g * d..], rows: n, row: width, k: 1 };
            product(Out::rows(p, t), left, read.cache.keys(at, read.tokens), false);
        }
        for (i, stream) in streams.iter().enumerate() {
            let left = Left { data: &q[i * width + first..], rows: group, row: d, k: 1 };
            let to = Out::rows(&mut p[i * t + read.tokens..], n * t);
            product(to, left, stream.cache.keys(at, own), false);
        }
        p.chunks_exact_mut(t).for_each(|row| softmax(row, scale));
        for (g, p) in p.chunks_exact(n * t).enumerate() {
            let out = Out::rows(&mut out[first + g * d..], width);
            product(out, Left::rows(p, n, t), read.cache.sums(at, read.tokens), false);
        }
        for (i, stream) in streams.iter().enumerate() {
            let left = Left { data: &p[i * t + read.tokens..], rows: group, row: n * t, k: 1 };
            let out = Out::rows(&mut out[i * width + first..], d);
            product(out, left, stream.cache.sums(at, own), true);
        }
    }
}
