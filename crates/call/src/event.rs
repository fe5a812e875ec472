use std::fmt;

use capture::DeviceChange;
use types::{ChatText, PeerName, Rate};

/// Number of a question of a call. An answer to a question that is not open any more does nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct QuestionId(pub u32);

/// What happens in a call, in order; see [`Call::next_event`](crate::Call::next_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Guest of a manual meeting: give this text to the host.
    AnswerReady(String),
    /// Guest: for ten seconds no host has been there; the call goes on waiting.
    NoHostYet,
    /// Host: a guest asks to join. Answer with [`Command::Admit`].
    /// There are at most six of these questions a minute.
    Knock {
        /// Number of the question.
        question: QuestionId,
        /// Name of the guest; may be empty.
        name: PeerName,
    },
    /// Host: nobody needs to answer any more, because the guest has left or vanished, or the lost
    /// peer whose place it wanted is back.
    KnockWithdrawn {
        /// Number of the question.
        question: QuestionId,
    },
    /// Guest: the host is being asked whether we may join.
    AdmissionPending,
    /// Both ends are connected, use the same protocol version, and the host has let the guest in.
    /// Comes again at a host that lets another guest in: what the peer before has shown is forgotten.
    Connected {
        /// Name of the peer; may be empty.
        peer_name: PeerName,
    },
    /// Four words that are the same at both ends unless somebody is in between. Follows
    /// [`Event::Connected`]; comes again if they change, because the peer has restarted.
    CheckWords(String),
    /// Share of the peer's face file that has arrived, 0..=1.
    ModelProgress(f32),
    /// The peer's face can be rendered, or rendered better than before:
    /// [`Call::remote_model`](crate::Call::remote_model) returns it.
    ModelReady {
        /// Layers that have arrived, at least 1.
        layers: usize,
        /// Total number of layers.
        of: usize,
    },
    /// The peer's face cannot be shown; the call goes on without it.
    ModelRefused(ModelRefusal),
    /// The peer offers another face file than the one that is shown, perhaps of another person.
    /// Answer with [`Command::AcceptFace`]; until then, the first face stays, and the peer cannot
    /// offer a third one.
    PeerFaceReplaced {
        /// Number of the question.
        question: QuestionId,
    },
    /// State of the peer's microphone and camera.
    PeerMedia {
        /// Whether the peer sends no sound.
        muted: bool,
        /// Whether the peer sends no features.
        camera_off: bool,
    },
    /// The peer has no face to show: it is heard only. Show its name in place of a picture.
    SoundOnly,
    /// A chat message of the peer.
    Chat(ChatText),
    /// Our clip has ended, or the camera was lost; the call goes on.
    SourceEnded {
        /// The error, unless the clip simply ended.
        error: Option<String>,
    },
    /// There is no sound codec, no sound in our clip, or a microphone or speaker cannot be used as it was
    /// named, for the given reason; the call goes on without it.
    NoSound(String),
    /// A microphone or speaker was opened, lost, or came back; the call goes on.
    SoundDevice(DeviceChange),
    /// Host of a manual meeting: the text is not the answer to this invite. Ask for the right one.
    AnswerRefused,
    /// Host: a guest did not get as far as to be let in, for this reason; the call still waits. The
    /// same reason is told once in 30 s.
    GuestFailed(CallFailure),
    /// The peer was silent for five seconds, or this process stood still. The peer may come back
    /// within a minute.
    PeerLost,
    /// A lost peer has come back.
    PeerBack,
    /// Host with a kept link: the guest has left, and the call waits for the next one.
    GuestLeft,
    /// The call is over. Always the last event.
    Ended(End),
}

