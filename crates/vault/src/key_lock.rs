//! The lock under which a user's key is created.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::key_file::{self, KeyFileError};

/// Excludes the other threads of this process, also where there is no file to lock.
static CREATING: Mutex<()> = Mutex::new(());

/// Only one process of a user creates a key while this exists: two that both find no key would both
/// create one, and the files encrypted with the first could never be opened.
pub(crate) struct KeyLock {
    // Fields are dropped in this order: the file is unlocked first.
    _file: Option<File>,
    _process: MutexGuard<'static, ()>,
}

impl KeyLock {
    /// Waits for the lock: `key.lock` beside the key file of a user, an empty file that stays.
    ///
    /// # Errors
    /// If the folder or the file cannot be created or locked.
    pub(crate) fn wait(key_file: Option<&Path>) -> Result<Self, KeyFileError> {
        let process = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
        let file = key_file.map(lock_beside).transpose()?;
        Ok(Self { _file: file, _process: process })
    }
}

fn lock_beside(key_file: &Path) -> Result<File, KeyFileError> {
    key_file::create_folder(key_file)?;
    let path = key_file.with_extension("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(KeyFileError::io(&path))?;
    file.lock().map_err(KeyFileError::io(&path))?;
    Ok(file)
}
