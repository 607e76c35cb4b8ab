//! What holds for every command: quiet and loud, slow readers, signs of life for others.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::peers::{Peer, alone};
use crate::process::{Murmur, PATIENCE, binary, run};

fn demo(dir: &Path, more: &[&str]) -> std::process::Command {
    let args =
        ["demo", "--seed", "9", "--peers", "3", "--prompts", "2", "--completions", "2", "--out", "run"];
    let mut command = binary(&[&args, more].concat());
    command.current_dir(dir);
    command
}

#[test]
fn quiet_is_data_and_errors_and_verbose_is_the_log_too() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (out, err, code) = run(&mut demo(dir.path(), &["--rounds", "2", "--json", "--quiet"]));
    assert!(code == 0 && err.is_empty() && out.starts_with('{'), "{err}{out}");
    let (_, err, code) = run(&mut demo(dir.path(), &["-q"]));
    assert!(code == 1 && err.starts_with("error: ") && err.contains("not empty"), "{err}");
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    let (_, err, code) = run(&mut demo(dir.path(), &["--rounds", "1", "-v"]));
    assert!(code == 0 && err.contains("INFO"), "{err}");
    let (_, err, code) = run(&mut demo(dir.path(), &["-q", "-v"]));
    assert!(code == 2 && err.contains("cannot be used with"), "{err}");
}

/// The rounds of a demo, by what it recorded.
fn rounds(dir: &Path) -> usize {
    fs::read_to_string(dir.join("run/rounds.jsonl")).unwrap_or_default().lines().count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_stops_does_not_stop_a_run() {
    use nix::fcntl::{FcntlArg, fcntl};

    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut child = demo(dir.path(), &["--rounds", "60", "--plain", "-vv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads it, and there is room for some lines only.
    let stderr = child.stderr.take().unwrap();
    fcntl(&stderr, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (ended, end) = channel();
    std::thread::spawn(move || ended.send(stdout.read_to_end(&mut Vec::new())));
    let stands = || fs::read_to_string(dir.path().join("run/status.json")).unwrap_or_default();
    let end = end.recv_timeout(2 * PATIENCE);
    assert!(end.is_ok(), "after {} rounds: {}", rounds(dir.path()), stands());
    let status = child.wait().unwrap();
    // On a machine that is loaded a peer may catch up over a round instead of playing it.
    assert!(status.success() && rounds(dir.path()) > 40, "{status}, {} rounds", rounds(dir.path()));
    drop(stderr);
}

/// What a peer answers.
fn ask(address: &str, path: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nHost: murmur\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_peer_tells_whoever_keeps_it_alive() {
    let dir = tempfile::tempdir().unwrap();
    let config = Peer::default().text() + "metrics = \"127.0.0.1:0\"\n";
    fs::write(dir.path().join("a.toml"), config).unwrap();
    let mut peer = crate::process::Murmur::join(dir.path(), "a");
    let line = peer.expect(PATIENCE, "metrics", |line| line.starts_with("metrics on http://"));
    let address = line.trim_start_matches("metrics on http://").trim_end_matches("/metrics").to_owned();
    let until = Instant::now() + PATIENCE;
    // Its first status is recorded a moment after its start.
    while !ask(&address, "/metrics").contains("murmur_phase{phase=\"gather\"} 1") {
        assert!(Instant::now() < until);
    }
    assert!(ask(&address, "/healthz").starts_with("HTTP/1.1 200"));
    let answer = ask(&address, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("waiting for peers: 1 of "), "{answer}");

    let other = Peer { name: "b", ..Peer::default() }.text();
    fs::write(dir.path().join("b.toml"), format!("{other}metrics = \"{address}\"\n")).unwrap();
    let (code, err) = crate::process::Murmur::join(dir.path(), "b").end();
    assert!(
        code == 1 && err.contains("cannot serve metrics on") && err.contains("choose another `metrics`"),
        "{err}"
    );
}

/// Nobody learns from fewer than three votes, so nobody needs twenty such rounds a second.
#[test]
fn a_peer_alone_is_in_no_hurry() {
    let dir = tempfile::tempdir().unwrap();
    let alone = Peer { rounds: 4, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 1");
    fs::write(dir.path().join("a.toml"), alone).unwrap();
    let mut peer = Murmur::join(dir.path(), "a");
    peer.next_round();
    let first = Instant::now();
    assert_eq!((0..3).map(|_| peer.next_round()).last(), Some(4));
    let pauses = 3 * Duration::from_millis(3000 / 4);
    assert!(first.elapsed() + Duration::from_millis(100) >= pauses, "{:?}", first.elapsed());
}
