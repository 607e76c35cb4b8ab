//! A panic is a bug: what is needed to find it is written beside the run's records, and nothing that is secret.

use std::backtrace::Backtrace;
use std::fs;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::{args, clock, printer, state};

/// Events of the run in a report.
const EVENTS: usize = 40;
/// Bytes of the events that are looked at.
const EVENTS_BYTES_MAX: usize = 256 * 1024;

/// Directory of the run in this process.
static RUN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// From now on a panic leaves a report.
pub(crate) fn install() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        match leave(panic) {
            Ok(path) => printer::note(&format!(
                "this is a bug: what is needed to find it is in {}, without keys, tokens and environment",
                path.display()
            )),
            Err(error) => printer::note(&format!("this is a bug; no report of it could be written: {error}")),
        }
    }));
}

/// Reports go into the directory of this run.
pub(crate) fn beside(run: &Path) {
    *RUN.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.to_path_buf());
}

fn leave(panic: &PanicHookInfo<'_>) -> std::io::Result<PathBuf> {
    let run = RUN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let folder = run.clone().or_else(|| Some(state::data_dir()?.join("crashes")));
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("crash-{}.txt", clock::now_ms()));
    let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let said = panic.payload_as_str().unwrap_or("nothing");
    let what = format!("thread {thread} at {place}: {said}");
    fs::write(&path, report(&what, &Backtrace::force_capture().to_string(), run.as_deref()))?;
    Ok(path)
}

/// The text of a report. Arguments and environment stay out: tokens and tickets may stand there.
fn report(what: &str, backtrace: &str, run: Option<&Path>) -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let events = run.map(newest_events).unwrap_or_default();
    format!(
        "murmur {} ({}), command {command:?}\n{} {}, {cores} cores, {:?}, {} MiB at most, {}\n\n{}\n\n{backtrace}\n\nnewest events\n{events}",
        env!("CARGO_PKG_VERSION"),
        args::COMMIT,
        std::env::consts::OS,
        std::env::consts::ARCH,
        policy::instruction_set(),
        clock::peak_memory_mib(),
        clock::now(),
        printer::clean(what),
    )
}

fn newest_events(run: &Path) -> String {
    let text = fs::read(run.join("events.jsonl")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(EVENTS_BYTES_MAX)..]);
    let lines: Vec<&str> = text.lines().rev().take(EVENTS).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_events_and_neither_arguments_nor_environment() {
        let dir = tempfile::tempdir().unwrap();
        let events: String = (1..=100).map(|round| format!("{{\"round\":{round}}}\n")).collect();
        fs::write(dir.path().join("events.jsonl"), events).unwrap();
        let text = report("thread x at y: z\u{1b}[2J", "1: here", Some(dir.path()));
        assert!(text.contains("thread x at y: z\u{fffd}[2J") && text.contains("1: here"), "{text}");
        assert!(text.contains("{\"round\":100}") && text.contains("{\"round\":61}"), "{text}");
        assert!(!text.contains("{\"round\":60}"), "{text}");
        for (name, value) in std::env::vars().filter(|(name, _)| ["HOME", "PATH", "PWD"].contains(&&**name)) {
            assert!(!text.contains(&format!("{name}={value}")), "{name}");
        }
    }

    #[test]
    fn a_panic_leaves_one_beside_the_run() {
        let dir = tempfile::tempdir().unwrap();
        beside(dir.path());
        install();
        let panicked =
            std::thread::Builder::new().name("tester".into()).spawn(|| panic!("on purpose")).unwrap();
        assert!(panicked.join().is_err());
        let reports = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let texts = reports().map(|path| fs::read_to_string(path).unwrap());
        let of_this = |text: &String| text.contains("thread tester") && text.contains("on purpose");
        assert_eq!(texts.filter(of_this).count(), 1, "{:?}", reports().collect::<Vec<_>>());
    }
}
