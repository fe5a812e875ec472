//! The definition of the field: the color of a ray.

use rayon::prelude::*;

use crate::backdrop::BackdropSample;
use crate::fold::FoldedField;
use crate::frame_inputs::FrameInputs;
use crate::march::{MIN_MASS, March, MarchTape};
use crate::model::{FaceModel, Field};
use crate::planes::PlaneSample;
use crate::ray::Ray;
use crate::shading::{FeatureSum, ShadingNetwork};

/// Default number of samples on a ray.
pub const DEFAULT_SAMPLES: u32 = 6;
/// Largest number of samples on a ray.
pub const MAX_SAMPLES: u32 = 32;

/// Field of one frame, ready to trace rays.
///
/// ```
/// use face::{FaceModel, FrameField, Sizes};
/// use types::{Code, Feature, HeadPose, MediaTime};
///
/// let model = FaceModel::untrained(Sizes::tiny(), 7);
/// let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.2))?;
/// let inputs = model.frame_inputs(&Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL });
/// let folded = model.fold(&inputs);
/// let frame = FrameField::new(&model, &folded, &inputs);
/// assert!(frame.trace_head([0.5, 0.5], 6).is_some_and(|head| head.alpha > 0.5));
/// # Ok::<(), types::FeatureError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FrameField<'a> {
    pub(crate) field: Field<'a>,
    pub(crate) folded: &'a FoldedField,
    pub(crate) inputs: &'a FrameInputs,
}

/// Ray that hits the head, with the result of its march.
#[derive(Clone, Copy, Debug)]
pub struct HeadRay {
    /// Origin and direction, canonical space.
    pub ray: Ray,
    /// Distances at which it enters and leaves the head box, canonical units.
    span: (f32, f32),
    pub(crate) march: March,
}

/// Color and alpha of the head along one ray.
#[derive(Clone, Copy, Debug)]
pub struct HeadSample {
    /// Color: sRGB, 0..=1, not multiplied by `alpha`.
    pub rgb: [f32; 3],
    /// Alpha: the share of the backdrop that the head hides, 0..=1.
    pub alpha: f32,
    /// Mean distance of the samples from the camera along the ray, canonical units.
    pub depth: f32,
}

impl HeadRay {
    /// Returns the distance from the camera, canonical units, of a position in bins of the march.
    #[inline(always)]
    pub(crate) fn distance(&self, bin: f32) -> f32 {
        let t = bin / crate::march::BINS as f32;
        self.span.0 + t * (self.span.1 - self.span.0)
    }
}

impl<'a> FrameField<'a> {
    /// Joins a model with the field and the inputs of one frame, made by [`FaceModel::fold`] and
    /// [`FaceModel::frame_inputs`].
    pub fn new(model: &'a FaceModel, folded: &'a FoldedField, inputs: &'a FrameInputs) -> Self {
        Self { field: model.field(), folded, inputs }
    }

    /// Returns the color of the ray through image point `x, y`: the definition of the field.
    ///
    /// Colors are sRGB-encoded, 0..=1; the field has no linear light. `n_samples` is clamped to
    /// 1..=[`MAX_SAMPLES`]. In order:
    /// 1. **March.** [`BINS`](crate::BINS) equal bins between the walls of the head box; density is
    ///    read trilinearly at their centers; `wᵢ = Tᵢ (1 − exp(−σᵢ δ))`, `W = Σ wᵢ`. If
    ///    `W <` [`MIN_MASS`], the ray misses the head: go to 4.
    /// 2. **Samples.** The mass is split into `n_samples` equal parts, with one sample at the
    ///    center of each part's mass. There, with x, y moved by the warp, the three planes are read
    ///    and multiplied: `f = XY ⊙ XZ ⊙ YZ`. With the weights `v` and the bias `b` of the opacity,
    ///    `a = sigmoid(4 v·f + b)`; `F += W/n · a · f`, `A += W/n · a`.
    /// 3. **Shade**, once: `[F / (A + 0.05), A, direction.x, direction.y]` → 32 → 32 → 3 with
    ///    rectifiers, then a sigmoid. The code contributes [`FrameInputs::shade_bias`].
    /// 4. **Composite.** Head over torso over background:
    ///    `A·rgb + (1 − A)(At·torso + (1 − At)·background)`, clamped to 0..=1.
    ///
    /// # Source
    /// 1: Mildenhall et al. 2020 (arXiv:2003.08934), eq. 3. 2: tri-planes, Chan et al. 2022,
    /// "EG3D"; their product, Fridovich-Keil et al. 2023, "K-Planes". 3: deferred shading, Hedman
    /// et al. 2021, "Baking Neural Radiance Fields", and Reiser et al. 2023, "MERF". 4: Porter and
    /// Duff 1984.
    #[inline(always)]
    pub fn render_ray(&self, point: [f32; 2], n_samples: u32) -> [f32; 3] {
        self.unclamped_color(point, n_samples).map(|v| v.clamp(0.0, 1.0))
    }

