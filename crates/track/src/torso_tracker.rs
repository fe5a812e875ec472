use numerics::Cholesky;
use types::{Landmarks, SquareFrame, TORSO_DIMS};

/// Cells across the picture that the torso is looked at with.
const WIDTH: usize = 112;
/// Where the strip begins, in cells from the top: 72 % of the picture.
const TOP: usize = 81;
/// Cells of the strip.
const ROWS: usize = WIDTH - TOP;
const CELLS: usize = WIDTH * ROWS;

/// Below this correlation the track is not believed.
const BELIEVED: f32 = 0.8;
/// What is left, a frame later, of the last believed track while nothing is.
const DECAY: f32 = 0.9;
/// Gauss-Newton steps a frame, at most.
const STEPS: usize = 12;
/// Noise of a cell's brightness, levels.
const NOISE: f64 = 6.0;
/// How far a torso turns and stretches, and how far it moves, in sides: a prior for what the
/// picture does not show.
const PRIOR: [f64; TORSO_DIMS] = [0.1, 0.1, 0.2, 0.1, 0.1, 0.2];
/// No torso does more; a track that says so is no track.
const PLAUSIBLE: f32 = 0.25;
/// Where a search that runs away is held.
const LARGEST: f32 = 0.5;
/// Cells that must be comparable, or there is nothing to track.
const MIN_CELLS: usize = CELLS / 10;

/// Follows the torso: the affine motion of the picture's lower 28 % against a reference frame.
///
/// Gauss-Newton on the brightness of a blurred 112-cell-wide picture (gain and offset of the
/// light are solved along), warm-started, cells under the face left out. The six numbers are
/// those of [`types::Code`]: `reference = (I + [[a, b], [c, d]]) * (image - 0.5) + 0.5 + [tx, ty]`.
#[derive(Clone, Debug)]
pub struct TorsoTracker {
    reference: TorsoReference,
    last: [f32; TORSO_DIMS],
}

/// The torso as the enrollment's reference frame shows it: a small gray strip.
#[derive(Clone, Debug, PartialEq)]
pub struct TorsoReference {
    strip: Strip,
}

/// The lower part of a picture: brightness 0..=255, and which cells show no face.
#[derive(Clone, Debug, PartialEq)]
struct Strip {
    gray: Vec<f32>,
    usable: Vec<bool>,
}

impl TorsoReference {
    /// Bytes of a stored reference.
    pub(crate) const BYTES: usize = 2 * CELLS;

    /// The reference from a square frame; cells under `face` (in pixels of it) are left out.
    pub fn of_frame(frame: &SquareFrame, face: Option<&Landmarks>) -> Self {
        Self { strip: Strip::of(frame, face) }
    }

