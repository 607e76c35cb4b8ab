//! Who is there: newcomers that nobody asked for, crowds that take over, and the dead that seem to live.

use std::collections::BTreeMap;

use judge::PeerKey;

use super::noise::heartbeat;
use super::views::{proposed, put_forward, signed_view};
use crate::engine::{Output, Verdict};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::membership::Ticket;
use crate::message::{Kind, Presence};
use crate::simulate::adversary::{Acts, Adversary, payload, place_of};
use crate::topic::Topic;
use crate::wire::{self, Sig};

/// Wants in without an invitation, or with one that nobody signed.
pub(in crate::simulate) struct Intrude {
    pub(in crate::simulate) name: &'static str,
    pub(in crate::simulate) forges: bool,
}

impl Adversary for Intrude {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence)) = heartbeat(&output) else { return Some(output) };
        acts.fire(self.name);
        if !self.forges {
            return Some(output);
        }
        let Output::Publish(topic, bytes) = output else { return None };
        let presence: Presence = wire::decode(&payload(&bytes)?.body, ENVELOPE_BYTES_MAX).ok()?;
        let inviter = *acts.peers.iter().find(|peer| !acts.accomplices.contains(peer))?;
        let ticket = Ticket { guest: acts.me, inviter, until_round: 0, signature: Sig([0; 64]) };
        let presence = Presence { ticket: Some(ticket), ..presence };
        let bytes = acts.sign(&place, sequence, Kind::Presence, &presence);
        acts.publish(topic, bytes);
        None
    }
}

/// Once let in, makes of every proposal a degraded one with nobody but its kind in the roster, and signs that.
pub(in crate::simulate) struct Crowd;

impl Adversary for Crowd {
    fn perform(&mut self, output: Output, _acts: &mut Acts<'_>) -> Option<Output> {
        signed_view(&output).is_none().then_some(output)
    }

    fn heard(&mut self, _topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        let Some(payload) = payload(bytes).filter(|payload| payload.kind == Kind::Proposal) else { return };
        let honest = !acts.accomplices.contains(&payload.sender);
        let Some(mut statement) = proposed(&payload.body).filter(|_| honest) else { return };
        statement.roster.retain(|peer| acts.accomplices.contains(peer));
        if !statement.roster.is_empty() {
            statement.degraded = true;
            let everybody = acts.others();
            put_forward(acts, &place_of(&payload), payload.sequence, &statement, &everybody);
            acts.fire("crowd");
        }
    }
}

/// Repeats everybody's last heartbeat with each of its own; among them those of the dead.
#[derive(Default)]
pub(in crate::simulate) struct Undead {
    last: BTreeMap<PeerKey, Vec<u8>>,
}

impl Adversary for Undead {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if heartbeat(&output).is_some() {
            for bytes in self.last.values() {
                acts.publish(Topic::Presence, bytes.clone());
                acts.fire("undead");
            }
        }
        Some(output)
    }

    fn heard(&mut self, topic: Topic, bytes: &[u8], _verdict: Verdict, _acts: &mut Acts<'_>) {
        if let Some(payload) = payload(bytes).filter(|_| topic == Topic::Presence) {
            self.last.insert(payload.sender, bytes.to_vec());
        }
    }
}
