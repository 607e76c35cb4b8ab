//! What a run looks like while it runs: one line a round, a progress line in between, records on disk.

use std::collections::BTreeMap;

use judge::{AuditOutcome, CandidateId, GoldVerdicts, Label, PeerKey, Verdict};
use swarm::engine::{Event, Settled, Status as EngineStatus};

use crate::audits;
use crate::clock;
use crate::peer::{RoundNews, Sampled, sentence};
use crate::printer::{self, Progress};
use crate::record::{CritiqueRecord, RoundRecord, RunDir, SaidRecord, Status};

/// Critiques of a round that are recorded in words.
const SAID_MAX: usize = 64;

/// Folds what peers tell into records, lines and sums.
pub(crate) struct Story {
    run: RunDir,
    /// Peers that tell their rounds here.
    local: usize,
    rounds: u32,
    plain: bool,
    liars: Vec<PeerKey>,
    progress: Progress,
    /// What peers told of rounds that not all have ended yet.
    open: BTreeMap<u32, BTreeMap<PeerKey, RoundNews>>,
    votes: Votes,
    verdicts: GoldVerdicts,
    undecided: Vec<f64>,
    overhead: Vec<u64>,
    last_status: String,
    /// Whether it was said that there are too few voters.
    told_few: bool,
}

/// Decided prompts and how many of them were right.
#[derive(Clone, Copy, Default)]
struct Votes {
    decided: usize,
    right: usize,
}

impl Story {
    /// A story of `local` peers in this process.
    pub(crate) fn new(run: RunDir, rounds: u32, plain: bool, local: usize, liars: Vec<PeerKey>) -> Self {
        Self {
            run,
            local,
            rounds,
            plain,
            liars,
            progress: Progress::new(),
            open: BTreeMap::new(),
            votes: Votes::default(),
            verdicts: GoldVerdicts::default(),
            undecided: Vec::new(),
            overhead: Vec::new(),
            last_status: String::new(),
            told_few: false,
        }
    }

    /// A peer ended a round; the last of its roster completes the round's line.
    pub(crate) fn round(&mut self, peer: PeerKey, news: RoundNews) -> anyhow::Result<()> {
        let number = news.settled.round;
        let roster = news.settled.roster.len();
        let told = self.open.entry(number).or_default();
        told.insert(peer, news);
        if told.len() >= roster.min(self.local) {
            self.tell(number)?;
        }
        Ok(())
    }

    fn tell(&mut self, number: u32) -> anyhow::Result<()> {
        let Some(told) = self.open.remove(&number) else { return Ok(()) };
        let Some(first) = told.values().next() else { return Ok(()) };
        let record = self.record(number, &told);
        self.run.append_round(&record)?;
        let percent =
            |share: Option<f64>| share.map_or("   – ".into(), |share| format!("{:4.0} %", 100.0 * share));
        let of = if self.rounds > 0 { format!("/{}", self.rounds) } else { String::new() };
        let verdicts = match &record.critiques {
            Some(critiques) => format!("verdicts right {}  ", percent(critiques.verdict_accuracy)),
            None => String::new(),
        };
        let audits = record.audits.as_ref().map_or(String::new(), |record| audits::words(record) + "  ");
        self.progress.finish(&format!(
            "round {number:>3}{of}  right {}  reasoned {}  vote right {}  undecided {}  {verdicts}{audits}{:.1} s, {} ms overhead",
            percent(record.sampled_accuracy),
            percent(record.trace_share),
            percent(record.vote_accuracy),
            percent(record.undecided_share),
            first.wall_ms as f64 / 1000.0,
            record.overhead_ms.unwrap_or(0),
        ));
        for (family, rank) in &first.settled.settlement.levels {
            let text = format!("{family}: {rank} level(s) are open above its lowest");
            self.run.append_event(number, &text)?;
            printer::note(&text);
        }
        let voters = first.settled.roster.len();
        if voters < judge::VOTERS_MIN && !std::mem::replace(&mut self.told_few, true) {
            printer::note(&format!(
                "no training on the vote: {voters} voters in the roster, {} are needed; waiting for more peers",
                judge::VOTERS_MIN
            ));
        } else if voters >= judge::VOTERS_MIN {
            self.told_few = false;
        }
        Ok(())
    }

