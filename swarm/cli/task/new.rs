//! `murmur task new`: a pack that passes its check, to be changed into another one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::NewArgs;
use crate::exit::Outcome;
use crate::{packs, printer, sandbox};

/// Names of fields in files of questions, the commonest first.
const QUESTIONS: [&str; 6] = ["question", "prompt", "problem", "input", "query", "instruction"];
const ANSWERS: [&str; 8] =
    ["answer", "target", "solution", "output", "label", "response", "final_answer", "expected"];
const CHOICES: [&str; 3] = ["choices", "options", "endings"];
/// What stands before the answer in files whose answers show their reasoning.
const MARK: &str = "####";
/// Bytes of a first line that is looked at.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// A folder that is there already, a file that is no JSONL.
pub(super) fn run(args: &NewArgs) -> anyhow::Result<Outcome> {
    let name = pack_name(&args.folder)?;
    let files: Vec<(&str, String)> = match &args.jsonl {
        Some(file) => vec![("task.toml", mapped(&name, &first_line(file)?)?)],
        None if args.script => vec![
            ("task.toml", filled(SCRIPT_TOML, &name)),
            ("task.rhai", SCRIPT.into()),
            ("tests.jsonl", FORM_CASES.into()),
        ],
        None => vec![
            ("task.toml", filled(ITEMS_TOML, &name)),
            ("items.jsonl", items()),
            ("tests.jsonl", ITEM_CASES.into()),
        ],
    };
    make_folder(&args.folder)?;
    for (path, text) in files.iter().chain([&("README.md", filled(CARD, &name))]) {
        let place = args.folder.join(path);
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
    }
    if let Some(file) = &args.jsonl {
        fs::copy(file, args.folder.join("items.jsonl"))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    let shown = args.folder.display();
    printer::data(&format!("{shown}"))?;
    printer::note(&format!("next: murmur task preview {shown}; change its files; murmur task check {shown}"));
    if args.jsonl.is_some() {
        // A wrong guess about the fields shows now rather than later.
        tasks::Pack::open(&packs::read_folder(&args.folder)?, &sandbox::run).map(|_| ())?;
    }
    Ok(Outcome::Done)
}

/// The name of the pack in a folder.
pub(super) fn pack_name(folder: &Path) -> anyhow::Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        bail!("{name:?} is no name for a pack\nhint: 1 to 32 of a-z, 0-9 and -");
    }
    Ok(name.to_owned())
}

/// Makes a folder that is not there yet.
pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        bail!("{} is there already\nhint: choose another name", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn first_line(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut line = String::new();
    BufReader::new(file.take(LINE_BYTES_MAX))
        .read_line(&mut line)
        .with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_str(&line)
        .with_context(|| format!("{shown}:1 is no JSON object\nhint: one object a line"))
}

/// `task.toml` for a file of other names, guessed from its first line.
fn mapped(name: &str, first: &Map<String, Value>) -> anyhow::Result<String> {
    let known = |names: &[&'static str]| names.iter().find(|name| first.contains_key(**name)).copied();
    let Some(question) = known(&QUESTIONS) else {
        let fields: Vec<&str> = first.keys().map(String::as_str).take(8).collect();
        bail!(
            "no field of {} is known to be a question\nhint: rename the one that is to \"question\"",
            fields.join(", ")
        );
    };
    let answer = known(&ANSWERS);
    let text = answer.and_then(|answer| first[answer].as_str()).unwrap_or_default();
    let marked = text.contains(MARK);
    let value = text.rsplit(MARK).next().unwrap_or_default().trim();
    let number =
        answer.is_none_or(|answer| first[answer].is_i64()) || value.replace(',', "").parse::<i64>().is_ok();
    let choices = known(&CHOICES);
    let form = match choices {
        Some(_) => "choice",
        None if number => "integer",
        None => "text",
    };
    let mut toml = format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\nlicence = \"\"\nsummary = \"\"\n\n[source]\nfile = \"items.jsonl\"\n"
    );
    if marked {
        toml += &format!("answer_after = \"{MARK}\"   # the reasoning is before it\n");
    }
    toml += &format!("\n[source.fields]\nquestion = \"{question}\"\n");
    toml += &answer.map_or(String::new(), |answer| format!("answer = \"{answer}\"\n"));
    toml += &choices.map_or(String::new(), |choices| format!("choices = \"{choices}\"\n"));
    toml += &format!("\n[answer]\nform = \"{form}\"   # {FORMS}\n");
    Ok(toml)
}

fn filled(template: &str, name: &str) -> String {
    template.replace("NAME", name).replace("FORMS", FORMS)
}

fn items() -> String {
    let item = |n: u32| {
        let (a, b) = (12 + 7 * n, 30 + 11 * (n % 9));
        format!("{{\"id\": \"q{n}\", \"question\": \"What is {a} plus {b}?\", \"answer\": \"{}\"}}\n", a + b)
    };
    (1..=40).map(item).collect()
}

const FORMS: &str = "integer | decimal | fraction | choice | text | set | sequence | grid";

const ITEMS_TOML: &str = r#"name = "NAME"
version = "1.0.0"
licence = "CC0-1.0"
authors = []
summary = "Sums of two numbers."

[answer]
form = "integer"   # FORMS
"#;

const SCRIPT_TOML: &str = r#"name = "NAME"
version = "1.0.0"
licence = "CC0-1.0"
authors = []
summary = "Sums of more and more numbers."

[source]
kind = "script"
count = 500              # items of each level

[params]                 # what generate(p) gets; one value a level
terms = [2, 3, 4]
max = [99, 99, 999]

[answer]
form = "integer"         # FORMS
"#;

const SCRIPT: &str = r#"// One item. p holds the parameters of the level, and p.level.
// The functions there are: tasks/README.md. Draw with rand, choice, shuffle and sample only.
fn generate(p) {
    let numbers = [];
    let steps = [];
    let total = 0;
    for i in 0..p.terms {
        let n = rand(1, p.max);
        total += n;
        numbers.push(n);
        steps.push(total);
    }
    #{
        question: `What is ${numbers.join(" + ")}?`,
        answer: total,
        trace: steps.join(","),      // reasoning that a base model is taught; may be left out
    }
}
"#;

const ITEM_CASES: &str = r#"{"item": "q1", "completion": "<answer>60</answer>", "right": true}
{"item": "q1", "completion": "<think>19+41</think><answer>60</answer>", "right": true}
{"item": "q1", "completion": "60", "right": false}
"#;

const FORM_CASES: &str = r#"{"answer": "60", "canonical": "60"}
{"answer": "060", "canonical": null}
{"answer": "sixty", "canonical": null}
"#;

const CARD: &str = "# NAME

What is asked, where the questions come from, what makes a level harder, and what a model can learn from it.
";
