//! A certificate in its chain: who must sign what builds on it, and what is final.
//!
//! Every statement names the roster that plays the round it starts. That roster plays at once, but it does
//! not sign at once: otherwise a certificate that later turns out to be skipped could hand the swarm over
//! to other peers. Let E(x) be the roster named by the newest *final* certificate on the chain to x, that
//! one included. The rules:
//!
//! * S1: a peer signs at most one statement a view, in rising views.
//! * S2: it signs nothing whose newest full ancestor is older than the newest full certificate it knows.
//! * Quorum: a child of x needs a quorum of E(x), of E(parent of x) and of E(grandparent of x); mostly
//!   these are one roster.
//! * F: x is final once a child of the exactly consecutive view exists.
//!
//! Why F holds. Let r be final by its child c, of view r + 1, and let d be the first certificate of a later
//! view that does not descend from r; its parent q is older than r. If a quorum of d and a quorum of c lie
//! in one roster, an honest peer signed both: c first (S1), so it knew r, and S2 forbids d. Rosters differ
//! between the branches only if r's branch saw something become final, by a certificate y, that q's branch
//! did not. Whatever follows y within two links still needs a quorum of the roster before y; so does c if it
//! is among them, which is the case above. If it is not, the certificates that follow y within two links were
//! signed by honest peers of q's electorate that knew y's child, which is newer than q, and S2 forbids d
//! again. `tests/verify/finality.py` searches for counterexamples at random: none with three electorates,
//! several with one, or without S2, or with gaps between the two views.
//!
//! A *degraded* certificate (only where the manifest says `available`) has fewer signatures: more than a
//! third of E(x). It never makes anything final, so E stays the last full roster, and no crowd of new
//! identities can replace it.

use std::collections::BTreeMap;
use std::sync::Arc;

use judge::PeerKey;
use serde::{Deserialize, Serialize};

use crate::certificate::{CertificateError, read_statement, statement_hash};
use crate::identity;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::manifest::Manifest;
use crate::message::{Certificate, STATEMENT_DOMAIN, Signed, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash, Sig};

/// Electorates that must sign a child: of its parent and of two generations before.
const GENERATIONS: usize = 3;

/// Who must sign, and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electorate {
    /// Peers entitled to sign, sorted.
    pub peers: Arc<[PeerKey]>,
    /// Signatures needed.
    pub needed: usize,
}

impl Electorate {
    /// Whether `peer` may sign.
    pub fn contains(&self, peer: &PeerKey) -> bool {
        self.peers.binary_search(peer).is_ok()
    }

    /// Whether these peers suffice.
    pub fn is_met<'a>(&self, signers: impl Iterator<Item = &'a PeerKey>) -> bool {
        signers.filter(|peer| self.contains(peer)).count() >= self.needed
    }
}

/// The electorates of the first certificate: a quorum of the listed peers, or everybody in the proposed
/// roster of an open genesis. Unanimity keeps two overlapping groups from both starting.
pub fn genesis_electorate(manifest: &Manifest, listed: &[PeerKey], roster: &[PeerKey]) -> Electorate {
    if listed.is_empty() {
        let needed = roster.len().max(manifest.genesis.peers_min.into());
        Electorate { peers: roster.into(), needed }
    } else {
        Electorate { peers: listed.into(), needed: manifest.faults.quorum(listed.len()) }
    }
}

/// What a certificate's place in the chain adds to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// E(x), E(parent), E(grandparent).
    electorates: Vec<Arc<[PeerKey]>>,
    /// View of the newest final certificate on the chain; 0 for the genesis.
    pub final_view: u32,
    /// Hash of its statement; the swarm id for the genesis.
    pub final_hash: Hash,
    /// View of the newest certificate on the chain that is not degraded, this one included.
    pub full_view: u32,
}

/// A certificate whose signatures were checked, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The statement.
    pub statement: Statement,
    /// Its hash, which signatures cover and children name.
    pub hash: Hash,
    /// The encoded certificate, as sent to peers that catch up.
    pub bytes: Vec<u8>,
    /// Its place.
    pub place: Place,
}

