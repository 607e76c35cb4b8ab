//! Being reached from outside: relay points, and what they are asked for. No IO.
//!
//! A relay point is no peer of any swarm. Whoever is connected with one holds a reservation there, so that others reach
//! it through the relay point; says there that it is in this swarm, so that others learn of it; and asks who else is.

use std::collections::HashMap;

use libp2p::core::transport::ListenerId;
use libp2p::rendezvous::Namespace;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::{limits, targets};

/// What identify says about a relay point.
pub(super) const RELAY_PROTOCOL: &str = "murmur-relay/1";

/// A relay point that this peer is connected with.
struct Point {
    /// How it was reached.
    address: Multiaddr,
    reservation: Reservation,
    failures: u32,
    /// When it is told and asked next.
    rendezvous_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reservation {
    Due(Instant),
    Asked(ListenerId),
    Held(ListenerId),
}

/// What to do at a relay point.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Reserve at the relay point with this address.
    Reserve(PeerId, Multiaddr),
    /// Say that this peer is there, and ask who else is.
    Rendezvous(PeerId),
}

/// The relay points at hand.
pub(super) struct Reach {
    points: HashMap<PeerId, Point>,
    /// Under which name a relay point knows this swarm.
    pub(super) namespace: Namespace,
}

impl Reach {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { points: HashMap::new(), namespace }
    }

    /// A relay point is connected. Returns whether that is new.
    pub(super) fn met(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> bool {
        if self.points.contains_key(&peer) || self.points.len() >= limits::RELAY_POINTS_MAX {
            return false;
        }
        let reservation = Reservation::Due(now);
        self.points.insert(peer, Point { address, reservation, failures: 0, rendezvous_at: now });
        true
    }

    /// The connection with a relay point is gone, and with it what it held.
    pub(super) fn lost(&mut self, peer: &PeerId) {
        self.points.remove(peer);
    }

    /// What is to be done now. A relay point is told of this peer once others can reach it there; asking goes on
    /// meanwhile.
    pub(super) fn due(&mut self, now: Instant) -> Option<Errand> {
        for (peer, point) in &mut self.points {
            if matches!(point.reservation, Reservation::Due(at) if at <= now) {
                // Until the caller says under which name it asked.
                point.reservation = Reservation::Due(now + limits::RENDEZVOUS_EVERY);
                return Some(Errand::Reserve(*peer, point.address.clone()));
            }
            if point.rendezvous_at <= now {
                point.rendezvous_at = now + limits::RENDEZVOUS_EVERY;
                return Some(Errand::Rendezvous(*peer));
            }
        }
        None
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.points.values().flat_map(|point| match point.reservation {
            Reservation::Due(at) => [Some(at), Some(point.rendezvous_at)],
            _ => [None, Some(point.rendezvous_at)],
        });
        due.flatten().min()
    }

    /// A reservation was asked for.
    pub(super) fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(point) = self.points.get_mut(peer) {
            point.reservation = Reservation::Asked(listener);
        }
    }

    /// The reservation stands: now others can be told of it.
    pub(super) fn reserved(&mut self, peer: &PeerId, now: Instant) {
        if let Some(point) = self.points.get_mut(peer)
            && let Reservation::Asked(listener) = point.reservation
        {
            point.reservation = Reservation::Held(listener);
            point.failures = 0;
            point.rendezvous_at = now;
        }
    }

    /// A reservation ended or was refused; it is asked for again after a pause that grows. Returns the relay point.
    pub(super) fn ended(&mut self, listener: ListenerId, now: Instant) -> Option<PeerId> {
        let holds = |point: &Point| matches!(point.reservation, Reservation::Asked(id) | Reservation::Held(id) if id == listener);
        let (peer, point) = self.points.iter_mut().find(|(_, point)| holds(point))?;
        try_again(point, now);
        Some(*peer)
    }

    /// The reservation could not even be asked for.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(point) = self.points.get_mut(peer) {
            try_again(point, now);
        }
    }

    /// The relay points, in no order.
    pub(super) fn points(&self) -> impl Iterator<Item = &PeerId> {
        self.points.keys()
    }
}

fn try_again(point: &mut Point, now: Instant) {
    point.failures = point.failures.saturating_add(1);
    point.reservation = Reservation::Due(now + targets::pause(point.failures));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_point_is_asked_for_a_place_again_and_again_and_told_once_it_gave_one() {
        let mut reach = Reach::new(Namespace::from_static("swarm"));
        let (peer, mut now) = (PeerId::random(), Instant::now());
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        assert!(reach.met(peer, address.clone(), now) && !reach.met(peer, address.clone(), now));
        for _ in 0..3 {
            assert_eq!(reach.due(now), Some(Errand::Reserve(peer, address.clone())));
            let listener = ListenerId::next();
            reach.asked(&peer, listener);
            while reach.due(now) == Some(Errand::Rendezvous(peer)) {}
            assert_eq!(reach.ended(listener, now), Some(peer));
            assert_eq!(reach.ended(listener, now), None);
            let due = reach.next_due().unwrap();
            assert!(due > now);
            now = due;
        }
        assert_eq!(reach.due(now), Some(Errand::Reserve(peer, address.clone())));
        let listener = ListenerId::next();
        reach.asked(&peer, listener);
        reach.reserved(&peer, now);
        assert_eq!(reach.due(now), Some(Errand::Rendezvous(peer)), "now there is something to tell");
        assert_eq!(reach.due(now), None);
        assert_eq!(reach.next_due(), Some(now + limits::RENDEZVOUS_EVERY));
        reach.lost(&peer);
        assert_eq!(reach.next_due(), None);
    }

    #[test]
    fn few_relay_points_are_used() {
        let mut reach = Reach::new(Namespace::from_static("swarm"));
        let met = |_| reach.met(PeerId::random(), Multiaddr::empty(), Instant::now());
        assert_eq!((0..10).map(met).filter(|new| *new).count(), limits::RELAY_POINTS_MAX);
    }
}
