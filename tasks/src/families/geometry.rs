//! Points, angles, areas.

use super::draw::{distinct, gcd, join, signed};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Geometry.family(
        "angle",
        Form::Integer,
        "The last angle of a convex polygon.",
        &[("corners", [4, 5, 6, 7, 9])],
        angle,
    ),
    Category::Geometry.family(
        "polygon-area",
        Form::Integer,
        "Twice the area of a polygon given by its corners.",
        &[("corners", [3, 4, 4, 6, 8]), ("largest coordinate", [20, 20, 60, 60, 99])],
        polygon_area,
    ),
    Category::Geometry.family(
        "rectangles",
        Form::Integer,
        "The area that overlapping rectangles cover.",
        &[("rectangles", [2, 2, 3, 3, 4]), ("largest coordinate", [12, 40, 12, 30, 50])],
        rectangles,
    ),
    Category::Geometry.family(
        "inner-points",
        Form::Integer,
        "How many points with whole coordinates lie strictly inside a triangle.",
        &[("largest coordinate", [12, 20, 40, 80, 200])],
        inner_points,
    ),
    Category::Geometry.family(
        "transform",
        Form::Text,
        "Where turns, mirrors and moves take a point.",
        &[("steps", [2, 3, 4, 6, 8]), ("largest coordinate", [20, 20, 50, 50, 99])],
        transform,
    ),
];

type Point = (i64, i64);

fn points(points: &[Point]) -> String {
    join(&points.iter().map(|(x, y)| format!("({x},{y})")).collect::<Vec<_>>(), ", ")
}

/// Worked by the sum of all angles and of the known ones.
fn angle(rng: &mut Rng, [corners, ..]: Parameters) -> Draft {
    let all = (corners - 2) * 180;
    loop {
        let known: Vec<i64> = (1..corners).map(|_| rng.between(30, 179)).collect();
        let last = all - known.iter().sum::<i64>();
        if (10..180).contains(&last) && !known.contains(&last) {
            let question = format!(
                "A convex polygon has {corners} corners. All angles but one are {} degrees. The last one in degrees?",
                join(&known, ", ")
            );
            return Draft::new(question, last).worked(format!("{all},{}", all - last));
        }
    }
}

/// Twice the signed area, positive for counterclockwise corners.
fn double_area(corners: &[Point]) -> i64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|((x, y), (u, v))| x * v - u * y).sum()
}

/// Corners above and below the line from the leftmost to the rightmost one, so that no sides cross.
/// Worked by the cross product of each side.
fn polygon_area(rng: &mut Rng, [corners, largest, _]: Parameters) -> Draft {
    loop {
        let mut across = distinct(rng, corners, 0, largest);
        across.sort_unstable();
        let all: Vec<Point> = across.iter().map(|x| (*x, rng.between(0, largest))).collect();
        let (first, last) = (all[0], all[all.len() - 1]);
        let side = |point: &Point| double_area(&[first, last, *point]);
        let inner = &all[1..all.len() - 1];
        if inner.iter().any(|point| side(point) == 0) {
            continue;
        }
        let below = inner.iter().filter(|point| side(point) < 0).copied();
        let above = inner.iter().rev().filter(|point| side(point) > 0).copied();
        let corners: Vec<Point> = [first].into_iter().chain(below).chain([last]).chain(above).collect();
        let next = corners.iter().cycle().skip(1);
        let crosses: Vec<i64> = corners.iter().zip(next).map(|((x, y), (u, v))| x * v - u * y).collect();
        let question =
            format!("Twice the area of the polygon with the corners {} in order?", points(&corners));
        return Draft::new(question, double_area(&corners)).worked(join(&crosses, ","));
    }
}

/// Worked by the area of each rectangle.
fn rectangles(rng: &mut Rng, [count, largest, _]: Parameters) -> Draft {
    let interval = |rng: &mut Rng| {
        let ends = distinct(rng, 2, 0, largest);
        (ends[0].min(ends[1]), ends[0].max(ends[1]))
    };
    let all: Vec<(Point, Point)> = (0..count).map(|_| (interval(rng), interval(rng))).collect();
    let cuts = |ends: fn(&(Point, Point)) -> Point| {
        let mut cuts: Vec<i64> = all.iter().map(ends).flat_map(|(low, high)| [low, high]).collect();
        cuts.sort_unstable();
        cuts
    };
    let (across, up) = (cuts(|(x, _)| *x), cuts(|(_, y)| *y));
    let mut covered = 0;
    for x in across.windows(2) {
        for y in up.windows(2) {
            let inside = |(u, v): &(Point, Point)| u.0 <= x[0] && x[1] <= u.1 && v.0 <= y[0] && y[1] <= v.1;
            covered += if all.iter().any(inside) { (x[1] - x[0]) * (y[1] - y[0]) } else { 0 };
        }
    }
    let texts: Vec<String> =
        all.iter().map(|(x, y)| format!("({},{})-({},{})", x.0, y.0, x.1, y.1)).collect();
    let areas: Vec<i64> = all.iter().map(|(x, y)| (x.1 - x.0) * (y.1 - y.0)).collect();
    let question =
        format!("Rectangles by opposite corners: {}. Area covered by at least one?", texts.join(", "));
    Draft::new(question, covered).worked(join(&areas, ","))
}

/// By Pick's theorem. Worked by twice the area and the points on the border.
fn inner_points(rng: &mut Rng, [largest, ..]: Parameters) -> Draft {
    loop {
        let corners: Vec<Point> =
            (0..3).map(|_| (rng.between(0, largest), rng.between(0, largest))).collect();
        let area = double_area(&corners).abs();
        let next = corners.iter().cycle().skip(1);
        let border: i64 = corners.iter().zip(next).map(|((x, y), (u, v))| gcd(x - u, y - v)).sum();
        let inside = (area - border + 2) / 2;
        if area > 0 && inside > 0 {
            let question = format!(
                "How many whole-number points lie strictly inside the triangle {}?",
                points(&corners)
            );
            return Draft::new(question, inside).worked(format!("{area},{border}"));
        }
    }
}

/// Worked by the point after each step.
fn transform(rng: &mut Rng, [steps, largest, _]: Parameters) -> Draft {
    let (mut x, mut y) = (signed(rng, 1, largest), signed(rng, 1, largest));
    let start = format!("({x},{y})");
    let (mut texts, mut running) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let (a, b) = (signed(rng, 1, largest), signed(rng, 1, largest));
        let text;
        (text, x, y) = match rng.index(6) {
            0 => ("turn left 90 degrees around (0,0)".to_string(), -y, x),
            1 => ("turn right 90 degrees around (0,0)".into(), y, -x),
            2 => ("mirror in the x axis".into(), x, -y),
            3 => ("mirror in the y axis".into(), -x, y),
            4 => ("mirror in the line y=x".into(), y, x),
            _ => (format!("move by ({a},{b})"), x + a, y + b),
        };
        texts.push(text);
        running.push(format!("{x},{y}"));
    }
    let question = format!("Point {start}: {}. Where is it, as x,y?", texts.join(", then "));
    Draft::new(question, format!("{x},{y}")).worked(running.join(" "))
}
