//! Sampling on a device: the same choices as `crate::decode`, made without bringing logits to the host (except
//! where top-k, top-p or min-p need them there).
//!
//! A prompt is read once. Its keys and values are never copied for its group: all samples' queries meet them in
//! one product. What a sample adds lies in a cache of its own, allocated once for the longest completion. Every
//! sample advances until the last of its pass has ended; what a finished one computes is thrown away.
//!
//! A token is drawn by inverse CDF in order of ids with the counter of [`crate::decode`]. A running sum over a
//! whole vocabulary is a V × V product in candle, so the sum runs over √V blocks and then within one of them.
//!
//! B prompts, G samples of each, R = B·G rows, P longest prompt, S longest completion, H query heads, K key
//! heads, D head size, V vocabulary.

use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

use super::batch::{self, Limits};
use super::model::{Rotary, TensorModel};
use crate::rollout::Sampling;
use crate::sample::{Chooser, stream_key, uniform};

/// Values that the caches of one pass may hold (2 GiB in 16 bits, 4 GiB in 32); more prompts take more passes.
const CACHE_VALUES_MAX: usize = 1 << 30;
/// Logits that are on the host at a time (128 MiB).
const HOST_LOGITS_MAX: usize = 1 << 25;

/// One sampled completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Token ids, the end token included if it was reached.
    pub tokens: Vec<u32>,
    /// Log-probability of each at the sampling temperature (temperature 1 for greedy decoding).
    pub logprobs: Vec<f32>,
    /// Whether an end token was reached.
    pub finished: bool,
}

/// What to sample.
pub(super) struct Request<'a> {
    pub(super) prompts: &'a [Vec<u32>],
    pub(super) group: usize,
    pub(super) sampling: Sampling,
    pub(super) ends: &'a [u32],
    pub(super) seed: &'a [u8; 32],
}

/// Samples `group` completions of each prompt, in as many passes as memory asks for.
pub(super) fn rollout(model: &TensorModel, request: &Request, limits: Limits) -> Result<Vec<Vec<Sampled>>> {
    let config = model.config();
    let longest = request.prompts.iter().map(Vec::len).max().unwrap_or(0);
    let per_token = 2 * config.num_hidden_layers * config.kv_width();
    let per_prompt = per_token * (longest + request.group * request.sampling.new_tokens_max);
    let at_once = (CACHE_VALUES_MAX / per_prompt.max(1)).max(1);
    let choice = Choice::new(config.vocab_size, request.sampling, model.device())?;
    let mut groups = Vec::with_capacity(request.prompts.len());
    for first in (0..request.prompts.len()).step_by(at_once) {
        let last = request.prompts.len().min(first + at_once);
        let sampled = pass(model, request, first..last, &choice, limits)?;
        groups.extend(sampled.chunks(request.group).map(<[Sampled]>::to_vec));
    }
    Ok(groups)
}

/// Samples the groups of some prompts together.
fn pass(
    model: &TensorModel,
    request: &Request,
    prompts: std::ops::Range<usize>,
    choice: &Choice,
    limits: Limits,
) -> Result<Vec<Sampled>> {
    let (group, steps) = (request.group, request.sampling.new_tokens_max);
    let keys: Vec<[u8; 32]> = prompts
        .clone()
        .flat_map(|prompt| (0..group).map(move |sample| (prompt, sample)))
        .map(|(prompt, sample)| stream_key(request.seed, prompt, sample))
        .collect();
    let prompts = &request.prompts[prompts];
    let lengths: Vec<u32> = prompts.iter().flat_map(|prompt| vec![prompt.len() as u32; group]).collect();
    let room: Vec<usize> =
        lengths.iter().map(|length| steps.min(model.config().context() - *length as usize)).collect();
    let (prompt_cache, last) = read(model, prompts, limits)?;
    let parents: Vec<u32> = (0..prompts.len() as u32).flat_map(|prompt| vec![prompt; group]).collect();
    let mut hidden = last.index_select(&Tensor::new(parents, model.device())?, 0)?;
    let mut own = OwnCache::new(model, keys.len(), steps)?;
    let mut rows = vec![Sampled::default(); keys.len()];
    for step in 0..steps {
        let uniforms: Vec<f32> = keys.iter().map(|key| uniform(key, step)).collect();
        let (tokens, logprobs) = choice.draw(&model.logits(&hidden)?, &uniforms)?;
        for (((row, room), token), logprob) in rows.iter_mut().zip(&room).zip(&tokens).zip(logprobs) {
            if !row.finished && step < *room {
                row.tokens.push(*token);
                row.logprobs.push(logprob);
                row.finished = request.ends.contains(token);
            }
        }
        if rows.iter().zip(&room).all(|(row, room)| row.finished || step + 1 >= *room) {
            break;
        }
        let positions: Vec<u32> = lengths.iter().map(|length| length + step as u32).collect();
        hidden = advance(model, &prompt_cache, &mut own, &tokens, &positions)?;
    }
    Ok(rows)
}

