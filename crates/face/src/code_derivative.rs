//! Derivative of a ray's color with respect to the learned numbers of the code.

use types::LEARNED_DIMS;

use crate::fold::FoldedField;
use crate::frame_field::{FrameField, HeadRay};
use crate::head_tape::{HeadTape, TapedSample};
use crate::math::add_scaled;
use crate::model::{FaceModel, Field};
use crate::planes::{LOGIT_SCALE, plane_taps};
use crate::shading::MEAN_FLOOR;
use crate::sizes::{CHANNELS, HIDDEN, MAX_EXPRESSION, SHADE_INPUTS};

/// Largest number of samples on a ray that is differentiated.
const MAX_DERIVATIVE_SAMPLES: usize = 8;
/// [`SHADE_INPUTS`], rounded up to whole registers.
const PADDED_INPUTS: usize = SHADE_INPUTS.next_multiple_of(8);

/// Red, green, blue, and a zero that fills the register.
type Colors = [f32; 4];
/// Derivatives of the colors with respect to each channel of the three planes' readings.
type PlaneDerivatives = [[Colors; CHANNELS]; 3];

/// Derivative of ray colors with respect to the learned numbers of the code.
///
/// Holds the weights of the shading network transposed, as the backward pass reads them: a row for
/// each output.
pub struct CodeDerivative {
    w2: [[f32; HIDDEN]; HIDDEN],
    w1: [[f32; PADDED_INPUTS]; HIDDEN],
    code: [[f32; LEARNED_DIMS]; HIDDEN],
}

impl CodeDerivative {
    /// Transposes the weights of a model's shading network.
    pub fn new(model: &FaceModel) -> Self {
        let (field, l) = (model.field(), model.layout());
        let mut new = Self {
            w2: [[0.0; HIDDEN]; HIDDEN],
            w1: [[0.0; PADDED_INPUTS]; HIDDEN],
            code: [[0.0; LEARNED_DIMS]; HIDDEN],
        };
        for j in 0..HIDDEN {
            for (i, row) in field.rows::<HIDDEN>(&l.shade_w2).iter().enumerate() {
                new.w2[j][i] = row[j];
            }
            for (i, row) in field.rows::<HIDDEN>(&l.shade_w1).iter().enumerate() {
                new.w1[j][i] = row[j];
            }
            let code = field.rows::<HIDDEN>(&l.shade_code);
            for (i, row) in code.iter().take(LEARNED_DIMS).enumerate() {
                new.code[j][i] = row[j];
            }
        }
        new
    }

    /// Returns the derivative of the color of a ray that hits the head with respect to each learned
    /// number, `[red, green, blue, 0]`.
    ///
    /// The color is `alpha · rgb + (1 − alpha) · backdrop`; `backdrop` is held fixed.
    /// Reverse mode, with one pass for all three colors: through the shading network, then through
    /// warp and expression planes at each sample. The cost is a few times that of the ray, whatever
    /// the number of unknowns. The dependence of the density on the code is left out: it moves
    /// outlines, which the pose moves far more. `n_samples` is clamped to 1..=8.
    #[inline(always)]
    pub fn of_ray(
        &self,
        frame: &FrameField<'_>,
        ray: &HeadRay,
        backdrop: &[f32; 3],
        n_samples: u32,
    ) -> [[f32; 4]; LEARNED_DIMS] {
        let field = frame.field;
        let mut samples = [TapedSample::EMPTY; MAX_DERIVATIVE_SAMPLES];
        let samples = &mut samples[..(n_samples as usize).clamp(1, MAX_DERIVATIVE_SAMPLES)];
        let mut k = 0;
        ray.march.place_samples(
            samples.len() as u32,
            || 0.5,
            #[inline(always)]
            |bin| {
                samples[k].point = ray.ray.at(ray.distance(bin));
                k += 1;
            },
        );
        let tape = HeadTape::new(frame, ray.ray.direction, ray.march.mass, samples);

        let mut columns = [[0.0; 4]; LEARNED_DIMS];
        let (g_sums, g_alphas) = self.through_shading(frame, &tape, backdrop, &mut columns);
        let mut g_mix = [[0.0; 4]; MAX_EXPRESSION];
        for sample in &*samples {
            let planes = plane_derivatives(field, sample, tape.share, &g_sums, &g_alphas);
            add_mix(field, sample, &planes, &mut g_mix);
            let offset = offset_derivatives(field, frame.folded, sample, &planes);
            add_warp(field, sample, &offset, &mut columns);
        }
        let mix = field.part(&field.layout.mix);
        for (column, row) in columns.iter_mut().zip(mix.chunks_exact(field.sizes.n_expression)) {
            for (weight, g) in row.iter().zip(&g_mix) {
                add_scaled(column, *weight, g);
            }
        }
        columns
    }

