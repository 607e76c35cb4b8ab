//! Whole numbers, fractions, dates and times.

use super::draw::{distinct, gcd, join};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const SUM: Family = Category::Arithmetic.family(
    "sum",
    Form::Integer,
    "Four digits joined by + and -, no running total below zero.",
    &[],
    sum,
);
pub(super) const MOD: Family =
    Category::Arithmetic.family("mod", Form::Integer, "A three-digit number modulo a digit.", &[], modulo);
pub(super) const ADD: Family =
    Category::Arithmetic.family("add", Form::Integer, "The sum of two three-digit numbers.", &[], add);

pub(super) const FAMILIES: &[Family] = &[
    SUM,
    MOD,
    ADD,
    Category::Arithmetic.family(
        "gcd",
        Form::Integer,
        "The greatest common divisor of some numbers.",
        &[
            ("numbers", [3, 3, 3, 4, 4]),
            ("largest divisor", [30, 60, 100, 300, 999]),
            ("largest cofactor", [30, 40, 60, 80, 99]),
        ],
        greatest_divisor,
    ),
    Category::Arithmetic.family(
        "lcm",
        Form::Integer,
        "The least common multiple of some numbers.",
        &[("numbers", [2, 2, 3, 3, 4]), ("largest number", [99, 300, 60, 120, 120])],
        least_multiple,
    ),
    Category::Arithmetic.family(
        "product",
        Form::Integer,
        "The product of two numbers.",
        &[("digits of the first", [3, 4, 3, 4, 4]), ("digits of the second", [1, 1, 2, 2, 3])],
        product,
    ),
    Category::Arithmetic.family(
        "expression",
        Form::Integer,
        "The value of an expression with +, -, * and brackets.",
        &[("operations", [2, 3, 4, 5, 7]), ("largest operand", [60, 40, 30, 20, 20])],
        expression,
    ),
    Category::Arithmetic.family(
        "fraction",
        Form::Text,
        "A fraction in lowest terms.",
        &[("largest part", [40, 80, 150, 300, 999]), ("largest factor", [12, 20, 30, 50, 99])],
        fraction,
    ),
    Category::Arithmetic.family(
        "prime-factors",
        Form::Text,
        "The prime factors of a number, in order.",
        &[("largest number", [4_000, 8_000, 20_000, 50_000, 99_999])],
        prime_factors,
    ),
    Category::Arithmetic.family(
        "legs",
        Form::Integer,
        "How many legs a group of animals has.",
        &[("kinds", [3, 4, 5, 6, 7]), ("most of a kind", [20, 20, 30, 50, 99])],
        legs,
    ),
    Category::Arithmetic.family(
        "days",
        Form::Integer,
        "The days from one date to another, leap years included.",
        &[("years apart", [0, 1, 3, 10, 50])],
        days,
    ),
    Category::Arithmetic.family(
        "duration",
        Form::Text,
        "How long something ran between two times of a day, pauses taken off.",
        &[("pauses", [0, 1, 2, 3, 4])],
        duration,
    ),
    Category::Arithmetic.family(
        "power-mod",
        Form::Integer,
        "The remainder of a power.",
        &[("largest exponent", [9, 20, 60, 200, 1_000]), ("largest modulus", [40, 60, 99, 200, 999])],
        power_mod,
    ),
    Category::Arithmetic.family(
        "bitwise",
        Form::Text,
        "The value of &, |, ^ and shifts of hexadecimal numbers.",
        &[("operations", [2, 3, 4, 5, 6]), ("bits", [8, 8, 12, 12, 16])],
        bitwise,
    ),
    Category::Arithmetic.family(
        "dice",
        Form::Fraction,
        "The probability that dice show at least a total, as a fraction in lowest terms.",
        &[("dice", [2, 3, 3, 4, 5]), ("most sides", [20, 12, 20, 12, 12])],
        dice,
    ),
];

