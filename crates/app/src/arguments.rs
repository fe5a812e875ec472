//! Arguments that name files: paths, sources, backgrounds and outputs.
//!
//! Any name the system allows is accepted. A leading `~` is the user's home folder, also where shells
//! leave it alone (`--out=~/me.face`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use call::SoundSource;
use capture::{MicrophoneSpec, SourceSpec, SpeakerSpec};
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use data_encoding::HEXLOWER_PERMISSIVE;
use face::Background;

/// A kind of file that the program writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    /// A video file, or a folder of pictures.
    Clip,
    Face,
    Stream,
    Landmarks,
}

impl Output {
    /// Extensions of the files, without the dot.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Clip => &["mp4", "m4v", "y4m"],
            Self::Face => &["face"],
            Self::Stream => &["fcs"],
            Self::Landmarks => &["npz"],
        }
    }

    /// Checks that the name of an output has an extension of its kind: another one is a slip.
    fn check(self, path: &Path) -> Result<(), String> {
        let known = self.extensions();
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        let is_known = extension.as_ref().is_some_and(|own| known.iter().any(|one| own == *one));
        let is_clip = matches!(self, Self::Clip);
        let names_folder = path.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
        if names_folder && (is_known || !is_clip) {
            return Err("it ends like a folder, but will be a file: leave out the slash".to_owned());
        }
        if is_known
            || extension.is_none()
            || (is_clip && (names_folder || in_home(path.to_owned()).is_dir()))
        {
            return Ok(());
        }
        let known = known.iter().map(|one| format!(".{one}")).collect::<Vec<_>>().join(", ");
        let folder =
            if is_clip { ", or a folder for pictures with a slash at the end" } else { "" };
        Err(format!("its extension is not one of what can be written: {known}{folder}"))
    }
}

/// Parses a path.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(in_home)
}

/// Parses the path of an output.
pub(crate) fn output_parser(kind: Output) -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(move |path| kind.check(&path).map(|()| in_home(path)))
}

/// Parses a source; see [`SourceSpec`].
pub(crate) fn source_parser() -> impl TypedValueParser<Value = SourceSpec> {
    OsStringValueParser::new().map(|text: OsString| match SourceSpec::from(&*text) {
        SourceSpec::Clip(path) => SourceSpec::Clip(in_home(path)),
        source => source,
    })
}

/// Parses what is heard of us: `none`, `source`, or a microphone; see [`MicrophoneSpec`].
pub(crate) fn microphone_parser() -> impl TypedValueParser<Value = SoundSource> {
    OsStringValueParser::new().map(|text: OsString| match text.to_str() {
        Some("none") => SoundSource::None,
        Some("source") => SoundSource::Source,
        _ => SoundSource::Microphone(match MicrophoneSpec::from(&*text) {
            MicrophoneSpec::File(path) => MicrophoneSpec::File(in_home(path)),
            microphone => microphone,
        }),
    })
}

/// Parses a speaker; see [`SpeakerSpec`].
pub(crate) fn speaker_parser() -> impl TypedValueParser<Value = SpeakerSpec> {
    OsStringValueParser::new().map(|text: OsString| match SpeakerSpec::from(&*text) {
        SpeakerSpec::File(path) => SpeakerSpec::File(in_home(path)),
        speaker => speaker,
    })
}

/// Parses a background; see [`parse_background`].
pub(crate) fn background_parser() -> impl TypedValueParser<Value = Background> {
    OsStringValueParser::new().try_map(|text| parse_background(&text))
}

/// Parses `own`, `blurred`, a color such as `#203040`, or the path of a picture.
pub(crate) fn parse_background(text: &OsStr) -> Result<Background, String> {
    let words = text.to_str().unwrap_or_default();
    match words {
        "own" => return Ok(Background::Own),
        "blurred" => return Ok(Background::Blurred),
        _ => {}
    }
    if let Some(digits) = words.strip_prefix('#') {
        let color = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
        return color
            .and_then(|color| <[u8; 3]>::try_from(color).ok())
            .map(Background::Color)
            .ok_or_else(|| "a color is six hexadecimal digits, such as #203040".to_owned());
    }
    let path = in_home(text.into());
    capture::read_picture(&path).map(Background::Picture).map_err(|error| {
        let path = path.display();
        format!(
            "a background is own, blurred, a color such as #203040, or a picture; {path}: {error}"
        )
    })
}

