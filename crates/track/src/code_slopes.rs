use face::{
    CHANNELS, FaceModel, FoldedField, FrameInputs, HIDDEN, HeadRay, LOGIT_SCALE, MEAN_FLOOR,
    SHADE_INPUTS, Taps, Texel, add_scaled, place_samples, sample_opacity, shade, shade_inputs,
};
use types::LEARNED_DIMS;

/// Red, green, blue, and a lane that fills the register.
pub(crate) type Colors = [f32; 4];

/// Most samples on a ray whose slopes are asked for.
const MAX_SAMPLES: usize = 8;
/// More expression planes than this no field has.
const MAX_MIX: usize = 32;
/// [`SHADE_INPUTS`], up to whole registers.
const PADDED_INPUTS: usize = SHADE_INPUTS.next_multiple_of(8);

/// The shading network's weights as its backward pass reads them: a row for each output.
pub(crate) struct BackwardShading {
    w2: [[f32; HIDDEN]; HIDDEN],
    w1: [[f32; PADDED_INPUTS]; HIDDEN],
    code: [[f32; LEARNED_DIMS]; HIDDEN],
}

impl BackwardShading {
    pub(crate) fn of(model: &FaceModel) -> Self {
        let part =
            |range: &std::ops::Range<usize>| model.params()[range.clone()].as_chunks::<HIDDEN>().0;
        let l = model.layout();
        let mut turned = Self {
            w2: [[0.0; HIDDEN]; HIDDEN],
            w1: [[0.0; PADDED_INPUTS]; HIDDEN],
            code: [[0.0; LEARNED_DIMS]; HIDDEN],
        };
        for j in 0..HIDDEN {
            for (i, row) in part(&l.shade_w2).iter().enumerate() {
                turned.w2[j][i] = row[j];
            }
            for (i, row) in part(&l.shade_w1).iter().enumerate() {
                turned.w1[j][i] = row[j];
            }
            for (i, row) in part(&l.shade_code).iter().take(LEARNED_DIMS).enumerate() {
                turned.code[j][i] = row[j];
            }
        }
        turned
    }
}

/// One sample and what was read there.
#[derive(Clone, Copy)]
struct Reading {
    point: [f32; 3],
    uvw: [f32; 3],
    planes: [Taps; 3],
    values: [Texel; 3],
    feature: Texel,
    opacity: f32,
}

/// How `alpha · rgb + (1 − alpha) · behind` of a ray that meets the head changes for one unit of
/// each learned number.
///
/// Backwards through the shading network, then through warp and expression planes at each sample:
/// a few times the work of the ray alone, whatever the number of unknowns. How the density
/// changes with the code is left out: it moves outlines, which the pose moves far more.
/// `n_samples` is at most [`MAX_SAMPLES`].
#[inline(always)]
pub(crate) fn trace_slopes(
    model: &FaceModel,
    backward: &BackwardShading,
    folded: &FoldedField,
    inputs: &FrameInputs,
    ray: &HeadRay,
    behind: &[f32; 3],
    n_samples: u32,
) -> [Colors; LEARNED_DIMS] {
    let (sizes, layout) = (model.sizes(), model.layout());
    let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
    let n_samples = n_samples.min(MAX_SAMPLES as u32);
    let share = ray.march.mass / n_samples as f32;
    let opacity = part(&layout.opacity);
    let mut points = [[0.0; 3]; MAX_SAMPLES];
    let mut n = 0;
    place_samples(
        &ray.march,
        n_samples,
        #[inline(always)]
        |t| {
            (points[n], _) = ray.at(t);
            n += 1;
        },
    );
    let mut readings = [None; MAX_SAMPLES];
    let (mut sum, mut alpha) = ([0.0; CHANNELS], 0.0);
    for (reading, point) in readings.iter_mut().zip(&points[..n]) {
        let here = read(model, folded, *point, opacity);
        add_scaled(&mut sum, here.opacity * share, &here.feature);
        alpha += here.opacity * share;
        *reading = Some(here);
    }
    let (w2, w3) = (part(&layout.shade_w2), part(&layout.shade_w3));
    let shading = shade(
        part(&layout.shade_w1),
        &inputs.shade_bias,
        w2,
        part(&layout.shade_b2),
        w3,
        part(&layout.shade_b3),
        &shade_inputs(&sum, alpha, ray.direction),
    );

    let w3 = w3.as_chunks::<HIDDEN>().0;
    let inverse = 1.0 / (alpha + MEAN_FLOOR);
    let mut columns = [[0.0; 4]; LEARNED_DIMS];
    // Of each color: gradients of the features' sum and of alpha.
    let mut g_sums = [[0.0; 4]; CHANNELS];
    let mut g_alphas = [0.0; 4];
    for c in 0..3 {
        let g_out = alpha * shading.rgb[c] * (1.0 - shading.rgb[c]);
        let mut g1 = [0.0; HIDDEN];
        // Rectifiers by selection, not by branches: the loops stay in vector registers.
        for ((hidden, w3), w2) in shading.hidden2.iter().zip(&w3[c]).zip(&backward.w2) {
            add_scaled(&mut g1, if *hidden > 0.0 { g_out * w3 } else { 0.0 }, w2);
        }
        for (g, hidden) in g1.iter_mut().zip(&shading.hidden1) {
            *g = if *hidden > 0.0 { *g } else { 0.0 };
        }
        let mut g_in = [0.0; PADDED_INPUTS];
        for (g, w1) in g1.iter().zip(&backward.w1) {
            add_scaled(&mut g_in, *g, w1);
        }
        let mut g_code = [0.0; LEARNED_DIMS];
        for (g, code) in g1.iter().zip(&backward.code) {
            add_scaled(&mut g_code, *g, code);
        }
        g_alphas[c] = shading.rgb[c] - behind[c] + g_in[CHANNELS];
        for i in 0..CHANNELS {
            g_sums[i][c] = g_in[i] * inverse;
            g_alphas[c] -= g_in[i] * sum[i] * inverse * inverse;
        }
        for (column, g) in columns.iter_mut().zip(g_code) {
            column[c] = g;
        }
    }
    let mut g_mix = [[0.0; 4]; MAX_MIX];
    for reading in readings[..n].iter().flatten() {
        let slopes = opacity_slopes(reading, &g_sums, &g_alphas, share, opacity);
        add_mix(model, reading, &slopes, &mut g_mix);
        let along = offset_slopes(model, folded, reading, &slopes);
        add_warp(model, reading, &along, &mut columns);
    }
    let mix = part(&layout.mix);
    for (column, row) in columns.iter_mut().zip(mix.chunks_exact(sizes.n_expression)) {
        for (weight, g) in row.iter().zip(&g_mix) {
            add_scaled(column, *weight, g);
        }
    }
    columns
}

