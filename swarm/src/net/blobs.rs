//! Blobs between peers: fetching them from whoever has them, and serving those that are kept.
//!
//! One request carries one part of at most [`CHUNK_BYTES`](crate::blob::CHUNK_BYTES), so a part has a deadline of its
//! own, a slow or dying holder costs no more than the parts under way, and memory is bounded by streams times parts.
//! Every bound that a peer meets is answered ("busy"), counted and told; a peer that gives wrong bytes is not asked
//! for that blob again, and kept away when it does so repeatedly.

mod fetches;

use std::collections::HashMap;
use std::time::Duration;

use judge::PeerKey;
use libp2p::request_response::{self, InboundRequestId, OutboundRequestId};
use libp2p::{PeerId, StreamProtocol};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use self::fetches::{Ask, Fetches, Outcome};
use super::bucket::{Bucket, Budgets, blob_bucket};
use super::codec::RawCodec;
use super::conduct::Wrong;
use super::event::{DropReason, NetEvent};
use super::key::peer_id;
use super::{BlobConfig, Network, limits};
use crate::blob::{Address, Blob, BlobAnswer, BlobRequest, Store};
use crate::topic::SwarmId;
use crate::wire;

/// The protocol `/murmur/<first eight hexadecimal digits of the swarm>/blob/1`.
pub(super) fn behaviour(
    swarm: &SwarmId,
    config: &BlobConfig,
) -> Result<request_response::Behaviour<RawCodec>, String> {
    let codec = RawCodec {
        request_bytes_max: limits::BLOB_REQUEST_BYTES_MAX,
        response_bytes_max: limits::BLOB_ANSWER_BYTES_MAX,
        #[cfg(test)]
        drip: config.drip,
    };
    let protocol = StreamProtocol::try_from_owned(format!("/murmur/{}/blob/1", swarm.short()))
        .map_err(|error| error.to_string())?;
    let settings = request_response::Config::default()
        .with_request_timeout(config.part_within)
        .with_max_concurrent_streams(limits::BLOB_STREAMS_PER_LINK_MAX);
    let protocols = [(protocol, request_response::ProtocolSupport::Full)];
    Ok(request_response::Behaviour::with_codec(codec, protocols, settings))
}

/// What is kept, what is fetched, and who takes how much.
pub(super) struct Blobs {
    store: Store,
    fetches: Fetches,
    asks: HashMap<OutboundRequestId, Ask>,
    serving: HashMap<InboundRequestId, PeerId>,
    given: Budgets,
    given_in_all: Bucket,
}

impl Blobs {
    pub(super) fn new(config: &BlobConfig, now: Instant) -> Self {
        Self {
            store: Store::new(limits::BLOB_STORE_BYTES_MAX),
            fetches: Fetches::new(config.peer_bytes_per_s),
            asks: HashMap::new(),
            serving: HashMap::new(),
            given: Budgets::new(config.peer_bytes_per_s),
            given_in_all: blob_bucket(config.bytes_per_s, now),
        }
    }

    /// What to say to a request, within the asker's budget and everybody's.
    fn answer(&mut self, peer: PeerId, request: &BlobRequest, now: Instant) -> BlobAnswer {
        let streams = self.serving.values().filter(|of| **of == peer).count();
        if streams >= limits::BLOB_STREAMS_PER_PEER_MAX || self.serving.len() >= limits::BLOB_STREAMS_MAX {
            return BlobAnswer::Busy(limits::BUSY_MIN.as_millis() as u32);
        }
        let part = self.store.get(&request.blob).and_then(|blob| blob.part(request.part));
        let cost = (part.map_or(0, <[u8]>::len) + limits::BLOB_REQUEST_COST) as u64;
        let bucket = self.given.of(peer, now);
        let wait = bucket.wait(cost, now).max(self.given_in_all.wait(cost, now));
        if wait > Duration::ZERO {
            return BlobAnswer::Busy(wait.min(limits::BUSY_MAX).as_millis() as u32 + 1);
        }
        bucket.take(cost);
        self.given_in_all.take(cost);
        part.map_or(BlobAnswer::Absent, |part| BlobAnswer::Part(ByteBuf::from(part)))
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.fetches.next_due()
    }
}

impl Network {
    /// Fetches a blob from the first of `from` that gives it; the outcome comes as an event. Asking again for a blob
    /// under way names more holders. Blobs of rounds before the previous one are given up.
    pub fn fetch(&mut self, round: u32, blob: Address, from: &[PeerKey]) {
        let own = *self.swarm.local_peer_id();
        let from: Vec<PeerId> = from.iter().filter_map(peer_id).filter(|peer| *peer != own).collect();
        let outcomes = self.blobs.fetches.add(round, blob, &from, Instant::now());
        outcomes.into_iter().for_each(|outcome| self.tell_outcome(outcome));
    }

