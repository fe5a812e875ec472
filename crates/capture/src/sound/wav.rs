//! Sound of WAV files: integers of 8 to 32 bits and floating-point numbers, any rate and number of channels.

use std::fs::File;
use std::io::{self, BufReader};

use hound::{Error, SampleFormat, WavReader};

use crate::errors::ReadError;
use crate::sound::line::Piece;

/// Rates that are read here, samples per second.
const RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;
/// Numbers of channels that are read here. All channels of 20 ms are held at once.
const CHANNELS: std::ops::RangeInclusive<u16> = 1..=32;

/// Reader of a WAV file.
pub(crate) struct WavSound {
    reader: WavReader<BufReader<File>>,
    n_read: i64,
    is_cut_short: bool,
}

impl WavSound {
    /// Opens a file; `None` if it is not WAV, or of an unusual kind, such as compressed.
    pub(crate) fn new(file: File) -> Option<Self> {
        let reader = WavReader::new(BufReader::new(file)).ok()?;
        let spec = reader.spec();
        let is_number = spec.sample_format == SampleFormat::Int || spec.bits_per_sample == 32;
        let is_usual = RATES.contains(&spec.sample_rate) && CHANNELS.contains(&spec.channels);
        (is_number && is_usual).then_some(Self { reader, n_read: 0, is_cut_short: false })
    }

    /// Returns the rate, samples per second.
    pub(crate) fn rate(&self) -> u32 {
        self.reader.spec().sample_rate
    }

    /// Returns the next 20 ms as mono; `None` after the end.
    ///
    /// # Errors
    /// If the file ends early, after all that there is of it was returned, or cannot be read.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        let spec = self.reader.spec();
        let n_channels = usize::from(spec.channels);
        let n_wanted = (spec.sample_rate / 50) as usize * n_channels;
        let read: Result<Vec<f32>, Error> = match spec.sample_format {
            SampleFormat::Float => {
                take(self.reader.samples::<f32>(), n_wanted, &mut self.is_cut_short)
            }
            SampleFormat::Int => {
                let scale = 0.5_f32.powi(i32::from(spec.bits_per_sample) - 1);
                let samples = self.reader.samples::<i32>().map(|s| s.map(|s| s as f32 * scale));
                take(samples, n_wanted, &mut self.is_cut_short)
            }
        };
        let samples = read.map_err(|error| match error {
            Error::IoError(source) => ReadError::Io(source),
            other => ReadError::SoundUnreadable { why: other.to_string() },
        })?;
        let mono: Vec<f32> = samples
            .chunks_exact(n_channels)
            .map(mix)
            .map(|sample| if sample.is_finite() { sample } else { 0.0 })
            .collect();
        if mono.is_empty() {
            let why = || "the file is cut short".to_owned();
            let is_cut_short = std::mem::take(&mut self.is_cut_short);
            return if is_cut_short {
                Err(ReadError::SoundUnreadable { why: why() })
            } else {
                Ok(None)
            };
        }
        let at = self.n_read;
        self.n_read += mono.len() as i64;
        Ok(Some(Piece { at, samples: mono }))
    }
}

/// Mixes the channels of one moment. Of more than two, the first three are left, right and center, where
/// voices are, and the fourth is for low frequencies (the order of WAV): left, right and center are as loud as in
/// stereo, and the rest is weaker (ITU-R BS.775, annex 4).
fn mix(channels: &[f32]) -> f32 {
    const WEIGHTS: [f32; 8] = [0.5, 0.5, 0.707, 0.0, 0.354, 0.354, 0.354, 0.354];
    match channels.len() {
        1 | 2 => channels.iter().sum::<f32>() / channels.len() as f32,
        _ => channels.iter().zip(WEIGHTS).map(|(sample, weight)| weight * sample).sum(),
    }
}

