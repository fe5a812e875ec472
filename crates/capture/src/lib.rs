//! Sources and sinks of frames and sound: cameras, microphone, speaker, clips, the actor.
//!
//! The only crate that knows devices and container formats. A [`Source`] reads square frames with
//! their media time as fast as they are requested; [`Paced`] delivers them in real time;
//! [`ClipWriter`] records. Sound is mono at 48 kHz in blocks of 20 ms. [`write_file`] is how every
//! crate replaces a file atomically, [`read_file`] how it reads one up to a limit.
//!
//! ```
//! use capture::{ClipWriter, Source, SourceSpec};
//! use types::{Frame, MediaTime};
//!
//! let folder = std::env::temp_dir().join(format!("capture-doc-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let mut writer = ClipWriter::create(&folder.join("gray.mp4"), 25)?;
//! for i in 0..3 {
//!     writer.push(&Frame::new(64, 64, MediaTime::of_frame(i, 25), vec![128; 64 * 64 * 3])?)?;
//! }
//! let files = writer.finish()?;
//!
//! let mut source = Source::open(&SourceSpec::Clip(files[0].clone()))?;
//! assert_eq!((source.fps(), source.n_frames()), (25, Some(3)));
//! while let Some(frame) = source.next_frame()? {
//!     assert!(frame.rgb_at(32, 32)[0].abs_diff(128) <= 1);
//! }
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actor_source;
mod camera;
mod contained;
mod devices;
mod errors;
mod explanation;
mod ffmpeg;
mod files;
mod handoff;
mod mp4;
mod paced;
mod paced_sounds;
mod partial;
mod picture;
mod recording;
mod resample;
mod sound;
mod sound_devices;
mod source;
#[cfg(test)]
mod test_clips;

pub use camera::CameraError;
pub use contained::is_contained;
pub use devices::{Devices, devices};
pub use errors::{OpenError, ReadError, UnsupportedVideo, WriteError};
pub use files::{
    Claim, ScratchFolder, abandoned_files, check_writable, check_writable_folder,
    create_private_folder, is_own_clip, is_same_file, open_private, read_file, read_line,
    remove_temporary_files, unfinished_recordings, write_file,
};
pub use paced::Paced;
pub use paced_sounds::PacedSounds;
pub use partial::accept_partial_clips;
pub use picture::{read_picture, write_picture};
pub use recording::ClipWriter;
pub use sound_devices::{
    DeviceChange, LossReason, Microphone, MicrophoneSpec, SoundBlock, SoundDevice, SoundError,
    Speaker, SpeakerSpec,
};
pub use source::{Source, SourceSpec};

/// Samples in 20 ms of sound.
const SOUND_SAMPLES: usize = types::Sound::RATE as usize / 50;