    /// Goes back through compositing and the shading network. Returns the derivatives of the colors
    /// with respect to the accumulated features and to alpha; writes those by way of the shading
    /// bias to `columns`.
    #[inline(always)]
    fn through_shading(
        &self,
        frame: &FrameField<'_>,
        tape: &HeadTape,
        backdrop: &[f32; 3],
        columns: &mut [Colors; LEARNED_DIMS],
    ) -> ([Colors; CHANNELS], Colors) {
        let w3 = frame.shading().w3;
        let (alpha, shading) = (tape.features.alpha, &tape.shading);
        let inverse = 1.0 / (alpha + MEAN_FLOOR);
        let mut g_sums = [[0.0; 4]; CHANNELS];
        let mut g_alphas = [0.0; 4];
        for c in 0..3 {
            let g_out = alpha * shading.rgb[c] * (1.0 - shading.rgb[c]);
            let mut g1 = [0.0; HIDDEN];
            // Rectifiers select instead of branching, so that the loops stay in vector registers.
            for ((hidden, w3), w2) in shading.hidden2.iter().zip(&w3[c]).zip(&self.w2) {
                add_scaled(&mut g1, if *hidden > 0.0 { g_out * w3 } else { 0.0 }, w2);
            }
            for (g, hidden) in g1.iter_mut().zip(&shading.hidden1) {
                *g = if *hidden > 0.0 { *g } else { 0.0 };
            }
            let mut g_in = [0.0; PADDED_INPUTS];
            for (g, w1) in g1.iter().zip(&self.w1) {
                add_scaled(&mut g_in, *g, w1);
            }
            let mut g_code = [0.0; LEARNED_DIMS];
            for (g, code) in g1.iter().zip(&self.code) {
                add_scaled(&mut g_code, *g, code);
            }
            g_alphas[c] = shading.rgb[c] - backdrop[c] + g_in[CHANNELS];
            for i in 0..CHANNELS {
                g_sums[i][c] = g_in[i] * inverse;
                g_alphas[c] -= g_in[i] * tape.features.feature[i] * inverse * inverse;
            }
            for (column, g) in columns.iter_mut().zip(g_code) {
                column[c] = g;
            }
        }
        (g_sums, g_alphas)
    }
}

/// Returns the derivatives of the colors with respect to the readings of the planes at one sample.
#[inline(always)]
fn plane_derivatives(
    field: Field<'_>,
    sample: &TapedSample,
    share: f32,
    g_sums: &[Colors; CHANNELS],
    g_alphas: &Colors,
) -> PlaneDerivatives {
    let opacity = field.part(&field.layout.opacity);
    let mut g_weight = *g_alphas;
    for (g, feature) in g_sums.iter().zip(sample.planes.feature) {
        add_scaled(&mut g_weight, feature, g);
    }
    let logit = LOGIT_SCALE * share * sample.opacity * (1.0 - sample.opacity);
    let [a, b, d] = &sample.planes.values;
    let mut planes = [[[0.0; 4]; CHANNELS]; 3];
    for i in 0..CHANNELS {
        let mut g = [0.0; 4];
        add_scaled(&mut g, share * sample.opacity, &g_sums[i]);
        add_scaled(&mut g, logit * opacity[i], &g_weight);
        for (plane, others) in planes.iter_mut().zip([b[i] * d[i], a[i] * d[i], a[i] * b[i]]) {
            add_scaled(&mut plane[i], others, &g);
        }
    }
    planes
}

/// Adds the derivatives of the colors with respect to the weight of each expression plane, by way
/// of one sample.
#[inline(always)]
fn add_mix(
    field: Field<'_>,
    sample: &TapedSample,
    planes: &PlaneDerivatives,
    g_mix: &mut [Colors; MAX_EXPRESSION],
) {
    let (sizes, l) = (field.sizes, field.layout);
    let small = plane_taps(sample.planes.uvw, sizes.expression_xy, sizes.expression_z);
    let ranges = [&l.expression_xy, &l.expression_xz, &l.expression_yz];
    for ((taps, range), plane) in small.iter().zip(ranges).zip(planes) {
        let texels = field.rows::<CHANNELS>(range);
        let n = texels.len() / sizes.n_expression;
        for (g, texels) in g_mix.iter_mut().zip(texels.chunks_exact(n)) {
            let value = taps.read(texels);
            let mut sum = *g;
            for (channel, v) in plane.iter().zip(value) {
                add_scaled(&mut sum, v, channel);
            }
            *g = sum;
        }
    }
}

