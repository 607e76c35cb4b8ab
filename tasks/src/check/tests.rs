use std::cell::Cell;

use super::{Severity, check};
use crate::script::{Made, Program};
use crate::tests::{files, numbered};

const TASK: &str = "name = \"digits\"\nversion = \"1.0.0\"\nlicence = \"CC0-1.0\"\n";
const SCRIPT: &str =
    "name = \"sums\"\nversion = \"1.0.0\"\nlicence = \"CC0-1.0\"\n[source]\nkind = \"script\"\ncount = 200\n";
const SUMS: &str = "fn generate(p) { let a = rand(1, 9999); let b = rand(1, 9999); #{ question: `${a}+${b}`, answer: a + b } }";

fn item(id: &str, question: &str, answer: &str) -> String {
    format!("{{\"id\":\"{id}\",\"question\":\"{question}\",\"answer\":\"{answer}\"}}\n")
}

/// A hundred good items and `more`.
fn and(more: &str) -> String {
    format!("{}{more}", numbered(100))
}

/// Severity, place and message of all that is found, a line each.
fn findings(pack: &[(&str, &str)]) -> String {
    let report = check(&files(pack), &Program::run);
    let shown = report.findings.iter().map(|finding| {
        assert!(!finding.what.hint.is_empty());
        format!("{:?} {}: {}\n", finding.severity, finding.what.place(), finding.what.message)
    });
    shown.collect()
}

fn of_items(task: &str, items: &str) -> String {
    findings(&[("task.toml", task), ("items.jsonl", items), ("README.md", "Numbers.")])
}

fn of_script(source: &str) -> String {
    findings(&[("task.toml", SCRIPT), ("task.rhai", source), ("README.md", "Sums.")])
}

#[test]
fn good_packs_pass_without_a_word() {
    assert_eq!(of_items(TASK, &numbered(100)), "");
    assert_eq!(of_script(SUMS), "");
}

#[test]
fn duplicate_items() {
    let found = of_items(TASK, &and(&item("z", "item 3?", "5")));
    assert!(found.contains("Error items.jsonl:101: the question of line 4 again"), "{found}");
    let found = of_items(TASK, &and(&item("q3", "other?", "5")));
    assert!(found.contains("Error items.jsonl:101: the id \"q3\" is already used in line 4"), "{found}");
    let narrow = SUMS.replace("9999", "5");
    let found = of_script(&narrow);
    assert!(
        found.contains("Error task.rhai: duplicate items: 25 distinct questions in 200 drawn"),
        "{found}"
    );
}

#[test]
fn an_answer_inside_its_question() {
    let found = of_items(TASK, &and(&item("z", "is it 12345 ?", "12345")));
    assert!(found.contains("Warning items.jsonl:101: the question contains its answer"), "{found}");
    let found = of_items(TASK, &and(&item("z", "is it 123456 ?", "12345")));
    assert_eq!(found, "");
}

#[test]
fn a_lenient_score() {
    let lenient = format!("{TASK}[answer]\nextract = \"last-number\"\n");
    let items: String =
        (10..90).map(|n| item(&n.to_string(), &format!("the last of 5, {n}"), &n.to_string())).collect();
    let found = of_items(&lenient, &items);
    assert!(found.contains("Error items.jsonl: lenient score: an echo of the prompt scores"), "{found}");
    assert!(found.contains("(and 75 more like this)"), "{found}");
    assert!(!of_items(TASK, &items).contains("lenient"));
}

#[test]
fn guessable_answers() {
    let seven: String = (0..100).map(|i| item(&format!("{i}"), &format!("n {i}?"), "7")).collect();
    let found = of_items(TASK, &seven);
    assert!(
        found.contains("Error items.jsonl: guessable answers") && found.contains("1000 of 1000"),
        "{found}"
    );
    let five: String =
        (0..100).map(|i| item(&format!("{i}"), &format!("n {i}?"), &(i % 5 + 200).to_string())).collect();
    assert!(of_items(TASK, &five).contains("Warning items.jsonl: guessable answers"));
}

#[test]
fn non_determinism() {
    // The sandbox gives no means to be non-deterministic; a pack that found one would look like this.
    let runs = Cell::new(0);
    let sandbox = |program: &Program| {
        runs.set(runs.get() + 1);
        let made = program.run()?;
        Ok(Made {
            items: made.items.replace("question\":\"1", &format!("question\":\"{}", runs.get())),
            ..made
        })
    };
    let pack = files(&[("task.toml", SCRIPT), ("task.rhai", SUMS)]);
    let report = check(&pack, &sandbox);
    assert!(report.findings[0].what.message.starts_with("not deterministic"), "{:?}", report.findings);
    assert!(!report.passes());
}