    /// The record of a round from what its peers told, and its part in the sums.
    fn record(&mut self, number: u32, told: &BTreeMap<PeerKey, RoundNews>) -> RoundRecord {
        let votes = votes(told, &self.liars);
        let settled = told.values().next().map(|news| &news.settled);
        let labels: (usize, usize) =
            told.values().map(|news| decided(&news.settled)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let undecided = (labels.1 > 0).then(|| 1.0 - labels.0 as f64 / labels.1 as f64);
        let most = |of: &dyn Fn(&RoundNews) -> u64| told.values().map(of).max().unwrap_or(0);
        let work = most(&|news| news.train_ms + news.answer_ms) + most(&|news| news.critique_ms);
        let overhead = most(&|news| news.wall_ms).saturating_sub(work);
        // The first round includes the start of the network.
        if number > 1 {
            self.overhead.push(overhead);
        }
        self.votes =
            Votes { decided: self.votes.decided + votes.decided, right: self.votes.right + votes.right };
        self.undecided.extend(undecided);
        let critiques = settled.and_then(|settled| {
            let counts = verdicts(settled);
            self.verdicts.add(&counts);
            critiques(settled, &counts, told.values().map(|news| news.critiques_trained).sum())
        });
        let honest = told.iter().filter(|(peer, _)| !self.liars.contains(peer)).map(|(_, news)| news.sampled);
        let sampled = honest.fold(Sampled::default(), |a, b| Sampled {
            completions: a.completions + b.completions,
            right: a.right + b.right,
            traces: a.traces + b.traces,
        });
        let share = |n: usize| (sampled.completions > 0).then(|| n as f64 / sampled.completions as f64);
        RoundRecord {
            round: number,
            phases_ms: settled.map(phases).unwrap_or_default(),
            sampled_accuracy: share(sampled.right),
            vote_accuracy: (votes.decided > 0).then(|| votes.right as f64 / votes.decided as f64),
            undecided_share: undecided,
            mean_share: settled.and_then(mean_share),
            trace_share: share(sampled.traces),
            overhead_ms: Some(overhead),
            roster: settled.map(|s| s.roster.iter().map(PeerKey::name).collect()).unwrap_or_default(),
            loss: told.iter().map(|(peer, news)| (peer.name(), news.loss.map(f64::from))).collect(),
            critiques,
            audits: settled
                .and_then(|settled| audits::record(settled, told.values().map(|news| news.audits))),
        }
    }

    /// Records an event; returns its sentence when it is not part of every round.
    pub(crate) fn happened(
        &mut self,
        peer: PeerKey,
        round: u32,
        event: &Event,
    ) -> anyhow::Result<Option<String>> {
        let text = text(event);
        if let Some(text) = &text {
            self.run.append_event(round, text)?;
            tracing::info!(round, peer = peer.name(), "{text}");
        }
        // What is as it should be stands in the round's line.
        let passed = matches!(event, Event::Audited { report, .. } if report.outcome == AuditOutcome::Passed);
        Ok(text.filter(|_| !passed))
    }

    pub(crate) fn network(&mut self, peer: PeerKey, text: &str) -> anyhow::Result<()> {
        self.run.append_event(0, &format!("{}: {text}", peer.name()))?;
        tracing::info!(peer = peer.name(), "{text}");
        Ok(())
    }

    pub(crate) fn status(&mut self, status: &EngineStatus) -> anyhow::Result<()> {
        let waiting = sentence(status);
        let phase = status.phase.as_str();
        if self.last_status != format!("{}{phase}", status.round) {
            self.last_status = format!("{}{phase}", status.round);
            self.run.write_status(&Status {
                round: status.round,
                phase: phase.into(),
                waiting: waiting.clone(),
                at: clock::now(),
            })?;
        }
        if !self.plain {
            self.progress.show(|| format!("round {:>3}  {waiting}", status.round));
        }
        Ok(())
    }

    /// Tells the rounds that some peers did not finish.
    pub(crate) fn end(&mut self) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.tell(number) {
                printer::note(&format!("{error:#}"));
            }
        }
    }

    /// Right among decided prompts, all rounds and honest peers together.
    pub(crate) fn vote_accuracy(&self) -> Option<f64> {
        (self.votes.decided > 0).then(|| self.votes.right as f64 / self.votes.decided as f64)
    }

    /// Critics' verdicts against the reference answers, all rounds together; chance is 0.5.
    pub(crate) fn verdict_accuracy(&self) -> Option<f64> {
        verdict_accuracy(&self.verdicts)
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

/// Labels of the peers that told, against the reference answers.
fn votes(told: &BTreeMap<PeerKey, RoundNews>, liars: &[PeerKey]) -> Votes {
    let mut votes = Votes::default();
    for (peer, news) in told.iter().filter(|(peer, _)| !liars.contains(peer)) {
        let settled = &news.settled;
        let prompts = settled.settlement.prompts.iter().zip(&settled.candidates).zip(&settled.schedule);
        for ((prompt, candidates), item) in prompts {
            let Some(Label::Decided { candidate, .. }) = prompt.labels.get(peer) else { continue };
            let (Some(gold), Some(answer)) = (item.gold(), candidates.get(candidate)) else { continue };
            votes.decided += 1;
            votes.right += usize::from(gold.matches(answer));
        }
    }
    votes
}

/// The round's verdicts against the reference answers (known here since the packs have them).
fn verdicts(settled: &Settled) -> GoldVerdicts {
    let mut counts = GoldVerdicts::default();
    for ((prompt, item), said) in settled.schedule.iter().enumerate().zip(&settled.critiques) {
        let Some(gold) = item.gold() else { continue };
        let gold = CandidateId::of(prompt as u16, gold.answer().as_str());
        said.iter().for_each(|(_, text)| counts.count(text.verdict, text.candidate == gold));
    }
    counts
}

/// `None` until both right and wrong candidates were judged.
fn verdict_accuracy(counts: &GoldVerdicts) -> Option<f64> {
    let both = counts.right > 0 && counts.wrong > 0;
    both.then(|| f64::from(1000 + counts.reward_permille()) / 2000.0)
}

/// What a round's record says of text critiques; `None` if there were none and gold tried none.
fn critiques(settled: &Settled, counts: &GoldVerdicts, trained: usize) -> Option<CritiqueRecord> {
    let count = settled.critiques.iter().map(Vec::len).sum();
    let tried = &settled.settlement.gold.critics;
    if count == 0 && tried.is_empty() {
        return None;
    }
    let share = |permille: i32| f64::from(permille) / 1000.0;
    let critics = &settled.settlement.next.critics;
    Some(CritiqueRecord {
        count,
        verdict_accuracy: verdict_accuracy(counts),
        rewards: tried.iter().map(|(peer, draw)| (peer.name(), share(draw.reward_permille()))).collect(),
        skill: critics.iter().map(|(peer, critic)| (peer.name(), share(critic.skill_permille()))).collect(),
        trained,
        said: said(settled),
    })
}

fn said(settled: &Settled) -> Vec<SaidRecord> {
    let all = settled.critiques.iter().zip(&settled.candidates).enumerate();
    let said = all.flat_map(|(prompt, (texts, candidates))| {
        texts.iter().map(move |(peer, text)| SaidRecord {
            critic: peer.name(),
            prompt,
            answer: candidates.get(&text.candidate).map(ToString::to_string).unwrap_or_default(),
            verdict: verdict_name(text.verdict).into(),
            reason: text.reason.clone(),
        })
    });
    said.take(SAID_MAX).collect()
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Right => "right",
        Verdict::Wrong => "wrong",
        Verdict::Unclear => "unclear",
    }
}

