//! Curves as inline SVG: drawn at the width of a phone and scaled up.

use std::fmt::Write as _;

use super::escape;
use crate::dashboard::draw::{number, percent, thin, wide};

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
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart with its title, as a figure; nothing where nothing was measured.
pub(crate) fn chart(title: &str, curves: &[Curve], share: bool) -> String {
    let curves: Vec<(&str, Vec<(f64, f64)>)> = curves
        .iter()
        .filter(|curve| !curve.points.is_empty())
        .map(|curve| (curve.name.as_str(), thin(&curve.points, POINTS_MAX)))
        .collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    if all().next().is_none() {
        return String::new();
    }
    let range = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (first, last) = range(|point| point.0);
    let (low, high) = range(|point| point.1);
    let [low, high] = if share { [0.0, 1.0] } else { wide([low, high]) };
    let x = |round: f64| LEFT + (round - first) / (last - first).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BELOW);
    let label = |value: f64| if share { plain(&percent(Some(value))) } else { number(value) };
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(title),
        escape(&spoken(title, &curves, &label))
    );
    for value in [low, (low + high) / 2.0, high] {
        let at = y(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0,
            escape(&label(value))
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0}\">round {first:.0}</text><text x=\"{1}\" y=\"{0}\" text-anchor=\"end\">{last:.0}</text>",
        HEIGHT - 3.0,
        WIDTH - RIGHT
    );
    for (at, (_, points)) in curves.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|(round, value)| format!("{:.1},{:.1}", x(*round), y(*value))).collect();
        let _ = write!(svg, "<polyline class=\"c{}\" points=\"{}\"/>", at % 6, path.join(" "));
    }
    svg.push_str("</svg>\n");
    if curves.len() > 1 {
        let keys = curves.iter().enumerate().map(|(at, (name, points))| {
            let newest = points.last().map_or(String::new(), |point| label(point.1));
            format!("<span class=\"k{}\">{} {}</span>", at % 6, escape(name), escape(&newest))
        });
        let _ = writeln!(svg, "<p class=\"key\">{}</p>", keys.collect::<Vec<_>>().join(" "));
    }
    svg + "</figure>\n"
}

/// What a reader of the screen hears.
fn spoken(title: &str, curves: &[(&str, Vec<(f64, f64)>)], label: &dyn Fn(f64) -> String) -> String {
    let ends = curves.iter().filter_map(|(name, points)| {
        Some(format!("{name} from {} to {}", label(points.first()?.1), label(points.last()?.1)))
    });
    format!("{title}: {}", ends.collect::<Vec<_>>().join(", "))
}

/// Without blanks that must not break: SVG does not break lines.
fn plain(text: &str) -> String {
    text.replace(crate::dashboard::draw::TIGHT, " ")
}
