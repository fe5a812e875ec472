//! Mixes the field of a frame: [`face::FaceModel::fold`] on several threads, into reused buffers.

use face::{CHANNELS, FoldedField, FrameInputs, Layout, Sizes, Upsampling};
use rayon::prelude::*;

use crate::mixed::MixedWeights;

/// Widest small plane that the file format allows, texels.
const MAX_SMALL: usize = 128;
/// Rows of a plane, or slices of the density, that one task processes.
const ROWS: usize = 8;
/// Numbers that one task mixes.
const MIXED: usize = 4096;

/// Field of the newest frame, and the weights it was mixed with.
pub(super) struct CpuFolding {
    field: FoldedField,
    plane_mix: MixedWeights,
    density_mix: MixedWeights,
    torso_mix: MixedWeights,
    warp_mix: MixedWeights,
    /// Mixtures of the small planes and grids.
    small: Small,
    xy: Upsampling,
    z: Upsampling,
    torso: Upsampling,
    density: Upsampling,
}

#[derive(Default)]
struct Small {
    xy: Vec<f32>,
    xz: Vec<f32>,
    yz: Vec<f32>,
    density: Vec<f32>,
    /// `density`, upsampled along `x` only.
    density_wide: Vec<f32>,
    torso: Vec<f32>,
}

impl CpuFolding {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let s = sizes;
        let (n, m) = (s.density, s.density_expression);
        Self {
            field: FoldedField {
                xy: vec![[0.0; CHANNELS]; s.plane_xy * s.plane_xy],
                xz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                yz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                density: vec![0.0; n * n * n],
                warp: vec![[0.0; 2]; s.warp * s.warp],
                torso: vec![[0.0; 4]; s.torso_height * s.torso_width],
            },
            plane_mix: MixedWeights::default(),
            density_mix: MixedWeights::default(),
            torso_mix: MixedWeights::default(),
            warp_mix: MixedWeights::default(),
            small: Small {
                xy: vec![0.0; s.expression_xy * s.expression_xy * CHANNELS],
                xz: vec![0.0; s.expression_z * s.expression_z * CHANNELS],
                yz: vec![0.0; s.expression_z * s.expression_z * CHANNELS],
                density: vec![0.0; m * m * m],
                density_wide: vec![0.0; m * m * n],
                torso: vec![0.0; s.torso_blend_height * s.torso_blend_width * 4],
            },
            xy: Upsampling::xy(s),
            z: Upsampling::z(s),
            torso: Upsampling::torso(s),
            density: Upsampling::density(s),
        }
    }

    /// Returns the field as last mixed.
    pub(super) fn field(&self) -> &FoldedField {
        &self.field
    }

    /// Mixes the parts whose weights have changed. Returns whether the density is one of them.
    pub(super) fn update(
        &mut self,
        sizes: &Sizes,
        layout: &Layout,
        params: &[f32],
        inputs: &FrameInputs,
    ) -> bool {
        let p = |range: &std::ops::Range<usize>| &params[range.clone()];
        if self.plane_mix.update(&inputs.plane_mix) {
            let mix = &inputs.plane_mix;
            let (small, field) = (&mut self.small, &mut self.field);
            for (base, expression, up, small, out) in [
                (&layout.plane_xy, &layout.expression_xy, &self.xy, &mut small.xy, &mut field.xy),
                (&layout.plane_xz, &layout.expression_xz, &self.z, &mut small.xz, &mut field.xz),
                (&layout.plane_yz, &layout.expression_yz, &self.z, &mut small.yz, &mut field.yz),
            ] {
                mix_into(p(expression), mix, small);
                add_upsampled(p(base), small.as_chunks().0, up, out);
            }
        }
        if self.torso_mix.update(&inputs.torso_mix) {
            mix_into(p(&layout.torso_blend), &inputs.torso_mix, &mut self.small.torso);
            let small = self.small.torso.as_chunks().0;
            add_upsampled(p(&layout.torso), small, &self.torso, &mut self.field.torso);
        }
        if self.warp_mix.update(&inputs.warp_mix) {
            let warp = &mut self.field.warp;
            mix_into(p(&layout.warp), &inputs.warp_mix, warp.as_flattened_mut());
            self.field.clear_warp_border(sizes);
        }
        let is_dense = self.density_mix.update(&inputs.density_mix);
        if is_dense {
            mix_into(p(&layout.density_expression), &inputs.density_mix, &mut self.small.density);
            self.fold_density(p(&layout.density), sizes.density_expression);
        }
        is_dense
    }

    /// Computes `density = base + up(small)`, first along `x`, while there are few rows.
    fn fold_density(&mut self, base: &[f32], m: usize) {
        let between = &self.density.rows;
        let n = between.len();
        let lines = self.small.density_wide.chunks_exact_mut(n);
        for (line, small) in lines.zip(self.small.density.chunks_exact(m)) {
            for (value, &(x, share)) in line.iter_mut().zip(between) {
                *value = small[x] + (small[x + 1] - small[x]) * share;
            }
        }
        let wide = &self.small.density_wide;
        let layers = self.field.density.par_chunks_mut(n * n).zip(base.par_chunks(n * n));
        layers.zip(between).with_min_len(ROWS).for_each(|((layer, base), &(z, share_z))| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let (near, far) = (&wide[z * m * n..], &wide[(z + 1) * m * n..]);
                    let mut rows = [0.0_f32; 32 * MAX_SMALL];
                    for ((r, a), b) in rows[..m * n].iter_mut().zip(near).zip(far) {
                        *r = a + (b - a) * share_z;
                    }
                    let lines = layer.chunks_exact_mut(n).zip(base.chunks_exact(n));
                    for ((line, base), &(y, share)) in lines.zip(between) {
                        let (a, b) = (&rows[y * n..][..n], &rows[(y + 1) * n..][..n]);
                        for x in 0..n {
                            line[x] = base[x] + (a[x] + (b[x] - a[x]) * share);
                        }
                    }
                },
            );
        });
    }
}

