//! What a program computes.

use super::draw::{distinct, join, signed, word};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Code.family(
        "bf",
        Form::Text,
        "What a Brainf*ck program prints.",
        &[("letters", [4, 5, 6, 7, 9])],
        brainfuck,
    ),
    Category::Code.family(
        "loop",
        Form::Integer,
        "What a Python loop with a condition prints.",
        &[("largest number of turns", [4, 5, 6, 8, 12]), ("statements", [1, 2, 2, 3, 4])],
        loop_value,
    ),
    Category::Code.family(
        "stack",
        Form::Sequence,
        "What is left on the stack of a Forth-like machine.",
        &[("words", [5, 7, 9, 11, 15])],
        stack,
    ),
    Category::Code.family(
        "slicing",
        Form::Text,
        "The value of Python slices of a string.",
        &[("letters", [9, 11, 13, 16, 20]), ("slices", [1, 1, 2, 2, 3])],
        slicing,
    ),
    Category::Code.family(
        "recursion",
        Form::Integer,
        "The value of a recursive Python function.",
        &[("calls back", [1, 2, 2, 3, 3]), ("largest argument", [9, 8, 10, 10, 14])],
        recursion,
    ),
];

/// A product in a loop, then neighbouring letters by single steps.
fn brainfuck(rng: &mut Rng, [letters, ..]: Parameters) -> Draft {
    let (turns, by) = (rng.between(7, 11), rng.between(9, 11));
    let mut program = format!("{}[>{}<-]>", "+".repeat(turns as usize), "+".repeat(by as usize));
    let (mut value, mut printed) = (turns * by, String::new());
    for _ in 0..letters {
        let next = loop {
            let next = if printed.is_empty() { rng.between(97, 122) } else { value + signed(rng, 1, 5) };
            if (97..=122).contains(&next) {
                break next;
            }
        };
        let step = if next > value { "+" } else { "-" };
        program.push_str(&step.repeat(next.abs_diff(value) as usize));
        program.push('.');
        printed.push(char::from(next as u8));
        value = next;
    }
    Draft::new(format!("What does this Brainf*ck program print? {program}"), printed)
}

/// A statement of a loop body: text and effect on `x` and `y` in turn `i`.
#[derive(Clone, Copy)]
enum Statement {
    Scale(i64, i64),
    AddTurn(i64),
    Collect(i64, i64),
    Remainder(i64),
}

impl Statement {
    fn drawn(rng: &mut Rng) -> Self {
        match rng.index(3) {
            0 => Self::Scale(rng.between(2, 3), signed(rng, 1, 9)),
            1 => Self::AddTurn(rng.between(2, 9)),
            _ => Self::Collect(rng.between(2, 5), rng.between(0, 1)),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Scale(by, plus) if plus < 0 => format!("x = x * {by} - {}", -plus),
            Self::Scale(by, plus) => format!("x = x * {by} + {plus}"),
            Self::AddTurn(times) => format!("x += i * {times}"),
            Self::Collect(by, rest) => format!("if x % {by} == {rest}: y += x"),
            Self::Remainder(by) => format!("x %= {by}"),
        }
    }

    fn run(self, x: &mut i64, y: &mut i64, turn: i64) {
        match self {
            Self::Scale(by, plus) => *x = *x * by + plus,
            Self::AddTurn(times) => *x += turn * times,
            // Python's remainder is never negative for a positive divisor.
            Self::Collect(by, rest) => *y += if x.rem_euclid(by) == rest { *x } else { 0 },
            Self::Remainder(by) => *x = x.rem_euclid(by),
        }
    }
}

/// Worked by x and y after each turn.
fn loop_value(rng: &mut Rng, [turns, statements, _]: Parameters) -> Draft {
    let (mut x, mut y) = (rng.between(1, 60), rng.between(1, 60));
    let turns = rng.between(3, turns);
    let start = format!("x, y = {x}, {y}");
    let mut body: Vec<Statement> = (0..statements).map(|_| Statement::drawn(rng)).collect();
    // The remainder comes last, so that x stays small.
    body.push(Statement::Remainder(rng.between(50, 999)));
    let texts: Vec<String> = body.iter().map(|statement| format!("    {}\n", statement.text())).collect();
    let mut states = Vec::new();
    for turn in 0..turns {
        body.iter().for_each(|statement| statement.run(&mut x, &mut y, turn));
        y += x;
        states.push(format!("{x} {y}"));
    }
    let question = format!(
        "What does this Python program print?\n{start}\nfor i in range({turns}):\n{}    y += x\nprint(y)",
        texts.concat()
    );
    Draft::new(question, y).worked(states.join(","))
}

/// Numbers on the stack, so that the answer stays short.
const DEPTH_MAX: usize = 6;
/// Largest number on it.
const NUMBER_MAX: i64 = 9_999;

