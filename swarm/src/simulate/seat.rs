//! One simulated peer: its engine, disk, clock and character.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::adversary::Adversary;
use super::clock::Clock;
use super::policy::Skill;
use crate::blob::Address;
use crate::engine::{Engine, Output, Persist, Resume};
use crate::identity::Identity;
use crate::log::{Recall, Record};
use crate::manifest::Manifest;
use crate::wire::Hash;

/// What a peer is to the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Character {
    /// Keeps every rule; may crash and come back from its disk.
    Honest,
    /// Keeps every rule but may lose its disk; counts among the dishonest.
    Forgetful,
    /// Keeps every rule until it stops for good; counts among the dishonest.
    Leaver,
    /// Does what its adversary says.
    Dishonest,
}

/// A peer.
pub(super) struct Seat {
    pub(super) key: PeerKey,
    pub(super) identity: Identity,
    pub(super) clock: Clock,
    pub(super) character: Character,
    pub(super) adversary: Option<Box<dyn Adversary>>,
    pub(super) skill: Skill,
    /// Whether it is one of those that found the swarm.
    pub(super) founder: bool,
    /// `None` while it is down.
    pub(super) engine: Option<Engine>,
    pub(super) disk: Resume,
    /// What the engine asked to be logged since the disk was new.
    pub(super) log: Vec<Record>,
    /// Bodies that it keeps for others, with the round that needs them; lost when it stops.
    pub(super) bodies: BTreeMap<Address, (u32, Vec<u8>)>,
    /// Rises with every stop, so that work of an earlier life is not delivered to a later one.
    pub(super) life: u32,
    /// Virtual time of the next tick asked for.
    pub(super) wake_ms: u64,
    /// Outputs still performed before it stops in the middle of them.
    pub(super) cut_after: Option<u64>,
    /// Factor on the time its work takes.
    pub(super) slowness: u64,
}

impl Seat {
    /// Puts on the disk what an engine asked to be there.
    pub(super) fn persist(&mut self, persist: Persist) {
        match persist {
            Persist::SignedView(view) => self.disk.signed_view = view,
            Persist::Head(head) => self.disk.head = head,
        }
    }

    /// What a start takes from the log.
    pub(super) fn recall(&self, manifest: &Manifest) -> Result<Recall, String> {
        let start = self.disk.head.start(Hash(manifest.id().0)).map_err(|error| error.to_string())?;
        let mut recall = Recall::of(manifest, start);
        self.log.iter().for_each(|record| recall.note(record));
        Ok(recall)
    }

    /// Keeps a body for as long as others may ask for it.
    pub(super) fn keep(&mut self, round: u32, blob: Address, bytes: Vec<u8>) {
        self.bodies.retain(|_, (of, _)| *of + 1 >= round);
        self.bodies.insert(blob, (round, bytes));
    }

    /// The next output, unless the peer is to stop before it.
    pub(super) fn poll(&mut self) -> Option<Output> {
        if let Some(left) = &mut self.cut_after {
            if *left == 0 {
                return None;
            }
            *left -= 1;
        }
        self.engine.as_mut()?.poll()
    }

    /// Whether the peer has reached the output at which it is to stop.
    pub(super) fn is_cut(&self) -> bool {
        self.cut_after == Some(0)
    }

    /// Stops at once; what it was about to do is lost.
    pub(super) fn stop(&mut self) {
        self.engine = None;
        self.bodies.clear();
        self.life += 1;
        self.wake_ms = u64::MAX;
        self.cut_after = None;
    }
}
