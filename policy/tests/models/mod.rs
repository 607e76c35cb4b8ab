//! Models and prompts that several test binaries use.
#![allow(dead_code)]

use std::path::Path;

use policy::loss::ScaleRewards;
use policy::{
    Adapter, Architecture, Claim, Group, IdPair, ModelConfig, Policy, Sampling, Trainer, UpdateConfig,
};

/// An embedded base (Llama's shape), without ends: completions have their full length.
pub(crate) fn amber() -> Policy {
    Policy::embedded("amber").unwrap().without_text()
}

/// Random weights of Qwen3's shape: norms of queries and keys, biases, a vocabulary of 288.
pub(crate) fn qwen3() -> Policy {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/qwen3");
    Policy::load_without_text(&folder).unwrap()
}

/// Llama's shape, small, for the tokenizer of the embedded bases.
pub(crate) fn shape() -> ModelConfig {
    ModelConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        ..ModelConfig::default()
    }
}

/// Prompts and completions that the tokenizer of the embedded bases reads.
pub(crate) fn pairs() -> Vec<(String, String)> {
    [("sum 9+9-8+6", "<think>18,10,16</think><answer>16</answer>"), ("mod 87,4", "<answer>3</answer>")]
        .map(|(prompt, completion)| (prompt.to_string(), completion.to_string()))
        .to_vec()
}

/// Random weights of Qwen2's shape.
pub(crate) fn qwen2(hidden_size: usize, intermediate_size: usize, num_hidden_layers: usize) -> Policy {
    let config = ModelConfig {
        architecture: Architecture::Qwen2,
        qkv_bias: true,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: hidden_size / 4,
        ..ModelConfig::default()
    };
    let mut policy = Policy::init(config, 3).unwrap().without_text();
    let biases = policy.layout().parameters().iter().filter(|it| it.name.ends_with("bias"));
    let places: Vec<usize> = biases.flat_map(|bias| (0..bias.rows()).map(|row| bias.index(row, 0))).collect();
    for (i, at) in places.into_iter().enumerate() {
        policy.weights_mut()[at] = 0.01 * (i % 7) as f32 - 0.03;
    }
    policy
}

/// Prompts of different ids.
pub(crate) fn prompts(policy: &Policy, count: usize, tokens: usize) -> Vec<Vec<u32>> {
    let vocabulary = policy.config().vocab_size;
    let id = |i: usize, j: usize| ((i * 7919 + j * j * 31 + 17) % vocabulary) as u32;
    (0..count).map(|i| (0..tokens).map(|j| id(i, j)).collect()).collect()
}

/// The rollouts of a prompt's group as claims.
pub(crate) fn claims(prompt: usize, group: &Group) -> Vec<Claim<'_>> {
    let rollouts = group.rollouts().iter().enumerate();
    rollouts.map(|(sample, rollout)| Claim { rollout, prompt, sample }).collect()
}

/// Gives every value of an adapter a size of about `size`, so that it changes what the model says.
pub(crate) fn fill(adapter: &mut Adapter, size: f32) {
    for (index, parameter) in adapter.parameters().to_vec().iter().enumerate() {
        let value = |i: usize| size * (((i * 37 + index * 11) % 19) as f32 / 9.0 - 1.0);
        adapter.set_values(parameter, &(0..parameter.len()).map(value).collect::<Vec<f32>>());
    }
}

/// Several micro-batches, and a gradient that is clipped.
pub(crate) fn config() -> UpdateConfig {
    UpdateConfig {
        learning_rate: 1e-3,
        warmup_rounds: 0,
        weight_decay: 0.01,
        clip_norm: 0.5,
        scale_rewards: ScaleRewards::Group,
        micro_batch_tokens: Some(160),
        ..UpdateConfig::default()
    }
}

/// Hash of the weights after a step of imitation and two of reinforcement.
pub(crate) fn trained(policy: &Policy, config: UpdateConfig) -> [u8; 32] {
    let mut policy = policy.clone();
    let mut trainer = Trainer::new(&policy, config);
    let completions = prompts(&policy, 12, 41);
    let pairs: Vec<IdPair> = completions.iter().map(|ids| (ids[..7].to_vec(), ids[7..].to_vec())).collect();
    let loss = trainer.supervise_ids(&mut policy, &pairs, 1e-3).unwrap();
    assert!(loss.is_finite());
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 24, ..Sampling::default() };
    for round in 1..3 {
        let groups = policy.rollout_ids(&completions[..4], 4, &sampling, &[round as u8; 32]).unwrap();
        let share = |ids: &[u32]| ids.iter().filter(|id| *id % 2 == 0).count() as f32 / ids.len() as f32;
        let rewarded: Vec<(Group, Vec<f32>)> = groups
            .into_iter()
            .map(|group| {
                let rewards = group.rollouts().iter().map(|rollout| share(&rollout.completion)).collect();
                (group, rewards)
            })
            .collect();
        assert_eq!(trainer.update(&mut policy, &rewarded, round).unwrap().skipped, None);
    }
    policy.hash()
}
