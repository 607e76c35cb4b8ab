//! Addresses as people write them and as libp2p wants them.
//!
//! An IP address or a name, then TCP or QUIC, then perhaps the peer's id, then perhaps the way on through a relay
//! point: `/ip4/192.0.2.7/tcp/4001`, `/dns/example.org/udp/4001/quic-v1/p2p/12D3Koo…`,
//! `/ip4/…/tcp/…/p2p/<relay point>/p2p-circuit/p2p/<peer>`, or plainly `192.0.2.7:4001` and `example.org:4001`.

use std::iter::Peekable;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// What to write where an address cannot be read.
const HINT: &str =
    "write /ip4/192.0.2.7/tcp/4001, /ip4/192.0.2.7/udp/4001/quic-v1, 192.0.2.7:4001 or example.org:4001";
/// Characters of a name, as in the domain name system.
const NAME_CHARS_MAX: usize = 253;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    /// TCP port, or UDP port of QUIC.
    pub(super) port: u16,
    /// QUIC rather than TCP.
    pub(super) quic: bool,
    /// The relay point that the way leads through.
    pub(super) relay: Option<PeerId>,
    /// The peer expected there.
    pub(super) peer: Option<PeerId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// `dns`, `dns4` or `dns6` with its name.
    Name(Protocol<'static>),
}

/// Where an address as configs have them leads: IP addresses and port, and whether it is QUIC's. A name is looked up.
///
/// # Errors
/// What is wrong with it, then `; hint: ` and what to write; or that the name is not known.
pub fn sockets(text: &str) -> Result<(Vec<SocketAddr>, bool), String> {
    let address = Address::parse(text)?;
    let found = match &address.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, address.port)],
        Host::Name(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            let found = (name.as_ref(), address.port).to_socket_addrs();
            let found = found.map_err(|error| format!("the name {name} is not found: {error}"))?;
            found.collect()
        }
        Host::Name(_) => Vec::new(),
    };
    Ok((found, address.quic))
}

impl Address {
    /// Reads any form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::tcp(Host::Ip(socket.ip()), socket.port()));
        }
        if let Some(address) = named(text) {
            return Ok(address);
        }
        let multiaddr: Multiaddr = text.parse().map_err(|error| format!("{error}; hint: {HINT}"))?;
        Self::from_multiaddr(&multiaddr)
            .ok_or_else(|| format!("not an address with a TCP or QUIC port; hint: {HINT}"))
    }

    fn tcp(host: Host, port: u16) -> Self {
        Self { host, port, quic: false, relay: None, peer: None }
    }

    /// `None` where it is not of the kind spoken here.
    pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter().peekable();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            name @ (Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => Host::Name(name.acquire()),
            _ => return None,
        };
        let (port, quic) = match parts.next()? {
            Protocol::Tcp(port) => (port, false),
            Protocol::Udp(port) => (parts.next()? == Protocol::QuicV1).then_some((port, true))?,
            _ => return None,
        };
        let (mut peer, mut relay) = (next_peer(&mut parts), None);
        if parts.next_if_eq(&Protocol::P2pCircuit).is_some() {
            relay = Some(peer?);
            peer = next_peer(&mut parts);
        }
        parts.next().is_none().then_some(Self { host, port, quic, relay, peer })
    }

    /// The address without the peer at its end.
    pub(super) fn multiaddr(&self) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(ip) => Multiaddr::from(*ip),
            Host::Name(name) => Multiaddr::empty().with(name.clone()),
        };
        let there = match self.quic {
            true => host.with(Protocol::Udp(self.port)).with(Protocol::QuicV1),
            false => host.with(Protocol::Tcp(self.port)),
        };
        match self.relay {
            Some(relay) => there.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit),
            None => there,
        }
    }

    /// The IP address; `None` for a name.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }

    /// IP address and port, where it can be listened on.
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        let ip = self.ip().filter(|_| self.relay.is_none());
        ip.map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Whether it leads to this computer itself.
    pub(super) fn is_loopback(&self) -> bool {
        self.relay.is_none() && self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether somebody else can dial it: a definite address and port, not bound to one network card.
    pub(super) fn can_be_dialled(&self) -> bool {
        let definite = self.ip().is_none_or(|ip| {
            let card_only = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            !ip.is_unspecified() && !ip.is_multicast() && !card_only
        });
        self.port != 0 && definite
    }
}

