//! A procedure carried out on text, lists or grids.

use super::draw::{capital, distinct, join, rows, word};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const CNT: Family =
    Category::Algorithmic.family("cnt", Form::Integer, "How often a letter occurs in eight.", &[], cnt);
pub(super) const MAX: Family =
    Category::Algorithmic.family("max", Form::Integer, "The largest of four two-digit numbers.", &[], max);

pub(super) const FAMILIES: &[Family] = &[
    CNT,
    MAX,
    Category::Algorithmic.family(
        "caesar",
        Form::Text,
        "A word whose letters were moved along the alphabet, moved back.",
        &[("letters", [5, 7, 9, 12, 16]), ("largest shift", [3, 5, 9, 25, 25])],
        caesar,
    ),
    Category::Algorithmic.family(
        "backward",
        Form::Text,
        "A word spelled backward.",
        &[("letters", [6, 8, 11, 15, 20])],
        backward,
    ),
    Category::Algorithmic.family(
        "base",
        Form::Text,
        "A number written in another base.",
        &[("largest number", [999, 2_000, 9_999, 50_000, 999_999]), ("largest base", [10, 10, 16, 16, 20])],
        base,
    ),
    Category::Algorithmic.family(
        "sort",
        Form::Sequence,
        "Numbers in ascending order.",
        &[("numbers", [4, 5, 7, 9, 12])],
        sort,
    ),
    Category::Algorithmic.family(
        "subsequences",
        Form::Integer,
        "In how many ways the letters of a pattern can be picked in order from a text.",
        &[("letters", [12, 14, 14, 17, 20]), ("pattern", [2, 2, 3, 3, 4])],
        subsequences,
    ),
    Category::Algorithmic.family(
        "change",
        Form::Integer,
        "In how many ways coins make an amount.",
        &[("coins", [3, 3, 4, 4, 5]), ("largest amount", [90, 120, 80, 120, 150])],
        change,
    ),
    Category::Algorithmic.family(
        "primes",
        Form::Integer,
        "How many primes lie between two numbers.",
        &[("largest number", [150, 250, 500, 1_000, 3_000])],
        primes,
    ),
    Category::Algorithmic.family(
        "spiral",
        Form::Text,
        "A grid of digits read in a spiral from its top left corner.",
        &[("rows", [2, 3, 3, 4, 5]), ("columns", [3, 3, 4, 4, 5])],
        spiral,
    ),
    Category::Algorithmic.family(
        "life",
        Form::Text,
        "The next generations of Conway's game of life on a grid whose edges wrap around.",
        &[("side", [4, 5, 5, 6, 6]), ("generations", [1, 1, 2, 2, 3])],
        life,
    ),
    Category::Algorithmic.family(
        "josephus",
        Form::Text,
        "Who leaves first, second and third when every n-th person of a circle leaves.",
        &[("people", [7, 8, 10, 13, 16]), ("largest step", [4, 5, 7, 9, 19])],
        josephus,
    ),
    Category::Algorithmic.family(
        "knapsack",
        Form::Integer,
        "The best total value of things that fit into a bag.",
        &[("things", [3, 4, 5, 6, 8]), ("largest value", [20, 20, 30, 50, 99])],
        knapsack,
    ),
];

/// `cnt a:bbbcacab`, by the running tally `00001122`. 19,683 questions.
fn cnt(rng: &mut Rng, _: Parameters) -> Draft {
    let letter = |rng: &mut Rng| char::from(b'a' + rng.below(3) as u8);
    let wanted = letter(rng);
    let (mut text, mut trace, mut tally) = (String::new(), String::new(), 0);
    for _ in 0..8 {
        let next = letter(rng);
        tally += i64::from(next == wanted);
        text.push(next);
        trace.push_str(&tally.to_string());
    }
    Draft::new(format!("cnt {wanted}:{text}"), tally).worked(trace)
}

/// `max 22,89,42,78`, by the running maximum `89,89,89`. More than 60 million questions.
fn max(rng: &mut Rng, _: Parameters) -> Draft {
    let numbers: Vec<i64> = (0..4).map(|_| rng.between(10, 99)).collect();
    let running: Vec<i64> = (2..=4).filter_map(|n| numbers[..n].iter().max().copied()).collect();
    let answer = running.last().copied().unwrap_or(0);
    Draft::new(format!("max {}", join(&numbers, ",")), answer).worked(join(&running, ","))
}

