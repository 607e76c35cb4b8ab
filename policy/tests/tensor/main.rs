//! The tensor path against transformers and against the CPU engine.
//!
//! Runs on candle's CPU device, with the very operations that a GPU runs; `MURMUR_TEST_DEVICE=cuda` (or `metal`) and
//! the feature of that name run the same tests on a GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adapter;
mod learning;
#[path = "../models/mod.rs"]
mod models;
mod sampling;

use policy::tensor::{Device, Precision, TensorPolicy, TensorTrainer};
use policy::{
    Adapter, Architecture, LoraConfig, ModelConfig, Parameter, Policy, RopeScaling, Sampling, Trainer,
    UpdateConfig,
};
use serde_json::Value;

use models::{pairs, shape};

/// Numbers in [−0.5, 0.5) that `fixtures/gradients.py` computes alike.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let number = |at: u64| {
        let x = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ seed).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 29)) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..count as u64).map(number).collect()
}

fn filled(config: ModelConfig) -> Policy {
    let mut policy = Policy::init(config, 1).unwrap();
    let layout = policy.layout().clone();
    for parameter in layout.parameters() {
        let norm = parameter.name.contains("norm");
        let values = noise(&parameter.name, parameter.len());
        let values: Vec<f32> =
            values.into_iter().map(|x| if norm { 1.0 + 0.5 * x } else { 0.8 * x }).collect();
        layout.set_values(policy.weights_mut(), parameter, &values);
    }
    policy
}

fn llama(tied: bool) -> Policy {
    filled(ModelConfig { tie_word_embeddings: tied, ..shape() })
}

/// The models of `fixtures/gradients.json`.
fn family(name: &str) -> Policy {
    filled(match name {
        "llama_biases" => ModelConfig {
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            tie_word_embeddings: false,
            ..shape()
        },
        "llama3_scaling" => ModelConfig {
            head_dim: 16,
            rope_scaling: Some(RopeScaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 64,
            }),
            ..shape()
        },
        "qwen2" => ModelConfig { architecture: Architecture::Qwen2, qkv_bias: true, ..shape() },
        "qwen3" => ModelConfig {
            architecture: Architecture::Qwen3,
            head_dim: 16,
            rope_theta: 1e6,
            tie_word_embeddings: false,
            ..shape()
        },
        _ => panic!("{name}"),
    })
}

fn device() -> Device {
    std::env::var("MURMUR_TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap())
}

fn in_f32(policy: &Policy) -> TensorPolicy {
    TensorPolicy::new(policy, device(), Precision::F32).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn norm(x: &[f32]) -> f32 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32
}

/// |a − b| / |b|.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(b)
}

/// All ways to take a step: in one part or in many, keeping activations or not.
fn ways(config: &UpdateConfig) -> [UpdateConfig; 4] {
    [(None, false), (None, true), (Some(1), false), (Some(70), true)].map(
        |(micro_batch_tokens, gradient_checkpointing)| UpdateConfig {
            micro_batch_tokens,
            gradient_checkpointing,
            ..config.clone()
        },
    )
}

#[test]
fn every_family_equals_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/gradients.json")).unwrap();
    let cases = fixture["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 4);
    for (name, case) in cases {
        let policy = family(name);
        let tensors = in_f32(&policy);
        let ids: Vec<u32> = numbers(&case["ids"]).into_iter().map(|id| id as u32).collect();
        let logits = tensors.logits(&ids).unwrap().to_vec2::<f32>().unwrap();
        for (row, key) in [(logits.len() - 1, "last"), (20, "middle")] {
            let far = farthest(&logits[row], &numbers(&case[key]));
            assert!(far < 1e-4, "{name} {key}: {far}");
        }
        for config in ways(&UpdateConfig::default()) {
            let pair = (ids[..8].to_vec(), ids[8..].to_vec());
            let (_, gradient) = TensorTrainer::imitation_gradient(&tensors, &[pair], &config).unwrap();
            let expected = case["gradients"].as_object().unwrap();
            assert_eq!(policy.layout().parameters().len(), expected.len());
            for parameter in policy.layout().parameters() {
                let values = policy.layout().values(&gradient, parameter);
                let expected = &expected[&parameter.name];
                let length = expected["norm"].as_f64().unwrap() as f32;
                assert!(length > 0.0);
                assert!((norm(&values) - length).abs() < 1e-4 * length, "{name} {}", parameter.name);
                let far = farthest(&values[..4], &numbers(&expected["first"]));
                assert!(far < 1e-4 * length, "{name} {}: {far} of {length}", parameter.name);
            }
        }
        let greedy: Vec<u32> = numbers(&case["greedy"]).into_iter().map(|id| id as u32).collect();
        let sampling = Sampling { temperature: 0.0, new_tokens_max: 32, ..Sampling::default() };
        let sampled = tensors.rollout_ids(&[ids[..9].to_vec()], 1, &sampling, &[0; 32]).unwrap();
        assert_eq!(sampled[0][0].tokens, greedy, "{name}");
    }
}

const PROMPTS: [&str; 4] = ["sum 9+9-8+6", "cnt a:bbbcacab", "m", "mod 487,6 and then some more"];

fn prompt_ids(policy: &Policy) -> Vec<Vec<u32>> {
    let ids = |prompt: &&str| [vec![policy.config().bos_token_id.unwrap()], policy.encode(prompt)].concat();
    PROMPTS.iter().map(ids).collect()
}

