//! One peer at work: a single loop owns engine, network and the policy's thread.
//!
//! Everything that happens is an input to the engine; what the engine asks for is done in order. The
//! loop decides nothing about the protocol.

mod heard;
mod work;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use judge::{CandidateId, PeerKey};
use policy::{Group, Learner, Policy, Sampling};
use swarm::engine::{Engine, Event, Input, Output, Persist, PhaseName, Resume, Settled, Setup, Status};
use swarm::log::{Record, Writer};
use swarm::manifest::{Critiques, Manifest};
use swarm::net::{Book, Network};
use swarm::wire::Hash;
use tasks::Item;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use self::work::Held;
use crate::arm::Arm;
use crate::auditor::{Audited, Auditor};
use crate::audits;
use crate::courier;
use crate::critic::{self, Written};
use crate::disk::{open_log, read_resume, resume_path, store_book, store_resume, taken_in};
use crate::liar::Lie;
use crate::news::{AuditCost, News, RoundNews};
use crate::offers::Offers;
use crate::packs;
use crate::plant;
use crate::proposals::Proposals;
use crate::sampled::Sampled;
use crate::setup::{PeerSetup, sharing};
use crate::traffic::Traffic;
use crate::updates;
use crate::weights::{Bases, Sharing};
use crate::worker::{Job, Worker};

/// How long a leaving peer tries to say so.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two words about the network.
const TRAFFIC_EVERY: Duration = Duration::from_secs(1);

/// Pause between two looks whether other peers were met.
const BOOK_EVERY: Duration = Duration::from_secs(5);

/// How a peer ended.
pub(crate) struct PeerEnd {
    pub(crate) policy: Policy,
    pub(crate) rounds: u32,
    /// Whether it was asked to stop.
    pub(crate) stopped: bool,
}

/// Runs a peer until its rounds are done or `stop` turns true.
///
/// # Errors
/// The policy fails, or the disk does not take what must be stored.
pub(crate) async fn run(
    setup: PeerSetup,
    news: mpsc::Sender<(PeerKey, News)>,
    status: watch::Sender<Option<Status>>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<PeerEnd> {
    let mut peer = Peer::start(setup, news, status)?;
    loop {
        peer.drain().await?;
        peer.ask_held()?;
        if peer.finished() || peer.may_go() {
            break;
        }
        let deadline = peer.begun + Duration::from_millis(peer.engine.deadline());
        let sooner = [peer.leave_by, peer.held.as_ref().map(|held| held.until)];
        let deadline = sooner.into_iter().flatten().fold(deadline, Instant::min);
        tokio::select! {
            event = peer.network.next() => peer.network_event(event).await,
            audited = peer.auditor.done.recv() => peer.audited(audited.context("the auditor's thread has ended")?).await,
            checked = peer.proposals.checked.recv() => peer.checked(checked.context("nothing checks packs any more")?).await,
            done = peer.worker.done.recv() => peer.done(done.context("the policy's thread has ended")?).await?,
            () = sleep_until(deadline.into()) => { let now = peer.now(); peer.engine.handle(now, Input::Tick); }
            () = asked(&mut stop), if peer.leave_by.is_none() => peer.leave(),
        }
    }
    peer.end().await
}

/// Returns when `stop` turns true; never when nobody can turn it any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Peer {
    engine: Engine,
    log: Writer,
    /// How it learns, until it stands in the log.
    settings: Option<String>,
    network: Network,
    proposals: Proposals,
    offers: Offers,
    worker: Worker,
    auditor: Auditor,
    /// How its weights are shown to auditors, if they are.
    sharing: Option<Sharing>,
    news: mpsc::Sender<(PeerKey, News)>,
    status: watch::Sender<Option<Status>>,
    manifest: Manifest,
    sampling: Sampling,
    arm: Arm,
    lie: Option<Lie>,
    rounds: u32,
    dir: PathBuf,
    checkpoint_every: u32,
    resume: Resume,
    begun: Instant,
    trained_round: u32,
    settled_round: u32,
    /// Own groups of the round in progress, and its prompts.
    groups: Option<(u32, Vec<Group>)>,
    /// The newest round in which it spoilt answers on purpose.
    planted: u32,
    /// The newest view after which it looked at the swarm's packs.
    looked_at: u32,
    /// The newest round that it answered, and the hash of the policy that did.
    answered: (u32, Hash),
    /// The newest round that asked for answers, and the seed of their sampling.
    seed: (u32, [u8; 32]),
    items: Vec<Item>,
    traces: Vec<Vec<(CandidateId, String)>>,
    /// Own critiques by round, until their gold is drawn.
    written: BTreeMap<u32, Vec<Written>>,
    certified_ms: u64,
    took: BTreeMap<&'static str, u64>,
    loss: Option<f32>,
    sampled: Arc<Sampled>,
    audits: AuditCost,
    traffic_told: Option<Instant>,
    /// Whom it met, as stored, and when it looks again.
    book: (Book, Instant),
    /// What it is not in a hurry to answer.
    held: Option<Held>,
    /// When a peer that was asked to stop goes at the latest.
    leave_by: Option<Instant>,
}

