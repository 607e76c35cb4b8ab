//! The loop that owns the terminal: keys in, frames out, and the terminal as it was at the end, whatever happens.
//!
//! It shares nothing with the run but files, so a terminal that takes no more text stops this thread and no other.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::Terminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableMouseCapture, EnableMouseCapture, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::backend::Mute;
use super::chrome::{self, Sight};
use super::tail::Tail;
use super::theme::Theme;
use super::ui::{Reply, Ui};
use super::view::{Scene, View};
use crate::detail::RoundDetail;
use crate::record::{RunDir, RunInfo};
use crate::{clock, interrupt, outlet, printer};

/// Pause between two looks at the run's files, and so between two frames that nobody asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A round of a replay.
const BEAT: Duration = Duration::from_millis(400);
/// Keys that are taken before a frame is drawn.
const KEYS_MAX: usize = 64;

/// Whether the terminal is ours, and must be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether there is a terminal for a dashboard: one that redraws, with this process in its foreground.
pub(crate) fn usable() -> bool {
    printer::live() && io::stdin().is_terminal() && in_foreground()
}

/// A process in the background that touches the terminal's settings is stopped by the system.
fn in_foreground() -> bool {
    nix::unistd::tcgetpgrp(io::stdin()).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// Gives the terminal back, if it is taken. Safe to call at any time and from any thread.
pub(crate) fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Nothing more can be done for a terminal that is gone.
        let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        outlet::release();
    }
}

/// The terminal while it is taken.
struct Screen {
    terminal: Terminal<Mute>,
}

impl Screen {
    fn take() -> anyhow::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        interrupt::on_terminate(restore)?;
        TAKEN.store(true, Ordering::SeqCst);
        outlet::hold();
        let screen = || -> io::Result<Self> {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture)?;
            let mut terminal = Terminal::new(Mute::new())?;
            // What a killed program left on the alternate screen is still there.
            terminal.clear()?;
            Ok(Self { terminal })
        };
        screen()
            .inspect_err(|_| restore())
            .context("this terminal shows no dashboard\nhint: --plain prints lines")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a key, or because the run asked for it.
    Quit,
    /// By ctrl-c.
    Interrupted,
}

/// What a run and its dashboard tell each other.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The run wants its terminal back.
    close: AtomicBool,
}

/// Somebody who looks at a run.
pub(crate) struct Looker {
    run: PathBuf,
    tail: Tail,
    view: View,
    ui: Ui,
    /// Prompts of the round that is looked at.
    detail: Option<RoundDetail>,
    theme: Theme,
    /// Whether the run is in this process.
    own: bool,
}

impl Looker {
    /// Before the first look.
    pub(crate) fn new(run: &RunDir, info: RunInfo, ui: Ui, own: bool) -> Self {
        let (tail, view) = (Tail::new(run.path()), View::new(info));
        Self {
            run: run.path().to_path_buf(),
            tail,
            view,
            ui,
            detail: None,
            theme: Theme::from_environment(),
            own,
        }
    }

    /// Shows the run until somebody has seen enough.
    ///
    /// # Errors
    /// The terminal fails.
    pub(crate) fn run(&mut self, link: &Link) -> anyhow::Result<Ended> {
        let mut screen = Screen::take()?;
        // Before the first frame: from now on no change of the size is missed.
        event::poll(Duration::ZERO)?;
        self.tail.look(&mut self.view);
        self.draw(&mut screen)?;
        let (mut looked, mut beaten, mut second) = (Instant::now(), Instant::now(), 0);
        loop {
            let mut draw = false;
            if event::poll(LOOK_EVERY.saturating_sub(looked.elapsed()))? {
                match self.heed()? {
                    Heeded::Draw => draw = true,
                    Heeded::Nothing => {}
                    Heeded::Ended(ended) => return Ok(ended),
                }
            }
            // A panic elsewhere gave the terminal back.
            if link.close.load(Ordering::Relaxed) || !TAKEN.load(Ordering::SeqCst) {
                return Ok(Ended::Quit);
            }
            if looked.elapsed() >= LOOK_EVERY {
                draw |= self.tail.look(&mut self.view);
                looked = Instant::now();
            }
            if beaten.elapsed() >= BEAT {
                draw |= self.ui.beat(&self.view);
                beaten = Instant::now();
            }
            // A deadline comes closer though nothing happens.
            let now = clock::now_ms() / 1000;
            if draw || (now != second && !self.view.ended()) {
                second = now;
                self.draw(&mut screen)?;
            }
        }
    }

    /// Takes the keys that wait.
    fn heed(&mut self) -> anyhow::Result<Heeded> {
        let mut heeded = Heeded::Nothing;
        for _ in 0..KEYS_MAX {
            let reply = match event::read()? {
                Event::Key(key) => self.ui.key(key, &self.view),
                Event::Mouse(mouse) => self.ui.mouse(mouse, &self.view),
                Event::Resize(..) => Reply::Draw,
                _ => Reply::Nothing,
            };
            match reply {
                Reply::Nothing => {}
                Reply::Draw => heeded = Heeded::Draw,
                Reply::Quit => return Ok(Heeded::Ended(Ended::Quit)),
                Reply::Interrupt if self.own && !self.view.ended() => {
                    // As if the terminal had sent it: the run's own handler decides.
                    nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT)?;
                    self.ui.stopping = true;
                    heeded = Heeded::Draw;
                }
                Reply::Interrupt => return Ok(Heeded::Ended(Ended::Interrupted)),
                Reply::Mouse(true) => execute!(io::stdout(), EnableMouseCapture)?,
                Reply::Mouse(false) => execute!(io::stdout(), DisableMouseCapture)?,
            }
            if !event::poll(Duration::ZERO)? {
                break;
            }
        }
        Ok(heeded)
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        let scene = Scene { view: &self.view, back: self.ui.back, now_ms: clock::now_ms() };
        let round = scene.round().map(|round| round.round);
        if self.detail.as_ref().map(|detail| detail.round) != round {
            self.detail = round.and_then(|round| self.tail.detail(round));
        }
        let sight = Sight {
            scene,
            detail: self.detail.as_ref(),
            problem: self.tail.problem.as_deref(),
            theme: self.theme,
            own: self.own,
        };
        screen.terminal.draw(|frame| chrome::draw(frame, &sight, &mut self.ui))?;
        Ok(())
    }
}

/// What keys came to.
enum Heeded {
    Nothing,
    Draw,
    Ended(Ended),
}

/// The dashboard of a run in this process. Dropping it gives the terminal back.
pub(crate) struct Beside {
    link: Arc<Link>,
    thread: Option<JoinHandle<anyhow::Result<Ended>>>,
}

impl Beside {
    /// Starts its thread.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn start(mut looker: Looker) -> anyhow::Result<Self> {
        let link = Arc::new(Link::default());
        let shared = Arc::clone(&link);
        let thread = std::thread::Builder::new()
            .name("dashboard".into())
            .spawn(move || {
                let ended = looker.run(&shared)?;
                // Nobody asked the dashboard to close but its user.
                if !shared.close.load(Ordering::Relaxed) && !looker.view.ended() {
                    printer::note(&format!("the run goes on; its dashboard: {}", super::again(&looker.run)));
                }
                Ok(ended)
            })
            .context("no thread for the dashboard")?;
        Ok(Self { link, thread: Some(thread) })
    }

    /// Waits until it is closed by its user.
    pub(crate) fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        match thread.join() {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => printer::note(&format!("the dashboard ended: {error:#}")),
            Err(_) => printer::note("the dashboard stopped unexpectedly"),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.link.close.store(true, Ordering::Relaxed);
        self.join();
    }
}
