//! Golden cases: `tests.jsonl`, what its author expects of the scoring.
//!
//! ```json
//! {"item": "q1", "completion": "<answer>42</answer>", "right": true}
//! {"answer": "6/8", "canonical": "3/4"}
//! {"answer": "six", "canonical": null}
//! ```

use serde::Deserialize;

use super::{Report, Severity, items};
use crate::error::{PackError, at};
use crate::files::PackFiles;
use crate::item::Item;
use crate::lines::ITEMS_BYTES_MAX;
use crate::pack::Opened;

const FILE: &str = "tests.jsonl";
/// Golden cases of a pack.
const CASES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Case {
    Completion { item: String, completion: String, right: bool },
    Form { answer: String, canonical: Option<String> },
}

pub(super) fn check(report: &mut Report, files: &PackFiles, opened: &Opened) {
    let text = match files.text(FILE, ITEMS_BYTES_MAX) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return report.add(Severity::Error, error),
    };
    let cases = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut failed = Vec::new();
    for (tried, (i, line)) in cases.enumerate() {
        if tried == CASES_MAX {
            failed.push(at(FILE, i + 1, "more than 1000 golden cases", "keep the telling ones"));
            break;
        }
        match holds(opened, i + 1, line) {
            Ok(()) => report.golden_cases += 1,
            Err(error) => failed.push(error),
        }
    }
    report.add_some(Severity::Error, failed);
}

fn holds(opened: &Opened, number: usize, line: &str) -> Result<(), PackError> {
    let fail = |message: String, hint: &str| Err(at(FILE, number, message, hint));
    let Ok(case) = serde_json::from_str(line) else {
        let hint = r#"{"item": "q1", "completion": "…", "right": true} or {"answer": "…", "canonical": "…"}"#;
        return fail("not a golden case".into(), hint);
    };
    let hint = "mend the case, or form and extract under [answer] in task.toml";
    match case {
        Case::Form { answer, canonical } => {
            let form = opened.definition.reading().form.canonical(&answer).map(|answer| answer.to_string());
            let shown =
                |form: &Option<String>| form.as_ref().map_or("no answer".into(), |form| format!("{form:?}"));
            if form == canonical {
                return Ok(());
            }
            fail(
                format!("wrong golden case: {answer:?} is {}, not {}", shown(&form), shown(&canonical)),
                hint,
            )
        }
        Case::Completion { item, completion, right } => {
            let Some(found) = find(opened, &item) else {
                return fail(format!("there is no item {item:?} with an answer"), "use the id of an item");
            };
            let scores =
                found.parse(&completion).is_some_and(|a| found.gold().is_some_and(|gold| gold.matches(&a)));
            if scores == right {
                return Ok(());
            }
            let verdict = if scores { "right" } else { "wrong" };
            fail(format!("wrong golden case: the completion is {verdict} for item {item}"), hint)
        }
    }
}

fn find<'a>(opened: &'a Opened, id: &str) -> Option<&'a Item> {
    let line = opened.lines.iter().find(|line| line.id == id)?;
    items(opened).find(|item| item.question() == line.question).filter(|item| item.gold().is_some())
}
