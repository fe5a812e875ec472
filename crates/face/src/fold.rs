use types::LEARNED_DIMS;

use crate::math::{Texel, between_texels};
use crate::{CHANNELS, FaceModel, FrameInputs, Layout, Sizes};

/// Where each texel of a side lies between two of a smaller picture's: the lower, the upper's share.
pub type Between = Vec<(usize, f32)>;

/// How rows, then columns of a larger picture lie on a smaller one.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsampling {
    /// Of the rows.
    pub rows: Between,
    /// Of the columns.
    pub columns: Between,
    /// Columns of the smaller picture.
    pub small_width: usize,
}

impl Upsampling {
    /// Both of the same extent, align-corners; sizes are (height, width).
    fn new((height, width): (usize, usize), small: (usize, usize)) -> Self {
        let between = |n: usize, small: usize| -> Between {
            (0..n).map(|i| between_texels(i as f32 / (n - 1) as f32, small)).collect()
        };
        Self {
            rows: between(height, small.0),
            columns: between(width, small.1),
            small_width: small.1,
        }
    }

    /// From an expression plane over `x, y` to the base.
    pub fn xy(s: &Sizes) -> Self {
        Self::new((s.plane_xy, s.plane_xy), (s.expression_xy, s.expression_xy))
    }

    /// From an expression plane with `z` to the base.
    pub fn z(s: &Sizes) -> Self {
        Self::new((s.plane_z, s.plane_z), (s.expression_z, s.expression_z))
    }

    /// From an additive plane of the torso to its texture.
    pub fn torso(s: &Sizes) -> Self {
        Self::new((s.torso_height, s.torso_width), (s.torso_blend_height, s.torso_blend_width))
    }
}

/// Zeroes the outermost texels of a picture of `side * side`, so that it fades out at its border.
pub fn clear_border<T: Clone + Default>(texels: &mut [T], side: usize) {
    let Some(last) = side.checked_sub(1) else { return };
    for i in 0..side {
        for at in [i, last * side + i, i * side, i * side + last] {
            texels[at] = T::default();
        }
    }
}

/// The field of one frame: base plus the code's mixture of the small planes, everywhere.
///
/// Arrays as in [`Layout`], texels grouped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldedField {
    /// `[plane_xy][plane_xy]`: rows are `y`.
    pub xy: Vec<Texel>,
    /// `[plane_z][plane_z]`: rows are `z`, columns `x`.
    pub xz: Vec<Texel>,
    /// `[plane_z][plane_z]`: rows are `z`, columns `y`.
    pub yz: Vec<Texel>,
    /// `[density; 3]`: `z`, `y`, `x`; logits, a quarter of the log density.
    pub density: Vec<f32>,
    /// `[warp][warp]`: offsets of `x, y` in canonical space; its outermost texels are zero.
    pub warp: Vec<[f32; 2]>,
    /// `[torso_height][torso_width]`: red, green, blue, alpha logit.
    pub torso: Vec<[f32; 4]>,
}

impl FaceModel {
    /// Mixes the field of one frame; see [`fold`].
    pub fn fold(&self, inputs: &FrameInputs) -> FoldedField {
        let mut folded = FoldedField::default();
        fold(self.sizes(), self.layout(), self.params(), inputs, &mut folded);
        folded
    }
}

/// Mixes the field of one frame into `folded`, whose buffers are reused.
///
/// With `up` the bilinear (trilinear) upsampling to the size of the base, align-corners:
/// - each plane = base + up(Σₖ `plane_mix[k]` · expression plane k);
/// - density = base + up(Σₖ `density_mix[k]` · expression grid k);
/// - warp = Σₖ `warp_mix[k]` · warp plane k, and zero in the outermost texels;
/// - torso = base + up(Σₖ `torso_mix[k]` · additive plane k).
pub fn fold(
    sizes: &Sizes,
    layout: &Layout,
    params: &[f32],
    inputs: &FrameInputs,
    folded: &mut FoldedField,
) {
    let mut torso = std::mem::take(&mut folded.torso);
    let fold_torso = || {
        let up = Upsampling::torso(sizes);
        let base = &params[layout.torso.clone()];
        add_upsampled(base, &mix_torso(layout, params, inputs), &up, &mut torso);
    };
    // Of about the same size.
    rayon::join(fold_torso, || fold_head(sizes, layout, params, inputs, folded));
    folded.torso = torso;
}

/// Σₖ `torso_mix[k]` · additive plane k, `[torso_blend_height][torso_blend_width]`.
pub fn mix_torso(layout: &Layout, params: &[f32], inputs: &FrameInputs) -> Vec<[f32; 4]> {
    mix(&params[layout.torso_blend.clone()], &inputs.torso_mix)
}

