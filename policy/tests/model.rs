//! The hand-written model against candle's automatic differentiation, finite differences, itself and
//! candle-transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod models;

use models::{pairs, shape};
use policy::reference::Reference;
use policy::{
    Checkpoint, ExportCard, Group, LoraConfig, ModelConfig, Policy, Sampling, Trainer, UpdateConfig,
};

fn small(tied: bool) -> Policy {
    let config = ModelConfig { tie_word_embeddings: tied, ..shape() };
    let mut policy = Policy::init(config, 3).unwrap();
    // Larger weights than at the start of training, so that attention and gates are not near linear.
    policy.weights_mut().iter_mut().filter(|w| **w != 1.0).for_each(|w| *w *= 8.0);
    policy
}

fn ids(policy: &Policy, (prompt, completion): &(String, String)) -> (Vec<u32>, Vec<u32>) {
    let mut ids = vec![policy.config().bos_token_id.unwrap()];
    ids.extend(policy.encode(prompt));
    (ids, policy.encode(completion))
}

#[test]
fn every_parameter_has_the_gradient_of_automatic_differentiation() {
    for tied in [true, false] {
        let policy = small(tied);
        let (loss, gradient) =
            Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap();
        let reference = Reference::new(&policy).unwrap();
        let mut total: Option<candle_core::Tensor> = None;
        let mut tokens = 0;
        for pair in pairs() {
            let (prompt, completion) = ids(&policy, &pair);
            tokens += completion.len();
            let loss = reference.loss(&prompt, &completion).unwrap();
            total = Some(match total {
                None => loss,
                Some(sum) => (sum + loss).unwrap(),
            });
        }
        let total = (total.unwrap() / tokens as f64).unwrap();
        assert!((total.to_scalar::<f32>().unwrap() - loss).abs() < 1e-5);
        let expected = reference.gradient(&total).unwrap();
        for (parameter, expected) in policy.layout().parameters().iter().zip(&expected) {
            let got = policy.layout().values(&gradient, parameter);
            let norm = expected.iter().map(|g| g * g).sum::<f32>().sqrt();
            let error = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(norm > 0.0, "{} gets no gradient", parameter.name);
            assert!(error < 2e-5 * norm, "{}: {error} of {norm}", parameter.name);
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let mut policy = small(true);
    let (_, gradient) = Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap();
    for parameter in policy.layout().parameters().to_vec() {
        let places =
            (0..parameter.rows()).flat_map(|row| (0..parameter.width()).map(move |column| (row, column)));
        let places = places.map(|(row, column)| parameter.index(row, column));
        let at = places.max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        let step = 2e-3;
        let mut loss_at = |delta: f32| {
            policy.weights_mut()[at] += delta;
            let loss = Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap().0;
            policy.weights_mut()[at] -= delta;
            loss
        };
        let numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let error = (numeric - gradient[at]).abs();
        assert!(error < 0.03 * gradient[at].abs() + 1e-4, "{}: {numeric} {}", parameter.name, gradient[at]);
    }
}

#[test]
fn logits_equal_the_reference_and_candle_transformers() {
    use candle_core::{DType, Device, Tensor};
    use candle_transformers::models::llama::{Cache, Config, Llama};
    let policy = small(true);
    let (prompt, completion) = ids(&policy, &pairs()[0]);
    let sequence = [prompt, completion].concat();
    let ours = policy.all_logits(&sequence).unwrap();
    let reference = Reference::new(&policy).unwrap().logits(&sequence).unwrap();
    let reference: Vec<f32> = reference.flatten_all().unwrap().to_vec1().unwrap();
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(ours.len(), reference.len());
    assert!(far(&ours, &reference) < 1e-4, "{}", far(&ours, &reference));

    let c = policy.config();
    let config = Config {
        hidden_size: c.hidden_size,
        intermediate_size: c.intermediate_size,
        vocab_size: c.vocab_size,
        num_hidden_layers: c.num_hidden_layers,
        num_attention_heads: c.num_attention_heads,
        num_key_value_heads: c.num_key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(c.rms_norm_eps),
        rope_theta: c.rope_theta,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: c.max_position_embeddings,
        tie_word_embeddings: true,
    };
    let folder = tempfile::tempdir().unwrap();
    policy.save(&folder.path().join("m"), &ExportCard::default()).unwrap();
    let tensors =
        candle_core::safetensors::load(folder.path().join("m/model.safetensors"), &Device::Cpu).unwrap();
    let builder = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let llama = Llama::load(builder, &config).unwrap();
    let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
    let input = Tensor::from_slice(&sequence, (1, sequence.len()), &Device::Cpu).unwrap();
    let last: Vec<f32> =
        llama.forward(&input, 0, &mut cache).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let v = c.vocab_size;
    assert!(far(&ours[ours.len() - v..], &last) < 1e-4);
}

const PROMPTS: [&str; 3] = ["sum 9+9-8+6", "cnt a:bbbcacab", "mod 487,6"];

#[test]
fn cached_sampling_gives_the_log_probabilities_of_one_pass() {
    let policy = small(true);
    let sampling = Sampling { temperature: 0.7, new_tokens_max: 20, ..Sampling::default() };
    for group in policy.rollout(&PROMPTS, 4, &sampling, &[5; 32]).unwrap() {
        for rollout in group.rollouts() {
            let again = policy.recompute(rollout, 0.7);
            assert_eq!(again.len(), rollout.logprobs.len());
            for (a, b) in again.iter().zip(&rollout.logprobs) {
                assert_eq!(a.to_bits(), b.to_bits(), "{a} {b}");
            }
        }
    }
}

#[test]
fn a_rollout_does_not_depend_on_its_company() {
    let policy = small(true);
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 20, ..Sampling::default() };
    let together = policy.rollout(&PROMPTS, 4, &sampling, &[5; 32]).unwrap();
    let alone = policy.rollout(&PROMPTS[..1], 2, &sampling, &[5; 32]).unwrap();
    for (a, b) in alone[0].rollouts().iter().zip(together[0].rollouts()) {
        assert_eq!(a.completion, b.completion);
    }
    let other = policy.rollout(&PROMPTS, 4, &sampling, &[6; 32]).unwrap();
    assert_ne!(other[0], together[0], "another seed, other samples");
}

#[test]
fn sampling_follows_the_distribution() {
    let policy = small(true);
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 1, ..Sampling::default() };
    let group = &policy.rollout(&["x"], 4000, &sampling, &[9; 32]).unwrap()[0];
    let mut counts = vec![0.0f32; policy.config().vocab_size];
    group.rollouts().iter().for_each(|rollout| counts[rollout.completion[0] as usize] += 1.0 / 4000.0);
    let logits = policy.all_logits(&[1, policy.encode("x")[0]]).unwrap();
    let row = &logits[policy.config().vocab_size..];
    let sum: f32 = row.iter().map(|l| l.exp()).sum();
    let distance: f32 = row.iter().zip(counts).map(|(l, c)| (l.exp() / sum - c).abs()).sum::<f32>() / 2.0;
    assert!(distance < 0.08, "{distance}");
}

