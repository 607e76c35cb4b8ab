//! The native families: small problems drawn by a seeded generator, each with one short right answer.
//!
//! A family is one function from randomness and the parameters of a level to a [`Draft`]. The table of
//! each category names its families, what they ask, how they are answered and what makes a level
//! harder; `GALLERY.md` shows an example of every level. Six families are older than levels and have
//! one only, numbered 0; bases were trained on their text, so it must never change.

mod algebra;
mod algorithmic;
mod arithmetic;
mod code;
mod cognition;
mod draw;
mod games;
mod geometry;
mod graphs;
mod induction;
mod logic;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;

use crate::form::Form;
use crate::item::{Item, PackId};
use crate::rng::Rng;

/// Levels of a family, from 1, where it has any.
pub const LEVELS: usize = 5;
/// Parameters of a level.
const PARAMETERS_MAX: usize = 3;

/// The parameters of a level, in the order of the family's table; 0 where it has fewer.
pub(crate) type Parameters = [i64; PARAMETERS_MAX];

/// What a family is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Whole numbers, fractions, dates and times.
    Arithmetic,
    /// Unknowns, polynomials, matrices.
    Algebra,
    /// A procedure carried out on text, lists or grids.
    Algorithmic,
    /// What follows from statements.
    Logic,
    /// Positions of games and puzzles.
    Games,
    /// Points, angles, areas.
    Geometry,
    /// Paths, trees, orders, relations.
    Graphs,
    /// A rule found from examples.
    Induction,
    /// Attention, memory and the mind's eye.
    Cognition,
    /// What a program computes.
    Code,
}

impl Category {
    const fn family(
        self,
        name: &'static str,
        form: Form,
        asks: &'static str,
        parameters: &'static [(&'static str, [i64; LEVELS])],
        draft: fn(&mut Rng, Parameters) -> Draft,
    ) -> Family {
        Family { name, category: self, form, asks, parameters, draft }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arithmetic => "arithmetic",
            Self::Algebra => "algebra",
            Self::Algorithmic => "algorithmic",
            Self::Logic => "logic",
            Self::Games => "games",
            Self::Geometry => "geometry",
            Self::Graphs => "graphs",
            Self::Induction => "induction",
            Self::Cognition => "cognition",
            Self::Code => "code",
        })
    }
}

/// A problem before it is an item.
pub(crate) struct Draft {
    pub(crate) question: String,
    pub(crate) trace: Option<String>,
    pub(crate) answer: String,
}

impl Draft {
    fn new(question: impl Into<String>, answer: impl ToString) -> Self {
        Self { question: question.into(), trace: None, answer: answer.to_string() }
    }

    /// With the steps that lead to the answer.
    fn worked(self, trace: impl Into<String>) -> Self {
        Self { trace: Some(trace.into()), ..self }
    }
}

/// A native family.
#[derive(Clone, Copy)]
pub struct Family {
    pub(crate) name: &'static str,
    category: Category,
    form: Form,
    asks: &'static str,
    parameters: &'static [(&'static str, [i64; LEVELS])],
    draft: fn(&mut Rng, Parameters) -> Draft,
}

impl Family {
    /// Name, such as `gcd`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is about.
    pub fn category(&self) -> Category {
        self.category
    }

    /// What its answers look like.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What it asks, in a sentence.
    pub fn asks(&self) -> &'static str {
        self.asks
    }

    /// What makes a level harder: the name of a parameter and its value at each level.
    pub fn parameters(&self) -> &'static [(&'static str, [i64; LEVELS])] {
        self.parameters
    }

    /// Its levels: 1 to [`LEVELS`], or 0 only.
    pub fn levels(&self) -> RangeInclusive<u8> {
        if self.parameters.is_empty() { 0..=0 } else { 1..=LEVELS as u8 }
    }

    /// A problem of a level; a level that the family does not have counts as its nearest.
    pub(crate) fn draft(&self, rng: &mut Rng, level: u8) -> Draft {
        let level = usize::from(level).clamp(1, LEVELS) - 1;
        let mut values = [0; PARAMETERS_MAX];
        for (value, (_, by_level)) in values.iter_mut().zip(self.parameters) {
            *value = by_level[level];
        }
        (self.draft)(rng, values)
    }

    /// An item of a level, whatever its split.
    pub(crate) fn any_item(&self, pack: &PackId, rng: &mut Rng, level: u8) -> Item {
        let Draft { question, trace, answer } = self.draft(rng, level);
        let gold = self.form.canonical(&answer);
        Item::native(pack, self.name, level, question, self.form, gold, trace)
    }

    /// Item `index` of the endless stream of a level under `key`, whatever its split: for previews and
    /// for comparing with other generators.
    ///
    /// ```
    /// let gcd = tasks::families().find(|family| family.name() == "gcd").unwrap();
    /// let item = gcd.item(&[7; 32], 1, 0);
    /// assert!(item.prompt().starts_with("Greatest common divisor of"));
    /// assert!(item.gold().unwrap().answer().as_str().parse::<u32>().is_ok());
    /// ```
    pub fn item(&self, key: &[u8; 32], level: u8, index: u64) -> Item {
        let pack = PackId(blake3::derive_key("murmur v1 native family", self.name.as_bytes()));
        let mut rng = Rng::keyed(key, &[self.name.as_bytes(), &[level], &index.to_le_bytes()]);
        self.any_item(&pack, &mut rng, level)
    }
}

/// The families that every base was trained on.
pub(crate) const SIX: [Family; 6] =
    [arithmetic::SUM, algorithmic::CNT, algorithmic::MAX, arithmetic::MOD, arithmetic::ADD, induction::SEQ];

const BY_CATEGORY: [(Category, &[Family]); 10] = [
    (Category::Arithmetic, arithmetic::FAMILIES),
    (Category::Algebra, algebra::FAMILIES),
    (Category::Algorithmic, algorithmic::FAMILIES),
    (Category::Logic, logic::FAMILIES),
    (Category::Games, games::FAMILIES),
    (Category::Geometry, geometry::FAMILIES),
    (Category::Graphs, graphs::FAMILIES),
    (Category::Induction, induction::FAMILIES),
    (Category::Cognition, cognition::FAMILIES),
    (Category::Code, code::FAMILIES),
];

/// All native families, by category.
pub fn families() -> impl Iterator<Item = &'static Family> {
    BY_CATEGORY.iter().flat_map(|(_, families)| families.iter())
}

/// The families that a name stands for: `six`, a category, or one family.
pub(crate) fn named(name: &str) -> Option<&'static [Family]> {
    if name == "six" {
        return Some(&SIX);
    }
    let category = BY_CATEGORY.iter().find(|(category, _)| category.to_string() == name);
    let one = || families().find(|family| family.name == name).map(std::slice::from_ref);
    category.map(|(_, families)| *families).or_else(one)
}
