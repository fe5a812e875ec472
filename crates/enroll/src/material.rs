//! What a recording shows, measured before anything is learned from it, and whether that will do.

use face_shape::{CHIN, FOREHEAD};
use track::Tracker;
use types::Landmarks;

use crate::face_search::{Turn, better_turn, confidence, second_face};
use crate::picture_statistics::{Sorted, background_change, light, n_cuts, sharpness};
use crate::recording::{Recording, Shot};
use crate::warnings::Warning;

/// Frames whose pixels are measured, evenly spread.
const N_PIXEL_FRAMES: usize = 61;
/// Frames that are searched for a second face, evenly spread.
const N_SEARCHED: usize = 8;
/// Frames in which the face is searched in the turned picture, too, evenly spread.
const N_TURNED: usize = 5;

/// Measurements of a recording. Ranges reach from the 2nd to the 98th percentile of all frames with a
/// face.
#[derive(Clone, Debug, Default)]
pub(crate) struct Material {
    n_frames: usize,
    n_faces: usize,
    /// How long a face is visible, seconds.
    seconds: f32,
    /// Median height from chin to hairline, in sides of the picture and in pixels of the source.
    height: f32,
    height_px: f32,
    is_upside_down: bool,
    /// Frames in which a part of the head lies outside the picture.
    n_cut_heads: usize,
    /// Ranges of yaw and pitch, degrees.
    yaw: f32,
    pitch: f32,
    /// Range of the mouth's opening from the 1st to the 99th percentile, in face heights: some people
    /// open it rarely, but wide.
    mouth: f32,
    /// Range of the opening of the eyes, in widths of the eye.
    lids: f32,
    /// Median brightness of the lit parts of the face, the 90th percentile of its pixels, 0..=255.
    light: f32,
    /// Share of the face's pixels in which a color is saturated.
    saturated: f32,
    /// Median sharpness at the eyes, see [`sharpness`].
    sharpness: f32,
    /// Cuts between neighboring frames.
    n_cuts: usize,
    /// Mean deviation of the background from its median over time, in levels of brightness: the
    /// 80th percentile of its cells.
    background: f32,
    /// Frames with a second face, and frames that were searched for one.
    n_second_faces: usize,
    n_searched: usize,
}

/// Measurements of the face in one frame.
struct FaceShown {
    height_px: f32,
    yaw: f32,
    pitch: f32,
    mouth: f32,
    lids: f32,
    is_cut: bool,
}

/// Landmarks of the cheeks next to the ears, of the inner lips, and of each eye: corners and lids.
const CHEEKS: [usize; 2] = [234, 454];
const INNER_LIPS: [usize; 2] = [13, 14];
const EYES: [[usize; 4]; 2] = [[33, 133, 159, 145], [263, 362, 386, 374]];
/// Height of the skull above the hairline, in face heights: half of it may lie outside the picture.
const SKULL: f32 = 0.13;
/// How far the outline of the face may lie outside the picture, in face heights.
const OUTSIDE: f32 = 0.03;

impl FaceShown {
    fn new(landmarks: &Landmarks, side: u32) -> Self {
        let p = |i: usize| landmarks.points[i];
        let far = |i: usize, j: usize| (p(i)[0] - p(j)[0]).hypot(p(i)[1] - p(j)[1]);
        let [chin, top] = [CHIN, FOREHEAD].map(p);
        let [right, left] = CHEEKS.map(p);
        let height_px = far(CHIN, FOREHEAD).max(1e-3);
        let across = (left[0] - right[0]).hypot(left[1] - right[1]);
        let lids = EYES
            .map(|[outer, inner, upper, lower]| far(upper, lower) / far(outer, inner).max(1e-3));
        let crown = [0, 1].map(|i| top[i] + SKULL * (top[i] - chin[i]));
        let far_out = landmarks.points.iter().map(|p| outside([p[0], p[1]], side));
        let far_out = far_out.fold(0.0, f32::max) / height_px;
        Self {
            height_px,
            yaw: (left[2] - right[2]).atan2(across).to_degrees(),
            pitch: (top[2] - chin[2]).atan2(height_px).to_degrees(),
            mouth: far(INNER_LIPS[0], INNER_LIPS[1]) / height_px,
            lids: f32::midpoint(lids[0], lids[1]),
            is_cut: far_out > OUTSIDE || outside(crown, side) > 0.0,
        }
    }
}

