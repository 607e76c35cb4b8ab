//! Solvers of logic, games and graphs: by trying everything.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{between, numbers, only, orders, place, roads};

/// The answer to a question, found in another way than its family's.
pub(super) fn solve(family: &str, question: &str) -> Option<String> {
    let found = numbers(question);
    let integer = |number: i64| Some(number.to_string());
    match family {
        "knights" => Some(knights(between(question, "allows both. ", ". Who"))),
        "truth-table" => Some(truth_table(question)),
        "lineup" => Some(lineup(question)),
        "venn" => integer(match found[..] {
            [all, tea, milk, neither] => tea + milk - (all - neither),
            _ => found[0] - found[1..4].iter().sum::<i64>() + found[4..7].iter().sum::<i64>() - found[7],
        }),
        "circuit" => Some(circuit(question)),
        "nim" => Some(nim(&found)),
        "hanoi" => integer(hanoi(question)),
        "sudoku4" => Some(sudoku(between(question, "Complete ", " and"))),
        "queens" => Some(queens(between(question, "row by row: ", "."))),
        "mastermind" => Some(mastermind(question)),
        "maze" => integer(maze(between(question, "Rows: ", ""))),
        "knight-routes" => integer(knight_routes(question)),
        "shortest-path" => {
            let roads = roads(between(question, "lengths: ", "."));
            let mut ends = between(question, "path from ", "?")
                .split(" to ")
                .map(|name| place(name.chars().next().unwrap()));
            let (from, to) = (ends.next()?, ends.next()?);
            integer(walks(&roads, true, to, &mut vec![from]).into_iter().min()?)
        }
        "spanning-tree" => integer(spanning_tree(&roads(between(question, "lengths: ", ".")))),
        "course-order" => Some(course_order(question)),
        "kinship" => Some(kinship(question)),
        "path-count" => {
            let to = place(between(question, "A to ", "?").chars().next()?);
            integer(walks(&roads(between(question, "roads: ", ".")), false, to, &mut vec![0]).len() as i64)
        }
        "largest-island" => integer(largest_island(between(question, "Rows: ", ""))),
        "max-flow" => {
            let last = place(between(question, "A to ", "?").chars().next()?);
            let pipes = roads(between(question, "capacities: ", "."));
            // A cut: A on one side, the last point on the other.
            let cut = |side: usize| -> i64 {
                let inside = |point: usize| (2 * side + 1) >> point & 1 == 1;
                pipes.iter().filter(|(a, b, _)| inside(*a) && !inside(*b)).map(|(_, _, most)| most).sum()
            };
            integer((0..1 << (last - 1)).map(cut).min()?)
        }
        _ => None,
    }
}

fn letters(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() == 1 && word.chars().all(|c| c.is_ascii_uppercase()))
        .map(|word| place(word.chars().next().unwrap()))
        .collect()
}

fn named(places: impl IntoIterator<Item = usize>) -> String {
    places.into_iter().map(|i| (b'A' + i as u8) as char).collect()
}

fn knights(text: &str) -> String {
    let claims: Vec<(Vec<usize>, &str)> = text.split(". ").map(|claim| (letters(claim), claim)).collect();
    let agrees = |kinds: &Vec<bool>| {
        claims.iter().all(|(people, claim)| {
            let said: Vec<bool> = people[1..].iter().map(|person| kinds[*person]).collect();
            let holds = if claim.contains("one kind") {
                said[0] == said[1]
            } else if claim.contains("different") {
                said[0] != said[1]
            } else if claim.ends_with("knave") {
                said.contains(&false)
            } else {
                said.contains(&true)
            };
            holds == kinds[people[0]]
        })
    };
    let all =
        (0..1 << claims.len()).map(|bits: usize| (0..claims.len()).map(|i| bits >> i & 1 == 1).collect());
    let kinds: Vec<bool> = only(all.filter(agrees));
    named((0..kinds.len()).filter(|i| kinds[*i]))
}

