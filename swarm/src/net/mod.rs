//! The swarm on real wires: a thin adapter around libp2p.
//!
//! It carries bytes and knows nothing of rounds. Messages are gossiped on four topics to everybody in the swarm;
//! requests go to one peer; blobs are fetched in parts from whoever has them. Each message received for the first time waits for a verdict before it travels on.
//! Whatever cannot be delivered is counted and told; there is no silent path. All limits are in [`limits`].
//!
//! What gossip leaves open, and what this adapter does about it:
//! * Publishing while nobody listens is an error of gossip: such messages wait in an outbox.
//! * The very same bytes travel once in [`limits::DUPLICATES_FOR`]: publishing them again is counted, not sent. Who
//!   comes later must ask (a request), not wait for a repetition.
//! * A gossip stream can die while its connection lives: a link that stays silent is closed and dialled again.
//! * A second process may listen on a busy port without an error (the transport shares ports): the port is probed
//!   first.
//!
//! Reading order: [`event`](NetEvent) (what the caller sees), `network` (the loop), `behaviour` (protocols and
//! their settings), `targets` (whom to dial), `outbox`, `blobs`.

mod address;
mod bans;
mod behaviour;
mod blobs;
mod book;
mod bucket;
mod caps;
mod codec;
mod conduct;
mod drops;
mod event;
mod forwards;
mod key;
pub mod limits;
mod links;
mod listen;
mod network;
mod outbox;
mod quota;
mod reach;
pub mod relay;
mod streams;
mod targets;
#[cfg(test)]
mod tests;
mod transfer;

use std::time::Duration;

use judge::PeerKey;

pub use crate::engine::Verdict;
pub use address::sockets;
pub use book::{Banned, Book, Known};
pub use event::{ChannelToken, DropReason, LinkInfo, MessageToken, NetCounters, NetEvent, RequestToken};
pub use key::{peer_id, peer_key};
pub use listen::can_listen;
pub use network::Network;
pub use transfer::{Download, DownloadError, Progress, Share, Target, TransferConfig};

use crate::topic::Topic;

/// How a peer takes part in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConfig {
    /// Addresses to listen on, as `/ip4/0.0.0.0/tcp/4001`, `/ip4/0.0.0.0/udp/4001/quic-v1` or `0.0.0.0:4001` (TCP);
    /// port 0 takes any free one. With none the peer only dials.
    pub listen: Vec<String>,
    /// Addresses of peers or relay points to meet first, in the same forms or with a name for the IP address, with or
    /// without `/p2p/<id>`.
    pub bootstrap: Vec<String>,
    /// Most connections. Now and then a peer has two.
    pub peers_max: usize,
    /// Size of the swarm, roughly: up to 16 everything goes to everybody at once, beyond that along a mesh.
    pub peers_expected: usize,
    /// A subscribed peer silent for this long is disconnected and dialled again.
    pub silence: Duration,
    /// Whether peers on the same local network are looked for, by multicast DNS.
    pub lan: bool,
    /// Messages that may wait on one link.
    pub link_queue_messages: usize,
    /// How much goes into blobs.
    pub blobs: BlobConfig,
    /// How much goes into contents too large for memory.
    pub transfers: TransferConfig,
    /// What streams suffer.
    #[cfg(test)]
    pub(crate) weather: Option<tests::weather::Weather>,
}

/// How much of the link goes into blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobConfig {
    /// Bytes a second with one peer, each way.
    pub peer_bytes_per_s: u64,
    /// Bytes a second served in all.
    pub bytes_per_s: u64,
    /// How long a part of a blob may take.
    pub part_within: Duration,
    /// A server's pause after every kilobyte.
    #[cfg(test)]
    pub(crate) drip: Option<Duration>,
}

impl Default for BlobConfig {
    fn default() -> Self {
        Self {
            peer_bytes_per_s: limits::BLOB_PEER_BYTES_PER_S,
            bytes_per_s: limits::BLOB_BYTES_PER_S,
            part_within: limits::BLOB_PART_WITHIN,
            #[cfg(test)]
            drip: None,
        }
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_string()],
            bootstrap: Vec::new(),
            peers_max: limits::CONNECTIONS_MAX,
            peers_expected: 8,
            silence: limits::SILENCE,
            lan: false,
            link_queue_messages: limits::LINK_QUEUE_MESSAGES_MAX,
            blobs: BlobConfig::default(),
            transfers: TransferConfig::default(),
            #[cfg(test)]
            weather: None,
        }
    }
}

impl NetConfig {
    /// Of one who asks before it takes part: it meets these, and nobody is to meet it.
    pub fn dials_only(bootstrap: &[String]) -> Self {
        Self { listen: Vec::new(), bootstrap: bootstrap.to_vec(), ..Self::default() }
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address cannot be used.
    #[error("address {address:?}: {why}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it, and a hint.
        why: String,
    },
    /// Listening failed.
    #[error("cannot listen on {address}: {why}; hint: {hint}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// The configuration asks for something impossible.
    #[error("network configuration: {0}")]
    Config(String),
}

/// Why a message is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Larger than its topic allows.
    #[error("a message of {bytes} bytes is too large for the topic {topic:?}: at most {max}")]
    TooLarge {
        /// The topic.
        topic: Topic,
        /// The message's size.
        bytes: usize,
        /// The topic's limit.
        max: usize,
    },
}

/// Why a request or a response is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than allowed.
    #[error("{bytes} bytes are too many: at most {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The peer is not connected.
    #[error("{0} is not connected")]
    NotConnected(PeerKey),
    /// Too many requests wait for an answer.
    #[error("{0} requests wait for an answer already")]
    TooMany(usize),
    /// The asking side has gone or no longer waits.
    #[error("nobody waits for this response any more")]
    Gone,
}
