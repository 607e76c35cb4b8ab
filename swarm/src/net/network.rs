//! The loop, the calls, and what is due by the clock.
//!
//! What libp2p reports is handled in `incoming`.

mod dialling;
mod incoming;
mod reached;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use judge::PeerKey;
use libp2p::gossipsub::{self, MessageAcceptance, TopicHash};
use libp2p::identity::Keypair;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, SwarmBuilder, noise, rendezvous, tcp, yamux};
use tokio::time::Instant;

use super::address::Address;
use super::bans::Bans;
use super::behaviour::{self, Behaviour};
use super::blobs::Blobs;
use super::book::Known;
use super::conduct::Conduct;
use super::drops::Drops;
use super::event::{ChannelToken, DropReason, LinkInfo, MessageToken, NetCounters, NetEvent, RequestToken};
use super::forwards::Forwards;
use super::key::{keypair, peer_id, peer_key};
use super::links::Links;
use super::outbox::{Attempt, Outbox, Retries};
use super::reach::Reach;
use super::streams::Streams;
use super::targets::Targets;
use super::transfer::{self, Transfers};
use super::{NetConfig, NetError, PublishError, RequestError, Verdict, limits, listen};
use crate::identity::Identity;
use crate::topic::{SwarmId, Topic};

/// One peer's place in the network. Nothing moves unless [`next`](Self::next) is awaited.
pub struct Network {
    pub(super) swarm: libp2p::Swarm<Behaviour>,
    topics: [(Topic, TopicHash); 5],
    protocol_version: String,
    pub(super) config: NetConfig,
    pub(super) links: Links,
    pub(super) targets: Targets,
    pub(super) bans: Bans,
    /// Peers met before this start, or that have left; the latest first.
    pub(super) acquaintances: Vec<Known>,
    reach: Reach,
    outbox: Outbox,
    pub(super) forwards: Forwards,
    retries: Retries,
    requests: HashMap<OutboundRequestId, (RequestToken, PeerKey)>,
    requests_made: u64,
    pub(super) blobs: Blobs,
    pub(super) conduct: Conduct,
    pub(super) transfers: Transfers,
    pub(super) events: VecDeque<NetEvent>,
    pub(super) counters: NetCounters,
    pub(super) drops: Drops,
    next_tick: Instant,
}

impl Network {
    /// Joins the network: listens on every configured address, then begins to dial. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be read or listened on, or a configuration out of range.
    pub async fn bind(identity: &Identity, swarm_id: SwarmId, config: NetConfig) -> Result<Self, NetError> {
        if config.bootstrap.len() > limits::BOOTSTRAP_MAX {
            let why =
                format!("{} bootstrap addresses, at most {}", config.bootstrap.len(), limits::BOOTSTRAP_MAX);
            return Err(NetError::Config(why));
        }
        let parse = |texts: &[String]| -> Result<Vec<Address>, NetError> {
            let parse = |text: &String| {
                Address::parse(text).map_err(|why| NetError::Address { address: text.clone(), why })
            };
            texts.iter().map(parse).collect()
        };
        let (listen, bootstrap) = (parse(&config.listen)?, parse(&config.bootstrap)?);
        if let Some(address) = bootstrap.iter().find(|address| !address.can_be_dialled()) {
            let why = "nobody can be dialled there; hint: give the address and port of a peer".to_string();
            return Err(NetError::Address { address: address.multiaddr().to_string(), why });
        }
        listen.iter().try_for_each(listen::probe)?;

        let keypair = keypair(identity).map_err(|error| NetError::Config(error.to_string()))?;
        let namespace = rendezvous::Namespace::new(format!("murmur/{}", behaviour::digits(&swarm_id)));
        let namespace = namespace.map_err(|error| NetError::Config(error.to_string()))?;
        let (streams, opener, opened) = transfer::streams(&swarm_id).map_err(NetError::Config)?;
        let swarm = build(keypair, &swarm_id, &config, streams)
            .map_err(|error| NetError::Config(error.to_string()))?;

        let now = Instant::now();
        let blobs = Blobs::new(&config.blobs, now);
        let transfers = Transfers::new(opener, opened, &config.transfers);
        let mut network = Self {
            swarm,
            topics: Topic::ALL.map(|topic| (topic, TopicHash::from_raw(topic.name(&swarm_id)))),
            protocol_version: behaviour::protocol_version(&swarm_id),
            config,
            links: Links::default(),
            targets: Targets::new(identity.public(), &bootstrap, now),
            bans: Bans::default(),
            acquaintances: Vec::new(),
            reach: Reach::new(namespace),
            outbox: Outbox::default(),
            forwards: Forwards::default(),
            retries: Retries::default(),
            requests: HashMap::new(),
            requests_made: 0,
            blobs,
            conduct: Conduct::new(now),
            transfers,
            events: VecDeque::new(),
            counters: NetCounters::default(),
            drops: Drops::default(),
            next_tick: now,
        };
        network.listen(&listen).await?;
        Ok(network)
    }

