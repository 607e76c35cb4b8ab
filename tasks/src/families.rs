//! The six native families: short, char-level problems with a trace that leads to the answer.
//!
//! | family | prompt | trace | answer | prompts |
//! |---|---|---|---|---|
//! | `sum` | `sum 9+9-8+6` | running totals `18,10,16` | `16` | > 30,000 |
//! | `cnt` | `cnt a:bbbcacab` | running tally `00001122` | `2` | 19,683 |
//! | `max` | `max 22,89,42,78` | running maximum `89,89,89` | `89` | > 60 million |
//! | `mod` | `mod 487,6` | long division `4,48,0,07,1` | `1` | 6,300 |
//! | `add` | `add 417+201` | column sums, lowest first `8,1,6` | `618` | 810,000 |
//! | `seq` | `seq 24,27,30,33` | the step `+3` | `36` | > 2,000 |

use crate::rng::Rng;

/// A problem before it is an item.
pub(crate) struct Draft {
    pub(crate) question: String,
    pub(crate) trace: String,
    pub(crate) answer: i64,
}

/// A native family.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) draft: fn(&mut Rng) -> Draft,
}

pub(crate) const SIX: [Family; 6] = [
    Family { name: "sum", draft: sum },
    Family { name: "cnt", draft: cnt },
    Family { name: "max", draft: max },
    Family { name: "mod", draft: modulo },
    Family { name: "add", draft: add },
    Family { name: "seq", draft: seq },
];

fn join(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// Four digits 1–9 joined by + and −, no running total below zero.
fn sum(rng: &mut Rng) -> Draft {
    let first = rng.between(1, 9);
    let (mut question, mut totals, mut total) = (format!("sum {first}"), Vec::new(), first);
    for _ in 0..3 {
        let digit = rng.between(1, 9);
        let minus = rng.below(2) == 1 && total >= digit;
        total += if minus { -digit } else { digit };
        question.push_str(&format!("{}{digit}", if minus { '-' } else { '+' }));
        totals.push(total);
    }
    Draft { question, trace: join(&totals), answer: total }
}

/// How often a letter occurs in eight.
fn cnt(rng: &mut Rng) -> Draft {
    let letter = |rng: &mut Rng| char::from(b'a' + rng.below(3) as u8);
    let wanted = letter(rng);
    let (mut text, mut trace, mut tally) = (String::new(), String::new(), 0);
    for _ in 0..8 {
        let next = letter(rng);
        tally += i64::from(next == wanted);
        text.push(next);
        trace.push_str(&tally.to_string());
    }
    Draft { question: format!("cnt {wanted}:{text}"), trace, answer: tally }
}

/// The largest of four two-digit numbers.
fn max(rng: &mut Rng) -> Draft {
    let numbers: Vec<i64> = (0..4).map(|_| rng.between(10, 99)).collect();
    let running: Vec<i64> = (2..=4).filter_map(|n| numbers[..n].iter().max().copied()).collect();
    let answer = running.last().copied().unwrap_or(0);
    Draft { question: format!("max {}", join(&numbers)), trace: join(&running), answer }
}

/// A three-digit number modulo a digit, by long division: remainder, remainder with the next digit
/// behind it, remainder, …
fn modulo(rng: &mut Rng) -> Draft {
    let (number, by) = (rng.between(100, 999), rng.between(3, 9));
    let mut rest = number / 100 % by;
    let mut steps = vec![rest.to_string()];
    for digit in [number / 10 % 10, number % 10] {
        steps.push(format!("{rest}{digit}"));
        rest = (rest * 10 + digit) % by;
        steps.push(rest.to_string());
    }
    Draft { question: format!("mod {number},{by}"), trace: steps.join(","), answer: rest }
}

/// Two three-digit numbers, column by column from the lowest.
fn add(rng: &mut Rng) -> Draft {
    let (a, b) = (rng.between(100, 999), rng.between(100, 999));
    let (mut columns, mut carry) = (Vec::new(), 0);
    for place in [1, 10, 100] {
        let column = a / place % 10 + b / place % 10 + carry;
        columns.push(column);
        carry = column / 10;
    }
    Draft { question: format!("add {a}+{b}"), trace: join(&columns), answer: a + b }
}

/// The next term of an arithmetic sequence with no term below zero.
fn seq(rng: &mut Rng) -> Draft {
    let step = rng.between(1, 12);
    let falls = rng.below(2) == 1;
    let start = if falls { rng.between(4 * step, 99) } else { rng.between(1, 99) };
    let step = if falls { -step } else { step };
    let terms: Vec<i64> = (0..4).map(|i| start + i * step).collect();
    Draft { question: format!("seq {}", join(&terms)), trace: format!("{step:+}"), answer: start + 4 * step }
}
