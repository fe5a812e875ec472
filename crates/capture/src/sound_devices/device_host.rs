//! Sound devices of the system, by the crate `cpal`.

#![expect(clippy::disallowed_methods, reason = "captured samples are stamped on arrival")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{
    BufferSize, Device, Error, ErrorKind, FromSample, Host, SampleFormat, SizedSample, Stream,
    StreamConfig, SupportedBufferSize, SupportedStreamConfig, SupportedStreamConfigRange,
};
use types::Sound;

use super::change::{LossReason, SoundDevice, SoundError};
use super::follower::{DeviceHost, Listed, OnFailure};
use super::input_line::{InputLine, input_line};
use super::output_line::{OutputLine, output_line};
use super::waker::Waker;

/// Blocks that a device works on, per second.
const BLOCKS_PER_S: u32 = 100;
/// Name of the sound system of Linux without a sound server.
const ALSA: &str = "ALSA";
/// How long a device may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Lists the names of all devices of one direction.
pub(crate) fn sound_device_names(device: SoundDevice) -> Vec<String> {
    let listed = System::connect(device).listed();
    listed.into_iter().map(|listed| listed.name).collect()
}

/// Finds the device of a name, or the only one whose name contains it, and returns its name.
pub(super) fn find_name(device: SoundDevice, wanted: &str) -> Result<String, SoundError> {
    named(device, wanted, sound_device_names(device))
}

fn named(device: SoundDevice, wanted: &str, names: Vec<String>) -> Result<String, SoundError> {
    if names.iter().any(|name| name == wanted) {
        return Ok(wanted.to_owned());
    }
    let name = wanted.to_owned();
    let lower = wanted.to_lowercase();
    let mut found: Vec<String> =
        names.iter().filter(|name| name.to_lowercase().contains(&lower)).cloned().collect();
    match found.len() {
        0 => Err(SoundError::Unknown { device, name, names }),
        1 => Ok(found.remove(0)),
        _ => Err(SoundError::Ambiguous { device, name, names: found }),
    }
}

/// Connections to a sound server that are not in use. They are used again, because the thread of one
/// that is closed never ends (`pulseaudio` 0.3), and not shared, because all playback of a connection
/// is tied to one device (cpal 0.18 gives all its streams the same synchronization id).
static IDLE: Mutex<Vec<Host>> = Mutex::new(Vec::new());

/// Devices of one direction.
struct System {
    device: SoundDevice,
    /// `None` only while it is dropped.
    host: Option<Host>,
}

impl System {
    fn connect(device: SoundDevice) -> Self {
        let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut working = std::iter::from_fn(idle).filter(|host| host.devices().is_ok());
        Self { device, host: Some(working.next().unwrap_or_else(cpal::default_host)) }
    }

    /// Connects again if there was no sound server, or it does not answer any more.
    fn reconnect(&mut self) {
        if self.host().id().name() == ALSA || self.host().devices().is_err() {
            self.host = None;
            *self = Self::connect(self.device);
        }
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("it is taken when this is dropped")
    }

    fn devices(&self) -> Vec<(Listed, Device)> {
        let devices: Vec<Device> = match self.device {
            SoundDevice::Microphone => self.host().input_devices().map(Iterator::collect),
            SoundDevice::Speaker => self.host().output_devices().map(Iterator::collect),
        }
        .unwrap_or_default();
        let mut listed: Vec<(Listed, Device)> = devices.into_iter().filter_map(listed).collect();
        // The device of ALSA that plays to nobody.
        listed.retain(|(listed, _)| listed.id != "null");
        listed
    }

    fn listed(&self) -> Vec<Listed> {
        self.devices().into_iter().map(|(listed, _)| listed).collect()
    }

    fn default_device(&self) -> Option<(Listed, Device)> {
        let device = match self.device {
            SoundDevice::Microphone => self.host().default_input_device(),
            SoundDevice::Speaker => self.host().default_output_device(),
        };
        // Without a device, sound servers name the dummy of theirs, or record what the speaker plays.
        device.and_then(listed).filter(|(l, _)| l.id != "auto_null" && !l.id.ends_with(".monitor"))
    }

    fn find(&self, wanted: &Listed) -> Result<Device, LossReason> {
        let default = self.default_device().filter(|(listed, _)| listed == wanted);
        default
            .or_else(|| self.devices().into_iter().find(|(listed, _)| listed == wanted))
            .map(|(_, device)| device)
            .ok_or(LossReason::Missing)
    }

    /// ALSA reports a lost device itself, and its list is expensive.
    fn is_watched(&self) -> bool {
        self.host().id().name() != ALSA
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(host) = self.host.take().filter(|host| host.id().name() != ALSA) {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(host);
        }
    }
}