fn truth_table(question: &str) -> String {
    let formula = between(question, "table of ", " for ").replace('(', "( ").replace(')', " )");
    let tokens: Vec<&str> = formula.split_whitespace().collect();
    let n = between(question, " for ", " = ").len();
    let row = |row: usize| {
        let value = |name: &str| row >> (n - 1 - (place(name.chars().next().unwrap()) - place('p'))) & 1 == 1;
        if formula_value(&tokens, &mut 0, &value) { '1' } else { '0' }
    };
    (0..1 << n).map(row).collect()
}

fn formula_value(tokens: &[&str], at: &mut usize, value: &dyn Fn(&str) -> bool) -> bool {
    *at += 1;
    match tokens[*at - 1] {
        "not" => !formula_value(tokens, at, value),
        "(" => {
            let a = formula_value(tokens, at, value);
            let word = tokens[*at];
            *at += 1;
            let b = formula_value(tokens, at, value);
            *at += 1;
            match word {
                "and" => a && b,
                "or" => a || b,
                "xor" => a != b,
                "implies" => b || !a,
                _ => unreachable!("{word}"),
            }
        }
        name => value(name),
    }
}

fn lineup(question: &str) -> String {
    let clues: Vec<&str> = between(question, "from the left. ", ". Their").split(". ").collect();
    let agrees = |order: &Vec<usize>| {
        clues.iter().all(|clue| {
            let at: Vec<i64> =
                letters(clue).iter().map(|a| order.iter().position(|b| a == b).unwrap() as i64).collect();
            if clue.contains("left of") {
                at[0] < at[1]
            } else if clue.contains("not next") {
                (at[0] - at[1]).abs() > 1
            } else if clue.contains("next") {
                (at[0] - at[1]).abs() == 1
            } else {
                at[0] + 1 != numbers(clue)[0]
            }
        })
    };
    named(only(orders(numbers(question)[0] as usize).into_iter().filter(agrees)))
}

fn circuit(question: &str) -> String {
    let given = between(question, " are ", ".");
    let mut signals: BTreeMap<String, bool> = given
        .chars()
        .enumerate()
        .map(|(i, bit)| (char::from(b'a' + i as u8).to_string(), bit == '1'))
        .collect();
    let mut outputs = String::new();
    for gate in between(question, ". ", ".").split(", ") {
        let [name, a, word, b] = gate.split(['=', ' ']).collect::<Vec<_>>()[..] else {
            unreachable!("{gate}")
        };
        let (x, y) = (u8::from(signals[a]), u8::from(signals[b]));
        let value = match word {
            "and" => x * y,
            "or" => x.max(y),
            "xor" => (x + y) % 2,
            "nand" => 1 - x * y,
            "nor" => 1 - x.max(y),
            _ => unreachable!("{word}"),
        };
        signals.insert(name.into(), value == 1);
        outputs.push_str(&value.to_string());
    }
    outputs
}

/// Whether who is to move wins, by trying every move.
fn wins(piles: &[i64], known: &mut BTreeMap<Vec<i64>, bool>) -> bool {
    let mut sorted: Vec<i64> = piles.iter().copied().filter(|pile| *pile > 0).collect();
    sorted.sort();
    if let Some(known) = known.get(&sorted) {
        return *known;
    }
    let result = (0..sorted.len()).any(|i| {
        (0..sorted[i]).any(|left| {
            let mut next = sorted.clone();
            next[i] = left;
            !wins(&next, known)
        })
    });
    known.insert(sorted, result);
    result
}

fn nim(found: &[i64]) -> String {
    // The last number is the 1 of the example A1.
    let piles = &found[..found.len() - 1];
    thread_local!(static KNOWN: std::cell::RefCell<BTreeMap<Vec<i64>, bool>> = const { std::cell::RefCell::new(BTreeMap::new()) });
    KNOWN.with_borrow_mut(|known| {
        let moves = (0..piles.len()).flat_map(|i| (1..=piles[i]).map(move |taken| (i, taken)));
        let (pile, taken) = only(moves.filter(|(i, taken)| {
            let mut next = piles.to_vec();
            next[*i] -= taken;
            !wins(&next, known)
        }));
        format!("{}{taken}", named([pile]))
    })
}

