//! Ctrl-c for commands that compute without an event loop: the first asks, the second stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::dashboard::terminal;
use crate::outlet;

/// Every ctrl-c from now on, for event loops. `tokio::signal::ctrl_c()` in a `select!` is a new listener each time
/// around the loop, and misses what comes between.
///
/// # Errors
/// When the system gives no signal handler.
pub(crate) fn signals() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::interrupt())
}

/// Ends the process because ctrl-c was pressed twice.
pub(crate) fn at_once() -> ! {
    terminal::restore();
    outlet::settle();
    std::process::exit(130)
}

/// Does something before the process is ended by SIGTERM or SIGHUP, which ctrl-c is not.
///
/// # Errors
/// When the system gives no thread or no signal handler.
pub(crate) fn on_terminate(last: fn()) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut hup) = {
        let _guard = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let number = tokio::select! { _ = term.recv() => 15, _ = hup.recv() => 1 };
            last();
            std::process::exit(128 + number);
        });
    })?;
    Ok(())
}

/// Whether the user asked to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for ctrl-c from now on.
    ///
    /// # Errors
    /// When the system gives no thread or no signal handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let flag = interrupt.0.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if flag.swap(true, Ordering::Relaxed) {
                        at_once();
                    }
                }
            });
        })?;
        Ok(interrupt)
    }

    /// Whether ctrl-c was pressed.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