/// [`fold`] without the torso, which stays as it was.
pub fn fold_head(
    sizes: &Sizes,
    layout: &Layout,
    params: &[f32],
    inputs: &FrameInputs,
    folded: &mut FoldedField,
) {
    let s = sizes;
    let p = |range: &std::ops::Range<usize>| &params[range.clone()];
    let (xy, z) = (Upsampling::xy(s), Upsampling::z(s));
    for (base, small, up, out) in [
        (&layout.plane_xy, &layout.expression_xy, &xy, &mut folded.xy),
        (&layout.plane_xz, &layout.expression_xz, &z, &mut folded.xz),
        (&layout.plane_yz, &layout.expression_yz, &z, &mut folded.yz),
    ] {
        add_upsampled(p(base), &mix::<CHANNELS>(p(small), &inputs.plane_mix), up, out);
    }
    folded.warp = mix::<2>(p(&layout.warp), &inputs.warp_mix);
    debug_assert_eq!(inputs.warp_mix.len(), LEARNED_DIMS);
    clear_border(&mut folded.warp, s.warp);
    let mixed: Vec<f32> = mix::<1>(p(&layout.density_expression), &inputs.density_mix)
        .into_iter()
        .flatten()
        .collect();
    let (n, m) = (s.density, s.density_expression);
    folded.density.clear();
    folded.density.extend_from_slice(p(&layout.density));
    let taps: Vec<_> = (0..n).map(|i| between_texels(i as f32 / (n - 1) as f32, m)).collect();
    let mut rows = vec![0.0_f32; m * m];
    let mut row = vec![0.0_f32; m];
    for (z, layer) in folded.density.chunks_exact_mut(n * n).enumerate() {
        let (z0, fz) = taps[z];
        blend(&mut rows, &mixed[z0 * m * m..], &mixed[(z0 + 1) * m * m..], fz);
        for (y, line) in layer.chunks_exact_mut(n).enumerate() {
            let (y0, fy) = taps[y];
            blend(&mut row, &rows[y0 * m..], &rows[(y0 + 1) * m..], fy);
            for (value, &(x0, fx)) in line.iter_mut().zip(&taps) {
                *value += row[x0] + (row[x0 + 1] - row[x0]) * fx;
            }
        }
    }
}

/// `out = a + (b - a) * share`.
fn blend(out: &mut [f32], a: &[f32], b: &[f32], share: f32) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        *o = a + (b - a) * share;
    }
}

/// Σₖ `weights[k]` · `pictures[k]`, as texels of `N` channels.
fn mix<const N: usize>(pictures: &[f32], weights: &[f32]) -> Vec<[f32; N]> {
    let n = pictures.len() / weights.len();
    let mut sum = vec![0.0_f32; n];
    for (picture, weight) in pictures.chunks_exact(n).zip(weights) {
        for (s, v) in sum.iter_mut().zip(picture) {
            *s += weight * v;
        }
    }
    sum.chunks_exact(N).map(|c| c.try_into().expect("chunks of N are N long")).collect()
}

/// `out = base + up(small)`.
fn add_upsampled<const N: usize>(
    base: &[f32],
    small: &[[f32; N]],
    up: &Upsampling,
    out: &mut Vec<[f32; N]>,
) {
    let Upsampling { rows, columns, small_width } = up;
    out.clear();
    out.reserve(rows.len() * columns.len());
    let mut row = vec![[0.0_f32; N]; *small_width];
    for (line, &(y0, fy)) in base.chunks_exact(columns.len() * N).zip(rows) {
        for (x, texel) in row.iter_mut().enumerate() {
            let (a, b) = (&small[y0 * small_width + x], &small[(y0 + 1) * small_width + x]);
            for c in 0..N {
                texel[c] = a[c] + (b[c] - a[c]) * fy;
            }
        }
        out.extend(line.chunks_exact(N).zip(columns).map(|(base, &(x0, fx))| {
            let (a, b) = (&row[x0], &row[x0 + 1]);
            std::array::from_fn(|c| base[c] + a[c] + (b[c] - a[c]) * fx)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Code, Feature, HeadPose, MediaTime};

    #[test]
    fn upsampling_keeps_corners_and_is_straight_between() {
        let mut out = Vec::new();
        let up = Upsampling::new((3, 3), (2, 2));
        add_upsampled::<1>(&[0.0; 9], &[[0.0], [2.0], [4.0], [6.0]], &up, &mut out);
        let flat: Vec<f32> = out.into_iter().flatten().collect();
        assert_eq!(flat, [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn with_nothing_mixed_in_the_field_is_its_base() {
        let model = FaceModel::noise(Sizes::tiny(), 3);
        let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::Z).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let mut inputs = model.frame_inputs(&feature);
        inputs.plane_mix.fill(0.0);
        inputs.density_mix.fill(0.0);
        inputs.torso_mix.fill(0.0);
        let folded = model.fold(&inputs);
        let base = &model.params()[model.layout().density.clone()];
        assert_eq!(folded.density, base);
        assert_eq!(folded.xy.as_flattened(), &model.params()[model.layout().plane_xy.clone()]);
        assert!(folded.warp.iter().all(|w| *w == [0.0; 2]));
    }
}
