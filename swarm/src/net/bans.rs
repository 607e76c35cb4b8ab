//! Who is kept away, and until when.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::limits;

struct Ban {
    until: Instant,
    strikes: u32,
    lifted: bool,
}

/// Peers kept away for a while. A peer that was banned before is banned for longer.
#[derive(Default)]
pub(super) struct Bans(HashMap<PeerId, Ban>);

impl Bans {
    /// A peer of another swarm: a short while, always the same.
    pub(super) fn stranger(&mut self, peer: PeerId, now: Instant) -> Instant {
        let strikes = self.0.get(&peer).map_or(0, |ban| ban.strikes);
        self.insert(peer, now + limits::STRANGER_FOR, strikes)
    }

    /// A peer that sent too many invalid messages: six times as long each time.
    pub(super) fn offender(&mut self, peer: PeerId, now: Instant) -> Instant {
        let strikes = self.0.get(&peer).map_or(0, |ban| ban.strikes);
        let length = limits::BAN_FIRST.saturating_mul(6_u32.saturating_pow(strikes)).min(limits::BAN_MAX);
        self.insert(peer, now + length, strikes.saturating_add(1))
    }

    fn insert(&mut self, peer: PeerId, until: Instant, strikes: u32) -> Instant {
        self.0.insert(peer, Ban { until, strikes, lifted: false });
        until
    }

    /// A ban from before this process.
    pub(super) fn recall(&mut self, peer: PeerId, until: Instant, strikes: u32) {
        self.insert(peer, until, strikes);
    }

    /// Those who sent too many invalid messages, until when they are kept away, and how often they were.
    pub(super) fn offenders(&self) -> impl Iterator<Item = (PeerId, Instant, u32)> {
        self.0.iter().filter(|(_, ban)| ban.strikes > 0).map(|(peer, ban)| (*peer, ban.until, ban.strikes))
    }

    /// Peers whose ban ends now. Strikes are remembered for the longest ban after that.
    pub(super) fn lift(&mut self, now: Instant) -> Vec<PeerId> {
        let mut lifted = Vec::new();
        for (peer, ban) in &mut self.0 {
            if !ban.lifted && ban.until <= now {
                ban.lifted = true;
                lifted.push(*peer);
            }
        }
        let remembered = |ban: &Ban| if ban.strikes == 0 { Duration::ZERO } else { limits::BAN_MAX };
        self.0.retain(|_, ban| ban.until + remembered(ban) > now);
        while self.0.len() > limits::BANS_MAX {
            let Some(first) = self.0.iter().min_by_key(|(_, ban)| ban.until).map(|(peer, _)| *peer) else {
                break;
            };
            self.0.remove(&first);
            lifted.push(first);
        }
        lifted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_end_grow_and_stay_few() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let peer = PeerId::random();
        assert_eq!(bans.offender(peer, now), now + limits::BAN_FIRST);
        assert!(bans.lift(now).is_empty());
        assert_eq!(bans.lift(now + limits::BAN_FIRST), [peer]);
        assert!(bans.lift(now + limits::BAN_FIRST).is_empty(), "once");
        assert_eq!(bans.offender(peer, now), now + 6 * limits::BAN_FIRST);
        for _ in 0..20 {
            assert!(bans.offender(peer, now) <= now + limits::BAN_MAX);
        }
        for _ in 0..limits::BANS_MAX {
            bans.stranger(PeerId::random(), now);
        }
        assert_eq!(bans.lift(now).len(), 1);
        assert_eq!(bans.0.len(), limits::BANS_MAX);
        assert_eq!(bans.lift(now + limits::STRANGER_FOR).len(), limits::BANS_MAX - 1);
    }
}
