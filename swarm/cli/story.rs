//! What a run looks like while it runs: one line a round, a progress line in between, records on disk.

use std::collections::BTreeMap;

use judge::{GoldVerdicts, PeerKey};
use swarm::engine::{Event, PhaseName, Status as EngineStatus};

use crate::dashboard::lines;
use crate::detail::RoundDetail;
use crate::figures::{self, Votes};
use crate::happenings::{self, AUDITED, LATE};
use crate::metrics::Metrics;
use crate::news::{News, RoundNews};
use crate::printer::{self, Progress};
use crate::record::{self, Level, RoundRecord, RunDir, Status};
use crate::traffic::Traffic;
use crate::{audits, clock};

/// Shortest time between two records of who is awaited, in milliseconds.
const STATUS_EVERY_MS: u64 = 100;

/// Folds what peers tell into records, lines and sums.
pub(crate) struct Story {
    run: RunDir,
    /// Peers that tell their rounds here.
    local: Vec<PeerKey>,
    rounds: u32,
    plain: bool,
    liars: Vec<PeerKey>,
    progress: Progress,
    /// What peers told of rounds that not all have ended yet.
    open: BTreeMap<u32, BTreeMap<PeerKey, RoundNews>>,
    /// Metrics of the newest round of each peer, until its step is taken.
    steps: BTreeMap<PeerKey, Metrics>,
    /// Round and length of each phase as it closed last.
    gave: BTreeMap<(PeerKey, PhaseName), (u32, u64)>,
    traffic: Traffic,
    votes: Votes,
    verdicts: GoldVerdicts,
    undecided: Vec<f64>,
    overhead: Vec<u64>,
    /// As it was recorded last.
    status: Status,
    /// Why the newest step was not taken, if it was not.
    skipped: Option<String>,
    /// Whether it was said that there are too few voters.
    told_few: bool,
}

impl Story {
    /// A story of the peers of this process, the one that is shown first.
    pub(crate) fn new(
        run: RunDir,
        rounds: u32,
        plain: bool,
        local: Vec<PeerKey>,
        liars: Vec<PeerKey>,
    ) -> Self {
        Self {
            run,
            local,
            rounds,
            plain,
            liars,
            progress: Progress::new(),
            open: BTreeMap::new(),
            steps: BTreeMap::new(),
            gave: BTreeMap::new(),
            traffic: Traffic::default(),
            votes: Votes::default(),
            verdicts: GoldVerdicts::default(),
            undecided: Vec::new(),
            overhead: Vec::new(),
            status: Status::default(),
            skipped: None,
            told_few: false,
        }
    }

    /// Takes in what a peer tells; returns a sentence for people where there is one.
    ///
    /// # Errors
    /// The disk does not take the record.
    pub(crate) fn hear(&mut self, peer: PeerKey, news: News) -> anyhow::Result<Option<String>> {
        match news {
            News::Round(news) => self.round(peer, *news).map(|()| None),
            News::Trained(round, report) => {
                let Some(mut metrics) = self.steps.remove(&peer).filter(|metrics| metrics.round == round)
                else {
                    return Ok(None);
                };
                metrics.trained(&report);
                self.run.append_metrics(&metrics)?;
                let before = std::mem::replace(&mut self.skipped, report.skipped.clone());
                let Some(why) = &report.skipped else { return Ok(None) };
                let told = self.tell_of(peer, round, Level::Info, "no_step", format!("no update, {why}"))?;
                // Said once, until a step is taken.
                Ok(told.filter(|_| before.as_ref() != Some(why)))
            }
            News::Happened(round, event) => self.happened(peer, round, &event),
            News::Late(round, phase, worked_ms) => {
                let gave = self.gave.get(&(peer, phase)).filter(|(of, _)| *of == round).map(|(_, ms)| *ms);
                self.tell_of(peer, round, Level::Warn, LATE, happenings::late(phase, worked_ms, gave))
            }
            News::Traffic(traffic) => {
                if self.local.first() == Some(&peer) {
                    self.run.write_traffic(&traffic)?;
                    self.traffic = *traffic;
                }
                Ok(None)
            }
            News::Pack(text) => self.tell_of(peer, self.status.round, Level::Info, "pack", text),
            News::Network(text) => {
                let round = self.status.round;
                self.tell_of(peer, round, Level::Warn, "network", text)
            }
            News::Audit(text) => {
                let round = self.status.round;
                self.tell_of(peer, round, Level::Info, AUDITED, text).map(|_| None)
            }
        }
    }

