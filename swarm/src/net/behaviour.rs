//! The libp2p protocols of one peer and their settings, each with its reason.
//!
//! Measurements behind the figures: wire traffic follows the mesh degree, and what is advertised besides (`growth` in
//! the examples: with 16 peers 6.5 times the payload at degree 4 to 8 with flooding, 2.7 at 3 to 4 without); peers
//! behind one address must not be marked down for it; a prefix for the gossip protocol would silently fall back to an
//! old version, so swarms are kept apart by topic names.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::gossipsub::{
    self, IdentTopic, MaxCountSubscriptionFilter, Message, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, allow_block_list, autonat, connection_limits, dcutr, identify, mdns, ping, relay,
    rendezvous,
};

use super::codec::RawCodec;
use super::streams::Streams;
use super::{NetConfig, blobs, caps, limits};
use crate::topic::{SwarmId, Topic};

/// Only our topics, and few of them in one message.
pub(super) type Filter = MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>;
/// Gossip as composed here: payloads travel as they are.
pub(super) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, Filter>;

/// Peers below this score are not heard any more; they are disconnected and banned.
pub(super) const GRAYLIST: f64 = -80.0;

/// Offences against the rules of the mesh that cost nothing, with five topics and up to two offences at once in
/// each for a peer that starts again, twice in a row. They are forgotten within seconds.
const BEHAVIOUR_PENALTY_FREE: f64 = 4.0 * Topic::ALL.len() as f64;

/// All protocols of a peer. The first three only turn connections away, the last five are about being reached.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) caps: caps::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: Gossip,
    pub(super) requests: request_response::Behaviour<RawCodec>,
    pub(super) blobs: request_response::Behaviour<RawCodec>,
    pub(super) streams: Streams,
    /// Comes to be reached through relay points.
    pub(super) relay: relay::client::Behaviour,
    /// Replaces a relayed connection by a direct one.
    pub(super) punch: dcutr::Behaviour,
    /// Asks relay points whether an address of this peer can be dialled from outside.
    pub(super) probe: autonat::v2::client::Behaviour,
    /// Says at relay points that this peer is there, and asks who else is.
    pub(super) rendezvous: rendezvous::client::Behaviour,
    /// Finds peers on the same local network.
    pub(super) lan: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    /// All protocols of a peer of a swarm; `relay` is the half of the relay client that is not the transport.
    pub(super) fn new(
        keypair: &Keypair,
        swarm: &SwarmId,
        config: &NetConfig,
        relay: relay::client::Behaviour,
        streams: Streams,
    ) -> Result<Self, String> {
        let own = keypair.public().to_peer_id();
        let identify = identify(protocol_version(swarm), keypair).with_push_listen_addr_updates(true);
        let codec = RawCodec {
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            response_bytes_max: limits::RESPONSE_BYTES_MAX,
            #[cfg(test)]
            drip: None,
        };
        let protocol = StreamProtocol::try_from_owned(format!("/murmur/{}/request/1", swarm.short()))
            .map_err(|error| error.to_string())?;
        let requests = request_response::Config::default()
            .with_request_timeout(limits::REQUEST_WITHIN)
            .with_max_concurrent_streams(limits::REQUEST_STREAMS_MAX);
        let lan = match config.lan {
            true => Some(
                mdns::tokio::Behaviour::new(mdns::Config::default(), own)
                    .map_err(|error| format!("cannot look for peers on the local network: {error}"))?,
            ),
            false => None,
        };
        Ok(Self {
            limits: connection_limits(config.peers_max),
            caps: caps::Behaviour::new(limits::INBOUND_PER_IP_MAX, limits::INBOUND_PER_RANGE_MAX),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping(),
            gossip: gossip(swarm, config)?,
            requests: request_response::Behaviour::with_codec(
                codec,
                [(protocol, ProtocolSupport::Full)],
                requests,
            ),
            blobs: blobs::behaviour(swarm, &config.blobs)?,
            streams,
            relay,
            punch: dcutr::Behaviour::new(own),
            probe: autonat::v2::client::Behaviour::default(),
            rendezvous: rendezvous::client::Behaviour::new(keypair.clone()),
            lan: lan.into(),
        })
    }
}

/// What this program says of itself, as a peer or a relay point.
pub(super) fn identify(protocol_version: String, keypair: &Keypair) -> identify::Config {
    identify::Config::new(protocol_version, keypair.public())
        .with_agent_version(concat!("murmur/", env!("CARGO_PKG_VERSION")).to_string())
        // Addresses are remembered by the adapter, with bounds of its own.
        .with_cache_size(0)
}

/// Shows that links live, and how long a round trip takes.
pub(super) fn ping() -> ping::Behaviour {
    ping::Behaviour::new(
        ping::Config::new().with_interval(limits::PING_EVERY).with_timeout(limits::PING_WITHIN),
    )
}

/// Bounds on connections, so many in all.
pub(super) fn connection_limits(connections: usize) -> connection_limits::Behaviour {
    let established = u32::try_from(connections).unwrap_or(u32::MAX);
    let inbound = established.saturating_mul(limits::INBOUND_PARTS).div_ceil(limits::INBOUND_OF);
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::PENDING_MAX))
        .with_max_pending_outgoing(Some(limits::PENDING_MAX))
        .with_max_established_incoming(Some(inbound))
        .with_max_established(Some(established))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER_MAX));
    connection_limits::Behaviour::new(limits)
}