/// Keys and values of the prompts, per block `[B, K, P, D]` each, and what hides their padding.
struct PromptCache {
    blocks: Vec<(Tensor, Tensor)>,
    /// 0 or −∞: `[B, 1, 1, P]`.
    mask: Tensor,
}

/// Keys and values of the samples' own tokens, per block `[R, K, S, D]` each.
struct OwnCache {
    blocks: Vec<(Tensor, Tensor)>,
    filled: usize,
}

impl OwnCache {
    fn new(model: &TensorModel, rows: usize, steps: usize) -> Result<Self> {
        let shape = (rows, model.config().num_key_value_heads, steps, model.config().head_dim);
        let zeros = || Tensor::zeros(shape, model.dtype(), model.device());
        let blocks = model.blocks.iter().map(|_| Ok((zeros()?, zeros()?))).collect::<Result<_>>()?;
        Ok(Self { blocks, filled: 0 })
    }
}

/// Reads prompts: their cache, and the normalised hidden state of each one's last token, `[B, C]`.
fn read(model: &TensorModel, prompts: &[Vec<u32>], limits: Limits) -> Result<(PromptCache, Tensor)> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let at_once = limits.sequences_of(longest, model.config());
    let mut parts = vec![Vec::new(); model.blocks.len()];
    let mut last = Vec::new();
    for prompts in prompts.chunks(at_once) {
        let ids = batch::padded(prompts, longest, model.device())?;
        let (hidden, cache) = model.read(&ids)?;
        let ends = prompts.iter().enumerate().map(|(n, prompt)| (n * longest + prompt.len() - 1) as u32);
        let ends = Tensor::new(ends.collect::<Vec<u32>>(), model.device())?;
        last.push(hidden.flatten(0, 1)?.index_select(&ends, 0)?);
        cache.into_iter().zip(&mut parts).for_each(|(block, parts)| parts.push(block));
    }
    let joined = |parts: Vec<(Tensor, Tensor)>| {
        let (keys, values): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok((Tensor::cat(&keys, 0)?, Tensor::cat(&values, 0)?))
    };
    let mut mask = vec![f32::NEG_INFINITY; prompts.len() * longest];
    for (row, prompt) in mask.chunks_exact_mut(longest.max(1)).zip(prompts) {
        row[..prompt.len()].fill(0.0);
    }
    let mask = Tensor::from_vec(mask, (prompts.len(), 1, 1, longest), model.device())?;
    let blocks = parts.into_iter().map(joined).collect::<Result<_>>()?;
    Ok((PromptCache { blocks, mask }, Tensor::cat(&last, 0)?))
}

/// Feeds every row one token; returns the normalised hidden states, `[R, C]`.
fn advance(
    model: &TensorModel,
    prompts: &PromptCache,
    own: &mut OwnCache,
    tokens: &[u32],
    positions: &[u32],
) -> Result<Tensor> {
    let ids = Tensor::new(tokens, model.device())?.unsqueeze(1)?;
    let rotary: Rotary = model.rotary(positions, positions.len())?;
    let mut x = model.embed(&ids)?;
    for ((block, prompt), (keys, values)) in model.blocks.iter().zip(&prompts.blocks).zip(&own.blocks) {
        let (q, k, v) = model.project(block, &x, &rotary)?;
        keys.slice_set(&k, 2, own.filled)?;
        values.slice_set(&v, 2, own.filled)?;
        let own = (keys.narrow(2, 0, own.filled + 1)?, values.narrow(2, 0, own.filled + 1)?);
        x = model.finish(block, &x, &attend(model, &q, prompt, &prompts.mask, &own)?)?;
    }
    own.filled += 1;
    model.last_norm(&x)?.squeeze(1)
}

