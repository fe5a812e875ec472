use numerics::SplitMix64;

use crate::sizes::{CHANNELS, HIDDEN, SHADE_INPUTS, TORSO_INPUTS};
use crate::{Layout, Sizes};

/// The radiance field of one person: sizes and parameters.
///
/// Parameters are one array of f32; [`Layout`] says where each part lies. What they mean is
/// defined by [`crate::FaceModel::frame_inputs`], [`crate::fold`] and [`crate::render_ray`].
#[derive(Clone, Debug, PartialEq)]
pub struct FaceModel {
    sizes: Sizes,
    layout: Layout,
    params: Vec<f32>,
}

/// Why numbers do not make a [`FaceModel`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A size is outside what the format allows.
    #[error("the face model's sizes are outside what this version can draw")]
    Sizes,
    /// Parameters and sizes disagree.
    #[error("a face model of these sizes has {want} parameters, got {got}")]
    Length { want: usize, got: usize },
    /// A parameter is NaN or infinite: training went wrong.
    #[error("parameter {index} of the face model is not a number")]
    NotFinite { index: usize },
}

impl FaceModel {
    /// A model from its parameters, laid out as [`Layout::new`] of `sizes` says.
    ///
    /// # Errors
    /// If a size is out of range, the parameters are too few or many, or one is not finite.
    pub fn new(sizes: Sizes, params: Vec<f32>) -> Result<Self, ModelError> {
        if !sizes.sound() {
            return Err(ModelError::Sizes);
        }
        let layout = Layout::new(&sizes);
        if params.len() != layout.len {
            return Err(ModelError::Length { want: layout.len, got: params.len() });
        }
        match params.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { index }),
            None => Ok(Self { sizes, layout, params }),
        }
    }

    /// The background's pixels, red, green and blue in 0..=1, row by row; finite.
    pub(crate) fn background_mut(&mut self) -> &mut [f32] {
        &mut self.params[self.layout.background.clone()]
    }

    /// A field before training: a soft ellipsoid of noise over a gray background.
    ///
    /// Deterministic in `seed`.
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn untrained(sizes: Sizes, seed: u64) -> Self {
        assert!(sizes.sound(), "sizes must be within the format's limits");
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
            // The lower the likelier torso; rows run from top to bottom.
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
                    params[at] = (4.0 * (1.05 - r)).clamp(-4.0, 1.0) / crate::LOGIT_SCALE;
                    at += 1;
                }
            }
        }
        Self { sizes, layout, params }
    }

    /// A field of noise in which every part does something; for tests of the renderers.
    ///
    /// Deterministic in `seed`.
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn noise(sizes: Sizes, seed: u64) -> Self {
        let mut model = Self::untrained(sizes, seed);
        let mut noise = SplitMix64::new(seed ^ 0x9e37);
        let layout = model.layout.clone();
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
            for p in &mut model.params[range] {
                *p += deviation * noise.normal();
            }
        }
        model
    }

    /// Its sizes.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Where its parts lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Sizes and parameters, to train on.
    pub fn into_parts(self) -> (Sizes, Layout, Vec<f32>) {
        (self.sizes, self.layout, self.params)
    }
}

/// Half-axes of the ellipsoid that a field starts from, canonical space.
const ELLIPSOID: [f32; 3] = [1.25, 1.6, 1.1];
/// Its centre: the head reaches up and back from the middle of the face.
const ELLIPSOID_AT: [f32; 3] = [0.0, -0.35, 0.55];
