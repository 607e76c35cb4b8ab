//! Unknowns, polynomials, matrices.

use super::draw::{join, signed};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Algebra.family(
        "linear-equation",
        Form::Integer,
        "The whole number that solves a linear equation with the unknown on both sides.",
        &[("largest coefficient", [9, 20, 40, 99, 500]), ("largest solution", [20, 40, 99, 500, 999])],
        linear_equation,
    ),
    Category::Algebra.family(
        "linear-system",
        Form::Integer,
        "One unknown of a system of linear equations.",
        &[("unknowns", [2, 2, 3, 3, 4]), ("largest coefficient", [5, 12, 3, 9, 5])],
        linear_system,
    ),
    Category::Algebra.family(
        "quadratic",
        Form::Integer,
        "The larger root of a quadratic equation with whole roots.",
        &[("largest root", [60, 120, 200, 400, 999]), ("largest leading coefficient", [1, 1, 3, 5, 9])],
        quadratic,
    ),
    Category::Algebra.family(
        "coefficient",
        Form::Integer,
        "A coefficient of a product of polynomials.",
        &[
            ("factors", [2, 2, 2, 3, 3]),
            ("degree of a factor", [1, 2, 3, 2, 3]),
            ("largest coefficient", [30, 9, 9, 6, 9]),
        ],
        coefficient,
    ),
    Category::Algebra.family(
        "complex",
        Form::Text,
        "The product of complex numbers.",
        &[("factors", [2, 2, 2, 3, 4]), ("largest part", [12, 30, 99, 12, 9])],
        complex,
    ),
    Category::Algebra.family(
        "determinant",
        Form::Integer,
        "The determinant of a matrix.",
        &[("rows", [2, 2, 3, 3, 4]), ("largest entry", [15, 50, 5, 12, 4])],
        determinant,
    ),
];

/// ` + 3`, ` - 3`: a number behind another one.
fn added(number: i64) -> String {
    format!(" {} {}", if number < 0 { '-' } else { '+' }, number.abs())
}

/// A sum of `coefficient*variable`, without the terms that are 0.
fn combination(terms: &[(i64, String)]) -> String {
    let mut text = String::new();
    for (coefficient, variable) in terms.iter().filter(|(coefficient, _)| *coefficient != 0) {
        let times = if variable.is_empty() { "" } else { "*" };
        match text.is_empty() {
            true => text = format!("{coefficient}{times}{variable}"),
            false => text.push_str(&format!("{}{times}{variable}", added(*coefficient))),
        }
    }
    if text.is_empty() { "0".into() } else { text }
}

/// Worked by the difference of the coefficients and of the constants.
fn linear_equation(rng: &mut Rng, [coefficient, solution, _]: Parameters) -> Draft {
    let x = signed(rng, 1, solution);
    let (left, right) = loop {
        let pair = (signed(rng, 2, coefficient), signed(rng, 2, coefficient));
        if pair.0 != pair.1 {
            break pair;
        }
    };
    let constant = signed(rng, 1, 9 * coefficient);
    let other = left * x + constant - right * x;
    let question = format!("Solve for x: {left}*x{} = {right}*x{}", added(constant), added(other));
    Draft::new(question, x).worked(format!("{}*x={}", left - right, other - constant))
}

fn linear_system(rng: &mut Rng, [unknowns, coefficient, _]: Parameters) -> Draft {
    let n = unknowns as usize;
    let names = &["x", "y", "z", "w"][..n];
    let matrix = loop {
        let matrix: Vec<Vec<i64>> =
            (0..n).map(|_| (0..n).map(|_| rng.between(-coefficient, coefficient)).collect()).collect();
        if laplace(&matrix) != 0 {
            break matrix;
        }
    };
    let solution: Vec<i64> = (0..n).map(|_| rng.between(-20, 20)).collect();
    let equations: Vec<String> = matrix
        .iter()
        .map(|row| {
            let terms: Vec<(i64, String)> =
                row.iter().zip(names).map(|(coefficient, name)| (*coefficient, (*name).into())).collect();
            let value: i64 = row.iter().zip(&solution).map(|(a, x)| a * x).sum();
            format!("{} = {value}", combination(&terms))
        })
        .collect();
    let wanted = rng.index(n);
    Draft::new(format!("{}. What is {}?", equations.join(", "), names[wanted]), solution[wanted])
}

