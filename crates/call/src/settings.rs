use std::net::SocketAddr;
use std::time::Duration;

use capture::{MicrophoneSpec, SourceSpec, SpeakerSpec};
use face::FaceFile;
use types::Rate;
use voice::{Level, VoiceProcessing};

use crate::rendezvous_address::RendezvousAddress;

/// How the two ends find each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Meeting {
    /// At a rendezvous service inside the host, for peers on one network.
    Embedded {
        /// Address to listen on; a port that is taken is an error. `None` listens on a free port of every
        /// interface, or of loopback alone under [`Settings::loopback`].
        listen: Option<SocketAddr>,
    },
    /// At the rendezvous service at this address.
    Service(RendezvousAddress),
    /// Without a service. The invite contains the offer. The guest gets an answer
    /// ([`Event::AnswerReady`](crate::Event::AnswerReady)) and sends it to the host by other means,
    /// such as e-mail; the host enters it
    /// ([`Command::AcceptAnswer`](crate::Command::AcceptAnswer)).
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
    /// `stun:HOST:PORT` or `turn:HOST:PORT`: a server that is reached by UDP.
    pub url: String,
    /// User name for a TURN server.
    pub username: String,
    /// Password for a TURN server.
    pub credential: String,
}

impl IceServer {
    /// Returns whether the server relays, and so hides this end's address from the peer.
    pub(crate) fn is_relay(&self) -> bool {
        self.url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("turn:"))
    }
}

/// Where the sound that this end sends comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SoundSource {
    /// No sound is sent.
    None,
    /// The sound of [`Settings::source`]: of a clip, or the actor's voice.
    Source,
    /// A microphone, or a file in place of one.
    Microphone(MicrophoneSpec),
}

impl Default for SoundSource {
    fn default() -> Self {
        Self::Microphone(MicrophoneSpec::Default)
    }
}

/// State of this end's microphone and camera, and its rate.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LocalMedia {
    /// Whether our sound is off.
    pub muted: bool,
    /// Whether sound is sent although it is off: the push-to-talk key is held.
    pub talks: bool,
    /// Whether our face is sent while it is shown.
    pub camera_on: bool,
    /// Whether the peer may see our face: without this neither the face file nor features are sent.
    pub shows_face: bool,
    /// How finely and how often features and sound are coded.
    pub rate: Rate,
}

impl LocalMedia {
    /// Returns whether sound is sent.
    pub fn sends_sound(&self) -> bool {
        !self.muted || self.talks
    }

    /// Returns whether features of our face are sent.
    pub fn sends_face(&self) -> bool {
        self.camera_on && self.shows_face
    }
}

/// How loud both ends are now, and whether somebody speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SoundLevels {
    /// Of what is sent; `None` while no sound is sent.
    pub own: Option<Level>,
    /// Of what is heard; `None` before the speaker is open.
    pub peer: Option<Level>,
}

/// Everything a call needs to know at its start.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our face file, with its private part. Without one, no face is sent, but the source still
    /// gives the preview, and sound is sent.
    pub face: Option<FaceFile>,
    /// What drives the face: a camera, the actor, a clip, or a stream that was encoded before
    /// (`.fcs`).
    pub source: Option<SourceSpec>,
    /// Whether there is a sound track at all.
    pub audio: bool,
    /// What sound is sent. It needs neither a face nor a source.
    pub sound_source: SoundSource,
    /// What is done with the sound of a microphone.
    pub voice_processing: VoiceProcessing,
    /// Where the peer's sound is played.
    pub speaker: SpeakerSpec,
    /// Whether our face is sent.
    pub video: bool,
    /// Whether the peer gets our face file once it is connected; otherwise after
    /// [`Command::ShowFace`](crate::Command::ShowFace).
    pub show_face: bool,
    /// Whether to accept without a question what [`Event::Knock`](crate::Event::Knock) and
    /// [`Event::PeerFaceReplaced`](crate::Event::PeerFaceReplaced) ask.
    pub auto_admit: bool,
    /// Host: whether to wait for another guest after one has left. Otherwise the invite serves one
    /// guest.
    pub keep_link: bool,
    /// How to meet. A guest ignores it and follows the invite.
    pub rendezvous: Meeting,
    /// Whether to stay on this machine, with sockets on 127.0.0.1 alone. Otherwise loopback is not used,
    /// unless this machine has no other address.
    pub loopback: bool,
    /// Servers that help to traverse address translation.
    pub ice_servers: Vec<IceServer>,
    /// Whether to reach the peer through the TURN servers of `ice_servers` alone, so that it learns their
    /// address in place of this end's. The servers then learn both.
    pub relay_only: bool,
    /// Longest time to gather ICE candidates before the offer or answer is sent. Candidates found
    /// later are sent one by one.
    pub gather_deadline: Duration,
    /// Name of this end, for the peer; at most 64 bytes of it are sent.
    pub name: String,
    /// How finely and how often features and sound are coded at first.
    pub rate: Rate,
}

impl Default for Settings {
    /// Returns settings with no face, no source, the default microphone and speaker, the embedded
    /// rendezvous service and no servers. Guests are let in after a question, one per invite.
    fn default() -> Self {
        Self {
            face: None,
            source: None,
            audio: true,
            sound_source: SoundSource::default(),
            voice_processing: VoiceProcessing::default(),
            speaker: SpeakerSpec::default(),
            video: true,
            show_face: true,
            auto_admit: false,
            keep_link: false,
            rendezvous: Meeting::default(),
            loopback: false,
            ice_servers: Vec::new(),
            relay_only: false,
            gather_deadline: Duration::from_millis(1500),
            name: String::new(),
            rate: Rate::default(),
        }
    }
}
