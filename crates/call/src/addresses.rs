//! Addresses of this machine.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use rtc::shared::ifaces::ifaces;

/// Most addresses of this machine in an invite, so that a link stays short.
const MAX_PUBLISHED: usize = 4;
/// Names with which interfaces begin that lead to virtual machines and containers of this machine.
const VIRTUAL_INTERFACES: [&str; 9] =
    ["docker", "br-", "virbr", "veth", "vmnet", "vboxnet", "cni", "lxc", "vEthernet"];

/// An address of this machine and the interface that has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct InterfaceAddress {
    interface: String,
    ip: IpAddr,
    /// Number of the interface, for link-local addresses of IPv6; otherwise 0.
    scope: u32,
}

impl InterfaceAddress {
    fn is_link_local(&self) -> bool {
        is_link_local(self.ip)
    }

    fn is_virtual(&self) -> bool {
        VIRTUAL_INTERFACES.iter().any(|start| self.interface.starts_with(start))
    }
}

/// Returns the addresses of this machine other than loopback; none if the system does not tell.
pub(crate) fn interface_addresses() -> Vec<InterfaceAddress> {
    let interfaces = ifaces().unwrap_or_default().into_iter();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.addr?;
        let scope = match address {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        Some(InterfaceAddress { interface: interface.name, ip: address.ip(), scope })
    });
    addresses.filter(|address| !address.ip.is_loopback() && !address.ip.is_unspecified()).collect()
}

/// Returns the addresses at which other machines may reach a service that listens on `listen`, best
/// first and at most four; loopback if there are none.
pub(crate) fn published_addresses(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    let routed: Vec<IpAddr> = [false, true].into_iter().filter_map(routed_address).collect();
    // A wildcard of IPv6 covers both families.
    let is_covered = |address: &InterfaceAddress| listen.is_ipv6() || address.ip.is_ipv4();
    let candidates = interface_addresses().into_iter().filter(is_covered).collect();
    match publish(candidates, &routed) {
        published if published.is_empty() => vec![Ipv4Addr::LOCALHOST.into()],
        published => published,
    }
}

/// Chooses the addresses to publish: those of `routed` first, which lead to other networks, those of
/// virtual machines last, IPv4 before IPv6, and one of each family and interface. Link-local ones are of
/// use only where there is nothing else.
fn publish(mut candidates: Vec<InterfaceAddress>, routed: &[IpAddr]) -> Vec<IpAddr> {
    if candidates.iter().any(|address| !address.is_link_local()) {
        candidates.retain(|address| !address.is_link_local());
    }
    candidates.sort_by_key(|address| {
        let place = routed.iter().position(|ip| *ip == address.ip).unwrap_or(routed.len());
        (place, address.is_virtual(), address.ip.is_ipv6())
    });
    let mut seen = HashSet::new();
    candidates.retain(|address| seen.insert((address.interface.clone(), address.ip.is_ipv6())));
    candidates.into_iter().map(|address| address.ip).take(MAX_PUBLISHED).collect()
}

/// Returns the address by which this machine would reach other networks. Nothing is sent.
fn routed_address(v6: bool) -> Option<IpAddr> {
    let (any, remote): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(203, 0, 113, 1).into())
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns the numbers of the interfaces over which a link-local address of IPv6 may be reached: that
/// of `zone` (RFC 4007, section 11), a number or a name, if there is one here, otherwise all.
pub(crate) fn scopes(zone: Option<&str>) -> Vec<u32> {
    scopes_of(&interface_addresses(), zone)
}

fn scopes_of(addresses: &[InterfaceAddress], zone: Option<&str>) -> Vec<u32> {
    let is_zone = |address: &&InterfaceAddress| {
        zone.is_some_and(|zone| address.interface == zone || address.scope.to_string() == zone)
    };
    let scoped = || addresses.iter().filter(|address| address.scope != 0);
    let mut scopes: Vec<u32> = match scoped().find(is_zone) {
        Some(address) => vec![address.scope],
        None => scoped().map(|address| address.scope).collect(),
    };
    scopes.dedup();
    scopes
}

/// Whether an address is valid on one cable or radio network only (RFC 3927, RFC 4291).
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Addresses to which the sockets of a link are bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SocketAddresses {
    /// A wildcard covers every interface but loopback, without link-local addresses.
    pub(crate) bind: Vec<String>,
    /// Whether the sockets are on loopback alone, so that loopback candidates are used.
    pub(crate) loopback: bool,
    /// The address that the wildcard stands for, if this machine has a link-local address of IPv6 and
    /// nothing else. Its scope is that of all peers; WebRTC knows no scopes.
    pub(crate) link_local: Option<SocketAddrV6>,
}

impl SocketAddresses {
    /// Chooses the addresses of a call that stays on this machine, or may leave it. A machine without
    /// another address than loopback has calls with itself alone.
    pub(crate) fn choose(loopback: bool) -> Self {
        let addresses = if loopback { Vec::new() } else { interface_addresses() };
        Self::among(&addresses)
    }

