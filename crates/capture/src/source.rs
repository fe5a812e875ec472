use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use types::{Frame, FrameError, Sound};

use crate::mp4_clip::Mp4Clip;
use crate::mp4_reader::{IndexError, read_tracks};

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
    /// Not one of ours.
    #[error("not a clip (MP4 with H.264, Y4M, or a folder of PNG or JPEG pictures): {}", path.display())]
    NotAClip { path: PathBuf },
    /// A clip, but of nothing.
    #[error("the clip holds no frames: {}", path.display())]
    Empty { path: PathBuf },
    /// The index of an MP4 file comes last, and is missing: an interrupted recording or download.
    #[error("the clip is cut short, its index is missing: {}", path.display())]
    Truncated { path: PathBuf },
    /// Damaged in its head, so that no frame can be read.
    #[error("the clip is damaged: {}", path.display())]
    Malformed { path: PathBuf },
}

/// Why the next frame or sound could not be read. All frames before it were whole.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file ends early. Go on with the frames there are, or get the rest of the file.
    #[error("the clip ends inside frame {at} of {of}")]
    Truncated { at: u64, of: u64 },
    /// The bytes of a frame make no picture.
    #[error("frame {at} of the clip is damaged")]
    Corrupt { at: u64 },
    /// The disk, or the pipe.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A picture of no size, or larger than 8K.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// An open camera, actor or clip.
pub struct Source {
    kind: Kind,
}

enum Kind {
    Mp4(Box<Mp4Clip>),
}

impl Source {
    /// Opens a source.
    ///
    /// # Errors
    /// If it does not exist, is not of a kind we know, or holds no frames.
    pub fn open(spec: &SourceSpec) -> Result<Self, OpenError> {
        let kind = match spec {
            SourceSpec::Clip(path) => open_clip(path)?,
            _ => return Err(OpenError::NotAClip { path: PathBuf::new() }),
        };
        Ok(Self { kind })
    }

    /// Frames in a second, rounded.
    pub fn fps(&self) -> u32 {
        match &self.kind {
            Kind::Mp4(clip) => clip.fps(),
        }
    }

    /// Frames of a clip; `None` where there is no end or it is not known.
    pub fn n_frames(&self) -> Option<u64> {
        match &self.kind {
            Kind::Mp4(clip) => Some(clip.n_frames()),
        }
    }

    /// The next frame, its centered square, with its media time; `None` after the last.
    ///
    /// Clips and the actor come as fast as asked; a camera blocks for its newest frame.
    ///
    /// # Errors
    /// If the clip is cut short or damaged; every whole frame was returned before.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let frame = match &mut self.kind {
            Kind::Mp4(clip) => clip.next_frame()?,
        };
        Ok(frame.map(|f| f.center_square()))
    }

    /// The next 20 ms.
    ///
    /// # Errors
    /// As [`Source::next_frame`].
    pub fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        Ok(None)
    }
}

fn open_clip(path: &Path) -> Result<Kind, OpenError> {
    let path_of = || path.to_owned();
    if !path.exists() {
        return Err(OpenError::Missing { path: path_of() });
    }
    let io = |source| OpenError::Io { path: path_of(), source };
    let mut file = File::open(path).map_err(io)?;
    let tracks = match read_tracks(&mut file) {
        Ok(tracks) => tracks,
        Err(IndexError::Io(source)) => return Err(io(source)),
        Err(IndexError::Truncated) => return Err(OpenError::Truncated { path: path_of() }),
        Err(IndexError::Malformed) => return Err(OpenError::Malformed { path: path_of() }),
        Err(IndexError::NotMp4 | IndexError::Fragmented) => {
            return Err(OpenError::NotAClip { path: path_of() });
        }
    };
    let track = tracks.into_iter().find(|t| t.is_video);
    let track = track.ok_or_else(|| OpenError::Empty { path: path_of() })?;
    if track.samples.is_empty() {
        return Err(OpenError::Empty { path: path_of() });
    }
    let clip = Mp4Clip::new(file, track).ok_or_else(|| OpenError::NotAClip { path: path_of() })?;
    Ok(Kind::Mp4(Box::new(clip)))
}
