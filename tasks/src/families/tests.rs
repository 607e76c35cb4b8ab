//! All families: their answers are found again by other means, and their items are many, varied, short
//! and the same everywhere.

mod numbers;
mod procedures;
mod read;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use expect_test::expect_file;

use super::{Category, Family, families};
use crate::item::{Item, Split};
use crate::pack::Pack;
use crate::rng::Rng;
use crate::{Catalogue, PROMPT_BYTES_ADVISED};

fn items(family: &Family, level: u8, count: u64) -> impl Iterator<Item = Item> {
    (0..count).map(move |index| family.item(&[5; 32], level, index))
}

fn each_level() -> impl Iterator<Item = (&'static Family, u8)> {
    families().flat_map(|family| family.levels().map(move |level| (family, level)))
}

fn answer(item: &Item) -> &str {
    item.gold().unwrap().answer().as_str()
}

/// Items solved again a family and level: fewer where everything is tried.
fn solved(family: &str) -> u64 {
    match family {
        "hanoi" | "nim" | "operator" | "list-rule" | "row-rule" => 12,
        "inner-points" | "knight-routes" | "dice" | "lineup" | "shortest-path" | "mastermind" => 40,
        _ => 200,
    }
}

fn solve(family: &str, question: &str) -> String {
    let solvers = [numbers::solve, procedures::solve, search::solve];
    solvers.iter().find_map(|solve| solve(family, question)).expect("a solver of every family")
}

#[test]
fn answers_are_found_again_by_other_means() {
    for (family, level) in each_level() {
        for item in items(family, level, solved(family.name())) {
            assert_eq!(
                answer(&item),
                solve(family.name(), item.prompt()),
                "{}: {}",
                family.name(),
                item.prompt()
            );
        }
    }
}