    fn among(addresses: &[InterfaceAddress]) -> Self {
        let has = |v6: bool| {
            addresses.iter().any(|address| address.ip.is_ipv6() == v6 && !address.is_link_local())
        };
        let any = [(has(false), "0.0.0.0:0"), (has(true), "[::]:0")];
        let mut bind: Vec<String> =
            any.into_iter().filter(|(is_there, _)| *is_there).map(|(_, any)| any.into()).collect();
        if bind.is_empty() {
            let link_local = addresses.iter().filter(|address| address.ip.is_ipv4());
            bind.extend(link_local.map(|address| format!("{}:0", address.ip)));
        }
        if !bind.is_empty() {
            return Self { bind, loopback: false, link_local: None };
        }
        let link_local = addresses.iter().find_map(|address| match address.ip {
            IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, 0, 0, address.scope)),
            IpAddr::V4(_) => None,
        });
        let bind = if link_local.is_some() { "[::]:0" } else { "127.0.0.1:0" };
        Self { bind: vec![bind.to_owned()], loopback: link_local.is_none(), link_local }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(list: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        let address = |(number, (interface, ip)): (u32, &(&str, &str))| {
            let ip: IpAddr = ip.parse().unwrap();
            let scope = if ip.is_ipv6() && is_link_local(ip) { number } else { 0 };
            InterfaceAddress { interface: (*interface).to_owned(), ip, scope }
        };
        (1..).zip(list).map(address).collect()
    }

    #[test]
    fn an_invite_has_the_addresses_that_may_work_best_first() {
        for (list, routed, published) in [
            (&[("eth0", "10.0.0.2")][..], &["10.0.0.2"][..], &["10.0.0.2"][..]),
            // Without a default route.
            (&[("eth0", "10.0.0.2"), ("eth0", "fe80::1")], &[], &["10.0.0.2"]),
            (&[("eth0", "fe80::1"), ("eth0", "2001:db8::7")], &[], &["2001:db8::7"]),
            // A VPN has the default route, and the neighbor is in the home network.
            (
                &[("wlan0", "192.168.1.7"), ("tun0", "10.8.0.3"), ("wlan0", "fd00::7")],
                &["10.8.0.3"],
                &["10.8.0.3", "192.168.1.7", "fd00::7"],
            ),
            // Temporary addresses of IPv6, and containers.
            (
                &[
                    ("docker0", "172.17.0.1"),
                    ("eth0", "2001:db8::1"),
                    ("eth0", "2001:db8::2"),
                    ("eth0", "10.0.0.2"),
                ],
                &["10.0.0.2", "2001:db8::2"],
                &["10.0.0.2", "2001:db8::2", "172.17.0.1"],
            ),
            (
                &[
                    ("a", "10.0.0.1"),
                    ("b", "10.0.0.2"),
                    ("c", "10.0.0.3"),
                    ("d", "10.0.0.4"),
                    ("e", "10.0.0.5"),
                ],
                &["10.0.0.5"],
                &["10.0.0.5", "10.0.0.1", "10.0.0.2", "10.0.0.3"],
            ),
            // A cable between two machines.
            (&[("eth0", "fe80::1"), ("eth0", "169.254.7.7")], &[], &["169.254.7.7", "fe80::1"]),
            (&[], &[], &[]),
        ] {
            let parse = |texts: &[&str]| -> Vec<IpAddr> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            assert_eq!(publish(interfaces(list), &parse(routed)), parse(published), "{list:?}");
        }
    }

    #[test]
    fn a_service_on_one_address_publishes_that_one() {
        for address in ["10.0.0.2", "127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(published_addresses(address), [address]);
        }
        let published = published_addresses(Ipv4Addr::UNSPECIFIED.into());
        assert!(!published.is_empty() && published.iter().all(IpAddr::is_ipv4), "{published:?}");
    }

    #[test]
    fn links_use_every_family_that_has_an_address_and_loopback_only_without_one() {
        for (list, bind) in [
            (
                &[("eth0", "10.0.0.2"), ("eth0", "fd00::2"), ("eth0", "fe80::1")][..],
                &["0.0.0.0:0", "[::]:0"][..],
            ),
            (&[("eth0", "10.0.0.2"), ("eth0", "fe80::1")], &["0.0.0.0:0"]),
            (&[("eth0", "2001:db8::7"), ("eth0", "169.254.7.7")], &["[::]:0"]),
            (&[("eth0", "169.254.7.7"), ("eth0", "fe80::1")], &["169.254.7.7:0"]),
            (&[("eth0", "fe80::1"), ("wlan0", "fe80::2")], &["[::]:0"]),
            (&[], &["127.0.0.1:0"]),
        ] {
            let chosen = SocketAddresses::among(&interfaces(list));
            assert_eq!(chosen.bind, bind, "{list:?}");
            assert_eq!(chosen.loopback, list.is_empty(), "{list:?}");
            let is_link_local =
                list.iter().all(|(_, ip)| ip.starts_with("fe80")) && !list.is_empty();
            let expected = is_link_local.then(|| "[fe80::1%1]:0".parse().unwrap());
            assert_eq!(chosen.link_local, expected, "{list:?}");
        }
        assert!(SocketAddresses::choose(true).loopback);
    }

    #[test]
    fn a_zone_names_one_interface_and_an_unknown_one_means_all() {
        let list = interfaces(&[("eth0", "10.0.0.2"), ("eth0", "fe80::1"), ("wlan0", "fe80::2")]);
        for (zone, scopes) in
            [(Some("wlan0"), &[3][..]), (Some("2"), &[2]), (Some("en7"), &[2, 3]), (None, &[2, 3])]
        {
            assert_eq!(scopes_of(&list, zone), scopes, "{zone:?}");
        }
    }
}
