//! Measures the native families, or prints their items.
//!
//! ```text
//! cargo run --release -p murmur-tasks --example families               # a table of all families
//! cargo run --release -p murmur-tasks --example families -- items 100  # 100 items a family
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use tasks::{Family, families};

/// Items measured a family and level.
const MEASURED: u64 = 10_000;
const KEY: [u8; 32] = [1; 32];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => families().for_each(measure),
        ["items", count] if count.parse::<u64>().is_ok() => print_items(count.parse().unwrap_or(0)),
        _ => {
            eprintln!("usage: families [items COUNT]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One line of JSON an item; the levels of a family in turn.
fn print_items(count: u64) {
    for family in families() {
        for (index, level) in (0..count).zip(family.levels().cycle()) {
            let item = family.item(&KEY, level, index);
            let line = serde_json::json!({
                "family": family.name(),
                "level": level,
                "question": item.prompt(),
                "answer": item.gold().map(|gold| gold.answer().as_str()),
            });
            println!("{line}");
        }
    }
}

/// Items a second on one core, distinct questions, the chance that two answers agree, the longest
/// question and completion.
fn measure(family: &Family) {
    for level in family.levels() {
        let started = Instant::now();
        let items: Vec<_> = (0..MEASURED).map(|index| family.item(&KEY, level, index)).collect();
        let micros = started.elapsed().as_micros().max(1) as u64;
        let questions: BTreeSet<&str> = items.iter().map(|item| item.prompt()).collect();
        let mut answers: BTreeMap<&str, u64> = BTreeMap::new();
        for gold in items.iter().filter_map(|item| item.gold()) {
            *answers.entry(gold.answer().as_str()).or_default() += 1;
        }
        let agree = answers.values().map(|n| n * n).sum::<u64>() * 1000 / (MEASURED * MEASURED);
        let longest = items.iter().map(|item| item.prompt().len()).max().unwrap_or(0);
        let worked = items.iter().filter_map(|item| item.worked()).map(|text| text.len()).max().unwrap_or(0);
        println!(
            "{:12} {:16} level {level}  {:>9} items/s  {:>6} of {MEASURED} distinct  agree {:>3}/1000  question <= {longest:>4}  worked <= {worked:>4}",
            family.category().to_string(),
            family.name(),
            MEASURED * 1_000_000 / micros,
            questions.len(),
            agree,
        );
    }
}
