//! A task pack: native families, or a folder of files.
//!
//! A folder has a `task.toml` (see [`Definition`]) and either a file of items or a script that makes them. The identity
//! of a pack is the hash of its content.

use std::collections::{BTreeMap, BTreeSet};

use crate::answer::Reading;
use crate::definition::{Definition, Kind};
use crate::error::{PackError, at};
use crate::families::{self, Family, SIX};
use crate::files::PackFiles;
use crate::item::{Item, PackId, Split};
use crate::lines::{self, ITEMS_BYTES_MAX, Line};
use crate::rng::Rng;
use crate::script::{Made, Program};

/// Draws until a native item of the wanted split is found; one in eight fits, so this never ends early.
const DRAWS_MAX: u64 = 1_000;

/// Draws for each item of a sample.
const SAMPLE_DRAWS: u64 = 256;

/// What runs scripts: [`Program::run`], or something that runs it in a process with limits.
pub type Sandbox<'a> = &'a dyn Fn(&Program) -> Result<Made, PackError>;

#[derive(Clone)]
enum Source {
    Native(&'static [Family]),
    Items(BTreeMap<Split, Vec<Item>>),
}

/// A pack that was checked enough to draw from.
#[derive(Clone)]
pub struct Pack {
    id: PackId,
    name: String,
    pin: String,
    source: Source,
}

impl Pack {
    /// The families `sum`, `cnt`, `max`, `mod`, `add`, `seq`.
    pub fn native_six() -> Self {
        Self::of_families("six", &SIX)
    }

    /// A native pack by the name a manifest gives it: `native:six`, or `native:` and the name of a category or of a
    /// family.
    ///
    /// ```
    /// assert_eq!(tasks::Pack::native("native:gcd").unwrap().families(), ["gcd"]);
    /// assert!(tasks::Pack::native("native:logic").unwrap().families().contains(&"knights".to_string()));
    /// assert!(tasks::Pack::native("native:nothing").is_none());
    /// ```
    pub fn native(name: &str) -> Option<Self> {
        let short = name.strip_prefix("native:")?;
        Some(Self::of_families(short, families::named(short)?))
    }

    fn of_families(name: &str, families: &'static [Family]) -> Self {
        let id = blake3::derive_key("murmur v1 native pack", format!("{name} 1").as_bytes());
        let name = format!("native:{name}");
        Self { id: PackId(id), pin: name.clone(), name, source: Source::Native(families) }
    }

    /// A pack from its files; `sandbox` runs its script if it has one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open(files: &PackFiles, sandbox: Sandbox<'_>) -> Result<Self, PackError> {
        Ok(Opened::open(files, sandbox)?.pack)
    }

    /// Content address.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// `native:NAME`, or the name in `task.toml`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a manifest calls it: `native:NAME`, or `b3:` and the content address.
    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// Names of its families; a pack from a folder is one family.
    pub fn families(&self) -> Vec<String> {
        match &self.source {
            Source::Native(families) => families.iter().map(|family| family.name.to_string()).collect(),
            Source::Items(_) => vec![self.name.clone()],
        }
    }

    /// Item `index` of a family and split under `key`: random access, the same everywhere. `None` when
    /// a pack has no item of that split, or the family is unknown.
    pub(crate) fn draw(&self, family: &str, key: &[u8; 32], index: u64, split: Split) -> Option<Item> {
        let parts = [&self.id.0[..], family.as_bytes(), split.as_str().as_bytes(), &index.to_le_bytes()];
        let mut rng = Rng::keyed(key, &parts);
        match &self.source {
            Source::Items(items) => {
                let items = items.get(&split)?;
                items.get(rng.below(items.len() as u64) as usize).cloned()
            }
            Source::Native(families) => {
                let family = families.iter().find(|known| known.name == family)?;
                (0..DRAWS_MAX).find_map(|_| {
                    let level = family.any_level(&mut rng);
                    let item = family.any_item(&self.id, &mut rng, level);
                    (item.split() == split).then_some(item)
                })
            }
        }
    }

