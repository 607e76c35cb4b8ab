//! `murmur join CONFIG`: one peer as a process of its own.
//!
//! The `[swarm]` section is what all peers share, and hashes into the swarm's identity; everything else
//! is this peer's own affair.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use judge::PeerKey;
use policy::{Checkpoint, LoraConfig, Policy, Sampling, Trainer, UpdateConfig};
use serde::{Deserialize, Serialize};
use swarm::checkpoint;
use swarm::engine::Status;
use swarm::identity::{self, Identity};
use swarm::manifest::{Manifest, parse_key};
use swarm::membership::{Joining, Ticket};
use swarm::net::{NetConfig, NetError, Network};
use tasks::{Catalogue, Pack, PackFiles, PackId};
use tokio::sync::{mpsc, watch};

use crate::args::JoinArgs;
use crate::arm::Arm;
use crate::compute::{Compute, PolicyConfig, SamplingConfig};
use crate::config::{self, ConfigError};
use crate::critic::Critic;
use crate::exit::{Interrupted, Outcome};
use crate::join_code::{self, JoinCode};
use crate::layers::{self, Layered, Override};
use crate::model::{Model, Source};
use crate::packs::PackSource;
use crate::peer::{self, PeerEnd};
use crate::record::{PeerInfo, RunDir, RunInfo};
use crate::setup::PeerSetup;
use crate::start_from::StartFrom;
use crate::state::{StateLock, identity_path};
use crate::store::Store;
use crate::story::Story;
use crate::{
    clock, courier, crash, dashboard, disk, interrupt, model, offers, outlet, packs, printer, proposals,
    scout, show,
};

/// News that may wait to be told.
const NEWS_MAX: usize = 1024;

/// A join config.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinConfig {
    /// What all peers share.
    pub(crate) swarm: Manifest,
    /// This peer.
    pub(crate) peer: PeerConfig,
    /// How its policy computes.
    #[serde(default)]
    pub(crate) policy: PolicyConfig,
    /// How it draws answers.
    #[serde(default)]
    pub(crate) sampling: SamplingConfig,
    /// The adapter it trains; every weight without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lora: Option<LoraConfig>,
    /// How it learns.
    #[serde(default)]
    pub(crate) learning: UpdateConfig,
}

/// What only this peer needs to know.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerConfig {
    /// Where it listens, as `127.0.0.1:4101` (TCP) or `/ip4/0.0.0.0/udp/4101/quic-v1`; loopback unless the config says
    /// otherwise. With none it only dials.
    #[serde(default = "loopback")]
    pub(crate) listen: Vec<String>,
    /// Peers and relay points to meet first, as `192.0.2.7:4101`, `example.org:4101` or multiaddresses.
    #[serde(default)]
    pub(crate) bootstrap: Vec<String>,
    /// Whether it looks for peers of this swarm on the same local network, by multicast DNS.
    #[serde(default)]
    pub(crate) lan: bool,
    /// Embedded base, Hugging Face directory or model of the hub (`owner/name@revision`) to start from.
    pub(crate) base: String,
    /// What it starts from while it has learnt nothing: `base`; `best`, the policy of the peer that was right most
    /// often on prompts whose answer was known afterwards, or the base if nobody gives one; `peer:NAME`; `hub`, a base
    /// that must be one of the hub.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) from: StartFrom,
    /// Bytes a second of its policy that it gives in all to peers who start from it; 0 to give nothing. About a third
    /// of the uplink leaves the rounds their share.
    #[serde(default = "upload_bytes_per_s")]
    pub(crate) upload_bytes_per_s: u64,
    /// Bytes a second of it that one peer gets; as much as all, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload_peer_bytes_per_s: Option<u64>,
    /// Folder for key, checkpoint and records.
    pub(crate) state: PathBuf,
    /// Round of the swarm after which it stops; 0 for never.
    #[serde(default)]
    pub(crate) rounds: u32,
    /// Folders of the static packs that `[swarm]` names by content address.
    #[serde(default)]
    pub(crate) packs: Vec<PathBuf>,
    /// Rounds between checkpoints.
    #[serde(default = "every_round")]
    pub(crate) checkpoint_every: u32,
    /// A final certificate to verify from, `VIEW:HASH` as `murmur replay` prints it; else from the genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trusted_checkpoint: Option<String>,
    /// What it says of packs that others propose: `auto` votes for those that pass their check, `ask` waits for
    /// `murmur task propose` with this config, `never` votes against all.
    #[serde(default)]
    pub(crate) proposals: proposals::Policy,
    /// Where metrics for Prometheus are served, such as `127.0.0.1:9464`; nowhere without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<String>,
    /// What `murmur invite` printed, for a swarm that asks for an invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<String>,
}

