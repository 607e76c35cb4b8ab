//! Packs that the swarm votes on while it runs: this peer's side of it.
//!
//! `murmur task propose` leaves a note in the peer's state folder; the peer finds it after a round. What others
//! propose is fetched from whoever is for it, checked as `murmur task check` does, in a thread of its own, and voted
//! on by the peer's policy. What the swarm has taken in without this peer is fetched in the same way.

mod checked;
mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use judge::{OpenPack, PackKey, PackVote, Packs, PeerKey};
use serde::{Deserialize, Serialize};
use swarm::blob::Address;
use swarm::net::{Network, RequestToken};
use swarm::packs::{PackAnswer, PackRequest, Shelf};
use swarm::topic::SwarmId;
use tasks::{ARCHIVE_BYTES_MAX, Catalogue, Pack, PackFiles, PackId};
use tokio::sync::mpsc;

pub(crate) use self::checked::Checked;
use self::checked::{Finding, examine};
pub(crate) use self::notes::{leave_note, notes};
use crate::store::Store;

/// Checks that may wait to be taken note of.
const CHECKED_MAX: usize = 16;
/// Packs that are no good here which are remembered, so that they are not fetched again.
const REMEMBERED_MAX: usize = 64;

/// What a peer says of packs that others propose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// For it if it passes its check and takes at most half of a round's prompts.
    Auto,
    /// Nothing until its operator proposes it too; against it if it fails its check.
    #[default]
    Ask,
    /// Against it, unseen.
    Never,
}

/// What came of a look at the swarm's packs.
#[derive(Debug)]
pub(crate) enum Said {
    /// To vote so.
    Vote(PackVote),
    /// A pack that can be drawn from.
    Have(Box<Pack>),
    /// One that is not needed any more.
    Gone(PackId),
    /// To tell people.
    Note(String),
}

/// What an operator wants of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// How often it is to be drawn.
    pub(crate) weight: u32,
    /// Whether a failed check does not matter.
    pub(crate) anyway: bool,
}

/// A pack that is here.
struct Kept {
    pack: Pack,
    /// What is to be stored once it is accepted: a vote that fails leaves nothing.
    unstored: Option<PackFiles>,
}

/// Why a pack is not here, or not voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It fails its check. It can be drawn from all the same, should the swarm want to.
    Fails,
    /// It cannot be drawn from.
    Broken,
    /// This machine could not tell.
    Unknown,
}

