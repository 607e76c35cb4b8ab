//! When a peer says what all say at the same moment.
//!
//! Reveals and ballots follow from the end of a phase, which everybody sees at once. In a large swarm so many messages
//! at once fill the queues of links, which then drop some, so each peer spreads its own over a while. Nobody agrees on
//! that: whoever still has something to say is waited for like one whose link is slow.

use std::collections::VecDeque;

use super::{Engine, bodies};
use crate::message::{Kind, Reveal};
use crate::wire::Hash;

/// Members that may speak all at once: with 24 prompts, 384 messages, fewer than a link's queue holds.
const AT_ONCE_MAX: usize = 16;
/// Time for each message of anybody. One takes a third of a millisecond of processor time and arrives two or three
/// times (`growth` in the examples).
const MESSAGE_MS: u64 = 1;

/// What this peer has to say in a round.
pub(super) enum Unsaid {
    Reveal(Box<Reveal>, Option<bodies::Detached>),
    Ballot,
}

/// What this peer has to say, and when.
pub(super) type Queue = VecDeque<(u64, Unsaid)>;

/// When to say so many messages, from `now` on and well before `until_ms`, if so many members say as many; `luck` is
/// this peer's own.
fn times(now: u64, until_ms: u64, members: usize, count: usize, luck: u64) -> impl Iterator<Item = u64> {
    let all = if members > AT_ONCE_MAX { MESSAGE_MS.saturating_mul((members * count) as u64) } else { 0 };
    let step = all.min(until_ms.saturating_sub(now) / 2) / count.max(1) as u64;
    let first = now + luck % (step + 1);
    (0..count as u64).map(move |n| first + n * step)
}

impl Engine {
    /// Says all this in the phase that just began, spread over it if many speak.
    pub(super) fn say_in_turn(&mut self, now: u64, what: Vec<Unsaid>) {
        let (number, members) = (self.round_number().to_le_bytes(), self.head().roster.len());
        let Some(round) = &mut self.round else { return };
        let luck = Hash::of("murmur v1 spread", &[&self.entropy, &number]);
        let [luck, ..] = *luck.0.as_chunks().0 else { return };
        let times = times(now, round.until_ms, members, what.len(), u64::from_le_bytes(luck));
        round.unsaid.extend(times.zip(what));
        self.speak(now);
    }

    /// Says what is due.
    pub(super) fn speak(&mut self, now: u64) {
        while let Some((_, what)) =
            self.round.as_mut().and_then(|round| round.unsaid.pop_front_if(|(at, _)| *at <= now))
        {
            match what {
                Unsaid::Ballot => self.publish_ballot(),
                Unsaid::Reveal(reveal, body) => {
                    self.publish_item(Kind::Reveal, &*reveal);
                    if let Some((body, bytes)) = body {
                        self.take_body(now, body.blob, bytes);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_speak_at_once_and_many_one_after_the_other_within_half_of_the_phase() {
        let times = |members, count, luck| times(1000, 11_000, members, count, luck).collect::<Vec<u64>>();
        assert_eq!(times(16, 3, 7), [1000; 3]);
        assert_eq!(times(17, 3, 0), [1000, 1017, 1034]);
        assert_eq!(times(17, 3, 17), [1017, 1034, 1051]);
        assert_eq!(times(17, 1, 4), [1004]);
        let many = times(256, 24, u64::MAX);
        assert!(many.is_sorted() && many[0] <= 1000 + 208 && many[23] <= 6000, "{many:?}");
        assert!(times(17, 0, 3).is_empty());
    }
}
