//! Arithmetic and memory traffic of an image, counted from the definition.

use types::LEARNED_DIMS;

use crate::frame_field::FrameField;
use crate::frame_inputs::FrameInputs;
use crate::layout::Layout;
use crate::march::{BINS, MIN_MASS};
use crate::model::FaceModel;
use crate::sizes::{
    BIAS_INPUTS, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, SHADE_INPUTS, Sizes, TORSO_INPUTS,
};

/// Floating-point operations and bytes moved.
///
/// An addition, multiplication, division or square root counts as one operation, a multiply-add as
/// two, an exponential as the 16 operations of [`exp`](crate::exp). Comparisons, conversions and
/// addresses are free. Every `f32` of the field that is read or written counts as four bytes,
/// cached or not, except that the weights of the shading network count only once an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

/// [`Work`] of one image, stage by stage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PictureWork {
    /// Once an image: [`FaceModel::frame_inputs`] and [`FaceModel::fold`].
    pub fold: Work,
    /// For each ray: its direction, and its intersection with the head box.
    pub rays: Work,
    /// For each ray through the head box: the march through the density.
    pub march: Work,
    /// For each ray that hits the head: placing and reading samples.
    pub samples: Work,
    /// For each ray that hits the head: the shading network, and compositing over the backdrop.
    pub shade: Work,
    /// For each ray: torso over background.
    pub backdrop: Work,
}

/// Number of rays of an image that reach each stage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rays {
    /// All rays, one a pixel.
    pub all: u64,
    /// Rays through the head box.
    pub in_box: u64,
    /// Rays that hit the head: their mass is at least [`MIN_MASS`].
    pub on_head: u64,
}

/// Operations of [`exp`](crate::exp): four to split off the power of two, twelve for the
/// polynomial.
const EXP: u64 = 16;
/// Operations of [`sigmoid`](crate::sigmoid).
const SIGMOID: u64 = EXP + 2;
/// Operations of [`Bounds::relative`](crate::Bounds::relative).
const RELATIVE: u64 = 3;
/// Operations of `BilinearTaps::new`: two positions, four shares.
const TAPS: u64 = 2 * 2 + 6;
/// Operations of a linear interpolation.
const LERP: u64 = 3;
/// Bytes of a number.
const F32: u64 = 4;

impl PictureWork {
    /// Counts the work of the definition for an image: see [`Work`] for what counts.
    ///
    /// Renderers do less (they skip empty bins and hidden backdrops) and fuse multiply-adds, so
    /// this is the nominal work of the image, not that of a machine.
    pub fn new(sizes: &Sizes, rays: &Rays, n_samples: u32) -> Self {
        let (all, in_box, on_head) = (rays.all, rays.in_box, rays.on_head);
        let n_samples = u64::from(n_samples);
        Self {
            fold: fold_work(sizes),
            rays: Work { flops: all * ray_flops(), bytes: 0 },
            march: Work { flops: in_box * march_flops(), bytes: in_box * BINS as u64 * 8 * F32 },
            samples: Work {
                flops: on_head * (place_flops() + n_samples * sample_flops()),
                // Four texels of the warp and of each plane.
                bytes: on_head * n_samples * 4 * (2 + 3 * CHANNELS as u64) * F32,
            },
            shade: Work {
                flops: on_head * shade_flops(),
                // The weights once, because they stay in a cache.
                bytes: (HIDDEN * (SHADE_INPUTS + HIDDEN + 3)) as u64 * F32,
            },
            backdrop: Work {
                flops: all * backdrop_flops(),
                // Four texels of flow, torso and background; the image itself.
                bytes: all * (4 * (2 + 4 + 3) * F32 + 3),
            },
        }
    }