/// Returns the derivatives of the colors with respect to the warp's offset at one sample, per
/// canonical unit along `x` and `y`.
#[inline(always)]
fn offset_derivatives(
    field: Field<'_>,
    folded: &FoldedField,
    sample: &TapedSample,
    planes: &PlaneDerivatives,
) -> [Colors; 2] {
    let (sizes, head) = (field.sizes, &field.sizes.head);
    let (fine, coarse) = ((sizes.plane_xy - 1) as f32, (sizes.plane_z - 1) as f32);
    let scale = [0, 1].map(|axis| 1.0 / (head.max[axis] - head.min[axis]));
    let mut along = [[0.0; 4]; 2];
    let mut add =
        |axis: usize, texels: f32, plane: &[Colors; CHANNELS], slope: &[f32; CHANNELS]| {
            for (channel, v) in plane.iter().zip(slope) {
                add_scaled(&mut along[axis], scale[axis] * texels * v, channel);
            }
        };
    let [xy, xz, yz] = &sample.planes.planes;
    let [x, y] = xy.slopes(xy.texels(&folded.xy));
    add(0, fine, &planes[0], &x);
    add(1, fine, &planes[0], &y);
    add(0, coarse, &planes[1], &xz.slopes(xz.texels(&folded.xz))[0]);
    add(1, coarse, &planes[2], &yz.slopes(yz.texels(&folded.yz))[0]);
    along
}

/// Adds the derivatives of the colors with respect to the weight of each warp plane, by way of one
/// sample.
#[inline(always)]
fn add_warp(
    field: Field<'_>,
    sample: &TapedSample,
    offset: &[Colors; 2],
    columns: &mut [Colors; LEARNED_DIMS],
) {
    let n = field.sizes.warp;
    let mut taps = sample.planes.warp;
    // The outermost texels count as zero.
    for (share, at) in taps.shares.iter_mut().zip([0, 1, n, n + 1]) {
        let at = taps.at + at;
        if !((1..n - 1).contains(&(at % n)) && (1..n - 1).contains(&(at / n))) {
            *share = 0.0;
        }
    }
    let planes = field.rows::<2>(&field.layout.warp);
    for (column, plane) in columns.iter_mut().zip(planes.chunks_exact(n * n)) {
        let [dx, dy] = taps.read(plane);
        add_scaled(column, dx, &offset[0]);
        add_scaled(column, dy, &offset[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaceFile;
    use types::{FEATURE_DIMS, Feature, MediaTime};

    /// Compares with finite differences of the definition over a grid of the demo person's image.
    #[test]
    fn the_derivative_matches_finite_differences() {
        let file = FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap();
        let (sizes, layout, mut params) = file.model.into_parts();
        // The derivative leaves out how the code changes the density.
        params[layout.density_expression.clone()].fill(0.0);
        let model = FaceModel::new(sizes, params).unwrap();
        let mut numbers = [0.0; FEATURE_DIMS];
        numbers[5] = 1.2;
        for (i, v) in numbers[6..6 + LEARNED_DIMS].iter_mut().enumerate() {
            *v = (i as f32 * 0.7).sin() * 0.5;
        }
        let backdrop = [0.2, 0.3, 0.4];
        let colors = |numbers: &[f32; FEATURE_DIMS]| -> Vec<[f32; 3]> {
            let inputs =
                model.frame_inputs(&Feature::from_array(MediaTime::ZERO, numbers).unwrap());
            let folded = model.fold(&inputs);
            let frame = FrameField::new(&model, &folded, &inputs);
            let over = |h: crate::HeadSample| {
                std::array::from_fn(|c| h.alpha * h.rgb[c] + (1.0 - h.alpha) * backdrop[c])
            };
            grid().map(|point| frame.trace_head(point, 4).map_or(backdrop, over)).collect()
        };
        let inputs = model.frame_inputs(&Feature::from_array(MediaTime::ZERO, &numbers).unwrap());
        let folded = model.fold(&inputs);
        let frame = FrameField::new(&model, &folded, &inputs);
        let derivative = CodeDerivative::new(&model);
        let derivatives: Vec<[Colors; LEARNED_DIMS]> = grid()
            .map(|point| match frame.march_head(point) {
                Some(ray) => derivative.of_ray(&frame, &ray, &backdrop, 4),
                None => [[0.0; 4]; LEARNED_DIMS],
            })
            .collect();
        for d in 0..LEARNED_DIMS {
            let nudged = |sign: f32| {
                let mut moved = numbers;
                moved[6 + d] += sign * 0.01;
                colors(&moved)
            };
            let (up, down) = (nudged(1.0), nudged(-1.0));
            let (mut error, mut size) = (0.0, 0.0);
            for ((up, down), got) in up.iter().zip(&down).zip(&derivatives) {
                for c in 0..3 {
                    let want = (up[c] - down[c]) / 0.02;
                    error += (got[d][c] - want).powi(2);
                    size += want.powi(2);
                }
            }
            assert!(error < 0.03 * size, "number {d}: {error} of {size}");
        }
    }

    fn grid() -> impl Iterator<Item = [f32; 2]> {
        (0..24 * 24).map(|i| [(i % 24) as f32 / 24.0 + 0.02, (i / 24) as f32 / 24.0 + 0.02])
    }
}
