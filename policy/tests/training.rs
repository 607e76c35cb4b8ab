//! A training step is a function of its inputs: threads and checkpointing do not change a bit of it; how it is
//! cut into micro-batches changes the order of sums and nothing else. Adapters against the chain rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod models;

use std::path::Path;

use models::{amber, config, qwen2, qwen3, trained};
use policy::{LoraConfig, Parameter, Policy, Trainer, UpdateConfig};

#[test]
fn threads_do_not_change_a_bit() {
    for policy in [amber(), qwen3(), qwen2(256, 512, 2)] {
        let expected = trained(&policy, config());
        assert_ne!(expected, policy.hash());
        for threads in [2, 3, 4] {
            let hash = trained(&policy.clone().with_threads(threads).unwrap(), config());
            assert_eq!(hash, expected, "{threads} threads");
        }
        let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
        let adapted = policy.with_adapter(lora, 5).unwrap();
        let expected = trained(&adapted, config());
        for threads in [2, 4] {
            let hash = trained(&adapted.clone().with_threads(threads).unwrap(), config());
            assert_eq!(hash, expected, "an adapter, {threads} threads");
        }
    }
}

#[test]
fn checkpointing_does_not_change_a_bit() {
    for policy in [amber(), qwen3()] {
        let adapted = policy.clone().with_adapter(LoraConfig::default(), 5).unwrap();
        for policy in [policy, adapted] {
            let checkpointing = UpdateConfig { gradient_checkpointing: true, ..config() };
            assert_eq!(trained(&policy, checkpointing), trained(&policy, config()));
        }
    }
}

fn pairs() -> Vec<(String, String)> {
    [
        ("sum 9+9-8+6", "<think>18,10,16</think><answer>16</answer>"),
        ("mod 87,4", "<answer>3</answer>"),
        ("mod 87,4", "<answer>4</answer>"),
        ("add 417+201", "<answer>618</answer>"),
    ]
    .map(|(prompt, completion)| (prompt.to_owned(), completion.to_owned()))
    .to_vec()
}

/// Norm of the difference by norm.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = square(&mut got.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (difference / square(&mut expected.iter().map(|v| f64::from(*v)))).sqrt()
}

#[test]
fn micro_batches_change_nothing_but_the_order_of_sums() {
    let policy = Policy::embedded("amber").unwrap();
    let gradient = |tokens: Option<u32>| {
        let config = UpdateConfig { micro_batch_tokens: tokens, ..UpdateConfig::default() };
        Trainer::imitation_gradient(&policy, &pairs(), config).unwrap()
    };
    let (loss, expected) = gradient(None);
    for tokens in [1, 40, 70] {
        let (other, gradient) = gradient(Some(tokens));
        assert!((other - loss).abs() < 1e-6, "{tokens} tokens: {other} {loss}");
        let distance = distance(&gradient, &expected);
        assert!(distance < 2e-6, "{tokens} tokens: {distance}");
    }
}

/// With W' = W + s·B·A: dB = s·dW'·Aᵀ and dA = s·Bᵀ·dW', where dW' comes from full training of the merged model.
#[test]
fn an_adapters_gradient_is_the_chain_rule_s() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/qwen3");
    for policy in [Policy::embedded("amber").unwrap(), Policy::load(&folder).unwrap()] {
        let config = LoraConfig { rank: 3, alpha: 1.5, ..LoraConfig::default() };
        let scale = config.scale();
        let mut policy = policy.with_adapter(config, 5).unwrap();
        models::fill(policy.adapter_mut().unwrap(), 0.1);
        let adapter = policy.adapter().unwrap();
        let (loss, gradient) =
            Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap();
        let merged = policy.merged();
        let (loss_merged, full) =
            Trainer::imitation_gradient(&merged, &pairs(), UpdateConfig::default()).unwrap();
        assert!((loss - loss_merged).abs() < 1e-5, "{loss} {loss_merged}");
        let mut seen = 0;
        for pair in adapter.parameters().chunks_exact(2) {
            let [a, b] = [&pair[0], &pair[1]];
            let name = a.name.strip_prefix("base_model.model.").unwrap().replace(".lora_A", "");
            let target = merged.layout().parameters().iter().find(|it| it.name == name).unwrap();
            let d_w = merged.layout().values(&full, target);
            let values = |parameter: &Parameter| adapter.values(parameter);
            let (rank, inputs, outputs) = (a.rows(), a.width(), b.rows());
            let (a_values, b_values) = (values(a), values(b));
            let d_b = |o: usize, r: usize| {
                (0..inputs).map(|i| d_w[o * inputs + i] * a_values[r * inputs + i]).sum::<f32>()
            };
            let d_a = |r: usize, i: usize| {
                (0..outputs).map(|o| d_w[o * inputs + i] * b_values[o * rank + r]).sum::<f32>()
            };
            let expected_b: Vec<f32> =
                (0..outputs * rank).map(|at| scale * d_b(at / rank, at % rank)).collect();
            let expected_a: Vec<f32> =
                (0..rank * inputs).map(|at| scale * d_a(at / inputs, at % inputs)).collect();
            for (parameter, expected) in [(a, expected_a), (b, expected_b)] {
                let got: Vec<f32> = (0..parameter.len())
                    .map(|at| gradient[parameter.index(at / parameter.width(), at % parameter.width())])
                    .collect();
                let distance = distance(&got, &expected);
                assert!(distance < 1e-4, "{}: {distance}", parameter.name);
                seen += 1;
            }
        }
        assert_eq!(seen, 14 * policy.config().num_hidden_layers);
    }
}

/// The loss rises along the gradient by its norm.
#[test]
fn an_adapters_gradient_equals_finite_differences() {
    let mut policy = Policy::embedded("amber")
        .unwrap()
        .with_adapter(LoraConfig { rank: 3, alpha: 1.5, ..LoraConfig::default() }, 5)
        .unwrap();
    models::fill(policy.adapter_mut().unwrap(), 0.1);
    let gradient = Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap().1;
    for parameter in policy.adapter().unwrap().parameters().to_vec() {
        let place = |at: usize| parameter.index(at / parameter.width(), at % parameter.width());
        let along: Vec<f32> = (0..parameter.len()).map(|at| gradient[place(at)]).collect();
        let norm = along.iter().map(|g| g * g).sum::<f32>().sqrt();
        let start = policy.adapter().unwrap().values(&parameter);
        let step = 3e-3;
        let mut loss_at = |step: f32| {
            let moved: Vec<f32> = start.iter().zip(&along).map(|(v, g)| v + step * g / norm).collect();
            policy.adapter_mut().unwrap().set_values(&parameter, &moved);
            Trainer::imitation_gradient(&policy, &pairs(), UpdateConfig::default()).unwrap().0
        };
        let numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        loss_at(0.0);
        assert!((numeric - norm).abs() < 0.03 * norm + 1e-3, "{}: {numeric} {norm}", parameter.name);
    }
}