    async fn listen(&mut self, addresses: &[Address]) -> Result<(), NetError> {
        let mut waiting = HashMap::new();
        for address in addresses {
            let id =
                self.swarm.listen_on(address.multiaddr()).map_err(|error| listen::refused(address, error))?;
            waiting.insert(id, address);
        }
        let deadline = Instant::now() + limits::LISTEN_WITHIN;
        while !waiting.is_empty() {
            let event = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await;
            match event.map_err(|_| listen::timed_out(addresses))? {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    waiting.remove(&listener_id);
                    self.events.push_back(NetEvent::Listening(address.to_string()));
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. }
                | SwarmEvent::ListenerError { listener_id, error } => {
                    if let Some(address) = waiting.get(&listener_id) {
                        return Err(listen::failed(address, &error));
                    }
                }
                other => self.handle(other),
            }
        }
        Ok(())
    }

    /// The next event. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> NetEvent {
        loop {
            let now = Instant::now();
            self.work(now);
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let wake = self.wake();
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle(event),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Gossips a message to the swarm. Never waits: what cannot go now is kept, within bounds, and sent later. The
    /// same bytes on the same topic travel once; a repetition is only counted.
    ///
    /// # Errors
    /// The message is larger than its topic allows.
    pub fn publish(&mut self, topic: Topic, bytes: Vec<u8>) -> Result<(), PublishError> {
        let max = topic.bytes_max();
        if bytes.len() > max {
            return Err(PublishError::TooLarge { topic, bytes: bytes.len(), max });
        }
        let now = Instant::now();
        if let Attempt::Nobody = self.offer(topic, &bytes, now) {
            let out = self.outbox.push(topic, bytes, now);
            self.counters.superseded += out.superseded;
            self.drops.count(DropReason::OutboxFull, out.full);
        }
        Ok(())
    }

    /// Says whether a message may travel on. Reject only what every honest peer would reject from the bytes alone:
    /// it counts against those who sent it.
    pub fn verdict(&mut self, token: MessageToken, verdict: Verdict) {
        match verdict {
            Verdict::Accept => self.counters.accepted += 1,
            Verdict::Ignore => self.counters.ignored += 1,
            Verdict::Reject => self.counters.rejected += 1,
        }
        if verdict != Verdict::Accept {
            return self.judge(&token, verdict);
        }
        if let Some(link) = self.links.get_mut(&token.from) {
            link.quota.was_useful(token.topic, token.bytes);
        }
        self.forward(token, Instant::now());
    }

    /// Tells gossip, which passes on what is accepted.
    pub(super) fn judge(&mut self, token: &MessageToken, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let known = gossip.report_message_validation_result(&token.id, &token.from, acceptance);
        if !known && verdict == Verdict::Accept {
            self.drops.count(DropReason::LateVerdict, 1);
        }
    }

    /// Asks one peer. The answer, or the failure, comes as an event.
    ///
    /// # Errors
    /// The request is too large, the peer is not connected, or too many requests wait for an answer.
    pub fn request(&mut self, to: PeerKey, bytes: Vec<u8>) -> Result<RequestToken, RequestError> {
        let max = limits::REQUEST_BYTES_MAX;
        if bytes.len() > max {
            return Err(RequestError::TooLarge { bytes: bytes.len(), max });
        }
        if self.requests.len() >= limits::REQUESTS_MAX {
            return Err(RequestError::TooMany(self.requests.len()));
        }
        let peer =
            peer_id(&to).filter(|peer| self.links.contains(peer)).ok_or(RequestError::NotConnected(to))?;
        let id = self.swarm.behaviour_mut().requests.send_request(&peer, bytes);
        let token = RequestToken(self.requests_made);
        self.requests_made += 1;
        self.counters.requests_out += 1;
        self.requests.insert(id, (token, to));
        Ok(token)
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The response is too large, or nobody waits for it any more.
    pub fn respond(&mut self, channel: ChannelToken, bytes: Vec<u8>) -> Result<(), RequestError> {
        let max = limits::RESPONSE_BYTES_MAX;
        if bytes.len() > max {
            return Err(RequestError::TooLarge { bytes: bytes.len(), max });
        }
        let sent = self.swarm.behaviour_mut().requests.send_response(channel.0, bytes);
        sent.map_err(|_| RequestError::Gone)
    }

    /// Tells where a peer can be reached, to be dialled now or when it is lost. Telling it again costs little.
    pub fn dial(&mut self, peer: PeerKey, addresses: Vec<String>) {
        let Some(id) = peer_id(&peer).filter(|id| id != self.swarm.local_peer_id()) else { return };
        let parsed: Vec<Address> = addresses.iter().filter_map(|text| Address::parse(text).ok()).collect();
        let lost = self.targets.learn(id, &parsed, self.links.contains(&id), Instant::now());
        self.drops.count(DropReason::Address, lost + (addresses.len() - parsed.len()) as u64);
    }

    /// Where this peer can be reached: what others should dial, at most
    /// [`ADDRESSES_MAX`](limits::ADDRESSES_MAX), those of the wider network first, ways through relay points after
    /// direct ones.
    pub fn listen_addresses(&self) -> Vec<String> {
        let known = self.swarm.external_addresses().chain(self.swarm.listeners());
        let mut addresses: Vec<Address> = known.filter_map(Address::from_multiaddr).collect();
        addresses.retain(Address::can_be_dialled);
        addresses.sort_by_key(|address| (address.is_loopback(), address.relay.is_some()));
        let mut told: Vec<String> = Vec::new();
        for address in addresses.iter().map(|address| address.multiaddr().to_string()) {
            let fits = address.len() <= crate::limits::ADDRESS_BYTES_MAX;
            if fits && told.len() < limits::ADDRESSES_MAX && !told.contains(&address) {
                told.push(address);
            }
        }
        told
    }

    /// The connected peers of this swarm, in order of their keys.
    pub fn peers(&self) -> Vec<PeerKey> {
        self.links.proved()
    }

    /// The same peers, with what is known of their links.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.links.told(Instant::now())
    }

    /// What went through and what was lost so far.
    pub fn counters(&self) -> NetCounters {
        let (transfer_bytes_in, transfer_bytes_out) = self.transfers.tally.bytes();
        let dropped = self.drops.totals();
        NetCounters { dropped, transfer_bytes_in, transfer_bytes_out, ..self.counters.clone() }
    }

    /// Leaves: waits, at most `within`, until queued messages are on their way, and closes all connections. Messages
    /// that arrive meanwhile are not passed on. Returns how many own messages nobody got.
    pub async fn leave(mut self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        self.unregister();
        let mut linger = Instant::now() + limits::LINGER;
        loop {
            self.work(Instant::now());
            self.events.clear();
            let queued = self.outbox.len() + self.retries.len();
            if queued > 0 {
                linger = Instant::now() + limits::LINGER;
            }
            let until = if self.links.ids().is_empty() && queued == 0 { Instant::now() } else { linger };
            let until = until.min(deadline);
            if Instant::now() >= until && (queued == 0 || until == deadline) {
                break;
            }
            self.step(until.max(Instant::now() + Duration::from_millis(1))).await;
        }
        let peers = self.links.ids();
        for peer in &peers {
            self.close(peer, "leaving");
        }
        // Closing flushes what is on the wire; a peer that does not take it is not waited for.
        let closed_by = deadline.max(Instant::now() + limits::LINGER);
        while !self.links.ids().is_empty() && Instant::now() < closed_by {
            self.step(closed_by).await;
            self.events.clear();
        }
        self.outbox.len()
    }

    async fn step(&mut self, until: Instant) {
        let wake = until.min(self.wake());
        tokio::select! {
            event = self.swarm.select_next_some() => self.handle(event),
            () = tokio::time::sleep_until(wake) => {}
        }
    }

    fn wake(&self) -> Instant {
        let wakes = [
            self.targets.next_due(),
            self.retries.next_due(),
            self.forwards.next_due(),
            self.blobs.next_due(),
            self.reach.next_due(),
        ];
        wakes.into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// What is due by the clock.
    fn work(&mut self, now: Instant) {
        self.dial_due(now);
        self.retry_due(now);
        self.forward_due(now);
        self.fetch_due(now);
        self.errands(now);
        if now >= self.next_tick {
            self.next_tick = now + limits::TICK.min(self.config.silence / 4);
            self.offer_outbox(now);
            let expired = self.outbox.expire(now);
            self.drops.count(DropReason::OutboxExpired, expired);
            self.close_silent(now);
            self.score_conduct(now);
            self.ban_offenders(now);
            self.look_at_transfers();
            for connection in self.links.superfluous(now) {
                self.swarm.close_connection(connection);
            }
            for peer in self.bans.lift(now) {
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
        }
        self.events.extend(self.drops.tell(now));
    }

    fn offer(&mut self, topic: Topic, bytes: &[u8], now: Instant) -> Attempt {
        let hash = self.hash(topic);
        match self.swarm.behaviour_mut().gossip.publish(hash.clone(), bytes) {
            Ok(_) => {
                self.counters.sent += 1;
                self.counters.bytes_out += bytes.len() as u64;
            }
            Err(gossipsub::PublishError::Duplicate) => self.counters.duplicates += 1,
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => return Attempt::Nobody,
            Err(gossipsub::PublishError::AllQueuesFull(_)) => {
                let full = self.retries.push(behaviour::message_id(&hash, bytes), now);
                self.drops.count(DropReason::QueuesFull, full);
            }
            Err(_) => self.drops.count(DropReason::PublishFailed, 1),
        }
        Attempt::Done
    }

    fn hash(&self, topic: Topic) -> TopicHash {
        let [first, ..] = &self.topics;
        let (_, hash) = self.topics.iter().find(|(known, _)| *known == topic).unwrap_or(first);
        hash.clone()
    }

    fn offer_outbox(&mut self, now: Instant) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.offer(|topic, bytes| self.offer(topic, bytes, now));
        self.outbox = outbox;
    }

    fn retry_due(&mut self, now: Instant) {
        let own = *self.swarm.local_peer_id();
        for (id, first) in self.retries.due(now, self.config.link_queue_messages / 2) {
            self.counters.retried += 1;
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            // A verdict on an own message passes it on to the mesh again; those who have it drop it.
            let known = gossip.report_message_validation_result(&id, &own, MessageAcceptance::Accept);
            if first && !known {
                self.drops.count(DropReason::QueuesFull, 1);
            }
        }
    }

    /// Only neighbours in the mesh owe messages: whether others send theirs to everybody depends on how large they took
    /// the swarm to be.
    fn close_silent(&mut self, now: Instant) {
        let presence = self.hash(Topic::Presence);
        let neighbours: Vec<PeerId> = self.swarm.behaviour().gossip.mesh_peers(&presence).copied().collect();
        let transfers = self.transfers.peers();
        let expected = |peer: &PeerId| neighbours.contains(peer) && !transfers.contains(peer);
        let silent = self.links.silent(now, self.config.silence, expected);
        for peer in silent {
            self.counters.silent_links += 1;
            self.close(&peer, "nothing was heard of it although it is connected");
        }
        for peer in self.links.anonymous(now) {
            let until = self.bans.stranger(peer, now);
            self.refuse(peer, until, "it did not say which swarm it belongs to".to_string());
        }
    }

    fn ban_offenders(&mut self, now: Instant) {
        for peer in self.links.ids() {
            let score = self.swarm.behaviour().gossip.peer_score(&peer);
            if score.is_some_and(|score| score < behaviour::GRAYLIST) {
                self.ban(peer, now, "it sent too many invalid messages, or broke the rules of gossip");
            }
        }
    }

    pub(super) fn ban(&mut self, peer: PeerId, now: Instant, why: &str) {
        let until = self.bans.offender(peer, now);
        let minutes = (until - now).as_secs() / 60;
        self.refuse(peer, until, format!("{why}; it is kept away for {minutes} minutes"));
    }

    fn close(&mut self, peer: &PeerId, why: &str) {
        if let Some(link) = self.links.get_mut(peer) {
            link.closing.get_or_insert_with(|| why.to_string());
        }
        // An error means that it is gone already.
        let _ = self.swarm.disconnect_peer_id(*peer);
    }

    /// Turns a peer away and tells the caller, once: while it is blocked it cannot come back.
    fn refuse(&mut self, peer: PeerId, until: Instant, why: String) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.closing.get_or_insert_with(|| why.clone());
            link.refused = true;
        }
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        // Bans are lifted tick by tick.
        self.targets.postpone(&peer, until + limits::TICK);
        self.counters.refused += 1;
        let peer = peer_key(&peer);
        let name = peer.map_or("a peer".to_string(), |peer| peer.name());
        self.events.push_back(NetEvent::Refused { peer, why: format!("{name} is turned away: {why}") });
    }
}

