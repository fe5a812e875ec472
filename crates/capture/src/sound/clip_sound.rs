//! Sound of clips and sound files, as mono at 48 kHz: AAC-LC and Opus of MP4 files, and WAV, are decoded here, everything
//! else by `ffmpeg`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use types::Sound;

use crate::errors::{OpenError, ReadError};
use crate::mp4::read_tracks;
use crate::sound::ffmpeg::FfmpegSound;
use crate::sound::line::SoundLine;
use crate::sound::mp4::Mp4Sound;
use crate::sound::wav::WavSound;

/// Reader of the sound of one clip, 20 ms at a time.
pub(crate) struct ClipSound {
    input: Input,
    line: SoundLine,
}

/// Where pieces of sound come from.
enum Input {
    Mp4(Box<Mp4Sound>),
    Wav(Box<WavSound>),
    /// A clip that is read by `ffmpeg` once its sound is asked for.
    Waiting(PathBuf),
    Ffmpeg(Box<FfmpegSound>),
    Ended,
}

impl ClipSound {
    /// Opens the sound of any file. Whether it has any shows when the first is read.
    ///
    /// # Errors
    /// If there is no such file.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let path_of = || path.to_owned();
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { path: path_of() },
            _ => OpenError::Io { path: path_of(), source },
        };
        // Opening a pipe would wait for somebody who writes into it.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(OpenError::NotAFile { path: path_of() });
        }
        let mut file = File::open(path).map_err(io)?;
        if let Ok(tracks) = read_tracks(&mut file)
            && let Some(track) = tracks.into_iter().find(|track| !track.is_video)
            && let Some(sound) = Mp4Sound::new(file.try_clone().map_err(io)?, track)
        {
            return Ok(Self::of_track(sound));
        }
        Ok(match WavSound::new(File::open(path).map_err(io)?) {
            Some(wav) => {
                let line = SoundLine::new(wav.rate());
                Self { input: Input::Wav(Box::new(wav)), line }
            }
            None => Self::by_ffmpeg(path_of()),
        })
    }

    /// Reads a track of an MP4 file.
    pub(crate) fn of_track(sound: Mp4Sound) -> Self {
        let line = SoundLine::new(sound.rate());
        Self { input: Input::Mp4(Box::new(sound)), line }
    }

    /// Reads any clip by `ffmpeg`, which is started when the first sound is read.
    pub(crate) fn by_ffmpeg(path: PathBuf) -> Self {
        Self { input: Input::Waiting(path), line: SoundLine::new(Sound::RATE) }
    }

    /// Reads the next 20 ms; `None` after the end.
    ///
    /// # Errors
    /// Once, if there is no sound, or it cannot be read to its end. What is left of the sound before the error is
    /// returned after it.
    pub(crate) fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        loop {
            if let Some(sound) = self.line.next() {
                return Ok(Some(sound));
            }
            let piece = match &mut self.input {
                Input::Mp4(track) => track.next_piece(),
                Input::Wav(wav) => wav.next_piece(),
                Input::Ffmpeg(ffmpeg) => ffmpeg.next_piece(),
                Input::Waiting(path) => match FfmpegSound::open(path) {
                    Ok(ffmpeg) => {
                        self.input = Input::Ffmpeg(Box::new(ffmpeg));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Input::Ended => return Ok(self.line.next_to_end()),
            };
            match piece {
                Ok(Some(piece)) => self.line.push(piece),
                Ok(None) => self.input = Input::Ended,
                Err(error) => {
                    self.input = Input::Ended;
                    return Err(error);
                }
            }
        }
    }
}
