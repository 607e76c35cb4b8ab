//! Measures how many items a second each tier of packs makes, and the schedule of a round draws.
//!
//! ```text
//! cargo run --release -p murmur-tasks --example tiers
//! ```

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tasks::{Catalogue, Pack, PackFiles, Program, Split};

/// Time that each measurement takes.
const MEASURED: Duration = Duration::from_secs(1);
const KEY: [u8; 32] = [1; 32];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let script = files(&[("task.toml", SCRIPT_TOML), ("task.rhai", SCRIPT)])?;
    let lines: String =
        (0..10_000).map(|i| format!("{{\"question\": \"{i}+{i}\", \"answer\": {}}}\n", i + i)).collect();
    let items = files(&[("task.toml", "name = \"items\"\nversion = \"1\"\n"), ("items.jsonl", &lines)])?;

    println!("| what | a second |\n|---|---|");
    rate("static pack opened, items", || Pack::open(&items, &Program::run).map(|_| 10_000))?;
    rate("script pack opened, items", || Pack::open(&script, &Program::run).map(|_| 3_000))?;
    for (name, pack) in [
        ("static items drawn", Pack::open(&items, &Program::run)?),
        ("script items drawn", Pack::open(&script, &Program::run)?),
        ("native items drawn (gcd)", Pack::native("native:gcd").ok_or("no gcd")?),
        ("native items drawn (six)", Pack::native_six()),
    ] {
        let catalogue = Catalogue::new(vec![(pack, 1)])?;
        let mut index = 0;
        rate(name, || {
            index += 1;
            black_box(catalogue.draw(&KEY, index, Split::Train));
            Ok::<u64, String>(1)
        })?;
    }
    let packs = vec![
        (Pack::native_six(), 6),
        (Pack::open(&items, &Program::run)?, 1),
        (Pack::open(&script, &Program::run)?, 1),
    ];
    let catalogue = Catalogue::new(packs)?;
    let mut round: u64 = 0;
    let mut beacon = || {
        round += 1;
        let mut beacon = KEY;
        beacon[..8].copy_from_slice(&round.to_le_bytes());
        beacon
    };
    rate("schedules of 24 prompts, three packs", || {
        black_box(catalogue.schedule(&beacon(), 24));
        Ok::<u64, String>(1)
    })?;
    rate("the same with one level open", || {
        black_box(catalogue.schedule_up_to(&beacon(), 24, |_| 0));
        Ok::<u64, String>(1)
    })?;
    Ok(())
}

/// Prints how often a second `work` does what it says it did.
fn rate<E>(name: &str, mut work: impl FnMut() -> Result<u64, E>) -> Result<(), E> {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        done += work()?;
    }
    println!("| {name} | {:.0} |", done as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn files(files: &[(&str, &str)]) -> Result<PackFiles, tasks::PackError> {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    PackFiles::new(files)
}

const SCRIPT_TOML: &str =
    "name = \"script\"\nversion = \"1\"\n[source]\nkind = \"script\"\n[params]\nterms = [2, 4, 6]\n";

const SCRIPT: &str = "fn generate(p) {
    let total = rand(10, 99);
    let text = `${total}`;
    for i in 1..p.terms {
        let n = rand(10, 99);
        if rand(0, 1) == 0 { text += ` + ${n}`; total += n; } else { text += ` - ${n}`; total -= n; }
    }
    #{ question: text, answer: total }
}";
