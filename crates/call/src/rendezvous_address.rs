//! Address of a rendezvous service, as a user gives it.

use std::fmt;
use std::str::FromStr;

use url::Host;

/// Address of a rendezvous service: a name or an IP address, and a port.
///
/// ```
/// use call::RendezvousAddress;
/// let address: RendezvousAddress = "ws://Calls.Example:7300/".parse()?;
/// assert_eq!(address.to_string(), "calls.example:7300");
/// # Ok::<(), call::RendezvousAddressError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RendezvousAddress {
    /// Name in ASCII, IPv4 address, or IPv6 address in brackets.
    host: String,
    /// Zone of a link-local address of IPv6, which has a meaning on this machine only.
    zone: Option<String>,
    port: u16,
}

/// Why a text is not the address of a rendezvous service. The message tells the user what to write.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RendezvousAddressError {
    /// It has the scheme of another protocol, or of the encrypted one.
    #[error(
        "a rendezvous service cannot be reached by {scheme}://, only by ws:// (what passes is \
         encrypted anyway); write HOST:PORT, such as calls.example:7300"
    )]
    Scheme { scheme: String },
    /// It has no port, or one that is none.
    #[error(
        "the address {text} has no port from 1 to 65535; write HOST:PORT, such as calls.example:7300"
    )]
    Port { text: String },
    /// The host is no name and no address.
    #[error(
        "{host:?} is no name and no address of a machine; write HOST:PORT, such as \
         calls.example:7300 or [2001:db8::7]:7300"
    )]
    Host { host: String },
    /// Something follows the port.
    #[error("the service has no {path}; write HOST:PORT alone, such as calls.example:7300")]
    Path { path: String },
}

impl RendezvousAddress {
    /// Returns `HOST:PORT` for a connection from this machine.
    pub(crate) fn to_connect(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}]:{}", self.host.trim_end_matches(']'), self.port),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for RendezvousAddress {
    /// Writes `HOST:PORT`, as other machines use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for RendezvousAddress {
    type Err = RendezvousAddressError;

    /// Parses `HOST:PORT`, with or without `ws://` before it and a slash behind it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => rest,
            Some((scheme, _)) => {
                return Err(RendezvousAddressError::Scheme { scheme: scheme.to_owned() });
            }
            None => text,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(RendezvousAddressError::Path { path: path.to_owned() });
        }
        let no_port = || RendezvousAddressError::Port { text: text.to_owned() };
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address.
            Some((_, port)) if port.contains(']') => return Err(no_port()),
            Some(parts) => parts,
            None => return Err(no_port()),
        };
        let bad_host = || RendezvousAddressError::Host { host: host.to_owned() };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(no_port)?;
        let (address, zone) = match host.strip_suffix(']').and_then(|host| host.split_once('%')) {
            Some((address, zone)) => (format!("{address}]"), Some(zone)),
            None => (host.to_owned(), None),
        };
        let is_zone = |zone: &str| {
            !zone.is_empty()
                && zone.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
        };
        let zone = zone.map(|zone| zone.strip_prefix("25").unwrap_or(zone).to_owned());
        if zone.as_deref().is_some_and(|zone| !is_zone(zone)) {
            return Err(bad_host());
        }
        let host = Host::parse(&address).map_err(|_| bad_host())?;
        let is_ascii_name =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if matches!(&host, Host::Domain(name) if !is_ascii_name(name)) {
            return Err(bad_host());
        }
        Ok(Self { host: host.to_string(), zone, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_host_and_a_port() {
        for (text, expected) in [
            ("calls.example:7300", "calls.example:7300"),
            ("ws://calls.example:7300", "calls.example:7300"),
            ("WS://Calls.Example:7300/", "calls.example:7300"),
            (" my_pc.local:80 ", "my_pc.local:80"),
            ("10.0.0.2:7300", "10.0.0.2:7300"),
            ("[2001:DB8::7]:7300", "[2001:db8::7]:7300"),
            ("münchen.example:7300", "xn--mnchen-3ya.example:7300"),
        ] {
            let address: RendezvousAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(address.to_connect(), expected);
        }
        for text in ["[fe80::1%eth0]:7300", "ws://[fe80::1%25eth0]:7300"] {
            let address: RendezvousAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), "[fe80::1]:7300", "a zone means nothing elsewhere");
            assert_eq!(address.to_connect(), "[fe80::1%eth0]:7300");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for (text, says) in [
            ("wss://calls.example:7300", "wss://"),
            ("https://calls.example", "https://"),
            ("feathercall://calls.example:7300/x#y", "feathercall://"),
            ("calls.example", "no port"),
            ("calls.example:", "no port"),
            ("calls.example:http", "no port"),
            ("calls.example:0", "no port"),
            ("calls.example:65536", "no port"),
            ("[2001:db8::7]", "no port"),
            ("", "no port"),
            (":7300", "\"\""),
            ("2001:db8::7:7300", "2001:db8::7"),
            ("calls example:7300", "calls example"),
            ("user@calls.example:7300", "user@"),
            ("[fe80::1%]:7300", "fe80::1%"),
            ("calls.example:7300/room", "/room"),
            ("calls.example:7300?x=1", "?x=1"),
        ] {
            let error = text.parse::<RendezvousAddress>().expect_err(text).to_string();
            assert!(error.contains(says) && error.contains("HOST:PORT"), "{text}: {error}");
        }
    }
}
