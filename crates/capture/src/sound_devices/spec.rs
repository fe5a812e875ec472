//! Names of microphones and speakers, as people write them.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Extensions of files with sound, lower case. Names of devices may contain dots and slashes.
const SOUND_EXTENSIONS: [&str; 18] = [
    "aac", "aif", "aiff", "avi", "caf", "flac", "m4a", "m4v", "mka", "mkv", "mov", "mp3", "mp4",
    "oga", "ogg", "opus", "wav", "webm",
];

/// Which microphone to use.
///
/// ```
/// use capture::MicrophoneSpec;
/// assert_eq!("default".parse(), Ok(MicrophoneSpec::Default));
/// assert_eq!("USB Audio 2.0".parse(), Ok(MicrophoneSpec::Named("USB Audio 2.0".into())));
/// assert_eq!("voice.wav".parse(), Ok(MicrophoneSpec::File("voice.wav".into())));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum MicrophoneSpec {
    /// The default of the system, whichever it is at any time.
    #[default]
    Default,
    /// The microphone of this name, or the only one whose name contains this text (case is ignored).
    Named(String),
    /// A file with sound: WAV, or what `ffmpeg` reads. It is played once, in real time, and is silent
    /// after its end.
    File(PathBuf),
}

/// Which speaker to use.
///
/// ```
/// use capture::SpeakerSpec;
/// assert_eq!("none".parse(), Ok(SpeakerSpec::Silent));
/// assert_eq!("heard.wav".parse(), Ok(SpeakerSpec::File("heard.wav".into())));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SpeakerSpec {
    /// The default of the system, whichever it is at any time.
    #[default]
    Default,
    /// The speaker of this name, or the only one whose name contains this text (case is ignored).
    Named(String),
    /// A WAV file that records what a speaker would play: mono, 48 kHz, 16 bits.
    File(PathBuf),
    /// No speaker. Sound is taken at the pace of one and dropped.
    Silent,
}

impl From<&OsStr> for MicrophoneSpec {
    /// Reads `default`, the path of a file, or the name of a device.
    fn from(text: &OsStr) -> Self {
        match text.to_str() {
            Some("default") => Self::Default,
            Some(name) if !is_file(Path::new(name)) => Self::Named(name.to_owned()),
            _ => Self::File(text.into()),
        }
    }
}

impl From<&OsStr> for SpeakerSpec {
    /// Reads `default`, `none`, the path of a file, or the name of a device.
    fn from(text: &OsStr) -> Self {
        match text.to_str() {
            Some("default") => Self::Default,
            Some("none") => Self::Silent,
            Some(name) if !is_file(Path::new(name)) => Self::Named(name.to_owned()),
            _ => Self::File(text.into()),
        }
    }
}

impl FromStr for MicrophoneSpec {
    type Err = Infallible;

    /// See the conversion from [`OsStr`].
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(OsStr::new(text)))
    }
}

impl FromStr for SpeakerSpec {
    type Err = Infallible;

    /// See the conversion from [`OsStr`].
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(OsStr::new(text)))
    }
}

/// Returns whether a text means a file rather than a device: it has the extension of one, begins with
/// a folder such as `/` or `./`, or there is a file of this name.
fn is_file(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_sound = SOUND_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str());
    let first = path.components().next();
    let begins_with_folder = !matches!(first, Some(Component::Normal(_)) | None);
    is_sound || begins_with_folder || path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_names_of_devices() {
        for (text, is_file) in [
            ("voice.wav", true),
            ("VOICE.WAV", true),
            ("calls/voice.m4a", true),
            ("/dev/null", true),
            ("./voice", true),
            ("../voice", true),
            ("USB Audio 2.0", false),
            ("Family 17h/19h HD Audio Controller Analog Stereo", false),
            ("hw:CARD=0,DEV=0", false),
            ("wav", false),
        ] {
            let microphone = MicrophoneSpec::from(OsStr::new(text));
            let speaker = SpeakerSpec::from(OsStr::new(text));
            let want = if is_file {
                (MicrophoneSpec::File(text.into()), SpeakerSpec::File(text.into()))
            } else {
                (MicrophoneSpec::Named(text.into()), SpeakerSpec::Named(text.into()))
            };
            assert_eq!((microphone, speaker), want, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_unicode_is_a_file() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = OsStr::from_bytes(b"caf\xE9.wav");
        assert_eq!(MicrophoneSpec::from(path), MicrophoneSpec::File(path.into()));
        assert_eq!(SpeakerSpec::from(path), SpeakerSpec::File(path.into()));
    }
}
