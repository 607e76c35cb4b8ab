//! What surrounds every tab: where the run is, the tabs, the scrubber over its rounds, the keys that work now.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::draw::{self, columns, fit, pad};
use super::tabs;
use super::theme::Theme;
use super::ui::{Tab, Ui};
use super::view::Scene;
use crate::detail::RoundDetail;
use crate::printer;

/// Less than this cannot be read.
pub(crate) const WIDTH_MIN: u16 = 60;
pub(crate) const HEIGHT_MIN: u16 = 16;

/// Columns of the names of all tabs.
const TABS_WIDTH: u16 = 72;

/// Columns from which the first line has room for the swarm's id.
const SWARM_WIDTH: u16 = 100;

/// Everything a frame is drawn from.
pub(crate) struct Sight<'a> {
    pub(crate) scene: Scene<'a>,
    /// Prompts of the round that is looked at.
    pub(crate) detail: Option<&'a RoundDetail>,
    /// What could not be read.
    pub(crate) problem: Option<&'a str>,
    pub(crate) theme: Theme,
    /// Whether the run is in this process, so that ctrl-c stops it.
    pub(crate) own: bool,
}

/// Draws a frame.
pub(crate) fn draw(frame: &mut Frame<'_>, sight: &Sight<'_>, ui: &mut Ui) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!(
            "{}×{} is too small: {WIDTH_MIN}×{HEIGHT_MIN} is needed. q quits.",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(draw::wrap(&text, area.width.into()).join("\n")), area);
        return;
    }
    let rows =
        [1, 1, 0, 1, 1].map(|rows| if rows == 0 { Constraint::Min(1) } else { Constraint::Length(rows) });
    let [head, names, body, scrubber, keys] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, sight);
    draw_tabs(frame, names, sight, ui);
    (ui.shown.list, ui.shown.entries) = (Rect::default(), 0);
    match ui.tab {
        Tab::Overview => tabs::overview::draw(frame, body, sight),
        Tab::Round => tabs::round::draw(frame, body, sight, ui),
        Tab::Swarm => tabs::swarm::draw(frame, body, sight, ui),
        Tab::Learning => tabs::learning::draw(frame, body, sight),
        Tab::Tasks => tabs::tasks::draw(frame, body, sight, ui),
        Tab::Network => tabs::network::draw(frame, body, sight),
        Tab::Logs => tabs::logs::draw(frame, body, sight, ui),
    }
    draw_scrubber(frame, scrubber, sight, ui);
    draw_keys(frame, keys, sight, ui);
    if ui.help {
        draw_help(frame, area, sight, ui);
    }
    sanitize(frame);
}

