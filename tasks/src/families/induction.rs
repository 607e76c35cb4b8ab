//! A rule found from examples.

use super::algebra::laplace;
use super::draw::{distinct, join, signed};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const SEQ: Family =
    Category::Induction.family("seq", Form::Integer, "The next term of an arithmetic sequence.", &[], seq);

pub(super) const FAMILIES: &[Family] = &[
    SEQ,
    Category::Induction.family(
        "recurrence",
        Form::Integer,
        "The next term of a sequence in which each term is a fixed mix of the two before it.",
        &[("largest factor", [2, 3, 4, 6, 9]), ("largest start", [99, 99, 99, 99, 99])],
        recurrence,
    ),
    Category::Induction.family(
        "operator",
        Form::Integer,
        "The value of an unknown linear operation, from as many examples as it has terms.",
        &[("terms", [2, 3, 3, 4, 4]), ("largest factor", [9, 5, 12, 5, 12])],
        operator,
    ),
    Category::Induction.family(
        "list-rule",
        Form::Sequence,
        "What unknown steps make of a list, from examples.",
        &[("steps", [1, 2, 2, 3, 3]), ("numbers of a list", [4, 4, 6, 5, 7])],
        list_rule,
    ),
    Category::Induction.family(
        "row-rule",
        Form::Text,
        "What an unknown change of coloured cells makes of a row, from examples.",
        &[("cells", [7, 9, 11, 10, 13]), ("changes", [1, 1, 1, 2, 2])],
        row_rule,
    ),
    Category::Induction.family(
        "codebook",
        Form::Text,
        "A word in a code in which each letter stands for another, from words in both.",
        &[("letters in use", [6, 8, 10, 12, 16]), ("letters of a word", [4, 4, 5, 6, 8])],
        codebook,
    ),
];

/// `seq 24,27,30,33`, no term below zero, by the step `+3`. More than 2,000 questions.
fn seq(rng: &mut Rng, _: Parameters) -> Draft {
    let step = rng.between(1, 12);
    let falls = rng.below(2) == 1;
    let start = if falls { rng.between(4 * step, 99) } else { rng.between(1, 99) };
    let step = if falls { -step } else { step };
    let terms: Vec<i64> = (0..4).map(|i| start + i * step).collect();
    Draft::new(format!("seq {}", join(&terms, ",")), start + 4 * step).worked(format!("{step:+}"))
}

/// Drawn until the five terms shown fix both factors. Worked by the factors.
fn recurrence(rng: &mut Rng, [factor, start, _]: Parameters) -> Draft {
    loop {
        let (p, q) = (signed(rng, 1, factor), signed(rng, 1, factor));
        let mut terms = vec![rng.between(1, start), rng.between(1, start)];
        for i in 2..6 {
            terms.push(p * terms[i - 1] + q * terms[i - 2]);
        }
        if terms[1] * terms[1] != terms[0] * terms[2] {
            let question = format!(
                "Each term is p times the one before plus q times the one before that: {}, ? Next?",
                join(&terms[..5], ", ")
            );
            return Draft::new(question, terms[5]).worked(format!("{p},{q}"));
        }
    }
}

/// Drawn until the examples fix all factors. Worked by the factors.
fn operator(rng: &mut Rng, [terms, largest, _]: Parameters) -> Draft {
    let count = terms as usize;
    let parts = |a: i64, b: i64| [a, b, 1, a * b][..count].to_vec();
    loop {
        let factors: Vec<i64> = (0..count).map(|_| signed(rng, 1, largest)).collect();
        let value =
            |(a, b): (i64, i64)| -> i64 { parts(a, b).iter().zip(&factors).map(|(x, y)| x * y).sum() };
        let pairs: Vec<(i64, i64)> = (0..=count).map(|_| (rng.between(1, 12), rng.between(1, 12))).collect();
        let (asked, shown) = (pairs[count], &pairs[..count]);
        let rows: Vec<Vec<i64>> = shown.iter().map(|(a, b)| parts(*a, *b)).collect();
        if laplace(&rows) == 0 || shown.contains(&asked) {
            continue;
        }
        let meaning = ["p*a", "q*b", "r", "s*a*b"][..count].join(" + ");
        let examples: Vec<String> =
            shown.iter().map(|(a, b)| format!("{a} @ {b} = {}", value((*a, *b)))).collect();
        let question = format!(
            "a @ b means {meaning} with fixed numbers. {}. What is {} @ {}?",
            examples.join(", "),
            asked.0,
            asked.1
        );
        return Draft::new(question, value(asked)).worked(join(&factors, ","));
    }
}

