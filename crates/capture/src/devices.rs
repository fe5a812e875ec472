//! Lists of devices.

use crate::camera::camera_names;
use crate::sound_device::sound_device_names;

/// Names of the connected devices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// Cameras, as [`crate::SourceSpec::Camera`] accepts them.
    pub cameras: Vec<String>,
    /// Microphones. A call uses the system's default.
    pub microphones: Vec<String>,
    /// Speakers. A call uses the system's default.
    pub speakers: Vec<String>,
}

/// Lists the connected devices. May take a second, since drivers are queried.
pub fn devices() -> Devices {
    let (microphones, speakers) = sound_device_names();
    Devices { cameras: camera_names(), microphones, speakers }
}
