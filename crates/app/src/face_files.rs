//! Face files: the built-in one, the user's own, any other.

use std::path::{Path, PathBuf};

use anyhow::Context;
use etcetera::BaseStrategy as _;
use face::FaceFile;

/// Face of the actor, which ships with the program.
const DEMO_FACE: &[u8] = include_bytes!("../../../assets/demo.face");

/// Reads the face file at `path`.
///
/// # Errors
/// If it cannot be read or is not a valid face file.
pub(crate) fn read(path: &Path) -> anyhow::Result<FaceFile> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    FaceFile::parse(&bytes).with_context(|| format!("cannot use {}", path.display()))
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
