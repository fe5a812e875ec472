//! Sizes of a baseline field and the layout of its parameters.

use std::ops::Range;

use types::{CODE_DIMS, EXPRESSION_DIMS, FOCAL, POSE_DIMS, TORSO_DIMS};

/// Length of the consistency code, a learned vector that head and torso share.
pub(crate) const SHARED_DIMS: usize = 16;
/// Factor that brings the torso track (about ±0.05) to the scale of the other network inputs.
pub(crate) const TORSO_INPUT_SCALE: f32 = 20.0;
/// Octaves in the positional encoding of a position.
pub(crate) const POSITION_OCTAVES: usize = 10;
/// Octaves in the positional encoding of a direction.
pub(crate) const DIRECTION_OCTAVES: usize = 4;
/// Length of an encoded position: the position, then sine and cosine of each axis per octave.
pub(crate) const POSITION_INPUTS: usize = 3 + 6 * POSITION_OCTAVES;
/// Length of an encoded direction.
pub(crate) const DIRECTION_INPUTS: usize = 3 + 6 * DIRECTION_OCTAVES;
/// Largest width of a trunk.
pub(crate) const MAX_CLASSIC_WIDTH: usize = 256;
/// Largest number of coarse, of fine, and of torso samples on a ray.
pub(crate) const MAX_CLASSIC_SAMPLES: usize = 128;
/// Trunk widths are multiples of this, so that each row of the trunk and of its half as wide
/// branch consists of whole SIMD vectors.
const WIDTH_STEP: usize = 32;
/// Columns of the color layer in the matrix products of the training: three colors, zero padding.
pub(crate) const COLORS_PADDED: usize = 16;

/// Sizes and camera constants of a baseline field, stored in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicSizes {
    /// Length of the code: 24 learned numbers or all 79 expression coefficients, then the 6
    /// numbers of the torso track.
    pub code: usize,
    /// Width of the trunk's layers, a multiple of 32 up to 256. The color branch is half as wide.
    pub width: usize,
    /// Number of layers in the trunk, 1 to 12.
    pub depth: usize,
    /// Index (from 0) of the layer that reads position and codes a second time; 0 for none.
    pub skip: usize,
    /// Samples on a ray in the head's coarse pass, 2 to 128.
    pub coarse: usize,
    /// Samples that the fine pass adds to the coarse ones, up to 128; 0 disables the fine pass.
    pub fine: usize,
    /// Samples on a ray in the torso's pass, 2 to 128.
    pub torso: usize,
    /// Side of the background picture in pixels, 2 to 1024.
    pub background: usize,
    /// Focal length in units of the picture's side.
    pub focal: f32,
    /// How far in front of the head's origin sampling begins, in canonical units. For the torso,
    /// how far in front of `torso_distance`.
    pub near: f32,
    /// How far behind the same point sampling ends, in canonical units.
    pub far: f32,
    /// Distance of the torso from the camera in canonical units. Training sets it to the mean
    /// distance of the head.
    pub torso_distance: f32,
    /// Mean of the training poses: rotation vector in radians, translation in meters.
    pub pose_mean: [f32; POSE_DIMS],
    /// Inverse standard deviation of the training poses.
    pub pose_scale: [f32; POSE_DIMS],
}

