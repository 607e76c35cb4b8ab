//! Two certificates at once for what a round came to, with the help of a network that hides the first one.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::noise::heartbeat;
use super::views::{proposed, put_forward, signed_view};
use crate::certificate::{beacon, proposer, statement_hash};
use crate::engine::{Output, Verdict};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{Certificate, Kind, Signature, Signed, Statement};
use crate::simulate::adversary::{Acts, Adversary, Place, payload, place_of};
use crate::topic::Topic;
use crate::wire::{self, Hash, Sig};

/// Statements remembered.
const STATEMENTS_MAX: usize = 16;

/// Ends a round once more, on the parent of the certificate that ended it, as soon as a child of that one makes it
/// final and before others know; then helps whatever builds on its own.
#[derive(Default)]
pub(in crate::simulate) struct Rewind {
    /// Statements heard, by hash, with where their proposers were; newest views last.
    heard: BTreeMap<(u32, Hash), (Statement, Place)>,
    signatures: BTreeMap<Hash, BTreeMap<PeerKey, Sig>>,
    /// What it is to put forward with its next heartbeat.
    next: Option<(Statement, Place)>,
    /// Certificates of the branch that it helps.
    own: Vec<Hash>,
}

impl Rewind {
    fn statement(&self, hash: &Hash) -> Option<&(Statement, Place)> {
        self.heard.iter().find(|((_, known), _)| known == hash).map(|(_, heard)| heard)
    }

    fn remember(&mut self, statement: Statement, at: Place) {
        let hash = statement_hash(&wire::encode(&statement));
        self.heard.insert((statement.view, hash), (statement, at));
        while self.heard.len() > STATEMENTS_MAX {
            self.heard.pop_first();
        }
        let known: Vec<Hash> = self.heard.keys().map(|(_, hash)| *hash).collect();
        self.signatures.retain(|hash, _| known.contains(hash));
    }

    /// A proposal is on its way: of the branch that it helps, or on a certificate that it would have ended otherwise.
    fn consider(&mut self, statement: &Statement, at: Place, acts: &mut Acts<'_>) {
        if self.own.contains(&statement.parent) {
            self.own.push(statement_hash(&wire::encode(statement)));
            let signature = acts.sign_statement(statement);
            self.signatures.entry(signature.statement).or_default().insert(acts.me, signature.signature);
        } else if let Some((ended, before)) = self.statement(&statement.parent).cloned() {
            let view = statement.view + 1;
            let mut electors = acts.peers.to_vec();
            electors.sort_unstable();
            let mine = proposer(&electors, &beacon(&ended.parent), view) == Some(acts.me);
            let consecutive = statement.view == ended.view + 1;
            self.next = (mine && consecutive).then_some((Statement { view, ..ended }, before));
        }
        self.remember(statement.clone(), at);
    }

    /// Shows a certificate of its branch once there are enough signatures.
    fn certify(&mut self, hash: &Hash, acts: &mut Acts<'_>) {
        let Some((statement, at)) = self.statement(hash).filter(|_| self.own.contains(hash)).cloned() else {
            return;
        };
        let signatures = self.signatures.get(hash).cloned().unwrap_or_default();
        if signatures.len() > acts.peers.len() * 2 / 3 {
            let signatures =
                signatures.into_iter().map(|(peer, signature)| Signed { peer, signature }).collect();
            let certificate = Certificate { statement: wire::encode(&statement), signatures };
            let bytes = acts.sign(&at, 0, Kind::Certificate, &certificate);
            acts.publish(Topic::Control, bytes);
        }
    }
}

impl Adversary for Rewind {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if let Some((_, sequence)) = heartbeat(&output)
            && let Some((statement, at)) = self.next.take()
        {
            let everybody = acts.others();
            let hash = put_forward(acts, &at, sequence, &statement, &everybody);
            let signature = acts.sign_statement(&statement).signature;
            self.signatures.entry(hash).or_default().insert(acts.me, signature);
            self.own = vec![hash];
            self.remember(statement, at);
            acts.fire("rewind");
        }
        // It signs its own branch and nothing else, or it would be convicted.
        signed_view(&output).is_none().then_some(output)
    }

    fn heard(&mut self, _topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        let Some(payload) = payload(bytes) else { return };
        match payload.kind {
            Kind::Proposal => {
                if let Some(statement) = proposed(&payload.body) {
                    self.consider(&statement, place_of(&payload), acts);
                }
            }
            Kind::Signature => {
                let Ok(said) = wire::decode::<Signature>(&payload.body, ENVELOPE_BYTES_MAX) else { return };
                self.signatures.entry(said.statement).or_default().insert(payload.sender, said.signature);
                self.certify(&said.statement, acts);
            }
            _ => {}
        }
    }

    fn serves(&self) -> bool {
        false
    }
}
