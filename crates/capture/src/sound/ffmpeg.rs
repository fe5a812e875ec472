//! Sound of a clip, decoded by the `ffmpeg` program.

use std::io::BufReader;
use std::path::Path;
use std::process::ChildStdout;

use types::Sound;

use crate::errors::ReadError;
use crate::ffmpeg::NutReader;
use crate::ffmpeg::{Probe, ProbeError, probe};
use crate::ffmpeg::{Program, Tools};
use crate::sound::line::Piece;

/// Two channels of any number of them, by the weights of Rec. ITU-R BS.775: the center and the surround channels
/// enter each of the two with 0.707. Their mean is the mono sound. The samples are floating-point, because of
/// others `ffmpeg` would lower the volume.
const MONO: &str =
    "aformat=sample_fmts=fltp,aformat=channel_layouts=stereo,pan=mono|c0=0.5*c0+0.5*c1";

/// Running `ffmpeg` process that decodes the sound of a clip into a pipe: mono samples at 48 kHz.
pub(crate) struct FfmpegSound {
    program: Program,
    reader: NutReader<BufReader<ChildStdout>>,
    probe: Probe,
    bytes: Vec<u8>,
}

impl FfmpegSound {
    /// Starts `ffmpeg` and waits for the first sound.
    ///
    /// # Errors
    /// If there is no `ffmpeg`, no sound in the clip, or none that `ffmpeg` can decode.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let unreadable = |why: &str| ReadError::SoundUnreadable { why: why.to_owned() };
        let missing = || unreadable("install ffmpeg, or convert it to AAC in an MP4 file");
        let tools = Tools::default();
        let probe = probe(&tools, path).map_err(|error| match error {
            ProbeError::NoProgram => missing(),
            ProbeError::Unreadable(message) => unreadable(&format!("ffmpeg says: {message}")),
        })?;
        let sound = probe.sound.as_ref().ok_or(ReadError::NoSound)?;
        let mix = if sound.n_channels == 1 { "pan=mono|c0=c0" } else { MONO };
        let (map, filters) = (format!("0:{}", sound.index), format!("{mix},aresample=48000"));
        let mut after = vec!["-map", &map, "-af", &filters, "-c:a", "pcm_f32le", "-f", "nut", "-"];
        let beside = probe.beside(probe.video.as_ref().map(|video| video.index));
        after.extend(beside.iter().map(String::as_str));
        let (mut program, stdout) =
            Program::start(&tools.ffmpeg, &["-nostdin"], path, &after).map_err(|_| missing())?;
        let reader = NutReader::new(BufReader::new(stdout))
            .map_err(|error| unreadable(&format!("ffmpeg says: {}", program.explain(&error))))?;
        Ok(Self { program, reader, probe, bytes: Vec::new() })
    }

    /// Returns the next piece; `None` after the last one.
    ///
    /// # Errors
    /// If the process fails.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        let why = match self.reader.next_frame(&mut self.bytes) {
            Ok(Some(micros)) => {
                let at =
                    i128::from(self.probe.media_us(micros)) * i128::from(Sound::RATE) / 1_000_000;
                let samples = self.bytes.chunks_exact(4);
                let samples = samples.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                return Ok(Some(Piece { at: at as i64, samples: samples.collect() }));
            }
            Ok(None) => match self.program.finish().failure() {
                None => return Ok(None),
                Some(why) => why,
            },
            Err(error) => self.program.explain(&error),
        };
        Err(ReadError::SoundUnreadable { why: format!("it ends early; ffmpeg says: {why}") })
    }
}
