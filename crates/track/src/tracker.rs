use types::{Frame, Landmarks};

use crate::crop::{Crop, Luma};
use crate::landmark_net::{Detection, LandmarkNet, WeightsError};
use crate::propagation::Tape;

/// Weights that ship with the product; docs/TRACKER.md describes their training.
pub(crate) const WEIGHTS: &[u8] = include_bytes!("../../../assets/tracker.safetensors");

/// Presence below which a followed face counts as lost.
const LOST_PRESENCE: f32 = 0.3;
/// Least presence of a new face; 99 % of the held-out faces exceed 0.998.
const FOUND_PRESENCE: f32 = 0.98;
/// Largest mirror disagreement of a new face. Half of the held-out faces are below 0.005, 99 %
/// below 0.013; other image content is mostly above.
const FOUND_DISAGREEMENT: f32 = 0.014;
/// Largest mean spread of a new face. 99 % of the held-out faces are below 0.05; soft textures that
/// would otherwise pass for a face have 0.1 and more.
const FOUND_SPREAD: f32 = 0.08;
/// Mirror disagreement above which a followed face counts as lost.
const LOST_DISAGREEMENT: f32 = 0.05;
/// Least presence of a scan window that is examined closer.
const WINDOW_PRESENCE: f32 = 0.4;
/// Shortest side of a frame that is searched for a face, pixels.
const MIN_FRAME: usize = 24;
/// Smallest side of a crop, pixels; the face takes about 0.6 of it.
const MIN_CROP: f32 = 24.0;
/// Landmarks of the subject's right and left cheek, next to the ears.
const CHEEKS: [usize; 2] = [234, 454];
/// Largest yaw of the labelled training faces, radians; beyond it the landmarks get worse.
const LABELLED_TURN: f32 = 0.5;
/// Most passes of the network over one frame while following.
const FOLLOW_PASSES: usize = 4;
/// Most passes over a scan window before deciding.
const FIND_PASSES: usize = 6;
/// Distance between two successive crops (see [`distance`]) above which another pass is made.
const SETTLED: f32 = 0.06;
/// Distance by which the crop trails the face, as in [`SETTLED`]: a face at rest is sampled on the
/// same grid of pixels in every frame, so that crop and landmarks do not excite each other.
const TRAIL: f32 = 0.02;
/// Most crops that the network reads in one frame of the scan, which bounds the cost of a frame
/// without a face. Enough of them for one closer examination are kept back from the windows.
const SCAN_LIMIT: usize = 44;
/// Sides of the scan windows in shorter frame sides, large faces first.
const SCAN_SIDES: [f32; 4] = [1.2, 0.75, 0.46, 0.29];
/// Distance of neighboring windows in their sides; the network tolerates half of it.
const SCAN_STEP: f32 = 0.3;
/// Shorter side of the shrunk frame that is scanned, pixels.
const SCAN_FRAME: usize = 144;
/// Windows per batch of the network.
const SCAN_BATCH: usize = 8;

/// Face tracker: detects one face and follows its 478 landmarks from frame to frame.
///
/// While following, the crop is placed by the previous landmarks and goes through the landmark
/// network together with its mirror image, repeatedly if the face moved far. Without a face the
/// frame is scanned with windows of several sizes. The work for one frame is bounded; the next
/// frame continues an unfinished scan.
///
/// Deterministic: the same frames in the same order give the same landmarks.
///
/// # Examples
/// ```
/// use types::{Frame, MediaTime};
/// let mut tracker = track::Tracker::builtin()?;
/// let black = Frame::new(256, 256, MediaTime::ZERO, vec![0; 256 * 256 * 3]).unwrap();
/// assert_eq!(tracker.track(&black), None);
/// # Ok::<(), track::WeightsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tracker {
    net: LandmarkNet,
    tape: Tape,
    followed: Option<Followed>,
    /// Window at which the scan continues.
    next_window: usize,
}

/// Crop of the previous frame, and the size of that frame.
#[derive(Clone, Copy, Debug)]
struct Followed {
    crop: Crop,
    size: (usize, usize),
}

impl Tracker {
    /// Creates a tracker with the weights that ship with the product.
    ///
    /// # Errors
    /// Only if the build embedded a damaged weight file.
    pub fn builtin() -> Result<Self, WeightsError> {
        Ok(Self::new(LandmarkNet::parse(WEIGHTS)?))
    }