/// Attention of one token a row over its prompt and then its own tokens: q `[R, H, 1, D]` → `[R, 1, H·D]`.
fn attend(
    model: &TensorModel,
    q: &Tensor,
    prompt: &(Tensor, Tensor),
    mask: &Tensor,
    own: &(Tensor, Tensor),
) -> Result<Tensor> {
    let (rows, heads, _, d) = q.dims4()?;
    let (b, kv, p, _) = prompt.0.dims4()?;
    let (group, repeat) = (rows / b, heads / kv);
    // Rows of one prompt lie together, so all heads that share a key meet it in one product: [B, K, G·H/K, …].
    let gathered = |x: &Tensor, width: usize| {
        x.reshape((b, group, kv, repeat * width))?.transpose(1, 2)?.reshape((b, kv, group * repeat, width))
    };
    let spread = |x: &Tensor, width: usize| {
        x.reshape((b, kv, group, repeat * width))?.transpose(1, 2)?.reshape((rows, kv, repeat, width))
    };
    let past = model.scores(&gathered(q, d)?, &prompt.0)?.broadcast_add(mask)?;
    let new = model.scores(&q.reshape((rows, kv, repeat, d))?, &own.0)?;
    let weights = model.softmax(&Tensor::cat(&[spread(&past, p)?, new], D::Minus1)?)?;
    let own_tokens = weights.dim(D::Minus1)? - p;
    let past = gathered(&weights.narrow(D::Minus1, 0, p)?.contiguous()?, p)?.matmul(&prompt.1)?;
    let new = weights.narrow(D::Minus1, p, own_tokens)?.contiguous()?.matmul(&own.1)?;
    (spread(&past, d)? + new)?.reshape((rows, 1, heads * d))
}

/// How tokens are chosen.
struct Choice {
    sampling: Sampling,
    vocabulary: usize,
    /// Ids of a block: √V, rounded up.
    width: usize,
    /// Ones where row ≤ column, `[width, width]`: a product with it is a running sum.
    triangle: Tensor,
}

impl Choice {
    fn new(vocabulary: usize, sampling: Sampling, device: &candle_core::Device) -> Result<Self> {
        let width = (vocabulary as f64).sqrt().ceil() as usize;
        let triangle: Vec<f32> =
            (0..width * width).map(|at| f32::from(u8::from(at / width <= at % width))).collect();
        let triangle = Tensor::from_vec(triangle, (width, width), device)?;
        Ok(Self { sampling, vocabulary, width, triangle })
    }

    /// The tokens that logits `[R, V]` and one uniform number a row choose, and their log-probabilities.
    fn draw(&self, logits: &Tensor, uniforms: &[f32]) -> Result<(Vec<u32>, Vec<f32>)> {
        let temperature = f64::from(self.sampling.temperature);
        if temperature > 0.0 && self.sampling.filters() {
            return self.draw_filtered(logits, uniforms);
        }
        let tempered = if temperature > 0.0 { (logits / temperature)? } else { logits.clone() };
        let logprobs = candle_nn::ops::log_softmax(&tempered, D::Minus1)?;
        let tokens = if temperature > 0.0 {
            self.inverse_cdf(&logprobs.exp()?, uniforms)?
        } else {
            logits.argmax(D::Minus1)?
        };
        let chosen = logprobs.gather(&tokens.unsqueeze(1)?, 1)?.squeeze(1)?;
        Ok((tokens.to_vec1()?, chosen.to_vec1()?))
    }