/// Worked by both roots.
fn quadratic(rng: &mut Rng, [root, leading, _]: Parameters) -> Draft {
    let roots = super::draw::distinct(rng, 2, -root, root);
    let (low, high) = (roots[0].min(roots[1]), roots[0].max(roots[1]));
    let leading = rng.between(1, leading);
    let square = if leading == 1 { "x^2".to_string() } else { format!("{leading}*x^2") };
    let rest = format!("{}*x{}", added(-leading * (low + high)), added(leading * low * high));
    Draft::new(format!("Larger root of {square}{rest} = 0?"), high).worked(format!("{low},{high}"))
}

fn polynomial(coefficients: &[i64]) -> String {
    let terms = coefficients.iter().enumerate().rev().map(|(power, coefficient)| {
        let variable = match power {
            0 => String::new(),
            1 => "x".into(),
            _ => format!("x^{power}"),
        };
        (*coefficient, variable)
    });
    combination(&terms.collect::<Vec<_>>())
}

fn multiply(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut product = vec![0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            product[i + j] += x * y;
        }
    }
    product
}

/// Never the highest or the lowest power, which are products of two numbers.
fn coefficient(rng: &mut Rng, [factors, degree, largest]: Parameters) -> Draft {
    let factors: Vec<Vec<i64>> = (0..factors)
        .map(|_| {
            let mut factor: Vec<i64> = (0..degree).map(|_| rng.between(-largest, largest)).collect();
            factor.push(signed(rng, 1, largest));
            factor
        })
        .collect();
    let product = factors.iter().fold(vec![1], |product, factor| multiply(&product, factor));
    let power = rng.between(1, product.len() as i64 - 2);
    let texts: Vec<String> = factors.iter().map(|factor| format!("({})", polynomial(factor))).collect();
    let variable = if power == 1 { "x".to_string() } else { format!("x^{power}") };
    let question = format!("Coefficient of {variable} in {}?", texts.join(" * "));
    Draft::new(question, product[power as usize])
}

fn complex_text((real, imaginary): (i64, i64)) -> String {
    format!("{real}{imaginary:+}i")
}

/// Worked by the running product.
fn complex(rng: &mut Rng, [factors, part, _]: Parameters) -> Draft {
    let numbers: Vec<(i64, i64)> =
        (0..factors).map(|_| (signed(rng, 1, part), signed(rng, 1, part))).collect();
    let (mut product, mut running) = (numbers[0], Vec::new());
    for (real, imaginary) in &numbers[1..] {
        product = (product.0 * real - product.1 * imaginary, product.0 * imaginary + product.1 * real);
        running.push(complex_text(product));
    }
    let texts: Vec<String> = numbers.iter().map(|number| format!("({})", complex_text(*number))).collect();
    let question = format!("What is {}, written as a+bi?", texts.join(" * "));
    Draft::new(question, complex_text(product)).worked(running.join(","))
}

/// By the first row.
pub(super) fn laplace(matrix: &[Vec<i64>]) -> i64 {
    let Some(first) = matrix.first() else { return 1 };
    let minor = |column: usize| -> Vec<Vec<i64>> {
        let without = |row: &Vec<i64>| [&row[..column], &row[column + 1..]].concat();
        matrix[1..].iter().map(without).collect()
    };
    let signs = [1, -1].into_iter().cycle();
    first.iter().zip(signs).enumerate().map(|(i, (entry, sign))| sign * entry * laplace(&minor(i))).sum()
}

fn determinant(rng: &mut Rng, [rows, entry, _]: Parameters) -> Draft {
    let matrix: Vec<Vec<i64>> =
        (0..rows).map(|_| (0..rows).map(|_| rng.between(-entry, entry)).collect()).collect();
    let text: Vec<String> = matrix.iter().map(|row| join(row, " ")).collect();
    Draft::new(format!("Determinant of the matrix with the rows {}?", text.join(" / ")), laplace(&matrix))
}
