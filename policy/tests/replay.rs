//! Replay: 2,048 tokens each of two models, to the bit, with any number of threads; and what it finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod models;

use models::{amber, prompts, qwen2, qwen3};
use policy::{Claim, Group, LoraConfig, Policy, Replay, Rollout, Sampling, SamplingWeights};

const SEED: [u8; 32] = [7; 32];

fn sampling(new_tokens_max: usize) -> Sampling {
    Sampling { temperature: 1.0, new_tokens_max, ..Sampling::default() }
}

fn claims(groups: &[Group]) -> Vec<Claim<'_>> {
    groups.iter().enumerate().flat_map(|(prompt, group)| models::claims(prompt, group)).collect()
}

fn tokens(groups: &[Group]) -> usize {
    groups.iter().flat_map(Group::rollouts).map(|rollout| rollout.completion.len()).sum()
}

/// Samples with one thread, replays with several; returns the number of tokens.
fn replayed(policy: &Policy, prompts: &[Vec<u32>], group: usize, sampling: &Sampling) -> usize {
    let groups = policy.rollout_ids(prompts, group, sampling, &SEED).unwrap();
    for threads in [1, 2, 4] {
        let other = policy.clone().with_threads(threads).unwrap();
        let found = other.replay(&claims(&groups), sampling, &SEED).unwrap();
        assert_eq!(found, vec![Replay::Exact; prompts.len() * group], "{threads} threads");
        // And the other way round: several threads sample the same.
        assert_eq!(other.rollout_ids(prompts, group, sampling, &SEED).unwrap(), groups, "{threads} threads");
    }
    tokens(&groups)
}

#[test]
fn two_thousand_tokens_of_two_models_are_exact() {
    for policy in [amber(), qwen3()] {
        assert_eq!(replayed(&policy, &prompts(&policy, 8, 32), 4, &sampling(64)), 2048);
    }
}

#[test]
fn weights_in_bf16_replay_as_they_sampled() {
    for policy in [amber(), qwen3()] {
        let half = policy.clone().with_sampling_weights(SamplingWeights::Bf16);
        let prompts = prompts(&policy, 8, 32);
        assert_eq!(replayed(&half, &prompts, 4, &sampling(64)), 2048);
    }
    // Amber's weights are not bf16: in full they are another policy, and replay says so.
    let (full, half) = (amber(), amber().with_sampling_weights(SamplingWeights::Bf16));
    let groups = half.rollout_ids(&prompts(&full, 8, 32), 1, &sampling(64), &SEED).unwrap();
    let found = full.replay(&claims(&groups), &sampling(64), &SEED).unwrap();
    assert!(found.iter().all(|found| matches!(found, Replay::Differs { .. })), "{found:?}");
}

#[test]
fn a_long_prompt_cuts_its_own_completions_only() {
    let policy = qwen2(64, 96, 2);
    let ids = prompts(&policy, 2, policy.config().context() - 5);
    let both = [ids[0][..4].to_vec(), ids[1].clone()];
    assert_eq!(replayed(&policy, &both, 2, &sampling(20)), 2 * (20 + 5));
}

/// A model whose weights are read by all threads together, and completions that end by themselves.
#[test]
fn large_weights_and_early_ends_are_exact() {
    let wide = qwen2(512, 1536, 3);
    assert!(wide.weights().len() * 4 > 24 * 1024 * 1024);
    replayed(&wide, &prompts(&wide, 2, 9), 3, &sampling(24));

    let policy = Policy::embedded("amber").unwrap();
    let prompts = ["sum 9+9-8+6", "mod 87,4", "add 417+201"];
    let ids: Vec<Vec<u32>> =
        prompts.iter().map(|prompt| [&[1], &policy.encode(prompt)[..]].concat()).collect();
    for sampling in [
        sampling(20),
        Sampling { temperature: 0.7, top_k: 5, ..sampling(20) },
        Sampling { temperature: 1.3, top_p: 0.8, min_p: 0.05, ..sampling(20) },
        Sampling::greedy(20),
    ] {
        replayed(&policy, &ids, 6, &sampling);
        let groups = policy.rollout_ids(&ids, 6, &sampling, &SEED).unwrap();
        let finished = groups.iter().flat_map(Group::rollouts).filter(|rollout| rollout.finished).count();
        assert!(finished > 0, "{sampling:?}");
    }
}

