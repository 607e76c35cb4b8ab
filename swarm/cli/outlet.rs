//! stderr in one place, with three ways out.
//!
//! At once, as any program. Kept back, while a dashboard has the terminal. Through a thread, once a run has begun: a
//! terminal that is stopped, or a pipe that nobody reads, then stops that thread and nothing else. What finds no room
//! is counted and told.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that are kept while a dashboard has the terminal.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Writes that may wait for a slow reader.
const WAITING_MAX: usize = 1024;
/// How long the end of the program waits for one.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// What the thread is to do.
enum Order {
    Write(Vec<u8>),
    /// Say that everything before is written.
    Tell(SyncSender<()>),
}

/// Which way it goes now.
struct Outlet {
    held: bool,
    kept: Vec<u8>,
    queue: Option<SyncSender<Order>>,
    /// Writes that found no room.
    lost: usize,
}

static OUTLET: Mutex<Outlet> = Mutex::new(Outlet { held: false, kept: Vec::new(), queue: None, lost: 0 });

fn outlet() -> MutexGuard<'static, Outlet> {
    OUTLET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps back what would go to a terminal, until [`release`].
pub(crate) fn hold() {
    outlet().held = io::stderr().is_terminal();
}

/// Whether it is kept back.
pub(crate) fn held() -> bool {
    outlet().held
}

/// Writes what was kept back; from now on it goes out again.
pub(crate) fn release() {
    let mut outlet = outlet();
    outlet.held = false;
    let kept = std::mem::take(&mut outlet.kept);
    outlet.write(kept);
}

/// From now on nothing waits for stderr. Without a thread to spare it stays as it was.
pub(crate) fn let_go() {
    let (queue, orders) = sync_channel(WAITING_MAX);
    if std::thread::Builder::new().name("stderr".into()).spawn(move || carry_out(&orders)).is_ok() {
        outlet().queue = Some(queue);
    }
}

fn carry_out(orders: &Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        match order {
            // A closed stderr must not stop the work.
            Order::Write(text) => drop(io::stderr().write_all(&text)),
            Order::Tell(done) => drop(done.send(())),
        }
    }
}

/// Waits a moment until everything is written; from now on it goes out at once.
pub(crate) fn settle() {
    let Some(queue) = outlet().queue.take() else { return };
    let (done, told) = sync_channel(1);
    // A queue that is full does not get empty in a moment either.
    if queue.try_send(Order::Tell(done)).is_ok() {
        let _ = told.recv_timeout(SETTLE_WITHIN);
    }
}

/// Writes a text, whichever way it goes now.
pub(crate) fn write(text: Vec<u8>) {
    outlet().write(text);
}

impl Outlet {
    fn write(&mut self, text: Vec<u8>) {
        if self.held {
            if self.kept.len() + text.len() <= KEPT_BYTES_MAX {
                self.kept.extend(text);
            } else {
                self.lost += 1;
            }
            return;
        }
        let text = match self.lost {
            0 => text,
            lost => {
                [format!("({lost} lines are not shown: there was no room for them)\n").into_bytes(), text]
                    .concat()
            }
        };
        let Some(queue) = &self.queue else {
            self.lost = 0;
            return drop(io::stderr().write_all(&text));
        };
        match queue.try_send(Order::Write(text)) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += 1,
        }
    }
}

/// Log lines.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        write(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
