//! Attempts at several addresses of which the first that works is kept (RFC 8305).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use crate::addresses::{is_link_local, scopes};

/// Pause between the beginnings of two attempts (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Most addresses that are tried.
const MAX_ADDRESSES: usize = 16;

/// Begins one attempt after the other, the next one after 250 ms or as soon as one has failed, and
/// returns the first success. The other attempts are dropped.
///
/// # Errors
/// All errors, if no attempt succeeds.
pub(crate) async fn first_success<T, E>(
    attempts: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<T, Vec<E>> {
    let mut waiting = attempts.into_iter();
    let mut running = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        let has_more = match waiting.next() {
            Some(attempt) => {
                running.push(attempt);
                true
            }
            None => false,
        };
        let pause = async {
            if has_more {
                tokio::time::sleep(ATTEMPT_DELAY).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            result = running.next() => match result {
                Some(Ok(success)) => return Ok(success),
                Some(Err(error)) => errors.push(error),
                None => return Err(errors),
            },
            () = pause => {}
        }
    }
}

/// An address to try, and the `HOST:PORT` that it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
}

/// Looks the names of `hosts` up, all at once, and returns the addresses to try in order. Those of one
/// name alternate between the families. A name that is not found has none.
pub(crate) async fn resolve(hosts: &[String]) -> Vec<Target> {
    let of_hosts = join_all(hosts.iter().map(|host| async move {
        let addresses = if let Some(addresses) = literal(host) {
            addresses
        } else {
            let found = tokio::net::lookup_host(host).await;
            alternate(found.map(Iterator::collect).unwrap_or_default())
        };
        addresses.into_iter().map(|address| Target { host: host.clone(), address })
    }));
    let mut targets: Vec<Target> = Vec::new();
    for target in of_hosts.await.into_iter().flatten() {
        if targets.iter().all(|other| other.address != target.address) {
            targets.push(target);
        }
    }
    targets.truncate(MAX_ADDRESSES);
    targets
}

/// Returns the addresses of a host that is no name; `None` if it is one. A link-local address of IPv6
/// has one on each interface that it may be on.
fn literal(host: &str) -> Option<Vec<SocketAddr>> {
    let (name, port) = host.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let Some(name) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) else {
        return Some(vec![SocketAddr::new(name.parse().ok()?, port)]);
    };
    let (ip, zone) = match name.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (name, None),
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    if !is_link_local(IpAddr::V6(ip)) {
        return Some(vec![SocketAddr::new(ip.into(), port)]);
    }
    let scoped = |scope| SocketAddrV6::new(ip, port, 0, scope).into();
    Some(scopes(zone).into_iter().map(scoped).collect())
}

/// Sorts addresses so that the families alternate, beginning with that of the first (RFC 8305, section 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_first_v6);
    let n = first.len().max(second.len());
    (0..n).flat_map(|i| [first.get(i), second.get(i)]).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// An attempt that ends like this; `None` never ends.
    async fn attempt(begun: &AtomicUsize, result: Option<Result<u8, u8>>) -> Result<u8, u8> {
        begun.fetch_add(1, Ordering::Relaxed);
        match result {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    #[tokio::test]
    async fn the_first_success_wins_and_neither_failure_nor_silence_holds_it_up() {
        for (attempts, result, n_begun) in [
            (&[Some(Ok(1)), Some(Ok(2))][..], Ok(1), 1),
            (&[Some(Err(1)), Some(Ok(2)), Some(Ok(3))], Ok(2), 2),
            (&[None, Some(Ok(2)), None], Ok(2), 2),
            (&[None, Some(Err(2)), Some(Ok(3))], Ok(3), 3),
            (&[Some(Err(1)), Some(Err(2))], Err(vec![1, 2]), 2),
            (&[], Err(vec![]), 0),
        ] {
            let begun = AtomicUsize::new(0);
            let got = first_success(attempts.iter().map(|one| attempt(&begun, *one))).await;
            assert_eq!((got, begun.into_inner()), (result, n_begun), "{attempts:?}");
        }
    }

    #[tokio::test]
    async fn addresses_are_tried_in_the_order_of_the_link_and_once() {
        let hosts = ["10.0.0.2:4000", "[fd00::2]:4000", "10.0.0.2:4000", "no-port", "127.0.0.1:1"];
        let targets = resolve(&hosts.map(str::to_owned)).await;
        let addresses: Vec<String> =
            targets.iter().map(|target| target.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.2:4000", "[fd00::2]:4000", "127.0.0.1:1"]);
    }

    #[test]
    fn families_alternate() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"];
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"];
        assert_eq!(alternate(parse(&addresses)), parse(&expected));
    }
}
