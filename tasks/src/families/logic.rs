//! What follows from statements.

use super::draw::{capital, join, permutations};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Logic.family(
        "knights",
        Form::Text,
        "Who always tells the truth among people who always or never do.",
        &[("people", [4, 5, 6, 7, 8])],
        knights,
    ),
    Category::Logic.family(
        "truth-table",
        Form::Text,
        "The column of a formula in its truth table.",
        &[("variables", [3, 3, 3, 4, 4]), ("connectives", [3, 4, 6, 6, 8])],
        truth_table,
    ),
    Category::Logic.family(
        "lineup",
        Form::Text,
        "The only order of some people that agrees with all clues.",
        &[("people", [4, 5, 5, 6, 6]), ("clues to choose from", [16, 16, 8, 16, 8])],
        lineup,
    ),
    Category::Logic.family(
        "venn",
        Form::Integer,
        "How many members of a group have both, or neither, of two properties.",
        &[("properties", [2, 2, 3, 3, 3]), ("largest part", [30, 99, 30, 99, 500])],
        venn,
    ),
    Category::Logic.family(
        "circuit",
        Form::Text,
        "The outputs of a chain of logic gates.",
        &[("inputs", [4, 4, 5, 5, 6]), ("gates", [4, 6, 8, 10, 14])],
        circuit,
    ),
];

/// What somebody says about others.
#[derive(Clone, Copy)]
enum Claim {
    Liar(usize),
    Same(usize, usize),
    Differ(usize, usize),
    SomeLiar(usize, usize),
    SomeHonest(usize, usize),
}

impl Claim {
    fn drawn(rng: &mut Rng, people: usize, speaker: usize) -> Self {
        let mut others: Vec<usize> = (0..people).filter(|person| *person != speaker).collect();
        rng.shuffle(&mut others);
        let (a, b) = (others[0].min(others[1]), others[0].max(others[1]));
        match rng.index(5) {
            0 => Self::Liar(others[0]),
            1 => Self::Same(a, b),
            2 => Self::Differ(a, b),
            3 => Self::SomeLiar(a, b),
            _ => Self::SomeHonest(a, b),
        }
    }

    /// Whether it is true when the people whose bits are set are honest.
    fn holds(self, honest: usize) -> bool {
        let is = |person: usize| honest >> person & 1 == 1;
        match self {
            Self::Liar(a) => !is(a),
            Self::Same(a, b) => is(a) == is(b),
            Self::Differ(a, b) => is(a) != is(b),
            Self::SomeLiar(a, b) => !is(a) || !is(b),
            Self::SomeHonest(a, b) => is(a) || is(b),
        }
    }

    fn text(self) -> String {
        let (head, a, b) = match self {
            Self::Liar(a) => return format!("{} is a knave", capital(a)),
            Self::Same(a, b) => ("are of one kind", a, b),
            Self::Differ(a, b) => ("are of different kinds", a, b),
            Self::SomeLiar(a, b) => return format!("{} or {} is a knave", capital(a), capital(b)),
            Self::SomeHonest(a, b) => return format!("{} or {} is a knight", capital(a), capital(b)),
        };
        format!("{} and {} {head}", capital(a), capital(b))
    }
}

/// Each person makes one claim; drawn until exactly one choice of kinds agrees with all of them, with
/// at least one knight.
fn knights(rng: &mut Rng, [people, ..]: Parameters) -> Draft {
    let people = people as usize;
    loop {
        let claims: Vec<Claim> = (0..people).map(|speaker| Claim::drawn(rng, people, speaker)).collect();
        let agrees = |honest: &usize| {
            claims.iter().enumerate().all(|(i, claim)| claim.holds(*honest) == (honest >> i & 1 == 1))
        };
        let possible: Vec<usize> = (0..1 << people).filter(agrees).collect();
        if let [honest] = possible[..]
            && honest != 0
        {
            let said: Vec<String> = claims
                .iter()
                .enumerate()
                .map(|(i, claim)| format!("{}: {}.", capital(i), claim.text()))
                .collect();
            let knights: String = (0..people).filter(|i| honest >> i & 1 == 1).map(capital).collect();
            let question = format!(
                "Knights tell the truth, knaves lie. \"Or\" allows both. {} Who are the knights, in alphabetical order?",
                said.join(" ")
            );
            return Draft::new(question, knights);
        }
    }
}

