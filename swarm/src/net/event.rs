//! What the network tells its caller, and the tokens with which the caller answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use judge::PeerKey;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use libp2p::request_response::ResponseChannel;
use serde::Serialize;

use crate::blob::Address;
use crate::topic::Topic;

/// Something that happened.
#[derive(Debug)]
pub enum NetEvent {
    /// A message, seen for the first time. Give it a verdict soon: it travels on only after that, and not at all
    /// when the verdict takes longer than a few seconds.
    Message {
        /// For [`Network::verdict`](super::Network::verdict).
        token: MessageToken,
        /// Its topic.
        topic: Topic,
        /// Its bytes, at most [`Topic::bytes_max`].
        bytes: Vec<u8>,
        /// The peer that passed it on, who need not be its author.
        from: PeerKey,
    },
    /// A peer of this swarm is connected; told once, however many connections there are.
    Connected(PeerKey),
    /// The last connection to a peer is gone. It will be dialled again.
    Disconnected {
        /// The peer.
        peer: PeerKey,
        /// Why, in words.
        why: String,
    },
    /// A peer asks.
    Request {
        /// Who.
        from: PeerKey,
        /// What, at most [`REQUEST_BYTES_MAX`](super::limits::REQUEST_BYTES_MAX).
        bytes: Vec<u8>,
        /// For [`Network::respond`](super::Network::respond). Dropping it refuses: the other side hears at once.
        channel: ChannelToken,
    },
    /// The answer to a request.
    Response {
        /// Who answered.
        from: PeerKey,
        /// The request.
        request: RequestToken,
        /// The answer, at most [`RESPONSE_BYTES_MAX`](super::limits::RESPONSE_BYTES_MAX).
        bytes: Vec<u8>,
    },
    /// A request will not be answered.
    RequestFailed {
        /// Who was asked.
        to: PeerKey,
        /// The request.
        request: RequestToken,
        /// Why, in words.
        why: String,
    },
    /// A blob is here.
    Fetched {
        /// Its name.
        blob: Address,
        /// All its bytes.
        bytes: Vec<u8>,
    },
    /// A blob will not come.
    FetchFailed {
        /// Its name.
        blob: Address,
        /// Why, in words.
        why: &'static str,
    },
    /// This peer can be reached at an address.
    Listening(String),
    /// What the caller gets from [`Network::listen_addresses`](super::Network::listen_addresses) has changed.
    Addresses,
    /// Something about being reached from outside, in words.
    Reach(String),
    /// A configured address could not be reached; it is tried again.
    Unreachable {
        /// The address.
        address: String,
        /// Why, in words.
        why: String,
        /// How often in a row.
        attempts: u32,
    },
    /// A peer was turned away.
    Refused {
        /// Who, where its key is one of ours in kind.
        peer: Option<PeerKey>,
        /// Why, in words, with what to do about it.
        why: String,
    },
    /// Something was lost; told at most once in a few seconds for each reason.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many since this was told last.
        count: u64,
    },
}

/// Names a received message. Used up by its verdict.
#[derive(Debug)]
#[must_use = "a message without a verdict does not travel on"]
pub struct MessageToken {
    pub(super) id: MessageId,
    pub(super) from: PeerId,
    pub(super) topic: Topic,
    pub(super) bytes: usize,
}

/// Names a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(pub(super) u64);

/// The right to answer one request.
#[derive(Debug)]
pub struct ChannelToken(pub(super) ResponseChannel<Vec<u8>>);