fn upload_bytes_per_s() -> u64 {
    swarm::net::limits::UPLOAD_BYTES_PER_S
}

fn every_round() -> u32 {
    1
}

fn loopback() -> Vec<String> {
    vec!["127.0.0.1:0".into()]
}

/// Runs the command.
///
/// # Errors
/// A config, key, model or address that cannot be used, each with what to do.
pub(crate) fn run(args: &JoinArgs) -> anyhow::Result<Outcome> {
    let (path, lock) = match JoinCode::parse(&args.config)? {
        Some(code) => code.settle(args.state.as_deref()).map(|(path, lock)| (path, Some(lock)))?,
        None => (args.config.clone(), None),
    };
    let mut set = args.set.set.clone();
    set.extend(
        args.state
            .iter()
            .map(|state| Override::by_argument("peer.state", state.display().to_string(), "--state")),
    );
    set.extend(args.from.iter().map(|from| Override::by_argument("peer.from", from.to_string(), "--from")));
    let layered: Layered<JoinConfig> = layers::read(&path, &set)?;
    let (file, config) = (path.display().to_string(), &layered.config);
    config.swarm.validate().map_err(|error| {
        ConfigError::new(&file, format!("[swarm] {}: {}", error.key, error.why), error.hint.clone())
    })?;
    offers::check_rate(&file, config.peer.upload_bytes_per_s)?;
    if config.peer.checkpoint_every == 0 {
        return Err(ConfigError::value(&file, "checkpoint_every", "must be at least 1").into());
    }
    let checkpoint = trusted_checkpoint(&file, config)?;
    let compute = Compute::new(&file, config)?;
    if !args.dry_run {
        fetch_packs(config)?;
    }
    let (catalogue, sources) = catalogue(&file, config)?;
    let source = Source::of(&config.peer.base)?;
    config.peer.from.check(&file, config, &source)?;
    if args.dry_run {
        match source.here()? {
            Ok(base) => drop(resolve(&file, config, &compute, &base, &catalogue)?),
            Err(missing) => printer::note(&format!(
                "{} is not on this machine: the first start downloads {}; memory is predicted then",
                config.peer.base,
                missing.join(", ")
            )),
        }
        printer::data(&show::text(&layered, false)?)?;
        return Ok(Outcome::Done);
    }
    let config = layered.config;
    let base = source.fetch(args.hub.offline)?;
    let sampling = resolve(&file, &config, &compute, &base, &catalogue)?;
    let _lock = lock.map_or_else(|| StateLock::take(&config.peer.state), Ok)?;
    let identity = Identity::load_or_create(&identity_path(&config.peer.state))?;
    let packs = shared(&config.swarm, &sources)?;
    let name = identity.public().name();
    let ticket = ticket(&file, &config, &identity)?;
    check_welcome(&file, &config.swarm, &identity.public(), ticket.as_ref())?;
    let others = join_code::command_in(&config::text(&path)?, &config.swarm);
    let run = open_run(&config, sources, &identity, others.as_deref())?;
    let dir = config.peer.state.join("run").join("peers").join(&name);
    let start = start(&file, &config, &compute, &base, &dir, checkpoint)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no event loop")?;
    printer::note(&format!("{name} joins swarm {} ({})", config.swarm.id().short(), config.swarm.name));
    printer::note(&format!("its public key is {}", identity.public().hex()));
    printer::note(&format!("its config is {}, its run is in {}", path.display(), run.path().display()));
    if let Some(command) = &others {
        printer::note(&format!("others join with: {command}"));
    }
    let critic = Critic::of(&config.peer.base, &config.swarm.round)?;
    let state = config.peer.state.clone();
    let end = runtime.block_on(async {
        let network = bind(&file, &identity, &config, &dir).await?;
        for address in network.listen_addresses() {
            printer::note(&format!("listening on {address}"));
        }
        let me = identity.public();
        let setup = PeerSetup {
            entropy: identity::entropy()?,
            identity,
            ticket,
            manifest: config.swarm,
            catalogue,
            network,
            policy: start.policy,
            trainer: start.trainer,
            base: config.peer.base,
            resumed: start.round,
            device: compute.policy.device,
            computing: compute.policy,
            sampling,
            critic,
            arm: Arm::Swarm,
            lie: None,
            rounds: config.peer.rounds,
            checkpoint,
            dir,
            checkpoint_every: config.peer.checkpoint_every,
            packs,
            upload_bytes_per_s: config.peer.upload_bytes_per_s,
            proposals: config.peer.proposals,
            notes: proposals::notes(&state),
        };
        let (_, info) = RunDir::open(run.path())?;
        if let Some(address) = &config.peer.metrics {
            dashboard::exporter::start(&run, info.clone(), address)?;
        }
        crash::beside(run.path());
        outlet::let_go();
        let _shown = dashboard::beside(&run, &info, args.plain)?;
        let story = Story::new(run, config.peer.rounds, args.plain, vec![me], Vec::new());
        play(setup, story).await
    })?;
    let left = format!(
        "{name} left after round {}; everything is saved\ngo on with: murmur join {}\nexport with: murmur export {}",
        end.rounds,
        path.display(),
        state.join("run").display()
    );
    if end.stopped {
        return Err(Interrupted(left).into());
    }
    printer::note(&left);
    Ok(Outcome::Done)
}

