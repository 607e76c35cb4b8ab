//! How much arithmetic and memory traffic work takes at least, by its shapes: what a measured time is
//! compared with.
//!
//! A multiplication with its addition counts as two operations. Counted are matrix products and attention,
//! whose causal half only; not counted are norms, activations, sampling and the optimiser (below a
//! percent), and what is computed twice by choice (checkpointing), as in "model FLOPs utilisation"
//! (Chowdhery et al. 2022, appendix B). With `C` the width of the residual stream, `Q` and `K` those of
//! all query and all key heads, `F` of the feed-forward part, `L` blocks and a vocabulary of `V`:
//!
//! * matrices of a token: `2·L·(2·C·Q + 2·C·K + 3·C·F)`, and `2·C·V` where its logits are needed;
//! * attention of a token at position `t`: `4·L·Q·(t + 1)`;
//! * a gradient: that by the inputs and that by the weights, each as much as the forward pass; an adapter of
//!   rank `r` saves the second and adds `6·r·(inputs + outputs)` a matrix.

use crate::config::ModelConfig;
use crate::peaks::Peaks;

/// Bytes of weights that may stay in a cache from step to step; only larger models are read from memory.
const CACHE_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// The least that some work takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of weights that have to come from memory.
    pub bytes: f64,
}

impl Cost {
    /// Seconds at the peaks, arithmetic and reading at the same time; and whether reading takes longer.
    pub fn seconds(&self, peaks: &Peaks) -> (f64, bool) {
        let (arithmetic, reading) = (self.flops / peaks.flops, self.bytes / peaks.bytes);
        (arithmetic.max(reading), reading > arithmetic)
    }
}

/// Completions of prompts that are to be sampled or learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completions {
    /// Different prompts.
    pub prompts: usize,
    /// Completions of each, at least 1.
    pub group: usize,
    /// Tokens of a prompt, at least 1.
    pub prompt: usize,
    /// Tokens of a completion, at least 1.
    pub completion: usize,
}

impl Completions {
    /// Tokens of all completions.
    pub fn tokens(&self) -> usize {
        self.prompts * self.group * self.completion
    }

    /// Sampling them: reading every prompt once, and all steps after the first token.
    pub fn sampling(&self, config: &ModelConfig, bytes_per_weight: usize) -> [Cost; 2] {
        let weights = (blocks(config) + head(config)) / 2.0 * bytes_per_weight as f64;
        let weights = if weights > CACHE_BYTES { weights } else { 0.0 };
        let read = self.prompt as f64 * blocks(config) + attention(config, 0, self.prompt) + head(config);
        let steps = self.completion - 1;
        let stepped = steps as f64 * (blocks(config) + head(config)) + attention(config, self.prompt, steps);
        [
            Cost { flops: self.prompts as f64 * read, bytes: weights },
            Cost { flops: (self.prompts * self.group) as f64 * stepped, bytes: steps as f64 * weights },
        ]
    }

    /// One training step on them; `lora` is the rank of adapters on all seven matrices of a block.
    pub fn training(&self, config: &ModelConfig, lora: Option<usize>) -> Cost {
        let (prompts, sequences) = (self.prompts as f64, (self.prompts * self.group) as f64);
        // A completion's last token predicts nothing and is not computed.
        let own = self.completion - 1;
        let rows = prompts * self.prompt as f64 + sequences * own as f64;
        let attended =
            prompts * attention(config, 0, self.prompt) + sequences * attention(config, self.prompt, own);
        let products = rows * blocks(config) + self.tokens() as f64 * head(config);
        let adapters = lora.map_or(0.0, |rank| rows * 6.0 * (rank * sides(config)) as f64);
        let passes = if lora.is_some() { 2.0 } else { 3.0 };
        Cost { flops: passes * products + 3.0 * attended + adapters, bytes: 0.0 }
    }
}

/// Operations of a token in the matrices of all blocks.
fn blocks(config: &ModelConfig) -> f64 {
    let (c, q, k, f) =
        (config.hidden_size, config.query_width(), config.kv_width(), config.intermediate_size);
    2.0 * (config.num_hidden_layers * (2 * c * q + 2 * c * k + 3 * c * f)) as f64
}

/// Operations of a token's logits.
fn head(config: &ModelConfig) -> f64 {
    2.0 * (config.hidden_size * config.vocab_size) as f64
}

/// Operations of attention for `tokens` positions after `before`.
fn attention(config: &ModelConfig, before: usize, tokens: usize) -> f64 {
    let positions = (tokens * before) as f64 + (tokens * (tokens + 1)) as f64 / 2.0;
    4.0 * (config.num_hidden_layers * config.query_width()) as f64 * positions
}

/// Inputs and outputs of all adapted matrices.
fn sides(config: &ModelConfig) -> usize {
    let (c, q, k, f) =
        (config.hidden_size, config.query_width(), config.kv_width(), config.intermediate_size);
    config.num_hidden_layers * (2 * (c + q) + 2 * (c + k) + 3 * (c + f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Layout;

    /// 6 · parameters · tokens, the usual rule, plus attention.
    #[test]
    fn training_is_six_operations_a_weight_and_token() {
        let config = ModelConfig::default();
        let layout = Layout::new(&config);
        let matrices = layout.parameters().iter().filter(|it| it.is_matrix());
        let weights: usize = matrices.map(crate::weights::Parameter::len).sum();
        let cost = Completions { prompts: 4, group: 1, prompt: 1, completion: 10 }.training(&config, None);
        let attended = 12 * config.num_hidden_layers * config.query_width() * 4 * 55;
        assert_eq!(cost.flops, (6 * weights * 40 + attended) as f64);
    }

    #[test]
    fn sampling_alone_costs_what_reading_costs() {
        let config = ModelConfig::default();
        let [read, steps] =
            Completions { prompts: 1, group: 1, prompt: 1, completion: 12 }.sampling(&config, 4);
        let [whole, none] =
            Completions { prompts: 1, group: 1, prompt: 12, completion: 1 }.sampling(&config, 4);
        let logits = 11.0 * head(&config);
        assert_eq!(read.flops + steps.flops, whole.flops + logits);
        assert_eq!(none, Cost::default());
        assert_eq!(read.bytes, 0.0);
    }

    #[test]
    fn the_slower_of_arithmetic_and_reading_counts() {
        let peaks = Peaks { flops: 10.0, bytes: 2.0 };
        assert_eq!(Cost { flops: 20.0, bytes: 2.0 }.seconds(&peaks), (2.0, false));
        assert_eq!(Cost { flops: 20.0, bytes: 8.0 }.seconds(&peaks), (4.0, true));
    }
}