/// What identify says about us; peers that say otherwise belong to another swarm.
pub(super) fn protocol_version(swarm: &SwarmId) -> String {
    format!("murmur/1/{}", digits(swarm))
}

/// The first 32 hexadecimal digits of a swarm's id.
pub(super) fn digits(swarm: &SwarmId) -> String {
    swarm.0[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Equal bytes on one topic are one message, whoever sends them: a replay is a duplicate.
pub(super) fn message_id(topic: &TopicHash, data: &[u8]) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(topic.as_str().as_bytes()).update(data);
    MessageId::new(&hasher.finalize().as_bytes()[..limits::MESSAGE_ID_BYTES])
}

/// Mesh degree (wanted, low, high, dialled by us) for a swarm of this size.
fn mesh(peers: usize) -> (usize, usize, usize, usize) {
    match peers {
        0..=100 => (3, 2, 4, 1),
        _ => (6, 4, 10, 2),
    }
}

fn gossip(swarm: &SwarmId, config: &NetConfig) -> Result<Gossip, String> {
    let (wanted, low, high, outbound) = mesh(config.peers_expected);
    let settings = gossipsub::ConfigBuilder::default()
        // The envelope inside carries the only signature; the engine checks it once, after duplicates are gone.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| message_id(&message.topic, &message.data))
        .max_transmit_size(limits::MESSAGE_BYTES_MAX + limits::TRANSMIT_MARGIN_BYTES)
        .mesh_n(wanted)
        .mesh_n_low(low)
        .mesh_n_high(high)
        .mesh_outbound_min(outbound)
        .flood_publish(config.peers_expected <= limits::FLOOD_PEERS_MAX)
        .heartbeat_interval(limits::GOSSIP_HEARTBEAT)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(limits::GOSSIP_HISTORY)
        .history_gossip(limits::GOSSIP_ADVERTISED)
        .gossip_lazy(limits::GOSSIP_LAZY)
        .gossip_factor(0.0)
        .max_control_messages_sent(limits::GOSSIP_NAMES_MAX)
        .max_control_message_size(limits::GOSSIP_CONTROL_BYTES_MAX)
        .duplicate_cache_time(limits::DUPLICATES_FOR)
        .connection_handler_queue_len(config.link_queue_messages)
        .publish_queue_duration(limits::PUBLISH_QUEUE_FOR)
        .forward_queue_duration(limits::FORWARD_QUEUE_FOR)
        .idontwant_message_size_threshold(limits::IDONTWANT_BYTES_MIN)
        .build()
        .map_err(|error| error.to_string())?;
    let topics: Vec<IdentTopic> = Topic::ALL.iter().map(|topic| IdentTopic::new(topic.name(swarm))).collect();
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.iter().map(IdentTopic::hash).collect::<HashSet<_>>()),
        max_subscribed_topics: topics.len(),
        max_subscriptions_per_request: limits::SUBSCRIPTIONS_MAX,
    };
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, settings, filter)?;
    let (params, thresholds) = scores(&topics);
    gossip.with_peer_score(params, thresholds)?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(|error| error.to_string())?;
    }
    Ok(gossip)
}

/// Invalid messages cost, slowly forgotten; being first with valid ones earns a little. What would punish honest
/// peers on quiet or bursty topics (delivery quotas) or behind one address is switched off.
fn scores(topics: &[IdentTopic]) -> (PeerScoreParams, PeerScoreThresholds) {
    let second = Duration::from_secs(1);
    let decay = |seconds| gossipsub::score_parameter_decay(Duration::from_secs(seconds));
    let of_topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: second,
        time_in_mesh_cap: 600.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.97,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: decay(600),
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: topics.iter().map(|topic| (topic.hash(), of_topic.clone())).collect::<HashMap<_, _>>(),
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        // A peer that starts again joins meshes that it was asked to stay out of: it cannot know.
        behaviour_penalty_threshold: BEHAVIOUR_PENALTY_FREE,
        slow_peer_weight: -0.2,
        slow_peer_threshold: 20.0,
        decay_interval: second,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -20.0,
        publish_threshold: -40.0,
        graylist_threshold: GRAYLIST,
        accept_px_threshold: 10.0,
        opportunistic_graft_threshold: 1.0,
    };
    (params, thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_valid_for_every_swarm_size_and_leave_room_for_the_largest_message() {
        let largest = Topic::ALL.iter().map(|topic| topic.bytes_max()).max();
        assert_eq!(largest, Some(limits::MESSAGE_BYTES_MAX));
        let swarm = SwarmId([1; 32]);
        for peers_expected in [0, 1, 2, 8, 9, 16, 17, 100, 101, 1000] {
            let config = NetConfig { peers_expected, ..NetConfig::default() };
            gossip(&swarm, &config).unwrap();
        }
    }

    #[test]
    fn equal_bytes_are_one_message_and_topics_are_apart() {
        let [a, b] = ["a", "b"].map(TopicHash::from_raw);
        assert_eq!(message_id(&a, b"x"), message_id(&a, b"x"));
        assert_ne!(message_id(&a, b"x"), message_id(&b, b"x"));
    }
}
