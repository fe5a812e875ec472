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

mod aac_sound;
mod actor_source;
mod atomic;
mod bounded_read;
mod camera;
mod claim;
mod clip_sound;
mod clip_writer;
mod color;
mod color_tags;
mod contained;
mod devices;
mod edit_list;
mod errors;
mod explanation;
mod ffmpeg;
mod ffmpeg_process;
mod ffmpeg_sound;
mod ffprobe;
mod geometry;
mod h264_vui;
mod handoff;
mod mp4_boxes;
mod mp4_clip;
mod mp4_encoder;
mod mp4_entry;
mod mp4_fragments;
mod mp4_reader;
mod mp4_samples;
mod mp4_timeline;
mod mp4_track;
mod mp4_writer;
mod nut;
mod own_clip;
mod paced;
mod paced_sounds;
mod part_file;
mod part_name;
mod partial;
mod pictures;
mod pixel_format;
mod place;
mod resample;
mod scratch;
mod segment;
mod sound_devices;
mod sound_line;
mod source;
mod temporary;
#[cfg(test)]
mod test_clips;
mod tone;
mod wav_sound;
mod y4m;

pub use atomic::{abandoned_files, create_private_folder, open_private, write_file};
pub use bounded_read::{read_file, read_line};
pub use camera::CameraError;
pub use claim::Claim;
pub use clip_writer::ClipWriter;
pub use contained::is_contained;
pub use devices::{Devices, devices};
pub use errors::{OpenError, ReadError, UnsupportedVideo, WriteError};
pub use own_clip::is_own_clip;
pub use paced::Paced;
pub use paced_sounds::PacedSounds;
pub use part_file::unfinished_recordings;
pub use partial::accept_partial_clips;
pub use pictures::{read_picture, write_picture};
pub use place::{check_writable, check_writable_folder, is_same_file};
pub use scratch::ScratchFolder;
pub use sound_devices::{
    DeviceChange, LossReason, Microphone, MicrophoneSpec, SoundBlock, SoundDevice, SoundError,
    Speaker, SpeakerSpec,
};
pub use source::{Source, SourceSpec};
pub use temporary::remove_temporary_files;

/// Samples in 20 ms of sound.
const SOUND_SAMPLES: usize = types::Sound::RATE as usize / 50;
