//! Solvers of arithmetic, algebra and geometry.

use super::read::{between, evaluate, numbers, only, orders};

/// The answer to a question, found in another way than its family's.
pub(super) fn solve(family: &str, question: &str) -> Option<String> {
    let found = numbers(question);
    let integer = |number: i64| Some(number.to_string());
    match family {
        "sum" | "add" => integer(evaluate(question.split_once(' ')?.1, 0)),
        "mod" => integer(found[0] - found[0] / found[1] * found[1]),
        "gcd" => integer((1..=found[0]).rev().find(|d| found.iter().all(|n| n % d == 0))?),
        "lcm" => {
            let largest = *found.iter().max()?;
            integer((1..).map(|i| i * largest).find(|m| found.iter().all(|n| m % n == 0))?)
        }
        "product" | "expression" => integer(evaluate(between(question, "What is ", "?"), 0)),
        "fraction" => {
            let (a, b) = (found[0], found[1]);
            let divisor = (1..=b).rev().find(|d| a % d == 0 && b % d == 0)?;
            Some(format!("{}/{}", a / divisor, b / divisor))
        }
        "prime-factors" => Some(factors(found[0])),
        "legs" => integer(legs(between(question, "do ", " have"))),
        "days" => integer(civil(&found[3..]) - civil(&found[..3])),
        "duration" => {
            let seconds: Vec<i64> = found.chunks_exact(3).map(|t| t[0] * 3600 + t[1] * 60 + t[2]).collect();
            let left = seconds[1] - seconds[0] - seconds[2..].iter().sum::<i64>();
            Some(format!("{:02}:{:02}:{:02}", left / 3600, left % 3600 / 60, left % 60))
        }
        "power-mod" => integer((0..found[1]).fold(1, |rest, _| rest * found[0] % found[2])),
        "bitwise" => Some(format!("0x{:x}", bits(between(question, "Value of ", " in")))),
        "dice" => Some(dice(&found[..found.len() - 1], found[found.len() - 1])),
        "linear-equation" => {
            let (left, right) = between(question, "x: ", "").split_once('=')?;
            integer(only((-2000..=2000).filter(|x| evaluate(left, *x) == evaluate(right, *x))))
        }
        "linear-system" => integer(system(question)),
        "quadratic" => {
            let left = between(question, "of ", " = 0");
            let roots: Vec<i64> = (-2000..=2000).filter(|x| evaluate(left, *x) == 0).collect();
            assert_eq!(roots.len(), 2);
            integer(roots[1])
        }
        "coefficient" => {
            let power = between(question, "of ", " in");
            let power = power.strip_prefix("x^").map_or(1, |power| power.parse().unwrap());
            integer(coefficient(between(question, " in ", "?"), power))
        }
        "complex" => Some(complex(between(question, "is ", ", written"))),
        "determinant" => integer(leibniz(&found)),
        "angle" => integer((found[0] - 2) * 180 - found[1..].iter().sum::<i64>()),
        "polygon-area" => integer(trapezoids(&found)),
        "rectangles" => {
            let covers = |x: i64, y: i64| {
                found.chunks(4).any(|r| r[0].min(r[2]) <= x && x < r[0].max(r[2]) && r[1] <= y && y < r[3])
            };
            integer((0..60).map(|x| (0..60).filter(|y| covers(x, *y)).count() as i64).sum())
        }
        "inner-points" => integer(inner_points(&found)),
        "transform" => Some(transform(question)),
        _ => None,
    }
}

fn factors(number: i64) -> String {
    match (2..number).find(|d| number % d == 0) {
        Some(divisor) => format!("{divisor}*{}", factors(number / divisor)),
        None => number.to_string(),
    }
}