    /// A peer ended a round; the last of its roster completes the round's line.
    fn round(&mut self, peer: PeerKey, news: RoundNews) -> anyhow::Result<()> {
        // What it says of a step comes next, if there is one.
        if let Some(metrics) = self.steps.insert(peer, Metrics::of(&peer, &news)) {
            self.run.append_metrics(&metrics)?;
        }
        let number = news.settled.round;
        let roster = news.settled.roster.len();
        let told = self.open.entry(number).or_default();
        told.insert(peer, news);
        if told.len() >= roster.min(self.local.len()) {
            self.tell(number)?;
        }
        Ok(())
    }

    fn tell(&mut self, number: u32) -> anyhow::Result<()> {
        let Some(told) = self.open.remove(&number) else { return Ok(()) };
        let Some(first) = told.values().next() else { return Ok(()) };
        let record = self.record(number, &told);
        let shown = self.local.iter().find_map(|peer| told.get_key_value(peer));
        if let Some((peer, news)) = shown {
            // First: whoever sees the round finds its prompts.
            self.run.append_prompts(&RoundDetail::of(peer, news))?;
        }
        self.run.append_round(&record)?;
        self.progress.finish(&lines::round(&record, self.rounds));
        let voters = first.settled.roster.len();
        let moved: Vec<String> =
            first.settled.settlement.levels.iter().map(happenings::level_moved).collect();
        for text in moved {
            if let Some(peer) = self.local.first() {
                self.tell_of(*peer, number, Level::Info, "level", text.clone())?;
            }
            printer::passing(&text);
        }
        if voters < judge::VOTERS_MIN && !std::mem::replace(&mut self.told_few, true) {
            let text = format!(
                "no training on the vote: {voters} voters in the roster, {} are needed; waiting for more peers",
                judge::VOTERS_MIN
            );
            if let Some(peer) = self.local.first() {
                self.tell_of(*peer, number, Level::Warn, "too_few", text.clone())?;
            }
            printer::passing(&text);
        } else if voters >= judge::VOTERS_MIN {
            self.told_few = false;
        }
        Ok(())
    }

    /// The record of a round from what its peers told, and its part in the sums.
    fn record(&mut self, number: u32, told: &BTreeMap<PeerKey, RoundNews>) -> RoundRecord {
        let votes = figures::votes(told, &self.liars);
        let settled = told.values().next().map(|news| &news.settled);
        let labels: (usize, usize) = told
            .values()
            .map(|news| figures::decided(&news.settled))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let undecided = (labels.1 > 0).then(|| 1.0 - labels.0 as f64 / labels.1 as f64);
        let most = |of: &dyn Fn(&RoundNews) -> u64| told.values().map(of).max().unwrap_or(0);
        let work = most(&|news| news.train_ms + news.answer_ms) + most(&|news| news.critique_ms);
        let wall_ms = most(&|news| news.wall_ms);
        let overhead = wall_ms.saturating_sub(work);
        // The first round includes the start of the network.
        if number > 1 {
            self.overhead.push(overhead);
        }
        self.votes =
            Votes { decided: self.votes.decided + votes.decided, right: self.votes.right + votes.right };
        self.undecided.extend(undecided);
        let critiques = settled.and_then(|settled| {
            let counts = figures::verdicts(settled);
            self.verdicts.add(&counts);
            figures::critiques(settled, &counts, told.values().map(|news| news.critiques_trained).sum())
        });
        let honest =
            told.iter().filter(|(peer, _)| !self.liars.contains(peer)).map(|(_, news)| &news.sampled);
        let (completions, right, traces) = honest
            .filter(|sampled| sampled.round == number)
            .fold((0, 0, 0), |sum, s| (sum.0 + s.completions, sum.1 + s.right, sum.2 + s.traces));
        let share = |n: usize| (completions > 0).then(|| n as f64 / completions as f64);
        RoundRecord {
            round: number,
            at: clock::now(),
            wall_ms,
            phases_ms: settled.map(figures::phases).unwrap_or_default(),
            sampled_accuracy: share(right),
            vote_accuracy: (votes.decided > 0).then(|| votes.right as f64 / votes.decided as f64),
            undecided_share: undecided,
            mean_share: settled.and_then(figures::mean_share),
            trace_share: share(traces),
            reward: figures::reward(told),
            undecided_why: settled.map(|settled| figures::undecided_why(settled)).unwrap_or_default(),
            gold: settled.and_then(|settled| figures::gold(settled)),
            peers: settled.map(|settled| figures::peers(settled)).unwrap_or_default(),
            families: settled
                .map(|settled| figures::families(settled, told, &self.liars))
                .unwrap_or_default(),
            packs: settled.map(|settled| figures::packs(&settled.settlement.next.packs)).unwrap_or_default(),
            open_levels: settled.map(|settled| figures::open_levels(settled)).unwrap_or_default(),
            voids: settled.map_or(0, |settled| settled.voids),
            bytes_in: self.traffic.bytes_in,
            bytes_out: self.traffic.bytes_out,
            overhead_ms: Some(overhead),
            roster: settled.map(|s| s.roster.iter().map(PeerKey::name).collect()).unwrap_or_default(),
            loss: told.iter().map(|(peer, news)| (peer.name(), news.loss.map(f64::from))).collect(),
            critiques,
            audits: settled
                .and_then(|settled| audits::record(settled, told.values().map(|news| news.audits))),
        }
    }