/// Answers and names come from strangers: nothing of them may move the cursor or reorder text.
fn sanitize(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        if cell.symbol().starts_with(draw::TIGHT) {
            cell.set_symbol(" ");
        }
        if !cell.symbol().is_ascii() || cell.symbol().bytes().any(|byte| byte.is_ascii_control()) {
            let clean = printer::clean(cell.symbol());
            if clean != cell.symbol() {
                cell.set_symbol("\u{fffd}");
            }
        }
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let view = scene.view;
    let of = if view.info.rounds > 0 { format!("/{}", view.info.rounds) } else { String::new() };
    let mut spans = vec![Span::styled("murmur", theme.strong())];
    if !view.info.swarm.is_empty() && area.width >= SWARM_WIDTH {
        spans.push(Span::raw(format!("  swarm {:.8}", view.info.swarm)));
    }
    let round = scene.round().map_or(0, |round| round.round);
    match (&view.status, scene.live()) {
        (Some(status), true) => {
            let left = status.deadline_ms.saturating_sub(scene.now_ms).div_ceil(1000);
            spans
                .push(Span::styled(format!("  ● round {}{of} {}", status.round, status.phase), theme.good()));
            if let Some(silent) = scene.silent_s() {
                spans.push(Span::styled(format!("  no sign of life for {silent} s"), theme.bad()));
            } else {
                if !status.awaited.is_empty() {
                    spans.push(Span::raw(format!("  {left} s left")));
                }
                let begun = !status.roster.is_empty();
                let here = status.live + usize::from(status.member || !begun);
                let of = if begun { status.roster.len() } else { status.wanted };
                spans.push(Span::raw(format!("  {here}/{} peers", of.max(here))));
            }
        }
        _ if scene.back.is_some() => {
            spans.push(Span::styled(format!("  ◂ looking back at round {round}{of}"), theme.warn()));
        }
        _ if view.ended() => spans.push(Span::raw(format!("  ended after round {round}{of}"))),
        _ => spans.push(Span::raw(format!("  round {round}{of}"))),
    }
    let used: usize = spans.iter().map(Span::width).sum();
    let me = fit(view.me(), usize::from(area.width).saturating_sub(used + 2));
    let blanks = usize::from(area.width).saturating_sub(used + columns(&me));
    spans.extend([Span::raw(" ".repeat(blanks)), Span::styled(me, theme.accent())]);
    draw::lines(frame, area, vec![Line::from(spans)]);
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let (mut spans, mut x) = (Vec::new(), area.x);
    ui.shown.tabs.clear();
    for (index, tab) in Tab::ALL.into_iter().enumerate() {
        let number = index + 1;
        // Without colour the chosen tab is told by its brackets.
        let text = match tab == ui.tab {
            true => format!("[{number} {}]", tab.name()),
            false if area.width < TABS_WIDTH => format!(" {number} "),
            false => format!(" {number} {} ", tab.name()),
        };
        let width = columns(&text) as u16;
        ui.shown.tabs.push((Rect::new(x, area.y, width, 1), tab));
        let style =
            if tab == ui.tab { sight.theme.accent().patch(sight.theme.strong()) } else { sight.theme.dim() };
        spans.push(Span::styled(text, style));
        x += width;
    }
    draw::lines(frame, area, vec![Line::from(spans)]);
}

fn draw_scrubber(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let rounds = &scene.view.rounds;
    let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else {
        ui.shown.scrubber = Rect::default();
        return draw::lines(frame, area, vec![Line::styled(" no round has ended yet", theme.dim())]);
    };
    let at = scene.rounds().len().saturating_sub(1);
    let state = match (ui.playing, scene.back, scene.view.ended()) {
        (true, ..) => "▶ playing",
        (false, Some(_), _) => "◂ looking back",
        (false, None, true) => "■ ended",
        (false, None, false) if scene.live() => "● live",
        (false, None, false) => "■ recorded",
    };
    let from = format!(" {} ", first.round);
    let to = format!(" {}  {} ", last.round, pad(state, 14));
    let width = usize::from(area.width).saturating_sub(columns(&from) + columns(&to)).max(1);
    let knob = (at * (width - 1)).checked_div(rounds.len() - 1).unwrap_or(width - 1);
    ui.shown.scrubber = Rect::new(area.x + columns(&from) as u16, area.y, width as u16, 1);
    let line = Line::from(vec![
        Span::styled(from, theme.dim()),
        Span::styled("━".repeat(knob), theme.accent()),
        Span::styled("●", theme.accent().patch(theme.strong())),
        Span::styled("─".repeat(width - 1 - knob), theme.dim()),
        Span::styled(to, theme.dim()),
    ]);
    draw::lines(frame, area, vec![line]);
}

