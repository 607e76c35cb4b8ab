//! How many connections may come from one IP address and from one range of them.
//!
//! Gossipsub's own score for peers behind one address would mark down whole households and everybody who comes through
//! a relay point, so the bound is on connections. A range is what one customer of a network gets at most: /24 of IPv4,
//! /48 of IPv6. Connections from this computer, and those through a relay point, which has bounds of its own, are free.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::address::{self, first_ip};
use super::limits;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyFromThere;

impl fmt::Display for TooManyFromThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections from one address or range of addresses")
    }
}

impl std::error::Error for TooManyFromThere {}

/// Counts the connections that others opened.
pub(super) struct Behaviour {
    per_ip: usize,
    per_range: usize,
    inbound: HashMap<ConnectionId, Inbound>,
}

/// A connection that somebody else opened.
struct Inbound {
    ip: IpAddr,
    /// Nobody has said yet who it is.
    pending: bool,
}

impl Behaviour {
    /// At most so many inbound connections, those being set up included.
    pub(super) fn new(per_ip: usize, per_range: usize) -> Self {
        Self { per_ip, per_range, inbound: HashMap::new() }
    }

    fn admit(&mut self, connection: ConnectionId, from: &Multiaddr) -> Result<(), TooManyFromThere> {
        let Some(ip) = first_ip(from).filter(|ip| !ip.is_loopback()) else { return Ok(()) };
        if address::is_relayed(from) {
            return Ok(());
        }
        let count = |same: &dyn Fn(IpAddr) -> bool| {
            let from_there = || self.inbound.values().filter(|other| same(other.ip));
            (from_there().count(), from_there().filter(|other| other.pending).count())
        };
        let (of_ip, of_range) = (count(&|other| other == ip), count(&|other| range(other) == range(ip)));
        let most_of_ip = (self.per_ip, limits::PENDING_PER_IP_MAX);
        let most_of_range = (self.per_range, limits::PENDING_PER_RANGE_MAX);
        let full = |(all, pending), (most, most_pending)| all >= most || pending >= most_pending;
        if full(of_ip, most_of_ip) || full(of_range, most_of_range) {
            return Err(TooManyFromThere);
        }
        self.inbound.insert(connection, Inbound { ip, pending: true });
        Ok(())
    }

    fn established(&mut self, connection: ConnectionId) {
        if let Some(inbound) = self.inbound.get_mut(&connection) {
            inbound.pending = false;
        }
    }
}

/// The first address of the range that an address belongs to.
pub(super) fn range(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into(),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.established(connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let gone = match event {
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            FromSwarm::ListenFailure(failed) => failed.connection_id,
            _ => return,
        };
        self.inbound.remove(&gone);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        libp2p::core::util::unreachable(event)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ranges_have_bounds_and_this_computer_and_relay_points_have_none() {
        let mut caps = Behaviour::new(2, 3);
        let mut made = 0;
        let mut comes = |from: &str| {
            made += 1;
            caps.admit(ConnectionId::new_unchecked(made), &from.parse().unwrap()).is_ok()
        };
        let relayed = format!("/ip4/192.0.2.1/tcp/7/p2p/{}/p2p-circuit", PeerId::random());
        for (from, expected) in [
            ("/ip4/192.0.2.1/tcp/1", true),
            ("/ip4/192.0.2.1/udp/2/quic-v1", true),
            ("/ip4/192.0.2.1/tcp/3", false),
            ("/ip4/192.0.2.2/tcp/1", true),
            ("/ip4/192.0.2.3/tcp/1", false),
            ("/ip4/192.0.3.3/tcp/1", true),
            ("/ip6/2001:db8:1::1/tcp/1", true),
            ("/ip6/2001:db8:1:7::1/tcp/1", true),
            ("/ip6/2001:db8:1:8::1/tcp/1", true),
            ("/ip6/2001:db8:1:9::1/tcp/1", false),
            ("/ip6/2001:db8:2::1/tcp/1", true),
            (&relayed, true),
        ] {
            assert_eq!(comes(from), expected, "{from}");
        }
        assert!((0..100).all(|_| comes("/ip4/127.0.0.1/tcp/1")));
    }

    #[test]
    fn few_connections_of_one_address_or_range_may_say_nothing() {
        let mut caps = Behaviour::new(100, 100);
        let mut made = 0;
        let mut comes = |caps: &mut Behaviour, from: &str| {
            made += 1;
            let connection = ConnectionId::new_unchecked(made);
            caps.admit(connection, &from.parse().unwrap()).is_ok().then_some(connection)
        };
        let silent = |caps: &mut Behaviour, from: &str, comes: &mut dyn FnMut(&mut Behaviour, &str) -> _| {
            std::iter::from_fn(|| comes(caps, from)).take(50).collect::<Vec<ConnectionId>>()
        };
        let first = silent(&mut caps, "/ip4/192.0.2.1/tcp/1", &mut comes);
        assert_eq!(first.len(), limits::PENDING_PER_IP_MAX);
        let others: usize =
            (2..9).map(|n| silent(&mut caps, &format!("/ip4/192.0.2.{n}/tcp/1"), &mut comes).len()).sum();
        assert_eq!(first.len() + others, limits::PENDING_PER_RANGE_MAX);
        assert!(comes(&mut caps, "/ip4/198.51.100.1/tcp/1").is_some(), "elsewhere there is room");
        caps.established(first[0]);
        assert!(comes(&mut caps, "/ip4/192.0.2.1/tcp/1").is_some(), "who says who it is makes room");
    }
}
