//! Microphones and speakers of the system.

#![expect(clippy::disallowed_methods, reason = "captured samples are stamped on arrival")]

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    Device, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfig, SupportedStreamConfigRange,
};
use types::Sound;

use crate::SOUND_SAMPLES;
use crate::resample::Resampler;
use crate::sound_devices::{DeviceChange, LossReason, SoundBlock, SoundDevice, SoundError};

/// Most samples held for the reader or the speaker: 200 ms. Beyond it the oldest are dropped.
const MAX_HELD: usize = 10 * SOUND_SAMPLES;
/// Audio samples of one block.
const BLOCK_SAMPLES: usize = 480;

/// Lists the names of all microphones and of all speakers.
pub(crate) fn sound_device_names() -> (Vec<String>, Vec<String>) {
    let host = cpal::default_host();
    (
        host.input_devices()
            .map(|d| d.filter_map(|device| name(&device)).collect())
            .unwrap_or_default(),
        host.output_devices()
            .map(|d| d.filter_map(|device| name(&device)).collect())
            .unwrap_or_default(),
    )
}

fn name(device: &Device) -> Option<String> {
    device.description().ok().map(|d| d.name().to_owned())
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
    n_dropped: u64,
    /// When the very first sample was captured.
    zero: Option<Instant>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, timeout: Duration, waits: impl Fn(&Samples) -> bool) -> MutexGuard<'_, Samples> {
        let samples = self.lock();
        let waited = self.changed.wait_timeout_while(samples, timeout, |s| waits(s));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Samples {
    fn push(&mut self, samples: &[f32]) {
        self.queue.extend(samples);
        let n_over = self.queue.len().saturating_sub(MAX_HELD);
        self.queue.drain(..n_over);
        self.n_gone += n_over as u64;
        self.n_dropped += n_over as u64;
    }
}

/// Microphone of the system.
pub(crate) struct InputDevice {
    held: Arc<Held>,
    change: Option<DeviceChange>,
    // Keeps the device running.
    _stream: Option<Stream>,
}

impl InputDevice {
    /// Opens a microphone by its name, or the default one.
    pub(crate) fn open(wanted: Option<&str>) -> Result<Self, SoundError> {
        let host = cpal::default_host();
        let device = match wanted {
            None => host.default_input_device(),
            Some(wanted) => {
                let devices = host.input_devices().map(Iterator::collect).unwrap_or_default();
                Some(find(SoundDevice::Microphone, wanted, devices)?)
            }
        };
        let held = Arc::new(Held::default());
        let opened = start(device, |device| {
            let config =
                choose(device.supported_input_configs()?.collect(), device.default_input_config()?);
            match config.sample_format() {
                SampleFormat::F32 => listen::<f32>(device, config.into(), &held),
                SampleFormat::I16 => listen::<i16>(device, config.into(), &held),
                SampleFormat::U16 => listen::<u16>(device, config.into(), &held),
                SampleFormat::I32 => listen::<i32>(device, config.into(), &held),
                SampleFormat::U8 => listen::<u8>(device, config.into(), &held),
                _ => Err(ErrorKind::UnsupportedConfig.into()),
            }
        });
        let (stream, change) = outcome(SoundDevice::Microphone, opened);
        Ok(Self { held, change: Some(change), _stream: stream })
    }

    pub(crate) fn next_block(&mut self, timeout: Duration) -> Option<SoundBlock> {
        let mut samples = self.held.wait(timeout, |s| s.queue.len() < BLOCK_SAMPLES);
        if samples.queue.len() < BLOCK_SAMPLES {
            return None;
        }
        let captured = samples.zero? + duration(samples.n_gone);
        samples.n_gone += BLOCK_SAMPLES as u64;
        let block = std::array::from_fn(|_| samples.queue.pop_front().unwrap_or_default());
        Some(SoundBlock { captured, samples: block })
    }

    pub(crate) fn n_dropped(&self) -> u64 {
        self.held.lock().n_dropped / BLOCK_SAMPLES as u64
    }

    pub(crate) fn take_change(&mut self) -> Option<DeviceChange> {
        self.change.take()
    }
}

/// Speaker of the system.
pub(crate) struct OutputDevice {
    held: Arc<Held>,
    resampler: Resampler,
    rate: u32,
    change: Option<DeviceChange>,
    _stream: Option<Stream>,
}