#[inline(always)]
fn read(model: &FaceModel, folded: &FoldedField, point: [f32; 3], opacity: &[f32]) -> Reading {
    let sizes = model.sizes();
    let (face, head) = (&sizes.face, &sizes.head);
    let warp =
        Taps::new(face.relative(0, point[0]), face.relative(1, point[1]), sizes.warp, sizes.warp)
            .read(&folded.warp);
    let uvw = [
        head.relative(0, point[0] + warp[0]),
        head.relative(1, point[1] + warp[1]),
        head.relative(2, point[2]),
    ];
    let planes = taps(uvw, sizes.plane_xy, sizes.plane_z);
    let values =
        [planes[0].read(&folded.xy), planes[1].read(&folded.xz), planes[2].read(&folded.yz)];
    let feature = std::array::from_fn(|i| values[0][i] * values[1][i] * values[2][i]);
    let opacity = sample_opacity(opacity, &feature);
    Reading { point, uvw, planes, values, feature, opacity }
}

/// Where a position lies on the three planes.
#[inline(always)]
fn taps([u, v, w]: [f32; 3], xy: usize, z: usize) -> [Taps; 3] {
    [Taps::new(u, v, xy, xy), Taps::new(u, w, z, z), Taps::new(v, w, z, z)]
}

/// Gradients of the colors with respect to each channel of the three planes' readings.
type PlaneSlopes = [[Colors; CHANNELS]; 3];

#[inline(always)]
fn opacity_slopes(
    s: &Reading,
    g_sums: &[Colors; CHANNELS],
    g_alphas: &Colors,
    share: f32,
    opacity: &[f32],
) -> PlaneSlopes {
    let mut g_logit = *g_alphas;
    for (g, feature) in g_sums.iter().zip(s.feature) {
        add_scaled(&mut g_logit, feature, g);
    }
    let bend = LOGIT_SCALE * share * s.opacity * (1.0 - s.opacity);
    let [a, b, d] = &s.values;
    let mut slopes = [[[0.0; 4]; CHANNELS]; 3];
    for i in 0..CHANNELS {
        let mut g = [0.0; 4];
        add_scaled(&mut g, share * s.opacity, &g_sums[i]);
        add_scaled(&mut g, bend * opacity[i], &g_logit);
        for (slope, others) in slopes.iter_mut().zip([b[i] * d[i], a[i] * d[i], a[i] * b[i]]) {
            add_scaled(&mut slope[i], others, &g);
        }
    }
    slopes
}

/// Adds what each expression plane would do to the colors by way of one sample.
#[inline(always)]
fn add_mix(model: &FaceModel, s: &Reading, slopes: &PlaneSlopes, g_mix: &mut [Colors; MAX_MIX]) {
    let (sizes, layout) = (model.sizes(), model.layout());
    let small = taps(s.uvw, sizes.expression_xy, sizes.expression_z);
    let ranges = [&layout.expression_xy, &layout.expression_xz, &layout.expression_yz];
    for ((taps, range), slopes) in small.iter().zip(ranges).zip(slopes) {
        let texels = model.params()[range.clone()].as_chunks::<CHANNELS>().0;
        let n = texels.len() / sizes.n_expression;
        for (g, plane) in g_mix.iter_mut().zip(texels.chunks_exact(n)) {
            let value = taps.read(plane);
            let mut sum = *g;
            for (slope, v) in slopes.iter().zip(value) {
                add_scaled(&mut sum, v, slope);
            }
            *g = sum;
        }
    }
}

