//! Cameras, the actor and clips behind one type.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use types::{MediaTime, Sound, SquareFrame};

use crate::actor_source::{ACTOR_FPS, ActorSource, ActorVoice};
use crate::camera::Camera;
use crate::errors::{OpenError, ReadError};
use crate::ffmpeg::FfmpegClip;
use crate::files::SOUND_NAME;
use crate::mp4::{IndexError, Mp4Clip, read_tracks};
use crate::partial::Progress;
use crate::picture::y4m::{self, Y4mReader};
use crate::picture::{PICTURES_FPS, Pictures};
use crate::sound::{ClipSound, Mp4Sound};

/// Description of a source of frames, as the command line names it.
///
/// ```
/// use capture::SourceSpec;
/// assert_eq!("actor".parse(), Ok(SourceSpec::Actor));
/// assert_eq!("camera:Logi".parse(), Ok(SourceSpec::Camera(Some("Logi".into()))));
/// assert_eq!("me.mp4".parse(), Ok(SourceSpec::Clip("me.mp4".into())));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceSpec {
    /// The first camera, or the first one whose name contains this text (case is ignored).
    Camera(Option<String>),
    /// The synthetic talking head.
    Actor,
    /// A video file, or a folder of pictures, shown at 25 frames per second in the natural order of
    /// their names: 2 before 10. The sound of a folder is in its file `sound.wav`.
    Clip(PathBuf),
}

impl From<&OsStr> for SourceSpec {
    /// Reads `camera`, `camera:NAME` or `actor`; anything else is the path of a clip.
    fn from(text: &OsStr) -> Self {
        let words = text.to_str().unwrap_or_default();
        match words {
            "camera" => Self::Camera(None),
            "actor" => Self::Actor,
            _ => match words.strip_prefix("camera:") {
                Some(name) => Self::Camera(Some(name.to_owned())),
                None => Self::Clip(text.into()),
            },
        }
    }
}

impl FromStr for SourceSpec {
    type Err = Infallible;

    /// See the conversion from [`OsStr`].
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(OsStr::new(text)))
    }
}

/// Open camera, actor or clip.
///
/// Frames are square (the center of a camera picture or clip) and carry their media time; sound is
/// mono at 48 kHz.
pub struct Source {
    kind: Kind,
    sound: Option<SourceSound>,
    progress: Progress,
}

enum Kind {
    Camera(Camera),
    Actor(Box<ActorSource>),
    Mp4(Box<Mp4Clip>),
    Y4m(Y4mReader<BufReader<File>>),
    Pictures(Pictures),
    Ffmpeg(Box<FfmpegClip>),
}

/// Sound of a source, 20 ms at a time.
pub(crate) enum SourceSound {
    Actor(ActorVoice),
    Clip(Box<ClipSound>),
    /// A clip without sound; whether that was told.
    Missing(bool),
}

impl SourceSound {
    /// See [`Source::next_sound`].
    pub(crate) fn next(&mut self) -> Result<Option<Sound>, ReadError> {
        match self {
            Self::Actor(voice) => Ok(Some(voice.next_sound())),
            Self::Clip(sound) => sound.next_sound(),
            Self::Missing(true) => Ok(None),
            Self::Missing(is_told) => {
                *is_told = true;
                Err(ReadError::NoSound)
            }
        }
    }
}

impl Source {
    /// Opens a source.
    ///
    /// # Errors
    /// If it does not exist, has an unsupported format, or holds no frames.
    pub fn open(spec: &SourceSpec) -> Result<Self, OpenError> {
        let (kind, sound) = match spec {
            SourceSpec::Camera(name) => (Kind::Camera(Camera::open(name.as_deref())?), None),
            SourceSpec::Actor => {
                let actor = ActorSource::new();
                let voice = SourceSound::Actor(actor.voice());
                (Kind::Actor(Box::new(actor)), Some(voice))
            }
            SourceSpec::Clip(path) => {
                let (kind, sound) = open_clip(path)?;
                let sound = sound.map(Box::new).map(SourceSound::Clip);
                (kind, Some(sound.unwrap_or(SourceSound::Missing(false))))
            }
        };
        Ok(Self { kind, sound, progress: Progress::default() })
    }

    /// Returns the frame rate, frames per second, rounded.
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

    /// Returns the number of frames of a clip; `None` for a camera, the actor, and clips that are
    /// read through `ffmpeg`.
    pub fn n_frames(&self) -> Option<u64> {
        match &self.kind {
            Kind::Mp4(clip) => Some(clip.n_frames()),
            Kind::Y4m(clip) => clip.n_frames(),
            Kind::Pictures(clip) => Some(clip.n_frames()),
            Kind::Camera(_) | Kind::Actor(_) | Kind::Ffmpeg(_) => None,
        }
    }

    /// Reads the next frame; `None` after the last one.
    ///
    /// Clips and the actor deliver as fast as they are read; a camera blocks until its next frame.
    ///
    /// # Errors
    /// If the clip is cut short or damaged, or the camera was lost. All complete frames were
    /// returned before. [`crate::accept_partial_clips`] makes a clip end there.
    pub fn next_frame(&mut self) -> Result<Option<SquareFrame>, ReadError> {
        if self.progress.has_ended() {
            return Ok(None);
        }
        let read = match &mut self.kind {
            Kind::Camera(camera) => return Ok(Some(camera.next_frame()?.center_square())),
            Kind::Actor(actor) => return Ok(Some(actor.next_frame())),
            Kind::Mp4(clip) => clip.next_frame(),
            Kind::Y4m(clip) => clip.next_frame(),
            Kind::Pictures(clip) => clip.next_frame(),
            Kind::Ffmpeg(clip) => clip.next_frame(),
        };
        self.progress.count(read.map(|frame| frame.map(|frame| frame.center_square())))
    }

