//! `murmur relay`: a point of the network through which peers find and reach each other. It has no model.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use swarm::identity::Identity;
use swarm::net::relay::{RelayConfig, RelayCounters, RelayEvent, RelayPoint};

use crate::exit::Outcome;
use crate::state::{self, StateLock, identity_path};
use crate::{interrupt, printer};

/// Time between two lines about how it stands.
const STANDS_EVERY: Duration = Duration::from_secs(60);

/// Arguments of `murmur relay`.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// Listen on this address and port, for TCP and QUIC.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4100")]
    listen: Vec<SocketAddr>,
    /// Where others reach it, if not there: an address, name or multiaddress, as behind a router that passes the
    /// port on.
    #[arg(long, value_name = "ADDRESS")]
    external: Vec<String>,
    /// Folder for its key, by which peers know it again.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written or is in use, an address that cannot be listened on.
pub(crate) fn run(args: &RelayArgs) -> anyhow::Result<Outcome> {
    let dir = match &args.state {
        Some(dir) => dir.clone(),
        None => {
            let data = state::data_dir();
            data.context("there is no place for its key\nhint: choose one with --state DIR")?.join("relay")
        }
    };
    let _lock = StateLock::take(&dir)?;
    let identity = Identity::load_or_create(&identity_path(&dir))?;
    let both = |socket: &SocketAddr| {
        let ip = if socket.is_ipv4() { "ip4" } else { "ip6" };
        let (host, port) = (socket.ip(), socket.port());
        [format!("/{ip}/{host}/tcp/{port}"), format!("/{ip}/{host}/udp/{port}/quic-v1")]
    };
    let config =
        RelayConfig { listen: args.listen.iter().flat_map(both).collect(), external: args.external.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&identity, &config))?;
    Ok(Outcome::Done)
}

async fn serve(identity: &Identity, config: &RelayConfig) -> anyhow::Result<()> {
    let mut point = RelayPoint::bind(identity, config)?;
    printer::note(
        "a relay point for peers of any swarm; under [peer], they write one of these addresses into bootstrap:",
    );
    point.external().iter().try_for_each(|address| printer::data(address))?;
    let mut ctrl_c = interrupt::signals().context("no signal handler")?;
    let mut stands = tokio::time::interval(STANDS_EVERY);
    let mut told = RelayCounters::default();
    loop {
        tokio::select! {
            event = point.next() => hear(event, !config.external.is_empty())?,
            _ = stands.tick() => {
                let counters = point.counters();
                if counters != std::mem::replace(&mut told, counters) {
                    let RelayCounters { peers, reservations, circuits, circuits_ever, refused } = counters;
                    printer::note(&format!("{peers} peers connected, {reservations} reached through here, {circuits} connections between peers ({circuits_ever} so far), {refused} requests refused"));
                }
            }
            Some(()) = ctrl_c.recv() => return Ok(()),
        }
    }
}

fn hear(event: RelayEvent, elsewhere: bool) -> anyhow::Result<()> {
    match event {
        // Others cannot use it.
        RelayEvent::Listening(address) if elsewhere => tracing::info!(address, "listening"),
        RelayEvent::Listening(address) => printer::data(&address)?,
        RelayEvent::Reserved(peer) => tracing::info!(peer, "is reached through here"),
        RelayEvent::Left(peer) => tracing::info!(peer, "is not reached through here any more"),
        RelayEvent::Refused(what) => tracing::info!(what, "refused"),
        RelayEvent::Circuit(pair) => tracing::info!(pair, "are connected through here"),
        RelayEvent::CircuitEnded(pair) => tracing::info!(pair, "are connected through here no more"),
    }
    Ok(())
}
