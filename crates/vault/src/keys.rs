//! Where the key of a user's files is looked up.

use std::fmt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::key::{Key, KeyId};
use crate::key_file::{self, KeyFileError};
use crate::key_lock::KeyLock;
use crate::key_store::{BoundedKeyStore, KeyStoreError};
use crate::sealed_file::{Content, OpenError, key_id};

/// Environment variable that names the key file to use, instead of any other key.
pub const KEY_FILE_VARIABLE: &str = "FEATHERCALL_KEY_FILE";

/// Where a key is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyPlace {
    /// The key store of the system.
    System,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's key store"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why there is no key.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Neither a key store nor a place for a key file.
    #[error(
        "there is no place for a key: this user has no home folder; set {KEY_FILE_VARIABLE} to a file"
    )]
    NoPlace,
    /// The file is not one of our encrypted files, contains something else, is damaged, or is of
    /// another version.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The key file that was named has another key.
    #[error(
        "encrypted with key {id}, which {} does not hold; \
         set {KEY_FILE_VARIABLE} to the file that does, or unset it", path.display()
    )]
    NotInFile { id: KeyId, path: PathBuf },
    /// The key was on another computer or account, or was removed.
    #[error(
        "encrypted with key {id}, which this user does not have; set {KEY_FILE_VARIABLE} to a file \
         that holds it, or enroll again"
    )]
    Missing { id: KeyId },
    /// The key may be in the key store, which gives none.
    #[error(
        "encrypted with key {id}: {source}, or set {KEY_FILE_VARIABLE} to a file that holds the key"
    )]
    NoStore { id: KeyId, source: KeyStoreError },
}

/// The keys of a user: which one encrypts new files, and which one opens a file.
///
/// With [`KEY_FILE_VARIABLE`] set, the key in that file and no other. Otherwise new files get the
/// key in the system's key store; where there is none, as on a computer without a desktop, the key
/// in `feathercall/key` in the user's folder of settings (`~/.config`, `%APPDATA%`). A key is
/// created when it is first needed, by one process at a time (`key.lock` in the same folder). The
/// system's key store has 3 s to answer, or a minute if it can ask a person to unlock it.
pub struct Keys {
    /// The only place, if it was named.
    named: Option<PathBuf>,
    store: Option<BoundedKeyStore>,
    own_file: Option<PathBuf>,
}

impl Keys {
    /// The keys of the user who runs the program.
    pub fn of_user() -> Self {
        if let Some(path) = std::env::var_os(KEY_FILE_VARIABLE).filter(|path| !path.is_empty()) {
            return Self::in_file(path.into());
        }
        let settings = etcetera::choose_base_strategy().ok().map(|folders| folders.config_dir());
        Self {
            named: None,
            store: Some(BoundedKeyStore::of_system()),
            own_file: settings.map(|folder| folder.join("feathercall").join("key")),
        }
    }

    /// The key in this file and no other. [`Keys::own`] creates the file, but not its folder.
    pub fn in_file(path: PathBuf) -> Self {
        Self { named: Some(path), store: None, own_file: None }
    }

    /// Returns the key that encrypts new files, and where it is kept. Creates it if necessary.
    ///
    /// # Errors
    /// If a key file cannot be used, or there is no place for one.
    pub fn own(&self) -> Result<(Key, KeyPlace), KeyError> {
        if let Some(path) = &self.named {
            let key = key_file::read(path, false)?;
            return Ok((key.map_or_else(|| key_file::create(path), Ok)?, file(path)));
        }
        let stored = self.store.as_ref().map(|store| (store, store.get()));
        if let Some((_, Ok(Some(key)))) = stored {
            return Ok((key, KeyPlace::System));
        }
        if let Some(found) = self.in_own_file()? {
            return Ok(found);
        }
        let _lock = KeyLock::wait(self.own_file.as_deref())?;
        // Another process may have created a key since.
        if let Some(found) = self.in_own_file()? {
            return Ok(found);
        }
        if let Some((store, Ok(None))) = stored
            && let Ok(key) = store.create(Key::random().map_err(KeyFileError::from)?)
        {
            return Ok((key, KeyPlace::System));
        }
        let path = self.own_file.as_ref().ok_or(KeyError::NoPlace)?;
        Ok((key_file::create(path)?, file(path)))
    }

