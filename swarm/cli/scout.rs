//! A policy to start from, fetched from members of the swarm before taking part.
//!
//! Nobody is believed: certificates are followed from the genesis, or from the checkpoint that the config trusts; an
//! offer counts where a certificate covers answers that its policy sampled; and what comes is checked against its
//! hash, chunk by chunk. A key of its own asks, so that the peer itself appears only when it can play.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use judge::PeerKey;
use policy::Policy;
use policy::memory::amount;
use swarm::admission::{self, Body};
use swarm::checkpoint::Checkpoint;
use swarm::follow::Follower;
use swarm::identity::Identity;
use swarm::manifest::Manifest;
use swarm::net::{Download, NetConfig, NetEvent, Network, RequestToken, Target, Verdict};
use swarm::policies::{AdapterOf, Certified, Offer, PolicyAnswer, PolicyRequest};
use swarm::topic::Topic;
use swarm::wire::Hash;
use tokio::time::{Instant, sleep_until};

use crate::join::JoinConfig;
use crate::offers;
use crate::printer::{self, Progress};
use crate::reasons::Reasons;
use crate::start_from::StartFrom;

/// How long offers are looked for.
const SEARCH_WITHIN: Duration = Duration::from_secs(30);
/// How long whoever answers later than the first is waited for.
const OTHERS_WITHIN: Duration = Duration::from_secs(3);
/// Time after which peers are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Time after which everybody is asked again during a download: others may have the policy by then.
const SOURCES_AGAIN: Duration = Duration::from_secs(15);
/// A download that brings nothing for this long is given up; what is here of it stays.
const STALLS_AFTER: Duration = Duration::from_secs(90);
/// Searches until there is nothing more to hope for.
const SEARCHES_MAX: usize = 3;
/// How long hanging up may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Offers kept, and offers that wait for the certificate that covers them.
const OFFERS_MAX: usize = 256;

/// What is looked for.
struct Search<'a> {
    from: &'a StartFrom,
    manifest: &'a Manifest,
    bootstrap: &'a [String],
    checkpoint: Option<Checkpoint>,
    /// What it is put into: of the shape that is wanted.
    policy: &'a Policy,
    /// Folder of the peer.
    dir: &'a Path,
}

/// What was found.
struct Found {
    certified: Certified,
    /// A weight file with the values.
    path: PathBuf,
}

/// The policy that a peer without a checkpoint starts from: as it is, or with what another one has learnt.
///
/// # Errors
/// An address that cannot be used, a disk that takes nothing, a peer's policy that nobody gives.
pub(crate) fn begin(
    config: &JoinConfig,
    policy: Policy,
    dir: &Path,
    checkpoint: Option<Checkpoint>,
) -> anyhow::Result<Policy> {
    if !config.peer.from.fetches() {
        return Ok(policy);
    }
    let search = Search {
        from: &config.peer.from,
        manifest: &config.swarm,
        bootstrap: &config.peer.bootstrap,
        checkpoint,
        policy: &policy,
        dir,
    };
    let Some(Found { certified, path }) = fetch(&search)? else { return Ok(policy) };
    let policy = policy.with_learnt_from(&path)?;
    if policy.hash() != certified.policy.0 {
        let (path, policy) = (path.display(), certified.policy);
        bail!("{path} does not hold the policy {policy}\nhint: remove it and start again");
    }
    Ok(policy)
}

/// Fetches the policy; nothing where any would do and there is none.
fn fetch(search: &Search) -> anyhow::Result<Option<Found>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no event loop")?;
    runtime.block_on(async {
        let identity = Identity::generate()?;
        let net = NetConfig::dials_only(search.bootstrap);
        let network = Network::bind(&identity, search.manifest.id(), net).await?;
        let mut scout = Scout::new(search, network, identity.public());
        let found = scout.find().await;
        scout.network.leave(LEAVE_WITHIN).await;
        found
    })
}

enum Question {
    Certificates,
    Policies,
}

/// A policy that a certificate covers, and who gives it.
struct Known {
    offer: Offer,
    certified: Certified,
    holders: BTreeSet<PeerKey>,
}

struct Scout<'a> {
    search: &'a Search<'a>,
    network: Network,
    follower: Follower,
    adapter: Option<AdapterOf>,
    asked: BTreeMap<RequestToken, (PeerKey, Question)>,
    /// Who said which policies it has.
    heard: BTreeSet<PeerKey>,
    known: BTreeMap<Hash, Known>,
    /// Offers whose certificate is not known yet.
    waiting: Vec<(PeerKey, Offer)>,
    /// Policies that did not come.
    failed: BTreeSet<Hash>,
    /// Whose turn it is to be asked for certificates.
    turn: usize,
    /// Why there is nothing yet.
    said: Reasons,
}

