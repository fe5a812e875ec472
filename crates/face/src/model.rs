use std::ops::Range;

use crate::layout::Layout;
use crate::model_error::ModelError;
use crate::sizes::Sizes;

/// Radiance field of one person: sizes and parameters.
///
/// The parameters are one array of f32; [`Layout`] gives the range of each part. Their meaning is
/// defined by [`FaceModel::frame_inputs`], [`FaceModel::fold`] and
/// [`FrameField::render_ray`](crate::FrameField::render_ray).
#[derive(Clone, Debug, PartialEq)]
pub struct FaceModel {
    sizes: Sizes,
    layout: Layout,
    params: Vec<f32>,
}

impl FaceModel {
    /// Makes a model from its parameters, laid out as [`Layout::new`] of `sizes`.
    ///
    /// # Errors
    /// If a size is out of range, a box has a shape that no face has, the number of parameters is wrong, or one of them is not finite.
    pub fn new(sizes: Sizes, params: Vec<f32>) -> Result<Self, ModelError> {
        sizes.check()?;
        let layout = Layout::new(&sizes);
        if params.len() != layout.len {
            return Err(ModelError::Length { want: layout.len, got: params.len() });
        }
        match params.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { index }),
            None => Ok(Self { sizes, layout, params }),
        }
    }

    /// Returns the sizes of all parts.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Returns the range of each part in [`FaceModel::params`].
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns all parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Borrows sizes, layout and parameters.
    pub fn field(&self) -> Field<'_> {
        Field { sizes: &self.sizes, layout: &self.layout, params: &self.params }
    }

    /// Returns sizes, layout and parameters, to train on; [`FaceModel::new`] makes a model of them.
    pub fn into_parts(self) -> (Sizes, Layout, Vec<f32>) {
        (self.sizes, self.layout, self.params)
    }

    /// Returns the pixels of the background: sRGB in 0..=1, row by row. They must stay finite.
    pub(crate) fn background_mut(&mut self) -> &mut [f32] {
        &mut self.params[self.layout.background.clone()]
    }
}

/// Sizes, layout and parameters of a field, borrowed from a [`FaceModel`] or from a trainer.
///
/// The parameters of a trainer may be NaN or infinite when training diverges; every function of a
/// field then returns numbers that are not finite either, and none panics.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub(crate) sizes: &'a Sizes,
    pub(crate) layout: &'a Layout,
    pub(crate) params: &'a [f32],
}

impl<'a> Field<'a> {
    /// Borrows a field in training.
    ///
    /// # Panics
    /// If the number of parameters is not that of `layout` or, in debug builds, if `layout` is not
    /// that of `sizes`.
    pub fn new(sizes: &'a Sizes, layout: &'a Layout, params: &'a [f32]) -> Self {
        debug_assert_eq!(*layout, Layout::new(sizes));
        assert_eq!(layout.len, params.len(), "parameters of another field");
        Self { sizes, layout, params }
    }

    /// Returns the parameters of one part.
    #[inline(always)]
    pub(crate) fn part(&self, range: &Range<usize>) -> &'a [f32] {
        &self.params[range.clone()]
    }

    /// Returns the parameters of one part as texels or rows of `N` numbers.
    #[inline(always)]
    pub(crate) fn rows<const N: usize>(&self, range: &Range<usize>) -> &'a [[f32; N]] {
        self.part(range).as_chunks().0
    }
}
