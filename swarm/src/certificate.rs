//! Statements and what makes them certified.
//!
//! A certificate is a statement signed by a quorum of the roster whose round it ends. It names its
//! parent, so certificates form a chain from the genesis, and a joiner verifies every link.

use std::collections::BTreeMap;

use judge::PeerKey;

use crate::identity;
use crate::limits::{ENVELOPE_BYTES_MAX, ROSTER_MAX};
use crate::manifest::{FaultModel, Manifest};
use crate::message::{Certificate, STATEMENT_DOMAIN, Signed, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash, Sig};

/// A certificate whose signatures were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The statement.
    pub statement: Statement,
    /// Its hash, which signatures cover and children name.
    pub hash: Hash,
    /// The encoded certificate, as sent to peers that catch up.
    pub bytes: Vec<u8>,
}

/// Why a certificate does not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// The statement's bytes do not decode.
    #[error("statement: {0}")]
    Statement(#[from] wire::DecodeError),
    /// The statement contradicts itself.
    #[error("statement: {0}")]
    Shape(&'static str),
    /// It does not follow the certificate it names as its parent.
    #[error("builds on {found}, not on {expected}")]
    Parent {
        /// Parent named.
        found: Hash,
        /// Parent expected.
        expected: Hash,
    },
    /// Too few valid signatures of the electorate.
    #[error("{valid} valid signatures, {needed} needed")]
    TooFew {
        /// Valid ones.
        valid: usize,
        /// Needed.
        needed: usize,
    },
}

/// Hash of an encoded statement.
pub fn statement_hash(bytes: &[u8]) -> Hash {
    Hash::of("murmur v1 statement", &[bytes])
}

/// The seed of everything random in the round that a statement starts: prompts, proposers, sampling,
/// and which prompts of the round before were gold. Signatures do not enter, since bundles of them
/// differ between peers; the nonces of the included answers do, through the statement's `items`.
pub fn beacon(statement: &Hash) -> Hash {
    Hash::of("murmur v1 beacon", &[&statement.0])
}

/// Who must sign, and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electorate {
    /// Peers entitled to sign, sorted.
    pub peers: Vec<PeerKey>,
    /// Signatures needed.
    pub needed: usize,
}

impl Electorate {
    /// A quorum of a roster.
    pub fn of_roster(roster: &[PeerKey], faults: FaultModel) -> Self {
        Self { peers: roster.to_vec(), needed: faults.quorum(roster.len()) }
    }

    /// For the first certificate: a quorum of the listed peers, or everybody in the proposed roster of
    /// an open genesis. Unanimity keeps two overlapping groups from both starting.
    pub fn of_genesis(manifest: &Manifest, listed: &[PeerKey], statement: &Statement) -> Self {
        if listed.is_empty() {
            let needed = statement.roster.len().max(manifest.genesis.peers_min.into());
            Self { peers: statement.roster.clone(), needed }
        } else {
            Self::of_roster(listed, manifest.faults)
        }
    }

    /// Whether `peer` may sign.
    pub fn contains(&self, peer: &PeerKey) -> bool {
        self.peers.binary_search(peer).is_ok()
    }
}

/// Decodes a statement and checks its shape against the roster whose round it ends.
///
/// # Errors
/// [`CertificateError::Statement`] or [`CertificateError::Shape`].
pub fn read_statement(bytes: &[u8], ending_roster: usize) -> Result<Statement, CertificateError> {
    let statement: Statement = wire::decode(bytes, ENVELOPE_BYTES_MAX)?;
    let roster = &statement.roster;
    if roster.is_empty() || roster.len() > ROSTER_MAX || !roster.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(CertificateError::Shape("roster is not sorted, unique and of 1 to 256 peers"));
    }
    let sets = [&statement.commits, &statement.answers, &statement.critiques, &statement.ballots];
    if !sets.iter().all(|set| set.is_canonical(ending_roster)) {
        return Err(CertificateError::Shape("a set names positions beyond the roster"));
    }
    if statement.answers.iter().any(|i| !statement.commits.contains(i)) {
        return Err(CertificateError::Shape("answers without a commit"));
    }
    if statement.view == 0 || statement.round == 0 {
        return Err(CertificateError::Shape("views and rounds start at 1"));
    }
    Ok(statement)
}

/// Checks a certificate against its parent (none at genesis).
///
/// # Errors
/// [`CertificateError`] naming the first rule it breaks.
pub fn verify(
    bytes: &[u8],
    manifest: &Manifest,
    swarm: &SwarmId,
    parent: Option<&Certified>,
) -> Result<Certified, CertificateError> {
    let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX)?;
    let ending = parent.map_or(0, |parent| parent.statement.roster.len());
    let statement = read_statement(&certificate.statement, ending)?;
    let expected = parent.map_or(Hash(swarm.0), |parent| parent.hash);
    if statement.parent != expected {
        return Err(CertificateError::Parent { found: statement.parent, expected });
    }
    let (view, round) = parent.map_or((0, 0), |parent| (parent.statement.view, parent.statement.round));
    if statement.view <= view || statement.round != round.saturating_add(1) {
        return Err(CertificateError::Shape("view or round does not follow the parent's"));
    }
    let electorate = match parent {
        Some(parent) => Electorate::of_roster(&parent.statement.roster, manifest.faults),
        None => {
            let listed = manifest.genesis_peers().unwrap_or_default();
            Electorate::of_genesis(manifest, &listed, &statement)
        }
    };
    let hash = statement_hash(&certificate.statement);
    let valid = valid_signers(&certificate.signatures, &electorate, &hash);
    if valid < electorate.needed {
        return Err(CertificateError::TooFew { valid, needed: electorate.needed });
    }
    Ok(Certified { statement, hash, bytes: bytes.to_vec() })
}

fn valid_signers(signatures: &[Signed], electorate: &Electorate, hash: &Hash) -> usize {
    let distinct: BTreeMap<PeerKey, Sig> = signatures
        .iter()
        .filter(|signed| electorate.contains(&signed.peer))
        .map(|signed| (signed.peer, signed.signature))
        .collect();
    distinct.iter().filter(|(peer, sig)| identity::verify(peer, STATEMENT_DOMAIN, &hash.0, &sig.0)).count()
}

/// The peer whose turn it is to propose in `view`: drawn by the beacon, so that nobody chooses it.
pub fn proposer(roster: &[PeerKey], beacon: &Hash, view: u32) -> Option<PeerKey> {
    let draw = Hash::of("murmur v1 proposer", &[&beacon.0, &view.to_le_bytes()]);
    let (number, _) = draw.0.split_first_chunk::<8>()?;
    let position = u64::from_le_bytes(*number).checked_rem(roster.len() as u64)?;
    roster.get(position as usize).copied()
}
