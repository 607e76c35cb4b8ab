//! What several families draw or write.

use crate::rng::Rng;

/// Values with a separator between them.
pub(super) fn join<T: ToString>(values: &[T], separator: &str) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

/// The capital letter of a position, A for 0.
pub(super) fn capital(position: usize) -> char {
    char::from(b'A' + position as u8)
}

/// A word of small letters that can be spoken: consonants and vowels in turn.
pub(super) fn word(rng: &mut Rng, letters: i64) -> String {
    let vowel_first = rng.below(2);
    let kind = |i: i64| if (i as u64 + vowel_first) % 2 == 1 { "aeiou" } else { "bcdfghjklmnprstvwz" };
    (0..letters).map(|i| char::from(rng.pick(kind(i).as_bytes()))).collect()
}

/// `count` different numbers from `low..=high`, in random order.
pub(super) fn distinct(rng: &mut Rng, count: i64, low: i64, high: i64) -> Vec<i64> {
    let mut chosen: Vec<i64> = Vec::new();
    while (chosen.len() as i64) < count.min(high - low + 1) {
        let next = rng.between(low, high);
        if !chosen.contains(&next) {
            chosen.push(next);
        }
    }
    chosen
}

/// A number from `low..=high` or its negative.
pub(super) fn signed(rng: &mut Rng, low: i64, high: i64) -> i64 {
    let size = rng.between(low, high);
    if rng.below(2) == 0 { size } else { -size }
}

/// Greatest common divisor.
pub(super) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// Every order of `0..n`.
pub(super) fn permutations(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else { return vec![vec![]] };
    let mut all = Vec::new();
    for shorter in permutations(last) {
        for at in 0..=last {
            let mut longer = shorter.clone();
            longer.insert(at, last);
            all.push(longer);
        }
    }
    all
}

/// The text of each row of a grid.
pub(super) fn rows(grid: &[Vec<u8>]) -> Vec<String> {
    grid.iter().map(|row| row.iter().map(|cell| char::from(*cell)).collect()).collect()
}

/// The four cells beside a cell; what would be above or left of the grid is far outside.
pub(super) fn beside(row: usize, column: usize) -> [(usize, usize); 4] {
    [(row + 1, column), (row, column + 1), (row.wrapping_sub(1), column), (row, column.wrapping_sub(1))]
}
