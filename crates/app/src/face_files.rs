//! Face files: the built-in one, the user's own, any other; encrypted or plain.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context;
use etcetera::BaseStrategy as _;
use face::FaceFile;
use vault::{Content, KeyPlace, Keys};

use crate::output;

/// Face of the actor, which ships with the program.
const DEMO_FACE: &[u8] = include_bytes!("../../../assets/demo.face");

/// The keys of the user who runs the program.
static KEYS: LazyLock<Keys> = LazyLock::new(Keys::of_user);

/// A face file and how it is stored.
pub(crate) struct StoredFace {
    pub(crate) face: FaceFile,
    pub(crate) is_encrypted: bool,
}

/// Reads the face file at `path`, and gives a hint on a terminal if it should be encrypted.
///
/// # Errors
/// If it cannot be read or decrypted, or is not a valid face file.
pub(crate) fn read(path: &Path) -> anyhow::Result<FaceFile> {
    let StoredFace { face, is_encrypted } = load(path)?;
    let is_own = face.sender.is_some() && face.to_bytes() != DEMO_FACE;
    if is_own && !is_encrypted && output::terminal().is_some() {
        let path = path.display();
        eprintln!("hint: {path} is not encrypted; `feathercall model encrypt {path}` does it");
    }
    Ok(face)
}

/// Reads the face file at `path`, whether it is encrypted or not.
///
/// # Errors
/// If it cannot be read or decrypted, or is not a valid face file.
pub(crate) fn load(path: &Path) -> anyhow::Result<StoredFace> {
    let mut bytes = read_bytes(path)?;
    let is_encrypted = vault::is_sealed(&bytes);
    if is_encrypted {
        bytes = KEYS.open(Content::Face, &bytes).with_context(|| cannot_use(path))?;
    }
    let face = FaceFile::parse(&bytes).with_context(|| cannot_use(path))?;
    Ok(StoredFace { face, is_encrypted })
}

/// Reads the face file at `path`, or the built-in one if there is no path.
///
/// # Errors
/// If the file cannot be read or is not a valid face file.
pub(crate) fn read_or_demo(path: Option<&Path>) -> anyhow::Result<FaceFile> {
    match path {
        Some(path) => read(path),
        None => FaceFile::parse(DEMO_FACE)
            .context("the built-in face is damaged; reinstall the program"),
    }
}

/// Encrypts the face file at `path` in place, atomically. A symbolic link stays, and its target is
/// encrypted. Returns where the key is kept, or `None` if the file was encrypted already.
///
/// # Errors
/// If the file cannot be read or written, is not a face file, or there is no place for a key. The
/// file then stays as it was.
pub(crate) fn encrypt(path: &Path) -> anyhow::Result<Option<KeyPlace>> {
    encrypt_with(&KEYS, path)
}

fn encrypt_with(keys: &Keys, path: &Path) -> anyhow::Result<Option<KeyPlace>> {
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    if read_plain(path)?.is_none() {
        return Ok(None);
    }
    let (key, place) = keys.own()?;
    // Read again: the key may have taken a minute, and the file may be another one by now.
    let Some(bytes) = read_plain(path)? else { return Ok(None) };
    capture::write_file(path, &key.seal(Content::Face, &bytes)?)?;
    Ok(Some(place))
}

/// Reads a valid face file in plain form; `None` if it is encrypted.
fn read_plain(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let bytes = read_bytes(path)?;
    if vault::is_sealed(&bytes) {
        return Ok(None);
    }
    FaceFile::parse(&bytes).with_context(|| cannot_use(path))?;
    Ok(Some(bytes))
}

/// Returns the key that encrypts the user's files, and where it is kept. Creates it if necessary.
///
/// # Errors
/// If there is no place for it.
pub(crate) fn own_key() -> anyhow::Result<(vault::Key, KeyPlace)> {
    Ok(KEYS.own()?)
}

/// Returns all keys of the user, which open older files.
pub(crate) fn keys() -> &'static Keys {
    &KEYS
}

