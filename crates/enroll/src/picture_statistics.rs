//! What the pixels of a recording show: light, sharpness, and the background over time.

use std::time::Duration;

use track::luma_from_srgb;
use types::{Landmarks, SquareFrame};

use face_shape::CHIN;

use crate::background::HeadEllipse;
use crate::recording::Shot;

/// Longest time between two frames that are compared to find cuts.
const LONGEST_STEP: Duration = Duration::from_millis(250);
/// Landmarks of the corners of both eyes and of the middle of their lids.
const EYES: [usize; 8] = [33, 133, 159, 145, 263, 362, 386, 374];

/// Numbers in increasing order.
pub(crate) struct Sorted(Vec<f32>);

impl Sorted {
    pub(crate) fn new(values: impl Iterator<Item = f32>) -> Self {
        let mut values: Vec<f32> = values.collect();
        values.sort_by(f32::total_cmp);
        Self(values)
    }

    /// Returns the number below which `share` (0..=1) of the numbers lie; 0 if there are none.
    pub(crate) fn at(&self, share: f32) -> f32 {
        let last = self.0.len().saturating_sub(1) as f32;
        self.0.get((share * last).round() as usize).copied().unwrap_or(0.0)
    }

    /// Returns the distance from the 2nd to the 98th percentile.
    pub(crate) fn range(&self) -> f32 {
        self.at(0.98) - self.at(0.02)
    }
}

fn luma(frame: &SquareFrame, x: u32, y: u32) -> f32 {
    let [r, g, b] = frame.rgb_at(x, y);
    luma_from_srgb(r, g, b)
}

/// Returns the 90th percentile of the brightness of a face, 0..=255, and the share of its pixels in which a
/// color channel is saturated. The pixels are those at its landmarks.
pub(crate) fn light(frame: &SquareFrame, landmarks: &Landmarks) -> (f32, f32) {
    let inside = 0.0..frame.side() as f32;
    let is_inside = |p: &&[f32; 3]| inside.contains(&p[0]) && inside.contains(&p[1]);
    let pixels: Vec<[u8; 3]> = landmarks
        .points
        .iter()
        .filter(is_inside)
        .map(|p| frame.rgb_at(p[0] as u32, p[1] as u32))
        .collect();
    let n_saturated = pixels.iter().filter(|rgb| rgb.iter().any(|v| *v >= SATURATED)).count();
    let brightness = Sorted::new(pixels.iter().map(|[r, g, b]| luma_from_srgb(*r, *g, *b)));
    (brightness.at(0.9), n_saturated as f32 / pixels.len().max(1) as f32)
}

/// Value from which a color channel counts as saturated.
const SATURATED: u8 = 252;
/// Side above which pictures are reduced before their sharpness is measured, pixels.
const SHARPNESS_SIDE: u32 = 256;
/// The longer distance at which brightness is compared, pixels.
const LONG_STEP: usize = 4;

/// Returns the mean squared difference of neighboring pixels around the eyes, as a share of that of pixels
/// four apart: a quarter or more for sharp edges, a sixteenth for a smooth picture.
///
/// `None` if the eyes lie outside the frame.
pub(crate) fn sharpness(frame: &SquareFrame, landmarks: &Landmarks) -> Option<f32> {
    let side = frame.side().min(SHARPNESS_SIDE);
    let scale = side as f32 / frame.side() as f32;
    let frame = frame.resized_area(side);
    let corners = EYES.iter().map(|&i| landmarks.points[i]);
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    for p in corners {
        for i in 0..2 {
            low[i] = low[i].min(p[i] * scale);
            high[i] = high[i].max(p[i] * scale);
        }
    }
    let margin = 0.15 * (high[0] - low[0]);
    let clip = |v: f32| v.clamp(0.0, side as f32 - LONG_STEP as f32 - 1.0) as usize;
    let ([x0, y0], [x1, y1]) = (low.map(|v| clip(v - margin)), high.map(|v| clip(v + margin)));
    let (mut short, mut long) = (0.0, 0.0);
    for y in y0..y1 {
        for x in x0..x1 {
            let at = |x: usize, y: usize| luma(&frame, x as u32, y as u32);
            let here = at(x, y);
            short += (at(x + 1, y) - here).powi(2) + (at(x, y + 1) - here).powi(2);
            long += (at(x + LONG_STEP, y) - here).powi(2) + (at(x, y + LONG_STEP) - here).powi(2);
        }
    }
    (long > 0.0).then_some(short / long)
}

