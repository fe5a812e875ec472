//! Size table of a face file.

use types::POSE_DIMS;

use crate::file_error::FaceFileError;
use crate::model_error::ModelError;
use crate::sizes::{Bounds, CHANNELS, HIDDEN, Sizes};

/// Returns the size table: 17 counts as u16, of which the first two are [`CHANNELS`] and
/// [`HIDDEN`], then 27 f32.
pub(crate) fn sizes_to_bytes(s: &Sizes) -> Vec<u8> {
    let counts = [
        CHANNELS,
        HIDDEN,
        s.plane_xy,
        s.plane_z,
        s.n_expression,
        s.expression_xy,
        s.expression_z,
        s.density,
        s.n_density,
        s.density_expression,
        s.warp,
        s.torso_width,
        s.torso_height,
        s.n_torso,
        s.torso_blend_width,
        s.torso_blend_height,
        s.background,
    ];
    let mut bytes: Vec<u8> = counts.iter().flat_map(|&n| (n as u16).to_le_bytes()).collect();
    let numbers = [s.head.min, s.head.max].concat();
    let flat = [s.face.min, s.face.max, s.torso.min, s.torso.max].concat();
    let numbers = numbers.iter().chain(&flat).chain([&s.focal]);
    for v in numbers.chain(&s.pose_mean).chain(&s.pose_scale) {
        bytes.extend(v.to_le_bytes());
    }
    bytes
}

const COUNTS: usize = 17;
const NUMBERS: usize = 6 + 8 + 1 + 2 * POSE_DIMS;

/// Parses a size table.
///
/// # Errors
/// If its length is wrong or a size is out of range, or the field costs too much.
pub(crate) fn sizes_from_bytes(bytes: &[u8]) -> Result<Sizes, FaceFileError> {
    let want = COUNTS * 2 + NUMBERS * 4;
    if bytes.len() != want {
        return Err(FaceFileError::Truncated { want, got: bytes.len() });
    }
    let (counts, numbers) = bytes.split_at(COUNTS * 2);
    let n: Vec<usize> =
        counts.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b) as usize).collect();
    let v: Vec<f32> = numbers.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let pose = |at: usize| std::array::from_fn(|i| v[at + i]);
    let sizes = Sizes {
        plane_xy: n[2],
        plane_z: n[3],
        n_expression: n[4],
        expression_xy: n[5],
        expression_z: n[6],
        density: n[7],
        n_density: n[8],
        density_expression: n[9],
        warp: n[10],
        torso_width: n[11],
        torso_height: n[12],
        n_torso: n[13],
        torso_blend_width: n[14],
        torso_blend_height: n[15],
        background: n[16],
        head: Bounds { min: [v[0], v[1], v[2]], max: [v[3], v[4], v[5]] },
        face: Bounds { min: [v[6], v[7]], max: [v[8], v[9]] },
        torso: Bounds { min: [v[10], v[11]], max: [v[12], v[13]] },
        focal: v[14],
        pose_mean: pose(15),
        pose_scale: pose(15 + POSE_DIMS),
    };
    if n[0] != CHANNELS || n[1] != HIDDEN {
        return Err(ModelError::Sizes.into());
    }
    sizes.check()?;
    sizes.check_cost()?;
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip_through_bytes() {
        for sizes in [Sizes::tiny(), Sizes::for_side(256), Sizes::for_side(64)] {
            assert_eq!(sizes_from_bytes(&sizes_to_bytes(&sizes)), Ok(sizes));
        }
        assert!(sizes_from_bytes(&[0; 10]).is_err());
    }
}
