//! Clips while they are being written: `call.part.mp4` beside `call.mp4`, renamed when complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::errors::WriteError;
use crate::explanation::{explained, folder_of};
use crate::files::part_name::part_name;
use crate::files::place::{Target, identity, is_locked, sync_folder};
use crate::files::temporary::Temporary;

/// Most unfinished clips of one name.
const MAX_PARTS: u32 = 100;

/// What happens to a clip that is dropped before it is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unfinished {
    /// It is removed: it can be made again.
    Removed,
    /// It stays under its temporary name, and what is written to a file reaches the disk every second.
    Kept,
}

/// File under a temporary name. It only ever contains whole pieces.
pub(crate) struct PartFile {
    /// Its lock tells it from what a crash left behind.
    file: File,
    place: Place,
    length: u64,
}

impl PartFile {
    /// Creates the temporary file for `path`, readable only by its owner.
    pub(crate) fn create(path: &Path, unfinished: Unfinished) -> Result<Self, WriteError> {
        let (place, file) = Place::find(path, unfinished, claim_file)?;
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

    /// Removes the file, which has nothing of use in it.
    pub(crate) fn discard(mut self) {
        self.place.unfinished = Unfinished::Removed;
    }

    /// Adds the path to an I/O error.
    pub(crate) fn error(&self, source: io::Error) -> WriteError {
        WriteError::io(&self.place.path)(source)
    }

    /// Waits until the contents are on the disk, then replaces the file at the final path.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let Self { file, place, .. } = self;
        let synced = file.sync_all();
        // Windows does not rename open files.
        drop(file);
        place.commit(synced)
    }
}

/// Creates the file `part`, or takes over an empty one that nobody uses.
fn claim_file(part: &Path) -> io::Result<Claimed<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(part) {
        Ok(file) => {
            // Some network folders have no locks. With one, whoever locks a file first has it.
            let is_lost = matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock));
            return Ok(if is_lost { Claimed::InUse } else { Claimed::Ours(file) });
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // An empty one is what a program left that was killed before its first picture.
    let is_empty = part.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() == 0);
    if is_empty
        && let Ok(file) = OpenOptions::new().write(true).open(part)
        && file.try_lock().is_ok()
        && file.metadata()?.len() == 0
        && identity(part) == Handle::from_file(file.try_clone()?).ok()
    {
        return Ok(Claimed::Ours(file));
    }
    Ok(if is_locked(part) { Claimed::InUse } else { Claimed::Taken })
}

/// Folder under a temporary name.
pub(crate) struct PartFolder {
    /// Holds the lock of the folder; none on systems that cannot open folders.
    _lock: Option<File>,
    place: Place,
}

impl PartFolder {
    /// Creates the temporary folder for `path`, readable only by its owner.
    pub(crate) fn create(path: &Path, unfinished: Unfinished) -> Result<Self, WriteError> {
        let claim = |part: &Path| {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(part) {
                Ok(()) => {
                    let lock = File::open(part).ok();
                    Ok(Claimed::Ours(lock.filter(|lock| lock.try_lock().is_ok())))
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                Err(_) => Ok(if is_locked(part) { Claimed::InUse } else { Claimed::Taken }),
            }
        };
        let (place, lock) = Place::find(path, unfinished, claim)?;
        Ok(Self { _lock: lock, place })
    }

    /// Writes a file into the folder. If that fails, nothing of it is there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.place.part.join(name);
        fs::write(&path, bytes).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// Removes the folder, which has nothing of use in it.
    pub(crate) fn discard(mut self) {
        self.place.unfinished = Unfinished::Removed;
    }

    /// Creates a file in the folder, to be written piece by piece.
    pub(crate) fn create_file(&self, name: &str) -> io::Result<File> {
        File::create(self.place.part.join(name))
    }

    /// Waits until all files are on the disk, then moves the folder to its final path. An empty
    /// folder there is replaced.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let sync = || {
            for entry in fs::read_dir(&self.place.part)? {
                File::open(entry?.path())?.sync_all()?;
            }
            sync_folder(&self.place.part)
        };
        let synced = sync();
        self.place.commit(synced)
    }
}

/// Result of an attempt to use a temporary name.
enum Claimed<T> {
    /// Nobody else has it.
    Ours(T),
    /// Remains of an earlier recording are there, or something of somebody else.
    Taken,
    /// Another program is writing there.
    InUse,
}

/// Temporary and final path of a clip.
struct Place {
    /// As the user named it.
    path: PathBuf,
    part: PathBuf,
    /// What the clip replaces: `path`, behind its symbolic links.
    target: PathBuf,
    /// What was there at the start.
    previous: Option<Handle>,
    unfinished: Unfinished,
    is_done: bool,
    _temporary: Option<Temporary>,
}

impl Place {
    /// Claims the first temporary name for `path` that is free.
    fn find<T>(
        path: &Path,
        unfinished: Unfinished,
        claim: impl Fn(&Path) -> io::Result<Claimed<T>>,
    ) -> Result<(Self, T), WriteError> {
        let find = || {
            let target = Target::replaced(path)?;
            for part in (1..=MAX_PARTS).map(|number| part_name(&target, number)) {
                match claim(&part)? {
                    Claimed::Ours(claimed) => return Ok((target, part, claimed)),
                    // A second recording would replace the first.
                    Claimed::InUse if unfinished == Unfinished::Kept => {
                        return Err(io::ErrorKind::ResourceBusy.into());
                    }
                    Claimed::InUse | Claimed::Taken => {}
                }
            }
            let text = "too many unfinished clips of this name; remove the .part files";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        };
        let (target, part, claimed) = find().map_err(WriteError::io(path))?;
        let place = Self {
            path: path.to_owned(),
            previous: identity(&target),
            unfinished,
            is_done: false,
            _temporary: (unfinished == Unfinished::Removed).then(|| Temporary::new(&part)),
            target,
            part,
        };
        Ok((place, claimed))
    }

