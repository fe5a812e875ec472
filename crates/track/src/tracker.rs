use types::{Frame, Landmarks};

use crate::crop::{Crop, Luma};
use crate::landmark_net::{CROP_SIDE, LandmarkNet, Seen, Tape, WeightsError, normalize};

/// The weights that ship with the product; docs/MODEL.md tells how they were made.
pub(crate) const WEIGHTS: &[u8] = include_bytes!("../../../assets/tracker.safetensors");

/// A face being followed is given up when its presence falls below this.
const LOST: f32 = 0.3;
/// A new face is believed from this presence on; 99 % of the held-out faces have over 0.998.
const FOUND: f32 = 0.98;
/// A new face is believed up to this doubt. Half of the held-out faces are under 0.005, 99 % under
/// 0.013; on what is no face it is mostly more.
const FOUND_DOUBT: f32 = 0.014;
/// A new face is believed up to this vagueness. 99 % of the held-out faces are under 0.05; a soft
/// texture that passes for a face otherwise has 0.1 and more.
const FOUND_VAGUENESS: f32 = 0.08;
/// A face being followed is given up above this doubt.
const LOST_DOUBT: f32 = 0.05;
/// A window of the scan is worth a closer look from this presence on.
const PROMISING: f32 = 0.4;
/// Pictures with a shorter side than this hold no face worth the name.
const SMALLEST_PICTURE: usize = 24;
/// Smallest side of a crop in pixels; the face in it is about 0.6 of that.
const SMALLEST_CROP: f32 = 24.0;
/// Landmarks of the subject's right and left cheek, at the ears.
const CHEEKS: [usize; 2] = [234, 454];
/// Heads of the training set are turned no further to either side, radians; what the network says
/// beyond is a guess that gets worse.
const LABELLED_TURN: f32 = 0.5;
/// Looks at one frame while following, at most.
const FOLLOW_PASSES: usize = 4;
/// Looks at a promising window before deciding.
const FIND_PASSES: usize = 6;
/// A look is repeated when the face lay further than this from where the crop expected it: a
/// share of the crop's side, also for the change of its `axis` (so radians, and log scale).
const STEADY: f32 = 0.06;
/// The crop trails the face by this, measured as [`STEADY`]: a resting face is seen through the
/// same grid of pixels in every frame, so that neither trembles with the other.
const RESTING: f32 = 0.02;
/// Crops that go through the network in one frame of the scan, which bounds the cost of having no
/// face. Of these, enough for one closer look are kept back from the windows.
const SCAN_LIMIT: usize = 44;
/// Sides of the scan's windows in shorter sides of the picture, large faces first.
const SCAN_SIDES: [f32; 4] = [1.2, 0.75, 0.46, 0.29];
/// Distance of neighbouring windows in their sides; the network was trained to bear half of it.
const SCAN_STEP: f32 = 0.3;
/// The scan looks at a copy of the picture whose shorter side is this.
const SCAN_PICTURE: usize = 144;
/// Windows that go through the network together.
const TOGETHER: usize = 8;

/// Finds one face and follows it from frame to frame: 478 landmarks, or no face.
///
/// While following, the last landmarks say where to look: a levelled crop goes through the
/// landmark network together with its mirror image, again if the face moved much. Without a face
/// the picture is scanned with windows of several sizes; what one frame leaves unscanned the next
/// continues, so that a frame without a face costs little more than finding one.
///
/// The same frames in the same order give the same landmarks.
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
    /// Window at which the scan goes on.
    next_window: usize,
}

/// Where the face was in the last frame.
#[derive(Clone, Copy, Debug)]
struct Followed {
    crop: Crop,
    size: (usize, usize),
}

impl Tracker {
    /// A tracker with the weights that ship with the product.
    ///
    /// # Errors
    /// If this build was made with a damaged weight file.
    pub fn builtin() -> Result<Self, WeightsError> {
        Ok(Self::new(LandmarkNet::parse(WEIGHTS)?))
    }

    /// A tracker with other weights.
    pub fn new(net: LandmarkNet) -> Self {
        Self { net, tape: Tape::default(), followed: None, next_window: 0 }
    }

    /// Forgets the face, as at the start of another clip or after a cut.
    pub fn reset(&mut self) {
        self.followed = None;
        self.next_window = 0;
    }

