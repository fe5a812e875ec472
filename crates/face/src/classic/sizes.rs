use std::ops::Range;

use types::{CODE_DIMS, EXPRESSION_DIMS, FOCAL, POSE_DIMS, TORSO_DIMS};

use crate::SHARED_DIMS;

/// Octaves of the positional encoding of a position.
pub const POSITION_OCTAVES: usize = 10;
/// Octaves of the positional encoding of a direction.
pub const DIRECTION_OCTAVES: usize = 4;
/// Numbers of an encoded position: itself, then sine and cosine of each axis in each octave.
pub const POSITION_INPUTS: usize = 3 + 6 * POSITION_OCTAVES;
/// Numbers of an encoded direction.
pub const DIRECTION_INPUTS: usize = 3 + 6 * DIRECTION_OCTAVES;
/// Widest trunk that is drawn.
pub const MAX_CLASSIC_WIDTH: usize = 256;
/// Most samples of one kind (coarse, fine, torso) on a ray.
pub const MAX_CLASSIC_SAMPLES: usize = 128;
/// Widths are multiples of this, so that a row is whole vectors everywhere.
const WIDTH_STEP: usize = 32;
/// Columns that faster executions give the three colors.
pub const COLORS_PADDED: usize = 16;

/// Every size of a classic field. They live in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicSizes {
    /// Numbers of the expression code: 24 learned ones, or all 79 coefficients; then 6 of the torso.
    pub code: usize,
    /// Width of the trunk's layers; a multiple of 32. The color branch is half as wide.
    pub width: usize,
    /// Layers of the trunk.
    pub depth: usize,
    /// The layer that hears position and codes again; 0 for none.
    pub skip: usize,
    /// Samples of the head's coarse pass.
    pub coarse: usize,
    /// Samples that the fine pass adds to them; 0 leaves the fine pass out.
    pub fine: usize,
    /// Samples of the torso's pass.
    pub torso: usize,
    /// Side of the background picture.
    pub background: usize,
    /// Focal length in sides of the picture.
    pub focal: f32,
    /// How far before the head's origin, or the torso's distance, rays are first sampled.
    /// Canonical units, as the next two.
    pub near: f32,
    /// How far behind it they are last sampled.
    pub far: f32,
    /// Distance of the torso from the camera: the head's mean one.
    pub torso_distance: f32,
    /// Mean of the enrolled poses: rotation vector, translation in meters.
    pub pose_mean: [f32; POSE_DIMS],
    /// One over the spread of the enrolled poses.
    pub pose_scale: [f32; POSE_DIMS],
}

impl ClassicSizes {
    /// Sizes that two cores can train in a quarter of an hour.
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

    /// The sizes of the networks that the study trains for days on a graphics card: 8 layers of
    /// 256 with the position again at the fifth, 64 and 128 samples.
    pub fn full() -> Self {
        Self { width: 256, depth: 8, skip: 4, coarse: 64, fine: 128, torso: 64, ..Self::small() }
    }

