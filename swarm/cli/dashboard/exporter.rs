//! Metrics for Prometheus and two questions for whoever keeps processes alive: `/metrics`, `/healthz`, `/readyz`.
//!
//! Off unless a config names an address. Like the dashboard it follows the run directory, so that a scrape touches
//! neither training nor network.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;

use super::answers::{self, Tone};
use super::tail::Tail;
use super::view::{Scene, View};
use crate::record::{RunDir, RunInfo};
use crate::{args, clock, printer};

/// How long a client may take to ask, and to take its answer.
const CLIENT_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a request that are read.
const REQUEST_BYTES_MAX: usize = 4096;

/// Answers at `address` from now on, in a thread of its own, until the process ends.
///
/// # Errors
/// The address cannot be listened on, or the system gives no thread.
pub(crate) fn start(run: &RunDir, info: RunInfo, address: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "cannot serve metrics on {address}\nhint: choose another `metrics` under [peer], or leave it out"
        )
    })?;
    let here = listener.local_addr()?;
    printer::note(&format!("metrics on http://{here}/metrics"));
    if !here.ip().is_loopback() {
        printer::note("they can be read by everybody who reaches this address");
    }
    let mut exporter = Exporter { tail: Tail::new(run.path()), view: View::new(info) };
    let serve = move || {
        for client in listener.incoming() {
            // A client that went away asks again.
            if let Err(error) = client.and_then(|client| exporter.serve(client)) {
                tracing::debug!(%error, "a scrape failed");
            }
        }
    };
    std::thread::Builder::new().name("metrics".into()).spawn(serve).context("no thread for metrics")?;
    Ok(())
}

struct Exporter {
    tail: Tail,
    view: View,
}

impl Exporter {
    fn serve(&mut self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(CLIENT_WITHIN))?;
        client.set_write_timeout(Some(CLIENT_WITHIN))?;
        let path = asked(&mut client)?;
        self.tail.look_at_all(&mut self.view);
        let scene = Scene { view: &self.view, back: None, now_ms: clock::now_ms() };
        let (status, kind, body) = match path.as_deref() {
            Some("/metrics") => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text(&scene)),
            Some("/healthz") => told(healthy(&scene)),
            Some("/readyz") => told(ready(&scene)),
            Some(_) => ("404 Not Found", PLAIN, "there are /metrics, /healthz and /readyz\n".into()),
            None => ("400 Bad Request", PLAIN, "GET is understood\n".into()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes())?;
        client.write_all(body.as_bytes())
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// The path that a client asks for; `None` for what is not understood.
fn asked(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut part = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let read = client.read(&mut part)?;
        if read == 0 {
            break;
        }
        request.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&request);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let path = (words.next() == Some("GET")).then(|| words.next()).flatten();
    Ok(path.map(|path| path.split('?').next().unwrap_or_default().to_owned()))
}

fn told(answer: Result<String, String>) -> (&'static str, &'static str, String) {
    match answer {
        Ok(text) => ("200 OK", PLAIN, text + "\n"),
        Err(text) => ("503 Service Unavailable", PLAIN, text + "\n"),
    }
}

/// Whether the peer gives signs of life.
fn healthy(scene: &Scene<'_>) -> Result<String, String> {
    match scene.silent_s() {
        Some(silent) => Err(format!("no sign of life for {silent} s")),
        None => Ok("ok".into()),
    }
}

/// Whether it takes part in a swarm that moves.
fn ready(scene: &Scene<'_>) -> Result<String, String> {
    healthy(scene)?;
    let [member, ..] = answers::all(scene);
    if member.tone == Tone::Good { Ok(member.text) } else { Err(member.text) }
}

