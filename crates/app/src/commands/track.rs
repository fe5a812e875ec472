//! `feathercall track`

use std::path::Path;

use crate::progress::Progress;

pub(super) fn run(clip: &Path, landmarks: &Path, is_json: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new(is_json);
    let frames = eval::track_clip(clip, &mut |stage, share, detail| {
        progress.report(stage, share, detail);
    })?;
    progress.finish();
    capture::write_file(landmarks, &eval::npz_of_landmarks(&frames))?;
    let n_found = frames.iter().flatten().count();
    println!("{}: a face in {n_found} of {} frames", landmarks.display(), frames.len());
    Ok(())
}