/// Gradients of the colors with respect to the warp's offset at one sample.
#[inline(always)]
fn offset_slopes(
    model: &FaceModel,
    folded: &FoldedField,
    s: &Reading,
    slopes: &PlaneSlopes,
) -> [Colors; 2] {
    let (sizes, head) = (model.sizes(), &model.sizes().head);
    let (fine, coarse) = ((sizes.plane_xy - 1) as f32, (sizes.plane_z - 1) as f32);
    let scale = [0, 1].map(|axis| 1.0 / (head.max[axis] - head.min[axis]));
    let mut along = [[0.0; 4]; 2];
    let mut add = |axis: usize, texels: f32, slopes: &[Colors; CHANNELS], steep: &Texel| {
        for (slope, v) in slopes.iter().zip(steep) {
            add_scaled(&mut along[axis], scale[axis] * texels * v, slope);
        }
    };
    let [x, y] = steepness(&s.planes[0], &folded.xy);
    add(0, fine, &slopes[0], &x);
    add(1, fine, &slopes[0], &y);
    add(0, coarse, &slopes[1], &steepness(&s.planes[1], &folded.xz)[0]);
    add(1, coarse, &slopes[2], &steepness(&s.planes[2], &folded.yz)[0]);
    along
}

/// Adds what each warp plane would do to the colors at one sample.
#[inline(always)]
fn add_warp(
    model: &FaceModel,
    s: &Reading,
    along: &[Colors; 2],
    columns: &mut [Colors; LEARNED_DIMS],
) {
    let (face, n) = (&model.sizes().face, model.sizes().warp);
    let (u, v) = (face.relative(0, s.point[0]), face.relative(1, s.point[1]));
    let mut taps = Taps::new(u, v, n, n);
    // The outermost texels count as zero.
    for (share, at) in taps.shares.iter_mut().zip([0, 1, n, n + 1]) {
        let at = taps.at + at;
        if !((1..n - 1).contains(&(at % n)) && (1..n - 1).contains(&(at / n))) {
            *share = 0.0;
        }
    }
    let planes = model.params()[model.layout().warp.clone()].as_chunks::<2>().0;
    for (column, plane) in columns.iter_mut().zip(planes.chunks_exact(n * n)) {
        let [dx, dy] = taps.read(plane);
        add_scaled(column, dx, &along[0]);
        add_scaled(column, dy, &along[1]);
    }
}

/// How a bilinear reading changes along both axes, per texel.
#[inline(always)]
fn steepness(taps: &Taps, texels: &[Texel]) -> [Texel; 2] {
    let [a, b, c, d] = taps.indices().map(|at| &texels[at]);
    let [fx, fy] = taps.fraction;
    [
        std::array::from_fn(|i| (b[i] - a[i]) * (1.0 - fy) + (d[i] - c[i]) * fy),
        std::array::from_fn(|i| (c[i] - a[i]) * (1.0 - fx) + (d[i] - b[i]) * fx),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::{FaceFile, march_head, trace_head};
    use types::{FEATURE_DIMS, Feature, MediaTime};

    /// Compares with finite differences of the definition, over a grid of the demo person's face.
    #[test]
    fn slopes_are_those_of_finite_differences() {
        let file = FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap();
        let (sizes, layout, mut params) = file.model.into_parts();
        // What is left out must not be there.
        params[layout.density_expression.clone()].fill(0.0);
        let model = FaceModel::new(sizes, params).unwrap();
        let mut numbers = [0.0; FEATURE_DIMS];
        numbers[5] = 1.2;
        for (i, v) in numbers[6..6 + LEARNED_DIMS].iter_mut().enumerate() {
            *v = (i as f32 * 0.7).sin() * 0.5;
        }
        let behind = [0.2, 0.3, 0.4];
        let colors = |numbers: &[f32; FEATURE_DIMS]| -> Vec<[f32; 3]> {
            let inputs =
                model.frame_inputs(&Feature::from_array(MediaTime::ZERO, numbers).unwrap());
            let folded = model.fold(&inputs);
            grid()
                .map(|[x, y]| {
                    trace_head(&model, &folded, &inputs, x, y, 4).map_or(behind, |h| {
                        std::array::from_fn(|c| h.alpha * h.rgb[c] + (1.0 - h.alpha) * behind[c])
                    })
                })
                .collect()
        };
        let inputs = model.frame_inputs(&Feature::from_array(MediaTime::ZERO, &numbers).unwrap());
        let folded = model.fold(&inputs);
        let backward = BackwardShading::of(&model);
        let slopes: Vec<[Colors; LEARNED_DIMS]> = grid()
            .map(|[x, y]| match march_head(&model, &folded, &inputs, x, y) {
                Some(ray) => trace_slopes(&model, &backward, &folded, &inputs, &ray, &behind, 4),
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
            for ((up, down), slope) in up.iter().zip(&down).zip(&slopes) {
                for c in 0..3 {
                    let want = (up[c] - down[c]) / 0.02;
                    error += (slope[d][c] - want).powi(2);
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
