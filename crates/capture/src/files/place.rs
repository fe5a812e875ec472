//! Places where files are written: which file a path means, and what is wrong with it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use same_file::Handle;
use tempfile::Builder;

use crate::errors::WriteError;
use crate::explanation::{folder_of, in_current};

/// Parts of temporary names, which are hidden and recognizable: `.feathercall-Xq2f9a.tmp`.
pub(crate) const PREFIX: &str = ".feathercall-";
pub(crate) const SUFFIX: &str = ".tmp";

/// Most symbolic links that are followed, as on Linux.
const MAX_LINKS: usize = 40;
/// Bytes that a test of a place writes: none of them fits on a full disk.
const TEST_BYTES: usize = 4096;

/// What a path means to somebody who writes to it.
pub(crate) enum Target {
    /// A file or folder that is replaced as a whole, whether it exists or not. Symbolic links have
    /// been followed, also to a file that does not exist.
    Replaced(PathBuf),
    /// A device or a pipe, which is written to and never replaced.
    Device(PathBuf),
}

impl Target {
    /// Finds out what `path` means.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let kind = path.metadata().map(|about| about.file_type());
        if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
            return Ok(Self::Device(path.to_owned()));
        }
        let mut target = path.to_owned();
        for _ in 0..MAX_LINKS {
            if !target.is_symlink() {
                return Ok(Self::Replaced(target));
            }
            target = folder_of(&target).join(fs::read_link(&target)?);
        }
        Err(io::Error::other("its symbolic links go in a circle"))
    }

    /// Returns the file or folder to replace.
    pub(crate) fn replaced(path: &Path) -> io::Result<PathBuf> {
        match Self::of(path)? {
            Self::Replaced(target) => Ok(target),
            Self::Device(_) => Err(io::Error::other("it is a device or a pipe; name a file")),
        }
    }
}

/// Checks that [`crate::write_file`] could write to `path`, to fail before a long computation. Leaves
/// no file behind.
///
/// # Errors
/// [`WriteError::Io`] if the folder is missing or not writable, the disk is full, `path` is a folder,
/// or another program is writing it.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let check = || match Target::of(path)? {
        Target::Device(device) => File::options().write(true).open(device).map(drop),
        Target::Replaced(target) => check_file(&target),
    };
    check().map_err(WriteError::io(path))
}

fn check_file(target: &Path) -> io::Result<()> {
    match target.metadata() {
        Ok(about) if about.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(_) if is_locked(target) => return Err(ErrorKind::ResourceBusy.into()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    check_folder(folder_of(target))
}

/// Checks that files can be created in `folder`. If it does not exist, checks the nearest folder above
/// it that does. Leaves nothing behind.
///
/// # Errors
/// [`WriteError::Io`] if that is not writable or not a folder, or the disk is full.
pub fn check_writable_folder(folder: &Path) -> Result<(), WriteError> {
    let check = || match folder.metadata() {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => {
            let existing = folder.ancestors().map(in_current).find(|folder| folder.exists());
            check_folder(existing.unwrap_or(folder))
        }
    };
    check().map_err(WriteError::io(folder))
}

fn check_folder(folder: &Path) -> io::Result<()> {
    if folder.metadata()?.is_dir() {
        let mut test = Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)?;
        test.write_all(&[0; TEST_BYTES])
    } else {
        Err(ErrorKind::NotADirectory.into())
    }
}

/// Returns whether two paths lead to one file or folder: by another name, a symbolic link or a hard
/// link. They may also lead to the same file that does not exist yet.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    let is_same = |a: &Path, b: &Path| same_file::is_same_file(a, b).unwrap_or(false);
    if is_same(a, b) {
        return true;
    }
    let (Ok(a), Ok(b)) = (Target::replaced(a), Target::replaced(b)) else { return false };
    !a.exists()
        && !b.exists()
        && a.file_name() == b.file_name()
        && is_same(folder_of(&a), folder_of(&b))
}

/// Returns the file or folder at `path`, to recognize it later; `None` if there is none.
pub(crate) fn identity(path: &Path) -> Option<Handle> {
    Handle::from_path(path).ok()
}

/// Returns whether a running program holds the lock of a file or folder.
pub(crate) fn is_locked(path: &Path) -> bool {
    let lock = File::open(path).map(|file| file.try_lock());
    matches!(lock, Ok(Err(fs::TryLockError::WouldBlock)))
}

/// Waits until renames in a folder are on the disk. Does nothing on systems other than Unix, which
/// cannot open folders as files.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;
    use crate::write_file;

    #[test]
    fn a_place_that_cannot_be_written_to_is_said_plainly() {
        let folder = Folder::new("place-errors");
        fs::write(folder.join("file"), "mine").unwrap();
        fs::create_dir(folder.join("taken")).unwrap();
        let long = "long".repeat(64);
        for (path, says) in [
            ("missing/a.face", "missing does not exist; create it"),
            ("file/a.face", "file is not a folder"),
            ("taken", "it is a folder; name a file"),
            (&long, "the name is too long"),
        ] {
            let path = folder.join(path);
            for error in [check_writable(&path), write_file(&path, b"new")] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(says), "{error}");
                assert!(error.contains(&path.display().to_string()), "{error}");
                assert!(!error.contains(PREFIX), "{error}");
            }
        }
        assert!(check_writable(&folder.join("file")).is_ok());
        assert!(check_writable_folder(&folder.join("new/report")).is_ok());
        let error = check_writable_folder(&folder.join("file/report")).unwrap_err().to_string();
        assert!(error.contains("not a folder"), "{error}");
        assert_eq!(folder.names(), ["file", "taken"], "the checks leave nothing behind");
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"mine");
    }

    #[cfg(unix)]
    #[test]
    fn one_file_is_recognized_by_any_of_its_names() {
        let folder = Folder::new("place-same");
        let [file, link, hard, other] = ["a", "b", "c", "d"].map(|name| folder.join(name));
        fs::write(&file, "mine").unwrap();
        fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        for same in [&file, &link, &hard, &folder.join("../").join(&file)] {
            assert!(is_same_file(&file, same), "{}", same.display());
        }
        assert!(!is_same_file(&file, &other));
        // Files that do not exist yet.
        std::os::unix::fs::symlink("new", folder.join("dangling")).unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        assert!(is_same_file(&folder.join("sub/../new"), &folder.join("dangling")));
        assert!(!is_same_file(&folder.join("sub/new"), &folder.join("new")));
        assert!(!is_same_file(&folder.join("new"), &file));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_to_a_file_that_does_not_exist_yet() {
        let folder = Folder::new("place-links");
        fs::create_dir(folder.join("disk")).unwrap();
        for (link, to) in [("a", "disk/b"), ("disk/b", "c"), ("round", "round")] {
            std::os::unix::fs::symlink(to, folder.join(link)).unwrap();
        }
        write_file(&folder.join("a"), b"new").unwrap();
        assert_eq!(fs::read(folder.join("disk/c")).unwrap(), b"new");
        assert!(folder.join("a").is_symlink() && folder.join("disk/b").is_symlink());
        let error = write_file(&folder.join("round"), b"new").unwrap_err().to_string();
        assert!(error.contains("circle"), "{error}");
    }
}
