//! Swarm: the roster with votes, reputation, deadlines and links.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, NOTHING, bytes, duration, fit, number, pad, percent, sparkline};
use crate::dashboard::ui::Ui;
use crate::record::PeerRecord;

/// Columns of a name.
const NAME: usize = 16;

/// A row of the table.
struct Row<'a> {
    name: &'a str,
    peer: Option<&'a PeerRecord>,
    state: &'static str,
}

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let theme = sight.theme;
    let mut rows = rows(sight);
    rows.retain(|row| ui.passes(row.name) || ui.passes(row.state));
    if ui.by_name {
        rows.sort_by(|a, b| a.name.cmp(b.name));
    } else {
        let weight = |row: &Row<'_>| row.peer.map_or(-1.0, |peer| peer.weight);
        rows.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.name.cmp(b.name)));
    }
    let [table, below] = Layout::vertical([Constraint::Min(5), Constraint::Length(8)]).areas(area);
    let order = if ui.by_name { "name" } else { "vote" };
    // Of links only the newest state is recorded.
    let heading = match sight.scene.back {
        Some(round) => format!("Swarm after round {round}, by {order}; latency, brought, link: now"),
        None => format!("Swarm, by {order}"),
    };
    let inner = draw::panel(frame, table, draw::title(&heading, theme), theme);
    let [head, list] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(inner);
    let wide = inner.width >= 110;
    draw::lines(frame, head, vec![Line::styled(header(wide), theme.dim())]);
    let (selected, shown) = ui.window(list, rows.len(), false);
    let line = |at: usize| {
        let line = cells(&rows[at], sight, wide);
        if at == selected { line.style(theme.selected()) } else { line }
    };
    draw::lines(frame, list, shown.map(line).collect());
    match rows.get(selected) {
        Some(row) => draw_peer(frame, below, row, sight),
        None => drop(draw::panel(frame, below, draw::title("nobody", theme), theme)),
    }
}

/// Everybody of the roster, and who is connected besides.
fn rows<'a>(sight: &Sight<'a>) -> Vec<Row<'a>> {
    let scene = sight.scene;
    let status = scene.view.status.as_ref().filter(|_| scene.live());
    let mut rows: BTreeMap<&str, Row<'_>> = BTreeMap::new();
    let peers = scene.round().map(|round| &round.peers).into_iter().flatten();
    for (name, peer) in peers {
        let state = if peer.answered { "answered" } else { "silent" };
        rows.insert(name, Row { name, peer: Some(peer), state });
    }
    if let Some(status) = status {
        for name in &status.roster {
            rows.entry(name).or_insert(Row { name, peer: None, state: "new" });
        }
        let linked = scene.view.network.iter().flat_map(|traffic| traffic.links.keys());
        for name in linked {
            rows.entry(name).or_insert(Row { name, peer: None, state: "not in" });
        }
        for (name, row) in &mut rows {
            if status.awaited.iter().any(|awaited| awaited == name) {
                row.state = "awaited";
            } else if status.lacks.iter().any(|lacking| lacking == name) {
                row.state = "absent";
            } else if status.roster.iter().any(|member| member == name) && row.state == "answered" {
                row.state = "in";
            }
        }
    }
    rows.into_values().collect()
}

fn header(wide: bool) -> String {
    let narrow = format!(
        " {} {} {:>5} {:>12} {:>6} {:>8} {:>9}",
        pad("name", NAME),
        pad("state", 8),
        "vote",
        "gold right",
        "timely",
        "latency",
        "brought"
    );
    if wide {
        format!("{narrow} {:>9}  {}  {}", "messages", pad("vote over the rounds", 24), "model")
    } else {
        narrow
    }
}

