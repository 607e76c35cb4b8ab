//! Whom to dial, when, and at which addresses.
//!
//! Configured addresses are tried for ever, learned ones a few times. Pauses double up to half a minute and are
//! spread a little, so that a swarm does not fall upon a returning peer at one instant. Of two peers that learned of
//! each other the one with the smaller key dials and the other waits a moment, which avoids most double connections.

use std::net::IpAddr;
use std::time::Duration;

use judge::PeerKey;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::address::{Address, first_ip, is_public, is_relayed};
use super::key::peer_key;
use super::{caps, limits};

/// A peer to be connected with.
#[derive(Debug)]
pub(super) struct Target {
    /// Who must be there. An address configured without a name may lead to anybody, and to somebody else later.
    pub(super) expected: Option<PeerId>,
    /// Who was there last.
    pub(super) peer: Option<PeerId>,
    /// Where it is said to be.
    pub(super) addresses: Vec<Multiaddr>,
    /// From the configuration.
    pub(super) configured: bool,
    /// Somebody of this swarm was there.
    met: bool,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(Instant),
    Dialling(ConnectionId),
    Connected,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Targets {
    own: PeerKey,
    targets: Vec<Target>,
}

impl Target {
    /// What to try now. Of several addresses dialled together the first that answers ends the attempt, even if
    /// somebody else answers there; so every other attempt is at one address alone, in turn.
    pub(super) fn to_dial(&self) -> Vec<Multiaddr> {
        let turn = (self.failures / 2) as usize % self.addresses.len().max(1);
        match self.addresses.get(turn) {
            Some(address) if self.failures % 2 == 1 => vec![address.clone()],
            _ => self.addresses.clone(),
        }
    }

    /// Those of its addresses that lead there without a relay point.
    pub(super) fn direct(&self) -> Vec<Multiaddr> {
        self.addresses.iter().filter(|address| !is_relayed(address)).cloned().collect()
    }

    /// The range of public addresses that it belongs to.
    fn range(&self) -> Option<IpAddr> {
        let ip = self.addresses.iter().filter(|address| !is_relayed(address)).find_map(first_ip)?;
        is_public(ip).then(|| caps::range(ip))
    }
}

impl Targets {
    pub(super) fn new(own: PeerKey, configured: &[Address], now: Instant) -> Self {
        let targets = configured
            .iter()
            .map(|address| Target {
                expected: address.peer,
                peer: address.peer,
                addresses: vec![address.multiaddr()],
                configured: true,
                met: false,
                failures: 0,
                state: State::Due(now),
            })
            .collect();
        Self { own, targets }
    }

    /// Remembers where a peer says it is. Returns how many addresses were not kept.
    pub(super) fn learn(
        &mut self,
        peer: PeerId,
        addresses: &[Address],
        connected: bool,
        now: Instant,
    ) -> u64 {
        let usable: Vec<&Address> = addresses
            .iter()
            .filter(|address| {
                address.can_be_dialled() && address.peer.is_none_or(|expected| expected == peer)
            })
            .collect();
        // Loopback leads to this computer, where another peer may listen on that port. It is of use only to peers
        // that have nothing else.
        let elsewhere = usable.iter().any(|address| !address.is_loopback());
        let mut lost = (addresses.len() - usable.len()) as u64;
        let mut kept: Vec<Multiaddr> = Vec::new();
        for address in usable.iter().filter(|address| !(elsewhere && address.is_loopback())) {
            let address = address.multiaddr();
            match kept.contains(&address) {
                true => {}
                false if kept.len() >= limits::ADDRESSES_MAX => lost += 1,
                false => kept.push(address),
            }
        }
        if kept.is_empty() {
            return lost;
        }
        // A configured address stays as it is: people wrote it, and it may be the only one that leads there.
        if let Some(known) =
            self.targets.iter_mut().find(|target| !target.configured && target.peer == Some(peer))
        {
            known.addresses = kept;
            return lost;
        }
        if self.targets.len() >= limits::TARGETS_MAX && !self.forget_one() {
            return lost + kept.len() as u64;
        }
        // Whoever is at a configured address says so when that is dialled, which happens anyway.
        let dialled_nameless = |target: &Target| {
            target.configured
                && target.peer.is_none()
                && target.addresses.iter().any(|address| kept.contains(address))
        };
        let grace = match self.targets.iter().any(dialled_nameless) {
            true => limits::DIAL_GRACE,
            false => self.grace(&peer),
        };
        let state = if connected { State::Connected } else { State::Due(now + grace) };
        let peer = Some(peer);
        let target = Target {
            expected: peer,
            peer,
            addresses: kept,
            configured: false,
            met: false,
            failures: 0,
            state,
        };
        self.targets.push(target);
        lost
    }

