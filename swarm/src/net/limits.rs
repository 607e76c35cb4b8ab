//! Every bound of the network adapter in one place, each with what happens when it is reached.
//!
//! A limit that a peer's own traffic meets is counted and told as [`NetEvent::Dropped`](super::NetEvent::Dropped);
//! a limit that the caller meets is an error of the call.

use std::time::Duration;

use crate::blob::{CHUNK_BYTES, OUTLINE_BYTES_MAX};

/// Bytes of the largest gossiped message of any topic; a larger one is an error to the publisher and rejected on
/// receipt. Topics have smaller limits of their own.
pub const MESSAGE_BYTES_MAX: usize = crate::limits::PROOF_BYTES_MAX;
/// Room that gossipsub's own limit leaves above the largest message. Its codec compares everything read so far,
/// the beginning of the next message included, with the limit, and closes the stream without telling anybody;
/// without this room a burst of large messages silences a link for good.
pub const TRANSMIT_MARGIN_BYTES: usize = 32 * 1024;
/// Bytes of a request; a larger one is refused before it is sent and never read in full.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a response; as for requests.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// Requests that wait for an answer; one more is an error of the call.
pub const REQUESTS_MAX: usize = 64;
/// Requests and responses at once on one connection; further ones fail on the asking side.
pub const REQUEST_STREAMS_MAX: usize = 16;
/// How long a request may take.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a request for a part of a blob; a longer one is never read in full.
pub const BLOB_REQUEST_BYTES_MAX: usize = 128;
/// Bytes of the answer: the largest part and what is around it.
pub const BLOB_ANSWER_BYTES_MAX: usize = CHUNK_BYTES + 64;
/// What a request counts for besides the bytes it gets, so that asking for nothing is not free.
pub const BLOB_REQUEST_COST: usize = 1024;
/// How long a part may take; then another holder is asked. At 64 KiB a part and 16 parts at once this asks for an
/// uplink of about 1.7 Mbit/s.
pub const BLOB_PART_WITHIN: Duration = Duration::from_secs(5);
/// Parts under way with one peer, each way; asking waits, serving answers "busy".
pub const BLOB_STREAMS_PER_PEER_MAX: usize = 4;
/// Parts under way in all, each way. Few, so that those who are served soon serve the others.
pub const BLOB_STREAMS_MAX: usize = 16;
/// Streams of blobs on one connection, both ways together, with room for answers of "busy"; more fail at the asker.
pub const BLOB_STREAMS_PER_LINK_MAX: usize = 4 * BLOB_STREAMS_PER_PEER_MAX;
/// Bytes a second of blobs with one peer, each way; two seconds' worth may go at once.
pub const BLOB_PEER_BYTES_PER_S: u64 = 16 * 1024 * 1024;
/// Bytes a second of blobs served in all.
pub const BLOB_BYTES_PER_S: u64 = 64 * 1024 * 1024;
/// Bytes of blobs kept to be served; what does not fit is not kept.
pub const BLOB_STORE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes among them of blobs kept as long as the peer runs (task packs); what does not fit is not kept.
pub const BLOB_PINNED_BYTES_MAX: usize = BLOB_STORE_BYTES_MAX / 4;
/// Blobs fetched at once. Failed ones that wait make room; then one more fails.
pub const FETCHES_MAX: usize = 2 * crate::limits::FETCHES_MAX;
/// Bytes of those blobs.
pub const FETCHES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Holders remembered of one blob.
pub const BLOB_HOLDERS_MAX: usize = 2 * crate::limits::HOLDERS_MAX;
/// A fetch fails when nothing of it arrived for this long; what is here of it waits for another attempt.
pub const FETCH_STALLS: Duration = Duration::from_secs(6);
/// A part under way for this long is asked of a second holder when no other part is left to ask for.
pub const BLOB_PART_DOUBTED_AFTER: Duration = Duration::from_secs(1);
/// A holder that does not have the blob is not asked for it again for this long; each time in a row doubles it.
pub const HOLDER_RESTS: Duration = Duration::from_millis(300);
/// Longest such rest: shorter than a fetch may stand still.
pub const HOLDER_RESTS_MAX: Duration = Duration::from_secs(3);
/// A holder that did not answer, or too slowly, is not asked for the blob again for this long.
pub const HOLDER_FAILED_RESTS: Duration = Duration::from_secs(2);
/// Shortest pause that a "busy" holder gets.
pub const BUSY_MIN: Duration = Duration::from_millis(50);
/// Longest pause that a "busy" holder can ask for.
pub const BUSY_MAX: Duration = Duration::from_secs(5);
/// Blobs with wrong bytes from one peer, after which it is kept away like one that sends invalid messages.
pub const BLOB_LIES_MAX: u32 = 3;
/// What a peer's wrongs beside gossip take from its score at most: too little to ban it.
pub const CONDUCT_POINTS_MAX: f64 = 70.0;
/// A smaller rest is forgiven.
pub const CONDUCT_POINTS_MIN: f64 = 0.5;
/// In this time half of it is forgiven.
pub const CONDUCT_HALVES: Duration = Duration::from_secs(600);
const _: () = assert!(OUTLINE_BYTES_MAX <= CHUNK_BYTES, "an outline is a part like any other");

