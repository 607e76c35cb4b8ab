//! Blobs on their way in: which part is asked of whom. No IO.
//!
//! A blob is asked of all its holders at once, the first ones first: of each several parts at a time, but one only
//! until it has given any. What is here stays here, so a holder that fails costs no more than the parts that were under
//! way; and one that dawdles costs a moment, since the last parts are then asked of another one too.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::super::bucket::Budgets;
use super::limits;
use crate::blob::{Address, Assembly, BLOB_BYTES_MAX, BlobAnswer, BlobRequest, Part};

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) peer: PeerId,
    pub(super) request: BlobRequest,
}

/// What became of a blob or of a holder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done {
        blob: Address,
        bytes: Vec<u8>,
    },
    Failed {
        blob: Address,
        why: &'static str,
    },
    /// A holder gave other bytes than the blob's.
    Lied {
        peer: PeerId,
        why: String,
    },
}

struct Holder {
    peer: PeerId,
    rests_until: Instant,
    /// How often in a row it did not have the blob; `None` once it gave a part.
    absences: Option<u32>,
}

impl Holder {
    /// Parts of the blob that may be under way from it.
    fn parts_max(&self) -> usize {
        if self.absences.is_none() { limits::BLOB_STREAMS_PER_PEER_MAX } else { 1 }
    }
}

/// A part under way.
struct Asked {
    part: Part,
    of: PeerId,
    since: Instant,
}

struct Fetch {
    round: u32,
    assembly: Assembly,
    /// Parts neither here nor asked for.
    todo: BTreeSet<Part>,
    asked: Vec<Asked>,
    /// The one to ask first; who failed goes to the end, who lied is out.
    holders: VecDeque<Holder>,
    liars: Vec<PeerId>,
    /// When something arrived last.
    moved: Instant,
    /// Told as failed: what is here waits for another attempt.
    parked: bool,
}

impl Fetch {
    fn add_holders(&mut self, from: &[PeerId], now: Instant) {
        for &peer in from {
            let known = self.liars.contains(&peer) || self.holders.iter().any(|holder| holder.peer == peer);
            if !known && self.holders.len() < limits::BLOB_HOLDERS_MAX {
                self.holders.push_back(Holder { peer, rests_until: now, absences: Some(0) });
            }
        }
    }

    /// A part to ask for: one that nobody was asked for, or else one that somebody takes long to give.
    fn next_part(&self, now: Instant) -> Option<Part> {
        let late = |asked: &Asked| now >= asked.since + limits::BLOB_PART_DOUBTED_AFTER;
        let doubted = |part: &Part| self.asked.iter().all(|asked| asked.part != *part || late(asked));
        self.todo.first().copied().or_else(|| self.asked.iter().map(|asked| asked.part).find(doubted))
    }

    /// When the next part under way will have taken long.
    fn doubts_from(&self, now: Instant) -> Option<Instant> {
        let from = self.asked.iter().map(|asked| asked.since + limits::BLOB_PART_DOUBTED_AFTER);
        from.filter(|from| *from > now).min()
    }

    /// Whether a holder may be asked for this part beside what it was asked for already.
    fn may_ask(&self, holder: &Holder, part: Part) -> bool {
        let mut of = self.asked.iter().filter(|asked| asked.of == holder.peer);
        of.clone().count() < holder.parts_max() && of.all(|asked| asked.part != part)
    }

    /// A request has ended.
    fn ended(&mut self, ask: &Ask) {
        self.asked.retain(|asked| asked.of != ask.peer || asked.part != ask.request.part);
    }

    /// A part did not come; it is asked for again unless it is under way or here.
    fn lack(&mut self, part: Part) {
        let under_way = self.asked.iter().any(|asked| asked.part == part);
        if !under_way && self.assembly.wanted().any(|wanted| wanted == part) {
            self.todo.insert(part);
        }
    }

    /// Asks others first for a while.
    fn rest(&mut self, peer: &PeerId, until: Instant) {
        if let Some(at) = self.holders.iter().position(|holder| holder.peer == *peer)
            && let Some(mut holder) = self.holders.remove(at)
        {
            holder.rests_until = holder.rests_until.max(until);
            self.holders.push_back(holder);
        }
    }

    /// For how long a holder that does not have the blob is not asked.
    fn absent(&mut self, peer: &PeerId) -> Duration {
        let Some(holder) = self.holder(peer) else { return limits::HOLDER_RESTS };
        let absences = holder.absences.get_or_insert(0);
        let rest = limits::HOLDER_RESTS * 2u32.saturating_pow(*absences);
        *absences = absences.saturating_add(1);
        rest.min(limits::HOLDER_RESTS_MAX)
    }

