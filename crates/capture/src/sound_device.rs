//! Microphone and speaker.

#![expect(clippy::disallowed_methods, reason = "the first captured sample is stamped on arrival")]

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    Device, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfig, SupportedStreamConfigRange,
};
use types::{MediaTime, Sound};

use crate::SOUND_SAMPLES;
use crate::resample::Resampler;

/// Most samples held for the reader or the speaker: 200 ms. Beyond it the oldest are dropped.
const MAX_HELD: usize = 10 * SOUND_SAMPLES;

/// Why a sound device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoundError {
    /// No microphone was found. The call can go on without sending sound.
    #[error("no microphone found: plug one in, or use --no-audio")]
    NoMicrophone,
    /// No speaker was found. The call can go on without playing sound.
    #[error("no speaker found: plug one in, or use --no-audio")]
    NoSpeaker,
    /// The device offers only a sample format that is not supported.
    #[error("the sound device offers only the format {0}")]
    Format(SampleFormat),
    /// The sound system reported an error; another program may hold the device.
    #[error("the sound device does not start: {0}")]
    Device(#[from] cpal::Error),
}

/// Lists the names of all microphones and of all speakers.
pub(crate) fn sound_device_names() -> (Vec<String>, Vec<String>) {
    let host = cpal::default_host();
    let name = |device: Device| device.description().ok().map(|d| d.name().to_owned());
    (
        host.input_devices().map(|d| d.filter_map(name).collect()).unwrap_or_default(),
        host.output_devices().map(|d| d.filter_map(name).collect()).unwrap_or_default(),
    )
}

/// Queue of samples between the device's thread and ours.
#[derive(Default)]
struct Held {
    samples: Mutex<Samples>,
    changed: Condvar,
}

#[derive(Default)]
struct Samples {
    queue: VecDeque<f32>,
    /// Number of samples captured before those in the queue.
    n_gone: u64,
    /// When the very first sample was captured.
    zero: Option<Instant>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    fn push(&mut self, samples: &[f32]) {
        self.queue.extend(samples);
        let n_over = self.queue.len().saturating_sub(MAX_HELD);
        self.queue.drain(..n_over);
        self.n_gone += n_over as u64;
    }
}

/// Default microphone of the system, as mono sound at 48 kHz.
pub struct Microphone {
    held: Arc<Held>,
    // Keeps the device running.
    _stream: Stream,
}

impl Microphone {
    /// Opens the microphone and starts capturing.
    ///
    /// # Errors
    /// If there is no microphone, or it does not start.
    pub fn open() -> Result<Self, SoundError> {
        let device = cpal::default_host().default_input_device();
        let device = device.ok_or(SoundError::NoMicrophone)?;
        let all =
            device.supported_input_configs().map_err(|e| missing(e, SoundError::NoMicrophone))?;
        let default =
            device.default_input_config().map_err(|e| missing(e, SoundError::NoMicrophone))?;
        let config = choose(all.collect(), default);
        let held = Arc::new(Held::default());
        let stream = match config.sample_format() {
            SampleFormat::F32 => listen::<f32>(&device, config.into(), &held),
            SampleFormat::I16 => listen::<i16>(&device, config.into(), &held),
            SampleFormat::U16 => listen::<u16>(&device, config.into(), &held),
            SampleFormat::I32 => listen::<i32>(&device, config.into(), &held),
            SampleFormat::U8 => listen::<u8>(&device, config.into(), &held),
            other => return Err(SoundError::Format(other)),
        }?;
        stream.play()?;
        Ok(Self { held, _stream: stream })
    }

    /// Returns the next 20 ms of sound (960 samples), waiting up to `timeout` for it.
    ///
    /// Its media time counts from [`Microphone::zero`]. Sound not read within 200 ms is dropped,
    /// and the media time skips it.
    pub fn next_sound(&mut self, timeout: Duration) -> Option<Sound> {
        let samples = self.held.lock();
        let (mut samples, _) = self
            .held
            .changed
            .wait_timeout_while(samples, timeout, |s| s.queue.len() < SOUND_SAMPLES)
            .unwrap_or_else(PoisonError::into_inner);
        if samples.queue.len() < SOUND_SAMPLES {
            return None;
        }
        let micros = samples.n_gone * 1_000_000 / u64::from(Sound::RATE);
        samples.n_gone += SOUND_SAMPLES as u64;
        Some(Sound {
            time: MediaTime::from_micros(micros),
            samples: samples.queue.drain(..SOUND_SAMPLES).collect(),
        })
    }

    /// Returns when the first sample was captured; `None` before that.
    pub fn zero(&self) -> Option<Instant> {
        self.held.lock().zero
    }
}

/// Default speaker of the system, fed with mono sound at 48 kHz.
pub struct Speaker {
    held: Arc<Held>,
    resampler: Resampler,
    _stream: Stream,
}

