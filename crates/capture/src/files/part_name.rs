//! Names of clips that are being written.

use std::path::{Path, PathBuf};

use crate::files::own_clip::is_growing_clip;

/// Returns the temporary name of a clip: `call.part.mp4`, then `call.part-2.mp4`, ...; for a folder
/// `call.part`.
pub(crate) fn part_name(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".part");
    if number > 1 {
        name.push(format!("-{number}"));
    }
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Returns whether a file or folder has the temporary name of a clip.
pub(crate) fn is_part(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let name = match extension {
        Some("mp4" | "m4v" | "y4m" | "wav") => path.file_stem(),
        _ if path.is_dir() => path.file_name(),
        _ => None,
    };
    let name = name.unwrap_or_default().to_string_lossy();
    name.rsplit_once(".part").is_some_and(|(stem, number)| {
        let is_number = |n: &str| n.parse::<u32>().is_ok();
        !stem.is_empty() && (number.is_empty() || number.strip_prefix('-').is_some_and(is_number))
    })
}

/// Returns whether a file or folder is a clip of ours that was not completed, by its name and its
/// contents.
pub(crate) fn is_unfinished_clip(path: &Path) -> bool {
    is_part(path) && is_growing_clip(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognized() {
        for path in ["call.mp4", "a/b.part.m4v", "call.part-7.y4m", "heard.wav"] {
            assert!(!is_part(path.as_ref()) || path.contains(".part"), "{path}");
            for number in [1, 2, 99] {
                assert!(is_part(&part_name(path.as_ref(), number)), "{path} {number}");
            }
        }
        for path in
            ["call.mp4", "part.mp4", ".part.mp4", "me.face.part", "a.part-x.mp4", "a.parts.mp4"]
        {
            assert!(!is_part(path.as_ref()), "{path}");
        }
    }
}