    fn holder(&mut self, peer: &PeerId) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.peer == *peer)
    }
}

/// All of them.
pub(super) struct Fetches {
    open: Vec<Fetch>,
    streams: HashMap<PeerId, usize>,
    budgets: Budgets,
    newest: u32,
    next_due: Option<Instant>,
}

impl Fetches {
    pub(super) fn new(peer_bytes_per_s: u64) -> Self {
        Self {
            open: Vec::new(),
            streams: HashMap::new(),
            budgets: Budgets::new(peer_bytes_per_s),
            newest: 0,
            next_due: None,
        }
    }

    /// Begins a fetch, goes on with one that failed, or names more holders of one that runs. Those of rounds before
    /// the previous one are given up.
    pub(super) fn add(&mut self, round: u32, blob: Address, from: &[PeerId], now: Instant) -> Vec<Outcome> {
        self.newest = self.newest.max(round);
        let oldest = self.newest.saturating_sub(1);
        let old = self.open.extract_if(.., |fetch| fetch.round < oldest);
        let old = old.filter(|fetch| !fetch.parked).map(|fetch| fetch.assembly.address());
        let mut outcomes: Vec<Outcome> =
            old.map(|blob| Outcome::Failed { blob, why: "its round is over" }).collect();
        if let Some(fetch) = self.open.iter_mut().find(|fetch| fetch.assembly.address() == blob) {
            fetch.round = fetch.round.max(round);
            if std::mem::take(&mut fetch.parked) {
                fetch.holders.clear();
                fetch.moved = now;
            }
            fetch.add_holders(from, now);
            return outcomes;
        }
        if !self.has_room(&blob) {
            self.open.retain(|fetch| !fetch.parked);
        }
        match Assembly::new(blob, BLOB_BYTES_MAX) {
            Ok(assembly) if self.has_room(&blob) => {
                let todo = assembly.wanted().collect();
                let (asked, holders, liars) = (Vec::new(), VecDeque::new(), Vec::new());
                let mut fetch =
                    Fetch { round, assembly, todo, asked, holders, liars, moved: now, parked: false };
                fetch.add_holders(from, now);
                self.open.push(fetch);
            }
            Ok(_) => outcomes.push(Outcome::Failed { blob, why: "too many blobs are under way" }),
            Err(_) => outcomes.push(Outcome::Failed { blob, why: "it is empty or too large" }),
        }
        outcomes
    }

    fn has_room(&self, blob: &Address) -> bool {
        let bytes: usize = self.open.iter().map(|fetch| fetch.assembly.address().len as usize).sum();
        self.open.len() < limits::FETCHES_MAX
            && bytes.saturating_add(blob.len as usize) <= limits::FETCHES_BYTES_MAX
    }