impl Speaker {
    /// Opens the speaker, which plays silence until sound is pushed.
    ///
    /// # Errors
    /// If there is no speaker, or it does not start.
    pub fn open() -> Result<Self, SoundError> {
        let device = cpal::default_host().default_output_device();
        let device = device.ok_or(SoundError::NoSpeaker)?;
        let all =
            device.supported_output_configs().map_err(|e| missing(e, SoundError::NoSpeaker))?;
        let default =
            device.default_output_config().map_err(|e| missing(e, SoundError::NoSpeaker))?;
        let config = choose(all.collect(), default);
        let rate = config.sample_rate();
        let held = Arc::new(Held::default());
        let stream = match config.sample_format() {
            SampleFormat::F32 => play::<f32>(&device, config.into(), &held),
            SampleFormat::I16 => play::<i16>(&device, config.into(), &held),
            SampleFormat::U16 => play::<u16>(&device, config.into(), &held),
            SampleFormat::I32 => play::<i32>(&device, config.into(), &held),
            SampleFormat::U8 => play::<u8>(&device, config.into(), &held),
            other => return Err(SoundError::Format(other)),
        }?;
        stream.play()?;
        Ok(Self { held, resampler: Resampler::new(Sound::RATE, rate), _stream: stream })
    }

    /// Appends samples, -1..=1. If more than 9600 samples at the rate of the device are queued (200
    /// ms at 48 kHz), the oldest are dropped to bound the delay.
    pub fn push(&mut self, samples: &[f32]) {
        let mut resampled = Vec::new();
        self.resampler.push(samples, &mut resampled);
        self.held.lock().push(&resampled);
    }
}

/// Maps "the device is not available" to `none`, the error for having no device.
fn missing(error: cpal::Error, none: SoundError) -> SoundError {
    match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => none,
        _ => error.into(),
    }
}

/// Chooses 48 kHz in a supported format with as few channels as possible, or else the device's
/// default.
fn choose(
    all: Vec<SupportedStreamConfigRange>,
    default: SupportedStreamConfig,
) -> SupportedStreamConfig {
    let rank = |format| match format {
        SampleFormat::F32 => Some(0),
        SampleFormat::I16 => Some(1),
        SampleFormat::I32 => Some(2),
        _ => None,
    };
    all.into_iter()
        .filter_map(|range| range.try_with_sample_rate(Sound::RATE))
        .filter(|config| config.channels() <= 2 && rank(config.sample_format()).is_some())
        .min_by_key(|config| (config.channels(), rank(config.sample_format())))
        .unwrap_or(default)
}

fn listen<T: SizedSample>(
    device: &Device,
    config: StreamConfig,
    held: &Arc<Held>,
) -> Result<Stream, SoundError>
where
    f32: FromSample<T>,
{
    let n_channels = usize::from(config.channels.max(1));
    let mut resampler = Resampler::new(config.sample_rate, Sound::RATE);
    let held = Arc::clone(held);
    let (mut mono, mut resampled) = (Vec::new(), Vec::new());
    let on_data = move |data: &[T], _: &cpal::InputCallbackInfo| {
        mono.clear();
        resampled.clear();
        mono.extend(data.chunks_exact(n_channels).map(|channels| {
            let sum: f32 = channels.iter().map(|s| f32::from_sample(*s)).sum();
            sum / n_channels as f32
        }));
        resampler.push(&mono, &mut resampled);
        let mut samples = held.lock();
        let length = Duration::from_secs(1) * mono.len() as u32 / config.sample_rate;
        samples.zero.get_or_insert_with(|| {
            let now = Instant::now();
            now.checked_sub(length).unwrap_or(now)
        });
        samples.push(&resampled);
        drop(samples);
        held.changed.notify_all();
    };
    // A lost device falls silent; the call goes on.
    Ok(device.build_input_stream(config, on_data, |_| {}, None)?)
}

fn play<T: SizedSample + FromSample<f32>>(
    device: &Device,
    config: StreamConfig,
    held: &Arc<Held>,
) -> Result<Stream, SoundError> {
    let n_channels = usize::from(config.channels.max(1));
    let held = Arc::clone(held);
    let on_data = move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
        let mut samples = held.lock();
        for channels in data.chunks_mut(n_channels) {
            let sample = samples.queue.pop_front().unwrap_or(0.0);
            channels.fill(T::from_sample(sample));
        }
    };
    Ok(device.build_output_stream(config, on_data, |_| {}, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_samples_are_dropped_when_nobody_reads() {
        let mut samples = Samples::default();
        samples.push(&vec![0.0; MAX_HELD]);
        samples.push(&[1.0; 3]);
        assert_eq!((samples.queue.len(), samples.n_gone), (MAX_HELD, 3));
        assert_eq!(samples.queue.back(), Some(&1.0));
    }
}
