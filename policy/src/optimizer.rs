//! AdamW (Loshchilov and Hutter 2019): one mean of gradients and one of their squares for every weight.

use crate::kernel::rows::{Adam, adam};
use crate::policy::Policy;
use crate::settings::UpdateConfig;

/// Values of one item of work.
pub(crate) const ITEM_VALUES: usize = 1 << 16;

/// The optimiser's state, in the layout of what it trains.
#[derive(Clone, Debug)]
pub(crate) struct AdamW {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) steps: u64,
}

impl AdamW {
    /// A state without history for `len` weights.
    pub(crate) fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], steps: 0 }
    }

    /// One step in place along `gradients`, each multiplied by `scale`; bias-corrected, with weight decay
    /// on matrices only.
    pub(crate) fn step(
        &mut self,
        policy: &mut Policy,
        config: &UpdateConfig,
        gradients: &[f32],
        rate: f32,
        scale: f32,
    ) {
        self.steps += 1;
        let correction = |beta: f32| 1.0 - libm::pow(f64::from(beta), self.steps as f64) as f32;
        let UpdateConfig { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, .. } = *config;
        let corrections = [correction(beta1), correction(beta2)];
        let plain = Adam { rate, beta1, beta2, epsilon, corrections, keep: 1.0, scale };
        let decayed = Adam { keep: 1.0 - rate * config.weight_decay, ..plain };
        let team = policy.team().clone();
        let (parameters, weights) = policy.trainable_mut();
        let mut items = Vec::new();
        let (mut w, mut m, mut v) = (weights, &mut self.first[..], &mut self.second[..]);
        for parameter in parameters {
            let range = parameter.stored();
            let adam = if parameter.is_matrix() { decayed } else { plain };
            let (w_now, w_later) = w.split_at_mut(range.len());
            let (m_now, m_later) = m.split_at_mut(range.len());
            let (v_now, v_later) = v.split_at_mut(range.len());
            let state = m_now.chunks_mut(ITEM_VALUES).zip(v_now.chunks_mut(ITEM_VALUES));
            let weights = w_now.chunks_mut(ITEM_VALUES).zip(gradients[range].chunks(ITEM_VALUES));
            items.extend(weights.zip(state).map(|parts| (parts, adam)));
            (w, m, v) = (w_later, m_later, v_later);
        }
        team.each(items, |(((w, g), (m, v)), constants)| adam(w, g, m, v, constants));
    }
}
