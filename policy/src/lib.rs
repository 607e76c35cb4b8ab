//! A small language model that samples, scores and learns from rewards.
//!
//! This crate does not know that a swarm exists: it sees prompts, groups of completions, and rewards.
//! Reading order: [`ModelConfig`], [`Layout`] (where weights lie), `forward` (the transformer and its
//! gradient), `decode` (sampling), [`loss`], [`Trainer`], [`Policy`] (what a peer asks for), `files`
//! (Hugging Face directories, checkpoints). [`tensor`] computes the same with candle's tensors: the oracle of
//! the tests, and the path for GPUs.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bases;
mod config;
mod decode;
mod error;
mod files;
mod forward;
pub mod loss;
mod math;
mod policy;
mod product;
pub mod reference;
mod rollout;
pub mod tensor;
mod tokenizer;
mod update;
mod weights;

pub use bases::bases;
pub use config::{Architecture, ModelConfig, RopeScaling};
pub use error::{PolicyError, Result};
pub use files::{Checkpoint, ExportCard};
pub use policy::Policy;
pub use rollout::{Group, Rollout, Sampling};
pub use tokenizer::{SPECIAL_TOKENS, char_level_json};
pub use update::{Trainer, UpdateConfig, UpdateReport};
pub use weights::{Layout, Parameter};
