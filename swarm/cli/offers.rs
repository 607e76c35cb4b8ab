//! The policies that a peer gives to others who start from them.
//!
//! Nothing is copied and no round waits: a checkpoint's file never changes, so a second name keeps it, and it is
//! hashed and served by other threads. It is offered once a certificate covers answers that it sampled, and a newer
//! one takes its place only after a while, so that whoever began with one can end with it.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use policy::{Checkpoint, Policy};
use swarm::limits::POLICY_ANSWER_BYTES_MAX;
use swarm::net::{Network, Share};
use swarm::policies::{AdapterOf, Evidence, Offer, PolicyAnswer};
use swarm::topic::SwarmId;
use swarm::tree::Outline;
use swarm::wire::{self, Hash};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{disk, history};

/// Rounds, and time, between two own policies that are offered.
const EVERY_ROUNDS: u32 = 10;
const EVERY: Duration = Duration::from_secs(60);
/// Policies kept for others, whoever's they are. Each may take as much room as a checkpoint.
const KEPT_MAX: usize = 3;
/// An older one goes when nobody has asked for any of it for this long.
const IN_USE: Duration = Duration::from_secs(60);
/// Own checkpoints that may yet be certified.
const CHECKPOINTS_MAX: usize = 2;

/// An offer and where its values are.
#[derive(Debug)]
struct Kept {
    offer: Offer,
    path: PathBuf,
}

/// All of them, and what is needed to make the next.
#[derive(Debug)]
pub(crate) struct Offers {
    swarm: SwarmId,
    /// Folder of the peer.
    dir: PathBuf,
    /// None where nothing is given.
    adapter: Option<Option<AdapterOf>>,
    /// The newest first.
    kept: Vec<Kept>,
    /// Own checkpoints by policy hash, the newest last.
    checkpoints: Vec<(Hash, PathBuf)>,
    made: Option<(u32, Instant)>,
    making: Option<oneshot::Receiver<anyhow::Result<Kept>>>,
}

/// Folder of what is offered, within a peer's.
pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("offers")
}

/// Where the values of a policy are kept.
pub(crate) fn values_path(folder: &Path, policy: &Hash) -> PathBuf {
    folder.join(format!("{policy}.safetensors"))
}

fn offer_path(folder: &Path, policy: &Hash) -> PathBuf {
    folder.join(format!("{policy}.offer"))
}

/// What a policy's hash covers besides its values, where they are an adapter's.
pub(crate) fn adapter_of(policy: &Policy) -> Option<AdapterOf> {
    let adapter = policy.adapter()?;
    Some(AdapterOf { base: Hash(policy.base_hash()), scale: adapter.config().scale().to_bits() })
}

/// Keeps an offer beside its values, so that it is made again at the next start.
///
/// # Errors
/// The disk does not take it.
pub(crate) fn store(folder: &Path, offer: &Offer) -> anyhow::Result<()> {
    let path = offer_path(folder, &offer.policy());
    let shown = || format!("cannot write {}", path.display());
    disk::replace(&path.with_extension("offer.tmp"), &path, &wire::encode(offer)).with_context(shown)
}

impl Offers {
    /// What earlier runs left; nothing is given at a rate of 0.
    pub(crate) fn open(network: &Network, swarm: SwarmId, dir: &Path, policy: &Policy, rate: u64) -> Self {
        let adapter = (rate > 0).then(|| adapter_of(policy));
        let mut offers = Self {
            swarm,
            dir: dir.to_owned(),
            adapter,
            kept: Vec::new(),
            checkpoints: Vec::new(),
            made: None,
            making: None,
        };
        if rate > 0 {
            let mut found = found(&folder(dir));
            found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            found.into_iter().for_each(|(_, kept)| offers.give(network, kept));
            offers.tidy(network);
        }
        offers
    }

    /// A checkpoint was stored.
    pub(crate) fn stored(&mut self, policy: Hash, round: u32) {
        if self.adapter.is_some() {
            self.checkpoints.push((policy, history::kept(&self.dir, round)));
            let old = self.checkpoints.len().saturating_sub(CHECKPOINTS_MAX);
            self.checkpoints.drain(..old);
        }
    }

