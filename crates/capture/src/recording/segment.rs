//! Segments of a recording: a file or a folder of pictures of one size.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use types::{Frame, Sound};

use crate::errors::WriteError;
use crate::explanation::{explained, folder_of};
use crate::files::{PartFile, PartFolder, Unfinished};
use crate::files::{Target, check_writable};
use crate::picture::encode_png;
use crate::picture::y4m;
use crate::recording::mp4_encoder::Mp4Encoder;
use crate::recording::sound_track::SoundTrack;
use crate::recording::wav_file::WavFile;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Mp4,
    Y4m,
    Folder,
}

impl Format {
    /// Returns the format that a file name selects.
    pub(crate) fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("mp4" | "m4v") => Self::Mp4,
            Some("y4m") => Self::Y4m,
            _ => Self::Folder,
        }
    }

    /// Returns whether recordings in this format can have sound.
    pub(crate) fn has_sound(self) -> bool {
        self != Self::Y4m
    }

    /// Checks that a clip of this format could be written to `path`.
    pub(crate) fn check(self, path: &Path) -> Result<(), WriteError> {
        match self {
            Self::Folder => check_replaceable_folder(path),
            Self::Mp4 | Self::Y4m => check_writable(path),
        }
    }
}

/// File or folder of a segment, still empty.
pub(crate) enum Part {
    File(PartFile),
    Folder(PartFolder),
}

/// A part of the recording whose frames have one size.
pub(crate) struct RecordingSegment {
    /// Width and height, pixels.
    pub(crate) size: (u32, u32),
    pub(crate) path: PathBuf,
    sink: Sink,
    fps: u32,
    /// Number of frames that were written.
    n_frames: u64,
    /// None if the segment has no sound.
    sound: Option<SoundTrack>,
}

enum Sink {
    Mp4(Box<Mp4Encoder>),
    Y4m(PartFile),
    /// Also a file for the sound, if there is any.
    Pictures(PartFolder, Option<WavFile>),
}

impl RecordingSegment {
    /// Starts a segment in `part`, for `path`. A Y4M file has no sound.
    pub(crate) fn create(
        path: PathBuf,
        part: Part,
        format: Format,
        size: (u32, u32),
        fps: u32,
        with_sound: bool,
    ) -> Result<Self, WriteError> {
        let sink = match part {
            Part::Folder(folder) => {
                let wav = with_sound.then(|| WavFile::create(&folder)).transpose();
                let wav = wav.map_err(WriteError::io(&path))?;
                Sink::Pictures(folder, wav)
            }
            Part::File(file) if format == Format::Mp4 => {
                Sink::Mp4(Box::new(Mp4Encoder::new(file, size, fps, with_sound)?))
            }
            Part::File(mut file) => {
                let mut header = Vec::new();
                y4m::write_header(&mut header, size.0, size.1, fps)
                    .and_then(|()| file.append(&header))
                    .map_err(WriteError::io(&path))?;
                Sink::Y4m(file)
            }
        };
        let sound = (with_sound && format.has_sound()).then(SoundTrack::new);
        Ok(Self { size, path, sink, fps, n_frames: 0, sound })
    }