/// Returns how far a point lies outside a frame of `side` pixels, in pixels.
fn outside(point: [f32; 2], side: u32) -> f32 {
    point.iter().map(|v| (-v).max(v - side as f32)).fold(0.0, f32::max)
}

impl Material {
    /// Measures a recording.
    ///
    /// # Errors
    /// Only if the build embedded a damaged tracker.
    pub(crate) fn measure(recording: &Recording) -> anyhow::Result<Self> {
        let side = recording.side;
        let faces: Vec<(&Shot, &Landmarks)> =
            recording.shots.iter().filter_map(|s| Some((s, s.landmarks.as_ref()?))).collect();
        if faces.is_empty() {
            return Ok(Self { n_frames: recording.shots.len(), ..Self::default() });
        }
        let shown: Vec<FaceShown> = faces.iter().map(|(_, l)| FaceShown::new(l, side)).collect();
        let all = |value: fn(&FaceShown) -> f32| Sorted::new(shown.iter().map(value));
        let count = |is: fn(&FaceShown) -> bool| shown.iter().filter(|f| is(f)).count();
        let (height_px, mouth) = (all(|f| f.height_px).at(0.5), all(|f| f.mouth));

        let chosen = spread(&faces, N_PIXEL_FRAMES);
        let lights: Vec<(f32, f32)> = chosen.iter().map(|(s, l)| light(&s.frame, l)).collect();
        let saturated = lights.iter().map(|(_, saturated)| saturated).sum::<f32>();
        let sharpness = chosen.iter().filter_map(|(s, l)| sharpness(&s.frame, l));
        let mut tracker = Tracker::builtin()?;
        let is_upside_down = is_upside_down(&mut tracker, &spread(&faces, N_TURNED));
        let searched = spread(&faces, N_SEARCHED);
        let with_second = searched.iter().filter(|(s, l)| second_face(&mut tracker, &s.frame, l));
        Ok(Self {
            n_frames: recording.shots.len(),
            n_faces: faces.len(),
            seconds: recording.seconds() * faces.len() as f32 / recording.shots.len() as f32,
            height: height_px / side as f32,
            height_px: height_px * recording.source_side as f32 / side as f32,
            is_upside_down,
            n_cut_heads: count(|f| f.is_cut),
            yaw: all(|f| f.yaw).range(),
            pitch: all(|f| f.pitch).range(),
            mouth: mouth.at(0.99) - mouth.at(0.01),
            lids: all(|f| f.lids).range(),
            light: Sorted::new(lights.iter().map(|(light, _)| *light)).at(0.5),
            saturated: saturated / chosen.len() as f32,
            sharpness: Sorted::new(sharpness).at(0.5),
            n_cuts: n_cuts(&recording.shots),
            background: background_change(&chosen),
            n_second_faces: with_second.count(),
            n_searched: searched.len(),
        })
    }

