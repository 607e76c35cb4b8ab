//! How much one link may bring that is of no use here.
//!
//! What an author may say is the engine's to judge, and what it accepts costs a link nothing: honest peers pass on
//! only that. The rest is read up to a bound and then dropped unread, so that a flood costs its receivers little and
//! travels one hop. A dropped message may be one of somebody else that is new here, and gossip brings no message
//! twice; so a link that keeps on is closed rather than left to swallow what others say.

use tokio::time::Instant;

use super::bucket::Bucket;
use super::limits;
use crate::topic::Topic;

/// What is left of one link's share.
#[derive(Debug)]
pub(super) struct Quota {
    messages: Bucket,
    bytes: Bucket,
    presence: Bucket,
    requests: Bucket,
    /// What may be dropped before the link is closed.
    patience: Bucket,
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(limits::LINK_MESSAGES_PER_S, 1, now),
            bytes: Bucket::new(limits::LINK_BYTES_PER_S, limits::MESSAGE_BYTES_MAX, now),
            presence: Bucket::new(limits::LINK_PRESENCE_PER_S, 1, now),
            requests: Bucket::new(limits::LINK_REQUESTS_PER_S, 1, now),
            patience: Bucket::new(limits::LINK_MESSAGES_PER_S, 1, now),
        }
    }

    /// Takes what a message costs. Returns whether there was enough left.
    pub(super) fn admit(&mut self, topic: Topic, bytes: usize, now: Instant) -> bool {
        // Of its own: presence is accepted of anybody, and many strangers must not crowd out what the round needs.
        if topic == Topic::Presence {
            return take(&mut self.presence, 1, now);
        }
        take(&mut self.messages, 1, now) && take(&mut self.bytes, bytes as u64, now)
    }

    /// Gives back what a message cost that was of use.
    pub(super) fn was_useful(&mut self, topic: Topic, bytes: usize) {
        if topic != Topic::Presence {
            self.messages.put_back(1);
            self.bytes.put_back(bytes as u64);
        }
    }

    /// Whether one more message beyond the share is one too many.
    pub(super) fn is_overdrawn(&mut self, now: Instant) -> bool {
        !take(&mut self.patience, 1, now)
    }

    /// Takes what a request costs. Returns whether there was enough left.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        take(&mut self.requests, 1, now)
    }
}

fn take(bucket: &mut Bucket, tokens: u64, now: Instant) -> bool {
    let enough = bucket.wait(tokens, now).is_zero();
    if enough {
        bucket.take(tokens);
    }
    enough
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn useless_messages_run_out_useful_ones_do_not_and_topics_are_apart() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let burst = 2 * limits::LINK_MESSAGES_PER_S;
        for _ in 0..10 * burst {
            assert!(quota.admit(Topic::Votes, 100, start));
            quota.was_useful(Topic::Votes, 100);
        }
        assert_eq!((0..10 * burst).filter(|_| quota.admit(Topic::Votes, 100, start)).count() as u64, burst);
        assert!(!quota.admit(Topic::Control, 100, start) && quota.admit(Topic::Presence, 100, start));
        assert_eq!((0..10 * burst).filter(|_| !quota.is_overdrawn(start)).count() as u64, burst);
        let later = start + Duration::from_secs(1);
        assert!(quota.admit(Topic::Votes, 100, later) && !quota.is_overdrawn(later));
    }

    #[test]
    fn large_messages_run_out_by_bytes_and_the_largest_passes() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let largest = limits::MESSAGE_BYTES_MAX;
        let admitted = (0..1000).filter(|_| quota.admit(Topic::Proofs, largest, start)).count();
        assert_eq!(admitted as u64, 2 * limits::LINK_BYTES_PER_S / largest as u64);
        let asked = (0..1000).filter(|_| quota.may_ask(start)).count();
        assert_eq!(asked as u64, 2 * limits::LINK_REQUESTS_PER_S);
    }
}
