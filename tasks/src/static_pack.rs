//! Items that were drawn from any pack, written down as a static pack.
//!
//! A written family keeps its name, so every question stays in the split it was in: what was trained on is never
//! reported as held out. It keeps the ids of its items too.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::answer::{Extract, Reading};
use crate::definition::Prompt;
use crate::files::{PACK_BYTES_MAX, PackFiles, TASK_TOML};
use crate::form::Form;
use crate::item::Item;
use crate::lines::{ITEMS_MAX, Line};
use crate::{PackError, TASK_TOML_BYTES_MAX};

/// Bytes of the card, `README.md`.
const CARD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all items: what the other two files leave.
const LINES_BYTES_MAX: usize = PACK_BYTES_MAX - TASK_TOML_BYTES_MAX - CARD_BYTES_MAX;

/// The items of one family that are written down so far.
#[derive(Clone, Debug)]
pub struct StaticPack {
    task: TaskToml,
    /// By id, so that a pack is what its items are, whatever their order was.
    lines: BTreeMap<String, String>,
    bytes: usize,
}

#[derive(Clone, Debug, Serialize)]
struct TaskToml {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    prompt: Prompt,
    answer: AnswerToml,
}

#[derive(Clone, Debug, Serialize)]
struct AnswerToml {
    form: Form,
    extract: Extract,
}

impl StaticPack {
    /// A pack for the family of an item, still without items.
    ///
    /// ```
    /// let pack = tasks::Pack::native("native:gcd").unwrap();
    /// let items = pack.sample("gcd", &[7; 32], tasks::Split::Train, 1, 3);
    /// let mut written = tasks::StaticPack::of(&items[0]);
    /// assert!(items.iter().all(|item| written.add(item)));
    /// let files = written.files("# Three of them\n").unwrap();
    /// assert_eq!(files.get("items.jsonl").unwrap().split(|byte| *byte == b'\n').count(), 4);
    /// ```
    pub fn of(item: &Item) -> Self {
        let Reading { extract, form } = item.reading();
        let answer = AnswerToml { form, extract };
        let (name, version) = (item.family().to_owned(), "1.0.0".to_owned());
        let task = match item.origin() {
            Some(origin) => TaskToml {
                name,
                version,
                licence: origin.definition.licence.clone(),
                authors: origin.definition.authors.clone(),
                summary: origin.definition.summary.clone(),
                parent: Some(origin.pack.to_string()),
                prompt: origin.definition.prompt.clone(),
                answer,
            },
            None => TaskToml {
                name,
                version,
                licence: env!("CARGO_PKG_LICENSE").to_owned(),
                authors: Vec::new(),
                summary: format!("Items of the native family {}.", item.family()),
                parent: None,
                prompt: Prompt::default(),
                answer,
            },
        };
        Self { task, lines: BTreeMap::new(), bytes: 0 }
    }

    /// Adds an item; whether there was room for it.
    pub fn add(&mut self, item: &Item) -> bool {
        let id = item.name();
        if self.lines.contains_key(&id) {
            return true;
        }
        // Nothing in it that JSON lacks.
        let text = serde_json::to_string(&line(id.clone(), item)).unwrap_or_default() + "\n";
        if self.lines.len() == ITEMS_MAX || self.bytes + text.len() > LINES_BYTES_MAX {
            return false;
        }
        self.bytes += text.len();
        self.lines.insert(id, text);
        true
    }

    /// Items so far.
    pub fn items(&self) -> usize {
        self.lines.len()
    }

    /// The files of the pack, with `card` as its `README.md`.
    ///
    /// # Errors
    /// A definition or a card that is too long.
    pub fn files(self, card: &str) -> Result<PackFiles, PackError> {
        // Plain text only.
        let task = toml::to_string(&self.task).unwrap_or_default();
        let items: String = self.lines.into_values().collect();
        let file = |path: &str, text: String| (path.to_owned(), text.into_bytes());
        let files = [file(TASK_TOML, task), file("items.jsonl", items), file("README.md", card.to_owned())];
        PackFiles::new(files.into())
    }
}