/// Cells of a reduced picture, across and down.
const CELLS: usize = 32;
/// Median change of the background at a cut, levels of brightness.
const CUT: f32 = 12.0;
/// Least number of cells that show background.
const MIN_CELLS: usize = 60;

/// Brightness of a picture in [`CELLS`] by [`CELLS`] cells; `None` where the head is.
type Backdrop = Vec<Option<f32>>;

fn backdrop(frame: &SquareFrame, landmarks: Option<&Landmarks>) -> Backdrop {
    let side = frame.side();
    let head = landmarks.map(|l| HeadEllipse::new(l, side));
    let places = (0..CELLS * CELLS).map(|i| [i % CELLS, i / CELLS]);
    places
        .map(|cell| {
            let middle = cell.map(|c| (c as f32 + 0.5) / CELLS as f32);
            if head.as_ref().is_some_and(|head| head.covers(middle)) {
                return None;
            }
            let taps = [[0.3, 0.3], [0.7, 0.3], [0.3, 0.7], [0.7, 0.7]].map(|tap: [f32; 2]| {
                let [x, y] =
                    [0, 1].map(|i| ((cell[i] as f32 + tap[i]) / CELLS as f32 * side as f32) as u32);
                luma(frame, x, y)
            });
            Some(taps.iter().sum::<f32>() / 4.0)
        })
        .collect()
}

/// Returns the median difference of two pictures outside the head, in levels of brightness.
fn change(a: &Backdrop, b: &Backdrop) -> f32 {
    let both = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)? - (*b)?).abs()));
    let differences = Sorted::new(both);
    if differences.0.len() < MIN_CELLS { 0.0 } else { differences.at(0.5) }
}

/// Counts sudden changes of the background between neighboring frames.
///
/// A camera that pans changes it in several frames after another, which is no cut.
pub(crate) fn n_cuts(shots: &[Shot]) -> usize {
    let changes: Vec<f32> = shots
        .windows(2)
        .scan(None, |last, pair| {
            let before = last.take().unwrap_or_else(|| of_shot(&pair[0]));
            let after = of_shot(&pair[1]);
            let step = pair[1].frame.time().saturating_since(pair[0].frame.time());
            let change = if step < LONGEST_STEP { change(&before, &after) } else { 0.0 };
            *last = Some(after);
            Some(change)
        })
        .collect();
    let is_cut = |i: usize| {
        let around = [i.checked_sub(1), Some(i + 1)];
        let is_calm =
            |i: Option<usize>| i.and_then(|i| changes.get(i)).is_none_or(|c| *c < CUT / 2.0);
        changes[i] > CUT && around.into_iter().all(is_calm)
    };
    (0..changes.len()).filter(|&i| is_cut(i)).count()
}

fn of_shot(shot: &Shot) -> Backdrop {
    backdrop(&shot.frame, shot.landmarks.as_ref())
}

/// Returns how much the background above the chin deviates from its median over time: the 80th
/// percentile over its cells of the mean deviation, in levels of brightness.
///
/// A change of the exposure, which is the same in all cells, does not count.
pub(crate) fn background_change(faces: &[(&Shot, &Landmarks)]) -> f32 {
    let pictures: Vec<Backdrop> = faces
        .iter()
        .map(|(shot, landmarks)| {
            let chin = landmarks.points[CHIN][1] / shot.frame.side() as f32;
            let n_above = ((chin.clamp(0.0, 1.0) * CELLS as f32) as usize) * CELLS;
            let mut cells = of_shot(shot);
            cells[n_above..].fill(None);
            cells
        })
        .collect();
    let medians: Vec<Option<f32>> = (0..CELLS * CELLS)
        .map(|i| {
            let values = Sorted::new(pictures.iter().filter_map(|p| p[i]));
            (values.0.len() * 3 > pictures.len()).then(|| values.at(0.5))
        })
        .collect();
    let mut deviations: Vec<(f32, usize)> = vec![(0.0, 0); CELLS * CELLS];
    for picture in &pictures {
        let of_cell = |i: usize| Some(picture[i]? - medians[i]?);
        let exposure = Sorted::new((0..CELLS * CELLS).filter_map(of_cell)).at(0.5);
        for (i, (sum, n)) in deviations.iter_mut().enumerate() {
            if let Some(deviation) = of_cell(i) {
                *sum += (deviation - exposure).abs();
                *n += 1;
            }
        }
    }
    let means = deviations.iter().filter(|(_, n)| *n > 0).map(|(sum, n)| sum / *n as f32);
    let means = Sorted::new(means);
    if means.0.len() < MIN_CELLS { 0.0 } else { means.at(0.8) }
}