impl<'a> Scout<'a> {
    fn new(search: &'a Search<'a>, network: Network, me: PeerKey) -> Self {
        Self {
            follower: Follower::new(search.manifest.clone(), search.checkpoint),
            adapter: offers::adapter_of(search.policy),
            search,
            network,
            asked: BTreeMap::new(),
            heard: BTreeSet::new(),
            known: BTreeMap::new(),
            // What an earlier start fetched and did not come to use.
            waiting: offers::here(&offers::folder(search.dir)).map(|offer| (me, offer)).collect(),
            failed: BTreeSet::new(),
            turn: 0,
            said: Reasons::default(),
        }
    }

    async fn find(&mut self) -> anyhow::Result<Option<Found>> {
        for _ in 0..SEARCHES_MAX {
            let Some(chosen) = self.look().await else { break };
            if let Some(found) = self.bring(&chosen).await? {
                return Ok(Some(found));
            }
            self.failed.insert(chosen);
            self.heard.clear();
        }
        let reasons = &self.said;
        if let StartFrom::Peer(name) = self.search.from {
            let offered: BTreeSet<String> =
                self.known.values().map(|known| known.certified.peer.name()).collect();
            let offered = offered.into_iter().collect::<Vec<_>>().join(", ");
            let hint = if offered.is_empty() {
                "start with --from best or --from base".to_owned()
            } else {
                format!("policies can be had of {offered}; or start with --from best or --from base")
            };
            bail!("nobody gave the policy of {name} ({reasons})\nhint: {hint}");
        }
        printer::note(&format!("nobody gave a policy to start from ({reasons}); it starts from its base"));
        Ok(None)
    }

    /// The policy that is wanted most of those that can be had.
    async fn look(&mut self) -> Option<Hash> {
        let deadline = Instant::now() + SEARCH_WITHIN;
        let mut settled = None;
        while Instant::now() < deadline {
            let best = self.best();
            if self.heard_all() {
                return best;
            }
            if best.is_some() && Instant::now() >= *settled.get_or_insert(Instant::now() + OTHERS_WITHIN) {
                return best;
            }
            self.ask();
            self.listen(deadline.min(Instant::now() + ASK_AGAIN)).await;
        }
        self.best()
    }

    /// Whether every member said what it has.
    fn heard_all(&self) -> bool {
        let members = self.follower.newest().map_or(&[][..], |newest| &newest.roster);
        let all = members.iter().all(|peer| self.heard.contains(peer));
        all && self.follower.state().is_some() && self.waiting.is_empty()
    }

