//! From libp2p's reports to [`NetEvent`]s: one function a protocol.

use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::MessageId;
use libp2p::swarm::{ConnectionError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, connection_limits, gossipsub, identify, ping, request_response};
use tokio::time::Instant;

use super::Network;
use crate::net::Verdict;
use crate::net::address::Address;
use crate::net::behaviour::BehaviourEvent;
use crate::net::caps::TooManyFromThere;
use crate::net::conduct::Wrong;
use crate::net::event::{ChannelToken, DropReason, MessageToken, NetEvent};
use crate::net::key::peer_key;
use crate::topic::Topic;

impl Network {
    pub(super) fn handle(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Requests(event)) => self.on_request(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Blobs(event)) => self.on_blob(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(&event),
            SwarmEvent::Behaviour(event) => self.on_reach(event, now),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.targets.connected(connection_id, peer_id);
                self.links.add(peer_id, (connection_id, endpoint.is_relayed()), is_local(&endpoint), now);
                self.want_direct(&peer_id, now);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established: 1.., .. } => {
                self.links.lose(&peer_id, connection_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                let cause = match cause {
                    None => "closed",
                    Some(ConnectionError::KeepAliveTimeout) => "nothing used the connection",
                    Some(ConnectionError::IO(_)) => "the connection was closed or lost at the other end",
                };
                self.on_closed(&peer_id, cause, now);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, &error, now);
            }
            // A second connection too many with somebody who is here loses nothing; who is kept away was told of.
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { cause }, peer_id, .. }
                if cause.downcast_ref::<connection_limits::Exceeded>().is_some()
                    && peer_id.is_none_or(|peer| !self.links.contains(&peer)) =>
            {
                self.drops.count(DropReason::TooManyConnections, 1);
            }
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { cause }, .. }
                if cause.downcast_ref::<TooManyFromThere>().is_some() =>
            {
                self.drops.count(DropReason::TooManyFromThere, 1);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.events.push_back(NetEvent::Listening(address.to_string()));
                self.events.push_back(NetEvent::Addresses);
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.events.push_back(NetEvent::Addresses),
            SwarmEvent::ListenerClosed { listener_id, reason, .. }
                if self.reservation_ended(listener_id, &reason, now) => {}
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                let address = addresses.iter().map(Multiaddr::to_string).collect::<Vec<_>>().join(", ");
                let why = format!("listening ended: {error}");
                self.events.push_back(NetEvent::Unreachable { address, why, attempts: 1 });
            }
            _ => {}
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        match event.result {
            Ok(rtt) => {
                if let Some(link) = self.links.get_mut(&event.peer) {
                    link.rtt = Some(rtt);
                }
            }
            // A peer that does not speak ping is no less alive.
            Err(ping::Failure::Unsupported) => {}
            Err(_) => self.close(&event.peer, "no answer to a ping"),
        }
    }

    fn on_closed(&mut self, peer: &PeerId, cause: &str, now: Instant) {
        let Some(link) = self.links.remove(peer) else { return };
        self.reach.lost(peer);
        if !link.refused {
            self.targets.disconnected(peer, now);
        }
        if let (true, Some(peer)) = (link.proved, link.key) {
            let why = link.closing.unwrap_or_else(|| cause.to_string());
            self.events.push_back(NetEvent::Disconnected { peer, why });
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event, now: Instant) {
        match event {
            gossipsub::Event::Message { propagation_source: from, message_id: id, message } => {
                self.links.heard(&from, now);
                self.on_message(id, from, message, now);
            }
            gossipsub::Event::Subscribed { peer_id, .. } => {
                self.links.subscribed(&peer_id, now);
                self.offer_outbox(now);
            }
            gossipsub::Event::SlowPeer { failed_messages, .. } => {
                let lost = failed_messages.non_priority + failed_messages.priority;
                self.drops.count(DropReason::SlowPeer, lost as u64);
            }
            // A relay point gossips not, and need not.
            gossipsub::Event::GossipsubNotSupported { peer_id } if self.is_no_peer(&peer_id) => {}
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                let until = self.bans.stranger(peer_id, now);
                self.refuse(
                    peer_id,
                    until,
                    "it does not speak gossipsub: not a peer of a murmur swarm".to_string(),
                );
            }
            gossipsub::Event::Unsubscribed { .. } => {}
        }
    }

    fn on_message(&mut self, id: MessageId, from: PeerId, message: gossipsub::Message, now: Instant) {
        let bytes = message.data.len();
        let known = self.topics.iter().find(|(_, hash)| *hash == message.topic).map(|(topic, _)| *topic);
        let topic = known.unwrap_or(Topic::Presence);
        let token = MessageToken { id, from, topic, bytes };
        let (reason, verdict) = match peer_key(&from) {
            None => (DropReason::ForeignKey, Verdict::Reject),
            _ if known.is_none() || bytes > topic.bytes_max() => (DropReason::Oversize, Verdict::Reject),
            Some(_) if !self.links.get_mut(&from).is_some_and(|link| link.quota.admit(topic, bytes, now)) => {
                (DropReason::LinkQuota, Verdict::Ignore)
            }
            Some(key) => {
                self.counters.received += 1;
                self.counters.bytes_in += bytes as u64;
                self.links.brought(&from, bytes);
                let message = NetEvent::Message { token, topic, bytes: message.data, from: key };
                return self.events.push_back(message);
            }
        };
        self.drops.count(reason, 1);
        self.verdict(token, verdict);
        if reason == DropReason::LinkQuota {
            self.lose_patience(from, now);
        }
    }

    /// Closes a link that goes on beyond its share.
    fn lose_patience(&mut self, peer: PeerId, now: Instant) {
        let link = self.links.get_mut(&peer).filter(|link| link.closing.is_none());
        if link.is_some_and(|link| link.quota.is_overdrawn(now)) {
            let until = self.bans.stranger(peer, now);
            let seconds = (until - now).as_secs();
            let why = format!(
                "it sends far more than its share of messages that lead nowhere; it is kept away for {seconds} s"
            );
            self.refuse(peer, until, why);
            self.close(&peer, "it sends too much");
        }
    }

    fn on_identify(&mut self, event: identify::Event, now: Instant) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        if self.is_relay_point(&peer_id, &info.protocol_version, now) {
            return;
        }
        let Some(link) = self.links.get_mut(&peer_id) else { return };
        let refusal = if info.protocol_version != self.protocol_version {
            // Text from a stranger: short and printable.
            let theirs: String =
                info.protocol_version.chars().filter(char::is_ascii_graphic).take(64).collect();
            let ours = &self.protocol_version;
            Some(format!(
                "it belongs to another swarm ({theirs}, this is {ours}); hint: all peers of a swarm need the same \
                 [swarm] section in their configuration and the same murmur version"
            ))
        } else if link.key.is_none() {
            Some("its key is not ed25519".to_string())
        } else {
            None
        };
        if let Some(why) = refusal {
            let until = self.bans.stranger(peer_id, now);
            self.targets.forget(&peer_id);
            return self.refuse(peer_id, until, why);
        }
        let local = link.local;
        if let (false, Some(key)) = (std::mem::replace(&mut link.proved, true), link.key) {
            self.events.push_back(NetEvent::Connected(key));
        }
        // A loopback address of another computer would lead to this one.
        let addresses = info.listen_addrs.iter().filter_map(Address::from_multiaddr);
        let addresses: Vec<Address> = addresses.filter(|address| local || !address.is_loopback()).collect();
        // What does not fit here is no loss worth telling: identify repeats it.
        self.targets.learn(peer_id, &addresses, true, now);
        self.targets.proved(&peer_id);
        self.want_direct(&peer_id, now);
    }

    fn on_request(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>, now: Instant) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(from) = peer_key(&peer) else { return self.drops.count(DropReason::ForeignKey, 1) };
                // Dropping the channel refuses: the other side hears at once.
                if !self.links.get_mut(&peer).is_some_and(|link| link.quota.may_ask(now)) {
                    self.drops.count(DropReason::RequestQuota, 1);
                    return self.blame(peer, Wrong::Greed, "more requests than its share");
                }
                self.counters.requests_in += 1;
                self.events.push_back(NetEvent::Request {
                    from,
                    bytes: request,
                    channel: ChannelToken(channel),
                });
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((request, from)) = self.requests.remove(&request_id) {
                    self.events.push_back(NetEvent::Response { from, request, bytes: response });
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some((request, to)) = self.requests.remove(&request_id) {
                    self.events.push_back(NetEvent::RequestFailed { to, request, why: error.to_string() });
                }
            }
            Event::InboundFailure { .. } => self.drops.count(DropReason::RequestFailed, 1),
            Event::ResponseSent { .. } => {}
        }
    }
}

/// Whether the other end of a connection is on this computer.
fn is_local(endpoint: &ConnectedPoint) -> bool {
    Address::from_multiaddr(endpoint.get_remote_address()).is_some_and(|address| address.is_loopback())
}
