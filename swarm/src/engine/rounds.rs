//! The phases of a round: answer → reveal → critique → vote → settle.
//!
//! A phase closes as soon as everything expected is in, else at its deadline. Who missed one deadline
//! is not waited for again in that round, so one straggler costs at most one deadline. Deadlines are learned, so
//! they differ from peer to peer; whoever has done its own part follows as soon as so many members have gone on
//! that one of them at least is honest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

use judge::{CandidateId, PeerKey};

use super::branch::Node;
use super::event::{Event, PhaseName, Status};
use super::items::Placed;
use super::play::Play;
use super::spread::{self, Unsaid};
use super::{Engine, Output, Work, bodies};
use crate::admission::{Admitted, Body};
use crate::limits::{ENVELOPE_OVERHEAD_BYTES, PHASE_FLOOR_MS};
use crate::log::Record;
use crate::merkle;
use crate::message::{
    Ballot, Commit, Critique, Kind, Reveal, Score, Share, TextCritique, answers_leaf, commitment,
};
use crate::topic::Topic;
use crate::wire::{self, Hash};

/// This peer's own answers, kept until they are revealed.
struct Mine {
    nonce: Hash,
    policy: Hash,
    completions: Vec<Vec<String>>,
}

/// What came in of a phase, in time or late.
struct Part {
    since_ms: u64,
    done: usize,
    last_ms: u64,
}

/// A round in progress.
pub(super) struct Round {
    /// Hash of the statement that started it.
    pub(super) start: Hash,
    pub(super) beacon: Hash,
    pub(super) play: Play,
    /// From answering on; never [`PhaseName::Gather`].
    phase: PhaseName,
    /// Deadline of the phase; the views after it have their own.
    pub(super) until_ms: u64,
    opened_ms: u64,
    /// Members that missed a deadline, and when.
    pub(super) missed: BTreeMap<PeerKey, u64>,
    pub(super) durations_ms: BTreeMap<PhaseName, u64>,
    /// When each phase opened here, and how many members have done their part of it until when.
    parts: BTreeMap<PhaseName, Part>,
    /// Members that signed two messages for one slot.
    equivocated: BTreeSet<PeerKey>,
    /// Set after a restart: this peer may have spoken in the round already, so it stays silent.
    pub(super) muted: bool,
    mine: Option<Mine>,
    /// What this peer has to say in the phase.
    pub(super) unsaid: spread::Queue,
    traces: Vec<Vec<(CandidateId, String)>>,
}

/// A round in progress is a round: what follows from its messages alone is asked of [`Play`].
impl Deref for Round {
    type Target = Play;

    fn deref(&self) -> &Play {
        &self.play
    }
}

impl DerefMut for Round {
    fn deref_mut(&mut self) -> &mut Play {
        &mut self.play
    }
}

impl Round {
    /// When this peer has something to say, or else the phase ends.
    pub(super) fn deadline(&self) -> u64 {
        self.unsaid.front().map_or(self.until_ms, |(at, _)| self.until_ms.min(*at))
    }

    pub(super) fn settling(&self) -> bool {
        self.phase == PhaseName::Settle
    }

    /// Whether a member did its part of a phase.
    fn has_done(&self, peer: &PeerKey, phase: PhaseName) -> bool {
        match phase {
            PhaseName::Answer => self.items.committed(peer),
            PhaseName::Reveal => self.items.answered(peer),
            PhaseName::Critique => self.items.critiqued(peer),
            PhaseName::Vote => self.items.voted(peer),
            PhaseName::Gather | PhaseName::Settle => false,
        }
    }

    /// Whether a phase ended here without a member: at its deadline, or because it was silent when the phase began.
    pub(super) fn went_on_without(&self, peer: &PeerKey) -> bool {
        self.missed.contains_key(peer) || self.phase > PhaseName::Answer && !self.items.committed(peer)
    }

    /// Whether a member spoke in a later phase than the one open here.
    fn has_gone_on(&self, peer: &PeerKey) -> bool {
        match self.phase {
            PhaseName::Answer => self.items.nonce(peer).is_some(),
            PhaseName::Reveal => self.items.critiqued(peer) || self.items.voted(peer),
            PhaseName::Critique => self.items.voted(peer),
            PhaseName::Vote | PhaseName::Settle | PhaseName::Gather => false,
        }
    }

