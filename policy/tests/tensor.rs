//! The tensor path against transformers and against the CPU engine.
//!
//! Runs on candle's CPU device, with the very operations that a GPU runs; `MURMUR_TEST_DEVICE=cuda` (or `metal`) and
//! the feature of that name run the same tests on a GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use policy::loss::{ImportanceSamplingLevel, LossType, ScaleRewards};
use policy::tensor::{Device, Precision, TensorPolicy, TensorTrainer};
use policy::{
    Adapter, Architecture, Group, LoraConfig, ModelConfig, Parameter, Policy, RopeScaling, Sampling, Trainer,
    UpdateConfig, UpdateReport,
};
use serde_json::Value;

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

fn shape() -> ModelConfig {
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
    let fixture: Value = serde_json::from_str(include_str!("fixtures/gradients.json")).unwrap();
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

fn pairs() -> Vec<(String, String)> {
    [("sum 9+9-8+6", "<think>18,10,16</think><answer>16</answer>"), ("mod 87,4", "<answer>3</answer>")]
        .map(|(prompt, completion)| (prompt.to_string(), completion.to_string()))
        .to_vec()
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

#[test]
fn greedy_tokens_equal_the_cpu_engine() {
    for tied in [true, false] {
        let policy = llama(tied);
        let sampling = Sampling { temperature: 0.0, new_tokens_max: 40, ..Sampling::default() };
        let ours = in_f32(&policy).rollout_ids(&prompt_ids(&policy), 2, &sampling, &[7; 32]).unwrap();
        for (ours, theirs) in ours.iter().zip(policy.complete(&PROMPTS, "", 40).unwrap()) {
            for ours in ours {
                assert_eq!(ours.tokens, theirs.completion);
                assert_eq!(ours.finished, theirs.finished);
                assert!(farthest(&ours.logprobs, &theirs.logprobs) < 1e-4);
            }
        }
    }
}

/// Checks that samples are the CPU engine's up to the first token that rounding changes, and how rare that is.
fn check_samples(policy: &Policy, sampling: &Sampling) {
    let tensors = in_f32(policy);
    let (mut same, mut all) = (0, 0);
    for seed in 0..4 {
        let ours = tensors.rollout_ids(&prompt_ids(policy), 16, sampling, &[seed; 32]).unwrap();
        let theirs = policy.rollout(&PROMPTS, 16, sampling, &[seed; 32]).unwrap();
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flat_map(|group| group.rollouts())) {
            let equal = ours.tokens.iter().zip(&theirs.completion).take_while(|(a, b)| a == b).count();
            assert!(farthest(&ours.logprobs[..equal], &theirs.logprobs[..equal]) < 1e-4);
            let differs = usize::from(equal < theirs.completion.len());
            assert!(differs == 1 || ours.finished == theirs.finished);
            same += equal;
            all += equal + differs;
        }
    }
    println!("{same} of {all} tokens up to the first difference are the CPU engine's: {sampling:?}");
    assert!(all > 4000 && same as f32 >= 0.99 * all as f32, "{same} of {all}: {sampling:?}");
}

#[test]
fn samples_equal_the_cpu_engine_up_to_rounding() {
    let policy = llama(true);
    let plain = Sampling { temperature: 1.3, new_tokens_max: 64, ..Sampling::default() };
    for sampling in [
        plain,
        Sampling { top_k: 5, ..plain },
        Sampling { top_p: 0.8, ..plain },
        Sampling { min_p: 0.2, ..plain },
        Sampling { top_k: 40, top_p: 0.9, min_p: 0.05, ..plain },
    ] {
        check_samples(&policy, &sampling);
    }
}

#[test]
fn filters_leave_the_likeliest_and_the_whole_distribution_s_log_probability() {
    let policy = llama(true);
    let (tensors, ids) = (in_f32(&policy), prompt_ids(&policy));
    let greedy = tensors.rollout_ids(&ids, 1, &Sampling::greedy(20), &[1; 32]).unwrap();
    let plain = Sampling { temperature: 0.7, new_tokens_max: 20, ..Sampling::default() };
    for sampling in [
        Sampling { top_k: 1, ..plain },
        Sampling { top_p: 0.0, ..plain },
        Sampling { min_p: 1.0, ..plain },
        // Greedy choice has nothing to filter.
        Sampling { top_k: 7, top_p: 0.5, ..Sampling::greedy(20) },
    ] {
        let filtered = tensors.rollout_ids(&ids, 1, &sampling, &[1; 32]).unwrap();
        let temperature = if sampling.temperature == 0.0 { 1.0 } else { sampling.temperature };
        for ((prompt, greedy), filtered) in ids.iter().zip(greedy.concat()).zip(filtered.concat()) {
            assert_eq!(filtered.tokens, greedy.tokens, "{sampling:?}");
            let exact = &tensors.logprobs(&[(prompt, &greedy.tokens)], temperature).unwrap()[0];
            assert!(farthest(&filtered.logprobs, exact) < 1e-4, "{sampling:?}");
        }
    }
}

#[test]
fn a_completion_depends_on_its_prompt_and_positions_only() {
    let policy = llama(false);
    let (tensors, ids) = (in_f32(&policy), prompt_ids(&policy));
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 20, ..Sampling::default() };
    let together = tensors.rollout_ids(&ids, 4, &sampling, &[5; 32]).unwrap();
    let alone = tensors.rollout_ids(&ids[..1], 2, &sampling, &[5; 32]).unwrap();
    assert_eq!(alone[0][1].tokens, together[0][1].tokens);
    let other = tensors.rollout_ids(&ids, 4, &sampling, &[6; 32]).unwrap();
    assert_ne!(other, together, "another seed, other samples");
    for (sample, prompt) in
        together.iter().zip(&ids).flat_map(|(group, ids)| group.iter().map(move |s| (s, ids)))
    {
        let again = &tensors.logprobs(&[(prompt, &sample.tokens)], 1.0).unwrap()[0];
        assert!(farthest(again, &sample.logprobs) < 1e-4);
        let ended = sample.tokens.iter().position(|id| policy.config().eos_token_ids.contains(id));
        assert_eq!(sample.finished, ended.is_some());
        assert_eq!(sample.tokens.len(), ended.map_or(20, |at| at + 1));
    }
}