fn listed(device: Device) -> Option<(Listed, Device)> {
    let id = device.id().ok()?.id().to_owned();
    let name = device.description().ok()?.name().to_owned();
    Some((Listed { id, name }, device))
}

fn loss(error: &Error) -> LossReason {
    match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => LossReason::Missing,
        ErrorKind::DeviceBusy => LossReason::Busy,
        ErrorKind::PermissionDenied => LossReason::Denied,
        _ => LossReason::Failed(error.to_string()),
    }
}

/// Returns whether the device goes on after an error. Gaps are counted where they are heard.
fn is_harmless(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied)
}

/// Chooses 48 kHz in a usual format with as few channels as possible, or else the device's default.
fn choose(
    all: impl Iterator<Item = SupportedStreamConfigRange>,
    default: SupportedStreamConfig,
) -> SupportedStreamConfig {
    let rank = |format| match format {
        SampleFormat::F32 => Some(0),
        SampleFormat::I16 => Some(1),
        SampleFormat::I32 => Some(2),
        _ => None,
    };
    all.filter_map(|range| range.try_with_sample_rate(Sound::RATE))
        .filter(|config| config.channels() <= 2 && rank(config.sample_format()).is_some())
        .min_by_key(|config| (config.channels(), rank(config.sample_format())))
        .unwrap_or(default)
}

/// Starts a stream with blocks of 10 ms, or of the size that the device likes.
fn start<L>(
    config: SupportedStreamConfig,
    build: impl Fn(StreamConfig) -> Result<(Stream, L), Error>,
) -> Result<(Stream, L), Error> {
    let n = config.sample_rate() / BLOCKS_PER_S;
    let is_allowed = match config.buffer_size() {
        SupportedBufferSize::Range { min, max } => (*min..=*max).contains(&n),
        SupportedBufferSize::Unknown => true,
    };
    let wanted = StreamConfig { buffer_size: BufferSize::Fixed(n), ..config.into() };
    let built = if is_allowed { build(wanted).ok() } else { None };
    let (stream, line) = built.map_or_else(|| build(config.into()), Ok)?;
    stream.play()?;
    Ok((stream, line))
}

/// Calls a generic function for the type of a sample format.
macro_rules! for_format {
    ($format:expr, $function:ident($($argument:expr),*)) => {
        match $format {
            SampleFormat::F32 => $function::<f32>($($argument),*),
            SampleFormat::F64 => $function::<f64>($($argument),*),
            SampleFormat::I8 => $function::<i8>($($argument),*),
            SampleFormat::I16 => $function::<i16>($($argument),*),
            SampleFormat::I24 => $function::<cpal::I24>($($argument),*),
            SampleFormat::I32 => $function::<i32>($($argument),*),
            SampleFormat::U8 => $function::<u8>($($argument),*),
            SampleFormat::U16 => $function::<u16>($($argument),*),
            SampleFormat::U32 => $function::<u32>($($argument),*),
            _ => Err(ErrorKind::UnsupportedConfig.into()),
        }
    };
}

fn report(on_failure: &OnFailure) -> impl FnMut(Error) + Send + 'static {
    let on_failure = Arc::clone(on_failure);
    move |error| {
        if !is_harmless(error.kind()) {
            on_failure(loss(&error));
        }
    }
}

/// Microphones of the system.
pub(super) struct InputHost {
    system: System,
    waker: Waker,
}

impl InputHost {
    /// Connects to the sound system. `waker` wakes the thread that waits for samples.
    pub(super) fn connect(waker: Waker) -> Self {
        Self { system: System::connect(SoundDevice::Microphone), waker }
    }
}

impl DeviceHost for InputHost {
    type Stream = Stream;
    type Line = InputLine;

    fn reconnect(&mut self) {
        self.system.reconnect();
    }

    fn is_watched(&self) -> bool {
        self.system.is_watched()
    }

    fn listed(&self) -> Vec<Listed> {
        self.system.listed()
    }

    fn default_device(&self) -> Option<Listed> {
        self.system.default_device().map(|(listed, _)| listed)
    }

    fn open(
        &mut self,
        device: &Listed,
        on_failure: OnFailure,
    ) -> Result<(Stream, InputLine), LossReason> {
        let device = self.system.find(device)?;
        let open = || {
            let config = choose(device.supported_input_configs()?, device.default_input_config()?);
            start(config, |stream| {
                for_format!(
                    config.sample_format(),
                    listen(&device, stream, &self.waker, &on_failure)
                )
            })
        };
        open().map_err(|error| loss(&error))
    }
}