    /// Brightness of every cell, then which of them are usable.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let gray = self.strip.gray.iter().map(|v| (v + 0.5) as u8);
        gray.chain(self.strip.usable.iter().map(|u| u8::from(*u))).collect()
    }

    /// The inverse of [`TorsoReference::to_bytes`]; `None` if the length is wrong.
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
    /// Tracks against a square reference frame.
    pub fn new(reference: &SquareFrame) -> Self {
        Self::against(TorsoReference::of_frame(reference, None))
    }

    /// Tracks against a stored reference.
    pub fn against(reference: TorsoReference) -> Self {
        Self { reference, last: [0.0; TORSO_DIMS] }
    }

    /// What it tracks against.
    pub fn reference(&self) -> &TorsoReference {
        &self.reference
    }

    /// Forgets the last frame.
    pub fn reset(&mut self) {
        self.last = [0.0; TORSO_DIMS];
    }

    /// Where the torso of a square frame is, and how well that explains the picture (-1..=1).
    ///
    /// Below a correlation of 0.8 the numbers are the last good ones, decaying to rest.
    pub fn track(&mut self, frame: &SquareFrame) -> ([f32; TORSO_DIMS], f32) {
        self.track_around(frame, None)
    }

    /// As [`TorsoTracker::track`], with the face's landmarks (pixels of `frame`) left out.
    pub fn track_around(
        &mut self,
        frame: &SquareFrame,
        face: Option<&Landmarks>,
    ) -> ([f32; TORSO_DIMS], f32) {
        let strip = Strip::of(frame, face);
        let (mut found, mut correlation) = self.align(&strip, self.last);
        if correlation < BELIEVED {
            // Lost: begin again from rest, and from where the strip as a whole fits best.
            for start in [[0.0; TORSO_DIMS], self.best_shift(&strip)] {
                let (again, c) = self.align(&strip, start);
                if c > correlation {
                    (found, correlation) = (again, c);
                }
            }
        }
        self.last = if correlation >= BELIEVED { found } else { self.last.map(|v| v * DECAY) };
        (self.last, correlation)
    }

    fn align(&self, strip: &Strip, start: [f32; TORSO_DIMS]) -> ([f32; TORSO_DIMS], f32) {
        let mut p = start;
        let (mut gain, mut offset) = (1.0_f32, 0.0_f32);
        for step in 0..STEPS {
            let mut sums = Sums::default();
            for row in 0..ROWS {
                // Short sums in single precision, a row of cells each, then long ones in double.
                let mut line = LineSums::default();
                self.compare(strip, &p, row, |[x, y], gray, value, slope| {
                    let error = gray - (gain * value + offset);
                    // Cells that nothing explains (a hand, hair) must not pull.
                    let trust = 1.0 / (1.0 + (error / 24.0).powi(2));
                    let [gx, gy] = slope.map(|s| gain * s);
                    line.add(trust, &[gx * x, gx * y, gx, gy * x, gy * y, gy, value, 1.0], error);
                });
                sums.add(&line);
            }
            let Sums { mut normal, mut rhs, n } = sums;
            if n < MIN_CELLS {
                return (p, 0.0);
            }
            for (i, deviation) in PRIOR.into_iter().enumerate() {
                // The prior holds the numbers themselves, not the step.
                let weight = (NOISE / deviation).powi(2);
                normal[i][i] += weight;
                rhs[i] -= weight * f64::from(p[i]);
            }
            normal[N - 2][N - 2] += 1.0;
            normal[N - 1][N - 1] += 1e-3;
            let Some(factor) = Cholesky::new(normal.concat(), N) else { break };
            factor.solve(&mut rhs);
            for (value, change) in p.iter_mut().zip(rhs) {
                *value = (*value + change as f32).clamp(-LARGEST, LARGEST);
            }
            gain = (gain + rhs[N - 2] as f32).clamp(0.3, 3.0);
            offset = (offset + rhs[N - 1] as f32).clamp(-255.0, 255.0);
            // A hundredth of a cell at the edge of the picture.
            let moved = rhs[..TORSO_DIMS].iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            if step > 0 && moved * (WIDTH as f64) < 0.01 {
                break;
            }
        }
        // Where the torso is hidden, hair fits somewhere: no torso turns or stretches that much.
        if p.iter().any(|v| v.abs() > PLAUSIBLE) {
            return (p, 0.0);
        }
        (p, self.correlation(strip, &p))
    }

    /// Calls `visit(place from the middle in sides, frame's gray, reference's gray, its slope per
    /// side)` for every cell of a row that both strips show under a motion.
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
        // A flat picture agrees with everything, and so with nothing.
        if va < n || vb < n { 0.0 } else { ((ab - a * b / n) / (va * vb).sqrt()) as f32 }
    }

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

/// Unknowns of a step: the motion, and gain and offset of the light.
const N: usize = TORSO_DIMS + 2;

/// Normal equations of a row of cells, eight numbers side by side.
#[derive(Default)]
struct LineSums {
    normal: [[f32; N]; N],
    rhs: [f32; N],
    n: usize,
}

impl LineSums {
    fn add(&mut self, trust: f32, row: &[f32; N], error: f32) {
        let weighed = row.map(|v| trust * v);
        for (sums, w) in self.normal.iter_mut().zip(weighed) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += w * v);
        }
        self.rhs.iter_mut().zip(weighed).for_each(|(sum, w)| *sum += w * error);
        self.n += 1;
    }
}

/// Normal equations of all cells.
#[derive(Default)]
struct Sums {
    normal: [[f64; N]; N],
    rhs: [f64; N],
    n: usize,
}

impl Sums {
    fn add(&mut self, line: &LineSums) {
        let all = self.normal.as_flattened_mut().iter_mut().zip(line.normal.as_flattened());
        for (sum, more) in all.chain(self.rhs.iter_mut().zip(&line.rhs)) {
            *sum += f64::from(*more);
        }
        self.n += line.n;
    }
}

impl Strip {
    fn of(frame: &SquareFrame, face: Option<&Landmarks>) -> Self {
        let gray = blurred(&blurred(&shrunk(frame)));
        let usable = match face {
            Some(face) => outside_of(face, frame),
            None => vec![true; CELLS],
        };
        Self { gray, usable }
    }

