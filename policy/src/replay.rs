//! Deriving a rollout again from (weights, prompt, seed), in one pass instead of one a token.
//!
//! Sampling is a function of the logits and a counter, and the logits are the same bits in one pass as
//! token by token: so a stranger with the same weights can say whether a completion is what this policy
//! sampled, to the bit.

use crate::batch::{Batch, runs};
use crate::buffers::Buffers;
use crate::error::{PolicyError, Result};
use crate::forward::{Keep, forward, item_rows};
use crate::policy::Policy;
use crate::rollout::{Rollout, Sampling};
use crate::sample::{Chooser, Chosen, stream_key, uniform};
use crate::score::PASS_TOKENS;

/// A rollout and its place among those of its seed.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What was said to be sampled.
    pub rollout: &'a Rollout,
    /// Position of its prompt among the prompts.
    pub prompt: usize,
    /// Position among the completions of its prompt.
    pub sample: usize,
}

/// What a replay found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replay {
    /// Every token and every bit of every log-probability.
    Exact,
    /// The first token at which the claim and the policy part.
    Differs {
        /// Position in the completion.
        at: usize,
        /// The token that the policy samples there.
        token: u32,
        /// Its log-probability.
        logprob: f32,
    },
    /// The tokens agree, but the completion ends too early, goes on after its end, or says wrongly
    /// whether it ended.
    WrongEnd {
        /// Tokens up to where it should have ended or gone on.
        at: usize,
    },
}

/// Texts and the prompt that they are said to complete.
#[derive(Clone, Copy, Debug)]
pub struct TextClaim<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// Its position among the prompts.
    pub position: usize,
    /// The completions, in sampling order.
    pub texts: &'a [String],
}