    /// The landmarks of the face in `frame`, in its pixels; `None` if there is no face.
    ///
    /// Frames are expected in the order of their time. Any size will do.
    pub fn track(&mut self, frame: &Frame) -> Option<Landmarks> {
        let size = frame.size();
        if size.0.min(size.1) < SMALLEST_PICTURE {
            self.reset();
            return None;
        }
        let expected = self.followed.take().and_then(|last| last.in_picture_of(size));
        let seen = expected
            .and_then(|crop| {
                let believed = |seen: &Seen| seen.presence > LOST && seen.doubt < LOST_DOUBT;
                self.refine(frame, crop, &mut { FOLLOW_PASSES }, believed)
            })
            .or_else(|| self.find(frame));
        let (seen, crop) = seen?;
        self.followed = Some(Followed { crop, size });
        self.next_window = 0;
        // Doubt that would lose the face halves the confidence, and so does a turn of some 70
        // degrees, which the landmarks, for want of examples, show as a quarter more than the
        // labels have.
        let beyond = 4.0 * (turn_to_side(&seen.points) / LABELLED_TURN - 1.0).max(0.0);
        let confidence = seen.presence * (1.0 - 0.5 * seen.doubt / LOST_DOUBT) / (1.0 + beyond);
        Some(Landmarks { points: seen.points, spread: seen.spread, confidence })
    }

    /// Looks, and looks again from where the face really was, until it lies as expected.
    ///
    /// `None` if that does not happen before no `looks` are left, or what is seen then is not
    /// believed.
    fn refine(
        &mut self,
        frame: &Frame,
        mut crop: Crop,
        looks: &mut usize,
        believed: impl Fn(&Seen) -> bool,
    ) -> Option<(Seen, Crop)> {
        while *looks > 0 {
            *looks -= 1;
            let seen = self.net.look(frame, &crop, &mut self.tape);
            let next = Crop::aligning(self.net.mean_shape(), &seen.points)
                .filter(|next| plausible(next, frame.size()))?;
            let apart = distance(&crop, &next);
            if apart < STEADY {
                let crop = crop.towards(&next, (1.0 - RESTING / apart).max(0.0));
                return believed(&seen).then_some((seen, crop));
            }
            crop = next;
        }
        None
    }