/// TCP and QUIC, names looked up, and ways through relay points.
fn build(
    keypair: Keypair,
    swarm: &SwarmId,
    config: &NetConfig,
    streams: Streams,
) -> Result<libp2p::Swarm<Behaviour>, Box<dyn std::error::Error>> {
    #[cfg(test)]
    if let Some(weather) = config.weather {
        return super::tests::weather::build(keypair, swarm, config, streams, weather);
    }
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_dns()?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair, relay| Ok(Behaviour::new(keypair, swarm, config, relay, streams)?))?
        .with_swarm_config(|settings| settings.with_idle_connection_timeout(limits::IDLE_FOR))
        .build();
    Ok(swarm)
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({}, {} peers)", self.swarm.local_peer_id(), self.links.proved().len())
    }
}

#[cfg(test)]
impl Network {
    /// Publishes without any check of our own.
    pub(super) fn smuggle(&mut self, topic: Topic, bytes: Vec<u8>) {
        let hash = self.hash(topic);
        self.swarm.behaviour_mut().gossip.publish(hash, bytes).unwrap();
    }

    /// The same, whether or not anybody listens.
    pub(super) fn shout(&mut self, topic: Topic, bytes: Vec<u8>) {
        let hash = self.hash(topic);
        let _ = self.swarm.behaviour_mut().gossip.publish(hash, bytes);
    }

    /// Whether so many peers listen to all our topics.
    pub(super) fn has_listeners(&self, peers: usize) -> bool {
        let everything = |(_, topics): &(&PeerId, Vec<&TopicHash>)| topics.len() == Topic::ALL.len();
        self.swarm.behaviour().gossip.all_peers().filter(everything).count() == peers
    }
}
