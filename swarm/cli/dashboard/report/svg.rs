//! Curves as inline SVG: drawn at the width of a phone and scaled up.

use std::fmt::Write as _;

use super::escape;
use crate::dashboard::curves::{self, Axis, Point};
use crate::dashboard::draw::{number, percent};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 170.0;
/// Room for the labels to the left and below.
const LEFT: f64 = 44.0;
const BELOW: f64 = 18.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 8.0;
/// Points of a curve.
const POINTS_MAX: usize = 300;

/// A curve and its name; its place in the list is its colour.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

/// A chart with its title, as a figure; nothing where nothing was measured.
pub(crate) fn chart(title: &str, curves: &[Curve], share: bool, [first, last]: [f64; 2]) -> String {
    let curves: Vec<&Curve> = curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    let drawn: Vec<Vec<Vec<Point>>> =
        curves.iter().map(|curve| curves::stretches(&curve.points, POINTS_MAX)).collect();
    let all = || drawn.iter().flatten().flatten();
    if all().next().is_none() {
        return String::new();
    }
    let label = |value: f64| if share { plain(&percent(Some(value))) } else { number(value) };
    let mut figure = format!("<figure><figcaption>{}</figcaption>\n", escape(title));
    let Some(axis) = (if share { Some(Axis::SHARE) } else { Axis::of(all()) }) else {
        return figure + "<p class=\"soft\">0 in every round</p></figure>\n";
    };
    let x = |round: f64| LEFT + (round - first) / (last - first).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y =
        |value: f64| TOP + (axis.high - axis.clamp(value)) / (axis.high - axis.low) * (HEIGHT - TOP - BELOW);
    let spoken = escape(&spoken(title, &curves, &label));
    let _ = write!(figure, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{spoken}\">");
    for value in [axis.low, (axis.low + axis.high) / 2.0, axis.high] {
        let at = y(value);
        let _ = write!(
            figure,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0,
            escape(&label(value))
        );
    }
    let _ = write!(
        figure,
        "<text x=\"{LEFT}\" y=\"{0}\">round {first:.0}</text><text x=\"{1}\" y=\"{0}\" text-anchor=\"end\">{last:.0}</text>",
        HEIGHT - 3.0,
        WIDTH - RIGHT
    );
    for (at, points) in
        drawn.iter().enumerate().flat_map(|(at, drawn)| drawn.iter().map(move |points| (at, points)))
    {
        figure.push_str(&match points[..] {
            // A line needs two.
            [(round, value)] => {
                format!(
                    "<circle class=\"c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1\"/>",
                    at % 6,
                    x(round),
                    y(value)
                )
            }
            _ => {
                let place = |point: &Point| format!("{:.1},{:.1}", x(point.0), y(point.1));
                let path: Vec<String> = points.iter().map(place).collect();
                format!("<polyline class=\"c{}\" points=\"{}\"/>", at % 6, path.join(" "))
            }
        });
    }
    figure.push_str("</svg>\n");
    if let Some((round, value)) = axis.beyond {
        let _ =
            writeln!(figure, "<p class=\"key\">beyond the axis: {} in round {round:.0}</p>", label(value));
    }
    if curves.len() > 1 {
        let keys = curves.iter().enumerate().map(|(at, curve)| {
            let newest = curve.points.last().map_or(String::new(), |point| label(point.1));
            format!("<span class=\"k{}\">{} {}</span>", at % 6, escape(&curve.name), escape(&newest))
        });
        let _ = writeln!(figure, "<p class=\"key\">{}</p>", keys.collect::<Vec<_>>().join(" "));
    }
    figure + "</figure>\n"
}

/// What a reader of the screen hears.
fn spoken(title: &str, curves: &[&Curve], label: &dyn Fn(f64) -> String) -> String {
    let ends = curves.iter().filter_map(|Curve { name, points }| {
        Some(format!("{name} from {} to {}", label(points.first()?.1), label(points.last()?.1)))
    });
    format!("{title}: {}", ends.collect::<Vec<_>>().join(", "))
}

/// Without blanks that must not break: SVG does not break lines.
fn plain(text: &str) -> String {
    text.replace(crate::dashboard::draw::TIGHT, " ")
}
