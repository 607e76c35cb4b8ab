//! All families: their answers are found again by other means, and their items are many, varied, short
//! and the same everywhere.

mod numbers;
mod procedures;
mod read;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use super::{Category, Family, families};
use crate::item::{Item, PackId, Split};
use crate::rng::Rng;

fn items(family: &Family, level: u8, count: u64) -> impl Iterator<Item = Item> {
    (0..count).map(move |index| family.item(&[5; 32], level, index))
}

fn each_level() -> impl Iterator<Item = (&'static Family, u8)> {
    families().flat_map(|family| family.levels().map(move |level| (family, level)))
}

fn answer(item: &Item) -> &str {
    item.gold().unwrap().answer().as_str()
}

/// Items solved again a family and level: fewer where everything is tried.
fn solved(family: &str) -> u64 {
    match family {
        "hanoi" | "nim" | "operator" | "list-rule" | "row-rule" => 12,
        "inner-points" | "knight-routes" | "dice" | "lineup" | "shortest-path" | "mastermind" => 40,
        _ => 200,
    }
}

fn solve(family: &str, question: &str) -> String {
    let solvers = [numbers::solve, procedures::solve, search::solve];
    solvers.iter().find_map(|solve| solve(family, question)).expect("a solver of every family")
}

#[test]
fn answers_are_found_again_by_other_means() {
    for (family, level) in each_level() {
        for item in items(family, level, solved(family.name())) {
            assert_eq!(
                answer(&item),
                solve(family.name(), item.prompt()),
                "{}: {}",
                family.name(),
                item.prompt()
            );
        }
    }
}

#[test]
fn every_category_has_families() {
    let mut names = BTreeSet::new();
    let mut count: BTreeMap<Category, usize> = BTreeMap::new();
    for family in families() {
        assert!(names.insert(family.name()), "{} twice", family.name());
        assert!(family.name().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
        assert!(family.asks().ends_with('.') && family.parameters().len() <= super::PARAMETERS_MAX);
        *count.entry(family.category()).or_default() += 1;
    }
    assert!(names.len() >= 40, "{}", names.len());
    assert!(count.len() == 10 && count.values().all(|count| *count >= 3), "{count:?}");
    for family in super::SIX {
        assert!(names.contains(family.name()));
    }
}