fn legs(groups: &str) -> i64 {
    let each = |group: &str| {
        let (count, animal) = group.split_once(' ').unwrap();
        let legs = match animal {
            "snails" | "snakes" => 0,
            "ducks" | "eagles" | "hens" => 2,
            "cats" | "cows" | "dogs" | "goats" => 4,
            "ants" | "bees" | "flies" => 6,
            "spiders" | "scorpions" => 8,
            "crabs" | "shrimps" => 10,
            _ => unreachable!("{animal}"),
        };
        count.parse::<i64>().unwrap() * legs
    };
    groups.split(", ").map(each).sum()
}

/// Days since a fixed date, with March as the first month of a year.
fn civil(date: &[i64]) -> i64 {
    let [year, month, day] = [date[0], date[1].abs(), date[2].abs()];
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day
}

/// `((0x1 & 0x2) << 0x3)`.
fn bits(text: &str) -> i64 {
    let Some(inner) = text.strip_prefix('(') else {
        return i64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
    };
    let mut parts = inner.strip_suffix(')').unwrap().rsplitn(3, ' ');
    let [right, sign, left] = [(); 3].map(|()| parts.next().unwrap());
    let (a, b) = (bits(left), bits(right));
    match sign {
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "<<" => a * (1 << b),
        ">>" => a / (1 << b),
        _ => unreachable!("{sign}"),
    }
}

/// By every throw.
fn dice(sides: &[i64], least: i64) -> String {
    let mut totals = vec![0];
    for side in sides {
        totals = totals.iter().flat_map(|total| (1..=*side).map(move |face| total + face)).collect();
    }
    let (enough, all) = (totals.iter().filter(|total| **total >= least).count(), totals.len());
    let divisor = (1..=enough).rev().find(|d| enough % d == 0 && all % d == 0).unwrap();
    format!("{}/{}", enough / divisor, all / divisor)
}

/// By Cramer's rule.
fn system(question: &str) -> i64 {
    let (equations, asked) = question.split_once(". What is ").unwrap();
    let names = ["x", "y", "z", "w"];
    let mut matrix = Vec::new();
    let mut values = Vec::new();
    for equation in equations.split(", ") {
        let (left, value) = equation.split_once(" = ").unwrap();
        let left = left.replace(" - ", " -").replace(" + ", " ");
        let factor = |name: &str| {
            let term = left.split(' ').find_map(|term| term.strip_suffix(&format!("*{name}")));
            term.map_or(0, |factor| factor.parse::<i64>().unwrap())
        };
        matrix.push(names.map(factor));
        values.push(value.parse::<i64>().unwrap());
    }
    let n = matrix.len();
    let wanted = names.iter().position(|name| asked.starts_with(name)).unwrap();
    let flat = |replaced: Option<usize>| -> Vec<i64> {
        let entry = |row: usize, column: usize| match replaced {
            Some(other) if other == column => values[row],
            _ => matrix[row][column],
        };
        (0..n * n).map(|i| entry(i / n, i % n)).collect()
    };
    let (above, below) = (leibniz(&flat(Some(wanted))), leibniz(&flat(None)));
    assert_eq!(above % below, 0);
    above / below
}

/// A determinant by all permutations.
fn leibniz(entries: &[i64]) -> i64 {
    let n = entries.len().isqrt();
    let term = |order: Vec<usize>| {
        let swaps =
            (0..n).map(|i| order[i..].iter().filter(|other| **other < order[i]).count()).sum::<usize>();
        let product: i64 = order.iter().enumerate().map(|(row, column)| entries[row * n + column]).product();
        if swaps.is_multiple_of(2) { product } else { -product }
    };
    orders(n).into_iter().map(term).sum()
}

/// `-3*x^2 + 1*x - 8`, term by term: factor and power.
fn terms(polynomial: &str) -> Vec<(i64, u32)> {
    let text = polynomial.replace(" - ", " -").replace(" + ", " ");
    let term = |term: &str| match term.split_once('*') {
        None => (term.parse().unwrap(), 0),
        Some((factor, "x")) => (factor.parse().unwrap(), 1),
        Some((factor, power)) => {
            (factor.parse().unwrap(), power.strip_prefix("x^").unwrap().parse().unwrap())
        }
    };
    text.split(' ').map(term).collect()
}