/// The keys that do something now: help, then those of this tab alone, then the most wanted; what has no room is in the
/// help.
fn keys(sight: &Sight<'_>, ui: &Ui) -> Vec<(&'static str, &'static str)> {
    if ui.filtering {
        return vec![("enter", "keep the filter"), ("esc", "drop it")];
    }
    let mut keys = vec![("?", "help")];
    if ui.tab.has_list() {
        keys.extend([("/", "filter"), ("↑↓", "move")]);
    }
    match ui.tab {
        Tab::Logs => keys.push(("v", "level")),
        Tab::Swarm => keys.push(("s", "sort")),
        _ => {}
    }
    if ui.back.is_some() {
        keys.push(("f", "newest"));
    }
    keys.extend([("q", if sight.own { "close" } else { "quit" }), ("1-7", "tabs"), ("←→", "rounds")]);
    if sight.own && !sight.scene.view.ended() {
        keys.push(("ctrl-c", "stop the run"));
    }
    keys.push(("space", if ui.playing { "pause" } else { "play" }));
    keys
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &Ui) {
    let theme = sight.theme;
    if let Some(problem) = sight.problem {
        let text = fit(&format!(" {problem}"), area.width.into());
        return draw::lines(frame, area, vec![Line::styled(text, theme.bad())]);
    }
    if ui.stopping && !sight.scene.view.ended() {
        let text = " stopping: it finishes the write in hand and says goodbye; ctrl-c again stops at once";
        return draw::lines(frame, area, vec![Line::styled(fit(text, area.width.into()), theme.warn())]);
    }
    let mut spans = Vec::new();
    if ui.filtering || !ui.filter.is_empty() {
        let cursor = if ui.filtering { "▏" } else { "" };
        spans.push(Span::styled(format!(" /{}{cursor} ", ui.filter), theme.warn()));
    }
    for (key, what) in keys(sight, ui) {
        let pair =
            [Span::styled(format!(" {key} "), theme.strong()), Span::styled(format!("{what} "), theme.dim())];
        let used: usize = spans.iter().chain(&pair).map(Span::width).sum();
        if used > usize::from(area.width) {
            break;
        }
        spans.extend(pair);
    }
    draw::lines(frame, area, vec![Line::from(spans)]);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &Ui) {
    let mut rows = vec![
        ("1-7, tab, shift-tab", "choose a tab"),
        ("← → or h l", "one round back, one forward"),
        ("H L", "ten rounds"),
        ("home, end or f", "first round; newest, and follow it"),
        ("space", "play the rounds, pause"),
    ];
    if ui.tab.has_list() {
        rows.extend([
            ("↑ ↓ or k j", "move in the list"),
            ("page, g, G", "by a page; to its top, to its end"),
            ("/", "show only what contains a text; esc drops it"),
        ]);
    }
    match ui.tab {
        Tab::Logs => rows.push(("v", "all, warnings and errors, errors")),
        Tab::Swarm => rows.push(("s", "sort by weight, by name")),
        Tab::Learning => rows.extend([
            ("answers right", "by reference answers, on prompts it trains on"),
            ("reward", "what the vote pays: agreement, right or not"),
            ("reward − right", "above 0 the vote pays for what is wrong"),
            ("↑ ↓ in a title", "a value beyond the axis, so that it flattens none"),
            ("held-out", "not during a run: `murmur eval` measures it"),
        ]),
        _ => {}
    }
    rows.extend([("m", "mouse off, to select text; on again"), ("?", "this; any key closes it")]);
    if sight.own {
        rows.extend([
            ("q", "close this; the run goes on in plain lines"),
            ("ctrl-c", "stop the run; again: at once"),
        ]);
    } else {
        rows.push(("q, ctrl-c", "quit; the run goes on"));
    }
    let width = 74.min(area.width - 2);
    let height = (rows.len() as u16 + 2).min(area.height);
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let heading = draw::title(&format!("Keys on {}", ui.tab.name()), sight.theme);
    let inner = draw::panel(frame, place, heading, sight.theme);
    let line = |(key, what): (&'static str, &'static str)| {
        Line::from(vec![Span::styled(pad(&format!(" {key}"), 22), sight.theme.strong()), Span::raw(what)])
    };
    draw::lines(frame, inner, rows.into_iter().map(line).collect());
}