/// A formula as text and as its truth-table column; bit i is the value in row i.
fn formula(rng: &mut Rng, connectives: i64, variables: usize) -> (String, u32) {
    let rows = 1 << variables;
    let mask = if rows == 32 { u32::MAX } else { (1 << rows) - 1 };
    if connectives == 0 {
        let variable = rng.index(variables);
        // The first variable changes slowest, as tables are written.
        let column = (0..rows).filter(|row| row >> (variables - 1 - variable) & 1 == 1);
        let column = column.fold(0, |bits, row: u32| bits | 1 << row);
        return (char::from(b'p' + variable as u8).to_string(), column);
    }
    if rng.below(5) == 0 {
        let (text, column) = formula(rng, connectives - 1, variables);
        return (format!("not {text}"), !column & mask);
    }
    let left = rng.between(0, connectives - 1);
    let (a, x) = formula(rng, left, variables);
    let (b, y) = formula(rng, connectives - 1 - left, variables);
    if a == b {
        // It would say nothing, or always the same.
        return formula(rng, connectives, variables);
    }
    let (word, column) = match rng.index(4) {
        0 => ("and", x & y),
        1 => ("or", x | y),
        2 => ("xor", x ^ y),
        _ => ("implies", !x & mask | y),
    };
    (format!("({a} {word} {b})"), column)
}

/// Rows in the order 000, 001, 010, …; drawn until the formula mentions all variables and is neither
/// always true nor always false.
fn truth_table(rng: &mut Rng, [variables, connectives, _]: Parameters) -> Draft {
    let variables = variables as usize;
    let rows = 1_u32 << variables;
    loop {
        let (text, column) = formula(rng, connectives, variables);
        let names: String = (0..variables).map(|i| char::from(b'p' + i as u8)).collect();
        let mentioned =
            |name: char| text.split(|c: char| !c.is_alphabetic()).any(|word| word == name.to_string());
        if names.chars().all(mentioned) && column.count_ones() != 0 && column.count_ones() != rows {
            let bits: String = (0..rows).map(|row| if column >> row & 1 == 1 { '1' } else { '0' }).collect();
            let last = "1".repeat(variables);
            let question = format!(
                "Truth table of {text} for {names} = {} to {last} in counting order: write its {rows} values as 0 and 1.",
                "0".repeat(variables)
            );
            return Draft::new(question, bits);
        }
    }
}

/// What is known about an order.
#[derive(Clone, Copy, PartialEq)]
enum Clue {
    Before(usize, usize),
    Beside(usize, usize),
    Apart(usize, usize),
    NotAt(usize, usize),
}

impl Clue {
    fn drawn(rng: &mut Rng, people: usize) -> Self {
        let a = rng.index(people);
        let b = (a + 1 + rng.index(people - 1)) % people;
        match rng.index(4) {
            0 => Self::Before(a, b),
            1 => Self::Beside(a.min(b), a.max(b)),
            2 => Self::Apart(a.min(b), a.max(b)),
            _ => Self::NotAt(a, rng.index(people)),
        }
    }

    /// Whether it agrees with the place of each person.
    fn holds(self, place: &[usize]) -> bool {
        match self {
            Self::Before(a, b) => place[a] < place[b],
            Self::Beside(a, b) => place[a].abs_diff(place[b]) == 1,
            Self::Apart(a, b) => place[a].abs_diff(place[b]) != 1,
            Self::NotAt(a, at) => place[a] != at,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Before(a, b) => format!("{} is left of {}", capital(a), capital(b)),
            Self::Beside(a, b) => format!("{} is next to {}", capital(a), capital(b)),
            Self::Apart(a, b) => format!("{} is not next to {}", capital(a), capital(b)),
            Self::NotAt(a, at) => format!("{} is not number {}", capital(a), at + 1),
        }
    }
}

