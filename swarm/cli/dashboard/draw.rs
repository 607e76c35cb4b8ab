//! Small things that all tabs are drawn with: panels, bars, curves, texts that fit.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{self, Block, BorderType, Chart, Dataset, GraphType, Paragraph};

use super::curves::{self, Axis, Point};
use super::theme::Theme;

/// What stands for a value that was not measured.
pub(crate) const NOTHING: &str = "–";

/// A blank at which no line is broken; a plain one once it is drawn.
pub(crate) const TIGHT: char = '\u{a0}';

/// `text` in at most `width` columns; what is left out is shown by an ellipsis, at a word's end where there is one.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if columns(&kept) + columns(c.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        kept.push(c);
    }
    if let Some(end) = kept.rfind(' ').filter(|end| *end * 3 > kept.len() * 2) {
        kept.truncate(end);
    }
    if width == 0 { String::new() } else { kept.trim_end().to_owned() + "…" }
}

/// Columns that a text takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in exactly `width` columns.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let blanks = width.saturating_sub(columns(&text));
    format!("{text}{}", " ".repeat(blanks))
}

/// A text broken at blanks into lines of at most `width` columns; a longer word is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for mut word in text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()) {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        while columns(word) > width {
            let (head, tail) = word.split_at(prefix(word, width));
            lines.push(head.to_owned());
            word = tail;
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Bytes of the longest beginning of `text`, at least one character, that fits into `width` columns.
fn prefix(text: &str, width: usize) -> usize {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let first = text.chars().next().map_or(0, char::len_utf8);
    ends.take_while(|end| columns(&text[..*end]) <= width).last().unwrap_or(first)
}

/// A share as a percentage, or nothing.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or(NOTHING.into(), |share| format!("{:.0}{TIGHT}%", 100.0 * share))
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    let (value, unit) = match count {
        0..1000 => return format!("{count} B"),
        1000..1_000_000 => (count as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (count as f64 / 1e6, "MB"),
        _ => (count as f64 / 1e9, "GB"),
    };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A time for people.
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 0.0995 => (format!("{:.0}", s * 1000.0), "ms"),
        s if s < 10.0 => (format!("{s:.1}"), "s"),
        s if s < 120.0 => (format!("{s:.0}"), "s"),
        s if s < 7200.0 => (format!("{:.0}", s / 60.0), "min"),
        s => (format!("{:.1}", s / 3600.0), "h"),
    };
    format!("{value}{TIGHT}{unit}")
}

/// A number for people, three digits of it.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 0.001 => format!("{value:.0e}"),
        v if v < 1.0 => format!("{value:.3}"),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        v if v < 10_000.0 => format!("{value:.0}"),
        _ => format!("{:.0}k", value / 1000.0),
    }
}

/// A bar of `width` columns, filled to a share.
pub(crate) fn bar(share: f64, width: usize) -> String {
    let filled = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

/// Values from 0 to 1 as a line of blocks, averaged down to at most `width` of them.
pub(crate) fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points = thin(&values.iter().map(|value| (0.0, *value)).collect::<Vec<_>>(), width);
    points.iter().map(|(_, mean)| BLOCKS[((mean.clamp(0.0, 1.0) * 8.0) as usize).min(7)]).collect()
}

/// Points averaged down to at most `max` of them.
pub(crate) fn thin(points: &[(f64, f64)], max: usize) -> Vec<(f64, f64)> {
    let count = points.len().min(max);
    let point = |index: usize| {
        let part = &points[index * points.len() / count..(index + 1) * points.len() / count];
        let n = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / n, sum.1 / n)
    };
    (0..count).map(point).collect()
}

/// A framed area with a title; returns what is inside.
pub(crate) fn panel(frame: &mut Frame<'_>, area: Rect, title: Line<'_>, theme: Theme) -> Rect {
    let block = Block::bordered().border_type(BorderType::Plain).border_style(theme.dim()).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// A title in the style of panels.
pub(crate) fn title(text: &str, theme: Theme) -> Line<'static> {
    Line::from(Span::styled(format!(" {text} "), theme.strong()))
}