    /// Returns the key in the user's own key file, if there is one.
    fn in_own_file(&self) -> Result<Option<(Key, KeyPlace)>, KeyError> {
        let Some(path) = &self.own_file else { return Ok(None) };
        Ok(key_file::read(path, true)?.map(|key| (key, file(path))))
    }

    /// Decrypts a file with the key that it names.
    ///
    /// # Errors
    /// If the file is damaged or contains something else, or its key is not found.
    pub fn open(&self, content: Content, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let key = self.find(key_id(content, bytes)?)?;
        Ok(key.open(content, bytes)?)
    }

    /// Returns the key of this name. The key files come first, because they answer at once.
    fn find(&self, id: KeyId) -> Result<Key, KeyError> {
        if let Some(path) = &self.named {
            let key = key_file::read(path, false)?.filter(|key| key.id() == id);
            return key.ok_or_else(|| KeyError::NotInFile { id, path: path.clone() });
        }
        if let Some((key, _)) = self.in_own_file()?
            && key.id() == id
        {
            return Ok(key);
        }
        match self.store.as_ref().map(BoundedKeyStore::get) {
            Some(Ok(Some(key))) if key.id() == id => Ok(key),
            Some(Ok(_)) | None => Err(KeyError::Missing { id }),
            Some(Err(source)) => Err(KeyError::NoStore { id, source }),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("named", &self.named)
            .field("own_file", &self.own_file)
            .finish_non_exhaustive()
    }
}

fn file(path: &Path) -> KeyPlace {
    KeyPlace::File(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::key_store::KeyStore;

    /// A key store in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Option<Key>>>);

    impl KeyStore for Memory {
        fn get(&self) -> Result<Option<Key>, KeyStoreError> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn set(&self, key: &Key) -> Result<(), KeyStoreError> {
            *self.0.lock().unwrap() = Some(key.clone());
            Ok(())
        }
    }

    /// A key store that never answers, like one that waits to be unlocked.
    struct Silent;

    impl KeyStore for Silent {
        fn get(&self) -> Result<Option<Key>, KeyStoreError> {
            loop {
                std::thread::park();
            }
        }

        fn set(&self, _key: &Key) -> Result<(), KeyStoreError> {
            self.get().map(drop)
        }
    }

    /// A key store in memory whose first two questions are answered at the same time.
    #[derive(Clone)]
    struct Racing {
        memory: Memory,
        n_asked: Arc<AtomicUsize>,
        n_set: Arc<AtomicUsize>,
        both: Arc<Barrier>,
    }

    impl KeyStore for Racing {
        fn get(&self) -> Result<Option<Key>, KeyStoreError> {
            let key = self.memory.get();
            if self.n_asked.fetch_add(1, Ordering::SeqCst) < 2 {
                self.both.wait();
            }
            key
        }

        fn set(&self, key: &Key) -> Result<(), KeyStoreError> {
            self.n_set.fetch_add(1, Ordering::SeqCst);
            self.memory.set(key)
        }
    }

    fn keys(store: impl KeyStore, wait: Duration, folder: &TempDir) -> Keys {
        Keys {
            named: None,
            store: Some(BoundedKeyStore::new(store, wait)),
            own_file: Some(folder.path().join("feathercall/key")),
        }
    }

    fn answering(store: &Memory, folder: &TempDir) -> Keys {
        keys(store.clone(), Duration::from_mins(1), folder)
    }

    fn silent(folder: &TempDir) -> Keys {
        keys(Silent, Duration::from_millis(1), folder)
    }

    #[test]
    fn the_system_keeps_the_key_where_it_can() {
        let (folder, store) = (TempDir::new().unwrap(), Memory::default());
        let (key, place) = answering(&store, &folder).own().unwrap();
        assert_eq!(place, KeyPlace::System);
        assert_eq!(answering(&store, &folder).own().unwrap().0, key, "it is created once");
        assert!(!folder.path().join("feathercall/key").exists(), "no key file");

        let sealed = key.seal(Content::Face, b"face").unwrap();
        assert_eq!(answering(&store, &folder).open(Content::Face, &sealed).unwrap(), b"face");
        let error = answering(&Memory::default(), &folder).open(Content::Face, &sealed);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("enroll again") && error.contains(KEY_FILE_VARIABLE), "{error}");
    }

    #[test]
    fn two_processes_that_find_no_key_create_one() {
        let folder = TempDir::new().unwrap();
        let store = Racing {
            memory: Memory::default(),
            n_asked: Arc::default(),
            n_set: Arc::default(),
            both: Arc::new(Barrier::new(2)),
        };
        let own = || keys(store.clone(), Duration::from_mins(1), &folder).own().unwrap();
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(own);
            (own(), one.join().unwrap())
        });
        assert_eq!(one, other);
        assert_eq!(store.n_set.load(Ordering::SeqCst), 1, "a key was replaced");
    }

    #[test]
    fn the_lock_excludes_other_processes() {
        let folder = TempDir::new().unwrap();
        let lock = KeyLock::wait(Some(&folder.path().join("feathercall/key"))).unwrap();
        // A file that is opened again is to the system what another process has.
        let other = fs::File::open(folder.path().join("feathercall/key.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(lock);
        other.try_lock().unwrap();
    }

    #[test]
    fn a_key_file_takes_its_place_and_stays_in_use() {
        let folder = TempDir::new().unwrap();
        let (key, place) = silent(&folder).own().unwrap();
        let path = folder.path().join("feathercall/key");
        assert_eq!(place, KeyPlace::File(path.clone()));
        let sealed = key.seal(Content::Face, b"face").unwrap();
        assert_eq!(silent(&folder).open(Content::Face, &sealed).unwrap(), b"face");
        // A key store that appears later does not make the older files unreadable.
        let store = Memory::default();
        assert_eq!(answering(&store, &folder).own().unwrap().0, key);
        assert_eq!(*store.0.lock().unwrap(), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let error = silent(&folder).own().unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_silent_key_store_is_an_error_that_says_what_to_do() {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (key, _) = silent(&other).own().unwrap();
        let sealed = key.seal(Content::TrainingState, b"state").unwrap();
        let error = silent(&folder).open(Content::TrainingState, &sealed).unwrap_err().to_string();
        assert!(error.contains("unlock it") && error.contains(KEY_FILE_VARIABLE), "{error}");
    }

    #[test]
    fn a_named_key_file_is_the_only_place() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("key");
        let named = Keys::in_file(path.clone());
        let (key, _) = named.own().unwrap();
        assert_eq!(named.own().unwrap().0, key);
        // A process that creates the key at the same time gets this one.
        assert_eq!(key_file::create(&path).unwrap(), key);
        let sealed = key.seal(Content::Face, b"face").unwrap();
        let other = Keys::in_file(folder.path().join("other"));
        other.own().unwrap();
        let error = other.open(Content::Face, &sealed).unwrap_err().to_string();
        assert!(error.contains(&key.id().to_string()) && error.contains("other"), "{error}");
        fs::write(&path, "not a key").unwrap();
        assert!(named.own().unwrap_err().to_string().contains("64 hexadecimal digits"));
        let nowhere = Keys::in_file(folder.path().join("missing/key"));
        assert!(nowhere.own().unwrap_err().to_string().contains("missing/key"));
    }
}
