//! Curves over the size of a swarm, on logarithmic axes, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 28.0;
const BELOW: f64 = 30.0;
const COLOURS: [&str; 3] = ["#1668b0", "#c2571a", "#2c8a4b"];
const STYLE: &str = "text{font:11px sans-serif;fill:#777}.title{font-weight:bold}line{stroke:#7774}\
                     polyline{fill:none;stroke-width:1.5}";

/// Curves in one frame.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) curves: Vec<Curve>,
}

/// A name, empty for an only curve, and points (peers, value) with values above 0.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Charts beside each other.
pub(crate) fn page(charts: &[Chart]) -> String {
    let width = WIDTH * charts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\">\
         <style>{STYLE}</style>\n"
    );
    for (place, chart) in charts.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">{}</g>", WIDTH * place as f64, chart.draw());
    }
    svg + "</svg>\n"
}

impl Chart {
    fn draw(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let values = points().map(|point| point.1);
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let sizes = points().map(|point| point.0);
        let (first, last) =
            sizes.fold((f64::MAX, f64::MIN), |(low, high), size| (low.min(size), high.max(size)));
        let (low, high) = (round_down(low), round_up(high));
        let x =
            |size: f64| LEFT + (size / first).ln() / (last / first).ln().max(1e-9) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BELOW - (value / low).ln() / (high / low).ln() * (HEIGHT - TOP - BELOW);
        let mut svg = format!("<text class=\"title\" x=\"{LEFT}\" y=\"14\">{}</text>", self.title);
        for value in steps(low, high) {
            let at = y(value);
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 4.0,
                at + 4.0
            );
        }
        for (size, _) in self.curves.iter().take(1).flat_map(|curve| &curve.points) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>",
                x(*size),
                HEIGHT - 14.0
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">peers</text>",
            WIDTH - RIGHT,
            HEIGHT - 2.0
        );
        for (curve, colour) in self.curves.iter().zip(COLOURS) {
            let line: Vec<String> = curve
                .points
                .iter()
                .map(|(size, value)| format!("{:.1},{:.1}", x(*size), y(*value)))
                .collect();
            let _ = write!(svg, "<polyline points=\"{}\" stroke=\"{colour}\"/>", line.join(" "));
            if let (Some((_, value)), false) = (curve.points.last(), curve.name.is_empty()) {
                let _ = write!(
                    svg,
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:{colour}\">{}</text>",
                    WIDTH - RIGHT,
                    y(*value) - 6.0,
                    curve.name
                );
            }
        }
        svg
    }
}

/// 1, 2 or 5 times a power of ten, below and above; those between.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| tidy(digit * 10f64.powi(decade))));
    all.filter(|value| (low * 0.999..=high * 1.001).contains(value)).collect()
}

fn round_down(value: f64) -> f64 {
    steps(value / 10.0, value).last().copied().unwrap_or(value)
}

fn round_up(value: f64) -> f64 {
    steps(value, value * 10.0).first().copied().unwrap_or(value)
}

/// Without the last digits of a power.
fn tidy(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
