use face::{
    CHANNELS, FaceModel, FoldedField, FrameInputs, HIDDEN, HeadSample, LOGIT_SCALE, MEAN_FLOOR,
    MIN_MASS, SHADE_INPUTS, Taps, Texel, add_scaled, head_span, march, place_samples,
    sample_opacity, shade, shade_inputs,
};
use types::LEARNED_DIMS;

/// What a ray meets of the head, and how each learned number changes what is seen there.
pub(crate) struct CodeSlopes {
    pub(crate) head: HeadSample,
    /// Change of `alpha · rgb + (1 − alpha) · behind` for one unit of each number.
    pub(crate) columns: [[f32; 3]; LEARNED_DIMS],
}

/// One sample and the colors' gradients with respect to it.
struct Reading {
    point: [f32; 3],
    uvw: [f32; 3],
    planes: [Taps; 3],
    values: [Texel; 3],
    feature: Texel,
    opacity: f32,
}

/// [`face::trace_head`] with its derivatives by the learned numbers, where `behind` is behind it.
///
/// Backwards through the shading network, then through warp and expression planes at each sample:
/// about six times the work of the ray alone, whatever the number of unknowns. How the density
/// changes with the code is left out: it moves outlines, which the pose moves far more.
#[inline(always)]
pub(crate) fn trace_slopes(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    [x, y]: [f32; 2],
    behind: &[f32; 3],
    n_samples: u32,
) -> Option<CodeSlopes> {
    let (sizes, layout) = (model.sizes(), model.layout());
    let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
    let (origin, direction) = face::ray(inputs, x, y);
    let span = head_span(&sizes.head, origin, direction)?;
    let march = march(sizes, &folded.density, origin, direction, span);
    if march.mass < MIN_MASS {
        return None;
    }
    let share = march.mass / n_samples as f32;
    let opacity = part(&layout.opacity);
    let mut readings = Vec::with_capacity(n_samples as usize);
    let (mut sum, mut alpha, mut depth) = ([0.0; CHANNELS], 0.0, 0.0);
    place_samples(
        &march,
        n_samples,
        #[inline(always)]
        |t| {
            let distance = span.0 + t * (span.1 - span.0);
            let reading = read(model, folded, face::at(origin, direction, distance), opacity);
            add_scaled(&mut sum, reading.opacity * share, &reading.feature);
            alpha += reading.opacity * share;
            depth += distance / n_samples as f32;
            readings.push(reading);
        },
    );
    let (w1, w2, w3) = (part(&layout.shade_w1), part(&layout.shade_w2), part(&layout.shade_w3));
    let shading = shade(
        w1,
        &inputs.shade_bias,
        w2,
        part(&layout.shade_b2),
        w3,
        part(&layout.shade_b3),
        &shade_inputs(&sum, alpha, direction),
    );

    let (w1, w2, w3) =
        (w1.as_chunks::<HIDDEN>().0, w2.as_chunks::<HIDDEN>().0, w3.as_chunks::<HIDDEN>().0);
    let mix = part(&layout.mix);
    let n_mix = sizes.n_expression;
    let shade_code = part(&layout.shade_code).as_chunks::<HIDDEN>().0;
    let warp_planes = part(&layout.warp).as_chunks::<2>().0;
    let inverse = 1.0 / (alpha + MEAN_FLOOR);
    let mut columns = [[0.0; 3]; LEARNED_DIMS];
    // Of each color: gradients of features' sum and alpha; then of warp offset at each sample.
    let mut g_sums = [[0.0; CHANNELS]; 3];
    let mut g_alphas = [0.0; 3];
    for c in 0..3 {
        let g_out = alpha * shading.rgb[c] * (1.0 - shading.rgb[c]);
        let mut g2 = [0.0; HIDDEN];
        for i in 0..HIDDEN {
            g2[i] = if shading.hidden2[i] > 0.0 { g_out * w3[c][i] } else { 0.0 };
        }
        let mut g1 = [0.0; HIDDEN];
        for i in 0..HIDDEN {
            g1[i] = if shading.hidden1[i] > 0.0 { dot(&w2[i], &g2) } else { 0.0 };
        }
        let mut g_in = [0.0; SHADE_INPUTS];
        for (g, row) in g_in.iter_mut().zip(w1) {
            *g = dot(row, &g1);
        }
        g_alphas[c] = shading.rgb[c] - behind[c] + g_in[CHANNELS];
        for i in 0..CHANNELS {
            g_sums[c][i] = g_in[i] * inverse;
            g_alphas[c] -= g_in[i] * sum[i] * inverse * inverse;
        }
        for (column, row) in columns.iter_mut().zip(shade_code) {
            column[c] += dot(row, &g1);
        }
    }
    let mut g_mix = [[0.0_f32; 3]; MAX_MIX];
    for reading in &readings {
        let slopes = opacity_slopes(reading, &g_sums, &g_alphas, share, opacity);
        add_mix(model, reading, &slopes, &mut g_mix);
        let g_offset = offset_slopes(model, folded, reading, &slopes);
        let face = &sizes.face;
        let n = sizes.warp;
        let mut taps =
            Taps::new(face.relative(0, reading.point[0]), face.relative(1, reading.point[1]), n, n);
        for (share, at) in taps.shares.iter_mut().zip([0, 1, n, n + 1]) {
            let at = taps.at + at;
            if !((1..n - 1).contains(&(at % n)) && (1..n - 1).contains(&(at / n))) {
                *share = 0.0;
            }
        }
        for (column, plane) in columns.iter_mut().zip(warp_planes.chunks_exact(n * n)) {
            let offset = taps.read(plane);
            for c in 0..3 {
                column[c] += g_offset[c][0] * offset[0] + g_offset[c][1] * offset[1];
            }
        }
    }
    for (column, row) in columns.iter_mut().zip(mix.chunks_exact(n_mix)) {
        for (weight, g) in row.iter().zip(&g_mix) {
            add_scaled(column, *weight, g);
        }
    }
    Some(CodeSlopes { head: HeadSample { rgb: shading.rgb, alpha, depth }, columns })
}