/// Streams that wait to be opened, or to be taken by whoever serves; one more waits here and is reset there.
pub const STREAMS_WAITING_MAX: usize = 16;
/// How long a stream may take to open.
pub const STREAM_OPENS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request on a stream; a longer one ends the stream.
pub const RANGE_REQUEST_BYTES_MAX: usize = 128;
/// Streams served at once; one more is reset, and its opener comes again.
pub const UPLOADS_MAX: usize = 8;
/// Streams served at once to one peer.
pub const UPLOADS_PER_PEER_MAX: usize = 2;
/// Streams open at once of one download, over all of its sources.
pub const DOWNLOAD_STREAMS_MAX: usize = 8;
/// Chunks that one request may ask for; more end the stream.
pub const RUN_CHUNKS_MAX: u32 = 8;
/// Bytes a second served on streams in all, unless configured: about a third of a fast uplink at home, so that gossip
/// keeps its share.
pub const UPLOAD_BYTES_PER_S: u64 = 4 * 1024 * 1024;
/// Bytes that are written to a stream at once: rates are kept to this grain.
pub const UPLOAD_SLICE_BYTES: usize = 64 * 1024;
/// How long an idle stream is kept open for another request.
pub const UPLOAD_IDLE: Duration = Duration::from_secs(15);
/// How long a chunk may take: 35 kB/s. Then the stream is given up and the source rests.
pub const CHUNK_WITHIN: Duration = Duration::from_secs(30);
/// A chunk under way for this long is asked of a second source that has nothing else to do.
pub const CHUNK_DOUBTED_AFTER: Duration = Duration::from_secs(1);
/// First rest of a source that failed or was too slow; it doubles.
pub const SOURCE_RESTS: Duration = Duration::from_millis(500);
/// Longest rest.
pub const SOURCE_RESTS_MAX: Duration = Duration::from_secs(30);
/// Sources of one download; further ones are not asked.
pub const SOURCES_MAX: usize = 16;
/// Contents that are served; one more takes the place of the one asked for least recently.
pub const SHARES_MAX: usize = 16;

