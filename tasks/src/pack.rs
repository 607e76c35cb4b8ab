//! A task pack: native families, or a folder of files.
//!
//! A folder has a `task.toml` (see [`Definition`]) and either a file of items or a script that makes them. The identity
//! of a pack is the hash of its content.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

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
    Items(Arc<BTreeMap<Split, Vec<Item>>>),
}

/// A pack that was checked enough to draw from.
#[derive(Clone)]
pub struct Pack {
    id: PackId,
    name: String,
    pin: String,
    /// Levels that native families are drawn from.
    levels: RangeInclusive<u8>,
    source: Source,
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pack({} {})", self.name, self.pin)
    }
}

/// What a manifest calls a pack, without the levels behind `@`, and these; `None` when they are not such levels.
///
/// ```
/// assert_eq!(tasks::split_levels("native:gcd@1-3"), Some(("native:gcd", Some(1..=3))));
/// assert_eq!(tasks::split_levels("native:six"), Some(("native:six", None)));
/// assert_eq!(tasks::split_levels("native:gcd@3-1"), None);
/// ```
pub fn split_levels(pin: &str) -> Option<(&str, Option<RangeInclusive<u8>>)> {
    let Some((name, levels)) = pin.rsplit_once('@') else { return Some((pin, None)) };
    let (low, high) = levels.split_once('-').unwrap_or((levels, levels));
    let (low, high): (u8, u8) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((name, Some(low..=high)))
}

impl Pack {
    /// The families `sum`, `cnt`, `max`, `mod`, `add`, `seq`.
    pub fn native_six() -> Self {
        Self::of_families("six", &SIX)
    }

    /// A native pack by the name a manifest gives it: `native:six`, or `native:` and a category or a family; `@`
    /// and levels may follow.
    ///
    /// ```
    /// let hard = tasks::Pack::native("native:gcd@4-5").unwrap();
    /// assert_eq!((hard.families(), hard.pin().as_str()), (vec!["gcd".into()], "native:gcd@4-5"));
    /// assert!(tasks::Pack::native("native:gcd@9").is_none());
    /// assert!(tasks::Pack::native("native:logic").unwrap().families().contains(&"knights".to_string()));
    /// ```
    pub fn native(pin: &str) -> Option<Self> {
        let (name, levels) = split_levels(pin)?;
        let name = name.strip_prefix("native:")?;
        let pack = Self::of_families(name, families::named(name)?);
        levels.map_or(Some(pack.clone()), |levels| pack.with_levels(levels))
    }

    fn of_families(name: &str, families: &'static [Family]) -> Self {
        let id = blake3::derive_key("murmur v1 native pack", format!("{name} 1").as_bytes());
        let name = format!("native:{name}");
        Self {
            id: PackId(id),
            pin: name.clone(),
            name,
            levels: 0..=u8::MAX,
            source: Source::Native(families),
        }
    }

    /// The same pack, with items of these levels only; `None` when it has none of them in the train split.
    pub fn with_levels(mut self, levels: RangeInclusive<u8>) -> Option<Self> {
        if !self.levels().iter().any(|level| levels.contains(level)) {
            return None;
        }
        if let Source::Items(items) = &mut self.source {
            let items = Arc::make_mut(items);
            items.values_mut().for_each(|items| items.retain(|item| levels.contains(&item.level())));
            items.get(&Split::Train).filter(|items| !items.is_empty())?;
        }
        let (low, high) = (levels.start(), levels.end());
        let range = if low == high { low.to_string() } else { format!("{low}-{high}") };
        self.pin = format!("{}@{range}", self.pin);
        self.levels = levels;
        Some(self)
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

    /// What a manifest calls it: `native:NAME`, or `b3:` and the content address; `@` and levels behind, if not all.
    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// Names of its families; a pack from a folder is one family.
    pub fn families(&self) -> Vec<String> {
        match &self.source {
            Source::Native(families) => {
                let has = |family: &&Family| family.levels().any(|level| self.levels.contains(&level));
                families.iter().filter(has).map(|family| family.name.to_string()).collect()
            }
            Source::Items(_) => vec![self.name.clone()],
        }
    }

    /// Item `index` of a family and split under `key`: random access, the same everywhere. `None` when
    /// a pack has no item of that split, or the family is unknown.
    pub(crate) fn draw(&self, family: &str, key: &[u8; 32], index: u64, split: Split) -> Option<Item> {
        self.draw_up_to(family, key, index, split, u8::MAX)
    }

    /// [`draw`](Self::draw) from levels up to `highest`.
    pub(crate) fn draw_up_to(
        &self,
        family: &str,
        key: &[u8; 32],
        index: u64,
        split: Split,
        highest: u8,
    ) -> Option<Item> {
        let parts = [&self.id.0[..], family.as_bytes(), split.as_str().as_bytes(), &index.to_le_bytes()];
        let mut rng = Rng::keyed(key, &parts);
        match &self.source {
            Source::Items(items) => {
                let items = items.get(&split)?;
                if highest == u8::MAX {
                    return items.get(rng.below(items.len() as u64) as usize).cloned();
                }
                let open = items.iter().filter(|item| item.level() <= highest);
                let count = open.clone().count() as u64;
                if count == 0 { None } else { open.clone().nth(rng.below(count) as usize).cloned() }
            }
            Source::Native(families) => {
                let family = families.iter().find(|known| known.name == family)?;
                let mut levels: Vec<u8> =
                    family.levels().filter(|level| self.levels.contains(level)).collect();
                levels.retain(|level| *level <= highest);
                // A family of one level draws nothing to choose it: prompts are what they were before levels.
                let level = if levels.len() > 1 { rng.below(levels.len() as u64) } else { 0 };
                let level = *levels.get(level as usize)?;
                (0..DRAWS_MAX).find_map(|_| {
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

    /// The levels of a family that training items are drawn from, in order.
    pub(crate) fn levels_of(&self, family: &str) -> Vec<u8> {
        match &self.source {
            Source::Items(items) => {
                let items = items.get(&Split::Train).into_iter().flatten();
                items.map(Item::level).collect::<BTreeSet<_>>().into_iter().collect()
            }
            Source::Native(families) => {
                let family = families.iter().find(|known| known.name == family);
                let levels = family.into_iter().flat_map(Family::levels);
                levels.filter(|level| self.levels.contains(level)).collect()
            }
        }
    }

    /// The levels of its items, in order.
    pub fn levels(&self) -> BTreeSet<u8> {
        match &self.source {
            Source::Items(items) => items.values().flatten().map(Item::level).collect(),
            Source::Native(families) => {
                let levels = families.iter().flat_map(Family::levels);
                levels.filter(|level| self.levels.contains(level)).collect()
            }
        }
    }
}

/// A pack with all that was read on the way to it.
pub(crate) struct Opened {
    pub(crate) pack: Pack,
    pub(crate) definition: Arc<Definition>,
    pub(crate) lines: Vec<Line>,
    pub(crate) made: Option<Made>,
}

impl Opened {
    pub(crate) fn open(files: &PackFiles, sandbox: Sandbox<'_>) -> Result<Self, PackError> {
        let definition = Arc::new(Definition::read(files)?);
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
            let item = Item::written(&id, &definition, line);
            items.entry(item.split()).or_default().push(item);
        }
        let (name, pin) = (definition.name.clone(), id.to_string());
        let pack = Pack { id, name, pin, levels: 0..=u8::MAX, source: Source::Items(Arc::new(items)) };
        Ok(Self { pack, definition, lines, made })
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