/// A step of a list rule.
type Step = (&'static str, fn(Vec<i64>) -> Vec<i64>);

const STEPS: [Step; 7] = [
    ("reverse", |list| list.into_iter().rev().collect()),
    ("sort", |mut list| {
        list.sort_unstable();
        list
    }),
    ("drop first", |list| list.into_iter().skip(1).collect()),
    ("drop last", |mut list| {
        list.pop();
        list
    }),
    ("double each", |list| list.into_iter().map(|n| 2 * n).collect()),
    ("add 1 to each", |list| list.into_iter().map(|n| n + 1).collect()),
    ("first to the end", |mut list| {
        let by = list.len().min(1);
        list.rotate_left(by);
        list
    }),
];

/// Every sequence of `length` of the numbers below `choices`.
fn programs(choices: usize, length: i64) -> Vec<Vec<usize>> {
    (0..length).fold(vec![vec![]], |shorter, _| {
        shorter.iter().flat_map(|program| (0..choices).map(|next| [&program[..], &[next]].concat())).collect()
    })
}

/// Drawn until all programs of so many steps that agree with the examples agree on the answer.
fn list_rule(rng: &mut Rng, [steps, length, _]: Parameters) -> Draft {
    let programs = programs(STEPS.len(), steps);
    let run = |program: &[usize], list: &[i64]| {
        program.iter().fold(list.to_vec(), |list, step| (STEPS[*step].1)(list))
    };
    loop {
        let lists: Vec<Vec<i64>> = (0..3).map(|_| distinct(rng, length, 0, 19)).collect();
        let hidden = &programs[rng.index(programs.len())];
        let results: Vec<Vec<i64>> = lists.iter().map(|list| run(hidden, list)).collect();
        let agrees = |program: &Vec<usize>| (0..2).all(|i| run(program, &lists[i]) == results[i]);
        let unique =
            programs.iter().filter(|program| agrees(program)).all(|p| run(p, &lists[2]) == results[2]);
        if !unique || results[2] == lists[2] {
            continue;
        }
        let examples: Vec<String> =
            (0..2).map(|i| format!("{} -> {}", join(&lists[i], ","), join(&results[i], ","))).collect();
        let question = format!(
            "The same {} done to each list, of: {}. {}; {} -> ?",
            if steps == 1 { "step was".into() } else { format!("{steps} steps, perhaps one twice, were") },
            STEPS.map(|(name, _)| name).join(", "),
            examples.join("; "),
            join(&lists[2], ",")
        );
        let worked: Vec<&str> = hidden.iter().map(|step| STEPS[*step].0).collect();
        return Draft::new(question, join(&results[2], ",")).worked(worked.join(","));
    }
}

/// A change of a row of cells; 0 is an empty cell.
#[derive(Clone, Copy)]
enum Change {
    Turn(usize),
    Mirror,
    Recolour(u8, u8),
    FallLeft,
    FallRight,
    GrowRight,
    GrowLeft,
    Bridge,
}

const COLOURS: [u8; 3] = [1, 2, 3];

fn changes() -> Vec<Change> {
    use Change::{Bridge, FallLeft, FallRight, GrowLeft, GrowRight, Mirror, Recolour, Turn};
    let mut all = vec![Mirror, FallLeft, FallRight, GrowRight, GrowLeft, Bridge];
    all.extend([1, 2, 3].map(Turn));
    for from in COLOURS {
        all.extend(COLOURS.into_iter().filter(|to| *to != from).map(|to| Recolour(from, to)));
    }
    all
}

fn mirrored(row: &[u8]) -> Vec<u8> {
    row.iter().rev().copied().collect()
}

impl Change {
    fn apply(self, row: &[u8]) -> Vec<u8> {
        match self {
            Self::Turn(by) => {
                let mut row = row.to_vec();
                row.rotate_right(by);
                row
            }
            Self::Mirror => mirrored(row),
            Self::Recolour(from, to) => {
                row.iter().map(|cell| if *cell == from { to } else { *cell }).collect()
            }
            Self::FallLeft => {
                let mut row = row.to_vec();
                row.sort_by_key(|cell| *cell == 0);
                row
            }
            Self::FallRight => {
                let mut row = row.to_vec();
                row.sort_by_key(|cell| *cell != 0);
                row
            }
            Self::GrowRight => {
                (0..row.len()).map(|i| if row[i] == 0 && i > 0 { row[i - 1] } else { row[i] }).collect()
            }
            Self::GrowLeft => mirrored(&Self::GrowRight.apply(&mirrored(row))),
            Self::Bridge => bridge(row),
        }
    }
}

/// Empty cells between two neighbouring coloured cells of one colour take it.
fn bridge(row: &[u8]) -> Vec<u8> {
    let mut bridged = row.to_vec();
    let coloured: Vec<usize> = (0..row.len()).filter(|i| row[*i] != 0).collect();
    for ends in coloured.windows(2).filter(|ends| row[ends[0]] == row[ends[1]]) {
        bridged[ends[0]..ends[1]].fill(row[ends[0]]);
    }
    bridged
}

/// About half of the cells coloured.
fn drawn_row(rng: &mut Rng, cells: i64) -> Vec<u8> {
    (0..cells).map(|_| if rng.below(2) == 0 { 0 } else { rng.pick(&COLOURS) }).collect()
}

/// Drawn until all rules that agree with three examples agree on the answer. The rules are: turn right
/// by 1 to 3 cells around the end, mirror, replace one colour by another, let cells fall to the left or
/// right, let them grow by one cell to the left or right, bridge gaps between cells of one colour; or
/// two of these in turn.
fn row_rule(rng: &mut Rng, [cells, count, _]: Parameters) -> Draft {
    let all = changes();
    let programs = programs(all.len(), count);
    let run = |program: &[usize], row: &[u8]| program.iter().fold(row.to_vec(), |row, i| all[*i].apply(&row));
    loop {
        let rows: Vec<Vec<u8>> = (0..4).map(|_| drawn_row(rng, cells)).collect();
        let hidden = &programs[rng.index(programs.len())];
        let results: Vec<Vec<u8>> = rows.iter().map(|row| run(hidden, row)).collect();
        let agrees = |program: &Vec<usize>| (0..3).all(|i| run(program, &rows[i]) == results[i]);
        let unique =
            programs.iter().filter(|program| agrees(program)).all(|p| run(p, &rows[3]) == results[3]);
        if !unique || results[3] == rows[3] || results[3].iter().all(|cell| *cell == 0) {
            continue;
        }
        let examples: Vec<String> =
            (0..3).map(|i| format!("{} -> {}", join(&rows[i], ""), join(&results[i], ""))).collect();
        let question = format!(
            "Digits are colours, 0 is empty. One rule changes all rows: {}. What becomes of {}?",
            examples.join(", "),
            join(&rows[3], "")
        );
        return Draft::new(question, join(&results[3], ""));
    }
}

/// Words are drawn until they show every letter of the asked one.
fn codebook(rng: &mut Rng, [letters, length, _]: Parameters) -> Draft {
    let letter = |i: i64| char::from(b'a' + i as u8);
    let clear: Vec<char> = distinct(rng, letters, 0, 25).into_iter().map(letter).collect();
    let code: Vec<char> = distinct(rng, letters, 0, 25).into_iter().map(letter).collect();
    let word = |rng: &mut Rng| -> Vec<usize> { (0..length).map(|_| rng.index(clear.len())).collect() };
    let spelled = |word: &[usize], letters: &[char]| word.iter().map(|i| letters[*i]).collect::<String>();
    let asked = word(rng);
    let (mut shown, mut examples) = (Vec::new(), Vec::new());
    while asked.iter().any(|letter| !shown.contains(letter)) {
        let next = word(rng);
        if next != asked && next.iter().any(|letter| !shown.contains(letter)) {
            examples.push(format!("{} is {}", spelled(&next, &code), spelled(&next, &clear)));
            shown.extend(next);
        }
    }
    let question = format!(
        "In a code each letter stands for one letter: {}. What is {}?",
        examples.join(", "),
        spelled(&asked, &code)
    );
    Draft::new(question, spelled(&asked, &clear))
}
