//! Nothing depends on the instruction set: what the widest samples and learns, the narrower ones derive again.
//!
//! A binary of its own with a single test: the limit holds for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod models;

use models::{amber, claims, prompts, qwen2, qwen3, trained};
use policy::{
    InstructionSet, LoraConfig, Policy, Replay, Sampling, SamplingWeights, limit_instruction_set,
    widest_instruction_set,
};

const SEED: [u8; 32] = [7; 32];

fn narrower() -> Vec<InstructionSet> {
    let all = [InstructionSet::Avx2, InstructionSet::Baseline];
    all.into_iter().filter(|set| *set < widest_instruction_set()).collect()
}

/// Samples with the widest set, replays with every other; returns the number of tokens.
fn replayed(policy: &Policy, sets: &[InstructionSet]) -> usize {
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 64, ..Sampling::default() };
    limit_instruction_set(InstructionSet::Avx512);
    let groups = policy.rollout_ids(&prompts(policy, 8, 32), 4, &sampling, &SEED).unwrap();
    let all: Vec<_> = groups.iter().enumerate().flat_map(|(prompt, group)| claims(prompt, group)).collect();
    for set in sets {
        assert_eq!(limit_instruction_set(*set), *set);
        // Without a fused multiply-add it takes long: a prompt's group has to do.
        let some = if *set == InstructionSet::Baseline { &all[..4] } else { &all[..] };
        let found = policy.replay(some, &sampling, &SEED).unwrap();
        assert_eq!(found, vec![Replay::Exact; some.len()], "{set:?}");
    }
    all.iter().map(|claim| claim.rollout.completion.len()).sum()
}

#[test]
fn sampling_and_training_are_the_same_bits() {
    let sets = narrower();
    for policy in [amber(), qwen3()] {
        let four = policy.with_threads(4).unwrap();
        assert_eq!(replayed(&four, &sets), 2048);
        assert_eq!(replayed(&four.with_sampling_weights(SamplingWeights::Bf16), &sets), 2048);
    }
    for policy in [qwen3(), qwen2(64, 96, 2)] {
        let adapted =
            policy.clone().with_adapter(LoraConfig { rank: 4, ..LoraConfig::default() }, 5).unwrap();
        for policy in [policy, adapted] {
            let policy = policy.with_threads(4).unwrap();
            limit_instruction_set(InstructionSet::Avx512);
            let expected = trained(&policy, models::config());
            for set in &sets {
                limit_instruction_set(*set);
                assert_eq!(trained(&policy, models::config()), expected, "{set:?}");
            }
        }
    }
}
