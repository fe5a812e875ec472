//! Selection of training pixels by face region.

use numerics::SplitMix64;
use types::{Landmarks, SquareFrame};

/// One training pixel.
#[derive(Clone, Copy, Debug)]
pub struct Pixel {
    /// Image coordinates of its center, 0..=1 from the top left.
    pub at: [f32; 2],
    /// Color that the field should have there: sRGB. [`Regions::draw`] returns the color of the
    /// frame, 0..=1; the enrollment then corrects it to the mean exposure of all frames.
    pub rgb: [f32; 3],
    /// Whether it lies well inside the face, where the head is opaque.
    pub in_hull: bool,
}

/// Numbers of training rays for one frame in one step, by region.
#[derive(Clone, Copy, Debug)]
pub struct RayCounts {
    /// Anywhere in the frame.
    pub uniform: usize,
    /// In the box around the head.
    pub head: usize,
    /// Around the mouth.
    pub mouth: usize,
    /// Around both eyes together.
    pub eyes: usize,
}

impl RayCounts {
    /// Returns the sum over all regions.
    pub const fn total(&self) -> usize {
        self.uniform + self.head + self.mouth + self.eyes
    }
}

/// Face regions of one frame, in image space.
#[derive(Clone, Debug)]
pub struct Regions {
    head: Rect,
    mouth: Rect,
    eyes: [Rect; 2],
    /// Convex hull of face and skull, counter-clockwise with y pointing down; empty if the
    /// landmarks are degenerate.
    hull: Vec<[f32; 2]>,
}

#[derive(Clone, Copy, Debug)]
struct Rect {
    min: [f32; 2],
    max: [f32; 2],
}

/// Landmarks of the lips: corners, top, bottom, inner lips.
const LIPS: [usize; 8] = [61, 291, 0, 17, 13, 14, 84, 314];
/// Landmarks around the right and the left eye, including the brows.
const EYES: [[usize; 6]; 2] = [[33, 133, 159, 145, 70, 107], [362, 263, 386, 374, 336, 300]];
/// Share by which the hull is shrunk towards its center, as a margin for tracking errors.
const HULL_SHRINK: f32 = 0.08;

/// Landmarks of the chin and the top of the forehead, and of the temples.
const AXIS: [usize; 2] = [152, 10];
const TEMPLES: [usize; 2] = [54, 284];
/// Height of the skull above the forehead, as a share of the distance from chin to forehead. The
/// head is opaque there, with hair or a hat.
const SKULL: f32 = 0.26;

/// Returns three points of the skull above the forehead: right, top, left.
fn skull(points: &[[f32; 2]]) -> [[f32; 2]; 3] {
    let [chin, forehead] = AXIS.map(|i| points[i]);
    let up = |from: [f32; 2], far: f32| [0, 1].map(|i| from[i] + far * (forehead[i] - chin[i]));
    let [right, left] = TEMPLES.map(|i| up(points[i], 0.7 * SKULL));
    [right, up(forehead, SKULL), left]
}

impl Regions {
    /// Computes the regions from landmarks in pixels of a square frame of `side` pixels a side.
    pub(crate) fn new(landmarks: &Landmarks, side: u32) -> Self {
        let scale = 1.0 / side as f32;
        let points: Vec<[f32; 2]> =
            landmarks.points.iter().map(|p| [p[0] * scale, p[1] * scale]).collect();
        let face = Rect::around(points.iter().copied());
        let [w, h] = [face.max[0] - face.min[0], face.max[1] - face.min[1]];
        let of = |indices: &[usize]| Rect::around(indices.iter().map(|&i| points[i]));
        Self {
            head: face.grown([0.3 * w, 0.25 * h]).grown_up(0.35 * h).clipped(),
            mouth: of(&LIPS).grown([0.04 * w, 0.05 * h]).clipped(),
            eyes: EYES.map(|e| of(&e).grown([0.03 * w, 0.02 * h]).clipped()),
            hull: hull(&[&points[..], &skull(&points)].concat()),
        }
    }

    /// Draws the random pixels of one step from the frame of these regions.
    ///
    /// They are returned in Z-order, so that consecutive rays read neighboring parts of the field.
    pub fn draw(
        &self,
        frame: &SquareFrame,
        counts: &RayCounts,
        noise: &mut SplitMix64,
    ) -> Vec<Pixel> {
        let (rgb, side) = (frame.rgb(), frame.side());
        let whole = Rect { min: [0.0; 2], max: [1.0; 2] };
        let eyes = counts.eyes / 2;
        let mut pixels = Vec::with_capacity(counts.total());
        for (rect, n) in [
            (&whole, counts.uniform),
            (&self.head, counts.head),
            (&self.mouth, counts.mouth),
            (&self.eyes[0], eyes),
            (&self.eyes[1], counts.eyes - eyes),
        ] {
            for _ in 0..n {
                let place = |axis: usize, u: f32| {
                    let at = rect.min[axis] + u * (rect.max[axis] - rect.min[axis]);
                    ((at * side as f32) as u32).min(side - 1)
                };
                let (x, y) = (place(0, noise.uniform()), place(1, noise.uniform()));
                let at = (y * side + x) as usize * 3;
                let middle = [(x as f32 + 0.5) / side as f32, (y as f32 + 0.5) / side as f32];
                pixels.push(Pixel {
                    at: middle,
                    rgb: std::array::from_fn(|c| f32::from(rgb[at + c]) / 255.0),
                    in_hull: inside(&self.hull, middle),
                });
            }
        }
        pixels.sort_by_cached_key(|pixel| z_order(pixel.at.map(|v| (v * side as f32) as u32)));
        pixels
    }
}

