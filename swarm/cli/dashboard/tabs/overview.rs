//! Overview: am I in, is it moving, is it learning, did I miss a deadline and why.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};

use crate::dashboard::answers::{self, Answer, Tone};
use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, Curve, bar, fit, pad, percent};
use crate::dashboard::theme::Theme;
use crate::dashboard::view::Scene;
use crate::happenings::AUDITED;
use crate::record::{Event, Level};

/// Lines of an answer.
const LINES_MAX: usize = 3;
/// Columns of a question.
const QUESTION: usize = 11;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let theme = sight.theme;
    let wide = area.height >= 30;
    let inner_width = usize::from(area.width.saturating_sub(2));
    let rows: Vec<Line<'_>> =
        answers::all(&sight.scene).iter().flat_map(|answer| spoken(answer, inner_width, theme)).collect();
    let events = if wide { 10 } else { 5 };
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(rows.len() as u16 + 2),
        Constraint::Min(5),
        Constraint::Length(events),
    ])
    .areas(area);
    let heading = if sight.scene.back.is_some() { "Then" } else { "Now" };
    let inner = draw::panel(frame, top, draw::title(heading, theme), theme);
    draw::lines(frame, inner, rows);
    if sight.scene.view.status.as_ref().is_some_and(|status| sight.scene.live() && status.roster.is_empty()) {
        draw_how_to_join(frame, middle, sight);
        return draw_events(frame, bottom, sight);
    }
    let peers = if area.width >= 110 { 52 } else { 32 };
    let [left, right] = Layout::horizontal([Constraint::Min(30), Constraint::Length(peers)]).areas(middle);
    draw_curves(frame, left, sight);
    if wide {
        let counts = counts(&sight.scene);
        let below = Constraint::Length(counts.len() as u16 + 2);
        let [right, below] = Layout::vertical([Constraint::Min(5), below]).areas(right);
        draw_peers(frame, right, sight);
        draw_counts(frame, below, &counts, sight);
    } else {
        draw_peers(frame, right, sight);
    }
    draw_events(frame, bottom, sight);
}

/// An answer in a few lines.
fn spoken(answer: &Answer, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let style = match answer.tone {
        Tone::Good => theme.good(),
        Tone::Warn => theme.warn(),
        Tone::Bad => theme.bad(),
        Tone::Plain => Style::new(),
    };
    let indent = QUESTION + 4;
    let mut texts = draw::wrap(&answer.text, width.saturating_sub(indent + 1));
    if texts.len() > LINES_MAX {
        let rest = texts.split_off(LINES_MAX - 1).join(" ");
        texts.push(fit(&rest, width.saturating_sub(indent + 1)));
    }
    let line = |(at, text): (usize, String)| {
        let question = if at == 0 { answer.question } else { "" };
        let mark = if at == 0 { answer.mark } else { "" };
        Line::from(vec![
            Span::raw(format!(" {}", pad(question, QUESTION))),
            Span::styled(pad(mark, 2), style),
            Span::styled(text, if at == 0 { style } else { Style::new() }),
        ])
    };
    texts.into_iter().enumerate().map(line).collect()
}

/// While the swarm waits for peers: what they have to do.
fn draw_how_to_join(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let join = &sight.scene.view.info.join;
    let inner = draw::panel(frame, area, draw::title("How others join", sight.theme), sight.theme);
    let text = if join.is_empty() {
        "with a config that has the same [swarm] section, and an address of this peer (6) among its `bootstrap`"
            .to_owned()
    } else {
        format!(
            "with this, in one line (it stands in this peer's config too; m lets the mouse select it): {join}"
        )
    };
    let lines = draw::wrap(&text, usize::from(inner.width).saturating_sub(1));
    draw::lines(frame, inner, lines.into_iter().map(|line| Line::raw(format!(" {line}"))).collect());
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let curves = [
        Curve {
            points: scene.figure(|round| round.sampled_accuracy),
            style: theme.accent(),
            marker: Marker::Braille,
        },
        Curve {
            points: scene.figure(|round| round.undecided_share),
            style: theme.warn(),
            marker: Marker::Dot,
        },
    ];
    let heading = Line::from(vec![
        Span::styled(" ⠒ answers right ", theme.accent()),
        Span::styled(percent(curves[0].points.last().map(|point| point.1)), theme.strong()),
        Span::styled("  • undecided ", theme.warn()),
        Span::styled(percent(curves[1].points.last().map(|point| point.1)) + " ", theme.strong()),
    ]);
    draw::chart(frame, area, heading, &curves, (true, scene.span()), theme);
}

