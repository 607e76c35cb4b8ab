//! `murmur generate`: one completion, with tokens and log-probabilities.

use policy::Sampling;
use serde::Serialize;

use crate::args::GenerateArgs;
use crate::config::ConfigError;
use crate::exit::Outcome;
use crate::{model, printer};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    hash: String,
    prompt: String,
    /// 0 is greedy.
    temperature: f32,
    seed: u64,
    text: String,
    finished: bool,
    tokens: Vec<Token>,
    /// Sum over tokens, in nats.
    logprob: f64,
}

#[derive(Debug, Serialize)]
struct Token {
    id: u32,
    text: String,
    /// At the sampling temperature (at 1 for greedy), in nats.
    logprob: f32,
}

/// Runs the command.
///
/// # Errors
/// A model that is not there or damaged, a prompt it cannot read, a senseless temperature.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<Outcome> {
    let temperature = if args.greedy { 0.0 } else { args.temperature };
    if !(temperature.is_finite() && (0.0..=10.0).contains(&temperature)) {
        return Err(ConfigError::value("--temperature", "temperature", "must be from 0 to 10").into());
    }
    let policy = model::open(&args.model, args.hub.offline)?;
    let sampling =
        Sampling { temperature, new_tokens_max: args.new_tokens_max as usize, ..Sampling::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&args.seed.to_le_bytes());
    let groups = policy.rollout(&[args.prompt.as_str()], 1, &sampling, &seed)?;
    let rollout = groups.first().and_then(|group| group.rollouts().first());
    let Some(rollout) = rollout else { anyhow::bail!("the model gave no completion") };
    if !args.json {
        printer::data(&rollout.text)?;
        if !rollout.finished {
            printer::note("cut off; hint: raise --new-tokens-max");
        }
        return Ok(Outcome::Done);
    }
    let tokens: Vec<Token> = rollout
        .completion
        .iter()
        .zip(&rollout.logprobs)
        .map(|(&id, &logprob)| Token { id, text: policy.decode(&[id]), logprob })
        .collect();
    printer::json(&Report {
        model: args.model.clone(),
        hash: model::short_hash(&policy),
        prompt: args.prompt.clone(),
        temperature,
        seed: args.seed,
        text: rollout.text.clone(),
        finished: rollout.finished,
        logprob: tokens.iter().map(|token| f64::from(token.logprob)).sum(),
        tokens,
    })?;
    Ok(Outcome::Done)
}
