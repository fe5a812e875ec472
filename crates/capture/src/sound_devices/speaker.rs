//! The speaker of a call.

#![expect(clippy::disallowed_methods, reason = "sound is paced by the wall clock")]

use std::time::{Duration, Instant};

use super::BLOCK_SAMPLES;
use super::change::{DeviceChange, SoundDevice, SoundError};
use super::device_host::find_name;
use super::output_device::OutputDevice;
use super::paced_speaker::PacedSpeaker;
use super::spec::SpeakerSpec;
use crate::errors::WriteError;

/// Speaker, or a file in place of one, fed with mono sound at 48 kHz.
///
/// It sets the pace: [`Speaker::wait_for_room`], then [`Speaker::play`], and so on. Without a device it
/// goes on by the clock.
pub struct Speaker {
    output: Output,
}

enum Output {
    Device(Box<OutputDevice>),
    Paced(Box<PacedSpeaker>),
}

impl Speaker {
    /// Checks that there is one speaker of a name, without opening it. Files are not checked.
    ///
    /// # Errors
    /// If no device, or more than one, has the name.
    pub fn check(spec: &SpeakerSpec) -> Result<(), SoundError> {
        match spec {
            SpeakerSpec::Named(name) => find_name(SoundDevice::Speaker, name).map(drop),
            SpeakerSpec::Default | SpeakerSpec::File(_) | SpeakerSpec::Silent => Ok(()),
        }
    }

    /// Opens a speaker, which plays silence until it is given sound.
    ///
    /// # Errors
    /// If no device, or more than one, has the name, or the file cannot be written.
    pub fn open(spec: &SpeakerSpec) -> Result<Self, SoundError> {
        Ok(Self {
            output: match spec {
                SpeakerSpec::Default => Output::Device(Box::new(OutputDevice::open(None)?)),
                SpeakerSpec::Named(name) => {
                    Output::Device(Box::new(OutputDevice::open(Some(name))?))
                }
                SpeakerSpec::File(path) => Output::Paced(Box::new(PacedSpeaker::to_file(path)?)),
                SpeakerSpec::Silent => Output::Paced(Box::new(PacedSpeaker::silent())),
            },
        })
    }

    /// Waits up to `timeout` until another block is wanted, and returns whether one is.
    pub fn wait_for_room(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let now = Instant::now();
            let wait = match &mut self.output {
                Output::Device(device) => device.room_in(now),
                Output::Paced(paced) => paced.room_in(now),
            };
            if wait.is_zero() || now >= deadline {
                return wait.is_zero();
            }
            let wait = wait.min(deadline - now);
            match &self.output {
                Output::Device(device) => device.wait(wait),
                Output::Paced(_) => std::thread::sleep(wait),
            }
        }
    }

    /// Appends 10 ms of sound, -1..=1. What a device has no room for is dropped.
    pub fn play(&mut self, samples: &[f32; BLOCK_SAMPLES]) {
        match &mut self.output {
            Output::Device(device) => device.play(Instant::now(), samples),
            Output::Paced(paced) => paced.play(Instant::now(), samples),
        }
    }

    /// Returns how long it takes until what is given now is heard.
    pub fn queued(&self) -> Duration {
        match &self.output {
            Output::Device(device) => device.queued(Instant::now()),
            Output::Paced(paced) => paced.queued(Instant::now()),
        }
    }

    /// Returns how many times there was nothing to play, so that a gap was heard.
    pub fn n_gaps(&self) -> u64 {
        match &self.output {
            Output::Device(device) => device.n_gaps(),
            Output::Paced(paced) => paced.n_gaps(),
        }
    }

    /// Returns what has happened to the device, in order. Ask after each block.
    pub fn take_change(&mut self) -> Option<DeviceChange> {
        match &mut self.output {
            Output::Device(device) => device.take_change(),
            Output::Paced(paced) => paced.take_change(),
        }
    }

    /// Stops playing, and completes a file, which then gets its final name. If nothing was played, there is
    /// no file, and what has its name already stays. Dropping does the same, but cannot say what went
    /// wrong.
    ///
    /// # Errors
    /// If the file cannot be completed; what there is of it is beside its final path.
    pub fn finish(mut self) -> Result<(), WriteError> {
        match &mut self.output {
            Output::Device(_) => Ok(()),
            Output::Paced(paced) => paced.finish(),
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if let Output::Paced(paced) = &mut self.output {
            let _ = paced.finish();
        }
    }
}
