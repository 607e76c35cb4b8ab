//! Packs that this machine lacks, fetched from members of the swarm by their content address.
//!
//! Whoever runs gives what it has (see [`swarm::packs`]). A peer that lacks a pack dials the swarm before it takes
//! part, asks everybody it meets, and fetches the archive of the first that has it. Whoever offers other bytes than
//! the pack's is named and not asked again. What came is opened as any stranger's pack, scripts in their process,
//! before it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use judge::PeerKey;
use swarm::blob::Address;
use swarm::identity::Identity;
use swarm::net::{NetConfig, NetEvent, Network, RequestToken, Verdict};
use swarm::packs::{PackAnswer, PackRequest, Shelf};
use swarm::topic::SwarmId;
use tasks::{ARCHIVE_BYTES_MAX, Pack, PackFiles, PackId};
use tokio::time::{Instant, sleep_until};

use crate::reasons::Reasons;
use crate::store::{Store, Stored};
use crate::{printer, sandbox};

/// How long one pack may take; the largest takes a third of it at 4 Mbit/s.
const PACK_WITHIN: Duration = Duration::from_secs(120);
/// Time after which peers that gave nothing are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long hanging up may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Fetches packs from the peers at these addresses and stores those that can be drawn from.
///
/// # Errors
/// An address that cannot be used, a pack that nobody gave (with what each peer said), a pack that is wrong, a store
/// that cannot be written.
pub(crate) fn fetch(
    identity: &Identity,
    swarm: SwarmId,
    bootstrap: &[String],
    wanted: &[PackId],
) -> anyhow::Result<Stored> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    let came = runtime.block_on(async {
        let network = Network::bind(identity, swarm, NetConfig::dials_only(bootstrap)).await?;
        let mut courier = Courier::new(network, swarm);
        let mut came = Vec::new();
        for id in wanted {
            printer::note(&format!("fetching the pack {id} from the swarm"));
            came.push(courier.fetch(id, PACK_WITHIN).await?);
        }
        courier.network.leave(LEAVE_WITHIN).await;
        Ok::<_, anyhow::Error>(came)
    })?;
    let (store, mut sum) = (Store::open()?, Stored { files: 0, bytes: 0 });
    for (files, from) in came {
        let stored = keep(&store, &files, &from)?;
        sum = Stored { files: sum.files + stored.files, bytes: sum.bytes + stored.bytes };
    }
    Ok(sum)
}

/// Stores a fetched pack if it can be drawn from.
fn keep(store: &Store, files: &PackFiles, from: &PeerKey) -> anyhow::Result<Stored> {
    let id = files.id();
    let pack = Pack::open(files, &sandbox::run).with_context(|| {
        format!(
            "the pack {id} came whole from {} and cannot be used; it was not stored\nhint: its address is right, so it is wrong for everybody: ask who wrote the config to name another pack",
            from.name()
        )
    })?;
    let stored = store.put(files)?;
    printer::note(&format!("the pack {} ({id}) came from {}", pack.name(), from.name()));
    Ok(stored)
}

/// Gives the packs to whoever asks; says which do not fit.
pub(crate) fn shelve(network: &mut Network, swarm: SwarmId, packs: &[PackFiles]) -> Shelf {
    let mut shelf = Shelf::new(swarm);
    for files in packs {
        match network.pin(files.archive()) {
            Some(blob) => shelf.add(files.id(), blob),
            None => printer::note(&format!("the pack {} is not given to other peers: no room", files.id())),
        }
    }
    shelf
}

/// One who asks for packs.
struct Courier {
    network: Network,
    swarm: SwarmId,
}

/// What is known of one wanted pack.
#[derive(Default)]
struct Search {
    asked: BTreeMap<RequestToken, PeerKey>,
    /// Who offers which blob.
    offers: BTreeMap<PeerKey, Address>,
    /// The one under way.
    fetching: Option<Address>,
    /// Who offered other bytes than the pack's.
    liars: BTreeSet<PeerKey>,
    /// Why there is nothing yet.
    said: Reasons,
}

impl Courier {
    fn new(network: Network, swarm: SwarmId) -> Self {
        Self { network, swarm }
    }

