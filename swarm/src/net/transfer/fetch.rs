//! Downloading a content from several sources at once.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use judge::PeerKey;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::file::{Partial, Target};
use super::plan::{Next, Plan};
use super::{Tally, limits};
use crate::net::key::{peer_id, peer_key};
use crate::net::streams::Opener;
use crate::tree::{Content, Outline, RangePart, RangeRequest};
use crate::wire;

/// How far a download is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the content.
    pub len: u64,
    /// Bytes that are here, checked.
    pub here: u64,
    /// Bytes among them that an earlier process had fetched.
    pub resumed: u64,
    /// Bytes that each source gave.
    pub given: BTreeMap<PeerKey, u64>,
    /// Sources that gave something wrong, with what; nothing more is asked of them.
    pub liars: BTreeMap<PeerKey, String>,
    /// What went wrong last with a source.
    pub trouble: Option<(PeerKey, String)>,
}

/// Why a download ends without its file. That nobody gives anything is no reason: it waits for other sources, and
/// whoever started it may drop it.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Empty, or larger than anything.
    #[error("{0} bytes cannot be downloaded")]
    Length(u64),
    /// The file cannot be written.
    #[error("cannot write {path}: {error}")]
    File {
        /// The partial file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The task that downloads came to an unexpected end.
    #[error("the download ended unexpectedly")]
    Ended,
}

/// A download under way, in tasks of its own while the network is driven. Dropping it stops it; what is here stays,
/// and the same download goes on from it.
#[derive(Debug)]
pub struct Download {
    sources: mpsc::Sender<PeerId>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<Result<(), DownloadError>>,
}

impl Download {
    pub(super) fn start(
        content: Content,
        target: Target,
        sources: &[PeerKey],
        opener: Opener,
        tally: Arc<Tally>,
    ) -> Self {
        let (send, receive) = mpsc::channel(limits::SOURCES_MAX);
        let (told, progress) = watch::channel(Progress { len: content.len, ..Progress::default() });
        let task = tokio::spawn(run(content, target, opener, tally, told, receive));
        let download = Self { sources: send, progress, task };
        sources.iter().for_each(|source| download.add(source));
        download
    }

