//! Ctrl-c for commands that compute without an event loop: the first asks, the second stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every ctrl-c from now on, for event loops. `tokio::signal::ctrl_c()` in a `select!` is a new listener each time
/// around the loop, and misses what comes between.
///
/// # Errors
/// When the system gives no signal handler.
pub(crate) fn signals() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
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
                        std::process::exit(130);
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
