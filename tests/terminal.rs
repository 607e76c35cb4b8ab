//! The dashboard on a terminal that shows everything and answers nothing. `tests/dashboard/session.sh` is the same by
//! hand, in tmux, with many more steps.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::pty::{Winsize, openpty};

use crate::process::PATIENCE;

/// What a terminal is sent by a program.
struct Screen {
    heard: Receiver<Vec<u8>>,
    text: String,
}

impl Screen {
    fn new(mut terminal: File) -> Self {
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // Linux says so with an error when nobody has the other side open any more.
            while let Ok(read @ 1..) = terminal.read(&mut part) {
                if tell.send(part[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { heard, text: String::new() }
    }

    /// Waits until this word is sent, and forgets what came before. Blanks are skipped where the screen has them
    /// already, so that words do not come together.
    fn expect(&mut self, what: &str) {
        let until = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = self.text.find(what) {
                break at + what.len();
            }
            let part = self.heard.recv_timeout(until.saturating_duration_since(Instant::now()));
            let part = part.unwrap_or_else(|error| panic!("no {what:?}, {error}, after:\n{:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&part));
        };
        // What came in one piece with it may be what is expected next.
        self.text.drain(..end);
    }
}

#[test]
fn a_dashboard_is_drawn_moves_by_keys_and_leaves_the_terminal() {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let (mut keys, mut screen) = {
        let master = File::from(pty.master);
        (master.try_clone().unwrap(), Screen::new(master))
    };
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard/run");
    // Makes the terminal the one of a session of its own, as a shell's is.
    let mut child = Command::new("setsid")
        .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_murmur"), "watch", run])
        .env("TERM", "xterm-256color")
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    screen.expect("\u{1b}[?1049h");
    screen.expect("deadlines?");
    // Nobody tells it where the cursor is afterwards.
    let name = fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd())).unwrap();
    let resized = Command::new("stty").arg("-F").arg(name).args(["rows", "30", "cols", "120"]).status();
    assert!(resized.unwrap().success());
    drop(pty.slave);
    screen.expect("1e61133c");
    keys.write_all(b"3").unwrap();
    screen.expect("timely");
    keys.write_all(b"7/audit\r").unwrap();
    screen.expect("/audit");
    keys.write_all(b"\x1b[D").unwrap();
    screen.expect("looking");
    keys.write_all(b"q").unwrap();
    screen.expect("\u{1b}[?1049l");
    assert!(child.wait().unwrap().success());
}
