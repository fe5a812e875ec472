//! The head along one ray, recorded for its derivatives.

use crate::frame_field::FrameField;
use crate::planes::PlaneSample;
use crate::shading::{FeatureSum, Shading};
use crate::sizes::SHADE_INPUTS;

/// One sample on a recorded ray.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TapedSample {
    /// Position, canonical space.
    pub(crate) point: [f32; 3],
    pub(crate) planes: PlaneSample,
    /// Opacity before it is multiplied by the sample's share of the mass, 0..=1.
    pub(crate) opacity: f32,
}

impl TapedSample {
    /// Fills an array before its samples are placed.
    pub(crate) const EMPTY: Self =
        Self { point: [0.0; 3], planes: PlaneSample::EMPTY, opacity: 0.0 };
}

/// Steps 2 and 3 of [`FrameField::render_ray`] with all intermediate values: the starting point of
/// both backward passes, to the parameters (`ray_gradient.rs`) and to the code
/// (`code_derivative.rs`).
///
/// Weights each sample by `opacity · (W / n)`, where [`FrameField::shade_head`] computes
/// `(opacity · W) / n`; the results differ in rounding only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadTape {
    /// `W / n`: share of the mass of each sample.
    pub(crate) share: f32,
    pub(crate) features: FeatureSum,
    pub(crate) inputs: [f32; SHADE_INPUTS],
    pub(crate) shading: Shading,
}

impl HeadTape {
    /// Reads `samples`, whose points are set, and shades their sum.
    #[inline(always)]
    pub(crate) fn new(
        frame: &FrameField<'_>,
        direction: [f32; 3],
        mass: f32,
        samples: &mut [TapedSample],
    ) -> Self {
        let share = mass / samples.len() as f32;
        let opacity = frame.field.part(&frame.field.layout.opacity);
        let mut features = FeatureSum::EMPTY;
        for sample in samples {
            sample.planes = PlaneSample::read(frame.field.sizes, frame.folded, sample.point);
            sample.opacity = sample.planes.opacity(opacity);
            features.add(sample.opacity * share, &sample.planes.feature);
        }
        let inputs = features.shading_inputs(direction);
        let shading = frame.shading().shade(&inputs);
        Self { share, features, inputs, shading }
    }
}