/// How a call ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// This end hung up.
    HungUp,
    /// The peer hung up.
    PeerHungUp,
    /// The peer was lost for a minute.
    PeerVanished,
    /// The call could not begin or go on.
    Failed(CallFailure),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HungUp => f.write_str("the call is over"),
            Self::PeerHungUp => f.write_str("the other side hung up"),
            Self::PeerVanished => f.write_str("the other side is gone"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Why a call failed after it was started. Show the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// The two ends use different protocol versions.
    #[error(
        "the other side runs another version of Feathercall (protocol {theirs}, here {ours}); \
         update the older one"
    )]
    OtherVersion {
        /// Version of the peer; 0 if unknown.
        theirs: u16,
        /// Version of this end.
        ours: u16,
    },
    /// The same invite was opened elsewhere in the role of this end.
    #[error("this invite was opened somewhere else; only one of the two can use it")]
    Replaced,
    /// The host is in a call with another guest.
    #[error("another guest is in this call; ask for a new invite")]
    AnotherGuest,
    /// The invite has been used and leads nowhere any more.
    #[error("this invite has been used; ask for a new one")]
    LinkClosed,
    /// The host did not let this guest in.
    #[error("the other side did not let you in")]
    TurnedAway,
    /// A link failed in a way that another link would not mend: WebRTC refused the descriptions of
    /// every link, somebody is in between ([`LinkError::WrongCertificate`]), or the peer attacks
    /// ([`LinkError::UnknownChannels`]).
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No path to the peer was found within half a minute of the first answer, or a minute if a link
    /// is open but says nothing. Comes sooner if the only link of a manual call fails, or if the
    /// peer gives up.
    #[error(
        "no way through the network to the other side; a TURN server may help (--ice-server), or \
         another network"
    )]
    NoPath,
    /// The offer in the invite of a manual call is damaged.
    #[error("the invite is damaged; copy it again")]
    WrongAnswer,
    /// The peer has ended the call because of an error on its side.
    #[error("the other side could not go on with the call")]
    PeerFailed,
    /// The thread of the call has panicked.
    #[error("the call has stopped because of an error in Feathercall")]
    Crashed,
}

/// Why a link failed. Show the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// WebRTC refused an operation.
    #[error("WebRTC: {0}")]
    WebRtc(#[from] webrtc::error::Error),
    /// The DTLS certificate at the other end of the path is not the one that the peer has named.
    #[error(
        "the connection was made by somebody else, who may be in between you and the other side; \
         do not go on over this network"
    )]
    WrongCertificate,
    /// The peer's description of the link describes no call.
    #[error("the other side describes a connection that is not a call")]
    BadDescription,
    /// The peer opens data channels that do not belong to a call.
    #[error("the other side opens channels that do not belong to a call")]
    UnknownChannels,
    /// The peer has not read control messages for so long that no more can wait.
    #[error("the other side does not read what it is sent")]
    PeerDoesNotRead,
}

/// Why a peer's face file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelRefusal {
    /// It did not arrive whole.
    #[error(transparent)]
    Transfer(#[from] transport::TransferError),
    /// It is not a face file.
    #[error("the peer's face model: {0}")]
    Face(#[from] face::FaceFileError),
    /// Its codec profile is damaged.
    #[error("the peer's face model: {0}")]
    Profile(#[from] codec::ProfileError),
    /// Its reading has panicked.
    #[error("the peer's face cannot be shown because of an error in Feathercall")]
    Crashed,
}

/// Instruction to a call, from a button or a script; see [`Call::command`](crate::Call::command).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Stop (`true`) or resume sending sound. After ten seconds the microphone is closed.
    SetMuted(bool),
    /// Send sound although it is off, as long as a key is held (push to talk).
    Talk(bool),
    /// Host: answer to [`Event::Knock`].
    Admit {
        /// Number of the question.
        question: QuestionId,
        /// Whether the guest may join; otherwise it is turned away.
        lets_in: bool,
    },
    /// Answer to [`Event::PeerFaceReplaced`].
    AcceptFace {
        /// Number of the question.
        question: QuestionId,
        /// Whether to show the other face.
        accepts: bool,
    },
    /// Let the peer see our face (`true`), which sends the face file, or stop sending features.
    ShowFace(bool),
    /// Send our face (`true`) or stop sending it.
    SetCameraOn(bool),
    /// Send at another rate from now on.
    SetRate(Rate),
    /// Send a chat message; at most 2000 bytes of it are sent.
    SendChat(String),
    /// Host of a manual meeting: the guest's answer.
    AcceptAnswer(String),
    /// End the call.
    HangUp,
}
