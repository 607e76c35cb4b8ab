//! Overview: am I in, is it moving, is it learning, did I miss a deadline and why.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, Curve, TIGHT, bar, duration, fit, pad, percent};
use crate::record::{Level, RoundRecord};

/// Rounds that "now" is the mean of.
const RECENT: usize = 5;
/// A change of accuracy that is more than noise.
const CHANGE: f64 = 0.03;
/// Lines of an answer.
const LINES_MAX: usize = 3;
/// Columns of a question.
const QUESTION: usize = 11;

/// An answer to one of the four questions.
struct Verdict {
    question: &'static str,
    mark: &'static str,
    style: Style,
    text: String,
}

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let theme = sight.theme;
    let wide = area.height >= 30;
    let inner_width = usize::from(area.width.saturating_sub(2));
    let rows: Vec<Line<'_>> =
        verdicts(sight).iter().flat_map(|verdict| spoken(verdict, inner_width)).collect();
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
    let peers = if area.width >= 110 { 52 } else { 32 };
    let [left, right] = Layout::horizontal([Constraint::Min(30), Constraint::Length(peers)]).areas(middle);
    draw_curves(frame, left, sight);
    draw_peers(frame, right, sight);
    draw_events(frame, bottom, sight);
}

/// A verdict in a few lines.
fn spoken(verdict: &Verdict, width: usize) -> Vec<Line<'static>> {
    let indent = QUESTION + 4;
    let mut texts = draw::wrap(&verdict.text, width.saturating_sub(indent + 1));
    if texts.len() > LINES_MAX {
        let rest = texts.split_off(LINES_MAX - 1).join(" ");
        texts.push(fit(&rest, width.saturating_sub(indent + 1)));
    }
    let line = |(at, text): (usize, String)| {
        let question = if at == 0 { verdict.question } else { "" };
        let mark = if at == 0 { verdict.mark } else { "" };
        Line::from(vec![
            Span::raw(format!(" {}", pad(question, QUESTION))),
            Span::styled(pad(mark, 2), verdict.style),
            Span::styled(text, if at == 0 { verdict.style } else { Style::new() }),
        ])
    };
    texts.into_iter().enumerate().map(line).collect()
}

fn verdicts(sight: &Sight<'_>) -> [Verdict; 4] {
    [am_i_in(sight), is_it_moving(sight), is_it_learning(sight), did_i_miss(sight)]
}

fn am_i_in(sight: &Sight<'_>) -> Verdict {
    let (scene, theme) = (&sight.scene, sight.theme);
    let me = scene.view.me();
    let last = scene.round();
    let standing = last.and_then(|round| round.peers.get(me));
    let (member, roster) = match &scene.view.status {
        Some(status) if scene.live() => (status.member, status.roster.len()),
        _ => (
            last.is_some_and(|round| round.roster.iter().any(|name| name == me)),
            last.map_or(0, |round| round.roster.len()),
        ),
    };
    let vote = standing.map_or(String::new(), |peer| format!(", {} of the vote", percent(Some(peer.weight))));
    let been = if scene.live() { "is" } else { "was" };
    let (mark, style, text) = if member {
        ("✓", theme.good(), format!("yes: one of {roster} in the roster{vote}"))
    } else if roster == 0 {
        let live = scene.view.status.as_ref().map_or(0, |status| status.live);
        ("…", theme.warn(), format!("not yet: the first round waits for peers, {live} here besides this one"))
    } else {
        (
            "✗",
            theme.bad(),
            format!("no: {been} not among the {roster} of this round; newcomers enter with a coming one"),
        )
    };
    Verdict { question: "in?", mark, style, text }
}

fn is_it_moving(sight: &Sight<'_>) -> Verdict {
    let (scene, theme) = (&sight.scene, sight.theme);
    let rounds = scene.rounds();
    let recent = &rounds[rounds.len().saturating_sub(RECENT)..];
    let pace =
        recent.iter().map(|round| round.wall_ms as f64 / 1000.0).sum::<f64>() / recent.len().max(1) as f64;
    let pace = if recent.is_empty() { String::new() } else { format!("; a round takes {}", duration(pace)) };
    let verdict = |mark, style, text| Verdict { question: "moving?", mark, style, text };
    let Some(status) = scene.view.status.as_ref().filter(|_| scene.live()) else {
        let text = match (scene.round(), scene.back) {
            (None, _) => "no round has ended".into(),
            (Some(round), Some(_)) => past(round),
            (Some(round), None) => format!("ended after round {}{pace}", round.round),
        };
        return verdict("■", Style::new(), text);
    };
    if let Some(silent) = scene.silent_s() {
        let text =
            format!("no sign of life for {silent} s: the process was killed or stopped, or its disk is full");
        return verdict("✗", theme.bad(), text);
    }
    let left = status.deadline_ms.saturating_sub(scene.now_ms).div_ceil(1000);
    let waits = match status.awaited.as_slice() {
        [] => String::new(),
        names => format!(", waits {left}{TIGHT}s more for {}", names.join(", ")),
    };
    verdict("✓", theme.good(), format!("round {}, {}{waits}{pace}", status.round, status.phase))
}

