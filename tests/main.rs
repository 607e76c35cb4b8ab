//! End-to-end tests of the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod export;
mod models;
mod replay;
mod swarm;
mod tidy;
