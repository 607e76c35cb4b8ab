//! From rewards to advantages, as TRL's `sum_then_normalize`.

use serde::{Deserialize, Serialize};

/// Added to a standard deviation before dividing by it; TRL's constant.
const STD_FLOOR: f64 = 1e-4;

/// What a reward's distance from its group's mean is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of its group.
    Group,
    /// The standard deviation of all the step's rewards.
    Batch,
    /// Nothing: the other two blow up a lone success among failures.
    #[default]
    None,
}

/// The advantage of each completion of each group, in the groups' order.
///
/// Standard deviations have Bessel's correction. NaN is no reward: it counts in no mean, and its
/// completion has advantage 0. An infinite reward gives advantages that are not finite, so that the step
/// is refused and the reward's fault is seen.
pub fn advantages(groups: &[&[f32]], scale: ScaleRewards) -> Vec<Vec<f32>> {
    let batch_std = match scale {
        ScaleRewards::Batch => standard_deviation(groups.iter().copied().flatten().copied()),
        ScaleRewards::Group | ScaleRewards::None => 0.0,
    };
    groups
        .iter()
        .map(|rewards| {
            let divisor = match scale {
                ScaleRewards::Group => standard_deviation(rewards.iter().copied()) + STD_FLOOR,
                ScaleRewards::Batch => batch_std + STD_FLOOR,
                ScaleRewards::None => 1.0,
            };
            centred(rewards, divisor as f32)
        })
        .collect()
}

fn centred(rewards: &[f32], divisor: f32) -> Vec<f32> {
    let valid = rewards.iter().copied().filter(|reward| !reward.is_nan());
    let mean = valid.clone().sum::<f32>() / valid.count().max(1) as f32;
    rewards.iter().map(|reward| if reward.is_nan() { 0.0 } else { (reward - mean) / divisor }).collect()
}

/// √(Σ(r − mean)² / (n − 1)); 0 for fewer than two rewards.
fn standard_deviation(rewards: impl Iterator<Item = f32> + Clone) -> f64 {
    let valid = rewards.filter(|reward| !reward.is_nan()).map(f64::from);
    let count = valid.clone().count();
    if count < 2 {
        return 0.0;
    }
    let mean = valid.clone().sum::<f64>() / count as f64;
    (valid.map(|reward| (reward - mean) * (reward - mean)).sum::<f64>() / (count - 1) as f64).sqrt()
}
