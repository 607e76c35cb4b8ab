//! Own messages that could not be sent yet.
//!
//! Gossip refuses a message while nobody listens; it waits here, within bounds, until somebody subscribes. Of
//! presence only the newest waits: it replaces all before it. A message that meets only full queues is another case:
//! gossip remembers it as sent, so publishing it again would be a duplicate, but it can be asked to pass it on again
//! for as long as it is in its cache.

use std::collections::VecDeque;

use libp2p::gossipsub::MessageId;
use tokio::time::Instant;

use super::limits;
use crate::topic::Topic;

struct Waiting {
    topic: Topic,
    bytes: Vec<u8>,
    until: Instant,
}

/// What became of a message offered again.
pub(super) enum Attempt {
    /// Gone, or hopeless.
    Done,
    /// Nobody listens to the topic.
    Nobody,
}

/// Messages that wait for a listener, oldest first.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// What a new message pushed out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PushedOut {
    pub(super) superseded: u64,
    pub(super) full: u64,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, topic: Topic, bytes: Vec<u8>, now: Instant) -> PushedOut {
        let mut out = PushedOut::default();
        if topic == Topic::Presence {
            let before = self.waiting.len();
            self.waiting.retain(|waiting| waiting.topic != Topic::Presence);
            out.superseded = (before - self.waiting.len()) as u64;
        }
        self.waiting.push_back(Waiting { topic, bytes, until: now + limits::OUTBOX_FOR });
        self.count_bytes();
        while self.waiting.len() > limits::OUTBOX_MESSAGES_MAX || self.bytes > limits::OUTBOX_BYTES_MAX {
            self.waiting.pop_front();
            self.count_bytes();
            out.full += 1;
        }
        out
    }

    /// Offers everything again, in order; a topic without listeners is left alone after its first message.
    pub(super) fn offer(&mut self, mut publish: impl FnMut(Topic, &[u8]) -> Attempt) {
        let mut silent: Vec<Topic> = Vec::new();
        self.waiting.retain(|waiting| {
            if silent.contains(&waiting.topic) {
                return true;
            }
            match publish(waiting.topic, &waiting.bytes) {
                Attempt::Done => false,
                Attempt::Nobody => {
                    silent.push(waiting.topic);
                    true
                }
            }
        });
        self.count_bytes();
    }

    /// Removes what has waited too long and says how much it was.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.until > now);
        self.count_bytes();
        (before - self.waiting.len()) as u64
    }

    fn count_bytes(&mut self) {
        self.bytes = self.waiting.iter().map(|waiting| waiting.bytes.len()).sum();
    }
}

struct Retry {
    id: MessageId,
    offered: u32,
}

/// Messages that met only full queues, in the order in which they are offered again.
#[derive(Default)]
pub(super) struct Retries {
    queue: VecDeque<Retry>,
    due: Option<Instant>,
}

impl Retries {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds a message; returns how many were pushed out.
    pub(super) fn push(&mut self, id: MessageId, now: Instant) -> u64 {
        self.queue.push_back(Retry { id, offered: 0 });
        self.due.get_or_insert(now + limits::RETRY_EVERY);
        let mut full = 0;
        while self.queue.len() > limits::RETRIES_MAX {
            self.queue.pop_front();
            full += 1;
        }
        full
    }

    /// The messages to offer now, at most `batch`. Each comes again after all others, a few times.
    pub(super) fn due(&mut self, now: Instant, batch: usize) -> Vec<(MessageId, bool)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for _ in 0..batch.max(1).min(self.queue.len()) {
            let Some(mut retry) = self.queue.pop_front() else { break };
            due.push((retry.id.clone(), retry.offered == 0));
            retry.offered += 1;
            if retry.offered < limits::RETRY_TIMES {
                self.queue.push_back(retry);
            }
        }
        self.due = (!self.queue.is_empty()).then(|| now + limits::RETRY_EVERY);
        due
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn presence_is_replaced_and_the_oldest_goes_first() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert_eq!(outbox.push(Topic::Presence, vec![1], now), PushedOut::default());
        assert_eq!(outbox.push(Topic::Presence, vec![2], now).superseded, 1);
        for _ in 1..limits::OUTBOX_MESSAGES_MAX {
            assert_eq!(outbox.push(Topic::Votes, vec![3], now), PushedOut::default());
        }
        assert_eq!(outbox.push(Topic::Votes, vec![4], now).full, 1);
        let mut seen = Vec::new();
        outbox.offer(|topic, bytes| {
            seen.push((topic, bytes.to_vec()));
            Attempt::Done
        });
        assert_eq!(outbox.len(), 0);
        assert!(!seen.iter().any(|(topic, _)| *topic == Topic::Presence), "the oldest was pushed out");
        assert_eq!(seen.last(), Some(&(Topic::Votes, vec![4])));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let fit = limits::OUTBOX_BYTES_MAX / (64 * 1024);
        let full: u64 = (0..fit + 3).map(|_| outbox.push(Topic::Answers, vec![0; 64 * 1024], now).full).sum();
        assert_eq!((full, outbox.len()), (3, fit));
    }

    #[test]
    fn a_silent_topic_does_not_hold_up_the_others_and_old_messages_expire() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        for topic in [Topic::Answers, Topic::Answers, Topic::Votes] {
            outbox.push(topic, vec![1], now);
        }
        let mut tried = Vec::new();
        outbox.offer(|topic, _| {
            tried.push(topic);
            if topic == Topic::Answers { Attempt::Nobody } else { Attempt::Done }
        });
        assert_eq!(tried, [Topic::Answers, Topic::Votes]);
        assert_eq!(outbox.expire(now + limits::OUTBOX_FOR - Duration::from_secs(1)), 0);
        assert_eq!(outbox.expire(now + limits::OUTBOX_FOR), 2);
    }

    #[test]
    fn retries_are_few_and_spaced_and_take_turns() {
        let (mut retries, mut now) = (Retries::default(), Instant::now());
        for n in 0..5_u8 {
            assert_eq!(retries.push(MessageId::new(&[n]), now), 0);
        }
        assert!(retries.due(now, 2).is_empty(), "not at once");
        let mut offered = Vec::new();
        while let Some(due) = retries.next_due() {
            assert!(due > now);
            now = due;
            let batch = retries.due(now, 2);
            assert!(batch.len() <= 2);
            offered.extend(batch.into_iter().map(|(id, first)| (id.0[0], first)));
        }
        let expected: Vec<(u8, bool)> = (0..10).map(|n| (n % 5, n < 5)).collect();
        assert_eq!(offered, expected);
        for n in 0..limits::RETRIES_MAX {
            assert_eq!(retries.push(MessageId::new(&n.to_le_bytes()), now), 0);
        }
        assert_eq!(retries.push(MessageId::new(b"y"), now), 1);
    }
}
