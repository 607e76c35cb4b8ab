//! `murmur key`: the public key that lists and invitations name a peer by, before it joins for the first time.

use std::path::PathBuf;

use anyhow::Context;
use swarm::identity::Identity;

use crate::exit::Outcome;
use crate::printer;
use crate::state::identity_path;

/// Arguments of `murmur key`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// State folder of the peer, as `state` in its join config.
    #[arg(value_name = "STATE")]
    pub(crate) state: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A folder or key that cannot be made or read.
pub(crate) fn run(args: &KeyArgs) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&args.state).with_context(|| format!("cannot make {}", args.state.display()))?;
    let identity = Identity::load_or_create(&identity_path(&args.state))?;
    printer::data(&identity.public().hex())?;
    Ok(Outcome::Done)
}
