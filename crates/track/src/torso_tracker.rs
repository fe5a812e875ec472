use numerics::Cholesky;
use types::{Landmarks, SquareFrame, TORSO_DIMS};

/// Width of the shrunk frame, cells; a cell is square, so this is also its height.
const WIDTH: usize = 112;
/// First row of the strip that is tracked: 72 % of the frame lies above it.
const TOP: usize = 81;
/// Rows of the strip.
const ROWS: usize = WIDTH - TOP;
const CELLS: usize = WIDTH * ROWS;

/// Lowest correlation of a valid track.
const MIN_CORRELATION: f32 = 0.8;
/// Factor per frame by which the last valid track decays while there is no valid one.
const DECAY: f32 = 0.9;
/// Most Gauss-Newton steps per alignment.
const STEPS: usize = 12;
/// Standard deviation of a cell's brightness, of 0..=255.
const NOISE: f64 = 6.0;
/// Standard deviations of the motion, a prior for what the frame does not determine: turn and
/// stretch, and (third and sixth number) translation in frame sides.
const PRIOR: [f64; TORSO_DIMS] = [0.1, 0.1, 0.2, 0.1, 0.1, 0.2];
/// Largest number of a valid track.
const MAX_MOTION: f32 = 0.25;
/// Bound on the numbers during the search.
const MAX_SEARCH: f32 = 0.5;
/// Fewest cells that an alignment compares.
const MIN_CELLS: usize = CELLS / 10;

/// Tracker of the torso: the affine motion of the lower 28 % of a frame against a reference frame.
///
/// Gauss-Newton on the brightness of the frame, shrunk to 112 cells and blurred, starting from the
/// previous frame's motion; gain and offset of the light are unknowns too, and cells under the face
/// are left out. The result is the torso track of [`types::Code`], `[a, b, tx, c, d, ty]` in image
/// space: `reference = (I + [[a, b], [c, d]]) · (image − 0.5) + 0.5 + [tx, ty]`.
///
/// # Source
/// Lucas, Kanade 1981, "An iterative image registration technique"; Baker, Matthews 2004,
/// "Lucas-Kanade 20 years on" (the forward additive algorithm).
#[derive(Clone, Debug)]
pub struct TorsoTracker {
    reference: TorsoReference,
    last: [f32; TORSO_DIMS],
}

/// Reference for the torso tracker: the gray strip of the torso in one frame of the enrollment.
#[derive(Clone, Debug, PartialEq)]
pub struct TorsoReference {
    strip: Strip,
}

/// Lower part of a shrunk frame: brightness 0..=255 of each cell, and whether it lies outside the
/// face.
#[derive(Clone, Debug, PartialEq)]
struct Strip {
    gray: Vec<f32>,
    usable: Vec<bool>,
}

impl TorsoReference {
    /// Length of [`TorsoReference::to_bytes`].
    pub(crate) const BYTES: usize = 2 * CELLS;

    /// Takes the reference from a frame; leaves out cells under `face`, in pixels of the frame.
    pub fn from_frame(frame: &SquareFrame, face: Option<&Landmarks>) -> Self {
        Self { strip: Strip::new(frame, face) }
    }

    /// Returns the brightness of every cell, one byte each, then whether it is usable (0 or 1).
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let gray = self.strip.gray.iter().map(|v| (v + 0.5) as u8);
        gray.chain(self.strip.usable.iter().map(|u| u8::from(*u))).collect()
    }

    /// Parses the bytes of [`TorsoReference::to_bytes`]; `None` if the length is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let (gray, usable) = bytes.split_at(CELLS);
        let gray = gray.iter().map(|v| f32::from(*v)).collect();
        Some(Self { strip: Strip { gray, usable: usable.iter().map(|u| *u != 0).collect() } })
    }
}

impl TorsoTracker {
    /// Creates a tracker that starts at rest.
    pub fn new(reference: TorsoReference) -> Self {
        Self { reference, last: [0.0; TORSO_DIMS] }
    }

