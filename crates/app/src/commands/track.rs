//! `feathercall track`

use std::path::Path;

use eval::ClipLandmarks;
use serde_json::json;

use crate::destination::{self, Destination, Kind};
use crate::progress::ProgressDisplay;

/// Writes the landmarks of a clip to a `NumPy` archive.
pub(super) fn run(
    clip: &Path,
    archive: &Path,
    is_json: bool,
    is_forced: bool,
) -> anyhow::Result<()> {
    let destination = Destination { option: "--landmarks", path: archive, kind: Kind::Landmarks };
    destination::check(&[destination], &[clip], is_forced)?;
    let mut progress = ProgressDisplay::new(is_json);
    let landmarks = ClipLandmarks::track(clip, &mut |stage, share, detail| {
        progress.report(stage, share, detail);
    })?;
    progress.finish();
    capture::write_file(archive, &landmarks.to_npz()?)?;
    let (n_found, n_frames) = (landmarks.n_found(), landmarks.n_frames());
    let archive = archive.display().to_string();
    if is_json {
        let row = json!({ "landmarks": archive, "frames": n_frames, "faces": n_found });
        println!("{row}");
    } else {
        println!("{archive}: a face in {n_found} of {n_frames} frames");
    }
    Ok(())
}
