//! The field on the CPU, without a GPU: the same picture as [`face::render_cpu`] in less time.

mod fold;
mod lanes;
mod network;
mod occupancy;
mod tile;

use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceModel, FrameInputs};
use rayon::prelude::*;
use types::{MediaTime, SquareFrame};

use crate::{MAX_SIDE, MIN_SIDE, RenderError};
use fold::Folding;
use lanes::LANES;
use occupancy::Occupancy;
use tile::{TILE_ROWS, View};

/// Draws one face model on the CPU.
///
/// The picture is that of [`face::render_ray`], which defines it, up to what is left out because
/// it does not show: bins where no density is near, what lies behind a bin that hides all but
/// a ten-thousandth of the light, and torso and background where something hides them. Tests
/// hold it to the definition. Instructions are chosen at run time, rows are shared between rayon's
/// threads, and after the first picture of a size nothing is allocated but by [`CpuRenderer::frame`].
///
/// # Examples
/// ```
/// use face::{FaceModel, Sizes};
/// use types::{Code, Feature, HeadPose, MediaTime};
///
/// let model = std::sync::Arc::new(FaceModel::untrained(Sizes::tiny(), 7));
/// let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.2))?;
/// let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
/// let mut renderer = render::CpuRenderer::new(model.clone());
/// renderer.resize(32)?;
/// assert_eq!(renderer.render(&model.frame_inputs(&feature)).len(), 32 * 32 * 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CpuRenderer {
    model: Arc<FaceModel>,
    side: u32,
    n_samples: u32,
    /// The vectors of this processor.
    arch: pulp::Arch,
    folding: Folding,
    occupancy: Occupancy,
    /// `[background][background]`: red, green, blue, nothing.
    background: Vec<[f32; 4]>,
    /// `[side][side]`, 3 bytes a pixel: the newest picture.
    rgb: Vec<u8>,
}

impl CpuRenderer {
    /// A renderer of pictures of 256 pixels a side, the first one black.
    pub fn new(model: Arc<FaceModel>) -> Self {
        let background = model.params()[model.layout().background.clone()]
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[r, g, b]| [r, g, b, 0.0])
            .collect();
        let mut new = Self {
            arch: pulp::Arch::new(),
            folding: Folding::new(model.sizes()),
            occupancy: Occupancy::new(model.sizes()),
            background,
            model,
            side: 0,
            n_samples: DEFAULT_SAMPLES,
            rgb: Vec::new(),
        };
        new.set_side(256);
        new
    }

    /// Sets the side of the pictures that follow, pixels. The picture becomes black.
    ///
    /// # Errors
    /// If the side is outside [`MIN_SIDE`]..=[`MAX_SIDE`].
    pub fn resize(&mut self, side: u32) -> Result<(), RenderError> {
        if !(MIN_SIDE..=MAX_SIDE).contains(&side) {
            return Err(RenderError::Side { side, min: MIN_SIDE, max: MAX_SIDE });
        }
        self.set_side(side);
        Ok(())
    }

    fn set_side(&mut self, side: u32) {
        if side != self.side {
            self.side = side;
            self.rgb.clear();
            self.rgb.resize((side * side * 3) as usize, 0);
        }
    }

    /// Sets how many samples of equal mass a ray takes: clamped to 1..=[`face::MAX_SAMPLES`].
    /// New renderers take [`face::DEFAULT_SAMPLES`].
    pub fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples.clamp(1, face::MAX_SAMPLES);
    }

    /// Draws a picture: `[side][side]` pixels of red, green and blue, display sRGB.
    ///
    /// Parts of the field are mixed anew only where the code has moved since they were.
    pub fn render(&mut self, inputs: &FrameInputs) -> &[u8] {
        let (sizes, layout) = (self.model.sizes(), self.model.layout());
        if self.folding.update(sizes, layout, self.model.params(), inputs) {
            self.occupancy.update(&self.folding.field().density);
        }
        let reach = tile::reach(sizes, inputs, self.side);
        self.occupancy.widen(reach);
        let view = View::new(
            &self.model,
            self.folding.field(),
            inputs,
            &self.occupancy,
            &self.background,
            self.side,
            self.n_samples,
        );
        let stride = self.side as usize * 3;
        let arch = self.arch;
        self.rgb.par_chunks_mut(stride * TILE_ROWS).enumerate().for_each(|(band, rows)| {
            arch.dispatch(tile::Band { view: &view, top: band * TILE_ROWS, rows });
        });
        &self.rgb
    }

    /// The newest picture, as [`CpuRenderer::render`] gave it.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// A copy of the newest picture, stamped with its media time.
    ///
    /// # Errors
    /// Never: the picture has the size its side says.
    pub fn frame(&self, time: MediaTime) -> Result<SquareFrame, types::FrameError> {
        SquareFrame::new(self.side, time, self.rgb.clone())
    }
}

#[cfg(test)]
mod tests {
    use face::{Sizes, render_cpu};
    use types::{Code, Feature, HeadPose};

    use super::*;

    #[test]
    fn a_processor_without_vectors_draws_the_same() {
        const SIDE: u32 = 48;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 5));
        let pose = HeadPose::from_array([0.1, 0.3, -0.1, 0.01, 0.02, 1.0]).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = model.frame_inputs(&feature);
        let want = render_cpu(&model, &inputs, SIDE, face::DEFAULT_SAMPLES);
        for arch in [pulp::Arch::new(), pulp::Arch::Scalar] {
            let mut renderer = CpuRenderer::new(Arc::clone(&model));
            renderer.arch = arch;
            renderer.resize(SIDE).unwrap();
            let got = renderer.render(&inputs);
            let far =
                got.iter().zip(want.as_flattened()).map(|(g, w)| (f32::from(*g) - 255.0 * w).abs());
            let far = far.fold(0.0, f32::max);
            assert!(far <= 1.0, "{arch:?}: {far} levels");
        }
    }
}
