//! `feathercall files`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::destination::{is_training_state, start_of};
use crate::face_files;

/// A checkpoint that changed less than this time ago belongs to an enrollment that is running: it is
/// written every 20 seconds.
const IN_USE: Duration = Duration::from_mins(1);

const TRAINING_STATE: &str =
    "training state of an unfinished enrollment, a model of a person; continue it with --resume";

/// Something that an interrupted program left behind.
struct Unfinished {
    path: PathBuf,
    what: &'static str,
    is_in_use: bool,
}

/// Lists the faces enrolled in the window, and what interrupted programs left beside them and in
/// `folders` (the current one if there are none). With `remove`, removes what they left. First
/// encrypts the faces that earlier versions enrolled.
pub(super) fn run(folders: &[PathBuf], remove: bool, is_json: bool) -> anyhow::Result<()> {
    let encrypted = face_files::encrypt_enrolled();
    for path in face_files::list_enrolled() {
        let is_plain = face_files::is_plain(&path);
        let what = if is_plain {
            "an enrolled face, NOT encrypted"
        } else {
            "an enrolled face, encrypted"
        };
        print_row(&path, what, is_json);
    }
    let here = [PathBuf::from(".")];
    let named = if folders.is_empty() { &here[..] } else { folders };
    let mut unfinished = Vec::new();
    for folder in named {
        let found = unfinished_in(folder);
        unfinished.extend(found.with_context(|| format!("cannot list {}", folder.display()))?);
    }
    if let Ok(own) = face_files::enrolled_folder()
        && own.is_dir()
        && !named.iter().any(|folder| is_same(folder, &own))
    {
        let found = unfinished_in(&own);
        unfinished.extend(found.with_context(|| format!("cannot list {}", own.display()))?);
    }
    for Unfinished { path, what, is_in_use } in &unfinished {
        if *is_in_use {
            print_row(path, "being written", is_json);
        } else if remove {
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
            if is_json {
                println!("{}", json!({ "removed": path.display().to_string(), "what": what }));
            } else {
                println!("removed {}: {what}", path.display());
            }
        } else {
            print_row(path, what, is_json);
        }
    }
    if !remove && !is_json && unfinished.iter().any(|file| !file.is_in_use) {
        println!("`feathercall files --remove` removes what was interrupted");
    }
    encrypted
}

fn print_row(path: &Path, what: &str, is_json: bool) {
    let (name, bytes) = (path.display(), size_of(path));
    if is_json {
        println!("{}", json!({ "path": name.to_string(), "bytes": bytes, "what": what }));
    } else {
        println!("{bytes:>12} bytes  {name}: {what}");
    }
}

/// Returns the size of a file, or of the files of a folder.
fn size_of(path: &Path) -> u64 {
    let Ok(about) = path.symlink_metadata() else { return 0 };
    if !about.is_dir() {
        return about.len();
    }
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Finds what interrupted programs left in a folder.
fn unfinished_in(folder: &Path) -> io::Result<Vec<Unfinished>> {
    let mut unfinished: Vec<Unfinished> = capture::abandoned_files(folder)?
        .into_iter()
        .map(|path| {
            let what = "an interrupted recording or export";
            Unfinished { path, what, is_in_use: false }
        })
        .collect();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let is_part = path.extension().is_some_and(|extension| extension == "part");
        if is_part && is_training_state(&start_of(&path)) {
            let is_in_use = is_in_use(&path);
            unfinished.push(Unfinished { path, what: TRAINING_STATE, is_in_use });
        }
    }
    Ok(unfinished)
}

/// Returns whether a checkpoint may belong to an enrollment that is running. One from the future may:
/// the clock was set back, or it is that of another computer.
fn is_in_use(path: &Path) -> bool {
    let modified = path.metadata().and_then(|about| about.modified());
    modified.is_ok_and(|modified| modified.elapsed().map_or(true, |age| age < IN_USE))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::UNIX_EPOCH;

    use vault::Content;

    use super::*;

    #[test]
    fn only_old_training_state_was_left_behind() {
        let folder = std::env::temp_dir().join(format!("files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (key, _) = vault::Keys::in_file(folder.join("key")).own().unwrap();
        let seconds = Duration::from_secs;
        let year_2100 = seconds(4_102_444_800);
        for (name, content, modified) in [
            ("face.part", Content::Face, seconds(1)),
            ("future.part", Content::TrainingState, year_2100),
            ("old.part", Content::TrainingState, seconds(1)),
        ] {
            let path = folder.join(name);
            fs::write(&path, key.seal(content, b"a person").unwrap()).unwrap();
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(UNIX_EPOCH + modified).unwrap();
        }
        let unfinished = unfinished_in(&folder).unwrap();
        let found: Vec<_> = unfinished
            .iter()
            .map(|file| (file.path.file_name().unwrap().to_str().unwrap(), file.is_in_use))
            .collect();
        assert_eq!(found, [("future.part", true), ("old.part", false)]);
        fs::remove_dir_all(folder).unwrap();
    }
}