fn encoded(policy: &Policy) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bos = policy.config().bos_token_id.unwrap();
    let ids = |(prompt, completion): (String, String)| {
        ([vec![bos], policy.encode(&prompt)].concat(), policy.encode(&completion))
    };
    pairs().into_iter().map(ids).collect()
}

fn slices(pairs: &[(Vec<u32>, Vec<u32>)]) -> Vec<(&[u32], &[u32])> {
    pairs.iter().map(|(prompt, completion)| (prompt.as_slice(), completion.as_slice())).collect()
}

#[test]
fn logits_and_log_probabilities_equal_the_cpu_engine() {
    for tied in [true, false] {
        let policy = llama(tied);
        let tensors = in_f32(&policy);
        for ids in prompt_ids(&policy) {
            let ours = tensors.logits(&ids).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let far = farthest(&ours, &policy.all_logits(&ids).unwrap());
            assert!(far < 1e-4, "{far}");
        }
        let sampling = Sampling { temperature: 0.7, new_tokens_max: 30, ..Sampling::default() };
        for group in policy.rollout(&PROMPTS, 3, &sampling, &[4; 32]).unwrap() {
            let sequences: Vec<(&[u32], &[u32])> =
                group.rollouts().iter().map(|r| (&r.prompt[..], &r.completion[..])).collect();
            for (ours, rollout) in tensors.logprobs(&sequences, 0.7).unwrap().iter().zip(group.rollouts()) {
                let far = farthest(ours, &rollout.logprobs);
                assert!(far < 1e-4, "{far}");
            }
        }
    }
}

/// The values of what learns in a policy, by name, from a slice in its layout.
fn named(policy: &Policy, values: &[f32]) -> Vec<(String, Vec<f32>)> {
    let parameters = policy.adapter().map_or(policy.layout().parameters(), Adapter::parameters);
    let named = |parameter: &Parameter| (parameter.name.clone(), policy.layout().values(values, parameter));
    parameters.iter().map(named).collect()
}

#[test]
fn gradients_equal_the_cpu_engine() {
    for policy in [llama(true), llama(false), adapted(&llama(true), 3)] {
        let config = UpdateConfig::default();
        let (loss, expected) = Trainer::imitation_gradient(&policy, &pairs(), config.clone()).unwrap();
        let (tensors, encoded) = (in_f32(&policy), encoded(&policy));
        for config in ways(&config) {
            let (ours, gradient) = TensorTrainer::imitation_gradient(&tensors, &encoded, &config).unwrap();
            assert!((ours - loss).abs() < 1e-5, "{ours} {loss}");
            for ((name, values), (_, expected)) in
                named(&policy, &gradient).iter().zip(named(&policy, &expected))
            {
                assert!(norm(&expected) > 0.0, "{name} gets no gradient");
                let error = relative(values, &expected);
                assert!(error < 2e-5, "{name}: {error}");
            }
        }
    }
}

/// With an adapter on some matrices of every block, B not zero.
fn adapted(policy: &Policy, rank: usize) -> Policy {
    let targets = ["q_proj", "v_proj", "o_proj", "down_proj"].map(str::to_owned).into();
    let config = LoraConfig { rank, alpha: 0.5 * rank as f32, targets };
    let mut policy = policy.clone().with_adapter(config, 1).unwrap();
    let adapter = policy.adapter_mut().unwrap();
    for parameter in adapter.parameters().to_vec() {
        let values: Vec<f32> = noise(&parameter.name, parameter.len()).into_iter().map(|x| 0.5 * x).collect();
        adapter.set_values(&parameter, &values);
    }
    policy
}

#[test]
fn half_precision_samples_and_scores_close_to_f32_and_does_not_train() {
    let policy = llama(true);
    let half = TensorPolicy::new(&policy, device(), Precision::F16).unwrap();
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 30, ..Sampling::default() };
    let ids = prompt_ids(&policy);
    let sampled = half.rollout_ids(&ids, 4, &sampling, &[3; 32]).unwrap();
    let full = in_f32(&policy);
    for (prompt, sample) in
        ids.iter().zip(&sampled).flat_map(|(ids, group)| group.iter().map(move |s| (ids, s)))
    {
        let pair = [(&prompt[..], &sample.tokens[..])];
        let exact = &full.logprobs(&pair, 1.0).unwrap()[0];
        let far = farthest(exact, &sample.logprobs);
        assert!(far < 0.1, "{far}");
    }
    let error = TensorTrainer::imitation_gradient(&half, &encoded(&policy), &UpdateConfig::default());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("f32 or bf16"), "{error}");
    let error = TensorPolicy::new(&policy, Device::Cpu, Precision::Bf16).err().unwrap();
    assert!(error.to_string().contains("bf16"), "{error}");
}

#[test]
fn a_policy_of_another_shape_is_refused() {
    let policy = llama(true);
    let adapted = adapted(&policy, 2);
    let mut rescaled = adapted.without_adapter();
    let config = LoraConfig { alpha: 7.0, ..adapted.adapter().unwrap().config().clone() };
    rescaled = rescaled.with_adapter(config, 1).unwrap();
    let mut tensors = in_f32(&adapted);
    for mut other in [policy, rescaled, Policy::init(ModelConfig::default(), 1).unwrap()] {
        let before = other.hash();
        for result in [tensors.read(&other), tensors.write_back(&mut other)] {
            assert!(result.unwrap_err().to_string().contains("another shape"));
        }
        assert_eq!(other.hash(), before);
    }
}
