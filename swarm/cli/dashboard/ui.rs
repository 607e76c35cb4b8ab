//! What the person at the keyboard has chosen, and how keys and the mouse change it.

use std::ops::Range;

use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::{Position, Rect};

use super::view::View;
use crate::record::Level;

/// Characters of a filter.
const FILTER_CHARS: usize = 40;
/// Rounds that a large step goes.
const LEAP: u32 = 10;
/// Rows that the wheel moves.
const WHEEL: isize = 3;

/// A tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tab {
    /// Whether this peer is in, whether it moves, whether it learns, what it missed.
    #[default]
    Overview,
    /// The prompts of a round: candidates, votes, labels, rewards.
    Round,
    /// The roster.
    Swarm,
    /// Curves.
    Learning,
    /// Families of tasks.
    Tasks,
    /// Links, traffic, losses.
    Network,
    /// What happened.
    Logs,
}

impl Tab {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 7] =
        [Self::Overview, Self::Round, Self::Swarm, Self::Learning, Self::Tasks, Self::Network, Self::Logs];

    /// Its title.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Round => "Round",
            Self::Swarm => "Swarm",
            Self::Learning => "Learning",
            Self::Tasks => "Tasks",
            Self::Network => "Network",
            Self::Logs => "Logs",
        }
    }

    fn at(index: usize) -> Self {
        Self::ALL[index % Self::ALL.len()]
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0)
    }

    /// Whether it has a list to move in.
    pub(crate) fn has_list(self) -> bool {
        matches!(self, Self::Round | Self::Swarm | Self::Tasks | Self::Logs)
    }
}

/// What a key or click asks of the loop around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing changed.
    Nothing,
    /// Draw again.
    Draw,
    /// Close the dashboard; the run goes on.
    Quit,
    /// Ask the run to stop, as ctrl-c does.
    Interrupt,
    /// Take or give back the mouse.
    Mouse(bool),
}

/// What a frame showed where, for the mouse, and how long its list was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) tabs: Vec<(Rect, Tab)>,
    pub(crate) scrubber: Rect,
    /// Rows of the list and its entries.
    pub(crate) list: Rect,
    pub(crate) entries: usize,
    /// The first entry that is shown, by tab.
    first: [usize; 7],
}

/// The choices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ui {
    pub(crate) tab: Tab,
    /// The round that is looked back at; `None` for the newest.
    pub(crate) back: Option<u32>,
    /// Whether the look back goes on by itself.
    pub(crate) playing: bool,
    pub(crate) filter: String,
    /// Whether keys go into the filter.
    pub(crate) filtering: bool,
    pub(crate) help: bool,
    /// Whether the run was asked to stop.
    pub(crate) stopping: bool,
    /// The entry of each tab's list; `None` for the natural one: the first, in the logs the newest.
    selected: [Option<usize>; 7],
    /// Events below it are hidden.
    pub(crate) level: Level,
    pub(crate) by_name: bool,
    pub(crate) mouse: bool,
    pub(crate) shown: Shown,
}

impl Ui {
    /// On a tab, at the newest round.
    pub(crate) fn on(tab: Tab) -> Self {
        Self { tab, mouse: true, ..Self::default() }
    }

    /// The selected entry of a list of so many; the last one by default in a list that grows at its end.
    pub(crate) fn selected(&self, entries: usize, grows: bool) -> usize {
        let natural = if grows { entries.saturating_sub(1) } else { 0 };
        self.selected[self.tab.index()].unwrap_or(natural).min(entries.saturating_sub(1))
    }

    /// Moves the list's window so that the selected entry is in it: that entry, and those shown.
    pub(crate) fn window(&mut self, area: Rect, entries: usize, grows: bool) -> (usize, Range<usize>) {
        let selected = self.selected(entries, grows);
        let height = usize::from(area.height).max(1);
        let lowest = (selected + 1).saturating_sub(height);
        let first = self.first().min(entries.saturating_sub(height)).clamp(lowest, selected);
        self.shown.first[self.tab.index()] = first;
        (self.shown.list, self.shown.entries) = (area, entries);
        (selected, first..entries.min(first + height))
    }

    fn first(&self) -> usize {
        self.shown.first[self.tab.index()]
    }