/// Decided labels and all labels of a settlement.
fn decided(settled: &Settled) -> (usize, usize) {
    let labels = settled.settlement.prompts.iter().flat_map(|prompt| prompt.labels.values());
    let (mut decided, mut all) = (0, 0);
    for label in labels {
        all += 1;
        decided += usize::from(matches!(label, Label::Decided { .. }));
    }
    (decided, all)
}

fn mean_share(settled: &std::sync::Arc<Settled>) -> Option<f64> {
    let shares: Vec<u16> = settled
        .settlement
        .prompts
        .iter()
        .filter_map(|p| p.consensus.as_ref())
        .map(|c| c.share_permille)
        .collect();
    let n = shares.len();
    (n > 0).then(|| shares.iter().map(|share| f64::from(*share)).sum::<f64>() / n as f64 / 1000.0)
}

fn phases(settled: &std::sync::Arc<Settled>) -> BTreeMap<String, u64> {
    settled.durations_ms.iter().map(|(phase, ms)| (phase.as_str().to_owned(), *ms)).collect()
}

/// An event in a sentence; `None` for what happens in every round.
fn text(event: &Event) -> Option<String> {
    match event {
        Event::PeerAppeared { peer } => Some(format!("{} is here", peer.name())),
        Event::PeerLeft { peer, reason } => Some(format!("{} left: {reason}", peer.name())),
        Event::PhaseClosed { missing, .. } if missing.is_empty() => None,
        Event::PhaseClosed { phase, missing, took_ms, .. } => {
            let names: Vec<String> = missing.iter().map(PeerKey::name).collect();
            let seconds = *took_ms as f64 / 1000.0;
            Some(format!("{}: went on without {} after {seconds:.1} s", phase.as_str(), names.join(", ")))
        }
        Event::Certified { degraded: true, round, .. } => {
            Some(format!("round {round} starts without a quorum: only a part of the swarm stands behind it"))
        }
        Event::Certified { .. } | Event::Final { .. } => None,
        Event::Switched { .. } => {
            Some("the others certified the round differently; went over to them".into())
        }
        Event::ViewVoid { view, proposer } => Some(format!(
            "view {view} is void: no certificate from {} in time; the next peer proposes",
            proposer.name()
        )),
        Event::CaughtUp { rounds } => {
            Some(format!("caught up over {rounds} certificates, without training on them"))
        }
        Event::Quiet { view } => Some(format!(
            "the swarm knows this key, but what it signed is not stored here: takes no part before a certificate after view {view} is final, so that it cannot contradict itself"
        )),
        Event::QuietOver { view } => Some(format!("view {view} is final: takes part again")),
        Event::Dropped { reason, peer } => {
            let by = peer.map_or(String::new(), |peer| format!(" (first by {})", peer.name()));
            Some(format!("a message was dropped: {reason}{by}"))
        }
        Event::Equivocated { peer, slot, .. } => {
            Some(format!("{} signed {slot} and is left out from now on", peer.name()))
        }
        Event::Spoilt { peer, prompt, why } => {
            Some(format!("{}'s answers do not count: prompt {prompt} has {why}", peer.name()))
        }
        Event::Audited { peer, report } => Some(audits::sentence(peer, report)),
        Event::TooLate { phase, .. } => Some(format!("own work came after the {} phase", phase.as_str())),
    }
}