    /// Appends a frame of the segment's size, and the sound before it.
    pub(crate) fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let end = self.end();
        if let Some(sound) = &mut self.sound {
            sound.fill(end);
        }
        self.write_sound().map_err(WriteError::io(&self.path))?;
        let written = match &mut self.sink {
            Sink::Mp4(encoder) => encoder.push(frame)?,
            Sink::Y4m(file) => {
                let mut bytes = Vec::new();
                let is_second = (self.n_frames + 1).is_multiple_of(u64::from(self.fps));
                y4m::write_frame(&mut bytes, frame)
                    .and_then(|()| file.append(&bytes))
                    .and_then(|()| if is_second { file.sync() } else { Ok(()) })
            }
            Sink::Pictures(folder, _) => {
                let png = encode_png(frame)
                    .map_err(|source| WriteError::Picture { path: self.path.clone(), source })?;
                folder.write(&format!("{:06}.png", self.n_frames), &png)
            }
        };
        written.map_err(WriteError::io(&self.path))?;
        self.n_frames += 1;
        Ok(())
    }

    /// Adds sound that begins `at` audio samples at 48 kHz behind the start of the segment.
    pub(crate) fn add_sound(&mut self, at: i64, samples: Vec<f32>) {
        if let Some(sound) = &mut self.sound {
            sound.push(at, samples);
        }
    }

    /// Returns when the last frame ends, in audio samples at 48 kHz.
    fn end(&self) -> i64 {
        samples_of_frames(self.n_frames, self.fps)
    }

    /// Writes the sound that is known.
    fn write_sound(&mut self) -> io::Result<()> {
        let Some(sound) = &mut self.sound else { return Ok(()) };
        while let Some(block) = sound.next_block() {
            match &mut self.sink {
                Sink::Mp4(encoder) => encoder.push_sound(&block)?,
                Sink::Pictures(_, Some(wav)) => wav.push(&block)?,
                Sink::Pictures(_, None) | Sink::Y4m(_) => {}
            }
        }
        Ok(())
    }

    /// Completes the sound, which ends with the last frame.
    fn finish_sound(&mut self) -> io::Result<()> {
        let end = self.end();
        if let Some(sound) = &mut self.sound {
            sound.finish(end);
        }
        self.write_sound()?;
        match &mut self.sink {
            Sink::Pictures(_, Some(wav)) => wav.update(),
            _ => Ok(()),
        }
    }

    /// Ends a segment into which nothing more can be written, because of `source`. Says what there is of it.
    pub(crate) fn give_up(self, source: io::Error) -> WriteError {
        if self.is_empty() {
            let path = self.path.clone();
            self.discard();
            return WriteError::NothingRecorded { path, source };
        }
        let path = self.path.clone();
        match self.finish() {
            Ok(path)
            | Err(WriteError::CutShort { path, .. } | WriteError::Kept { part: path, .. }) => {
                WriteError::CutShort { path, source }
            }
            Err(_) => WriteError::Io { path, source },
        }
    }

    /// Returns whether no frame has reached the file or folder.
    fn is_empty(&self) -> bool {
        match &self.sink {
            Sink::Mp4(encoder) => encoder.is_empty(),
            Sink::Y4m(_) | Sink::Pictures(..) => self.n_frames == 0,
        }
    }

    /// Removes what there is of the segment.
    fn discard(self) {
        match self.sink {
            Sink::Mp4(encoder) => encoder.discard(),
            Sink::Y4m(file) => file.discard(),
            Sink::Pictures(folder, wav) => {
                drop(wav);
                folder.discard();
            }
        }
    }

    /// Completes the segment and returns its path.
    pub(crate) fn finish(mut self) -> Result<PathBuf, WriteError> {
        let sound = self.finish_sound();
        let last = match self.sink {
            Sink::Mp4(encoder) => encoder.finish()?,
            Sink::Y4m(file) => file.commit().map(Ok)?,
            Sink::Pictures(folder, _) => folder.commit().map(Ok)?,
        };
        match last.and(sound) {
            Ok(()) => Ok(self.path),
            Err(source) => {
                let source = explained(&self.path, source);
                Err(WriteError::CutShort { path: self.path, source })
            }
        }
    }
}

/// Returns how long `n` frames last, in audio samples at 48 kHz.
pub(crate) fn samples_of_frames(n: u64, fps: u32) -> i64 {
    (u128::from(n) * u128::from(Sound::RATE) / u128::from(fps)) as i64
}

impl Part {
    /// Creates what will become `path`.
    pub(crate) fn create(
        path: &Path,
        format: Format,
        unfinished: Unfinished,
    ) -> Result<Self, WriteError> {
        match format {
            Format::Folder => PartFolder::create(path, unfinished).map(Self::Folder),
            Format::Mp4 | Format::Y4m => PartFile::create(path, unfinished).map(Self::File),
        }
    }
}

/// Checks that a folder of pictures can be moved to `path`: there is nothing yet, or an empty folder
/// that can be replaced.
fn check_replaceable_folder(path: &Path) -> Result<(), WriteError> {
    let io = WriteError::io(path);
    let not_replaceable = || WriteError::NotReplaceable { path: path.to_owned() };
    if path.file_name().is_none() {
        return Err(not_replaceable());
    }
    let target = Target::replaced(path).map_err(&io)?;
    let has_entries = match fs::read_dir(&target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io(error)),
    };
    if has_entries {
        return Err(WriteError::NotEmpty { path: path.to_owned() });
    }
    if is_mount_point(&target) { Err(not_replaceable()) } else { Ok(()) }
}

/// Returns whether a folder is where a disk is mounted, so that it cannot be replaced.
fn is_mount_point(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let disk = |path: &Path| path.metadata().map(|about| about.dev());
        matches!((disk(folder), disk(folder_of(folder))), (Ok(a), Ok(b)) if a != b)
    }
    #[cfg(not(unix))]
    {
        folder_of(folder) == folder
    }
}

/// Returns the name of segment `number`, counted from 1: `call.mp4`, `call.2.mp4`, ...; for folders `call`,
/// `call.2`, ...
pub(crate) fn segment_name(path: &Path, format: Format, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = match format {
        Format::Folder => path.file_name(),
        _ => path.file_stem(),
    }
    .unwrap_or_default()
    .to_owned();
    name.push(format!(".{number}"));
    if format != Format::Folder
        && let Some(extension) = path.extension()
    {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}
