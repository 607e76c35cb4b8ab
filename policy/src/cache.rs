//! Keys and values of one sequence, in the kernels' panels: positions are the lanes of keys, channels
//! those of values, so both attention products read them as they lie.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::kernel::{PANEL, Panels, pack_columns, pack_rows, panels_len};

/// `[block · heads + head]` of keys `[T / 32][D][32]` and values `[D / 32][T][32]`.
pub(crate) struct Cache {
    data: Vec<f32>,
    head_dim: usize,
    positions: usize,
}

impl Cache {
    /// Room for `positions` in all blocks and heads.
    pub(crate) fn new(config: &ModelConfig, positions: usize) -> Self {
        let data = vec![0.0; Self::values(config, positions)];
        Self { data, head_dim: config.head_dim, positions }
    }

    /// Values that a cache takes.
    pub(crate) fn values(config: &ModelConfig, positions: usize) -> usize {
        let head = panels_len(positions, config.head_dim) + panels_len(config.head_dim, positions);
        config.num_hidden_layers * config.num_key_value_heads * head
    }

    fn key_len(&self) -> usize {
        panels_len(self.positions, self.head_dim)
    }

    fn value_len(&self) -> usize {
        panels_len(self.head_dim, self.positions)
    }

    fn place(&self, head: usize) -> Range<usize> {
        let len = self.key_len() + self.value_len();
        head * len..(head + 1) * len
    }

    fn head_mut(&mut self, head: usize) -> (&mut [f32], &mut [f32]) {
        let (place, key_len) = (self.place(head), self.key_len());
        self.data[place].split_at_mut(key_len)
    }

    /// Writes the key and the value of a position.
    pub(crate) fn set(&mut self, head: usize, at: usize, key: &[f32], value: &[f32]) {
        let positions = self.positions;
        let (keys, values) = self.head_mut(head);
        let first = at / PANEL * PANEL * key.len() + at % PANEL;
        keys[first..].iter_mut().step_by(PANEL).zip(key).for_each(|(to, from)| *to = *from);
        for (panel, value) in value.chunks(PANEL).enumerate() {
            let first = (panel * positions + at) * PANEL;
            values[first..first + value.len()].copy_from_slice(value);
        }
    }

    /// Writes all positions from row-major keys and values, `width` a row, `column` the head's first.
    pub(crate) fn fill(&mut self, head: usize, keys: &[f32], values: &[f32], width: usize, column: usize) {
        let head_dim = self.head_dim;
        let (to_keys, to_values) = self.head_mut(head);
        pack_rows(to_keys, keys, width, column, head_dim);
        pack_columns(to_values, values, width, column, head_dim);
    }

    /// The first `len` keys, as the right side of the score product.
    pub(crate) fn keys(&self, head: usize, len: usize) -> Panels<'_> {
        let keys = &self.data[self.place(head)][..panels_len(len, self.head_dim)];
        Panels::new(keys, len, self.head_dim)
    }

    /// The first `len` values, as the right side of the weighted sum.
    pub(crate) fn sums(&self, head: usize, len: usize) -> Panels<'_> {
        let values = &self.data[self.place(head)][self.key_len()..];
        Panels::new(values, self.head_dim, self.positions).first_inputs(len)
    }
}
