//! A policy: a model, its tokenizer, and what a peer asks of it.

use std::sync::Arc;

use crate::config::ModelConfig;
use crate::decode::{self, Choice};
use crate::error::{PolicyError, Result};
use crate::forward::{self, Batch, Model};
use crate::math::{Rotary, log_sum_exp};
use crate::rollout::{Group, Rollout, Sampling};
use crate::tokenizer::{Codec, char_level_json};
use crate::weights::{self, Layout};

/// Tokens of one scoring batch.
const SCORE_BATCH_TOKENS: usize = 4096;

/// A model with its tokenizer. A clone is an independent copy of the weights.
#[derive(Clone, Debug)]
pub struct Policy {
    config: ModelConfig,
    layout: Arc<Layout>,
    rotary: Arc<Rotary>,
    codec: Arc<Codec>,
    weights: Vec<f32>,
    version: u64,
}

impl Policy {
    /// A policy with seeded starting weights and the character-level tokenizer of the embedded bases.
    ///
    /// # Errors
    /// A config that does not fit together or not to the tokenizer.
    pub fn init(config: ModelConfig, seed: u64) -> Result<Self> {
        let weights = Layout::new(&config).initial(seed);
        Self::from_parts(config, weights, char_level_json())
    }

    pub(crate) fn from_parts(config: ModelConfig, weights: Vec<f32>, tokenizer: String) -> Result<Self> {
        config.check().map_err(|why| PolicyError::input(why, "correct config.json"))?;
        let codec = Codec::from_json(tokenizer).map_err(|why| {
            PolicyError::input(format!("tokenizer.json: {why}"), "copy it from the model again")
        })?;
        if codec.vocab_size() > config.vocab_size {
            return Err(PolicyError::input(
                format!("the tokenizer has {} ids, the model {}", codec.vocab_size(), config.vocab_size),
                "use the tokenizer.json that belongs to this model",
            ));
        }
        let layout = Layout::new(&config);
        if layout.len() != weights.len() {
            let what = format!("{} weights where the config needs {}", weights.len(), layout.len());
            return Err(PolicyError::input(what, "use the weights that belong to this config"));
        }
        let rotary = Rotary::new(config.max_position_embeddings, config.head_dim, config.rope_theta);
        Ok(Self {
            config,
            layout: Arc::new(layout),
            rotary: Arc::new(rotary),
            codec: Arc::new(codec),
            weights,
            version: 0,
        })
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All weights, in layout order.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Names and places of the weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn layout_handle(&self) -> Arc<Layout> {
        Arc::clone(&self.layout)
    }

    /// The weights, to be changed; counts as a new version.
    pub fn weights_mut(&mut self) -> &mut [f32] {
        self.version += 1;
        &mut self.weights
    }

    /// Optimiser steps taken since it was loaded.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// BLAKE3 over all weights as f32, little endian.
    pub fn hash(&self) -> [u8; 32] {
        weights::hash(&self.weights)
    }

    pub(crate) fn tokenizer_json(&self) -> &str {
        self.codec.json()
    }

    pub(crate) fn spelling(&self, id: u32) -> Option<String> {
        self.codec.token(id)
    }

    pub(crate) fn model(&self) -> Model<'_> {
        Model { config: &self.config, layout: &self.layout, weights: &self.weights, rotary: &self.rotary }
    }

