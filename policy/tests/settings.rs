//! The settings of learning: schedules against transformers, ranges, defaults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use policy::loss::{LossConfig, LossType};
use policy::{Schedule, UpdateConfig};
use serde_json::{Value, json};

#[test]
fn schedules_equal_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/schedules.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let schedule: Schedule = serde_json::from_value(case["schedule"].clone()).unwrap();
        let config = UpdateConfig {
            learning_rate: 1.0,
            lr_scheduler_type: schedule,
            warmup_rounds: number("warmup"),
            total_rounds: number("total"),
            final_fraction: case["final_fraction"].as_f64().unwrap() as f32,
            ..UpdateConfig::default()
        };
        for (i, theirs) in case["factors"].as_array().unwrap().iter().enumerate() {
            let (round, theirs) = (i as u32 + 1, theirs.as_f64().unwrap() as f32);
            let ours = config.rate(round);
            assert!((ours - theirs).abs() < 1e-6, "{config:?}, round {round}: {ours} {theirs}");
        }
        assert_eq!(config.rate(u32::MAX), config.rate(number("total")), "{config:?}");
    }
}

/// What the default was before there was a choice, to the bit.
#[test]
fn the_default_schedule_is_what_it_was() {
    let config = UpdateConfig::default();
    for round in 1..100_u32 {
        let warm = (round as f32 / 8.0).min(1.0);
        let past = round.saturating_sub(8).min(22) as f32 / 22.0;
        let before = 3e-4 * warm * (1.0 - past * (1.0 - 0.1_f32));
        assert_eq!(config.rate(round).to_bits(), before.to_bits(), "{round}");
    }
}

#[test]
fn the_default_loss_is_the_demos() {
    let loss = UpdateConfig::default().loss();
    assert_eq!(loss, LossConfig::default());
    assert_eq!((loss.loss_type, loss.epsilon, loss.epsilon_high), (LossType::Dapo, 0.2, 0.2));
    assert_eq!((loss.delta, loss.beta), (None, 0.0));
}

#[test]
fn settings_out_of_range_are_named() {
    assert_eq!(UpdateConfig::default().check(), Ok(()));
    for (settings, expected) in [
        (json!({"epsilon": 1.5}), "epsilon is 1.5, must be 0 to 1"),
        (json!({"epsilon_high": -0.1}), "epsilon_high is -0.1, must be 0 to 1000"),
        (json!({"loss_type": "cispo"}), "epsilon_high is 0.2, must be 1 to 1000"),
        (json!({"delta": 0.5}), "delta is 0.5, must be 1 to 1000000"),
        (json!({"beta": -1.0}), "beta is -1, must be 0 to 100"),
        (json!({"num_iterations": 0}), "num_iterations is 0, must be 1 to 64"),
        (json!({"max_completion_length": 0}), "max_completion_length is 0, must be 1 to 1048576"),
        (
            json!({"loss_type": "sapo", "delta": 4.0}),
            "delta is given, but only grpo, dr_grpo, bnpo, dapo and luspo have it",
        ),
    ] {
        let config: UpdateConfig = serde_json::from_value(settings).unwrap();
        assert_eq!(config.check().unwrap_err(), expected);
    }
    let nan = UpdateConfig { beta: f32::NAN, ..UpdateConfig::default() };
    assert!(nan.check().unwrap_err().starts_with("beta is NaN"));
    let cispo = json!({"loss_type": "cispo", "epsilon_high": 5.0});
    assert_eq!(serde_json::from_value::<UpdateConfig>(cispo).unwrap().check(), Ok(()));
    let sequence = json!({"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4});
    assert_eq!(serde_json::from_value::<UpdateConfig>(sequence).unwrap().check(), Ok(()));
}

/// A checkpoint written before a key existed is read with the key's default.
#[test]
fn settings_without_the_new_keys_are_read() {
    let old = json!({
        "learning_rate": 3e-4, "warmup_rounds": 8, "total_rounds": 30, "final_fraction": 0.1,
        "adam_beta1": 0.9, "adam_beta2": 0.98, "adam_epsilon": 1e-8, "weight_decay": 0.0,
        "clip_norm": 1.0, "loss_temperature": 1.0, "loss_type": "dapo",
    });
    assert_eq!(serde_json::from_value::<UpdateConfig>(old).unwrap(), UpdateConfig::default());
}
