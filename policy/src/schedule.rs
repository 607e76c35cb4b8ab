//! How the learning rate changes over a run: a linear rise, then one of three shapes.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after the warm-up; names as transformers' `lr_scheduler_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays (transformers' `constant_with_warmup`).
    Constant,
    /// It falls in a straight line.
    #[default]
    Linear,
    /// It falls along half a cosine (transformers' `cosine_with_min_lr`).
    Cosine,
}

impl Schedule {
    /// Share of the highest learning rate in a round (from 1): `warmup` rounds up from 0, then down to
    /// `final_fraction` at round `total`, and from there on as it is. As transformers' `get_scheduler` at
    /// step = round, up to `total`.
    pub fn factor(self, round: u32, warmup: u32, total: u32, final_fraction: f32) -> f32 {
        let warm = (round as f32 / warmup.max(1) as f32).min(1.0);
        let falling = total.saturating_sub(warmup).max(1);
        let past = round.saturating_sub(warmup).min(falling) as f32 / falling as f32;
        let fallen = match self {
            Schedule::Constant => 0.0,
            Schedule::Linear => past,
            Schedule::Cosine => 0.5 - 0.5 * libm::cosf(std::f32::consts::PI * past),
        };
        warm * (1.0 - fallen * (1.0 - final_fraction))
    }
}