/// A text of `count` letters among the first `kinds`.
fn letters(rng: &mut Rng, count: i64, kinds: usize) -> Vec<u8> {
    (0..count).map(|_| b'a' + rng.index(kinds) as u8).collect()
}

fn caesar(rng: &mut Rng, [letters, shift, _]: Parameters) -> Draft {
    let (clear, shift) = (word(rng, letters), rng.between(1, shift));
    let moved = |letter: u8| char::from(b'a' + (letter - b'a' + shift as u8) % 26);
    let coded: String = clear.bytes().map(moved).collect();
    let question =
        format!("Each letter was moved {shift} on in the alphabet, a following z. Undo it for {coded}.");
    Draft::new(question, clear)
}

fn backward(rng: &mut Rng, [letters, ..]: Parameters) -> Draft {
    let word = loop {
        let word = word(rng, letters);
        if !word.bytes().eq(word.bytes().rev()) {
            break word;
        }
    };
    let reversed: String = word.chars().rev().collect();
    Draft::new(format!("Spell {word} backward."), reversed)
}

fn in_base(mut number: i64, base: i64) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.extend(char::from_digit((number % base) as u32, 36));
        number /= base;
    }
    digits.iter().rev().collect()
}

/// Worked by the number in base ten.
fn base(rng: &mut Rng, [largest, base, _]: Parameters) -> Draft {
    let number = rng.between(base * base, largest);
    let bases = distinct(rng, 2, 2, base);
    let question = format!(
        "Write the base {} number {} in base {}, with letters for digits above 9.",
        bases[0],
        in_base(number, bases[0]),
        bases[1]
    );
    Draft::new(question, in_base(number, bases[1])).worked(number.to_string())
}

fn sort(rng: &mut Rng, [count, ..]: Parameters) -> Draft {
    let mut numbers = distinct(rng, count, 0, 99);
    while numbers.is_sorted() {
        rng.shuffle(&mut numbers);
    }
    let question = format!("Sort {} in ascending order, joined by commas.", join(&numbers, " "));
    numbers.sort_unstable();
    Draft::new(question, join(&numbers, ","))
}

/// Worked by the ways of the whole pattern after each letter of the text.
fn subsequences(rng: &mut Rng, [length, pattern, _]: Parameters) -> Draft {
    loop {
        let (text, pattern) = (letters(rng, length, 3), letters(rng, pattern, 3));
        let mut ways = vec![0_i64; pattern.len() + 1];
        ways[0] = 1;
        let mut running = Vec::new();
        for letter in &text {
            for i in (0..pattern.len()).rev().filter(|i| pattern[*i] == *letter) {
                ways[i + 1] += ways[i];
            }
            running.push(ways[pattern.len()]);
        }
        let answer = ways[pattern.len()];
        if answer > 1 {
            let [pattern, text] =
                [pattern, text].map(|bytes| bytes.into_iter().map(char::from).collect::<String>());
            let question =
                format!("In how many ways can letters of {text} be struck out to leave {pattern}?");
            return Draft::new(question, answer).worked(join(&running, ","));
        }
    }
}

/// Worked by the ways with the first coin only, with the first two, …
fn change(rng: &mut Rng, [coins, largest, _]: Parameters) -> Draft {
    loop {
        let mut coins = distinct(rng, coins, 1, 20);
        coins.sort_unstable();
        let amount = rng.between(largest / 3, largest);
        let (mut ways, mut steps) = (vec![0_i64; amount as usize + 1], Vec::new());
        ways[0] = 1;
        for coin in &coins {
            for sum in *coin as usize..ways.len() {
                ways[sum] += ways[sum - *coin as usize];
            }
            steps.push(ways[amount as usize]);
        }
        if ways[amount as usize] > 1 {
            let question = format!(
                "In how many ways can any number of coins of {} make {amount}? Order does not count.",
                join(&coins, ", ")
            );
            return Draft::new(question, ways[amount as usize]).worked(join(&steps, ","));
        }
    }
}

