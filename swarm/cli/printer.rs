//! The only place that writes to the terminal: data on stdout, everything else on stderr.
//!
//! Text may come from strangers (answers, names), so control characters never reach the terminal. A progress
//! line turns wrapping off while it is drawn, which keeps it one line at any width.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::outlet;

/// Shortest time between two draws of a progress line on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Shortest time between two plain progress lines elsewhere.
const REPEAT: Duration = Duration::from_secs(10);

/// Whether only data and errors are wanted.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether a progress line stands on the terminal, and what is written next has to take its place.
static LINE: AtomicBool = AtomicBool::new(false);

/// What makes room for whole lines.
fn below() -> &'static str {
    if LINE.swap(false, Ordering::Relaxed) { "\r\x1b[2K" } else { "" }
}

/// From now on only data and errors are written.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a line of data to stdout.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", clean(text))?;
    out.flush()
}

/// Writes one JSON object to stdout.
///
/// # Errors
/// When stdout is closed or the value cannot be written as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Writes a note to stderr.
pub(crate) fn note(text: &str) {
    if !quiet() {
        outlet::write(format!("{}{}\n", below(), clean(text)).into_bytes());
    }
}

/// Writes a note that stands in the records too: it is not kept for later.
pub(crate) fn passing(text: &str) {
    if !outlet::held() {
        note(text);
    }
}

/// Writes the reason why a command stopped.
pub(crate) fn error(text: &str) {
    let (on, off) = if colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    outlet::settle();
    outlet::write(format!("{}{on}error:{off} {}\n", below(), clean(text)).into_bytes());
}

/// Whether stdout is a terminal that can redraw.
pub(crate) fn live() -> bool {
    io::stdout().is_terminal() && !dumb()
}

fn dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

fn colour() -> bool {
    io::stderr().is_terminal() && !dumb() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` without control characters other than line breaks.
pub(crate) fn clean(text: &str) -> String {
    // Besides control characters, those that reorder text let a stranger's answer imitate ours.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if c != '\n' && hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// A line that says how far long work is: redrawn on a terminal, repeated now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    redraws: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { redraws: io::stderr().is_terminal() && !dumb(), last: None }
    }

    /// Shows `text`, unless something was shown a moment ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let pause = if self.redraws { REDRAW } else { REPEAT };
        if self.last.is_none_or(|last| last.elapsed() >= pause) {
            self.draw(&text());
            self.last = Some(Instant::now());
        }
    }

    /// Shows `text` for good, whatever was shown before.
    pub(crate) fn finish(&mut self, text: &str) {
        if !silent() {
            let text = clean(text).replace('\n', " ");
            outlet::write(format!("{}{text}\n", below()).into_bytes());
        }
        // Elsewhere than on a terminal this was a sign of life too.
        self.last = (!self.redraws).then(Instant::now);
    }

    fn draw(&self, text: &str) {
        if silent() {
            return;
        }
        let text = clean(text).replace('\n', " ");
        if !self.redraws {
            return outlet::write(format!("{text}\n").into_bytes());
        }
        // Without wrapping it stays one line at any width.
        outlet::write(format!("\r\x1b[2K\x1b[?7l{text}\x1b[?7h").into_bytes());
        LINE.store(true, Ordering::Relaxed);
    }
}

/// Whether progress is not to be shown now.
fn silent() -> bool {
    quiet() || outlet::held()
}

/// A table as text: the first column to the left, the others right-aligned, two blanks between.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|row| row.get(c)).map(|t| width(t)).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (text, &w))| {
            let pad = " ".repeat(w - width(text));
            if c == 0 { format!("{text}{pad}") } else { format!("{pad}{text}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\nc\u{fffd}");
        assert_eq!(clean("12 ▁▇"), "12 ▁▇");
    }

    #[test]
    fn tables_align() {
        let rows = [["model", "add", "mean"], ["amber", ".5", ".875"], ["b", "1.0", ".5"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|s| (*s).to_owned()).collect()).collect();
        assert_eq!(table(&rows), "model  add  mean\namber   .5  .875\nb      1.0    .5");
        assert_eq!(table(&[]), "");
    }
}
