//! Logs: what happened, by level and filter; the selected entry in full.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, fit, pad, wrap};
use crate::dashboard::ui::Ui;
use crate::record::{Event, Level};

/// Columns of a name.
const NAME: usize = 15;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let theme = sight.theme;
    let passes = |event: &&Event| {
        let names = || std::iter::once(&event.peer).chain(&event.also);
        event.level >= ui.level
            && (ui.passes(&event.text) || ui.passes(&event.kind) || names().any(|name| ui.passes(name)))
    };
    let events: Vec<&Event> = sight.scene.events().filter(passes).collect();
    let all = sight.scene.events().count();
    let what = match ui.level {
        Level::Info => "all levels",
        Level::Warn => "warnings and errors",
        Level::Error => "errors",
    };
    let heading = format!("{} of {all} events, {what}", events.len());
    let [top, below] = Layout::vertical([Constraint::Min(5), Constraint::Length(5)]).areas(area);
    let inner = draw::panel(frame, top, draw::title(&heading, theme), theme);
    let (selected, shown) = ui.window(inner, events.len(), true);
    // Who tells is worth a column only where several do.
    let peers = sight.scene.view.info.peers.len();
    let name = if peers > 1 { NAME } else { 0 };
    let width = usize::from(inner.width).saturating_sub(name + 19);
    let line = |at: usize| {
        let event = events[at];
        let (mark, style) = mark(event.level, sight);
        let line = Line::from(vec![
            Span::styled(format!(" {} ", time(event)), theme.dim()),
            Span::styled(format!("{:>5} ", event.round), theme.dim()),
            Span::styled(format!("{mark} "), style),
            Span::styled(pad(&event.tellers(peers), name), theme.dim()),
            Span::styled(fit(&event.text, width), style),
        ]);
        if at == selected { line.style(theme.selected()) } else { line }
    };
    if events.is_empty() {
        draw::lines(
            frame,
            inner,
            vec![Line::styled(" nothing passes; esc drops the filter, v changes the level", theme.dim())],
        );
    }
    draw::lines(frame, inner, shown.map(line).collect());
    let heading = events.get(selected).map_or("nothing selected".into(), |event| {
        format!("{} · round {} · {}", event.at, event.round, event.kind.replace('_', " "))
    });
    let inner = draw::panel(frame, below, draw::title(heading.trim_end_matches(" · "), theme), theme);
    if let Some(event) = events.get(selected) {
        let by = match event.also[..] {
            [] => String::new(),
            _ => format!(" (told by {}, {})", event.peer, event.also.join(", ")),
        };
        let text = wrap(&format!("{}{by}", event.text), usize::from(inner.width).saturating_sub(2));
        draw::lines(frame, inner, text.into_iter().map(|line| Line::raw(format!(" {line}"))).collect());
    }
}

fn mark(level: Level, sight: &Sight<'_>) -> (&'static str, Style) {
    match level {
        Level::Info => (" ", Style::new()),
        Level::Warn => ("!", sight.theme.warn()),
        Level::Error => ("‼", sight.theme.bad()),
    }
}

/// Hours, minutes and seconds of an event.
fn time(event: &Event) -> String {
    pad(event.at.get(11..19).unwrap_or_default(), 8)
}