    /// A certificate covers answers that a policy sampled. It is offered if it is stored, none was for a while, and
    /// there is room without taking one away that somebody is fetching.
    pub(crate) fn certified(
        &mut self,
        network: &Network,
        round: u32,
        policy: Hash,
        evidence: impl FnOnce() -> Option<Evidence>,
    ) {
        let Some(adapter) = self.adapter else { return };
        let room = self.kept.len() < KEPT_MAX || self.kept.iter().skip(1).any(|kept| is_idle(network, kept));
        let due = self.made.is_none_or(|(of, at)| round >= of + EVERY_ROUNDS && at.elapsed() >= EVERY);
        let known = self.kept.iter().any(|kept| kept.offer.policy() == policy);
        if !due || known || !room || self.making.is_some() {
            return;
        }
        let Some((_, from)) = self.checkpoints.iter().find(|(of, _)| *of == policy).cloned() else { return };
        let Some(evidence) = evidence() else { return };
        self.made = Some((round, Instant::now()));
        let folder = folder(&self.dir);
        let (send, making) = oneshot::channel();
        self.making = Some(making);
        tokio::task::spawn_blocking(move || {
            // A peer that has ended meanwhile needs none.
            let _ = send.send(make(&folder, &from, policy, adapter, evidence));
        });
    }

    /// Offers what is ready.
    pub(crate) fn look(&mut self, network: &Network) {
        let Some(making) = &mut self.making else { return };
        let made = match making.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => Err(anyhow::anyhow!("it was not finished")),
            Ok(made) => made,
        };
        self.making = None;
        match made {
            Ok(kept) => {
                self.give(network, kept);
                self.tidy(network);
            }
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "a policy is not offered to others");
            }
        }
    }

    fn give(&mut self, network: &Network, kept: Kept) {
        let Ok(offset) = values_at(&kept.path) else { return };
        network.share(Share { content: kept.offer.values, path: kept.path.clone(), offset });
        self.kept.insert(0, kept);
    }

    /// Forgets what is old and not in use.
    fn tidy(&mut self, network: &Network) {
        let full = |kept: &[Kept]| kept.len() > KEPT_MAX;
        let old = |kept: &[Kept]| {
            kept.iter().rposition(|one| full(kept) || is_idle(network, one)).filter(|at| *at > 0)
        };
        while let Some(at) = old(&self.kept) {
            let old = self.kept.remove(at);
            network.unshare(&old.offer.values.hash);
            for path in [offer_path(&folder(&self.dir), &old.offer.policy()), old.path] {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "not removed");
                }
            }
        }
    }

    /// Answers a question about policies; `None` for bytes that are none.
    pub(crate) fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        PolicyAnswer::serve(request, &self.swarm, self.kept.iter().map(|kept| &kept.offer))
    }
}

/// Offers whose values are here, from earlier runs.
pub(crate) fn here(folder: &Path) -> impl Iterator<Item = Offer> {
    found(folder).into_iter().map(|(_, kept)| kept.offer)
}

/// Whether a file holds the values of an offer and nothing else.
pub(crate) fn holds(path: &Path, offer: &Offer) -> bool {
    let outline = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(values_at(path)?))?;
        Outline::of(&mut file)
    };
    outline().is_ok_and(|outline| outline.content() == offer.values)
}

/// Whether nobody is fetching it.
fn is_idle(network: &Network, kept: &Kept) -> bool {
    network.share_asked(&kept.offer.values.hash).is_none_or(|asked| asked > IN_USE)
}

/// Where in a weight file its values begin.
fn values_at(path: &Path) -> std::io::Result<u64> {
    let mut length = [0; 8];
    std::io::Read::read_exact(&mut File::open(path)?, &mut length)?;
    Ok(u64::from_le_bytes(length).saturating_add(8))
}

/// Keeps a checkpoint's values under another name, hashed and with their offer.
fn make(
    folder: &Path,
    checkpoint: &Path,
    policy: Hash,
    adapter: Option<AdapterOf>,
    evidence: Evidence,
) -> anyhow::Result<Kept> {
    let (from, offset) = Checkpoint::learnt_values(checkpoint)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = values_path(folder, &policy);
    if !path.exists() {
        fs::hard_link(&from, &path).with_context(|| format!("no second name for {}", from.display()))?;
    }
    let mut file = File::open(&path)?;
    file.seek(SeekFrom::Start(offset))?;
    let offer = Offer { values: Outline::of(&mut file)?.content(), adapter, evidence };
    if offer.policy() != policy {
        bail!("{} does not hold the policy that it was stored for", path.display());
    }
    store(folder, &offer)?;
    Ok(Kept { offer, path })
}

/// What a folder holds, with the time of each.
fn found(folder: &Path) -> Vec<(std::time::SystemTime, Kept)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let offers = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.extension().filter(|extension| *extension == "offer")?;
        let offer: Offer = wire::decode(&fs::read(&path).ok()?, POLICY_ANSWER_BYTES_MAX).ok()?;
        let values = values_path(folder, &offer.policy());
        Some((fs::metadata(&values).ok()?.modified().ok()?, Kept { offer, path: values }))
    });
    offers.collect()
}
