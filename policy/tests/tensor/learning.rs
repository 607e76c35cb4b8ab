//! Rounds of learning on the tensor path against the CPU engine's.

use policy::loss::{ImportanceSamplingLevel, LossType, ScaleRewards};
use policy::tensor::TensorTrainer;
use policy::{Group, ModelConfig, Policy, Sampling, Trainer, UpdateConfig, UpdateReport};

use crate::models::shape;
use crate::{PROMPTS, adapted, in_f32, llama, named, norm, relative, ways};

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
