//! The command line: a contract, because scripts and measurements use it.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use capture::SourceSpec;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use face::Background;
use types::{ParseRateError, Rate};

/// A face-to-face call in the bandwidth of a phone call. Without a command: the window.
#[derive(Debug, Parser)]
#[command(name = "feathercall", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Two peers on this machine, real WebRTC on loopback, the built-in actor and its enrolled face
    Demo(Demo),
    /// Learn a face from a camera, a clip or the actor
    Enroll(Enroll),
    /// Start a call: prints the invite link and waits
    Call(Host),
    /// Join a call by its invite link
    Join(Join),
    /// Run the signaling service that peers meet at
    Rendezvous {
        /// Address to listen on, such as 0.0.0.0:7300
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Turn a clip into a stream of access units, as a call would send them
    Encode {
        clip: PathBuf,
        #[arg(long)]
        face: PathBuf,
        #[arg(long)]
        out: PathBuf,
        #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
        rate: Rate,
    },
    /// Render a stream of access units
    Decode {
        stream: PathBuf,
        #[arg(long)]
        face: PathBuf,
        /// OUT.mp4, OUT.y4m, or a folder for PNG pictures
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value = "256")]
        resolution: Resolution,
        /// Behind the person: own, blurred, a color such as #203040, or a picture
        #[arg(long, default_value = "own", value_parser = parse_background)]
        background: Background,
        /// Pictures a second, 1 to 240
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=240))]
        fps: u32,
    },
    /// Measure a face on a clip: quality, payload, pictures beside their originals
    Eval {
        /// A clip, or actor for frames of the built-in actor
        #[arg(long)]
        clip: PathBuf,
        #[arg(long)]
        face: PathBuf,
        /// Frames A..B of the clip, B not included; the whole clip unless given
        #[arg(long, value_parser = parse_frames)]
        frames: Option<Range<u64>>,
        #[arg(long, value_delimiter = ',', default_value = "256")]
        resolutions: Vec<u32>,
        #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
        rate: Rate,
        /// Samples on a ray
        #[arg(long, default_value_t = face::DEFAULT_SAMPLES, value_parser = clap::value_parser!(u32).range(1..=i64::from(face::MAX_SAMPLES)))]
        samples: u32,
        #[arg(long)]
        json: bool,
        /// Folder for the table and the pictures
        #[arg(long)]
        report: Option<PathBuf>,
        /// Share of packets lost, such as 0.3: what that costs, instead of the usual figures
        #[arg(long, value_parser = parse_loss, conflicts_with_all = ["report", "curve"])]
        loss: Option<f64>,
        /// They are lost in bursts this long, such as 400ms, instead of one by one
        #[arg(long, value_parser = parse_duration, requires = "loss")]
        burst: Option<Duration>,
        /// Folder for rate-distortion curves: ours beside those of x264, x265, VP9 and AV1
        #[arg(long, conflicts_with = "report")]
        curve: Option<PathBuf>,
    },
    /// Write the 478 landmarks of every frame to a `NumPy` archive
    Track {
        clip: PathBuf,
        #[arg(long)]
        landmarks: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// List cameras, microphones, speakers and graphics adapters
    Devices,
    /// Look into a face file
    #[command(subcommand)]
    Model(Model),
    /// Measure the speed of one part on this machine
    Bench {
        #[arg(value_enum)]
        part: Part,
        /// The built-in actor's face unless given
        #[arg(long)]
        face: Option<PathBuf>,
        /// A stream of that face, made by `encode`: `bench render` and `bench fields` paint what it
        /// shows, 60 times a second (`fields` its first 20 pictures), in place of what the actor does
        #[arg(long)]
        stream: Option<PathBuf>,
        /// Samples a ray of the pictures of `bench render` and `bench fields`
        #[arg(long, default_value_t = face::DEFAULT_SAMPLES, value_parser = clap::value_parser!(u32).range(1..=i64::from(face::MAX_SAMPLES)))]
        samples: u32,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How long the call lasts
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// No window even where there is a display
    #[arg(long)]
    pub(crate) headless: bool,
    /// Where the call is recorded: FILE.mp4, FILE.y4m, or a folder
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// camera, camera:NAME, actor, or a clip
    #[arg(long)]
    pub(crate) from: SourceSpec,
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Side of the square picture that is learnt from, in pixels
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=512))]
    pub(crate) size: u32,
    /// default, or small: about half the bytes for a peer to download
    #[arg(long, default_value = "default")]
    pub(crate) preset: enroll::Preset,
    /// Wall-clock limit for everything, such as 90s or 10m
    #[arg(long, value_parser = parse_duration, conflicts_with = "steps")]
    pub(crate) budget: Option<Duration>,
    /// Training steps instead of a time limit: the result is then the same on every run
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// Frames that are kept back to measure on: the last share (0.15) or every N-th (every:7)
    #[arg(long, default_value = "0.15")]
    pub(crate) holdout: enroll::Holdout,
    /// Leave out, to see what it is worth: embedding, consistency-code
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub(crate) without: Vec<enroll::Ablation>,
    /// Go on from what an interrupted run left
    #[arg(long)]
    pub(crate) resume: bool,
    /// Progress and result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Host {
    /// URL of a rendezvous service; without it, one is run here for the local network
    #[arg(long, conflicts_with = "manual")]
    pub(crate) rendezvous: Option<String>,
    /// No service at all: copy a link over, copy an answer back
    #[arg(long)]
    pub(crate) manual: bool,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The invite link
    pub(crate) link: String,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

