//! Contents too large for memory: from files to files, ranged, resumed, from several sources at once.
//!
//! What is fetched is named by a hash that is known before ([`Content`]), so every chunk is checked before it is
//! written, whoever gives it. Everything happens in tasks of its own, on streams of direct connections; the
//! network's loop sees none of the bytes. Who serves gives no more than configured, so that gossip keeps its share;
//! who fetches asks whoever is quickest for most, and leaves who lies.

mod fetch;
mod file;
mod plan;
mod serve;
#[cfg(test)]
mod vice;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use judge::PeerKey;
use libp2p::{PeerId, StreamProtocol};
use tokio::task::JoinHandle;

pub use fetch::{Download, DownloadError, Progress};
pub use file::Target;
pub use serve::Share;
#[cfg(test)]
pub(super) use vice::Vice;

use super::conduct::Wrong;
use super::streams::{Incoming, Opener, Streams};
use super::{DropReason, Network, limits};
use crate::topic::SwarmId;
use crate::tree::Content;
use crate::wire::Hash;

/// How much of the uplink serves contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferConfig {
    /// Bytes a second served in all; two seconds' worth may go at once.
    pub bytes_per_s: u64,
    /// Bytes a second served to one peer.
    pub peer_bytes_per_s: u64,
    /// How it cheats.
    #[cfg(test)]
    pub(crate) vice: Option<Vice>,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            bytes_per_s: limits::UPLOAD_BYTES_PER_S,
            peer_bytes_per_s: limits::UPLOAD_BYTES_PER_S,
            #[cfg(test)]
            vice: None,
        }
    }
}

/// The protocol `/murmur/<first eight hexadecimal digits of the swarm>/range/1`.
pub(super) fn streams(swarm: &SwarmId) -> Result<(Streams, Opener, Incoming), String> {
    let protocol = StreamProtocol::try_from_owned(format!("/murmur/{}/range/1", swarm.short()));
    Ok(Streams::new(protocol.map_err(|error| error.to_string())?))
}

/// What went through, and what the network is to hear of.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    lies: Mutex<Vec<(PeerId, String)>>,
    /// Streams served, by peer.
    served: Mutex<HashMap<PeerId, usize>>,
}

impl Tally {
    /// Bytes in and out.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Relaxed), self.bytes_out.load(Relaxed))
    }

    fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a stream that a peer opened, if it may have another one.
    fn begin(&self, peer: PeerId) -> bool {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = served.values().sum::<usize>();
        let of = served.get(&peer).copied().unwrap_or(0);
        let may = streams < limits::UPLOADS_MAX && of < limits::UPLOADS_PER_PEER_MAX;
        if may {
            served.insert(peer, of + 1);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
        may
    }

    fn end(&self, peer: &PeerId) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        match served.get_mut(peer) {
            Some(of) if *of > 1 => *of -= 1,
            _ => drop(served.remove(peer)),
        }
    }

    fn fail(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// One a source and download, and as few as there are sources.
    fn lied(&self, peer: PeerId, why: String) {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner).push((peer, why));
    }
}

/// A network's part in it.
pub(super) struct Transfers {
    opener: Opener,
    shelf: serve::Shelf,
    pub(super) tally: Arc<Tally>,
    server: JoinHandle<()>,
}

impl Transfers {
    pub(super) fn new(opener: Opener, incoming: Incoming, config: &TransferConfig) -> Self {
        let (shelf, tally) = (serve::Shelf::default(), Arc::<Tally>::default());
        let server = serve::serve(incoming, shelf.clone(), config.clone(), Arc::clone(&tally));
        Self { opener, shelf, tally, server: tokio::spawn(server) }
    }

    /// Who is being served: such a link is alive, although its other end may say nothing in gossip.
    pub(super) fn peers(&self) -> HashSet<PeerId> {
        let served = self.tally.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.keys().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Network {
    /// Serves a content from a file, which must stay as it is, until it is taken back. The file is hashed when the
    /// content is first asked for; one that is something else is not served.
    pub fn share(&self, share: Share) {
        self.transfers.shelf.put(share);
    }

    /// Serves a content no longer.
    pub fn unshare(&self, content: &Hash) {
        self.transfers.shelf.remove(content);
    }

    /// How long ago a served content was last asked for; `None` if never.
    pub fn share_asked(&self, content: &Hash) -> Option<Duration> {
        self.transfers.shelf.asked(content)
    }

    /// Downloads a content into a file from these peers, all of them at once. Goes on where an earlier download to
    /// the same file ended. The network must be driven meanwhile.
    pub fn download(&self, content: Content, target: Target, sources: &[PeerKey]) -> Download {
        let Transfers { opener, tally, .. } = &self.transfers;
        Download::start(content, target, sources, opener.clone(), Arc::clone(tally))
    }

    /// Counts what went wrong, and blames who lied.
    pub(super) fn look_at_transfers(&mut self) {
        let tally = Arc::clone(&self.transfers.tally);
        self.drops.count(DropReason::BlobBusy, tally.refused.swap(0, Relaxed));
        self.drops.count(DropReason::BlobHolder, tally.failed.swap(0, Relaxed));
        let lies = std::mem::take(&mut *tally.lies.lock().unwrap_or_else(PoisonError::into_inner));
        lies.into_iter().for_each(|(peer, why)| self.blame(peer, Wrong::Bytes, &why));
    }
}