/// Computes `out = Σₖ weights[k] · planes[k]`.
fn mix_into(planes: &[f32], weights: &[f32], out: &mut [f32]) {
    let n = out.len();
    out.par_chunks_mut(MIXED).enumerate().for_each(|(chunk, out)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                out.fill(0.0);
                for (plane, weight) in planes.chunks_exact(n).zip(weights) {
                    for (o, v) in out.iter_mut().zip(&plane[chunk * MIXED..]) {
                        *o += weight * v;
                    }
                }
            },
        );
    });
}

/// Computes `out = base + up(small)`.
fn add_upsampled<const N: usize>(
    base: &[f32],
    small: &[[f32; N]],
    up: &Upsampling,
    out: &mut [[f32; N]],
) {
    let (rows, columns, small_width) = (&up.rows, &up.columns, up.small_width);
    let width = columns.len();
    let base = base.as_chunks::<N>().0;
    let lines = out.par_chunks_mut(width).zip(base.par_chunks(width)).zip(rows);
    lines.with_min_len(ROWS).for_each(|((line, base), &(y, share_y))| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut row = [[0.0_f32; N]; MAX_SMALL];
                let near = &small[y * small_width..][..small_width];
                let far = &small[(y + 1) * small_width..][..small_width];
                for ((r, a), b) in row.iter_mut().zip(near).zip(far) {
                    for c in 0..N {
                        r[c] = a[c] + (b[c] - a[c]) * share_y;
                    }
                }
                for ((o, base), &(x, share)) in line.iter_mut().zip(base).zip(columns) {
                    let (a, b) = (&row[x], &row[x + 1]);
                    for c in 0..N {
                        o[c] = base[c] + (a[c] + (b[c] - a[c]) * share);
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use face::FaceModel;
    use types::{Code, Feature, HeadPose, MediaTime};

    use super::*;

    fn inputs_of(model: &FaceModel, value: f32) -> FrameInputs {
        let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::Z).unwrap();
        let code = Code::new([value; types::CODE_DIMS]).unwrap();
        model.frame_inputs(&Feature { time: MediaTime::ZERO, pose, code })
    }

    #[test]
    fn the_mixture_equals_that_of_the_definition_and_is_made_once() {
        let model = FaceModel::noise(Sizes::tiny(), 5);
        let mut folding = CpuFolding::new(model.sizes());
        for value in [0.0, 0.7, -0.4] {
            let inputs = inputs_of(&model, value);
            let want = model.fold(&inputs);
            let mut update =
                || folding.update(model.sizes(), model.layout(), model.params(), &inputs);
            assert!(update() && !update());
            let got = folding.field();
            let close = |got: &[f32], want: &[f32]| {
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
                }
            };
            close(got.xy.as_flattened(), want.xy.as_flattened());
            close(got.xz.as_flattened(), want.xz.as_flattened());
            close(got.yz.as_flattened(), want.yz.as_flattened());
            close(&got.density, &want.density);
            close(got.warp.as_flattened(), want.warp.as_flattened());
            close(got.torso.as_flattened(), want.torso.as_flattened());
        }
    }
}
