//! Addresses as people write them and as libp2p wants them.
//!
//! Only IP addresses with a TCP port are spoken here, with or without the peer's id behind them:
//! `/ip4/192.0.2.7/tcp/4001`, `/ip6/…/tcp/…/p2p/12D3Koo…`, or plainly `192.0.2.7:4001`.

use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// IP address and port.
    pub(super) socket: SocketAddr,
    /// The peer expected there.
    pub(super) peer: Option<PeerId>,
}

/// IP address and TCP port of an address as configs have them.
///
/// # Errors
/// What is wrong with it, then `; hint: ` and what to write.
pub fn socket(text: &str) -> Result<SocketAddr, String> {
    Address::parse(text).map(|address| address.socket)
}

impl Address {
    /// Reads either form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { socket, peer: None });
        }
        let multiaddr: Multiaddr = text.parse().map_err(|error| {
            format!(
                "{error}; hint: write /ip4/192.0.2.7/tcp/4001 or 192.0.2.7:4001, with a number for a name"
            )
        })?;
        Self::from_multiaddr(&multiaddr).ok_or_else(|| {
            "not an IP address with a TCP port; hint: write /ip4/192.0.2.7/tcp/4001".to_string()
        })
    }

    /// `None` where it is not of the kind spoken here.
    pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip: IpAddr = match parts.next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else { return None };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { socket: SocketAddr::new(ip, port), peer })
    }

    /// IP address and port alone.
    pub(super) fn multiaddr(&self) -> Multiaddr {
        Multiaddr::from(self.socket.ip()).with(Protocol::Tcp(self.socket.port()))
    }

    /// Whether somebody else can dial it: a definite address and port, not bound to one network card.
    pub(super) fn can_be_dialled(&self) -> bool {
        let card_only = matches!(self.socket.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        let ip = self.socket.ip();
        self.socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !card_only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_refused_with_advice() {
        let id = "12D3KooWGjRg5Ncbjs2hcTQkYGMkTQnW9KTgFBmpvyBo3qpnRVgE".parse::<PeerId>();
        let cases = [
            ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
            ("/ip4/10.0.0.1/tcp/0", "/ip4/10.0.0.1/tcp/0"),
            ("[::1]:7", "/ip6/::1/tcp/7"),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text).unwrap().multiaddr().to_string(), expected);
        }
        if let Ok(id) = id {
            let with_peer = Address::parse(&format!("/ip4/10.0.0.1/tcp/9/p2p/{id}")).unwrap();
            assert_eq!(with_peer.peer, Some(id));
        }
        for text in
            ["", "example.org:4001", "/dns4/example.org/tcp/1", "/ip4/1.2.3.4/udp/9/quic-v1", "/ip4/1.2.3.4"]
        {
            assert!(Address::parse(text).unwrap_err().contains("hint: write /ip4/"), "{text}");
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
        ] {
            assert_eq!(Address::parse(text).unwrap().can_be_dialled(), can, "{text}");
        }
    }
}
