//! `murmur invite`: a member signs a ticket that lets a guest into its swarm.

use std::path::PathBuf;

use anyhow::Context;
use swarm::identity::Identity;
use swarm::manifest::parse_key;
use swarm::membership::{Joining, Ticket};

use crate::config::{self, ConfigError};
use crate::exit::Outcome;
use crate::join::JoinConfig;
use crate::printer;
use crate::state::identity_path;

/// Arguments of `murmur invite`.
#[derive(Debug, clap::Args)]
pub(crate) struct InviteArgs {
    /// Join config of the member that invites.
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// Public key of the guest, as its `murmur key` prints it.
    #[arg(long, value_name = "KEY")]
    pub(crate) guest: String,
    /// Last round in which the ticket lets the guest in; 0 for any.
    #[arg(long, value_name = "ROUND", default_value_t = 0)]
    pub(crate) until_round: u32,
}

/// Runs the command.
///
/// # Errors
/// A config or key that cannot be used, or a swarm that asks for no tickets.
pub(crate) fn run(args: &InviteArgs) -> anyhow::Result<Outcome> {
    let file = args.config.display().to_string();
    let config: JoinConfig = config::read(&args.config)?;
    if config.swarm.membership.rule != Joining::Invited {
        let what = "[swarm] asks for no invitations";
        let hint = "set rule = \"invited\" under [swarm.membership] in the configs of all peers";
        return Err(ConfigError::new(file, what, hint).into());
    }
    let guest = parse_key(&args.guest).ok_or_else(|| {
        let what = format!("{:?} is not a public key", args.guest);
        ConfigError::new("--guest", what, "64 hexadecimal digits, as the guest's `murmur key` prints them")
    })?;
    let state = &config.peer.state;
    let identity = Identity::load(&identity_path(state)).with_context(|| {
        format!(
            "no key to sign with\nhint: `murmur key {} --new` makes one; a member's key invites",
            state.display()
        )
    })?;
    let ticket = Ticket::sign(&identity, &config.swarm.id(), guest, args.until_round);
    printer::note(&format!("{} may join; put this line under [peer] in its config:", guest.name()));
    printer::data(&format!("ticket = \"{}\"", ticket.to_text()))?;
    Ok(Outcome::Done)
}