impl Peer {
    fn start(
        setup: PeerSetup,
        news: mpsc::Sender<(PeerKey, News)>,
        status: watch::Sender<Option<Status>>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(&setup.dir).with_context(|| format!("cannot make {}", setup.dir.display()))?;
        let resume = read_resume(&setup.dir)?;
        let (log, recall) = open_log(&setup, &resume)?;
        let settings = updates::settings(
            &setup.base,
            setup.arm,
            setup.sampling,
            &setup.policy,
            setup.trainer.config(),
            &setup.computing,
        );
        let name = setup.identity.public().name();
        let new_tokens_max = setup.manifest.round.new_tokens_max.into();
        let auditor = Auditor::start(&name, Bases::new(&setup.policy)?, new_tokens_max)?;
        let sharing = sharing(&setup);
        let rate = setup.upload_bytes_per_s;
        let offers = Offers::open(&setup.network, setup.manifest.id(), &setup.dir, &setup.policy, rate);
        let learner = Learner::new(setup.policy, setup.trainer, setup.device)?;
        let mut network = setup.network;
        let book = network.book();
        let shelf = courier::shelve(&mut network, setup.manifest.id(), &setup.packs);
        let mut catalogue = setup.catalogue;
        let proposals =
            Proposals::new(setup.proposals, setup.manifest.id(), setup.notes, catalogue.clone(), shelf);
        taken_in(&resume)
            .iter()
            .filter_map(|id| packs::open(&id.to_string()).ok())
            .for_each(|pack| catalogue.set_aside(pack));
        let mut engine = Engine::new(
            Setup {
                identity: setup.identity,
                manifest: setup.manifest.clone(),
                catalogue,
                ready: true,
                addresses: network.listen_addresses(),
                ticket: setup.ticket,
                entropy: setup.entropy,
                numerics: learner.numerics().into(),
                resume: resume.clone(),
                defences: swarm::engine::Defences::default(),
            },
            0,
        )
        .with_context(|| resume_path(&setup.dir).display().to_string())?;
        engine.handle(0, Input::Recalled(Box::new(recall)));
        if let Some(checkpoint) = setup.checkpoint {
            engine.trust(checkpoint);
        }
        let resume = Resume { incarnation: engine.incarnation(), ..resume };
        store_resume(&setup.dir, &resume)?;
        Ok(Self {
            settings: Some(settings),
            engine,
            log,
            network,
            proposals,
            offers,
            worker: Worker::start(&name, learner, setup.resumed, setup.critic)?,
            auditor,
            sharing,
            news,
            status,
            manifest: setup.manifest,
            sampling: setup.sampling,
            arm: setup.arm,
            lie: setup.lie,
            rounds: setup.rounds,
            dir: setup.dir,
            checkpoint_every: setup.checkpoint_every.max(1),
            resume,
            begun: Instant::now(),
            trained_round: setup.resumed.unwrap_or(0),
            settled_round: 0,
            groups: None,
            planted: 0,
            looked_at: 0,
            answered: (0, Hash::default()),
            seed: (0, [0; 32]),
            items: Vec::new(),
            traces: Vec::new(),
            written: BTreeMap::new(),
            certified_ms: 0,
            took: BTreeMap::new(),
            loss: None,
            sampled: Arc::default(),
            audits: AuditCost::default(),
            traffic_told: None,
            book: (book, Instant::now() + BOOK_EVERY),
            held: None,
            leave_by: None,
        })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Done when the last round is settled and its step is taken.
    fn finished(&self) -> bool {
        self.rounds > 0 && self.settled_round >= self.rounds && self.trained_round >= self.settled_round
    }

    async fn tell(&mut self, news: News) {
        // Nobody listening is no reason to stop.
        let _ = self.news.send((self.engine.me(), news)).await;
    }

    /// Does what the engine asks for, in order.
    async fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Publish(topic, bytes) => {
                    if let Err(error) = self.network.publish(topic, bytes) {
                        self.tell(News::Network(error.to_string())).await;
                    }
                }
                Output::Ask(peer, bytes) => {
                    // Not connected to it: the engine asks somebody else in turn.
                    if let Err(error) = self.network.request(peer, bytes) {
                        tracing::debug!(peer = %peer, %error, "repair request not sent");
                    }
                }
                Output::Persist(persist) => self.persist(persist)?,
                Output::Log(record) => self.record(&record)?,
                Output::Work(work) => self.work(work)?,
                Output::Settled(settled) => self.settled(*settled).await?,
                Output::Fetch { round, blob, from } => self.network.fetch(round, blob, &from),
                Output::Keep { round, blob, bytes } => {
                    tracing::debug!(round, blob = %blob.hash.short(), bytes = blob.len, "a body is here");
                    // Without room others fetch it elsewhere; the network tells.
                    self.network.keep(round, bytes);
                }
                Output::Dial(peer, addresses) => self.network.dial(peer, addresses),
                Output::Event(event) => {
                    if let Event::PeerLeft { peer, .. } = &event {
                        self.network.forget(*peer);
                    }
                    self.happened(event).await;
                }
            }
        }
        let status = self.engine.status(self.now());
        if status.view > std::mem::replace(&mut self.looked_at, status.view) {
            self.look_at_packs().await;
        }
        self.status.send_replace(Some(status));
        self.offers.look(&self.network);
        if self.traffic_told.is_none_or(|told| told.elapsed() >= TRAFFIC_EVERY) {
            self.traffic_told = Some(Instant::now());
            self.tell(News::Traffic(Box::new(Traffic::of(&self.network)))).await;
        }
        if Instant::now() >= self.book.1 {
            self.remember()?;
        }
        Ok(())
    }

    /// Stores whom this peer met, for its next start.
    fn remember(&mut self) -> anyhow::Result<()> {
        let book = self.network.book();
        if book != self.book.0 {
            store_book(&self.dir, &book)?;
        }
        self.book = (book, Instant::now() + BOOK_EVERY);
        Ok(())
    }

    async fn happened(&mut self, event: Event) {
        let news = match event {
            Event::TooLate { round, phase } => {
                let work = if phase == PhaseName::Answer { "answer" } else { "critique" };
                News::Late(round, phase, self.took.get(work).copied().unwrap_or(0))
            }
            event => News::Happened(self.engine.status(self.now()).round, event),
        };
        self.tell(news).await;
    }

    /// An audit is done.
    async fn audited(&mut self, audited: Audited) {
        if let Some(text) = audits::found(&audited) {
            self.tell(News::Audit(text)).await;
        }
        let Audited { round, peer, finding, bytes, took_ms, .. } = audited;
        self.audits.count += 1;
        self.audits.bytes += bytes;
        self.audits.took_ms += took_ms;
        let now = self.now();
        self.engine.handle(now, Input::Audited { round, peer, finding });
    }

    /// A round ended: tell, and train on it.
    async fn settled(&mut self, settled: Settled) -> anyhow::Result<()> {
        let now = self.now();
        let round = settled.round;
        let settled = Arc::new(settled);
        let me = self.engine.me();
        if settled.answered.contains(&me) && self.answered.0 == round {
            let evidence = || self.engine.policy_evidence(&me);
            self.offers.certified(&self.network, round, self.answered.1, evidence);
        }
        let critiques = self.critique_lessons(&settled);
        let took = |name| self.took.get(name).copied().unwrap_or(0);
        let own = self.groups.take().filter(|(of, _)| *of == round && self.lie.is_none());
        let mut rewarded = match own {
            Some((_, groups)) => self.arm.rewards(&self.engine.me(), &self.manifest.judge, &settled, groups),
            None => Vec::new(),
        };
        if self.planted == round {
            rewarded = plant::unspoilt(rewarded);
        }
        let news = RoundNews {
            settled,
            wall_ms: now.saturating_sub(self.certified_ms),
            train_ms: took("train"),
            answer_ms: took("answer"),
            critique_ms: took("critique"),
            sampled: Arc::clone(&self.sampled),
            loss: self.loss.take(),
            critiques_trained: critiques.len(),
            audits: std::mem::take(&mut self.audits),
            rewards: rewarded.iter().map(|(_, rewards)| rewards.clone()).collect(),
        };
        self.certified_ms = now;
        self.took.clear();
        self.settled_round = round;
        self.tell(News::Round(Box::new(news))).await;
        rewarded.extend(critiques);
        if rewarded.is_empty() {
            self.trained_round = round;
            return Ok(());
        }
        let checkpoint = round.is_multiple_of(self.checkpoint_every).then(|| self.checkpoint());
        // Nothing was sampled where the round asked for no answers: then only critiques teach.
        let seed = if self.seed.0 == round { self.seed.1 } else { [0; 32] };
        self.worker.ask(Job::Train { round, seed, groups: rewarded, checkpoint })
    }

    /// What the critiques of the round before teach, now that its gold is drawn.
    fn critique_lessons(&mut self, settled: &Settled) -> Vec<(Group, Vec<f32>)> {
        let written = settled.round.checked_sub(1).and_then(|before| self.written.remove(&before));
        self.written.retain(|round, _| *round >= settled.round);
        match written {
            Some(written) if self.manifest.round.critiques == Critiques::Train => {
                let mut lessons = critic::lessons(written, &self.engine.me(), &settled.settlement.gold);
                lessons.retain(|(_, rewards)| rewards.windows(2).any(|pair| pair[0] != pair[1]));
                lessons
            }
            _ => Vec::new(),
        }
    }

    fn persist(&mut self, persist: Persist) -> anyhow::Result<()> {
        match persist {
            Persist::SignedView(view) => self.resume.signed_view = view,
            Persist::Head(head) => self.resume.head = head,
        }
        store_resume(&self.dir, &self.resume)
    }

    /// Logs a record; how the peer learns follows its start.
    fn record(&mut self, record: &Record) -> anyhow::Result<()> {
        self.log.append(record)?;
        if let Some(settings) = self.settings.take() {
            self.log.append(&Record::Learner { settings })?;
        }
        Ok(())
    }

    fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// Says goodbye and stores what was learnt.
    /// Says that it leaves. Where the others cannot certify without it, it signs until they can.
    fn leave(&mut self) {
        self.leave_by = Some(Instant::now() + LEAVE_WITHIN);
        self.say_leaving("stopped by its user");
    }

    fn say_leaving(&mut self, reason: &str) {
        let now = self.now();
        self.engine.handle(now, Input::Leave { reason: reason.into() });
    }

    fn may_go(&self) -> bool {
        self.leave_by.is_some_and(|leave_by| Instant::now() >= leave_by || !self.engine.is_needed(self.now()))
    }

    async fn end(mut self) -> anyhow::Result<PeerEnd> {
        let stopped = self.leave_by.is_some();
        if !stopped {
            self.say_leaving("its rounds are done");
        }
        while let Some(output) = self.engine.poll() {
            if let Output::Publish(topic, bytes) = output {
                self.network.publish(topic, bytes)?;
            }
        }
        let out = self.checkpoint();
        self.remember()?;
        self.network.leave(LEAVE_WITHIN).await;
        let left = self.worker.finish().await?;
        // The step in hand when the peer was stopped counts too.
        let trained = left.trained.max(self.trained_round);
        if let Some(step) = left.untold {
            self.log.append(&Record::Training(step))?;
        }
        let mut learner = left.learner;
        if left.stored != Some(trained) {
            learner.store(&out, trained)?;
        }
        self.log.close()?;
        Ok(PeerEnd { policy: learner.into_policy(), rounds: self.settled_round, stopped })
    }
}
