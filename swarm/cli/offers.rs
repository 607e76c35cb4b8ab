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
use swarm::net::{Network, Share, TransferConfig};
use swarm::policies::{AdapterOf, Evidence, Offer, PolicyAnswer};
use swarm::topic::SwarmId;
use swarm::tree::Outline;
use swarm::wire::{self, Hash};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::config::ConfigError;
use crate::join::PeerConfig;
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

/// Least bytes a second of an uplink that gives anything: whoever fetches waits half a minute for a mebibyte.
const RATE_MIN: u64 = 100_000;

/// Whether something can be given at a rate.
///
/// # Errors
/// [`ConfigError`] naming the key.
pub(crate) fn check_rate(file: &str, rate: u64) -> Result<(), ConfigError> {
    if (1..RATE_MIN).contains(&rate) {
        let range = format!("must be 0 or at least {RATE_MIN}: nobody waits for less");
        return Err(ConfigError::value(file, "upload_bytes_per_s", range));
    }
    Ok(())
}

/// How much of the uplink a config gives.
pub(crate) fn rates(peer: &PeerConfig) -> TransferConfig {
    let bytes_per_s = peer.upload_bytes_per_s;
    let peer_bytes_per_s = peer.upload_peer_bytes_per_s.unwrap_or(bytes_per_s);
    TransferConfig { bytes_per_s, peer_bytes_per_s }
}

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
        let Ok(offset) = policy::values_begin(&kept.path) else { return };
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
        file.seek(SeekFrom::Start(policy::values_begin(path)?))?;
        Outline::of(&mut file)
    };
    outline().is_ok_and(|outline| outline.content() == offer.values)
}

/// Whether nobody is fetching it.
fn is_idle(network: &Network, kept: &Kept) -> bool {
    network.share_asked(&kept.offer.values.hash).is_none_or(|asked| asked > IN_USE)
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

#[cfg(test)]
mod tests {
    use policy::{LoraConfig, Trainer, UpdateConfig};
    use serde_bytes::ByteBuf;
    use swarm::identity::Identity;
    use swarm::net::NetConfig;
    use swarm::policies::PolicyRequest;

    use super::*;

    const SWARM: SwarmId = SwarmId([5; 32]);
    const RATE: u64 = 1 << 20;
    const SOON: Duration = Duration::from_secs(20);

    fn evidence() -> Option<Evidence> {
        Some(Evidence { statement: Hash([1; 32]), ids: ByteBuf::new(), reveal: ByteBuf::new() })
    }

    fn given(offers: &Offers) -> Vec<Offer> {
        PolicyAnswer::read(&offers.serve(&PolicyRequest::of(&SWARM)).unwrap()).unwrap().offers
    }

    #[tokio::test]
    async fn what_is_stored_and_then_certified_is_offered_also_after_a_restart() {
        let identity = Identity::from_seed([1; 32]);
        let network = Network::bind(&identity, SWARM, NetConfig::default()).await.unwrap();
        let base = Policy::embedded("amber").unwrap();
        for policy in [base.clone(), base.with_adapter(LoraConfig::default(), 3).unwrap()] {
            let folder = tempfile::tempdir().unwrap();
            let (dir, hash) = (folder.path(), Hash(policy.hash()));
            let trainer = Trainer::new(&policy, UpdateConfig::default());
            for round in [3, 4] {
                Checkpoint::save(&history::kept(dir, round), &policy, &trainer, round).unwrap();
            }
            let mut offers = Offers::open(&network, SWARM, dir, &policy, RATE);
            offers.certified(&network, 2, hash, || panic!("not stored yet"));
            offers.stored(hash, 3);
            offers.certified(&network, 4, Hash([9; 32]), || panic!("another policy"));
            assert_eq!(given(&offers), []);
            offers.certified(&network, 4, hash, evidence);
            let deadline = Instant::now() + SOON;
            while given(&offers).is_empty() {
                assert!(Instant::now() < deadline, "it is not offered");
                tokio::task::yield_now().await;
                offers.look(&network);
            }
            let [offer] = &given(&offers)[..] else { panic!("one") };
            assert_eq!((offer.policy(), offer.values.len), (hash, policy.learnt_bytes()));
            assert!(holds(&values_path(&super::folder(dir), &hash), offer));
            offers.stored(Hash([8; 32]), 4);
            offers.certified(&network, 4 + EVERY_ROUNDS, Hash([8; 32]), || panic!("too soon"));
            // The checkpoint may go: the offer has its own name for the file.
            fs::remove_dir_all(history::kept(dir, 3)).unwrap();
            assert_eq!(
                given(&Offers::open(&network, SWARM, dir, &policy, RATE)),
                std::slice::from_ref(offer)
            );
            assert_eq!(given(&Offers::open(&network, SWARM, dir, &policy, 0)), []);
            assert!(!holds(&history::kept(dir, 4), offer));
        }
    }

    #[tokio::test]
    async fn older_ones_that_nobody_fetches_go() {
        let identity = Identity::from_seed([2; 32]);
        let network = Network::bind(&identity, SWARM, NetConfig::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dir = super::folder(folder.path());
        fs::create_dir_all(&dir).unwrap();
        let policy = Policy::embedded("amber").unwrap();
        for n in 0..5_u8 {
            let values = [&policy.learnt_head()[..], &[n; 64]].concat();
            let outline = Outline::of(&mut &[n; 64][..]).unwrap();
            let offer = Offer { values: outline.content(), adapter: None, evidence: evidence().unwrap() };
            fs::write(values_path(&dir, &offer.policy()), values).unwrap();
            store(&dir, &offer).unwrap();
        }
        let offers = Offers::open(&network, SWARM, folder.path(), &policy, RATE);
        assert_eq!(given(&offers).len(), 1, "nobody asks for the older ones");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "their files are gone");
    }
}