/// Rewarded groups, some of whose completions end.
fn lessons(policy: &Policy) -> Vec<(Group, Vec<f32>)> {
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 40, ..Sampling::default() };
    let groups = policy.rollout(&PROMPTS, 6, &sampling, &[2; 32]).unwrap();
    let ended = |group: &Group| group.rollouts().iter().filter(|rollout| rollout.finished).count();
    let ended: usize = groups.iter().map(ended).sum();
    assert!((2..22).contains(&ended), "{ended} of 24 end");
    let rewards = [[1.0, 0.0, 0.5, 0.0, 0.25, 0.0], [0.5; 6], [0.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0; 6]];
    groups.into_iter().zip(rewards.map(|rewards| rewards.to_vec())).collect()
}

/// How much what learns has changed, by name.
fn change(from: &Policy, to: &Policy) -> Vec<(String, Vec<f32>)> {
    let values = |policy: &Policy| match policy.adapter() {
        Some(adapter) => {
            adapter.parameters().iter().map(|p| (p.name.clone(), adapter.values(p))).collect::<Vec<_>>()
        }
        None => named(policy, policy.weights()),
    };
    let difference = |((name, from), (_, to)): ((String, Vec<f32>), (String, Vec<f32>))| {
        (name, to.iter().zip(&from).map(|(to, from)| to - from).collect())
    };
    values(from).into_iter().zip(values(to)).map(difference).collect()
}

