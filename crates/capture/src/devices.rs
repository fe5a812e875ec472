//! Lists of devices.

use crate::camera::camera_names;
use crate::sound_devices::{SoundDevice, sound_device_names};

/// Names of the connected devices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// Cameras, as [`crate::SourceSpec::Camera`] accepts them.
    pub cameras: Vec<String>,
    /// Microphones, as [`crate::MicrophoneSpec::Named`] accepts them.
    pub microphones: Vec<String>,
    /// Speakers, as [`crate::SpeakerSpec::Named`] accepts them.
    pub speakers: Vec<String>,
}

/// Lists the connected devices. May take a second, since drivers are queried.
pub fn devices() -> Devices {
    Devices {
        cameras: camera_names(),
        microphones: sound_device_names(SoundDevice::Microphone),
        speakers: sound_device_names(SoundDevice::Speaker),
    }
}
