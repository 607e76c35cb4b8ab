//! Counts what is lost and tells it without flooding anybody.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::event::{DropReason, NetEvent};
use super::limits;

#[derive(Default)]
struct Tally {
    total: u64,
    untold: u64,
    told: Option<Instant>,
}

/// Losses by reason.
#[derive(Default)]
pub(super) struct Drops(BTreeMap<DropReason, Tally>);

impl Drops {
    pub(super) fn count(&mut self, reason: DropReason, times: u64) {
        if times > 0 {
            let tally = self.0.entry(reason).or_default();
            tally.total = tally.total.saturating_add(times);
            tally.untold = tally.untold.saturating_add(times);
        }
    }

    /// What is to be told now: the first loss at once, later ones together.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<NetEvent> {
        let mut events = Vec::new();
        for (reason, tally) in &mut self.0 {
            let quiet = tally.told.is_none_or(|told| now >= told + limits::DROPS_TOLD_EVERY);
            if tally.untold > 0 && quiet {
                tally.told = Some(now);
                events.push(NetEvent::Dropped { reason: *reason, count: std::mem::take(&mut tally.untold) });
            }
        }
        events
    }

    pub(super) fn totals(&self) -> BTreeMap<DropReason, u64> {
        self.0.iter().map(|(reason, tally)| (*reason, tally.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_told_at_once_and_later_ones_together() {
        let (mut drops, now) = (Drops::default(), Instant::now());
        let told = |drops: &mut Drops, at| match drops.tell(at).as_slice() {
            [] => 0,
            [NetEvent::Dropped { reason: DropReason::Oversize, count }] => *count,
            other => panic!("{other:?}"),
        };
        drops.count(DropReason::Oversize, 0);
        assert_eq!(told(&mut drops, now), 0);
        drops.count(DropReason::Oversize, 2);
        assert_eq!(told(&mut drops, now), 2);
        drops.count(DropReason::Oversize, 3);
        assert_eq!(told(&mut drops, now), 0, "not yet");
        drops.count(DropReason::Oversize, 4);
        assert_eq!(told(&mut drops, now + limits::DROPS_TOLD_EVERY), 7);
        assert_eq!(drops.totals()[&DropReason::Oversize], 9);
    }

    #[test]
    fn every_reason_is_a_sentence() {
        let texts: std::collections::BTreeSet<String> =
            DropReason::ALL.iter().map(|reason| reason.to_string()).collect();
        assert_eq!(texts.len(), DropReason::ALL.len());
    }
}
