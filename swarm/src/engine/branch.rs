//! Which certificate to build on.
//!
//! A certificate that few peers saw may be overtaken: the others find the view void and certify the same
//! round again. So the newest certificates form a small tree above the newest final one. A peer builds on the
//! one of highest rank ([`Link::rank`]) and changes branch when a better one turns up; it never leaves what
//! is final. Who trained on a round that another branch settles again has trained on one extra batch.

use std::collections::{BTreeMap, VecDeque};

use judge::PeerKey;
use serde_bytes::ByteBuf;

use super::event::Event;
use super::{Engine, Output, Persist, StoredHead};
use crate::certificate::beacon;
use crate::chain::{Link, Place};
use crate::limits::{BRANCHES_MAX, CHAIN_MAX, ENVELOPE_BYTES_MAX};
use crate::wire::{self, Hash};

/// A certificate (none for the genesis) and what follows from it.
pub(crate) struct Node {
    pub(super) link: Option<Link>,
    /// The judge's state, where this peer computed or was given it.
    pub(super) state: Option<judge::State>,
    /// Who plays the round that it starts.
    pub(super) roster: Vec<PeerKey>,
    pub(super) beacon: Hash,
}

impl Node {
    fn of(link: Link) -> Self {
        Self {
            state: None,
            roster: link.statement.roster.clone(),
            beacon: beacon(&link.hash),
            link: Some(link),
        }
    }
}

/// The newest certificates.
pub(super) struct Branches {
    /// By the hash of their statements (the swarm id for the genesis); never empty, and always with the head.
    nodes: BTreeMap<Hash, Node>,
    head: Hash,
    /// The head's ancestors and itself, oldest first, for peers that catch up.
    chain: VecDeque<Link>,
    /// Last link of a verified chain that is longer than one repair answer.
    pub(super) pursued: Option<Link>,
    /// Repair requests since it was found.
    pub(super) pursued_asks: u32,
}

impl Branches {
    pub(super) fn new(genesis: Hash, node: Node) -> Self {
        Self {
            nodes: BTreeMap::from([(genesis, node)]),
            head: genesis,
            chain: VecDeque::new(),
            pursued: None,
            pursued_asks: 0,
        }
    }

    /// Certificates in the tree and in the chain.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.nodes.len(), self.chain.len())
    }

    pub(super) fn head(&self) -> &Node {
        // `head` is only ever set to the key of a node that was just put in, and pruning keeps it.
        &self.nodes[&self.head]
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Node> {
        self.nodes.get(hash)
    }

    /// A link by its hash, where one is known.
    pub(super) fn link(&self, hash: &Hash) -> Option<&Link> {
        let pursued = self.pursued.as_ref().filter(|link| link.hash == *hash);
        pursued.or_else(|| self.nodes.get(hash).and_then(|node| node.link.as_ref()))
    }

    /// Certificates of the preferred branch after `view`, oldest first.
    pub(super) fn after(&self, view: u32) -> impl Iterator<Item = &Link> {
        self.chain.iter().filter(move |link| link.statement.view > view)
    }

    /// Certificates here of one view: more than one if a third of a roster signed twice.
    pub(super) fn of_view(&self, view: u32) -> impl Iterator<Item = &Link> {
        let links = self.nodes.values().filter_map(|node| node.link.as_ref());
        links.filter(move |link| link.statement.view == view)
    }

    /// Puts older certificates, oldest first, before those of the chain, if they lead to them.
    pub(super) fn remember(&mut self, mut older: VecDeque<Link>) {
        let Some(first) = self.chain.front() else { return };
        let Some(at) = older.iter().rposition(|link| link.hash == first.statement.parent) else { return };
        older.truncate(at + 1);
        while let Some(link) = older.pop_back().filter(|_| self.chain.len() < CHAIN_MAX) {
            self.chain.push_front(link);
        }
    }

    /// Whether a link is better than the head.
    pub(super) fn is_better(&self, link: &Link) -> bool {
        self.head().link.as_ref().is_none_or(|head| link.rank() > head.rank())
    }

    /// View, round and hash of the head's ancestors that are final and newer than `view`, oldest first.
    fn finals(&self, view: u32) -> Vec<(u32, u32, Hash)> {
        let newest = self.head().link.as_ref().map_or(0, |link| link.place.final_view);
        let finals = self.after(view).take_while(|link| link.statement.view <= newest);
        finals.map(|link| (link.statement.view, link.statement.round, link.hash)).collect()
    }

    /// Links from the newest final certificate on the head's chain to the head, oldest first.
    fn path(&self) -> Vec<&Link> {
        let Some(head) = &self.head().link else { return Vec::new() };
        self.chain.iter().filter(|link| link.statement.view >= head.place.final_view).collect()
    }

    /// Takes links in (oldest first, each the child of the one before or of a node here) and makes the last
    /// one the head. Returns whether that left the branch of the head before.
    pub(super) fn extend(&mut self, links: Vec<Link>, state: judge::State) -> bool {
        let before = self.head;
        let mut links: VecDeque<Link> = links.into();
        // The chain of the new branch from where it leaves the present one.
        let mut at = links.front().map(|link| link.statement.parent);
        while let Some(hash) = at.filter(|hash| !self.chain.iter().any(|link| link.hash == *hash)) {
            let Some(link) = self.nodes.get(&hash).and_then(|node| node.link.clone()) else { break };
            at = Some(link.statement.parent);
            links.push_front(link);
        }
        let switched = at.is_some_and(|at| at != before && self.chain.iter().any(|link| link.hash == at));
        while self.chain.back().is_some_and(|last| Some(last.hash) != at) {
            self.chain.pop_back();
        }
        for link in links {
            if self.chain.len() == CHAIN_MAX {
                self.chain.pop_front();
            }
            self.chain.push_back(link.clone());
            self.head = link.hash;
            self.nodes.entry(link.hash).or_insert_with(|| Node::of(link));
        }
        if let Some(node) = self.nodes.get_mut(&self.head) {
            node.state = Some(state);
        }
        self.pursued = None;
        self.prune();
        switched
    }

    /// Drops what is older than the newest final certificate, and the oldest beyond [`BRANCHES_MAX`].
    fn prune(&mut self) {
        let Some(head) = &self.head().link else { return };
        let (final_view, head) = (head.place.final_view, self.head);
        let view = |node: &Node| node.link.as_ref().map_or(0, |link| link.statement.view);
        self.nodes.retain(|_, node| view(node) >= final_view);
        while self.nodes.len() > BRANCHES_MAX {
            let oldest = self.nodes.iter().filter(|(hash, _)| **hash != head);
            let Some(oldest) = oldest.min_by_key(|(_, node)| view(node)).map(|(hash, _)| *hash) else {
                break;
            };
            self.nodes.remove(&oldest);
        }
    }
}

