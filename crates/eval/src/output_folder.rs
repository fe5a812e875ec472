//! Folders of reports and curves, in which nothing of somebody else is replaced.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest summary that is read, bytes.
const MAX_SUMMARY_BYTES: u64 = 16 << 20;

/// Returns a file in `folder` that would be replaced although none of ours: one of those that
/// `is_written` names, unless the folder holds an earlier result, which is JSON in the file `summary`
/// with the field `key`. `None` if there is no such file.
pub(crate) fn foreign_file(
    folder: &Path,
    summary: &str,
    key: &str,
    is_written: impl Fn(&str) -> bool,
) -> Option<PathBuf> {
    let bytes = capture::read_file(&folder.join(summary), MAX_SUMMARY_BYTES).unwrap_or_default();
    let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    if json.is_some_and(|json| json.get(key).is_some()) {
        return None;
    }
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut taken: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&is_written))
        .map(|entry| entry.path())
        .collect();
    taken.sort();
    taken.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_an_earlier_result_are_replaced() {
        let folder = std::env::temp_dir().join(format!("eval-folder-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let foreign = || foreign_file(&folder, "a.json", "points", |name| name.starts_with("a."));
        assert_eq!(foreign(), None, "there is no folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        assert_eq!(foreign(), None, "it is not written to");
        for (name, contents) in [("a.svg", "mine"), ("a.json", "{}")] {
            fs::write(folder.join(name), contents).unwrap();
            assert_eq!(foreign(), Some(folder.join(name)));
        }
        fs::write(folder.join("a.json"), "{\"points\": []}").unwrap();
        assert_eq!(foreign(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
