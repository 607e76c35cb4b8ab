//! Dialling whom it is time to dial, and what comes of it.

use libp2p::PeerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use tokio::time::Instant;

use super::Network;
use crate::net::event::NetEvent;
use crate::net::limits;

impl Network {
    pub(super) fn dial_due(&mut self, now: Instant) {
        while let Some((index, target)) = self.targets.due(now) {
            let here = target.peer.filter(|peer| self.links.contains(peer));
            if here.is_some_and(|peer| self.links.is_direct(&peer)) {
                self.targets.already_connected(index);
                continue;
            }
            let enough = || self.links.count() >= limits::LINKS_WANTED || self.targets.crowded(index);
            if !target.configured && here.is_none() && enough() {
                self.targets.wait(index, now + limits::REDIAL_MAX);
                continue;
            }
            // Who is here through a relay point only may be reached without it.
            let (addresses, condition) = match here {
                Some(_) => (target.direct(), PeerCondition::NotDialing),
                None => (target.to_dial(), PeerCondition::DisconnectedAndNotDialing),
            };
            // From a port of its own: two peers that dial each other from their listening ports would meet halfway,
            // each taking itself for the one who dials, and fail.
            let options = match (target.expected, addresses.first()) {
                (Some(peer), _) => DialOpts::peer_id(peer)
                    .condition(condition)
                    .addresses(addresses)
                    .allocate_new_port()
                    .build(),
                (None, Some(address)) => {
                    DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()
                }
                (None, None) => {
                    self.targets.already_connected(index);
                    continue;
                }
            };
            let connection = options.connection_id();
            self.targets.dialling(index, connection);
            if let Err(error) = self.swarm.dial(options) {
                self.dial_failed(connection, None, &error, now);
            }
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
        now: Instant,
    ) {
        let alone = self.links.count() == 0;
        let here = peer.filter(|peer| self.links.contains(peer));
        match (error, here) {
            (DialError::LocalPeerId { .. }, _) => return self.targets.own_address(connection, alone, now),
            // There are connections enough with this very peer.
            (DialError::Denied { .. } | DialError::DialPeerConditionFalse(_), Some(peer)) => {
                return self.targets.connected(connection, peer);
            }
            // It is being dialled at another of its configured addresses.
            (DialError::DialPeerConditionFalse(_), None) => {
                return self.targets.dialled_elsewhere(connection, now);
            }
            _ => {}
        }
        if let Some((address, attempts)) = self.targets.failed(connection, alone, now) {
            // At the first failure, and then at growing distances.
            if attempts.is_power_of_two() {
                self.events.push_back(NetEvent::Unreachable { address, why: dial_error(error), attempts });
            }
        }
    }
}

/// A dial error in one line, without the type names of the transport.
fn dial_error(error: &DialError) -> String {
    match error {
        DialError::Transport(tried) => match tried.first() {
            Some((_, libp2p::TransportError::Other(error))) => {
                let mut cause: &dyn std::error::Error = error;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                cause.to_string()
            }
            _ => "the address is of an unknown kind".to_string(),
        },
        DialError::WrongPeerId { obtained, .. } => format!("another peer answers there ({obtained})"),
        other => other.to_string(),
    }
}