fn listen<T: SizedSample>(
    device: &Device,
    config: StreamConfig,
    waker: &Waker,
    on_failure: &OnFailure,
) -> Result<(Stream, InputLine), Error>
where
    f32: FromSample<T>,
{
    let (mut writer, line) = input_line(config.sample_rate, config.channels, waker.clone());
    let on_data = move |data: &[T], info: &cpal::InputCallbackInfo| {
        let timestamp = info.timestamp();
        let age = timestamp.callback.duration_since(timestamp.capture);
        let now = Instant::now();
        writer.write(data, now.checked_sub(age).unwrap_or(now));
    };
    let stream =
        device.build_input_stream(config, on_data, report(on_failure), Some(OPEN_TIMEOUT))?;
    Ok((stream, line))
}

/// Speakers of the system.
pub(super) struct OutputHost {
    system: System,
    waker: Waker,
}

impl OutputHost {
    /// Connects to the sound system. `waker` wakes the thread that waits for room.
    pub(super) fn connect(waker: Waker) -> Self {
        Self { system: System::connect(SoundDevice::Speaker), waker }
    }
}

impl DeviceHost for OutputHost {
    type Stream = Stream;
    type Line = OutputLine;

    fn reconnect(&mut self) {
        self.system.reconnect();
    }

    fn is_watched(&self) -> bool {
        self.system.is_watched()
    }

    fn listed(&self) -> Vec<Listed> {
        self.system.listed()
    }

    fn default_device(&self) -> Option<Listed> {
        self.system.default_device().map(|(listed, _)| listed)
    }

    fn open(
        &mut self,
        device: &Listed,
        on_failure: OnFailure,
    ) -> Result<(Stream, OutputLine), LossReason> {
        let device = self.system.find(device)?;
        let open = || {
            let config =
                choose(device.supported_output_configs()?, device.default_output_config()?);
            start(config, |stream| {
                for_format!(config.sample_format(), play(&device, stream, &self.waker, &on_failure))
            })
        };
        open().map_err(|error| loss(&error))
    }
}

fn play<T: SizedSample + FromSample<f32>>(
    device: &Device,
    config: StreamConfig,
    waker: &Waker,
    on_failure: &OnFailure,
) -> Result<(Stream, OutputLine), Error> {
    let (mut feed, line) = output_line(config.sample_rate, config.channels, waker.clone());
    let on_data = move |data: &mut [T], info: &cpal::OutputCallbackInfo| {
        let timestamp = info.timestamp();
        let latency = timestamp.playback.duration_since(timestamp.callback);
        feed.fill(data, latency);
    };
    let stream =
        device.build_output_stream(config, on_data, report(on_failure), Some(OPEN_TIMEOUT))?;
    Ok((stream, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_name_or_a_part_that_no_other_has() {
        let names = ["Desk Microphone", "Headset", "Headset Pro"].map(str::to_owned);
        let find = |wanted| {
            named(SoundDevice::Microphone, wanted, names.to_vec()).map_err(|e| e.to_string())
        };
        for (wanted, found) in
            [("Headset", "Headset"), ("desk", "Desk Microphone"), ("PRO", "Headset Pro")]
        {
            assert_eq!(find(wanted), Ok(found.to_owned()), "{wanted}");
        }
        let several = "\"head\" is the name of several microphones: \"Headset\", \"Headset Pro\"";
        assert_eq!(find("head"), Err(several.to_owned()));
        let unknown = find("Webcam").unwrap_err();
        assert!(unknown.contains("there is no microphone \"Webcam\""), "{unknown}");
        assert!(unknown.contains("\"Desk Microphone\", \"Headset\""), "{unknown}");
    }

    #[test]
    fn the_usual_format_is_chosen_if_a_device_has_it() {
        let range = |channels, min, max, format| {
            SupportedStreamConfigRange::new(
                channels,
                min,
                max,
                SupportedBufferSize::Unknown,
                format,
            )
        };
        let default = range(8, 192_000, 192_000, SampleFormat::I24).with_max_sample_rate();
        for (ranges, want) in [
            (vec![], default),
            (vec![range(6, 8_000, 96_000, SampleFormat::F32)], default),
            (vec![range(1, 8_000, 44_100, SampleFormat::F32)], default),
            (
                vec![
                    range(2, 8_000, 96_000, SampleFormat::F32),
                    range(1, 48_000, 48_000, SampleFormat::I16),
                ],
                range(1, 48_000, 48_000, SampleFormat::I16).with_max_sample_rate(),
            ),
        ] {
            assert_eq!(choose(ranges.into_iter(), default), want);
        }
    }
}