/// Returns the folder for faces enrolled in the window: `feathercall/faces` in the user's data
/// folder, such as `~/.local/share` or `%APPDATA%`.
///
/// # Errors
/// If the user has no home folder.
pub(crate) fn enrolled_folder() -> anyhow::Result<PathBuf> {
    let data = etcetera::choose_base_strategy().context("this user has no home folder")?.data_dir();
    Ok(data.join("feathercall").join("faces"))
}

/// Lists the faces enrolled in the window, sorted by name.
pub(crate) fn list_enrolled() -> Vec<PathBuf> {
    let Ok(folder) = enrolled_folder() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut faces: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "face"))
        .collect();
    faces.sort();
    faces
}

/// Encrypts the faces enrolled in the window by earlier versions, which wrote them in plain form.
/// Asks for no key if there is none of them.
///
/// # Errors
/// The first one, if some of them cannot be encrypted. Those stay as they were; the others are
/// encrypted.
pub(crate) fn encrypt_enrolled() -> anyhow::Result<()> {
    encrypt_all(&KEYS, &list_enrolled())
}

fn encrypt_all(keys: &Keys, paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut result = Ok(());
    for path in paths.iter().filter(|path| is_plain(path)) {
        let encrypted = encrypt_with(keys, path).map(drop);
        result =
            result.and(encrypted.with_context(|| format!("cannot encrypt {}", path.display())));
    }
    result
}

/// Runs [`encrypt_enrolled`] on a thread of its own, because the key store may ask the user for a
/// password. The receiver gets the error, if there is one.
pub(crate) fn encrypt_enrolled_in_background() -> Receiver<String> {
    let (errors, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        if let Err(error) = encrypt_enrolled() {
            // Nobody reads it any more if the window was closed.
            let _ = errors.send(format!("{error:#}"));
        }
    });
    receiver
}

/// Returns whether a file exists and does not begin like an encrypted one.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut start = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && !vault::is_sealed(&start)
}

/// Reads a file that is no longer than the longest face file, encrypted.
fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let limit = FaceFile::MAX_BYTES + vault::SEALED_OVERHEAD;
    capture::read_file(path, limit as u64)
        .with_context(|| format!("cannot read {}", path.display()))
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// An empty folder with the keys of somebody.
    fn folder(name: &str) -> (PathBuf, Keys) {
        let folder = std::env::temp_dir().join(format!("faces-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let keys = Keys::in_file(folder.join("key"));
        (folder, keys)
    }

    #[cfg(unix)]
    #[test]
    fn the_target_of_a_link_is_encrypted_and_the_link_stays() {
        let (folder, keys) = folder("link");
        let (link, target) = (folder.join("link.face"), folder.join("target.face"));
        fs::write(&target, DEMO_FACE).unwrap();
        std::os::unix::fs::symlink("target.face", &link).unwrap();
        assert!(encrypt_with(&keys, &link).unwrap().is_some());
        assert!(link.is_symlink());
        assert!(!is_plain(&target), "the face is still legible");
        assert_eq!(keys.open(Content::Face, &fs::read(&target).unwrap()).unwrap(), DEMO_FACE);
        assert_eq!(encrypt_with(&keys, &link).unwrap(), None, "it is encrypted once");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_face_does_not_keep_the_others_plain() {
        let (folder, keys) = folder("damaged");
        let paths = ["a.face", "b.face", "c.face"].map(|name| folder.join(name));
        let contents = [b"not a face at all", b"nor is this a one", DEMO_FACE];
        for (path, content) in paths.iter().zip(contents) {
            fs::write(path, content).unwrap();
        }
        let error = format!("{:#}", encrypt_all(&keys, &paths).unwrap_err());
        assert!(error.contains("a.face") && !error.contains("b.face"), "{error}");
        assert_eq!(paths.map(|path| is_plain(&path)), [true, true, false]);
        fs::remove_dir_all(folder).unwrap();
    }
}
