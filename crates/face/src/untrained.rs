//! Fields before training.

use numerics::SplitMix64;

use crate::layout::Layout;
use crate::model::FaceModel;
use crate::planes::LOGIT_SCALE;
use crate::sizes::{CHANNELS, HIDDEN, SHADE_INPUTS, Sizes, TORSO_INPUTS};

/// Half-axes of the initial ellipsoid of density, canonical units.
const ELLIPSOID: [f32; 3] = [1.25, 1.6, 1.1];
/// Center of the ellipsoid, canonical space: the skull extends up and back from the middle of the
/// face.
const ELLIPSOID_AT: [f32; 3] = [0.0, -0.35, 0.55];

impl FaceModel {
    /// Returns a field before training: a soft ellipsoid of noise in front of a gray background.
    ///
    /// The same seed gives the same field. Weights of rectified layers are drawn with variance
    /// `2 / inputs` (He et al. 2015, "Delving deep into rectifiers", eq. 10).
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn untrained(sizes: Sizes, seed: u64) -> Self {
        assert_eq!(sizes.check(), Ok(()), "sizes must be within the limits of the file format");
        let layout = Layout::new(&sizes);
        let mut params = vec![0.0; layout.len];
        let mut noise = SplitMix64::new(seed);
        let mut fill = |range: &std::ops::Range<usize>, mean: f32, deviation: f32| {
            for p in &mut params[range.clone()] {
                *p = mean + deviation * noise.normal();
            }
        };
        fill(&layout.plane_xy, 0.0, 0.1);
        fill(&layout.plane_xz, 1.0, 0.1);
        fill(&layout.plane_yz, 1.0, 0.1);
        fill(&layout.expression_xy, 0.0, 0.003);
        fill(&layout.expression_xz, 0.0, 0.003);
        fill(&layout.expression_yz, 0.0, 0.003);
        fill(&layout.density_expression, 0.0, 0.003);
        fill(&layout.torso_blend, 0.0, 0.003);
        let he = |inputs: usize| (2.0 / inputs as f32).sqrt();
        fill(&layout.opacity, 0.0, 0.3);
        fill(&layout.shade_w1, 0.0, he(SHADE_INPUTS));
        fill(&layout.shade_code, 0.0, 0.05);
        fill(&layout.shade_w2, 0.0, he(HIDDEN));
        fill(&layout.shade_w3, 0.0, he(HIDDEN) * 0.5);
        fill(&layout.mix, 0.0, 0.2);
        fill(&layout.density_mix, 0.0, 0.2);
        fill(&layout.shared, 0.0, 0.1);
        fill(&layout.torso_w1, 0.0, he(TORSO_INPUTS));
        fill(&layout.torso_w2, 0.0, 1e-3);
        fill(&layout.background, 0.5, 0.0);
        params[layout.opacity.start + CHANNELS] = 3.0;
        for (at, texel) in params[layout.torso.clone()].chunks_exact_mut(4).enumerate() {
            // The torso is likelier further down; rows run from top to bottom.
            let row = at / sizes.torso_width;
            let down = row as f32 / (sizes.torso_height - 1) as f32;
            texel.copy_from_slice(&[0.5, 0.5, 0.5, (6.0 * (down - 0.5)).clamp(-2.0, 2.0)]);
        }
        let mut at = layout.density.start;
        let n = sizes.density;
        let place = |i: usize, axis: usize| {
            let (lo, hi) = (sizes.head.min[axis], sizes.head.max[axis]);
            (lo + (hi - lo) * i as f32 / (n - 1) as f32 - ELLIPSOID_AT[axis]) / ELLIPSOID[axis]
        };
        for z in 0..n {
            for y in 0..n {
                for x in 0..n {
                    let r =
                        (place(x, 0).powi(2) + place(y, 1).powi(2) + place(z, 2).powi(2)).sqrt();
                    params[at] = (4.0 * (1.05 - r)).clamp(-4.0, 1.0) / LOGIT_SCALE;
                    at += 1;
                }
            }
        }
        Self::new(sizes, params).expect("initial parameters are finite")
    }

    /// Returns a field of noise in which every part shows in the image, to test renderers with.
    ///
    /// The same seed gives the same field.
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn noise(sizes: Sizes, seed: u64) -> Self {
        let (sizes, layout, mut params) = Self::untrained(sizes, seed).into_parts();
        let mut noise = SplitMix64::new(seed ^ 0x9e37);
        for (range, deviation) in [
            (layout.plane_xy, 0.7),
            (layout.expression_xy, 0.2),
            (layout.expression_xz, 0.1),
            (layout.expression_yz, 0.1),
            (layout.density, 0.2),
            (layout.density_expression, 0.2),
            (layout.warp, 0.02),
            (layout.torso, 0.3),
            (layout.torso_blend, 0.1),
            (layout.background, 0.1),
            (layout.shade_code, 0.1),
            (layout.torso_w2, 0.1),
            (layout.torso_b2, 0.1),
        ] {
            for p in &mut params[range] {
                *p += deviation * noise.normal();
            }
        }
        Self::new(sizes, params).expect("noise is finite")
    }
}
