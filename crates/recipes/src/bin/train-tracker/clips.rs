//! Labelled clips.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use capture::{Source, SourceSpec};
use rayon::prelude::*;
use track::Crop;
use types::Frame;

use crate::faces::{CLIP_SHARE, Face, SIDE};

/// Side of a crop relative to the larger side of the landmarks' bounding box, as in the set of faces.
const CROP_IN_BOXES: f32 = 1.6;

/// Clip with its labels.
pub(crate) struct Clip {
    pub(crate) name: String,
    video: PathBuf,
    /// Landmarks of each frame in pixels; not finite in frames without a face.
    pub(crate) labels: Vec<Vec<[f32; 3]>>,
}

impl Clip {
    /// Returns the number of frames at the start of the clip that are for training.
    pub(crate) fn n_training_frames(&self) -> usize {
        (CLIP_SHARE * self.labels.len() as f32) as usize
    }

    /// Calls `visit` with the index, picture and labels of each frame in order, until it returns false.
    ///
    /// # Errors
    /// If the clip cannot be read or has fewer frames than labels.
    pub(crate) fn each_frame(
        &self,
        mut visit: impl FnMut(usize, &Frame, &[[f32; 3]]) -> bool,
    ) -> Result<()> {
        let mut source = Source::open(&SourceSpec::Clip(self.video.clone()))?;
        for (at, labels) in self.labels.iter().enumerate() {
            let frame = source.next_frame()?;
            let frame = frame.with_context(|| {
                format!("{} has only {at} frames, fewer than its labels", self.name)
            })?;
            if !visit(at, &frame, labels) {
                break;
            }
        }
        Ok(())
    }
}

/// Opens the clips of a folder, sorted by name: each `NAME.landmarks.npz` with its `NAME.mp4`.
pub(crate) fn open(folder: &Path) -> Result<Vec<Clip>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot list the clips in {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".landmarks.npz").map(str::to_owned));
    }
    names.sort();
    ensure!(!names.is_empty(), "no NAME.landmarks.npz in {}", folder.display());
    let clip = |name: String| {
        let path = folder.join(format!("{name}.landmarks.npz"));
        let labels = recipes::read_clip_labels(&path)?;
        Ok(Clip { video: folder.join(format!("{name}.mp4")), name, labels })
    };
    names.into_iter().map(clip).collect()
}

/// Reads the training faces of each clip in `folder`, the first [`CLIP_SHARE`] of its frames.
pub(crate) fn faces(folder: &Path) -> Result<Vec<Vec<Face>>> {
    open(folder)?
        .par_iter()
        .map(|clip| {
            let mut faces = Vec::new();
            let n = clip.n_training_frames();
            clip.each_frame(|at, frame, labels| {
                if at < n {
                    faces.extend(cut(frame, labels));
                }
                at + 1 < n
            })?;
            ensure!(!faces.is_empty(), "{} has no labelled face", clip.name);
            Ok(faces)
        })
        .collect()
}

/// Cuts the crop of a labelled face, in the format of the set of faces. `None` if the frame has no label.
pub(crate) fn cut(frame: &Frame, labels: &[[f32; 3]]) -> Option<Face> {
    if !labels.as_flattened().iter().all(|v| v.is_finite()) {
        return None;
    }
    let bounds = |axis: usize| {
        let values = labels.iter().map(|p| p[axis]);
        (values.clone().fold(f32::MAX, f32::min), values.fold(f32::MIN, f32::max))
    };
    let ((x0, x1), (y0, y1)) = (bounds(0), bounds(1));
    let side = CROP_IN_BOXES * (x1 - x0).max(y1 - y0);
    let crop = Crop::upright([f32::midpoint(x0, x1), f32::midpoint(y0, y1)], side);
    let pixels = |v: f32| (v + 0.5) * SIDE as f32;
    let in_crop = |x: f32, y: f32| crop.crop_from_picture([x, y]).map(pixels);
    let depth = SIDE as f32 / side;
    let points = labels.iter().map(|&[x, y, z]| {
        let [x, y] = in_crop(x, y);
        [x, y, z * depth]
    });
    let clamped = |v: f32| v.clamp(0.0, SIDE as f32);
    let [left, top] = in_crop(0.0, 0.0).map(clamped);
    let [right, bottom] = in_crop(frame.width() as f32, frame.height() as f32).map(clamped);
    Some(Face {
        luma: crop.sample(frame, SIDE).into_iter().map(|v| v as u8).collect(),
        points: points.collect(),
        valid: [left, top, right, bottom],
        kind: "clip".to_owned(),
        gray: false,
    })
}

#[cfg(test)]
mod tests {
    use types::{LANDMARKS, MediaTime};

    use super::*;

    #[test]
    fn a_face_is_centered_in_its_crop_and_120_pixels_large() {
        let frame = Frame::new(200, 100, MediaTime::ZERO, vec![90; 200 * 100 * 3]).unwrap();
        let at = |i: usize| [20.0 + (i % 5) as f32 * 10.0, 30.0 + (i % 2) as f32 * 30.0, 4.0];
        let labels: Vec<[f32; 3]> = (0..LANDMARKS).map(at).collect();
        let face = cut(&frame, &labels).unwrap();
        // The bounding box is 40 x 30 around (40, 45), so that a pixel of the frame is three of the crop.
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near(&face.points[0], &[36.0, 51.0, 12.0]), "{:?}", face.points[0]);
        assert!(near(&face.points[9], &[156.0, 141.0, 12.0]), "{:?}", face.points[9]);
        assert!(near(&face.valid, &[0.0, 0.0, 192.0, 192.0]), "{:?}", face.valid);
        assert!(cut(&frame, &[[f32::NAN; 3]; LANDMARKS]).is_none());
    }
}