#[test]
fn greedy_completion_takes_the_likeliest_and_honours_a_forced_beginning() {
    let policy = small(true);
    let rollout = &policy.complete(&["sum 1+1+1+1"], "<think>", 5).unwrap()[0];
    assert!(rollout.text.starts_with("<think>"));
    let sequence = [&rollout.prompt[..], &rollout.completion].concat();
    let logits = policy.all_logits(&sequence).unwrap();
    let v = policy.config().vocab_size;
    for at in rollout.prompt.len() + 1..sequence.len() {
        let row = &logits[(at - 1) * v..at * v];
        let best = (0..v).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        assert_eq!(best as u32, sequence[at]);
    }
}

#[test]
fn scoring_is_total() {
    let policy = small(true);
    let long = "x".repeat(5000);
    let scores = policy.score(&[
        ("sum 1+1", "<answer>2</answer>"),
        ("sum 1+1", "日本"),
        ("sum 1+1", &long),
        ("sum 1+1", ""),
        ("sum 1+1", "<think>"),
        ("sum 1+1", "<pad><bos><answer>2</answer>"),
    ]);
    assert!(scores[0].is_some_and(|s| s < 0.0 && s.is_finite()));
    assert_eq!(scores[1..4], [None, None, None]);
    assert!(scores[4].is_some());
    assert_eq!(scores[5], None, "markers that no completion has");
    let rollout = &policy.complete(&["sum 1+1"], "<answer>2</answer>", 1).unwrap()[0];
    let logprobs = policy.recompute(rollout, 1.0);
    let mean = logprobs[..3].iter().sum::<f32>() / 3.0;
    assert!((scores[0].unwrap() - mean).abs() < 1e-5);
}