    fn note_arrivals(&mut self, now: u64, roster: &[PeerKey]) {
        let mut parts = std::mem::take(&mut self.parts);
        for (&phase, part) in &mut parts {
            let done = roster.iter().filter(|peer| self.has_done(peer, phase)).count();
            if done > part.done {
                (part.done, part.last_ms) = (done, now);
            }
        }
        self.parts = parts;
    }

    /// Whether the phase that a message belongs to has ended.
    fn is_late(&self, body: &Body) -> bool {
        let closed = self.phase;
        match body {
            Body::Commit(_) => closed > PhaseName::Answer,
            Body::Reveal(_) => closed > PhaseName::Reveal,
            Body::Critique(_) => closed > PhaseName::Critique,
            Body::Ballot(_) => closed > PhaseName::Vote,
            Body::Presence(_)
            | Body::Proposal(_)
            | Body::Signature(_)
            | Body::Certificate(_)
            | Body::Proof(..) => false,
        }
    }
}

impl Engine {
    /// Opens the round that the head starts.
    pub(super) fn open_round(&mut self, now: u64, muted: bool) {
        let number = self.round_number();
        let (catalogue, missing) = self.catalogue_now();
        let Node { beacon, roster, state, .. } = self.head();
        let beacon = *beacon;
        let courses = state.as_ref().map(|state| state.courses.clone()).unwrap_or_default();
        let mut play = Play::open(self.swarm, &self.manifest, &catalogue, number, roster, &beacon, &courses);
        drop(catalogue);
        // Without a pack this peer knows neither the prompts nor what the round comes to: it follows the others.
        let muted = muted || missing;
        play.items.defences = self.defences;
        let round = Round {
            start: self.newest().1,
            beacon,
            play,
            phase: PhaseName::Answer,
            until_ms: now + self.wait_ms(PhaseName::Answer, muted),
            opened_ms: now,
            missed: BTreeMap::new(),
            durations_ms: BTreeMap::new(),
            parts: BTreeMap::from([(PhaseName::Answer, Part { since_ms: now, done: 0, last_ms: now })]),
            equivocated: BTreeSet::new(),
            muted,
            mine: None,
            unsaid: spread::Queue::new(),
            traces: Vec::new(),
        };
        let items = round.schedule.clone();
        self.previous = self.round.replace(round);
        self.learn_durations();
        self.open_audits(number);
        if self.is_member() && !muted {
            let seed = sampling_seed(&beacon, &self.me).0;
            let completions = self.manifest.round.completions;
            self.output(Output::Work(Work::Answer { round: number, items, completions, seed }));
        }
        for message in std::mem::take(&mut self.early) {
            // Refusals are counted like any other; nothing is forwarded from here.
            if let Err(refusal) = self.accept_item(message) {
                self.count_refusal(refusal, None);
            }
        }
    }

    /// Takes note of how long the round that ended waited for those who came, late ones included: who never comes
    /// must not hold up every round anew.
    fn learn_durations(&mut self) {
        let Some(ended) = &self.previous else { return };
        let members = ended.play.items.members();
        for (&phase, part) in ended.parts.iter().filter(|(_, part)| 2 * part.done > members) {
            let took_ms = part.last_ms.saturating_sub(part.since_ms);
            self.durations.entry(phase).or_default().record(took_ms);
        }
    }

    pub(super) fn is_member(&self) -> bool {
        self.head().roster.binary_search(&self.me).is_ok()
    }

    /// How long to wait in a phase. A peer that started again within the round missed part of the others' wait and
    /// says nothing itself: the floor must do, or its turn to propose would pass before it knows that phases ended.
    fn wait_ms(&self, phase: PhaseName, muted: bool) -> u64 {
        let (floor, ceiling) = self.wait_bounds_ms(phase);
        match self.durations.get(&phase) {
            _ if muted => floor.min(ceiling),
            Some(durations) => durations.wait_ms(floor, ceiling),
            None => ceiling,
        }
    }

    /// What others wait at least, as far as this peer knows.
    fn shortest_wait_ms(&self, phase: PhaseName) -> u64 {
        let (floor, ceiling) = self.wait_bounds_ms(phase);
        self.durations.get(&phase).map_or(floor, |durations| durations.wait_ms(floor, ceiling))
    }