/// Breadth first over all positions; a position is a number in base three, the smallest disk lowest.
fn hanoi(question: &str) -> i64 {
    let pegs = letters(between(question, "on pegs ", "."));
    let goal = letters(between(question, "all to ", "?"))[0];
    let code = |pegs: &[usize]| pegs.iter().rev().fold(0, |code, peg| 3 * code + peg);
    let (start, end) = (code(&pegs), code(&vec![goal; pegs.len()]));
    let mut seen = vec![false; 3_usize.pow(pegs.len() as u32)];
    let (mut layer, mut moves) = (vec![start], 0);
    seen[start] = true;
    while !layer.contains(&end) {
        let mut next = Vec::new();
        for position in layer {
            let mut covered = [false; 3];
            let (mut rest, mut power) = (position, 1);
            for _ in 0..pegs.len() {
                let peg = rest % 3;
                if !covered[peg] {
                    for other in (0..3).filter(|other| !covered[*other] && *other != peg) {
                        let reached = position - peg * power + other * power;
                        if !std::mem::replace(&mut seen[reached], true) {
                            next.push(reached);
                        }
                    }
                }
                covered[peg] = true;
                (rest, power) = (rest / 3, power * 3);
            }
        }
        (layer, moves) = (next, moves + 1);
    }
    moves
}

/// All grids of four rows that are right.
fn sudoku_grids() -> Vec<Vec<usize>> {
    let rows = orders(4);
    let mut grids: Vec<Vec<usize>> = vec![vec![]];
    for _ in 0..4 {
        grids = grids.iter().flat_map(|grid| rows.iter().map(|row| [&grid[..], row].concat())).collect();
        grids.retain(|grid| {
            let twice = |i: usize, j: usize| {
                let same_box = (i / 8, i % 4 / 2) == (j / 8, j % 4 / 2);
                grid[i] == grid[j] && (i % 4 == j % 4 || same_box)
            };
            (0..grid.len()).all(|i| (0..i).all(|j| !twice(i, j)))
        });
    }
    grids
}

fn sudoku(puzzle: &str) -> String {
    thread_local!(static GRIDS: Vec<Vec<usize>> = sudoku_grids());
    GRIDS.with(|grids| {
        assert_eq!(grids.len(), 288);
        let text = |grid: &Vec<usize>| {
            let digits: Vec<String> = grid.iter().map(|cell| (cell + 1).to_string()).collect();
            digits.chunks(4).map(|row| row.concat()).collect::<Vec<_>>().join(" ")
        };
        let fits = |grid: &String| {
            puzzle.chars().zip(grid.chars()).all(|(given, cell)| given == '_' || given == cell)
        };
        only(grids.iter().map(text).filter(fits))
    })
}

/// Row by row with sets of columns and diagonals as bits.
fn queens(given: &str) -> String {
    let given: Vec<Option<usize>> = given.chars().map(|c| (c != '_').then(|| place(c))).collect();
    let n = given.len();
    let mut boards: Vec<(Vec<usize>, u64, u64, u64)> = vec![(vec![], 0, 0, 0)];
    for (row, wanted) in given.iter().enumerate() {
        boards = boards
            .into_iter()
            .flat_map(|(board, columns, up, down)| {
                (0..n).filter(move |c| wanted.is_none_or(|wanted| wanted == *c)).filter_map(move |c| {
                    let (a, b, d) = (1 << c, 1 << (row + c), 1 << (row + n - c));
                    (columns & a == 0 && up & b == 0 && down & d == 0)
                        .then(|| ([&board[..], &[c]].concat(), columns | a, up | b, down | d))
                })
            })
            .collect();
    }
    only(boards.into_iter()).0.into_iter().map(|c| (b'a' + c as u8) as char).collect()
}

/// Exact hits, and the rest by striking out one digit after the other.
fn marks(code: &str, guess: &str) -> (i64, i64) {
    let exact = code.chars().zip(guess.chars()).filter(|(a, b)| a == b).count() as i64;
    let mut left: Vec<char> = code.chars().collect();
    let mut common = 0;
    for digit in guess.chars() {
        if let Some(at) = left.iter().position(|c| *c == digit) {
            left.remove(at);
            common += 1;
        }
    }
    (exact, common - exact)
}

