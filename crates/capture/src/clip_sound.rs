//! Sound of clips, as mono at 48 kHz: AAC-LC of MP4 files is decoded here, everything else by `ffmpeg`.

use std::path::PathBuf;

use types::Sound;

use crate::aac_sound::AacSound;
use crate::errors::ReadError;
use crate::ffmpeg_sound::FfmpegSound;
use crate::sound_line::SoundLine;

/// Reader of the sound of one clip, 20 ms at a time.
pub(crate) struct ClipSound {
    input: Input,
    line: SoundLine,
}

/// Where pieces of sound come from.
enum Input {
    Aac(Box<AacSound>),
    /// A clip that is read by `ffmpeg` once its sound is asked for.
    Waiting(PathBuf),
    Ffmpeg(Box<FfmpegSound>),
    Ended,
}

impl ClipSound {
    /// Reads a track of an MP4 file.
    pub(crate) fn of_track(aac: AacSound) -> Self {
        let line = SoundLine::new(aac.rate());
        Self { input: Input::Aac(Box::new(aac)), line }
    }

    /// Reads any clip by `ffmpeg`, which is started when the first sound is read.
    pub(crate) fn by_ffmpeg(path: PathBuf) -> Self {
        Self { input: Input::Waiting(path), line: SoundLine::new(Sound::RATE) }
    }

    /// Reads the next 20 ms; `None` after the end.
    ///
    /// # Errors
    /// If there is no sound, or it cannot be read to its end. After an error there are no more sounds.
    pub(crate) fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        loop {
            if let Some(sound) = self.line.next() {
                return Ok(Some(sound));
            }
            let piece = match &mut self.input {
                Input::Aac(aac) => aac.next_piece(),
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