impl ClassicSizes {
    /// Sizes that two CPU cores can train in 15 minutes.
    pub fn small() -> Self {
        Self {
            code: CODE_DIMS,
            width: 64,
            depth: 4,
            skip: 0,
            coarse: 24,
            fine: 32,
            torso: 16,
            background: 256,
            focal: FOCAL,
            near: 1.3,
            far: 1.7,
            torso_distance: 12.0,
            pose_mean: [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            pose_scale: [1.0; POSE_DIMS],
        }
    }

    /// Sizes of the paper: 8 layers of width 256, the position again at the fifth, 64 coarse and
    /// 128 fine samples. Training takes days on a GPU.
    pub fn full() -> Self {
        Self { width: 256, depth: 8, skip: 4, coarse: 64, fine: 128, torso: 64, ..Self::small() }
    }

    /// Smallest useful sizes, for tests.
    pub fn tiny() -> Self {
        Self {
            width: 32,
            depth: 3,
            skip: 2,
            coarse: 6,
            fine: 5,
            torso: 4,
            background: 16,
            ..Self::small()
        }
    }

    /// Returns the width of the color branch.
    pub fn branch(&self) -> usize {
        self.width / 2
    }

    /// Returns the length of the head networks' per-frame input: code and consistency code.
    pub fn head_condition(&self) -> usize {
        self.code + SHARED_DIMS
    }

    /// Returns the length of the torso network's per-frame input: code, consistency code and pose.
    pub fn torso_condition(&self) -> usize {
        self.code + SHARED_DIMS + POSE_DIMS
    }

    /// Returns the number of network evaluations on one ray: the coarse pass, the fine pass (which
    /// evaluates the coarse samples again) and the torso.
    pub fn samples_a_ray(&self) -> usize {
        let fine = if self.fine == 0 { 0 } else { self.coarse + self.fine };
        self.coarse + fine + self.torso
    }

    /// Returns the number of multiply-adds in all networks for a picture of `side` by `side`
    /// pixels.
    ///
    /// As in [`crate::render_classic`], products with the codes are counted once per frame and
    /// those with the direction once per ray.
    pub fn multiply_adds(&self, side: u32) -> u64 {
        let (width, branch) = (self.width as u64, self.branch() as u64);
        let inner = (self.depth as u64 - 1) * width * width;
        let skip = if self.skip == 0 { 0 } else { POSITION_INPUTS as u64 * width };
        let trunk = POSITION_INPUTS as u64 * width + inner + skip;
        let sample = trunk + width + width * branch + 3 * branch;
        let n_nets = if self.fine == 0 { 2 } else { 3 };
        let ray = self.samples_a_ray() as u64 * sample + n_nets * DIRECTION_INPUTS as u64 * branch;
        let n_reads = if self.skip == 0 { 1 } else { 2 };
        let heads = (n_nets - 1) * self.head_condition() as u64;
        let frame = n_reads * width * (heads + self.torso_condition() as u64);
        u64::from(side).pow(2) * ray + frame
    }

    /// Returns whether every size is within the limits of the format.
    pub(crate) fn is_valid(&self) -> bool {
        let codes = [CODE_DIMS, EXPRESSION_DIMS + TORSO_DIMS];
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        codes.contains(&self.code)
            && (WIDTH_STEP..=MAX_CLASSIC_WIDTH).contains(&self.width)
            && self.width.is_multiple_of(WIDTH_STEP)
            && (1..=12).contains(&self.depth)
            && self.skip < self.depth
            && (2..=MAX_CLASSIC_SAMPLES).contains(&self.coarse)
            && (0..=MAX_CLASSIC_SAMPLES).contains(&self.fine)
            && (2..=MAX_CLASSIC_SAMPLES).contains(&self.torso)
            && (2..=1024).contains(&self.background)
            && (0.5..=20.0).contains(&self.focal)
            && (0.1..=5.0).contains(&self.near)
            && (0.1..=5.0).contains(&self.far)
            && (self.near..=1000.0).contains(&self.torso_distance)
            && finite(&self.pose_mean)
            && finite(&self.pose_scale)
    }
}

/// Parameter ranges of one layer of a trunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LayerLayout {
    /// `[width][width]`; empty in the first layer.
    pub hidden: Range<usize>,
    /// `[POSITION_INPUTS][width]`; empty except in the first layer and the skip layer.
    pub position: Range<usize>,
    /// `[condition][width]`; empty in the same layers as `position`.
    pub condition: Range<usize>,
    /// `[width]`
    pub bias: Range<usize>,
}

/// Parameter ranges of one network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetLayout {
    /// The layers of the trunk, `[depth]`.
    pub layers: Vec<LayerLayout>,
    /// `[width]`
    pub density: Range<usize>,
    /// `[1]`
    pub density_bias: Range<usize>,
    /// `[width][branch]`
    pub branch: Range<usize>,
    /// `[DIRECTION_INPUTS][branch]`
    pub branch_direction: Range<usize>,
    /// `[branch]`
    pub branch_bias: Range<usize>,
    /// `[branch][3]`
    pub color: Range<usize>,
    /// `[3]`
    pub color_bias: Range<usize>,
}

/// Position of each part of a baseline field in its one parameter array.
///
/// All arrays are row-major, the last index fastest; weights of a layer are `[inputs][outputs]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassicLayout {
    /// Networks of the head: coarse, then fine unless the fine pass is disabled.
    pub heads: Vec<NetLayout>,
    /// Network of the torso.
    pub torso: NetLayout,
    /// `[SHARED_DIMS]`, the consistency code.
    pub shared: Range<usize>,
    /// Number of parameters.
    pub len: usize,
}

