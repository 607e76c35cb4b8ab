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
//! Why F holds, in outline. Let r be final by its child c, of view r + 1, and let d be the first certificate of
//! a later view that does not descend from r; its parent q is older than r. If one roster gave a quorum to both
//! c and d, an honest peer signed both: c first (S1), so it knew r, and S2 forbids d. The rosters can differ
//! only where r's branch saw something become final, by a certificate y, that q's branch did not see. The next
//! two certificates after y still carry a quorum of the roster before y, whose honest signers thereby know y
//! or its child. Either c is among them, which is the case above, or what they know is newer than q, and S2
//! forbids d again. `tests/verify/finality.py` searches for counterexamples at random: none with these rules,
//! some with any one of them weakened.
//!
//! A *degraded* certificate (only where the manifest says `available`) has fewer signatures: more than a
//! third of E(x). It never makes anything final, so E stays the last full roster, and no crowd of new
//! identities can replace it.

use std::collections::BTreeMap;
use std::sync::Arc;

use judge::PeerKey;
use serde::{Deserialize, Serialize};

use crate::certificate::{
    CertificateError, beacon, convictions_hold, proposer, read_statement, signed_bytes, statement_hash,
};
use crate::defences::Defences;
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
fn genesis_electorate(manifest: &Manifest, roster: &[PeerKey]) -> Electorate {
    let listed = manifest.genesis_peers().unwrap_or_default();
    if listed.is_empty() {
        let needed = roster.len().max(manifest.genesis.peers_min.into());
        Electorate { peers: roster.into(), needed }
    } else {
        Electorate { needed: manifest.faults.quorum(listed.len()), peers: listed.into() }
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
    /// Round that it starts; 0 for the genesis.
    pub final_round: u32,
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
        Self::verify_under(Defences::default(), bytes, manifest, swarm, parent, known)
    }

    /// [`Self::verify`] with some defences down.
    pub(crate) fn verify_under(
        defences: Defences,
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
        let known = |hash: &Hash, signed: &Signed| !defences.certificates || known(hash, signed);
        let electorates = needed_under(defences, &statement, manifest, parent);
        let entitled = |peer: &PeerKey| electorates.iter().any(|electorate| electorate.contains(peer));
        let mut signatures = certificate.signatures;
        // A certificate of strangers' signatures alone would take a message's worth of them to check.
        signatures.retain(|signed| entitled(&signed.peer));
        let signers = valid_signers(swarm, &signatures, &hash, known);
        for electorate in &electorates {
            if !electorate.is_met(signers.iter()) {
                let valid = signers.iter().filter(|peer| electorate.contains(peer)).count();
                return Err(CertificateError::TooFew { valid, needed: electorate.needed });
            }
        }
        let place = Place::of(defences, &statement, manifest, swarm, parent);
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

    /// A certificate that somebody vouches for by its hash, from those before it: each is the parent of the next, and
    /// it is the last. Hashes vouch for the others in turn, so that no signature is needed; who may sign what builds
    /// on it follows from them if they reach back far enough.
    ///
    /// # Errors
    /// They are not such a chain, or too few of them.
    pub fn vouched(
        certificates: &[serde_bytes::ByteBuf],
        manifest: &Manifest,
        swarm: &SwarmId,
        hash: &Hash,
    ) -> Result<Self, CertificateError> {
        let nobody: Arc<[PeerKey]> = Arc::from([]);
        let unknown = Place {
            electorates: vec![nobody; GENERATIONS],
            final_view: 0,
            final_hash: Hash::default(),
            final_round: 0,
            full_view: 0,
        };
        let mut newest: Option<Self> = None;
        for bytes in certificates {
            let mut link = Self::trusted(bytes, unknown.clone())?;
            let (found, first) = (link.statement.parent, Hash(swarm.0));
            if let Some(parent) = newest.as_ref().filter(|parent| found != parent.hash) {
                return Err(CertificateError::Parent { found, expected: parent.hash });
            }
            if newest.is_some() || found == first {
                link.place =
                    Place::of(Defences::default(), &link.statement, manifest, swarm, newest.as_ref());
            }
            newest = Some(link);
        }
        match newest.filter(|link| link.hash == *hash) {
            None => Err(CertificateError::Shape("not the certificate that is vouched for")),
            Some(link) if link.place.electorates.iter().any(|peers| peers.is_empty()) => {
                Err(CertificateError::Shape("too few certificates before it to know who signs after it"))
            }
            Some(link) => Ok(link),
        }
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

    /// Whether the certificate carries a good signature of `peer`.
    pub fn is_signed_by(&self, swarm: &SwarmId, peer: &PeerKey) -> bool {
        let Ok(Certificate { signatures, .. }) = wire::decode(&self.bytes, ENVELOPE_BYTES_MAX) else {
            return false;
        };
        let theirs: Vec<Signed> = signatures.into_iter().filter(|signed| signed.peer == *peer).collect();
        !valid_signers(swarm, &theirs, &self.hash, |_, _| false).is_empty()
    }

    /// Whose turn it is to propose a child in `view`. Of the electorate and not of the roster: a quorum of it must
    /// be here anyway, and a roster that nobody of plays cannot keep the swarm from going on.
    pub fn proposer(&self, view: u32) -> Option<PeerKey> {
        proposer(self.electorate(), &beacon(&self.hash), view)
    }

    /// The roster that signs children once older ones have had their say.
    pub fn electorate(&self) -> &[PeerKey] {
        self.place.electorates.first().map_or(&[], |peers| peers)
    }
}

impl Place {
    /// The place of a child of `parent`.
    fn of(
        defences: Defences,
        statement: &Statement,
        manifest: &Manifest,
        swarm: &SwarmId,
        parent: Option<&Link>,
    ) -> Self {
        let Some(parent) = parent else {
            let first = genesis_electorate(manifest, &statement.roster);
            return Self {
                electorates: vec![first.peers; GENERATIONS],
                final_view: 0,
                final_hash: Hash(swarm.0),
                final_round: 0,
                full_view: statement.view,
            };
        };
        let full = !statement.degraded;
        let mut place = parent.place.clone();
        let mut newest = place.electorates.first().cloned().unwrap_or_default();
        let next_view = statement.view == parent.statement.view.saturating_add(1) || !defences.next_view;
        if full && !parent.statement.degraded && next_view {
            (place.final_view, place.final_hash) = (parent.statement.view, parent.hash);
            place.final_round = parent.statement.round;
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
    convictions_hold(statement, parent.map(|parent| &parent.statement)).map_err(CertificateError::Shape)?;
    Ok(())
}

/// The electorates that must sign a statement, without repeats.
pub fn needed(statement: &Statement, manifest: &Manifest, parent: Option<&Link>) -> Vec<Electorate> {
    needed_under(Defences::default(), statement, manifest, parent)
}

/// [`needed`] with some defences down.
pub(crate) fn needed_under(
    defences: Defences,
    statement: &Statement,
    manifest: &Manifest,
    parent: Option<&Link>,
) -> Vec<Electorate> {
    let Some(parent) = parent else {
        return vec![genesis_electorate(manifest, &statement.roster)];
    };
    let mut rosters = parent.place.electorates.clone();
    rosters.dedup();
    if statement.degraded {
        rosters.truncate(1);
        if !defences.full_roster {
            rosters = vec![parent.statement.roster[..].into()];
        }
    }
    let needed = |n: usize| if statement.degraded { n / 3 + 1 } else { manifest.faults.quorum(n) };
    rosters.into_iter().map(|peers| Electorate { needed: needed(peers.len()), peers }).collect()
}

/// Distinct peers with a valid signature over `hash`.
fn valid_signers(
    swarm: &SwarmId,
    signatures: &[Signed],
    hash: &Hash,
    known: impl Fn(&Hash, &Signed) -> bool,
) -> std::collections::BTreeSet<PeerKey> {
    let distinct: BTreeMap<PeerKey, Sig> =
        signatures.iter().map(|signed| (signed.peer, signed.signature)).collect();
    let valid = |peer: &PeerKey, signature: Sig| {
        known(hash, &Signed { peer: *peer, signature })
            || identity::verify(peer, STATEMENT_DOMAIN, &signed_bytes(swarm, hash), &signature.0)
    };
    distinct.into_iter().filter(|(peer, signature)| valid(peer, *signature)).map(|(peer, _)| peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::Bitmap;
    use crate::identity::Identity;
    use crate::manifest::{FaultModel, Genesis, PackPin, RoundRules};

    fn identities(numbers: std::ops::RangeInclusive<u8>) -> Vec<Identity> {
        let mut all: Vec<Identity> = numbers.map(|i| Identity::from_seed([i; 32])).collect();
        all.sort_by_key(Identity::public);
        all
    }

    fn keys(identities: &[Identity]) -> Vec<PeerKey> {
        let mut keys: Vec<PeerKey> = identities.iter().map(Identity::public).collect();
        keys.sort();
        keys
    }

    fn manifest(founders: &[Identity]) -> Manifest {
        Manifest {
            name: "test".into(),
            seed: String::new(),
            packs: vec![PackPin { id: "native:six".into(), weight: 1 }],
            models: Vec::new(),
            faults: FaultModel::Byzantine,
            available: true,
            genesis: Genesis { peers: keys(founders).iter().map(PeerKey::hex).collect(), peers_min: 3 },
            membership: crate::membership::Membership::default(),
            round: RoundRules::default(),
            judge: judge::Rules::default(),
            parent: None,
        }
    }

    /// What `signers` make of a statement on `parent`.
    fn certify(
        manifest: &Manifest,
        parent: Option<&Link>,
        (view, degraded): (u32, bool),
        roster: &[Identity],
        signers: &[Identity],
    ) -> Result<Link, CertificateError> {
        let swarm = manifest.id();
        let statement = wire::encode(&Statement {
            view,
            round: parent.map_or(1, |parent| parent.statement.round + 1),
            parent: parent.map_or(Hash(swarm.0), |parent| parent.hash),
            commits: Bitmap::default(),
            answers: Bitmap::default(),
            critiques: Bitmap::default(),
            ballots: Bitmap::default(),
            items: Hash::default(),
            settlement: Hash::default(),
            state: Hash::default(),
            roster: keys(roster),
            offenders: Vec::new(),
            degraded,
        });
        let hash = statement_hash(&statement);
        let sign = |identity: &Identity| Signed {
            peer: identity.public(),
            signature: Sig(identity.sign(STATEMENT_DOMAIN, &signed_bytes(&swarm, &hash))),
        };
        let certificate = Certificate { statement, signatures: signers.iter().map(sign).collect() };
        Link::verify(&wire::encode(&certificate), manifest, &swarm, parent, |_, _| false)
    }

    #[test]
    fn a_new_roster_signs_once_it_is_final_and_the_old_one_has_let_go() {
        let (old, new) = (identities(1..=4), identities(11..=14));
        let manifest = manifest(&old);
        let both = [&old[..], &new[..]].concat();
        let full =
            |parent: &Link, view, signers| certify(&manifest, Some(parent), (view, false), &new, signers);
        let a = certify(&manifest, None, (1, false), &new, &old).unwrap();
        assert_eq!((a.place.final_view, a.electorate()), (0, &keys(&old)[..]));
        assert!(matches!(full(&a, 2, &new), Err(CertificateError::TooFew { valid: 0, needed: 3 })));
        assert!(matches!(full(&a, 2, &old[..2]), Err(CertificateError::TooFew { valid: 2, needed: 3 })));
        let b = full(&a, 2, &old[..3]).unwrap();
        assert_eq!((b.place.final_view, b.place.final_hash, b.electorate()), (1, a.hash, &keys(&new)[..]));
        // The next two need both.
        let mut at = b;
        for view in 3..=4 {
            assert!(full(&at, view, &new).is_err() && full(&at, view, &old).is_err());
            at = full(&at, view, &both).unwrap();
        }
        let last = full(&at, 5, &new[..3]).unwrap();
        assert_eq!(last.place.final_view, 4);
    }

    #[test]
    fn nothing_is_final_across_a_gap() {
        let peers = identities(1..=4);
        let manifest = manifest(&peers);
        let a = certify(&manifest, None, (1, false), &peers, &peers).unwrap();
        let b = certify(&manifest, Some(&a), (3, false), &peers, &peers).unwrap();
        assert_eq!(b.place.final_view, 0);
        let c = certify(&manifest, Some(&b), (4, false), &peers, &peers).unwrap();
        assert_eq!(c.place.final_view, 3);
        assert!(c.rank() > b.rank() && b.rank() > a.rank());
    }

    #[test]
    fn degraded_certificates_make_nothing_final_and_hand_nothing_over() {
        let (old, crowd) = (identities(1..=4), identities(11..=30));
        let manifest = manifest(&old);
        let everybody = [&old[..2], &crowd[..]].concat();
        let nearly = [&old[..1], &crowd[..]].concat();
        let degraded = |parent: &Link, view, signers| {
            certify(&manifest, Some(parent), (view, true), &everybody, signers)
        };
        let mut at = certify(&manifest, None, (1, false), &old, &old).unwrap();
        for view in 2..8 {
            assert!(matches!(
                degraded(&at, view, &crowd),
                Err(CertificateError::TooFew { valid: 0, needed: 2 })
            ));
            assert!(degraded(&at, view, &nearly).is_err());
            at = degraded(&at, view, &old[..2]).unwrap();
            assert_eq!((at.place.final_view, at.place.full_view, at.electorate()), (0, 1, &keys(&old)[..]));
        }
        let strict = Manifest { available: false, ..manifest.clone() };
        assert!(certify(&strict, None, (1, true), &old, &old).is_err());
        // A full certificate, even an older one, is better than any number of degraded ones.
        let first = certify(&manifest, None, (1, false), &old, &old).unwrap();
        let full = certify(&manifest, Some(&first), (3, false), &old, &old[..3]).unwrap();
        assert!(full.rank() > at.rank());
    }
}
