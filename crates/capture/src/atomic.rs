//! Files and folders that appear under their name only when complete.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::errors::WriteError;

/// Parts of temporary names, which are hidden and recognizable: `.Xq2f9a.tmp`.
const PREFIX: &str = ".";
const SUFFIX: &str = ".tmp";

/// Writes a file atomically: readers see the old contents or all of `bytes`, never a part.
///
/// The bytes go to a temporary file in the same folder, reach the disk (`fsync`), and then replace
/// `path` by a rename. An existing file is overwritten.
///
/// # Errors
/// [`WriteError::Io`] if the folder is missing or not writable, the disk is full, or `path` is a
/// folder. No temporary file remains, and an existing file keeps its contents.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(WriteError::io(path))
}

/// Checks that [`write_file`] could write to `path`, to fail before a long computation. Leaves no
/// file behind.
///
/// # Errors
/// [`WriteError::Io`] if the folder is missing or not writable, or `path` is a folder.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let check = || {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        AtomicFile::create(path).map(drop)
    };
    check().map_err(WriteError::io(path))
}

/// File under a temporary name. [`AtomicFile::commit`] moves it to its final path, dropping removes
/// it.
pub(crate) struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file beside `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = temporary_file(folder_of(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Waits until the contents are on the disk, then replaces the file at the final path.
    pub(crate) fn commit(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(folder_of(&self.path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.as_file_mut().seek(position)
    }
}

/// Folder under a temporary name. [`AtomicFolder::commit`] moves it to its final path, dropping
/// removes it with its files.
pub(crate) struct AtomicFolder {
    folder: TempDir,
    path: PathBuf,
}

impl AtomicFolder {
    /// Creates the temporary folder beside `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let folder = Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .tempdir_in(folder_of(path))
            .map_err(|error| without_temporary_name(&error))?;
        Ok(Self { folder, path: path.to_owned() })
    }

    /// Returns the temporary path, under which the files are written.
    pub(crate) fn temporary_path(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until all files are on the disk, then moves the folder to its final path. An empty
    /// folder there is replaced.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            fs::File::open(entry?.path())?.sync_all()?;
        }
        sync_folder(self.folder.path())?;
        fs::rename(self.folder.path(), &self.path)?;
        self.folder.disable_cleanup(true);
        sync_folder(folder_of(&self.path))
    }
}

/// Creates the temporary file of [`AtomicFile`], with the permissions of any new file.
fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The library's default lets only the owner read. The process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(|error| without_temporary_name(&error))
}

/// Returns the folder that contains `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes the temporary name, which means nothing to a user, from an error.
fn without_temporary_name(error: &io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::NotFound => io::Error::new(kind, "the folder does not exist"),
        kind => kind.into(),
    }
}

/// Waits until renames in a folder are on the disk. Does nothing on systems other than Unix, which
/// cannot open folders as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn a_write_replaces_the_file_and_a_failed_write_leaves_everything_as_it_was() {
        let folder = Folder::new("atomic-file");
        let path = folder.join("a.txt");
        write_file(&path, b"first").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");

        let taken = folder.join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("mine"), "mine").unwrap();
        for path in [&taken, &folder.join("missing/b.txt")] {
            let error = write_file(path, b"third").unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(check_writable(path).is_err());
        }
        assert!(check_writable(&path).is_ok());
        assert_eq!(folder.names(), ["a.txt", "taken"]);
        assert_eq!(fs::read(taken.join("mine")).unwrap(), b"mine");
    }

    #[test]
    fn an_uncommitted_file_or_folder_leaves_nothing_behind() {
        let folder = Folder::new("atomic-drop");
        let mut file = AtomicFile::create(&folder.join("a")).unwrap();
        file.write_all(b"half").unwrap();
        let pictures = AtomicFolder::create(&folder.join("b")).unwrap();
        fs::write(pictures.temporary_path().join("0.png"), "half").unwrap();
        assert_eq!(folder.names().len(), 2, "both are under way");
        drop((file, pictures));
        assert_eq!(folder.names(), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_as_readable_as_any_other_the_user_creates() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("atomic-mode");
        write_file(&folder.join("ours"), b"").unwrap();
        fs::write(folder.join("usual"), b"").unwrap();
        let mode = |name| fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode("ours"), mode("usual"));
    }
}