/// Lines from the top of an area; what does not fit is not shown.
pub(crate) fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// One curve of a chart.
pub(crate) struct Curve {
    pub(crate) points: Vec<Point>,
    pub(crate) style: Style,
    pub(crate) marker: Marker,
}

/// Curves over a span of rounds in a framed area: of shares, or with whatever axis they need.
pub(crate) fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    mut heading: Line<'_>,
    curves: &[Curve],
    (share, [first, last]): (bool, [f64; 2]),
    theme: Theme,
) {
    let most = usize::from(area.width.saturating_sub(2)) * 2;
    let mut drawn: Vec<(&Curve, Vec<Point>)> = curves
        .iter()
        .flat_map(|curve| curves::stretches(&curve.points, most).into_iter().map(move |part| (curve, part)))
        .collect();
    let all = || drawn.iter().flat_map(|(_, points)| points);
    let axis = if share { Some(Axis::SHARE) } else { Axis::of(all()) };
    if let Some((axis, (_, value))) = axis.and_then(|axis| Some((axis, axis.beyond?))) {
        let way = if value > axis.high { '↑' } else { '↓' };
        heading.spans.push(Span::styled(format!("{way}{} ", number(value)), theme.dim()));
    }
    let measured = all().next().is_some();
    let inner = panel(frame, area, heading, theme);
    if !measured {
        return lines(frame, inner, vec![Line::styled("nothing measured yet", theme.dim())]);
    }
    let Some(axis) = axis else {
        return lines(frame, inner, vec![Line::styled("0 in every round", theme.dim())]);
    };
    drawn.iter_mut().flat_map(|(_, points)| points).for_each(|point| point.1 = axis.clamp(point.1));
    let datasets = drawn.iter().map(|(curve, points)| {
        Dataset::default().marker(curve.marker).graph_type(GraphType::Line).style(curve.style).data(points)
    });
    let label = |value: f64| match share {
        true => format!("{:>4}", format!("{:.0}%", value * 100.0)),
        false => format!("{:>6}", number(value)),
    };
    let labels = if inner.height >= 2 { vec![label(axis.low), label(axis.high)] } else { Vec::new() };
    let chart = Chart::new(datasets.collect())
        .legend_position(None)
        .x_axis(widgets::Axis::default().bounds([first, last.max(first + 1.0)]))
        .y_axis(widgets::Axis::default().bounds([axis.low, axis.high]).labels(labels).style(theme.dim()));
    frame.render_widget(chart, inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_without_cut_words_where_possible() {
        assert_eq!(fit("waiting for brisk-otter", 23), "waiting for brisk-otter");
        assert_eq!(fit("waiting for brisk-otter", 15), "waiting for…");
        assert_eq!(fit("brisk-otter", 6), "brisk…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(pad("ab", 4), "ab  ");
    }

    #[test]
    fn long_texts_are_wrapped_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            ["999 B", "1.0 kB", "12 MB"],
            [bytes(999), bytes(1000), bytes(12_300_000)].each_ref().map(String::as_str)
        );
        let times = [0.0042, 4.2, 42.4, 180.0].map(|seconds| duration(seconds).replace(TIGHT, " "));
        assert_eq!(times, ["4 ms", "4.2 s", "42 s", "3 min"]);
        assert_eq!(
            ["0", "0.250", "-1.50", "12k"],
            [number(0.0), number(0.25), number(-1.5), number(12_000.0)].each_ref().map(String::as_str)
        );
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(sparkline(&[0.0, 0.0, 1.0, 1.0, 0.5, 0.5], 3), "▁█▅");
        assert_eq!(thin(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2), [(0.0, 1.0), (1.5, 4.0)]);
        assert_eq!(thin(&[], 3), []);
    }
}
