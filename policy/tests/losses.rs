//! The losses against TRL's own numbers, and what TRL's numbers do not cover.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use policy::loss::{
    ImportanceSamplingLevel, LossConfig, LossType, ScaleRewards, Sequence, SequenceLoss, Totals, advantages,
    sequence_loss,
};
use serde_json::Value;

const TOLERANCE: f32 = 1e-6;
/// Options of TRL that weigh tokens by the sampler's probabilities or by entropy, which no setting here asks for.
const NOT_HERE: [&str; 3] = ["opm", "vis", "top_q"];

/// TRL 1.10's numbers for every option of the loss, and TRL 1.16's for some options together.
fn fixtures() -> [Value; 2] {
    [include_str!("fixtures/trl_grpo.json"), include_str!("fixtures/trl_combined.json")]
        .map(|text| serde_json::from_str(text).unwrap())
}

fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(float).collect()
}

/// The sequences of the fixtures.
struct Rows {
    new: Vec<Vec<f32>>,
    old: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    advantages: Vec<f32>,
    truncated: Vec<bool>,
}

impl Rows {
    fn new(inputs: &Value) -> Self {
        let mask = inputs["mask"].as_array().unwrap();
        let lengths: Vec<usize> = mask.iter().map(|row| floats(row).iter().sum::<f32>() as usize).collect();
        let rows = |key: &str| {
            let rows = inputs[key].as_array().unwrap().iter().zip(&lengths);
            rows.map(|(row, &length)| floats(row)[..length].to_vec()).collect::<Vec<_>>()
        };
        Self {
            new: rows("new_logps"),
            old: rows("old_logps"),
            reference: rows("ref_logps"),
            advantages: floats(&inputs["advantages"]),
            truncated: vec![false; lengths.len()],
        }
    }

    fn totals(&self, config: &LossConfig) -> Totals {
        Totals::count(config, self.new.iter().map(Vec::len).zip(self.truncated.iter().copied()))
    }

    fn sequence(&self, row: usize) -> Sequence<'_> {
        Sequence {
            new: &self.new[row],
            old: &self.old[row],
            reference: Some(&self.reference[row]),
            advantage: self.advantages[row],
            truncated: self.truncated[row],
        }
    }

    /// The whole step: its parts added up, and the gradient of each row.
    fn step(&self, config: &LossConfig, totals: Totals) -> (SequenceLoss, Vec<Vec<f32>>) {
        let mut sum = SequenceLoss::default();
        let mut gradients = Vec::new();
        for row in 0..self.new.len() {
            // What was in the slice must not count.
            let mut gradient = vec![7.0; self.new[row].len()];
            let part = sequence_loss(config, totals, self.sequence(row), &mut gradient);
            sum.loss += part.loss;
            sum.kl += part.kl;
            sum.clipped_low += part.clipped_low;
            sum.clipped_high += part.clipped_high;
            gradients.push(gradient);
        }
        (sum, gradients)
    }
}

fn loss_config(case: &Value) -> LossConfig {
    let number = |key: &str| case.get(key).map(float);
    let epsilon = number("eps").unwrap_or(0.2);
    LossConfig {
        loss_type: serde_json::from_value(case["loss_type"].clone()).unwrap(),
        importance_sampling_level: case
            .get("level")
            .map_or(ImportanceSamplingLevel::Token, |level| serde_json::from_value(level.clone()).unwrap()),
        epsilon,
        epsilon_high: number("eps_high").unwrap_or(epsilon),
        delta: number("delta"),
        beta: number("beta").unwrap_or(0.0),
        use_bias_correction_kl: case.get("bias_kl").is_some(),
        mask_truncated_completions: case.get("truncated").is_some(),
        max_completion_length: 8,
    }
}

