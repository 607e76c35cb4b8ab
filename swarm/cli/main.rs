//! `murmur`: train small language models together, without a coordinator.
//!
//! This crate is the thin shell around the libraries: it reads the command line and config files, prints, and
//! exits. Reading order: [`args`] (what can be asked), [`commands`] (who answers), one module a command.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod arm;
mod auditor;
mod audits;
mod bench;
mod card;
mod clock;
mod commands;
mod completions;
mod compute;
mod config;
mod courier;
mod crash;
mod credit;
mod critic;
mod dashboard;
mod dataset;
mod demo;
mod detail;
mod disk;
mod doctor;
mod eval;
mod evaluation;
mod exit;
mod export;
mod figures;
mod fork;
mod generate;
mod growth;
mod happenings;
mod history;
mod interrupt;
mod invite;
mod join;
mod join_code;
mod key;
mod layers;
mod lessons;
mod liar;
mod logs;
mod metrics;
mod model;
mod new;
mod news;
mod offers;
mod outlet;
mod packs;
mod peer;
mod plant;
mod pretrain;
mod printer;
mod proposals;
mod reasons;
mod record;
mod relay;
mod replay;
mod sampled;
mod sandbox;
mod scout;
mod setup;
mod show;
mod simulate;
mod start_from;
mod state;
mod store;
mod story;
mod task;
mod traffic;
mod updates;
mod weights;
mod worker;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

/// Keeps freed pages: half of the time of small tensor operations is page faults otherwise.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    crash::install();
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return exit::usage(&usage),
    };
    if args.quiet {
        printer::be_quiet();
    }
    log_to_stderr(args.verbose);
    let code = exit::code(commands::run(args));
    outlet::settle();
    code
}

/// Log lines on stderr; which ones is up to `MURMUR_LOG` (such as `warn` or `swarm=debug`), or else to `-v`.
fn log_to_stderr(verbose: u8) {
    let level = ["error", "info", "debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_env("MURMUR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Fails only when a logger is set already, and nothing else sets one.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| outlet::Log)
        .with_ansi(colour)
        .try_init();
}