#[test]
fn adapters_replay_too() {
    let mut policy = qwen3().with_adapter(LoraConfig { rank: 4, ..LoraConfig::default() }, 5).unwrap();
    models::fill(policy.adapter_mut().unwrap(), 0.2);
    replayed(&policy, &prompts(&policy, 3, 9), 4, &sampling(24));
}

/// What replay says of one of twelve rollouts after a change.
fn after(change: impl FnOnce(&mut Rollout)) -> Replay {
    let policy = amber();
    let groups = policy.rollout_ids(&prompts(&policy, 4, 16), 3, &sampling(32), &SEED).unwrap();
    let mut rollout = groups[2].rollouts()[1].clone();
    change(&mut rollout);
    let claim = Claim { rollout: &rollout, prompt: 2, sample: 1 };
    policy.replay(&[claim], &sampling(32), &SEED).unwrap()[0]
}

#[test]
fn a_change_is_found_where_it_is() {
    assert_eq!(after(|_| ()), Replay::Exact);
    for at in [0, 13, 31] {
        let mut sampled = (0, 0.0);
        let found = after(|rollout| {
            sampled = (rollout.completion[at], rollout.logprobs[at]);
            rollout.completion[at] = 9 + (rollout.completion[at] + 1) % 95;
        });
        assert_eq!(found, Replay::Differs { at, token: sampled.0, logprob: sampled.1 });
        let found = after(|rollout| {
            rollout.logprobs[at] = f32::from_bits(rollout.logprobs[at].to_bits() ^ 1);
        });
        assert_eq!(found, Replay::Differs { at, token: sampled.0, logprob: sampled.1 });
    }
}

#[test]
fn a_wrong_end_is_found() {
    let cut = |rollout: &mut Rollout| {
        rollout.completion.truncate(20);
        rollout.logprobs.truncate(20);
    };
    assert_eq!(after(cut), Replay::WrongEnd { at: 20 });
    assert_eq!(after(|rollout| rollout.finished = true), Replay::WrongEnd { at: 32 });
}

#[test]
fn another_seed_place_prompt_or_weight_is_found() {
    let mut policy = amber();
    let prompts = prompts(&policy, 2, 16);
    let groups = policy.rollout_ids(&prompts, 2, &sampling(32), &SEED).unwrap();
    let rollout = &groups[0].rollouts()[0];
    let differs = |policy: &Policy, claim: Claim, seed: &[u8; 32]| {
        let found = policy.replay(&[claim], &sampling(32), seed).unwrap()[0];
        assert!(matches!(found, Replay::Differs { at: 0..8, .. }), "{found:?}");
    };
    let claim = Claim { rollout, prompt: 0, sample: 0 };
    differs(&policy, claim, &[8; 32]);
    differs(&policy, Claim { prompt: 1, ..claim }, &SEED);
    differs(&policy, Claim { sample: 1, ..claim }, &SEED);
    let other = Rollout { prompt: groups[1].rollouts()[0].prompt.clone(), ..rollout.clone() };
    differs(&policy, Claim { rollout: &other, ..claim }, &SEED);
    // One weight of the first normalisation, by its last bits.
    let norm = policy.layout().parameters().iter().find(|it| it.name.contains("input_layernorm")).unwrap();
    let at = norm.index(0, 0);
    policy.weights_mut()[at] *= 1.0 + 1e-6;
    let found = policy.replay(&[claim], &sampling(32), &SEED).unwrap()[0];
    assert!(matches!(found, Replay::Differs { .. }), "{found:?}");
}
