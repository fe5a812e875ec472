//! Points at which the photometric refinement compares a frame with the field.

use face::FaceModel;
use glam::Vec3;
use types::{CANONICAL_M, Feature, HeadPose, SquareFrame};

use crate::unknowns::Unknowns;

/// Points along each side of the frame.
pub(crate) const GRID: u32 = 48;
/// Points across and down the face box.
const FACE_GRID: [u32; 2] = [32, 32];
/// Parts of the face sampled more densely, right eye, left eye and mouth: box in canonical `x, y`,
/// its depth, and points across and down.
const PARTS: [([[f32; 2]; 2], f32, [u32; 2]); 3] = [
    ([[-0.6, -0.52], [-0.17, -0.3]], 0.1, [15, 9]),
    ([[0.17, -0.52], [0.6, -0.3]], 0.1, [15, 9]),
    ([[-0.4, 0.26], [0.4, 0.68]], -0.1, [21, 13]),
];

/// Point of a frame and its color, 0..=1.
pub(crate) struct SamplePoint {
    /// Position in image space.
    pub(crate) at: [f32; 2],
    pub(crate) rgb: [f32; 3],
}

/// Returns the places of the subject's right eye, left eye and mouth in image space, each as two
/// opposite corners `[x, y]`.
///
/// The corners are projections of the top left and bottom right corners of a fixed box in canonical
/// space. If the head is rolled far, they do not enclose the whole part.
pub fn eyes_and_mouth(pose: &HeadPose) -> [[[f32; 2]; 2]; 3] {
    PARTS.map(|(corners, depth, _)| {
        corners.map(|[x, y]| pose.image_from_head(Vec3::new(x, y, depth) * CANONICAL_M))
    })
}

/// Samples a square frame at the pixel centers of the size that the field was trained at.
///
/// The points are a grid over the frame; for [`Unknowns::All`] a denser grid over the face box
/// replaces its part of it, with still denser ones at eyes and mouth. Subsampling takes every second
/// point.
pub(crate) fn targets(
    frame: &SquareFrame,
    model: &FaceModel,
    start: &Feature,
    unknowns: Unknowns,
    is_subsampled: bool,
) -> Vec<SamplePoint> {
    let (size, side) = (frame.side(), model.sizes().background as u32);
    let over = |[x0, y0]: [f32; 2], [x1, y1]: [f32; 2], [across, down]: [u32; 2]| {
        let at = move |low: f32, high: f32, i: u32, n: u32| {
            let place = low + (high - low) * (i as f32 + 0.5) / n as f32;
            ((place * side as f32).max(0.0) as u32).min(side - 1)
        };
        (0..across * down)
            .map(move |i| [i % across, i / across])
            .filter(move |[i, j]| !is_subsampled || (i + j) % 2 == 0)
            .map(move |[i, j]| [at(x0, x1, i, across), at(y0, y1, j, down)])
    };
    let mut places: Vec<[u32; 2]> = over([0.0; 2], [1.0; 2], [GRID; 2]).collect();
    if unknowns == Unknowns::All {
        let face = &model.sizes().face;
        let seen =
            |[x, y]: [f32; 2], z: f32| start.pose.image_from_head(Vec3::new(x, y, z) * CANONICAL_M);
        let (low, high) = (seen(face.min, 0.0), seen(face.max, 0.0));
        places.retain(|place| {
            let at = place.map(|p| (p as f32 + 0.5) / side as f32);
            !(0..2).all(|i| (low[i]..high[i]).contains(&at[i]))
        });
        places.extend(over(low, high, FACE_GRID));
        for ([low, high], (.., grid)) in eyes_and_mouth(&start.pose).into_iter().zip(PARTS) {
            places.extend(over(low, high, grid));
        }
    }
    places
        .into_iter()
        .map(|place| {
            // Mean over the area of the pixel, as frames are shrunk for training.
            let [x, y] = place.map(|p| {
                let from = (p * size / side).min(size - 1);
                from..((p + 1) * size / side).clamp(from + 1, size)
            });
            let n = (x.len() * y.len()) as f32 * 255.0;
            let mut rgb = [0.0; 3];
            for pixel in y.flat_map(|y| x.clone().map(move |x| frame.rgb_at(x, y))) {
                for c in 0..3 {
                    rgb[c] += f32::from(pixel[c]) / n;
                }
            }
            SamplePoint { at: place.map(|p| (p as f32 + 0.5) / side as f32), rgb }
        })
        .collect()
}
