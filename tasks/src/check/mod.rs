//! `murmur task check`: what would go wrong with a pack, found before a swarm finds it.

mod golden;
mod scoring;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::definition::Kind;
use crate::error::{PackError, at};
use crate::files::{PackFiles, TASK_TOML};
use crate::item::{Item, Split};
use crate::lines::Line;
use crate::pack::{Opened, Sandbox};
use crate::script::{FUEL_AVERAGE, Program};

/// Bytes of a prompt: the question and what the pack puts around it.
pub const PROMPT_BYTES_MAX: usize = 4 * 1024;
/// Longest prompt a small model can be expected to read, in bytes; longer ones are a warning.
pub const PROMPT_BYTES_ADVISED: usize = 512;
/// Distinct questions in permille of those that a script draws, below which there is a warning, or an error.
const DISTINCT_WARN: usize = 990;
const DISTINCT_REFUSE: usize = 500;
/// Findings of one kind that are shown; the rest is counted.
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
    /// Where, what, and what to do.
    #[serde(flatten)]
    pub what: PackError,
}

/// Everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Content address, when the pack can be read.
    pub id: Option<String>,
    /// Name, when the pack can be read.
    pub name: Option<String>,
    /// Items by split: train, validation, test.
    pub items: BTreeMap<&'static str, usize>,
    /// Items by level.
    pub levels: BTreeMap<u8, usize>,
    /// Probability in permille that two random answers of the pack agree.
    pub chance_agreement_permille: u64,
    /// Fuel of an item on average, of a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_item: Option<u64>,
    /// Golden cases that hold.
    pub golden_cases: usize,
    /// Findings, errors first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing found is an error.
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    fn add(&mut self, severity: Severity, what: PackError) {
        self.findings.push(Finding { severity, what });
    }

    /// Adds the first few findings of a kind, and how many more there are.
    fn add_some(&mut self, severity: Severity, mut found: Vec<PackError>) {
        let more = found.len().saturating_sub(EXAMPLES_MAX);
        found.truncate(EXAMPLES_MAX);
        if let Some(last) = found.last_mut().filter(|_| more > 0) {
            last.message = format!("{} (and {more} more like this)", last.message);
        }
        found.into_iter().for_each(|error| self.add(severity, error));
    }
}

