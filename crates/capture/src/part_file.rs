//! Clips while they are being written: `call.part.mp4` beside `call.mp4`, renamed when complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::atomic::{folder_of, is_locked, sync_folder};
use crate::part_name::part_name;
use crate::temporary::Temporary;

/// Most unfinished clips of one name.
const MAX_PARTS: u32 = 100;

/// What happens to a clip that is dropped before it is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unfinished {
    /// It is removed: it can be made again.
    Removed,
    /// It stays under its temporary name, and what is written reaches the disk every second.
    Kept,
}

/// File under a temporary name. It only ever contains whole pieces.
pub(crate) struct PartFile {
    file: File,
    place: Place,
    length: u64,
}

impl PartFile {
    /// Creates the temporary file for `path`, readable only by its owner.
    pub(crate) fn create(path: &Path, unfinished: Unfinished) -> io::Result<Self> {
        let (place, file) = Place::find(path, unfinished, |part| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(part)
        })?;
        // The lock tells it from what a crash left behind.
        let _ = file.try_lock();
        Ok(Self { file, place, length: 0 })
    }

    /// Length of the file, bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends a piece. If that fails, nothing of the piece is in the file.
    pub(crate) fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(piece) {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Overwrites bytes in the middle of the file.
    pub(crate) fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Waits until everything is on the disk if the file is to survive this process.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.keeps_what_there_is() { self.file.sync_data() } else { Ok(()) }
    }

    /// Returns whether an incomplete file is worth keeping.
    pub(crate) fn keeps_what_there_is(&self) -> bool {
        self.place.unfinished == Unfinished::Kept
    }

    /// Waits until the contents are on the disk, then replaces the file at the final path.
    pub(crate) fn commit(self) -> io::Result<()> {
        let Self { file, place, .. } = self;
        file.sync_all()?;
        // Windows does not rename open files.
        drop(file);
        place.commit()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_empty =
            || fs::metadata(&self.part).is_ok_and(|file| file.is_file() && file.len() == 0);
        if !self.is_done && (self.unfinished == Unfinished::Removed || is_empty()) {
            let _ = if self.part.is_dir() {
                fs::remove_dir_all(&self.part)
            } else {
                fs::remove_file(&self.part)
            };
        }
    }
}

/// Folder under a temporary name.
pub(crate) struct PartFolder {
    place: Place,
    /// Holds the lock of the folder; none on systems that cannot open folders.
    _lock: Option<File>,
}

impl PartFolder {
    /// Creates the temporary folder for `path`, readable only by its owner.
    pub(crate) fn create(path: &Path, unfinished: Unfinished) -> io::Result<Self> {
        let create = |part: &Path| {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(part)
        };
        let (place, ()) = Place::find(path, unfinished, create)?;
        let lock = File::open(&place.part).ok().filter(|lock| lock.try_lock().is_ok());
        Ok(Self { place, _lock: lock })
    }

    /// Writes a file into the folder. If that fails, nothing of it is there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.place.part.join(name);
        fs::write(&path, bytes).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// Waits until all files are on the disk, then moves the folder to its final path. An empty
    /// folder there is replaced.
    pub(crate) fn commit(self) -> io::Result<()> {
        for entry in fs::read_dir(&self.place.part)? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_folder(&self.place.part)?;
        self.place.commit()
    }
}

/// Temporary and final path of a clip.
struct Place {
    part: PathBuf,
    path: PathBuf,
    unfinished: Unfinished,
    is_done: bool,
    _temporary: Option<Temporary>,
}

impl Place {
    /// Creates something under the first temporary name for `path` that is not taken.
    fn find<T>(
        path: &Path,
        unfinished: Unfinished,
        create: impl Fn(&Path) -> io::Result<T>,
    ) -> io::Result<(Self, T)> {
        for number in 1..=MAX_PARTS {
            let part = part_name(path, number);
            match create(&part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(io::Error::new(error.kind(), "the folder does not exist"));
                }
                Err(error) => return Err(error),
                Ok(created) => {
                    let temporary =
                        (unfinished == Unfinished::Removed).then(|| Temporary::new(&part));
                    let path = path.to_owned();
                    let place =
                        Self { part, path, unfinished, is_done: false, _temporary: temporary };
                    return Ok((place, created));
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "too many unfinished clips of this name; remove the .part files",
        ))
    }

    fn commit(mut self) -> io::Result<()> {
        fs::rename(&self.part, &self.path)?;
        self.is_done = true;
        sync_folder(folder_of(&self.path))
    }
}

/// Returns the unfinished recordings of `path`, left behind by a crash or a power cut. An MP4 file
/// among them can be played.
pub fn unfinished_recordings(path: &Path) -> Vec<PathBuf> {
    let parts = (1..=MAX_PARTS).map(|number| part_name(path, number));
    parts.filter(|part| part.exists() && !is_locked(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn an_unfinished_file_is_kept_or_removed() {
        let folder = Folder::new("part-drop");
        let path = folder.join("a.mp4");
        for (unfinished, names) in
            [(Unfinished::Removed, &[][..]), (Unfinished::Kept, &["a.part.mp4"][..])]
        {
            let mut file = PartFile::create(&path, unfinished).unwrap();
            file.append(b"half").unwrap();
            assert_eq!(unfinished_recordings(&path), [""; 0].map(PathBuf::from), "it is in use");
            drop(file);
            assert_eq!(folder.names(), names, "{unfinished:?}");
        }
        assert_eq!(unfinished_recordings(&path), [folder.join("a.part.mp4")]);
    }

    #[test]
    fn the_remains_of_an_earlier_recording_are_not_overwritten() {
        let folder = Folder::new("part-earlier");
        let path = folder.join("a.mp4");
        fs::write(folder.join("a.part.mp4"), "precious").unwrap();
        let mut file = PartFile::create(&path, Unfinished::Kept).unwrap();
        file.append(b"new").unwrap();
        assert_eq!(folder.names(), ["a.part-2.mp4", "a.part.mp4"]);
        file.commit().unwrap();
        assert_eq!(folder.names(), ["a.mp4", "a.part.mp4"]);
        assert_eq!(fs::read(folder.join("a.part.mp4")).unwrap(), b"precious");
    }

    #[test]
    fn an_empty_file_is_not_worth_keeping() {
        let folder = Folder::new("part-empty");
        drop(PartFile::create(&folder.join("a.mp4"), Unfinished::Kept).unwrap());
        assert_eq!(folder.names(), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn clips_are_readable_only_by_their_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("part-mode");
        PartFile::create(&folder.join("a.mp4"), Unfinished::Kept).unwrap().commit().unwrap();
        PartFolder::create(&folder.join("b"), Unfinished::Kept).unwrap().commit().unwrap();
        for (name, want) in [("a.mp4", 0o600), ("b", 0o700)] {
            let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, want, "{name}");
        }
    }
}
