//! A key that comes without what was stored beside it.
//!
//! It does not know what it has signed, and could contradict itself. So where the swarm that it finds counts on its
//! key (in a roster, or among those who sign), it takes no part until a certificate is final that is newer than
//! anything that it can have signed: every view that the swarm had reached when it came. Views are entered by a
//! quorum's wish only, so that its key was in none beyond those, cut off from everybody or not.

use judge::PeerKey;

use super::Engine;
use super::event::Event;
use crate::chain::Link;
use crate::limits::{HEARTBEAT_MS, SILENT_HEARTBEATS};

/// Why a peer says nothing, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// The newest view that it may have signed in.
    view: u32,
    /// Until then, everybody who is there will have said which view it waits for.
    until_ms: u64,
}

impl Engine {
    /// Whether this peer takes part.
    pub(super) fn takes_part(&self) -> bool {
        self.ready && self.quiet.is_none() && self.checkpoint.is_none() && !self.lacks_packs()
    }

    /// Before the first head of a peer that had nothing stored, and that did not help to begin the swarm: whether the
    /// swarm counts on it.
    pub(super) fn consider_quiet(&mut self, now: u64, links: &[Link]) {
        let begun_without = self.forgetful && !self.agreement.has_signed();
        let Some(newest) = links.last().filter(|newest| begun_without && newest.statement.round > 1) else {
            return;
        };
        let named = |link: &Link| link.is_elector(&self.me) || link.statement.roster.contains(&self.me);
        if links.iter().any(named) {
            let view = newest.statement.view;
            self.quiet = Some(Quiet { view, until_ms: now + SILENT_HEARTBEATS * HEARTBEAT_MS });
            self.event(Event::Quiet { view });
        }
    }

    /// Learns which views the swarm has reached, and ends the silence once they are past.
    pub(super) fn mind_quiet(&mut self, now: u64) {
        let Some(mut quiet) = self.quiet else { return };
        if now < quiet.until_ms {
            quiet.view = quiet.view.max(self.attempted(now));
            self.quiet = Some(quiet);
        } else if self.final_view() > quiet.view {
            self.quiet = None;
            self.event(Event::QuietOver { view: self.final_view() });
        }
    }

    /// The newest view that more electors wait for than may be dishonest.
    fn attempted(&self, now: u64) -> u32 {
        let Some(link) = &self.head().link else { return 0 };
        let electors: &[PeerKey] = link.electorate();
        let live = self.presence.live(now).filter(|(peer, _)| electors.binary_search(peer).is_ok());
        let mut views: Vec<u32> = live.map(|(_, seen)| seen.attempt.max(seen.view)).collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        views.get(electors.len() / 3).copied().unwrap_or(0)
    }
}
