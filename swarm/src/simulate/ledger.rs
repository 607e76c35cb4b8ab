//! Every certificate that exists anywhere, and which of them are final.
//!
//! A certificate is final once the certificate of the exactly next view builds on it (neither degraded), and with
//! it everything it builds on. The ledger computes this for itself, from the certificates alone.

use std::collections::BTreeMap;

use crate::certificate;
use crate::chain::Link;
use crate::limits::{ENVELOPE_BYTES_MAX, ROSTER_MAX};
use crate::manifest::Manifest;
use crate::message::Certificate;
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// All certificates by the hash of their statements.
#[derive(Default)]
pub(super) struct Ledger {
    all: BTreeMap<Hash, Link>,
    by_view: BTreeMap<(u32, Hash), ()>,
    /// The final certificate of each round.
    finals: BTreeMap<u32, Hash>,
    /// Seen before their parents.
    orphans: BTreeMap<Hash, Vec<Vec<u8>>>,
    newest_final: Option<Hash>,
}

/// What adding a certificate showed.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Newly known certificates.
    pub(super) certified: Vec<Hash>,
    /// What must not be.
    pub(super) broken: Vec<(&'static str, String)>,
}

/// No two statements of one view are certified.
pub(super) const ONE_A_VIEW: &str = "one certificate a view";
/// No two certificates of one round are final.
pub(super) const ONE_FINAL: &str = "one final certificate a round";
/// What is certified in a later view than a final certificate builds on it.
pub(super) const BUILDS_ON_FINAL: &str = "later certificates build on the final one";
/// Whatever a peer takes for a certificate has a quorum behind it.
pub(super) const QUORUM: &str = "certificates carry a quorum";

/// Whether a certificate is full and of the view right before `view`.
fn precedes(parent: &Link, view: u32) -> bool {
    !parent.statement.degraded && parent.statement.view.checked_add(1) == Some(view)
}

impl Ledger {
    /// Takes an encoded certificate that somebody holds.
    pub(super) fn add(&mut self, manifest: &Manifest, swarm: &SwarmId, bytes: &[u8]) -> Added {
        let mut added = Added::default();
        let mut waiting = vec![bytes.to_vec()];
        while let Some(bytes) = waiting.pop() {
            if let Some(hash) = self.add_one(manifest, swarm, &bytes, &mut added) {
                waiting.extend(self.orphans.remove(&hash).unwrap_or_default());
            }
        }
        added
    }

