//! The packs of a swarm, and what is drawn from them: pretraining items, the prompts of a round, the
//! fixed items of an evaluation. All pure functions of their arguments, the same on every machine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::item::{Item, PackId, Split};
use crate::pack::Pack;
use crate::rng::Rng;

/// Packs of a catalogue.
pub const PACKS_MAX: usize = 64;
/// Weight of one pack.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Draws tried for one distinct item before a pack counts as exhausted.
const TRIES_MAX: u64 = 64;

/// Why packs make no catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Nothing to draw from.
    #[error(
        "no pack with a weight from 1 to {WEIGHT_MAX} (at most {PACKS_MAX} packs); hint: name one, such as native:six"
    )]
    NoPacks,
    /// Two families of one name cannot be told apart in results.
    #[error("two packs have a family named {0:?}; hint: rename one of the packs")]
    SameFamily(String),
    /// A round needs items to train on.
    #[error("pack {0:?} has no item in the train split; hint: add items")]
    NothingToTrainOn(String),
}

/// Weighted packs.
#[derive(Clone)]
pub struct Catalogue {
    packs: Vec<(Pack, u32)>,
    /// (family, pack index), in order of packs.
    families: Vec<(String, usize)>,
    /// The levels of each family, in the same order.
    levels: Vec<Vec<u8>>,
    /// Packs that nothing is drawn from until [`Catalogue::with`] names them.
    aside: BTreeMap<PackId, Pack>,
}