    fn forget_one(&mut self) -> bool {
        let idle = |target: &Target| !target.configured && matches!(target.state, State::Due(_));
        let found = self.targets.iter().position(idle);
        found.map(|index| self.targets.swap_remove(index)).is_some()
    }

    fn grace(&self, peer: &PeerId) -> Duration {
        let first = peer_key(peer).is_none_or(|peer| self.own < peer);
        if first { Duration::ZERO } else { limits::DIAL_GRACE }
    }

    /// Learned addresses of a peer are dropped; configured ones stay.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.targets.retain(|target| target.configured || target.peer != Some(*peer));
    }

    /// The next one to dial now, by its index: the one that has waited longest.
    pub(super) fn due(&self, now: Instant) -> Option<(usize, &Target)> {
        let due = self.targets.iter().enumerate().filter_map(|(index, target)| match target.state {
            State::Due(at) if at <= now => Some((at, index, target)),
            _ => None,
        });
        due.min_by_key(|(at, index, _)| (*at, *index)).map(|(_, index, target)| (index, target))
    }

    /// When the next one is to be dialled.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.targets.iter().filter_map(|target| match target.state {
            State::Due(at) => Some(at),
            _ => None,
        });
        due.min()
    }

    /// A dial was started.
    pub(super) fn dialling(&mut self, index: usize, connection: ConnectionId) {
        if let Some(target) = self.targets.get_mut(index) {
            target.state = State::Dialling(connection);
        }
    }

    /// The peer last met by a target is here already: nothing to dial.
    pub(super) fn already_connected(&mut self, index: usize) {
        if let Some(target) = self.targets.get_mut(index) {
            target.state = State::Connected;
        }
    }

    /// There are connections enough, or enough with peers of the same network: this one waits.
    pub(super) fn wait(&mut self, index: usize, until: Instant) {
        if let Some(target) = self.targets.get_mut(index) {
            target.state = State::Due(until);
        }
    }

    /// Whether this peer has opened connections enough into the network of a learned target.
    pub(super) fn crowded(&self, index: usize) -> bool {
        let Some(range) = self.targets.get(index).and_then(Target::range) else { return false };
        let there = |target: &&Target| {
            !target.configured && !matches!(target.state, State::Due(_)) && target.range() == Some(range)
        };
        self.targets.iter().filter(there).count() >= limits::OUTBOUND_PER_RANGE_MAX
    }

    /// A peer is here through a relay point only: its own addresses are tried in a while.
    pub(super) fn try_direct(&mut self, peer: &PeerId, now: Instant) {
        let of_peer = |target: &&mut Target| target.peer == Some(*peer) && !target.direct().is_empty();
        for target in self.targets.iter_mut().filter(of_peer) {
            target.state = State::Due(now + limits::DIRECT_AFTER);
        }
    }

    /// The configured address at which a peer is.
    pub(super) fn configured(&self, peer: &PeerId) -> Option<Multiaddr> {
        let target = self.targets.iter().find(|target| target.configured && target.peer == Some(*peer))?;
        target.addresses.first().cloned()
    }

    /// Peers of this swarm that were met at learned addresses.
    pub(super) fn met(&self) -> impl Iterator<Item = (PeerId, &[Multiaddr])> {
        let met = self.targets.iter().filter(|target| target.met && !target.configured);
        met.filter_map(|target| Some((target.peer?, &target.addresses[..])))
    }

    /// A connection stands; by `connection` a target without a name learns it.
    pub(super) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        for target in &mut self.targets {
            if target.state == State::Dialling(connection) {
                target.peer = Some(peer);
            }
            if target.peer == Some(peer) {
                target.state = State::Connected;
            }
        }
    }

    /// The peer proved to be of this swarm: the next dial, if one is needed, need not wait long.
    pub(super) fn proved(&mut self, peer: &PeerId) {
        self.targets.iter_mut().filter(|target| target.peer == Some(*peer)).for_each(|target| {
            target.failures = 0;
            target.met = true;
        });
    }

    /// No connection to the peer is left.
    pub(super) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        let of_peer = |target: &&mut Target| target.peer == Some(*peer);
        let configured = self.targets.iter().any(|target| target.configured && target.peer == Some(*peer));
        // The configured address first; what it was learned to be besides only if that does not help.
        let learned = if configured { limits::DIAL_GRACE } else { self.grace(peer) };
        for target in self.targets.iter_mut().filter(of_peer) {
            let grace = if target.configured { Duration::ZERO } else { learned };
            target.failures = target.failures.saturating_add(1);
            target.state = State::Due(now + pause(target.failures) + grace);
        }
    }

    /// The peer is kept away: it is not dialled before this.
    pub(super) fn postpone(&mut self, peer: &PeerId, until: Instant) {
        for target in self.targets.iter_mut().filter(|target| target.peer == Some(*peer)) {
            target.state = State::Due(until);
        }
    }

    /// A dial failed. Returns the address and the number of failures in a row where the target is configured.
    /// `alone`: nobody is connected, so that the fault may be here.
    pub(super) fn failed(
        &mut self,
        connection: ConnectionId,
        alone: bool,
        now: Instant,
    ) -> Option<(String, u32)> {
        let index = self.targets.iter().position(|target| target.state == State::Dialling(connection))?;
        let target = self.targets.get_mut(index)?;
        target.failures = target.failures.saturating_add(1);
        target.state = State::Due(now + pause(target.failures));
        let told = target.configured.then(|| {
            (target.addresses.first().map(Multiaddr::to_string).unwrap_or_default(), target.failures)
        });
        if !target.configured && !alone && target.failures >= limits::REDIALS_MAX {
            self.targets.swap_remove(index);
        }
        told
    }

    /// The peer is being dialled already: this target looks again in a while.
    pub(super) fn dialled_elsewhere(&mut self, connection: ConnectionId, now: Instant) {
        for target in &mut self.targets {
            if target.state == State::Dialling(connection) {
                target.state = State::Due(now + limits::DIAL_GRACE);
            }
        }
    }

    /// An address leads to ourselves: where people configured it, it is dropped for good.
    pub(super) fn own_address(&mut self, connection: ConnectionId, alone: bool, now: Instant) {
        let before = self.targets.len();
        self.targets.retain(|target| !target.configured || target.state != State::Dialling(connection));
        if self.targets.len() == before {
            self.failed(connection, alone, now);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }
}