impl Policy {
    /// Says of texts whether this policy samples them with `sampling` and `seed`: for each claim the first text that
    /// is another one, `None` if there is none.
    ///
    /// A text has a usual way to be written in tokens, but may have been sampled in another one. So all are first
    /// replayed as usually written, and prompts with a text that differs are sampled again.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for sampling settings out of range, or a prompt that this model does not read.
    pub fn replay_texts(
        &self,
        claims: &[TextClaim],
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Option<usize>>> {
        sampling.check().map_err(|why| PolicyError::input(why, "correct the sampling settings"))?;
        let mut buffers = Buffers::default();
        let mut found = Vec::with_capacity(claims.len());
        for claim in claims {
            let prompt = self.prompt_ids(claim.prompt)?;
            self.check_prompt(&prompt)?;
            let exact = self.written_as_usual(claim, &prompt, sampling, seed, &mut buffers);
            let differs = || {
                let count = claim.texts.len();
                let again = self.sample_again(&prompt, claim.position, count, sampling, seed);
                let mut pairs = claim.texts.iter().zip(&again);
                pairs.position(|(text, rollout)| *text != rollout.text)
            };
            found.push(if exact { None } else { differs() });
        }
        Ok(found)
    }

    /// Whether every text, as usually written, is what the policy samples.
    fn written_as_usual(
        &self,
        claim: &TextClaim,
        prompt: &[u32],
        sampling: &Sampling,
        seed: &[u8; 32],
        buffers: &mut Buffers,
    ) -> bool {
        let room = self.config().context() - prompt.len();
        let longest = sampling.within(self.config(), prompt.len()).new_tokens_max;
        let written: Vec<Rollout> =
            claim.texts.iter().map(|text| self.with_a_token_more(prompt, text)).collect();
        if written.iter().any(|rollout| rollout.completion.len() > room.min(longest + 1)) {
            return false;
        }
        let claims: Vec<Claim> = written
            .iter()
            .enumerate()
            .map(|(sample, rollout)| Claim { rollout, prompt: claim.position, sample })
            .collect();
        let tokens = |_: Option<&Claim>, claim: &Claim| prompt.len() + claim.rollout.completion.len();
        runs(&claims, PASS_TOKENS, tokens).all(|claims| {
            let chosen = self.choose_again(claims, sampling, seed, buffers);
            claims.iter().zip(chosen).all(|(claim, chosen)| {
                let tokens = &claim.rollout.completion[..claim.rollout.completion.len() - 1];
                let same = tokens.iter().zip(&chosen).all(|(token, chosen)| *token == chosen.token);
                same && self.ends_there(tokens, &chosen, longest)
            })
        })
    }

    /// A text in tokens, and any token after it: then replaying tells what comes next.
    fn with_a_token_more(&self, prompt: &[u32], text: &str) -> Rollout {
        let mut completion = self.encode(text);
        completion.push(0);
        let text = text.to_owned();
        Rollout {
            prompt: prompt.to_vec(),
            completion,
            logprobs: Vec::new(),
            text,
            finished: false,
            version: 0,
        }
    }

    /// Whether a completion ends where its text does; one that chats has its end token after the text.
    fn ends_there(&self, tokens: &[u32], chosen: &[Chosen], longest: usize) -> bool {
        let ends = &self.config().eos_token_ids;
        let first = tokens.iter().position(|token| ends.contains(token));
        let next = chosen.last().is_some_and(|chosen| ends.contains(&chosen.token));
        match (self.chats(), first) {
            (false, Some(at)) => at + 1 == tokens.len(),
            (true, Some(_)) => false,
            (true, None) if tokens.len() < longest => next,
            _ => tokens.len() == longest,
        }
    }

    /// Replays rollouts that this policy is said to have sampled with `sampling` and `seed`.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for sampling settings out of range, ids that this model does not read, or a
    /// sequence longer than its context.
    pub fn replay(&self, claims: &[Claim], sampling: &Sampling, seed: &[u8; 32]) -> Result<Vec<Replay>> {
        sampling.check().map_err(|why| PolicyError::input(why, "correct the sampling settings"))?;
        for claim in claims {
            let Rollout { prompt, completion, logprobs, .. } = claim.rollout;
            let known = self.config().knows(prompt) && self.config().knows(completion);
            let fits = prompt.len() + completion.len() <= self.config().context();
            let whole = !prompt.is_empty() && !completion.is_empty() && completion.len() == logprobs.len();
            if !(fits && whole && known) {
                let what = "a rollout whose ids this model does not read, or without its log-probabilities";
                return Err(PolicyError::input(what, "replay it with the model that sampled it"));
            }
        }
        let mut found = Vec::with_capacity(claims.len());
        let mut buffers = Buffers::default();
        let tokens =
            |_: Option<&Claim>, claim: &Claim| claim.rollout.prompt.len() + claim.rollout.completion.len();
        for claims in runs(claims, PASS_TOKENS, tokens) {
            let chosen = self.choose_again(claims, sampling, seed, &mut buffers);
            found.extend(claims.iter().zip(chosen).map(|(claim, chosen)| {
                let sampling = sampling.within(self.config(), claim.rollout.prompt.len());
                compare(claim.rollout, &chosen, sampling.new_tokens_max, &self.config().eos_token_ids)
            }));
        }
        Ok(found)
    }

    /// What the policy samples at every position of the claims, given the tokens before it.
    fn choose_again(
        &self,
        claims: &[Claim],
        sampling: &Sampling,
        seed: &[u8; 32],
        buffers: &mut Buffers,
    ) -> Vec<Vec<Chosen>> {
        let (c, v) = (self.config().hidden_size, self.config().vocab_size);
        let mut batch = Batch::default();
        let mut rows: Vec<(usize, [u8; 32], usize)> = Vec::new();
        for claim in claims {
            let Rollout { prompt, completion, .. } = claim.rollout;
            let first = batch.rows() + prompt.len() - 1;
            let key = stream_key(seed, claim.prompt, claim.sample);
            rows.extend((0..completion.len()).map(|step| (first + step, key, step)));
            batch.push(&[&prompt[..], &completion[..completion.len() - 1]].concat(), &[]);
        }
        let model = self.sampling_model();
        let pass = forward(model, batch, Keep::Nothing, buffers);
        let hidden = &pass.hidden;
        let items: Vec<_> = rows.chunks(item_rows(rows.len(), model.team.threads())).collect();
        let chosen = model.team.map(items, |rows| {
            let chosen: Vec<f32> =
                rows.iter().flat_map(|(row, ..)| &hidden[row * c..][..c]).copied().collect();
            let mut logits = vec![0.0; rows.len() * v];
            model.head().apply(&mut logits, &chosen, rows.len());
            let mut chooser = Chooser::default();
            let rows = logits.chunks_exact(v).zip(rows);
            rows.map(|(row, (_, key, step))| chooser.choose(row, sampling, uniform(key, *step)))
                .collect::<Vec<_>>()
        });
        pass.free(buffers);
        let mut all = chosen.into_iter().flatten();
        claims.iter().map(|claim| all.by_ref().take(claim.rollout.completion.len()).collect()).collect()
    }
}

fn compare(rollout: &Rollout, chosen: &[Chosen], longest: usize, ends: &[u32]) -> Replay {
    let said = rollout.completion.iter().zip(&rollout.logprobs);
    for (at, (chosen, (token, logprob))) in chosen.iter().zip(said).enumerate() {
        if chosen.token != *token || chosen.logprob.to_bits() != logprob.to_bits() {
            return Replay::Differs { at, token: chosen.token, logprob: chosen.logprob };
        }
    }
    let end = rollout.completion.iter().position(|token| ends.contains(token));
    let length = end.map_or(longest, |end| end + 1);
    if rollout.completion.len() != length || rollout.finished != end.is_some() {
        return Replay::WrongEnd { at: length.min(rollout.completion.len()) };
    }
    Replay::Exact
}
