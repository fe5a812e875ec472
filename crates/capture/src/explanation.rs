//! What prevents writing to a place, in words of a user.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Returns the folder that contains `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    in_current(path.parent().unwrap_or(path))
}

/// Returns a folder by a name that is not empty.
pub(crate) fn in_current(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Says what prevents writing to `path` and what to do about it. Leaves out the temporary names of
/// files, which mean nothing to a user.
pub(crate) fn explained(path: &Path, error: io::Error) -> io::Error {
    let folder = folder_of(path);
    let text = match error.kind() {
        ErrorKind::NotFound if folder.is_dir() => "the folder does not exist; create it".to_owned(),
        ErrorKind::NotFound => format!("the folder {} does not exist; create it", folder.display()),
        ErrorKind::NotADirectory if folder.is_dir() => "it is not a folder".to_owned(),
        ErrorKind::NotADirectory => format!("{} is not a folder", folder.display()),
        ErrorKind::IsADirectory => "it is a folder; name a file".to_owned(),
        ErrorKind::PermissionDenied => {
            "you have no permission to write there; choose another place".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; choose another place".to_owned(),
        ErrorKind::StorageFull => "the disk is full; make room, or choose another place".to_owned(),
        ErrorKind::QuotaExceeded => {
            "your share of the disk is used up; make room, or choose another place".to_owned()
        }
        ErrorKind::FileTooLarge => "a file there may not become this large".to_owned(),
        ErrorKind::ResourceBusy => {
            "another program is using it; wait until it has ended, or choose another name"
                .to_owned()
        }
        ErrorKind::InvalidFilename => "the name is too long; choose a shorter one".to_owned(),
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_refuses_is_explained_with_what_to_do() {
        for (kind, says) in [
            (ErrorKind::StorageFull, "the disk is full; make room"),
            (ErrorKind::ReadOnlyFilesystem, "read-only; choose another place"),
            (ErrorKind::PermissionDenied, "no permission to write there; choose another place"),
            (ErrorKind::QuotaExceeded, "used up; make room"),
        ] {
            let error = explained("a/b.mp4".as_ref(), kind.into());
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.kind(), kind);
        }
        let other = explained("a".as_ref(), io::Error::other("it burns"));
        assert_eq!(other.to_string(), "it burns");
    }
}