/// Says at once what the others would show by never letting this peer play.
fn check_welcome(
    file: &str,
    swarm: &Manifest,
    me: &PeerKey,
    ticket: Option<&Ticket>,
) -> Result<(), ConfigError> {
    let listed = |keys: &[String]| keys.iter().any(|key| parse_key(key).as_ref() == Some(me));
    let named = listed(&swarm.genesis.peers) || listed(&swarm.membership.peers);
    let (what, hint) = match swarm.membership.rule {
        Joining::Open => return Ok(()),
        Joining::Listed | Joining::Invited if named => return Ok(()),
        Joining::Invited if ticket.is_some() => return Ok(()),
        Joining::Invited => (
            "[swarm] lets in only whom a member invited, and [peer] has no `ticket`",
            format!("ask a member for: murmur invite CONFIG --guest {}", me.hex()),
        ),
        Joining::Listed => (
            "[swarm] lets in only listed peers, and this one is not among them",
            format!("its key {} must stand in membership.peers in the configs of all peers", me.hex()),
        ),
    };
    Err(ConfigError::new(file, what, hint))
}

/// The checkpoint that the config holds.
fn trusted_checkpoint(
    file: &str,
    config: &JoinConfig,
) -> Result<Option<checkpoint::Checkpoint>, ConfigError> {
    let Some(text) = &config.peer.trusted_checkpoint else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        let hint = "ask a member for the one that `murmur replay RUN` prints, or leave the key out";
        ConfigError::new(file, format!("[peer] `trusted_checkpoint` is {text:?}: {error}"), hint)
    })
}

