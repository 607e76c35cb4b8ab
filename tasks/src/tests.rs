use std::collections::BTreeSet;

use expect_test::expect;

use crate::{Catalogue, Pack, Split, check};

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
fn held_out_items_are_fixed_and_distinct() {
    let items = six().held_out(Split::Test, 40);
    assert_eq!(items.len(), 240);
    assert_eq!(items.iter().map(|item| item.id()).collect::<BTreeSet<_>>().len(), 240);
    assert!(items.iter().all(|item| item.split() == Split::Test));
}

const TASK: &str = "name = \"digits\"\nversion = \"1.0.0\"\n";

fn numbered(n: usize) -> String {
    (0..n)
        .map(|i| format!("{{\"id\":\"q{i}\",\"question\":\"item {i}?\",\"answer\":\"{}\"}}\n", i * 7 + 1000))
        .collect()
}

#[test]
fn a_static_pack_is_drawn_scheduled_and_named_by_its_content() {
    let pack = Pack::from_static(TASK, &numbered(100)).unwrap();
    assert_ne!(pack.id(), Pack::from_static(TASK, &numbered(101)).unwrap().id());
    assert!(pack.pin().starts_with("b3:"));
    let both = Catalogue::new(vec![(Pack::native_six(), 1), (pack, 1)]).unwrap();
    let items = both.schedule(&[1; 32], 24);
    assert_eq!(items.iter().filter(|item| item.family() == "digits").count(), 12);
    assert!(check(TASK, &numbered(100)).passes());
}

#[test]
fn planted_defects_are_found() {
    let item = |id: &str, question: &str, answer: &str| {
        format!("{{\"id\":\"{id}\",\"question\":\"{question}\",\"answer\":\"{answer}\"}}\n")
    };
    let good = numbered(100);
    let cases = [
        ("duplicate question", good.clone() + &item("z", "item 3?", "5"), "line 4 again"),
        ("duplicate id", good.clone() + &item("q3", "other?", "5"), "already used in line 4"),
        ("wrong form", good.clone() + &item("z", "what?", "seven"), "not of the form"),
        ("answer shown", good.clone() + &item("z", "is it 12345 ?", "12345"), "contains its answer"),
        ("not json", good.clone() + "{\n", "EOF"),
        (
            "unknown key",
            good.clone() + "{\"id\":\"z\",\"question\":\"q\",\"answr\":\"1\"}\n",
            "unknown field `answr`",
        ),
        ("long", good.clone() + &item("z", &"x".repeat(600), "5"), "a question of 600 bytes"),
        ("too long", good.clone() + &item("z", &"x".repeat(2000), "5"), "a question of 2000 bytes"),
        (
            "guessable",
            (0..100).map(|i| item(&format!("{i}"), &format!("n {i}?"), "7")).collect(),
            "1000 of 1000",
        ),
        ("no items", String::new(), "no items"),
    ];
    for (name, items, expected) in cases {
        let report = check(TASK, &items);
        let text = format!("{:?}", report.findings);
        assert!(text.contains(expected), "{name}: {text}");
    }
    for (task, expected) in [
        ("name = \"x\"\nversion = \"1\"\nfrom = 3\n", "unknown field `from`"),
        ("version = \"1\"\n", "missing field `name`"),
        ("name = \"Bad Name\"\nversion = \"1\"\n", "not usable"),
        ("name = \"x\"\nversion = \"1\"\n[answer]\nform = \"number\"\n", "unknown variant `number`"),
    ] {
        let report = check(task, &good);
        assert!(
            !report.passes() && format!("{:?}", report.findings).contains(expected),
            "{task}: {:?}",
            report.findings
        );
    }
}
