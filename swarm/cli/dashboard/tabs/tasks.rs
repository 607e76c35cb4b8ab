//! Tasks: the packs, and how each family goes.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, NOTHING, bar, fit, pad, percent, sparkline};
use crate::dashboard::ui::Ui;
use crate::record::FamilyRecord;

/// Rounds that "now" is the mean of.
const RECENT: usize = 10;

/// What is known of a family.
#[derive(Default)]
struct Family {
    whole: FamilyRecord,
    recent: FamilyRecord,
    /// Right ones among the samples, round by round.
    right: Vec<f64>,
    /// Levels that are open, where there is a curriculum.
    open: Option<u16>,
}

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let theme = sight.theme;
    let packs = packs(sight);
    let packs_height = (packs.len() as u16).clamp(3, 6) + 2;
    let [table, below] = Layout::vertical([Constraint::Min(5), Constraint::Length(packs_height)]).areas(area);
    let mut families: Vec<(String, Family)> = families(sight).into_iter().collect();
    families.retain(|(name, _)| ui.passes(name));
    let heading = format!("Families, hardest first (now: last {RECENT} rounds)");
    let inner = draw::panel(frame, table, draw::title(&heading, theme), theme);
    let [head, list] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(inner);
    let name_width = families.iter().map(|(name, _)| draw::columns(name)).max().unwrap_or(6).clamp(6, 18);
    // What is left after the columns of figures.
    let curve = usize::from(inner.width).saturating_sub(name_width + 59).min(60);
    let header = format!(
        " {} {:>6} {:>7}  {:<16} {:>11} {:>9}  {}",
        pad("family", name_width),
        "level",
        "prompts",
        "answers right",
        "vote right",
        "decided",
        if curve >= 15 { "over the rounds" } else { "trend" }
    );
    draw::lines(frame, head, vec![Line::styled(header, theme.dim())]);
    families.sort_by(|a, b| {
        share(a.1.recent.right, a.1.recent.completions)
            .total_cmp(&share(b.1.recent.right, b.1.recent.completions))
    });
    let (selected, shown) = ui.window(list, families.len(), false);
    let line = |at: usize| {
        let (name, family) = &families[at];
        let line = cells(name, family, (name_width, curve), sight);
        if at == selected { line.style(theme.selected()) } else { line }
    };
    if families.is_empty() {
        draw::lines(frame, list, vec![Line::styled(" no family is recorded yet", theme.dim())]);
    }
    draw::lines(frame, list, shown.map(line).collect());
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(below);
    draw_packs(frame, left, &packs, sight);
    draw_undecided(frame, right, sight);
}

/// A pack with its weight; 0 for one that is not drawn from.
struct Source<'a> {
    id: &'a str,
    weight: u32,
    state: &'a str,
}

/// The manifest's packs, and what the swarm took in or votes on since.
fn packs<'a>(sight: &Sight<'a>) -> Vec<Source<'a>> {
    let begun = sight.scene.view.info.packs.iter();
    let voted = sight.scene.round().map(|round| &round.packs).into_iter().flatten();
    let begun = begun.map(|pack| Source { id: &pack.id, weight: pack.weight, state: "" });
    let voted = voted.map(|pack| Source {
        id: &pack.id,
        weight: if pack.accepted { pack.weight } else { 0 },
        state: &pack.state,
    });
    begun.chain(voted).collect()
}

fn draw_packs(frame: &mut Frame<'_>, area: Rect, packs: &[Source<'_>], sight: &Sight<'_>) {
    let inner = draw::panel(frame, area, draw::title("Packs", sight.theme), sight.theme);
    let whole: u32 = packs.iter().map(|pack| pack.weight).sum();
    let width = usize::from(inner.width).saturating_sub(10);
    let row = |pack: &Source<'_>| {
        let part = (pack.weight > 0).then(|| f64::from(pack.weight) / f64::from(whole.max(1)));
        // Of an address the beginning is enough to tell packs apart.
        let id = if pack.state.is_empty() {
            pack.id.to_owned()
        } else {
            format!("{:.11} {}", pack.id, pack.state)
        };
        Line::raw(format!(" {:>6}  {}", percent(part), fit(&id, width)))
    };
    draw::lines(frame, inner, packs.iter().map(row).collect());
}