/// Takes samples up to a number, or up to the end of the file.
fn take(
    mut samples: impl Iterator<Item = Result<f32, Error>>,
    n_wanted: usize,
    is_cut_short: &mut bool,
) -> Result<Vec<f32>, Error> {
    let mut taken = Vec::with_capacity(n_wanted);
    while taken.len() < n_wanted && !*is_cut_short {
        match samples.next() {
            Some(Ok(sample)) => taken.push(sample),
            Some(Err(Error::IoError(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                *is_cut_short = true;
            }
            // How hound reports the end of a file within a sample.
            Some(Err(Error::IoError(error))) if error.kind() == io::ErrorKind::Other => {
                *is_cut_short = true;
            }
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound::ClipSound;
    use crate::test_clips::Folder;

    /// Half a second of a tone of 440 Hz at half volume: in both channels of stereo, and in the center of more.
    fn write_tone(path: &std::path::Path, spec: hound::WavSpec) {
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for i in 0..spec.sample_rate / 2 {
            let phase = std::f32::consts::TAU * 440.0 * i as f32 / spec.sample_rate as f32;
            for channel in 0..spec.channels {
                let volume = match (spec.channels, channel) {
                    (1 | 2, _) => 0.5,
                    (_, 2) => 0.5 / 0.707,
                    _ => 0.0_f32,
                };
                if spec.sample_format == SampleFormat::Float {
                    writer.write_sample(volume * phase.sin()).unwrap();
                } else {
                    let full = 2.0_f64.powi(i32::from(spec.bits_per_sample) - 1) - 1.0;
                    let level = (f64::from(volume * phase.sin()) * full).round();
                    writer.write_sample(level as i32).unwrap();
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn every_rate_format_and_number_of_channels_sounds_the_same() {
        let folder = Folder::new("wav-sound");
        let (int, float) = (SampleFormat::Int, SampleFormat::Float);
        for (sample_rate, channels, bits_per_sample, sample_format) in [
            (8_000, 1, 8, int),
            (11_025, 2, 16, int),
            (44_100, 8, 24, int),
            (48_000, 1, 16, int),
            (96_000, 3, 32, int),
            (192_000, 2, 32, float),
        ] {
            let spec = hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format };
            let path = folder.join("tone.wav");
            write_tone(&path, spec);
            let mut sound = ClipSound::open(&path).unwrap();
            let mut samples = Vec::new();
            while let Some(sound) = sound.next_sound().unwrap() {
                samples.extend(sound.samples);
            }
            assert_eq!(samples.len(), 24_000, "{spec:?}");
            let tone = (0..24_000).map(|i| {
                0.5 * (std::f64::consts::TAU * 440.0 * f64::from(i) / 48_000.0).sin() as f32
            });
            // Levels of 8 bits are 0.008 apart; the filter of the converter rings at both ends.
            let differences = samples.iter().zip(tone).map(|(got, want)| (got - want).abs());
            let worst = differences.skip(400).take(23_200).fold(0.0, f32::max);
            assert!(worst < if bits_per_sample == 8 { 0.008 } else { 0.001 }, "{spec:?}: {worst}");
        }
    }

    #[test]
    fn numbers_that_are_no_sound_are_silence() {
        let folder = Folder::new("wav-sound-numbers");
        let path = folder.join("wild.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 48_000,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for sample in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 0.25] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let sound = ClipSound::open(&path).unwrap().next_sound().unwrap().unwrap();
        assert_eq!(sound.samples[..7], [0.0, 0.0, 0.0, 1.0, -1.0, 0.25, 0.0]);
    }

    #[test]
    fn a_file_with_an_absurd_number_of_channels_is_not_read() {
        let folder = Folder::new("wav-sound-channels");
        let path = folder.join("wide.wav");
        let sample_format = SampleFormat::Int;
        for (channels, is_read) in [(32, true), (33, false), (u16::MAX, false)] {
            let spec =
                hound::WavSpec { channels, sample_rate: 48_000, bits_per_sample: 8, sample_format };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            for _ in 0..channels {
                writer.write_sample(64).unwrap();
            }
            writer.finalize().unwrap();
            let sound = WavSound::new(File::open(&path).unwrap());
            assert_eq!(sound.is_some(), is_read, "{channels}");
        }
    }
}
