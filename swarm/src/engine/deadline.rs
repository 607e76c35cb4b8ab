//! How long to wait: adaptive, local, never compared between machines.
//!
//! A phase waits for `2·median + 4·MAD` of its recent durations, within a floor and the manifest's
//! ceiling. The factor two on the median is headroom for machines whose speed wobbles (the plain
//! `median + 4·MAD` cut honest peers off as soon as a run was steady: its MAD goes to zero).

use std::collections::VecDeque;

use crate::limits::DURATIONS_MAX;

/// How much longer than what one or two rounds took the next one may take.
const FEW_FACTOR: u64 = 8;

/// Recent durations of one phase, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(VecDeque<u64>);

fn median(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

impl Durations {
    pub(super) fn record(&mut self, took_ms: u64) {
        if self.0.len() == DURATIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(took_ms);
    }

    /// The wait in milliseconds; the ceiling while nothing is known, [`FEW_FACTOR`] times the longest of fewer than
    /// three durations.
    pub(super) fn wait_ms(&self, floor_ms: u64, ceiling_ms: u64) -> u64 {
        let Some(longest) = self.0.iter().max() else { return ceiling_ms };
        if self.0.len() < 3 {
            return (FEW_FACTOR * longest).clamp(floor_ms.min(ceiling_ms), ceiling_ms);
        }
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let middle = median(&sorted);
        let mut deviations: Vec<u64> = sorted.iter().map(|&ms| ms.abs_diff(middle)).collect();
        deviations.sort_unstable();
        (2 * middle + 4 * median(&deviations)).clamp(floor_ms.min(ceiling_ms), ceiling_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_follow_the_recent_past_within_bounds() {
        let mut durations = Durations::default();
        assert_eq!(durations.wait_ms(500, 60_000), 60_000, "nothing known yet");
        durations.record(1000);
        assert_eq!(durations.wait_ms(500, 60_000), 8 * 1000);
        for ms in [1100, 900] {
            durations.record(ms);
        }
        assert_eq!(durations.wait_ms(500, 60_000), 2 * 1000 + 4 * 100);
        assert_eq!(durations.wait_ms(5_000, 60_000), 5_000);
        assert_eq!(durations.wait_ms(500, 1_500), 1_500);
        for _ in 0..100 {
            durations.record(10);
        }
        assert_eq!(durations.wait_ms(500, 60_000), 500, "the past is forgotten");
    }
}