fn draw_peers(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let inner = draw::panel(frame, area, draw::title("Peers by vote", theme), theme);
    let Some(round) = scene.round() else {
        return draw::lines(frame, inner, vec![Line::styled(" nobody has voted yet", theme.dim())]);
    };
    let mut peers: Vec<_> = round.peers.iter().collect();
    peers.sort_by(|a, b| b.1.weight.total_cmp(&a.1.weight).then(a.0.cmp(b.0)));
    let height = usize::from(inner.height);
    let shown = if peers.len() > height { height.saturating_sub(1) } else { height };
    let left = peers.len().saturating_sub(shown);
    let width = usize::from(inner.width);
    let bars = if width > 40 { 16 } else { 7 };
    let row = |(name, peer): &(&String, &crate::record::PeerRecord)| {
        let mine = if *name == scene.view.me() { "*" } else { " " };
        let style = if peer.weight > 0.0 { theme.good() } else { theme.bad() };
        Line::from(vec![
            Span::raw(format!("{mine}{}", pad(name, width.saturating_sub(bars + 9)))),
            Span::styled(format!(" {} ", bar(peer.weight, bars)), style),
            Span::raw(format!("{:>5}", percent(Some(peer.weight)))),
        ])
    };
    let mut rows: Vec<Line<'_>> = peers.iter().take(shown).map(row).collect();
    if left > 0 {
        rows.push(Line::styled(format!(" and {left} more (3)"), theme.dim()));
    }
    draw::lines(frame, inner, rows);
}

/// What was lost or left out up to the moment, by name.
fn counts(scene: &Scene<'_>) -> Vec<(String, u64)> {
    let mut undecided: BTreeMap<&str, u64> = BTreeMap::new();
    for (why, count) in scene.rounds().iter().flat_map(|round| &round.undecided_why) {
        *undecided.entry(why).or_default() += u64::from(*count);
    }
    let of_kind = |kind: &str| scene.events().filter(|event| event.kind == kind).count() as u64;
    let dropped = scene.view.network.as_ref().map_or(0, |traffic| traffic.dropped.values().sum());
    let mut counts = vec![
        ("own deadlines missed".to_owned(), scene.late().len() as u64),
        ("phases that went on without somebody".to_owned(), of_kind("phase_closed")),
        (
            "views without a certificate".to_owned(),
            scene.rounds().iter().map(|round| u64::from(round.voids)).sum(),
        ),
        ("steps not taken".to_owned(), of_kind("no_step")),
        ("messages lost by the network".to_owned(), dropped),
        ("kinds of messages refused".to_owned(), of_kind("dropped")),
    ];
    counts.extend(undecided.into_iter().map(|(why, count)| (format!("undecided: {why}"), count)));
    counts
}

fn draw_counts(frame: &mut Frame<'_>, area: Rect, counts: &[(String, u64)], sight: &Sight<'_>) {
    let inner = draw::panel(frame, area, draw::title("Lost or left out", sight.theme), sight.theme);
    let width = usize::from(inner.width).saturating_sub(10);
    let row = |(name, count): &(String, u64)| {
        let style = if *count > 0 { Style::new() } else { sight.theme.dim() };
        Line::styled(format!(" {} {count:>7}", pad(name, width)), style)
    };
    draw::lines(frame, inner, counts.iter().map(row).collect());
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let inner = draw::panel(frame, area, draw::title("Latest", theme), theme);
    let height = usize::from(inner.height);
    let latest = latest(scene, height);
    let width = usize::from(inner.width).saturating_sub(12);
    let row = |(event, times): &(&Event, usize)| {
        let (mark, style) = match event.level {
            Level::Info => (" ", Style::new()),
            Level::Warn => ("!", theme.warn()),
            Level::Error => ("‼", theme.bad()),
        };
        Line::from(vec![
            Span::styled(format!(" {:>5} ", event.round), theme.dim()),
            Span::styled(format!("{mark} "), style),
            Span::styled(told(&event.text, *times, width), style),
        ])
    };
    if latest.is_empty() {
        return draw::lines(frame, inner, vec![Line::styled(" nothing out of the ordinary", theme.dim())]);
    }
    draw::lines(frame, inner, latest.iter().map(row).collect());
}

/// The newest events that differ, oldest first, and how often each was told up to the moment. Peers of one process
/// see the same things happen, and audits pass in every round.
fn latest<'a>(scene: &Scene<'a>, most: usize) -> Vec<(&'a Event, usize)> {
    let own = |event: &&Event| {
        let mine = event.peer.is_empty() || event.is_of(scene.view.me());
        mine && (event.level > Level::Info || event.kind != AUDITED)
    };
    let mut latest: Vec<(&Event, usize)> = Vec::new();
    for event in scene.events().rev().filter(own) {
        if let Some((_, times)) = latest.iter_mut().find(|(newer, _)| newer.text == event.text) {
            *times += 1;
        } else if latest.len() < most {
            latest.push((event, 1));
        }
    }
    latest.reverse();
    latest
}

/// A text that was told so often.
fn told(text: &str, times: usize, width: usize) -> String {
    let times = if times > 1 { format!(" (×{times})") } else { String::new() };
    let text = fit(text, width.saturating_sub(draw::columns(&times)));
    text + times.as_str()
}