impl Link {
    /// Checks a certificate against its parent (none for the first of a swarm). Signatures that `known`
    /// vouches for are not verified again.
    ///
    /// # Errors
    /// [`CertificateError`] naming the first rule it breaks.
    pub fn verify(
        bytes: &[u8],
        manifest: &Manifest,
        swarm: &SwarmId,
        parent: Option<&Link>,
        known: impl Fn(&Hash, &Signed) -> bool,
    ) -> Result<Self, CertificateError> {
        let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX)?;
        let ending = parent.map_or(0, |parent| parent.statement.roster.len());
        let statement = read_statement(&certificate.statement, ending)?;
        follows(&statement, manifest, swarm, parent)?;
        let hash = statement_hash(&certificate.statement);
        let signers = valid_signers(&certificate.signatures, &hash, known);
        for electorate in needed(&statement, manifest, parent) {
            if !electorate.is_met(signers.iter()) {
                let valid = signers.iter().filter(|peer| electorate.contains(peer)).count();
                return Err(CertificateError::TooFew { valid, needed: electorate.needed });
            }
        }
        let place = Place::of(&statement, manifest, swarm, parent);
        Ok(Self { statement, hash, bytes: bytes.to_vec(), place })
    }

    /// A certificate that this peer verified in an earlier run.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn trusted(bytes: &[u8], place: Place) -> Result<Self, CertificateError> {
        let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX)?;
        let statement = read_statement(&certificate.statement, crate::limits::ROSTER_MAX)?;
        let hash = statement_hash(&certificate.statement);
        Ok(Self { statement, hash, bytes: bytes.to_vec(), place })
    }

    /// Position in the order in which branches are preferred: final first, then full, then the newest; the
    /// lower hash between two of one view.
    pub fn rank(&self) -> impl Ord + use<> {
        let Place { final_view, full_view, .. } = self.place;
        (final_view, full_view, self.statement.view, std::cmp::Reverse(self.hash))
    }

    /// Whether `peer` may sign children.
    pub fn is_elector(&self, peer: &PeerKey) -> bool {
        self.place.electorates.iter().any(|peers| peers.binary_search(peer).is_ok())
    }

    /// The roster that signs children once older ones have had their say.
    pub fn electorate(&self) -> &[PeerKey] {
        self.place.electorates.first().map_or(&[], |peers| peers)
    }
}

impl Place {
    /// The place of a child of `parent`.
    fn of(statement: &Statement, manifest: &Manifest, swarm: &SwarmId, parent: Option<&Link>) -> Self {
        let Some(parent) = parent else {
            let listed = manifest.genesis_peers().unwrap_or_default();
            let first: Arc<[PeerKey]> =
                if listed.is_empty() { statement.roster[..].into() } else { listed.into() };
            return Self {
                electorates: vec![first; GENERATIONS],
                final_view: 0,
                final_hash: Hash(swarm.0),
                full_view: statement.view,
            };
        };
        let full = !statement.degraded;
        let mut place = parent.place.clone();
        let mut newest = place.electorates.first().cloned().unwrap_or_default();
        if full && !parent.statement.degraded && statement.view == parent.statement.view.saturating_add(1) {
            (place.final_view, place.final_hash) = (parent.statement.view, parent.hash);
            if newest[..] != parent.statement.roster[..] {
                newest = parent.statement.roster[..].into();
            }
        }
        place.electorates.insert(0, newest);
        place.electorates.truncate(GENERATIONS);
        if full {
            place.full_view = statement.view;
        }
        place
    }
}

/// Whether a statement can stand where it claims to.
fn follows(
    statement: &Statement,
    manifest: &Manifest,
    swarm: &SwarmId,
    parent: Option<&Link>,
) -> Result<(), CertificateError> {
    let expected = parent.map_or(Hash(swarm.0), |parent| parent.hash);
    if statement.parent != expected {
        return Err(CertificateError::Parent { found: statement.parent, expected });
    }
    let (view, round) = parent.map_or((0, 0), |parent| (parent.statement.view, parent.statement.round));
    if statement.view <= view || statement.round != round.saturating_add(1) {
        return Err(CertificateError::Shape("view or round does not follow the parent's"));
    }
    if statement.degraded && (!manifest.available || parent.is_none()) {
        return Err(CertificateError::Shape("degraded where the manifest does not allow it"));
    }
    Ok(())
}

/// The electorates that must sign a statement, without repeats.
pub fn needed(statement: &Statement, manifest: &Manifest, parent: Option<&Link>) -> Vec<Electorate> {
    let Some(parent) = parent else {
        let listed = manifest.genesis_peers().unwrap_or_default();
        return vec![genesis_electorate(manifest, &listed, &statement.roster)];
    };
    let mut rosters = parent.place.electorates.clone();
    rosters.dedup();
    if statement.degraded {
        rosters.truncate(1);
    }
    let needed = |n: usize| if statement.degraded { n / 3 + 1 } else { manifest.faults.quorum(n) };
    rosters.into_iter().map(|peers| Electorate { needed: needed(peers.len()), peers }).collect()
}

/// Distinct peers with a valid signature over `hash`.
fn valid_signers(
    signatures: &[Signed],
    hash: &Hash,
    known: impl Fn(&Hash, &Signed) -> bool,
) -> std::collections::BTreeSet<PeerKey> {
    let distinct: BTreeMap<PeerKey, Sig> =
        signatures.iter().map(|signed| (signed.peer, signed.signature)).collect();
    let valid = |peer: &PeerKey, signature: Sig| {
        known(hash, &Signed { peer: *peer, signature })
            || identity::verify(peer, STATEMENT_DOMAIN, &hash.0, &signature.0)
    };
    distinct.into_iter().filter(|(peer, signature)| valid(peer, *signature)).map(|(peer, _)| peer).collect()
}