    fn wait_bounds_ms(&self, phase: PhaseName) -> (u64, u64) {
        let rules = &self.manifest.round;
        match phase {
            PhaseName::Answer | PhaseName::Critique => {
                (rules.work_floor_ms.into(), rules.work_deadline_ms.into())
            }
            _ => (PHASE_FLOOR_MS.max(u64::from(rules.work_floor_ms) / 2), rules.phase_deadline_ms.into()),
        }
    }

    /// Members of the roster that have not done their part of the current phase and may still do it.
    fn awaited(&self, now: u64) -> Vec<PeerKey> {
        let Some(round) = &self.round else { return Vec::new() };
        // It may have answered before, so it says nothing until the next round.
        let silent_until_next = |peer: &PeerKey| {
            !round.items.committed(peer) && self.presence.restarted_since(peer, round.opened_ms)
        };
        let absent = |peer: &PeerKey| {
            round.missed.contains_key(peer)
                || self.presence.is_quiet(peer)
                || silent_until_next(peer)
                || self.is_offender(peer)
                || if *peer == self.me { round.muted } else { self.is_gone(now, peer, round.opened_ms) }
        };
        let due = |peer: &PeerKey| match round.phase {
            PhaseName::Settle => false,
            PhaseName::Reveal if !round.items.committed(peer) => false,
            phase => !round.has_done(peer, phase),
        };
        self.head().roster.iter().filter(|peer| due(peer) && !absent(peer)).copied().collect()
    }

    /// Whether a peer left, or was not heard since `since_ms` for longer than silence allows.
    pub(super) fn is_gone(&self, now: u64, peer: &PeerKey, since_ms: u64) -> bool {
        let heard = self.presence.get(peer).map_or(0, |seen| seen.heard_ms);
        self.presence.left(peer) || self.presence.silent(now, heard.max(since_ms))
    }

    /// Moves on as far as what is here allows.
    pub(super) fn advance(&mut self, now: u64) {
        self.speak(now);
        self.fetch_bodies(now);
        let roster = &self.branches.head().roster;
        if let Some(round) = &mut self.round {
            round.note_arrivals(now, roster);
        }
        self.keep_up(now);
        self.fetch_weights(now);
        loop {
            self.consider_proposals(now);
            let Some(round) = &self.round else { break };
            if round.settling() {
                break;
            }
            let awaited = self.awaited(now);
            if !awaited.is_empty() && now < round.until_ms {
                break;
            }
            self.close_phase(now, awaited);
        }
        self.pursue_agreement(now);
    }

    /// Closes the phase soon when more than a third of the roster has gone on, so that an honest member found it
    /// closed: after half of what that one will wait in the next phase, which leaves time to be heard there.
    fn keep_up(&mut self, now: u64) {
        let Some(round) = &self.round else { return };
        let roster = &self.head().roster;
        let gone_on = roster.iter().filter(|peer| round.has_gone_on(peer)).count();
        if 3 * gone_on <= roster.len() || self.awaited(now).contains(&self.me) {
            return;
        }
        let until_ms = now + self.shortest_wait_ms(round.phase.next()) / 2;
        if let Some(round) = &mut self.round {
            round.until_ms = until_ms.min(round.until_ms);
        }
    }

    fn close_phase(&mut self, now: u64, missing: Vec<PeerKey>) {
        let number = self.round_number();
        let Some(round) = &mut self.round else { return };
        let name = round.phase;
        let took_ms = round.parts.get(&name).map_or(0, |part| now.saturating_sub(part.since_ms));
        round.durations_ms.insert(name, took_ms);
        round.missed.extend(missing.iter().map(|&peer| (peer, now)));
        for peer in &missing {
            self.presence.missed(now, peer);
        }
        self.event(Event::PhaseClosed { round: number, phase: name, took_ms, missing });
        self.open_phase(now, name);
    }

