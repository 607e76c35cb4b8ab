//! Who may join: everybody, the peers on a list, or guests that a member invited.
//!
//! Joining is a judgement of each signer and not part of what a certificate proves: a peer signs a roster
//! only if it would let every newcomer in itself. A newcomer's vote has no weight at first (the judge's
//! probation), whichever way it came.

use judge::PeerKey;
use serde::{Deserialize, Serialize};

use crate::identity::{self, Identity};
use crate::manifest::{ManifestError, parse_keys, wrong};
use crate::topic::SwarmId;
use crate::wire::{self, DecodeError, Sig};

/// Domain of signatures on tickets.
const TICKET_DOMAIN: &[u8] = b"murmur v1 ticket";
/// Bytes of an encoded ticket.
const TICKET_BYTES_MAX: usize = 512;

/// Which peers a swarm lets in besides its genesis peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Membership {
    /// The rule.
    pub rule: Joining,
    /// Public keys (64 hexadecimal digits) that `listed` lets in, and that may invite under `invited`.
    pub peers: Vec<String>,
}

/// How a peer becomes a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Joining {
    /// Everybody may join.
    #[default]
    Open,
    /// Genesis peers and those on the list.
    Listed,
    /// Those, and whoever shows a ticket that one of them or a present member signed.
    Invited,
}

impl Membership {
    /// Whether everybody may join; not part of a swarm's identity then.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Keys on the list, sorted.
    ///
    /// # Errors
    /// A key that is none, or one named twice.
    pub fn listed(&self) -> Result<Vec<PeerKey>, ManifestError> {
        parse_keys("membership.peers", &self.peers)
    }

    /// Checks the rule against the genesis.
    ///
    /// # Errors
    /// A list that nothing reads, or a rule that lets nobody in.
    pub fn validate(&self, founders: &[PeerKey]) -> Result<(), ManifestError> {
        let listed = self.listed()?;
        match self.rule {
            Joining::Open if !listed.is_empty() => Err(wrong(
                "membership.peers",
                "is a list, but everybody may join",
                "set membership.rule = \"listed\" or \"invited\", or remove the list",
            )),
            Joining::Listed | Joining::Invited if listed.is_empty() && founders.is_empty() => Err(wrong(
                "membership.rule",
                "lets nobody in",
                "name peers in genesis.peers or membership.peers; `murmur key` prints a peer's",
            )),
            _ => Ok(()),
        }
    }
}

/// An invitation of one peer to one swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Who is invited.
    pub guest: PeerKey,
    /// Who invites.
    pub inviter: PeerKey,
    /// Last round in which it lets the guest in; 0 for any.
    pub until_round: u32,
    /// The inviter's signature.
    pub signature: Sig,
}

impl Ticket {
    /// Invites `guest` for the rounds up to `until_round` (0 for any).
    pub fn sign(inviter: &Identity, swarm: &SwarmId, guest: PeerKey, until_round: u32) -> Self {
        let signature = Sig(inviter.sign(TICKET_DOMAIN, &signed(swarm, &guest, until_round)));
        Self { guest, inviter: inviter.public(), until_round, signature }
    }

    /// Whether its inviter signed it, for this swarm.
    pub fn verifies(&self, swarm: &SwarmId) -> bool {
        let bytes = signed(swarm, &self.guest, self.until_round);
        identity::verify(&self.inviter, TICKET_DOMAIN, &bytes, &self.signature.0)
    }

    /// As text for a config: hexadecimal digits.
    pub fn to_text(&self) -> String {
        wire::encode(self).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From the text of [`to_text`](Self::to_text).
    ///
    /// # Errors
    /// Not hexadecimal digits, or not a ticket.
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        let not_digits = || DecodeError::Malformed("not an even number of hexadecimal digits".into());
        if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2 * TICKET_BYTES_MAX {
            return Err(not_digits());
        }
        let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        wire::decode(&bytes.ok_or_else(not_digits)?, TICKET_BYTES_MAX)
    }
}

fn signed(swarm: &SwarmId, guest: &PeerKey, until_round: u32) -> Vec<u8> {
    [&swarm.0[..], &guest.0, &until_round.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_serves_one_guest_one_swarm_one_time() {
        let inviter = Identity::from_seed([1; 32]);
        let (guest, swarm) = (PeerKey([7; 32]), SwarmId([9; 32]));
        let ticket = Ticket::sign(&inviter, &swarm, guest, 30);
        assert!(ticket.verifies(&swarm));
        assert_eq!(Ticket::from_text(&ticket.to_text()), Ok(ticket.clone()));
        assert!(!ticket.verifies(&SwarmId([8; 32])));
        assert!(!Ticket { guest: PeerKey([6; 32]), ..ticket.clone() }.verifies(&swarm));
        assert!(!Ticket { until_round: 31, ..ticket.clone() }.verifies(&swarm));
        assert!(!Ticket { inviter: guest, ..ticket.clone() }.verifies(&swarm));
        let text = ticket.to_text();
        for damaged in [&text[1..], &text[2..], "", "zz", "é0"] {
            assert!(Ticket::from_text(damaged).is_err(), "{damaged}");
        }
    }
}
