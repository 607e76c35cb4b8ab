//! What the solvers read out of questions.

/// All numbers of a text; a minus that follows a letter, digit or bracket is none.
pub(super) fn numbers(text: &str) -> Vec<i64> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_digit() {
            at += 1;
        }
        // A long row of digits is a grid or a code, which nobody asks for here.
        let number: i64 = text[start..at].parse().unwrap_or(i64::MAX);
        let minus = start > 0 && bytes[start - 1] == b'-';
        let behind = start > 1 && (bytes[start - 2].is_ascii_alphanumeric() || bytes[start - 2] == b')');
        found.push(if minus && !behind { -number } else { number });
    }
    found
}

/// The text between two others.
pub(super) fn between<'a>(text: &'a str, before: &str, behind: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    if behind.is_empty() { rest } else { rest.split_once(behind).unwrap().0 }
}

/// The position of a letter in the alphabet.
pub(super) fn place(letter: char) -> usize {
    letter.to_ascii_lowercase() as usize - 'a' as usize
}

/// `AB=3`: two points and a number.
pub(super) fn roads(text: &str) -> Vec<(usize, usize, i64)> {
    let road = |road: &str| {
        let letters: Vec<usize> = road.chars().take(2).map(place).collect();
        (letters[0], letters[1], road.split_once('=').map_or(1, |(_, length)| length.parse().unwrap()))
    };
    text.split(", ").map(road).collect()
}

/// Every order of `0..n`, by Heap's algorithm.
pub(super) fn orders(n: usize) -> Vec<Vec<usize>> {
    fn heap(k: usize, order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        if k <= 1 {
            return all.push(order.clone());
        }
        for i in 0..k {
            heap(k - 1, order, all);
            order.swap(if k.is_multiple_of(2) { i } else { 0 }, k - 1);
        }
    }
    let mut all = Vec::new();
    heap(n, &mut (0..n).collect(), &mut all);
    all
}

/// The only value of an iterator.
pub(super) fn only<T>(mut values: impl Iterator<Item = T>) -> T {
    let first = values.next().expect("one answer");
    assert!(values.next().is_none(), "more than one answer");
    first
}

/// The value of an expression of whole numbers, `x`, `+ - * ^` and brackets.
pub(super) fn evaluate(text: &str, x: i64) -> i64 {
    let tokens: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut at = 0;
    let value = total(&tokens, &mut at, x);
    assert_eq!(at, tokens.len(), "{text}");
    value
}

fn total(tokens: &[char], at: &mut usize, x: i64) -> i64 {
    let mut value = product(tokens, at, x);
    while let Some(sign @ ('+' | '-')) = tokens.get(*at) {
        *at += 1;
        let next = product(tokens, at, x);
        value += if *sign == '+' { next } else { -next };
    }
    value
}

fn product(tokens: &[char], at: &mut usize, x: i64) -> i64 {
    let mut value = factor(tokens, at, x);
    while tokens.get(*at) == Some(&'*') {
        *at += 1;
        value *= factor(tokens, at, x);
    }
    value
}

fn factor(tokens: &[char], at: &mut usize, x: i64) -> i64 {
    let first = tokens[*at];
    *at += 1;
    let value = match first {
        '-' => return -factor(tokens, at, x),
        '(' => {
            let value = total(tokens, at, x);
            *at += 1;
            value
        }
        'x' => x,
        digit => {
            let mut value = i64::from(digit.to_digit(10).unwrap());
            while let Some(digit) = tokens.get(*at).and_then(|c| c.to_digit(10)) {
                value = value * 10 + i64::from(digit);
                *at += 1;
            }
            value
        }
    };
    if tokens.get(*at) == Some(&'^') {
        *at += 1;
        return value.pow(factor(tokens, at, x) as u32);
    }
    value
}