    /// Records an event; returns its sentence when it is not part of every round.
    fn happened(&mut self, peer: PeerKey, round: u32, event: &Event) -> anyhow::Result<Option<String>> {
        if let Event::PhaseClosed { round, phase, took_ms, .. } = event {
            self.gave.insert((peer, *phase), (*round, *took_ms));
        }
        let Some(text) = happenings::text(event) else { return Ok(None) };
        let told = self.tell_of(peer, round, happenings::level(event), happenings::kind(event), text)?;
        // What is as it should be stands in the round's line.
        let routine = matches!(event, Event::Audited { report, .. } if audits::is_routine(report));
        Ok(told.filter(|_| !routine))
    }

    /// Records what happened to a peer, and gives its sentence back.
    fn tell_of(
        &mut self,
        peer: PeerKey,
        round: u32,
        level: Level,
        kind: &str,
        text: String,
    ) -> anyhow::Result<Option<String>> {
        tracing::info!(round, peer = peer.name(), "{text}");
        self.run.append_event(&record::Event {
            at: clock::now(),
            round,
            level,
            kind: kind.into(),
            peer: peer.name(),
            also: Vec::new(),
            text: text.clone(),
        })?;
        Ok(Some(text))
    }

    pub(crate) fn status(&mut self, status: &EngineStatus) -> anyhow::Result<()> {
        let waiting = happenings::waiting(status);
        self.record_status(status, &waiting)?;
        if !self.plain {
            self.progress.show(|| format!("round {:>3}  {waiting}", status.round));
        }
        Ok(())
    }

    /// Records every phase, and now and then who it still waits for.
    fn record_status(&mut self, status: &EngineStatus, waiting: &str) -> anyhow::Result<()> {
        let now_ms = clock::now_ms();
        let last = &self.status;
        let fresh = now_ms.saturating_sub(last.at_ms) < STATUS_EVERY_MS;
        if fresh && last.round == status.round && last.phase == status.phase.as_str() {
            return Ok(());
        }
        let names = |peers: &[PeerKey]| peers.iter().map(PeerKey::name).collect();
        self.status = Status {
            round: status.round,
            phase: status.phase.as_str().into(),
            waiting: waiting.to_owned(),
            at: clock::now(),
            at_ms: now_ms,
            deadline_ms: now_ms + status.deadline_in_ms,
            awaited: names(&status.awaited),
            roster: names(&status.roster),
            member: status.member,
            live: status.live,
            wanted: status.wanted,
            lacks: status.lacks.keys().map(PeerKey::name).collect(),
            view: status.view,
            final_view: status.final_view,
            ended: false,
        };
        self.run.write_status(&self.status)
    }

    /// Tells the rounds that some peers did not finish, and that this process has ended.
    pub(crate) fn end(&mut self) {
        let numbers: Vec<u32> = self.open.keys().copied().collect();
        let mut wrote: anyhow::Result<()> = numbers.into_iter().try_for_each(|number| self.tell(number));
        for metrics in std::mem::take(&mut self.steps).into_values() {
            wrote = wrote.and_then(|()| self.run.append_metrics(&metrics));
        }
        self.status = Status { ended: true, waiting: String::new(), ..std::mem::take(&mut self.status) };
        wrote = wrote.and_then(|()| self.run.write_status(&self.status));
        if let Err(error) = wrote {
            printer::note(&format!("{error:#}"));
        }
    }

    /// Right among decided prompts, all rounds and honest peers together.
    pub(crate) fn vote_accuracy(&self) -> Option<f64> {
        (self.votes.decided > 0).then(|| self.votes.right as f64 / self.votes.decided as f64)
    }

    /// Critics' verdicts against the reference answers, all rounds together; chance is 0.5.
    pub(crate) fn verdict_accuracy(&self) -> Option<f64> {
        figures::verdict_accuracy(&self.verdicts)
    }

    /// Mean share of undecided prompts.
    pub(crate) fn undecided(&self) -> Option<f64> {
        let n = self.undecided.len();
        (n > 0).then(|| self.undecided.iter().sum::<f64>() / n as f64)
    }

    /// Mean round time beyond model work, the first round (start of the network) left out.
    pub(crate) fn overhead_ms(&self) -> Option<f64> {
        let n = self.overhead.len();
        (n > 0).then(|| self.overhead.iter().sum::<u64>() as f64 / n as f64)
    }
}