    /// Returns all stages with their names, in the order they run.
    pub fn stages(&self) -> [(&'static str, Work); 6] {
        [
            ("fold", self.fold),
            ("rays", self.rays),
            ("march", self.march),
            ("samples", self.samples),
            ("shade", self.shade),
            ("backdrop", self.backdrop),
        ]
    }

    /// Returns the sum of all stages.
    pub fn total(&self) -> Work {
        self.stages().iter().fold(Work::default(), |sum, (_, work)| Work {
            flops: sum.flops + work.flops,
            bytes: sum.bytes + work.bytes,
        })
    }
}

impl Rays {
    /// Counts the rays of an image of `side` x `side` pixels as the definition traces them.
    pub fn count(model: &FaceModel, inputs: &FrameInputs, side: u32) -> Self {
        let folded = model.fold(inputs);
        let frame = FrameField::new(model, &folded, inputs);
        let mut rays = Self { all: u64::from(side).pow(2), ..Self::default() };
        let center = |i: u32| (i as f32 + 0.5) / side as f32;
        for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
            let Some((ray, _)) = frame.march_box([center(column), center(row)], 0.5) else {
                continue;
            };
            rays.in_box += 1;
            rays.on_head += u64::from(ray.march.mass >= MIN_MASS);
        }
        rays
    }

    /// Estimates the counts for an image of the same scene with `side` x `side` pixels: scales
    /// them with the number of pixels, rounded.
    #[must_use]
    pub fn at(&self, side: u32) -> Self {
        let all = u64::from(side).pow(2);
        let scaled = |n: u64| (n as f64 * all as f64 / self.all.max(1) as f64).round() as u64;
        Self { all, in_box: scaled(self.in_box), on_head: scaled(self.on_head) }
    }
}

fn ray_flops() -> u64 {
    // Center of the pixel; `FrameInputs::ray`: 4 for u and v, 12 for the direction, 7 for its
    // length, 3 to scale it; `Ray::span`: 5 an axis, and the length.
    4 + (4 + 12 + 7 + 3) + (3 * 5 + 1)
}

fn march_flops() -> u64 {
    let setup = 2 + 3 * 10;
    // Position; fractions and seven interpolations; sigma and alpha; weight, transmittance, mass.
    let bin = 6 + (3 + 7 * LERP) + (1 + EXP + 1 + EXP + 1) + 4;
    setup + BINS as u64 * bin
}

fn place_flops() -> u64 {
    // Share of a sample; the search passes each bin except the last at most once.
    1 + 2 * (BINS as u64 - 1)
}

fn sample_flops() -> u64 {
    let channels = CHANNELS as u64;
    let place = 6 + 3 + 6;
    let warp = 2 * RELATIVE + TAPS + 4 * 2 * 2;
    let planes = 2 + 3 * RELATIVE + 3 * (TAPS + 4 * channels * 2) + 2 * channels;
    let opacity = 2 * channels + 2 + SIGMOID;
    // Weight, added to feature, alpha and depth.
    let sums = 2 + 2 * channels + 1 + 2;
    place + warp + planes + opacity + sums
}

fn shade_flops() -> u64 {
    let (hidden, inputs) = (HIDDEN as u64, SHADE_INPUTS as u64);
    let mean = 2 + CHANNELS as u64;
    let network = 2 * hidden * (inputs + hidden) + 3 * (2 * hidden + 8 + 1 + SIGMOID);
    let over = 3 * 4;
    mean + network + over
}

fn backdrop_flops() -> u64 {
    let flow = 2 * RELATIVE + TAPS + 4 * 2 * 2;
    let position = 2 + flow + 2 * 6 + 2 * RELATIVE;
    let torso = TAPS + 4 * 4 * 2 + 1 + SIGMOID + 1;
    let background = 2 * 4 + TAPS + 4 * 3 * 2;
    position + torso + background + 3 * LERP
}

