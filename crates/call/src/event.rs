use std::fmt;

use types::Rate;

use crate::link::LinkError;

/// What happens in a call, in order; see [`Call::next_event`](crate::Call::next_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Manual meeting, guest: hand this text back to the host.
    AnswerReady(String),
    /// Both ends are there and speak the same version.
    Connected {
        /// What the peer calls itself, perhaps empty.
        peer_name: String,
    },
    /// The peer's face model is coming: share that is here, 0..=1.
    ModelProgress(f32),
    /// The peer's face can be drawn, or drawn better than before:
    /// [`Call::remote_model`](crate::Call::remote_model) has it as its first `layers` layers say.
    ModelReady {
        /// Layers that are here, at least 1.
        layers: usize,
        /// Layers of the whole face.
        of: usize,
    },
    /// The peer's face cannot be shown; the call goes on without.
    ModelRefused(ModelRefusal),
    /// What the peer sends.
    PeerMedia {
        /// No sound.
        muted: bool,
        /// No features.
        camera_off: bool,
    },
    /// The peer wrote a line.
    Chat(String),
    /// Our clip has ended, or the camera was lost; the call goes on.
    SourceEnded {
        /// Why, if it was not simply over.
        error: Option<String>,
    },
    /// There is no microphone, speaker or sound codec; the call goes on without.
    NoSound(String),
    /// Nothing was heard of the peer for five seconds; it may come back.
    PeerLost,
    /// It has.
    PeerBack,
    /// The last event.
    Ended(End),
}

/// How a call ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// We hung up.
    HungUp,
    /// The peer hung up.
    PeerHungUp,
    /// Nothing was heard of the peer for twenty seconds.
    PeerVanished,
    /// It could not begin or go on.
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

/// Why a call failed once it was under way. Show the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// One of the two must be updated.
    #[error(
        "the other side runs another version of Feathercall (protocol {theirs}, here {ours}); \
         update the older one"
    )]
    OtherVersion {
        /// Theirs.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// Two peers are in the room already.
    #[error("this invite is in use by somebody else; ask for a new one")]
    RoomIsFull,
    /// The connection could not be made or was torn down.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No path was found.
    #[error("no way through the network to the other side; a STUN or TURN server may help (--ice)")]
    NoPath,
    /// The text handed back is not this call's answer.
    #[error("the answer does not belong to this invite; copy it again")]
    WrongAnswer,
    /// The other side met an error of its own.
    #[error("the other side could not go on with the call")]
    PeerFailed,
}

/// Why a peer's face model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelRefusal {
    /// It did not arrive whole.
    #[error(transparent)]
    Transfer(#[from] transport::TransferError),
    /// It is no face model.
    #[error("the peer's face model: {0}")]
    Face(#[from] face::FaceFileError),
    /// Its codec profile is none.
    #[error("the peer's face model: {0}")]
    Profile(#[from] codec::ProfileError),
}

/// What the user wants.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Stop or resume sending sound.
    Mute(bool),
    /// Stop or resume sending the face.
    CameraOff(bool),
    /// The peer's face is rendered here at this many pixels a side.
    Resolution(u32),
    /// Send at another rate from now on; no key unit is needed.
    Rate(Rate),
    /// Say something in writing.
    Chat(String),
    /// Manual meeting, host: the guest's answer.
    Answer(String),
    /// End the call.
    HangUp,
}