#[test]
fn rewards_move_probability_and_flat_groups_do_not() {
    let mut policy = small(true);
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 4, ..Sampling::default() };
    let groups = policy.rollout(&PROMPTS, 8, &sampling, &[1; 32]).unwrap();
    let config = UpdateConfig { warmup_rounds: 1, learning_rate: 1e-3, ..UpdateConfig::default() };
    let mut trainer = Trainer::new(&policy, config);
    let flat: Vec<(Group, Vec<f32>)> = groups.iter().map(|g| (g.clone(), vec![1.0; 8])).collect();
    let before = policy.hash();
    let report = trainer.update(&mut policy, &flat, 1).unwrap();
    assert_eq!((report.groups_used, report.groups_dropped), (0, 3));
    assert!(report.skipped.is_some());
    assert_eq!(policy.hash(), before);
    let one = groups[0].rollouts()[0].clone();
    let rewards: Vec<f32> =
        groups[0].rollouts().iter().map(|r| f32::from(r.completion == one.completion)).collect();
    let sum = |policy: &Policy| policy.recompute(&one, 1.0).iter().sum::<f32>();
    let start = sum(&policy);
    trainer.update(&mut policy, &[(groups[0].clone(), rewards)], 1).unwrap();
    assert!(sum(&policy) > start, "the rewarded completion is likelier");
    assert!(trainer.update(&mut policy, &[(groups[0].clone(), vec![1.0])], 1).is_err());
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let mut policy = small(true);
    let groups = policy
        .rollout(
            &PROMPTS,
            4,
            &Sampling { temperature: 1.0, new_tokens_max: 4, ..Sampling::default() },
            &[1; 32],
        )
        .unwrap();
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    let before = policy.hash();
    let report =
        trainer.update(&mut policy, &[(groups[0].clone(), vec![f32::INFINITY, 0.0, 0.0, 0.0])], 1).unwrap();
    assert!(report.skipped.unwrap().contains("not finite"));
    assert_eq!(policy.hash(), before);
}

#[test]
fn a_hash_is_of_the_weights_as_they_are() {
    let policy = small(true);
    let before = policy.hash();
    let mut changed = policy.clone();
    changed.weights_mut()[0] += 1.0;
    assert_ne!(changed.hash(), before);
    assert_eq!(policy.hash(), before);
    changed.weights_mut()[0] = policy.weights()[0];
    assert_eq!(changed.hash(), before);

    let mut adapted = policy.with_adapter(LoraConfig::default(), 7).unwrap();
    let fresh = adapted.hash();
    let hex: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "485fb85bb0488eb550ac7399007b68d309782258c8dd2b3506154358147ede6b");
    let adapter = adapted.adapter_mut().unwrap();
    let factor = adapter.parameters()[1].clone();
    adapter.set_values(&factor, &vec![0.5; factor.len()]);
    assert_ne!(adapted.hash(), fresh);
    assert_eq!(adapted.without_adapter().hash(), before);
    assert_ne!(adapted.merged().hash(), before);
}

#[test]
fn micro_batches_add_up() {
    let policy = small(true);
    let many: Vec<(String, String)> = pairs().into_iter().cycle().take(120).collect();
    let (loss, gradient) = Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap();
    let (loss_many, gradient_many) =
        Trainer::imitation_gradient(&policy, &many, UpdateConfig::default()).unwrap();
    assert!((loss - loss_many).abs() < 1e-4);
    let far = gradient.iter().zip(&gradient_many).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-4, "{far}");
}

#[test]
fn imitation_learns() {
    let mut policy = Policy::init(ModelConfig::default(), 1).unwrap();
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    let first = trainer.supervise(&mut policy, &pairs(), 2e-3).unwrap();
    let mut last = first;
    for _ in 0..40 {
        last = trainer.supervise(&mut policy, &pairs(), 2e-3).unwrap();
    }
    assert!(first > 4.0 && last < 0.3, "{first} {last}");
}

/// The base of checkpoints that hold the whole policy.
fn no_base() -> policy::Result<Policy> {
    panic!("not needed")
}