/// The pause after so many failures, spread by a quarter to both sides.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = limits::REDIAL_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause = doubled.min(limits::REDIAL_MAX);
    // Without randomness there is no spread, which is merely less polite.
    let spread = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.75 + 0.5 * f64::from(spread) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::net::key::peer_id;

    fn someone(seed: u8) -> PeerId {
        peer_id(&Identity::from_seed([seed; 32]).public()).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        for (failures, expected) in [(1, 250), (2, 500), (5, 4000), (8, 30_000), (4_000_000_000, 30_000)] {
            let pause = pause(failures).as_millis() as f64;
            let expected = f64::from(expected);
            assert!((0.74 * expected..=1.26 * expected).contains(&pause), "{failures}: {pause}");
        }
    }

    #[test]
    fn a_configured_target_is_tried_for_ever_and_a_learned_one_is_given_up() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[address("127.0.0.1:1")], now);
        targets.learn(someone(1), &[address("127.0.0.1:2")], false, now);
        let (mut now, mut dials) = (now, [0; 2]);
        for n in 0..100 {
            now = targets.next_due().unwrap().max(now);
            let (index, target) = targets.due(now).unwrap();
            dials[usize::from(target.configured)] += 1;
            let connection = ConnectionId::new_unchecked(n);
            targets.dialling(index, connection);
            targets.failed(connection, false, now);
        }
        assert_eq!(dials, [limits::REDIALS_MAX, 100 - limits::REDIALS_MAX]);
    }

    #[test]
    fn who_is_alone_gives_nobody_up_and_one_network_does_not_get_all() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[], now);
        for n in 1..=limits::OUTBOUND_PER_RANGE_MAX as u8 + 1 {
            targets.learn(someone(n), &[address(&format!("8.8.8.{n}:1"))], false, now);
        }
        targets.learn(someone(100), &[address("8.8.9.1:1")], false, now);
        targets.learn(someone(101), &[address("10.8.8.1:1")], false, now);
        let mut later = now;
        for n in 0..3 * limits::REDIALS_MAX {
            later = targets.next_due().unwrap().max(later);
            let (index, _) = targets.due(later).unwrap();
            let connection = ConnectionId::new_unchecked(n as usize);
            targets.dialling(index, connection);
            targets.failed(connection, true, later);
        }
        assert_eq!(targets.len(), limits::OUTBOUND_PER_RANGE_MAX + 3);
        for index in 0..limits::OUTBOUND_PER_RANGE_MAX {
            assert!(!targets.crowded(index), "{index}");
            targets.already_connected(index);
        }
        let crowded: Vec<bool> = (0..targets.len()).map(|index| targets.crowded(index)).collect();
        assert_eq!(crowded[limits::OUTBOUND_PER_RANGE_MAX..], [true, false, false]);
    }

    #[test]
    fn the_smaller_key_dials_and_addresses_are_bounded() {
        let now = Instant::now();
        let [mut small, mut large] = [[0; 32], [255; 32]].map(|key| Targets::new(PeerKey(key), &[], now));
        let many: Vec<Address> = (1..100).map(|port| address(&format!("10.0.0.1:{port}"))).collect();
        assert_eq!(small.learn(someone(1), &many, false, now), 99 - limits::ADDRESSES_MAX as u64);
        large.learn(someone(1), &many, false, now);
        assert!(small.due(now).is_some() && large.due(now).is_none());
        assert!(large.due(now + limits::DIAL_GRACE).is_some());
        assert_eq!(small.learn(someone(2), &[address("0.0.0.0:1"), address("10.0.0.1:0")], false, now), 2);
        assert_eq!(small.len(), 1, "a peer without a usable address is none to dial");
    }

    #[test]
    fn loopback_counts_only_where_there_is_nothing_else_and_addresses_take_turns() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[], now);
        let dials = |targets: &mut Targets, number| {
            let (index, target) = targets.due(now + Duration::from_secs(100)).unwrap();
            let dialled: Vec<String> = target.to_dial().iter().map(Multiaddr::to_string).collect();
            targets.dialling(index, ConnectionId::new_unchecked(number));
            targets.failed(ConnectionId::new_unchecked(number), false, now);
            dialled.join(" ")
        };
        let both = [address("127.0.0.1:1"), address("10.0.0.1:1"), address("10.0.0.2:1")];
        assert_eq!(targets.learn(someone(1), &both, false, now), 0, "and that is no loss");
        let (a, b) = ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1");
        let all = format!("{a} {b}");
        for (number, expected) in [&all, a, &all, b, &all, a].into_iter().enumerate() {
            assert_eq!(dials(&mut targets, number), expected);
        }
        targets.learn(someone(1), &both[..1], false, now);
        assert_eq!(dials(&mut targets, 9), "/ip4/127.0.0.1/tcp/1");
    }

    #[test]
    fn telling_the_same_again_changes_nothing_and_strangers_do_not_fill_the_memory() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[address("127.0.0.1:1")], now);
        for _ in 0..3 {
            targets.learn(someone(1), &[address("127.0.0.1:2")], false, now);
        }
        assert_eq!(targets.len(), 2);
        for n in 0..2000_u32 {
            let mut seed = [9; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            let peer = peer_id(&Identity::from_seed(seed).public()).unwrap();
            targets.learn(peer, &[address("127.0.0.1:2")], false, now);
        }
        assert_eq!(targets.len(), limits::TARGETS_MAX);
        assert!(targets.targets.iter().any(|target| target.configured), "what people wrote stays");
    }

    #[test]
    fn who_is_known_to_be_at_a_configured_address_is_dialled_there_once() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[address("127.0.0.1:1")], now);
        targets.learn(someone(1), &[address("127.0.0.1:1")], false, now);
        targets.learn(someone(2), &[address("127.0.0.1:2")], false, now);
        let mut dialled = 0;
        while let Some((index, target)) = targets.due(now) {
            let (connection, at) = (ConnectionId::new_unchecked(dialled), target.to_dial());
            assert!(at == [address(["127.0.0.1:1", "127.0.0.1:2"][dialled]).multiaddr()]);
            targets.dialling(index, connection);
            dialled += 1;
        }
        assert_eq!(dialled, 2);
        targets.connected(ConnectionId::new_unchecked(0), someone(1));
        assert!(targets.due(now + 2 * limits::DIAL_GRACE).is_none());
    }

    #[test]
    fn a_nameless_target_learns_its_name_and_is_redialled_when_lost() {
        let now = Instant::now();
        let mut targets = Targets::new(PeerKey([0; 32]), &[address("127.0.0.1:1")], now);
        let connection = ConnectionId::new_unchecked(7);
        targets.dialling(0, connection);
        assert!(targets.next_due().is_none());
        targets.connected(connection, someone(1));
        targets.disconnected(&someone(1), now);
        let due = targets.next_due().unwrap();
        assert!(due > now && due < now + Duration::from_millis(400));
        assert_eq!(targets.due(due).unwrap().1.peer, Some(someone(1)));
    }
}