    /// Moves a clip to its final path if it is on the disk. A clip that cannot go there stays.
    fn commit(mut self, synced: io::Result<()>) -> Result<(), WriteError> {
        let error = match synced.and_then(|()| self.replace()) {
            Ok(()) => {
                self.is_done = true;
                let synced = sync_folder(folder_of(&self.target));
                return synced.map_err(WriteError::io(&self.path));
            }
            Err(error) => explained(&self.path, error),
        };
        self.is_done = self.part.exists();
        let (path, part) = (self.path.clone(), self.part.clone());
        Err(if self.is_done {
            WriteError::Kept { part, path, source: error }
        } else {
            WriteError::Io { path, source: error }
        })
    }

    fn replace(&mut self) -> io::Result<()> {
        let now = identity(&self.target);
        if now.is_some() && now != self.previous.take() {
            let text = "something else has come to its place meanwhile";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        drop(now);
        fs::rename(&self.part, &self.target)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let is_folder = self.part.is_dir();
        let is_removed = self.unfinished == Unfinished::Removed;
        let is_empty = || self.part.metadata().is_ok_and(|about| about.len() == 0);
        let _ = match (is_folder, is_removed) {
            (true, true) => fs::remove_dir_all(&self.part),
            // Succeeds if the folder is empty.
            (true, false) => fs::remove_dir(&self.part),
            (false, _) if is_removed || is_empty() => fs::remove_file(&self.part),
            (false, _) => Ok(()),
        };
    }
}

/// Returns the unfinished recordings of `path`, left behind by a crash or a power cut. An MP4 file
/// among them can be played.
pub fn unfinished_recordings(path: &Path) -> Vec<PathBuf> {
    let Ok(target) = Target::replaced(path) else { return Vec::new() };
    let parts = (1..=MAX_PARTS).map(|number| part_name(&target, number));
    let has_contents = |part: &PathBuf| part.metadata().is_ok_and(|about| about.len() > 0);
    parts.filter(|part| has_contents(part) && !is_locked(part)).collect()
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
    fn an_empty_file_or_folder_is_not_worth_keeping() {
        let folder = Folder::new("part-empty");
        drop(PartFile::create(&folder.join("a.mp4"), Unfinished::Kept).unwrap());
        drop(PartFolder::create(&folder.join("a"), Unfinished::Kept).unwrap());
        assert_eq!(folder.names(), [""; 0]);
        // What a killed program left is taken over.
        fs::write(folder.join("a.part.mp4"), "").unwrap();
        assert_eq!(unfinished_recordings(&folder.join("a.mp4")), [""; 0].map(PathBuf::from));
        PartFile::create(&folder.join("a.mp4"), Unfinished::Kept).unwrap().commit().unwrap();
        assert_eq!(folder.names(), ["a.mp4"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_second_recording_of_a_name_is_refused_while_the_first_goes_on() {
        let folder = Folder::new("part-second");
        let (path, pictures) = (folder.join("a.mp4"), folder.join("a"));
        let first = PartFile::create(&path, Unfinished::Kept).unwrap();
        let first_folder = PartFolder::create(&pictures, Unfinished::Kept).unwrap();
        let second = PartFile::create(&path, Unfinished::Kept).err().unwrap().to_string();
        assert!(second.contains("another program is using it"), "{second}");
        let second = PartFolder::create(&pictures, Unfinished::Kept).err().unwrap().to_string();
        assert!(second.contains("another program is using it"), "{second}");
        // A clip that can be made again gets a temporary name of its own.
        PartFile::create(&path, Unfinished::Removed).unwrap();
        drop((first, first_folder));
        PartFile::create(&path, Unfinished::Kept).unwrap();
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn what_has_come_to_the_place_meanwhile_is_not_replaced() {
        let folder = Folder::new("part-meanwhile");
        for (name, old, unfinished) in
            [("a", None, Unfinished::Kept), ("b", Some("old"), Unfinished::Removed)]
        {
            let path = folder.join(&format!("{name}.mp4"));
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let mut file = PartFile::create(&path, unfinished).unwrap();
            file.append(b"recorded").unwrap();
            fs::write(folder.join("photo"), "precious").unwrap();
            fs::rename(folder.join("photo"), &path).unwrap();
            let error = file.commit().unwrap_err().to_string();
            assert!(error.contains(&format!("{name}.part.mp4")), "{error}");
            assert_eq!(fs::read(&path).unwrap(), b"precious");
            let part = folder.join(&format!("{name}.part.mp4"));
            assert_eq!(fs::read(part).unwrap(), b"recorded");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_its_target_gets_the_clip() {
        let folder = Folder::new("part-link");
        fs::create_dir(folder.join("disk")).unwrap();
        for (link, to) in [("a.mp4", "disk/b.mp4"), ("pictures", "disk/c")] {
            std::os::unix::fs::symlink(to, folder.join(link)).unwrap();
        }
        let mut file = PartFile::create(&folder.join("a.mp4"), Unfinished::Kept).unwrap();
        file.append(b"recorded").unwrap();
        file.commit().unwrap();
        let pictures = PartFolder::create(&folder.join("pictures"), Unfinished::Kept).unwrap();
        pictures.write("000000.png", b"recorded").unwrap();
        pictures.commit().unwrap();
        assert_eq!(folder.names(), ["a.mp4", "disk", "pictures"]);
        for (link, recorded) in [("a.mp4", "disk/b.mp4"), ("pictures", "disk/c/000000.png")] {
            assert!(folder.join(link).is_symlink());
            assert_eq!(fs::read(folder.join(recorded)).unwrap(), b"recorded");
        }
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
