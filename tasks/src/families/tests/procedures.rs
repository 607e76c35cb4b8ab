//! Solvers of algorithmic families, induction, cognition and code.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{between, evaluate, numbers, only, place};

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";

/// The answer to a question, found in another way than its family's.
pub(super) fn solve(family: &str, question: &str) -> Option<String> {
    let found = numbers(question);
    let integer = |number: i64| Some(number.to_string());
    match family {
        "cnt" => integer(question[6..].matches(&question[4..5]).count() as i64),
        "max" => integer(found.into_iter().reduce(i64::max)?),
        "caesar" => {
            let back = |c: char| ALPHABET.chars().cycle().nth(place(c) + 26 - found[0] as usize);
            between(question, "for ", ".").chars().map(back).collect()
        }
        "backward" => {
            Some(between(question, "Spell ", " ").chars().fold(String::new(), |s, c| format!("{c}{s}")))
        }
        "base" => {
            let digits = between(question, "number ", " in");
            let bases = [between(question, "base ", " "), between(question, "in base ", ",")];
            let [from, to] = bases.map(|base| base.parse::<u32>().unwrap());
            Some(in_base(i64::from_str_radix(digits, from).ok()?, i64::from(to)))
        }
        "sort" => {
            let sorted: BTreeSet<i64> = found.into_iter().collect();
            Some(sorted.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
        }
        "subsequences" => {
            let (text, pattern) = (between(question, "letters of ", " "), between(question, "leave ", "?"));
            integer(subsequences(text, pattern))
        }
        "change" => integer(change(&found[..found.len() - 1], found[found.len() - 1])),
        "primes" => {
            let mut composite = vec![false; found[1] as usize + 1];
            (2..composite.len())
                .for_each(|d| (2 * d..composite.len()).step_by(d).for_each(|m| composite[m] = true));
            integer((found[0]..=found[1]).filter(|n| !composite[*n as usize]).count() as i64)
        }
        "spiral" => Some(spiral(between(question, "spaces: ", ""))),
        "life" => {
            let grid = between(question, "grid ", " after");
            Some(
                (0..numbers(between(question, " after ", ""))[0])
                    .fold(grid.to_string(), |grid, _| life(&grid)),
            )
        }
        "josephus" => Some(josephus(between(question, "order: ", "."), found[0])),
        "knapsack" => {
            let (room, things) = (found[0], &found[1..]);
            let total = |subset: usize| {
                let taken = || things.chunks(2).enumerate().filter(move |(i, _)| subset >> i & 1 == 1);
                let weight: i64 = taken().map(|(_, thing)| thing[0]).sum();
                (weight <= room).then(|| taken().map(|(_, thing)| thing[1]).sum::<i64>())
            };
            integer((0..1 << (things.len() / 2)).filter_map(total).max()?)
        }
        "seq" => integer(2 * found[3] - found[2]),
        "recurrence" => {
            let fits = |(p, q): &(i64, i64)| found.windows(3).all(|t| t[2] == p * t[1] + q * t[0]);
            let all = (-20..=20).flat_map(|p| (-20..=20).map(move |q| (p, q)));
            let (p, q) = only(all.filter(fits));
            integer(p * found[4] + q * found[3])
        }
        "operator" => integer(operator(question)),
        "list-rule" => Some(list_rule(question)),
        "row-rule" => Some(row_rule(question)),
        "codebook" => {
            let mut book = BTreeMap::new();
            for pair in between(question, "letter: ", ".").split(", ") {
                let (code, clear) = pair.split_once(" is ")?;
                for (from, to) in code.chars().zip(clear.chars()) {
                    assert!(book.insert(from, to).is_none_or(|old| old == to));
                }
            }
            between(question, "What is ", "?").chars().map(|c| book.get(&c)).collect()
        }
        "walk" => Some(walk(between(question, "grows): ", "."))),
        "rolling-cube" => Some(rolling_cube(question)),
        "haystack" => {
            let fact = question.rsplit_once("Who ")?.1.replace('?', ".");
            only(
                question
                    .split_inclusive(". ")
                    .filter_map(|text| text.trim().strip_suffix(&fact))
                    .map(str::trim),
            )
            .to_string()
            .into()
        }
        "swaps" => {
            let mut row: Vec<char> = between(question, "order ", ".").chars().collect();
            for pair in found.chunks(2) {
                let (a, b) = (row[pair[0] as usize - 1], row[pair[1] as usize - 1]);
                row = row
                    .into_iter()
                    .map(|c| {
                        if c == a {
                            b
                        } else if c == b {
                            a
                        } else {
                            c
                        }
                    })
                    .collect();
            }
            Some(row.into_iter().collect())
        }
        "block-faces" => integer(faces(between(question, "heights: ", "."))),
        "bf" => Some(brainfuck(between(question, "print? ", ""))),
        "loop" => integer(run_loop(question)),
        "stack" => Some(forth(between(question, "program: ", ". "))),
        "slicing" => Some(slicing(question)),
        "recursion" => integer(recursion(question)),
        _ => None,
    }
}

fn in_base(number: i64, base: i64) -> String {
    let digit = &"0123456789abcdefghijklmnopqrstuvwxyz"[(number % base) as usize..][..1];
    if number < base { digit.into() } else { in_base(number / base, base) + digit }
}

fn subsequences(text: &str, pattern: &str) -> i64 {
    let Some(first) = pattern.chars().next() else { return 1 };
    text.match_indices(first).map(|(at, _)| subsequences(&text[at + 1..], &pattern[1..])).sum()
}

fn change(coins: &[i64], amount: i64) -> i64 {
    match coins {
        [] => i64::from(amount == 0),
        [coin, rest @ ..] => (0..=amount / coin).map(|n| change(rest, amount - n * coin)).sum(),
    }
}

/// Cell by cell, turning right before a visited cell or the edge.
fn spiral(text: &str) -> String {
    let grid: Vec<Vec<char>> = text.split(" / ").map(|row| row.chars().collect()).collect();
    let (height, width) = (grid.len() as i64, grid[0].len() as i64);
    let (mut at, mut step, mut visited, mut read) = ((0, 0), (0, 1), BTreeSet::new(), String::new());
    while visited.insert(at) {
        read.push(grid[at.0 as usize][at.1 as usize]);
        let next = |step: (i64, i64)| (at.0 + step.0, at.1 + step.1);
        let free = |cell: (i64, i64)| {
            (0..height).contains(&cell.0) && (0..width).contains(&cell.1) && !visited.contains(&cell)
        };
        if !free(next(step)) {
            step = (step.1, -step.0);
        }
        if free(next(step)) {
            at = next(step);
        }
    }
    read
}

/// By adding each living cell to its neighbours' counts.
fn life(text: &str) -> String {
    let grid: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    let n = grid.len() as i64;
    let mut counts = vec![0; (n * n) as usize];
    for (row, column) in (0..n).flat_map(|row| (0..n).map(move |column| (row, column))) {
        for (down, right) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
            let target = (row + down).rem_euclid(n) * n + (column + right).rem_euclid(n);
            counts[target as usize] += usize::from(grid[row as usize][column as usize] == b'1');
        }
    }
    let cell = |i: usize| match (counts[i], grid[i / n as usize][i % n as usize]) {
        (3, _) | (2, b'1') => '1',
        _ => '0',
    };
    let cells: Vec<char> = (0..counts.len()).map(cell).collect();
    cells.chunks(n as usize).map(|row| row.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// With a queue: who is not the n-th goes to its end.
fn josephus(circle: &str, step: i64) -> String {
    let mut queue: std::collections::VecDeque<char> = circle.chars().collect();
    let mut left = String::new();
    while left.len() < 3 {
        queue.rotate_left((step as usize - 1) % queue.len());
        left.extend(queue.pop_front());
    }
    left
}

/// By every choice of factors within reach.
fn operator(question: &str) -> i64 {
    let terms = between(question, "means ", " with").split(" + ").count();
    let found = numbers(between(question, "fixed numbers", ""));
    let (shown, asked) = found.split_at(found.len() - 2);
    let reach = match terms {
        2 | 3 => 15,
        _ => 12,
    };
    let parts = |a: i64, b: i64| [a, b, 1, a * b];
    let value =
        |factors: &[i64], a: i64, b: i64| factors.iter().zip(parts(a, b)).map(|(x, y)| x * y).sum::<i64>();
    let mut possible = vec![vec![]];
    for _ in 1..terms {
        possible = possible
            .iter()
            .flat_map(|factors: &Vec<i64>| (-reach..=reach).map(|next| [&factors[..], &[next]].concat()))
            .collect();
    }
    // The last factor follows from the first example.
    let last = |factors: &Vec<i64>| {
        let rest = shown[2] - value(factors, shown[0], shown[1]);
        let part = parts(shown[0], shown[1])[terms - 1];
        (rest % part == 0).then(|| [&factors[..], &[rest / part]].concat())
    };
    let fits = |factors: &Vec<i64>| shown.chunks(3).all(|e| value(factors, e[0], e[1]) == e[2]);
    let factors = only(possible.iter().filter_map(last).filter(fits));
    value(&factors, asked[0], asked[1])
}

fn step(name: &str, list: &[i64]) -> Vec<i64> {
    let mut list = list.to_vec();
    match name {
        "reverse" => list.reverse(),
        "sort" => list.sort(),
        "drop first" => list = list[1..].to_vec(),
        "drop last" => list.truncate(list.len() - 1),
        "double each" => list.iter_mut().for_each(|n| *n += *n),
        "add 1 to each" => list.iter_mut().for_each(|n| *n += 1),
        "first to the end" => {
            let first = list.remove(0);
            list.push(first);
        }
        _ => unreachable!("{name}"),
    }
    list
}

/// By every program of the steps named.
fn list_rule(question: &str) -> String {
    let count = numbers(between(question, "The same ", " done")).first().copied().unwrap_or(1);
    let (names, rest) = between(question, "of: ", "").split_once(". ").unwrap();
    let names: Vec<&str> = names.split(", ").collect();
    let pairs: Vec<(Vec<i64>, Vec<i64>)> = rest
        .split("; ")
        .map(|pair| pair.split_once("->").unwrap())
        .map(|(a, b)| (numbers(a), numbers(b)))
        .collect();
    let mut programs: Vec<Vec<&str>> = vec![vec![]];
    for _ in 0..count {
        programs =
            programs.iter().flat_map(|p| names.iter().map(|next| [&p[..], &[*next]].concat())).collect();
    }
    let run =
        |program: &[&str], list: &[i64]| program.iter().fold(list.to_vec(), |list, name| step(name, &list));
    let fits = |program: &&Vec<&str>| pairs[..2].iter().all(|(from, to)| run(program, from) == *to);
    let answers: BTreeSet<Vec<i64>> = programs.iter().filter(fits).map(|p| run(p, &pairs[2].0)).collect();
    only(answers.into_iter()).iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// Every single change of a row, by its description.
fn changed(row: &str) -> Vec<String> {
    let n = row.len();
    let at = |i: usize| &row[i..=i];
    let coloured = row.replace('0', "");
    let gaps = "0".repeat(n - coloured.len());
    let mut all: Vec<String> = (1..=3).map(|by| format!("{}{}", &row[n - by..], &row[..n - by])).collect();
    all.push(row.chars().rev().collect());
    all.push(format!("{coloured}{gaps}"));
    all.push(format!("{gaps}{coloured}"));
    all.push((0..n).map(|i| if at(i) == "0" && i > 0 { at(i - 1) } else { at(i) }).collect());
    all.push((0..n).map(|i| if at(i) == "0" && i + 1 < n { at(i + 1) } else { at(i) }).collect());
    let bridge = |i: usize| {
        let before = row[..i].trim_end_matches('0').chars().last();
        let behind = row[i..].trim_start_matches('0').chars().next();
        let own = char::from(row.as_bytes()[i]);
        before.filter(|ends| own == '0' && Some(*ends) == behind).unwrap_or(own)
    };
    all.push((0..n).map(bridge).collect());
    for (from, to) in [("1", "2"), ("1", "3"), ("2", "1"), ("2", "3"), ("3", "1"), ("3", "2")] {
        all.push(row.replace(from, to));
    }
    all
}

/// What every single change, or every two, make of all rows at once.
fn row_rule(question: &str) -> String {
    let mut rows: Vec<&str> = Vec::new();
    let mut ends: Vec<&str> = Vec::new();
    for pair in between(question, "rows: ", ".").split(", ") {
        let (row, end) = pair.split_once(" -> ").unwrap();
        rows.push(row);
        ends.push(end);
    }
    rows.push(between(question, "becomes of ", "?"));
    // Transposed: the rows that one change leads to.
    let together = |rows: &[String]| -> Vec<Vec<String>> {
        let each: Vec<Vec<String>> = rows.iter().map(|row| changed(row)).collect();
        (0..each[0].len()).map(|change| each.iter().map(|all| all[change].clone()).collect()).collect()
    };
    let start: Vec<String> = rows.iter().map(|row| row.to_string()).collect();
    let once = together(&start);
    let twice: Vec<Vec<String>> = once.iter().flat_map(|rows| together(rows)).collect();
    let answers = |all: &[Vec<String>]| -> BTreeSet<String> {
        all.iter().filter(|rows| rows[..3] == ends[..]).map(|rows| rows[3].clone()).collect()
    };
    let simple = answers(&once);
    only(if simple.is_empty() { answers(&twice) } else { simple }.into_iter())
}

fn walk(text: &str) -> String {
    // Sides in the order of right turns: north, east, south, west.
    let (mut facing, mut gone) = (0, [0_i64; 4]);
    for part in text.split(", ") {
        match part {
            "left" => facing += 3,
            "right" => facing += 1,
            _ => gone[facing % 4] += numbers(part)[0],
        }
    }
    format!("{},{}", gone[1] - gone[3], gone[0] - gone[2])
}

/// With the sides as directions in space, turned around an axis.
fn rolling_cube(question: &str) -> String {
    let direction = |name: &str| match name {
        "north" => [0, 1, 0],
        "south" => [0, -1, 0],
        "east" => [1, 0, 0],
        "west" => [-1, 0, 0],
        "top" => [0, 0, 1],
        "bottom" => [0, 0, -1],
        _ => unreachable!("{name}"),
    };
    let side = |text: &str| {
        text.split_once(' ').map(|(name, letter)| (direction(name), letter.to_string())).unwrap()
    };
    let mut sides: Vec<([i64; 3], String)> = between(question, "sides ", ".").split(", ").map(side).collect();
    for to in between(question, "edge to the ", ".").split(", ") {
        let [dx, dy, _] = direction(to);
        for ([x, y, z], _) in &mut sides {
            // The part along the way becomes depth, height becomes the way; the rest stays.
            let along = *x * dx + *y * dy;
            (*x, *y, *z) = (*x - along * dx + *z * dx, *y - along * dy + *z * dy, -along);
        }
    }
    ["top", "north", "east"]
        .map(|name| only(sides.iter().filter(|(at, _)| *at == direction(name))).1.clone())
        .concat()
}

/// With every single cube.
fn faces(text: &str) -> i64 {
    let mut cubes = BTreeSet::new();
    for (row, heights) in text.split(" / ").enumerate() {
        for (column, height) in numbers(heights).into_iter().enumerate() {
            cubes.extend((0..height).map(|z| (row as i64, column as i64, z)));
        }
    }
    let free = |(x, y, z): &(i64, i64, i64)| {
        let around = [
            (x - 1, *y, *z),
            (x + 1, *y, *z),
            (*x, y - 1, *z),
            (*x, y + 1, *z),
            (*x, *y, z + 1),
            (*x, *y, z - 1),
        ];
        around.iter().filter(|cell| cell.2 >= 0 && !cubes.contains(cell)).count() as i64
    };
    cubes.iter().map(free).sum()
}

fn brainfuck(program: &str) -> String {
    let code: Vec<char> = program.chars().collect();
    let (mut tape, mut at, mut next, mut printed) = ([0_u8; 16], 0, 0, String::new());
    while let Some(command) = code.get(next) {
        match command {
            '+' => tape[at] = tape[at].wrapping_add(1),
            '-' => tape[at] = tape[at].wrapping_sub(1),
            '>' => at += 1,
            '<' => at -= 1,
            '.' => printed.push(char::from(tape[at])),
            ']' if tape[at] != 0 => next = code[..next].iter().rposition(|c| *c == '[').unwrap(),
            _ => {}
        }
        next += 1;
    }
    printed
}

/// A line at a time.
fn run_loop(question: &str) -> i64 {
    let lines: Vec<&str> = question.lines().collect();
    let start = numbers(lines[1]);
    let (mut x, mut y) = (start[0], start[1]);
    for turn in 0..numbers(lines[2])[0] {
        for line in &lines[3..lines.len() - 1] {
            match line.trim().split(' ').collect::<Vec<_>>()[..] {
                ["x", "=", ..] => x = evaluate(line.split_once("= ").unwrap().1, x),
                ["x", "+=", "i", "*", by] => x += turn * by.parse::<i64>().unwrap(),
                ["x", "%=", by] => x = ((x % by.parse::<i64>().unwrap()) + numbers(by)[0]) % numbers(by)[0],
                ["if", "x", "%", by, "==", rest, "y", "+=", "x"] => {
                    let (by, rest) = (numbers(by)[0], numbers(rest)[0]);
                    y += if (x - rest) % by == 0 { x } else { 0 };
                }
                ["y", "+=", "x"] => y += x,
                _ => unreachable!("{line}"),
            }
        }
    }
    y
}

fn forth(program: &str) -> String {
    let mut stack: Vec<i64> = Vec::new();
    for word in program.split(' ') {
        let n = stack.len();
        match word {
            "dup" => stack.push(stack[n - 1]),
            "over" => stack.push(stack[n - 2]),
            "swap" => stack.swap(n - 1, n - 2),
            "+" | "-" | "*" => {
                let (b, a) = (stack.pop().unwrap(), stack.pop().unwrap());
                stack.push(evaluate(&format!("({a}) {word} ({b})"), 0));
            }
            number => stack.push(number.parse().unwrap()),
        }
    }
    stack.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// By the definition in Python's manual: the letters at from, from + step, … as long as they are before
/// (or behind, for a negative step) the end.
fn slicing(question: &str) -> String {
    let (text, rest) = between(question, "is '", "").split_once('\'').unwrap();
    let mut text = text.to_string();
    for slice in rest.split_once(" in").unwrap().0.trim_matches(['[', ']']).split("][") {
        let bounds: Vec<i64> = slice.split(':').map(|n| n.parse().unwrap()).collect();
        let (length, step) = (text.len() as i64, bounds.get(2).copied().unwrap_or(1));
        let end = |at: i64| if at < 0 { (at + length).max(if step < 0 { -1 } else { 0 }) } else { at };
        let (from, to) = (end(bounds[0]), end(bounds[1]));
        let taken = |at: &i64| {
            let ahead = if step > 0 { from <= *at && *at < to } else { to < *at && *at <= from };
            ahead && (at - from) % step == 0
        };
        let mut kept: Vec<i64> = (0..length).filter(taken).collect();
        if step < 0 {
            kept.reverse();
        }
        text = kept.iter().map(|at| text.as_bytes()[*at as usize] as char).collect();
    }
    text
}

/// By calling itself, as the function does.
fn recursion(question: &str) -> i64 {
    let lines: Vec<&str> = question.lines().collect();
    let base = numbers(lines[2])[..2].to_vec();
    let (terms, plus) = lines[3].trim().strip_prefix("return ").unwrap().rsplit_once(" + ").unwrap();
    let term = |text: &str| {
        let (factor, back) = text.split_once(" * f(n - ").unwrap();
        (factor.parse().unwrap(), numbers(back)[0])
    };
    let terms: Vec<(i64, i64)> = terms.split(" + ").map(term).collect();
    fn f(n: i64, base: &[i64], terms: &[(i64, i64)], plus: i64) -> i64 {
        if n < base[0] {
            return base[1] + n;
        }
        terms.iter().map(|(factor, back)| factor * f(n - back, base, terms, plus)).sum::<i64>() + plus * n
    }
    f(numbers(lines[0])[0], &base, &terms, numbers(plus)[0])
}