/// Returns the position on the Z-order curve: the interleaved bits of both coordinates.
fn z_order([x, y]: [u32; 2]) -> u64 {
    let spread = |v: u32| (0..16).fold(0_u64, |bits, i| bits | u64::from(v >> i & 1) << (2 * i));
    spread(x) | spread(y) << 1
}

impl Rect {
    fn around(points: impl Iterator<Item = [f32; 2]>) -> Self {
        let start = Self { min: [f32::MAX; 2], max: [f32::MIN; 2] };
        points.fold(start, |r, p| Self {
            min: [r.min[0].min(p[0]), r.min[1].min(p[1])],
            max: [r.max[0].max(p[0]), r.max[1].max(p[1])],
        })
    }

    fn grown(mut self, by: [f32; 2]) -> Self {
        self.min = [self.min[0] - by[0], self.min[1] - by[1]];
        self.max = [self.max[0] + by[0], self.max[1] + by[1]];
        self
    }

    fn grown_up(mut self, by: f32) -> Self {
        self.min[1] -= by;
        self
    }

    /// Clips the rectangle to the picture and keeps it at least 0.05 wide and high.
    fn clipped(mut self) -> Self {
        for i in 0..2 {
            self.min[i] = self.min[i].clamp(0.0, 0.95);
            self.max[i] = self.max[i].clamp(self.min[i] + 0.05, 1.0);
        }
        self
    }
}

/// Computes the convex hull (Andrew's monotone chain), shrunk by [`HULL_SHRINK`].
fn hull(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let mut hull: Vec<[f32; 2]> = Vec::new();
    for pass in 0..2 {
        let floor = hull.len() + 1;
        let mut add = |p: [f32; 2]| {
            while hull.len() > floor
                && side_of(hull[hull.len() - 2], hull[hull.len() - 1], p) <= 0.0
            {
                hull.pop();
            }
            hull.push(p);
        };
        if pass == 0 {
            sorted.iter().copied().for_each(&mut add);
        } else {
            sorted.iter().rev().copied().for_each(&mut add);
        }
        hull.pop();
    }
    let n = hull.len().max(1) as f32;
    let middle = [0, 1].map(|i| hull.iter().map(|p| p[i]).sum::<f32>() / n);
    for p in &mut hull {
        for i in 0..2 {
            p[i] += HULL_SHRINK * (middle[i] - p[i]);
        }
    }
    hull
}

/// Returns a positive number if `p` lies on the inner side of the edge from `a` to `b`.
fn side_of(a: [f32; 2], b: [f32; 2], p: [f32; 2]) -> f32 {
    (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
}

fn inside(hull: &[[f32; 2]], p: [f32; 2]) -> bool {
    hull.len() > 2
        && hull.iter().zip(hull.iter().cycle().skip(1)).all(|(a, b)| side_of(*a, *b, p) >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skull_extends_the_forehead_at_any_roll() {
        let mut points = vec![[0.5, 0.5]; types::LANDMARKS];
        for (at, point) in
            [(152, [0.5, 0.8]), (10, [0.5, 0.4]), (54, [0.4, 0.45]), (284, [0.6, 0.45])]
        {
            points[at] = point;
        }
        let [right, top, left] = skull(&points);
        assert!((top[0] - 0.5).abs() < 1e-6 && (top[1] - (0.4 - 0.4 * SKULL)).abs() < 1e-6);
        assert!(right[1] < 0.4 && left[1] < 0.4 && right[0] < top[0] && left[0] > top[0]);
        // Head lying on its side, chin to the right.
        let turned: Vec<_> = points.iter().map(|[x, y]| [*y, *x]).collect();
        let [_, top, _] = skull(&turned);
        assert!((top[1] - 0.5).abs() < 1e-6 && top[0] < 0.4);
    }

    #[test]
    fn the_hull_of_a_square_and_inner_points_is_the_shrunk_square() {
        let mut points = vec![[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]];
        points.extend([[0.5, 0.5], [0.3, 0.6], [0.2, 0.5]]);
        let hull = hull(&points);
        assert_eq!(hull.len(), 4);
        assert!(inside(&hull, [0.5, 0.5]) && inside(&hull, [0.25, 0.75]));
        assert!(!inside(&hull, [0.205, 0.5]) && !inside(&hull, [0.9, 0.9]));
    }
}