    /// Keeps a blob for other peers to fetch while its round or the next one lasts. Returns whether there was room;
    /// if not, it is counted and told.
    pub fn keep(&mut self, round: u32, bytes: Vec<u8>) -> bool {
        let kept = Blob::new(bytes).is_ok_and(|blob| self.blobs.store.keep(round, blob));
        self.drops.count(DropReason::BlobNotKept, u64::from(!kept));
        kept
    }

    /// Keeps a blob for other peers to fetch as long as this peer runs; its name, if there was room. If not, it is
    /// counted and told.
    pub fn pin(&mut self, bytes: Vec<u8>) -> Option<Address> {
        let blob = Blob::new(bytes).ok();
        let address = blob.as_ref().map(Blob::address);
        let pinned = blob.is_some_and(|blob| self.blobs.store.pin(blob, limits::BLOB_PINNED_BYTES_MAX));
        self.drops.count(DropReason::BlobNotKept, u64::from(!pinned));
        address.filter(|_| pinned)
    }

    /// Keeps a pinned blob no longer.
    pub fn unpin(&mut self, blob: &Address) {
        self.blobs.store.unpin(blob);
    }

    /// Sends what is due and gives up what stands still.
    pub(super) fn fetch_due(&mut self, now: Instant) {
        let outcomes = self.blobs.fetches.expire(now);
        outcomes.into_iter().for_each(|outcome| self.tell_outcome(outcome));
        while let Some(ask) = self.blobs.fetches.due(now, |peer| self.links.is_direct(peer)) {
            let bytes = wire::encode(&ask.request);
            let id = self.swarm.behaviour_mut().blobs.send_request(&ask.peer, bytes);
            self.blobs.asks.insert(id, ask);
        }
    }

    pub(super) fn on_blob(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>, now: Instant) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, request_id }, .. } => {
                let Ok(request) = wire::decode::<BlobRequest>(&request, limits::BLOB_REQUEST_BYTES_MAX)
                else {
                    self.drops.count(DropReason::RequestFailed, 1);
                    return self.blame(peer, Wrong::Rubbish, "a request that cannot be read");
                };
                let answer = self.blobs.answer(peer, &request, now);
                match &answer {
                    BlobAnswer::Part(part) => {
                        self.counters.blob_parts_out += 1;
                        self.counters.blob_bytes_out += part.len() as u64;
                    }
                    BlobAnswer::Busy(_) => self.drops.count(DropReason::BlobBusy, 1),
                    BlobAnswer::Absent => self.counters.blob_absent += 1,
                }
                let requests = &mut self.swarm.behaviour_mut().blobs;
                if requests.send_response(channel, wire::encode(&answer)).is_ok() {
                    self.blobs.serving.insert(request_id, peer);
                }
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                // An answer that cannot be read is no better than none.
                let answer = wire::decode(&response, limits::BLOB_ANSWER_BYTES_MAX).ok();
                self.blob_answered(request_id, answer, now);
            }
            Event::OutboundFailure { request_id, .. } => self.blob_answered(request_id, None, now),
            Event::InboundFailure { request_id, .. } => {
                self.blobs.serving.remove(&request_id);
                self.drops.count(DropReason::RequestFailed, 1);
            }
            Event::ResponseSent { request_id, .. } => {
                self.blobs.serving.remove(&request_id);
            }
        }
    }

    fn blob_answered(&mut self, id: OutboundRequestId, answer: Option<BlobAnswer>, now: Instant) {
        let Some(ask) = self.blobs.asks.remove(&id) else { return };
        match &answer {
            Some(BlobAnswer::Part(part)) => {
                self.counters.blob_parts_in += 1;
                self.counters.blob_bytes_in += part.len() as u64;
            }
            Some(BlobAnswer::Absent | BlobAnswer::Busy(_)) => {}
            None => self.drops.count(DropReason::BlobHolder, 1),
        }
        if let Some(outcome) = self.blobs.fetches.answered(&ask, answer, now) {
            self.tell_outcome(outcome);
        }
    }

    fn tell_outcome(&mut self, outcome: Outcome) {
        let event = match outcome {
            Outcome::Done { blob, bytes } => NetEvent::Fetched { blob, bytes },
            Outcome::Failed { blob, why } => NetEvent::FetchFailed { blob, why },
            Outcome::Lied { peer, why } => return self.blame(peer, Wrong::Bytes, &why),
        };
        self.events.push_back(event);
    }

    #[cfg(test)]
    pub(super) fn damage_blob(&mut self, blob: &Address, at: usize) {
        self.blobs.store.damage(blob, at);
    }
}
