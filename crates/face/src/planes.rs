//! Features of one sample: the product of three planes, read where the warp points.
//!
//! Planes over `x, y`, `x, z` and `y, z` of canonical space hold [`CHANNELS`] features a texel
//! (Chan et al. 2022, "Efficient Geometry-aware 3D Generative Adversarial Networks", section 3).
//! Readings are multiplied rather than added (Fridovich-Keil et al. 2023, "K-Planes", section 3.1).

use crate::fold::FoldedField;
use crate::math::sigmoid;
use crate::sizes::{CHANNELS, Sizes};
use crate::taps::{BilinearTaps, Texel};

/// Factor on the logits that are stored: `ln(density) = 4 logit`, and the opacity of a sample with
/// features `f` is `sigmoid(4 v·f + b)`, with the weights `v` and the bias `b`.
pub const LOGIT_SCALE: f32 = 4.0;

/// One sample: where it is read, and the numbers found there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaneSample {
    /// Taps of the warp.
    pub(crate) warp: BilinearTaps,
    /// Warped position in the head box, 0..=1 along each axis.
    pub(crate) uvw: [f32; 3],
    /// Taps of the planes over `x, y`, `x, z` and `y, z`.
    pub(crate) planes: [BilinearTaps; 3],
    /// Readings of these planes.
    pub(crate) values: [Texel; 3],
    /// Product of the readings, channel by channel.
    pub(crate) feature: Texel,
}

impl PlaneSample {
    /// Fills an array before its samples are read.
    pub(crate) const EMPTY: Self = Self {
        warp: BilinearTaps::EMPTY,
        uvw: [0.0; 3],
        planes: [BilinearTaps::EMPTY; 3],
        values: [[0.0; CHANNELS]; 3],
        feature: [0.0; CHANNELS],
    };

    /// Reads the planes at `p`, canonical space, whose `x, y` are first moved by the warp.
    #[inline(always)]
    pub(crate) fn read(sizes: &Sizes, folded: &FoldedField, p: [f32; 3]) -> Self {
        let (face, head) = (&sizes.face, &sizes.head);
        let warp = BilinearTaps::new(
            face.relative(0, p[0]),
            face.relative(1, p[1]),
            sizes.warp,
            sizes.warp,
        );
        let offset = warp.read(&folded.warp);
        let uvw = [
            head.relative(0, p[0] + offset[0]),
            head.relative(1, p[1] + offset[1]),
            head.relative(2, p[2]),
        ];
        let planes = plane_taps(uvw, sizes.plane_xy, sizes.plane_z);
        let values =
            [planes[0].read(&folded.xy), planes[1].read(&folded.xz), planes[2].read(&folded.yz)];
        let feature = std::array::from_fn(|c| values[0][c] * values[1][c] * values[2][c]);
        Self { warp, uvw, planes, values, feature }
    }

    /// Returns `sigmoid(4 w·f + b)`, where `opacity` is `w` followed by `b`.
    #[inline(always)]
    pub(crate) fn opacity(&self, opacity: &[f32]) -> f32 {
        let dot: f32 = opacity[..CHANNELS].iter().zip(&self.feature).map(|(w, f)| w * f).sum();
        sigmoid(LOGIT_SCALE * dot + opacity[CHANNELS])
    }
}

/// Returns the taps of position `u, v, w`, 0..=1 in the head box, on planes of sides `xy` and `z`.
#[inline(always)]
pub(crate) fn plane_taps([u, v, w]: [f32; 3], xy: usize, z: usize) -> [BilinearTaps; 3] {
    [BilinearTaps::new(u, v, xy, xy), BilinearTaps::new(u, w, z, z), BilinearTaps::new(v, w, z, z)]
}