/// The peer's id, if the next part is one.
fn next_peer<'a>(parts: &mut Peekable<impl Iterator<Item = Protocol<'a>>>) -> Option<PeerId> {
    match parts.peek() {
        Some(&Protocol::P2p(peer)) => parts.next().map(|_| peer),
        _ => None,
    }
}

/// `example.org:4001`.
fn named(text: &str) -> Option<Address> {
    let (name, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let in_names = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '.';
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(in_names)
        && name.chars().any(|char| char.is_ascii_alphabetic());
    is_name.then(|| Address::tcp(Host::Name(Protocol::Dns(name.to_owned().into())), port))
}

/// Whether an IP address is one of the internet, as far as its form says.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

/// The IP address that an address begins with.
pub(super) fn first_ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether a connection goes through a relay point, by either of its addresses.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_others_are_refused_with_advice() {
        let id: PeerId = PeerId::random();
        let relayed = format!("/ip4/10.0.0.1/tcp/9/p2p/{id}/p2p-circuit");
        let cases = [
            ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
            ("/ip4/10.0.0.1/tcp/0", "/ip4/10.0.0.1/tcp/0"),
            ("[::1]:7", "/ip6/::1/tcp/7"),
            ("example.org:4001", "/dns/example.org/tcp/4001"),
            ("/dns4/example.org/tcp/1", "/dns4/example.org/tcp/1"),
            ("/ip4/1.2.3.4/udp/9/quic-v1", "/ip4/1.2.3.4/udp/9/quic-v1"),
            (&relayed, &relayed),
        ];
        for (text, expected) in cases {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.multiaddr().to_string(), expected);
            let peer = PeerId::random();
            let with_peer = Address::parse(&format!("{expected}/p2p/{peer}")).unwrap();
            assert_eq!((with_peer.peer, with_peer.multiaddr()), (Some(peer), address.multiaddr()));
            assert_eq!(is_relayed(&with_peer.multiaddr()), expected == relayed);
        }
        let refused = ["", ":4001", "example.org", "a b:1", "/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/9", "1.2.3:4"];
        for text in refused.into_iter().map(str::to_owned).chain([
            "/ip4/1.2.3.4/tcp/9/p2p-circuit".to_owned(),
            format!("/ip4/1.2.3.4/tcp/9/p2p/{id}/p2p-circuit/tcp/1"),
        ]) {
            assert!(Address::parse(&text).unwrap_err().contains("hint: write /ip4/"), "{text}");
        }
    }

    #[test]
    fn only_definite_addresses_are_dialled() {
        for (text, can) in [
            ("127.0.0.1:1", true),
            ("0.0.0.0:1", false),
            ("10.1.1.1:0", false),
            ("[fe80::1]:1", false),
            ("[2001:db8::1]:1", true),
            ("224.0.0.1:1", false),
            ("example.org:1", true),
            ("/ip4/0.0.0.0/udp/1/quic-v1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().can_be_dialled(), can, "{text}");
        }
        assert!(Address::parse("/ip6/::1/udp/1/quic-v1").unwrap().is_loopback());
    }

    #[test]
    fn names_are_looked_up() {
        let (found, quic) = sockets("localhost:7").unwrap();
        assert!(!quic && !found.is_empty() && found.iter().all(|socket| socket.ip().is_loopback()));
        assert!(sockets("no-such-name.invalid:7").unwrap_err().contains("not found"));
    }
}
