//! Positions of games and puzzles.

use std::collections::{BTreeMap, VecDeque};

use super::draw::{beside, capital, distinct, join, rows};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Games.family(
        "nim",
        Form::Text,
        "The only winning move of a position of Nim.",
        &[("piles", [4, 4, 5, 5, 6]), ("largest pile", [9, 12, 12, 15, 15])],
        nim,
    ),
    Category::Games.family(
        "hanoi",
        Form::Integer,
        "The fewest moves that bring scattered disks of the Tower of Hanoi onto one peg.",
        &[("disks", [7, 8, 9, 10, 12])],
        hanoi,
    ),
    Category::Games.family(
        "sudoku4",
        Form::Text,
        "The solution of a sudoku of four rows.",
        &[("blanks", [5, 6, 8, 9, 10])],
        sudoku,
    ),
    Category::Games.family(
        "queens",
        Form::Text,
        "The only way to complete queens that do not attack each other.",
        &[("rows", [8, 8, 9, 10, 11]), ("missing queens", [2, 4, 5, 5, 6])],
        queens,
    ),
    Category::Games.family(
        "mastermind",
        Form::Text,
        "The only code that agrees with all scored guesses.",
        &[("digits", [3, 3, 4, 4, 4]), ("largest digit", [6, 8, 5, 6, 7])],
        mastermind,
    ),
    Category::Games.family(
        "maze",
        Form::Integer,
        "The fewest steps through a maze.",
        &[("side", [7, 8, 9, 10, 12])],
        maze,
    ),
    Category::Games.family(
        "knight-routes",
        Form::Integer,
        "In how many ways a knight reaches a square in a number of moves, past blocked squares.",
        &[("side", [4, 5, 5, 6, 8]), ("moves", [4, 4, 5, 5, 6]), ("blocked squares", [4, 4, 5, 6, 8])],
        knight_routes,
    ),
];

