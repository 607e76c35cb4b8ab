//! End-to-end tests of the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod configs;
mod cuts;
mod dataset;
mod doctor;
mod export;
mod flood;
mod habits;
mod invite;
mod javascript;
mod kills;
mod late;
mod learning;
mod models;
mod network;
mod new;
mod newcomer;
mod packs;
mod peers;
mod process;
mod replay;
mod swarm;
mod tasks;
mod terminal;
mod tidy;
mod votes;
