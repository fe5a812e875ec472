//! The speaker of a call.

#![expect(clippy::disallowed_methods, reason = "a file is paced by the wall clock")]

use std::time::{Duration, Instant};

use super::BLOCK_SAMPLES;
use super::change::{DeviceChange, SoundError};
use super::paced_speaker::PacedSpeaker;
use super::spec::SpeakerSpec;
use crate::errors::WriteError;
use crate::sound_device::OutputDevice;

/// Speaker, or a file in place of one, fed with mono sound at 48 kHz.
///
/// It sets the pace: [`Speaker::wait_for_room`], then [`Speaker::play`], and so on. Without a device it
/// goes on by the clock.
pub struct Speaker {
    output: Output,
}

enum Output {
    Device(OutputDevice),
    Paced(PacedSpeaker),
}

impl Speaker {
    /// Opens a speaker, which plays silence until it is given sound.
    ///
    /// # Errors
    /// If no device, or more than one, has the name, or the file cannot be written.
    pub fn open(spec: &SpeakerSpec) -> Result<Self, SoundError> {
        Ok(Self {
            output: match spec {
                SpeakerSpec::Default => Output::Device(OutputDevice::open(None)?),
                SpeakerSpec::Named(name) => Output::Device(OutputDevice::open(Some(name))?),
                SpeakerSpec::File(path) => Output::Paced(PacedSpeaker::to_file(path)?),
                SpeakerSpec::Silent => Output::Paced(PacedSpeaker::silent()),
            },
        })
    }

    /// Waits up to `timeout` until another block is wanted, and returns whether one is.
    pub fn wait_for_room(&mut self, timeout: Duration) -> bool {
        match &mut self.output {
            Output::Device(device) => device.wait_for_room(timeout),
            Output::Paced(paced) => {
                let early = paced.room_in(Instant::now());
                std::thread::sleep(early.min(timeout));
                early <= timeout
            }
        }
    }

    /// Appends 10 ms of sound, -1..=1. What a device has no room for is dropped.
    pub fn play(&mut self, samples: &[f32; BLOCK_SAMPLES]) {
        match &mut self.output {
            Output::Device(device) => device.play(samples),
            Output::Paced(paced) => paced.play(Instant::now(), samples),
        }
    }

    /// Returns how long it takes until what is given now is heard.
    pub fn queued(&self) -> Duration {
        match &self.output {
            Output::Device(device) => device.queued(),
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

    /// Stops playing, and completes a file, which then gets its final name. Dropping does the same, but
    /// cannot say what went wrong.
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
