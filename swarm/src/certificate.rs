//! Statements: what is signed, what follows from it, and why it may be refused.
//!
//! A certificate is a statement with the signatures that its place in the chain asks for; see
//! [`chain`](crate::chain).

use judge::PeerKey;

use crate::limits::{ENVELOPE_BYTES_MAX, ROSTER_MAX};
use crate::message::{Certificate, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

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
    /// Too few valid signatures of one of the electorates.
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

/// The statement of an encoded certificate and its hash, nothing checked.
pub(crate) fn unverified(certificate: &[u8]) -> Option<(Hash, Statement)> {
    let certificate: Certificate = wire::decode(certificate, ENVELOPE_BYTES_MAX).ok()?;
    let statement = wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok()?;
    Some((statement_hash(&certificate.statement), statement))
}

/// What a signature on a statement covers. The swarm is part of it, or whatever a peer of two swarms signs in one
/// could be held against it in the other.
pub fn signed_bytes(swarm: &SwarmId, statement: &Hash) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&swarm.0);
    bytes[32..].copy_from_slice(&statement.0);
    bytes
}

/// The seed of everything random in the round that a statement starts: prompts, proposers, sampling,
/// and which prompts of the round before were gold. Signatures do not enter, since bundles of them
/// differ between peers; the nonces of the included answers do, through the statement's `items`.
pub fn beacon(statement: &Hash) -> Hash {
    Hash::of("murmur v1 beacon", &[&statement.0])
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

/// Whether a statement convicts and excludes peers as its parent (none at genesis) lets it.
///
/// # Errors
/// The first rule it breaks.
pub fn convictions_hold(statement: &Statement, parent: Option<&Statement>) -> Result<(), &'static str> {
    let Statement { offenders, roster, commits, answers, critiques, ballots, .. } = statement;
    let convicted = |peer: &PeerKey| offenders.binary_search(peer).is_ok();
    let before = parent.map_or(&[][..], |parent| &parent.offenders);
    if !offenders.windows(2).all(|pair| pair[0] < pair[1]) || !before.iter().all(convicted) {
        return Err("offenders are not sorted, unique and those of the parent with new ones");
    }
    if roster.iter().any(convicted) {
        return Err("an offender in the roster");
    }
    let ending = parent.map_or(&[][..], |parent| &parent.roster);
    let included = [commits, answers, critiques, ballots];
    if ending
        .iter()
        .enumerate()
        .any(|(i, peer)| convicted(peer) && included.iter().any(|set| set.contains(i)))
    {
        return Err("a message of an offender is included");
    }
    Ok(())
}

/// The peer whose turn it is to propose in `view`: drawn by the beacon, so that nobody chooses it.
pub fn proposer(roster: &[PeerKey], beacon: &Hash, view: u32) -> Option<PeerKey> {
    let draw = Hash::of("murmur v1 proposer", &[&beacon.0, &view.to_le_bytes()]);
    let (number, _) = draw.0.split_first_chunk::<8>()?;
    let position = u64::from_le_bytes(*number).checked_rem(roster.len() as u64)?;
    roster.get(position as usize).copied()
}
