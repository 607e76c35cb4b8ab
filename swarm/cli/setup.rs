//! What a peer is made of before it starts.

use std::path::PathBuf;

use policy::tensor::Device;
use policy::{Policy, Sampling, Trainer};
use swarm::checkpoint::Checkpoint;
use swarm::identity::Identity;
use swarm::manifest::Manifest;
use swarm::membership::Ticket;
use swarm::net::Network;
use tasks::{Catalogue, PackFiles};

use crate::arm::Arm;
use crate::compute::PolicyConfig;
use crate::critic::Critic;
use crate::liar::Lie;
use crate::printer;
use crate::proposals;
use crate::weights::Sharing;

/// What a peer starts from.
pub(crate) struct PeerSetup {
    pub(crate) identity: Identity,
    /// Who invited it, where a swarm asks.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) manifest: Manifest,
    pub(crate) catalogue: Catalogue,
    pub(crate) network: Network,
    pub(crate) entropy: [u8; 32],
    pub(crate) policy: Policy,
    pub(crate) trainer: Trainer,
    /// Round of the checkpoint that policy and trainer come from, if they do.
    pub(crate) resumed: Option<u32>,
    /// How it computes, for whoever does so again.
    pub(crate) computing: PolicyConfig,
    /// What computes.
    pub(crate) device: Device,
    pub(crate) sampling: Sampling,
    /// Model it began with.
    pub(crate) base: String,
    /// How its model writes critiques, if it does.
    pub(crate) critic: Option<Critic>,
    pub(crate) arm: Arm,
    pub(crate) lie: Option<Lie>,
    /// Rounds until it stops; 0 for never.
    pub(crate) rounds: u32,
    /// What to verify from, for a peer that has nothing stored.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Where checkpoint and resume file go.
    pub(crate) dir: PathBuf,
    /// Rounds between checkpoints.
    pub(crate) checkpoint_every: u32,
    /// Packs that it gives to peers who lack them.
    pub(crate) packs: Vec<PackFiles>,
    /// Bytes a second of its policy that it gives to peers who start from it; 0 for none.
    pub(crate) upload_bytes_per_s: u64,
    /// What it says of packs that others propose.
    pub(crate) proposals: proposals::Policy,
    /// Where its operator's proposals are left.
    pub(crate) notes: PathBuf,
}

/// How a peer shows its weights to auditors; says why where it does not.
pub(crate) fn sharing(setup: &PeerSetup) -> Option<Sharing> {
    let rules = &setup.manifest.judge.audit;
    if rules.share_permille == 0 {
        return None;
    }
    let made = match setup.device {
        Device::Cpu => Sharing::of(&setup.policy, &setup.base, setup.sampling, rules.bytes_max),
        _ => Err("a GPU's arithmetic cannot be computed again to the bit".into()),
    };
    match made {
        Ok(sharing) => Some(sharing),
        Err(why) => {
            printer::note(&format!("answers of {} are not audited: {why}", setup.identity.public().name()));
            None
        }
    }
}
