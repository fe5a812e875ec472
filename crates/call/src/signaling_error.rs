//! Why a rendezvous service cannot be used, in words for people.

use std::io::{self, ErrorKind};

use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::http::StatusCode;

/// Why a rendezvous service cannot be used. Each address is `HOST:PORT`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// The name of the machine is not found.
    #[error(
        "no machine is found under the name in {0}; check the spelling, and whether this machine is \
         online"
    )]
    NameNotFound(String),
    /// This machine has no network in which the service could be.
    #[error(
        "there is no way from this network to {0}; both sides need one network, or a rendezvous \
         service that both can reach (call --rendezvous HOST:PORT)"
    )]
    NoRoute(String),
    /// The machine is there, and nothing listens.
    #[error(
        "nothing listens at {0}: the other side has hung up, is in a call already or is in another \
         network, or the rendezvous service is not running"
    )]
    NotListening(String),
    /// It did not answer in time.
    #[error(
        "nothing answers at {0}: a firewall or another network may be in between; a rendezvous \
         service that both sides can reach helps (call --rendezvous HOST:PORT)"
    )]
    Timeout(String),
    /// Something else answers there.
    #[error("what answers at {0} is no rendezvous service; is the address right?")]
    NotAService(String),
    /// It does not know the path of this version.
    #[error(
        "the service at {0} is no rendezvous service of this version; update Feathercall there or here"
    )]
    OtherVersion(String),
    /// It serves other calls only.
    #[error("the call of this invite is over, and {0} has another one; ask for a new link")]
    AnotherCall(String),
    /// It has too many connections, from this address or in all.
    #[error("the rendezvous service at {0} has too many connections; try again in a minute")]
    Busy(String),
    /// The connection broke.
    #[error("the connection to the rendezvous service at {host} broke: {reason}")]
    Broken {
        /// Address of the service.
        host: String,
        /// Error of the operating system.
        #[source]
        reason: io::Error,
    },
}

impl SignalingError {
    /// Returns what an error of a WebSocket to `host` means.
    pub(crate) fn of(host: String, error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => match response.status() {
                StatusCode::GONE => Self::AnotherCall(host),
                StatusCode::NOT_FOUND | StatusCode::UPGRADE_REQUIRED => Self::OtherVersion(host),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Self::Busy(host),
                _ => Self::NotAService(host),
            },
            tungstenite::Error::Io(reason) => Self::of_io(host, reason),
            _ => Self::NotAService(host),
        }
    }

    fn of_io(host: String, reason: io::Error) -> Self {
        match reason.kind() {
            ErrorKind::ConnectionRefused => Self::NotListening(host),
            ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput => Self::NoRoute(host),
            ErrorKind::TimedOut => Self::Timeout(host),
            ErrorKind::UnexpectedEof => Self::NotAService(host),
            _ => Self::Broken { host, reason },
        }
    }

    /// Returns the error of all attempts at `hosts`: that of the address that came closest. If no
    /// machine has answered, it names all of them.
    pub(crate) fn most_telling(hosts: &[String], errors: Vec<Self>) -> Self {
        let all = || hosts.join(", ");
        // A link-local address has no way to it on a machine without IPv6.
        let is_name = |host: &String| !host.starts_with('[');
        match errors.into_iter().max_by_key(Self::closeness) {
            None if hosts.iter().any(is_name) => Self::NameNotFound(all()),
            None | Some(Self::NoRoute(_)) => Self::NoRoute(all()),
            Some(Self::Timeout(_)) => Self::Timeout(all()),
            Some(Self::NotListening(_)) => Self::NotListening(all()),
            Some(error) => error,
        }
    }

    fn closeness(&self) -> u8 {
        match self {
            Self::NameNotFound(_) => 0,
            Self::NoRoute(_) => 1,
            Self::Timeout(_) => 2,
            Self::NotListening(_) => 3,
            Self::Broken { .. } => 4,
            Self::NotAService(_) => 5,
            Self::OtherVersion(_) => 6,
            Self::AnotherCall(_) => 7,
            Self::Busy(_) => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_that_came_closest_is_told_in_plain_words() {
        let hosts = ["a:1".to_owned(), "b:2".to_owned()];
        let io = |kind: ErrorKind| tungstenite::Error::Io(kind.into());
        let (refused, unreachable) = (ErrorKind::ConnectionRefused, ErrorKind::NetworkUnreachable);
        for (errors, says) in [
            (vec![], "no machine is found under the name in a:1, b:2"),
            (vec![io(unreachable), io(refused)], "nothing listens at a:1, b:2"),
            (vec![io(unreachable), io(ErrorKind::HostUnreachable)], "to a:1, b:2; both sides"),
            (vec![io(ErrorKind::TimedOut), io(unreachable)], "nothing answers at a:1, b:2"),
            (vec![tungstenite::Error::AttackAttempt, io(refused)], "what answers at a:1 is no"),
            (vec![io(refused), io(ErrorKind::ConnectionReset)], "at b:2 broke: "),
        ] {
            let errors = hosts.iter().zip(errors);
            let errors = errors.map(|(host, error)| SignalingError::of(host.clone(), error));
            let error = SignalingError::most_telling(&hosts, errors.collect()).to_string();
            assert!(error.contains(says) && !error.contains("os error"), "{error}");
        }
    }

    #[test]
    fn a_status_of_the_service_is_told_in_plain_words() {
        for (status, says) in [
            (StatusCode::GONE, "the call of this invite is over"),
            (StatusCode::NOT_FOUND, "of this version"),
            (StatusCode::UPGRADE_REQUIRED, "of this version"),
            (StatusCode::TOO_MANY_REQUESTS, "too many connections"),
            (StatusCode::OK, "no rendezvous service"),
        ] {
            let mut response = tungstenite::http::Response::new(None);
            *response.status_mut() = status;
            let error = tungstenite::Error::Http(Box::new(response));
            let told = SignalingError::of("a:1".to_owned(), error).to_string();
            assert!(told.contains(says) && told.contains("a:1"), "{told}");
        }
    }
}