#[test]
fn directories_and_checkpoints_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = small(false);
    policy
        .save(&folder.path().join("m"), &ExportCard { readme: "card".into(), ..ExportCard::default() })
        .unwrap();
    assert_eq!(Policy::load(&folder.path().join("m")).unwrap().hash(), policy.hash());
    let half = folder.path().join("half");
    policy.save_half(&half, &ExportCard::default()).unwrap();
    let rounded = Policy::load(&half).unwrap();
    assert!(
        rounded.weights().iter().zip(policy.weights()).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs() + 1e-6)
    );
    let groups = policy
        .rollout(
            &PROMPTS,
            4,
            &Sampling { temperature: 1.0, new_tokens_max: 4, ..Sampling::default() },
            &[1; 32],
        )
        .unwrap();
    let step: Vec<(Group, Vec<f32>)> = groups.into_iter().map(|g| (g, vec![1.0, 0.0, 0.0, 0.0])).collect();
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    trainer.update(&mut policy, &step, 1).unwrap();
    let dir = folder.path().join("checkpoint");
    for _ in 0..2 {
        Checkpoint::save(&dir, &policy, &trainer, 1).unwrap();
    }
    let (mut policy2, mut trainer2, counters) = Checkpoint::load(&dir, no_base).unwrap();
    assert_eq!(counters, Checkpoint { round: 1, steps: 1 });
    trainer.update(&mut policy, &step, 2).unwrap();
    trainer2.update(&mut policy2, &step, 2).unwrap();
    assert_eq!(policy.hash(), policy2.hash(), "the next step is the same");
    let half_written = folder.path().join("checkpoint.new.tmp");
    std::fs::create_dir(&half_written).unwrap();
    std::fs::write(half_written.join("config.json"), "{").unwrap();
    assert!(Checkpoint::load(&dir, no_base).is_ok(), "a torn successor does no harm");
    Checkpoint::save(&dir, &policy, &trainer, 2).unwrap();
    assert_eq!(Checkpoint::load(&dir, no_base).unwrap().2.round, 2);
}

#[test]
fn damaged_directories_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    /// New content of a file, or `None` to remove it.
    type Damage<'a> = &'a dyn Fn(Vec<u8>) -> Option<Vec<u8>>;
    let cases: [(&str, &str, Damage, &str); 8] = [
        ("missing weights", "model.safetensors", &|_| None, "model.safetensors"),
        (
            "truncated weights",
            "model.safetensors",
            &|b| Some(b[..b.len() / 2].to_vec()),
            "not a safetensors file",
        ),
        (
            "NaN",
            "model.safetensors",
            &|mut b| {
                let n = b.len();
                b[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
                Some(b)
            },
            "not finite",
        ),
        ("length bomb", "model.safetensors", &|_| Some(vec![0xff; 64]), "not a safetensors file"),
        ("config", "config.json", &|_| Some(b"{}".to_vec()), "model_type"),
        (
            "shape",
            "config.json",
            &|b| {
                Some(
                    String::from_utf8(b)
                        .unwrap()
                        .replace("\"intermediate_size\": 48", "\"intermediate_size\": 64")
                        .into_bytes(),
                )
            },
            "the config needs",
        ),
        ("tokenizer", "tokenizer.json", &|_| Some(b"{}".to_vec()), "tokenizer.json"),
        (
            "huge",
            "config.json",
            &|b| {
                Some(
                    String::from_utf8(b)
                        .unwrap()
                        .replace("\"vocab_size\": 104", "\"vocab_size\": 4000000000")
                        .into_bytes(),
                )
            },
            "vocab_size",
        ),
    ];
    for (name, file, damage, expected) in cases {
        let dir = folder.path().join(name);
        small(true).save(&dir, &ExportCard::default()).unwrap();
        let path = dir.join(file);
        match damage(std::fs::read(&path).unwrap()) {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = Policy::load(&dir).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("hint"), "{name}: {error}");
    }
    let occupied = folder.path().join("mine");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("letter.txt"), "dear").unwrap();
    assert!(
        small(true).save(&occupied, &ExportCard::default()).is_err(),
        "what is not a model is not overwritten"
    );
    assert!(occupied.join("letter.txt").exists());
}

#[test]
fn a_policy_without_text_computes_on_ids_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let whole = small(true);
    whole.save(folder.path(), &ExportCard::default()).unwrap();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let policy = Policy::load_without_text(folder.path()).unwrap();
    assert_eq!(policy.hash(), whole.hash());

    let sampling = Sampling { temperature: 1.0, new_tokens_max: 30, ..Sampling::default() };
    let groups = policy.rollout_ids(&[vec![1, 20, 30]], 8, &sampling, &[1; 32]).unwrap();
    for rollout in groups[0].rollouts() {
        assert!((rollout.completion.len(), rollout.finished, &rollout.text[..]) == (30, false, ""));
    }
    let lacks = |result: policy::Result<()>| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("has no tokenizer") && text.contains("tokenizer.json"), "{text}");
    };
    lacks(policy.rollout(&["sum 1+1"], 1, &sampling, &[1; 32]).map(drop));
    lacks(policy.save(&folder.path().join("out"), &ExportCard::default()));
    assert_eq!(policy.score(&[("sum 1+1", "2")]), [None]);
    assert!(Policy::load(folder.path()).unwrap_err().to_string().contains("tokenizer.json"));
}
