//! Serving contents from files, at the configured rate.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::sync::OnceCell;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::{Tally, TransferConfig, limits};
use crate::net::bucket::{Bucket, Budgets, blob_bucket};
use crate::net::streams::Incoming;
use crate::tree::{CHUNK_BYTES, Content, Outline, RangePart, RangeRequest};
use crate::wire::{self, Hash};

/// A content in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub content: Content,
    /// The file.
    pub path: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
}

impl Share {
    fn open(&self, at: u64) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset + at))?;
        Ok(file.take(self.content.len.saturating_sub(at)))
    }
}

#[derive(Debug, Clone)]
struct Shelved {
    share: Share,
    /// Computed when first asked for; none if the file is not the content.
    outline: Arc<OnceCell<Option<Arc<Outline>>>>,
    asked: Option<Instant>,
}

/// What is served.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<BTreeMap<Hash, Shelved>>>);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, Shelved>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, share: Share) {
        let mut shelf = self.lock();
        if shelf.len() >= limits::SHARES_MAX
            && let Some(hash) = shelf.iter().min_by_key(|(_, shelved)| shelved.asked).map(|(hash, _)| *hash)
        {
            shelf.remove(&hash);
        }
        shelf.insert(share.content.hash, Shelved { share, outline: Arc::default(), asked: None });
    }

    pub(super) fn remove(&self, hash: &Hash) {
        self.lock().remove(hash);
    }

    /// How long ago a content was last asked for; `None` if never.
    pub(super) fn asked(&self, hash: &Hash) -> Option<Duration> {
        self.lock().get(hash)?.asked.map(|asked| asked.elapsed())
    }

    fn get(&self, content: &Content) -> Option<Shelved> {
        let mut shelf = self.lock();
        let shelved = shelf.get_mut(&content.hash).filter(|shelved| shelved.share.content == *content)?;
        shelved.asked = Some(Instant::now());
        Some(shelved.clone())
    }

    async fn outline(&self, shelved: &Shelved) -> Option<Arc<Outline>> {
        let share = shelved.share.clone();
        let hashed = shelved.outline.get_or_init(|| async {
            let content = share.content;
            let outline = spawn_blocking(move || Outline::of(&mut share.open(0)?)).await.ok()?.ok()?;
            (outline.content() == content).then(|| Arc::new(outline))
        });
        let outline = hashed.await.clone();
        if outline.is_none() {
            self.remove(&shelved.share.content.hash);
        }
        outline
    }
}

/// Who may take how much.
struct Rates {
    each: Budgets,
    all: Bucket,
}

impl Rates {
    /// Takes so many bytes, or says how long to wait for them.
    fn take(&mut self, peer: PeerId, bytes: u64, now: Instant) -> Result<(), Duration> {
        let each = self.each.of(peer, now);
        let wait = each.wait(bytes, now).max(self.all.wait(bytes, now));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        each.take(bytes);
        self.all.take(bytes);
        Ok(())
    }
}

/// What all streams share.
struct Server {
    shelf: Shelf,
    rates: Mutex<Rates>,
    tally: Arc<Tally>,
    #[cfg(test)]
    vice: Option<super::Vice>,
}

/// Serves until the network ends. Its tasks end with it.
pub(super) async fn serve(mut incoming: Incoming, shelf: Shelf, config: TransferConfig, tally: Arc<Tally>) {
    let now = Instant::now();
    let rates =
        Rates { each: Budgets::new(config.peer_bytes_per_s), all: blob_bucket(config.bytes_per_s, now) };
    let server = Arc::new(Server {
        shelf,
        rates: Mutex::new(rates),
        tally,
        #[cfg(test)]
        vice: config.vice,
    });
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opened = incoming.recv() => {
                let Some((peer, stream)) = opened else { return };
                if !server.tally.begin(peer) {
                    continue; // dropping the stream resets it
                }
                let server = Arc::clone(&server);
                streams.spawn(async move {
                    // It ends as streams end: by the other side, by silence, by nonsense.
                    let _ = server.stream(peer, stream).await;
                    peer
                });
            }
            Some(Ok(peer)) = streams.join_next() => server.tally.end(&peer),
        }
    }
}

impl Server {
    /// Answers one request after the other.
    async fn stream(&self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        loop {
            let RangeRequest { content, part } = within(limits::UPLOAD_IDLE, request(&mut stream)).await?;
            let found = self.shelf.get(&content);
            let outline = match &found {
                Some(shelved) => self.shelf.outline(shelved).await,
                None => None,
            };
            let (Some(Shelved { share, .. }), Some(outline)) = (found, outline) else {
                self.pace(peer, limits::BLOB_REQUEST_COST).await;
                within(limits::CHUNK_WITHIN, declare(&mut stream, 0)).await?;
                continue;
            };
            match part {
                RangePart::Outline => self.send(peer, &mut stream, outline.bytes()).await?,
                RangePart::Chunks { first, count } => {
                    let end = first.checked_add(count).filter(|end| *end <= content.chunks());
                    if end.is_none() || !(1..=limits::RUN_CHUNKS_MAX).contains(&count) {
                        return Err(io::ErrorKind::InvalidInput.into());
                    }
                    for index in first..first + count {
                        let bytes = read_chunk(share.clone(), index).await?;
                        self.send(peer, &mut stream, &bytes).await?;
                    }
                }
            }
        }
    }

    /// Sends a part, no faster than configured, and in no more time than whoever asked waits for it: who takes it
    /// slowly keeps its place from others no longer than that.
    async fn send(&self, peer: PeerId, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        let bytes = &super::vice::spoil(self.vice, stream, bytes).await?[..];
        let sent = async {
            declare(stream, bytes.len()).await?;
            for slice in bytes.chunks(limits::UPLOAD_SLICE_BYTES) {
                self.pace(peer, slice.len()).await;
                stream.write_all(slice).await?;
            }
            stream.flush().await
        };
        within(limits::CHUNK_WITHIN, sent).await?;
        self.tally.sent(bytes.len());
        Ok(())
    }

    async fn pace(&self, peer: PeerId, bytes: usize) {
        loop {
            let taken = {
                let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
                rates.take(peer, bytes as u64, Instant::now())
            };
            match taken {
                Ok(()) => return,
                Err(wait) => sleep(wait).await,
            }
        }
    }
}

async fn read_chunk(share: Share, index: u32) -> io::Result<Vec<u8>> {
    let read = move || {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        share
            .open(u64::from(index) * CHUNK_BYTES as u64)?
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)?;
        Ok(chunk)
    };
    spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn request(stream: &mut Stream) -> io::Result<RangeRequest> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limits::RANGE_REQUEST_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    wire::decode(&bytes, limits::RANGE_REQUEST_BYTES_MAX).map_err(io::Error::other)
}

/// Says how many bytes come.
async fn declare(stream: &mut Stream, bytes: usize) -> io::Result<()> {
    stream.write_all(&u32::try_from(bytes).unwrap_or(0).to_be_bytes()).await?;
    if bytes == 0 { stream.flush().await } else { Ok(()) }
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
