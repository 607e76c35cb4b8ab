//! Messages that are passed on a moment later, in a swarm so small that their authors send them to everybody.
//!
//! The neighbours have most messages from the author already and say so (gossipsub's `IDONTWANT`); passed on at once, each
//! message would cross what they say. What nobody said is there for those whom the author did not reach.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::event::MessageToken;
use super::{Network, Verdict, limits};

/// Accepted messages that wait to be passed on, oldest first.
#[derive(Debug, Default)]
pub(super) struct Forwards(VecDeque<(Instant, MessageToken)>);

impl Forwards {
    /// Lets a message wait; returns the oldest one if there are too many.
    fn push(&mut self, token: MessageToken, due: Instant) -> Option<MessageToken> {
        self.0.push_back((due, token));
        let full = self.0.len() > limits::FORWARDS_MAX;
        full.then(|| self.0.pop_front()).flatten().map(|(_, token)| token)
    }

    fn due(&mut self, now: Instant) -> Option<MessageToken> {
        self.0.pop_front_if(|(due, _)| *due <= now).map(|(_, token)| token)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|(due, _)| *due)
    }
}

impl Network {
    /// Passes an accepted message on: at once, unless its author sends it to everybody too and neighbours say whether
    /// they have it.
    pub(super) fn forward(&mut self, token: MessageToken, now: Instant) {
        let small = |peers| peers <= limits::FLOOD_PEERS_MAX;
        let told_to_all = small(self.config.peers_expected) && small(self.links.count());
        let now_or_never = match told_to_all && token.bytes >= limits::IDONTWANT_BYTES_MIN {
            true => self.forwards.push(token, now + self.neighbours_answer_within()),
            false => Some(token),
        };
        if let Some(token) = now_or_never {
            self.judge(&token, Verdict::Accept);
        }
    }

    fn neighbours_answer_within(&self) -> Duration {
        let rtt = self.links.longest_rtt().unwrap_or_default();
        (2 * rtt).clamp(limits::FORWARD_AFTER, limits::FORWARD_AFTER_MAX)
    }

    pub(super) fn forward_due(&mut self, now: Instant) {
        while let Some(token) = self.forwards.due(now) {
            self.judge(&token, Verdict::Accept);
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use libp2p::gossipsub::MessageId;

    use super::*;
    use crate::topic::Topic;

    #[test]
    fn messages_wait_their_time_in_order_and_too_many_go_at_once() {
        let token = |n: usize| MessageToken {
            id: MessageId::new(&n.to_le_bytes()),
            from: PeerId::random(),
            topic: Topic::Votes,
            bytes: 2000,
        };
        let name = |token: MessageToken| token.id.0[0];
        let (mut forwards, now) = (Forwards::default(), Instant::now());
        let due = now + limits::FORWARD_AFTER;
        assert!((0..limits::FORWARDS_MAX).all(|n| forwards.push(token(n), due).is_none()));
        assert_eq!(forwards.push(token(7), due).map(name), Some(0));
        assert_eq!(forwards.due(now).map(name), None);
        assert_eq!(forwards.next_due(), Some(due));
        assert_eq!([forwards.due(due), forwards.due(due)].map(|token| token.map(name)), [Some(1), Some(2)]);
    }
}
