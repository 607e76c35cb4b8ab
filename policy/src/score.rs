//! What a model says of text that is there already: log-probabilities of completions, logits of sequences.

use std::convert::Infallible;

use crate::batch::{Batch, Pair, runs};
use crate::buffers::Buffers;
use crate::error::{PolicyError, Result};
use crate::forward::{Keep, forward};
use crate::head;
use crate::model::Model;
use crate::policy::Policy;
use crate::rollout::Rollout;

/// Tokens of one pass without gradients.
pub(crate) const PASS_TOKENS: usize = 2048;

/// Log-probabilities of completions' tokens after their prompts, in passes of at most `budget` tokens.
pub(crate) fn logprobs(
    model: Model,
    pairs: &[Pair],
    temperature: f32,
    budget: usize,
    buffers: &mut Buffers,
) -> Vec<Vec<f32>> {
    // A prompt counts once for those that share it.
    let tokens = |before: Option<&Pair>, (prompt, completion): &Pair| {
        let shares = before.is_some_and(|before| before.0 == *prompt);
        completion.len() + if shares { 0 } else { prompt.len() }
    };
    let mut all = Vec::with_capacity(pairs.len());
    for now in runs(pairs, budget, tokens) {
        let (batch, targets) = Batch::of_pairs(now);
        let pass = forward(model, batch, Keep::Nothing, buffers);
        let scores = head::score(model, &pass.hidden, &targets, temperature, false, buffers);
        pass.free(buffers);
        let mut scored = scores.scored.iter().map(|scored| scored.logprob);
        all.extend(now.iter().map(|(_, completion)| scored.by_ref().take(completion.len()).collect()));
        scores.free(buffers);
    }
    all
}

impl Policy {
    /// Mean token log-probability (nats, temperature 1) of each completion after its prompt; `None`
    /// for text that the model cannot read. Total: the texts may come from strangers.
    pub fn score(&self, pairs: &[(&str, &str)]) -> Vec<Option<f32>> {
        let Ok(scores) = self.score_by(pairs, |known| Ok::<_, Infallible>(self.scored(known, 1.0)));
        scores
    }

    /// [`Self::score`] by log-probabilities that are computed elsewhere.
    pub(crate) fn score_by<E>(
        &self,
        pairs: &[(&str, &str)],
        logprobs: impl FnOnce(&[Pair]) -> std::result::Result<Vec<Vec<f32>>, E>,
    ) -> std::result::Result<Vec<Option<f32>>, E> {
        let encoded: Vec<Option<(Vec<u32>, Vec<u32>)>> =
            pairs.iter().map(|(prompt, completion)| self.readable(prompt, completion)).collect();
        let known: Vec<Pair> =
            encoded.iter().flatten().map(|(prompt, completion)| (&prompt[..], &completion[..])).collect();
        let logprobs = logprobs(&known)?;
        let mut means = logprobs.iter().map(|logprobs| logprobs.iter().sum::<f32>() / logprobs.len() as f32);
        Ok(encoded.iter().map(|pair| pair.as_ref().and_then(|_| means.next())).collect())
    }

    /// Ids of a prompt and its completion; `None` for text that the model cannot read.
    fn readable(&self, prompt: &str, completion: &str) -> Option<(Vec<u32>, Vec<u32>)> {
        let context = self.config().context();
        let prompt = self.prompt_ids(prompt).ok()?;
        // Before encoding, whose cost grows with the text: a token is at most 16 bytes here.
        let short = completion.len() <= 16 * context;
        let completion = short.then(|| self.completion_ids(completion)).flatten()?;
        let fits = prompt.len() + completion.len() <= context;
        fits.then_some((prompt, completion))
    }

    /// Log-probabilities of completions' tokens after their prompts at `temperature`: `[pair][token]`.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for ids that the model does not read, or too many.
    pub fn logprobs(&self, pairs: &[(&[u32], &[u32])], temperature: f32) -> Result<Vec<Vec<f32>>> {
        for (prompt, completion) in pairs {
            self.check_prompt(prompt)?;
            let fits = prompt.len() + completion.len() <= self.config().context();
            if completion.is_empty() || !fits || !self.config().knows(completion) {
                return Err(PolicyError::input("ids that this model does not read", "use its tokenizer"));
            }
        }
        Ok(self.scored(pairs, temperature))
    }

    /// Log-probabilities of a rollout's completion tokens, recomputed in one pass at `temperature`.
    pub fn recompute(&self, rollout: &Rollout, temperature: f32) -> Vec<f32> {
        self.scored(&[(&rollout.prompt, &rollout.completion)], temperature).concat()
    }

    fn scored(&self, pairs: &[Pair], temperature: f32) -> Vec<Vec<f32>> {
        self.run(|| logprobs(self.model(), pairs, temperature, PASS_TOKENS, &mut Buffers::default()))
    }

    /// Logits of every position of a sequence of ids: `[T, V]`.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for no ids, too many, or one beyond the vocabulary.
    pub fn all_logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        if ids.is_empty() || ids.len() > self.config().context() || !self.config().knows(ids) {
            return Err(PolicyError::input("ids that this model does not read", "use its tokenizer"));
        }
        let mut batch = Batch::default();
        batch.push(ids, &[]);
        let pass = forward(self.model(), batch, Keep::Nothing, &mut Buffers::default());
        let rows: Vec<usize> = (0..ids.len()).collect();
        Ok(head::logits(self.model(), &pass.hidden, &rows))
    }
}