#[test]
fn slow_generation() {
    let busy = |n: u32| SUMS.replace("#{", &format!("for i in 0..{n} {{ }} #{{"));
    let found = of_script(&busy(3_000));
    assert!(found.contains("Warning task.rhai: generation is slow: 3"), "{found}");
    let found = of_script(&busy(30_000));
    assert!(
        found.contains("Error task.rhai: generation is slow: the fuel for all items is used up after 2"),
        "{found}"
    );
}

#[test]
fn a_bad_split() {
    let found = of_items(TASK, &numbered(1));
    assert!(found.contains("no item falls into the"), "{found}");
    // The same questions with a capital letter: most fall into another split than the first writing.
    let shouted = numbered(100)
        .replace("\"q\"", "\"Q\"")
        .replace("\"id\":\"q", "\"id\":\"Q")
        .replace("\"item", "\"Item");
    let found = of_items(TASK, &and(&shouted));
    assert!(
        found.contains("Error items.jsonl:10") && found.contains("in other writing; one is for"),
        "{found}"
    );
}

#[test]
fn a_wrong_golden_case() {
    let with = |cases: &str| {
        let items = numbered(100);
        findings(&[
            ("task.toml", TASK),
            ("items.jsonl", &items),
            ("tests.jsonl", cases),
            ("README.md", "Numbers."),
        ])
    };
    let right = "{\"item\": \"q1\", \"completion\": \"<answer>1007</answer>\", \"right\": true}\n\
                 {\"item\": \"q1\", \"completion\": \"1007\", \"right\": false}\n\
                 {\"answer\": \"07\", \"canonical\": null}\n{\"answer\": \"7\", \"canonical\": \"7\"}\n";
    assert_eq!(with(right), "");
    for (case, expected) in [
        (
            "{\"item\": \"q1\", \"completion\": \"<answer>1008</answer>\", \"right\": true}",
            "Error tests.jsonl:5: wrong golden case: the completion is wrong for item q1",
        ),
        ("{\"answer\": \"07\", \"canonical\": \"7\"}", "\"07\" is no answer, not \"7\""),
        ("{\"item\": \"q999\", \"completion\": \"\", \"right\": true}", "there is no item \"q999\""),
        ("{\"answer\": \"7\"", "Error tests.jsonl:5: not a golden case"),
    ] {
        let found = with(&format!("{right}{case}\n"));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn an_over_long_prompt() {
    let with = |bytes: usize| of_items(TASK, &and(&item("z", &"x".repeat(bytes), "5")));
    assert!(with(600).contains("Warning items.jsonl:101: a prompt of 600 bytes"));
    assert!(with(5000).contains("Error items.jsonl:101: a question of 5000 bytes"));
    let around = format!("{TASK}[prompt]\ntemplate = \"{{question}}{}\"\n", "y".repeat(4000));
    let found = of_items(&around, &and(&item("z", &"x".repeat(600), "5")));
    assert!(found.contains("Error items.jsonl:101: a prompt of 4600 bytes"), "{found}");
}

#[test]
fn broken_lines_and_missing_files() {
    for (more, expected) in [
        (item("z", "what?", "seven"), "not of the form"),
        ("{\n".into(), "EOF"),
        ("{\"id\":\"z\",\"question\":\"q\",\"answr\":\"1\"}\n".into(), "unknown field `answr`"),
    ] {
        let found = of_items(TASK, &and(&more));
        assert!(found.contains("Error items.jsonl:101") && found.contains(expected), "{found}");
    }
    assert!(of_items(TASK, "").contains("no items"));
    assert!(findings(&[("task.toml", TASK)]).contains("Error items.jsonl: is missing"));
    assert!(findings(&[("task.toml", SCRIPT)]).contains("Error task.rhai: is missing"));
    let bare = findings(&[("task.toml", "name = \"x\"\nversion = \"1\"\n"), ("items.jsonl", &numbered(100))]);
    assert!(bare.contains("there is no licence") && bare.contains("there is no card"), "{bare}");
    assert!(!bare.contains("Error"), "{bare}");
    let unanswered: String = (0..100).map(|i| format!("{{\"question\": \"n {i}?\"}}\n")).collect();
    assert!(of_items(TASK, &unanswered).contains("Warning items.jsonl: no item has an answer"));
}

#[test]
fn a_report_says_how_many_and_how_dear() {
    let report = check(&files(&[("task.toml", SCRIPT), ("task.rhai", SUMS)]), &Program::run);
    assert_eq!(report.items.values().sum::<usize>(), report.levels[&0]);
    assert!((10..200).contains(&report.fuel_per_item.unwrap()), "{report:?}");
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Warning));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["severity"], "warning");
    assert_eq!(json["findings"][0]["file"], "README.md");
}
