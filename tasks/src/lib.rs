//! Reasoning tasks: what a pack is, how items are drawn, what counts as an answer.
//!
//! Everything here is pure and the same on every machine: peers agree bit for bit on the prompts of a
//! round and on the canonical answers they vote about. Files are read by the caller.
//!
//! Reading order: [`Item`] and [`Answer`], [`Pack`], [`Catalogue`], [`check`].
#![deny(clippy::float_arithmetic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
mod catalogue;
mod check;
mod families;
mod item;
mod pack;
mod rng;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_BYTES_MAX, Answer, COMPLETION_BYTES_MAX, Form, has_trace};
pub use catalogue::{Catalogue, CatalogueError, PACKS_MAX, WEIGHT_MAX};
pub use check::{Finding, QUESTION_BYTES_ADVISED, Report, Severity, check};
pub use families::{Category, Family, LEVELS, families};
pub use item::{Gold, Item, ItemId, PackId, Split};
pub use pack::{ITEMS_BYTES_MAX, ITEMS_MAX, Pack, PackError, QUESTION_BYTES_MAX, TASK_TOML_BYTES_MAX};
