//! Encryption of a person's files on disk: the container and the key.
//!
//! [`Keys`] finds the user's key, or creates it when it is first needed. [`Key::seal`] encrypts the
//! bytes of a file, [`Keys::open`] decrypts them with the key they name. `docs/FACE_FILE.md`,
//! section 8, specifies the container.
//!
//! ```
//! use vault::{Content, Keys};
//! let folder = std::env::temp_dir().join(format!("vault-doc-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let keys = Keys::in_file(folder.join("key"));
//! let (key, _) = keys.own()?;
//! let sealed = key.seal(Content::Face, b"a face file")?;
//! assert!(vault::is_sealed(&sealed));
//! assert_eq!(keys.open(Content::Face, &sealed)?, b"a face file");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod key;
mod key_file;
mod key_lock;
mod key_store;
mod keys;
mod sealed_file;

pub use key::{Key, KeyId, RandomError};
pub use key_file::KeyFileError;
pub use key_store::KeyStoreError;
pub use keys::{KEY_FILE_VARIABLE, KeyError, KeyPlace, Keys};
pub use sealed_file::{Content, OpenError, SEALED_OVERHEAD, is_sealed, sealed_content};