    /// Returns the color of [`FrameField::render_ray`] before it is clamped, which is
    /// differentiable with respect to the feature.
    #[inline(always)]
    pub fn unclamped_color(&self, point: [f32; 2], n_samples: u32) -> [f32; 3] {
        let mut rgb = self.backdrop(point);
        if let Some(head) = self.trace_head(point, n_samples) {
            for (c, head_c) in rgb.iter_mut().zip(head.rgb) {
                *c = head.alpha * head_c + (1.0 - head.alpha) * *c;
            }
        }
        rgb
    }

    /// Returns color and alpha of the head at an image point, or `None` if the ray misses it: steps
    /// 1 to 3 of [`FrameField::render_ray`].
    #[inline(always)]
    pub fn trace_head(&self, point: [f32; 2], n_samples: u32) -> Option<HeadSample> {
        Some(self.shade_head(&self.march_head(point)?, n_samples))
    }

    /// Marches the ray through an image point, or returns `None` if it misses the head: step 1 of
    /// [`FrameField::render_ray`].
    #[inline(always)]
    pub fn march_head(&self, point: [f32; 2]) -> Option<HeadRay> {
        let (ray, _) = self.march_box(point, 0.5)?;
        (ray.march.mass >= MIN_MASS).then_some(ray)
    }

    /// Marches the ray through an image point if it hits the head box. The density is read at
    /// `offset` of each bin, 0..=1. Also returns the values that the derivative needs.
    #[inline(always)]
    pub(crate) fn march_box(&self, point: [f32; 2], offset: f32) -> Option<(HeadRay, MarchTape)> {
        let sizes = self.field.sizes;
        let ray = self.inputs.ray(point);
        let span = ray.span(&sizes.head)?;
        let (march, tape) = March::new(sizes, &self.folded.density, &ray, span, offset);
        Some((HeadRay { ray, span, march }, tape))
    }

    /// Samples and shades a ray: steps 2 and 3 of [`FrameField::render_ray`].
    #[inline(always)]
    pub fn shade_head(&self, ray: &HeadRay, n_samples: u32) -> HeadSample {
        let n = n_samples.clamp(1, MAX_SAMPLES);
        let opacity = self.field.part(&self.field.layout.opacity);
        let mut features = FeatureSum::EMPTY;
        let mut depth = 0.0;
        ray.march.place_samples(
            n,
            || 0.5,
            #[inline(always)]
            |bin| {
                let distance = ray.distance(bin);
                let sample = PlaneSample::read(self.field.sizes, self.folded, ray.ray.at(distance));
                let weight = sample.opacity(opacity) * ray.march.mass / n as f32;
                features.add(weight, &sample.feature);
                depth += distance / n as f32;
            },
        );
        let inputs = features.shading_inputs(ray.ray.direction);
        HeadSample { rgb: self.shading().shade(&inputs).rgb, alpha: features.alpha, depth }
    }

    /// Returns the color behind the head at an image point, torso over background: step 4 of
    /// [`FrameField::render_ray`] without the head.
    #[inline(always)]
    pub fn backdrop(&self, point: [f32; 2]) -> [f32; 3] {
        self.read_backdrop(point).rgb
    }

    /// Returns the alpha of the person, head and torso, at an image point.
    pub(crate) fn alpha(&self, point: [f32; 2], n_samples: u32) -> f32 {
        let head = self.trace_head(point, n_samples).map_or(0.0, |head| head.alpha);
        head + (1.0 - head) * self.read_backdrop(point).alpha
    }

    #[inline(always)]
    fn read_backdrop(&self, point: [f32; 2]) -> BackdropSample {
        BackdropSample::read(self.field, self.inputs, point, |at| self.folded.torso[at])
    }

    /// Returns the shading network of this frame.
    #[inline(always)]
    pub(crate) fn shading(&self) -> ShadingNetwork<'a> {
        ShadingNetwork::new(self.field, &self.inputs.shade_bias)
    }
}

/// Renders an image of `side` x `side` pixels, row by row: [`FrameField::render_ray`] through the
/// center of each pixel, on all threads of rayon's pool.
///
/// This is the reference that the faster renderers are tested against.
pub fn render_cpu(
    model: &FaceModel,
    inputs: &FrameInputs,
    side: u32,
    n_samples: u32,
) -> Vec<[f32; 3]> {
    let folded = model.fold(inputs);
    let frame = FrameField::new(model, &folded, inputs);
    render_pixels(
        side,
        #[inline(always)]
        |point| frame.render_ray(point, n_samples),
    )
}

/// Calls `color` for the center of each pixel of an image of `side` x `side` pixels, row by row, on
/// all threads and compiled for the vector registers of this processor.
pub(crate) fn render_pixels(
    side: u32,
    color: impl Fn([f32; 2]) -> [f32; 3] + Sync,
) -> Vec<[f32; 3]> {
    let mut image = vec![[0.0; 3]; (side * side) as usize];
    let pixel = 1.0 / side as f32;
    image.par_chunks_exact_mut(side.max(1) as usize).enumerate().for_each(|(row, line)| {
        let (y, color) = ((row as f32 + 0.5) * pixel, &color);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                // Moved, so that the closure is `FnOnce`: a closure that can be called again gets a
                // shim that is compiled for the oldest processor.
                let line = line;
                for (column, rgb) in line.iter_mut().enumerate() {
                    *rgb = color([(column as f32 + 0.5) * pixel, y]);
                }
            },
        );
    });
    image
}