fn line(id: String, item: &Item) -> Line {
    let choices = item.origin().map_or(Vec::new(), |origin| origin.choices.clone());
    let answer = item.gold().map(|gold| gold.answer().as_str());
    // A choice may be called `B` and stand at `A`: its text says which one is meant, its letter does not.
    let chosen = answer.filter(|_| item.reading().form == Form::Choice).and_then(|letter| {
        let at = usize::from(letter.bytes().next()?.checked_sub(b'A')?);
        let choice = choices.get(at)?;
        (choices.iter().position(|other| other == choice) == Some(at)).then(|| choice.clone())
    });
    Line {
        number: 0,
        id,
        question: item.question().to_owned(),
        answer: chosen.or(answer.map(str::to_owned)),
        choices,
        level: item.level(),
        trace: item.trace().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pack, Split};

    fn no_sandbox(_: &crate::Program) -> Result<crate::Made, PackError> {
        panic!("a static pack has no script")
    }

    fn open(files: &PackFiles) -> Pack {
        Pack::open(files, &no_sandbox).unwrap()
    }

    fn written(items: &[Item]) -> PackFiles {
        let mut written = StaticPack::of(&items[0]);
        assert!(items.iter().all(|item| written.add(item)));
        assert_eq!(written.items(), items.len());
        written.files("# Card\n").unwrap()
    }

    /// What a policy and a judge see of an item.
    fn seen(item: &Item) -> (String, String, u8, Split, Option<String>, Option<String>) {
        let gold = item.gold().map(|gold| item.direct(gold.answer()));
        (item.name(), item.prompt().to_owned(), item.level(), item.split(), gold, item.worked())
    }

    fn by_name(items: &[Item]) -> Vec<Item> {
        let mut items = items.to_vec();
        items.sort_by_key(Item::name);
        items
    }

    #[test]
    fn every_native_family_is_itself_when_it_is_written_down() {
        for family in crate::families() {
            let pack = Pack::native(&format!("native:{}", family.name())).unwrap();
            let levels = pack.levels();
            let sample = |level: u8| pack.sample(family.name(), &[3; 32], Split::Train, level, 4);
            let items: Vec<Item> = levels.into_iter().flat_map(sample).collect();
            let again = open(&written(&items));
            assert_eq!(again.name(), family.name());
            let seen_again: Vec<_> = again.items(Split::Train).iter().map(seen).collect();
            assert_eq!(seen_again, by_name(&items).iter().map(seen).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_folder_keeps_its_template_its_choices_and_its_ids() {
        let task = "name = \"cities\"\nversion = \"2\"\nlicence = \"CC0-1.0\"\nauthors = [\"A \\\"B\\\"\"]\n\
            [source]\nfile = \"q.jsonl\"\n[source.fields]\nquestion = \"ask\"\n\
            [prompt]\ntemplate = \"Q: {question}\\n{choices}\\nA:\"\n[answer]\nform = \"choice\"\nextract = \"letter\"\n";
        let items: String = (0..40)
            .map(|i| format!("{{\"id\": \"c{i}\", \"ask\": \"{i}?\", \"choices\": [\"B\", \"A\", \"{{question}}\"], \"answer\": \"A\"}}\n"))
            .collect();
        let file = |path: &str, text: String| (path.to_owned(), text.into_bytes());
        let files = PackFiles::new([file(TASK_TOML, task.into()), file("q.jsonl", items)].into()).unwrap();
        let pack = open(&files);
        let items: Vec<Item> =
            [Split::Train, Split::Test].iter().flat_map(|split| pack.items(*split)).cloned().collect();
        assert_eq!(items[0].gold().unwrap().answer().as_str(), "B", "the second choice is called A");
        let again = written(&items);
        let definition = crate::Definition::read(&again).unwrap();
        assert_eq!(
            (definition.parent.unwrap(), &definition.licence[..]),
            (files.id().to_string(), "CC0-1.0")
        );
        assert_eq!(definition.authors, ["A \"B\""]);
        let again = open(&again);
        let items_again: Vec<Item> =
            [Split::Train, Split::Test].iter().flat_map(|split| again.items(*split)).cloned().collect();
        let all = |items: &[Item]| by_name(items).iter().map(seen).collect::<Vec<_>>();
        assert_eq!(all(&items_again), all(&items));
    }

    #[test]
    fn an_item_counts_once_and_a_full_pack_says_so() {
        let pack = Pack::native("native:gcd").unwrap();
        let items = pack.sample("gcd", &[3; 32], Split::Train, 1, 2);
        let mut written = StaticPack::of(&items[0]);
        assert!(written.add(&items[0]) && written.add(&items[0]));
        assert_eq!(written.items(), 1);
        written.bytes = LINES_BYTES_MAX;
        assert!(written.add(&items[0]) && !written.add(&items[1]));
    }
}