/// Pictures a second that a window draws unless told otherwise: the rhythm of most displays.
pub(crate) const DEFAULT_MAX_FPS: u32 = 60;

/// What `call` and `join` share.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// Your enrolled face; without it the peer hears but does not see you
    #[arg(long)]
    pub(crate) face: Option<PathBuf>,
    /// camera, camera:NAME, actor, a clip, or the .fcs stream that `encode` made of one
    #[arg(long)]
    pub(crate) source: Option<SourceSpec>,
    /// No window
    #[arg(long)]
    pub(crate) headless: bool,
    /// Record the peer: OUT.mp4, OUT.y4m, or a folder
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
    /// Side of the peer's picture: 128, 256, 512, 1024 or auto
    #[arg(long, default_value = "auto")]
    pub(crate) resolution: Resolution,
    /// Behind the peer, as you see them: own, blurred, a color such as #203040, or a picture
    #[arg(long, default_value = "own", value_parser = parse_background)]
    pub(crate) background: Background,
    /// Draw the peer's face at most so often a second in the window: fewer spare the battery
    #[arg(long, default_value_t = DEFAULT_MAX_FPS, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub(crate) max_fps: u32,
    /// How much is sent: bytes against detail and delay
    #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
    pub(crate) rate: Rate,
    /// Write figures once a second as JSON lines
    #[arg(long)]
    pub(crate) stats: Option<PathBuf>,
    /// Hang up after this long, such as 10s
    #[arg(long, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    #[arg(long)]
    pub(crate) no_audio: bool,
    #[arg(long)]
    pub(crate) no_video: bool,
    /// A scripted action, such as 4s=resolution:512, 4s=rate:low, 2s=mute, 3s=camera-off, 9s=hang-up
    #[arg(long, value_name = "TIME=ACTION", num_args = 1..)]
    pub(crate) at: Vec<Scripted>,
    /// STUN or TURN server, such as stun:stun.example.org:3478 or turn:user:password@host:3478
    #[arg(long, value_name = "URL")]
    pub(crate) ice_server: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Sizes, layers and hashes of a face file
    Info {
        face: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// Pictures on every path this machine has.
    Render,
    /// The tracker.
    Track,
    /// Encoder and decoder.
    Codec,
    /// Pictures of this field beside those of fields that ask their networks more often.
    Fields,
}

/// Parses the name of a rate and lists the names in the help text.
fn rate_parser() -> impl TypedValueParser<Value = Rate> {
    PossibleValuesParser::new(Rate::ALL.map(Rate::name)).try_map(|name| name.parse::<Rate>())
}

/// Side of the rendered picture.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resolution {
    /// Follows the window, pixel for pixel; 256 where there is none.
    #[default]
    Auto,
    /// So many pixels.
    Side(u32),
}

impl Resolution {
    /// All there are.
    pub const CHOICES: [Self; 5] =
        [Self::Auto, Self::Side(128), Self::Side(256), Self::Side(512), Self::Side(1024)];

    /// The side to render at in a place of `place_px` physical pixels.
    ///
    /// [`Resolution::Auto`] is the place's own, in steps of 32 so that a window being dragged does
    /// not ask for a new picture size at every pixel, and between the smallest and the largest
    /// that can be chosen.
    pub fn side(self, place_px: u32) -> u32 {
        match self {
            Self::Side(side) => side,
            Self::Auto => place_px.clamp(128, 1024).next_multiple_of(32),
        }
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Side(side) => write!(f, "{side}"),
        }
    }
}

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::CHOICES
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| "resolution is one of 128, 256, 512, 1024, auto".to_owned())
    }
}

/// A wish of the user at a given time after the peers were connected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scripted {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

/// What the user wishes in a call, from a button or a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Something that concerns the call itself.
    Call(call::Command),
    /// Render the peer at another size.
    Resolution(Resolution),
    /// Render something else behind the peer.
    Background(Background),
    /// Put the invite on the clipboard.
    CopyLink,
}