/// The page of metrics.
fn text(scene: &Scene<'_>) -> String {
    let mut page = Page::default();
    let view = scene.view;
    page.add("build_info", "gauge", "What is running.", &[(&build(), Some(1.0))]);
    if let Some(status) = &view.status {
        page.one("round", "gauge", "Round in progress.", Some(f64::from(status.round)));
        page.one("member", "gauge", "Whether this peer is in the roster.", Some(flag(status.member)));
        page.one("roster_peers", "gauge", "Members of the roster.", Some(status.roster.len() as f64));
        page.one("live_peers", "gauge", "Peers heard lately.", Some(status.live as f64));
        let phases = ["gather", "answer", "reveal", "critique", "vote", "settle"];
        let phases = phases.map(|phase| (format!("phase=\"{phase}\""), Some(flag(status.phase == phase))));
        let phases = phases.each_ref().map(|(label, value)| (label.as_str(), *value));
        page.add("phase", "gauge", "The phase in progress is 1.", &phases);
        let deadline = status.deadline_ms as f64 / 1000.0;
        page.one(
            "phase_deadline_timestamp_seconds",
            "gauge",
            "When the phase gives up on who is late.",
            Some(deadline),
        );
        page.one(
            "status_timestamp_seconds",
            "gauge",
            "Newest sign of life.",
            Some(status.at_ms as f64 / 1000.0),
        );
    }
    let totals = &view.totals;
    page.one("rounds_total", "counter", "Rounds that ended, as recorded.", Some(totals.rounds as f64));
    page.one("deadlines_missed_total", "counter", "Own work that came too late.", Some(totals.late as f64));
    page.one("void_views_total", "counter", "Views without a certificate.", Some(totals.voids as f64));
    page.one(
        "warnings_total",
        "counter",
        "Events that are warnings or errors.",
        Some(totals.warnings as f64),
    );
    rounds(&mut page, scene);
    policy(&mut page, scene);
    network(&mut page, scene);
    page.one("process_cpu_seconds_total", "counter", "Processor time.", Some(clock::cpu_seconds()));
    let memory = clock::peak_memory_mib() as f64 * 1024.0 * 1024.0;
    page.one("process_peak_memory_bytes", "gauge", "Most memory so far.", Some(memory));
    page.text
}