#[test]
fn every_category_has_families() {
    let mut names = BTreeSet::new();
    let mut count: BTreeMap<Category, usize> = BTreeMap::new();
    for family in families() {
        assert!(names.insert(family.name()), "{} twice", family.name());
        assert!(family.name().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
        assert!(family.asks().ends_with('.') && family.parameters().len() <= super::PARAMETERS_MAX);
        *count.entry(family.category()).or_default() += 1;
    }
    assert!(names.len() >= 40, "{}", names.len());
    assert!(count.len() == 10 && count.values().all(|count| *count >= 3), "{count:?}");
    for family in super::SIX {
        assert!(names.contains(family.name()));
    }
    for category in count.keys() {
        assert!(!names.contains(&category.to_string()[..]), "a pack called {category} would be two");
        assert_eq!(super::named(&category.to_string()).unwrap().len(), count[category]);
    }
}

/// Items looked at a family and level.
const LOOKED_AT: usize = 2_000;
/// Different questions among them where a level has half a million, which makes 99 % of 10,000 different:
/// chance then repeats about four.
const DISTINCT: usize = LOOKED_AT - 12;

/// Families of fewer questions, with the least number of different ones that any level shows.
const FEW: [(&str, usize); 31] = [
    ("sum", 1_900),
    ("mod", 1_650),
    ("lcm", 1_750),
    ("product", 1_700),
    ("fraction", 1_780),
    ("prime-factors", 1_500),
    ("power-mod", 1_890),
    ("dice", 1_350),
    ("quadratic", 1_700),
    ("cnt", 1_890),
    ("base", 1_950),
    ("change", 1_950),
    ("primes", 1_700),
    ("life", 1_930),
    ("josephus", 1_840),
    ("knights", 1_890),
    ("truth-table", 1_550),
    ("lineup", 1_930),
    ("nim", 1_600),
    ("hanoi", 1_650),
    ("queens", 1_290),
    ("seq", 1_200),
    ("walk", 1_950),
    ("recursion", 1_900),
    ("bf", 1_940),
    ("bitwise", 1_940),
    ("caesar", 1_940),
    ("complex", 1_940),
    ("recurrence", 1_940),
    ("stack", 1_940),
    ("transform", 1_940),
];

/// Families older than this test in whose answers guesses agree more often than in one of ten cases.
const GUESSABLE: [&str; 2] = ["mod", "cnt"];
/// Families that ask for something that stands in the question.
const SHOWN: [&str; 2] = ["max", "haystack"];

/// What a level of a family is like.
struct Figures {
    /// Different questions.
    distinct: usize,
    /// Probability in permille that two random answers agree.
    agree: usize,
    /// Items whose answer stands in the question as a word.
    shown: usize,
    /// Bytes of the longest question.
    question: usize,
    /// Bytes of the longest reasoning.
    trace: usize,
}

/// Whether `answer` stands in `question` as a word of its own.
fn stands_in(answer: &str, question: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric();
    question.match_indices(answer).any(|(at, found)| {
        !question[..at].ends_with(inside) && !question[at + found.len()..].starts_with(inside)
    })
}

/// The figures of every family and level; two tests look at them.
static FIGURES: LazyLock<BTreeMap<(&str, u8), Figures>> = LazyLock::new(|| {
    each_level().map(|(family, level)| ((family.name(), level), figures(family, level))).collect()
});

fn figures(family: &Family, level: u8) -> Figures {
    let (mut questions, mut answers) = (BTreeSet::new(), BTreeMap::new());
    let (mut shown, mut question, mut trace) = (0, 0, 0);
    for item in items(family, level, LOOKED_AT as u64) {
        assert!(item.prompt().bytes().all(|c| c == b'\n' || (b' '..=b'~').contains(&c)), "{}", item.prompt());
        let gold = answer(&item);
        assert_eq!(item.canonical(gold).unwrap().as_str(), gold);
        *answers.entry(gold.to_string()).or_insert(0) += 1;
        shown += usize::from(stands_in(gold, item.prompt()));
        question = question.max(item.prompt().len());
        if let Some(worked) = item.worked() {
            assert!(item.gold().unwrap().matches(&item.parse(&worked).unwrap()), "{worked}");
            trace = trace.max(worked.split_once("</think>").unwrap().0.len() - "<think>".len());
        }
        questions.insert(item.prompt().to_string());
    }
    let agree = answers.values().map(|n| n * n).sum::<usize>() * 1000 / (LOOKED_AT * LOOKED_AT);
    Figures { distinct: questions.len(), agree, shown, question, trace }
}

#[test]
fn items_are_many_varied_and_short() {
    for (family, level) in each_level() {
        let name = family.name();
        let figures = &FIGURES[&(name, level)];
        let least = FEW.iter().find(|(few, _)| *few == name).map_or(DISTINCT, |(_, least)| *least);
        assert!(figures.distinct >= least, "{name} {level}: {} of {LOOKED_AT} differ", figures.distinct);
        let most = if GUESSABLE.contains(&name) { 250 } else { 100 };
        assert!(figures.agree <= most, "{name} {level}: guesses agree in {} of 1000", figures.agree);
        let most = if SHOWN.contains(&name) { LOOKED_AT } else { LOOKED_AT / 3 };
        assert!(figures.shown <= most, "{name} {level}: {} of {LOOKED_AT} show the answer", figures.shown);
        let most = if level <= 3 { 300 } else { PROMPT_BYTES_ADVISED };
        assert!(figures.question <= most, "{name} {level}: a question of {} bytes", figures.question);
        assert!(figures.trace <= 256, "{name} {level}: {} bytes of reasoning", figures.trace);
    }
}

#[test]
fn packs_of_families_draw_all_levels_of_all_splits() {
    for name in ["native:gcd", "native:logic", "native:arithmetic", "native:arithmetic@2-3"] {
        let pack = Pack::native(name).unwrap();
        let mut seen = BTreeSet::new();
        for family in pack.families() {
            for (index, split) in
                (0..120).zip([Split::Train, Split::Validation, Split::Test].into_iter().cycle())
            {
                let item = pack.draw(&family, &[3; 32], index, split).unwrap();
                assert_eq!((item.family(), item.split()), (&family[..], split));
                seen.insert(item.level());
            }
        }
        assert_eq!(seen, pack.levels(), "{name}");
    }
    let both =
        Catalogue::new(vec![(Pack::native_six(), 1), (Pack::native("native:games").unwrap(), 1)]).unwrap();
    assert_eq!(both.families().len(), 6 + super::games::FAMILIES.len());
    assert!(
        Catalogue::new(vec![(Pack::native_six(), 1), (Pack::native("native:induction").unwrap(), 1)])
            .is_err()
    );
}

/// One line a family and level: the start of the hash over 1,000 items.
fn fingerprints() -> String {
    let mut lines = String::new();
    for (family, level) in each_level() {
        let mut hasher = blake3::Hasher::new();
        for item in items(family, level, 1_000) {
            let trace = item.worked().unwrap_or_default();
            hasher.update(format!("{}\n{}\n{trace}\n", item.prompt(), answer(&item)).as_bytes());
        }
        lines.push_str(&format!("{} {level} {}\n", family.name(), &hasher.finalize().to_hex()[..16]));
    }
    lines
}

#[test]
fn items_are_the_same_in_every_build_and_thread() {
    let other = std::thread::spawn(fingerprints);
    let own = fingerprints();
    assert_eq!(own, other.join().unwrap());
    expect_file!["tests/fingerprints.txt"].assert_eq(&own);
}

#[test]
fn levels_beside_the_known_ones_are_the_nearest() {
    let question = |family: &Family, level| family.draft(&mut Rng::keyed(&[0; 32], &[]), level).question;
    for family in families() {
        let (first, last) = (*family.levels().start(), *family.levels().end());
        assert_eq!(question(family, 0), question(family, first), "{}", family.name());
        assert_eq!(question(family, u8::MAX), question(family, last), "{}", family.name());
        assert!(first == last || question(family, first) != question(family, last), "{}", family.name());
        for level in family.levels().skip(1) {
            let values =
                |level: u8| family.parameters().iter().map(move |(_, values)| values[level as usize - 1]);
            assert!(!values(level).eq(values(level - 1)), "{} {level} repeats a level", family.name());
        }
    }
}

fn gallery() -> String {
    let mut page = String::from(include_str!("tests/gallery.md"));
    let count = families().count();
    page.push_str(&format!("\n{count} families. Level 0: a family of one level.\n\n"));
    page.push_str(
        "| family | category | answer | what makes a level harder, levels 1 to 5 | two guesses agree (‰) |\n",
    );
    page.push_str("|---|---|---|---|---|\n");
    for family in families() {
        let harder: Vec<String> = family
            .parameters()
            .iter()
            .map(|(name, values)| format!("{name} {}", values.map(|value| value.to_string()).join(", ")))
            .collect();
        let agree: Vec<String> =
            family.levels().map(|level| FIGURES[&(family.name(), level)].agree.to_string()).collect();
        let (name, form) = (family.name(), format!("{:?}", family.form()).to_lowercase());
        let row = [
            format!("[{name}](#{name})"),
            family.category().to_string(),
            form,
            harder.join("; "),
            agree.join(", "),
        ];
        page.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    for family in families() {
        page.push_str(&format!("\n## {}\n\n{}\n", family.name(), family.asks()));
        for level in family.levels() {
            let item = family.item(&[7; 32], level, 0);
            let trace =
                item.worked().and_then(|text| Some(between(&text, "<think>", "</think>")?.to_string()));
            let trace = trace.map_or(String::new(), |trace| format!("\nReasoning: {trace}"));
            let text = format!("{}{trace}\nAnswer: {}", item.prompt(), answer(&item));
            page.push_str(&format!("\nLevel {level}:\n\n```text\n{text}\n```\n"));
        }
    }
    page
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(behind)?.0)
}

/// `UPDATE_EXPECT=1 cargo test -p murmur-tasks` writes the page anew.
#[test]
fn the_gallery_shows_the_families_as_they_are() {
    expect_file!["../../GALLERY.md"].assert_eq(&gallery());
}