fn mastermind(question: &str) -> String {
    let found = numbers(question);
    let (length, largest) = (found[0] as usize, found[2] as usize);
    let guesses: Vec<(&str, Vec<i64>)> = between(question, "elsewhere: ", ". The")
        .split(", ")
        .map(|guess| guess.split_once(' ').unwrap())
        .map(|(guess, marks)| (guess, marks.split('+').map(|n| n.parse().unwrap()).collect()))
        .collect();
    let code = |mut number: usize| -> String {
        let mut text = String::new();
        for _ in 0..length {
            text.push((b'1' + (number % largest) as u8) as char);
            number /= largest;
        }
        text
    };
    let fits = |code: &String| guesses.iter().all(|(guess, seen)| marks(code, guess) == (seen[0], seen[1]));
    only((0..largest.pow(length as u32)).map(code).filter(fits))
}

/// Every cell takes one more than its lowest neighbour until nothing changes.
fn maze(text: &str) -> i64 {
    let width = text.split(' ').next().unwrap().len();
    let cells: Vec<u8> = text.bytes().filter(|c| *c != b' ').collect();
    let mut steps: Vec<i64> = cells.iter().map(|c| if *c == b'S' { 0 } else { i64::MAX - 1 }).collect();
    loop {
        let before = steps.clone();
        for i in (0..cells.len()).filter(|i| cells[*i] != b'#') {
            for j in [i.wrapping_sub(1), i + 1, i.wrapping_sub(width), i + width] {
                let beside = j < cells.len() && (i % width == j % width || i / width == j / width);
                if beside && cells[j] != b'#' {
                    steps[i] = steps[i].min(steps[j] + 1);
                }
            }
        }
        if steps == before {
            return steps[cells.iter().position(|c| *c == b'G').unwrap()];
        }
    }
}

/// Move by move.
fn knight_routes(question: &str) -> i64 {
    let square =
        |text: &str| (place(text.chars().next().unwrap()) as i64, text[1..].parse::<i64>().unwrap() - 1);
    let side = numbers(question)[0];
    let moves = between(question, " in ", "");
    let moves = numbers(between(moves, " in ", " moves"))[0];
    let from = square(between(question, "get from ", " to"));
    let to = square(between(between(question, "get from ", ""), " to ", " in"));
    let blocked: BTreeSet<(i64, i64)> = between(question, "never on ", "?").split(' ').map(square).collect();
    fn routes(at: (i64, i64), to: (i64, i64), moves: i64, side: i64, blocked: &BTreeSet<(i64, i64)>) -> i64 {
        if moves == 0 {
            return i64::from(at == to);
        }
        let all = (-2..=2).flat_map(|dx: i64| (-2..=2).map(move |dy: i64| (dx, dy)));
        all.filter(|(dx, dy)| dx * dx + dy * dy == 5)
            .map(|(dx, dy)| (at.0 + dx, at.1 + dy))
            .filter(|(x, y)| (0..side).contains(x) && (0..side).contains(y) && !blocked.contains(&(*x, *y)))
            .map(|next| routes(next, to, moves - 1, side, blocked))
            .sum()
    }
    routes(from, to, moves, side, &blocked)
}

/// The lengths of all paths from the last point of `path` that visit none twice.
fn walks(roads: &[(usize, usize, i64)], both_ways: bool, to: usize, path: &mut Vec<usize>) -> Vec<i64> {
    let here = path[path.len() - 1];
    if here == to {
        return vec![0];
    }
    let mut lengths = Vec::new();
    for (a, b, length) in roads {
        for (from, next) in [(*a, *b), (*b, *a)].into_iter().take(1 + usize::from(both_ways)) {
            if from == here && !path.contains(&next) {
                path.push(next);
                lengths.extend(walks(roads, both_ways, to, path).into_iter().map(|rest| rest + length));
                path.pop();
            }
        }
    }
    lengths
}

