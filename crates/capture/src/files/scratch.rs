//! A folder for intermediate files.

use std::fs::File;
use std::path::Path;

use tempfile::{Builder, TempDir};

use crate::errors::WriteError;
use crate::files::place::{PREFIX, SUFFIX};

/// Hidden folder for intermediate files, closed to other users (mode 0700 on Unix) and removed with
/// its files on drop. What a crash leaves is among [`crate::abandoned_files`].
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    /// Tells a folder in use from an abandoned one. `None` on systems that cannot open folders.
    _lock: Option<File>,
}

impl ScratchFolder {
    /// Creates an empty folder in `folder`.
    ///
    /// # Errors
    /// [`WriteError::Io`] if `folder` is missing or not writable.
    pub fn create(folder: &Path) -> Result<Self, WriteError> {
        let mut builder = Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let scratch = builder.tempdir_in(folder).map_err(WriteError::io(folder))?;
        let lock = File::open(scratch.path()).ok().filter(|lock| lock.try_lock().is_ok());
        Ok(Self { folder: scratch, _lock: lock })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn a_scratch_folder_is_closed_to_others_and_vanishes() {
        let folder = Folder::new("scratch");
        let scratch = ScratchFolder::create(&folder.0).unwrap();
        std::fs::write(scratch.path().join("frames.rgb"), "a person").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(scratch.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            assert_eq!(
                crate::abandoned_files(&folder.0).unwrap(),
                [""; 0].map(std::path::PathBuf::from)
            );
        }
        drop(scratch);
        assert_eq!(folder.names(), [""; 0]);
        let error = ScratchFolder::create(&folder.join("missing")).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