fn build() -> String {
    format!("version=\"{}\",commit=\"{}\"", env!("CARGO_PKG_VERSION"), args::COMMIT)
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn rounds(page: &mut Page, scene: &Scene<'_>) {
    let Some(round) = scene.round() else { return };
    let mine = round.peers.get(scene.view.me());
    page.one("round_seconds", "gauge", "Length of the newest round.", Some(round.wall_ms as f64 / 1000.0));
    page.one("answers_right_ratio", "gauge", "Own completions that are right.", round.sampled_accuracy);
    page.one("votes_right_ratio", "gauge", "Decided prompts that are right.", round.vote_accuracy);
    page.one("undecided_ratio", "gauge", "Labels that teach nothing.", round.undecided_share);
    page.one("consensus_share_ratio", "gauge", "Mean share of the winners.", round.mean_share);
    page.one("vote_weight_ratio", "gauge", "Own part of the vote.", mine.map(|peer| peer.weight));
    page.one("reputation_ratio", "gauge", "Own gold ballots that are right.", mine.map(|peer| peer.accuracy));
    let phases: Vec<(String, f64)> = round
        .phases_ms
        .iter()
        .map(|(phase, ms)| (format!("phase=\"{phase}\""), *ms as f64 / 1000.0))
        .collect();
    let phases: Vec<(&str, Option<f64>)> =
        phases.iter().map(|(label, s)| (label.as_str(), Some(*s))).collect();
    page.add("phase_seconds", "gauge", "Length of each phase of the newest round.", &phases);
}

fn policy(page: &mut Page, scene: &Scene<'_>) {
    let lines = || scene.view.metrics.iter().rev().filter(|line| line.peer == scene.view.me());
    if let Some(line) = lines().next() {
        page.one("reward", "gauge", "Mean reward of the newest round.", line.reward);
        page.one("tokens_per_second", "gauge", "Sampling speed.", line.tokens_per_second);
        page.one("completion_tokens", "gauge", "Mean length of a completion.", line.mean_length);
    }
    if let Some(step) = lines().find_map(|line| line.step.as_ref()) {
        page.one("policy_loss", "gauge", "Loss of the newest step.", Some(step.loss));
        page.one("policy_kl_nats", "gauge", "Divergence from the reference.", Some(step.kl));
        page.one("policy_entropy_nats", "gauge", "Mean entropy of a token.", Some(step.entropy));
        page.one("policy_clip_ratio", "gauge", "Tokens whose ratio was clipped.", Some(step.clip_ratio));
        page.one("gradient_norm", "gauge", "Norm before clipping.", Some(step.grad_norm));
        page.one("learning_rate", "gauge", "Of the newest step.", Some(step.learning_rate));
    }
}

fn network(page: &mut Page, scene: &Scene<'_>) {
    let Some(traffic) = &scene.view.network else { return };
    let count = |value: u64| Some(value as f64);
    page.one(
        "linked_peers",
        "gauge",
        "Peers of the swarm that are connected.",
        count(traffic.links.len() as u64),
    );
    let messages = [
        ("result=\"sent\"", count(traffic.sent)),
        ("result=\"received\"", count(traffic.received)),
        ("result=\"accepted\"", count(traffic.accepted)),
        ("result=\"ignored\"", count(traffic.ignored)),
        ("result=\"rejected\"", count(traffic.rejected)),
    ];
    page.add("messages_total", "counter", "Gossip, by what came of it.", &messages);
    let bytes = [
        ("kind=\"gossip\",direction=\"in\"", count(traffic.bytes_in)),
        ("kind=\"gossip\",direction=\"out\"", count(traffic.bytes_out)),
        ("kind=\"blob\",direction=\"in\"", count(traffic.blob_bytes_in)),
        ("kind=\"blob\",direction=\"out\"", count(traffic.blob_bytes_out)),
    ];
    page.add("network_bytes_total", "counter", "Bytes of messages.", &bytes);
    page.one(
        "dropped_total",
        "counter",
        "Messages lost, for any reason.",
        count(traffic.dropped.values().sum()),
    );
    let slowest = traffic.links.values().filter_map(|link| link.rtt_ms).reduce(f64::max);
    page.one("peer_rtt_seconds_max", "gauge", "Slowest round trip of a ping.", slowest.map(|ms| ms / 1000.0));
}

/// The text format of Prometheus.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        self.add(name, kind, help, &[("", value)]);
    }

    /// A metric with labels; what was not measured is left out.
    fn add(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, Option<f64>)]) {
        if samples.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP murmur_{name} {help}\n# TYPE murmur_{name} {kind}");
        for (labels, value) in samples {
            let Some(value) = value else { continue };
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(self.text, "murmur_{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::Status;

    fn recorded() -> (RunDir, View) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard/run");
        let (run, info) = RunDir::open(&path).unwrap();
        let mut view = View::new(info);
        Tail::new(run.path()).look_at_all(&mut view);
        (run, view)
    }

    #[test]
    fn metrics_are_in_the_text_format() {
        let (_, view) = recorded();
        let page = text(&Scene { view: &view, back: None, now_ms: 0 });
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("murmur_") && value.parse::<f64>().is_ok(), "{line}");
            let bare = name.split('{').next().unwrap();
            assert_eq!(page.matches(&format!("# TYPE {bare} ")).count(), 1, "{line}");
            assert!(bare.ends_with("_total") == page.contains(&format!("# TYPE {bare} counter")), "{line}");
        }
        for line in ["murmur_rounds_total 10", "murmur_policy_kl_nats 0", "murmur_phase{phase=\"answer\"} 1"]
        {
            assert!(page.lines().any(|known| known == line), "no {line} in {page}");
        }
    }

    #[test]
    fn ready_means_in_and_alive() {
        let (_, mut view) = recorded();
        view.report = None;
        let at = |now_ms, status: Status| {
            let view =
                View { status: Some(status), rounds: view.rounds.clone(), ..View::new(view.info.clone()) };
            let scene = Scene { view: &view, back: None, now_ms };
            (healthy(&scene).is_ok(), ready(&scene).is_ok())
        };
        let status = Status { at_ms: 1_000_000, member: true, roster: vec!["a".into()], ..Status::default() };
        assert_eq!(at(1_001_000, status.clone()), (true, true));
        assert_eq!(at(1_060_000, status.clone()), (false, false));
        assert_eq!(at(1_001_000, Status { member: false, ..status }), (true, false));
    }

    #[test]
    fn clients_get_answers_and_nonsense_gets_none() {
        let (run, view) = recorded();
        let mut exporter = Exporter { tail: Tail::new(run.path()), view: View::new(view.info) };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut ask = |request: &[u8]| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(request).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            exporter.serve(listener.accept().unwrap().0).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains(&format!("Content-Length: {}", body.len()))
        );
        assert!(ask(b"GET /healthz?now HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert!(ask(b"GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        for nonsense in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"\xff\xfe", b"", b"GET"] {
            assert!(ask(nonsense).starts_with("HTTP/1.1 400"), "{nonsense:?}");
        }
        assert!(ask(&[b'a'; REQUEST_BYTES_MAX]).starts_with("HTTP/1.1 400"));
    }
}
