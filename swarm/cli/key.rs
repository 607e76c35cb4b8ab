//! `murmur key`: the public key that lists and invitations name a peer by, before it joins for the first time.

use std::path::PathBuf;

use anyhow::Context;
use swarm::identity::Identity;

use crate::config::ConfigError;
use crate::exit::Outcome;
use crate::printer;
use crate::state::identity_path;

/// Arguments of `murmur key`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// State folder of the peer, as `state` in its join config.
    #[arg(value_name = "STATE")]
    pub(crate) state: PathBuf,
    /// Make the folder and the key if there are none yet.
    #[arg(long)]
    pub(crate) new: bool,
}

/// Runs the command.
///
/// # Errors
/// No key where none is to be made; a folder or key that cannot be made or read.
pub(crate) fn run(args: &KeyArgs) -> anyhow::Result<Outcome> {
    let path = identity_path(&args.state);
    if !args.new && std::fs::symlink_metadata(&path).is_err() {
        let hint = format!(
            "give `state` of the peer's config; its first `murmur join` makes the key, or now: murmur key {} --new",
            args.state.display()
        );
        return Err(ConfigError::new(path.display(), "there is no key yet", hint).into());
    }
    std::fs::create_dir_all(&args.state).with_context(|| format!("cannot make {}", args.state.display()))?;
    let identity = Identity::load_or_create(&path)?;
    printer::data(&identity.public().hex())?;
    Ok(Outcome::Done)
}
