//! A relay point: it has no model and belongs to no swarm.
//!
//! Peers that nobody can dial keep a place here and are reached through it, until hole punching finds a direct way. It
//! tells the peers of a swarm of each other (rendezvous) and tells a peer whether its address can be dialled from
//! outside. What goes through it is encrypted from end to end; it sees who talks with whom.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, autonat, connection_limits, identify, noise, ping, relay,
    rendezvous, tcp, yamux,
};
use serde::Serialize;

use super::address::Address;
use super::key::keypair;
use super::reach::RELAY_PROTOCOL;
use super::{NetError, behaviour, caps, limits, listen};
use crate::identity::Identity;

/// Peers that may keep a place.
pub const RESERVATIONS_MAX: usize = 512;
/// Places of one peer: one a transport.
pub const RESERVATIONS_PER_PEER_MAX: usize = 2;
/// How long a place is kept; peers renew it before.
pub const RESERVATION_FOR: Duration = Duration::from_secs(3600);
/// Connections through this relay point at once.
pub const CIRCUITS_MAX: usize = 512;
/// Those of one peer.
pub const CIRCUITS_PER_PEER_MAX: usize = 64;
/// How long one lasts; peers open another after that.
pub const CIRCUIT_FOR: Duration = Duration::from_secs(3600);
/// Bytes that one carries. libp2p's own 128 KiB are gone after a round or two; blobs never come this way.
pub const CIRCUIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Connections with peers.
pub const CONNECTIONS_MAX: usize = 1024;
/// Shortest time for which a peer may ask to be remembered.
const REMEMBERED_S_MIN: u64 = 60;

/// What a relay point listens on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayConfig {
    /// Addresses, as in [`NetConfig::listen`](super::NetConfig::listen).
    pub listen: Vec<String>,
    /// Where others reach it, if not there, as behind a router that passes a port on.
    pub external: Vec<String>,
}

/// Something that happened at a relay point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayEvent {
    /// It can be reached at an address, with its id.
    Listening(String),
    /// A peer has a place.
    Reserved(String),
    /// A peer has no place any more.
    Left(String),
    /// Somebody was refused, and why.
    Refused(String),
    /// A connection between two peers goes through it.
    Circuit(String),
    /// Such a connection is over.
    CircuitEnded(String),
}

/// How a relay point stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RelayCounters {
    /// Peers connected.
    pub peers: usize,
    /// Places taken.
    pub reservations: usize,
    /// Connections through it.
    pub circuits: usize,
    /// Connections through it so far.
    pub circuits_ever: u64,
    /// Requests refused so far.
    pub refused: u64,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    caps: caps::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
    rendezvous: rendezvous::server::Behaviour,
    probe: autonat::v2::server::Behaviour,
}

/// A relay point at work. Nothing moves unless [`next`](Self::next) is awaited.
pub struct RelayPoint {
    swarm: Swarm<Behaviour>,
    counters: RelayCounters,
    external: bool,
}

impl RelayPoint {
    /// Listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be read or listened on.
    pub fn bind(identity: &Identity, config: &RelayConfig) -> Result<Self, NetError> {
        let parse = |text: &String| {
            Address::parse(text).map_err(|why| NetError::Address { address: text.clone(), why })
        };
        let listen = config.listen.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let external = config.external.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        listen.iter().try_for_each(listen::probe)?;
        let keypair = keypair(identity).map_err(|error| NetError::Config(error.to_string()))?;
        let mut swarm = build(keypair).map_err(|error| NetError::Config(error.to_string()))?;
        for address in &listen {
            swarm.listen_on(address.multiaddr()).map_err(|error| listen::refused(address, error))?;
        }
        external.iter().for_each(|address| swarm.add_external_address(address.multiaddr()));
        Ok(Self { swarm, counters: RelayCounters::default(), external: !external.is_empty() })
    }