impl ClassicLayout {
    /// Lays out the parameters of a field of these sizes.
    pub(crate) fn new(s: &ClassicSizes) -> Self {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            at - n..at
        };
        let mut net = |condition: usize| NetLayout {
            layers: (0..s.depth)
                .map(|layer| {
                    let reads_inputs = usize::from(layer == 0 || layer == s.skip);
                    LayerLayout {
                        hidden: take(if layer == 0 { 0 } else { s.width * s.width }),
                        position: take(reads_inputs * POSITION_INPUTS * s.width),
                        condition: take(reads_inputs * condition * s.width),
                        bias: take(s.width),
                    }
                })
                .collect(),
            density: take(s.width),
            density_bias: take(1),
            branch: take(s.width * s.branch()),
            branch_direction: take(DIRECTION_INPUTS * s.branch()),
            branch_bias: take(s.branch()),
            color: take(s.branch() * 3),
            color_bias: take(3),
        };
        let n_heads = if s.fine == 0 { 1 } else { 2 };
        let heads = (0..n_heads).map(|_| net(s.head_condition())).collect();
        let torso = net(s.torso_condition());
        Self { heads, torso, shared: take(SHARED_DIMS), len: at }
    }

    /// Returns each network with the length of its per-frame input: heads, then torso.
    pub(crate) fn nets<'a>(
        &'a self,
        s: &ClassicSizes,
    ) -> impl Iterator<Item = (&'a NetLayout, usize)> + use<'a> {
        let (head, torso) = (s.head_condition(), s.torso_condition());
        self.heads.iter().map(move |net| (net, head)).chain([(&self.torso, torso)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_without_gaps_or_overlaps() {
        for sizes in [ClassicSizes::tiny(), ClassicSizes::small(), ClassicSizes::full()] {
            assert!(sizes.is_valid());
            let layout = ClassicLayout::new(&sizes);
            let mut at = 0;
            for (net, _) in layout.nets(&sizes) {
                let layers = net.layers.iter();
                let trunk = layers.flat_map(|l| [&l.hidden, &l.position, &l.condition, &l.bias]);
                let rest = [
                    &net.density,
                    &net.density_bias,
                    &net.branch,
                    &net.branch_direction,
                    &net.branch_bias,
                    &net.color,
                    &net.color_bias,
                ];
                for part in trunk.chain(rest) {
                    assert_eq!(part.start, at);
                    at = part.end;
                }
            }
            assert_eq!(layout.shared.start, at);
            assert_eq!(layout.shared.end, layout.len);
        }
    }

    #[test]
    fn multiply_adds_equal_a_count_by_hand() {
        let sizes = ClassicSizes { skip: 0, ..ClassicSizes::tiny() };
        // Layers 63 -> 32 -> 32 -> 32, density 32 -> 1, color 32 -> 16 -> 3.
        let sample = 63 * 32 + 2 * 32 * 32 + 32 + 32 * 16 + 3 * 16;
        // 6 coarse samples, 11 coarse and fine, 4 torso; three encoded directions of 27 numbers.
        let ray = (6 + 11 + 4) * sample + 3 * 27 * 16;
        let frame = 32 * (2 * (30 + 16) + 30 + 16 + 6);
        assert_eq!(sizes.multiply_adds(2), (4 * ray + frame) as u64);
        let coarse_only = ClassicSizes { fine: 0, ..sizes };
        let ray = (6 + 4) * sample + 2 * 27 * 16;
        assert_eq!(coarse_only.multiply_adds(1), (ray + 32 * (2 * (30 + 16) + 6)) as u64);
    }

    #[test]
    fn sizes_outside_the_format_are_invalid() {
        let good = ClassicSizes::tiny;
        for bad in [
            ClassicSizes { width: 48, ..good() },
            ClassicSizes { width: 512, ..good() },
            ClassicSizes { depth: 0, skip: 0, ..good() },
            ClassicSizes { skip: 3, ..good() },
            ClassicSizes { coarse: 1, ..good() },
            ClassicSizes { fine: 129, ..good() },
            ClassicSizes { code: 31, ..good() },
            ClassicSizes { focal: f32::NAN, ..good() },
            ClassicSizes { near: f32::INFINITY, ..good() },
            ClassicSizes { pose_mean: [f32::NAN; 6], ..good() },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