    /// Returns the reference.
    pub fn reference(&self) -> &TorsoReference {
        &self.reference
    }

    /// Resets the motion to rest, for a new clip.
    pub fn reset(&mut self) {
        self.last = [0.0; TORSO_DIMS];
    }

    /// Tracks the torso in the next frame, ignoring cells under `face` (landmarks in pixels of the
    /// frame).
    ///
    /// Returns the torso track and the correlation, -1..=1, of the frame with the reference under
    /// the motion found. If the correlation is below 0.8, that motion is discarded, and the
    /// previous track decays to rest by a tenth per frame.
    pub fn track(
        &mut self,
        frame: &SquareFrame,
        face: Option<&Landmarks>,
    ) -> ([f32; TORSO_DIMS], f32) {
        let strip = Strip::new(frame, face);
        let (mut found, mut correlation) = self.align(&strip, self.last);
        if correlation < MIN_CORRELATION {
            // Lost: search again from rest and from the best translation.
            for start in [[0.0; TORSO_DIMS], self.best_shift(&strip)] {
                let (again, c) = self.align(&strip, start);
                if c > correlation {
                    (found, correlation) = (again, c);
                }
            }
        }
        self.last =
            if correlation >= MIN_CORRELATION { found } else { self.last.map(|v| v * DECAY) };
        (self.last, correlation)
    }

    /// Aligns a strip by Gauss-Newton steps from `start`; returns the motion and its correlation.
    fn align(&self, strip: &Strip, start: [f32; TORSO_DIMS]) -> ([f32; TORSO_DIMS], f32) {
        let mut p = start;
        let (mut gain, mut offset) = (1.0_f32, 0.0_f32);
        for step in 0..STEPS {
            let mut sums = NormalEquations::default();
            for row in 0..ROWS {
                // Sums over a row in single precision, over rows in double.
                let mut line = RowEquations::default();
                self.compare(strip, &p, row, |[x, y], gray, value, slope| {
                    let error = gray - (gain * value + offset);
                    // Robust weight: cells covered by a hand or hair hardly count.
                    let trust = 1.0 / (1.0 + (error / 24.0).powi(2));
                    let [gx, gy] = slope.map(|s| gain * s);
                    line.add(trust, &[gx * x, gx * y, gx, gy * x, gy * y, gy, value, 1.0], error);
                });
                sums.add(&line);
            }
            let NormalEquations { mut normal, mut rhs, n } = sums;
            if n < MIN_CELLS {
                return (p, 0.0);
            }
            for (i, deviation) in PRIOR.into_iter().enumerate() {
                // The prior is on the motion itself, not on the step.
                let weight = (NOISE / deviation).powi(2);
                normal[i][i] += weight;
                rhs[i] -= weight * f64::from(p[i]);
            }
            normal[N - 2][N - 2] += 1.0;
            normal[N - 1][N - 1] += 1e-3;
            let Some(factor) = Cholesky::new(normal.concat(), N) else { break };
            factor.solve(&mut rhs);
            for (value, change) in p.iter_mut().zip(rhs) {
                *value = (*value + change as f32).clamp(-MAX_SEARCH, MAX_SEARCH);
            }
            gain = (gain + rhs[N - 2] as f32).clamp(0.3, 3.0);
            offset = (offset + rhs[N - 1] as f32).clamp(-255.0, 255.0);
            // Converged: less than a hundredth of a cell at the edge of the frame.
            let moved = rhs[..TORSO_DIMS].iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            if step > 0 && moved * (WIDTH as f64) < 0.01 {
                break;
            }
        }
        // With the torso hidden, hair or background fits some implausible motion.
        if p.iter().any(|v| v.abs() > MAX_MOTION) {
            return (p, 0.0);
        }
        (p, self.correlation(strip, &p))
    }

