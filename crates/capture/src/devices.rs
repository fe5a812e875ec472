use crate::camera::camera_names;
use crate::sound_device::sound_device_names;

/// What is plugged in, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// For [`crate::SourceSpec::Camera`].
    pub cameras: Vec<String>,
    /// The system's default one is used.
    pub microphones: Vec<String>,
    /// The system's default one is used.
    pub speakers: Vec<String>,
}

/// Asks the system; takes a moment.
pub fn devices() -> Devices {
    let (microphones, speakers) = sound_device_names();
    Devices { cameras: camera_names(), microphones, speakers }
}
