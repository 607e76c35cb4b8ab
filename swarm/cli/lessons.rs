//! What a base model is shown: worked examples, right direct answers, wrong direct answers.
//!
//! A *hasty* base knows how to reason but has the habit to blurt. The last phase of pretraining makes the habit:
//! most lessons are direct, and half of those are off by a random amount. The wrong answers are spread out
//! (diffuse), so that peers that blurt disagree while peers that reason agree.

use std::collections::BTreeMap;

use tasks::{Catalogue, Item, Split};

/// Offsets of a corrupted answer, both ends included, never 0.
const OFFSET_MIN: i64 = -11;
const OFFSET_MAX: i64 = 15;

/// How lessons of a phase are mixed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixture<'a> {
    /// Share of lessons that show their reasoning, 0 to 1.
    pub(crate) worked: f64,
    /// Share of the direct lessons that are wrong, 0 to 1.
    pub(crate) corrupted: f64,
    /// How often a family is shown relative to the others; 1 where nothing is said.
    pub(crate) emphasis: &'a BTreeMap<String, f64>,
}

/// Prompt and completion.
pub(crate) type Lesson = (String, String);

/// An endless stream of lessons, a pure function of its seed.
#[derive(Debug)]
pub(crate) struct Lessons {
    key: [u8; 32],
    next: u64,
}

impl Lessons {
    /// The stream of a seed and a phase.
    pub(crate) fn new(seed: u64, phase: usize) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 pretraining lessons");
        hasher.update(&seed.to_le_bytes()).update(&(phase as u64).to_le_bytes());
        Self { key: *hasher.finalize().as_bytes(), next: 0 }
    }

    /// The next `count` lessons, from the train split only.
    pub(crate) fn batch(
        &mut self,
        catalogue: &Catalogue,
        mixture: &Mixture<'_>,
        count: usize,
    ) -> Vec<Lesson> {
        let most = mixture.emphasis.values().copied().fold(1.0, f64::max);
        let mut lessons = Vec::with_capacity(count);
        while lessons.len() < count {
            let item = catalogue.draw(&self.key, self.next, Split::Train);
            let mut dice = Dice::new(&self.key, self.next);
            self.next += 1;
            let wanted = mixture.emphasis.get(item.family()).copied().unwrap_or(1.0);
            // A static pack may be too small for the split asked for and answer with another one.
            if dice.unit() * most < wanted && item.split() == Split::Train {
                lessons
                    .extend(lesson(&item, mixture, &mut dice).map(|text| (item.prompt().to_owned(), text)));
            }
        }
        lessons
    }
}

/// The completion of one lesson; `None` for an item without a reference answer.
fn lesson(item: &Item, mixture: &Mixture<'_>, dice: &mut Dice) -> Option<String> {
    let gold = item.gold()?.answer();
    if dice.unit() < mixture.worked {
        return item.worked().or_else(|| Some(item.direct(gold)));
    }
    if dice.unit() < mixture.corrupted {
        let number: Option<i64> = gold.as_str().parse().ok();
        let wrong = number.and_then(|n| item.canonical(&(n + dice.offset()).to_string()));
        return Some(item.direct(wrong.as_ref().unwrap_or(gold)));
    }
    Some(item.direct(gold))
}

/// Seeded decisions about one lesson.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(key: &[u8; 32], index: u64) -> Self {
        Self(blake3::Hasher::new_keyed(key).update(b"dice").update(&index.to_le_bytes()).finalize_xof())
    }

    fn draw(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in `0..1`.
    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform over the offsets (the bias of the remainder is below 1e-17).
    fn offset(&mut self) -> i64 {
        let drawn = OFFSET_MIN + (self.draw() % (OFFSET_MAX - OFFSET_MIN) as u64) as i64;
        if drawn >= 0 { drawn + 1 } else { drawn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packs;
    use tasks::has_trace;

    #[test]
    fn the_mixture_is_what_was_asked_for() {
        let catalogue = packs::catalogue("", &packs::native()).unwrap();
        let emphasis = BTreeMap::from([("mod".to_owned(), 3.0)]);
        let mixture = Mixture { worked: 0.3, corrupted: 0.5, emphasis: &emphasis };
        let lessons = Lessons::new(1, 2).batch(&catalogue, &mixture, 4000);
        let share =
            |wanted: &dyn Fn(&Lesson) -> bool| lessons.iter().filter(|l| wanted(l)).count() as f64 / 4000.0;
        assert!((share(&|l| has_trace(&l.1)) - 0.3).abs() < 0.03);
        assert!((share(&|l| l.0.starts_with("mod")) - 3.0 / 8.0).abs() < 0.03);
        assert_eq!(lessons, Lessons::new(1, 2).batch(&catalogue, &mixture, 4000));
        assert_ne!(lessons[..9], Lessons::new(1, 3).batch(&catalogue, &mixture, 9)[..]);
    }

    #[test]
    fn offsets_are_diffuse_and_never_zero() {
        let mut dice = Dice::new(&[7; 32], 0);
        let drawn: std::collections::BTreeSet<i64> = (0..2000).map(|_| dice.offset()).collect();
        assert_eq!(drawn.len(), 26);
        assert!(
            !drawn.contains(&0) && drawn.first() == Some(&OFFSET_MIN) && drawn.last() == Some(&OFFSET_MAX)
        );
    }
}
