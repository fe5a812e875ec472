//! Files that appear under their name only when complete, and that only their owner reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::errors::WriteError;
use crate::explanation::folder_of;
use crate::files::part_name::is_unfinished_clip;
use crate::files::place::{PREFIX, SUFFIX, Target, is_locked, sync_folder};
use crate::files::temporary::Temporary;

/// Writes a file atomically: readers see the old contents or all of `bytes`, never a part.
///
/// The bytes go to a temporary file in the same folder, reach the disk (`fsync`), and then replace
/// `path` by a rename. An existing file is overwritten; a symbolic link stays, and the file that it
/// leads to is written. On Unix only the owner can read and write the new file (mode 0600), whatever
/// the mode of the one that it replaces. A device or a pipe is written to directly.
///
/// # Errors
/// [`WriteError::Io`] if the folder is missing or not writable, the disk is full, or `path` is a
/// folder. No temporary file remains, and an existing file keeps its contents.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let write = || match Target::of(path)? {
        Target::Device(device) => File::options().write(true).open(device)?.write_all(bytes),
        Target::Replaced(target) => {
            if target.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let mut file = AtomicFile::create(&target)?;
            file.write_all(bytes)?;
            file.commit()
        }
    };
    write().map_err(WriteError::io(path))
}

/// Opens a file that grows while it is read, such as statistics, or creates it. It keeps its contents
/// until the caller empties it (`File::set_len`), and nothing else of this program writes it
/// meanwhile. On Unix only the owner can read and write it (mode 0600), even if it existed with
/// another mode. Devices and pipes keep their mode.
///
/// # Errors
/// [`WriteError::Io`] if the folder is missing or not writable, `path` is a folder, or another program
/// is writing it.
pub fn open_private(path: &Path) -> Result<File, WriteError> {
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        // On other systems a lock would keep readers out.
        #[cfg(unix)]
        if file.metadata()?.is_file() {
            if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        Ok(file)
    };
    open().map_err(WriteError::io(path))
}

/// Creates a folder of the program's own with its parents. On Unix the folders that are created
/// have mode 0700, and so has `path` if it existed with another mode.
///
/// # Errors
/// [`WriteError::Io`] if a folder cannot be created, or belongs to somebody else.
pub fn create_private_folder(path: &Path) -> Result<(), WriteError> {
    let create = || {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)?;
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(())
    };
    create().map_err(WriteError::io(path))
}

/// Returns the temporary files and folders that a crash or a power cut left in `folder`, sorted by
/// name. Those that a running program is writing are left out.
///
/// # Errors
/// If the folder cannot be read.
pub fn abandoned_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut abandoned = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_temporary = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        let is_ours = is_temporary || is_unfinished_clip(&entry.path());
        if is_ours && !is_locked(&entry.path()) {
            abandoned.push(entry.path());
        }
    }
    abandoned.sort();
    Ok(abandoned)
}

/// File under a temporary name. [`AtomicFile::commit`] moves it to its final path, dropping removes
/// it. It is locked meanwhile, which tells it from what a crash left behind.
pub(crate) struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
    _temporary: Temporary,
}

impl AtomicFile {
    /// Creates the temporary file beside `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder_of(path))?;
        // Without locks (some network folders) it would only be listed as abandoned.
        let _ = file.as_file().try_lock();
        let temporary = Temporary::new(file.path());
        Ok(Self { file, path: path.to_owned(), _temporary: temporary })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn a_write_replaces_the_file() {
        let folder = Folder::new("atomic-file");
        let path = folder.join("a.txt");
        write_file(&path, b"first").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(folder.names(), ["a.txt"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = Folder::new("atomic-device");
        for (device, link) in [("/dev/null", "null"), ("/dev/full", "full")] {
            std::os::unix::fs::symlink(device, folder.join(link)).unwrap();
        }
        write_file(&folder.join("null"), b"gone").unwrap();
        let error = write_file(&folder.join("full"), b"no room").unwrap_err().to_string();
        assert!(error.contains("the disk is full"), "{error}");
        for name in ["null", "full"] {
            assert!(fs::metadata(folder.join(name)).unwrap().file_type().is_char_device());
        }
        assert_eq!(folder.names(), ["full", "null"]);
    }

    #[test]
    fn an_uncommitted_file_leaves_nothing_behind() {
        let folder = Folder::new("atomic-drop");
        let mut file = AtomicFile::create(&folder.join("a")).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(folder.names().len(), 1, "it is under way");
        drop(file);
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn what_a_crash_left_is_listed_and_what_is_being_written_is_not() {
        let folder = Folder::new("atomic-abandoned");
        let file = AtomicFile::create(&folder.join("a")).unwrap();
        fs::write(folder.join(".feathercall-crash1.tmp"), "half").unwrap();
        let growing = b"\0\0\0\x24ftypisom\0\0\x02\0isomiso2iso6avc1mp41\0\0\0\x10free";
        fs::write(folder.join("call.part.mp4"), growing).unwrap();
        // Somebody's film, and a folder of somebody's notes.
        fs::write(folder.join("holiday.part-2.mp4"), b"\0\0\0\x20ftypisom").unwrap();
        fs::create_dir(folder.join("book.part")).unwrap();
        fs::write(folder.join("book.part/notes"), "mine").unwrap();
        fs::write(folder.join(".others.tmp"), "not ours").unwrap();
        let abandoned = abandoned_files(&folder.0).unwrap();
        let left = [".feathercall-crash1.tmp", "call.part.mp4"].map(|name| folder.join(name));
        if cfg!(unix) {
            assert_eq!(abandoned, left);
        } else {
            assert!(left.iter().all(|path| abandoned.contains(path)));
        }
        drop(file);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_what_is_written() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = Folder::new("atomic-mode");
        let mode = |name| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
        // A file that everybody could read is replaced by one that only the owner reads.
        fs::write(folder.join("face"), "old").unwrap();
        fs::set_permissions(folder.join("face"), fs::Permissions::from_mode(0o644)).unwrap();
        write_file(&folder.join("face"), b"new").unwrap();
        fs::write(folder.join("statistics"), "old").unwrap();
        fs::set_permissions(folder.join("statistics"), fs::Permissions::from_mode(0o644)).unwrap();
        let statistics = open_private(&folder.join("statistics")).unwrap();
        open_private(&folder.join("new")).unwrap();
        assert_eq!(["face", "statistics", "new"].map(mode), [0o600; 3]);
        assert_eq!(fs::read(folder.join("statistics")).unwrap(), b"old", "nobody has emptied it");
        let second = open_private(&folder.join("statistics")).unwrap_err().to_string();
        assert!(second.contains("another program is using it"), "{second}");
        drop(statistics);
        open_private(&folder.join("statistics")).unwrap();

        create_private_folder(&folder.join("data/faces")).unwrap();
        assert_eq!(["data", "data/faces"].map(mode), [0o700; 2]);

        // A device keeps its mode.
        symlink("/dev/null", folder.join("null")).unwrap();
        let before = mode("null");
        open_private(&folder.join("null")).unwrap();
        assert_eq!(mode("null"), before);
    }
}
