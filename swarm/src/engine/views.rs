//! Whose turn it is, and until when.
//!
//! Every view has one proposer and a deadline. A peer whose deadline has passed *wants* the next view and says so
//! in its heartbeat, but it enters a view only once a quorum of the electorate wants it or a later one; it joins
//! the wish of more than a third, one of whom at least is honest. So views do not run apart while peers cannot
//! hear each other, and meet as soon as a quorum does.

use judge::PeerKey;

use super::Engine;
use super::event::Event;
use super::rounds::Round;
use crate::certificate::proposer;
use crate::limits::DEGRADED_AFTER_MS;

impl Engine {
    /// Starts the first view after a round's votes are closed.
    pub(super) fn open_views(&mut self, now: u64) {
        self.agreement.until_ms = now + self.agreement.view_ms;
        if self.manifest.available {
            self.agreement.stalled_ms = now + DEGRADED_AFTER_MS;
        }
    }

    /// The view that this peer waits for.
    pub(super) fn view(&self) -> u32 {
        self.newest().0.saturating_add(1).saturating_add(self.agreement.voids)
    }

    /// The view that this peer would like to be in.
    pub(super) fn wanted_view(&self) -> u32 {
        self.view().max(self.agreement.wanted_view)
    }

    /// Whose turn it is in `view`. Before the first certificate of an open swarm that is the lowest
    /// key among the peers to start with.
    pub(super) fn proposer(&self, now: u64, view: u32) -> Option<PeerKey> {
        match &self.head().link {
            Some(link) => link.proposer(view),
            None if self.listed.is_empty() => self.present(now).first().copied(),
            None => proposer(&self.listed, &self.head().beacon, view),
        }
    }

    /// Proposes when it is this peer's turn, and goes on to the next view when enough want that: also before this
    /// peer's own phases have ended, since the others may need its signature already.
    pub(super) fn pursue_agreement(&mut self, now: u64) {
        let settling = self.is_settling();
        if settling && now >= self.agreement.until_ms {
            self.want(now, self.view().saturating_add(1));
            self.agreement.until_ms = now + self.agreement.view_ms;
        }
        if settling {
            self.want(now, self.wanted_view());
        }
        if let Some(view) = self.view_to_enter(now) {
            self.enter(now, view);
        }
        if settling && self.proposer(now, self.view()) == Some(self.me) {
            self.propose(now, self.view());
        }
    }

    fn is_settling(&self) -> bool {
        self.round.as_ref().is_none_or(Round::settling)
    }

    /// Wants `view`, or the first one from there on whose proposer has not said that it leaves.
    fn want(&mut self, now: u64, mut view: u32) {
        // Only of who said so itself: what one side of a split swarm takes for absent the other does not.
        let left = |view| self.proposer(now, view).is_some_and(|peer| self.presence.left(&peer));
        let skipped =
            (0..self.electors().len()).take_while(|skipped| left(view.saturating_add(*skipped as u32)));
        view = view.saturating_add(skipped.count() as u32);
        if view > self.wanted_view() {
            self.agreement.wanted_view = view;
            self.publish_presence();
        }
    }

    /// Who decides when a view is void: the roster that signs, or will. Nobody before an open swarm has started.
    fn electors(&self) -> &[PeerKey] {
        self.head().link.as_ref().map_or(&self.listed, |link| link.electorate())
    }

    /// A view after this peer's that a quorum wants, or itself where nobody else decides.
    fn view_to_enter(&mut self, now: u64) -> Option<u32> {
        let number = self.electors().len();
        if number == 0 {
            return Some(self.wanted_view()).filter(|view| *view > self.view());
        }
        let mut wanted = self.wishes(now);
        if let Some(view) = wanted.get(number / 3).filter(|view| **view > self.wanted_view()) {
            self.want(now, *view);
            wanted = self.wishes(now);
        }
        let stalled = now >= self.agreement.stalled_ms;
        let needed = if stalled { number / 3 + 1 } else { self.manifest.faults.quorum(number) };
        wanted.get(needed - 1).copied().filter(|view| *view > self.view())
    }

    /// The views that electors on this peer's certificate want, the highest first.
    fn wishes(&self, now: u64) -> Vec<u32> {
        let (newest, _) = self.newest();
        let elector = |peer: &PeerKey| self.electors().binary_search(peer).is_ok();
        let others = self.presence.live(now).filter(|(peer, seen)| seen.view == newest && elector(peer));
        let mut wishes: Vec<u32> = others.map(|(_, seen)| seen.attempt).collect();
        if elector(&self.me) {
            wishes.push(self.wanted_view());
        }
        wishes.sort_unstable_by(|a, b| b.cmp(a));
        wishes
    }

    fn enter(&mut self, now: u64, view: u32) {
        if let Some(proposer) = self.proposer(now, self.view()).filter(|_| self.round.is_some()) {
            let (view, unsigned) = (self.view(), self.unsigned(self.view(), &proposer));
            self.event(Event::ViewVoid { view, proposer, unsigned });
        }
        self.agreement.voids = view.saturating_sub(self.newest().0).saturating_sub(1);
        if self.is_settling() {
            self.agreement.until_ms = now + self.agreement.view_ms;
        }
    }
}
