//! Packs that the swarm votes on while it runs: this peer's side of it.
//!
//! `murmur task propose` leaves a note in the peer's state folder; the peer finds it after a round. What others
//! propose is fetched from whoever is for it, checked as `murmur task check` does, in a thread of its own, and voted
//! on by the peer's policy. What the swarm has taken in without this peer is fetched in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use judge::{OpenPack, PackKey, PackVote, Packs, PeerKey};
use serde::{Deserialize, Serialize};
use swarm::blob::Address;
use swarm::net::{Network, RequestToken};
use swarm::packs::{PackAnswer, PackRequest, Shelf};
use swarm::topic::SwarmId;
use tasks::{ARCHIVE_BYTES_MAX, Catalogue, Pack, PackFiles, PackId, Severity};
use tokio::sync::mpsc;

use crate::sandbox;
use crate::store::Store;

/// Checks that may wait to be taken note of.
const CHECKED_MAX: usize = 16;
/// Notes in the state folder that are read; the rest waits.
const NOTES_MAX: usize = judge::PACK_VOTES_MAX;
/// Packs that were wrong which are remembered, so that they are not fetched again.
const REMEMBERED_MAX: usize = 64;

/// What a peer says of packs that others propose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// For it if it passes its check.
    Auto,
    /// Nothing until its operator proposes it too; against it if it fails its check.
    #[default]
    Ask,
    /// Against it, unseen.
    Never,
}

/// A pack that was checked.
pub(crate) struct Checked {
    id: PackId,
    /// The pack, or the first thing that is wrong with it.
    outcome: Result<(Pack, PackFiles), String>,
}

/// What came of a look at the swarm's packs.
pub(crate) enum Said {
    /// To vote so, with the pack where this is for it.
    Vote(PackVote, Option<Box<Pack>>),
    /// A pack that is in already.
    Have(Box<Pack>),
    /// To tell people.
    Note(String),
}

/// A peer's side of the votes on packs.
pub(crate) struct Proposals {
    policy: Policy,
    swarm: SwarmId,
    notes: PathBuf,
    /// The manifest's packs, which a further one must go with.
    catalogue: Catalogue,
    shelf: Shelf,
    packs: BTreeMap<PackId, Pack>,
    /// Wanted by the operator, with the weight.
    own: BTreeMap<PackId, u32>,
    /// Fetched or checked at the moment.
    busy: BTreeSet<PackId>,
    /// Times that somebody was to be asked: another one each time.
    tries: usize,
    asked: BTreeMap<RequestToken, PackId>,
    fetching: BTreeMap<Address, (PackId, PeerKey)>,
    wrong: BTreeSet<PackId>,
    voted: BTreeMap<PackId, bool>,
    before: Packs,
    send: mpsc::Sender<Checked>,
    pub(crate) checked: mpsc::Receiver<Checked>,
}

impl Proposals {
    pub(crate) fn new(
        policy: Policy,
        swarm: SwarmId,
        notes: PathBuf,
        catalogue: Catalogue,
        shelf: Shelf,
    ) -> Self {
        let (send, checked) = mpsc::channel(CHECKED_MAX);
        Self {
            policy,
            swarm,
            notes,
            catalogue,
            shelf,
            packs: BTreeMap::new(),
            own: BTreeMap::new(),
            busy: BTreeSet::new(),
            tries: 0,
            asked: BTreeMap::new(),
            fetching: BTreeMap::new(),
            wrong: BTreeSet::new(),
            voted: BTreeMap::new(),
            before: Packs::default(),
            send,
            checked,
        }
    }