/// More expression planes than this no field has.
const MAX_MIX: usize = 32;

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

/// Gradients of each color with respect to the three planes' readings of one sample.
#[inline(always)]
fn opacity_slopes(
    s: &Reading,
    g_sums: &[Texel; 3],
    g_alphas: &[f32; 3],
    share: f32,
    opacity: &[f32],
) -> [[Texel; 3]; 3] {
    let [a, b, d] = &s.values;
    std::array::from_fn(|c| {
        let along: f32 = (0..CHANNELS).map(|i| g_sums[c][i] * s.feature[i]).sum();
        let g_logit = share * (along + g_alphas[c]) * s.opacity * (1.0 - s.opacity);
        let g: Texel = std::array::from_fn(|i| {
            share * s.opacity * g_sums[c][i] + LOGIT_SCALE * g_logit * opacity[i]
        });
        [
            std::array::from_fn(|i| g[i] * b[i] * d[i]),
            std::array::from_fn(|i| g[i] * a[i] * d[i]),
            std::array::from_fn(|i| g[i] * a[i] * b[i]),
        ]
    })
}

/// Adds what each expression plane would do to the colors by way of one sample.
#[inline(always)]
fn add_mix(
    model: &FaceModel,
    s: &Reading,
    slopes: &[[Texel; 3]; 3],
    g_mix: &mut [[f32; 3]; MAX_MIX],
) {
    let (sizes, layout) = (model.sizes(), model.layout());
    let small = taps(s.uvw, sizes.expression_xy, sizes.expression_z);
    let ranges = [&layout.expression_xy, &layout.expression_xz, &layout.expression_yz];
    for (p, (taps, range)) in small.iter().zip(ranges).enumerate() {
        let texels = model.params()[range.clone()].as_chunks::<CHANNELS>().0;
        let n = texels.len() / sizes.n_expression;
        for (g, plane) in g_mix.iter_mut().zip(texels.chunks_exact(n)) {
            let value = taps.read(plane);
            for c in 0..3 {
                g[c] += (0..CHANNELS).map(|i| slopes[c][p][i] * value[i]).sum::<f32>();
            }
        }
    }
}

/// Gradients of each color with respect to the warp's offset at one sample.
#[inline(always)]
fn offset_slopes(
    model: &FaceModel,
    folded: &FoldedField,
    s: &Reading,
    slopes: &[[Texel; 3]; 3],
) -> [[f32; 2]; 3] {
    let (sizes, head) = (model.sizes(), &model.sizes().head);
    let xy = steepness(&s.planes[0], &folded.xy);
    let xz = steepness(&s.planes[1], &folded.xz);
    let yz = steepness(&s.planes[2], &folded.yz);
    let (fine, coarse) = ((sizes.plane_xy - 1) as f32, (sizes.plane_z - 1) as f32);
    let scale = [0, 1].map(|axis| 1.0 / (head.max[axis] - head.min[axis]));
    let sum = |a: &Texel, b: &Texel| (0..CHANNELS).map(|i| a[i] * b[i]).sum::<f32>();
    std::array::from_fn(|c| {
        let [g_xy, g_xz, g_yz] = &slopes[c];
        [
            scale[0] * (fine * sum(g_xy, &xy[0]) + coarse * sum(g_xz, &xz[0])),
            scale[1] * (fine * sum(g_xy, &xy[1]) + coarse * sum(g_yz, &yz[0])),
        ]
    })
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

/// Sum of products, eight lanes wide.
#[inline(always)]
fn dot(a: &[f32; HIDDEN], b: &[f32; HIDDEN]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::{FaceFile, trace_head};
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
        let slopes: Vec<[[f32; 3]; LEARNED_DIMS]> = grid()
            .map(|at| {
                trace_slopes(&model, &folded, &inputs, at, &behind, 4)
                    .map_or([[0.0; 3]; LEARNED_DIMS], |s| s.columns)
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