/// By Prim: the shortest road that leaves what is connected.
fn spanning_tree(roads: &[(usize, usize, i64)]) -> i64 {
    let (mut inside, mut total) = (BTreeSet::from([0]), 0);
    while let Some((a, b, length)) = roads
        .iter()
        .filter(|(a, b, _)| inside.contains(a) != inside.contains(b))
        .min_by_key(|(_, _, length)| *length)
    {
        inside.extend([*a, *b]);
        total += length;
    }
    total
}

/// The first complete order, trying letters in alphabetical order.
fn course_order(question: &str) -> String {
    let needs: Vec<Vec<usize>> = between(question, ": ", ".").split(", ").map(letters).collect();
    let courses = place(between(question, "A to ", ":").chars().next().unwrap()) + 1;
    fn complete(order: &mut Vec<usize>, courses: usize, needs: &[Vec<usize>]) -> bool {
        if order.len() == courses {
            let at = |course: &usize| order.iter().position(|other| other == course);
            return needs.iter().all(|pair| at(&pair[0]) < at(&pair[1]));
        }
        for next in 0..courses {
            let broken = needs.iter().any(|pair| pair[1] == next && !order.contains(&pair[0]));
            if !order.contains(&next) && !broken {
                order.push(next);
                if complete(order, courses, needs) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }
    let mut order = Vec::new();
    assert!(complete(&mut order, courses, &needs));
    named(order)
}

/// By what each word means.
fn kinship(question: &str) -> String {
    let (facts, asked) = question.rsplit_once(" What is ").unwrap();
    let (mut parent, mut woman) = (BTreeMap::new(), BTreeMap::new());
    for fact in facts.split_inclusive('.') {
        let words: Vec<&str> = fact.trim().trim_end_matches('.').split(' ').collect();
        woman.insert(words[0], matches!(words[3..], ["daughter"]) || fact.ends_with("woman."));
        if let Some(other) = words[2].strip_suffix("'s") {
            parent.insert(words[0], other);
        }
    }
    let (x, y) = asked.trim_end_matches('?').split_once(" to ").unwrap();
    let up = |person: &str| parent.get(person).copied();
    let up2 = |person: &str| up(person).and_then(up);
    let up3 = |person: &str| up2(person).and_then(up);
    let same = |a: Option<&str>, b: Option<&str>| a.is_some() && a == b;
    let siblings = |a: &str, b: &str| a != b && same(up(a), up(b));
    let is = |him: &'static str, her: &'static str| if woman[x] { her } else { him };
    let words = [
        (same(up(y), Some(x)), is("father", "mother")),
        (same(up2(y), Some(x)), is("grandfather", "grandmother")),
        (same(up3(y), Some(x)), is("great-grandfather", "great-grandmother")),
        (same(up(x), Some(y)), is("son", "daughter")),
        (same(up2(x), Some(y)), is("grandson", "granddaughter")),
        (same(up3(x), Some(y)), is("great-grandson", "great-granddaughter")),
        (siblings(x, y), is("brother", "sister")),
        (up(y).is_some_and(|parent| siblings(x, parent)), is("uncle", "aunt")),
        (up(x).is_some_and(|parent| siblings(y, parent)), is("nephew", "niece")),
        (up(x).zip(up(y)).is_some_and(|(a, b)| siblings(a, b)), "cousin"),
    ];
    only(words.into_iter().filter(|(holds, _)| *holds)).1.to_string()
}

/// Each cell takes the lowest number of its neighbours until nothing changes.
fn largest_island(text: &str) -> i64 {
    let rows: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    let n = rows.len();
    let land = |i: usize| rows[i / n][i % n] == b'#';
    let mut island: Vec<usize> = (0..n * n).collect();
    loop {
        let before = island.clone();
        for (i, j) in (0..n * n).flat_map(|i| [(i, i + 1), (i, i + n)]).filter(|(_, j)| *j < n * n) {
            if land(i) && land(j) && (i % n == j % n || i / n == j / n) {
                let lowest = island[i].min(island[j]);
                (island[i], island[j]) = (lowest, lowest);
            }
        }
        if island == before {
            let area = |number: usize| (0..n * n).filter(|i| land(*i) && island[*i] == number).count() as i64;
            return (0..n * n).map(area).max().unwrap();
        }
    }
}