    /// Up to `count` distinct items of a family, split and level, drawn under `key`.
    pub fn sample(&self, family: &str, key: &[u8; 32], split: Split, level: u8, count: usize) -> Vec<Item> {
        let mut seen = BTreeSet::new();
        // A level is rarely less than one in 32 of a pack; a small pack is drawn from until it is exhausted.
        let draws = (count as u64).saturating_mul(SAMPLE_DRAWS);
        let drawn = (0..draws).map_while(|index| self.draw(family, key, index, split));
        drawn.filter(|item| item.level() == level && seen.insert(item.id())).take(count).collect()
    }

    /// Items of a split of a pack from a folder, in file order; empty for a native pack.
    pub fn items(&self, split: Split) -> &[Item] {
        match &self.source {
            Source::Items(items) => items.get(&split).map_or(&[], Vec::as_slice),
            Source::Native(_) => &[],
        }
    }

    /// The levels of its items, in order.
    pub fn levels(&self) -> BTreeSet<u8> {
        match &self.source {
            Source::Items(items) => items.values().flatten().map(Item::level).collect(),
            Source::Native(families) => families.iter().flat_map(Family::levels).collect(),
        }
    }
}

/// A pack with all that was read on the way to it.
pub(crate) struct Opened {
    pub(crate) pack: Pack,
    pub(crate) definition: Definition,
    pub(crate) lines: Vec<Line>,
    pub(crate) made: Option<Made>,
}

impl Opened {
    pub(crate) fn open(files: &PackFiles, sandbox: Sandbox<'_>) -> Result<Self, PackError> {
        let definition = Definition::read(files)?;
        let (lines, made) = match definition.kind() {
            Kind::Items => (read_items(&definition, files)?, None),
            Kind::Script => {
                let made = sandbox(&Program::of(&definition, files)?)?;
                (read_made(&definition, &made)?, Some(made))
            }
        };
        let id = files.id();
        let mut items: BTreeMap<Split, Vec<Item>> = BTreeMap::new();
        for line in &lines {
            let item = item(&id, &definition, line);
            items.entry(item.split()).or_default().push(item);
        }
        let (name, pin) = (definition.name.clone(), id.to_string());
        Ok(Self { pack: Pack { id, name, pin, source: Source::Items(items) }, definition, lines, made })
    }
}

fn read_items(definition: &Definition, files: &PackFiles) -> Result<Vec<Line>, PackError> {
    let file = definition.file();
    let Some(text) = files.text(file, ITEMS_BYTES_MAX)? else {
        let hint =
            "write one {\"question\": \"…\", \"answer\": \"…\"} a line, or name another file under [source]";
        return Err(at(file, 0, "is missing", hint));
    };
    lines::read(definition, file, text)
}

fn read_made(definition: &Definition, made: &Made) -> Result<Vec<Line>, PackError> {
    // Errors of lines that nobody wrote are told as errors of the script.
    lines::read(definition, "", &made.items).map_err(|error| {
        let line = error.line.checked_sub(1).and_then(|at| made.items.lines().nth(at)).unwrap_or_default();
        let shown: String = line.chars().take(120).collect();
        at(definition.file(), 0, format!("makes a wrong item: {}: {shown}", error.message), error.hint)
    })
}

fn item(pack: &PackId, definition: &Definition, line: &Line) -> Item {
    let reading: Reading = definition.reading();
    let prompt = definition.prompt.show(&line.question, &line.choices);
    let prompt = Some(prompt).filter(|prompt| *prompt != line.question);
    let gold = line.answer.as_deref().and_then(|text| reading.form.canonical(text));
    let question = line.question.clone();
    Item::presented(pack, &definition.name, line.level, question, prompt, reading, gold, line.trace.clone())
}
