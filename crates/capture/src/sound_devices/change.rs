//! What happens to sound devices, in words for a person.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::errors::{OpenError, ReadError, WriteError};

/// Direction of a sound device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SoundDevice {
    /// Sound comes in.
    Microphone,
    /// Sound goes out.
    Speaker,
}

impl fmt::Display for SoundDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microphone => "microphone",
            Self::Speaker => "speaker",
        })
    }
}

/// Event of a [`Microphone`](crate::Microphone) or [`Speaker`](crate::Speaker). Its text is one line
/// for a person. The call goes on after each of them.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceChange {
    /// The device is in use: the first one, the same one again, or another one.
    #[error("the {device} is \"{name}\"")]
    Opened { device: SoundDevice, name: String },
    /// The device cannot be used, or no longer. There is silence until it or, for the default, any
    /// other can be. `name` is `None` if there is no device at all.
    #[error("{}", lost(*device, name.as_deref(), reason))]
    Lost { device: SoundDevice, name: Option<String>, reason: LossReason },
    /// A microphone file has been played to its end. It is silent from here on.
    #[error("the microphone file has ended: {}", path.display())]
    Ended { path: PathBuf },
    /// A microphone file cannot be read to its end. It is silent from here on.
    #[error("the microphone file ends early ({why}): {}", path.display())]
    CutShort { path: PathBuf, why: String },
    /// What the speaker plays is no longer recorded.
    #[error("the speaker file ends early ({why}): {}", path.display())]
    NotWritten { path: PathBuf, why: String },
    /// What the speaker has played was recorded, but its file cannot be completed. It comes last.
    #[error("the speaker file cannot be completed: {why}")]
    NotCompleted { why: String },
}

/// Why a device cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LossReason {
    /// There is no such device.
    Missing,
    /// It was there and is no longer.
    Unplugged,
    /// Another program has it for itself.
    Busy,
    /// The system does not allow this program to use it.
    Denied,
    /// What the sound system says.
    Failed(String),
}

fn lost(device: SoundDevice, name: Option<&str>, reason: &LossReason) -> String {
    let Some(name) = name else {
        return match reason {
            LossReason::Failed(why) => format!("no {device} can be used: {why}"),
            _ => format!("no {device} found: plug one in"),
        };
    };
    match reason {
        LossReason::Missing => format!("the {device} \"{name}\" is not there: plug it in"),
        LossReason::Unplugged => format!("the {device} \"{name}\" was unplugged"),
        LossReason::Busy => format!("the {device} \"{name}\" is used by another program"),
        LossReason::Denied => {
            format!(
                "the system does not allow the {device} \"{name}\": change that in its settings"
            )
        }
        LossReason::Failed(why) => format!("the {device} \"{name}\" does not work: {why}"),
    }
}

/// Why a microphone or speaker cannot be opened as it was named.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoundError {
    /// No device has this name.
    #[error("there is no {device} \"{name}\"; {}", listed(*device, names))]
    Unknown { device: SoundDevice, name: String, names: Vec<String> },
    /// Several devices have this text in their names.
    #[error("\"{name}\" is the name of several {device}s: {}", quoted(names))]
    Ambiguous { device: SoundDevice, name: String, names: Vec<String> },
    /// The speaker file is a pipe, a folder or the like.
    #[error("a speaker file has to be a file, and this is none: {}", path.display())]
    NotAFile { path: PathBuf },
    /// The sound that is played can only be recorded as WAV.
    #[error("a speaker file is WAV; give it a name that ends in .wav: {}", path.display())]
    NotWav { path: PathBuf },
    /// The microphone file is missing, or not a file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The microphone file has no sound that can be read.
    #[error("{source}: {}", path.display())]
    Read { path: PathBuf, source: ReadError },
    /// The speaker file cannot be created.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The system has no room for another thread.
    #[error("the sound device does not start: {0}")]
    Thread(#[from] io::Error),
}

fn listed(device: SoundDevice, names: &[String]) -> String {
    if names.is_empty() {
        format!("no {device} found")
    } else {
        format!("there are {}", quoted(names))
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
