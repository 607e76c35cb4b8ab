//! The state that everything is drawn from: the records of a run, folded one by one.
//!
//! A live view, a look back and a report differ only in how many of the records they look at. Memory is bounded:
//! the oldest records are forgotten first, and counted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::growth::Growth;
use crate::happenings::LATE;
use crate::metrics::Metrics;
use crate::record::{Event, Level, Report, RoundRecord, RunInfo, Status};
use crate::traffic::Traffic;

/// Rounds that are kept: two weeks of rounds of a minute.
const ROUNDS_MAX: usize = 20_000;
/// The newest of them that are kept whole; of older ones only what curves need.
const WHOLE_MAX: usize = 4_000;
/// Lines of metrics: one a round and peer of the process.
const METRICS_MAX: usize = 80_000;
/// Events that are kept.
const EVENTS_MAX: usize = 20_000;
/// Events among which one is looked for that another peer told already.
const REPEATS_WITHIN: usize = 256;
/// A running process says where it is at least this often, in milliseconds; after that it is taken for dead.
const SIGN_WITHIN_MS: u64 = 20_000;

/// A record of a run.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A line of `rounds.jsonl`.
    Round(RoundRecord),
    /// A line of `metrics.jsonl`.
    Metrics(Metrics),
    /// A line of `events.jsonl`.
    Event(Event),
    /// `status.json` as it is now.
    Status(Status),
    /// `network.json` as it is now.
    Traffic(Traffic),
    /// `report.json`.
    Report(Box<Report>),
    /// What the directory takes now.
    Growth(Growth),
}

/// Everything that is known of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct View {
    pub(crate) info: RunInfo,
    pub(crate) rounds: Vec<RoundRecord>,
    pub(crate) metrics: Vec<Metrics>,
    pub(crate) status: Option<Status>,
    pub(crate) network: Option<Traffic>,
    pub(crate) events: Vec<Event>,
    pub(crate) report: Option<Report>,
    /// Records that were forgotten because there are too many.
    pub(crate) forgotten: usize,
    #[serde(skip)]
    pub(crate) growth: Growth,
    #[serde(skip)]
    pub(crate) totals: Totals,
}

/// Sums over every record, forgotten ones included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rounds: u64,
    pub(crate) voids: u64,
    /// Own missed deadlines.
    pub(crate) late: u64,
    /// Events that are more than information.
    pub(crate) warnings: u64,
}

impl View {
    /// What is known before the first record.
    pub(crate) fn new(info: RunInfo) -> Self {
        Self { info, ..Self::default() }
    }

    /// Takes a record in.
    pub(crate) fn fold(&mut self, fact: Fact) {
        match fact {
            Fact::Round(round) => {
                // A peer that went back to another branch settles a round again: what counts comes last.
                self.rounds.retain_tail(|last| last.round < round.round);
                self.totals.rounds += 1;
                self.totals.voids += u64::from(round.voids);
                self.rounds.push(round);
                if let Some(old) = self.rounds.len().checked_sub(WHOLE_MAX + 1) {
                    slim(&mut self.rounds[old]);
                }
            }
            Fact::Metrics(metrics) => self.metrics.push(metrics),
            Fact::Event(event) => self.take_event(event),
            Fact::Status(status) => self.status = Some(status),
            Fact::Traffic(traffic) => self.network = Some(traffic),
            Fact::Report(report) => self.report = Some(*report),
            Fact::Growth(growth) => self.growth = growth,
        }
        self.forgotten += forget(&mut self.rounds, ROUNDS_MAX)
            + forget(&mut self.metrics, METRICS_MAX)
            + forget(&mut self.events, EVENTS_MAX);
    }

    /// What several peers of one process tell of a round is one event.
    fn take_event(&mut self, event: Event) {
        self.totals.late += u64::from(self.is_late(&event));
        let newest = self.events.len().saturating_sub(REPEATS_WITHIN);
        match self.events[newest..].iter_mut().rev().find(|earlier| event.repeats(earlier)) {
            Some(earlier) => earlier.also.push(event.peer),
            None => {
                self.totals.warnings += u64::from(event.level > Level::Info);
                self.events.push(event);
            }
        }
    }