    /// Returns what is wrong with the material, the worst first.
    ///
    /// docs/ENROLLMENT.md says on what the thresholds were chosen.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let is_mostly = |n: usize, of: usize, share: f32| n as f32 > share * of as f32;
        let (n, of) = (self.n_frames, self.n_faces);
        let is_still = self.yaw < STILL_DEGREES
            && self.pitch < STILL_DEGREES
            && self.mouth < STILL_MOUTH
            && self.lids < STILL_LIDS;
        let is_judged = !is_still && of >= MANY;
        let percent = |share: f32| (share * 100.0).round() as u32;
        [
            is_mostly(self.n_second_faces, self.n_searched, SECOND_FACES)
                .then_some(Warning::TwoPeople { frames: self.n_second_faces, of: self.n_searched }),
            is_still.then_some(Warning::StillPicture),
            self.is_upside_down.then_some(Warning::UpsideDown),
            is_mostly(self.n_cut_heads, of, CUT_HEADS)
                .then_some(Warning::HeadCut { frames: self.n_cut_heads, of }),
            is_mostly(n - of, n, MISSING).then_some(Warning::FaceMissing { frames: n - of, of: n }),
            (self.light < DARK)
                .then_some(Warning::TooDark { percent: percent(self.light / 255.0) }),
            (self.saturated > SATURATED)
                .then_some(Warning::TooBright { percent: percent(self.saturated) }),
            (self.sharpness < SHARP).then_some(Warning::Blurred),
            (self.height < SMALL || self.height_px < SMALL_PX)
                .then_some(Warning::SmallFace { height_px: self.height_px.round() as u32 }),
            (self.n_cuts > 0).then_some(Warning::Cuts { cuts: self.n_cuts }),
            (self.n_cuts == 0 && self.background > STEADY).then_some(Warning::MovingBackground),
            (self.seconds < LONG_S)
                .then_some(Warning::ShortClip { seconds: self.seconds.round() as u32 }),
            (is_judged && self.yaw < TURN_DEGREES)
                .then_some(Warning::LittleTurn { degrees: self.yaw.round() as u32 }),
            (is_judged && self.mouth < MOUTH).then_some(Warning::MouthClosed),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Thresholds of [`Material::warnings`], in the units of its fields.
const SECOND_FACES: f32 = 0.15;
const STILL_DEGREES: f32 = 1.5;
const STILL_MOUTH: f32 = 0.012;
const STILL_LIDS: f32 = 0.05;
/// Least number of frames from which the range of a movement is judged.
const MANY: usize = 120;
const MISSING: f32 = 0.25;
const CUT_HEADS: f32 = 0.25;
const DARK: f32 = 60.0;
const SATURATED: f32 = 0.2;
const SHARP: f32 = 0.11;
const SMALL: f32 = 0.2;
const SMALL_PX: f32 = 60.0;
const STEADY: f32 = 9.0;
const LONG_S: f32 = 6.0;
const TURN_DEGREES: f32 = 4.0;
const MOUTH: f32 = 0.02;

/// Returns whether the faces are found with more confidence when the pictures are turned by 180 degrees. Where
/// a search finds nothing, as with some small faces, a face counts with the confidence with which it was followed.
fn is_upside_down(tracker: &mut Tracker, faces: &[(&Shot, &Landmarks)]) -> bool {
    let mut upright = |(shot, landmarks): &(&Shot, &Landmarks)| {
        confidence(tracker, &shot.frame).unwrap_or(landmarks.confidence)
    };
    let upright = faces.iter().map(&mut upright).sum::<f32>() / faces.len().max(1) as f32;
    let frames: Vec<_> = faces.iter().map(|(shot, _)| &shot.frame).collect();
    better_turn(tracker, &frames, upright, &[Turn::Half]).is_some()
}

/// Returns at most `n` evenly spread items.
fn spread<T: Copy>(all: &[T], n: usize) -> Vec<T> {
    let n = n.min(all.len());
    (0..n).map(|i| all[(2 * i + 1) * all.len() / (2 * n)]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use capture::{Source, SourceSpec};
    use types::{MediaTime, SquareFrame};

    use super::*;

    const SIDE: u32 = 256;

    /// Seven seconds of the actor, ten frames a second.
    fn actor() -> &'static [SquareFrame] {
        static FRAMES: OnceLock<Vec<SquareFrame>> = OnceLock::new();
        FRAMES.get_or_init(|| {
            let mut source = Source::open(&SourceSpec::Actor).unwrap();
            let mut frame = |i: u64| {
                source.seek(MediaTime::of_frame(i, 10));
                source.next_frame().unwrap().unwrap()
            };
            (0..70).map(&mut frame).collect()
        })
    }

    /// The actor as it is.
    fn whole() -> &'static Recording {
        static WHOLE: OnceLock<Recording> = OnceLock::new();
        WHOLE.get_or_init(|| recording(actor().iter().cloned()))
    }

    fn recording(frames: impl IntoIterator<Item = SquareFrame>) -> Recording {
        let mut tracker = Tracker::builtin().unwrap();
        let shot = |frame: SquareFrame| Shot { landmarks: tracker.track(&frame), frame };
        let shots = frames.into_iter().map(shot).collect();
        Recording { shots, runs: Vec::new(), side: SIDE, source_side: SIDE, fps: 10 }
    }

    /// Draws a frame from the place of each pixel in it.
    fn drawn(frame: &SquareFrame, pixel: impl Fn(u32, u32) -> [u8; 3]) -> SquareFrame {
        let rgb: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| pixel(i % SIDE, i / SIDE)).collect();
        SquareFrame::new(SIDE, frame.time(), rgb).unwrap()
    }