#[test]
fn losses_gradients_and_metrics_equal_trl() {
    let mut farthest = 0.0_f32;
    let mut count = 0;
    for fixture in fixtures() {
        for (name, case) in fixture["cases"].as_object().unwrap() {
            let mut rows = Rows::new(&fixture["inputs"]);
            let asked = &case["config"];
            if NOT_HERE.iter().any(|key| asked.get(key).is_some()) {
                continue;
            }
            let config = loss_config(asked);
            if let Some(truncated) = asked.get("truncated") {
                rows.truncated = floats(truncated).iter().map(|flag| *flag > 0.0).collect();
            }
            let mut totals = rows.totals(&config);
            // Micro-batches, and machines, of one step: the step is larger than what is computed here.
            totals.sequences *= asked.get("accum").map_or(1, |steps| steps.as_u64().unwrap() as usize);
            totals.tokens =
                asked.get("num_items").map_or(totals.tokens, |tokens| tokens.as_u64().unwrap() as usize);
            let (sum, gradients) = rows.step(&config, totals);

            let mut close = |what: &str, ours: f32, theirs: f32| {
                assert!((ours - theirs).abs() < TOLERANCE, "{name}: {what} {ours} is not {theirs}");
                farthest = farthest.max((ours - theirs).abs());
            };
            let metrics = &case["metrics"];
            // The entropy bonus depends on logits alone; TRL reports the rest of the loss beside it.
            close("loss", sum.loss, float(metrics.get("policy_loss").unwrap_or(&case["loss"])));
            for (ours, theirs) in gradients.iter().zip(case["dloss_dlogps"].as_array().unwrap()) {
                let theirs = floats(theirs);
                let padding = &theirs[ours.len()..];
                ours.iter().zip(&theirs).for_each(|(ours, theirs)| close("gradient", *ours, *theirs));
                assert!(padding.iter().all(|gradient| *gradient == 0.0));
            }
            let ratios = match config.importance_sampling_level {
                ImportanceSamplingLevel::Token => rows.totals(&config).tokens,
                ImportanceSamplingLevel::Sequence => totals.sequences,
            } as f32;
            for (key, ours) in [
                ("kl", sum.kl / rows.totals(&config).tokens as f32),
                ("clip_ratio/low_mean", sum.clipped_low as f32 / ratios),
                ("clip_ratio/high_mean", sum.clipped_high as f32 / ratios),
                ("cispo_clip_ratio", sum.clipped_high as f32 / ratios),
            ] {
                if let Some(theirs) = metrics.get(key) {
                    close(key, ours, float(theirs));
                }
            }
            count += 1;
        }
    }
    println!("{count} cases, largest difference {farthest:e}");
    assert_eq!(count, 16 + 13);
}

#[test]
fn advantages_equal_trl() {
    let fixture = &fixtures()[0]["advantages"];
    let rewards = floats(&fixture["rewards"]);
    let groups: Vec<&[f32]> = rewards.chunks(4).collect();
    for (key, scale) in
        [("group", ScaleRewards::Group), ("batch", ScaleRewards::Batch), ("none", ScaleRewards::None)]
    {
        let ours = advantages(&groups, scale).concat();
        let theirs = floats(&fixture[key]);
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() < TOLERANCE, "{key}: {ours} {theirs}");
        }
    }
}

#[test]
fn nan_is_no_reward_and_infinity_a_wrong_one() {
    for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
        let without = advantages(&[&[0.0, 1.0, 1.0]], scale).remove(0);
        let with = advantages(&[&[0.0, f32::NAN, 1.0, 1.0], &[f32::NAN], &[]], scale);
        assert_eq!(with, [vec![without[0], 0.0, without[1], without[2]], vec![0.0], vec![]], "{scale:?}");
        for bad in [f32::INFINITY, f32::NEG_INFINITY] {
            let group = advantages(&[&[0.0, bad, 1.0]], scale).remove(0);
            assert!(group.iter().all(|advantage| !advantage.is_finite()), "{scale:?} {group:?}");
        }
    }
}