    /// Scans the picture, coarse windows first, and refines the best of each size.
    fn find(&mut self, frame: &Frame) -> Option<(Seen, Crop)> {
        let small = Shrunk::of(frame);
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

    /// Looks at a group of windows, and closer at the best two of them while crops are `left`.
    fn best_of(
        &mut self,
        frame: &Frame,
        small: &Shrunk,
        group: &[Crop],
        left: &mut usize,
    ) -> Option<(Seen, Crop)> {
        let mut promising: Vec<(f32, Crop)> = Vec::new();
        let mut crops = Vec::new();
        for windows in group.chunks(TOGETHER) {
            crops.clear();
            for window in windows {
                let mut crop = window.sample(small, CROP_SIDE);
                normalize(&mut crop);
                crops.extend(crop);
            }
            self.net.run(&crops, &mut self.tape);
            let seen = windows.iter().enumerate().map(|(i, w)| (self.tape.probability(i), *w));
            promising.extend(seen.filter(|(presence, _)| *presence > PROMISING));
        }
        promising.sort_by(|a, b| b.0.total_cmp(&a.0));
        promising.iter().take(2).find_map(|(_, window)| {
            let crop = small.crop_in_frame(window);
            let believed = |seen: &Seen| {
                seen.presence > FOUND
                    && seen.doubt < FOUND_DOUBT
                    && seen.vagueness < FOUND_VAGUENESS
            };
            // A look takes a crop and its mirror image.
            let may = FIND_PASSES.min(*left / 2);
            let mut looks = may;
            let found = self.refine(frame, crop, &mut looks, believed);
            *left -= 2 * (may - looks);
            found
        })
    }
}

impl Followed {
    /// The crop in a picture of another size: scaled with it, or none if its shape changed too.
    fn in_picture_of(self, size: (usize, usize)) -> Option<Crop> {
        let (x, y) = (size.0 as f32 / self.size.0 as f32, size.1 as f32 / self.size.1 as f32);
        ((x / y - 1.0).abs() < 0.02).then(|| Crop {
            center: self.crop.center.map(|v| v * x),
            axis: self.crop.axis.map(|v| v * x),
        })
    }
}

/// Whether a face could be there: large enough, not larger than three pictures, centre inside.
fn plausible(crop: &Crop, (width, height): (usize, usize)) -> bool {
    let [x, y] = crop.center;
    let inside = (0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y);
    inside && (SMALLEST_CROP..3.0 * width.max(height) as f32).contains(&crop.side())
}

/// How far a face is turned to either side, radians, by the depth of its cheeks.
fn turn_to_side(points: &[[f32; 3]]) -> f32 {
    let [right, left] = CHEEKS.map(|i| points[i]);
    let across = (left[0] - right[0]).hypot(left[1] - right[1]);
    (left[2] - right[2]).atan2(across).abs()
}

/// How far two crops are apart: the larger of shift and change of axis, in sides of the first.
fn distance(a: &Crop, b: &Crop) -> f32 {
    let length = |p: [f32; 2], q: [f32; 2]| (p[0] - q[0]).hypot(p[1] - q[1]) / a.side();
    length(a.center, b.center).max(length(a.axis, b.axis))
}

/// A small grey copy of a frame, for the scan.
struct Shrunk {
    luma: Vec<f32>,
    size: (usize, usize),
    /// Pixels of the frame in one of this.
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
    fn of(frame: &Frame) -> Self {
        let (width, height) = frame.size();
        let scale = (width.min(height) as f32 / SCAN_PICTURE as f32).max(1.0);
        let size = ((width as f32 / scale) as usize, (height as f32 / scale) as usize);
        let mut luma = Vec::with_capacity(size.0 * size.1);
        // A mean over blocks, at most 4 x 4 taps: enough to find a face by.
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

/// The windows of the scan over a picture, large ones first, each size from the middle outwards.
fn windows((width, height): (usize, usize)) -> Vec<(usize, Crop)> {
    let (width, height) = (width as f32, height as f32);
    let mut windows = Vec::new();
    for (size_idx, share) in SCAN_SIDES.iter().enumerate() {
        let side = share * width.min(height);
        // Centres lie where the face, about 0.6 of the window, is mostly inside the picture.
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

    fn picture(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Frame {
        let at = |i: u32| pixel(i % width, i / width);
        let rgb: Vec<u8> = (0..width * height).flat_map(at).collect();
        Frame::new(width, height, MediaTime::ZERO, rgb).unwrap()
    }

    fn noise(x: u32, y: u32) -> [u8; 3] {
        let [r, g, b, ..] = numerics::hash(x.into(), y.into()).to_le_bytes();
        [r, g, b]
    }

    #[test]
    fn nothing_that_is_no_face_is_taken_for_one() {
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
            let frame = picture(256, 256, pixel);
            for _ in 0..4 {
                assert!(tracker.track(&frame).is_none(), "{name}");
            }
        }
    }

    #[test]
    fn a_frame_of_any_size_is_looked_at() {
        let mut tracker = Tracker::builtin().unwrap();
        for (width, height) in [(1, 1), (1, 300), (23, 24), (24, 24), (25, 400), (400, 31)] {
            let seen = tracker.track(&picture(width, height, noise));
            assert!(seen.is_none(), "{width}x{height}");
        }
    }

    #[test]
    fn a_face_lost_from_the_picture_is_given_up() {
        let mut tracker = Tracker::builtin().unwrap();
        let crop = Crop::upright([64.0, 64.0], 100.0);
        tracker.followed = Some(Followed { crop, size: (128, 128) });
        assert!(tracker.track(&picture(128, 128, |_, _| [90; 3])).is_none());
        assert!(tracker.followed.is_none());
    }

    #[test]
    fn a_picture_that_changes_its_size_keeps_its_face() {
        let crop = Crop { center: [60.0, 40.0], axis: [50.0, 5.0] };
        let last = Followed { crop, size: (128, 128) };
        let twice = last.in_picture_of((256, 256)).unwrap();
        assert_eq!((twice.center, twice.axis), ([120.0, 80.0], [100.0, 10.0]));
        assert_eq!(last.in_picture_of((256, 128)), None);
    }

    #[test]
    fn the_scan_covers_the_picture_with_windows_of_every_size() {
        let windows = windows((144, 144));
        for (size_idx, share) in SCAN_SIDES.iter().enumerate() {
            let side = share * 144.0;
            let group: Vec<&Crop> =
                windows.iter().filter(|(i, _)| *i == size_idx).map(|(_, c)| c).collect();
            // A face fully inside the picture has a window within the shift the network bears.
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
