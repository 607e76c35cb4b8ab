//! How much each peer may say in a while of what others keep little of but pass on.

use std::collections::BTreeMap;

use judge::PeerKey;

use crate::limits::{HEARTBEAT_MS, SHARE_BYTES, SHARE_MESSAGES};

/// What one peer has said within [`HEARTBEAT_MS`].
#[derive(Clone, Copy, Debug)]
struct Used {
    since_ms: u64,
    messages: usize,
    bytes: usize,
}

/// What peers have used of their shares. Callers ask for peers that may be in a roster only, so that it stays small.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<PeerKey, Used>);

impl Shares {
    /// Takes what a message costs. Returns whether its author had that much left.
    pub(super) fn take(&mut self, now: u64, peer: &PeerKey, bytes: usize) -> bool {
        self.0.retain(|_, used| now < used.since_ms + HEARTBEAT_MS);
        let used = self.0.entry(*peer).or_insert(Used { since_ms: now, messages: 0, bytes: 0 });
        used.messages += 1;
        used.bytes += bytes;
        used.messages <= SHARE_MESSAGES && used.bytes <= SHARE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_runs_out_by_messages_or_bytes_for_one_peer_and_for_a_while() {
        let mut shares = Shares::default();
        let mut taken =
            |peer, now, bytes| (0..1_000).filter(|_| shares.take(now, &PeerKey([peer; 32]), bytes)).count();
        assert_eq!(
            [taken(1, 0, 100), taken(2, 10, SHARE_BYTES / 4), taken(3, 20, SHARE_BYTES + 1)],
            [SHARE_MESSAGES, 4, 0]
        );
        assert_eq!(taken(1, HEARTBEAT_MS - 1, 1), 0);
        assert_eq!(taken(1, HEARTBEAT_MS, 1), SHARE_MESSAGES);
    }
}
