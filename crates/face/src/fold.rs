//! Folding: mixes the field of one frame from the code.

use types::LEARNED_DIMS;

use crate::frame_inputs::FrameInputs;
use crate::model::{FaceModel, Field};
use crate::sizes::{CHANNELS, Sizes};
use crate::taps::{Texel, between_texels};

/// Interpolation weights from a small grid to a larger one: bilinear, align-corners.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsampling {
    /// For each row of the large grid, `(i, share)`: it is `(1 - share)` times row `i` of the small
    /// grid plus `share` times row `i + 1`.
    pub rows: Vec<(usize, f32)>,
    /// The same for each column of the large grid.
    pub columns: Vec<(usize, f32)>,
    /// Columns of the small grid.
    pub small_width: usize,
}

impl Upsampling {
    /// Returns the upsampling of a `small` grid to a large one, both (height, width).
    fn new((height, width): (usize, usize), small: (usize, usize)) -> Self {
        let axis = |n: usize, small: usize| -> Vec<(usize, f32)> {
            (0..n).map(|i| between_texels(i as f32 / (n - 1) as f32, small)).collect()
        };
        Self { rows: axis(height, small.0), columns: axis(width, small.1), small_width: small.1 }
    }

    /// Returns the upsampling of an expression plane over `x, y` to the base plane.
    pub fn xy(s: &Sizes) -> Self {
        Self::new((s.plane_xy, s.plane_xy), (s.expression_xy, s.expression_xy))
    }

    /// Returns the upsampling of an expression plane over `x, z` or `y, z` to the base plane.
    pub fn z(s: &Sizes) -> Self {
        Self::new((s.plane_z, s.plane_z), (s.expression_z, s.expression_z))
    }

    /// Returns the upsampling of an expression grid of the density to the density, the same along
    /// all three axes.
    pub fn density(s: &Sizes) -> Self {
        Self::new((s.density, s.density), (s.density_expression, s.density_expression))
    }

    /// Returns the upsampling of an additive torso plane to the torso texture.
    pub fn torso(s: &Sizes) -> Self {
        Self::new((s.torso_height, s.torso_width), (s.torso_blend_height, s.torso_blend_width))
    }

    /// Returns the four small texels that texel `at` of the large grid is blended from, and their
    /// shares.
    #[inline(always)]
    pub(crate) fn taps(&self, at: usize) -> [(usize, f32); 4] {
        let (y, fy) = self.rows[at / self.columns.len()];
        let (x, fx) = self.columns[at % self.columns.len()];
        let first = y * self.small_width + x;
        [
            (first, (1.0 - fx) * (1.0 - fy)),
            (first + 1, fx * (1.0 - fy)),
            (first + self.small_width, (1.0 - fx) * fy),
            (first + self.small_width + 1, fx * fy),
        ]
    }
}

/// Field of one frame: each base plus the code's mixture of the small planes.
///
/// Shapes as in [`Layout`](crate::Layout), with the channels of a texel grouped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldedField {
    /// `[plane_xy][plane_xy]`: rows along `y`, columns along `x`.
    pub xy: Vec<Texel>,
    /// `[plane_z][plane_z]`: rows along `z`, columns along `x`.
    pub xz: Vec<Texel>,
    /// `[plane_z][plane_z]`: rows along `z`, columns along `y`.
    pub yz: Vec<Texel>,
    /// `[density; 3]`, indexed `z`, `y`, `x`: logits. The natural logarithm of the density is four
    /// times the logit ([`LOGIT_SCALE`](crate::LOGIT_SCALE)).
    pub density: Vec<f32>,
    /// `[warp][warp]`: offsets of `x, y`, canonical units. The outermost texels are zero.
    pub warp: Vec<[f32; 2]>,
    /// `[torso_height][torso_width]`: red, green, blue (sRGB, 0..=1), logit of alpha.
    pub torso: Vec<[f32; 4]>,
}

impl FoldedField {
    /// Sets the outermost texels of the warp to zero, so that it fades out at the border of its
    /// box.
    pub fn clear_warp_border(&mut self, sizes: &Sizes) {
        let (side, last) = (sizes.warp, sizes.warp - 1);
        for i in 0..side {
            for at in [i, last * side + i, i * side, i * side + last] {
                self.warp[at] = [0.0; 2];
            }
        }
    }
}

