use std::collections::BTreeSet;

use expect_test::expect;

use crate::{Catalogue, Pack, PackFiles, Program, Split};

fn six() -> Catalogue {
    Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap()
}

#[test]
fn golden_vectors() {
    // Bit for bit the same on every machine and in every version: peers vote about these.
    let catalogue = six();
    let picture: String = catalogue
        .schedule(&[7; 32], 12)
        .iter()
        .map(|item| format!("{} -> {}\n", item.prompt(), item.worked().unwrap()))
        .collect();
    expect![[r#"
        cnt c:caababcb -> <think>11111122</think><answer>2</answer>
        sum 1+4+8+5 -> <think>5,13,18</think><answer>18</answer>
        cnt a:babcbbab -> <think>01111122</think><answer>2</answer>
        mod 207,7 -> <think>2,20,6,67,4</think><answer>4</answer>
        seq 43,38,33,28 -> <think>-5</think><answer>23</answer>
        add 517+337 -> <think>14,5,8</think><answer>854</answer>
        add 261+890 -> <think>1,15,11</think><answer>1151</answer>
        sum 4+7+9+4 -> <think>11,20,24</think><answer>24</answer>
        max 20,39,56,66 -> <think>39,56,66</think><answer>66</answer>
        mod 768,4 -> <think>3,36,0,08,0</think><answer>0</answer>
        seq 41,38,35,32 -> <think>-3</think><answer>29</answer>
        max 45,67,40,36 -> <think>67,67,67</think><answer>67</answer>
    "#]]
    .assert_eq(&picture);
}

#[test]
fn own_completions_score_and_fit() {
    let catalogue = six();
    for index in 0..3000 {
        let item = catalogue.draw(&[1; 32], index, Split::Train);
        let gold = item.gold().unwrap();
        for completion in [item.worked().unwrap(), item.direct(gold.answer())] {
            assert!(gold.matches(&item.parse(&completion).unwrap()), "{} {completion}", item.prompt());
            let tokens = completion.replace("</think>", "#").replace("</answer>", "#");
            let tokens = tokens.replace("<think>", "#").replace("<answer>", "#").len();
            assert!(tokens <= 24, "{completion}");
        }
        assert!(item.prompt().len() <= 20, "{}", item.prompt());
    }
}

#[test]
fn splits_are_disjoint_and_of_the_stated_size() {
    let catalogue = six();
    let mut seen = [0usize; 3];
    let mut train = BTreeSet::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        for index in 0..400 {
            let item = catalogue.draw(&[2; 32], index, split);
            assert_eq!(item.split(), split);
            if split == Split::Train {
                train.insert(item.id());
            } else {
                assert!(!train.contains(&item.id()));
            }
        }
    }
    for family in crate::families::SIX {
        let mut rng = crate::rng::Rng::keyed(&[3; 32], &[family.name.as_bytes()]);
        for _ in 0..2000 {
            seen[Split::of(family.name, &family.draft(&mut rng, 0).question) as usize] += 1;
        }
    }
    let total: usize = seen.iter().sum();
    assert!((720..780).contains(&(seen[0] * 1000 / total)), "{seen:?}");
    assert!((105..145).contains(&(seen[2] * 1000 / total)), "{seen:?}");
}

#[test]
fn every_family_has_room_for_three_splits() {
    for family in crate::families::SIX {
        let mut rng = crate::rng::Rng::keyed(&[4; 32], &[family.name.as_bytes()]);
        let distinct: BTreeSet<String> = (0..40_000).map(|_| family.draft(&mut rng, 0).question).collect();
        assert!(distinct.len() > 2_000, "{} has {}", family.name, distinct.len());
    }
}

#[test]
fn schedules_are_distinct_mixed_and_drawn_by_the_beacon() {
    let catalogue = six();
    let items = catalogue.schedule(&[9; 32], 24);
    assert_eq!(items.iter().map(|item| item.id()).collect::<BTreeSet<_>>().len(), 24);
    for family in catalogue.families() {
        assert_eq!(items.iter().filter(|item| item.family() == family).count(), 4, "{family}");
    }
    assert!(items.iter().all(|item| item.split() == Split::Train));
    assert_ne!(items[0].id(), catalogue.schedule(&[10; 32], 24)[0].id());
    assert_eq!(catalogue.schedule(&[9; 32], 7).len(), 7);
}

#[test]
fn a_schedule_keeps_to_the_levels_that_are_open() {
    let levels: String = (0..200)
        .map(|i| format!("{{\"question\":\"item {i}?\",\"answer\":\"{i}\",\"level\":{}}}\n", 2 + i % 4))
        .collect();
    let own = Pack::open(&files(&[("task.toml", TASK), ("items.jsonl", &levels)]), &Program::run).unwrap();
    let native = Pack::native("native:gcd@2-5").unwrap();
    let catalogue = Catalogue::new(vec![(own, 1), (native, 1)]).unwrap();
    for open in 0..5 {
        let items = catalogue.schedule_up_to(&[9; 32], 24, |_| open);
        let highest = 2 + open.min(3);
        assert!(items.len() == 24 && items.iter().all(|item| (2..=highest).contains(&item.level())));
        assert!(items.iter().all(|item| catalogue.rank(item) == Some((item.level() - 2, 4))));
        if open > 2 {
            let all = catalogue.schedule(&[9; 32], 24);
            assert!(items.iter().zip(&all).all(|(item, of_all)| item.id() == of_all.id()));
        }
    }
}

#[test]
fn held_out_items_are_fixed_and_distinct() {
    let items = six().held_out(Split::Test, 40);
    assert_eq!(items.len(), 240);
    assert_eq!(items.iter().map(|item| item.id()).collect::<BTreeSet<_>>().len(), 240);
    assert!(items.iter().all(|item| item.split() == Split::Test));
}

const TASK: &str = "name = \"digits\"\nversion = \"1.0.0\"\n";

/// The files of a pack.
pub(crate) fn files(files: &[(&str, &str)]) -> PackFiles {
    PackFiles::new(files.iter().map(|(path, text)| ((*path).into(), text.as_bytes().to_vec())).collect())
        .unwrap()
}

pub(crate) fn numbered(n: usize) -> String {
    (0..n)
        .map(|i| format!("{{\"id\":\"q{i}\",\"question\":\"item {i}?\",\"answer\":\"{}\"}}\n", i * 7 + 1000))
        .collect()
}

fn digits(n: usize) -> Pack {
    Pack::open(&files(&[("task.toml", TASK), ("items.jsonl", &numbered(n))]), &Program::run).unwrap()
}

#[test]
fn a_static_pack_is_drawn_scheduled_and_named_by_its_content() {
    let pack = digits(100);
    assert_ne!(pack.id(), digits(101).id());
    assert!(pack.pin().starts_with("b3:"));
    let both = Catalogue::new(vec![(Pack::native_six(), 1), (pack, 1)]).unwrap();
    let items = both.schedule(&[1; 32], 24);
    assert_eq!(items.iter().filter(|item| item.family() == "digits").count(), 12);
}

#[test]
fn levels_behind_a_name_are_the_only_ones_drawn() {
    let catalogue = |pin: &str| Catalogue::new(vec![(Pack::native(pin).unwrap(), 1)]).unwrap();
    let levels = |pin: &str| -> BTreeSet<u8> {
        let catalogue = catalogue(pin);
        (0..200).map(|index| catalogue.draw(&[3; 32], index, Split::Train).level()).collect()
    };
    assert_eq!(levels("native:gcd"), (1..=5).collect());
    assert_eq!(levels("native:gcd@2-3"), BTreeSet::from([2, 3]));
    assert_eq!(levels("native:six@0"), BTreeSet::from([0]));
    for wrong in ["native:gcd@", "native:gcd@6", "native:six@1", "native:gcd@x", "native:gcdd", "gcd"] {
        assert!(Pack::native(wrong).is_none(), "{wrong}");
    }
    let lines: String = (0..99)
        .map(|i| format!("{{\"question\": \"item {i}?\", \"answer\": {i}, \"level\": {}}}\n", i % 3))
        .collect();
    let pack = Pack::open(&files(&[("task.toml", TASK), ("items.jsonl", &lines)]), &Program::run).unwrap();
    assert!(pack.clone().with_levels(3..=4).is_none());
    let hard = pack.clone().with_levels(2..=9).unwrap();
    assert_eq!((hard.levels(), hard.pin()), (BTreeSet::from([2]), format!("{}@2-9", pack.pin())));
    assert!(hard.items(Split::Train).iter().all(|item| item.level() == 2));
    assert_eq!(hard.id(), pack.id(), "the same items have the same ids");
}

#[test]
fn a_pack_presents_and_reads_its_items_in_its_own_way() {
    let task = "name = \"capitals\"\nversion = \"1\"\n[prompt]\ntemplate = \"{question}{choices}\\nReply with a letter.\"\n\
                [answer]\nform = \"choice\"\nextract = \"letter\"\n";
    let item = |n: usize| {
        format!(
            "{{\"question\": \"{{choices}} of {n}?\", \"choices\": [\"Rome\", \"{{question}}\"], \"answer\": \"{{question}}\"}}\n"
        )
    };
    let lines: String = (0..40).map(item).collect();
    let pack = Pack::open(&files(&[("task.toml", task), ("items.jsonl", &lines)]), &Program::run).unwrap();
    let item = &pack.items(Split::Train)[0];
    let number = item.question().strip_prefix("{choices} of ").unwrap();
    assert_eq!(
        item.prompt(),
        format!("{{choices}} of {number}\nA) Rome\nB) {{question}}\nReply with a letter.")
    );
    let gold = item.gold().unwrap();
    assert!(gold.matches(&item.parse("It is (B).").unwrap()) && !gold.matches(&item.parse("A").unwrap()));
    assert_eq!(item.direct(gold.answer()), "B");
    assert_eq!(item.split(), Split::of("capitals", item.question()), "the template does not move items");
}
