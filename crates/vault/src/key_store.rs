//! The key store of the system: Secret Service, Keychain or Credential Manager.
#![expect(
    clippy::disallowed_methods,
    reason = "a key store that does not answer is left behind in its thread"
)]

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::key::Key;

/// Names of the entry.
const SERVICE: &str = "feathercall";
const USER: &str = "files";

/// Time that a person has to unlock the key store.
const WAIT_FOR_PERSON: Duration = Duration::from_mins(1);
/// Time to wait where nobody is asked.
const WAIT_HEADLESS: Duration = Duration::from_secs(3);

/// Why the system's key store gives or takes no key. A key file takes its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// There is none, it is locked, or it refuses.
    #[error("the system's key store cannot be used")]
    Unusable(#[from] keyring::Error),
    /// It may be waiting for somebody to unlock it.
    #[error("the system's key store does not answer; unlock it")]
    NoAnswer,
    /// Another program has changed the entry.
    #[error("the entry \"feathercall\" of the system's key store is not a key; remove it")]
    NotAKey,
}

/// A place that keeps one key for a user.
pub(crate) trait KeyStore: Send + Sync + 'static {
    /// Returns the key; `None` if the store works and has none.
    fn get(&self) -> Result<Option<Key>, KeyStoreError>;
    /// Keeps the key, in place of any other.
    fn set(&self, key: &Key) -> Result<(), KeyStoreError>;
}

/// The key store of the system that this program runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemKeyStore;

impl KeyStore for SystemKeyStore {
    fn get(&self) -> Result<Option<Key>, KeyStoreError> {
        // As text, because some stores (KDE Wallet) keep only text.
        match keyring::Entry::new(SERVICE, USER).and_then(|entry| entry.get_password()) {
            Ok(text) => {
                Key::from_text(&Zeroizing::new(text)).map(Some).ok_or(KeyStoreError::NotAKey)
            }
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set(&self, key: &Key) -> Result<(), KeyStoreError> {
        let entry = keyring::Entry::new(SERVICE, USER)?;
        Ok(entry.set_password(&key.to_text())?)
    }
}

/// A store that is given up after a bounded time.
pub(crate) struct BoundedKeyStore {
    store: Arc<dyn KeyStore>,
    wait: Duration,
}

impl BoundedKeyStore {
    /// The system's key store. It may ask a person to unlock it if there is a screen.
    pub(crate) fn of_system() -> Self {
        let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let has_screen =
            !cfg!(all(unix, not(target_os = "macos"))) || has("DISPLAY") || has("WAYLAND_DISPLAY");
        let wait = if has_screen { WAIT_FOR_PERSON } else { WAIT_HEADLESS };
        Self::new(SystemKeyStore, wait)
    }

    pub(crate) fn new(store: impl KeyStore, wait: Duration) -> Self {
        Self { store: Arc::new(store), wait }
    }

    pub(crate) fn get(&self) -> Result<Option<Key>, KeyStoreError> {
        self.ask(KeyStore::get)
    }

    /// Keeps a new key, unless the store has one by now, and returns the one that it has afterwards.
    /// This is not atomic: the caller holds [`crate::key_lock::KeyLock`].
    pub(crate) fn create(&self, key: Key) -> Result<Key, KeyStoreError> {
        self.ask(move |store| {
            if let Some(key) = store.get()? {
                return Ok(key);
            }
            store.set(&key)?;
            Ok(store.get()?.unwrap_or(key))
        })
    }

    /// Asks on a thread of its own, which is left behind if there is no answer in time.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn KeyStore) -> Result<T, KeyStoreError> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let store = Arc::clone(&self.store);
        let (answer, answers) = sync_channel(1);
        std::thread::spawn(move || {
            // Nobody listens any more if the answer is late.
            let _ = answer.send(question(&*store));
        });
        match answers.recv_timeout(self.wait) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(KeyStoreError::NoAnswer)
            }
        }
    }
}
