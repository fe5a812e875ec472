//! The command line. It is a contract: scripts and measurements rely on it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use call::{SoundSource, VoiceProcessing};
use capture::{SourceSpec, SpeakerSpec};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_lex::OsStrExt as _;
use face::Background;
use types::{ParseRateError, Rate};

use crate::arguments::{
    Output, background_parser, microphone_parser, output_parser, parse_background, path_parser,
    source_parser, speaker_parser,
};

/// Face-to-face calls in the bandwidth of a phone call. Without a command, opens the window.
#[derive(Debug, Parser)]
#[command(name = "feathercall", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Call between two peers on this machine: real WebRTC on loopback, the built-in actor and its face
    Demo(Demo),
    /// Enroll a face from a camera, a clip or the actor
    Enroll(Enroll),
    /// Start a call: print the invite link and wait for the peer
    Call(Host),
    /// Join a call by its invite link
    Join(Join),
    /// Run the signaling service through which peers connect
    Rendezvous {
        /// Address to listen on, such as 0.0.0.0:7300
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Encode a clip as a stream of access units, as a call would send them
    Encode {
        /// The clip
        #[arg(value_parser = path_parser())]
        clip: PathBuf,
        /// Face file of the person in the clip
        #[arg(long, value_parser = path_parser())]
        face: PathBuf,
        /// The stream to write, such as OUT.fcs
        #[arg(long, value_parser = output_parser(Output::Stream))]
        out: PathBuf,
        /// How much is sent: less data, or more detail and less delay
        #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
        rate: Rate,
        /// Take what can be read of a clip that is cut short or damaged
        #[arg(long)]
        partial: bool,
        #[command(flatten)]
        overwrite: Overwrite,
        /// Print progress and result as JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Render a stream of access units
    Decode {
        /// The stream, made by `encode`
        #[arg(value_parser = path_parser())]
        stream: PathBuf,
        /// Face file of the person in the stream
        #[arg(long, value_parser = path_parser())]
        face: PathBuf,
        /// OUT.mp4, OUT.y4m, or a new folder for PNG pictures
        #[arg(long, value_parser = output_parser(Output::Clip))]
        out: PathBuf,
        /// Side of the pictures in pixels: 128, 256, 512, 1024, or auto for 256
        #[arg(long, default_value = "256")]
        resolution: Resolution,
        /// Background: own, blurred, a color such as #203040, or a picture
        #[arg(long, default_value = "own", value_parser = background_parser())]
        background: Background,
        /// Pictures per second, 1 to 240
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=240))]
        fps: u32,
        /// Render more than an hour of video without a question
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        overwrite: Overwrite,
        /// Print progress and result as JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Evaluate a face on a clip: picture quality and bit rate
    Eval {
        /// A clip, or actor for the built-in actor
        #[arg(long, value_parser = path_parser())]
        clip: PathBuf,
        /// Face file of the person in the clip
        #[arg(long, value_parser = path_parser())]
        face: PathBuf,
        /// Frames A..B, B excluded [default: the whole clip]
        #[arg(long, value_parser = parse_frames)]
        frames: Option<Range<u64>>,
        /// Sides of the rendered pictures in pixels, separated by commas
        #[arg(long, value_delimiter = ',', default_value = "256")]
        resolutions: Vec<u32>,
        #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
        rate: Rate,
        /// Samples per ray
        #[arg(long, default_value_t = face::DEFAULT_SAMPLES, value_parser = clap::value_parser!(u32).range(1..=i64::from(face::MAX_SAMPLES)))]
        samples: u32,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        /// Folder for the report with tables and pictures, which may hold other files
        #[arg(long, value_parser = path_parser())]
        report: Option<PathBuf>,
        /// Measure the effect of packet loss instead: the share lost, such as 0.3
        #[arg(long, value_parser = parse_loss, conflicts_with_all = ["report", "curve"])]
        loss: Option<f64>,
        /// Lose packets in bursts of this length, such as 400ms, instead of independently
        #[arg(long, value_parser = parse_duration, requires = "loss")]
        burst: Option<Duration>,
        /// Measure rate-distortion curves instead, beside x264, x265, VP9 and AV1; folder for the curves, which may hold other files
        #[arg(long, value_parser = path_parser(), conflicts_with = "report")]
        curve: Option<PathBuf>,
        /// Take what can be read of a clip that is cut short or damaged
        #[arg(long)]
        partial: bool,
        #[command(flatten)]
        overwrite: Overwrite,
    },
    /// Write the 478 landmarks of every frame to a `NumPy` archive
    Track {
        /// The clip
        #[arg(value_parser = path_parser())]
        clip: PathBuf,
        /// The archive to write, such as OUT.npz
        #[arg(long, value_parser = output_parser(Output::Landmarks))]
        landmarks: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        /// Take what can be read of a clip that is cut short or damaged
        #[arg(long)]
        partial: bool,
        #[command(flatten)]
        overwrite: Overwrite,
    },
    /// List cameras, microphones, speakers and graphics adapters
    Devices {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Inspect, export, encrypt or decrypt a face file
    #[command(subcommand)]
    Model(Model),
    /// List the enrolled faces and what interrupted enrollments, recordings and exports left behind
    Files {
        /// Folders to look in besides the program's own [default: the current folder]
        #[arg(value_parser = path_parser())]
        folders: Vec<PathBuf>,
        /// Remove what was left behind; faces stay
        #[arg(long)]
        remove: bool,
        /// Print a JSON object for each file
        #[arg(long)]
        json: bool,
    },
    /// Measure the speed of one part of the program on this machine
    Bench {
        /// The part to measure
        #[arg(value_enum)]
        part: BenchPart,
        /// Face file [default: the built-in actor's]
        #[arg(long, value_parser = path_parser())]
        face: Option<PathBuf>,
        /// For `bench render` and `bench fields`: a stream of that face, made by `encode`, to render
        /// at 60 pictures per second instead of the actor
        #[arg(long, value_parser = path_parser())]
        stream: Option<PathBuf>,
        /// For `bench render` and `bench fields`: samples per ray
        #[arg(long, default_value_t = face::DEFAULT_SAMPLES, value_parser = clap::value_parser!(u32).range(1..=i64::from(face::MAX_SAMPLES)))]
        samples: u32,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What happens to a file that is where a command writes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Overwrite {
    /// Replace any file that is there. Without it only an earlier file of the same kind is replaced,
    /// made by this program, and only once the new one is complete. A folder must be new or empty
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Duration of the call in seconds
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Run without a window
    #[arg(long)]
    pub(crate) headless: bool,
    /// Record the call: OUT.mp4, OUT.y4m, or a new folder [default without a window: demo.mp4]
    #[arg(long, value_parser = output_parser(Output::Clip))]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overwrite: Overwrite,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Enroll {
    /// What to learn from: camera, camera:NAME, actor, or a clip
    #[arg(long, value_parser = source_parser())]
    pub(crate) from: SourceSpec,
    /// The face file to write, such as ME.face
    #[arg(long, value_parser = output_parser(Output::Face))]
    pub(crate) out: PathBuf,
    /// Side of the square training pictures in pixels
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=512))]
    pub(crate) size: u32,
    /// Size of the face: default, or small, about half the bytes to download
    #[arg(long, default_value = "default")]
    pub(crate) preset: enroll::Preset,
    /// Time limit for the whole enrollment, such as 90s or 10m
    #[arg(long, value_name = "TIME", conflicts_with = "steps")]
    pub(crate) budget: Option<enroll::Budget>,
    /// Number of training steps instead of a time limit, for reproducible results
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// Frames held out for measuring: the last share, such as 0.15, or every N-th, such as every:7
    #[arg(long, default_value = "0.15")]
    pub(crate) holdout: enroll::Holdout,
    /// Disable a part, to measure its benefit: embedding, consistency-code
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub(crate) without: Vec<enroll::Ablation>,
    /// Resume an interrupted enrollment
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print progress and result as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    /// State that the person consents to a model of their face, instead of being asked
    #[arg(long)]
    pub(crate) i_consent: bool,
    /// Write the face and the training state unencrypted
    #[arg(long)]
    pub(crate) plain: bool,
    /// Take what can be read of a clip that is cut short or damaged
    #[arg(long)]
    pub(crate) partial: bool,
    #[command(flatten)]
    pub(crate) overwrite: Overwrite,
}

