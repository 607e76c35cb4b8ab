//! Whether a log is as its owner left it: the signatures on its chain, and which part of which record broke one.

use judge::PeerKey;

use super::Finding;
use crate::identity;
use crate::log::{Frame, MARK_BYTES, Part, Record, SEAL_DOMAIN, Seal};
use crate::topic::SwarmId;

/// Records that may stand without a seal: more than the writer leaves, so that memory is bounded.
const UNSEALED_MAX: usize = 64 * 1024;

/// A record that no seal covers yet.
struct Pending {
    what: &'static str,
    peer: PeerKey,
    round: u32,
    parts: Vec<Part>,
}

/// The seals of one log.
pub(super) struct Seals {
    swarm: SwarmId,
    owner: PeerKey,
    /// Since the last seal, that one included.
    pending: Vec<Pending>,
    closed: bool,
    /// Kind, author and round of the message in hand.
    about: Option<(&'static str, PeerKey, u32)>,
}

impl Seals {
    pub(super) fn new(swarm: SwarmId, owner: PeerKey) -> Self {
        Self { swarm, owner, pending: Vec::new(), closed: false, about: None }
    }

    /// Whether a record may stand where it does: after a header, and nothing but a start after a closing seal.
    pub(super) fn order(&self, record: &Record) -> Result<(), Finding> {
        if self.pending.len() >= UNSEALED_MAX {
            return Err(Finding::new("seal", "order", "none stands where the owner would have written one"));
        }
        if self.closed && !matches!(record, Record::Opened { .. }) {
            let why = "follows a closing seal without a start between them";
            return Err(Finding::new(record.kind(), "order", why));
        }
        if matches!(record, Record::Header(_)) && !self.pending.is_empty() {
            return Err(Finding::new("header", "order", "stands within the log"));
        }
        Ok(())
    }

    /// The message in hand is of this kind, by this author, of this round.
    pub(super) fn about(&mut self, what: &'static str, peer: PeerKey, round: u32) {
        self.about = Some((what, peer, round));
    }

    /// Takes a record that was found right in itself.
    pub(super) fn note(&mut self, frame: &Frame, round: u32) {
        let about = self.about.take();
        let (what, peer, round) = about.unwrap_or((frame.record.kind(), self.owner, round));
        self.closed = matches!(&frame.record, Record::Seal(seal) if seal.closing);
        if matches!(frame.record, Record::Seal(_)) {
            self.pending.clear();
        }
        self.pending.push(Pending { what, peer, round, parts: frame.record.parts() });
    }

    /// Checks a seal against the records before it, and then its signature.
    pub(super) fn check(&self, seal: &Seal, frame: &Frame) -> Result<(), Finding> {
        let wrong = |field: &str, why: &str| Finding::new("seal", field, why);
        let compared = self.compare(&seal.marks);
        if seal.records != frame.index {
            let first = compared.err().map_or(String::new(), |first| {
                let round = first.round.unwrap_or(0);
                format!("; the first that is not as sealed is a {} of round {round}", first.what)
            });
            let why = format!("says {} records, {} stand before it{first}", seal.records, frame.index);
            return Err(wrong("records", &why));
        }
        compared?;
        if seal.head != frame.before {
            return Err(wrong("head", "is not the chain of the records before it"));
        }
        if !identity::verify(&self.owner, SEAL_DOMAIN, &seal.signed(&self.swarm).0, &seal.signature.0) {
            return Err(wrong("signature", "is not the owner's over this log as it stands"));
        }
        Ok(())
    }

    /// The first part that is not as it was sealed.
    fn compare(&self, marks: &[u8]) -> Result<(), Finding> {
        let mut marks = marks.chunks(MARK_BYTES);
        for pending in &self.pending {
            for (field, mark) in &pending.parts {
                if marks.next() != Some(&mark[..]) {
                    let Pending { what, peer, round, .. } = pending;
                    let why = "is not as the owner sealed it";
                    return Err(Finding::new(what, *field, why).of(*peer).in_round(*round));
                }
            }
        }
        match marks.next() {
            None => Ok(()),
            Some(_) => Err(Finding::new("seal", "marks", "names more records than stand before it")),
        }
    }

    /// Records after the last seal.
    pub(super) fn unsealed(&self) -> u64 {
        let sealed = usize::from(self.pending.first().is_some_and(|first| first.what == "seal"));
        (self.pending.len() - sealed) as u64
    }

    /// Whether the log ends with a closing seal.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }
}