/// The invitation that the config holds.
fn ticket(file: &str, config: &JoinConfig, identity: &Identity) -> anyhow::Result<Option<Ticket>> {
    let Some(text) = &config.peer.ticket else { return Ok(None) };
    let wrong = |what: String| {
        let hint = format!("ask a member for: murmur invite CONFIG --guest {}", identity.public().hex());
        ConfigError::new(file, format!("[peer] `ticket` {what}"), hint)
    };
    let ticket = Ticket::from_text(text).map_err(|error| wrong(format!("is not a ticket: {error}")))?;
    if ticket.guest != identity.public() {
        return Err(wrong(format!("invites {}, not this peer", ticket.guest.name())).into());
    }
    if !ticket.verifies(&config.swarm.id()) {
        return Err(wrong("is for another swarm, or damaged".into()).into());
    }
    Ok(Some(ticket))
}

/// The packs that the manifest names, found by content address among the configured folders and in the store.
pub(crate) fn catalogue(file: &str, config: &JoinConfig) -> anyhow::Result<(Catalogue, Vec<PackSource>)> {
    let mut local = Vec::new();
    for folder in &config.peer.packs {
        local.push((packs::open(&folder.display().to_string())?, folder));
    }
    let mut chosen = Vec::new();
    let mut sources = Vec::new();
    for pin in &config.swarm.packs {
        let (name, _) = tasks::split_levels(&pin.id).unwrap_or((&pin.id, None));
        let native = packs::native_pack(file, &pin.id)?;
        let (pack, id) = match (native, local.iter().find(|(pack, _)| pack.pin() == name)) {
            (Some(pack), _) => (pack, pin.id.clone()),
            (None, Some((_, folder))) => {
                let id = format!("{}{}", folder.display(), &pin.id[name.len()..]);
                (packs::open(&id)?, id)
            }
            (None, None) if stored(name) => (packs::open(&pin.id)?, pin.id.clone()),
            (None, None) => return Err(absent(file, &pin.id, &local).into()),
        };
        chosen.push((pack, pin.weight));
        sources.push(PackSource { id, weight: pin.weight });
    }
    let catalogue = Catalogue::new(chosen)
        .map_err(|error| ConfigError::new(file, error.to_string(), "see [[swarm.packs]]"))?;
    Ok((catalogue, sources))
}

/// Fetches the packs that are neither in a configured folder nor in the store; with nobody to ask, [`catalogue`] says
/// what is missing.
fn fetch_packs(config: &JoinConfig) -> anyhow::Result<()> {
    if config.peer.bootstrap.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<PackId> = config.swarm.packs.iter().filter_map(|pin| pack_id(&pin.id)).collect();
    for folder in &config.peer.packs {
        let here = packs::read_folder(folder)?.id();
        missing.retain(|id| *id != here);
    }
    let store = Store::open()?;
    missing.retain(|id| !store.has(id));
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    // A key of its own: whoever sees it leave is not to take that for this peer's end.
    courier::fetch(&Identity::generate()?, config.swarm.id(), &config.peer.bootstrap, &missing).map(drop)
}

/// The content address in a pin, whichever levels it takes.
fn pack_id(pin: &str) -> Option<PackId> {
    PackId::parse(tasks::split_levels(pin).map_or(pin, |(name, _)| name))
}

/// The files of the packs by content address, for peers who lack them.
fn shared(swarm: &Manifest, sources: &[PackSource]) -> anyhow::Result<Vec<PackFiles>> {
    let named = swarm.packs.iter().zip(sources).filter(|(pin, _)| pack_id(&pin.id).is_some());
    named
        .map(|(_, source)| packs::read(tasks::split_levels(&source.id).map_or(&source.id, |(name, _)| name)))
        .collect()
}

fn stored(pin: &str) -> bool {
    let id = tasks::PackId::parse(pin);
    id.is_some_and(|id| Store::open().is_ok_and(|store| store.has(&id)))
}