    fn scaled(frame: &SquareFrame, by: f32) -> SquareFrame {
        let pixel = |v: &u8| (f32::from(*v) * by).min(255.0) as u8;
        let rgb: Vec<u8> = frame.rgb().iter().map(pixel).collect();
        SquareFrame::new(SIDE, frame.time(), rgb).unwrap()
    }

    /// Draws a frame at `side` pixels with its corner at `(x0, y0)` of a gray picture.
    fn placed(frame: &SquareFrame, side: u32, [x0, y0]: [i64; 2]) -> SquareFrame {
        let small = frame.resized_area(side);
        drawn(frame, |x, y| {
            let [x, y] = [i64::from(x) - x0, i64::from(y) - y0];
            let is_inside = (0..i64::from(side)).contains(&x) && (0..i64::from(side)).contains(&y);
            if is_inside { small.rgb_at(x as u32, y as u32) } else { [110; 3] }
        })
    }

    fn names(recording: &Recording) -> Vec<&'static str> {
        let material = Material::measure(recording).unwrap();
        let warnings = material.warnings();
        warnings.iter().map(Warning::name).collect()
    }

    fn names_of(change: impl FnMut(&SquareFrame) -> SquareFrame) -> Vec<&'static str> {
        names(&recording(actor().iter().map(change)))
    }

    #[test]
    fn a_good_recording_has_no_warnings() {
        assert_eq!(names(whole()), [""; 0]);
    }

    #[test]
    fn bad_light_and_blur_are_noticed() {
        assert_eq!(names_of(|frame| scaled(frame, 0.2)), ["too_dark"]);
        assert_eq!(names_of(|frame| scaled(frame, 1.8)), ["too_bright"]);
        let blurred = |frame: &SquareFrame| frame.resized_area(SIDE / 4).resized_smooth(SIDE);
        assert_eq!(names_of(blurred), ["blurred"]);
    }

    #[test]
    fn a_head_that_is_small_or_cut_is_noticed() {
        assert_eq!(names_of(|frame| placed(frame, 100, [80, 60])), ["small_face"]);
        assert_eq!(names_of(|frame| placed(frame, SIDE, [0, -90])), ["head_cut"]);
    }

    #[test]
    fn a_face_that_is_upside_down_is_told_from_one_that_is_hard_to_find() {
        let turned: Vec<_> = actor().iter().step_by(14).map(|frame| Turn::Half.of(frame)).collect();
        let upright: Vec<_> = actor().iter().step_by(14).cloned().collect();
        let empty: Vec<_> = upright.iter().map(|frame| scaled(frame, 0.0)).collect();
        let mut tracker = Tracker::builtin().unwrap();
        // As the tracker follows a face that it takes for an upright one.
        let mut landmarks = tracker.track(&upright[0]).unwrap();
        landmarks.confidence -= 0.08;
        let mut is_turned = |frames: Vec<SquareFrame>| {
            let shots: Vec<Shot> =
                frames.into_iter().map(|frame| Shot { landmarks: None, frame }).collect();
            let faces: Vec<_> = shots.iter().map(|shot| (shot, &landmarks)).collect();
            is_upside_down(&mut tracker, &faces)
        };
        assert!(is_turned(turned.clone()));
        assert!(!is_turned(upright));
        // A search finds one face of five, and that upside down.
        assert!(!is_turned([&turned[..1], &empty[1..]].concat()));
    }

    #[test]
    fn a_second_person_is_noticed() {
        let with_second = |frame: &SquareFrame| {
            let (left, right) = (placed(frame, 150, [-11, 50]), placed(frame, 150, [117, 50]));
            drawn(frame, |x, y| if x < SIDE / 2 { left.rgb_at(x, y) } else { right.rgb_at(x, y) })
        };
        let names = names_of(with_second);
        assert!(names.contains(&"two_people"), "{names:?}");
    }

    #[test]
    fn a_photo_is_noticed() {
        let photo = &actor()[20];
        assert_eq!(names_of(|frame| photo.clone().at(frame.time())), ["still_picture"]);
    }

    #[test]
    fn a_cut_and_a_shaken_camera_are_told_apart() {
        let mut cut = whole().clone();
        for shot in &mut cut.shots[35..] {
            let rgb: Vec<u8> = shot.frame.rgb().iter().map(|v| v / 2 + 100).collect();
            shot.frame = SquareFrame::new(SIDE, shot.frame.time(), rgb).unwrap();
        }
        let found = names(&cut);
        assert!(found.contains(&"cuts"), "{found:?}");
        let shaken = |frame: &SquareFrame| {
            let t = frame.time().as_secs_f64();
            let [x, y] = [(3.0 * t).sin(), (5.0 * t).cos()].map(|v| (14.0 * v) as i64);
            placed(frame, 290, [x - 17, y - 17])
        };
        let found = names_of(shaken);
        assert!(!found.contains(&"cuts"), "{found:?}");
    }

    #[test]
    fn a_head_that_hardly_turns_or_speaks_is_noticed() {
        let whole = whole();
        let shown = |shot: &Shot| FaceShown::new(shot.landmarks.as_ref().unwrap(), SIDE);
        let middle = Sorted::new(whole.shots.iter().map(|s| shown(s).yaw)).at(0.5);
        let closed = Sorted::new(whole.shots.iter().map(|s| shown(s).mouth)).at(0.3);
        let only = |is_kept: &dyn Fn(&FaceShown) -> bool| {
            let kept: Vec<Shot> =
                whole.shots.iter().filter(|s| is_kept(&shown(s))).cloned().collect();
            let shots = kept.iter().cycle().take(MANY).cloned().collect();
            names(&Recording { shots, ..whole.clone() })
        };
        let names = only(&|face| (face.yaw - middle).abs() < 1.5);
        assert!(names.contains(&"little_turn") && !names.contains(&"mouth_closed"), "{names:?}");
        let names = only(&|face| face.mouth < closed);
        assert!(names.contains(&"mouth_closed") && !names.contains(&"little_turn"), "{names:?}");
    }

    #[test]
    fn a_short_recording_with_gaps_is_noticed() {
        let shown = |i: usize, frame: &SquareFrame| {
            if i % 20 < 12 { scaled(frame, 0.0) } else { frame.clone() }
        };
        let frames = actor().iter().enumerate().map(|(i, frame)| shown(i, frame));
        let names = names(&recording(frames));
        assert!(names.contains(&"face_missing") && names.contains(&"short_clip"), "{names:?}");
    }
}
