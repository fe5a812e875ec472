//! Addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Returns the address by which this machine would reach other networks. Nothing is sent.
pub(crate) fn local_address(v6: bool) -> Option<IpAddr> {
    let (any, remote): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// Addresses to which the sockets of a link are bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SocketAddresses {
    /// A wildcard covers every interface but loopback.
    pub(crate) bind: Vec<String>,
    /// Whether the sockets are on loopback alone, so that loopback candidates are used.
    pub(crate) loopback: bool,
}

impl SocketAddresses {
    /// Chooses the addresses of a call that stays on this machine, or may leave it. A machine without
    /// another address than loopback has calls with itself alone.
    pub(crate) fn choose(loopback: bool) -> Self {
        let [v4, v6] = [false, true].map(|v6| !loopback && local_address(v6).is_some());
        let any = [(v4, "0.0.0.0:0"), (v6, "[::]:0")];
        let bind: Vec<String> =
            any.into_iter().filter(|(is_there, _)| *is_there).map(|(_, any)| any.into()).collect();
        if bind.is_empty() {
            return Self { bind: vec!["127.0.0.1:0".to_owned()], loopback: true };
        }
        Self { bind, loopback: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_used_alone_or_not_at_all() {
        let alone = SocketAddresses { bind: vec!["127.0.0.1:0".to_owned()], loopback: true };
        assert_eq!(SocketAddresses::choose(true), alone);
        let chosen = SocketAddresses::choose(false);
        assert_eq!(chosen.loopback, chosen.bind == alone.bind);
    }
}