    /// Ids of a text, without the begin token.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.codec.encode(text)
    }

    /// Text of ids, markers spelled out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.codec.decode(ids)
    }

    pub(crate) fn encode_exactly(&self, text: &str) -> Result<Vec<u32>> {
        self.codec.encode_exact(text).ok_or_else(|| {
            PolicyError::input(
                format!("{text:?} has characters this model does not know"),
                "use its alphabet",
            )
        })
    }

    /// Ids of a prompt, the begin token first.
    pub(crate) fn prompt_ids(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.config.bos_token_id.into_iter().collect();
        ids.extend(self.encode_exactly(prompt)?);
        if ids.len() >= self.config.max_position_embeddings {
            let what =
                format!("a prompt of {} tokens where {} fit", ids.len(), self.config.max_position_embeddings);
            return Err(PolicyError::input(what, "shorten the prompt"));
        }
        Ok(ids)
    }

    /// Samples `group` completions of each prompt. `seed` decides everything: the same seed gives the
    /// same completion for (prompt position, sample position), whatever else is sampled beside it.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a prompt outside the alphabet or longer than the model reads.
    pub fn rollout(
        &self,
        prompts: &[&str],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Group>> {
        if group == 0 || sampling.new_tokens_max == 0 || !(0.0..=100.0).contains(&sampling.temperature) {
            return Err(PolicyError::input(
                "an empty group, an empty completion or a temperature outside 0 to 100",
                "ask for at least one completion of one token",
            ));
        }
        let ids = prompts.iter().map(|prompt| self.prompt_ids(prompt)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<(usize, [u8; 32])> = (0..prompts.len())
            .flat_map(|prompt| (0..group).map(move |sample| (prompt, sample)))
            .map(|(prompt, sample)| (prompt, decode::stream_key(seed, prompt, sample)))
            .collect();
        let rollouts = self.continued(&ids, &[], &keys, sampling);
        let mut rollouts = rollouts.into_iter();
        prompts.iter().map(|_| Group::new(rollouts.by_ref().take(group).collect())).collect()
    }

    /// The likeliest completion of each prompt, token by token, after a forced beginning (may be empty).
    /// `completion` and `text` include the beginning; `logprobs` cover what was chosen after it.
    ///
    /// # Errors
    /// As [`Self::rollout`].
    pub fn complete(&self, prompts: &[&str], forced: &str, new_tokens_max: usize) -> Result<Vec<Rollout>> {
        let ids = prompts.iter().map(|prompt| self.prompt_ids(prompt)).collect::<Result<Vec<_>>>()?;
        let forced = self.encode_exactly(forced)?;
        let keys: Vec<(usize, [u8; 32])> = (0..prompts.len()).map(|prompt| (prompt, [0; 32])).collect();
        let sampling = Sampling { temperature: 0.0, new_tokens_max: new_tokens_max.max(1) };
        Ok(self.continued(&ids, &forced, &keys, &sampling))
    }

    fn continued(
        &self,
        prompts: &[Vec<u32>],
        forced: &[u32],
        keys: &[(usize, [u8; 32])],
        sampling: &Sampling,
    ) -> Vec<Rollout> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + forced.len();
        let room = self.config.max_position_embeddings.saturating_sub(longest);
        let choice = Choice {
            temperature: sampling.temperature,
            new_tokens_max: sampling.new_tokens_max.min(room),
            ends: &self.config.eos_token_ids,
        };
        let begun: Vec<Vec<u32>> = prompts.iter().map(|prompt| [prompt, forced].concat()).collect();
        let read = decode::read(self.model(), &begun);
        let streams = decode::decode(self.model(), &read, keys, &choice);
        let rollouts = streams.into_iter().zip(keys).map(|(stream, (prompt, _))| {
            let completion = [forced, &stream.tokens].concat();
            Rollout {
                prompt: prompts[*prompt].clone(),
                text: self.codec.decode(&completion),
                completion,
                logprobs: stream.logprobs,
                finished: stream.finished,
                version: self.version,
            }
        });
        rollouts.collect()
    }

    /// Mean token log-probability (nats, temperature 1) of each completion after its prompt; `None`
    /// for text that the model cannot read. Total: the texts may come from strangers.
    pub fn score(&self, pairs: &[(&str, &str)]) -> Vec<Option<f32>> {
        let (pad, bos) = (self.config.pad_token_id, self.config.bos_token_id);
        let readable = |&(prompt, completion): &(&str, &str)| {
            let prompt = self.prompt_ids(prompt).ok()?;
            // Before encoding, whose cost grows with the text: a token is at most 16 bytes here.
            let short = completion.len() <= 16 * self.config.max_position_embeddings;
            let completion = short.then(|| self.codec.encode_exact(completion)).flatten()?;
            let fits = prompt.len() + completion.len() <= self.config.max_position_embeddings;
            let speaks =
                !completion.is_empty() && !completion.iter().any(|id| [pad, bos].contains(&Some(*id)));
            (fits && speaks).then_some((prompt, completion))
        };
        let encoded: Vec<Option<(Vec<u32>, Vec<u32>)>> = pairs.iter().map(readable).collect();
        let mut scores = vec![None; pairs.len()];
        let mut waiting: Vec<usize> = Vec::new();
        let mut tokens = 0;
        for (i, pair) in encoded.iter().enumerate() {
            let Some((prompt, completion)) = pair else { continue };
            waiting.push(i);
            tokens += prompt.len() + completion.len();
            if tokens >= SCORE_BATCH_TOKENS {
                self.score_batch(&encoded, &std::mem::take(&mut waiting), &mut scores);
                tokens = 0;
            }
        }
        self.score_batch(&encoded, &waiting, &mut scores);
        scores
    }

    fn score_batch(
        &self,
        encoded: &[Option<(Vec<u32>, Vec<u32>)>],
        chosen: &[usize],
        scores: &mut [Option<f32>],
    ) {
        let pairs: Vec<&(Vec<u32>, Vec<u32>)> = chosen.iter().filter_map(|&i| encoded[i].as_ref()).collect();
        let sequences: Vec<Vec<u32>> =
            pairs.iter().map(|(prompt, completion)| [&prompt[..], completion].concat()).collect();
        for (&i, logprobs) in chosen.iter().zip(self.logprobs(&sequences, |n| pairs[n].0.len())) {
            scores[i] = Some(logprobs.iter().sum::<f32>() / logprobs.len() as f32);
        }
    }

    /// Log-probabilities (temperature 1) of the tokens of each sequence from position `from(n)` on.
    pub(crate) fn logprobs(&self, sequences: &[Vec<u32>], from: impl Fn(usize) -> usize) -> Vec<Vec<f32>> {
        let batch = Batch::new(sequences.iter().map(Vec::as_slice));
        let starts = batch.starts.clone();
        let rows = |n: usize| starts[n] + from(n) - 1..starts[n] + sequences[n].len() - 1;
        let all: Vec<usize> = (0..sequences.len()).flat_map(rows).collect();
        let pass = forward::forward(self.model(), batch);
        let logits = forward::logits(self.model(), &pass.hidden, &all);
        let mut logits = logits.chunks_exact(self.config.vocab_size);
        let one = |n: usize| {
            let targets = &sequences[n][from(n)..];
            let rows = targets.iter().zip(logits.by_ref());
            rows.map(|(token, row)| row[*token as usize] - log_sum_exp(row)).collect()
        };
        (0..sequences.len()).map(one).collect()
    }

    /// Log-probabilities of a rollout's completion tokens, recomputed in one pass at `temperature`.
    pub fn recompute(&self, rollout: &Rollout, temperature: f32) -> Vec<f32> {
        let sequence = [&rollout.prompt[..], &rollout.completion].concat();
        let first = rollout.prompt.len() - 1;
        let rows: Vec<usize> = (first..first + rollout.completion.len()).collect();
        let pass = forward::forward(self.model(), Batch::new([sequence.as_slice()]));
        let mut logits = forward::logits(self.model(), &pass.hidden, &rows);
        let rows = logits.chunks_exact_mut(self.config.vocab_size).zip(&rollout.completion);
        rows.map(|(row, token)| {
            row.iter_mut().for_each(|logit| *logit /= temperature);
            row[*token as usize] - log_sum_exp(row)
        })
        .collect()
    }

    /// Logits of every position of a sequence of ids: `[T, V]`.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for no ids, too many, or one beyond the vocabulary.
    pub fn all_logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let known = ids.iter().all(|id| (*id as usize) < self.config.vocab_size);
        if ids.is_empty() || ids.len() > self.config.max_position_embeddings || !known {
            return Err(PolicyError::input("ids that this model does not read", "use its tokenizer"));
        }
        let rows: Vec<usize> = (0..ids.len()).collect();
        let pass = forward::forward(self.model(), Batch::new([ids]));
        Ok(forward::logits(self.model(), &pass.hidden, &rows))
    }
}