fn absent(file: &str, pin: &str, local: &[(Pack, &PathBuf)]) -> ConfigError {
    let have: Vec<String> =
        local.iter().map(|(pack, folder)| format!("{} is {}", folder.display(), pack.pin())).collect();
    let hint = if have.is_empty() {
        "store it: murmur task add FOLDER; name its folder in packs = [\"…\"] under [peer]; or name a running peer in bootstrap, and `murmur join` fetches it".to_owned()
    } else {
        format!("no configured folder has this content ({})", have.join(", "))
    };
    ConfigError::new(file, format!("[swarm] names the pack {pin}, which is not here"), hint)
}

fn open_run(
    config: &JoinConfig,
    packs: Vec<PackSource>,
    identity: &Identity,
    others: Option<&str>,
) -> anyhow::Result<RunDir> {
    let path = config.peer.state.join("run");
    let swarm = config.swarm.id().to_string();
    if path.join("run.json").exists() {
        let (run, info) = RunDir::open(&path)?;
        if info.swarm != swarm {
            bail!(
                "{} belongs to another swarm ({})\nhint: choose another state folder; [swarm] was changed, or this is another config",
                path.display(),
                info.swarm.get(..8).unwrap_or(&info.swarm)
            );
        }
        return Ok(run);
    }
    let key = identity.public();
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        started: clock::now(),
        command: "murmur join".into(),
        arm: Arm::Swarm.name().into(),
        swarm,
        rounds: config.peer.rounds,
        peers: vec![PeerInfo { name: key.name(), key: key.hex(), base: config.peer.base.clone() }],
        packs,
        join: others.unwrap_or_default().into(),
        ..RunInfo::default()
    };
    RunDir::create(&path, &info)
}

/// Checks what depends on the model before its weights are read, and says how much memory the run takes.
fn resolve(
    file: &str,
    config: &JoinConfig,
    compute: &Compute,
    base: &Model,
    catalogue: &Catalogue,
) -> anyhow::Result<Sampling> {
    let rules = &config.swarm.round;
    let generation = if compute.template(base)?.is_some() { base.generation()? } else { None };
    let sampling = config.sampling.of(rules, generation.as_ref()).map_err(|why| {
        ConfigError::new(
            file,
            format!("[sampling] {why}"),
            "see the range, or leave the key out for its default",
        )
    })?;
    if let Some(generation) = generation.filter(|generation| !generation.unsupported.is_empty()) {
        let unsupported = generation.unsupported.join(", ");
        printer::note(&format!("{} asks for {unsupported}, which is not done here", config.peer.base));
    }
    let estimate = compute.memory(base, rules, catalogue)?;
    printer::note(&format!("memory: this takes up to {estimate}"));
    Ok(sampling)
}

/// What a peer goes on with.
struct Start {
    policy: Policy,
    trainer: Trainer,
    /// Round of the checkpoint it comes from.
    round: Option<u32>,
}

/// The policy to go on with: the checkpoint, or the base.
fn start(
    file: &str,
    config: &JoinConfig,
    compute: &Compute,
    base: &Model,
    dir: &Path,
    trusted: Option<checkpoint::Checkpoint>,
) -> anyhow::Result<Start> {
    let checkpoint = dir.join("checkpoint");
    let found = Checkpoint::find(&checkpoint);
    if found.is_none() && checkpoint.exists() {
        bail!(
            "{} has no trainer.json: it is not a whole checkpoint\nhint: move it away to start from the base again",
            checkpoint.display()
        );
    }
    let template = compute.template(base)?;
    let needs_base = found.is_none()
        || compute.lora.is_some()
        || compute.needs_reference()
        || !config.swarm.models.is_empty();
    let base = if needs_base { Some(base.load()?) } else { None };
    if let Some(base) = &base {
        check_base(file, config, base)?;
    }
    let reference = base.clone().filter(|_| compute.needs_reference());
    let mut start = match found {
        Some(path) => resume(&path, compute, base)?,
        None => {
            let policy = compute.adapt(base.context("the base was not read")?)?;
            let policy = scout::begin(config, policy, dir, trusted)?;
            let trainer = Trainer::new(&policy, compute.learning.clone());
            Start { policy, trainer, round: None }
        }
    };
    start.policy = compute.prepare(start.policy, template)?;
    if let Some(reference) = reference {
        start.trainer = start.trainer.with_reference(reference);
    }
    Ok(start)
}

