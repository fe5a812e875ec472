//! A key in a file that only its owner reads.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::key::{Key, RandomError};

/// Largest key file that is read, bytes: 64 digits and some white space.
const MAX_BYTES: u64 = 256;

/// Why a key file cannot be read or created.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The system refuses. Its message says why.
    #[error("cannot use the key file {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The file holds something else. Restore it, or name another.
    #[error("{} is not a key file: it must contain 64 hexadecimal digits", path.display())]
    NotAKey { path: PathBuf },
    /// Others could have read the key. The person decides whether to trust it still.
    #[error("other users can read the key file; allow only yourself: chmod 600 {}", path.display())]
    Exposed { path: PathBuf },
    /// No key can be created.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyFileError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// Reads the key in `path`; `None` if there is no file. With `is_private`, a file that others can
/// read is refused (on Unix).
pub(crate) fn read(path: &Path, is_private: bool) -> Result<Option<Key>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::io(path)(error)),
    };
    if is_private && is_exposed(&file).map_err(KeyFileError::io(path))? {
        return Err(KeyFileError::Exposed { path: path.to_owned() });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => text.clear(),
        Err(error) => return Err(KeyFileError::io(path)(error)),
    }
    let key = Key::from_text(&text);
    key.map(Some).ok_or_else(|| KeyFileError::NotAKey { path: path.to_owned() })
}

/// Returns whether others than the owner have access to a file.
fn is_exposed(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        // The folder of a user's settings is closed to others there.
        let _ = file;
        Ok(false)
    }
}

/// Creates a random key in `path`, in a file of mode 0600 that appears complete. If another process
/// has just created one, returns that.
pub(crate) fn create(path: &Path) -> Result<Key, KeyFileError> {
    let io = KeyFileError::io;
    let key = Key::random()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Temporary files are created with mode 0600.
    let mut file = NamedTempFile::new_in(folder).map_err(io(path))?;
    writeln!(file, "{}", *key.to_text()).map_err(io(path))?;
    file.as_file().sync_all().map_err(io(path))?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            // The key must not be lost in a power cut that a file encrypted with it survives.
            #[cfg(unix)]
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(path))?;
            Ok(key)
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            read(path, false)?.ok_or_else(|| io(path)(io::ErrorKind::NotFound.into()))
        }
        Err(error) => Err(io(path)(error.error)),
    }
}

/// Creates the folder of a key file of our own, closed to others.
pub(crate) fn create_folder(path: &Path) -> Result<(), KeyFileError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(KeyFileError::io(path))
}