impl FaceModel {
    /// Returns the field of one frame.
    ///
    /// With `up` the bilinear (trilinear) upsampling to the size of the base:
    /// - each plane = base + up(Σₖ `plane_mix[k]` · expression plane k);
    /// - density = base + up(Σₖ `density_mix[k]` · expression grid k);
    /// - warp = Σₖ `warp_mix[k]` · warp plane k, and zero in the outermost texels;
    /// - torso = base + up(Σₖ `torso_mix[k]` · additive plane k).
    ///
    /// Linear combination of basis volumes by expression: Gao et al. 2022, "Reconstructing
    /// Personalized Semantic Facial `NeRF` Models From Monocular Video", section 3
    /// (arXiv:2210.06108).
    pub fn fold(&self, inputs: &FrameInputs) -> FoldedField {
        let mut folded = FoldedField::default();
        self.fold_into(inputs, &mut folded);
        folded
    }

    /// Writes the field of one frame into `folded`, reusing its buffers; see [`FaceModel::fold`].
    pub fn fold_into(&self, inputs: &FrameInputs, folded: &mut FoldedField) {
        let field = self.field();
        let mut torso = std::mem::take(&mut folded.torso);
        let fold_torso = || {
            let up = Upsampling::torso(field.sizes);
            let base = field.part(&field.layout.torso);
            add_upsampled(base, &mix_torso(field, inputs), &up, &mut torso);
        };
        // Both halves take about the same time.
        rayon::join(fold_torso, || fold_head(field, inputs, folded));
        folded.torso = torso;
    }
}

/// Returns Σₖ `torso_mix[k]` · additive torso plane k, `[torso_blend_height][torso_blend_width]`.
pub(crate) fn mix_torso(field: Field<'_>, inputs: &FrameInputs) -> Vec<[f32; 4]> {
    mix(field.part(&field.layout.torso_blend), &inputs.torso_mix)
}

/// Writes the field of one frame except its torso; see [`FaceModel::fold`].
pub(crate) fn fold_head(field: Field<'_>, inputs: &FrameInputs, folded: &mut FoldedField) {
    let (s, l) = (field.sizes, field.layout);
    let p = |range: &std::ops::Range<usize>| field.part(range);
    let (xy, z) = (Upsampling::xy(s), Upsampling::z(s));
    for (base, small, up, out) in [
        (&l.plane_xy, &l.expression_xy, &xy, &mut folded.xy),
        (&l.plane_xz, &l.expression_xz, &z, &mut folded.xz),
        (&l.plane_yz, &l.expression_yz, &z, &mut folded.yz),
    ] {
        add_upsampled(p(base), &mix::<CHANNELS>(p(small), &inputs.plane_mix), up, out);
    }
    folded.warp = mix::<2>(p(&l.warp), &inputs.warp_mix);
    debug_assert_eq!(inputs.warp_mix.len(), LEARNED_DIMS);
    folded.clear_warp_border(s);
    let mixed: Vec<f32> =
        mix::<1>(p(&l.density_expression), &inputs.density_mix).into_iter().flatten().collect();
    let (n, m) = (s.density, s.density_expression);
    folded.density.clear();
    folded.density.extend_from_slice(p(&l.density));
    let taps = Upsampling::density(s).rows;
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

/// Computes `out = a + (b - a) * share`.
fn blend(out: &mut [f32], a: &[f32], b: &[f32], share: f32) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        *o = a + (b - a) * share;
    }
}

/// Returns Σₖ `weights[k]` · `grids[k]`, as texels of `N` channels.
fn mix<const N: usize>(grids: &[f32], weights: &[f32]) -> Vec<[f32; N]> {
    let n = grids.len() / weights.len();
    let mut sum = vec![0.0_f32; n];
    for (grid, weight) in grids.chunks_exact(n).zip(weights) {
        for (s, v) in sum.iter_mut().zip(grid) {
            *s += weight * v;
        }
    }
    sum.chunks_exact(N).map(|c| c.try_into().expect("chunks of N are N long")).collect()
}

/// Computes `out = base + up(small)`.
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
    fn upsampling_keeps_corners_and_is_linear_between() {
        let mut out = Vec::new();
        let up = Upsampling::new((3, 3), (2, 2));
        add_upsampled::<1>(&[0.0; 9], &[[0.0], [2.0], [4.0], [6.0]], &up, &mut out);
        let flat: Vec<f32> = out.into_iter().flatten().collect();
        assert_eq!(flat, [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn with_zero_weights_the_field_is_its_base() {
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