    /// Calls `visit(position, gray, reference_gray, slope)` for every cell of a row that both strips
    /// show under motion `p`: position from the frame's center in sides, brightness of frame and
    /// reference, and slope of the reference per side.
    fn compare(
        &self,
        strip: &Strip,
        p: &[f32; TORSO_DIMS],
        row: usize,
        mut visit: impl FnMut([f32; 2], f32, f32, [f32; 2]),
    ) {
        let scale = WIDTH as f32;
        let y = (TOP + row) as f32 / scale + 0.5 / scale - 0.5;
        for column in 0..WIDTH {
            let at = row * WIDTH + column;
            if !strip.usable[at] {
                continue;
            }
            let x = column as f32 / scale + 0.5 / scale - 0.5;
            let u = (x + p[0] * x + p[1] * y + p[2] + 0.5) * scale - 0.5;
            let v = (y + p[3] * x + p[4] * y + p[5] + 0.5) * scale - 0.5 - TOP as f32;
            if let Some((value, slope)) = self.reference.strip.sample(u, v) {
                visit([x, y], strip.gray[at], value, slope.map(|s| s * scale));
            }
        }
    }

    /// Returns the correlation of frame and reference under motion `p`; 0 for too few or flat cells.
    fn correlation(&self, strip: &Strip, p: &[f32; TORSO_DIMS]) -> f32 {
        let mut sums = [0.0_f64; 6];
        for row in 0..ROWS {
            self.compare(strip, p, row, |_, a, b, _| {
                let (a, b) = (f64::from(a), f64::from(b));
                for (sum, term) in sums.iter_mut().zip([1.0, a, b, a * a, b * b, a * b]) {
                    *sum += term;
                }
            });
        }
        let [n, a, b, aa, bb, ab] = sums;
        if n < MIN_CELLS as f64 {
            return 0.0;
        }
        let (va, vb) = (aa - a * a / n, bb - b * b / n);
        // A flat strip correlates with nothing.
        if va < n || vb < n { 0.0 } else { ((ab - a * b / n) / (va * vb).sqrt()) as f32 }
    }

    /// Returns the translation with the highest correlation, on a grid of 2.5 cells.
    fn best_shift(&self, strip: &Strip) -> [f32; TORSO_DIMS] {
        let shifts = (-3..=3).flat_map(|y| (-5..=5).map(move |x| (x, y)));
        let moved = shifts.map(|(x, y)| {
            let step = 2.5 / WIDTH as f32;
            [0.0, 0.0, x as f32 * step, 0.0, 0.0, y as f32 * step]
        });
        moved
            .map(|p| (self.correlation(strip, &p), p))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or([0.0; TORSO_DIMS], |(_, p)| p)
    }
}

/// Unknowns of a step: the motion, gain and offset of the light.
const N: usize = TORSO_DIMS + 2;

/// Normal equations of one row of cells, in single precision.
#[derive(Default)]
struct RowEquations {
    normal: [[f32; N]; N],
    rhs: [f32; N],
    n: usize,
}

impl RowEquations {
    fn add(&mut self, trust: f32, row: &[f32; N], error: f32) {
        let weighed = row.map(|v| trust * v);
        for (sums, w) in self.normal.iter_mut().zip(weighed) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += w * v);
        }
        self.rhs.iter_mut().zip(weighed).for_each(|(sum, w)| *sum += w * error);
        self.n += 1;
    }
}

/// Normal equations of all cells, in double precision.
#[derive(Default)]
struct NormalEquations {
    normal: [[f64; N]; N],
    rhs: [f64; N],
    n: usize,
}

impl NormalEquations {
    fn add(&mut self, line: &RowEquations) {
        let all = self.normal.as_flattened_mut().iter_mut().zip(line.normal.as_flattened());
        for (sum, more) in all.chain(self.rhs.iter_mut().zip(&line.rhs)) {
            *sum += f64::from(*more);
        }
        self.n += line.n;
    }
}