    /// Fails what nobody gave anything of for long, or has no holder left. What is here of it is kept.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for fetch in self.open.iter_mut().filter(|fetch| !fetch.parked) {
            let why = if fetch.holders.is_empty() {
                "nobody is left to ask"
            } else if now >= fetch.moved + limits::FETCH_STALLS {
                "nobody gave any of it"
            } else {
                continue;
            };
            fetch.parked = true;
            outcomes.push(Outcome::Failed { blob: fetch.assembly.address(), why });
        }
        outcomes
    }

    /// The next request to send.
    pub(super) fn due(&mut self, now: Instant, connected: impl Fn(&PeerId) -> bool) -> Option<Ask> {
        let running = || self.open.iter().filter(|fetch| !fetch.parked);
        self.next_due = running().map(|fetch| fetch.moved + limits::FETCH_STALLS).min();
        if self.streams.values().sum::<usize>() >= limits::BLOB_STREAMS_MAX {
            return None; // one that ends leads here again
        }
        let mut due = self.next_due;
        let mut wake = |at: Instant| due = Some(due.map_or(at, |known| known.min(at)));
        let ask = self.open.iter_mut().filter(|fetch| !fetch.parked).find_map(|fetch| {
            fetch.doubts_from(now).into_iter().for_each(&mut wake);
            let part = fetch.next_part(now)?;
            let blob = fetch.assembly.address();
            let cost = (blob.part_len(part) + limits::BLOB_REQUEST_COST) as u64;
            let peer = fetch.holders.iter().filter(|holder| connected(&holder.peer)).find_map(|holder| {
                let peer = holder.peer;
                let streams = self.streams.get(&peer).copied().unwrap_or_default();
                if streams >= limits::BLOB_STREAMS_PER_PEER_MAX || !fetch.may_ask(holder, part) {
                    return None; // what it was asked for leads here again
                }
                let rested = holder.rests_until.max(now + self.budgets.of(peer, now).wait(cost, now));
                if rested > now {
                    wake(rested);
                }
                (rested <= now).then_some(peer)
            })?;
            self.budgets.of(peer, now).take(cost);
            *self.streams.entry(peer).or_default() += 1;
            fetch.todo.remove(&part);
            fetch.asked.push(Asked { part, of: peer, since: now });
            Some(Ask { peer, request: BlobRequest { blob, part } })
        });
        self.next_due = due;
        ask
    }

    /// When [`due`](Self::due) or [`expire`](Self::expire) have something to do, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Takes an answer; `None` for a request that failed.
    pub(super) fn answered(
        &mut self,
        ask: &Ask,
        answer: Option<BlobAnswer>,
        now: Instant,
    ) -> Option<Outcome> {
        if let Some(streams) = self.streams.get_mut(&ask.peer) {
            *streams = streams.saturating_sub(1);
        }
        self.streams.retain(|_, streams| *streams > 0);
        let BlobRequest { blob, part } = ask.request;
        let at = self.open.iter().position(|fetch| fetch.assembly.address() == blob)?;
        let fetch = self.open.get_mut(at)?;
        fetch.ended(ask);
        let rest = match answer {
            Some(BlobAnswer::Part(bytes)) => return self.insert(at, ask, &bytes, now),
            Some(BlobAnswer::Absent) => fetch.absent(&ask.peer),
            Some(BlobAnswer::Busy(ms)) => {
                Duration::from_millis(ms.into()).clamp(limits::BUSY_MIN, limits::BUSY_MAX)
            }
            None => limits::HOLDER_FAILED_RESTS,
        };
        fetch.lack(part);
        fetch.rest(&ask.peer, now + rest);
        None
    }

    fn insert(&mut self, at: usize, ask: &Ask, bytes: &[u8], now: Instant) -> Option<Outcome> {
        let BlobRequest { blob, part } = ask.request;
        let fetch = self.open.get_mut(at)?;
        let new = match fetch.assembly.insert(part, bytes) {
            Ok(new) => new,
            Err(error) => {
                fetch.lack(part);
                fetch.holders.retain(|holder| holder.peer != ask.peer);
                // The other parts that were under way say no more about it.
                let known = fetch.liars.contains(&ask.peer);
                fetch.liars.push(ask.peer);
                return (!known).then(|| Outcome::Lied { peer: ask.peer, why: error.to_string() });
            }
        };
        fetch.moved = now;
        if let Some(holder) = fetch.holder(&ask.peer) {
            holder.absences = None;
        }
        if new && part == Part::Outline {
            fetch.todo = fetch.assembly.wanted().collect();
        }
        if !fetch.assembly.is_complete() {
            return None;
        }
        let bytes = self.open.remove(at).assembly.finish()?;
        Some(Outcome::Done { blob, bytes })
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::blob::{Blob, CHUNK_BYTES};

    struct World {
        fetches: Fetches,
        now: Instant,
        blob: Blob,
    }

    impl World {
        fn new(chunks: usize, from: &[PeerId]) -> Self {
            let bytes = (0..chunks * CHUNK_BYTES).map(|i| (i % 253) as u8).collect();
            let mut world =
                Self { fetches: Fetches::new(1 << 40), now: Instant::now(), blob: Blob::new(bytes).unwrap() };
            assert_eq!(world.fetches.add(1, world.blob.address(), from, world.now), []);
            world
        }

        fn asks(&mut self) -> Vec<Ask> {
            std::iter::from_fn(|| self.fetches.due(self.now, |_| true)).collect()
        }

        fn give(&mut self, ask: &Ask) -> Option<Outcome> {
            let part = ByteBuf::from(self.blob.part(ask.request.part).unwrap());
            self.fetches.answered(ask, Some(BlobAnswer::Part(part)), self.now)
        }
    }

    fn someone(n: usize) -> Vec<PeerId> {
        (0..n).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn all_holders_give_at_once_each_part_once_and_who_gave_nothing_yet_is_asked_for_one() {
        let holders = someone(3);
        let mut world = World::new(40, &holders);
        let outline = world.asks();
        assert_eq!(outline.len(), 1);
        assert_eq!(world.give(&outline[0]), None);
        let mut under_way: VecDeque<Ask> = world.asks().into();
        let mut asked = [0; 3];
        let place = |ask: &Ask| holders.iter().position(|holder| *holder == ask.peer).unwrap();
        let of = |asks: &VecDeque<Ask>, at| asks.iter().filter(|ask| place(ask) == at).count();
        assert_eq!([0, 1, 2].map(|at| of(&under_way, at)), [limits::BLOB_STREAMS_PER_PEER_MAX, 1, 1]);
        while let Some(ask) = under_way.pop_front() {
            asked[place(&ask)] += 1;
            if let Some(outcome) = world.give(&ask) {
                let bytes = world.blob.bytes().to_vec();
                assert_eq!(outcome, Outcome::Done { blob: world.blob.address(), bytes });
                assert!(
                    under_way.is_empty() && world.asks().is_empty() && world.fetches.next_due().is_none()
                );
            }
            under_way.extend(world.asks());
            assert!((0..3).all(|at| of(&under_way, at) <= limits::BLOB_STREAMS_PER_PEER_MAX));
        }
        assert_eq!(asked.iter().sum::<u32>(), 40, "each chunk once");
        assert!(asked.iter().all(|count| *count > 8), "{asked:?}");
    }

    #[test]
    fn the_last_parts_are_asked_of_another_holder_when_one_takes_long() {
        let holders = someone(2);
        let mut world = World::new(2, &holders);
        let outline = world.asks()[0];
        assert_eq!(world.give(&outline), None);
        let asks = world.asks();
        assert_eq!(asks.len(), 2);
        assert!(asks.iter().all(|ask| ask.peer == holders[0]));
        let doubted = world.now + limits::BLOB_PART_DOUBTED_AFTER;
        assert_eq!(world.fetches.next_due(), Some(doubted));
        world.now = doubted;
        let again = world.asks();
        assert_eq!(again.len(), 1, "one part until it has given any");
        assert_eq!(again[0], Ask { peer: holders[1], ..asks[0] });
        assert_eq!(world.give(&again[0]), None);
        // What comes after all changes nothing, and what fails is not asked for again.
        assert_eq!(world.give(&asks[0]), None);
        assert_eq!(world.fetches.answered(&asks[1], None, world.now), None);
        let last = world.asks();
        assert_eq!(last, [Ask { peer: holders[1], ..asks[1] }]);
        assert!(matches!(world.give(&last[0]), Some(Outcome::Done { .. })));
    }

    #[test]
    fn who_does_not_have_it_is_asked_ever_less_often() {
        let holders = someone(1);
        let mut world = World::new(1, &holders);
        let mut rests = Vec::new();
        for _ in 0..6 {
            world.fetches.open[0].moved = world.now;
            let ask = world.asks()[0];
            assert_eq!(world.fetches.answered(&ask, Some(BlobAnswer::Absent), world.now), None);
            assert!(world.asks().is_empty());
            let until = world.fetches.next_due().unwrap();
            rests.push((until - world.now).as_millis());
            world.now = until;
        }
        assert_eq!(rests, [300, 600, 1200, 2400, 3000, 3000]);
    }

    #[test]
    fn who_fails_or_is_busy_rests_while_the_next_goes_on() {
        let holders = someone(2);
        let mut world = World::new(1, &holders);
        for (answer, rest) in [
            (None, limits::HOLDER_FAILED_RESTS),
            (Some(BlobAnswer::Absent), limits::HOLDER_RESTS),
            (Some(BlobAnswer::Busy(0)), limits::BUSY_MIN),
            (Some(BlobAnswer::Busy(u32::MAX)), limits::BUSY_MAX),
        ] {
            let start = world.now;
            world.fetches.open[0].moved = start;
            let first = world.asks()[0];
            assert_eq!(world.fetches.answered(&first, answer.clone(), world.now), None);
            let second = world.asks()[0];
            assert_ne!(second.peer, first.peer);
            assert_eq!(world.fetches.answered(&second, answer, world.now), None);
            assert!(world.asks().is_empty(), "both rest");
            assert_eq!(world.fetches.next_due(), Some(start + rest));
            world.now = start + rest;
        }
        assert_eq!(world.asks().len(), 1);
    }

    #[test]
    fn a_liar_is_asked_no_more_and_without_holders_it_fails() {
        let holders = someone(2);
        let mut world = World::new(1, &holders);
        for holder in &holders {
            let ask = world.asks()[0];
            assert_eq!(ask.peer, *holder);
            let lie = Some(BlobAnswer::Part(ByteBuf::from(vec![0; CHUNK_BYTES])));
            let outcome = world.fetches.answered(&ask, lie, world.now);
            assert!(matches!(outcome, Some(Outcome::Lied { peer, .. }) if peer == *holder));
            world.fetches.add(1, world.blob.address(), &holders, world.now);
        }
        assert!(world.asks().is_empty());
        let blob = world.blob.address();
        assert_eq!(world.fetches.expire(world.now), [Outcome::Failed { blob, why: "nobody is left to ask" }]);
    }

    #[test]
    fn what_stands_still_fails_and_another_attempt_goes_on_with_it() {
        let holders = someone(2);
        let mut world = World::new(3, &holders[..1]);
        let outline = world.asks()[0];
        world.give(&outline);
        let asks = world.asks();
        assert_eq!(world.give(&asks[0]), None);
        assert_eq!(world.fetches.expire(world.now), []);
        world.now += limits::FETCH_STALLS;
        let blob = world.blob.address();
        assert_eq!(world.fetches.expire(world.now), [Outcome::Failed { blob, why: "nobody gave any of it" }]);
        asks[1..].iter().for_each(|ask| assert_eq!(world.fetches.answered(ask, None, world.now), None));
        assert!(world.asks().is_empty() && world.fetches.next_due().is_none());
        assert_eq!(world.fetches.expire(world.now), [], "it is told once");
        assert_eq!(world.fetches.add(1, blob, &holders[1..], world.now), []);
        let rest = world.asks()[0];
        assert!(rest.peer == holders[1] && rest.request != asks[0].request, "one chunk is here");
        assert_eq!(world.give(&rest), None);
        let last = world.asks();
        assert_eq!(last.len(), 1);
        assert!(matches!(world.give(&last[0]), Some(Outcome::Done { .. })));
    }

    #[test]
    fn rounds_that_are_over_are_given_up() {
        let holders = someone(1);
        let mut world = World::new(1, &holders);
        let (ask, blob) = (world.asks()[0], world.blob.address());
        let other = Address { len: 7, ..blob };
        assert_eq!(world.fetches.add(2, other, &holders, world.now), []);
        let over = [Outcome::Failed { blob, why: "its round is over" }];
        assert_eq!(world.fetches.add(3, other, &holders, world.now), over);
        assert_eq!(world.give(&ask), None, "too late");
    }

    #[test]
    fn many_or_impossible_blobs_are_refused() {
        let holders = someone(1);
        let mut world = World::new(1, &holders);
        let named = |n: usize| Address { hash: crate::wire::Hash([n as u8; 32]), len: 1 + (n / 256) as u32 };
        for n in 1..limits::FETCHES_MAX {
            assert_eq!(world.fetches.add(1, named(n), &holders, world.now), []);
        }
        let why = |outcomes: Vec<Outcome>| match &outcomes[..] {
            [Outcome::Failed { why, .. }] => *why,
            other => panic!("{other:?}"),
        };
        assert!(why(world.fetches.add(1, named(999), &holders, world.now)).contains("too many"));
        let bomb = Address { len: u32::MAX, ..named(999) };
        assert!(why(world.fetches.add(1, bomb, &holders, world.now)).contains("too large"));
        let large = Address { len: BLOB_BYTES_MAX as u32, ..named(999) };
        let mut world = World::new(1, &holders);
        let fit = limits::FETCHES_BYTES_MAX / BLOB_BYTES_MAX;
        let refused = (0..fit).filter(|n| {
            let hash = crate::wire::Hash([*n as u8; 32]);
            !world.fetches.add(1, Address { hash, ..large }, &holders, world.now).is_empty()
        });
        assert_eq!(refused.count(), 1, "together they are too large");
    }

    #[test]
    fn only_connected_holders_are_asked_and_each_within_its_budget() {
        let holders = someone(2);
        let mut world = World::new(1, &holders);
        assert_eq!(world.fetches.due(world.now, |_| false), None);
        let ask = world.fetches.due(world.now, |peer| *peer == holders[1]).unwrap();
        assert_eq!(ask.peer, holders[1]);
        let mut slow = Fetches::new(1000);
        slow.add(1, world.blob.address(), &holders, world.now);
        let ask = slow.due(world.now, |_| true).unwrap();
        slow.answered(&ask, None, world.now);
        let ask = slow.due(world.now, |_| true).unwrap();
        slow.answered(&ask, None, world.now);
        let rested = world.now + limits::HOLDER_FAILED_RESTS;
        assert_eq!(slow.due(rested, |_| true), None, "both budgets are spent");
        assert!(slow.next_due().unwrap() > rested);
    }
}
