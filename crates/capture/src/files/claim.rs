//! One program at a time works on a file that it will replace in the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::errors::WriteError;
use crate::files::place::{PREFIX, SUFFIX, Target, identity};
use crate::files::temporary::Temporary;

/// Claim to a file that takes long to make and is written at the end, such as a face. While it
/// exists, no other program gets one for that file.
///
/// It is a lock on the empty file `.feathercall-NAME.tmp` beside the file. What a crash leaves of it
/// is not locked, so it does not stand in the way, and is among [`crate::abandoned_files`].
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: File,
    _temporary: Temporary,
}

impl Claim {
    /// Claims `path`, whether there is a file or not.
    ///
    /// # Errors
    /// [`WriteError::Io`] if another program has claimed it, or if the folder is missing or not
    /// writable.
    pub fn take(path: &Path) -> Result<Self, WriteError> {
        Self::try_take(path).map_err(WriteError::io(path))
    }

    fn try_take(path: &Path) -> io::Result<Self> {
        let target = Target::replaced(path)?;
        let Some(name) = target.file_name() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut lock_name = std::ffi::OsString::from(PREFIX);
        lock_name.push(name);
        lock_name.push(SUFFIX);
        let path = target.with_file_name(lock_name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        loop {
            let lock = options.open(&path)?;
            // Some network folders have no locks.
            if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            // Whoever had the claim may have removed the file before we locked it.
            if identity(&path) == Some(Handle::from_file(lock.try_clone()?)?) {
                let temporary = Temporary::new(&path);
                return Ok(Self { path, _lock: lock, _temporary: temporary });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn a_file_is_claimed_once_at_a_time() {
        let folder = Folder::new("claim");
        let path = folder.join("me.face");
        let first = Claim::take(&path).unwrap();
        let second = Claim::take(&path).unwrap_err().to_string();
        assert!(second.contains("another program is using it"), "{second}");
        let other = Claim::take(&folder.join("you.face")).unwrap();
        drop((first, other));
        assert_eq!(folder.names(), [""; 0]);
        // What a crash left does not stand in the way.
        fs::write(folder.join(".feathercall-me.face.tmp"), "").unwrap();
        assert_eq!(crate::abandoned_files(&folder.0).unwrap().len(), 1);
        drop(Claim::take(&path).unwrap());
        assert_eq!(folder.names(), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_its_target_are_one_file() {
        let folder = Folder::new("claim-link");
        std::os::unix::fs::symlink("me.face", folder.join("link.face")).unwrap();
        let _first = Claim::take(&folder.join("link.face")).unwrap();
        assert!(Claim::take(&folder.join("me.face")).is_err());
    }
}