    /// Creates a tracker with other weights.
    pub fn new(net: LandmarkNet) -> Self {
        Self { net, tape: Tape::default(), followed: None, next_window: 0 }
    }

    /// Forgets the face, for a new clip or after a cut.
    pub fn reset(&mut self) {
        self.followed = None;
        self.next_window = 0;
    }

    /// Returns the landmarks of the face in the next frame, in pixels of the frame; `None` if it
    /// shows no face, or the scan has not reached the face yet.
    ///
    /// Frames may have any size and must come in order of time.
    pub fn track(&mut self, frame: &Frame) -> Option<Landmarks> {
        let size = frame.size();
        if size.0.min(size.1) < MIN_FRAME {
            self.reset();
            return None;
        }
        let expected = self.followed.take().and_then(|last| last.in_frame_of(size));
        let seen = expected
            .and_then(|crop| {
                let is_valid = |seen: &Detection| {
                    seen.presence > LOST_PRESENCE && seen.mirror_disagreement < LOST_DISAGREEMENT
                };
                self.refine(frame, crop, &mut { FOLLOW_PASSES }, is_valid)
            })
            .or_else(|| self.find(frame));
        let (seen, crop) = seen?;
        self.followed = Some(Followed { crop, size });
        self.next_window = 0;
        // The mirror disagreement at which a face is lost halves the confidence. A yaw a quarter
        // beyond the labelled range halves it, too; there the landmarks were learned only from
        // the actor.
        let beyond = 4.0 * (yaw(&seen.points) / LABELLED_TURN - 1.0).max(0.0);
        let confidence = seen.presence * (1.0 - 0.5 * seen.mirror_disagreement / LOST_DISAGREEMENT)
            / (1.0 + beyond);
        Some(Landmarks { points: seen.points, spread: seen.spread, confidence })
    }

    /// Detects the face and moves the crop to it until the crop settles.
    ///
    /// Counts down `passes`. Returns `None` if the crop does not settle within them, or the
    /// detection does not satisfy `is_valid`.
    fn refine(
        &mut self,
        frame: &Frame,
        mut crop: Crop,
        passes: &mut usize,
        is_valid: impl Fn(&Detection) -> bool,
    ) -> Option<(Detection, Crop)> {
        while *passes > 0 {
            *passes -= 1;
            let seen = self.net.detect(frame, &crop, &mut self.tape);
            let next = Crop::aligning(self.net.mean_shape(), &seen.points)
                .filter(|next| is_plausible(next, frame.size()))?;
            let moved = distance(&crop, &next);
            if moved < SETTLED {
                let crop = crop.lerp(&next, (1.0 - TRAIL / moved).max(0.0));
                return is_valid(&seen).then_some((seen, crop));
            }
            crop = next;
        }
        None
    }

    /// Scans the frame, large windows first, and refines the best window of each size.
    fn find(&mut self, frame: &Frame) -> Option<(Detection, Crop)> {
        let small = Shrunk::new(frame);
        let windows = windows(small.size);
        let start = self.next_window % windows.len();
        let mut left = SCAN_LIMIT;
        let mut at = start;
        while left > 2 * FIND_PASSES && at < windows.len() {
            let size_idx = windows[at].0;
            let group: Vec<Crop> = windows[at..]
                .iter()
                .take_while(|(idx, _)| *idx == size_idx)
                .take(left - 2 * FIND_PASSES)
                .map(|(_, crop)| *crop)
                .collect();
            at += group.len();
            left -= group.len();
            if let Some(found) = self.best_of(frame, &small, &group, &mut left) {
                return Some(found);
            }
        }
        self.next_window = at % windows.len();
        None
    }

