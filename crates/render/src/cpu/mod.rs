//! The field on the CPU in SIMD lanes: the image of [`face::render_cpu`] in less time.

mod fold;
mod lanes;
mod network;
mod occupancy;
mod tile;

use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceModel, FrameInputs};
use rayon::prelude::*;
use types::{MediaTime, SquareFrame};

use crate::error::RenderError;
use crate::limits::{MAX_SIDE, MIN_SIDE};
use fold::CpuFolding;
use occupancy::Occupancy;
use tile::{TILE_ROWS, View};

/// Renderer of one face model on the CPU.
///
/// The image is that of [`face::FrameField::render_ray`], without work that makes no visible
/// difference: it skips bins in empty regions, everything behind the point where transmittance
/// falls below 1e-4, and the backdrop where it is hidden. Tests compare it with the definition. It
/// uses the widest vectors of the processor and the threads of rayon's pool. After the first image
/// of a size only [`CpuRenderer::frame`] allocates.
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
    /// Vector instructions of this processor.
    arch: pulp::Arch,
    folding: CpuFolding,
    occupancy: Occupancy,
    /// `[background][background]`: red, green, blue, padding.
    background: Vec<[f32; 4]>,
    /// `[side][side]`, 3 bytes a pixel: the newest image.
    rgb: Vec<u8>,
}

impl CpuRenderer {
    /// Returns a renderer of images of 256 pixels a side, the first one black.
    pub fn new(model: Arc<FaceModel>) -> Self {
        let background = model.params()[model.layout().background.clone()]
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[r, g, b]| [r, g, b, 0.0])
            .collect();
        let mut new = Self {
            arch: pulp::Arch::new(),
            folding: CpuFolding::new(model.sizes()),
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

    /// Sets the side of the image, pixels. If it differs, the image becomes black.
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

    /// Sets the number of samples on a ray, clamped to 1..=[`face::MAX_SAMPLES`]. Initially
    /// [`face::DEFAULT_SAMPLES`].
    pub fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples.clamp(1, face::MAX_SAMPLES);
    }

    /// Renders an image and returns its pixels, `[side][side]` of red, green and blue, display
    /// sRGB.
    ///
    /// A part of the field is mixed again only if its weights have changed since it was mixed.
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
            arch.dispatch(tile::TileRows { view: &view, top: band * TILE_ROWS, rows });
        });
        &self.rgb
    }

    /// Returns the newest image, as [`CpuRenderer::render`] returned it.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Returns a copy of the newest image as a frame with media time `time`.
    ///
    /// # Errors
    /// Never: the number of pixels always matches the side.
    pub fn frame(&self, time: MediaTime) -> Result<SquareFrame, types::FrameError> {
        SquareFrame::new(self.side, time, self.rgb.clone())
    }
}

#[cfg(test)]
mod tests {
    use face::{Bounds, PictureWork, Rays, Sizes, render_cpu};
    use proptest::prelude::*;
    use types::{Code, Feature, HeadPose};

    use super::*;

    /// Operations of a step of the search for the head in a tile: position and index.
    const SEARCH_FLOPS: u64 = 16;

    /// Returns the number of floating-point operations of an image of `side` pixels that the sizes
    /// and the pose allow, whatever the parameters are: every ray through the head box hits the head,
    /// and every tile is searched from end to end.
    fn most_flops(sizes: &Sizes, inputs: &FrameInputs, side: u32) -> u64 {
        let (reach, occupancy) = (tile::reach(sizes, inputs, side), Occupancy::new(sizes));
        let mut n_steps = 0;
        let mut wide = sizes.head;
        for c in 0..3 {
            wide.min[c] -= reach;
            wide.max[c] += reach;
        }
        for top in (0..side).step_by(TILE_ROWS) {
            for left in (0..side).step_by(lanes::LANES) {
                let middle = [left as f32 + 4.0, top as f32 + 2.0].map(|at| at / side as f32);
                let span = inputs.ray(middle).span(&wide);
                n_steps += span.map_or(0, |span| occupancy.n_steps(span) as u64);
            }
        }
        let all = u64::from(side).pow(2);
        let rays = Rays { all, in_box: all, on_head: all };
        let work = PictureWork::new(sizes, &rays, DEFAULT_SAMPLES);
        work.total().flops + 2 * n_steps * SEARCH_FLOPS
    }

    fn inputs_at(sizes: &Sizes, pose: [f32; 6]) -> FrameInputs {
        let model = FaceModel::untrained(sizes.clone(), 1);
        let pose = HeadPose::from_array(pose).unwrap();
        model.frame_inputs(&Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL })
    }

    /// Boxes and grids of every kind, most of which no face has.
    fn hostile_sizes() -> impl Strategy<Value = Sizes> {
        let side = || prop_oneof![1 => 0.001_f32..90.0, 5 => 0.25_f32..6.0];
        let grids = (2_usize..=128, 2_usize..=64, 2_usize..=32, 0.5_f32..20.0);
        ([side(), side(), side()], grids).prop_map(|(half, (density, plane, blend, focal))| Sizes {
            head: Bounds { min: half.map(|v| -v), max: half },
            density,
            plane_xy: plane,
            plane_z: plane,
            density_expression: blend,
            focal,
            ..Sizes::tiny()
        })
    }

    /// Returns the number of operations of the built-in face, looking ahead.
    fn flops_of_demo(side: u32) -> u64 {
        const DEMO: &[u8] = include_bytes!("../../../../assets/demo.face");
        let model = face::FaceFile::parse(DEMO).unwrap().model;
        let pose = HeadPose::from_array([0.0, 0.0, 0.0, 0.0, 0.0, 1.65]).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let rays = Rays::count(&model, &model.frame_inputs(&feature), side);
        PictureWork::new(model.sizes(), &rays, DEFAULT_SAMPLES).total().flops
    }

    #[test]
    fn no_accepted_face_costs_more_than_four_times_the_built_in_one() {
        const SIDE: u32 = 128;
        let limit = 4 * flops_of_demo(SIDE);
        let n_accepted = std::cell::Cell::new(0);
        let pose = (-3.0_f32..3.0, 0.1_f32..3.0);
        proptest!(|(sizes in hostile_sizes(), (turn, distance) in pose)| {
            let params = vec![0.0; face::Layout::new(&sizes).len];
            if FaceModel::new(sizes.clone(), params).is_ok() && sizes.check_cost().is_ok() {
                let inputs = inputs_at(&sizes, [0.1, turn, 0.2, 0.0, 0.0, distance]);
                let got = most_flops(&sizes, &inputs, SIDE);
                prop_assert!(got <= limit, "{got} operations, {limit} allowed");
                n_accepted.set(n_accepted.get() + 1);
            }
        });
        assert!(n_accepted.get() > 10, "{n_accepted:?} sizes accepted");
    }

    #[test]
    fn scalar_and_vector_instructions_give_the_same_image() {
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