    fn add_one(
        &mut self,
        manifest: &Manifest,
        swarm: &SwarmId,
        bytes: &[u8],
        added: &mut Added,
    ) -> Option<Hash> {
        let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX).ok()?;
        let hash = certificate::statement_hash(&certificate.statement);
        if self.all.contains_key(&hash) {
            return None;
        }
        let statement = certificate::read_statement(&certificate.statement, ROSTER_MAX).ok()?;
        let parent = self.all.get(&statement.parent);
        if parent.is_none() && statement.parent.0 != swarm.0 {
            let orphans = self.orphans.entry(statement.parent).or_default();
            if !orphans.iter().any(|known| known == bytes) {
                orphans.push(bytes.to_vec());
            }
            return None;
        }
        match Link::verify(bytes, manifest, swarm, parent, |_, _| false) {
            Ok(certified) => {
                self.insert(certified, added);
                added.certified.push(hash);
                Some(hash)
            }
            Err(why) => {
                added.broken.push((QUORUM, format!("view {}: {why}", statement.view)));
                None
            }
        }
    }

    fn insert(&mut self, certified: Link, added: &mut Added) {
        let (hash, view, parent) = (certified.hash, certified.statement.view, certified.statement.parent);
        let full = !certified.statement.degraded;
        self.all.insert(hash, certified);
        let twin = self
            .by_view
            .range((view, Hash([0; 32]))..=(view, Hash([0xff; 32])))
            .next()
            .map(|(key, ())| key.1);
        if let Some(twin) = twin.filter(|twin| full && !self.is_degraded(twin)) {
            added.broken.push((ONE_A_VIEW, self.tell_pair(&hash, &twin)));
        }
        self.by_view.insert((view, hash), ());
        if let Some(newest) = self.newest_final
            && !self.builds_on_or_precedes(&hash, &newest)
        {
            added.broken.push((BUILDS_ON_FINAL, self.tell_pair(&hash, &newest)));
        }
        if full && self.all.get(&parent).is_some_and(|parent| precedes(parent, view)) {
            self.finalise(parent, added);
        }
    }

    fn finalise(&mut self, hash: Hash, added: &mut Added) {
        let mut at = Some(hash);
        while let Some(certified) = at.and_then(|hash| self.all.get(&hash)) {
            let round = certified.statement.round;
            match self.finals.get(&round) {
                Some(known) if *known == certified.hash => break,
                Some(known) => {
                    added.broken.push((ONE_FINAL, self.tell_pair(known, &certified.hash)));
                    break;
                }
                None => drop(self.finals.insert(round, certified.hash)),
            }
            at = Some(certified.statement.parent);
        }
        let view = |hash: &Hash| self.all.get(hash).map_or(0, |certified| certified.statement.view);
        if self.newest_final.is_none_or(|newest| view(&newest) < view(&hash)) {
            self.newest_final = Some(hash);
            let from = (view(&hash).saturating_add(1), Hash([0; 32]));
            for (_, later) in self.by_view.range(from..).map(|(key, ())| *key) {
                if !self.builds_on_or_precedes(&later, &hash) {
                    added.broken.push((BUILDS_ON_FINAL, self.tell_pair(&later, &hash)));
                }
            }
        }
    }

    /// Whether `hash` is of an earlier view than the final certificate, or builds on it.
    fn builds_on_or_precedes(&self, hash: &Hash, newest_final: &Hash) -> bool {
        let Some(target) = self.all.get(newest_final) else { return true };
        let mut at = self.all.get(hash);
        if at.is_some_and(|certified| certified.statement.view < target.statement.view) {
            return true;
        }
        while let Some(certified) = at {
            if certified.hash == *newest_final {
                return true;
            }
            if certified.statement.view <= target.statement.view {
                return false;
            }
            at = self.all.get(&certified.statement.parent);
        }
        false
    }

    fn is_degraded(&self, hash: &Hash) -> bool {
        self.all.get(hash).is_some_and(|link| link.statement.degraded)
    }

    fn tell_pair(&self, one: &Hash, other: &Hash) -> String {
        let tell = |hash: &Hash| match self.all.get(hash) {
            Some(certified) => {
                format!(
                    "{} (round {}, view {})",
                    hash.short(),
                    certified.statement.round,
                    certified.statement.view
                )
            }
            None => hash.short(),
        };
        format!("{} and {}", tell(one), tell(other))
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Link> {
        self.all.get(hash)
    }

    /// The final certificate of a round.
    pub(super) fn final_of(&self, round: u32) -> Option<&Hash> {
        self.finals.get(&round)
    }

    /// The newest round with a final certificate; 0 before any.
    pub(super) fn final_round(&self) -> u32 {
        self.finals.last_key_value().map_or(0, |(round, _)| *round)
    }

    /// Certificates known, and how many of them have a sibling on the same parent.
    pub(super) fn forks(&self) -> (usize, usize) {
        let mut children: BTreeMap<Hash, usize> = BTreeMap::new();
        for certified in self.all.values() {
            *children.entry(certified.statement.parent).or_default() += 1;
        }
        (self.all.len(), children.values().filter(|&&count| count > 1).map(|count| count - 1).sum())
    }

    /// Certificates whose parents nobody has shown.
    pub(super) fn orphans(&self) -> usize {
        self.orphans.values().map(Vec::len).sum()
    }
}
