use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use types::{Frame, FrameError, Sound};

use crate::actor_source::{ACTOR_FPS, ActorSource};
use crate::camera::{Camera, CameraError};
use crate::clip_sound::ClipSound;
use crate::ffmpeg::FfmpegClip;
use crate::mp4_clip::Mp4Clip;
use crate::mp4_reader::{IndexError, read_tracks};
use crate::pictures::{PICTURES_FPS, Pictures};
use crate::y4m::{self, Y4mReader};

/// Where frames come from.
///
/// ```
/// use capture::SourceSpec;
/// assert_eq!("actor".parse(), Ok(SourceSpec::Actor));
/// assert_eq!("camera:Logi".parse(), Ok(SourceSpec::Camera(Some("Logi".into()))));
/// assert_eq!("me.mp4".parse(), Ok(SourceSpec::Clip("me.mp4".into())));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceSpec {
    /// The first camera, or the first one with this in its name.
    Camera(Option<String>),
    /// The synthetic talking head.
    Actor,
    /// A file, or a folder of numbered pictures.
    Clip(PathBuf),
}

impl FromStr for SourceSpec {
    type Err = Infallible;

    /// `camera`, `camera:NAME`, `actor`, or else a path.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "camera" => Self::Camera(None),
            "actor" => Self::Actor,
            _ => match text.strip_prefix("camera:") {
                Some(name) => Self::Camera(Some(name.to_owned())),
                None => Self::Clip(text.into()),
            },
        })
    }
}

/// Why a source could not be opened. Tell the user; nothing was started.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path is wrong.
    #[error("there is no file or folder {}", path.display())]
    Missing { path: PathBuf },
    /// It exists but cannot be read.
    #[error("{source}: {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Not one of ours, and there is no `ffmpeg` to ask.
    #[error(
        "not a clip this program reads (MP4 with H.264, Y4M, or a folder of PNG or JPEG pictures; \
         other formats need the ffmpeg program on the PATH): {}",
        path.display()
    )]
    NotAClip { path: PathBuf },
    /// Not one of ours, and `ffmpeg` cannot read it either.
    #[error(
        "not a clip (MP4 with H.264, Y4M, a folder of PNG or JPEG pictures, or what ffmpeg reads; \
         ffmpeg says: {says}): {}",
        path.display()
    )]
    Ffmpeg { path: PathBuf, says: String },
    /// A clip, but of nothing.
    #[error("the clip holds no frames: {}", path.display())]
    Empty { path: PathBuf },
    /// The index of an MP4 file comes last, and is missing: an interrupted recording or download.
    #[error("the clip is cut short, its index is missing: {}", path.display())]
    Truncated { path: PathBuf },
    /// Damaged in its head, so that no frame can be read.
    #[error("the clip is damaged: {}", path.display())]
    Malformed { path: PathBuf },
    /// There is none, or it does not work.
    #[error(transparent)]
    Camera(#[from] CameraError),
}

/// Why the next frame or sound could not be read. All frames before it were whole.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file ends early; every whole frame was returned before. Get the rest of the file.
    #[error("the clip is cut short inside frame {at} of {of}; copy it again")]
    Truncated { at: u64, of: u64 },
    /// The bytes of a frame make no picture.
    #[error("frame {at} of the clip is damaged")]
    Corrupt { at: u64 },
    /// A file of a folder that is no picture.
    #[error("not a picture ({source}): {}", path.display())]
    Picture { path: PathBuf, source: image::ImageError },
    /// The camera was unplugged, or taken by another program.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The disk, or the pipe.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A picture of no size, or larger than 8K.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// An open camera, actor or clip.
pub struct Source {
    spec: SourceSpec,
    kind: Kind,
    sound: Option<ClipSound>,
}

enum Kind {
    Camera(Camera),
    Actor(Box<ActorSource>),
    Mp4(Box<Mp4Clip>),
    Y4m(Y4mReader<BufReader<File>>),
    Pictures(Pictures),
    Ffmpeg(Box<FfmpegClip>),
}

impl Source {
    /// Opens a source.
    ///
    /// # Errors
    /// If it does not exist, is not of a kind we know, or holds no frames.
    pub fn open(spec: &SourceSpec) -> Result<Self, OpenError> {
        let (kind, sound) = match spec {
            SourceSpec::Camera(name) => (Kind::Camera(Camera::open(name.as_deref())?), None),
            SourceSpec::Actor => (Kind::Actor(Box::new(ActorSource::new())), None),
            SourceSpec::Clip(path) => open_clip(path)?,
        };
        Ok(Self { spec: spec.clone(), kind, sound })
    }

