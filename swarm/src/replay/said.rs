//! What peers said: messages, the bodies that belong to them, and proofs against their authors.

use super::Finding;
use super::fold::Fold;
use super::names::{refused, said};
use crate::admission::{self, Admitted, Body};
use crate::blob::Address;
use crate::engine::Placed;
use judge::PeerKey;

impl Fold {
    /// Checks a message and puts it in its slot.
    pub(super) fn message(&mut self, late: bool, envelope: &[u8]) -> Result<Admitted, Finding> {
        let (what, sender, round) = said(envelope);
        let about = |field: &'static str, why: &str| {
            let finding = Finding::new(what, field, why);
            match sender {
                Some(sender) => finding.of(sender).in_round(round),
                None => finding,
            }
        };
        let authentic = admission::authenticate(&self.swarm, None, envelope).map_err(|refusal| {
            let (field, why) = refused(refusal.reason());
            about(field, why)
        })?;
        let message =
            admission::admit(&self.manifest, authentic).map_err(|refusal| about("body", refusal.reason()))?;
        if let Body::Proof(_, offence) = &message.body {
            self.proven(offence.peer);
            return Ok(message);
        }
        let mut placed = None;
        for held in self.held.iter_mut().filter(|held| held.hash == message.start) {
            let now = held.play.as_mut().and_then(|play| play.items.place(message.clone()));
            placed = placed.or(now);
        }
        match placed {
            None => return Err(about("round", "no round in progress has its author in the roster")),
            Some(Placed::New) => self.own(message.sender).late += u32::from(late),
            Some(Placed::Conflict | Placed::Duplicate | Placed::Uncommitted) => {}
        }
        Ok(message)
    }

    /// Gives a body to the reveals that wait for it, and says whose it is.
    pub(super) fn body(&mut self, blob: &Address, bytes: &[u8]) -> Result<(PeerKey, u32), Finding> {
        let Some((author, round)) = self.named(blob) else {
            return Err(Finding::new("body", "blob", "is named by no reveal of a round in progress"));
        };
        let wrong = |why: &str| Finding::new("body", "bytes", why).of(author).in_round(round);
        if Address::of(bytes) != Ok(*blob) {
            return Err(wrong("are not those that its name is the hash of"));
        }
        for play in self.held.iter_mut().filter_map(|held| held.play.as_mut()) {
            let filled = play.items.take_body(&self.manifest, blob, bytes);
            let good = filled.iter().any(|(_, _, outcome)| outcome.is_ok());
            if let Some((_, _, Err(why))) = filled.first().filter(|_| !good) {
                return Err(wrong(why));
            }
        }
        Ok((author, round))
    }

    /// Author and round of a reveal that names a body; the first that waits for it, if one does.
    fn named(&self, blob: &Address) -> Option<(PeerKey, u32)> {
        let plays = || self.held.iter().filter_map(|held| Some((held.play.as_ref()?, held.round())));
        let waiting = plays().find_map(|(play, round)| Some((play.items.bodies.waiting(blob)?.0, round)));
        // Taken again after a start that had forgotten it.
        waiting.or_else(|| plays().find_map(|(play, round)| Some((play.items.names_body(blob)?, round))))
    }
}