/// Worked by the primes, where they are few.
fn primes(rng: &mut Rng, [largest, ..]: Parameters) -> Draft {
    let low = rng.between(2, largest * 3 / 4);
    let high = rng.between(low + largest / 10, largest);
    let is_prime = |n: i64| (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    let found: Vec<i64> = (low..=high).filter(|n| is_prime(*n)).collect();
    let draft = Draft::new(format!("How many primes are there from {low} to {high}?"), found.len());
    if found.len() <= 30 { draft.worked(join(&found, ",")) } else { draft }
}

fn spiral(rng: &mut Rng, [height, width, _]: Parameters) -> Draft {
    let mut grid: Vec<Vec<u8>> =
        (0..height).map(|_| (0..width).map(|_| b'0' + rng.below(10) as u8).collect()).collect();
    let question = format!(
        "Read this grid in a clockwise spiral from the top left inward, without spaces: {}",
        rows(&grid).join(" / ")
    );
    let mut read = String::new();
    while !grid.is_empty() {
        read.extend(grid.remove(0).into_iter().map(char::from));
        // The rest, turned so that its right column becomes the first row.
        let width = grid.first().map_or(0, Vec::len);
        grid = (0..width).rev().map(|column| grid.iter().map(|row| row[column]).collect()).collect();
    }
    Draft::new(question, read)
}

fn next_generation(grid: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let side = grid.len();
    let alive = |row: usize, column: usize| grid[row % side][column % side] == b'1';
    let next = |row: usize, column: usize| {
        let around = (0..9).filter(|i| *i != 4 && alive(row + side + i / 3 - 1, column + side + i % 3 - 1));
        let around = around.count();
        if around == 3 || around == 2 && alive(row, column) { b'1' } else { b'0' }
    };
    (0..side).map(|row| (0..side).map(|column| next(row, column)).collect()).collect()
}

/// Something lives to the end; a grid that dies out would be guessed.
fn life(rng: &mut Rng, [side, generations, _]: Parameters) -> Draft {
    loop {
        let cell = |rng: &mut Rng| if rng.below(5) < 2 { b'1' } else { b'0' };
        let start: Vec<Vec<u8>> = (0..side).map(|_| (0..side).map(|_| cell(rng)).collect()).collect();
        let end = (0..generations).fold(start.clone(), |grid, _| next_generation(&grid));
        if end.iter().flatten().all(|cell| *cell == b'0') || end == start {
            continue;
        }
        let question = format!(
            "Conway's game of life, edges wrapping around. The grid {} after {generations} generation{}, with a space between rows?",
            rows(&start).join(" "),
            if generations == 1 { "" } else { "s" }
        );
        return Draft::new(question, rows(&end).join(" "));
    }
}

/// `2nd`, `3rd`, `4th`; of small numbers.
fn ordinal(number: usize) -> String {
    match number {
        2 => "2nd".into(),
        3 => "3rd".into(),
        _ => format!("{number}th"),
    }
}

fn josephus(rng: &mut Rng, [people, step, _]: Parameters) -> Draft {
    let mut circle: Vec<char> = (0..people as usize).map(capital).collect();
    rng.shuffle(&mut circle);
    let step = rng.between(2, step) as usize;
    let question = format!(
        "In a circle, in this order: {}. Counting from the first, every {} leaves the circle. The first three to leave, in order?",
        join(&circle, ""),
        ordinal(step)
    );
    let (mut at, mut left) = (0, String::new());
    for _ in 0..3 {
        at = (at + step - 1) % circle.len();
        left.push(circle.remove(at));
    }
    Draft::new(question, left)
}

fn knapsack(rng: &mut Rng, [things, value, _]: Parameters) -> Draft {
    let things: Vec<(i64, i64)> = (0..things).map(|_| (rng.between(1, 15), rng.between(1, value))).collect();
    let all: i64 = things.iter().map(|(weight, _)| weight).sum();
    let room = rng.between(all / 2, all * 3 / 4);
    let mut best = vec![0; room as usize + 1];
    for (weight, value) in &things {
        for load in (*weight as usize..best.len()).rev() {
            best[load] = best[load].max(best[load - *weight as usize] + value);
        }
    }
    let listed: Vec<String> =
        things.iter().map(|(weight, value)| format!("{weight} kg worth {value}")).collect();
    let question = format!("A bag holds {room} kg. Most worth of what fits: {}?", listed.join(", "));
    Draft::new(question, best[room as usize])
}