/// Messages kept until somebody subscribes; the oldest goes first.
pub const OUTBOX_MESSAGES_MAX: usize = 1024;
/// Bytes of those messages.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long they are kept: later they would only be stale news to whoever connects.
pub const OUTBOX_FOR: Duration = Duration::from_secs(60);
/// Messages that met only full queues and are offered again; the oldest goes first.
pub const RETRIES_MAX: usize = 256;
/// How often each of them is offered. Nothing tells whether it got through; those who have it drop it.
pub const RETRY_TIMES: u32 = 2;
/// Time between two offers, of at most half a link's queue, so that they do not fill the queue again themselves.
pub const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Messages a second of one link that this peer has no use for, presence apart; two seconds' worth may come at
/// once, further ones are dropped unread. As many again, in the same way, and the link is closed for
/// [`STRANGER_FOR`]: short, since a peer that is behind has no use for much that honest peers pass on.
pub const LINK_MESSAGES_PER_S: u64 = 256;
/// Bytes a second of those messages, in the same way.
pub const LINK_BYTES_PER_S: u64 = 2 * 1024 * 1024;
/// Heartbeats a second of one link, useful or not: two of each peer of the largest roster.
pub const LINK_PRESENCE_PER_S: u64 = 2 * crate::limits::ROSTER_MAX as u64;
/// Requests a second of one link; further ones are refused. An honest peer asks somebody every 300 ms.
pub const LINK_REQUESTS_PER_S: u64 = 16;
/// Messages queued for one link; beyond it gossipsub drops and reports a slow peer.
pub const LINK_QUEUE_MESSAGES_MAX: usize = 512;
/// How long an own message may wait in such a queue.
pub const PUBLISH_QUEUE_FOR: Duration = Duration::from_secs(10);
/// How long a forwarded message may wait in such a queue.
pub const FORWARD_QUEUE_FOR: Duration = Duration::from_secs(5);
/// Gossipsub's heartbeat: mesh upkeep and gossip of what was missed.
pub const GOSSIP_HEARTBEAT: Duration = Duration::from_millis(700);
/// Heartbeats for which a message is kept for its verdict; a verdict after that forwards nothing.
pub const GOSSIP_HISTORY: usize = 12;
/// Heartbeats whose messages are advertised to peers outside the mesh.
pub const GOSSIP_ADVERTISED: usize = 4;
/// Peers outside the mesh that are told of those messages at each heartbeat. Few: each is told of at several
/// heartbeats, and with many peers what is told outweighs what is said.
pub const GOSSIP_LAZY: usize = 2;
/// Bytes of one message's name in gossip.
pub const MESSAGE_ID_BYTES: usize = 20;
/// Messages that one advertisement of gossip names; of more a random choice is named.
pub const GOSSIP_NAMES_MAX: usize = 2048;
/// Bytes of what gossip says about messages, at once. Who reads more closes the stream without telling anybody, and that
/// direction of the link is dead for good; libp2p's own defaults let one side name 5,000 and the other read 700.
pub const GOSSIP_CONTROL_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(GOSSIP_NAMES_MAX * (MESSAGE_ID_BYTES + 2) + 1024 < GOSSIP_CONTROL_BYTES_MAX);
/// How long a message is remembered, so that neither a replay nor a second publication of it travels.
pub const DUPLICATES_FOR: Duration = Duration::from_secs(300);
/// From this size on, peers tell each other which messages they need no more.
pub const IDONTWANT_BYTES_MIN: usize = 400;
/// Topics of one subscription message; more and it is ignored.
pub const SUBSCRIPTIONS_MAX: usize = 16;
/// Largest swarm in which authors send to every connected peer: each hop would cost every phase a link's latency.
pub const FLOOD_PEERS_MAX: usize = 16;
/// In such a swarm others pass large messages on after twice the longest round trip of their links, and after this time
/// at least: in it neighbours say what they have, once the author's copy has reached them.
pub const FORWARD_AFTER: Duration = Duration::from_millis(150);
/// And after this time at most, for whom the author does not reach.
pub const FORWARD_AFTER_MAX: Duration = Duration::from_millis(600);
/// Messages that wait for that; one more sends the oldest on its way.
pub const FORWARDS_MAX: usize = 1024;

