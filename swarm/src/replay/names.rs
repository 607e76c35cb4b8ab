//! What things in a log are called, for people who are told that something is wrong with them.

use judge::PeerKey;

use super::Finding;
use crate::admission::Body;
use crate::certificate::CertificateError;
use crate::engine::{Play, members};
use crate::limits::PROOF_BYTES_MAX;
use crate::message::{Envelope, Kind, Payload, Statement};
use crate::wire;

/// The first message that a statement includes and the log does not hold.
pub(super) fn missing(play: &Play, roster: &[PeerKey], statement: &Statement) -> Finding {
    let items = &play.items;
    let lacks = |set, has: &dyn Fn(&PeerKey) -> bool| members(roster, set).find(|peer| !has(peer)).copied();
    let first = None
        .or_else(|| lacks(&statement.commits, &|peer| items.committed(peer)).map(|peer| ("commit", peer)))
        .or_else(|| lacks(&statement.answers, &|peer| items.answered(peer)).map(|peer| ("reveal", peer)))
        .or_else(|| lacks(&statement.critiques, &|peer| items.critiqued(peer)).map(|peer| ("critique", peer)))
        .or_else(|| lacks(&statement.ballots, &|peer| items.voted(peer)).map(|peer| ("ballot", peer)));
    let why = "is included by the certificate, but not in the log";
    match first {
        Some(("reveal", peer)) if items.bodies.lacks(&peer) => Finding::new("reveal", "body", why).of(peer),
        Some((what, peer)) => Finding::new(what, "message", why).of(peer),
        None => Finding::new("certificate", "items", why),
    }
}

/// Kind, author and round of an envelope, for naming it even where it does not verify.
pub(super) fn said(envelope: &[u8]) -> (&'static str, Option<PeerKey>, u32) {
    let envelope: Option<Envelope> = wire::decode(envelope, PROOF_BYTES_MAX).ok();
    let payload = envelope.and_then(|e| wire::decode::<Payload>(&e.payload, PROOF_BYTES_MAX).ok());
    let Some(payload) = payload else { return ("message", None, 0) };
    let what = match payload.kind {
        Kind::Commit => "commit",
        Kind::Reveal => "reveal",
        Kind::Critique => "critique",
        Kind::Ballot => "ballot",
        Kind::Proof => "proof",
        Kind::Presence | Kind::Proposal | Kind::Signature | Kind::Certificate => "message",
    };
    (what, Some(payload.sender), payload.round)
}

/// Which field of an envelope a refusal is about, and what it means in a log.
pub(super) fn refused(reason: &'static str) -> (&'static str, &'static str) {
    match reason {
        "another protocol version" => ("version", reason),
        "of another swarm" => ("swarm", reason),
        "signature does not match its author" => {
            ("signature", "is not the author's over kind, round, sender, sequence and body as they stand")
        }
        _ => ("envelope", reason),
    }
}

/// Which field of a certificate does not hold, and why.
pub(super) fn refuted(statement: Option<&Statement>, error: &CertificateError) -> (&'static str, String) {
    match (error, statement) {
        (CertificateError::TooFew { .. }, Some(Statement { view, round, roster, .. })) => {
            let stated = format!("round {round}, view {view} and a roster of {}", roster.len());
            ("signatures", format!("{error} over what it states ({stated}, and the rest)"))
        }
        (CertificateError::Parent { .. }, _) => ("parent", error.to_string()),
        (CertificateError::Shape(why), _) if why.starts_with("view or round") => {
            ("view or round", "does not follow the parent's".into())
        }
        _ => ("statement", error.to_string()),
    }
}

/// What a message is called.
pub(super) fn name(body: &Body) -> &'static str {
    match body {
        Body::Commit(_) => "commit",
        Body::Reveal(_) => "reveal",
        Body::Critique(_) => "critique",
        Body::Ballot(_) => "ballot",
        Body::Proof(..) => "proof",
        Body::Presence(_) | Body::Proposal(_) | Body::Signature(_) | Body::Certificate(_) => "message",
    }
}