impl Engine {
    /// Makes the last of some verified links the head and tells caller and people. Returns whether this peer has
    /// been in a round of that number before, on another branch: then it says nothing in this one, since work
    /// that was begun for that one may still come in.
    pub(super) fn set_head(&mut self, links: Vec<Link>, state: judge::State) -> bool {
        self.compare_signatures(&links);
        let round_before = self.round_number();
        let final_before = self.final_view();
        let (view_before, _) = self.newest();
        let switched = self.branches.extend(links, state);
        self.forgetful = false;
        let Some(link) = self.head().link.clone() else { return false };
        let (view, round) = (link.statement.view, link.statement.round);
        self.agreement.restart(view);
        let stored = self.stored_head();
        self.output(Output::Persist(Persist::Head(stored)));
        if switched {
            self.event(Event::Switched { from: view_before, to: view });
        }
        let (member, roster) = (self.is_member(), link.statement.roster.len() as u32);
        self.event(Event::Certified { view, round, roster, member, degraded: link.statement.degraded });
        for (view, round, statement) in self.branches.finals(final_before) {
            self.event(Event::Final { view, round, statement });
        }
        if !member {
            // Says at once that it keeps up, so that the next proposer can let it in.
            self.publish_presence();
        }
        round <= round_before || self.quiet.is_some()
    }

    fn stored_head(&self) -> StoredHead {
        let path = self.branches.path();
        let place = path.first().map(|link| wire::encode(&link.place)).unwrap_or_default();
        StoredHead {
            place,
            path: path.iter().map(|link| ByteBuf::from(link.bytes.clone())).collect(),
            state: self.head().state.as_ref().map(wire::encode).unwrap_or_default(),
        }
    }

    /// The links of a stored head, verified again except for the first, which this peer verified before; or what is
    /// wrong with them.
    pub(super) fn stored_links(&self, stored: &StoredHead) -> Result<Vec<Link>, String> {
        let place: Place = wire::decode(&stored.place, ENVELOPE_BYTES_MAX)
            .map_err(|why| format!("the place of the first: {why}"))?;
        let (first, later) = stored.path.split_first().ok_or("there are none")?;
        let mut links = vec![Link::trusted(first, place).map_err(|why| format!("the first: {why}"))?];
        for bytes in later {
            let link = Link::verify(bytes, &self.manifest, &self.swarm, links.last(), |_, _| false)
                .map_err(|why| format!("one of the later ones: {why}"))?;
            links.push(link);
        }
        Ok(links)
    }
}
