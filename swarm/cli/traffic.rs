//! How a peer's network stands, as `network.json` says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use swarm::net::Network;

/// `network.json`. Counts are of messages of the swarm since the process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Traffic {
    /// Where others can dial this peer.
    pub(crate) listening: Vec<String>,
    pub(crate) sent: u64,
    pub(crate) bytes_out: u64,
    pub(crate) received: u64,
    pub(crate) bytes_in: u64,
    pub(crate) accepted: u64,
    pub(crate) ignored: u64,
    pub(crate) rejected: u64,
    /// Requests of this peer and of others, for what one missed.
    pub(crate) requests_out: u64,
    pub(crate) requests_in: u64,
    /// Weights and long answers.
    pub(crate) blob_bytes_in: u64,
    pub(crate) blob_bytes_out: u64,
    pub(crate) silent_links: u64,
    /// Losses by reason, in words.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// By name.
    pub(crate) links: BTreeMap<String, LinkRecord>,
}

/// A connected peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkRecord {
    /// Newest round trip of a ping in milliseconds.
    pub(crate) rtt_ms: Option<f64>,
    /// Whether it is reached through a relay point only.
    pub(crate) relayed: bool,
    /// Gossip that this peer was the first to bring.
    pub(crate) messages_first: u64,
    pub(crate) bytes_first: u64,
    pub(crate) connected_s: u64,
}

impl Traffic {
    /// How a network stands.
    pub(crate) fn of(network: &Network) -> Self {
        let counters = network.counters();
        let link = |link: swarm::net::LinkInfo| {
            let record = LinkRecord {
                rtt_ms: link.rtt.map(|rtt| rtt.as_micros() as f64 / 1000.0),
                relayed: link.relayed,
                messages_first: link.messages_first,
                bytes_first: link.bytes_first,
                connected_s: link.connected_for.as_secs(),
            };
            (link.peer.name(), record)
        };
        Self {
            listening: network.listen_addresses(),
            sent: counters.sent,
            bytes_out: counters.bytes_out,
            received: counters.received,
            bytes_in: counters.bytes_in,
            accepted: counters.accepted,
            ignored: counters.ignored,
            rejected: counters.rejected,
            requests_out: counters.requests_out,
            requests_in: counters.requests_in,
            blob_bytes_in: counters.blob_bytes_in,
            blob_bytes_out: counters.blob_bytes_out,
            silent_links: counters.silent_links,
            dropped: counters.dropped.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            links: network.links().into_iter().map(link).collect(),
        }
    }
}
