//! `murmur task check`: what would go wrong with a static pack, found before a swarm finds it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::answer;
use crate::item::{Item, Split};
use crate::pack::{self, Pack, PackError};

/// Longest question a small model can be expected to read, in bytes; longer ones are a warning.
pub const QUESTION_BYTES_ADVISED: usize = 512;
/// Chance agreement (permille) from which a majority means little, and from which it means nothing.
const CHANCE_WARN: u64 = 100;
const CHANCE_REFUSE: u64 = 250;
/// Findings kept of one kind; the rest is counted.
const EXAMPLES_MAX: usize = 5;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The pack is usable, but look at this.
    Warning,
    /// A swarm would be misled by it.
    Error,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// File.
    pub file: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// What was found.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Content address, when the pack parses.
    pub id: Option<String>,
    /// Name, when the pack parses.
    pub name: Option<String>,
    /// Items by split: train, validation, test.
    pub items: BTreeMap<&'static str, usize>,
    /// Probability in permille that two random answers of the pack agree.
    pub chance_agreement_permille: u64,
    /// Findings, errors first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing found is an error.
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    fn add(&mut self, severity: Severity, error: PackError) {
        let PackError { file, line, message, hint } = error;
        self.findings.push(Finding { severity, file, line, message, hint });
    }
}

/// Checks the text of a static pack's two files.
pub fn check(task_toml: &str, items_jsonl: &str) -> Report {
    let mut report = Report::default();
    let pack = match Pack::from_static(task_toml, items_jsonl) {
        Ok(pack) => pack,
        Err(error) => {
            report.add(Severity::Error, error);
            return report;
        }
    };
    report.id = Some(pack.id().to_string());
    report.name = Some(pack.name().to_string());
    for split in [Split::Train, Split::Validation, Split::Test] {
        let count = pack.static_items(split).len();
        report.items.insert(split.as_str(), count);
        if count == 0 {
            let severity = if split == Split::Train { Severity::Error } else { Severity::Warning };
            let message = format!("no item falls into the {} split", split.as_str());
            report.add(
                severity,
                pack::at(
                    "items.jsonl",
                    1,
                    message,
                    "add items: one in eight goes to each of validation and test",
                ),
            );
        }
    }
    check_lines(&mut report, items_jsonl);
    check_scoring(&mut report, &pack);
    check_chance(&mut report, &pack);
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

fn check_lines(report: &mut Report, items_jsonl: &str) {
    let mut questions: BTreeMap<String, usize> = BTreeMap::new();
    let (mut leaks, mut long) = (0, 0);
    for (number, line) in pack::lines(items_jsonl).unwrap_or_default() {
        if let Some(first) = questions.insert(line.question.clone(), number) {
            let message = format!("the question of line {first} again");
            report.add(Severity::Error, pack::at("items.jsonl", number, message, "remove one of the two"));
        }
        let shown = line
            .answer
            .as_deref()
            .filter(|_| line.choices.is_empty())
            .is_some_and(|a| stands_in(a, &line.question));
        leaks += usize::from(shown);
        if shown && leaks <= EXAMPLES_MAX {
            report.add(
                Severity::Warning,
                pack::at(
                    "items.jsonl",
                    number,
                    "the question contains its answer",
                    "ask so that it must be worked out",
                ),
            );
        }
        let too_long = line.question.len() > QUESTION_BYTES_ADVISED;
        long += usize::from(too_long);
        if too_long && long <= EXAMPLES_MAX {
            let message = format!("a question of {} bytes", line.question.len());
            report.add(
                Severity::Warning,
                pack::at(
                    "items.jsonl",
                    number,
                    message,
                    format!("small models read up to about {QUESTION_BYTES_ADVISED}"),
                ),
            );
        }
    }
}

/// Whether `answer` stands in `question` as a word of its own.
fn stands_in(answer: &str, question: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric();
    question.match_indices(answer).any(|(at, found)| {
        let before = question[..at].chars().next_back().is_some_and(inside);
        let after = question[at + found.len()..].chars().next().is_some_and(inside);
        !before && !after && !answer.is_empty()
    })
}

fn items(pack: &Pack) -> impl Iterator<Item = &Item> {
    [Split::Train, Split::Validation, Split::Test].into_iter().flat_map(|split| pack.static_items(split))
}

/// The whole path from completion to score: the right answer counts, everything else does not.
fn check_scoring(report: &mut Report, pack: &Pack) {
    let answers: Vec<_> =
        items(pack).filter_map(|item| item.gold()).map(|gold| gold.answer().clone()).collect();
    for item in items(pack) {
        let Some(gold) = item.gold() else { continue };
        let right = |completion: &str| item.parse(completion).is_some_and(|answer| gold.matches(&answer));
        let own = right(&item.direct(gold.answer()));
        let everything: Vec<&str> = answers.iter().take(20).map(|answer| answer.as_str()).collect();
        let lenient = right("")
            || right(item.prompt())
            || right(&answer::completion(None, item.prompt()))
            || (everything.len() > 1 && right(&answer::completion(None, &everything.join(" "))));
        if !own || lenient {
            let what = if own {
                "an empty, echoed or list-everything answer scores"
            } else {
                "the reference answer does not score"
            };
            let message = format!("{what} for {:?}", item.prompt());
            report.add(
                Severity::Error,
                pack::at("items.jsonl", 1, message, "change the question or the answer form"),
            );
        }
    }
}

/// Σf² over answers: the chance that two guesses agree.
fn check_chance(report: &mut Report, pack: &Pack) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for gold in items(pack).filter_map(|item| item.gold()) {
        *counts.entry(gold.answer().as_str()).or_default() += 1;
    }
    let total: u64 = counts.values().sum();
    if total == 0 {
        return;
    }
    let permille = counts.values().map(|n| n * n).sum::<u64>() * 1000 / (total * total);
    report.chance_agreement_permille = permille;
    let message = format!("two random answers of the pack agree in {permille} of 1000 cases");
    let hint = "a majority means little when guesses agree: use questions with many different answers";
    if permille > CHANCE_REFUSE {
        report.add(Severity::Error, pack::at("items.jsonl", 1, message, hint));
    } else if permille > CHANCE_WARN {
        report.add(Severity::Warning, pack::at("items.jsonl", 1, message, hint));
    }
}