/// Why something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Too many own messages waited for somebody to subscribe.
    OutboxFull,
    /// An own message waited too long for somebody to subscribe.
    OutboxExpired,
    /// An own message met only full queues, also when offered again.
    QueuesFull,
    /// Gossipsub refused an own message for another reason.
    PublishFailed,
    /// One link was too slow for what was queued on it.
    SlowPeer,
    /// A received message was larger than its topic allows.
    Oversize,
    /// A link brought more messages of no use than its share; they were not read.
    LinkQuota,
    /// A received message came from a peer without an ed25519 key.
    ForeignKey,
    /// A verdict came too late to pass the message on.
    LateVerdict,
    /// A request of another peer could not be read or answered.
    RequestFailed,
    /// A peer asked more often than its share; it was refused.
    RequestQuota,
    /// A connection was refused because there are enough.
    TooManyConnections,
    /// A connection was refused because there are enough from its address or range of addresses.
    TooManyFromThere,
    /// A peer's addresses were not kept because there are enough, or they make no sense.
    Address,
    /// A peer asked for more of blobs than its share, or than there is for all; it was told to wait.
    BlobBusy,
    /// A peer that was asked for a part of a blob did not give it in time.
    BlobHolder,
    /// A peer gave other bytes than those of the blob it was asked for.
    BlobLie,
    /// There was no room to keep a blob for others.
    BlobNotKept,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::OutboxFull,
        Self::OutboxExpired,
        Self::QueuesFull,
        Self::PublishFailed,
        Self::SlowPeer,
        Self::Oversize,
        Self::LinkQuota,
        Self::ForeignKey,
        Self::LateVerdict,
        Self::RequestFailed,
        Self::RequestQuota,
        Self::TooManyConnections,
        Self::TooManyFromThere,
        Self::Address,
        Self::BlobBusy,
        Self::BlobHolder,
        Self::BlobLie,
        Self::BlobNotKept,
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutboxFull => {
                "too many messages wait for a first listener; hint: is anybody else in the swarm?"
            }
            Self::OutboxExpired => {
                "nobody listened to a message in time; hint: is anybody else in the swarm?"
            }
            Self::QueuesFull => {
                "the queues of all peers were full; hint: the uplink is too slow for this swarm"
            }
            Self::PublishFailed => "gossip refused an own message; hint: this is a bug, please report it",
            Self::SlowPeer => "a peer takes messages too slowly; it asks for what it misses",
            Self::Oversize => "a message was larger than its topic allows; who sent it is marked down",
            Self::LinkQuota => {
                "a peer sends more than its share of messages that lead nowhere; the rest is not read"
            }
            Self::ForeignKey => "a message came from a peer whose key is not ed25519",
            Self::LateVerdict => {
                "a message was judged too late to be passed on; hint: this computer is overloaded"
            }
            Self::RequestFailed => "a peer's request could not be read or answered",
            Self::RequestQuota => "a peer asks more often than its share and is refused",
            Self::TooManyConnections => "a connection was refused: there are enough",
            Self::TooManyFromThere => {
                "a connection was refused: there are enough from its address or range of addresses"
            }
            Self::Address => "addresses of a peer were not kept: too many, or not usable",
            Self::BlobBusy => {
                "a peer asked for more of long answers or policies than its share and has to wait"
            }
            Self::BlobHolder => {
                "a peer did not give its part of a long answer or policy in time; another one is asked"
            }
            Self::BlobLie => "a peer gave wrong bytes for a long answer or policy; another one is asked",
            Self::BlobNotKept => {
                "there is no room to keep a long answer or a pack for others; they ask other peers"
            }
        })
    }
}

/// A connected peer of the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Who.
    pub peer: PeerKey,
    /// The newest round trip of a ping; `None` before the first.
    pub rtt: Option<Duration>,
    /// Whether every connection with it goes through a relay point.
    pub relayed: bool,
    /// Gossip that this peer was the first to bring, in messages.
    pub messages_first: u64,
    /// The same in bytes.
    pub bytes_first: u64,
    /// How long it has been connected.
    pub connected_for: Duration,
}

/// What went through, in messages of the swarm (not in packets of the wire).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetCounters {
    /// Own messages handed to gossip.
    pub sent: u64,
    /// Their bytes, each counted once however many peers got it.
    pub bytes_out: u64,
    /// Messages received for the first time.
    pub received: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Own messages not sent because the very same bytes were sent before.
    pub duplicates: u64,
    /// Own presence messages that a newer one replaced before anybody listened.
    pub superseded: u64,
    /// Own messages offered again because queues were full.
    pub retried: u64,
    /// Messages accepted and passed on.
    pub accepted: u64,
    /// Messages not passed on, without blame.
    pub ignored: u64,
    /// Messages rejected, with blame.
    pub rejected: u64,
    /// Requests sent.
    pub requests_out: u64,
    /// Requests received.
    pub requests_in: u64,
    /// Parts of blobs received.
    pub blob_parts_in: u64,
    /// Their bytes.
    pub blob_bytes_in: u64,
    /// Parts of blobs served.
    pub blob_parts_out: u64,
    /// Their bytes.
    pub blob_bytes_out: u64,
    /// Requests for parts of blobs that are not here.
    pub blob_absent: u64,
    /// Bytes of contents downloaded into files.
    pub transfer_bytes_in: u64,
    /// Bytes of contents served from files.
    pub transfer_bytes_out: u64,
    /// Links closed because nothing was heard on them.
    pub silent_links: u64,
    /// Relayed connections that a direct one replaced.
    pub punched: u64,
    /// Peers turned away.
    pub refused: u64,
    /// Losses by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}