/// `sum 9+9-8+6`, by running totals `18,10,16`. More than 30,000 questions.
fn sum(rng: &mut Rng, _: Parameters) -> Draft {
    let first = rng.between(1, 9);
    let (mut question, mut totals, mut total) = (format!("sum {first}"), Vec::new(), first);
    for _ in 0..3 {
        let digit = rng.between(1, 9);
        let minus = rng.below(2) == 1 && total >= digit;
        total += if minus { -digit } else { digit };
        question.push_str(&format!("{}{digit}", if minus { '-' } else { '+' }));
        totals.push(total);
    }
    Draft::new(question, total).worked(join(&totals, ","))
}

/// `mod 487,6`, by long division `4,48,0,07,1`: remainder, remainder with the next digit behind it,
/// remainder, … 6,300 questions.
fn modulo(rng: &mut Rng, _: Parameters) -> Draft {
    let (number, by) = (rng.between(100, 999), rng.between(3, 9));
    let mut rest = number / 100 % by;
    let mut steps = vec![rest.to_string()];
    for digit in [number / 10 % 10, number % 10] {
        steps.push(format!("{rest}{digit}"));
        rest = (rest * 10 + digit) % by;
        steps.push(rest.to_string());
    }
    Draft::new(format!("mod {number},{by}"), rest).worked(steps.join(","))
}

/// `add 417+201`, by column sums, lowest first: `8,1,6`. 810,000 questions.
fn add(rng: &mut Rng, _: Parameters) -> Draft {
    let (a, b) = (rng.between(100, 999), rng.between(100, 999));
    let (mut columns, mut carry) = (Vec::new(), 0);
    for place in [1, 10, 100] {
        let column = a / place % 10 + b / place % 10 + carry;
        columns.push(column);
        carry = column / 10;
    }
    Draft::new(format!("add {a}+{b}"), a + b).worked(join(&columns, ","))
}

/// Drawn as divisor times cofactors without a common one: random numbers would mostly have 1. Worked
/// by the divisor of the first two, of the first three, …
fn greatest_divisor(rng: &mut Rng, [count, divisor, cofactor]: Parameters) -> Draft {
    let divisor = rng.between(2, divisor);
    let numbers = loop {
        let cofactors = distinct(rng, count, 2, cofactor);
        if cofactors.iter().copied().fold(0, gcd) == 1 {
            break cofactors.iter().map(|cofactor| cofactor * divisor).collect::<Vec<_>>();
        }
    };
    let running: Vec<i64> = (2..=numbers.len()).map(|n| numbers[..n].iter().copied().fold(0, gcd)).collect();
    let question = format!("Greatest common divisor of {}?", join(&numbers, ", "));
    Draft::new(question, divisor).worked(join(&running, ","))
}

/// Drawn until none of the numbers is a multiple of all others. Worked by the multiple of the first two,
/// of the first three, …
fn least_multiple(rng: &mut Rng, [count, largest, _]: Parameters) -> Draft {
    loop {
        let numbers = distinct(rng, count, 2, largest);
        let mut running: Vec<i64> = Vec::new();
        for number in &numbers {
            let so_far = running.last().copied().unwrap_or(1);
            running.push(so_far / gcd(so_far, *number) * number);
        }
        let multiple = running[running.len() - 1];
        if !numbers.contains(&multiple) {
            let question = format!("Least common multiple of {}?", join(&numbers, ", "));
            return Draft::new(question, multiple).worked(join(&running[1..], ","));
        }
    }
}

/// Worked by the partial products, lowest digit of the second factor first.
fn product(rng: &mut Rng, [first, second, _]: Parameters) -> Draft {
    let number = |rng: &mut Rng, digits: i64| {
        rng.between(10_i64.pow(digits as u32 - 1), 10_i64.pow(digits as u32) - 1)
    };
    let (a, b) = (number(rng, first), number(rng, second).max(2));
    let partial: Vec<i64> =
        (0..second as u32).map(|place| a * (b / 10_i64.pow(place) % 10) * 10_i64.pow(place)).collect();
    Draft::new(format!("What is {a} * {b}?"), a * b).worked(join(&partial, "+"))
}

fn expression(rng: &mut Rng, [operations, largest, _]: Parameters) -> Draft {
    let (text, value) = subexpression(rng, operations, largest, 0);
    Draft::new(format!("What is {text}?"), value)
}