    /// Bilinear value and its slope per cell at a place in cells (0 = middle of the first).
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

/// The strip at one cell per `1 / WIDTH` of the picture, each the mean of what it covers.
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

/// Which stretch of `pixels` each cell covers.
fn cells(pixels: usize) -> Vec<(f32, f32)> {
    let edge = |i: usize| (i as f64 * pixels as f64 / WIDTH as f64) as f32;
    (0..WIDTH).map(|i| (edge(i), edge(i + 1))).collect()
}

/// A 3x3 binomial blur, edges repeated.
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

/// Cells outside the convex hull of the landmarks, widened by a tenth.
fn outside_of(face: &Landmarks, frame: &SquareFrame) -> Vec<bool> {
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

/// Andrew's monotone chain.
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

    /// A jacket with lapels, a tie and a collar, brightness at a place in sides.
    fn jacket(x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - 0.5, y - 0.6);
        let body = 60.0 + 90.0 / (1.0 + (-(dx.abs() - 0.1 - 0.5 * dy) * 60.0).exp());
        let tie = 80.0 * (-(dx * 18.0).powi(2)).exp();
        let knots = 25.0 * (dx * 40.0).sin() * (dy * 33.0).cos();
        (body + tie + knots).clamp(0.0, 255.0)
    }

    /// The jacket after a motion, in a picture of `side` pixels, in other light.
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

    /// Largest error of where the strip's corners go, in sides.
    fn error(found: [f32; 6], truth: [f32; 6]) -> f32 {
        let d: Vec<f32> = found.iter().zip(truth).map(|(a, b)| a - b).collect();
        [(-0.5, 0.22), (0.5, 0.22), (-0.5, 0.5), (0.5, 0.5)]
            .into_iter()
            .map(|(x, y)| (d[0] * x + d[1] * y + d[2]).hypot(d[3] * x + d[4] * y + d[5]))
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_still_torso_stays_where_it_is() {
        let reference = frame(256, [0.0; 6], 1.0);
        let (found, correlation) = TorsoTracker::new(&reference).track(&reference);
        assert!(error(found, [0.0; 6]) < 1e-3 && correlation > 0.999, "{found:?} {correlation}");
    }

    #[test]
    fn known_warps_are_found_at_every_size_and_light() {
        let reference = frame(256, [0.0; 6], 1.0);
        for (truth, side, gain) in [
            ([0.0, 0.0, 0.02, 0.0, 0.0, -0.015], 256, 1.0),
            ([0.03, -0.02, 0.01, 0.02, 0.03, 0.01], 256, 0.8),
            ([-0.02, 0.03, -0.02, -0.03, 0.0, -0.01], 512, 1.1),
            ([0.02, 0.0, 0.03, 0.0, 0.02, 0.0], 300, 1.0),
        ] {
            let mut tracker = TorsoTracker::new(&reference);
            let moved = frame(side, truth, gain);
            tracker.track(&moved);
            let (found, correlation) = tracker.track(&moved);
            // Half a cell of the 112 at the farthest corner.
            assert!(error(found, truth) < 0.005, "{truth:?}: {found:?}");
            assert!(correlation > 0.98, "{truth:?}: {correlation}");
        }
    }

    #[test]
    fn a_hidden_torso_comes_to_rest() {
        let reference = frame(256, [0.0; 6], 1.0);
        let mut tracker = TorsoTracker::new(&reference);
        let (good, _) = tracker.track(&frame(256, [0.0, 0.0, 0.02, 0.0, 0.0, 0.0], 1.0));
        let hidden = SquareFrame::new(256, MediaTime::ZERO, vec![90; 256 * 256 * 3]).unwrap();
        let (held, correlation) = tracker.track(&hidden);
        assert!(correlation < 0.8 && (held[2] - 0.9 * good[2]).abs() < 1e-6);
        for _ in 0..60 {
            tracker.track(&hidden);
        }
        assert!(tracker.track(&hidden).0.iter().all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn what_lies_under_the_face_does_not_pull() {
        let reference = frame(256, [0.0; 6], 1.0);
        let truth = [0.0, 0.0, 0.015, 0.0, 0.0, 0.01];
        let mut rgb = frame(256, truth, 1.0).rgb().to_vec();
        // A chin hangs into the strip.
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
        let (found, _) = TorsoTracker::new(&reference).track_around(&moved, Some(&face));
        assert!(error(found, truth) < 0.006, "{found:?}");
    }

    #[test]
    fn a_reference_survives_its_bytes() {
        let reference = TorsoReference::of_frame(&frame(200, [0.0; 6], 1.0), None);
        let stored = TorsoReference::parse(&reference.to_bytes()).unwrap();
        assert_eq!(stored.to_bytes(), reference.to_bytes());
        assert!(TorsoReference::parse(&reference.to_bytes()[1..]).is_none());
    }
}
