//! Which pixels of a frame to learn from.

use numerics::SplitMix64;
use types::Landmarks;

use crate::ray_pass::Pixel;

/// Rays of one frame in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RayCounts {
    /// Anywhere.
    pub(crate) uniform: usize,
    /// In the box around the head.
    pub(crate) head: usize,
    /// Around the mouth.
    pub(crate) mouth: usize,
    /// Around the eyes.
    pub(crate) eyes: usize,
}

impl RayCounts {
    pub(crate) fn total(&self) -> usize {
        self.uniform + self.head + self.mouth + self.eyes
    }
}

/// Where the parts of the face are in one frame, image space.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    head: Rect,
    mouth: Rect,
    eyes: [Rect; 2],
    /// Of face and skull, convex, counter-clockwise as seen with y down; empty if the face is degenerate.
    hull: Vec<[f32; 2]>,
}

#[derive(Clone, Copy, Debug)]
struct Rect {
    min: [f32; 2],
    max: [f32; 2],
}

/// Landmarks of the lips' outline: corners, top, bottom, inner lips.
const LIPS: [usize; 8] = [61, 291, 0, 17, 13, 14, 84, 314];
/// Landmarks around the right and the left eye, brows included.
const EYES: [[usize; 6]; 2] = [[33, 133, 159, 145, 70, 107], [362, 263, 386, 374, 336, 300]];
/// How far the hull is drawn in towards its middle, so that a tracking error stays inside.
const HULL_SHRINK: f32 = 0.08;

/// Landmarks at the chin, the top of the forehead, and the temples.
const AXIS: [usize; 2] = [152, 10];
const TEMPLES: [usize; 2] = [54, 284];
/// How far the skull goes on above the forehead, in distances of chin and forehead; whatever grows
/// or sits on it, nothing shines through it.
const SKULL: f32 = 0.26;

/// Points of the skull above the forehead.
fn skull(points: &[[f32; 2]]) -> [[f32; 2]; 3] {
    let [chin, forehead] = AXIS.map(|i| points[i]);
    let up = |from: [f32; 2], far: f32| [0, 1].map(|i| from[i] + far * (forehead[i] - chin[i]));
    let [right, left] = TEMPLES.map(|i| up(points[i], 0.7 * SKULL));
    [right, up(forehead, SKULL), left]
}

impl Regions {
    /// From landmarks in pixels of a square frame of `side`.
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

    /// Draws the pixels of a step from `rgb`, `[side, side, 3]` bytes, neighbors after each other:
    /// their rays read the same stretches of the field.
    pub(crate) fn draw(
        &self,
        rgb: &[u8],
        side: u32,
        counts: &RayCounts,
        noise: &mut SplitMix64,
    ) -> Vec<Pixel> {
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

/// Place on the Z-order curve: the bits of both coordinates, taking turns.
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

    /// Inside the picture, and of some area.
    fn clipped(mut self) -> Self {
        for i in 0..2 {
            self.min[i] = self.min[i].clamp(0.0, 0.95);
            self.max[i] = self.max[i].clamp(self.min[i] + 0.05, 1.0);
        }
        self
    }
}

/// The convex hull (Andrew's monotone chain), drawn in by [`HULL_SHRINK`].
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

/// Positive if `p` lies on the inner side of the edge from `a` to `b`.
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
    fn the_skull_goes_on_where_the_forehead_ends_however_the_head_is_tilted() {
        let mut points = vec![[0.5, 0.5]; types::LANDMARKS];
        for (at, point) in
            [(152, [0.5, 0.8]), (10, [0.5, 0.4]), (54, [0.4, 0.45]), (284, [0.6, 0.45])]
        {
            points[at] = point;
        }
        let [right, top, left] = skull(&points);
        assert!((top[0] - 0.5).abs() < 1e-6 && (top[1] - (0.4 - 0.4 * SKULL)).abs() < 1e-6);
        assert!(right[1] < 0.4 && left[1] < 0.4 && right[0] < top[0] && left[0] > top[0]);
        // On its side, chin to the right.
        let turned: Vec<_> = points.iter().map(|[x, y]| [*y, *x]).collect();
        let [_, top, _] = skull(&turned);
        assert!((top[1] - 0.5).abs() < 1e-6 && top[0] < 0.4);
    }

    #[test]
    fn the_hull_of_a_square_with_clutter_is_the_square_drawn_in() {
        let mut points = vec![[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]];
        points.extend([[0.5, 0.5], [0.3, 0.6], [0.2, 0.5]]);
        let hull = hull(&points);
        assert_eq!(hull.len(), 4);
        assert!(inside(&hull, [0.5, 0.5]) && inside(&hull, [0.25, 0.75]));
        assert!(!inside(&hull, [0.205, 0.5]) && !inside(&hull, [0.9, 0.9]));
    }
}