/// Warning below the help of `call` and `join`.
const PRIVATE_ARGUMENTS: &str = "Other users of this machine can see arguments. To keep a link or a \
    password from them, use standard input, the environment or a file.";

#[derive(Debug, Args)]
#[command(after_help = PRIVATE_ARGUMENTS)]
pub(crate) struct Host {
    /// Rendezvous service at which to meet [default: run one here, for the local network]
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "manual")]
    pub(crate) rendezvous: Option<String>,
    /// Connect without a service: exchange a link and an answer by hand
    #[arg(long)]
    pub(crate) manual: bool,
    /// Wait for the next guest when one has left, instead of closing the link
    #[arg(long, conflicts_with = "manual")]
    pub(crate) keep_link: bool,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

#[derive(Debug, Args)]
#[command(after_help = PRIVATE_ARGUMENTS)]
pub(crate) struct Join {
    /// The invite link, or - to read it from standard input
    #[arg(env = "FEATHERCALL_LINK", hide_env_values = true)]
    pub(crate) link: String,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

/// Default limit of pictures per second in a window: the refresh rate of most displays.
pub(crate) const DEFAULT_MAX_FPS: u32 = 60;

/// Options that `call` and `join` share.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// Your face file; without it your peer hears you and sees your name
    #[arg(long, value_parser = path_parser())]
    pub(crate) face: Option<PathBuf>,
    /// What animates your face: camera, camera:NAME, actor, a clip, or a .fcs stream made by `encode`
    #[arg(long, value_parser = source_parser())]
    pub(crate) source: Option<SourceSpec>,
    /// Your name, which your peer sees
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// Let in whoever has the link, and accept another face of the peer, without a question
    #[arg(long)]
    pub(crate) auto_admit: bool,
    /// Do not show your face yet; --at TIME=show-face or a button shows it
    #[arg(long)]
    pub(crate) hide_face: bool,
    /// Run without a window
    #[arg(long)]
    pub(crate) headless: bool,
    /// Record the peer and both voices: OUT.mp4, OUT.y4m (without sound), or a new folder; a second guest goes to
    /// OUT-2.mp4
    #[arg(long, value_parser = output_parser(Output::Clip))]
    pub(crate) record: Option<PathBuf>,
    /// Side of the peer picture in pixels: 128, 256, 512, 1024, or auto to fit the window
    #[arg(long, default_value = "auto")]
    pub(crate) resolution: Resolution,
    /// Background of the peer picture: own, blurred, a color such as #203040, or a picture
    #[arg(long, default_value = "own", value_parser = background_parser())]
    pub(crate) background: Background,
    /// Limit of pictures per second in the window; fewer save power
    #[arg(long, default_value_t = DEFAULT_MAX_FPS, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub(crate) max_fps: u32,
    /// How much is sent: less data, or more detail and less delay
    #[arg(long, value_parser = rate_parser(), default_value_t = Rate::Normal)]
    pub(crate) rate: Rate,
    /// Write statistics to this file once a second as JSON lines
    #[arg(long, value_parser = path_parser())]
    pub(crate) stats: Option<PathBuf>,
    /// Hang up after this time, such as 10s
    #[arg(long, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Give up if nobody has come after this time [default: 10m for join]; it stands still while a
    /// guest waits to be let in
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// What your peer hears: default, the name of a microphone, a sound file, source (the sound of
    /// --source), or none [default: source for a clip with --source, else default]
    #[arg(long, value_name = "WHAT", value_parser = microphone_parser(), conflicts_with = "no_audio")]
    pub(crate) microphone: Option<SoundSource>,
    /// Where you hear your peer: default, the name of a speaker, a .wav file to write, or none
    #[arg(long, value_name = "WHERE", value_parser = speaker_parser(), conflicts_with = "no_audio")]
    pub(crate) speaker: Option<SpeakerSpec>,
    /// What is done with the sound of the microphone: echo, noise, gain, separated by commas, or none
    /// [default: all three for a device, none for a file]
    #[arg(long, value_name = "WHAT", value_parser = parse_voice_processing, conflicts_with = "no_audio")]
    pub(crate) voice_processing: Option<VoiceProcessing>,
    /// Neither send nor play sound
    #[arg(long)]
    pub(crate) no_audio: bool,
    /// Do not send your face
    #[arg(long)]
    pub(crate) no_video: bool,
    /// Scripted action, such as 4s=resolution:512, 4s=rate:low, 2s=mute, 3s=camera-off, 9s=hang-up
    #[arg(long, value_name = "TIME=ACTION", value_parser = scripted_parser())]
    pub(crate) at: Vec<Scripted>,
    /// STUN or TURN server, such as stun:stun.example.org:3478 or turn:user:password@host:3478; more
    /// are read from `FEATHERCALL_ICE_SERVERS`, separated by spaces
    #[arg(long, value_name = "URL")]
    pub(crate) ice_server: Vec<String>,
    /// File with STUN and TURN servers, one URL in each line
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    pub(crate) ice_servers_from: Option<PathBuf>,
    /// Reach the peer through the TURN servers given alone: it does not learn your address
    #[arg(long)]
    pub(crate) relay_only: bool,
    #[command(flatten)]
    pub(crate) overwrite: Overwrite,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Print the sizes, layers and hash of a face file
    Info {
        /// The face file
        #[arg(value_parser = path_parser())]
        face: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the public part of a face, what a peer receives, to an unencrypted file
    Export {
        /// The face file
        #[arg(value_parser = path_parser())]
        face: PathBuf,
        /// The file to write
        #[arg(long, value_parser = output_parser(Output::Face))]
        out: PathBuf,
        #[command(flatten)]
        overwrite: Overwrite,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Encrypt a face file in place
    Encrypt {
        /// The face file
        #[arg(value_parser = path_parser())]
        face: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an unencrypted copy of a face file, to move it to another computer
    Decrypt {
        /// The face file
        #[arg(value_parser = path_parser())]
        face: PathBuf,
        /// The file to write
        #[arg(long, value_parser = output_parser(Output::Face))]
        out: PathBuf,
        #[command(flatten)]
        overwrite: Overwrite,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BenchPart {
    /// Rendering, on every path of this machine
    Render,
    /// The tracker
    Track,
    /// Encoder and decoder
    Codec,
    /// Rendering this field and fields that evaluate their networks more often
    Fields,
}

/// Parses the name of a rate and lists the names in the help text.
fn rate_parser() -> impl TypedValueParser<Value = Rate> {
    PossibleValuesParser::new(Rate::ALL.map(Rate::name)).try_map(|name| name.parse::<Rate>())
}

/// Requested side of the peer picture.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resolution {
    /// The size of its area in the window, in physical pixels; 256 without a window.
    #[default]
    Auto,
    /// A fixed number of pixels.
    Side(u32),
}

impl Resolution {
    /// All choices.
    pub const CHOICES: [Self; 5] =
        [Self::Auto, Self::Side(128), Self::Side(256), Self::Side(512), Self::Side(1024)];

    /// Returns the side to render, pixels, for an area of `area_px` physical pixels.
    ///
    /// [`Resolution::Auto`] returns the side of the area, limited to 128..=1024 and rounded up to a
    /// multiple of 32, so that the size does not change at every pixel while the window is being
    /// resized.
    pub fn side(self, area_px: u32) -> u32 {
        match self {
            Self::Side(side) => side,
            Self::Auto => area_px.clamp(128, 1024).next_multiple_of(32),
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

/// User action scheduled at a time after the peers connected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scripted {
    pub(crate) at: Duration,
    pub(crate) action: UserAction,
}

/// User action in a call, from a button or a script.
#[derive(Clone, Debug, PartialEq)]
pub enum UserAction {
    /// Command to the call itself.
    Call(call::Command),
    /// Change the size of the peer picture.
    Resolution(Resolution),
    /// Change the background of the peer picture.
    Background(Background),
    /// Copy the invite link to the clipboard.
    CopyLink,
}

/// Parses a scripted action.
fn scripted_parser() -> impl TypedValueParser<Value = Scripted> {
    OsStringValueParser::new().try_map(|text| parse_scripted(&text))
}

fn parse_scripted(text: &OsStr) -> Result<Scripted, String> {
    let (time, action) = text.split_once("=").ok_or("write TIME=ACTION, such as 4s=mute")?;
    let at = parse_duration(&time.to_string_lossy())?;
    if let Some(background) = action.strip_prefix("background:") {
        return Ok(Scripted { at, action: UserAction::Background(parse_background(background)?) });
    }
    let action = action.to_string_lossy();
    let action = match action.split_once(':').unwrap_or((&action, "")) {
        ("resolution", side) => UserAction::Resolution(side.parse()?),
        ("rate", rate) => UserAction::Call(call::Command::SetRate(parse_rate(rate)?)),
        ("mute", "") => UserAction::Call(call::Command::SetMuted(true)),
        ("unmute", "") => UserAction::Call(call::Command::SetMuted(false)),
        ("talk", "") => UserAction::Call(call::Command::Talk(true)),
        ("stop-talking", "") => UserAction::Call(call::Command::Talk(false)),
        ("camera-off", "") => UserAction::Call(call::Command::SetCameraOn(false)),
        ("camera-on", "") => UserAction::Call(call::Command::SetCameraOn(true)),
        ("show-face", "") => UserAction::Call(call::Command::ShowFace(true)),
        ("hide-face", "") => UserAction::Call(call::Command::ShowFace(false)),
        ("hang-up", "") => UserAction::Call(call::Command::HangUp),
        _ => {
            return Err(
                    "actions are resolution:SIDE, background:WHAT, rate:RATE, mute, unmute, talk, stop-talking, camera-off, camera-on, show-face, hide-face, hang-up"
                        .into(),
                );
        }
    };
    Ok(Scripted { at, action })
}

/// Parses `none`, or `echo`, `noise` and `gain` separated by commas.
fn parse_voice_processing(text: &str) -> Result<VoiceProcessing, String> {
    let mut processing = VoiceProcessing::OFF;
    for word in text.split(',') {
        match word {
            "none" if text == "none" => {}
            "echo" => processing.echo_cancellation = true,
            "noise" => processing.noise_suppression = true,
            "gain" => processing.gain_control = true,
            _ => return Err("voice processing is none, or some of echo, noise, gain".to_owned()),
        }
    }
    Ok(processing)
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|error: ParseRateError| error.to_string())
}

/// Parses `90s`, `1500ms`, `10m`, `1h`, or plain seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number followed by ms, s, m or h".to_owned()),
    };
    let seconds =
        number.parse::<f64>().map_err(|_| "a time is a number, such as 10s".to_owned())?;
    Duration::try_from_secs_f64(seconds * scale)
        .map_err(|_| "a time is neither negative nor infinite".to_owned())
}

/// Parses a share from 0 to 0.95.
fn parse_loss(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=0.95).contains(share));
    share.ok_or_else(|| "loss is a share from 0 to 0.95, such as 0.3".to_owned())
}

/// Parses a range `A..B`.
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
    fn durations_have_units() {
        for (text, ms) in [("10s", 10_000), ("1500ms", 1500), ("2m", 120_000), ("0.5", 500)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "4x", "1e99s", "NaN"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scripted_actions_are_parsed() {
        let want = Scripted {
            at: Duration::from_secs(4),
            action: UserAction::Resolution(Resolution::Side(512)),
        };
        let parse = |text: &str| parse_scripted(OsStr::new(text));
        assert_eq!(parse("4s=resolution:512"), Ok(want));
        let action = UserAction::Call(call::Command::ShowFace(true));
        let want = Scripted { at: Duration::from_mins(1), action };
        assert_eq!(parse("1m=show-face"), Ok(want));
        let action = UserAction::Call(call::Command::SetRate(Rate::Low));
        let want = Scripted { at: Duration::from_millis(500), action };
        assert_eq!(parse("500ms=rate:low"), Ok(want));
        let action = UserAction::Background(Background::Blurred);
        let want = Scripted { at: Duration::from_secs(2), action };
        assert_eq!(parse("2s=background:blurred"), Ok(want));
        for text in [
            "4s=rate",
            "4s=rate:fast",
            "4s",
            "4s=dance",
            "x=mute",
            "4s=resolution:300",
            "4s=mute:1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn voice_processing_is_switched_part_by_part() {
        assert_eq!(parse_voice_processing("none"), Ok(VoiceProcessing::OFF));
        assert_eq!(parse_voice_processing("gain,echo,noise"), Ok(VoiceProcessing::ON));
        let echo = VoiceProcessing { echo_cancellation: true, ..VoiceProcessing::OFF };
        assert_eq!(parse_voice_processing("echo"), Ok(echo));
        for text in ["", "none,echo", "echo,", "reverb"] {
            assert!(parse_voice_processing(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loss_is_a_share() {
        assert_eq!(parse_loss("0.3"), Ok(0.3));
        for text in ["30", "-0.1", "1", "NaN", "a"] {
            assert!(parse_loss(text).is_err(), "{text}");
        }
    }

    #[test]
    fn auto_fits_the_area_in_steps_of_32_pixels() {
        for (place, side) in
            [(0, 128), (90, 128), (200, 224), (512, 512), (700, 704), (1023, 1024), (3000, 1024)]
        {
            assert_eq!(Resolution::Auto.side(place), side, "{place}");
        }
    }
}