/// Drawn until one pile only can be cut to a position whose sizes xor to 0. Worked by the xor of the
/// piles and what the move leaves.
fn nim(rng: &mut Rng, [piles, largest, _]: Parameters) -> Draft {
    loop {
        let sizes: Vec<i64> = (0..piles).map(|_| rng.between(1, largest)).collect();
        let xor = sizes.iter().fold(0, |xor, size| xor ^ size);
        let winning: Vec<usize> = (0..sizes.len()).filter(|i| sizes[*i] ^ xor < sizes[*i]).collect();
        if let [pile] = winning[..] {
            let left = sizes[pile] ^ xor;
            let question = format!(
                "Nim: take any number from one pile, who takes the last one wins. Piles {}. Winning move, as pile and number taken, such as A1?",
                sizes
                    .iter()
                    .enumerate()
                    .map(|(i, n)| format!("{}={n}", capital(i)))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            let answer = format!("{}{}", capital(pile), sizes[pile] - left);
            return Draft::new(question, answer).worked(format!("{xor},{left}"));
        }
    }
}

/// From the largest disk down: one that is not where it must go waits until all smaller ones are on
/// the third peg, moves, and they come after it. Worked by the moves that each such disk costs.
fn hanoi(rng: &mut Rng, [disks, ..]: Parameters) -> Draft {
    let (places, goal) = loop {
        let places: Vec<usize> = (0..disks).map(|_| rng.index(3)).collect();
        let goal = rng.index(3);
        if places.iter().any(|place| *place != goal) {
            break (places, goal);
        }
    };
    let (mut target, mut costs) = (goal, Vec::new());
    for disk in (0..places.len()).rev() {
        if places[disk] != target {
            costs.push(1_i64 << disk);
            target = 3 - places[disk] - target;
        }
    }
    let question = format!(
        "Tower of Hanoi: disks 1 (smallest) to {disks} are on pegs {}. Fewest moves that bring all to peg {}?",
        join(&places.iter().map(|place| capital(*place)).collect::<Vec<_>>(), " "),
        capital(goal)
    );
    Draft::new(question, costs.iter().sum::<i64>()).worked(join(&costs, "+"))
}

/// Solutions of a grid of 16 cells with 0 for blanks, at most `limit`.
fn sudoku_solutions(cells: &mut [u8; 16], limit: usize) -> usize {
    let Some(blank) = cells.iter().position(|cell| *cell == 0) else { return 1 };
    let (row, column) = (blank / 4, blank % 4);
    let mut found = 0;
    for digit in 1..=4 {
        let clashes = |other: usize| {
            let (r, c) = (other / 4, other % 4);
            cells[other] == digit && (r == row || c == column || (r / 2, c / 2) == (row / 2, column / 2))
        };
        if !(0..16).any(clashes) {
            cells[blank] = digit;
            found += sudoku_solutions(cells, limit - found);
            cells[blank] = 0;
            if found >= limit {
                break;
            }
        }
    }
    found
}

/// A random full grid: one grid with its digits renamed, rows and columns swapped within and between
/// bands, mirrored. Reaches all 288.
fn sudoku_grid(rng: &mut Rng) -> [u8; 16] {
    let base = rng.pick(&[*b"1234341221434321", *b"1234341223414123"]);
    let mut digits = [1, 2, 3, 4];
    rng.shuffle(&mut digits);
    let lines = |rng: &mut Rng| {
        let (band, first, second) = (rng.index(2), rng.index(2), rng.index(2));
        [2 * band + first, 2 * band + 1 - first, 2 * (1 - band) + second, 2 * (1 - band) + 1 - second]
    };
    let (down, across, mirrored) = (lines(rng), lines(rng), rng.below(2) == 1);
    std::array::from_fn(|i| {
        let (row, column) = (down[i / 4], across[i % 4]);
        let (row, column) = if mirrored { (column, row) } else { (row, column) };
        digits[usize::from(base[4 * row + column] - b'1')]
    })
}

/// Cells are blanked in random order where the solution stays the only one; drawn again when too few
/// can be.
fn sudoku(rng: &mut Rng, [blanks, ..]: Parameters) -> Draft {
    loop {
        let solution = sudoku_grid(rng);
        let (mut puzzle, mut left) = (solution, blanks);
        for cell in distinct(rng, 16, 0, 15) {
            let kept = std::mem::take(&mut puzzle[cell as usize]);
            if left > 0 && sudoku_solutions(&mut puzzle.clone(), 2) == 1 {
                left -= 1;
            } else {
                puzzle[cell as usize] = kept;
            }
        }
        if left == 0 {
            let text = |cells: &[u8; 16]| {
                let digit = |cell: &u8| if *cell == 0 { '_' } else { char::from(b'0' + cell) };
                cells
                    .chunks(4)
                    .map(|row| row.iter().map(digit).collect::<String>())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let question = format!(
                "Each row, column and 2x2 corner holds 1 to 4 once. Complete {} and keep the spaces between rows.",
                text(&puzzle)
            );
            return Draft::new(question, text(&solution));
        }
    }
}

/// Whether queens at column `a` of row `i` and column `b` of row `j` attack each other.
fn attack(i: usize, a: usize, j: usize, b: usize) -> bool {
    a == b || i.abs_diff(j) == a.abs_diff(b)
}

/// Ways to give each row without a queen one, at most `limit`; the first one is left in `columns`.
fn complete_queens(columns: &mut Vec<Option<usize>>, order: &[usize], limit: usize) -> usize {
    let Some(row) = columns.iter().position(Option::is_none) else { return 1 };
    let (mut found, mut first) = (0, None);
    for column in order {
        let clashes = columns
            .iter()
            .enumerate()
            .any(|(i, queen)| queen.is_some_and(|queen| attack(row, *column, i, queen)));
        if clashes {
            continue;
        }
        let mut next = columns.clone();
        next[row] = Some(*column);
        found += complete_queens(&mut next, order, limit - found);
        if found > 0 && first.is_none() {
            first = Some(next);
        }
        if found >= limit {
            break;
        }
    }
    if let Some(first) = first {
        *columns = first;
    }
    found
}

/// Queens are taken away until so many are missing; drawn again when they could stand otherwise.
fn queens(rng: &mut Rng, [side, missing, _]: Parameters) -> Draft {
    let side = side as usize;
    loop {
        let mut order: Vec<usize> = (0..side).collect();
        rng.shuffle(&mut order);
        let mut solution = vec![None; side];
        // The first row drawn apart, so that every solution can come.
        solution[rng.index(side)] = Some(rng.index(side));
        if complete_queens(&mut solution, &order, 1) == 0 {
            continue;
        }
        let mut given = solution.clone();
        for row in distinct(rng, missing, 0, side as i64 - 1) {
            given[row as usize] = None;
        }
        if complete_queens(&mut given.clone(), &order, 2) == 1 {
            let letters = |rows: &[Option<usize>]| -> String {
                rows.iter().map(|queen| queen.map_or('_', |column| char::from(b'a' + column as u8))).collect()
            };
            let question = format!(
                "{side} queens on a {side}x{side} board, none attacking another. Their columns, row by row: {}. Fill the gaps.",
                letters(&given)
            );
            return Draft::new(question, letters(&solution));
        }
    }
}

/// Digits of a code of up to four, which are 0 where it is shorter.
type Code = [u8; 4];

/// Digits that are right and in place, and those right but elsewhere; digits beyond the length are 0 in
/// both codes and count as right in both.
fn score(code: &Code, guess: &Code) -> (usize, usize) {
    let (mut exact, mut counts) = (0, [[0_usize; 10]; 2]);
    for (a, b) in code.iter().zip(guess) {
        exact += usize::from(a == b);
        counts[0][usize::from(*a)] += 1;
        counts[1][usize::from(*b)] += 1;
    }
    let common: usize = counts[0].iter().zip(&counts[1]).map(|(a, b)| a.min(b)).sum();
    (exact, common - exact)
}

/// Guesses are added until one code is left; a guess that rules nothing out is not shown.
fn mastermind(rng: &mut Rng, [length, largest, _]: Parameters) -> Draft {
    let digits = largest as usize;
    let nth = |mut number: usize| -> Code {
        let mut code = Code::default();
        for digit in &mut code[..length as usize] {
            *digit = 1 + (number % digits) as u8;
            number /= digits;
        }
        code
    };
    let count = digits.pow(length as u32);
    let text = |code: &Code| join(&code[..length as usize], "");
    let (code, mut guesses) = (nth(rng.index(count)), Vec::new());
    let mut possible: Vec<Code> = (0..count).map(nth).collect();
    while possible.len() > 1 {
        let (guess, before) = (nth(rng.index(count)), possible.len());
        let (exact, elsewhere) = score(&code, &guess);
        if guess != code {
            possible.retain(|other| score(other, &guess) == (exact, elsewhere));
        }
        if possible.len() < before {
            let beyond = code.len() - length as usize;
            guesses.push(format!("{} {}+{elsewhere}", text(&guess), exact - beyond));
        }
    }
    let question = format!(
        "A secret code has {length} digits from 1 to {largest}. Guesses, with digits right in place + right but elsewhere: {}. The code?",
        guesses.join(", ")
    );
    Draft::new(question, text(&code))
}

/// Steps from the first cell to each cell that can be reached.
fn steps(grid: &[Vec<u8>]) -> BTreeMap<(usize, usize), i64> {
    let (height, width) = (grid.len(), grid[0].len());
    let (mut reached, mut queue) = (BTreeMap::from([((0, 0), 0)]), VecDeque::from([((0, 0), 0)]));
    while let Some(((row, column), distance)) = queue.pop_front() {
        for (r, c) in beside(row, column) {
            if r < height && c < width && grid[r][c] == b'.' && !reached.contains_key(&(r, c)) {
                reached.insert((r, c), distance + 1);
                queue.push_back(((r, c), distance + 1));
            }
        }
    }
    reached
}

/// From the top left corner; the distance is drawn first, so that far ones come as often as near ones.
fn maze(rng: &mut Rng, [side, ..]: Parameters) -> Draft {
    loop {
        let cell = |rng: &mut Rng| if rng.below(3) == 0 { b'#' } else { b'.' };
        let mut grid: Vec<Vec<u8>> = (0..side).map(|_| (0..side).map(|_| cell(rng)).collect()).collect();
        grid[0][0] = b'.';
        let reached = steps(&grid);
        let farthest = reached.values().copied().max().unwrap_or(0);
        if farthest < 2 * side {
            continue;
        }
        let distance = rng.between(4, farthest);
        let goals: Vec<(usize, usize)> =
            reached.into_iter().filter(|(_, steps)| *steps == distance).map(|(cell, _)| cell).collect();
        let (row, column) = rng.pick(&goals);
        grid[0][0] = b'S';
        grid[row][column] = b'G';
        let question = format!(
            "Fewest steps up, down, left or right from S to G, not through #? Rows: {}",
            rows(&grid).join(" ")
        );
        return Draft::new(question, distance);
    }
}

const KNIGHT: [(i64, i64); 8] = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)];

