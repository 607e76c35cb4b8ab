//! Token buckets: how much one peer may take in a while.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::limits;

/// So many tokens (bytes, messages) a second, and at most two seconds' worth at once.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u64,
    burst: u64,
    tokens: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket. It holds no less than `largest`, what is taken at once, which would never get through
    /// otherwise.
    pub(super) fn new(per_s: u64, largest: usize, now: Instant) -> Self {
        let per_s = per_s.max(1);
        let burst = per_s.saturating_mul(2).max(largest as u64);
        Self { per_s, burst, tokens: burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_micros() * u128::from(self.per_s) / 1_000_000;
        // Nothing earned yet: the time counts on, or a slow bucket asked often would never fill.
        if earned > 0 {
            self.at = now;
            self.put_back(u64::try_from(earned).unwrap_or(u64::MAX));
        }
    }

    /// How long to wait before so many tokens may be taken.
    pub(super) fn wait(&mut self, tokens: u64, now: Instant) -> Duration {
        self.refill(now);
        let lacking = tokens.min(self.burst).saturating_sub(self.tokens);
        Duration::from_micros(lacking.saturating_mul(1_000_000).div_ceil(self.per_s))
    }

    pub(super) fn take(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    pub(super) fn put_back(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }
}

/// A bucket of bytes of blobs a peer.
#[derive(Debug)]
pub(super) struct Budgets {
    bytes_per_s: u64,
    buckets: HashMap<PeerId, Bucket>,
}

impl Budgets {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, buckets: HashMap::new() }
    }

    pub(super) fn of(&mut self, peer: PeerId, now: Instant) -> &mut Bucket {
        if self.buckets.len() >= limits::TARGETS_MAX {
            // A full bucket remembers nothing. Should all be in use, peers begin anew.
            self.buckets.retain(|_, bucket| bucket.wait(u64::MAX, now) > Duration::ZERO);
            if self.buckets.len() >= limits::TARGETS_MAX {
                self.buckets.clear();
            }
        }
        self.buckets.entry(peer).or_insert_with(|| blob_bucket(self.bytes_per_s, now))
    }
}

/// A bucket that gives whole parts of blobs.
pub(super) fn blob_bucket(bytes_per_s: u64, now: Instant) -> Bucket {
    Bucket::new(bytes_per_s, limits::BLOB_ANSWER_BYTES_MAX, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_two_seconds_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = blob_bucket(1_000_000, start);
        assert_eq!(bucket.wait(2_000_000, start), Duration::ZERO);
        bucket.take(2_000_000);
        assert_eq!(bucket.wait(100_000, start), Duration::from_millis(100));
        for tenths in 1..10 {
            let now = start + Duration::from_millis(tenths * 100);
            assert_eq!(bucket.wait(100_000, now), Duration::ZERO);
            bucket.take(100_000);
            assert!(bucket.wait(1, now) > Duration::ZERO);
        }
        assert_eq!(bucket.wait(u64::MAX, start + Duration::from_secs(100)), Duration::ZERO, "full");
    }

    #[test]
    fn the_slowest_bucket_still_gives_a_whole_part() {
        let start = Instant::now();
        let mut bucket = blob_bucket(0, start);
        let part = limits::BLOB_ANSWER_BYTES_MAX as u64;
        assert_eq!(bucket.wait(part, start), Duration::ZERO);
        bucket.take(part);
        for ms in 0..5_000 {
            bucket.wait(part, start + Duration::from_millis(ms));
        }
        assert_eq!(
            bucket.wait(6, start + Duration::from_secs(5)),
            Duration::from_secs(1),
            "asking costs nothing"
        );
    }

    #[test]
    fn peers_have_budgets_of_their_own_and_few_are_remembered() {
        let now = Instant::now();
        let mut budgets = Budgets::new(1000);
        let greedy = PeerId::random();
        budgets.of(greedy, now).take(u64::MAX);
        assert!(budgets.of(greedy, now).wait(1, now) > Duration::ZERO);
        for _ in 0..2 * limits::TARGETS_MAX {
            assert_eq!(budgets.of(PeerId::random(), now).wait(1, now), Duration::ZERO);
        }
        assert!(budgets.buckets.len() <= limits::TARGETS_MAX);
        assert!(budgets.of(greedy, now).wait(1, now) > Duration::ZERO, "strangers do not buy it a new one");
    }
}
