use numerics::SplitMix64;
use types::HeadPose;

use super::sizes::{DIRECTION_INPUTS, POSITION_INPUTS};
use super::{ClassicFrame, ClassicLayout, ClassicSizes};
use crate::ModelError;

/// Logarithm of the density that a field starts with: a thin fog.
const FIRST_LOG_DENSITY: f32 = -2.0;

/// The classic field of one person: sizes, parameters, background.
///
/// ```
/// use face::{ClassicModel, ClassicSizes, render_classic};
/// use types::{Code, HeadPose};
///
/// let sizes = ClassicSizes::classic_tiny();
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

impl ClassicModel {
    /// A model from its parameters, laid out as [`ClassicLayout::new`] of `sizes` says, and its
    /// background, `[background][background]` sRGB.
    ///
    /// # Errors
    /// If a size is out of range, numbers are too few or many, or one is not finite.
    pub fn new(
        sizes: ClassicSizes,
        params: Vec<f32>,
        background: Vec<[f32; 3]>,
    ) -> Result<Self, ModelError> {
        if !sizes.sound() {
            return Err(ModelError::Sizes);
        }
        let layout = ClassicLayout::new(&sizes);
        for (got, want) in
            [(params.len(), layout.len), (background.len(), sizes.background * sizes.background)]
        {
            if got != want {
                return Err(ModelError::Length { want, got });
            }
        }
        let numbers = params.iter().chain(background.as_flattened());
        match numbers.into_iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { index }),
            None => Ok(Self { sizes, layout, params, background }),
        }
    }

    /// A field before training: fog over a gray background. Deterministic in `seed`.
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
                let heard = if layer.position.is_empty() { 0 } else { POSITION_INPUTS + condition };
                let deviation = he(heard + layer.hidden.len() / sizes.width);
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

    /// A field in which every part does something; for tests of the renderers.
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

    /// What the renderers need to draw a frame; see [`ClassicFrame::new`].
    ///
    /// # Panics
    /// If `code` has not as many numbers as the sizes say.
    pub fn frame(&self, pose: &HeadPose, code: &[f32]) -> ClassicFrame {
        ClassicFrame::new(&self.sizes, &self.layout, &self.params, &pose.to_array(), code)
    }

    /// Its sizes.
    pub fn sizes(&self) -> &ClassicSizes {
        &self.sizes
    }

    /// Where its parts lie.
    pub fn layout(&self) -> &ClassicLayout {
        &self.layout
    }

    /// All parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// `[background][background]` sRGB, row by row.
    pub fn background(&self) -> &[[f32; 3]] {
        &self.background
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_field_are_refused() {
        let (sizes, background) = (ClassicSizes::classic_tiny(), vec![[0.5; 3]; 256]);
        let len = ClassicLayout::new(&sizes).len;
        let make = |len, background| ClassicModel::new(sizes.clone(), vec![0.1; len], background);
        assert!(make(len, background.clone()).is_ok());
        assert!(matches!(make(len + 1, background), Err(ModelError::Length { .. })));
        assert!(matches!(make(len, vec![]), Err(ModelError::Length { .. })));
        let bad = make(len, vec![[f32::NAN; 3]; 256]);
        assert!(matches!(bad, Err(ModelError::NotFinite { .. })));
    }
}
