//! Plain streams of bytes between two peers, beside gossip and requests, over direct connections only.
//!
//! A stream belongs to the task that uses it: what it carries never passes through the network's loop, so a long
//! transfer delays no message there. A relay carries other people's traffic for nothing, within tight limits: no
//! stream is offered, accepted or opened on a connection that goes through one.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

use super::address::is_relayed;
use super::limits;

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    #[error("no direct connection")]
    NoConnection,
    #[error("it gives nothing, or has enough to do")]
    Refused,
}

/// Wants a stream of one peer.
#[derive(Debug)]
pub(super) struct Ask {
    peer: PeerId,
    reply: oneshot::Sender<Result<Stream, Unopened>>,
}

/// Opens streams, from any task.
#[derive(Clone, Debug)]
pub(super) struct Opener(mpsc::Sender<Ask>);

impl Opener {
    /// Opens a stream to a peer that there is a direct connection with.
    pub(super) async fn open(&self, peer: PeerId) -> Result<Stream, Unopened> {
        let (reply, opened) = oneshot::channel();
        // Both ends of this are gone only with the network.
        self.0.send(Ask { peer, reply }).await.map_err(|_| Unopened::NoConnection)?;
        opened.await.unwrap_or(Err(Unopened::NoConnection))
    }
}

/// Streams that other peers open.
pub(super) type Incoming = mpsc::Receiver<(PeerId, Stream)>;

/// The protocol of such streams.
pub(super) struct Streams {
    protocol: StreamProtocol,
    asked: mpsc::Receiver<Ask>,
    incoming: mpsc::Sender<(PeerId, Stream)>,
    direct: HashMap<PeerId, Vec<ConnectionId>>,
}

impl Streams {
    pub(super) fn new(protocol: StreamProtocol) -> (Self, Opener, Incoming) {
        let (ask, asked) = mpsc::channel(limits::STREAMS_WAITING_MAX);
        let (incoming, opened) = mpsc::channel(limits::STREAMS_WAITING_MAX);
        (Self { protocol, asked, incoming, direct: HashMap::new() }, Opener(ask), opened)
    }

    fn handler(&self, peer: PeerId, relayed: bool) -> Handler {
        let protocol = (!relayed).then(|| self.protocol.clone());
        Handler { peer, protocol, incoming: self.incoming.clone(), asks: VecDeque::new() }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // The address of one that comes through a relay says so at this end only.
        Ok(self.handler(peer, is_relayed(local) || is_relayed(remote)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, is_relayed(remote)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) if !made.endpoint.is_relayed() => {
                self.direct.entry(made.peer_id).or_default().push(made.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(connections) = self.direct.get_mut(&closed.peer_id) {
                    connections.retain(|connection| *connection != closed.connection_id);
                }
                self.direct.retain(|_, connections| !connections.is_empty());
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(ask)) = self.asked.poll_recv(cx) {
            match self.direct.get(&ask.peer).and_then(|connections| connections.last()) {
                Some(&connection) => {
                    let handler = NotifyHandler::One(connection);
                    return Poll::Ready(ToSwarm::NotifyHandler { peer_id: ask.peer, handler, event: ask });
                }
                // Who asked may be gone.
                None => drop(ask.reply.send(Err(Unopened::NoConnection))),
            }
        }
        Poll::Pending
    }
}

/// The streams of one connection.
pub(super) struct Handler {
    peer: PeerId,
    /// None on a relayed connection.
    protocol: Option<StreamProtocol>,
    incoming: mpsc::Sender<(PeerId, Stream)>,
    asks: VecDeque<Ask>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Ask;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offered;
    type OutboundProtocol = Offered;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<Offered> {
        SubstreamProtocol::new(Offered(self.protocol.clone()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offered, Ask, Infallible>> {
        match self.asks.pop_front() {
            Some(ask) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Offered(self.protocol.clone()), ask)
                    .with_timeout(limits::STREAM_OPENS_WITHIN),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Offered, Offered, (), Ask>) {
        match event {
            // One that nobody takes is reset, which the other side sees.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                drop(self.incoming.try_send((self.peer, protocol)));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                drop(info.reply.send(Ok(protocol)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, .. }) => {
                drop(info.reply.send(Err(Unopened::Refused)));
            }
            _ => {}
        }
    }
}

/// The protocol, where it is offered.
pub(super) struct Offered(Option<StreamProtocol>);

impl UpgradeInfo for Offered {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offered {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Offered {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_connection_offers_no_streams() {
        let protocol = StreamProtocol::new("/murmur/0/range/1");
        let (mut streams, ..) = Streams::new(protocol.clone());
        let peer = PeerId::random();
        let [direct, relayed] =
            ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p-circuit"].map(|text| text.parse().unwrap());
        let mut offered = |at: [&Multiaddr; 2]| {
            let connection = ConnectionId::new_unchecked(1);
            let handler = streams.handle_established_inbound_connection(connection, peer, at[0], at[1]);
            handler.unwrap().listen_protocol().upgrade().protocol_info().next()
        };
        assert_eq!(offered([&direct, &direct]), Some(protocol));
        assert_eq!(offered([&relayed, &direct]), None);
        assert_eq!(offered([&direct, &relayed]), None);
    }
}
