//! `murmur bench`: how fast and how large a model is on this machine, beside what the machine can do.
//!
//! Prompts are the same ids in every run and on every machine, so that other programs can be given them too.

mod args;
mod measure;

use std::time::Instant;

use policy::memory::{Round, Train, Workload};
use policy::{Completions, Group, IdPair, LoraConfig, Policy, Sampling, Trainer, UpdateConfig, loss};

use crate::config::ConfigError;
use crate::exit::Outcome;
pub(crate) use args::BenchCommand;
use args::{BenchDecodeArgs, BenchLearningArgs, BenchStepArgs, BenchTrainArgs, WeightsName};
use measure::{Bench, Run, Settings};

/// Rate of the training steps; small, so that no step of a long measurement diverges.
const LEARNING_RATE: f32 = 1e-4;
/// Ids from prompt to prompt in the sequence that prompts are cut from.
const PROMPT_STRIDE: u64 = 1000;

/// Runs the command.
///
/// # Errors
/// A model that is not there or damaged, sizes that do not fit it or the machine's memory.
pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<Outcome> {
    match command {
        BenchCommand::Decode(args) => decode(args),
        BenchCommand::Train(args) => train(args),
        BenchCommand::Step(args) => step(args),
    }
}

fn decode(args: &BenchDecodeArgs) -> anyhow::Result<Outcome> {
    let (batch, group) = (usize::from(args.batch), usize::from(args.group));
    if !batch.is_multiple_of(group) {
        return Err(ConfigError::value("--group", "group", "must divide the batch").into());
    }
    let work = Completions {
        prompts: batch / group,
        group,
        prompt: args.tokens.prompt as usize,
        completion: args.tokens.new as usize,
    };
    let (bench, policy) = Bench::open(&args.common, workload(&work, args.weights, None))?;
    let policy = policy.with_sampling_weights(args.weights.into());
    check_length(&policy, work.prompt + work.completion)?;
    let prompts = sequences(&policy, work.prompts, work.prompt);
    let sampling = sampling(&work);
    let measured = bench.measure("sampling", || {
        policy.rollout_ids(&prompts, group, &sampling, &[0; 32])?;
        Ok(Run::default())
    })?;
    let costs = work.sampling(policy.config(), bytes(args.weights));
    let settings = Settings {
        batch,
        group,
        prompt: Some(args.tokens.prompt),
        new: Some(args.tokens.new),
        weights: Some(name(args.weights)),
        ..Settings::default()
    };
    bench.report("decode", settings, measured, work.tokens(), &costs)
}

fn train(args: &BenchTrainArgs) -> anyhow::Result<Outcome> {
    let (batch, length) = (usize::from(args.batch), args.length as usize);
    // A prompt of one token, so that all of the sequence is predicted.
    let work = Completions { prompts: batch, group: 1, prompt: 1, completion: length };
    let (bench, policy) = Bench::open(&args.common, workload(&work, WeightsName::F32, Some(&args.learning)))?;
    let mut policy = with_adapter(policy, &args.learning)?;
    check_length(&policy, length + 1)?;
    let pairs: Vec<IdPair> = sequences(&policy, batch, length + 1)
        .into_iter()
        .map(|mut ids| {
            let completion = ids.split_off(1);
            (ids, completion)
        })
        .collect();
    let mut trainer = Trainer::new(&policy, update_config(&work, &args.learning));
    let measured = bench.measure("training", || {
        let loss = trainer.supervise_ids(&mut policy, &pairs, LEARNING_RATE)?;
        Ok(Run { loss: Some(loss), ..Run::default() })
    })?;
    let settings = Settings {
        batch,
        group: 1,
        length: Some(args.length),
        checkpointing: Some(args.learning.checkpointing),
        lora: args.learning.lora,
        ..Settings::default()
    };
    let cost = work.training(policy.config(), args.learning.lora.map(usize::from));
    bench.report("train", settings, measured, work.tokens(), &[cost])
}