/// By every choice of one term from each factor.
fn coefficient(product: &str, power: u32) -> i64 {
    let mut all = vec![(1, 0)];
    for factor in product.split(") * (") {
        let terms = terms(factor.trim_matches(['(', ')']));
        all = all.iter().flat_map(|(a, p)| terms.iter().map(move |(b, q)| (a * b, p + q))).collect();
    }
    all.iter().filter(|(_, p)| *p == power).map(|(factor, _)| factor).sum()
}

/// By every choice of one part from each factor; i to the fourth is 1.
fn complex(product: &str) -> String {
    let mut all = vec![(1_i64, 0)];
    for factor in product.split(" * ") {
        let text = factor.trim_matches(['(', ')']).strip_suffix('i').unwrap();
        let sign = text.rfind(['+', '-']).unwrap();
        let parts = [(text[..sign].parse::<i64>().unwrap(), 0), (text[sign..].parse().unwrap(), 1)];
        all = all.iter().flat_map(|(a, p)| parts.map(|(b, q)| (a * b, p + q))).collect();
    }
    let part = |power: usize| all.iter().filter(|(_, p)| p % 4 == power).map(|(n, _)| n).sum::<i64>();
    format!("{}{:+}i", part(0) - part(2), part(1) - part(3))
}

/// Twice the area between each side and the x axis, summed; sides that are not neighbours never meet.
fn trapezoids(coordinates: &[i64]) -> i64 {
    let corners: Vec<(i64, i64)> = coordinates.chunks(2).map(|c| (c[0], c[1])).collect();
    let n = corners.len();
    let turn = |a: (i64, i64), b: (i64, i64), c: (i64, i64)| {
        ((b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)).signum()
    };
    for i in 0..n {
        for j in i + 2..(n + i - 1).min(n) {
            let (a, b, c, d) = (corners[i], corners[i + 1], corners[j], corners[(j + 1) % n]);
            let crossed = turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0;
            assert!(!crossed, "{corners:?}");
        }
    }
    let area = |i: usize| {
        let (a, b) = (corners[i], corners[(i + 1) % n]);
        (b.0 - a.0) * (a.1 + b.1)
    };
    (0..n).map(area).sum::<i64>().abs()
}

/// Point by point.
fn inner_points(c: &[i64]) -> i64 {
    let cross =
        |ax: i64, ay: i64, bx: i64, by: i64, x: i64, y: i64| (bx - ax) * (y - ay) - (by - ay) * (x - ax);
    let inside = |x: i64, y: i64| {
        let sides = [
            cross(c[0], c[1], c[2], c[3], x, y),
            cross(c[2], c[3], c[4], c[5], x, y),
            cross(c[4], c[5], c[0], c[1], x, y),
        ];
        sides.iter().all(|side| *side > 0) || sides.iter().all(|side| *side < 0)
    };
    (0..=200).map(|x| (0..=200).filter(|y| inside(x, *y)).count() as i64).sum()
}

/// Each step as a matrix with a shift.
fn transform(question: &str) -> String {
    let (start, rest) = question.split_once(": ").unwrap();
    let start = numbers(start);
    let (mut x, mut y) = (start[0], start[1]);
    for step in rest.split_once(". Where").unwrap().0.split(", then ") {
        let shift = if step.starts_with("move") { numbers(step) } else { vec![0, 0] };
        let [a, b, c, d] = match step {
            "turn left 90 degrees around (0,0)" => [0, -1, 1, 0],
            "turn right 90 degrees around (0,0)" => [0, 1, -1, 0],
            "mirror in the x axis" => [1, 0, 0, -1],
            "mirror in the y axis" => [-1, 0, 0, 1],
            "mirror in the line y=x" => [0, 1, 1, 0],
            _ => [1, 0, 0, 1],
        };
        (x, y) = (a * x + b * y + shift[0], c * x + d * y + shift[1]);
    }
    format!("{x},{y}")
}
