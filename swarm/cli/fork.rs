//! `murmur fork`: another swarm from one that goes the wrong way, by whoever wants to.
//!
//! The new manifest names the old swarm as its parent and pins the packs that the old one has taken in. It says nothing
//! of who forked: all who fork in the same way meet in the same swarm.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use judge::PACK_WEIGHT_MAX;
use serde::Serialize;
use swarm::identity::Identity;
use swarm::manifest::{Manifest, PackPin};
use swarm::wire;
use tasks::PackId;
use toml::{Table, Value};

use crate::config::{self, ConfigError};
use crate::disk::read_resume;
use crate::exit::Outcome;
use crate::join::JoinConfig;
use crate::join_code::without_defaults;
use crate::record::RunDir;
use crate::state::identity_path;
use crate::{new, packs, printer};

/// Arguments of `murmur fork`.
#[derive(Debug, clap::Args)]
pub(crate) struct ForkArgs {
    /// Join config of a peer of the swarm.
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// New folder for the config, key and records of the new swarm's peer.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Name of the new swarm; the old one's if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Pack to add, as `murmur task` names it.
    #[arg(long, value_name = "PACK")]
    pub(crate) pack: Vec<String>,
    /// How often each added pack is drawn, relative to the others.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(PACK_WEIGHT_MAX)))]
    pub(crate) weight: u32,
    /// Pack to leave out, by the name that it has in the config, or its content address.
    #[arg(long, value_name = "PACK")]
    pub(crate) without: Vec<String>,
    /// Peers that must be there before the first round; as before if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) peers_min: Option<u16>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the command did.
#[derive(Debug, Serialize)]
struct Forked {
    swarm: String,
    parent: String,
    config: PathBuf,
    packs: Vec<String>,
    base: String,
}

/// Runs the command.
///
/// # Errors
/// A config that cannot be used, a pack that is not there, a folder that is there already.
pub(crate) fn run(args: &ForkArgs) -> anyhow::Result<Outcome> {
    let file = args.config.display().to_string();
    let path = args.dir.join("peer.toml");
    if path.exists() {
        let hint = format!("choose another folder, or go on with it: murmur join {}", path.display());
        return Err(ConfigError::new(path.display(), "there is a swarm here already", hint).into());
    }
    let text = config::text(&args.config)?;
    let old: JoinConfig = config::parse(&file, &text)?;
    let home = home(&old.peer.state)?;
    let swarm = manifest(args, &file, &old.swarm, home.as_deref())?;
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let base = take_along(&old, home.as_deref(), &args.dir)?.unwrap_or_else(|| old.peer.base.clone());
    let state = std::path::absolute(args.dir.join("state"))?;
    let text = peer_config(&text, &swarm, &base, &state)?;
    new::write(&path, &text)?;
    let forked = Forked {
        swarm: swarm.id().to_string(),
        parent: old.swarm.id().to_string(),
        config: path,
        packs: swarm.packs.iter().map(|pin| pin.id.clone()).collect(),
        base,
    };
    if args.json {
        printer::json(&forked)?;
        return Ok(Outcome::Done);
    }
    printer::note(&format!(
        "the swarm {} draws from {}\nits peer here begins with {}\nall who fork in the same way meet in it; bootstrap under [peer] says where\nrun it with: murmur join {}",
        swarm.id().short(),
        forked.packs.join(", "),
        forked.base,
        forked.config.display()
    ));
    printer::data(&forked.swarm)?;
    Ok(Outcome::Done)
}

/// Where the peer of a state folder keeps its policy and its head, if it has played.
fn home(state: &Path) -> anyhow::Result<Option<PathBuf>> {
    let key = identity_path(state);
    let run = state.join("run");
    if !key.exists() || !run.join("run.json").exists() {
        return Ok(None);
    }
    let name = Identity::load(&key)?.public().name();
    let checkpoint = RunDir::open(&run)?.0.checkpoint(&name)?;
    Ok(checkpoint.parent().map(Path::to_path_buf))
}

/// The old manifest with other packs.
fn manifest(args: &ForkArgs, file: &str, old: &Manifest, home: Option<&Path>) -> anyhow::Result<Manifest> {
    let mut pins = old.packs.clone();
    if let Some(home) = home {
        let state = read_resume(home)?.head.state;
        let state: judge::State = if state.is_empty() {
            judge::State::default()
        } else {
            wire::decode(&state, state.len()).with_context(|| home.display().to_string())?
        };
        let taken = state.packs.accepted.iter();
        pins.extend(taken.map(|(key, pack)| PackPin { id: PackId(key.0).to_string(), weight: pack.weight }));
    }
    for unwanted in &args.without {
        let before = pins.len();
        pins.retain(|pin| pin.id != *unwanted);
        if pins.len() == before {
            let known: Vec<&str> = pins.iter().map(|pin| pin.id.as_str()).collect();
            let hint = format!("it draws from {}", known.join(", "));
            return Err(
                ConfigError::new("--without", format!("the swarm has no pack {unwanted}"), hint).into()
            );
        }
    }
    for name in &args.pack {
        let id = packs::pin(name)?;
        pins.retain(|pin| pin.id != id);
        pins.push(PackPin { id, weight: args.weight });
    }
    let mut swarm = Manifest { packs: pins, parent: Some(old.id().to_string()), ..old.clone() };
    if let Some(name) = &args.name {
        swarm.name.clone_from(name);
    }
    if let Some(peers_min) = args.peers_min {
        swarm.genesis.peers_min = peers_min;
    }
    swarm.validate().map_err(|error| ConfigError::new(file, error.to_string(), ""))?;
    Ok(swarm)
}

/// Copies what the peer has trained, as a base to begin with, where the swarm allows any and it is a whole model.
fn take_along(old: &JoinConfig, home: Option<&Path>, dir: &Path) -> anyhow::Result<Option<String>> {
    let Some(found) = home.and_then(|home| policy::Checkpoint::find(&home.join("checkpoint"))) else {
        return Ok(None);
    };
    if old.lora.is_some() || !old.swarm.models.is_empty() || !found.join("config.json").exists() {
        printer::note(
            "what was trained is not taken along: the new swarm begins with the base, as its config says",
        );
        return Ok(None);
    }
    let base = std::path::absolute(dir.join("base"))?;
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(&base)?;
        for entry in fs::read_dir(&found)? {
            let name = entry?.file_name();
            // The optimiser stays: it is of the run that ends here.
            if name.to_str().is_some_and(|name| name != "trainer.json" && !name.starts_with("adam_")) {
                fs::copy(found.join(&name), base.join(&name))?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot copy {} to {}", found.display(), base.display()))?;
    Ok(Some(base.display().to_string()))
}

/// The old config with another swarm, base and folder; what only held for the old swarm is left out.
fn peer_config(old: &str, swarm: &Manifest, base: &str, state: &Path) -> anyhow::Result<String> {
    let mut table: Table = toml::from_str(old).context("the config changed while it was read")?;
    table.insert("swarm".into(), Value::Table(without_defaults(swarm)?));
    if let Some(Value::Table(peer)) = table.get_mut("peer") {
        peer.insert("base".into(), base.into());
        peer.insert("state".into(), state.display().to_string().into());
        for gone in ["ticket", "trusted_checkpoint", "rounds"] {
            peer.remove(gone);
        }
    }
    Ok(format!(
        "# A peer of the swarm {}, forked from {}. Run it with: murmur join THIS FILE\n\n{}",
        swarm.id().short(),
        swarm.parent.as_deref().unwrap_or_default(),
        toml::to_string(&table).context("the config cannot be written")?
    ))
}