    /// Names another source; one that is known already, or one too many, changes nothing.
    pub fn add(&self, source: &PeerKey) {
        if let Some(peer) = peer_id(source) {
            // Full where sources are named faster than they are looked at: they will be named again.
            let _ = self.sources.try_send(peer);
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits for its end: the file is there, whole and checked. Cancel-safe.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn finished(&mut self) -> Result<(), DownloadError> {
        (&mut self.task).await.unwrap_or(Err(DownloadError::Ended))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the tasks of a download share.
struct Fetch {
    content: Content,
    opener: Opener,
    tally: Arc<Tally>,
    outline: OnceLock<Arc<Outline>>,
    /// Set up when the outline is known.
    plan: Mutex<Option<Plan>>,
    file: Arc<Mutex<Partial>>,
    changed: Notify,
    streams: Semaphore,
    progress: watch::Sender<Progress>,
    end: mpsc::Sender<io::Error>,
}

/// Why a source gives nothing for now.
enum Stop {
    /// It cannot be reached, does not have it, or is too slow.
    Failed(String),
    /// It gave something else.
    Lied(String),
    /// This side cannot go on.
    Disk(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

async fn run(
    content: Content,
    target: Target,
    opener: Opener,
    tally: Arc<Tally>,
    progress: watch::Sender<Progress>,
    mut sources: mpsc::Receiver<PeerId>,
) -> Result<(), DownloadError> {
    if !content.is_sound() {
        return Err(DownloadError::Length(content.len));
    }
    let path = target.partial().display().to_string();
    let failed = |error| DownloadError::File { path: path.clone(), error };
    let opened = spawn_blocking(move || Partial::open(target, &content)).await;
    let file = opened.map_err(|_| DownloadError::Ended)?.map_err(failed)?;
    let (end, mut ended) = mpsc::channel(1);
    let fetch = Arc::new(Fetch {
        content,
        opener,
        tally,
        outline: OnceLock::new(),
        plan: Mutex::new(None),
        file: Arc::new(Mutex::new(file)),
        changed: Notify::new(),
        streams: Semaphore::new(limits::DOWNLOAD_STREAMS_MAX),
        progress,
        end,
    });
    if let Some(outline) = Outline::read(content, &[]) {
        fetch.begin(outline).await.map_err(failed)?;
    }
    let (mut tasks, mut known) = (JoinSet::new(), HashSet::new());
    while !fetch.is_done() {
        tokio::select! {
            Some(peer) = sources.recv() => {
                if known.len() < limits::SOURCES_MAX && known.insert(peer) {
                    tasks.spawn(source(Arc::clone(&fetch), peer));
                }
            }
            Some(error) = ended.recv() => return Err(failed(error)),
            () = fetch.changed.notified() => {}
        }
    }
    drop(tasks);
    let file = Arc::clone(&fetch.file);
    let done = spawn_blocking(move || file.lock().unwrap_or_else(PoisonError::into_inner).finish()).await;
    done.map_err(|_| DownloadError::Ended)?.map_err(failed)
}

/// Takes from one source what it gives, over a few streams, until everything is here or it lied.
async fn source(fetch: Arc<Fetch>, peer: PeerId) {
    tokio::select! {
        () = lane(&fetch, peer) => {}
        () = lane(&fetch, peer) => {}
    }
}

async fn lane(fetch: &Fetch, peer: PeerId) {
    let mut rest = limits::SOURCE_RESTS;
    loop {
        let Ok(permit) = fetch.streams.acquire().await else { return };
        let before = fetch.given_by(peer);
        match fetch.take_from(peer).await {
            Ok(()) => return,
            Err(Stop::Disk(error)) => return drop(fetch.end.try_send(error)),
            Err(Stop::Lied(why)) => return fetch.blame(peer, why),
            Err(Stop::Failed(why)) => fetch.trouble(peer, why),
        }
        drop(permit);
        if fetch.given_by(peer) > before {
            rest = limits::SOURCE_RESTS;
        }
        sleep(rest).await;
        rest = (2 * rest).min(limits::SOURCE_RESTS_MAX);
    }
}

impl Fetch {
    fn plan(&self) -> MutexGuard<'_, Option<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self) -> bool {
        self.plan().as_ref().is_some_and(Plan::is_done)
    }

    fn given_by(&self, peer: PeerId) -> u64 {
        let key = peer_key(&peer);
        key.and_then(|key| self.progress.borrow().given.get(&key).copied()).unwrap_or(0)
    }

    fn trouble(&self, peer: PeerId, why: String) {
        self.tally.fail();
        let Some(key) = peer_key(&peer) else { return };
        self.progress.send_modify(|progress| progress.trouble = Some((key, why)));
    }

    fn blame(&self, peer: PeerId, why: String) {
        if let Some(key) = peer_key(&peer) {
            self.progress.send_modify(|progress| drop(progress.liars.insert(key, why.clone())));
        }
        self.tally.lied(peer, why);
    }

    /// Looks at what is here already, now that it can be told from what is not.
    async fn begin(&self, outline: Outline) -> io::Result<()> {
        let outline = Arc::new(outline);
        let (file, told) = (Arc::clone(&self.file), Arc::clone(&outline));
        let look = move || file.lock().unwrap_or_else(PoisonError::into_inner).here(&told);
        let here = spawn_blocking(look).await.map_err(io::Error::other)??;
        let mut slot = self.plan();
        if slot.is_none() {
            let mut plan = Plan::new(self.content.chunks());
            for index in &here {
                plan.arrived(*index);
            }
            let bytes = here.iter().map(|index| self.content.chunk_len(*index) as u64).sum();
            self.progress.send_modify(|progress| (progress.here, progress.resumed) = (bytes, bytes));
            *slot = Some(plan);
            drop(self.outline.set(outline));
        }
        drop(slot);
        self.changed.notify_one();
        Ok(())
    }

    /// Opens a stream and takes runs of chunks from it.
    async fn take_from(&self, peer: PeerId) -> Result<(), Stop> {
        let stream = self.opener.open(peer).await.map_err(|why| Stop::Failed(why.to_string()))?;
        let mut stream = stream;
        if self.outline.get().is_none() {
            self.ask(&mut stream, RangePart::Outline).await?;
            let bytes = part(&mut stream, self.content.outline_len()).await?;
            let outline = Outline::read(self.content, &bytes)
                .ok_or_else(|| Stop::Lied("a list of chunks that the hash does not cover".into()))?;
            self.begin(outline).await.map_err(Stop::Disk)?;
        }
        let Some(outline) = self.outline.get().cloned() else { return Ok(()) };
        loop {
            let next = match &mut *self.plan() {
                Some(plan) => plan.next(peer, Instant::now()),
                None => Next::Done,
            };
            match next {
                Next::Done => return Ok(()),
                // What others fail to give is seen at the latest then.
                Next::Wait(until) => sleep(until.duration_since(Instant::now()).max(WAIT_MIN)).await,
                Next::Run(run) => {
                    let taken = self.take_run(&mut stream, peer, &outline, run.clone()).await;
                    if let Err(stop) = taken {
                        if let Some(plan) = &mut *self.plan() {
                            plan.released(run, peer);
                        }
                        return Err(stop);
                    }
                }
            }
        }
    }

    async fn take_run(
        &self,
        stream: &mut Stream,
        peer: PeerId,
        outline: &Arc<Outline>,
        run: Range<u32>,
    ) -> Result<(), Stop> {
        let count = run.end - run.start;
        self.ask(stream, RangePart::Chunks { first: run.start, count }).await?;
        for index in run {
            let bytes = part(stream, self.content.chunk_len(index)).await?;
            let len = bytes.len();
            let (file, told) = (Arc::clone(&self.file), Arc::clone(outline));
            let check = move || {
                if !told.holds(index, &bytes) {
                    return Ok(false);
                }
                // The same bytes twice, where two sources were asked, do no harm.
                file.lock().unwrap_or_else(PoisonError::into_inner).write(index, &bytes).map(|()| true)
            };
            let good = spawn_blocking(check).await.map_err(|error| Stop::Failed(error.to_string()))?;
            if !good.map_err(Stop::Disk)? {
                return Err(Stop::Lied(format!("chunk {index} with other bytes than its hash names")));
            }
            self.arrived(peer, index, len);
        }
        Ok(())
    }

    fn arrived(&self, peer: PeerId, index: u32, bytes: usize) {
        self.tally.received(bytes);
        let (new, done) = match &mut *self.plan() {
            Some(plan) => (plan.arrived(index), plan.is_done()),
            None => return,
        };
        self.progress.send_modify(|progress| {
            progress.here += if new { bytes as u64 } else { 0 };
            if let Some(key) = peer_key(&peer) {
                *progress.given.entry(key).or_default() += bytes as u64;
            }
        });
        if done {
            self.changed.notify_one();
        }
    }

    async fn ask(&self, stream: &mut Stream, part: RangePart) -> Result<(), Stop> {
        let request = wire::encode(&RangeRequest { content: self.content, part });
        let write = async {
            stream.write_all(&(request.len() as u32).to_be_bytes()).await?;
            stream.write_all(&request).await?;
            stream.flush().await
        };
        Ok(timeout(limits::CHUNK_WITHIN, write).await.map_err(|_| too_slow())??)
    }
}

/// Shortest look at whether others failed.
const WAIT_MIN: Duration = Duration::from_millis(20);

fn too_slow() -> Stop {
    Stop::Failed(format!("less than a chunk in {} s", limits::CHUNK_WITHIN.as_secs()))
}

/// Reads a part that must have so many bytes. Nothing is read or taken memory for where another length is declared.
async fn part(stream: &mut Stream, expected: usize) -> Result<Vec<u8>, Stop> {
    let read = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        match u32::from_be_bytes(length) as usize {
            0 => Err(Stop::Failed("it does not have it".into())),
            declared if declared != expected => {
                Err(Stop::Lied(format!("{declared} bytes where {expected} were asked for")))
            }
            _ => {
                let mut bytes = vec![0; expected];
                stream.read_exact(&mut bytes).await?;
                Ok(bytes)
            }
        }
    };
    timeout(limits::CHUNK_WITHIN, read).await.map_err(|_| too_slow())?
}