    /// Runs the network on a group of windows and refines the best two; counts down the crops
    /// `left`.
    fn best_of(
        &mut self,
        frame: &Frame,
        small: &Shrunk,
        group: &[Crop],
        left: &mut usize,
    ) -> Option<(Detection, Crop)> {
        let mut candidates: Vec<(f32, Crop)> = Vec::new();
        let mut crops = Vec::new();
        for windows in group.chunks(SCAN_BATCH) {
            crops.clear();
            for window in windows {
                let mut crop = window.sample(small, LandmarkNet::CROP_SIDE);
                LandmarkNet::normalize(&mut crop);
                crops.extend(crop);
            }
            self.net.run(&crops, &mut self.tape);
            let seen =
                windows.iter().enumerate().map(|(i, w)| (self.tape.outputs().probability(i), *w));
            candidates.extend(seen.filter(|(presence, _)| *presence > WINDOW_PRESENCE));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        candidates.iter().take(2).find_map(|(_, window)| {
            let crop = small.crop_in_frame(window);
            let is_valid = |seen: &Detection| {
                seen.presence > FOUND_PRESENCE
                    && seen.mirror_disagreement < FOUND_DISAGREEMENT
                    && seen.mean_spread < FOUND_SPREAD
            };
            // A pass reads a crop and its mirror image.
            let limit = FIND_PASSES.min(*left / 2);
            let mut passes = limit;
            let found = self.refine(frame, crop, &mut passes, is_valid);
            *left -= 2 * (limit - passes);
            found
        })
    }
}

impl Followed {
    /// Scales the crop to a frame of another size; `None` if the aspect ratio changed.
    fn in_frame_of(self, size: (usize, usize)) -> Option<Crop> {
        let (x, y) = (size.0 as f32 / self.size.0 as f32, size.1 as f32 / self.size.1 as f32);
        ((x / y - 1.0).abs() < 0.02).then(|| Crop {
            center: self.crop.center.map(|v| v * x),
            axis: self.crop.axis.map(|v| v * x),
        })
    }
}

/// Returns whether a crop may hold a face: not too small, at most three frames large, its center
/// inside the frame.
fn is_plausible(crop: &Crop, (width, height): (usize, usize)) -> bool {
    let [x, y] = crop.center;
    let inside = (0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y);
    inside && (MIN_CROP..3.0 * width.max(height) as f32).contains(&crop.side())
}

/// Returns the absolute yaw of a face, radians, by the depth of its cheeks.
fn yaw(points: &[[f32; 3]]) -> f32 {
    let [right, left] = CHEEKS.map(|i| points[i]);
    let across = (left[0] - right[0]).hypot(left[1] - right[1]);
    (left[2] - right[2]).atan2(across).abs()
}

/// Returns the distance of two crops: the larger of translation and change of axis (for small
/// changes: radians, log scale), in sides of the first.
fn distance(a: &Crop, b: &Crop) -> f32 {
    let length = |p: [f32; 2], q: [f32; 2]| (p[0] - q[0]).hypot(p[1] - q[1]) / a.side();
    length(a.center, b.center).max(length(a.axis, b.axis))
}

/// Shrunk gray copy of a frame, for the scan.
struct Shrunk {
    luma: Vec<f32>,
    size: (usize, usize),
    /// Frame pixels per pixel of the copy.
    scale: f32,
}

impl Luma for Shrunk {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn luma(&self, x: usize, y: usize) -> f32 {
        self.luma[y * self.size.0 + x]
    }
}

impl Shrunk {
    fn new(frame: &Frame) -> Self {
        let (width, height) = frame.size();
        let scale = (width.min(height) as f32 / SCAN_FRAME as f32).max(1.0);
        let size = ((width as f32 / scale) as usize, (height as f32 / scale) as usize);
        let mut luma = Vec::with_capacity(size.0 * size.1);
        // Mean over blocks with at most 4 x 4 taps, which is enough for the scan.
        let taps = scale.ceil().min(4.0) as usize;
        let at = |cell: usize, tap: usize, last: usize| {
            let v = (cell as f32 + (tap as f32 + 0.5) / taps as f32) * scale;
            (v as usize).min(last)
        };
        for y in 0..size.1 {
            for x in 0..size.0 {
                let mut sum = 0.0;
                for i in 0..taps {
                    for j in 0..taps {
                        sum += frame.luma(at(x, j, width - 1), at(y, i, height - 1));
                    }
                }
                luma.push(sum / (taps * taps) as f32);
            }
        }
        Self { luma, size, scale }
    }