fn resume(path: &Path, compute: &Compute, base: Option<Policy>) -> anyhow::Result<Start> {
    let needed = || base.with_context(|| format!("{} has an adapter, the config no [lora]", path.display()));
    let (policy, trainer, counters) = Checkpoint::load(path, needed)?;
    let (here, asked) = (policy.adapter().map(|adapter| adapter.config()), compute.lora.as_ref());
    if here != asked {
        let shown = |lora: Option<&LoraConfig>| match lora {
            Some(lora) => {
                format!("[lora] rank = {}, alpha = {}, targets = {:?}", lora.rank, lora.alpha, lora.targets)
            }
            None => "no [lora]".into(),
        };
        bail!(
            "{} was trained with {}, the config has {}\nhint: put [lora] back as it was, or move the checkpoint away to start from the base again",
            path.display(),
            shown(here),
            shown(asked)
        );
    }
    printer::note(&format!("resuming from the checkpoint of round {}", counters.round));
    let trainer = trainer.with_config(compute.learning.clone());
    Ok(Start { policy, trainer, round: Some(counters.round) })
}

/// Whether the manifest allows this peer's base.
fn check_base(file: &str, config: &JoinConfig, base: &Policy) -> anyhow::Result<()> {
    let allowed = &config.swarm.models;
    if allowed.is_empty() {
        return Ok(());
    }
    let hash = model::hex(&base.hash());
    if allowed.contains(&hash) {
        return Ok(());
    }
    let message = format!("the swarm does not allow the base {} ({hash})", config.peer.base);
    Err(ConfigError::new(file, message, "use a base whose hash is in swarm.models").into())
}

async fn bind(file: &str, identity: &Identity, config: &JoinConfig, dir: &Path) -> anyhow::Result<Network> {
    let book = disk::read_book(dir);
    let genesis = &config.swarm.genesis;
    let known = [book.peers.len() + 1, genesis.peers.len(), genesis.peers_min.into()];
    let usual = NetConfig::default();
    let net = NetConfig {
        listen: config.peer.listen.clone(),
        bootstrap: config.peer.bootstrap.clone(),
        transfers: offers::rates(&config.peer),
        lan: config.peer.lan,
        peers_expected: known.into_iter().fold(usual.peers_expected, usize::max),
        ..usual
    };
    let mut network = Network::bind(identity, config.swarm.id(), net).await.map_err(|error| match error {
        NetError::Address { address, why } => {
            let (why, hint) = config::split_hint(&why);
            ConfigError::new(file, format!("[peer] the address {address:?}: {why}"), hint).into()
        }
        other => anyhow::Error::from(other),
    })?;
    network.recall(&book);
    Ok(network)
}

async fn play(setup: PeerSetup, mut story: Story) -> anyhow::Result<PeerEnd> {
    let (news_send, mut news) = mpsc::channel(NEWS_MAX);
    let (stop_send, stop) = watch::channel(false);
    let (status_send, mut status) = watch::channel(None::<Status>);
    let task = tokio::spawn(peer::run(setup, news_send, status_send, stop));
    let mut watching = true;
    let mut ctrl_c = interrupt::signals().context("no signal handler")?;
    loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Some((peer, news)) => if let Some(text) = story.hear(peer, news)? { printer::passing(&text) },
                None => break,
            },
            changed = status.changed(), if watching => match changed {
                Ok(()) => if let Some(status) = status.borrow_and_update().as_ref() { story.status(status)? },
                Err(_) => watching = false,
            },
            Some(()) = ctrl_c.recv() => {
                if stop_send.send_replace(true) {
                    interrupt::at_once();
                }
                printer::note("leaving; ctrl-c again stops at once");
            }
        }
    }
    story.end();
    task.await.context("the peer stopped unexpectedly")?
}