impl Strip {
    fn new(frame: &SquareFrame, face: Option<&Landmarks>) -> Self {
        let gray = blurred(&blurred(&shrunk(frame)));
        let usable = match face {
            Some(face) => cells_outside(face, frame),
            None => vec![true; CELLS],
        };
        Self { gray, usable }
    }

    /// Returns the bilinear value and its slope per cell at a position in cells (0 is the center of
    /// the first cell); `None` outside the usable cells.
    fn sample(&self, u: f32, v: f32) -> Option<(f32, [f32; 2])> {
        if !(u >= 0.0 && v >= 0.0) {
            return None;
        }
        let (x, y) = (u as usize, v as usize);
        if x + 1 >= WIDTH || y + 1 >= ROWS {
            return None;
        }
        let at = y * WIDTH + x;
        let usable = &self.usable;
        if !(usable[at] && usable[at + 1] && usable[at + WIDTH] && usable[at + WIDTH + 1]) {
            return None;
        }
        let (fx, fy) = (u - x as f32, v - y as f32);
        let [a, b] = [self.gray[at], self.gray[at + 1]];
        let [c, d] = [self.gray[at + WIDTH], self.gray[at + WIDTH + 1]];
        let (top, bottom) = (a + fx * (b - a), c + fx * (d - c));
        let across = (b - a) + fy * ((d - c) - (b - a));
        Some((top + fy * (bottom - top), [across, bottom - top]))
    }
}

/// Shrinks a frame to the strip; each cell is the mean over its area.
fn shrunk(frame: &SquareFrame) -> Vec<f32> {
    let side = frame.side() as usize;
    let cells = cells(side);
    let mut gray = vec![0.0; CELLS];
    let mut line = vec![0.0_f32; WIDTH];
    for (y, pixels) in frame.rgb().chunks_exact(3 * side).enumerate() {
        if (y + 1) as f32 <= cells[TOP].0 {
            continue;
        }
        let first = cells.partition_point(|&(_, end)| end <= y as f32);
        for (cell, &(start, end)) in line.iter_mut().zip(&cells) {
            let (x0, x1) = (start as usize, (end.ceil() as usize).min(side));
            let mut sum = 0.0;
            for (x, rgb) in pixels[3 * x0..3 * x1].as_chunks::<3>().0.iter().enumerate() {
                let x = (x0 + x) as f32;
                let covered = (end.min(x + 1.0) - start.max(x)).max(0.0);
                let luma =
                    77 * u32::from(rgb[0]) + 150 * u32::from(rgb[1]) + 29 * u32::from(rgb[2]);
                sum += covered * luma as f32;
            }
            *cell = sum / (256.0 * (end - start));
        }
        for (row, &(start, end)) in cells.iter().enumerate().skip(first.max(TOP)) {
            let covered = end.min(y as f32 + 1.0) - start.max(y as f32);
            if covered <= 0.0 {
                break;
            }
            let out = &mut gray[(row - TOP) * WIDTH..(row - TOP + 1) * WIDTH];
            out.iter_mut().zip(&line).for_each(|(o, v)| *o += v * covered / (end - start));
        }
    }
    gray
}

/// Returns the range of pixels that each cell covers.
fn cells(pixels: usize) -> Vec<(f32, f32)> {
    let edge = |i: usize| (i as f64 * pixels as f64 / WIDTH as f64) as f32;
    (0..WIDTH).map(|i| (edge(i), edge(i + 1))).collect()
}

/// Blurs with a 3x3 binomial kernel, edges repeated.
fn blurred(gray: &[f32]) -> Vec<f32> {
    let at = |x: usize, y: usize| gray[y * WIDTH + x];
    let across: Vec<f32> = (0..CELLS)
        .map(|i| {
            let (x, y) = (i % WIDTH, i / WIDTH);
            0.25 * at(x.saturating_sub(1), y)
                + 0.5 * at(x, y)
                + 0.25 * at((x + 1).min(WIDTH - 1), y)
        })
        .collect();
    let at = |x: usize, y: usize| across[y * WIDTH + x];
    (0..CELLS)
        .map(|i| {
            let (x, y) = (i % WIDTH, i / WIDTH);
            0.25 * at(x, y.saturating_sub(1)) + 0.5 * at(x, y) + 0.25 * at(x, (y + 1).min(ROWS - 1))
        })
        .collect()
}

