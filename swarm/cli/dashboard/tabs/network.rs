//! Network: where this peer can be reached, whom it hears, what goes through and what is lost.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, NOTHING, bytes, duration, fit, pad};
use crate::traffic::Traffic;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let theme = sight.theme;
    let Some(traffic) = &sight.scene.view.network else {
        let inner = draw::panel(frame, area, draw::title("Network", theme), theme);
        return draw::lines(frame, inner, vec![Line::styled(" nothing is recorded yet", theme.dim())]);
    };
    let [top, bottom] = Layout::vertical([Constraint::Length(12), Constraint::Min(4)]).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Length(36), Constraint::Min(30)]).areas(top);
    draw_counters(frame, left, traffic, sight);
    draw_links(frame, right, traffic, sight);
    draw_losses(frame, bottom, traffic, sight);
}

fn draw_counters(frame: &mut Frame<'_>, area: Rect, traffic: &Traffic, sight: &Sight<'_>) {
    let theme = sight.theme;
    let inner = draw::panel(
        frame,
        area,
        draw::title(
            if sight.scene.back.is_some() { "Since the start, until now" } else { "Since the start" },
            theme,
        ),
        theme,
    );
    let rows = [
        ("gossip in", traffic.received.to_string(), bytes(traffic.bytes_in)),
        ("gossip out", traffic.sent.to_string(), bytes(traffic.bytes_out)),
        ("weights, answers in", String::new(), bytes(traffic.blob_bytes_in)),
        ("weights, answers out", String::new(), bytes(traffic.blob_bytes_out)),
        ("passed on", traffic.accepted.to_string(), String::new()),
        ("not passed on", traffic.ignored.to_string(), String::new()),
        ("rejected, blamed", traffic.rejected.to_string(), String::new()),
        ("asked others", traffic.requests_out.to_string(), String::new()),
        ("asked by others", traffic.requests_in.to_string(), String::new()),
        ("silent links closed", traffic.silent_links.to_string(), String::new()),
    ];
    let row = |(name, count, size): (&str, String, String)| {
        let line = Line::from(vec![
            Span::styled(format!(" {}", pad(name, 20)), theme.dim()),
            Span::raw(format!("{count:>5} {size:>7}")),
        ]);
        if name.starts_with("rejected") && traffic.rejected > 0 { line.style(theme.warn()) } else { line }
    };
    draw::lines(frame, inner, rows.into_iter().map(row).collect());
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, traffic: &Traffic, sight: &Sight<'_>) {
    let theme = sight.theme;
    let inner =
        draw::panel(frame, area, draw::title(&format!("{} links now", traffic.links.len()), theme), theme);
    let name = usize::from(inner.width).saturating_sub(29).clamp(6, 24);
    let header = format!(" {} {:>8} {:>9} {:>7}", pad("peer", name), "latency", "brought", "since");
    let mut rows = vec![Line::styled(header, theme.dim())];
    let height = usize::from(inner.height).saturating_sub(1);
    for (peer, link) in traffic.links.iter().take(height) {
        let latency = link.rtt_ms.map_or(NOTHING.into(), |ms| format!("{ms:.1} ms"));
        let peer = if link.relayed { format!("{peer}, relayed") } else { peer.clone() };
        rows.push(Line::raw(format!(
            " {} {latency:>8} {:>9} {:>7}",
            pad(&peer, name),
            bytes(link.bytes_first),
            duration(link.connected_s as f64)
        )));
    }
    if let Some(more) = traffic.links.len().checked_sub(height).filter(|more| *more > 0) {
        rows.pop();
        rows.push(Line::styled(format!(" and {} more", more + 1), theme.dim()));
    }
    if traffic.links.is_empty() {
        rows.push(Line::styled(" nobody is connected", theme.bad()));
    }
    draw::lines(frame, inner, rows);
}

fn draw_losses(frame: &mut Frame<'_>, area: Rect, traffic: &Traffic, sight: &Sight<'_>) {
    let theme = sight.theme;
    let inner =
        draw::panel(frame, area, draw::title("Reachable at, room on disk, and what was lost", theme), theme);
    let width = usize::from(inner.width).saturating_sub(2);
    let mut rows: Vec<Line<'_>> =
        traffic.listening.iter().map(|address| Line::raw(format!(" {}", fit(address, width)))).collect();
    if rows.is_empty() {
        rows.push(Line::styled(" it does not listen: it only dials others", theme.dim()));
    }
    rows.push(Line::raw(format!(" {}", fit(&room(sight), width))));
    for (reason, count) in &traffic.dropped {
        let mut text = draw::wrap(&format!("{count}× {reason}"), width).into_iter();
        rows.extend(text.next().map(|line| Line::styled(format!(" {line}"), theme.warn())));
        rows.extend(text.map(|line| Line::styled(format!("   {line}"), theme.warn())));
    }
    if traffic.dropped.is_empty() {
        rows.push(Line::styled(" nothing was lost", theme.good()));
    }
    let unreached = sight.scene.events().rev().find(|event| event.text.starts_with("cannot reach"));
    if let Some(event) = unreached {
        let text = format!("round {}: {}", event.round, event.text);
        rows.extend(
            draw::wrap(&text, width).into_iter().map(|line| Line::styled(format!(" {line}"), theme.warn())),
        );
    }
    draw::lines(frame, inner, rows);
}

/// What the run takes on disk.
fn room(sight: &Sight<'_>) -> String {
    let view = sight.scene.view;
    let grows = view
        .growth
        .per_round(view.totals.rounds)
        .map(|each| format!("; log and records grow by {} a round", bytes(each)));
    format!("the run's folder has {}{}", bytes(view.growth.whole), grows.unwrap_or_default())
}