impl Catalogue {
    /// A catalogue of packs and how often each is drawn, relative to the others.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn new(packs: Vec<(Pack, u32)>) -> Result<Self, CatalogueError> {
        let packs: Vec<(Pack, u32)> = packs.into_iter().filter(|(_, weight)| *weight > 0).collect();
        if packs.is_empty() || packs.len() > PACKS_MAX || packs.iter().any(|(_, weight)| *weight > WEIGHT_MAX)
        {
            return Err(CatalogueError::NoPacks);
        }
        let mut families: Vec<(String, usize)> = Vec::new();
        for (index, (pack, _)) in packs.iter().enumerate() {
            for family in pack.families() {
                if families.iter().any(|(known, _)| *known == family) {
                    return Err(CatalogueError::SameFamily(family));
                }
                if pack.draw(&family, &[0; 32], 0, Split::Train).is_none() {
                    return Err(CatalogueError::NothingToTrainOn(family));
                }
                families.push((family, index));
            }
        }
        let levels = families.iter().map(|(family, pack)| packs[*pack].0.levels_of(family)).collect();
        Ok(Self { packs, families, levels, aside: BTreeMap::new() })
    }

    /// Keeps a pack that a swarm may take in later.
    pub fn set_aside(&mut self, pack: Pack) {
        self.aside.insert(pack.id(), pack);
    }

    /// Keeps a pack that was set aside no longer.
    pub fn forget(&mut self, id: &PackId) {
        self.aside.remove(id);
    }

    /// Whether a pack was set aside.
    pub fn has_aside(&self, id: &PackId) -> bool {
        self.aside.contains_key(id)
    }

    /// This catalogue with more packs and their weights, by content address. One that makes no catalogue with those
    /// before it (two families of one name) is left out, alike for everybody.
    ///
    /// # Errors
    /// The first pack that was not set aside.
    pub fn with(&self, more: &BTreeMap<PackId, u32>) -> Result<Cow<'_, Self>, PackId> {
        if let Some(missing) = more.keys().find(|id| !self.aside.contains_key(id)) {
            return Err(*missing);
        }
        let mut catalogue = Cow::Borrowed(self);
        for (id, weight) in more {
            let pack = self.aside.get(id).map(|pack| (pack.clone(), *weight));
            let packs = catalogue.packs.iter().cloned().chain(pack).collect();
            if let Ok(wider) = Self::new(packs) {
                catalogue = Cow::Owned(wider);
            }
        }
        Ok(catalogue)
    }

    /// Names of all families, in order of packs.
    pub fn families(&self) -> Vec<String> {
        self.families.iter().map(|(family, _)| family.clone()).collect()
    }

    /// The packs and their weights.
    pub fn packs(&self) -> &[(Pack, u32)] {
        &self.packs
    }

    /// Item `index` of the endless stream under `key`; families mixed by weight. An item of another
    /// split stands in where a small static pack has none of the wanted one in the train split.
    pub fn draw(&self, key: &[u8; 32], index: u64, split: Split) -> Item {
        let mut rng = Rng::keyed(key, &[b"family", &index.to_le_bytes()]);
        loop {
            let (family, pack) = self.pick(&mut rng);
            if let Some(item) = self.packs[pack].0.draw(family, key, index, split) {
                return item;
            }
            // A family without items of this split: another one answers. `new` made sure that every
            // family has training items, so only small static packs in other splits come here.
            if !self
                .families
                .iter()
                .any(|(family, pack)| self.packs[*pack].0.draw(family, key, index, split).is_some())
            {
                return self.draw(key, index, Split::Train);
            }
        }
    }

    /// A family, drawn by the weight of its pack spread evenly over the pack's families.
    fn pick(&self, rng: &mut Rng) -> (&str, usize) {
        let total: u64 = self.packs.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = rng.below(total);
        for (index, (_, weight)) in self.packs.iter().enumerate() {
            if left < u64::from(*weight) {
                let own: Vec<&str> = self
                    .families
                    .iter()
                    .filter(|(_, pack)| *pack == index)
                    .map(|(family, _)| family.as_str())
                    .collect();
                return (own[rng.below(own.len() as u64) as usize], index);
            }
            left -= u64::from(*weight);
        }
        (&self.families[0].0, self.families[0].1)
    }

    /// The prompts of a round: distinct items of the train split, the families in proportion to their
    /// weights (what a fraction of a prompt is left over goes by the beacon), in an order drawn by the
    /// beacon. Fewer than `count` when the packs have no more distinct items.
    pub fn schedule(&self, beacon: &[u8; 32], count: usize) -> Vec<Item> {
        self.schedule_up_to(beacon, count, |_| u8::MAX)
    }

    /// [`schedule`](Self::schedule) of a swarm that opens its levels one by one: `open` says how many of a family's
    /// are open above its lowest.
    pub fn schedule_up_to(&self, beacon: &[u8; 32], count: usize, open: impl Fn(&str) -> u8) -> Vec<Item> {
        let mut rng = Rng::keyed(beacon, &[b"schedule"]);
        let mut families = self.apportion(count, &mut rng);
        for i in (1..families.len()).rev() {
            families.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let mut seen = BTreeSet::new();
        let mut items = Vec::with_capacity(count);
        let mut index = 0;
        for family in families {
            let (name, pack) = &self.families[family];
            let levels = &self.levels[family];
            // Those past the last rank are all of them.
            let highest = levels.get(usize::from(open(name))).copied().unwrap_or(u8::MAX);
            for _ in 0..TRIES_MAX {
                index += 1;
                let Some(item) = self.packs[*pack].0.draw_up_to(name, beacon, index, Split::Train, highest)
                else {
                    break;
                };
                if seen.insert(item.id()) {
                    items.push(item);
                    break;
                }
            }
        }
        items
    }

    /// How many levels of its family are below an item's, and how many there are.
    pub fn rank(&self, item: &Item) -> Option<(u8, u8)> {
        let family = self.families.iter().position(|(family, _)| family == item.family())?;
        let levels = &self.levels[family];
        let rank = levels.iter().position(|level| *level == item.level())?;
        Some((u8::try_from(rank).ok()?, u8::try_from(levels.len()).ok()?))
    }

    /// `count` family positions by largest remainder, ties drawn.
    fn apportion(&self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let total: u64 = self.packs.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = Vec::new();
        let mut chosen = Vec::with_capacity(count);
        for (position, (_, pack)) in self.families.iter().enumerate() {
            let (pack, weight) = &self.packs[*pack];
            let (share, whole) = (count as u64 * u64::from(*weight), total * pack.families().len() as u64);
            chosen.extend(std::iter::repeat_n(position, (share / whole) as usize));
            left.push((std::cmp::Reverse(share % whole * total / whole), rng.below(u64::MAX), position));
        }
        left.sort_unstable();
        let missing = count - chosen.len().min(count);
        chosen.extend(left.iter().cycle().take(missing).map(|(_, _, position)| *position));
        chosen
    }

    /// The fixed items of an evaluation: up to `per_family` distinct ones of each family, the same for
    /// everybody, in order of families.
    pub fn held_out(&self, split: Split, per_family: usize) -> Vec<Item> {
        let key = blake3::derive_key("murmur v1 held-out items", split.as_str().as_bytes());
        let mut items = Vec::new();
        for (family, pack) in &self.families {
            let mut seen = BTreeSet::new();
            let draws = (0..per_family as u64 * TRIES_MAX)
                .map_while(|i| self.packs[*pack].0.draw(family, &key, i, split));
            items.extend(draws.filter(|item| seen.insert(item.id())).take(per_family));
        }
        items
    }
}
