//! Reasoning tasks: what a pack is, how items are drawn, what counts as an answer.
//!
//! Everything here is pure and the same on every machine: peers agree bit for bit on the prompts of a
//! round and on the canonical answers they vote about. Files are read by the caller.
//!
//! Reading order: [`Item`] and [`Answer`], [`Definition`] and [`PackFiles`], [`Pack`], [`Program`] (scripts),
//! [`Catalogue`], [`check`], [`StaticPack`].
#![deny(clippy::float_arithmetic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
mod archive;
mod catalogue;
mod check;
mod definition;
mod error;
mod families;
mod files;
mod form;
mod item;
mod lines;
mod pack;
mod rng;
mod script;
mod static_pack;
#[cfg(test)]
mod tests;

pub use answer::{COMPLETION_BYTES_MAX, Extract, has_trace};
pub use archive::ARCHIVE_BYTES_MAX;
pub use catalogue::{Catalogue, CatalogueError, PACKS_MAX, WEIGHT_MAX};
pub use check::{Finding, PROMPT_BYTES_ADVISED, PROMPT_BYTES_MAX, Report, Severity, check};
pub use definition::{Definition, Kind, LEVELS_MAX, Param, TASK_TOML_BYTES_MAX};
pub use error::PackError;
pub use families::{Category, Family, LEVELS, families};
pub use files::{
    FILES_MAX, Listed, PACK_BYTES_MAX, PATH_BYTES_MAX, PackFiles, TASK_TOML, is_plain, read_listing,
};
pub use form::{ANSWER_BYTES_MAX, Answer, Form};
pub use item::{Gold, Item, ItemId, PackId, Split};
pub use lines::{ITEMS_BYTES_MAX, ITEMS_MAX, Line, QUESTION_BYTES_MAX};
pub use pack::{Pack, Sandbox, split_levels};
pub use script::{FUEL_AVERAGE, FUEL_ITEM, MADE_MAX, Made, Program, SCRIPT_BYTES_MAX};
pub use static_pack::StaticPack;