/// Checks two rounds of learning against the CPU engine; returns the report of the second.
fn check_updates(start: &Policy, reference: Option<&Policy>, config: &UpdateConfig) -> UpdateReport {
    let lessons = lessons(start);
    let mut theirs = start.clone();
    let mut trainer = Trainer::new(&theirs, config.clone());
    if let Some(reference) = reference {
        trainer = trainer.with_reference(reference.clone());
    }
    let mut tensors = in_f32(start);
    let mut ours = TensorTrainer::new(&tensors, &trainer).unwrap();
    let mut last = UpdateReport::default();
    for round in 1..=2 {
        let expected = trainer.update(&mut theirs, &lessons, round).unwrap();
        let report = ours.update(&mut tensors, &lessons, round).unwrap();
        let near = |a: f32, b: f32, scale: f32| (a - b).abs() <= 1e-5 + 1e-3 * scale.abs();
        assert!(near(report.loss, expected.loss, expected.loss), "{report:?} {expected:?}");
        assert!(near(report.grad_norm, expected.grad_norm, expected.grad_norm), "{report:?} {expected:?}");
        assert!(near(report.entropy, expected.entropy, expected.entropy), "{report:?} {expected:?}");
        assert!(near(report.kl, expected.kl, expected.kl), "{report:?} {expected:?}");
        // A ratio at the very edge may fall on either side.
        assert!(near(report.clip_fraction, expected.clip_fraction, 2.0), "{report:?} {expected:?}");
        let plain = |report: &UpdateReport| UpdateReport {
            loss: 0.0,
            grad_norm: 0.0,
            entropy: 0.0,
            kl: 0.0,
            clip_fraction: 0.0,
            ..report.clone()
        };
        assert_eq!(plain(&report), plain(&expected));
        last = report;
    }
    let mut written = start.clone();
    tensors.write_back(&mut written).unwrap();
    assert_eq!(ours.steps(), u64::from(2 * config.num_iterations));
    for ((name, ours), (_, theirs)) in change(start, &written).iter().zip(change(start, &theirs)) {
        assert!(norm(&theirs) > 0.0, "{name} did not learn");
        let error = relative(ours, &theirs);
        assert!(error < 2e-3, "{name}: the change differs by {error}: {config:?}");
    }
    last
}

fn learning() -> UpdateConfig {
    UpdateConfig { warmup_rounds: 1, learning_rate: 1e-3, adam_epsilon: 1e-6, ..UpdateConfig::default() }
}

#[test]
fn rounds_equal_the_cpu_engine_in_every_way_of_taking_a_step() {
    let policy = llama(true);
    let config = UpdateConfig { weight_decay: 0.1, clip_norm: 0.1, loss_temperature: 1.2, ..learning() };
    for config in ways(&config) {
        let report = check_updates(&policy, None, &config);
        assert_eq!((report.groups_used, report.groups_dropped, report.kl), (2, 2, 0.0));
    }
    check_updates(&policy, None, &UpdateConfig { clip_norm: 1e6, ..config });
}

#[test]
fn every_loss_equals_the_cpu_engine() {
    let policy = llama(true);
    for loss_type in [
        LossType::Grpo,
        LossType::DrGrpo,
        LossType::Bnpo,
        LossType::Dapo,
        LossType::Cispo,
        LossType::Luspo,
        LossType::Sapo,
        LossType::Vespo,
    ] {
        let epsilon_high = (loss_type == LossType::Cispo).then_some(1.05);
        let config = UpdateConfig { loss_type, epsilon_high, num_iterations: 2, ..learning() };
        check_updates(&policy, None, &config);
    }
    let config = UpdateConfig {
        loss_type: LossType::Grpo,
        importance_sampling_level: ImportanceSamplingLevel::Sequence,
        epsilon: 0.003,
        epsilon_high: Some(0.004),
        scale_rewards: ScaleRewards::Group,
        mask_truncated_completions: true,
        num_iterations: 2,
        ..learning()
    };
    let report = check_updates(&policy, None, &config);
    assert!(report.clip_fraction > 0.0, "{report:?}");
}

#[test]
fn the_reference_equals_the_cpu_engine_s() {
    let config = UpdateConfig { beta: 0.3, loss_temperature: 0.9, num_iterations: 2, ..learning() };
    let (policy, other) = (llama(true), Policy::init(shape(), 3).unwrap());
    let report = check_updates(&policy, Some(&other), &config);
    assert!(report.kl > 0.0, "{report:?}");
    let with_adapter = adapted(&policy, 3);
    let config = UpdateConfig { use_bias_correction_kl: true, delta: Some(1.5), ..config };
    let report = check_updates(&with_adapter, None, &config);
    assert!(report.kl > 0.0, "{report:?}");
    // The reference may have an adapter of its own.
    check_updates(&policy, Some(&with_adapter), &config);
    let mut tensors = in_f32(&policy);
    let mut trainer = TensorTrainer::new(&tensors, &Trainer::new(&policy, config)).unwrap();
    let error = trainer.update(&mut tensors, &lessons(&policy), 1).unwrap_err();
    assert!(error.to_string().contains("no reference policy"), "{error}");
}

