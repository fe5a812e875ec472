//! What goes into a session and what comes out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use capture::DeviceChange;
use codec::{EncodedUnit, Encoder};
use face::FaceModel;
use types::{Feature, Rate, UnitNumber};

use super::peer_face::{FaceReadJob, ReadFace};
use crate::event::{Command, End, Event, LinkError};
use crate::settings::LocalMedia;
use crate::stats::Stats;
use voice::{EncodedVoice, VoicePacket};

/// Number of a link, counted from 1 by the session. Several exist at a time: the one in use, that of
/// a guest who knocks, and at most two under construction. Events of a link that was closed are ignored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct LinkId(pub(crate) u32);

/// Everything that can happen to a session.
#[derive(Debug)]
pub(crate) enum Input {
    /// Every packet that has arrived was handed over: the units that are due are decoded.
    Decode,
    /// Time has passed: what is due is sent, and deadlines are checked.
    Timeout,
    Link(LinkId, LinkEvent),
    Signaling(SignalingEvent),
    Command(Command),
    /// The face sender has processed a frame.
    Frame(Box<TrackedFrame>),
    /// Our voice, in order: what the microphone or the clip has given, encoded.
    Voice {
        voice: EncodedVoice,
        /// Number of the person for whom it was encoded, counted from 1.
        listener: u32,
    },
    /// There is no sound, for the given reason.
    NoSound(String),
    /// A sound device was opened, lost, or came back.
    SoundDevice(DeviceChange),
    /// The source has ended, with the error if there was one.
    SourceEnded(Option<String>),
    /// A [`Output::ReadFace`] job has finished.
    FaceRead(Box<ReadFace>),
    /// Totals of the sockets, as of now.
    Wire(WireCount),
}

/// What happens on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The offer or answer is ready to be sent: an SDP description.
    Described(String),
    /// The channels are open: the reliable one has reported it, and both open together.
    Open,
    /// A packet of access units or a report.
    Features(Bytes),
    /// A message of the reliable channel.
    Control(Bytes),
    /// A packet of the sound track.
    Sound(SoundPacket),
    /// A candidate that was found after the description was made: an SDP attribute.
    Candidate(String),
    /// No path was found, or it was lost for good.
    Failed,
    /// WebRTC refused a description, or could not make one.
    Error(LinkError),
}

/// A packet of the sound track: what matters of its RTP header, and its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SoundPacket {
    /// Sequence number, wrapping.
    pub(crate) sequence: u16,
    /// Capture time of the first audio sample, in samples at 48 kHz, wrapping.
    pub(crate) timestamp: u32,
    /// Marker bit: the payload has two Opus packets.
    pub(crate) is_pair: bool,
    /// A [`transport::SoundPayload`], not parsed.
    pub(crate) payload: Bytes,
}

/// What the rendezvous service delivers.
#[derive(Clone, Debug)]
pub(crate) enum SignalingEvent {
    /// A sealed message of the other participant.
    Sealed(Bytes),
    /// The same invite was opened elsewhere in our role, with newer proof. The client has closed its
    /// connection and waits for [`Output::ReconnectSignaling`].
    Replaced,
}

/// Totals since the start of the call, IP and UDP headers included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WireCount {
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) datagrams_in: u64,
}

/// Result of processing one frame of the source.
#[derive(Debug)]
pub(crate) struct TrackedFrame {
    pub(crate) face_found: bool,
    /// The unit that the frame completed, if any.
    pub(crate) unit: Option<EncodedUnit>,
    /// Time spent on tracking and encoding.
    pub(crate) took: Duration,
}

/// Everything a session asks for, in the order in which it is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// For the link of this number. The first command for a number creates the link.
    Link(LinkId, LinkCommand),
    /// A sealed message for the rendezvous service.
    Signal(Vec<u8>),
    /// Take the seat at the rendezvous service again, over a new connection, because the old one may
    /// be dead, or was replaced. A host opens its embedded service, which is closed while the peers
    /// are connected.
    ReconnectSignaling,
    /// The sealed offer that the invite of a manual call contains.
    InviteOffer(Vec<u8>),
    Encoder(EncoderCommand),
    Voice(VoiceCommand),
    /// The peers are connected for the first time: start to listen and to play.
    StartSound,
    /// Links that begin from now on present another DTLS certificate.
    RenewCertificate,
    /// Sound that has arrived at `arrived`.
    PlaySound {
        arrived: Instant,
        packet: VoicePacket,
    },
    /// Features decoded from a unit that arrived at `arrived`, oldest first.
    Features {
        arrived: Instant,
        features: Vec<Feature>,
        /// What was added to the peer's media time, microseconds.
        clock_shift: i64,
    },
    /// Run the job on another thread; its result is an [`Input::FaceRead`].
    ReadFace(FaceReadJob),
    /// A version of the peer's face with more layers.
    PeerFace(Arc<FaceModel>),
    /// The peer has left, or another takes its place: its face and features are forgotten.
    ForgetPeer,
    LocalMedia(LocalMedia),
    Stats(Box<Stats>),
    Event(Event),
    /// The call is over: send what waits, close everything. Always the last output.
    End(End),
}

/// What a link is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LinkCommand {
    /// Make an offer; it comes back as [`LinkEvent::Described`].
    Offer,
    /// Answer this offer; the answer comes back as [`LinkEvent::Described`].
    Answer(String),
    /// The peer's answer to our offer.
    Accept(String),
    /// A candidate of the peer.
    AddCandidate(String),
    SendFeatures(Bytes),
    SendControl(Vec<u8>),
    SendSound(SoundPacket),
    /// Deliver what was sent on the reliable channel, then close.
    Close,
}

/// What the face sender is asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EncoderCommand {
    /// The peer is connected: start a clip that waits, and begin with a key unit.
    Start,
    /// Track and encode frames, or leave the camera's frames alone.
    SetCameraOn(bool),
    SetRate(Rate),
    /// The peer has decoded this unit, so later ones may reference it.
    Acknowledge(UnitNumber),
    RequestKey,
}

/// What the encoder of our voice is asked to do. It begins with the state in the
/// [`Settings`](crate::Settings) of the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum VoiceCommand {
    ChangeRate(Rate),
    /// Whether to encode nothing. The session drops what is encoded nevertheless.
    Mute(bool),
    /// The peer misses this share of our sound packets, 0..=1.
    ExpectLoss(f32),
    /// Whether nobody is there to hear us: the microphone is closed meanwhile.
    Pause(bool),
    /// The listener of this number is another person, who hears nothing that was said before.
    NewListener(u32),
}

impl EncoderCommand {
    /// Applies to the encoder what concerns it.
    pub(crate) fn apply(self, encoder: &mut Encoder) {
        match self {
            Self::Start | Self::RequestKey => encoder.request_key(),
            Self::Acknowledge(number) => encoder.acknowledge(number),
            Self::SetRate(rate) => encoder.set_rate(rate),
            Self::SetCameraOn(_) => {}
        }
    }
}