pub(crate) fn fold_work(s: &Sizes) -> Work {
    let n = |range: &std::ops::Range<usize>| range.len() as u64;
    let layout = Layout::new(s);
    let channels = CHANNELS as u64;
    let small_xy = (s.expression_xy.pow(2) * CHANNELS) as u64;
    let small_z = (s.expression_z.pow(2) * CHANNELS) as u64;
    let small_torso = (s.torso_blend_width * s.torso_blend_height * 4) as u64;
    let small_density = s.density_expression.pow(3) as u64;
    let warp = (s.warp.pow(2) * 2) as u64;

    let mixed = n(&layout.expression_xy)
        + n(&layout.expression_xz)
        + n(&layout.expression_yz)
        + n(&layout.torso_blend)
        + n(&layout.density_expression)
        + n(&layout.warp);
    let base = n(&layout.plane_xy)
        + n(&layout.plane_xz)
        + n(&layout.plane_yz)
        + n(&layout.torso)
        + n(&layout.density);
    // For each row of the result, a row interpolated between two small rows.
    let rows = channels * (s.plane_xy * s.expression_xy + 2 * s.plane_z * s.expression_z) as u64
        + 4 * (s.torso_height * s.torso_blend_width) as u64
        + (s.density * s.density_expression * (s.density_expression + s.density)) as u64;
    let upsampled = LERP * rows + (LERP + 1) * base;

    let networks = BIAS_INPUTS * HIDDEN
        + TORSO_INPUTS * HIDDEN
        + HIDDEN * s.torso_outputs()
        + LEARNED_DIMS * (s.n_expression + s.n_density);
    let small = small_xy + 2 * small_z + small_torso + small_density;
    let flow = (FLOW_WIDTH * FLOW_HEIGHT * 2) as u64;
    Work {
        flops: 2 * mixed + upsampled + 2 * networks as u64,
        // Small planes read, sums written and read, bases read, results written.
        bytes: F32 * (mixed + 2 * small + warp + 2 * base + networks as u64 + flow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Code, Feature, HeadPose, MediaTime};

    const ONE: Rays = Rays { all: 1, in_box: 1, on_head: 1 };

    #[test]
    fn the_work_of_a_ray_matches_a_count_by_hand() {
        let work = PictureWork::new(&Sizes::tiny(), &ONE, 1);
        // Direction 26, box 16, center of the pixel 4.
        assert_eq!(work.rays.flops, 46);
        // 32 bins: position 6, density 24, sigma and alpha 35, weight 4; setup 32.
        assert_eq!(work.march.flops, 32 * 69 + 32);
        // Share and search 63; one sample: position 15, warp 32, planes 11 + 30 + 192 + 16, opacity
        // 36, sums 21.
        assert_eq!(work.samples.flops, 63 + 353);
        // Mean 10; layers 11 to 32 to 32 to 3, the last summed in eight lanes; sigmoids;
        // compositing.
        assert_eq!(work.shade.flops, 10 + 704 + 2048 + 219 + 54 + 12);
        // Position 52, torso 62, background 42, compositing 9.
        assert_eq!(work.backdrop.flops, 165);
        // Eight corners a bin; four texels of two and of three times eight numbers a sample.
        assert_eq!((work.march.bytes, work.samples.bytes), (1024, 416));
        let six = PictureWork::new(&Sizes::tiny(), &ONE, 6);
        assert_eq!(six.samples.flops - work.samples.flops, 5 * 353);
        // About 3,800 multiply-adds for a ray that hits the head.
        assert_eq!(six.total().flops - six.fold.flops, 46 + 2240 + 63 + 2118 + 3047 + 165);
    }

    #[test]
    fn the_work_of_folding_matches_a_count_by_hand() {
        let work = PictureWork::new(&Sizes::tiny(), &ONE, 1).fold;
        // Three expressions of 4x4 and twice 3x3 texels, two torso planes of 4x3, 24 warps of 5x5,
        // two grids of 4x4x4.
        let mixed = 3 * 16 * 8 + 2 * 3 * 9 * 8 + 2 * 12 * 4 + 24 * 25 * 2 + 2 * 64;
        // xy 8x8, xz and yz 6x6, torso 12x7, density 8.
        let rows = 8 * 4 * 8 + 2 * 6 * 3 * 8 + 7 * 4 * 4 + 8 * (16 + 8 * 4);
        let base = 64 * 8 + 2 * 36 * 8 + 84 * 4 + 512;
        let networks = 40 * 32 + 52 * 32 + 32 * 106 + 24 * 5;
        assert_eq!(work.flops, 2 * mixed + 3 * rows + 4 * base + 2 * networks);
        assert_eq!((2 * mixed, 3 * rows + 4 * base), (4480, 10_864));
    }

    #[test]
    fn rays_are_counted_by_the_stage_they_reach() {
        let model = FaceModel::noise(Sizes::tiny(), 7);
        let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.5)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let rays = Rays::count(&model, &model.frame_inputs(&feature), 32);
        assert_eq!(rays.all, 1024);
        assert!(0 < rays.on_head && rays.on_head <= rays.in_box && rays.in_box < 1024, "{rays:?}");
        let larger = rays.at(64);
        assert_eq!((larger.all, larger.in_box), (4096, 4 * rays.in_box));
    }
}