#[test]
fn the_optimiser_s_state_comes_back() {
    for policy in [llama(true), adapted(&llama(true), 2)] {
        let lessons = lessons(&policy);
        let mut tensors = in_f32(&policy);
        let mut kept = Trainer::new(&policy, learning());
        let mut first = TensorTrainer::new(&tensors, &kept).unwrap();
        first.update(&mut tensors, &lessons, 1).unwrap();
        let mut between = policy.clone();
        tensors.write_back(&mut between).unwrap();
        first.write_back(&tensors, &mut kept).unwrap();
        first.update(&mut tensors, &lessons, 2).unwrap();
        let mut went_on = policy.clone();
        tensors.write_back(&mut went_on).unwrap();
        tensors.read(&between).unwrap();
        let mut second = TensorTrainer::new(&tensors, &kept).unwrap();
        assert_eq!(second.steps(), 1);
        second.update(&mut tensors, &lessons, 2).unwrap();
        let mut restored = policy.clone();
        tensors.write_back(&mut restored).unwrap();
        assert_eq!(restored.hash(), went_on.hash());
        assert_ne!(restored.hash(), between.hash());
        kept.update(&mut between, &lessons, 2).unwrap();
        for ((name, ours), (_, theirs)) in change(&policy, &went_on).iter().zip(change(&policy, &between)) {
            let error = relative(ours, &theirs);
            assert!(error < 2e-3, "{name}: the CPU engine goes on otherwise: {error}");
        }
    }
    let (tensors, other) = (in_f32(&llama(true)), Policy::init(ModelConfig::default(), 1).unwrap());
    let error = TensorTrainer::new(&tensors, &Trainer::new(&other, learning())).err().unwrap();
    assert!(error.to_string().contains("moments of"), "{error}");
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let policy = llama(true);
    let mut tensors = in_f32(&policy);
    let mut trainer = TensorTrainer::new(&tensors, &Trainer::new(&policy, learning())).unwrap();
    let mut lessons = lessons(&policy);
    for bad in [f32::NEG_INFINITY, f32::INFINITY] {
        lessons[0].1[0] = bad;
        let report = trainer.update(&mut tensors, &lessons, 1).unwrap();
        assert!(report.skipped.unwrap().contains("not finite"));
    }
    let flat: Vec<(Group, Vec<f32>)> = lessons.into_iter().map(|(group, _)| (group, vec![1.0; 6])).collect();
    let report = trainer.update(&mut tensors, &flat, 1).unwrap();
    assert!(report.skipped.unwrap().contains("no group"));
    assert_eq!(trainer.steps(), 0);
    let mut after = policy.clone();
    tensors.write_back(&mut after).unwrap();
    assert_eq!(after.hash(), policy.hash());
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

/// a · b of matrices `[n, k]` and `[k, m]` by their elements.
fn product(
    n: usize,
    k: usize,
    m: usize,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    (0..n * m).map(|at| (0..k).map(|i| a(at / m, i) * b(i, at % m)).sum()).collect()
}

/// A and B of the matrix of this name.
fn factors(adapter: &Adapter, name: &str) -> Option<[Vec<f32>; 2]> {
    let find = |letter: char| {
        let name = format!("base_model.model.{}.lora_{letter}.weight", name.strip_suffix(".weight")?);
        let parameter = adapter.parameters().iter().find(|parameter| parameter.name == name)?;
        Some(adapter.values(parameter))
    };
    Some([find('A')?, find('B')?])
}

#[test]
fn an_adapter_alone_learns_and_its_gradient_is_the_chain_rule_s() {
    const RANK: usize = 3;
    let policy = llama(true);
    let adapted = adapted(&policy, RANK);
    let adapter = adapted.adapter().unwrap();
    let encoded = encoded(&policy);
    let mut tensors = in_f32(&adapted);
    let merged = adapted.merged();
    let ids = &prompt_ids(&policy)[0];
    let logits = tensors.logits(ids).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(farthest(&logits, &merged.all_logits(ids).unwrap()) < 1e-4);

    let (_, dense) = Trainer::imitation_gradient(&merged, &pairs(), UpdateConfig::default()).unwrap();
    for config in ways(&UpdateConfig::default()) {
        let (_, gradient) = TensorTrainer::imitation_gradient(&tensors, &encoded, &config).unwrap();
        let gradient = named(&adapted, &gradient);
        for target in policy.layout().parameters() {
            let Some([a, b]) = factors(adapter, &target.name) else { continue };
            let dw = policy.layout().values(&dense, target);
            let (out, width) = (target.shape[0], target.shape[1]);
            let da = product(RANK, out, width, |r, o| b[o * RANK + r], |o, i| dw[o * width + i]);
            let db = product(out, width, RANK, |o, i| dw[o * width + i], |i, r| a[r * width + i]);
            for (letter, expected) in [('A', da), ('B', db)] {
                let name = target.name.replace(".weight", &format!(".lora_{letter}.weight"));
                let (name, values) = gradient.iter().find(|(found, _)| found.ends_with(&name)).unwrap();
                let expected: Vec<f32> = expected.into_iter().map(|g| adapter.config().scale() * g).collect();
                assert!(norm(values) > 0.0);
                let error = relative(values, &expected);
                assert!(error < 1e-4, "{name}: {error}");
            }
        }
    }

    let base = tensors.base_logprobs(&slices(&encoded), 1.0).unwrap();
    let config = ways(&UpdateConfig::default())[1].clone();
    let mut trainer = TensorTrainer::new(&tensors, &Trainer::new(&adapted, config)).unwrap();
    let first = trainer.supervise_ids(&mut tensors, &encoded, 1e-2).unwrap();
    let mut last = first;
    for _ in 0..10 {
        last = trainer.supervise_ids(&mut tensors, &encoded, 1e-2).unwrap();
    }
    assert!(last < 0.9 * first, "{first} {last}");
    assert_eq!(tensors.base_logprobs(&slices(&encoded), 1.0).unwrap(), base, "the base stays");
    let plain = in_f32(&policy).logprobs(&slices(&encoded), 1.0).unwrap();
    assert!(farthest(&plain.concat(), &base.concat()) < 1e-5);
    let mut written = adapted.clone();
    tensors.write_back(&mut written).unwrap();
    assert_eq!(written.without_adapter().hash(), policy.hash());
    assert_eq!(written.version(), adapted.version() + 1);
    for parameter in adapter.parameters() {
        let trained = written.adapter().unwrap().values(parameter);
        assert_ne!(trained, adapter.values(parameter), "{}", parameter.name);
    }
    let again = in_f32(&written).logprobs(&slices(&encoded), 1.0).unwrap();
    assert_eq!(tensors.logprobs(&slices(&encoded), 1.0).unwrap(), again);
    tensors.read(&adapted).unwrap();
    let before = in_f32(&adapted).logprobs(&slices(&encoded), 1.0).unwrap();
    assert_eq!(tensors.logprobs(&slices(&encoded), 1.0).unwrap(), before);
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
fn bad_requests_are_named() {
    let policy = llama(true);
    let tensors = in_f32(&policy);
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 4, ..Sampling::default() };
    let too_long = vec![1; policy.config().max_position_embeddings + 1];
    for prompt in [vec![], vec![104], too_long] {
        let error = tensors.rollout_ids(&[vec![1, 2], prompt], 2, &sampling, &[0; 32]).unwrap_err();
        assert!(error.to_string().contains("sequence 1"), "{error}");
    }
    for (wrong, expected) in [
        (Sampling { temperature: -1.0, ..sampling }, "temperature is -1"),
        (Sampling { temperature: f32::NAN, ..sampling }, "temperature is NaN"),
        (Sampling { new_tokens_max: 0, ..sampling }, "new_tokens_max is 0"),
        (Sampling { top_p: 1.5, ..sampling }, "top_p is 1.5"),
        (Sampling { min_p: -0.1, ..sampling }, "min_p is -0.1"),
    ] {
        let error = tensors.rollout_ids(&[vec![1]], 1, &wrong, &[0; 32]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = tensors.rollout_ids(&[vec![1]], 0, &sampling, &[0; 32]).unwrap_err();
    assert!(error.to_string().contains("empty group"), "{error}");
    assert!(tensors.rollout_ids(&[], 2, &sampling, &[0; 32]).unwrap().is_empty());
    let full = vec![vec![1; policy.config().max_position_embeddings]];
    assert_eq!(tensors.rollout_ids(&full, 1, &sampling, &[0; 32]).unwrap()[0][0].tokens, [0u32; 0]);
}