/// True clues about a hidden order are added until no other order agrees with them.
fn lineup(rng: &mut Rng, [people, choice, _]: Parameters) -> Draft {
    let people = people as usize;
    let mut hidden: Vec<usize> = (0..people).collect();
    rng.shuffle(&mut hidden);
    let (mut possible, mut clues) = (permutations(people), Vec::new());
    while possible.len() > 1 {
        // Of several true clues the sharpest is taken, so that a question stays short.
        let drawn: Vec<Clue> = (0..choice).map(|_| Clue::drawn(rng, people)).collect();
        let left = |clue: &Clue| possible.iter().filter(|place| clue.holds(place)).count();
        let Some(clue) = drawn.into_iter().filter(|clue| clue.holds(&hidden)).min_by_key(left) else {
            continue;
        };
        if left(&clue) < possible.len() {
            possible.retain(|place| clue.holds(place));
            clues.push(clue.text());
        }
    }
    let mut order = vec!['?'; people];
    hidden.iter().enumerate().for_each(|(person, place)| order[*place] = capital(person));
    let question = format!(
        "{} people, A to {}, stand in a row, numbered from the left. {}. Their order from the left?",
        people,
        capital(people - 1),
        clues.join(". ")
    );
    Draft::new(question, join(&order, ""))
}

/// By the sizes of the parts of a Venn diagram. Worked by the size of the union and the intersections.
fn venn(rng: &mut Rng, [properties, largest, _]: Parameters) -> Draft {
    let parts: Vec<i64> = (0..1 << properties).map(|_| rng.between(1, largest)).collect();
    let with = |mask: usize| -> i64 {
        parts.iter().enumerate().filter(|(part, _)| part & mask == mask).map(|(_, size)| size).sum()
    };
    let all: i64 = parts.iter().sum();
    if properties == 2 {
        let (tea, milk, neither) = (with(1), with(2), parts[0]);
        let question = format!(
            "Of {all} people {tea} like tea, {milk} like milk and {neither} like neither. How many like both?"
        );
        return Draft::new(question, parts[3]).worked(format!("{},{}", all - neither, tea + milk));
    }
    let question = format!(
        "Of {all} people {} like tea, {} milk, {} rice; {} tea and milk, {} tea and rice, {} milk and rice; {} all three. How many like none?",
        with(1),
        with(2),
        with(4),
        with(3),
        with(5),
        with(6),
        with(7)
    );
    Draft::new(question, parts[0]).worked(format!("{},{}", with(1) + with(2) + with(4), all - parts[0]))
}

/// Gates take earlier signals.
fn circuit(rng: &mut Rng, [inputs, gates, _]: Parameters) -> Draft {
    let inputs = inputs as usize;
    let mut values: Vec<bool> = (0..inputs).map(|_| rng.below(2) == 1).collect();
    let given = bits(&values);
    let mut texts = Vec::new();
    for gate in 0..gates as usize {
        let signals = values.len();
        let first = rng.index(signals);
        let second = (first + 1 + rng.index(signals - 1)) % signals;
        let (x, y) = (values[first], values[second]);
        let (word, value) = match rng.index(5) {
            0 => ("and", x && y),
            1 => ("or", x || y),
            2 => ("xor", x != y),
            3 => ("nand", !(x && y)),
            _ => ("nor", !(x || y)),
        };
        values.push(value);
        let name = |signal: usize| char::from(b'a' + signal as u8);
        texts.push(format!("{}={} {word} {}", name(inputs + gate), name(first), name(second)));
    }
    let letter = |signal: usize| char::from(b'a' + signal as u8);
    let question = format!(
        "Signals {} to {} are {given}. {}. Write {} to {} as 0 and 1.",
        letter(0),
        letter(inputs - 1),
        texts.join(", "),
        letter(inputs),
        letter(values.len() - 1)
    );
    Draft::new(question, bits(&values[inputs..]))
}

fn bits(values: &[bool]) -> String {
    values.iter().map(|value| if *value { '1' } else { '0' }).collect()
}
