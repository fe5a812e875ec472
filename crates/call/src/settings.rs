use std::net::SocketAddr;
use std::time::Duration;

use capture::SourceSpec;
use face::FaceFile;
use types::Rate;

/// How the two ends find each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Meeting {
    /// A rendezvous service inside the host, for a network both are on. `None` listens on every
    /// interface (or on loopback alone, see [`Settings::loopback`]) at a free port.
    Embedded {
        /// Where to listen.
        listen: Option<SocketAddr>,
    },
    /// The rendezvous service at `HOST:PORT` (`ws://` before it is understood).
    Url(String),
    /// None: the invite holds the offer, and the guest's answer is handed back by hand
    /// ([`Event::AnswerReady`](crate::Event::AnswerReady),
    /// [`Command::Answer`](crate::Command::Answer)).
    Manual,
}

impl Default for Meeting {
    fn default() -> Self {
        Self::Embedded { listen: None }
    }
}

/// A STUN or TURN server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port`.
    pub url: String,
    /// For TURN.
    pub username: String,
    /// For TURN.
    pub credential: String,
}

/// Everything a call needs to know before it begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our face, with its private part; without one (or without a source) we only receive.
    pub face: Option<FaceFile>,
    /// What drives it; a file that ends in `.fcs` is a stream that was encoded before.
    pub source: Option<SourceSpec>,
    /// Whether sound is sent and played.
    pub audio: bool,
    /// Whether our face is sent.
    pub video: bool,
    /// How to meet; for a guest the invite says it.
    pub rendezvous: Meeting,
    /// Stay on this machine: sockets on 127.0.0.1 alone.
    pub loopback: bool,
    /// Servers that help through address translation; none by default.
    pub ice_servers: Vec<IceServer>,
    /// Descriptions go out with the candidates found by then; later ones follow singly.
    pub gather_deadline: Duration,
    /// What the peer sees us called.
    pub name: String,
    /// Delay against bytes.
    pub rate: Rate,
    /// Pixels a side in which the peer's face will be rendered here, at first.
    pub resolution: u32,
}

impl Default for Settings {
    /// No face, no source, sound and picture on, embedded rendezvous, no servers.
    fn default() -> Self {
        Self {
            face: None,
            source: None,
            audio: true,
            video: true,
            rendezvous: Meeting::default(),
            loopback: false,
            ice_servers: Vec::new(),
            gather_deadline: Duration::from_millis(1500),
            name: String::new(),
            rate: Rate::default(),
            resolution: 256,
        }
    }
}