/// Text and value, in brackets when its last operation binds less than `binding`.
fn subexpression(rng: &mut Rng, operations: i64, largest: i64, binding: i64) -> (String, i64) {
    if operations == 0 {
        let operand = rng.between(2, largest);
        return (operand.to_string(), operand);
    }
    let left = rng.between(0, operations - 1);
    let (sign, own) = rng.pick(&[('+', 1), ('-', 1), ('*', 2)]);
    let (left_text, a) = subexpression(rng, left, largest, own);
    let (right_text, b) = subexpression(rng, operations - 1 - left, largest, own + 1);
    let value = match sign {
        '+' => a + b,
        '-' => a - b,
        _ => a * b,
    };
    let text = format!("{left_text} {sign} {right_text}");
    (if own < binding { format!("({text})") } else { text }, value)
}

/// Worked by the greatest common divisor.
fn fraction(rng: &mut Rng, [part, factor, _]: Parameters) -> Draft {
    let (top, bottom) = loop {
        let (top, bottom) = (rng.between(1, part), rng.between(2, part));
        if gcd(top, bottom) == 1 {
            break (top, bottom);
        }
    };
    let factor = rng.between(2, factor);
    let question = format!("Simplify {}/{} to lowest terms.", top * factor, bottom * factor);
    Draft::new(question, format!("{top}/{bottom}")).worked(factor.to_string())
}

/// Only composite numbers. Worked by what is left after each division.
fn prime_factors(rng: &mut Rng, [largest, ..]: Parameters) -> Draft {
    loop {
        let number = rng.between(100, largest);
        let (mut rest, mut factors, mut left) = (number, Vec::new(), Vec::new());
        for divisor in 2..number {
            while rest % divisor == 0 {
                rest /= divisor;
                factors.push(divisor);
                left.push(rest);
            }
            if rest == 1 {
                break;
            }
        }
        if factors.len() > 1 {
            let question = format!("Prime factors of {number} in ascending order, joined by *?");
            return Draft::new(question, join(&factors, "*")).worked(join(&left, ","));
        }
    }
}

