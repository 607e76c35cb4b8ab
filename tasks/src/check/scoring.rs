//! The whole path from completion to score: the right answer counts, everything else does not, and guessing does not
//! pay.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, Severity, items};
use crate::error::at;
use crate::item::{Gold, Item};
use crate::pack::Opened;

/// Chance agreement (permille) from which a majority means little, and from which it means nothing.
const CHANCE_WARN: u64 = 100;
const CHANCE_REFUSE: u64 = 250;
/// Items whose scoring is tried.
const TRIED_MAX: usize = 2_000;
/// Answers of other items that are given to an item.
const FOREIGN_MAX: usize = 20;

pub(super) fn check(report: &mut Report, opened: &Opened) {
    let with_gold: Vec<(&Item, &Gold)> =
        items(opened).filter_map(|item| item.gold().map(|gold| (item, gold))).collect();
    let answers: BTreeSet<&str> = with_gold.iter().map(|(_, gold)| gold.answer().as_str()).collect();
    let answers: Vec<&str> = answers.into_iter().take(FOREIGN_MAX).collect();
    let wrong = |item: &Item, gold: &Gold| lenient(item, gold, &answers);
    let found = with_gold
        .iter()
        .take(TRIED_MAX)
        .filter_map(|(item, gold)| wrong(item, gold).map(|what| (item, what)));
    let found = found.map(|(item, what)| {
        let message = format!("lenient score: {what} for {:?}", item.question());
        at(opened.definition.file(), 0, message, "change the question, or form and extract under [answer]")
    });
    report.add_some(Severity::Error, found.collect());
    chance(report, opened, &with_gold);
}

/// What is wrong with the scoring of an item.
fn lenient(item: &Item, gold: &Gold, answers: &[&str]) -> Option<String> {
    let right = |completion: &str| item.parse(completion).is_some_and(|answer| gold.matches(&answer));
    if !right(&item.direct(gold.answer())) {
        return Some("the reference answer does not score".into());
    }
    let own = gold.answer().as_str();
    let others: Vec<&str> = answers.iter().copied().filter(|other| *other != own).collect();
    let mut wrong =
        vec![("an empty answer", String::new()), ("an echo of the prompt", item.prompt().to_owned())];
    wrong.extend(others.iter().map(|other| ("another item's answer", (*other).to_owned())));
    if !others.is_empty() {
        // The right one comes first: a pack that reads the last of several would otherwise be blamed for chance.
        for between in [" ", ", "] {
            wrong.push(("a list of everything", format!("{own}{between}{}", others.join(between))));
        }
    }
    let scores = |text: &str| right(text) || right(&item.wrapped(text));
    wrong.into_iter().find(|(_, text)| scores(text)).map(|(what, _)| format!("{what} scores"))
}

/// Σf² over answers: the chance that two guesses agree.
fn chance(report: &mut Report, opened: &Opened, with_gold: &[(&Item, &Gold)]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, gold) in with_gold {
        *counts.entry(gold.answer().as_str()).or_default() += 1;
    }
    let total: u64 = counts.values().sum();
    if total == 0 {
        let hint = "a swarm can vote on it, but nobody can tell how well; give some items an answer";
        report.add(Severity::Warning, at(opened.definition.file(), 0, "no item has an answer", hint));
        return;
    }
    let permille = counts.values().map(|n| n * n).sum::<u64>() * 1000 / (total * total);
    report.chance_agreement_permille = permille;
    let message =
        format!("guessable answers: two random answers of the pack agree in {permille} of 1000 cases");
    let hint = "a majority means little when guesses agree: use questions with many different answers";
    let finding = at(opened.definition.file(), 0, message, hint);
    if permille > CHANCE_REFUSE {
        report.add(Severity::Error, finding);
    } else if permille > CHANCE_WARN {
        report.add(Severity::Warning, finding);
    }
}