    /// Frames in a second, rounded.
    pub fn fps(&self) -> u32 {
        match &self.kind {
            Kind::Camera(camera) => camera.fps(),
            Kind::Actor(_) => ACTOR_FPS,
            Kind::Mp4(clip) => clip.fps(),
            Kind::Y4m(clip) => clip.fps(),
            Kind::Pictures(_) => PICTURES_FPS,
            Kind::Ffmpeg(clip) => clip.fps(),
        }
    }

    /// Frames of a clip; `None` where there is no end or it is not known.
    pub fn n_frames(&self) -> Option<u64> {
        match &self.kind {
            Kind::Mp4(clip) => Some(clip.n_frames()),
            Kind::Y4m(clip) => clip.n_frames(),
            Kind::Pictures(clip) => Some(clip.n_frames()),
            Kind::Camera(_) | Kind::Actor(_) | Kind::Ffmpeg(_) => None,
        }
    }

    /// The next frame, its centered square, with its media time; `None` after the last.
    ///
    /// Clips and the actor come as fast as asked; a camera blocks for its newest frame.
    ///
    /// # Errors
    /// If the clip is cut short or damaged, or the camera lost; every whole frame was returned
    /// before.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let frame = match &mut self.kind {
            Kind::Camera(camera) => Some(camera.next_frame()?),
            Kind::Actor(actor) => Some(actor.next_frame()),
            Kind::Mp4(clip) => clip.next_frame()?,
            Kind::Y4m(clip) => clip.next_frame()?,
            Kind::Pictures(clip) => clip.next_frame()?,
            Kind::Ffmpeg(clip) => clip.next_frame()?,
        };
        Ok(frame.map(|f| f.center_square()))
    }

    /// The next 20 ms of the same source, mono at 48 kHz: the actor's voice, or the AAC of an MP4
    /// clip. `None` after the last, or where the source has no sound.
    ///
    /// Frames and sounds are read independently of each other.
    ///
    /// # Errors
    /// If the file cannot be read. Damaged sound is silence.
    pub fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        match (&mut self.kind, &mut self.sound) {
            (Kind::Actor(actor), _) => Ok(Some(actor.next_sound())),
            (_, Some(sound)) => sound.next_sound(),
            (_, None) => Ok(None),
        }
    }

    /// Whether frames come at the pace of a device.
    pub fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Camera(_))
    }

    /// The same clip from its start.
    pub(crate) fn reopen(&self) -> Option<Self> {
        Self::open(&self.spec).ok()
    }
}

fn open_clip(path: &Path) -> Result<(Kind, Option<ClipSound>), OpenError> {
    let path_of = || path.to_owned();
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path_of() },
        _ => OpenError::Io { path: path_of(), source },
    };
    if path.metadata().map_err(io)?.is_dir() {
        let pictures = Pictures::in_folder(path).map_err(io)?;
        if pictures.n_frames() == 0 {
            return Err(OpenError::Empty { path: path_of() });
        }
        return Ok((Kind::Pictures(pictures), None));
    }
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length == 0 {
        return Err(OpenError::Empty { path: path_of() });
    }
    let mut magic = Vec::new();
    file.by_ref().take(y4m::MAGIC.len() as u64).read_to_end(&mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    if magic == y4m::MAGIC {
        return match Y4mReader::new(BufReader::with_capacity(1 << 20, file), Some(length)) {
            Ok(Some(clip)) if clip.n_frames() == Some(0) => {
                Err(OpenError::Empty { path: path_of() })
            }
            Ok(Some(clip)) => Ok((Kind::Y4m(clip), None)),
            Ok(None) => open_with_ffmpeg(path),
            Err(error) => Err(io(error)),
        };
    }
    let tracks = match read_tracks(&mut file) {
        Ok(tracks) => tracks,
        Err(IndexError::Io(source)) => return Err(io(source)),
        Err(IndexError::Truncated) => return Err(OpenError::Truncated { path: path_of() }),
        Err(IndexError::Malformed) => return Err(OpenError::Malformed { path: path_of() }),
        Err(IndexError::NotMp4 | IndexError::Fragmented) => return open_with_ffmpeg(path),
    };
    let sound = tracks.iter().find(|t| !t.is_video).and_then(|track| {
        let file = File::open(path).ok()?;
        ClipSound::new(file, track.clone())
    });
    match tracks.into_iter().find(|t| t.is_video) {
        Some(track) if !track.samples.is_empty() => match Mp4Clip::new(file, track) {
            Some(clip) => Ok((Kind::Mp4(Box::new(clip)), sound)),
            None => Ok((open_with_ffmpeg(path)?.0, sound)),
        },
        _ => Err(OpenError::Empty { path: path_of() }),
    }
}

fn open_with_ffmpeg(path: &Path) -> Result<(Kind, Option<ClipSound>), OpenError> {
    Ok((Kind::Ffmpeg(Box::new(FfmpegClip::open(path)?)), None))
}