/// Why prompts teach nothing, over the recent rounds.
fn draw_undecided(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>) {
    let theme = sight.theme;
    let rounds = sight.scene.rounds();
    let recent = &rounds[rounds.len().saturating_sub(RECENT)..];
    let mut why: BTreeMap<&str, u32> = BTreeMap::new();
    for (reason, count) in recent.iter().flat_map(|round| &round.undecided_why) {
        *why.entry(reason).or_default() += count;
    }
    let inner = draw::panel(frame, area, draw::title("Labels that teach nothing", theme), theme);
    let width = usize::from(inner.width).saturating_sub(7);
    let row = |(reason, count): (&str, u32)| {
        Line::styled(format!(" {count:>4} {}", fit(reason, width)), theme.warn())
    };
    let rows: Vec<Line<'_>> = why.into_iter().map(row).collect();
    let none = || vec![Line::styled(" none", theme.good())];
    draw::lines(frame, inner, if rows.is_empty() { none() } else { rows });
}

/// Sums up to the moment; the hardest are found by their recent rounds.
fn families(sight: &Sight<'_>) -> BTreeMap<String, Family> {
    let rounds = sight.scene.rounds();
    let recent_from = rounds.len().saturating_sub(RECENT);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (at, round) in rounds.iter().enumerate() {
        for (name, record) in &round.families {
            let family = families.entry(name.clone()).or_default();
            add(&mut family.whole, record);
            if at >= recent_from {
                add(&mut family.recent, record);
            }
            if record.completions > 0 {
                family.right.push(share(record.right, record.completions));
            }
        }
    }
    for (name, open) in sight.scene.round().map(|round| &round.open_levels).into_iter().flatten() {
        families.entry(name.clone()).or_default().open = Some(*open);
    }
    families
}

fn add(sum: &mut FamilyRecord, record: &FamilyRecord) {
    sum.levels = if sum.prompts == 0 {
        record.levels
    } else {
        [sum.levels[0].min(record.levels[0]), sum.levels[1].max(record.levels[1])]
    };
    sum.prompts += record.prompts;
    sum.completions += record.completions;
    sum.right += record.right;
    sum.decided += record.decided;
    sum.decided_right += record.decided_right;
}

fn share(n: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

fn cells(
    name: &str,
    family: &Family,
    (name_width, curve): (usize, usize),
    sight: &Sight<'_>,
) -> Line<'static> {
    let theme = sight.theme;
    let (whole, recent) = (&family.whole, &family.recent);
    let levels = match whole.levels {
        _ if family.open.is_some() => format!("{} open", family.open.unwrap_or_default()),
        [0, 0] => NOTHING.to_owned(),
        [low, high] if low == high => low.to_string(),
        [low, high] => format!("{low}–{high}"),
    };
    let some = |n: usize, of: usize| percent((of > 0).then(|| share(n, of)));
    let right = share(recent.right, recent.completions);
    let style = if recent.completions == 0 {
        theme.dim()
    } else if right >= 0.7 {
        theme.good()
    } else if right >= 0.3 {
        theme.warn()
    } else {
        theme.bad()
    };
    Line::from(vec![
        Span::raw(format!(" {} {levels:>6} {:>7}  ", pad(name, name_width), whole.prompts)),
        Span::styled(bar(right, 10), style),
        Span::raw(format!(
            " {:>5} {:>11} {:>9}  ",
            some(recent.right, recent.completions),
            some(recent.decided_right, recent.decided),
            some(recent.decided, recent.prompts)
        )),
        Span::styled(sparkline(&family.right, curve), theme.accent()),
    ])
}