/// Connections, unless the configuration says otherwise. Three quarters may be opened by others: as many as the largest
/// roster, since all newcomers may know one address only, and who is turned away there knows nobody.
pub const CONNECTIONS_MAX: usize = crate::limits::ROSTER_MAX * 3 / 2;
/// Connections being set up, each way; more are refused.
pub const PENDING_MAX: u32 = 16;
/// Connections to one peer. Two, because two peers may dial each other at the same moment: with one, each side could
/// refuse the other's and neither would stay. And as many again while a direct connection replaces a relayed one.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Of all connections, those that others may open, in parts of [`INBOUND_OF`]: who opens many cannot fill the place
/// that this peer needs for peers of its own choice.
pub const INBOUND_PARTS: u32 = 3;
/// See [`INBOUND_PARTS`].
pub const INBOUND_OF: u32 = 4;
/// Connections that may come from one IP address, which a household or a laboratory shares; more are refused.
pub const INBOUND_PER_IP_MAX: usize = 16;
/// Connections that may come from one range of addresses (/24 of IPv4, /48 of IPv6).
pub const INBOUND_PER_RANGE_MAX: usize = 32;
/// Connections among them of which nobody has said yet who it is. Far below [`PENDING_MAX`], which all who come share:
/// who opens connections and says nothing on them must not keep newcomers out.
pub const PENDING_PER_IP_MAX: usize = 4;
/// The same of one range of addresses.
pub const PENDING_PER_RANGE_MAX: usize = 8;
/// Learned addresses are dialled only while there are fewer connections than this; configured ones always.
pub const LINKS_WANTED: usize = 32;
/// Peers of one range of public addresses to which this peer opens connections by itself, configured ones apart: an
/// attacker with one network must not become all that a peer sees.
pub const OUTBOUND_PER_RANGE_MAX: usize = 4;
/// Peers whose addresses are remembered over a restart.
pub const BOOK_PEERS_MAX: usize = 256;
/// How long a new peer has to say which swarm it belongs to.
pub const IDENTIFY_WITHIN: Duration = Duration::from_secs(10);
/// How long a listening socket may take.
pub const LISTEN_WITHIN: Duration = Duration::from_secs(5);
/// Time between two pings of a link.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A ping unanswered for this long closes the connection.
pub const PING_WITHIN: Duration = Duration::from_secs(10);
/// A connection that nothing uses is closed after this long.
pub const IDLE_FOR: Duration = Duration::from_secs(300);
/// A subscribed peer that sends nothing for this long is disconnected and dialled again: its gossip stream may be
/// dead while the connection looks alive. Presence arrives about once a second.
pub const SILENCE: Duration = Duration::from_secs(15);
/// The patience doubles at most this often while the same peer stays silent.
pub const PATIENCE_DOUBLINGS_MAX: u32 = 4;

/// How often a peer says at a relay point that it is there, and asks who else is.
pub const RENDEZVOUS_EVERY: Duration = Duration::from_secs(30);
/// How long a relay point remembers that a peer is there, unless it says so again.
pub const RENDEZVOUS_FOR_S: u64 = 120;
/// Peers asked for at once.
pub const RENDEZVOUS_PEERS_MAX: u64 = 256;
/// Relay points used at once; further ones are only kept connected.
pub const RELAY_POINTS_MAX: usize = 4;

/// Configured addresses; more are an error.
pub const BOOTSTRAP_MAX: usize = 64;
/// Peers whose addresses are remembered; beyond it one that is not connected is forgotten.
pub const TARGETS_MAX: usize = 512;
/// Addresses kept of one peer, the first ones.
pub const ADDRESSES_MAX: usize = 8;
/// First pause before an address is dialled again; it doubles.
pub const REDIAL_FIRST: Duration = Duration::from_millis(250);
/// Longest such pause.
pub const REDIAL_MAX: Duration = Duration::from_secs(30);
/// How long hole punching has before a peer that is only reached through a relay point is dialled at its own addresses.
pub const DIRECT_AFTER: Duration = Duration::from_secs(5);
/// How long a relayed connection stays beside a direct one, so that both sides have seen that.
pub const RELAYED_BESIDE_DIRECT: Duration = Duration::from_secs(3);
/// Dials after which a learned address is forgotten; a configured one is tried for ever.
pub const REDIALS_MAX: u32 = 10;
/// Of two peers that learned of each other the one with the smaller key dials; the other waits this long first.
pub const DIAL_GRACE: Duration = Duration::from_secs(2);

/// A peer of another swarm, or one whose link brought too much, is kept away for this long.
pub const STRANGER_FOR: Duration = Duration::from_secs(10);
/// First ban of a peer that sent too many invalid messages; each further one is six times as long.
pub const BAN_FIRST: Duration = Duration::from_secs(600);
/// Longest ban.
pub const BAN_MAX: Duration = Duration::from_secs(12 * 3600);
/// Bans remembered; the one that ends first goes first.
pub const BANS_MAX: usize = 1024;

/// A reason for drops is told once in this time, with the number of drops since.
pub const DROPS_TOLD_EVERY: Duration = Duration::from_secs(5);
/// Longest time between two looks at silent links, old messages and ended bans.
pub const TICK: Duration = Duration::from_millis(500);
/// How long leaving waits, once nothing is queued here, for what gossipsub has queued.
pub const LINGER: Duration = Duration::from_millis(250);