/// A peer's side of the votes on packs.
pub(crate) struct Proposals {
    policy: Policy,
    swarm: SwarmId,
    notes: PathBuf,
    store: Option<Store>,
    /// The manifest's packs, which a further one must go with.
    catalogue: Catalogue,
    shelf: Shelf,
    packs: BTreeMap<PackId, Kept>,
    /// Wanted by the operator.
    own: BTreeMap<PackId, Wish>,
    /// Asked for, fetched or checked at the moment.
    busy: BTreeSet<PackId>,
    /// Times that somebody was to be asked: another one each time.
    tries: usize,
    asked: BTreeMap<RequestToken, PackId>,
    fetching: BTreeMap<Address, (PackId, PeerKey)>,
    verdicts: BTreeMap<PackId, Verdict>,
    voted: BTreeMap<PackId, bool>,
    /// The newest round and the swarm's packs at its start.
    round: u32,
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
            // Only who votes or lacks a pack needs a store, and is told.
            store: Store::open().ok(),
            catalogue,
            shelf,
            packs: BTreeMap::new(),
            own: BTreeMap::new(),
            busy: BTreeSet::new(),
            tries: 0,
            asked: BTreeMap::new(),
            fetching: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            voted: BTreeMap::new(),
            round: 0,
            before: Packs::default(),
            send,
            checked,
        }
    }

    /// Answers a question about a pack.
    pub(crate) fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        self.shelf.serve(request)
    }

    /// Looks at the packs at the start of a round: what is new is told, fetched, voted on.
    pub(crate) fn look(&mut self, network: &mut Network, round: u32, now: &Packs) -> Vec<Said> {
        self.round = round;
        let mut said: Vec<Said> = if *now == self.before { Vec::new() } else { self.news(network, now) };
        self.before = now.clone();
        for (blob, (_, from)) in &self.fetching {
            // What is under way is wanted in this round too.
            network.fetch(round, *blob, &[*from]);
        }
        self.read_notes(&mut said);
        for id in self.own.keys().copied().collect::<Vec<_>>() {
            self.want(network, id, &[], &mut said);
            said.extend(self.vote(id, now.open.get(&PackKey(id.0))));
        }
        for (key, open) in &now.open {
            let id = PackId(key.0);
            if self.policy != Policy::Never && !self.verdicts.contains_key(&id) {
                let holders = open.votes.iter().filter(|(_, yes)| **yes).map(|(peer, _)| *peer);
                self.want(network, id, &holders.collect::<Vec<_>>(), &mut said);
            }
            said.extend(self.vote(id, Some(open)));
        }
        for key in now.accepted.keys() {
            let peers = network.peers();
            self.want(network, PackId(key.0), &peers, &mut said);
            said.extend(self.store_accepted(&PackId(key.0)));
        }
        said
    }

    /// What has changed, in words.
    fn news(&mut self, network: &mut Network, now: &Packs) -> Vec<Said> {
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        for (key, open) in now.open.iter().filter(|(key, _)| !self.before.open.contains_key(key)) {
            let (by, id, weight) = (open.proposer.name(), PackId(key.0), open.weight);
            news.push(format!("{by} proposes the pack {id} with weight {weight}"));
        }
        for key in self.before.open.keys().filter(|key| !now.open.contains_key(key)) {
            let id = PackId(key.0);
            self.voted.remove(&id);
            self.own.remove(&id);
            if !now.accepted.contains_key(key) {
                news.push(format!("the pack {id} was not taken in"));
                self.packs.remove(&id);
                if let Some(blob) = self.shelf.remove(&id) {
                    network.unpin(&blob);
                }
                gone.push(Said::Gone(id));
            }
        }
        for (key, accepted) in &now.accepted {
            let id = PackId(key.0);
            // Also one that was in before its proposal was seen here.
            self.own.remove(&id);
            if !self.before.accepted.contains_key(key) {
                news.push(format!("the pack {id} is taken in with weight {}", accepted.weight));
                // Whatever a vote on it was, it is needed now.
                self.verdicts.retain(|known, verdict| *known != id || *verdict != Verdict::Fails);
            }
        }
        gone.extend(news.into_iter().map(Said::Note));
        gone
    }

    /// What to say of a pack now, if that is new.
    fn vote(&mut self, id: PackId, open: Option<&OpenPack>) -> Option<Said> {
        let own = self.own.get(&id).copied();
        let have = self.packs.contains_key(&id);
        let accept = match (self.verdicts.get(&id), self.policy) {
            (Some(Verdict::Fails | Verdict::Broken), _) => Some(false),
            (Some(Verdict::Unknown), _) => None,
            (None, Policy::Never) if own.is_none() => Some(false),
            (None, Policy::Ask) if own.is_none() => None,
            (None, Policy::Auto)
                if own.is_none() && open.is_some_and(|open| self.is_too_heavy(open.weight)) =>
            {
                Some(false)
            }
            (None, _) => have.then_some(true),
        };
        let weight = open.map(|open| open.weight).or(own.map(|own| own.weight));
        let (accept, weight) = accept.zip(weight)?;
        if self.voted.insert(id, accept) == Some(accept) {
            return None;
        }
        Some(Said::Vote(PackVote { pack: PackKey(id.0), weight, accept }))
    }

    /// Whether more than half of the prompts would be of a pack of this weight.
    fn is_too_heavy(&self, weight: u32) -> bool {
        let manifest = self.catalogue.packs().iter().map(|(_, weight)| u64::from(*weight));
        let accepted = self.before.accepted.values().map(|accepted| u64::from(accepted.weight));
        u64::from(weight) > manifest.chain(accepted).sum()
    }

    /// Gets a pack that is not here: from the store, else from whoever may have it.
    fn want(&mut self, network: &mut Network, id: PackId, holders: &[PeerKey], said: &mut Vec<Said>) {
        if self.packs.contains_key(&id) || self.busy.contains(&id) || self.verdicts.contains_key(&id) {
            return;
        }
        if let Some(store) = self.store.as_ref().filter(|store| store.has(&id)) {
            match store.get(&id) {
                Ok(files) => return self.check(files),
                Err(error) => said.push(Said::Note(format!("{error:#}; others are asked for it"))),
            }
        }
        self.tries = self.tries.wrapping_add(1);
        let first = self.tries.checked_rem(holders.len()).unwrap_or(0);
        for peer in holders.iter().cycle().skip(first).take(holders.len()) {
            // Not connected, or too many requests: somebody is asked after the next round.
            if let Ok(token) = network.request(*peer, PackRequest::of(&self.swarm, &id)) {
                self.asked.insert(token, id);
                self.busy.insert(id);
                break;
            }
        }
    }

    /// Takes the answer to one of its questions, or that there is none; whether it was one of its questions.
    pub(crate) fn answered(
        &mut self,
        network: &mut Network,
        from: PeerKey,
        request: &RequestToken,
        bytes: Option<&[u8]>,
    ) -> bool {
        let Some(id) = self.asked.remove(request) else { return false };
        let blob = bytes.and_then(|bytes| PackAnswer::read(bytes).ok()?.blob);
        match blob.filter(|blob| blob.len as usize <= ARCHIVE_BYTES_MAX) {
            Some(blob) if !self.fetching.contains_key(&blob) => {
                self.fetching.insert(blob, (id, from));
                network.fetch(self.round, blob, &[from]);
            }
            // Asked again after the next round, of another one.
            _ => drop(self.busy.remove(&id)),
        }
        true
    }

    /// Takes a blob that was fetched, or was not; whether it was asked for here, and what is wrong with it.
    pub(crate) fn fetched(&mut self, blob: &Address, bytes: Option<&[u8]>) -> Option<Vec<Said>> {
        let (id, from) = self.fetching.remove(blob)?;
        self.busy.remove(&id);
        let Some(bytes) = bytes else { return Some(Vec::new()) };
        let Some(files) = PackFiles::from_archive(&id, bytes) else {
            let note = format!("{} gave bytes that are not those of the pack {id}", from.name());
            return Some(vec![Said::Note(note)]);
        };
        self.check(files);
        Some(Vec::new())
    }

    /// Checks a pack in a thread of its own.
    fn check(&mut self, files: PackFiles) {
        self.busy.insert(files.id());
        let (send, catalogue) = (self.send.clone(), self.with_accepted());
        std::thread::spawn(move || {
            // A peer that has ended wants to know no more.
            let _ = send.blocking_send(examine(files, &catalogue));
        });
    }

    /// The manifest's packs and those taken in since, as far as they are here.
    fn with_accepted(&self) -> Catalogue {
        let here = self.before.accepted.iter().filter_map(|(key, accepted)| {
            let pack = self.packs.get(&PackId(key.0))?;
            Some((pack.pack.clone(), accepted.weight))
        });
        let packs = self.catalogue.packs().iter().cloned().chain(here);
        Catalogue::new(packs.collect()).unwrap_or_else(|_| self.catalogue.clone())
    }

    /// Takes note of a check.
    pub(crate) fn take(&mut self, network: &mut Network, checked: Checked) -> Vec<Said> {
        let Checked { id, card, finding } = checked;
        self.busy.remove(&id);
        let accepted = self.before.accepted.contains_key(&PackKey(id.0));
        let wanted = self.own.get(&id).is_some_and(|own| own.anyway);
        match finding {
            Finding::Passes(pack, files) => self.have(network, id, &card, *pack, files),
            Finding::Fails(why, pack, files) if accepted => {
                let mut said = self.have(network, id, &card, *pack, files);
                said.push(Said::Note(format!(
                    "the swarm draws from it, though here it fails its check: {why}\nhint: to go on without it: murmur fork"
                )));
                said
            }
            Finding::Fails(why, pack, files) if wanted => {
                let mut said = self.have(network, id, &card, *pack, files);
                said.push(Said::Note(format!("it fails its check, and is voted for all the same: {why}")));
                said
            }
            Finding::Fails(why, ..) => {
                self.remember(id, Verdict::Fails);
                vec![Said::Note(format!("the pack {card} fails its check: {why}"))]
            }
            Finding::Broken(why) => {
                self.remember(id, Verdict::Broken);
                vec![Said::Note(format!("the pack {card} cannot be used: {why}"))]
            }
            Finding::Unknown(why) => {
                self.remember(id, Verdict::Unknown);
                vec![Said::Note(format!("no vote on the pack {card}: {why}"))]
            }
        }
    }

    /// A pack is here and can be drawn from.
    fn have(
        &mut self,
        network: &mut Network,
        id: PackId,
        card: &str,
        pack: Pack,
        files: PackFiles,
    ) -> Vec<Said> {
        if let Some(blob) = network.pin(files.archive()) {
            self.shelf.add(id, blob);
        }
        let mut said = vec![Said::Have(Box::new(pack.clone()))];
        self.packs.insert(id, Kept { pack, unstored: Some(files) });
        let under_vote = self.before.open.contains_key(&PackKey(id.0));
        if under_vote && self.policy == Policy::Ask && !self.own.contains_key(&id) {
            said.push(Said::Note(format!(
                "the pack {card} passes its check\nhint: look at it with: murmur task preview {id}; to vote for it: murmur task propose {id} CONFIG"
            )));
        } else {
            said.push(Said::Note(format!("the pack {card} is here")));
        }
        said
    }

    /// Stores an accepted pack that is here, for the next start.
    fn store_accepted(&mut self, id: &PackId) -> Option<Said> {
        let files = self.packs.get_mut(id)?.unstored.take()?;
        let error = self.store.as_ref()?.put(&files).err()?;
        // It is in memory; only a restart has to fetch it again.
        Some(Said::Note(format!("the pack {id} was not stored: {error:#}")))
    }

    fn remember(&mut self, id: PackId, verdict: Verdict) {
        if self.verdicts.len() >= REMEMBERED_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(id, verdict);
        self.own.remove(&id);
    }
}