fn cells(row: &Row<'_>, sight: &Sight<'_>, wide: bool) -> Line<'static> {
    let (scene, theme) = (sight.scene, sight.theme);
    let mine = if row.name == scene.view.me() { "*" } else { " " };
    let state = match row.state {
        "in" | "answered" => theme.good(),
        "awaited" | "new" => theme.warn(),
        "silent" | "absent" => theme.bad(),
        _ => theme.dim(),
    };
    let value = |of: &dyn Fn(&PeerRecord) -> String| row.peer.map_or(NOTHING.into(), of);
    let link = scene.view.network.as_ref().and_then(|traffic| traffic.links.get(row.name));
    let latency = link.and_then(|link| link.rtt_ms).map_or(NOTHING.into(), |ms| format!("{ms:.1} ms"));
    let mut spans = vec![
        Span::raw(format!("{mine}{} ", pad(row.name, NAME))),
        Span::styled(pad(row.state, 8), state),
        Span::raw(format!(
            " {:>5} {:>12} {:>6} {latency:>8} {:>9}",
            value(&|peer| percent(Some(peer.weight))),
            value(&|peer| format!("{} of {}", percent(Some(peer.accuracy)), peer.tried)),
            value(&|peer| percent(Some(peer.liveness))),
            link.map_or(NOTHING.into(), |link| bytes(link.bytes_first)),
        )),
    ];
    if wide {
        let model = scene.view.info.peers.iter().find(|peer| peer.name == row.name);
        spans.push(Span::raw(format!(
            " {:>9}  {}  {}",
            link.map_or(NOTHING.into(), |link| link.messages_first.to_string()),
            pad(&sparkline(&votes(row.name, sight), 24), 24),
            model.map_or(NOTHING, |peer| &peer.base)
        )));
    }
    Line::from(spans)
}

/// A peer's part of the vote, round by round.
fn votes(name: &str, sight: &Sight<'_>) -> Vec<f64> {
    let weight = |round: &crate::record::RoundRecord| round.peers.get(name).map(|peer| peer.weight);
    sight.scene.rounds().iter().filter_map(weight).collect()
}

fn draw_peer(frame: &mut Frame<'_>, area: Rect, row: &Row<'_>, sight: &Sight<'_>) {
    let (scene, theme) = (sight.scene, sight.theme);
    let mine = if row.name == scene.view.me() { " (this peer)" } else { "" };
    let inner = draw::panel(frame, area, draw::title(&format!("{}{mine}", row.name), theme), theme);
    let width = usize::from(inner.width).saturating_sub(13);
    let info = scene.view.info.peers.iter().find(|peer| peer.name == row.name);
    let link = scene.view.network.as_ref().and_then(|traffic| traffic.links.get(row.name));
    let votes = votes(row.name, sight);
    let audits = scene.rounds().iter().rev().find_map(|round| {
        let audit = round.audits.as_ref()?.audited.get(row.name)?;
        Some(format!("{} in round {}", audit.outcome, round.round))
    });
    let critic = scene.round().and_then(|round| round.critiques.as_ref()?.skill.get(row.name));
    let latest = scene.events().rev().find(|event| event.text.contains(row.name));
    let mut rows = vec![
        ("vote", format!("{} {}", sparkline(&votes, width.min(40)), percent(votes.last().copied()))),
        ("standing", standing(row)),
        ("audited", audits.unwrap_or_else(|| NOTHING.into())),
    ];
    if let Some(info) = info {
        rows.push(("model", format!("{}  key {:.16}…", info.base, info.key)));
    }
    if let Some(link) = link {
        let text = format!(
            "connected for {}, first to bring {} messages",
            duration(link.connected_s as f64),
            link.messages_first
        );
        rows.push(("link", text));
    }
    if let Some(skill) = critic {
        rows.push(("critic", format!("{} (-1 to 1)", number(*skill))));
    }
    if let Some(event) = latest {
        rows.push(("latest", format!("round {}: {}", event.round, event.text)));
    }
    let line = |(name, text): (&str, String)| {
        Line::from(vec![
            Span::styled(format!(" {} ", pad(name, 9)), theme.dim()),
            Span::raw(fit(&text, width)),
        ])
    };
    draw::lines(frame, inner, rows.into_iter().map(line).collect());
}

fn standing(row: &Row<'_>) -> String {
    match row.peer {
        None => "not in a round that has ended".into(),
        Some(peer) if peer.tried == 0 => "never tried on gold yet: the vote knows nothing of it".into(),
        Some(peer) if peer.weight == 0.0 => {
            "its votes do not count: failed on gold, failed an audit, or still on probation".into()
        }
        Some(peer) => format!(
            "right on {} of its gold ballots (recent ones count more), {} prompts so far",
            percent(Some(peer.accuracy)),
            peer.tried
        ),
    }
}