    fn best(&self) -> Option<Hash> {
        let (newest, state) = (self.follower.newest()?, self.follower.state()?);
        let folder = offers::folder(self.search.dir);
        let wanted = self.known.iter().filter(|(policy, known)| {
            !self.failed.contains(policy) && !known.holders.is_empty() && self.fits(&known.offer).is_ok()
        });
        let ranked = wanted.filter_map(|(policy, known)| {
            let rank = self.search.from.rank(&known.certified, newest, state)?;
            // What was begun is finished, while somebody still gives it.
            let target = Target { path: offers::values_path(&folder, policy), prefix: Vec::new() };
            let begun = target.path.exists() || target.partial().exists();
            Some(((begun, rank), *policy))
        });
        ranked.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, policy)| policy)
    }

    /// Whether a policy can be put into this peer's.
    fn fits(&self, offer: &Offer) -> Result<(), String> {
        let bytes = self.search.policy.learnt_bytes();
        if offer.adapter != self.adapter {
            let kind =
                |adapter: Option<AdapterOf>| if adapter.is_some() { "an adapter" } else { "whole weights" };
            return Err(format!(
                "its policy is {} of another base or scale, this one trains {}",
                kind(offer.adapter),
                kind(self.adapter)
            ));
        }
        if offer.values.len != bytes {
            return Err(format!(
                "its policy has {} bytes, this one {bytes}: another model",
                offer.values.len
            ));
        }
        Ok(())
    }

    /// Downloads a policy; nothing if nobody gives it any more.
    async fn bring(&mut self, policy: &Hash) -> anyhow::Result<Option<Found>> {
        let Some(Known { offer, certified, holders }) = self.known.get(policy) else { return Ok(None) };
        let (offer, certified) = (offer.clone(), *certified);
        let folder = offers::folder(self.search.dir);
        let path = offers::values_path(&folder, policy);
        let prefix = self.search.policy.learnt_head();
        let sources: Vec<PeerKey> = holders.iter().copied().collect();
        let name = certified.peer.name();
        printer::note(&format!(
            "starting from the policy of {name} in round {} ({}), to be had of {}",
            certified.round,
            policy.short(),
            peers(sources.len())
        ));
        if offers::holds(&path, &offer) {
            printer::note(&format!("the policy of {name} is here already"));
            return Ok(Some(Found { certified, path }));
        }
        let target = Target { path: path.clone(), prefix };
        let mut download = self.network.download(offer.values, target, &sources);
        if !self.drive(&mut download, policy, &name).await? {
            return Ok(None);
        }
        offers::store(&folder, &offer)?;
        clear_partials(&folder);
        Ok(Some(Found { certified, path }))
    }

    /// Whether it came to its end.
    async fn drive(&mut self, download: &mut Download, policy: &Hash, name: &str) -> anyhow::Result<bool> {
        let (mut shown, begun) = (Progress::new(), Instant::now());
        let (mut moved, mut here, mut ended) = (Instant::now(), 0, None);
        let mut asked = Instant::now();
        while ended.is_none() {
            if asked.elapsed() > SOURCES_AGAIN {
                asked = Instant::now();
                self.heard.clear();
                self.waiting.clear();
            }
            self.ask();
            self.known
                .get(policy)
                .into_iter()
                .flat_map(|known| &known.holders)
                .for_each(|peer| download.add(peer));
            let again = Instant::now() + ASK_AGAIN;
            loop {
                tokio::select! {
                    event = self.network.next() => self.take(event),
                    end = download.finished() => {
                        ended = Some(end);
                        break;
                    }
                    () = sleep_until(again) => break,
                }
            }
            let progress = download.progress();
            if progress.here > here {
                (moved, here) = (Instant::now(), progress.here);
            }
            for (peer, why) in &progress.liars {
                let told = self.said.has(&peer.name());
                self.said.say(peer.name(), format!("gave {why}"));
                if !told {
                    printer::note(&format!("{} gave {why}; others are asked", peer.name()));
                }
            }
            if let Some((peer, why)) = &progress.trouble {
                self.said.say_first(peer.name(), why);
            }
            let rate =
                (progress.here - progress.resumed) as f64 / 1e6 / begun.elapsed().as_secs_f64().max(0.001);
            let line = || {
                format!(
                    "downloading the policy of {name}: {} of {}, {rate:.1} MB/s from {}; ctrl-c leaves it to be gone on with",
                    amount(progress.here),
                    amount(progress.len),
                    peers(progress.given.len())
                )
            };
            match &ended {
                Some(Ok(())) => shown.finish(&format!(
                    "the policy of {name} is here: {}, {rate:.1} MB/s from {}; {} were here before",
                    amount(progress.len),
                    peers(progress.given.len()),
                    amount(progress.resumed)
                )),
                _ if moved.elapsed() > STALLS_AFTER => return Ok(false),
                _ => shown.show(line),
            }
        }
        ended.transpose().context("hint: make room, or choose another folder with --state")?;
        Ok(true)
    }

    /// Asks everybody for offers who has not said yet what it has, and one for certificates where some are missing.
    fn ask(&mut self) {
        let peers = self.network.peers();
        let busy: BTreeSet<PeerKey> = self.asked.values().map(|(peer, _)| *peer).collect();
        let swarm = self.search.manifest.id();
        let silent = peers.iter().filter(|peer| !busy.contains(peer) && !self.heard.contains(peer));
        for peer in silent.copied().collect::<Vec<_>>() {
            self.request(peer, Question::Policies, PolicyRequest::of(&swarm));
        }
        let certificates =
            self.asked.values().any(|(_, question)| matches!(question, Question::Certificates));
        if !certificates && (self.follower.state().is_none() || !self.waiting.is_empty()) {
            self.turn = self.turn.wrapping_add(1);
            if let Some(peer) = self.turn.checked_rem(peers.len()).and_then(|at| peers.get(at)) {
                self.request(*peer, Question::Certificates, self.follower.request());
            }
        }
    }

    fn request(&mut self, peer: PeerKey, question: Question, bytes: Vec<u8>) {
        match self.network.request(peer, bytes) {
            Ok(token) => drop(self.asked.insert(token, (peer, question))),
            Err(error) => self.said.say(peer.name(), error.to_string()),
        }
    }

    /// Takes what comes until then.
    async fn listen(&mut self, until: Instant) {
        loop {
            tokio::select! {
                event = self.network.next() => self.take(event),
                () = sleep_until(until) => return,
            }
        }
    }

    fn take(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected(_) => self.ask(),
            NetEvent::Response { from, request, bytes } => match self.asked.remove(&request) {
                Some((_, Question::Policies)) => self.take_offers(from, &bytes),
                Some((_, Question::Certificates)) => self.take_certificates(from, &bytes),
                None => {}
            },
            NetEvent::RequestFailed { to, request, why } => {
                if self.asked.remove(&request).is_some() {
                    self.said.say(to.name(), why);
                }
            }
            // Members say where they can be reached; what else they say is for those who play.
            NetEvent::Message { token, topic, bytes, .. } => {
                if topic == Topic::Presence {
                    self.meet(&bytes);
                }
                self.network.verdict(token, Verdict::Ignore);
            }
            NetEvent::Unreachable { address, why, .. } => self.said.say(address, why),
            NetEvent::Refused { why, .. } => printer::note(&why),
            NetEvent::Disconnected { peer, .. } => {
                self.asked.retain(|_, (asked, _)| *asked != peer);
                self.heard.remove(&peer);
            }
            NetEvent::Request { .. }
            | NetEvent::Fetched { .. }
            | NetEvent::FetchFailed { .. }
            | NetEvent::Listening(_)
            | NetEvent::Addresses
            | NetEvent::Reach(_)
            | NetEvent::Dropped { .. } => {}
        }
    }

    fn meet(&mut self, bytes: &[u8]) {
        let message = admission::authenticate(&self.search.manifest.id(), Some(Topic::Presence), bytes)
            .and_then(|message| admission::admit(self.search.manifest, message));
        if let Ok(message) = message
            && let Body::Presence(presence) = message.body
            && presence.leaving.is_none()
        {
            self.network.dial(message.sender, presence.addresses);
        }
    }

    fn take_offers(&mut self, from: PeerKey, bytes: &[u8]) {
        let offers = match PolicyAnswer::read(bytes) {
            Ok(answer) => answer.offers,
            Err(error) => return self.said.say(from.name(), format!("gave no answer: {error}")),
        };
        if offers.is_empty() {
            self.said.say(from.name(), "has none to give yet".into());
        }
        self.heard.insert(from);
        for offer in offers {
            self.weigh(from, offer);
        }
        self.ask();
    }

    fn take_certificates(&mut self, from: PeerKey, bytes: &[u8]) {
        let more = match self.follower.take(bytes) {
            Ok(more) => more,
            Err(error) => return self.said.say(from.name(), format!("gave {error}")),
        };
        for (peer, offer) in std::mem::take(&mut self.waiting) {
            self.weigh(peer, offer);
        }
        if more {
            self.request(from, Question::Certificates, self.follower.request());
        }
    }

    /// Takes an offer that is covered by a certificate; keeps one back whose certificate is not known.
    fn weigh(&mut self, from: PeerKey, offer: Offer) {
        let policy = offer.policy();
        if let Some(known) = self.known.get_mut(&policy).filter(|known| known.offer.values == offer.values) {
            known.holders.insert(from);
            return;
        }
        let Some(items) = self.follower.items(&offer.evidence.statement) else {
            if self.waiting.len() < OFFERS_MAX {
                self.waiting.push((from, offer));
            }
            return;
        };
        let (manifest, swarm) = (self.search.manifest, self.search.manifest.id());
        match offer.verify(manifest, &swarm, &items) {
            Ok(certified) if self.known.len() < OFFERS_MAX => {
                if let Err(why) = self.fits(&offer) {
                    self.said.say(certified.peer.name(), why);
                }
                self.known.insert(policy, Known { offer, certified, holders: BTreeSet::from([from]) });
            }
            Ok(_) => {}
            Err(error) => self.said.say(from.name(), format!("offers {error}")),
        }
    }
}

fn peers(count: usize) -> String {
    if count == 1 { "one peer".to_owned() } else { format!("{count} peers") }
}

/// Forgets what was begun and never finished.
fn clear_partials(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|extension| extension == "part")
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
    }
}