/// The stack after a word, where it is deep enough and the result is small.
fn after(stack: &[i64], word: &str) -> Option<Vec<i64>> {
    let (rest, [below, top]) = stack.split_last_chunk()?;
    let end = match word {
        "dup" => vec![*below, *top, *top],
        "swap" => vec![*top, *below],
        "over" => vec![*below, *top, *below],
        "+" => vec![below + top],
        "-" => vec![below - top],
        _ => vec![below * top],
    };
    let small = rest.len() + end.len() <= DEPTH_MAX && end.iter().all(|number| number.abs() <= NUMBER_MAX);
    small.then(|| [rest, &end].concat())
}

/// Starts with two numbers; a number follows where one is left alone. Worked by the stack after each
/// other word.
fn stack(rng: &mut Rng, [words, ..]: Parameters) -> Draft {
    let (mut stack, mut program, mut states) = (Vec::new(), Vec::new(), Vec::new());
    while (program.len() as i64) < words {
        let word = rng.pick(&["", "dup", "swap", "over", "+", "-", "*", "-", "*"]);
        if stack.len() < 2 || (word.is_empty() && stack.len() < DEPTH_MAX) {
            let number = rng.between(1, 20);
            stack.push(number);
            program.push(number.to_string());
        } else if let Some(next) = after(&stack, word).filter(|_| !word.is_empty()) {
            stack = next;
            program.push(word.into());
            states.push(join(&stack, " "));
        }
    }
    let question = format!(
        "A Forth program: {}. What is on the stack at the end, the lowest first, joined by commas?",
        program.join(" ")
    );
    Draft::new(question, join(&stack, ",")).worked(states.join(","))
}

/// The positions that Python's `[from:to:step]` takes from a string of `length`.
fn sliced(length: i64, from: i64, to: i64, step: i64) -> Vec<i64> {
    let clamp = |at: i64| {
        let at = if at < 0 { at + length } else { at };
        if step > 0 { at.clamp(0, length) } else { at.clamp(-1, length - 1) }
    };
    let (from, to) = (clamp(from), clamp(to));
    let inside = |at: &i64| if step > 0 { *at < to } else { *at > to };
    std::iter::successors(Some(from), |at| Some(at + step)).take_while(inside).collect()
}

/// Each slice starts in one third of the string and ends in the other; drawn until all keep at least
/// three letters, the last one at least two. Worked by the string
/// after each slice.
fn slicing(rng: &mut Rng, [letters, slices, _]: Parameters) -> Draft {
    loop {
        let original = word(rng, letters);
        let (mut text, mut code, mut steps) = (original.clone(), String::new(), Vec::new());
        for _ in 0..slices {
            let length = text.len() as i64;
            let step = rng.pick(&[1, 2, 3, -1, -2]);
            let (low, high) = (rng.between(0, length / 3), length - 1 - rng.between(0, length / 3));
            let (from, to) = if step > 0 { (low, high) } else { (high, low) };
            // Counted from the end in half of the cases.
            let [from, to] = [from, to].map(|at| if rng.below(2) == 0 { at } else { at - length });
            text = sliced(length, from, to, step)
                .into_iter()
                .filter_map(|at| text.as_bytes().get(at as usize))
                .map(|byte| char::from(*byte))
                .collect();
            code.push_str(&if step == 1 {
                format!("[{from}:{to}]")
            } else {
                format!("[{from}:{to}:{step}]")
            });
            steps.push(text.clone());
            if text.len() < 3 {
                break;
            }
        }
        if steps.len() as i64 == slices && text.len() >= 2 && !original.contains(&text) {
            let question = format!("What is '{original}'{code} in Python?");
            return Draft::new(question, text).worked(steps.join(","));
        }
    }
}

/// Worked by the values from 0 up to the argument.
fn recursion(rng: &mut Rng, [calls, largest, _]: Parameters) -> Draft {
    let mut back = distinct(rng, calls, 1, 3);
    back.sort_unstable();
    let base = back[back.len() - 1];
    let factors: Vec<i64> = back.iter().map(|_| signed(rng, 1, 3)).collect();
    let (start, plus) = (rng.between(1, 20), rng.between(1, 20));
    let argument = rng.between(base + 3, largest);
    let mut values: Vec<i64> = Vec::new();
    for n in 0..=argument {
        let calls = || back.iter().zip(&factors).map(|(back, factor)| factor * values[(n - back) as usize]);
        values.push(if n < base { start + n } else { calls().sum::<i64>() + plus * n });
    }
    let terms: Vec<String> =
        back.iter().zip(&factors).map(|(back, factor)| format!("{factor} * f(n - {back})")).collect();
    let question = format!(
        "What is f({argument})?\ndef f(n):\n    if n < {base}: return {start} + n\n    return {} + {plus} * n",
        terms.join(" + ")
    );
    Draft::new(question, values[argument as usize]).worked(join(&values, ","))
}
