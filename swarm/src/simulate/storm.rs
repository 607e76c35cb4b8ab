//! Storms and calm: faults begin, faults end, and then the swarm must get on.

use std::collections::BTreeSet;

use super::attack::Attack;
use super::dice::Dice;
use super::fault::Fault;
use super::queue::Happening;
use super::seat::Character;
use super::watch;
use super::world::World;
use crate::engine::Resume;
use crate::wire::Hash;

/// How long a storm lasts, in milliseconds.
const STORM_MS: (u64, u64) = (3_000, 12_000);
/// How long it stays calm after a final certificate, in milliseconds.
const REST_MS: (u64, u64) = (500, 4_000);
/// Peers start within this time, in milliseconds.
const START_MS: u64 = 2_000;
/// When peers come that do not found the swarm, in milliseconds.
const LATE_MS: u64 = 6_000;
/// When deserters stop, in milliseconds: the swarm has found itself, and latecomers have not come.
const DESERT_MS: u64 = 5_000;
/// How long each peer is away in turn that takes over a state when it is back, in milliseconds.
const AWAY_MS: u64 = 10_000;
/// How long a stopped peer stays down, in milliseconds.
const DOWN_MS: (u64, u64) = (100, 9_000);
/// Faults of each storm besides those drawn.
const FAULTS_EACH: usize = 3;
/// Outputs that a peer may still perform before it is cut off.
const CUT_WITHIN: u64 = 40;
/// How much slower a straggler is: longer than anybody waits.
const SLOWNESS: u64 = 40;
/// Rounds without a dishonest proposer after which a final certificate is due.
const ROUNDS_TO_FINAL: usize = 3;

/// Whether faults are at work, and what happened since they ended.
pub(super) struct Weather {
    dice: Dice,
    storms: usize,
    /// Counts since faults ended; `None` during a storm.
    calm: Option<Calm>,
}

struct Calm {
    until_ms: u64,
    final_before: u32,
    /// The round that was in progress then.
    before: u32,
    /// Rounds begun since that had an honest proposer first.
    rounds: BTreeSet<u32>,
    /// When the final certificate that was waited for came.
    done: bool,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "weather"), storms: 0, calm: None }
    }
}

impl World {
    /// The faults that come and go.
    fn storm_faults(&self) -> Vec<Fault> {
        self.plan.faults.iter().copied().filter(|fault| fault.is_of_a_storm()).collect()
    }

    /// Everybody starts; the swarm has to find itself before the first storm.
    pub(super) fn begin(&mut self) {
        for seat in 0..self.seats.len() {
            let late_ms = if self.seats[seat].founder { 0 } else { LATE_MS };
            let at_ms = late_ms + self.weather.dice.below(START_MS);
            self.queue.push(at_ms, seat, Happening::Start);
        }
        if self.plan.attack.is_some_and(|attack| attack.deserters() > 0) {
            let leavers =
                self.seats.iter().enumerate().filter(|(_, peer)| peer.character == Character::Leaver);
            for (seat, _) in leavers {
                self.queue.push(DESERT_MS, seat, Happening::Stop);
            }
        }
        if self.plan.attack == Some(Attack::Poison) {
            let honest =
                (0..self.seats.len()).filter(|&seat| self.seats[seat].character == Character::Honest);
            for (nth, seat) in honest.enumerate() {
                let away_ms = DESERT_MS + nth as u64 * AWAY_MS;
                self.queue.push(away_ms, seat, Happening::Stop);
                self.queue.push(away_ms + AWAY_MS - START_MS, seat, Happening::Start);
            }
        }
        for fault in [Fault::Skew, Fault::Drift] {
            if self.plan.faults.contains(&fault) {
                *self.tally.faults.entry(fault.name()).or_default() += self.seats.len() as u64;
            }
        }
        self.expect_progress();
    }

    /// From now on a final certificate is due.
    fn expect_progress(&mut self) {
        let final_before = self.watch.ledger.final_round();
        let until_ms = self.now_ms + START_MS + self.patience_ms();
        let before = self.round;
        self.weather.calm =
            Some(Calm { until_ms, final_before, before, rounds: BTreeSet::new(), done: false });
    }

    /// The longest that rounds may take that lead to a final certificate: every phase to its deadline, and every
    /// dishonest peer the proposer of some void views.
    fn patience_ms(&self) -> u64 {
        let rules = &self.manifest.round;
        let phases = 2 * (u64::from(rules.work_deadline_ms) + u64::from(rules.phase_deadline_ms));
        let views = u64::from(rules.view_deadline_ms) * (self.seats.len() as u64 + 4);
        2 * (ROUNDS_TO_FINAL as u64 + 1) * (phases + views)
    }

    pub(super) fn storm(&mut self) {
        let faults = self.storm_faults();
        self.weather.calm = None;
        let first = self.weather.storms * FAULTS_EACH;
        self.weather.storms += 1;
        let mut chosen: BTreeSet<Fault> =
            (0..FAULTS_EACH).filter_map(|i| faults.get((first + i) % faults.len().max(1)).copied()).collect();
        chosen.extend(faults.iter().filter(|_| self.weather.dice.chance(250)));
        let lasts_ms = self.weather.dice.between(STORM_MS.0, STORM_MS.1);
        for fault in chosen {
            self.network.disturb(fault);
            self.strike(fault, lasts_ms);
        }
        self.strike_the_weak(lasts_ms);
        self.queue.push(self.now_ms + lasts_ms, 0, Happening::Calm);
    }