    /// Fetches a pack; with whoever gave it.
    async fn fetch(&mut self, id: &PackId, within: Duration) -> anyhow::Result<(PackFiles, PeerKey)> {
        let mut search = Search::default();
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            let again = (Instant::now() + ASK_AGAIN).min(deadline);
            self.ask(id, &mut search);
            loop {
                let event = tokio::select! {
                    event = self.network.next() => event,
                    () = sleep_until(again) => break,
                };
                if let Some(found) = self.heard(id, &mut search, event) {
                    return Ok(found);
                }
            }
        }
        Err(search.failure(id, within))
    }

    /// Asks everybody who is here and of whom nothing is expected.
    fn ask(&mut self, id: &PackId, search: &mut Search) {
        for peer in self.network.peers() {
            let waits = search.asked.values().any(|asked| *asked == peer);
            if waits || search.offers.contains_key(&peer) || search.liars.contains(&peer) {
                continue;
            }
            match self.network.request(peer, PackRequest::of(&self.swarm, id)) {
                Ok(token) => drop(search.asked.insert(token, peer)),
                Err(error) => search.say(peer.name(), error.to_string()),
            }
        }
    }

    fn heard(&mut self, id: &PackId, search: &mut Search, event: NetEvent) -> Option<(PackFiles, PeerKey)> {
        match event {
            NetEvent::Connected(_) => self.ask(id, search),
            NetEvent::Response { from, request, bytes } => {
                if search.asked.remove(&request).is_some() {
                    match PackAnswer::read(&bytes).map(|answer| answer.blob) {
                        Ok(Some(blob)) if blob.len as usize <= ARCHIVE_BYTES_MAX => {
                            search.offers.insert(from, blob);
                            self.fetch_next(search);
                        }
                        Ok(Some(blob)) => {
                            search
                                .say(from.name(), format!("offers {} bytes, too many for a pack", blob.len));
                        }
                        Ok(None) => search.say(from.name(), "does not have it".into()),
                        Err(error) => search.say(from.name(), format!("gave no answer: {error}")),
                    }
                }
            }
            NetEvent::RequestFailed { to, request, why } => {
                if search.asked.remove(&request).is_some() {
                    search.say(to.name(), why);
                }
            }
            NetEvent::Fetched { blob, bytes } if search.fetching == Some(blob) => {
                search.fetching = None;
                if let Some(files) = PackFiles::from_archive(id, &bytes) {
                    return search.givers(&blob).next().map(|from| (files, from));
                }
                search.blame(&blob);
                self.fetch_next(search);
            }
            NetEvent::FetchFailed { blob, why } if search.fetching == Some(blob) => {
                search.fetching = None;
                for peer in search.givers(&blob).collect::<Vec<_>>() {
                    search.offers.remove(&peer);
                    search.say(peer.name(), format!("offered it, but {why}"));
                }
                self.fetch_next(search);
            }
            // Others repeat what it did not take part in.
            NetEvent::Message { token, .. } => self.network.verdict(token, Verdict::Ignore),
            NetEvent::Unreachable { address, why, .. } => search.say(address, why),
            NetEvent::Refused { why, .. } => printer::note(&why),
            NetEvent::Disconnected { peer, why } => {
                search.offers.remove(&peer);
                search.say(peer.name(), why);
            }
            NetEvent::Request { .. }
            | NetEvent::Fetched { .. }
            | NetEvent::FetchFailed { .. }
            | NetEvent::Listening(_)
            | NetEvent::Addresses
            | NetEvent::Reach(_)
            | NetEvent::Dropped { .. } => {}
        }
        None
    }

    /// Fetches the blob in hand from all who offer it, or begins with another one.
    fn fetch_next(&mut self, search: &mut Search) {
        let Some(blob) = search.fetching.or_else(|| search.offers.values().next().copied()) else { return };
        search.fetching = Some(blob);
        let from: Vec<PeerKey> = search.givers(&blob).collect();
        self.network.fetch(0, blob, &from);
    }
}

impl Search {
    fn say(&mut self, who: String, what: String) {
        self.said.say(who, what);
    }

    fn givers(&self, blob: &Address) -> impl Iterator<Item = PeerKey> {
        self.offers.iter().filter(move |(_, offered)| *offered == blob).map(|(peer, _)| *peer)
    }

    /// These bytes were not the pack's: whoever offered them is not asked again.
    fn blame(&mut self, blob: &Address) {
        for peer in self.givers(blob).collect::<Vec<_>>() {
            self.offers.remove(&peer);
            self.liars.insert(peer);
            self.say(peer.name(), "gave bytes that are not this pack's".into());
            printer::note(&format!("{} gave other bytes than the pack's; others are asked", peer.name()));
        }
    }

    fn failure(&self, id: &PackId, within: Duration) -> anyhow::Error {
        let seconds = within.as_secs();
        anyhow!(
            "nobody gave the pack {id} within {seconds} s ({})\nhint: under [peer], bootstrap must name a running peer that has it; or get its folder and: murmur task add FOLDER",
            self.said
        )
    }
}

/// Checks that there is anybody to ask.
pub(crate) fn somebody(file: &str, addresses: &[String]) -> anyhow::Result<()> {
    if addresses.is_empty() {
        bail!(
            "{file} names nobody to fetch packs from\nhint: name a running peer's address in bootstrap under [peer]"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