    /// Returns the time of the last frame at or before `time` that can be read without those before it,
    /// or of the first frame; `None` if the source can only be read in order, as a camera or a clip that
    /// is read through `ffmpeg`.
    pub fn entry_before(&self, time: MediaTime) -> Option<MediaTime> {
        let of_frame = |index: u64, fps: u32| Some(MediaTime::of_frame(index, fps));
        match &self.kind {
            Kind::Mp4(clip) => clip.entry_before(time),
            Kind::Actor(_) => of_frame(frame_at(time, ACTOR_FPS), ACTOR_FPS),
            Kind::Pictures(_) => of_frame(frame_at(time, PICTURES_FPS), PICTURES_FPS),
            Kind::Camera(_) | Kind::Y4m(_) | Kind::Ffmpeg(_) => None,
        }
    }

    /// Continues with the frame at a time that [`Source::entry_before`] has returned, before or after the
    /// current one. The sound stays where it is.
    pub fn seek(&mut self, entry: MediaTime) {
        self.progress.go_elsewhere();
        match &mut self.kind {
            Kind::Mp4(clip) => clip.seek(entry),
            Kind::Actor(actor) => actor.seek(frame_at(entry, ACTOR_FPS)),
            Kind::Pictures(clip) => clip.seek(frame_at(entry, PICTURES_FPS)),
            Kind::Camera(_) | Kind::Y4m(_) | Kind::Ffmpeg(_) => {}
        }
    }

    /// Reads the next 20 ms of sound (960 samples): the actor's voice, or the sound of a clip. `None`
    /// after the end, and for a camera.
    ///
    /// Frames and sounds are read independently of each other, and their media times count from the
    /// same zero. The last block of a clip is padded with silence.
    ///
    /// # Errors
    /// Once, if a clip has no sound ([`ReadError::NoSound`]), or if its sound cannot be decoded to its
    /// end ([`ReadError::SoundUnreadable`], [`ReadError::Io`]); frames are read as before. Damaged
    /// packets of MP4 files are silence.
    pub fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        self.sound.as_mut().map_or(Ok(None), SourceSound::next)
    }

    /// Leaves out the frames before `time` if that saves work: those of the actor. A clip has to be decoded
    /// in full.
    pub(crate) fn skip_to(&mut self, time: MediaTime) {
        if let Kind::Actor(actor) = &mut self.kind {
            actor.skip_to(time);
        }
    }

    /// Returns the source without its sound, which is then not even decoded.
    #[must_use]
    pub fn without_sound(mut self) -> Self {
        self.sound = None;
        self
    }

    /// Takes the sound away from the frames, so that another thread can read it.
    pub(crate) fn take_sound(&mut self) -> Option<SourceSound> {
        self.sound.take()
    }

    /// Returns whether frames arrive at the pace of a device, as from a camera.
    pub fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Camera(_))
    }
}

/// Returns the index of the frame that is shown at `time`.
fn frame_at(time: MediaTime, fps: u32) -> u64 {
    // The times of frames are rounded down.
    ((u128::from(time.as_micros()) + 1) * u128::from(fps) / 1_000_000) as u64
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
            let clip = pictures.clip().map(Path::to_owned);
            return Err(OpenError::NoPictures { path: path_of(), clip });
        }
        let sound = path.join(SOUND_NAME);
        let sound = sound.is_file().then(|| ClipSound::open(&sound).ok()).flatten();
        return Ok((Kind::Pictures(pictures), sound));
    }
    if !path.metadata().map_err(io)?.is_file() {
        // Opening a pipe would wait for somebody who writes into it.
        return Err(OpenError::NotAFile { path: path_of() });
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
        Err(IndexError::Malformed) => {
            return open_with_ffmpeg(path).map_err(|_| OpenError::Malformed { path: path_of() });
        }
        Err(IndexError::NotMp4) => return open_with_ffmpeg(path),
    };
    let sound = tracks.iter().find(|t| !t.is_video).map(|track| {
        let file = File::open(path).ok();
        let sound = file.and_then(|file| Mp4Sound::new(file, track.clone()));
        sound.map_or_else(|| ClipSound::by_ffmpeg(path_of()), ClipSound::of_track)
    });
    match tracks.into_iter().find(|t| t.is_video) {
        Some(track) if !track.samples.is_empty() => match Mp4Clip::new(file, track) {
            Ok(clip) if clip.n_frames() == 0 => Err(OpenError::Empty { path: path_of() }),
            Ok(clip) => {
                // ffmpeg blends the fields of interlaced pictures; without it they stay as they are.
                let blended = clip.is_interlaced().then(|| open_with_ffmpeg(path).ok()).flatten();
                Ok((blended.map_or(Kind::Mp4(Box::new(clip)), |(kind, _)| kind), sound))
            }
            Err(reason) => match open_with_ffmpeg(path) {
                Ok((kind, _)) => Ok((kind, sound)),
                Err(OpenError::NoFfmpeg { path }) => Err(OpenError::NeedsFfmpeg { path, reason }),
                Err(error) => Err(error),
            },
        },
        Some(_) => Err(OpenError::Empty { path: path_of() }),
        None => Err(OpenError::NoVideo { path: path_of() }),
    }
}

fn open_with_ffmpeg(path: &Path) -> Result<(Kind, Option<ClipSound>), OpenError> {
    let clip = FfmpegClip::open(path)?;
    let sound = clip.has_sound().then(|| ClipSound::by_ffmpeg(path.to_owned()));
    Ok((Kind::Ffmpeg(Box::new(clip)), sound))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.mp4");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = Source::open(&SourceSpec::Clip(path)).err().unwrap().to_string();
        assert!(error.contains("not a file") && error.contains("pipe.mp4"), "{error}");
    }
}