/// The goal is drawn among the squares that can be reached. Worked by all routes of 1, 2, … moves.
fn knight_routes(rng: &mut Rng, [side, moves, blocked]: Parameters) -> Draft {
    loop {
        let squares = distinct(rng, blocked + 1, 0, side * side - 1);
        let (start, blocked) = (squares[0], &squares[1..]);
        let mut ways = vec![0_i64; (side * side) as usize];
        ways[start as usize] = 1;
        let mut totals = Vec::new();
        for _ in 0..moves {
            let mut next = vec![0; ways.len()];
            for (square, count) in ways.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (row, column) = (square as i64 / side, square as i64 % side);
                for (down, right) in KNIGHT {
                    let (r, c) = (row + down, column + right);
                    if (0..side).contains(&r) && (0..side).contains(&c) && !blocked.contains(&(r * side + c))
                    {
                        next[(r * side + c) as usize] += count;
                    }
                }
            }
            totals.push(next.iter().sum::<i64>());
            ways = next;
        }
        let reached: Vec<i64> = (0..side * side).filter(|square| ways[*square as usize] > 1).collect();
        if reached.is_empty() {
            continue;
        }
        let goal = rng.pick(&reached);
        let name =
            |square: &i64| format!("{}{}", char::from(b'a' + (square % side) as u8), square / side + 1);
        let avoid: Vec<String> = blocked.iter().map(name).collect();
        let question = format!(
            "On a {side}x{side} board, in how many ways does a knight get from {} to {} in {moves} moves, never on {}?",
            name(&start),
            name(&goal),
            avoid.join(" ")
        );
        return Draft::new(question, ways[goal as usize]).worked(join(&totals, ","));
    }
}