/// Marks the cells outside the convex hull of the landmarks, widened by a tenth.
fn cells_outside(face: &Landmarks, frame: &SquareFrame) -> Vec<bool> {
    let n = face.points.len().max(1) as f32;
    let scale = [WIDTH as f32 / frame.side() as f32, WIDTH as f32 / frame.height() as f32];
    let mut center = [0.0; 2];
    face.points.iter().for_each(|p| (0..2).for_each(|c| center[c] += p[c] * scale[c] / n));
    let wide = |p: &[f32; 3]| [0, 1].map(|c| center[c] + 1.1 * (p[c] * scale[c] - center[c]));
    let hull = convex_hull(
        face.points.iter().map(wide).filter(|p| p[0].is_finite() && p[1].is_finite()).collect(),
    );
    (0..CELLS)
        .map(|i| {
            let p = [(i % WIDTH) as f32 + 0.5, (TOP + i / WIDTH) as f32 + 0.5];
            hull.len() < 3
                || (0..hull.len()).any(|k| cross(hull[k], hull[(k + 1) % hull.len()], p) < 0.0)
        })
        .collect()
}

/// Returns the convex hull, counterclockwise with `y` up.
///
/// Source: Andrew 1979, "Another efficient algorithm for convex hulls in two dimensions" (monotone
/// chain).
fn convex_hull(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let half = |points: &mut dyn Iterator<Item = [f32; 2]>| {
        let mut hull: Vec<[f32; 2]> = Vec::new();
        for p in points {
            while let [.., a, b] = hull[..] {
                if cross(a, b, p) > 0.0 {
                    break;
                }
                hull.pop();
            }
            hull.push(p);
        }
        hull.pop();
        hull
    };
    let mut hull = half(&mut points.iter().copied());
    hull.extend(half(&mut points.iter().rev().copied()));
    hull
}