/// Central differences of the value, for the losses whose gradient is all of the value's.
#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const STEP: f32 = 5e-3;
    for loss_type in [LossType::Grpo, LossType::DrGrpo, LossType::Dapo, LossType::Luspo, LossType::Sapo] {
        for level in [ImportanceSamplingLevel::Token, ImportanceSamplingLevel::Sequence] {
            for use_bias_correction_kl in [false, true] {
                let config = LossConfig {
                    loss_type,
                    importance_sampling_level: level,
                    // Bounds off the fixture's ratios by more than the step.
                    epsilon: 0.25,
                    epsilon_high: 0.4,
                    beta: 0.5,
                    use_bias_correction_kl,
                    ..LossConfig::default()
                };
                let mut rows = Rows::new(&fixtures()[0]["inputs"]);
                let totals = rows.totals(&config);
                let (_, gradients) = rows.step(&config, totals);
                for (row, gradients) in gradients.iter().enumerate() {
                    for (token, gradient) in gradients.iter().enumerate() {
                        let centre = rows.new[row][token];
                        let mut value = |new: f32| {
                            rows.new[row][token] = new;
                            rows.step(&config, totals).0.loss
                        };
                        let slope = (value(centre + STEP) - value(centre - STEP)) / (2.0 * STEP);
                        value(centre);
                        let close = (slope - gradient).abs() < 1e-4 * (1.0 + gradient.abs());
                        assert!(close, "{config:?} {row} {token}: {slope} {gradient}");
                    }
                }
            }
        }
    }
}

#[test]
fn inputs_that_are_not_finite_give_a_loss_that_is_not() {
    use LossType::{Bnpo, Cispo, Dapo, DrGrpo, Grpo, Luspo, Sapo, Vespo};
    for loss_type in [Grpo, DrGrpo, Bnpo, Dapo, Cispo, Luspo, Sapo, Vespo] {
        for level in [ImportanceSamplingLevel::Token, ImportanceSamplingLevel::Sequence] {
            let config = LossConfig {
                loss_type,
                importance_sampling_level: level,
                delta: Some(4.0),
                beta: 0.1,
                ..LossConfig::default()
            };
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let inputs = [bad, -1.0];
                let fine = [-1.0, -1.0];
                for (new, old, advantage) in [(inputs, fine, 1.0), (fine, inputs, -1.0), (fine, fine, bad)] {
                    let reference = Some(fine.as_slice());
                    let sequence = Sequence { new: &new, old: &old, reference, advantage, truncated: false };
                    let mut gradient = [0.0; 2];
                    let totals = Totals { sequences: 1, tokens: 2 };
                    let part = sequence_loss(&config, totals, sequence, &mut gradient);
                    // A sampler's probability of 0 is a finite loss where ratios are bounded; `vespo` has
                    // weight 0 where its ratio is not a number.
                    let hidden = !old[0].is_nan() || loss_type == Vespo;
                    let finite = part.loss.is_finite() && gradient.iter().all(|g| g.is_finite());
                    let may = new[0].is_finite() && advantage.is_finite() && hidden;
                    assert!(may || !finite, "{config:?} {new:?} {old:?} {advantage}");
                }
            }
        }
    }
    // Nothing to divide by, and settings that no check has seen.
    let config = LossConfig { epsilon: f32::NAN, epsilon_high: -9.0, ..LossConfig::default() };
    let empty = Sequence { new: &[], old: &[], reference: None, advantage: 1.0, truncated: false };
    let part = sequence_loss(&config, Totals::default(), empty, &mut []);
    assert_eq!(part, SequenceLoss::default());
    let one = Sequence { new: &[-1.0], old: &[-1.0], ..empty };
    sequence_loss(&config, Totals::default(), one, &mut [0.0]);
}

#[test]
fn a_truncated_sequence_counts_as_a_row_but_not_its_tokens() {
    let config = LossConfig { mask_truncated_completions: true, ..LossConfig::default() };
    let completions = [(5, false), (24, true), (3, false)];
    assert_eq!(Totals::count(&config, completions), Totals { sequences: 3, tokens: 8 });
    let config = LossConfig::default();
    assert_eq!(Totals::count(&config, completions), Totals { sequences: 3, tokens: 32 });
}