fn step(args: &BenchStepArgs) -> anyhow::Result<Outcome> {
    let work = Completions {
        prompts: args.prompts.into(),
        group: args.group.into(),
        prompt: args.tokens.prompt as usize,
        completion: args.tokens.new as usize,
    };
    let (bench, policy) = Bench::open(&args.common, workload(&work, args.weights, Some(&args.learning)))?;
    let policy = policy.with_sampling_weights(args.weights.into());
    let mut policy = with_adapter(policy, &args.learning)?;
    check_length(&policy, work.prompt + work.completion)?;
    let prompts = sequences(&policy, work.prompts, work.prompt);
    let sampling = sampling(&work);
    let mut trainer = Trainer::new(&policy, update_config(&work, &args.learning));
    let mut round = 0u32;
    let measured = bench.measure("step", || {
        round += 1;
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&round.to_le_bytes());
        let started = Instant::now();
        let groups = policy.rollout_ids(&prompts, work.group, &sampling, &seed)?;
        let rollout_s = started.elapsed().as_secs_f64();
        let rewarded: Vec<(Group, Vec<f32>)> = groups.into_iter().map(rewarded).collect();
        let report = trainer.update(&mut policy, &rewarded, round)?;
        match report.skipped {
            Some(why) => anyhow::bail!("no step was taken: {why}\nhint: ask for more or longer completions"),
            None => Ok(Run { rollout_s: Some(rollout_s), loss: Some(report.loss) }),
        }
    })?;
    let settings = Settings {
        batch: work.prompts * work.group,
        group: work.group,
        prompt: Some(args.tokens.prompt),
        new: Some(args.tokens.new),
        weights: Some(name(args.weights)),
        checkpointing: Some(args.learning.checkpointing),
        lora: args.learning.lora,
        ..Settings::default()
    };
    let [read, steps] = work.sampling(policy.config(), bytes(args.weights));
    let update = work.training(policy.config(), args.learning.lora.map(usize::from));
    bench.report("step", settings, measured, work.tokens(), &[read, steps, update])
}

/// Sequences of ids that any program can make: id `j` of sequence `i` is a mixed `1000·i + j`, by the
/// vocabulary.
fn sequences(policy: &Policy, sequences: usize, tokens: usize) -> Vec<Vec<u32>> {
    let vocabulary = policy.config().vocab_size as u64;
    let id = |i: u64, j: u64| (mixed(i * PROMPT_STRIDE + j) % vocabulary) as u32;
    (0..sequences as u64).map(|i| (0..tokens as u64).map(|j| id(i, j)).collect()).collect()
}

/// The output function of SplitMix64 (Steele et al. 2014).
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sampling(work: &Completions) -> Sampling {
    Sampling { temperature: 1.0, new_tokens_max: work.completion, ..Sampling::default() }
}

/// What the memory is predicted for; `Bench` knows the threads.
fn workload(work: &Completions, weights: WeightsName, learning: Option<&BenchLearningArgs>) -> Workload {
    Workload {
        round: Some(Round {
            prompts: work.prompts,
            completions: work.group,
            prompt_tokens: work.prompt,
            new_tokens: work.completion,
        }),
        bf16: weights == WeightsName::Bf16,
        train: learning.map(|learning| Train {
            gradient_checkpointing: learning.checkpointing,
            lora: lora(learning),
            ..Train::default()
        }),
        ..Workload::default()
    }
}

fn lora(learning: &BenchLearningArgs) -> Option<LoraConfig> {
    let rank = learning.lora?;
    Some(LoraConfig { rank: rank.into(), alpha: 2.0 * f32::from(rank), ..LoraConfig::default() })
}

fn with_adapter(policy: Policy, learning: &BenchLearningArgs) -> policy::Result<Policy> {
    match lora(learning) {
        Some(config) => policy.with_adapter(config, 0),
        None => Ok(policy),
    }
}

/// The optimiser as other trainers have it by default.
fn update_config(work: &Completions, learning: &BenchLearningArgs) -> UpdateConfig {
    UpdateConfig {
        learning_rate: LEARNING_RATE,
        warmup_rounds: 0,
        lr_scheduler_type: policy::Schedule::Constant,
        adam_beta2: 0.999,
        weight_decay: 0.01,
        scale_rewards: loss::ScaleRewards::Group,
        max_completion_length: Some(work.completion as u32),
        gradient_checkpointing: learning.checkpointing,
        ..UpdateConfig::default()
    }
}

fn check_length(policy: &Policy, tokens: usize) -> Result<(), ConfigError> {
    let context = policy.config().context();
    if tokens > context {
        let what = format!("are {tokens} tokens in all where the model reads {context}");
        return Err(ConfigError::value("bench", "prompt and completion", &what));
    }
    Ok(())
}

/// A reward that differs within a group and costs nothing: the share of even ids.
fn rewarded(group: Group) -> (Group, Vec<f32>) {
    let share = |ids: &[u32]| ids.iter().filter(|id| *id % 2 == 0).count() as f32 / ids.len() as f32;
    let rewards = group.rollouts().iter().map(|rollout| share(&rollout.completion)).collect();
    (group, rewards)
}

fn bytes(weights: WeightsName) -> usize {
    match weights {
        WeightsName::F32 => 4,
        WeightsName::Bf16 => 2,
    }
}

fn name(weights: WeightsName) -> &'static str {
    match weights {
        WeightsName::F32 => "f32",
        WeightsName::Bf16 => "bf16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed in Python with `mix` of `policy/bench/torch_policy.py`.
    #[test]
    fn prompts_are_those_of_the_other_programs() {
        assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
        let policy = Policy::embedded("amber").unwrap();
        assert_eq!(sequences(&policy, 2, 3), [[87, 97, 86], [80, 92, 45]]);
    }
}
