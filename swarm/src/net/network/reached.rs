//! Being reached from outside, and finding others: relay points, hole punching, rendezvous, the local network.

use std::io;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::client::Event as Rendezvous;
use libp2p::{PeerId, dcutr, mdns, relay};
use tokio::time::Instant;

use super::Network;
use crate::net::address::Address;
use crate::net::behaviour::BehaviourEvent;
use crate::net::event::{DropReason, NetEvent};
use crate::net::limits;
use crate::net::reach::{Errand, RELAY_PROTOCOL};

impl Network {
    pub(super) fn on_reach(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Relay(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal: false,
                ..
            }) => {
                self.reach.reserved(&relay_peer_id, now);
                self.say(format!("others reach this peer through the relay point {relay_peer_id}"));
            }
            BehaviourEvent::Punch(dcutr::Event { remote_peer_id, result }) => match result {
                Ok(_) => self.counters.punched += 1,
                // Not every router lets it through; messages go on through the relay point.
                Err(error) => self.say(format!(
                    "no direct connection with {remote_peer_id}, messages go through a relay point: {error}"
                )),
            },
            BehaviourEvent::Probe(probed) if probed.result.is_ok() => {
                self.say(format!("others reach this peer at {}", probed.tested_addr));
            }
            BehaviourEvent::Rendezvous(event) => self.on_rendezvous(event, now),
            BehaviourEvent::Lan(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    let address = Address::from_multiaddr(&address);
                    self.learn(peer, address.as_slice(), now);
                }
            }
            _ => {}
        }
    }

    fn on_rendezvous(&mut self, event: Rendezvous, now: Instant) {
        match event {
            Rendezvous::Discovered { registrations, .. } => {
                for registration in registrations {
                    // Signed by the peer itself.
                    let addresses: Vec<Address> =
                        registration.record.addresses().iter().filter_map(Address::from_multiaddr).collect();
                    self.learn(registration.record.peer_id(), &addresses, now);
                }
            }
            Rendezvous::DiscoverFailed { rendezvous_node, error, .. } => {
                self.say(format!("the relay point {rendezvous_node} does not say who is there: {error:?}"));
            }
            Rendezvous::RegisterFailed { rendezvous_node, error, .. } => {
                self.say(format!(
                    "the relay point {rendezvous_node} does not take this peer down: {error:?}"
                ));
            }
            Rendezvous::Registered { .. } | Rendezvous::Expired { .. } => {}
        }
    }

    fn learn(&mut self, peer: PeerId, addresses: &[Address], now: Instant) {
        if peer != *self.swarm.local_peer_id() {
            let lost = self.targets.learn(peer, addresses, self.links.contains(&peer), now);
            self.drops.count(DropReason::Address, lost);
        }
    }

    fn say(&mut self, what: String) {
        self.events.push_back(NetEvent::Reach(what));
    }

    /// Whether identify came from a relay point that this peer was told of. Nobody else may be one: it would see who
    /// talks with whom.
    pub(super) fn is_relay_point(&mut self, peer: &PeerId, protocol: &str, now: Instant) -> bool {
        let Some(address) = self.targets.configured(peer).filter(|_| protocol == RELAY_PROTOCOL) else {
            return false;
        };
        if let Some(link) = self.links.get_mut(peer) {
            link.relay_point = true;
        }
        self.targets.proved(peer);
        let address = address.with_p2p(*peer).unwrap_or_else(|address| address);
        if self.reach.met(*peer, address, now) {
            self.say(format!("the relay point {peer} is here"));
        }
        true
    }

    /// Whether a link is a relay point's, or may turn out to be: identify says it.
    pub(super) fn is_no_peer(&mut self, peer: &PeerId) -> bool {
        self.links.get_mut(peer).is_some_and(|link| !link.proved)
    }

    /// A peer that is here through a relay point only is dialled at its own addresses later.
    pub(super) fn want_direct(&mut self, peer: &PeerId, now: Instant) {
        if !self.links.is_direct(peer) {
            self.targets.try_direct(peer, now);
        }
    }

    /// Whether a listener that ended was a reservation; it is then asked for again.
    pub(super) fn reservation_ended(
        &mut self,
        listener: ListenerId,
        reason: &Result<(), io::Error>,
        now: Instant,
    ) -> bool {
        let Some(peer) = self.reach.ended(listener, now) else { return false };
        if let Err(error) = reason {
            self.say(format!("the relay point {peer} gives this peer no place: {error}; it is asked again"));
        }
        self.events.push_back(NetEvent::Addresses);
        true
    }

    /// What is due at relay points.
    pub(super) fn errands(&mut self, now: Instant) {
        while let Some(errand) = self.reach.due(now) {
            match errand {
                Errand::Reserve(peer, address) => {
                    match self.swarm.listen_on(address.with(Protocol::P2pCircuit)) {
                        Ok(listener) => self.reach.asked(&peer, listener),
                        Err(_) => self.reach.failed(&peer, now),
                    }
                }
                Errand::Rendezvous(peer) => self.rendezvous(peer),
            }
        }
    }

    fn rendezvous(&mut self, peer: PeerId) {
        let namespace = self.reach.namespace.clone();
        let client = &mut self.swarm.behaviour_mut().rendezvous;
        // Without an address from outside there is nothing to tell yet.
        let _ = client.register(namespace.clone(), peer, Some(limits::RENDEZVOUS_FOR_S));
        client.discover(Some(namespace), None, Some(limits::RENDEZVOUS_PEERS_MAX), peer);
    }

    /// Says at the relay points that this peer goes.
    pub(super) fn unregister(&mut self) {
        let namespace = &self.reach.namespace;
        let client = &mut self.swarm.behaviour_mut().rendezvous;
        self.reach.points().for_each(|peer| client.unregister(namespace.clone(), *peer));
    }
}