    /// The next event. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> RelayEvent {
        loop {
            let event = self.swarm.select_next_some().await;
            if let Some(event) = self.heard(event) {
                return event;
            }
        }
    }

    /// How it stands.
    pub fn counters(&self) -> RelayCounters {
        RelayCounters { peers: self.swarm.network_info().num_peers(), ..self.counters }
    }

    fn heard(&mut self, event: SwarmEvent<BehaviourEvent>) -> Option<RelayEvent> {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                // A reservation names the addresses that are known to lead here.
                if !self.external {
                    self.swarm.add_external_address(address.clone());
                }
                Some(RelayEvent::Listening(self.named(address)))
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.relayed(event),
            SwarmEvent::Behaviour(BehaviourEvent::Rendezvous(
                rendezvous::server::Event::PeerNotRegistered { peer, error, .. },
            )) => Some(self.refused(format!("{peer} is not taken down: {error:?}"))),
            SwarmEvent::IncomingConnectionError { error, .. } => {
                Some(self.refused(format!("a connection: {error}")))
            }
            _ => None,
        }
    }

    fn relayed(&mut self, event: relay::Event) -> Option<RelayEvent> {
        use relay::Event;
        let pair = |from: PeerId, to: PeerId| format!("{from} to {to}");
        match event {
            Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                self.counters.reservations += 1;
                Some(RelayEvent::Reserved(src_peer_id.to_string()))
            }
            Event::ReservationClosed { src_peer_id } | Event::ReservationTimedOut { src_peer_id } => {
                self.counters.reservations = self.counters.reservations.saturating_sub(1);
                Some(RelayEvent::Left(src_peer_id.to_string()))
            }
            Event::ReservationReqDenied { src_peer_id, status } => {
                Some(self.refused(format!("a place for {src_peer_id}: {status:?}")))
            }
            Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                Some(self.refused(format!("{}: {status:?}", pair(src_peer_id, dst_peer_id))))
            }
            Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                self.counters.circuits += 1;
                self.counters.circuits_ever += 1;
                Some(RelayEvent::Circuit(pair(src_peer_id, dst_peer_id)))
            }
            Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                self.counters.circuits = self.counters.circuits.saturating_sub(1);
                Some(RelayEvent::CircuitEnded(pair(src_peer_id, dst_peer_id)))
            }
            _ => None,
        }
    }

    fn refused(&mut self, what: String) -> RelayEvent {
        self.counters.refused += 1;
        RelayEvent::Refused(what)
    }

    /// An address as others write it under `bootstrap`.
    fn named(&self, address: Multiaddr) -> String {
        let address = address.with_p2p(*self.swarm.local_peer_id()).unwrap_or_else(|address| address);
        address.to_string()
    }

    /// Where it was said to be reached from outside, as others write it under `bootstrap`.
    pub fn external(&self) -> Vec<String> {
        let known = self.swarm.external_addresses().filter(|_| self.external);
        known.map(|address| self.named(address.clone())).collect()
    }
}

impl std::fmt::Debug for RelayPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayPoint({}, {:?})", self.swarm.local_peer_id(), self.counters())
    }
}

fn build(keypair: libp2p::identity::Keypair) -> Result<Swarm<Behaviour>, Box<dyn std::error::Error>> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(|keypair| {
            let identify = behaviour::identify(RELAY_PROTOCOL.to_string(), keypair);
            let remembered = rendezvous::server::Config::default().with_min_ttl(REMEMBERED_S_MIN);
            Behaviour {
                limits: behaviour::connection_limits(CONNECTIONS_MAX),
                caps: caps::Behaviour::new(limits::INBOUND_PER_IP_MAX, limits::INBOUND_PER_RANGE_MAX),
                identify: identify::Behaviour::new(identify),
                ping: behaviour::ping(),
                relay: relay::Behaviour::new(keypair.public().to_peer_id(), places()),
                rendezvous: rendezvous::server::Behaviour::new(remembered),
                probe: autonat::v2::server::Behaviour::default(),
            }
        })?
        .with_swarm_config(|settings| settings.with_idle_connection_timeout(limits::IDLE_FOR))
        .build();
    Ok(swarm)
}

fn places() -> relay::Config {
    relay::Config {
        max_reservations: RESERVATIONS_MAX,
        max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RESERVATION_FOR,
        max_circuits: CIRCUITS_MAX,
        max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: CIRCUIT_FOR,
        max_circuit_bytes: CIRCUIT_BYTES_MAX,
        ..relay::Config::default()
    }
}