/// Replaces a leading `~` by the home folder, if the user has one. `~name` stays as it is.
fn in_home(path: PathBuf) -> PathBuf {
    let mut names = path.components();
    let is_in_home = names.next().is_some_and(|first| first.as_os_str() == "~");
    match etcetera::home_dir() {
        Ok(home) if is_in_home => home.join(names.as_path()),
        _ => path,
    }
}

/// Writes `--at A B` as `--at A --at B`, so that `--at` takes no other argument for an action.
pub(crate) fn separate_actions(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut separated: Vec<OsString> = Vec::new();
    // The arguments since the last `--at`; none if another option or argument came between.
    let mut since_at = None;
    let mut are_options = true;
    for arg in args {
        are_options &= arg != "--";
        since_at = match since_at {
            _ if are_options && arg == "--at" => Some(0),
            _ if are_options && arg.as_encoded_bytes().starts_with(b"--at=") => Some(1),
            Some(0) => Some(1),
            Some(n) if are_options && is_action(&arg) => {
                separated.push("--at".into());
                Some(n + 1)
            }
            _ => None,
        };
        separated.push(arg);
    }
    separated
}

/// Returns whether an argument is `TIME=ACTION`, right or wrong.
fn is_action(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    let n_time = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
    bytes.first().is_some_and(u8::is_ascii_digit) && bytes.get(n_time) == Some(&b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_is_a_word_a_color_or_a_picture() {
        let parse = |text: &str| parse_background(OsStr::new(text));
        assert_eq!(parse("own"), Ok(Background::Own));
        assert_eq!(parse("blurred"), Ok(Background::Blurred));
        assert_eq!(parse("#2030fF"), Ok(Background::Color([0x20, 0x30, 0xff])));
        for text in ["", "#123", "#1234567", "#+12345", "no/such/picture.png"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = etcetera::home_dir().unwrap();
        for (path, want) in [
            ("~", home.clone()),
            ("~/me.face", home.join("me.face")),
            ("~ada/me.face", "~ada/me.face".into()),
            ("a/~/me.face", "a/~/me.face".into()),
            ("./~", "./~".into()),
        ] {
            assert_eq!(in_home(path.into()), want, "{path}");
        }
    }

    #[test]
    fn the_name_of_an_output_says_its_kind() {
        for (kind, path, is_right) in [
            (Output::Clip, "a.mp4", true),
            (Output::Clip, "a.Y4M", true),
            (Output::Clip, "pictures", true),
            (Output::Clip, "of.2026/", true),
            (Output::Clip, "a.webm", false),
            (Output::Clip, "a.txt", false),
            (Output::Clip, "a.mp4/", false),
            (Output::Face, "me.face", true),
            (Output::Face, "me", true),
            (Output::Face, "me.mp4", false),
            (Output::Face, "faces/", false),
            (Output::Stream, "a.fcs", true),
            (Output::Stream, "a.mp4", false),
            (Output::Landmarks, "a.landmarks.npz", true),
            (Output::Landmarks, "a.csv", false),
        ] {
            assert_eq!(kind.check(path.as_ref()).is_ok(), is_right, "{path}");
        }
        let error = Output::Clip.check("a.webm".as_ref()).unwrap_err();
        assert!(error.contains(".mp4, .m4v, .y4m"), "{error}");
    }

    #[test]
    fn actions_end_where_another_argument_begins() {
        for (args, want) in [
            ("join --at 4s=mute LINK", "join --at 4s=mute LINK"),
            ("join --at 4s=mute 5s=hang-up LINK", "join --at 4s=mute --at 5s=hang-up LINK"),
            ("join --at=4s=mute 0.5=dance LINK", "join --at=4s=mute --at 0.5=dance LINK"),
            ("join --at LINK 5s=mute", "join --at LINK --at 5s=mute"),
            ("join --at 4s=mute --name 5s=mute LINK", "join --at 4s=mute --name 5s=mute LINK"),
            ("join --at 4s=mute -- 5s=mute", "join --at 4s=mute -- 5s=mute"),
        ] {
            let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(separate_actions(words(args)), words(want), "{args}");
        }
    }
}