    /// Whether a text passes the filter.
    pub(crate) fn passes(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// A key was pressed.
    pub(crate) fn key(&mut self, key: KeyEvent, view: &View) -> Reply {
        if key.kind == KeyEventKind::Release {
            return Reply::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Reply::Interrupt,
                KeyCode::Char('l') => Reply::Draw,
                _ => Reply::Nothing,
            };
        }
        if self.filtering {
            return self.edit(key.code);
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Reply::Quit } else { Reply::Draw };
        }
        self.command(key.code, view)
    }

    fn edit(&mut self, code: KeyCode) -> Reply {
        match code {
            KeyCode::Enter => self.filtering = false,
            KeyCode::Esc => {
                self.filtering = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_CHARS => self.filter.push(c),
            _ => return Reply::Nothing,
        }
        self.select(None);
        Reply::Draw
    }

    fn command(&mut self, code: KeyCode, view: &View) -> Reply {
        let page = isize::from(i16::try_from(self.shown.list.height.max(2)).unwrap_or(2)) - 1;
        match code {
            KeyCode::Char('q') => return Reply::Quit,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('/') if self.tab.has_list() => self.filtering = true,
            KeyCode::Esc => self.escape(),
            KeyCode::Tab => self.tab = Tab::at(self.tab.index() + 1),
            KeyCode::BackTab => self.tab = Tab::at(self.tab.index() + Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='7') => self.tab = Tab::at(digit as usize - '1' as usize),
            KeyCode::Left | KeyCode::Char('h') => self.scrub(view, -1),
            KeyCode::Right | KeyCode::Char('l') => self.scrub(view, 1),
            KeyCode::Char('H') => self.scrub(view, -i64::from(LEAP)),
            KeyCode::Char('L') => self.scrub(view, i64::from(LEAP)),
            KeyCode::Home => self.go_to(view, view.rounds.first().map(|round| round.round)),
            KeyCode::End | KeyCode::Char('f') => self.go_to(view, None),
            KeyCode::Char(' ') => self.play(view),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Char('g') => self.select(Some(0)),
            KeyCode::Char('G') => self.select(Some(usize::MAX)),
            KeyCode::Char('v') if self.tab == Tab::Logs => self.next_level(),
            KeyCode::Char('s') if self.tab == Tab::Swarm => self.by_name = !self.by_name,
            KeyCode::Char('m') => {
                self.mouse = !self.mouse;
                return Reply::Mouse(self.mouse);
            }
            _ => return Reply::Nothing,
        }
        Reply::Draw
    }

    /// Back by one: from the filter, from a look back.
    fn escape(&mut self) {
        if self.filter.is_empty() {
            self.back = None;
            self.playing = false;
        } else {
            self.filter.clear();
        }
        self.select(None);
    }

    fn next_level(&mut self) {
        self.level = match self.level {
            Level::Info => Level::Warn,
            Level::Warn => Level::Error,
            Level::Error => Level::Info,
        };
        self.select(None);
    }

    fn select(&mut self, entry: Option<usize>) {
        self.selected[self.tab.index()] = entry;
    }

    fn step(&mut self, by: isize) {
        let grows = self.tab == Tab::Logs;
        let at = self.selected(self.shown.entries, grows).saturating_add_signed(by);
        let last = self.shown.entries.saturating_sub(1);
        // At the end of a list that grows it follows again.
        self.select(if grows && at >= last { None } else { Some(at.min(last)) });
    }

    /// Goes to another round; beyond the newest it follows again.
    pub(crate) fn scrub(&mut self, view: &View, by: i64) {
        self.playing = false;
        self.move_by(view, by);
    }

    fn move_by(&mut self, view: &View, by: i64) {
        let Some(last) = view.rounds.len().checked_sub(1) else { return };
        let at = self
            .back
            .map_or(last, |back| view.rounds.partition_point(|round| round.round <= back).saturating_sub(1));
        let to = (at as i64).saturating_add(by).clamp(0, last as i64) as usize;
        self.go(view, if to >= last { None } else { Some(view.rounds[to].round) });
    }

    fn go_to(&mut self, view: &View, round: Option<u32>) {
        self.playing = false;
        self.go(view, round);
    }

    fn go(&mut self, view: &View, round: Option<u32>) {
        self.back = round.filter(|round| view.rounds.last().is_some_and(|last| *round < last.round));
    }

    fn play(&mut self, view: &View) {
        self.playing = !self.playing;
        if self.playing && self.back.is_none() {
            self.go(view, view.rounds.first().map(|round| round.round));
        }
    }

    /// A beat of the replay; whether anything moved.
    pub(crate) fn beat(&mut self, view: &View) -> bool {
        if !self.playing {
            return false;
        }
        self.move_by(view, 1);
        self.playing = self.back.is_some();
        true
    }

    /// The mouse did something.
    pub(crate) fn mouse(&mut self, mouse: MouseEvent, view: &View) -> Reply {
        match mouse.kind {
            MouseEventKind::ScrollUp => self.step(-WHEEL),
            MouseEventKind::ScrollDown => self.step(WHEEL),
            MouseEventKind::Down(MouseButton::Left) | MouseEventKind::Drag(MouseButton::Left) => {
                return self.click(Position::new(mouse.column, mouse.row), view);
            }
            _ => return Reply::Nothing,
        }
        Reply::Draw
    }

    fn click(&mut self, at: Position, view: &View) -> Reply {
        if std::mem::take(&mut self.help) {
            return Reply::Draw;
        }
        if let Some((_, tab)) = self.shown.tabs.iter().find(|(area, _)| area.contains(at)) {
            self.tab = *tab;
        } else if self.shown.scrubber.contains(at) {
            let bar = self.shown.scrubber;
            let last = view.rounds.len().saturating_sub(1);
            let to = usize::from(at.x - bar.x) * last / usize::from(bar.width.saturating_sub(1)).max(1);
            self.go_to(view, view.rounds.get(to).map(|round| round.round));
        } else if self.shown.list.contains(at) {
            let entry = self.first() + usize::from(at.y - self.shown.list.y);
            if entry >= self.shown.entries {
                return Reply::Nothing;
            }
            self.select(Some(entry));
        } else {
            return Reply::Nothing;
        }
        Reply::Draw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RoundRecord;

    fn view(rounds: u32) -> View {
        let rounds = (1..=rounds).map(|round| RoundRecord { round, ..RoundRecord::default() });
        View { rounds: rounds.collect(), ..View::default() }
    }

    fn press(ui: &mut Ui, view: &View, keys: &str) -> Reply {
        let code = |key| match key {
            '\t' => KeyCode::Tab,
            '<' => KeyCode::Left,
            '>' => KeyCode::Right,
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        keys.chars().map(|key| ui.key(code(key).into(), view)).last().unwrap()
    }

    #[test]
    fn tabs_go_round() {
        let (mut ui, view) = (Ui::default(), view(3));
        press(&mut ui, &view, "7\t");
        assert_eq!(ui.tab, Tab::Overview);
        ui.key(KeyCode::BackTab.into(), &view);
        assert_eq!(ui.tab, Tab::Logs);
        press(&mut ui, &view, "3");
        assert_eq!(ui.tab, Tab::Swarm);
    }

    #[test]
    fn the_scrubber_stops_at_both_ends_and_follows_beyond_the_newest() {
        let (mut ui, view) = (Ui::default(), view(25));
        press(&mut ui, &view, "<");
        assert_eq!(ui.back, Some(24));
        press(&mut ui, &view, "HHH<");
        assert_eq!(ui.back, Some(1));
        press(&mut ui, &view, "L");
        assert_eq!(ui.back, Some(11));
        press(&mut ui, &view, "LL>");
        assert_eq!(ui.back, None);
        press(&mut ui, &view, " ");
        assert!(ui.playing && ui.back == Some(1) && ui.beat(&view) && ui.back == Some(2));
        for _ in 0..23 {
            ui.beat(&view);
        }
        assert!(!ui.playing && ui.back.is_none() && !ui.beat(&view));
        press(&mut ui, &View::default(), "<>HL ");
    }

    #[test]
    fn keys_go_into_the_filter_until_it_is_done() {
        let (mut ui, view) = (Ui::on(Tab::Logs), view(1));
        press(&mut ui, &view, "/q1?\n");
        assert!(ui.filter == "q1?" && !ui.filtering && ui.passes("say Q1? now") && !ui.passes("q2"));
        press(&mut ui, &view, "\u{1b}");
        assert!(ui.filter.is_empty() && ui.passes("anything"));
        assert_eq!(press(&mut ui, &view, "q"), Reply::Quit);
        assert_eq!(ui.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &view), Reply::Interrupt);
    }

    #[test]
    fn lists_move_and_the_logs_follow_at_their_end() {
        let (mut ui, view) = (Ui::on(Tab::Logs), view(1));
        ui.shown = Shown { entries: 10, list: Rect::new(0, 5, 20, 4), ..Shown::default() };
        assert_eq!(ui.selected(10, true), 9);
        press(&mut ui, &view, "kk");
        assert_eq!(ui.selected(12, true), 7);
        press(&mut ui, &view, "jj");
        assert_eq!(ui.selected(12, true), 11, "it follows");
        press(&mut ui, &view, "g");
        assert_eq!(ui.selected(12, true), 0);
        let click = |column, row| MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column,
            row,
            modifiers: KeyModifiers::NONE,
        };
        assert_eq!(ui.mouse(click(3, 7), &view), Reply::Draw);
        assert_eq!(ui.selected(12, true), 2);
        assert_eq!(ui.mouse(click(30, 7), &view), Reply::Nothing);
    }
}