/// A round that is looked back at.
fn past(round: &RoundRecord) -> String {
    let phases = ["answer", "reveal", "critique", "vote", "settle"].iter().filter_map(|phase| {
        Some(format!("{phase} {}", duration(*round.phases_ms.get(*phase)? as f64 / 1000.0)))
    });
    let phases: Vec<String> = phases.collect();
    format!("round {} took {}: {}", round.round, duration(round.wall_ms as f64 / 1000.0), phases.join(", "))
}

fn is_it_learning(sight: &Sight<'_>) -> Verdict {
    let (scene, theme) = (&sight.scene, sight.theme);
    let points = scene.figure(|round| round.sampled_accuracy);
    let mean =
        |points: &[(f64, f64)]| points.iter().map(|point| point.1).sum::<f64>() / points.len().max(1) as f64;
    let verdict = |mark, style, text| Verdict { question: "learning?", mark, style, text };
    if points.len() < 2 {
        return verdict("…", theme.warn(), "too early to tell".into());
    }
    let n = RECENT.min(points.len().div_ceil(2));
    let (first, last) = (mean(&points[..n]), mean(&points[points.len() - n..]));
    let held_out = match (&scene.view.report, scene.back) {
        (Some(report), None) => match (&report.before, &report.after) {
            (Some(before), Some(after)) => {
                format!("; held-out {} → {}", percent(Some(before.mean)), percent(Some(after.mean)))
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    let figures =
        format!("{} → {} of its answers right{held_out}", percent(Some(first)), percent(Some(last)));
    match last - first {
        change if change > CHANGE => verdict("↗", theme.good(), format!("yes: {figures}")),
        change if change < -CHANGE => verdict("↘", theme.bad(), format!("it gets worse: {figures}")),
        _ => verdict("→", theme.warn(), format!("level: {figures}")),
    }
}

fn did_i_miss(sight: &Sight<'_>) -> Verdict {
    let theme = sight.theme;
    let late = sight.scene.late();
    let verdict = |mark, style, text| Verdict { question: "deadlines?", mark, style, text };
    match late.last() {
        None => verdict("✓", theme.good(), "none missed".into()),
        Some(last) => {
            let recent = sight.scene.round().is_none_or(|round| last.round + RECENT as u32 > round.round);
            let (mark, style) = if recent { ("!", theme.bad()) } else { ("!", theme.warn()) };
            verdict(mark, style, format!("{} missed; round {}: {}", late.len(), last.round, last.text))
        }
    }
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
    draw::chart(frame, area, heading, &curves, Some([0.0, 1.0]), theme);
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

fn draw_events(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let (scene, theme) = (&sight.scene, sight.theme);
    let inner = draw::panel(frame, area, draw::title("Latest", theme), theme);
    let height = usize::from(inner.height);
    // Peers of one process see the same things happen, and audits pass in every round.
    let own = |event: &&crate::record::Event| {
        let mine = event.peer.is_empty() || event.peer == scene.view.me();
        mine && (event.level > Level::Info || event.kind != "audited")
    };
    let mut latest: Vec<_> = scene.events().rev().filter(own).take(height).collect();
    latest.reverse();
    let width = usize::from(inner.width).saturating_sub(12);
    let row = |event: &&crate::record::Event| {
        let (mark, style) = match event.level {
            Level::Info => (" ", Style::new()),
            Level::Warn => ("!", theme.warn()),
            Level::Error => ("‼", theme.bad()),
        };
        Line::from(vec![
            Span::styled(format!(" {:>5} ", event.round), theme.dim()),
            Span::styled(format!("{mark} "), style),
            Span::styled(fit(&event.text, width), style),
        ])
    };
    if latest.is_empty() {
        return draw::lines(frame, inner, vec![Line::styled(" nothing out of the ordinary", theme.dim())]);
    }
    draw::lines(frame, inner, latest.iter().map(row).collect());
}