    fn crop_in_frame(&self, crop: &Crop) -> Crop {
        let scaled = |v: [f32; 2]| v.map(|v| v * self.scale);
        Crop { center: scaled(crop.center), axis: scaled(crop.axis) }
    }
}

/// Returns the scan windows, each with the index of its size: large ones first, each size from the
/// middle outwards.
fn windows((width, height): (usize, usize)) -> Vec<(usize, Crop)> {
    let (width, height) = (width as f32, height as f32);
    let mut windows = Vec::new();
    for (size_idx, share) in SCAN_SIDES.iter().enumerate() {
        let side = share * width.min(height);
        // Centers lie where the face, about 0.6 of the window, is mostly inside the frame.
        let along = |length: f32| {
            let reach = (length - 0.5 * side).max(0.0);
            let n = (reach / (SCAN_STEP * side)).ceil() as usize;
            let first = (length - reach) / 2.0;
            let step = reach / n.max(1) as f32;
            (0..=n).map(move |i| if n == 0 { length / 2.0 } else { first + i as f32 * step })
        };
        let mut group: Vec<[f32; 2]> =
            along(height).flat_map(|y| along(width).map(move |x| [x, y])).collect();
        let from_middle = |p: &[f32; 2]| (p[0] - width / 2.0).hypot(p[1] - height / 2.0);
        group.sort_by(|a, b| from_middle(a).total_cmp(&from_middle(b)));
        windows.extend(group.into_iter().map(|center| (size_idx, Crop::upright(center, side))));
    }
    windows
}

#[cfg(test)]
mod tests {
    use types::MediaTime;

    use super::*;

    fn frame(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Frame {
        let at = |i: u32| pixel(i % width, i / width);
        let rgb: Vec<u8> = (0..width * height).flat_map(at).collect();
        Frame::new(width, height, MediaTime::ZERO, rgb).unwrap()
    }

    fn noise(x: u32, y: u32) -> [u8; 3] {
        let [r, g, b, ..] = numerics::hash(x.into(), y.into()).to_le_bytes();
        [r, g, b]
    }

    #[test]
    fn images_without_a_face_are_rejected() {
        type Pixel = fn(u32, u32) -> [u8; 3];
        let pixels: [(&str, Pixel); 6] = [
            ("black", |_, _| [0; 3]),
            ("white", |_, _| [255; 3]),
            ("noise", noise),
            ("ramp", |x, _| [x as u8; 3]),
            ("checks", |x, y| [if (x / 16 + y / 16) % 2 == 0 { 220 } else { 30 }; 3]),
            ("disc", |x, y| {
                [if x.abs_diff(128).pow(2) + y.abs_diff(120).pow(2) < 5000 { 200 } else { 90 }; 3]
            }),
        ];
        for (name, pixel) in pixels {
            let mut tracker = Tracker::builtin().unwrap();
            let frame = frame(256, 256, pixel);
            for _ in 0..4 {
                assert!(tracker.track(&frame).is_none(), "{name}");
            }
        }
    }

    #[test]
    fn frames_of_any_size_are_accepted() {
        let mut tracker = Tracker::builtin().unwrap();
        for (width, height) in [(1, 1), (1, 300), (23, 24), (24, 24), (25, 400), (400, 31)] {
            let seen = tracker.track(&frame(width, height, noise));
            assert!(seen.is_none(), "{width}x{height}");
        }
    }

    #[test]
    fn a_face_that_leaves_the_frame_is_lost() {
        let mut tracker = Tracker::builtin().unwrap();
        let crop = Crop::upright([64.0, 64.0], 100.0);
        tracker.followed = Some(Followed { crop, size: (128, 128) });
        assert!(tracker.track(&frame(128, 128, |_, _| [90; 3])).is_none());
        assert!(tracker.followed.is_none());
    }

    #[test]
    fn a_face_is_kept_when_the_frame_size_changes() {
        let crop = Crop { center: [60.0, 40.0], axis: [50.0, 5.0] };
        let last = Followed { crop, size: (128, 128) };
        let twice = last.in_frame_of((256, 256)).unwrap();
        assert_eq!((twice.center, twice.axis), ([120.0, 80.0], [100.0, 10.0]));
        assert_eq!(last.in_frame_of((256, 128)), None);
    }

    #[test]
    fn the_scan_covers_the_frame_at_every_size() {
        let windows = windows((144, 144));
        for (size_idx, share) in SCAN_SIDES.iter().enumerate() {
            let side = share * 144.0;
            let group: Vec<&Crop> =
                windows.iter().filter(|(i, _)| *i == size_idx).map(|(_, c)| c).collect();
            // A face inside the frame has a window within the translation that the network tolerates.
            let margin = (0.31 * side).min(72.0);
            for (x, y) in [(margin, margin), (72.0, 72.0), (144.0 - margin, margin)] {
                let near = |c: &&&Crop| {
                    (c.center[0] - x).abs().max((c.center[1] - y).abs()) <= 0.16 * side
                };
                assert!(group.iter().any(|c| near(&c)), "no window of {side} near {x}, {y}");
            }
        }
        assert_eq!(windows.iter().filter(|(i, _)| *i < 3).count(), 74);
    }
}