    /// [`Self::draw`] on the host, with what the CPU engine chooses by: candle sorts only short rows on a GPU,
    /// and cannot order equal values by their ids.
    fn draw_filtered(&self, logits: &Tensor, uniforms: &[f32]) -> Result<(Vec<u32>, Vec<f32>)> {
        let rows = (HOST_LOGITS_MAX / self.vocabulary.max(1)).max(1);
        let mut all = Vec::with_capacity(uniforms.len());
        for (part, uniforms) in uniforms.chunks(rows).enumerate() {
            let logits = logits.narrow(0, part * rows, uniforms.len())?.flatten_all()?.to_vec1::<f32>()?;
            let rows = logits.par_chunks_exact(self.vocabulary).zip(uniforms);
            let chosen = rows.map_init(Chooser::default, |chooser, (row, u)| {
                let chosen = chooser.choose(row, &self.sampling, *u);
                (chosen.token, chosen.logprob)
            });
            all.extend(chosen.collect::<Vec<_>>());
        }
        Ok(all.into_iter().unzip())
    }

    /// The first id, in each row of probabilities `[R, V]`, at which their running sum exceeds u: `[R]`.
    fn inverse_cdf(&self, p: &Tensor, uniforms: &[f32]) -> Result<Tensor> {
        let (rows, width) = (uniforms.len(), self.width);
        let blocks = self.vocabulary.div_ceil(width);
        let p = p.pad_with_zeros(1, 0, blocks * width - self.vocabulary)?.reshape((rows, blocks, width))?;
        let ends =
            p.sum(2)?.matmul(&self.triangle.narrow(0, 0, blocks)?.narrow(1, 0, blocks)?.contiguous()?)?;
        // Rounding may leave a whole sum below u: u stays within the vocabulary, and then within its block.
        let u = Tensor::from_slice(uniforms, (rows, 1), p.device())?;
        let u = u.minimum(&almost(&ends.narrow(1, blocks - 1, 1)?)?)?;
        let block = passed(&ends, &u, blocks)?;
        let at = block.to_dtype(DType::U32)?;
        // One block lower, so that block 0 finds 0 before it.
        let before = ends.pad_with_zeros(1, 1, 0)?.gather(&at, 1)?;
        let index = at.unsqueeze(2)?.broadcast_as((rows, 1, width))?.contiguous()?;
        let sums = p.gather(&index, 1)?.squeeze(1)?.matmul(&self.triangle)?;
        let rest = (u - before)?.minimum(&almost(&sums.narrow(1, width - 1, 1)?)?)?;
        // f32 holds every id exactly: a vocabulary is at most 2²⁰.
        let id = ((block * width as f64)? + passed(&sums, &rest, width)?)?.squeeze(1)?;
        id.clamp(0.0, (self.vocabulary - 1) as f64)?.to_dtype(DType::U32)
    }
}

/// The largest number that counts as below x > 0.
fn almost(x: &Tensor) -> Result<Tensor> {
    x * f64::from(1.0 - f32::EPSILON)
}

/// How many of a row's running sums `[R, N]` do not exceed its `u` `[R, 1]`, at most N − 1: `[R, 1]`.
fn passed(sums: &Tensor, u: &Tensor, n: usize) -> Result<Tensor> {
    sums.broadcast_le(u)?.to_dtype(DType::F32)?.sum_keepdim(1)?.clamp(0.0, (n - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_cdf_finds_the_id_of_a_plain_walk() {
        let device = candle_core::Device::Cpu;
        let plain = Sampling { temperature: 1.0, ..Sampling::default() };
        for vocabulary in [1, 2, 7, 104, 1000] {
            let logits: Vec<f32> = (0..vocabulary).map(|id| ((id * 37 % 11) as f32).sin() * 3.0).collect();
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let choice = Choice::new(vocabulary, plain, &device).unwrap();
            let uniforms: Vec<f32> = (0..256).map(|n| (n as f32 + 0.5) / 256.0).chain([0.0, 1.0]).collect();
            let rows = Tensor::from_vec(logits.repeat(258), (258, vocabulary), &device).unwrap();
            let (tokens, logprobs) = choice.draw(&rows, &uniforms).unwrap();
            for ((token, logprob), u) in tokens.into_iter().zip(logprobs).zip(uniforms) {
                let mut sum = 0.0;
                let walked = logits.iter().position(|logit| {
                    sum += f64::from(*logit).exp() / total;
                    sum > f64::from(u)
                });
                assert_eq!(token as usize, walked.unwrap_or(vocabulary - 1), "{u} of {vocabulary}");
                let exact = f64::from(logits[token as usize]) - total.ln();
                assert!((f64::from(logprob) - exact).abs() < 1e-5);
            }
        }
    }
}