    /// Opens the phase after `closed` and does this peer's part in it.
    fn open_phase(&mut self, now: u64, closed: PhaseName) {
        let next = closed.next();
        let muted = self.round.as_ref().is_some_and(|round| round.muted);
        let until_ms = if next == PhaseName::Settle { u64::MAX } else { now + self.wait_ms(next, muted) };
        if let Some(round) = &mut self.round {
            (round.phase, round.until_ms) = (next, until_ms);
            round.parts.insert(next, Part { since_ms: now, done: 0, last_ms: now });
        }
        match next {
            PhaseName::Reveal => self.reveal(now),
            PhaseName::Critique => self.ask_for_critiques(),
            PhaseName::Vote => self.say_in_turn(now, vec![Unsaid::Ballot]),
            PhaseName::Settle => self.open_views(now),
            PhaseName::Gather | PhaseName::Answer => {}
        }
    }

    pub(super) fn take_answers(&mut self, number: u32, completions: Vec<Vec<String>>, policy: Hash) {
        // A second answer would be a second commit.
        let answering =
            |round: &Round| round.phase == PhaseName::Answer && !round.muted && round.mine.is_none();
        if number != self.round_number() || !self.round.as_ref().is_some_and(answering) {
            return self.event(Event::TooLate { round: number, phase: PhaseName::Answer });
        }
        let nonce = Hash::of("murmur v1 nonce", &[&self.entropy, &self.swarm.0, &number.to_le_bytes()]);
        let leaves = leaves(&completions);
        let root = merkle::root(&leaves);
        let commitment = commitment(&self.swarm, number, &self.me, &nonce, &root, &policy, &self.numerics);
        if let Some(round) = &mut self.round {
            round.mine = Some(Mine { nonce, policy, completions });
        }
        let audit = self.audit_offer();
        self.publish_item(Kind::Commit, &Commit { commitment, audit });
    }

    fn reveal(&mut self, now: u64) {
        let Some(Mine { nonce, policy, completions }) =
            self.round.as_mut().and_then(|round| round.mine.take())
        else {
            return;
        };
        let leaves = leaves(&completions);
        let reveal = |(prompt, completions): (usize, Vec<String>)| {
            let (completions, body) = bodies::detach(prompt as u16, completions);
            let reveal = Reveal {
                prompt: prompt as u16,
                nonce,
                policy,
                numerics: self.numerics.clone(),
                completions,
                proof: merkle::proof(&leaves, prompt),
                body: body.as_ref().map(|(body, _)| *body),
            };
            Unsaid::Reveal(Box::new(reveal), body)
        };
        let reveals = completions.into_iter().enumerate().map(reveal).collect();
        self.say_in_turn(now, reveals);
    }

    /// Asks the policy to score, for every candidate, the fullest completion by another author, and to judge those
    /// in words that are assigned to this peer.
    fn ask_for_critiques(&mut self) {
        let number = self.round_number();
        let me = self.me;
        let member = self.is_member();
        let roster = self.head().roster.clone();
        let Some(round) = &mut self.round else { return };
        if !member || round.muted {
            return;
        }
        round.traces = (0..round.schedule.len()).map(|prompt| traces(round, &roster, &me, prompt)).collect();
        let (items, traces) = (round.schedule.clone(), round.traces.clone());
        let assigned = self.assigned_to_me();
        let seed = Hash::of("murmur v1 critique sampling", &[&self.head().beacon.0, &me.0]).0;
        self.output(Output::Work(Work::Critique { round: number, items, traces, assigned, seed }));
    }

    pub(super) fn take_critiques(
        &mut self,
        number: u32,
        scores: &[Vec<Option<i16>>],
        texts: Vec<Vec<TextCritique>>,
    ) {
        let open = |round: &Round| {
            let in_time = matches!(round.phase, PhaseName::Critique | PhaseName::Vote);
            in_time && !round.muted && !round.items.critiqued(&self.me)
        };
        let Some(round) =
            self.round.as_ref().filter(|round| open(round)).filter(|_| number == self.round_number())
        else {
            return self.event(Event::TooLate { round: number, phase: PhaseName::Critique });
        };
        let score = |(&(candidate, _), millinats): (&(CandidateId, String), &Option<i16>)| {
            let millinats = millinats.unwrap_or(judge::CRITIQUE_MIN).clamp(judge::CRITIQUE_MIN, 0);
            Score { candidate, millinats }
        };
        let prompts = round
            .traces
            .iter()
            .zip(scores)
            .map(|(traces, scores)| traces.iter().zip(scores).map(score).collect());
        let prompts = prompts.collect();
        let critique = fitting(Critique { prompts, texts, audits: self.seal_findings() });
        self.publish_item(Kind::Critique, &critique);
    }