/// Checks the files of a pack; `sandbox` runs its script if it has one, twice.
pub fn check(files: &PackFiles, sandbox: Sandbox<'_>) -> Report {
    let mut report = Report::default();
    let opened = match Opened::open(files, sandbox) {
        Ok(opened) => opened,
        Err(error) => {
            report.add(Severity::Error, error);
            return report;
        }
    };
    report.id = Some(opened.pack.id().to_string());
    report.name = Some(opened.pack.name().to_string());
    for line in &opened.lines {
        *report.levels.entry(line.level).or_default() += 1;
    }
    check_card(&mut report, files, &opened);
    check_script(&mut report, files, &opened, sandbox);
    check_splits(&mut report, &opened);
    check_questions(&mut report, &opened);
    scoring::check(&mut report, &opened);
    golden::check(&mut report, files, &opened);
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

/// Where a line is told of: its own place, or the script that made it.
fn place(opened: &Opened, line: &Line, message: impl Into<String>, hint: &str) -> PackError {
    let message = message.into();
    match opened.definition.kind() {
        Kind::Items => at(opened.definition.file(), line.number, message, hint),
        Kind::Script => at(opened.definition.file(), 0, format!("item {}: {message}", line.id), hint),
    }
}

fn items(opened: &Opened) -> impl Iterator<Item = &Item> {
    [Split::Train, Split::Validation, Split::Test].into_iter().flat_map(|split| opened.pack.items(split))
}

/// What others need to know before they use it.
fn check_card(report: &mut Report, files: &PackFiles, opened: &Opened) {
    if opened.definition.licence.is_empty() {
        let hint = "write licence = \"CC0-1.0\", or what holds for the questions";
        report.add(Severity::Warning, at(TASK_TOML, 0, "there is no licence", hint));
    }
    if files.get("README.md").is_none() {
        let hint = "say what is asked, where it comes from and what makes a level harder";
        report.add(Severity::Warning, at("README.md", 0, "there is no card", hint));
    }
}

fn check_script(report: &mut Report, files: &PackFiles, opened: &Opened, sandbox: Sandbox<'_>) {
    let Some(made) = &opened.made else { return };
    let file = opened.definition.file();
    let again = Program::of(&opened.definition, files).and_then(|program| sandbox(&program));
    if again.as_ref() != Ok(made) {
        let hint = "peers would vote on different items; draw with rand, choice, shuffle and sample only";
        report.add(Severity::Error, at(file, 0, "not deterministic: a second run made other items", hint));
    }
    let per_item = made.fuel / made.drawn.max(1) as u64;
    report.fuel_per_item = Some(per_item);
    if per_item > FUEL_AVERAGE / 2 {
        let message =
            format!("generation is slow: {per_item} units of fuel an item, {FUEL_AVERAGE} are allowed");
        report
            .add(Severity::Warning, at(file, 0, message, "make the problem smaller, or its search shorter"));
    }
    let distinct = opened.lines.len() * 1000 / made.drawn.max(1);
    if distinct < DISTINCT_WARN {
        let severity = if distinct < DISTINCT_REFUSE { Severity::Error } else { Severity::Warning };
        let message =
            format!("duplicate items: {} distinct questions in {} drawn", opened.lines.len(), made.drawn);
        report.add(severity, at(file, 0, message, "draw from more, or lower count under [source]"));
    }
}

fn check_splits(report: &mut Report, opened: &Opened) {
    for split in [Split::Train, Split::Validation, Split::Test] {
        let count = opened.pack.items(split).len();
        report.items.insert(split.as_str(), count);
        if count == 0 {
            let severity = if split == Split::Train { Severity::Error } else { Severity::Warning };
            let message = format!("no item falls into the {} split", split.as_str());
            let hint = "add items: one in eight goes to each of validation and test";
            report.add(severity, at(opened.definition.file(), 0, message, hint));
        }
    }
    // A question that only looks different would be trained on and then reported as held out.
    let mut splits: BTreeMap<(String, Option<&str>), (Split, &Line)> = BTreeMap::new();
    let mut found = Vec::new();
    for line in &opened.lines {
        let split = Split::of(opened.pack.name(), &line.question);
        let looks = line.question.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let looks = looks.trim_end_matches(['.', '?', '!', ' ']).to_owned();
        let (other, first) = *splits.entry((looks, line.answer.as_deref())).or_insert((split, line));
        if other != split {
            let message = format!(
                "bad split: the question of item {} in other writing; one is for {}, one for {}",
                first.id,
                other.as_str(),
                split.as_str()
            );
            found.push(place(opened, line, message, "remove one of the two"));
        }
    }
    report.add_some(Severity::Error, found);
}

fn check_questions(report: &mut Report, opened: &Opened) {
    let mut questions: BTreeMap<&str, &Line> = BTreeMap::new();
    let [mut twice, mut shown, mut long, mut too_long] = [const { Vec::new() }; 4];
    for line in &opened.lines {
        if let Some(first) = questions.insert(&line.question, line) {
            let message = format!("the question of line {} again", first.number);
            twice.push(place(opened, line, message, "remove one of the two"));
        }
        let answer = line.answer.as_deref().filter(|_| line.choices.is_empty());
        if answer.is_some_and(|answer| stands_in(answer, &line.question)) {
            let hint = "ask so that it must be worked out";
            shown.push(place(opened, line, "the question contains its answer", hint));
        }
        let bytes = opened.definition.prompt.show(&line.question, &line.choices).len();
        let message = format!("a prompt of {bytes} bytes");
        if bytes > PROMPT_BYTES_MAX {
            too_long.push(place(opened, line, message, &format!("at most {PROMPT_BYTES_MAX}")));
        } else if bytes > PROMPT_BYTES_ADVISED {
            let hint = format!("small models read up to about {PROMPT_BYTES_ADVISED}");
            long.push(place(opened, line, message, &hint));
        }
    }
    report.add_some(Severity::Error, twice);
    report.add_some(Severity::Error, too_long);
    report.add_some(Severity::Warning, shown);
    report.add_some(Severity::Warning, long);
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
