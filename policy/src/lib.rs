//! A small language model that samples, scores and learns from rewards.
//!
//! This crate does not know that a swarm exists: it sees prompts, groups of completions, and rewards.
//! Reading order: [`ModelConfig`], [`Layout`] (where weights lie), `forward` (the transformer and its
//! gradient), `decode` (sampling), [`loss`], [`Trainer`], [`Policy`] (what a peer asks for), `files`
//! (Hugging Face directories), [`Checkpoint`], [`export`] (for other programs). [`tensor`] computes the same
//! with candle's tensors: the oracle of the tests, and the path for GPUs. [`Learner`] is both behind one
//! interface.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod attention;
mod backward;
mod bases;
mod batch;
mod buffers;
mod cache;
mod chat;
mod checkpoint;
mod config;
mod conversation;
mod critique;
mod decode;
mod error;
pub mod export;
mod files;
mod flops;
mod forward;
mod generation;
mod head;
mod hub;
mod kernel;
mod learner;
mod load;
mod lora;
pub mod loss;
pub mod memory;
mod model;
mod optimizer;
mod peaks;
mod policy;
pub mod reference;
mod replay;
mod rollout;
mod sample;
mod schedule;
mod score;
mod scratch;
mod settings;
mod share;
mod step;
mod store;
mod team;
pub mod tensor;
mod tokenizer;
mod training;
mod update;
mod weights;

pub use bases::bases;
pub use chat::{ChatTemplate, Message, TEMPLATE_DATE};
pub use checkpoint::Checkpoint;
pub use config::{Architecture, CONTEXT_MAX, ModelConfig, RopeScaling};
pub use critique::{Critique, REASON_BYTES_MAX, Verdict};
pub use error::{PolicyError, Result};
pub use export::ExportCard;
pub use flops::{Completions, Cost};
pub use generation::GenerationConfig;
pub use hub::{Hub, HubId, PushOptions, Pushed};
pub use kernel::isa::{InstructionSet, instruction_set, limit_instruction_set, widest_instruction_set};
pub use learner::Learner;
pub use lora::{Adapter, LORA_RANK_MAX, LoraConfig};
pub use peaks::Peaks;
pub use policy::{Policy, SamplingWeights};
pub use replay::{Claim, Replay, TextClaim};
pub use rollout::{Group, Rollout, Sampling};
pub use schedule::Schedule;
pub use store::values_begin;
pub use team::THREADS_MAX;
pub use tokenizer::{SPECIAL_TOKENS, char_level_json, guard};
pub use update::{IdPair, Trainer, UpdateConfig, UpdateReport};
pub use weights::{Layout, Parameter};