    /// Small sizes for tests.
    pub fn classic_tiny() -> Self {
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

    /// Width of the color branch.
    pub fn branch(&self) -> usize {
        self.width / 2
    }

    /// Numbers that the head's networks hear of a frame: expression code, consistency code.
    pub fn head_condition(&self) -> usize {
        self.code + SHARED_DIMS
    }

    /// Numbers that the torso's network hears of a frame: the same, and the pose.
    pub fn torso_condition(&self) -> usize {
        self.code + SHARED_DIMS + POSE_DIMS
    }

    /// Evaluations of a network for one ray.
    pub fn samples_a_ray(&self) -> usize {
        let fine = if self.fine == 0 { 0 } else { self.coarse + self.fine };
        self.coarse + fine + self.torso
    }

    /// Multiply-adds of the networks for a picture of `side` pixels, as [`crate::render_classic`]
    /// does them: what is the same for a whole frame (codes) or ray (direction) is added once.
    pub fn multiply_adds(&self, side: u32) -> u64 {
        let (width, branch) = (self.width as u64, self.branch() as u64);
        let inner = (self.depth as u64 - 1) * width * width;
        let skip = if self.skip == 0 { 0 } else { POSITION_INPUTS as u64 * width };
        let trunk = POSITION_INPUTS as u64 * width + inner + skip;
        let sample = trunk + width + width * branch + 3 * branch;
        let n_nets = if self.fine == 0 { 2 } else { 3 };
        let ray = self.samples_a_ray() as u64 * sample + n_nets * DIRECTION_INPUTS as u64 * branch;
        let n_heard = if self.skip == 0 { 1 } else { 2 };
        let heads = (n_nets - 1) * self.head_condition() as u64;
        let frame = n_heard * width * (heads + self.torso_condition() as u64);
        u64::from(side).pow(2) * ray + frame
    }

    /// Whether it can be drawn: every size inside what the format allows.
    pub(crate) fn sound(&self) -> bool {
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

/// Where the parameters of one layer of a trunk lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerLayout {
    /// `[width][width]`; empty in the first layer.
    pub hidden: Range<usize>,
    /// `[POSITION_INPUTS][width]`; empty but in the first layer and the one of the skip.
    pub position: Range<usize>,
    /// `[condition][width]`; empty where `position` is.
    pub condition: Range<usize>,
    /// `[width]`
    pub bias: Range<usize>,
}

/// Where the parameters of one network lie.
#[derive(Clone, Debug, PartialEq)]
pub struct NetLayout {
    /// One for each layer of the trunk.
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

/// Where each part of a classic field lies in its one array of parameters.
///
/// All arrays are row-major, the last index fastest; weights of a layer are `[inputs][outputs]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicLayout {
    /// The head's networks: coarse, and fine unless it is left out.
    pub heads: Vec<NetLayout>,
    /// The torso's network.
    pub torso: NetLayout,
    /// `[SHARED_DIMS]`, the consistency code.
    pub shared: Range<usize>,
    /// Number of all parameters.
    pub len: usize,
}

impl ClassicLayout {
    /// The layout of a field of these sizes.
    pub fn new(s: &ClassicSizes) -> Self {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            at - n..at
        };
        let mut net = |condition: usize| NetLayout {
            layers: (0..s.depth)
                .map(|layer| {
                    let heard = usize::from(layer == 0 || layer == s.skip);
                    LayerLayout {
                        hidden: take(if layer == 0 { 0 } else { s.width * s.width }),
                        position: take(heard * POSITION_INPUTS * s.width),
                        condition: take(heard * condition * s.width),
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

    /// The networks with how many numbers of a frame each hears: heads, then torso.
    pub fn nets<'a>(
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
        for sizes in [ClassicSizes::classic_tiny(), ClassicSizes::small(), ClassicSizes::full()] {
            assert!(sizes.sound());
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
    fn multiply_adds_are_what_counting_by_hand_says() {
        let sizes = ClassicSizes { skip: 0, ..ClassicSizes::classic_tiny() };
        // 63 to 32 to 32 to 32; density 32; 32 to 16 to 3.
        let sample = 63 * 32 + 2 * 32 * 32 + 32 + 32 * 16 + 3 * 16;
        // Coarse 6, coarse and fine together 11, torso 4; three directions of 27 numbers.
        let ray = (6 + 11 + 4) * sample + 3 * 27 * 16;
        let frame = 32 * (2 * (30 + 16) + 30 + 16 + 6);
        assert_eq!(sizes.multiply_adds(2), (4 * ray + frame) as u64);
        let coarse_only = ClassicSizes { fine: 0, ..sizes };
        let ray = (6 + 4) * sample + 2 * 27 * 16;
        assert_eq!(coarse_only.multiply_adds(1), (ray + 32 * (2 * (30 + 16) + 6)) as u64);
    }

    #[test]
    fn sizes_outside_the_format_are_not_sound() {
        let good = ClassicSizes::classic_tiny;
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
            assert!(!bad.sound(), "{bad:?}");
        }
    }
}
