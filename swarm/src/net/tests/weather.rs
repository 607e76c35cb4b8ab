//! Rounds of real peers over bad networks: a stream below noise that is late, breaks, or swallows everything.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{SwarmBuilder, Transport, noise, tcp, yamux};
use tokio::time::Sleep;

use super::company::{Company, Course};
use super::*;
use crate::net::behaviour::Behaviour;
use crate::net::streams::Streams;

/// Bytes that may be on their way on one stream, each way.
const UNDER_WAY_MAX: usize = 4 * 1024 * 1024;
/// Rounds that everybody ends in each weather.
const ROUNDS: u32 = 4;

/// What streams suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Weather {
    /// How late everything is, each way.
    delay: Duration,
    /// Of a thousand streams, so many end each second; every other one by silence instead of an error.
    breaks_permille: u16,
}

/// As the usual composition, over streams in this weather.
pub(in crate::net) fn build(
    keypair: Keypair,
    swarm: &SwarmId,
    config: &NetConfig,
    streams: Streams,
    weather: Weather,
) -> Result<libp2p::Swarm<Behaviour>, Box<dyn std::error::Error>> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|keypair| {
            tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
                .map(move |stream, _| Exposed::new(stream, weather))
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(keypair).unwrap())
                .multiplex(yamux::Config::default())
        })?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair, relay| Ok(Behaviour::new(keypair, swarm, config, relay, streams)?))?
        .with_swarm_config(|settings| settings.with_idle_connection_timeout(limits::IDLE_FOR))
        .build();
    Ok(swarm)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Error,
    Silence,
}

/// A stream that is out in the weather.
struct Exposed<S> {
    inner: S,
    delay: Duration,
    /// What was read, and when it arrives; nothing at the end of the stream.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    closed: bool,
    arrives: Pin<Box<Sleep>>,
    /// When it ends before its time, and how.
    ends: Option<(Pin<Box<Sleep>>, End)>,
    ended: Option<End>,
}

impl<S> Exposed<S> {
    fn new(inner: S, weather: Weather) -> Self {
        let ends = (weather.breaks_permille > 0).then(|| {
            let mut luck = [0; 5];
            getrandom::fill(&mut luck).unwrap();
            let [a, b, c, d, how] = luck;
            let fraction = (f64::from(u32::from_le_bytes([a, b, c, d])) + 1.0) / 2f64.powi(32);
            let lives = Duration::from_secs_f64(-fraction.ln() * 1000.0 / f64::from(weather.breaks_permille));
            let how = if how % 2 == 0 { End::Error } else { End::Silence };
            (Box::pin(tokio::time::sleep(lives)), how)
        });
        Self {
            inner,
            delay: weather.delay,
            under_way: VecDeque::new(),
            bytes: 0,
            closed: false,
            arrives: Box::pin(tokio::time::sleep(Duration::ZERO)),
            ends,
            ended: None,
        }
    }

    /// How the stream has ended, if it has.
    fn end(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if let Some((at, how)) = &mut self.ends
            && at.poll_unpin(cx).is_ready()
        {
            self.ended = Some(*how);
            self.ends = None;
        }
        self.ended
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Exposed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match this.end(cx) {
            Some(End::Error) => return Poll::Ready(Err(broken())),
            Some(End::Silence) => return Poll::Pending,
            None => {}
        }
        while !this.closed && this.bytes < UNDER_WAY_MAX {
            let mut chunk = vec![0; 64 * 1024];
            let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, &mut chunk) else { break };
            chunk.truncate(read?);
            this.closed = chunk.is_empty();
            this.bytes += chunk.len();
            this.under_way.push_back((Instant::now() + this.delay, chunk));
        }
        let Some((at, chunk)) = this.under_way.front_mut() else { return Poll::Pending };
        if *at > Instant::now() {
            this.arrives.as_mut().reset(*at);
            ready!(this.arrives.poll_unpin(cx));
        }
        let count = chunk.len().min(into.len());
        into[..count].copy_from_slice(&chunk[..count]);
        chunk.drain(..count);
        this.bytes -= count;
        // The end of the stream stays where it is.
        if chunk.is_empty() && count > 0 {
            this.under_way.pop_front();
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Exposed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.end(cx) {
            Some(End::Error) => Poll::Ready(Err(broken())),
            Some(End::Silence) => Poll::Ready(Ok(from.len())),
            None => Pin::new(&mut self.inner).poll_write(cx, from),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Rounds of eight peers in this weather: how long one took, and the part of the answers that counted.
async fn play(weather: Weather) -> (Duration, f64) {
    const PEERS: u8 = 8;
    let course = Course {
        peers: PEERS,
        prompts: 4,
        completions: 4,
        text_bytes: 200,
        work: Duration::from_millis(300),
        view: Duration::from_secs(3),
    };
    let net = NetConfig { weather: Some(weather), silence: Duration::from_secs(4), ..config(&[]) };
    let mut company = Company::start(&course, &net, Vec::new()).await.unwrap();
    // The first rounds find out how long things take.
    let first = company.reach(2, PEERS, 3 * WITHIN).await.iter().map(|ended| ended.round).max().unwrap();
    let begun = Instant::now();
    let ended = company.reach(first + ROUNDS, PEERS, 3 * WITHIN).await;
    let took = begun.elapsed() / ROUNDS;
    let counted: usize = ended.iter().map(|ended| ended.answered.len()).sum();
    let share = counted as f64 / (ended.len() * usize::from(PEERS)) as f64;
    let lost: usize = ended.iter().map(|ended| ended.net.silent_links as usize).max().unwrap();
    company.stop().await;
    println!(
        "{weather:?}: {took:.2?} a round, {:.1} % of the answers counted, at most {lost} silent links of one peer",
        100.0 * share
    );
    (took, share)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_end_though_everything_is_late_and_connections_break() {
    let late = Weather { delay: Duration::from_millis(100), breaks_permille: 0 };
    let stormy = Weather { breaks_permille: 50, ..late };
    let (_, all) = play(Weather::default()).await;
    let (slow, most) = play(late).await;
    assert!(all > 0.9 && most > 0.9, "{all} and {most}: peers are left out");
    // A round takes no fewer than five messages after each other.
    assert!(slow > 5 * late.delay, "{slow:?}: nothing was late");
    let (_, some) = play(stormy).await;
    assert!(some > 0.6, "{some}: too many are left out");
}