fn cross(a: [f32; 2], b: [f32; 2], p: [f32; 2]) -> f32 {
    (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::MediaTime;

    fn reference(frame: &SquareFrame) -> TorsoReference {
        TorsoReference::from_frame(frame, None)
    }

    /// Brightness of a jacket with lapels, tie and collar at a position in sides.
    fn jacket(x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - 0.5, y - 0.6);
        let body = 60.0 + 90.0 / (1.0 + (-(dx.abs() - 0.1 - 0.5 * dy) * 60.0).exp());
        let tie = 80.0 * (-(dx * 18.0).powi(2)).exp();
        let knots = 25.0 * (dx * 40.0).sin() * (dy * 33.0).cos();
        (body + tie + knots).clamp(0.0, 255.0)
    }

    /// Frame of the jacket under a motion and a gain of the light.
    fn frame(side: u32, p: [f32; 6], gain: f32) -> SquareFrame {
        let rgb: Vec<u8> = (0..side * side)
            .flat_map(|i| {
                let x = (i % side) as f32 / side as f32 + 0.5 / side as f32 - 0.5;
                let y = (i / side) as f32 / side as f32 + 0.5 / side as f32 - 0.5;
                let u = x + p[0] * x + p[1] * y + p[2] + 0.5;
                let v = y + p[3] * x + p[4] * y + p[5] + 0.5;
                [(jacket(u, v) * gain) as u8; 3]
            })
            .collect();
        SquareFrame::new(side, MediaTime::ZERO, rgb).unwrap()
    }

    /// Largest displacement error of the strip's corners, in sides.
    fn error(found: [f32; 6], truth: [f32; 6]) -> f32 {
        let d: Vec<f32> = found.iter().zip(truth).map(|(a, b)| a - b).collect();
        [(-0.5, 0.22), (0.5, 0.22), (-0.5, 0.5), (0.5, 0.5)]
            .into_iter()
            .map(|(x, y)| (d[0] * x + d[1] * y + d[2]).hypot(d[3] * x + d[4] * y + d[5]))
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_still_torso_does_not_move() {
        let still = frame(256, [0.0; 6], 1.0);
        let (found, correlation) = TorsoTracker::new(reference(&still)).track(&still, None);
        assert!(error(found, [0.0; 6]) < 1e-3 && correlation > 0.999, "{found:?} {correlation}");
    }

    #[test]
    fn known_motions_are_found_at_every_size_and_exposure() {
        let still = frame(256, [0.0; 6], 1.0);
        for (truth, side, gain) in [
            ([0.0, 0.0, 0.02, 0.0, 0.0, -0.015], 256, 1.0),
            ([0.03, -0.02, 0.01, 0.02, 0.03, 0.01], 256, 0.8),
            ([-0.02, 0.03, -0.02, -0.03, 0.0, -0.01], 512, 1.1),
            ([0.02, 0.0, 0.03, 0.0, 0.02, 0.0], 300, 1.0),
        ] {
            let mut tracker = TorsoTracker::new(reference(&still));
            let moved = frame(side, truth, gain);
            tracker.track(&moved, None);
            let (found, correlation) = tracker.track(&moved, None);
            // Half a cell of the 112 at the farthest corner.
            assert!(error(found, truth) < 0.005, "{truth:?}: {found:?}");
            assert!(correlation > 0.98, "{truth:?}: {correlation}");
        }
    }

    #[test]
    fn the_track_of_a_hidden_torso_decays_to_rest() {
        let still = frame(256, [0.0; 6], 1.0);
        let mut tracker = TorsoTracker::new(reference(&still));
        let (good, _) = tracker.track(&frame(256, [0.0, 0.0, 0.02, 0.0, 0.0, 0.0], 1.0), None);
        let hidden = SquareFrame::new(256, MediaTime::ZERO, vec![90; 256 * 256 * 3]).unwrap();
        let (held, correlation) = tracker.track(&hidden, None);
        assert!(correlation < 0.8 && (held[2] - 0.9 * good[2]).abs() < 1e-6);
        for _ in 0..60 {
            tracker.track(&hidden, None);
        }
        assert!(tracker.track(&hidden, None).0.iter().all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn cells_under_the_face_are_ignored() {
        let still = frame(256, [0.0; 6], 1.0);
        let truth = [0.0, 0.0, 0.015, 0.0, 0.0, 0.01];
        let mut rgb = frame(256, truth, 1.0).rgb().to_vec();
        // The chin reaches into the strip.
        let chin = |x: f32, y: f32| (x - 128.0).powi(2) + (y - 160.0).powi(2) < 60.0_f32.powi(2);
        for i in 0..256 * 256 {
            if chin((i % 256) as f32, (i / 256) as f32) {
                rgb[3 * i..3 * i + 3].fill(220);
            }
        }
        let moved = SquareFrame::new(256, MediaTime::ZERO, rgb).unwrap();
        let points = (0..64)
            .map(|i| {
                let (sin, cos) = (i as f32 * 0.1).sin_cos();
                [128.0 + 60.0 * cos, 160.0 + 60.0 * sin, 0.0]
            })
            .collect();
        let face = Landmarks::exact(points);
        let (found, _) = TorsoTracker::new(reference(&still)).track(&moved, Some(&face));
        assert!(error(found, truth) < 0.006, "{found:?}");
    }

    #[test]
    fn a_reference_survives_its_bytes() {
        let reference = TorsoReference::from_frame(&frame(200, [0.0; 6], 1.0), None);
        let stored = TorsoReference::parse(&reference.to_bytes()).unwrap();
        assert_eq!(stored.to_bytes(), reference.to_bytes());
        assert!(TorsoReference::parse(&reference.to_bytes()[1..]).is_none());
    }
}