    /// Name of the peer whose view this is.
    pub(crate) fn me(&self) -> &str {
        self.info.peers.first().map_or("", |peer| peer.name.as_str())
    }

    /// Whether this is an own missed deadline.
    fn is_late(&self, event: &Event) -> bool {
        event.kind == LATE && event.is_of(self.me())
    }

    /// Whether the run is over.
    pub(crate) fn ended(&self) -> bool {
        self.report.is_some() || self.status.as_ref().is_some_and(|status| status.ended)
    }
}

/// Leaves of an old round its figures, which are a tenth of its memory.
fn slim(round: &mut RoundRecord) {
    let whole = std::mem::take(round);
    *round = RoundRecord {
        peers: BTreeMap::new(),
        families: BTreeMap::new(),
        loss: BTreeMap::new(),
        undecided_why: BTreeMap::new(),
        open_levels: BTreeMap::new(),
        packs: Vec::new(),
        roster: Vec::new(),
        critiques: None,
        audits: None,
        ..whole
    };
}

/// Dropping from the end.
trait RetainTail<T> {
    fn retain_tail(&mut self, keep: impl Fn(&T) -> bool);
}

impl<T> RetainTail<T> for Vec<T> {
    fn retain_tail(&mut self, keep: impl Fn(&T) -> bool) {
        while self.last().is_some_and(|last| !keep(last)) {
            self.pop();
        }
    }
}

/// Drops the oldest entries beyond `max`, an eighth at a time; how many.
fn forget<T>(list: &mut Vec<T>, max: usize) -> usize {
    let drop = if list.len() > max { list.len() - max + max / 8 } else { 0 };
    list.drain(..drop);
    drop
}

/// A moment of a run: the newest, or the end of a round before.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) view: &'a View,
    /// The round that is looked back at; `None` for now.
    pub(crate) back: Option<u32>,
    pub(crate) now_ms: u64,
}