    /// Faults that strike some honest peers.
    fn strike(&mut self, fault: Fault, lasts_ms: u64) {
        if !matches!(fault, Fault::Crash | Fault::Cut | Fault::Straggler) {
            return;
        }
        let honest: Vec<usize> =
            (0..self.seats.len()).filter(|&seat| self.seats[seat].character == Character::Honest).collect();
        let victims = self.weather.dice.between(1, (honest.len() as u64).div_ceil(2));
        for _ in 0..victims {
            let Some(&seat) = self.weather.dice.pick(&honest) else { return };
            let at_ms = self.now_ms + self.weather.dice.below(lasts_ms);
            match fault {
                Fault::Straggler => self.seats[seat].slowness = SLOWNESS,
                Fault::Cut => {
                    let outputs = self.weather.dice.below(CUT_WITHIN);
                    self.queue.push(at_ms, seat, Happening::Cut(outputs));
                    self.come_back(seat, at_ms);
                }
                _ => {
                    self.queue.push(at_ms, seat, Happening::Stop);
                    self.come_back(seat, at_ms);
                }
            }
        }
    }

    fn come_back(&mut self, seat: usize, after_ms: u64) {
        let down_ms = self.weather.dice.between(DOWN_MS.0, DOWN_MS.1);
        self.queue.push(after_ms + down_ms, seat, Happening::Start);
    }

    /// Peers that lose their disks, or stop for good.
    fn strike_the_weak(&mut self, lasts_ms: u64) {
        for seat in 0..self.seats.len() {
            if !self.weather.dice.chance(500) || self.seats[seat].engine.is_none() {
                continue;
            }
            match self.seats[seat].character {
                Character::Leaver => self.stop(seat, Fault::NeverReturn),
                Character::Forgetful => {
                    self.stop(seat, Fault::LostDisk);
                    self.seats[seat].disk = Resume::default();
                    self.seats[seat].log.clear();
                    let down_ms = self.weather.dice.below(lasts_ms);
                    self.queue.push(self.now_ms + down_ms, seat, Happening::Start);
                }
                Character::Honest | Character::Dishonest => {}
            }
        }
    }

    /// All faults end: who is down starts again, except those that never do.
    pub(super) fn calm(&mut self) {
        if self.weather.calm.is_some() {
            return;
        }
        self.network.calm();
        for seat in 0..self.seats.len() {
            let peer = &mut self.seats[seat];
            peer.slowness = 1;
            peer.cut_after = None;
            if peer.engine.is_none() && peer.character != Character::Leaver {
                self.queue.push(self.now_ms, seat, Happening::Start);
            }
        }
        self.expect_progress();
    }

    /// What every running peer waits for.
    fn tell_waits(&self) -> String {
        let tell = |seat: &super::seat::Seat| {
            let status = seat.engine.as_ref()?.status(seat.clock.local(self.now_ms));
            let mark = if seat.character == Character::Honest { "" } else { "*" };
            let (phase, live) = (status.phase.as_str(), status.live);
            let (awaited, roster) = (status.awaited.len(), status.roster.len());
            Some(format!(
                "{}{mark} round {} view {} {phase} awaits {awaited} of {roster} sees {live}",
                seat.key.name(),
                status.round,
                status.view,
            ))
        };
        self.seats.iter().filter_map(tell).collect::<Vec<_>>().join("; ")
    }

    /// Counts rounds that were certified since faults ended.
    pub(super) fn mind_certificates(&mut self, new: &[Hash]) {
        if let Some(censor) = &mut self.censor {
            censor.mind(self.now_ms, new.len());
        }
        for hash in new {
            let Some(certified) = self.watch.ledger.get(hash) else { continue };
            let (round, parent) = (certified.statement.round, certified.statement.parent);
            if self.watch.next_is_honest(&parent)
                && let Some(calm) = self.weather.calm.as_mut().filter(|calm| round > calm.before + 1)
            {
                calm.rounds.insert(round);
            }
        }
    }

    /// Whether what must follow the end of faults has followed.
    pub(super) fn mind_progress(&mut self) {
        if let Some(censor) = &mut self.censor {
            censor.mind(self.now_ms, 0);
            // After a contradiction nobody goes on.
            self.over = self.round > self.plan.rounds || self.watch.two_finals() > 0;
            return;
        }
        let Some(calm) = &self.weather.calm else {
            if self.round > self.plan.rounds {
                self.calm();
            }
            return;
        };
        if !calm.done {
            let broken = if self.watch.ledger.final_round() > calm.final_before {
                None
            } else if calm.rounds.len() > ROUNDS_TO_FINAL {
                Some(format!("round {} and no new final certificate: {}", self.round, self.tell_waits()))
            } else if self.now_ms > calm.until_ms {
                let since = calm.final_before;
                Some(format!(
                    "no new final certificate since round {since}, now {}: {}",
                    self.round,
                    self.tell_waits()
                ))
            } else {
                return;
            };
            let stalled = self.now_ms > calm.until_ms;
            if let Some(calm) = &mut self.weather.calm {
                calm.done = true;
            }
            self.over |= stalled && broken.is_some();
            self.watch.check(watch::PROGRESS, self.now_ms, broken);
            if !self.storm_faults().is_empty() {
                let rest_ms = self.weather.dice.between(REST_MS.0, REST_MS.1);
                self.queue.push(self.now_ms + rest_ms, 0, Happening::Storm);
            } else {
                self.expect_progress();
            }
        }
        let done = self.weather.calm.as_ref().is_some_and(|calm| calm.done) || self.storm_faults().is_empty();
        if self.round > self.plan.rounds && done {
            self.over = true;
        }
    }
}
