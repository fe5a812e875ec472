//! The baseline field: sizes, parameters and background.

use numerics::SplitMix64;
use types::HeadPose;

use crate::frame::ClassicFrame;
use crate::sizes::{ClassicLayout, ClassicSizes, DIRECTION_INPUTS, POSITION_INPUTS};

/// Logarithm of the initial density: a thin fog.
const FIRST_LOG_DENSITY: f32 = -2.0;

/// Baseline radiance field of one person: sizes, parameters and background picture.
///
/// ```
/// use classic::{ClassicModel, ClassicSizes, render_classic};
/// use types::{Code, HeadPose};
///
/// let sizes = ClassicSizes::tiny();
/// let model = ClassicModel::untrained(sizes, 7);
/// let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.2))?;
/// let picture = render_classic(&model, &model.frame(&pose, Code::NEUTRAL.as_array()), 4);
/// assert_eq!(picture.len(), 4 * 4);
/// # Ok::<(), types::FeatureError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicModel {
    sizes: ClassicSizes,
    layout: ClassicLayout,
    params: Vec<f32>,
    background: Vec<[f32; 3]>,
}

/// Why numbers do not make a [`ClassicModel`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicModelError {
    /// A size is outside what the format allows.
    #[error("the sizes of the baseline field are out of range")]
    Sizes,
    /// The number of parameters or of background pixels does not fit the sizes.
    #[error("a baseline field of these sizes has {want} numbers here, got {got}")]
    Length { want: usize, got: usize },
    /// A number is NaN or infinite: training diverged.
    #[error("number {index} of the baseline field is not finite")]
    NotFinite { index: usize },
}

impl ClassicModel {
    /// Creates a field from parameters in the order of [`ClassicLayout`] and a background picture,
    /// `[background][background]` sRGB, row by row.
    ///
    /// # Errors
    /// If a size is out of range, a length does not fit the sizes, or a number is not finite.
    pub(crate) fn new(
        sizes: ClassicSizes,
        params: Vec<f32>,
        background: Vec<[f32; 3]>,
    ) -> Result<Self, ClassicModelError> {
        if !sizes.is_valid() {
            return Err(ClassicModelError::Sizes);
        }
        let layout = ClassicLayout::new(&sizes);
        for (got, want) in
            [(params.len(), layout.len), (background.len(), sizes.background * sizes.background)]
        {
            if got != want {
                return Err(ClassicModelError::Length { want, got });
            }
        }
        let numbers = params.iter().chain(background.as_flattened());
        match numbers.into_iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ClassicModelError::NotFinite { index }),
            None => Ok(Self { sizes, layout, params, background }),
        }
    }

    /// Creates an untrained field, thin fog over a gray background; the same `seed` gives the same
    /// field.
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn untrained(sizes: ClassicSizes, seed: u64) -> Self {
        let layout = ClassicLayout::new(&sizes);
        let mut params = vec![0.0; layout.len];
        let mut noise = SplitMix64::new(seed);
        let mut fill = |range: &std::ops::Range<usize>, deviation: f32| {
            for p in &mut params[range.clone()] {
                *p = deviation * noise.normal();
            }
        };
        let he = |inputs: usize| (2.0 / inputs as f32).sqrt();
        for (net, condition) in layout.nets(&sizes) {
            for layer in &net.layers {
                let n_inputs =
                    if layer.position.is_empty() { 0 } else { POSITION_INPUTS + condition };
                let deviation = he(n_inputs + layer.hidden.len() / sizes.width);
                fill(&layer.hidden, deviation);
                fill(&layer.position, deviation);
                fill(&layer.condition, deviation);
            }
            fill(&net.density, 0.3 * he(sizes.width));
            fill(&net.branch, he(sizes.width));
            fill(&net.branch_direction, 0.3 * he(DIRECTION_INPUTS));
            fill(&net.color, 0.5 * he(sizes.branch()));
        }
        fill(&layout.shared, 0.1);
        for (net, _) in layout.nets(&sizes) {
            params[net.density_bias.start] = FIRST_LOG_DENSITY;
        }
        let background = vec![[0.5; 3]; sizes.background * sizes.background];
        Self::new(sizes, params, background).expect("sizes must be within the format's limits")
    }

    /// Creates a random field in which every parameter affects the picture, for tests of renderers.
    ///
    /// # Panics
    /// If a size is out of range.
    pub fn noise(sizes: ClassicSizes, seed: u64) -> Self {
        let mut model = Self::untrained(sizes, seed);
        let mut noise = SplitMix64::new(seed ^ 0x51ab);
        model.params.iter_mut().for_each(|p| *p += 0.05 * noise.normal());
        for rgb in &mut model.background {
            *rgb = [(); 3].map(|()| noise.uniform());
        }
        model
    }

    /// Computes the inputs for drawing a frame from a head pose and a code of
    /// [`ClassicSizes::code`] numbers, the last six of which are the torso track.
    ///
    /// # Panics
    /// If `code` has another length.
    pub fn frame(&self, pose: &HeadPose, code: &[f32]) -> ClassicFrame {
        ClassicFrame::new(&self.sizes, &self.layout, &self.params, &pose.to_array(), code)
    }

    /// Returns the sizes.
    pub fn sizes(&self) -> &ClassicSizes {
        &self.sizes
    }

    /// Returns the parameter layout.
    pub(crate) fn layout(&self) -> &ClassicLayout {
        &self.layout
    }

    /// Returns all parameters, in the order of [`ClassicLayout`].
    pub(crate) fn params(&self) -> &[f32] {
        &self.params
    }

    /// Returns the background picture, `[background][background]` sRGB, row by row.
    pub(crate) fn background(&self) -> &[[f32; 3]] {
        &self.background
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_and_nan_are_refused() {
        let (sizes, background) = (ClassicSizes::tiny(), vec![[0.5; 3]; 256]);
        let len = ClassicLayout::new(&sizes).len;
        let make = |len, background| ClassicModel::new(sizes.clone(), vec![0.1; len], background);
        assert!(make(len, background.clone()).is_ok());
        assert!(matches!(make(len + 1, background), Err(ClassicModelError::Length { .. })));
        assert!(matches!(make(len, vec![]), Err(ClassicModelError::Length { .. })));
        let bad = make(len, vec![[f32::NAN; 3]; 256]);
        assert!(matches!(bad, Err(ClassicModelError::NotFinite { .. })));
    }
}
