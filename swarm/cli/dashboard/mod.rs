//! The dashboard: one state, folded from the records of a run, behind the live view, the look back and the frame as
//! text.
//!
//! It follows the run directory and nothing else, whether the run is in this process, in another one or over. Reading
//! order: [`view`] (the state), [`tail`] (where it comes from), [`answers`] (what it says), [`ui`] (keys), [`chrome`]
//! and [`tabs`] (what is drawn), [`terminal`] (the loop), [`report`] and [`exporter`] (the same as
//! a page and for Prometheus).

mod answers;
mod backend;
mod chrome;
mod curves;
mod draw;
pub(crate) mod exporter;
pub(crate) mod lines;
pub(crate) mod report;
mod tabs;
mod tail;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod ui;
mod view;

use std::path::Path;

use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::args::WatchArgs;
use crate::clock;
use crate::config::ConfigError;
use crate::exit::{Interrupted, Outcome};
use crate::printer;
use crate::record::{RunDir, RunInfo};

use chrome::Sight;
use tail::Tail;
use terminal::Ended;
use theme::Theme;
pub(crate) use ui::Tab;
use ui::Ui;
use view::{Scene, View};

/// Columns and rows of a frame as text, if nothing else is said.
const FRAME: Size = Size { width: 80, height: 24 };
/// Most columns and rows of one.
const WIDTH_MAX: u16 = 500;
const HEIGHT_MAX: u16 = 300;

/// Columns and rows of a frame as text, as `140x45`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    width: u16,
    height: u16,
}

impl Size {
    /// Reads `WxH`.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let size = text.split_once('x').and_then(|(width, height)| {
            Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
        });
        let (widths, heights) = (chrome::WIDTH_MIN..=WIDTH_MAX, chrome::HEIGHT_MIN..=HEIGHT_MAX);
        let fits = |size: &Self| widths.contains(&size.width) && heights.contains(&size.height);
        size.filter(fits).ok_or_else(|| {
            format!(
                "must be columns x rows such as 140x45, from {}x{} to {WIDTH_MAX}x{HEIGHT_MAX}",
                chrome::WIDTH_MIN,
                chrome::HEIGHT_MIN
            )
        })
    }
}

/// Runs `murmur watch`.
///
/// # Errors
/// The directory is no run, or there is no terminal.
pub(crate) fn watch(args: &WatchArgs) -> anyhow::Result<Outcome> {
    let (run, info) = RunDir::find(args.run.as_deref())?;
    if !args.json && !args.once && args.size.is_none() && terminal::usable() {
        let ended =
            terminal::Looker::new(&run, info, Ui::on(args.tab), false).run(&terminal::Link::default())?;
        return match ended {
            Ended::Quit => Ok(Outcome::Done),
            Ended::Interrupted => Err(Interrupted("the run itself goes on".into()).into()),
        };
    }
    let (mut tail, mut view) = (Tail::new(run.path()), View::new(info));
    tail.look_at_all(&mut view);
    if let Some(problem) = &tail.problem {
        let left_out = tail.damaged;
        printer::note(&format!("{left_out} records cannot be read and are left out, such as: {problem}"));
    }
    if args.json {
        printer::json(&view)?;
    } else {
        let back = args.round.map(|round| known(&view, round)).transpose()?;
        let mut ui = Ui::on(args.tab);
        ui.back = back;
        let text = still(&mut tail, &view, &mut ui, args.size.unwrap_or(FRAME), clock::now_ms())?;
        printer::data(&text)?;
    }
    Ok(Outcome::Done)
}

/// A round of the run.
fn known(view: &View, round: u32) -> Result<u32, ConfigError> {
    if view.rounds.iter().any(|record| record.round == round) {
        return Ok(round);
    }
    let hint = match (view.rounds.first(), view.rounds.last()) {
        (Some(first), Some(last)) => format!("there are rounds {} to {}", first.round, last.round),
        _ => "no round has ended yet".into(),
    };
    Err(ConfigError::new("--round", format!("round {round} is not recorded here"), hint))
}

/// A frame as text, without colours.
fn still(tail: &mut Tail, view: &View, ui: &mut Ui, size: Size, now_ms: u64) -> anyhow::Result<String> {
    let scene = Scene { view, back: ui.back, now_ms };
    let detail = scene.round().and_then(|round| tail.detail(round.round));
    let problem = tail.problem.as_deref();
    let sight = Sight { scene, detail: detail.as_ref(), problem, theme: Theme::new(false), own: false };
    let mut terminal = Terminal::new(TestBackend::new(size.width, size.height)).context("no frame")?;
    terminal.draw(|frame| chrome::draw(frame, &sight, ui)).context("no frame")?;
    let buffer = terminal.backend().buffer();
    let row = |y: u16| {
        let mut text = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            // A wide character stands for the cells that it covers.
            x += (draw::columns(symbol) as u16).max(1);
        }
        text.trim_end().to_owned()
    };
    Ok((0..buffer.area.height).map(row).collect::<Vec<_>>().join("\n"))
}

/// The dashboard of a run in this process, in a thread of its own; `None` where lines are wanted or there is no
/// terminal for it.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn beside(run: &RunDir, info: &RunInfo, lines: bool) -> anyhow::Result<Option<terminal::Beside>> {
    if lines || !terminal::usable() {
        return Ok(None);
    }
    terminal::Beside::start(terminal::Looker::new(run, info.clone(), Ui::on(Tab::Overview), true)).map(Some)
}

/// The command that shows a run again.
pub(crate) fn again(run: &Path) -> String {
    format!("murmur watch {}", run.display())
}
