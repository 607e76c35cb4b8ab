//! Opens the listening sockets and explains why one cannot be opened.

use std::io;
use std::net::{TcpListener, UdpSocket};

use libp2p::TransportError;

use super::NetError;
use super::address::Address;

/// Whether this machine could listen on an address as configs have them, now.
///
/// # Errors
/// [`NetError`]: no such address, or one that is taken or not this machine's.
pub fn can_listen(text: &str) -> Result<(), NetError> {
    let address = Address::parse(text).map_err(|why| NetError::Address { address: text.into(), why })?;
    probe(&address)
}

/// Fails where something listens on the address already. libp2p's sockets share ports, so that its own attempt
/// succeeds beside another process of the same user, and connections then go to either of the two. Other errors come
/// here in a clearer form too.
pub(super) fn probe(address: &Address) -> Result<(), NetError> {
    let Some(socket) = address.socket() else {
        let why = "names and ways through a relay point cannot be listened on; hint: give an IP address of this \
                   computer, or 0.0.0.0 for all of them";
        return Err(NetError::Address { address: address.multiaddr().to_string(), why: why.to_string() });
    };
    let bound =
        if address.quic { UdpSocket::bind(socket).map(drop) } else { TcpListener::bind(socket).map(drop) };
    bound.map_err(|error| failed(address, &error))
}

pub(super) fn refused(address: &Address, error: TransportError<io::Error>) -> NetError {
    match error {
        TransportError::Other(error) => failed(address, &error),
        TransportError::MultiaddrNotSupported(_) => {
            NetError::Address { address: address.multiaddr().to_string(), why: "not supported".to_string() }
        }
    }
}

pub(super) fn failed(address: &Address, error: &io::Error) -> NetError {
    let (why, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "address already in use".to_string(),
            "another program (another murmur?) listens there; choose another port, or port 0 for any free one",
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this computer has no such address".to_string(),
            "use 0.0.0.0 for every address of this computer",
        ),
        io::ErrorKind::PermissionDenied => ("permission denied".to_string(), "choose a port above 1023"),
        _ => (error.to_string(), "choose another address or port"),
    };
    NetError::Listen { address: address.multiaddr().to_string(), why, hint }
}

pub(super) fn timed_out(addresses: &[Address]) -> NetError {
    let address =
        addresses.iter().map(|address| address.multiaddr().to_string()).collect::<Vec<_>>().join(", ");
    NetError::Listen { address, why: "the system did not answer in time".to_string(), hint: "try again" }
}