/// Worked by the legs of each kind.
fn legs(rng: &mut Rng, [kinds, most, _]: Parameters) -> Draft {
    let mut animals = [
        ("ants", 6),
        ("bees", 6),
        ("cats", 4),
        ("crabs", 10),
        ("cows", 4),
        ("dogs", 4),
        ("ducks", 2),
        ("eagles", 2),
        ("flies", 6),
        ("goats", 4),
        ("hens", 2),
        ("shrimps", 10),
        ("snails", 0),
        ("snakes", 0),
        ("spiders", 8),
        ("scorpions", 8),
    ];
    rng.shuffle(&mut animals);
    let groups: Vec<_> =
        animals[..kinds as usize].iter().map(|(name, legs)| (rng.between(2, most), *name, *legs)).collect();
    let listed: Vec<String> = groups.iter().map(|(count, name, _)| format!("{count} {name}")).collect();
    let each: Vec<i64> = groups.iter().map(|(count, _, legs)| count * legs).collect();
    let question = format!("How many legs do {} have together?", listed.join(", "));
    Draft::new(question, each.iter().sum::<i64>()).worked(join(&each, "+"))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of a year before a date.
fn day_of_year(year: i64, month: i64, day: i64) -> i64 {
    (1..month).map(|month| month_days(year, month)).sum::<i64>() + day
}

/// Worked by the day of the year of both dates and the days of the years from one to the other.
fn days(rng: &mut Rng, [years, ..]: Parameters) -> Draft {
    let from_year = rng.between(1800, 2199 - years);
    let to_year = from_year + rng.between(years.min(1), years);
    let date = |rng: &mut Rng, year: i64| {
        let month = rng.between(1, 12);
        (month, rng.between(1, month_days(year, month)))
    };
    let (mut from, mut to) = (date(rng, from_year), date(rng, to_year));
    if from_year == to_year && from > to {
        std::mem::swap(&mut from, &mut to);
    }
    let between: i64 = (from_year..to_year).map(|year| 365 + i64::from(is_leap(year))).sum();
    let (first, last) = (day_of_year(from_year, from.0, from.1), day_of_year(to_year, to.0, to.1));
    let question = format!(
        "How many days after {from_year}-{:02}-{:02} is {to_year}-{:02}-{:02}?",
        from.0, from.1, to.0, to.1
    );
    Draft::new(question, between + last - first).worked(format!("{first},{last},{between}"))
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Worked by the time left after each pause.
fn duration(rng: &mut Rng, [pauses, ..]: Parameters) -> Draft {
    const DAY: i64 = 24 * 3600;
    let length = rng.between(3 * 3600, 12 * 3600);
    let start = rng.between(0, DAY - 1 - length);
    let pauses: Vec<i64> = (0..pauses).map(|_| rng.between(61, 2400)).collect();
    let mut left = vec![length];
    left.extend(pauses.iter().scan(length, |left, pause| {
        *left -= pause;
        Some(*left)
    }));
    let without = match &pauses[..] {
        [] => String::new(),
        [..] => {
            let listed: Vec<String> = pauses.iter().map(|pause| clock(*pause)).collect();
            format!(", without its pauses of {}", listed.join(" and "))
        }
    };
    let question = format!(
        "A show runs from {} to {}. How long is it{without}? Answer as HH:MM:SS.",
        clock(start),
        clock(start + length)
    );
    let steps: Vec<String> = left.iter().map(|left| clock(*left)).collect();
    Draft::new(question, clock(length - pauses.iter().sum::<i64>())).worked(steps.join(","))
}

/// Worked by squares: the exponent's bits from the highest, the remainder after each.
fn power_mod(rng: &mut Rng, [exponent, modulus, _]: Parameters) -> Draft {
    let (modulus, exponent) = (rng.between(11, modulus), rng.between(3, exponent));
    let base = rng.between(2, 99);
    let (mut rest, mut steps) = (1, Vec::new());
    for bit in (0..i64::BITS - exponent.leading_zeros()).rev() {
        rest = rest * rest % modulus;
        if exponent >> bit & 1 == 1 {
            rest = rest * base % modulus;
        }
        steps.push(rest);
    }
    let question = format!("Remainder of {base}^{exponent} divided by {modulus}?");
    Draft::new(question, rest).worked(join(&steps, ","))
}

/// Worked by the value after each operation.
fn bitwise(rng: &mut Rng, [operations, bits, _]: Parameters) -> Draft {
    let number = |rng: &mut Rng| rng.between(1, (1 << bits) - 1);
    let mut value = number(rng);
    let (mut text, mut steps) = (format!("0x{value:x}"), Vec::new());
    for _ in 0..operations {
        let (sign, operand) = match rng.index(5) {
            0 => ("&", number(rng)),
            1 => ("|", number(rng)),
            2 => ("^", number(rng)),
            3 => ("<<", rng.between(1, 3)),
            _ => (">>", rng.between(1, 3)),
        };
        value = match sign {
            "&" => value & operand,
            "|" => value | operand,
            "^" => value ^ operand,
            "<<" => value << operand,
            _ => value >> operand,
        };
        text = format!("({text} {sign} 0x{operand:x})");
        steps.push(format!("0x{value:x}"));
    }
    let question = format!("Value of {text} in hexadecimal, with 0x in front?");
    Draft::new(question, format!("0x{value:x}")).worked(steps.join(","))
}

/// Worked by the ways to reach the total and all ways.
fn dice(rng: &mut Rng, [dice, sides, _]: Parameters) -> Draft {
    let mut sides: Vec<i64> = (0..dice).map(|_| rng.between(4, sides)).collect();
    sides.sort_unstable();
    let (all, most): (i64, i64) = (sides.iter().product(), sides.iter().sum());
    let total = rng.between(dice + 1, most);
    let mut ways = vec![1_i64];
    for side in &sides {
        let mut next = vec![0; ways.len() + *side as usize];
        for (sum, count) in ways.iter().enumerate() {
            (1..=*side as usize).for_each(|face| next[sum + face] += count);
        }
        ways = next;
    }
    let enough: i64 = ways[total as usize..].iter().sum();
    let divisor = gcd(enough, all);
    let question = format!(
        "Dice with {} sides are rolled. Probability that they total at least {total}, as a fraction in lowest terms?",
        join(&sides, ", ")
    );
    Draft::new(question, format!("{}/{}", enough / divisor, all / divisor)).worked(format!("{enough},{all}"))
}