impl FromStr for Scripted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (time, action) = text.split_once('=').ok_or("write TIME=ACTION, such as 4s=mute")?;
        let action = match action.split_once(':').unwrap_or((action, "")) {
            ("resolution", side) => Action::Resolution(side.parse()?),
            ("background", what) => Action::Background(parse_background(what)?),
            ("rate", rate) => Action::Call(call::Command::SetRate(parse_rate(rate)?)),
            ("mute", "") => Action::Call(call::Command::SetMuted(true)),
            ("unmute", "") => Action::Call(call::Command::SetMuted(false)),
            ("camera-off", "") => Action::Call(call::Command::SetCameraOn(false)),
            ("camera-on", "") => Action::Call(call::Command::SetCameraOn(true)),
            ("hang-up", "") => Action::Call(call::Command::HangUp),
            _ => {
                return Err(
                    "actions are resolution:SIDE, background:WHAT, rate:RATE, mute, unmute, camera-off, camera-on, hang-up"
                        .into(),
                );
            }
        };
        Ok(Self { at: parse_duration(time)?, action })
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|error: ParseRateError| error.to_string())
}

/// `90s`, `1500ms`, `10m`, or plain seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number with ms, s, m or h behind it".to_owned()),
    };
    let seconds =
        number.parse::<f64>().map_err(|_| "a time is a number, such as 10s".to_owned())?;
    Duration::try_from_secs_f64(seconds * scale)
        .map_err(|_| "a time is not negative and not endless".to_owned())
}

/// `own`, `blurred`, a color in hexadecimal, or a PNG or JPEG picture.
fn parse_background(text: &str) -> Result<Background, String> {
    match text {
        "own" => return Ok(Background::Own),
        "blurred" => return Ok(Background::Blurred),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix('#') {
        let wrong = || "a color is six hexadecimal digits, such as #203040".to_owned();
        if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let [_, r, g, b] = u32::from_str_radix(digits, 16).map_err(|_| wrong())?.to_be_bytes();
        return Ok(Background::Color([r, g, b]));
    }
    capture::read_picture(text.as_ref()).map(Background::Picture).map_err(|error| {
        format!(
            "a background is own, blurred, a color such as #203040, or a picture; {text}: {error}"
        )
    })
}

fn parse_loss(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=0.95).contains(share));
    share.ok_or_else(|| "loss is a share from 0 to 0.95, such as 0.3".to_owned())
}

fn parse_frames(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "write A..B, such as 170..200".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let range = from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?;
    if range.is_empty() { Err(format!("{text} holds no frame")) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [("10s", 10_000), ("1500ms", 1500), ("2m", 120_000), ("0.5", 500)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "4x", "1e99s", "NaN"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scripted_actions_are_read() {
        let want = Scripted {
            at: Duration::from_secs(4),
            action: Action::Resolution(Resolution::Side(512)),
        };
        assert_eq!("4s=resolution:512".parse(), Ok(want));
        let action = Action::Call(call::Command::SetRate(Rate::Low));
        let want = Scripted { at: Duration::from_millis(500), action };
        assert_eq!("500ms=rate:low".parse(), Ok(want));
        for text in [
            "4s=rate",
            "4s=rate:fast",
            "4s",
            "4s=dance",
            "x=mute",
            "4s=resolution:300",
            "4s=mute:1",
        ] {
            assert!(text.parse::<Scripted>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_background_is_a_word_a_color_or_a_picture() {
        assert_eq!(parse_background("own"), Ok(Background::Own));
        assert_eq!(parse_background("blurred"), Ok(Background::Blurred));
        assert_eq!(parse_background("#2030fF"), Ok(Background::Color([0x20, 0x30, 0xff])));
        for text in ["", "#123", "#1234567", "#+12345", "no/such/picture.png"] {
            assert!(parse_background(text).is_err(), "{text}");
        }
        let want = Scripted {
            at: Duration::from_secs(2),
            action: Action::Background(Background::Blurred),
        };
        assert_eq!("2s=background:blurred".parse(), Ok(want));
    }

    #[test]
    fn loss_is_a_share() {
        assert_eq!(parse_loss("0.3"), Ok(0.3));
        for text in ["30", "-0.1", "1", "NaN", "a"] {
            assert!(parse_loss(text).is_err(), "{text}");
        }
    }

    #[test]
    fn auto_is_as_large_as_the_place_and_never_smaller_by_choice() {
        for (place, side) in
            [(0, 128), (90, 128), (200, 224), (512, 512), (700, 704), (1023, 1024), (3000, 1024)]
        {
            assert_eq!(Resolution::Auto.side(place), side, "{place}");
        }
    }
}
