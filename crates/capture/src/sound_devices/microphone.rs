//! The microphone of a call.

#![expect(clippy::disallowed_methods, reason = "sound is paced by the wall clock")]

use std::time::{Duration, Instant};

use super::change::{DeviceChange, SoundDevice, SoundError};
use super::device_host::find_name;
use super::file_microphone::FileMicrophone;
use super::input_device::InputDevice;
use super::sound_block::SoundBlock;
use super::spec::MicrophoneSpec;

/// Microphone, or a file in place of one, as mono sound at 48 kHz.
///
/// There is sound for every moment: silence while a device is gone, and after the end of a file.
pub struct Microphone {
    input: Input,
}

enum Input {
    Device(Box<InputDevice>),
    File(Box<FileMicrophone>),
}

impl Microphone {
    /// Checks that a microphone can be opened as it is named. A file is read; no device is opened.
    ///
    /// # Errors
    /// Those of [`Microphone::open`], except for a lack of threads.
    pub fn check(spec: &MicrophoneSpec) -> Result<(), SoundError> {
        match spec {
            MicrophoneSpec::Default => Ok(()),
            MicrophoneSpec::Named(name) => find_name(SoundDevice::Microphone, name).map(drop),
            MicrophoneSpec::File(path) => FileMicrophone::open(path).map(drop),
        }
    }

    /// Opens a microphone and starts capturing.
    ///
    /// # Errors
    /// If no device, or more than one, has the name, or the file cannot be read.
    pub fn open(spec: &MicrophoneSpec) -> Result<Self, SoundError> {
        Ok(Self {
            input: match spec {
                MicrophoneSpec::Default => Input::Device(Box::new(InputDevice::open(None)?)),
                MicrophoneSpec::Named(name) => {
                    Input::Device(Box::new(InputDevice::open(Some(name))?))
                }
                MicrophoneSpec::File(path) => Input::File(Box::new(FileMicrophone::open(path)?)),
            },
        })
    }

    /// Returns the next 10 ms of sound, waiting up to `timeout` for them.
    ///
    /// Blocks follow each other without gaps, unless they are not read within 200 ms: the oldest are
    /// dropped then.
    pub fn next_block(&mut self, timeout: Duration) -> Option<SoundBlock> {
        let deadline = Instant::now() + timeout;
        loop {
            let now = Instant::now();
            let next = match &mut self.input {
                Input::Device(device) => device.next_block(now),
                Input::File(file) => file.next_block(now),
            };
            let wait = match next {
                Ok(block) => return Some(block),
                Err(_) if now >= deadline => return None,
                Err(wait) => wait.min(deadline - now),
            };
            match &self.input {
                Input::Device(device) => device.wait(wait),
                Input::File(_) => std::thread::sleep(wait),
            }
        }
    }

    /// Returns how many blocks were dropped because they were not read in time.
    pub fn n_dropped(&self) -> u64 {
        match &self.input {
            Input::Device(device) => device.n_dropped(),
            Input::File(file) => file.n_dropped(),
        }
    }

    /// Returns what has happened to the device, in order. Ask after each block.
    pub fn take_change(&mut self) -> Option<DeviceChange> {
        match &mut self.input {
            Input::Device(device) => device.take_change(),
            Input::File(file) => file.take_change(),
        }
    }
}
