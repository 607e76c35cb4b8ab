//! Learning: what the policy is rewarded for, what it does with that, and whether the vote deserves it.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, Curve, NOTHING, number, percent};
use crate::metrics::Metrics;
use crate::record::RoundRecord;

/// Draws of gold that are taken together: one is a handful of prompts.
const GOLD_WINDOW: usize = 10;

/// Columns of a chart whose title has room for a change.
const WIDE: u16 = 40;

/// One chart.
struct Cell {
    name: &'static str,
    points: Vec<(f64, f64)>,
    /// Whether it is a share.
    share: bool,
    style: Style,
}

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let columns = 3;
    let cells = cells(sight);
    // One place more than charts: the figures that need no curve.
    let rows = (cells.len() + 1).div_ceil(columns);
    let places: Vec<Rect> = Layout::vertical(vec![Constraint::Fill(1); rows])
        .split(area)
        .iter()
        .flat_map(|row| Layout::horizontal(vec![Constraint::Fill(1); columns]).split(*row).to_vec())
        .collect();
    for (cell, place) in cells.iter().zip(&places) {
        draw_cell(frame, *place, cell, sight);
    }
    if let Some(place) = places.get(cells.len()) {
        draw_figures(frame, *place, sight);
    }
}

fn cells(sight: &Sight<'_>) -> Vec<Cell> {
    let (scene, theme) = (&sight.scene, sight.theme);
    let step =
        |of: fn(&crate::metrics::Step) -> f64| scene.metric(move |line: &Metrics| line.step.as_ref().map(of));
    let cell = |name, points, share, style| Cell { name, points, share, style };
    vec![
        cell("answers right", scene.figure(|round| round.sampled_accuracy), true, theme.good()),
        cell("reward", scene.metric(|line| line.reward), true, theme.accent()),
        cell("reward − right", scene.metric(|line| line.consensus_gold_gap), false, theme.warn()),
        cell("vote right (gold)", gold(sight), true, theme.good()),
        cell("undecided", scene.figure(|round| round.undecided_share), true, theme.warn()),
        cell("reasoned", scene.figure(|round| round.trace_share), true, theme.accent()),
        cell("loss", step(|step| step.loss), false, theme.second()),
        cell("entropy (nats)", step(|step| step.entropy), false, theme.second()),
        cell("KL (nats)", step(|step| step.kl), false, theme.second()),
        cell("tokens/s", scene.metric(|line| line.tokens_per_second), false, theme.accent()),
        cell("round (s)", scene.metric(|line| Some(line.round_seconds)), false, theme.accent()),
    ]
}

/// How often the vote was right on prompts drawn afterwards, over the last draws.
fn gold(sight: &Sight<'_>) -> Vec<(f64, f64)> {
    let mut draws = VecDeque::new();
    let right = |round: &RoundRecord| {
        draws.extend(round.gold);
        if draws.len() > GOLD_WINDOW {
            draws.pop_front();
        }
        let (drawn, right) = draws.iter().fold((0, 0), |sum, gold| (sum.0 + gold.drawn, sum.1 + gold.right));
        (drawn > 0).then(|| (f64::from(round.round), f64::from(right) / drawn as f64))
    };
    sight.scene.rounds().iter().filter_map(right).collect()
}

fn draw_cell(frame: &mut Frame<'_>, place: Rect, cell: &Cell, sight: &Sight<'_>) {
    let shown = |point: Option<&(f64, f64)>| match point {
        Some((_, value)) if cell.share => percent(Some(*value)),
        Some((_, value)) => number(*value),
        None => NOTHING.into(),
    };
    let last = shown(cell.points.last());
    let change =
        if place.width >= WIDE { format!("{} → {last} ", shown(cell.points.first())) } else { last + " " };
    let heading =
        Line::from(vec![Span::styled(format!(" {} ", cell.name), sight.theme.strong()), Span::raw(change)]);
    let curve = Curve { points: cell.points.clone(), style: cell.style, marker: Marker::Braille };
    draw::chart(frame, place, heading, &[curve], (cell.share, sight.scene.span()), sight.theme);
}

fn draw_figures(frame: &mut Frame<'_>, place: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let inner = draw::panel(frame, place, draw::title("newest step", theme), theme);
    let until = scene.back.unwrap_or(u32::MAX);
    let lines = scene.view.metrics.iter().rev().filter(|line| line.round <= until);
    let mine = lines.clone().find(|line| line.peer == scene.view.me() && line.step.is_some());
    let Some((line, step)) = mine.and_then(|line| Some((line, line.step.as_ref()?))) else {
        let skipped = lines.clone().find_map(|line| line.skipped.as_deref());
        let text = skipped.map_or("no step yet".into(), |why| format!("no step: {why}"));
        return draw::lines(frame, inner, vec![Line::styled(format!(" {text}"), theme.dim())]);
    };
    let held_out = scene.view.report.as_ref().filter(|_| scene.back.is_none()).and_then(|report| {
        let (before, after) = (report.before.as_ref()?, report.after.as_ref()?);
        Some(format!("held-out {} → {}", percent(Some(before.mean)), percent(Some(after.mean))))
    });
    let length = line.mean_length.map_or(NOTHING.into(), number);
    let mut rows = vec![
        format!("lr {} grad {}", number(step.learning_rate), number(step.grad_norm)),
        format!("clipped {}", percent(Some(step.clip_ratio))),
        format!("length {length}, cut {}", percent(line.clipped_ratio)),
        format!("flat groups {}", percent(line.frac_reward_zero_std)),
    ];
    rows.splice(0..0, held_out);
    draw::lines(frame, inner, rows.into_iter().map(|row| Line::raw(format!(" {row}"))).collect());
}