impl<'a> Scene<'a> {
    /// Rounds up to the moment.
    pub(crate) fn rounds(&self) -> &'a [RoundRecord] {
        let end = self.back.map_or(self.view.rounds.len(), |back| {
            self.view.rounds.partition_point(|round| round.round <= back)
        });
        &self.view.rounds[..end]
    }

    /// The newest of them.
    pub(crate) fn round(&self) -> Option<&'a RoundRecord> {
        self.rounds().last()
    }

    /// The first and the last of their numbers: what charts range over, also where a figure was not measured.
    pub(crate) fn span(&self) -> [f64; 2] {
        let end = |round: Option<&RoundRecord>| f64::from(round.map_or(0, |round| round.round));
        [end(self.rounds().first()), end(self.rounds().last())]
    }

    fn until(&self) -> u32 {
        self.back.unwrap_or(u32::MAX)
    }

    /// Events up to the moment, in the order of their records.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &'a Event> {
        let until = self.until();
        self.view.events.iter().filter(move |event| event.round <= until)
    }

    /// Metrics up to the moment, as means over the peers of the process: round and value.
    pub(crate) fn metric(&self, of: impl Fn(&Metrics) -> Option<f64>) -> Vec<(f64, f64)> {
        let mut points: Vec<(u32, f64, usize)> = Vec::new();
        for line in self.view.metrics.iter().filter(|line| line.round <= self.until()) {
            let Some(value) = of(line).filter(|value| value.is_finite()) else { continue };
            // Peers tell a round one after the other, and rarely one round late.
            match points.iter_mut().rev().take(8).find(|point| point.0 == line.round) {
                Some(point) => (point.1, point.2) = (point.1 + value, point.2 + 1),
                None => points.push((line.round, value, 1)),
            }
        }
        points.sort_unstable_by_key(|point| point.0);
        points.into_iter().map(|(round, sum, n)| (f64::from(round), sum / n as f64)).collect()
    }

    /// A figure of the rounds up to the moment: round and value.
    pub(crate) fn figure(&self, of: impl Fn(&RoundRecord) -> Option<f64>) -> Vec<(f64, f64)> {
        self.rounds().iter().filter_map(|round| Some((f64::from(round.round), of(round)?))).collect()
    }

    /// Whether this is a look at a run that goes on.
    pub(crate) fn live(&self) -> bool {
        self.back.is_none() && self.view.status.is_some() && !self.view.ended()
    }

    /// Seconds since the process gave a sign of life, if that is too long.
    pub(crate) fn silent_s(&self) -> Option<u64> {
        let status = self.view.status.as_ref().filter(|_| self.live())?;
        let age = self.now_ms.saturating_sub(status.at_ms);
        (age > SIGN_WITHIN_MS).then_some(age / 1000)
    }

    /// Own missed deadlines up to the moment.
    pub(crate) fn late(&self) -> Vec<&'a Event> {
        self.events().filter(|event| self.view.is_late(event)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(number: u32) -> Fact {
        Fact::Round(RoundRecord { round: number, ..RoundRecord::default() })
    }

    #[test]
    fn a_round_that_is_settled_again_counts_once() {
        let mut view = View::default();
        [1, 2, 3, 2].into_iter().for_each(|number| view.fold(round(number)));
        assert_eq!(view.rounds.iter().map(|round| round.round).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_oldest_records_are_forgotten_and_counted() {
        let mut view = View::default();
        let rounds = ROUNDS_MAX as u32 + 1;
        for number in 1..=rounds {
            let roster = vec!["brisk-otter".into()];
            view.fold(Fact::Round(RoundRecord {
                round: number,
                roster,
                wall_ms: 7,
                ..RoundRecord::default()
            }));
        }
        assert_eq!(view.rounds.iter().filter(|round| !round.roster.is_empty()).count(), WHOLE_MAX);
        assert!(view.rounds.iter().all(|round| round.wall_ms == 7), "figures stay");
        assert!(view.rounds.len() <= ROUNDS_MAX);
        assert_eq!(view.rounds.len() + view.forgotten, rounds as usize);
        assert_eq!(view.rounds.last().map(|round| round.round), Some(rounds));
    }

    #[test]
    fn what_several_peers_tell_of_a_round_is_one_event() {
        let mut view = View::default();
        let tell = |peer: &str, round, text: &str| {
            Fact::Event(Event {
                peer: peer.into(),
                round,
                text: text.into(),
                level: Level::Warn,
                ..Event::default()
            })
        };
        for (peer, round, text) in [("a", 1, "x"), ("b", 1, "y"), ("b", 1, "x"), ("c", 1, "x"), ("c", 1, "x")]
        {
            view.fold(tell(peer, round, text));
        }
        view.fold(tell("a", 2, "x"));
        let told: Vec<_> = view.events.iter().map(|event| event.tellers(3)).collect();
        assert_eq!(told, ["all 3 peers", "b", "c", "a"]);
        assert!(view.events[0].is_of("b") && !view.events[1].is_of("a"));
        assert_eq!(view.totals.warnings, 4);
    }

    #[test]
    fn looking_back_hides_what_came_later() {
        let mut view = View::default();
        [1, 2, 3].into_iter().for_each(|number| view.fold(round(number)));
        for (of, value) in [(1, 0.5), (2, 0.5), (1, 1.5), (3, 2.0)] {
            view.fold(Fact::Metrics(Metrics { round: of, reward: Some(value), ..Metrics::default() }));
        }
        view.fold(Fact::Event(Event { round: 3, ..Event::default() }));
        let scene = |back| Scene { view: &view, back, now_ms: 0 };
        assert_eq!(scene(Some(2)).rounds().len(), 2);
        assert_eq!(scene(Some(2)).metric(|line| line.reward), [(1.0, 1.0), (2.0, 0.5)]);
        assert_eq!(scene(Some(2)).events().count(), 0);
        assert_eq!(scene(None).events().count(), 1);
    }
}