    pub(super) fn publish_ballot(&mut self) {
        let Some(round) = &self.round else { return };
        if !self.is_member() || round.muted || !round.items.answered(&self.me) {
            return;
        }
        let ballot = |prompt: usize| {
            let own = round.candidates_of(&self.me, prompt);
            let shares = judge::ballot_from_completions(&own);
            shares.into_iter().map(|(candidate, permille)| Share { candidate, permille }).collect()
        };
        let prompts = (0..round.schedule.len()).map(ballot).collect();
        let ballot = Ballot { prompts, audits: self.open_findings(), packs: self.pack_votes() };
        self.publish_item(Kind::Ballot, &ballot);
    }

    /// Puts a message of the round in progress in its slot. What fills a slot is logged, and the first message of
    /// each member that contradicts one.
    pub(super) fn place(&mut self, message: Admitted) -> Option<Placed> {
        let round = self.round.as_mut()?;
        let (sender, late, envelope) = (message.sender, round.is_late(&message.body), message.bytes.clone());
        let placed = round.play.items.place(message);
        let kept = placed == Some(Placed::New)
            || placed == Some(Placed::Conflict) && round.equivocated.insert(sender);
        if kept {
            self.output(Output::Log(Record::Message { late, envelope }));
        }
        placed
    }

    /// Where the engine stands at `now`.
    pub fn status(&self, now: u64) -> Status {
        let (phase, until_ms) = match &self.round {
            None => (PhaseName::Gather, self.agreement.until_ms),
            Some(round) if round.settling() => (PhaseName::Settle, self.agreement.until_ms),
            Some(round) => (round.phase, round.until_ms),
        };
        Status {
            round: self.round_number(),
            view: self.newest().0,
            final_view: self.final_view(),
            phase,
            awaited: self.awaited(now),
            deadline_in_ms: until_ms.saturating_sub(now),
            roster: self.head().roster.clone(),
            member: self.is_member(),
            live: self.presence.live(now).count(),
            wanted: self.founders_needed(),
            lacks: if phase == PhaseName::Settle { self.lacking(now) } else { BTreeMap::new() },
        }
    }
}

/// The critique without texts if there are none, or no room for them: the vote needs the scores.
fn fitting(critique: Critique) -> Critique {
    let room = Topic::Votes.bytes_max() - ENVELOPE_OVERHEAD_BYTES;
    if critique.texts.iter().all(Vec::is_empty) || wire::encode(&critique).len() > room {
        return Critique { texts: Vec::new(), ..critique };
    }
    critique
}

/// Seed of a peer's answers in the round of a beacon.
pub(crate) fn sampling_seed(beacon: &Hash, peer: &PeerKey) -> Hash {
    Hash::of("murmur v1 sampling", &[&beacon.0, &peer.0])
}

fn leaves(completions: &[Vec<String>]) -> Vec<Hash> {
    completions.iter().enumerate().map(|(prompt, texts)| answers_leaf(prompt as u16, texts)).collect()
}

/// For every candidate, the longest completion that leads to it by an author other than `me`; the
/// first in byte order among equals. The longest shows the most reasoning, which is what a critic's
/// log-probability can tell right from wrong by.
fn traces(round: &Round, roster: &[PeerKey], me: &PeerKey, prompt: usize) -> Vec<(CandidateId, String)> {
    let mut best: BTreeMap<CandidateId, &String> = BTreeMap::new();
    for peer in roster.iter().filter(|&peer| peer != me && round.items.answered(peer)) {
        let texts = round.items.completions(peer, prompt as u16);
        for (candidate, text) in round.candidates_of(peer, prompt).into_iter().zip(texts) {
            let Some(candidate) = candidate else { continue };
            let held = best.entry(candidate).or_insert(text);
            if (text.len(), held.as_str()) > (held.len(), text.as_str()) {
                *held = text;
            }
        }
    }
    best.into_iter().map(|(candidate, text)| (candidate, text.clone())).collect()
}
