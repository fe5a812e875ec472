//! Where files are written, and how they are replaced: as a whole.

mod atomic;
mod bounded_read;
mod claim;
mod own_clip;
mod part_file;
mod part_name;
mod place;
mod scratch;
mod temporary;

pub use atomic::{abandoned_files, create_private_folder, open_private, write_file};
pub use bounded_read::{read_file, read_line};
pub use claim::Claim;
pub use own_clip::is_own_clip;
pub(crate) use own_clip::{HANDLER_NAME, SOUND_NAME, WAV_SOFTWARE};
pub use part_file::unfinished_recordings;
pub(crate) use part_file::{PartFile, PartFolder, Unfinished};
pub(crate) use place::Target;
pub use place::{check_writable, check_writable_folder, is_same_file};
pub use scratch::ScratchFolder;
pub use temporary::remove_temporary_files;