impl OutputDevice {
    /// Opens a speaker by its name, or the default one.
    pub(crate) fn open(wanted: Option<&str>) -> Result<Self, SoundError> {
        let host = cpal::default_host();
        let device = match wanted {
            None => host.default_output_device(),
            Some(wanted) => {
                let devices = host.output_devices().map(Iterator::collect).unwrap_or_default();
                Some(find(SoundDevice::Speaker, wanted, devices)?)
            }
        };
        let (held, mut rate) = (Arc::new(Held::default()), Sound::RATE);
        let opened = start(device, |device| {
            let config = choose(
                device.supported_output_configs()?.collect(),
                device.default_output_config()?,
            );
            rate = config.sample_rate();
            match config.sample_format() {
                SampleFormat::F32 => play::<f32>(device, config.into(), &held),
                SampleFormat::I16 => play::<i16>(device, config.into(), &held),
                SampleFormat::U16 => play::<u16>(device, config.into(), &held),
                SampleFormat::I32 => play::<i32>(device, config.into(), &held),
                SampleFormat::U8 => play::<u8>(device, config.into(), &held),
                _ => Err(ErrorKind::UnsupportedConfig.into()),
            }
        });
        let (stream, change) = outcome(SoundDevice::Speaker, opened);
        let resampler = Resampler::new(Sound::RATE, rate);
        Ok(Self { held, resampler, rate, change: Some(change), _stream: stream })
    }

    pub(crate) fn wait_for_room(&mut self, timeout: Duration) -> bool {
        let n_full = self.rate as usize / 50;
        self.held.wait(timeout, |s| s.queue.len() >= n_full).queue.len() < n_full
    }

    pub(crate) fn play(&mut self, samples: &[f32; BLOCK_SAMPLES]) {
        let mut resampled = Vec::new();
        self.resampler.push(samples, &mut resampled);
        self.held.lock().push(&resampled);
    }

    pub(crate) fn queued(&self) -> Duration {
        Duration::from_secs(1) * self.held.lock().queue.len() as u32 / self.rate
    }

    pub(crate) fn n_gaps(&self) -> u64 {
        self.held.lock().n_dropped
    }

    pub(crate) fn take_change(&mut self) -> Option<DeviceChange> {
        self.change.take()
    }
}

fn duration(n_samples: u64) -> Duration {
    Duration::from_micros(n_samples * 1_000_000 / u64::from(Sound::RATE))
}

/// Finds the device of this name, or the only one whose name contains it.
fn find(device: SoundDevice, wanted: &str, devices: Vec<Device>) -> Result<Device, SoundError> {
    let unknown = |names| SoundError::Unknown { device, name: wanted.to_owned(), names };
    let names: Vec<String> = devices.iter().filter_map(name).collect();
    let found = devices.into_iter().find(|d| name(d).as_deref() == Some(wanted));
    found.ok_or_else(|| unknown(names))
}

fn start(
    device: Option<Device>,
    build: impl FnOnce(&Device) -> Result<Stream, cpal::Error>,
) -> Result<(String, Stream), cpal::Error> {
    let device = device.ok_or(ErrorKind::DeviceNotAvailable)?;
    let stream = build(&device)?;
    stream.play()?;
    Ok((name(&device).unwrap_or_default(), stream))
}

fn outcome(
    device: SoundDevice,
    opened: Result<(String, Stream), cpal::Error>,
) -> (Option<Stream>, DeviceChange) {
    match opened {
        Ok((name, stream)) => (Some(stream), DeviceChange::Opened { device, name }),
        Err(error) => {
            let reason = match error.kind() {
                ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => LossReason::Missing,
                ErrorKind::DeviceBusy => LossReason::Busy,
                ErrorKind::PermissionDenied => LossReason::Denied,
                _ => LossReason::Failed(error.to_string()),
            };
            (None, DeviceChange::Lost { device, name: None, reason })
        }
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
) -> Result<Stream, cpal::Error>
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
    device.build_input_stream(config, on_data, |_| {}, None)
}

fn play<T: SizedSample + FromSample<f32>>(
    device: &Device,
    config: StreamConfig,
    held: &Arc<Held>,
) -> Result<Stream, cpal::Error> {
    let n_channels = usize::from(config.channels.max(1));
    let held = Arc::clone(held);
    let on_data = move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
        let mut samples = held.lock();
        for channels in data.chunks_mut(n_channels) {
            let sample = samples.queue.pop_front().unwrap_or(0.0);
            channels.fill(T::from_sample(sample));
        }
        drop(samples);
        held.changed.notify_all();
    };
    device.build_output_stream(config, on_data, |_| {}, None)
}