    /// Answers a question about a pack.
    pub(crate) fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        self.shelf.serve(request)
    }

    /// Looks at the packs after a certificate: what is new is told, fetched, voted on.
    pub(crate) fn look(&mut self, network: &mut Network, now: &Packs) -> anyhow::Result<Vec<Said>> {
        let mut said = Vec::new();
        if *now != self.before {
            said.extend(self.news(now));
            self.before = now.clone();
        }
        self.read_notes()?;
        for id in self.own.keys().copied().collect::<Vec<_>>() {
            if now.accepted.contains_key(&PackKey(id.0)) {
                self.own.remove(&id);
            } else {
                self.want(network, id, &[])?;
                said.extend(self.vote(id, now.open.get(&PackKey(id.0))));
            }
        }
        for (key, open) in &now.open {
            let id = PackId(key.0);
            if self.policy != Policy::Never && !self.wrong.contains(&id) {
                let holders: Vec<PeerKey> =
                    open.votes.iter().filter(|(_, yes)| **yes).map(|(peer, _)| *peer).collect();
                self.want(network, id, &holders)?;
            }
            said.extend(self.vote(id, Some(open)));
        }
        for key in now.accepted.keys() {
            let peers = network.peers();
            self.want(network, PackId(key.0), &peers)?;
        }
        Ok(said)
    }

    /// What has changed, in words.
    fn news(&mut self, now: &Packs) -> Vec<Said> {
        let mut news = Vec::new();
        for (key, open) in now.open.iter().filter(|(key, _)| !self.before.open.contains_key(key)) {
            news.push(format!(
                "{} proposes the pack {} with weight {}",
                open.proposer.name(),
                PackId(key.0),
                open.weight
            ));
        }
        for key in self.before.open.keys().filter(|key| !now.open.contains_key(key)) {
            let id = PackId(key.0);
            self.voted.remove(&id);
            if !now.accepted.contains_key(key) {
                self.own.remove(&id);
                news.push(format!("the pack {id} was not taken in"));
            }
        }
        for (key, weight) in now.accepted.iter().filter(|(key, _)| !self.before.accepted.contains_key(key)) {
            news.push(format!("the pack {} was taken in with weight {weight}", PackId(key.0)));
        }
        news.into_iter().map(Said::Note).collect()
    }

    /// What to say of a pack now, if that is new.
    fn vote(&mut self, id: PackId, open: Option<&OpenPack>) -> Vec<Said> {
        let own = self.own.get(&id).copied();
        let have = self.packs.get(&id);
        let accept = match self.policy {
            _ if self.wrong.contains(&id) => Some(false),
            _ if own.is_some() => have.map(|_| true),
            Policy::Auto => have.map(|_| true),
            Policy::Ask => None,
            Policy::Never => Some(false),
        };
        let weight = open.map(|open| open.weight).or(own);
        let Some((accept, weight)) = accept.zip(weight) else { return Vec::new() };
        if self.voted.insert(id, accept) == Some(accept) {
            return Vec::new();
        }
        let pack = have.filter(|_| accept).cloned().map(Box::new);
        vec![Said::Vote(PackVote { pack: PackKey(id.0), weight, accept }, pack)]
    }

    /// Gets a pack that is not here: from the store, else from whoever may have it.
    fn want(&mut self, network: &mut Network, id: PackId, holders: &[PeerKey]) -> anyhow::Result<()> {
        if self.packs.contains_key(&id) || self.busy.contains(&id) || self.wrong.contains(&id) {
            return Ok(());
        }
        let store = Store::open()?;
        if store.has(&id) {
            self.check(store.get(&id)?);
            return Ok(());
        }
        self.tries = self.tries.wrapping_add(1);
        let first = self.tries.checked_rem(holders.len()).unwrap_or(0);
        for peer in holders.iter().cycle().skip(first).take(holders.len()) {
            // Not connected, or too many requests: it is asked again after the next round.
            if let Ok(token) = network.request(*peer, PackRequest::of(&self.swarm, &id)) {
                self.asked.insert(token, id);
                self.busy.insert(id);
                break;
            }
        }
        Ok(())
    }

    /// Takes the answer to one of its questions; whether it was one.
    pub(crate) fn answered(
        &mut self,
        network: &mut Network,
        round: u32,
        from: PeerKey,
        request: &RequestToken,
        bytes: Option<&[u8]>,
    ) -> bool {
        let Some(id) = self.asked.remove(request) else { return false };
        let blob = bytes.and_then(|bytes| PackAnswer::read(bytes).ok()?.blob);
        match blob.filter(|blob| blob.len as usize <= ARCHIVE_BYTES_MAX) {
            Some(blob) => {
                self.fetching.insert(blob, (id, from));
                network.fetch(round, blob, &[from]);
            }
            None => drop(self.busy.remove(&id)),
        }
        true
    }

    /// Takes a blob that was fetched, or was not; whether it was asked for here, and what is wrong with it.
    pub(crate) fn fetched(&mut self, blob: &Address, bytes: Option<&[u8]>) -> Option<Option<String>> {
        let (id, from) = self.fetching.remove(blob)?;
        self.busy.remove(&id);
        let Some(bytes) = bytes else { return Some(None) };
        let Some(files) = PackFiles::from_archive(&id, bytes) else {
            return Some(Some(format!("{} gave bytes that are not those of the pack {id}", from.name())));
        };
        self.check(files);
        Some(None)
    }

    /// Checks a pack in a thread of its own.
    fn check(&mut self, files: PackFiles) {
        self.busy.insert(files.id());
        let (send, catalogue) = (self.send.clone(), self.catalogue.clone());
        tokio::task::spawn_blocking(move || {
            let outcome = verdict(&files, &catalogue);
            // A peer that has ended wants to know no more.
            let _ =
                send.blocking_send(Checked { id: files.id(), outcome: outcome.map(|pack| (pack, files)) });
        });
    }

    /// Takes note of a check.
    pub(crate) fn take(&mut self, network: &mut Network, checked: Checked) -> anyhow::Result<Vec<Said>> {
        let Checked { id, outcome } = checked;
        self.busy.remove(&id);
        match outcome {
            Ok((pack, files)) => {
                Store::open()?.put(&files)?;
                if let Some(blob) = network.pin(files.archive()) {
                    self.shelf.add(id, blob);
                }
                self.packs.insert(id, pack.clone());
                let mut said = vec![Said::Have(Box::new(pack))];
                if self.policy == Policy::Ask
                    && !self.own.contains_key(&id)
                    && self.before.open.contains_key(&PackKey(id.0))
                {
                    said.push(Said::Note(format!(
                        "the pack {id} passes its check; look at it with: murmur task preview {id}; to vote for it: murmur task propose {id} CONFIG"
                    )));
                }
                Ok(said)
            }
            Err(why) => {
                if self.wrong.len() >= REMEMBERED_MAX {
                    self.wrong.clear();
                }
                self.wrong.insert(id);
                self.own.remove(&id);
                Ok(vec![Said::Note(format!("the pack {id} fails its check: {why}"))])
            }
        }
    }

    fn read_notes(&mut self) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(&self.notes) else { return Ok(()) };
        for entry in entries.take(NOTES_MAX).filter_map(Result::ok) {
            let path = entry.path();
            if let Some((id, weight)) = read_note(&path) {
                self.own.insert(id, weight);
            }
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// The pack, or why it should not be drawn from.
fn verdict(files: &PackFiles, catalogue: &Catalogue) -> Result<Pack, String> {
    let report = tasks::check(files, &sandbox::run);
    if let Some(error) = report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(error.what.to_string());
    }
    let pack = Pack::open(files, &sandbox::run).map_err(|error| error.to_string())?;
    let mut with = catalogue.packs().to_vec();
    with.push((pack.clone(), 1));
    Catalogue::new(with).map_err(|error| error.to_string())?;
    Ok(pack)
}

/// Where the operator's proposals wait for the running peer.
pub(crate) fn notes(state: &Path) -> PathBuf {
    state.join("proposals")
}

/// Leaves a proposal for the peer of a state folder.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn leave_note(state: &Path, id: &PackId, weight: u32) -> anyhow::Result<()> {
    let dir = notes(state);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(id.to_string().replace(':', "-"));
    fs::write(&path, weight.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

fn read_note(path: &Path) -> Option<(PackId, u32)> {
    let name = path.file_name()?.to_str()?;
    let weight = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some((PackId::parse(&name.replacen('-', ":", 1))?, weight))
}
