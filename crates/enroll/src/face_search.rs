//! Search for faces where the tracker does not follow one: beside the first, and in a turned picture.

use track::{Tracker, luma_from_srgb};
use types::{Landmarks, SquareFrame};

/// Calls of the tracker for one picture: in two it scans for all but the smallest faces.
const N_SCANS: usize = 2;
/// Least size of a second face, as a share of the first.
const MIN_SECOND: f32 = 0.4;
/// Least distance of the centers of two faces, in widths of the first.
const MIN_APART: f32 = 0.5;
/// Share of the box around the first face that is added on each side, to hide all of the head.
const HIDDEN: f32 = 0.3;

/// A quarter, half or three quarters of a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    Left,
    Half,
    Right,
}

impl Turn {
    /// Returns the turn in words: what to do with the picture.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Left => "by 90 degrees counterclockwise",
            Self::Half => "by 180 degrees",
            Self::Right => "by 90 degrees clockwise",
        }
    }

    /// Returns the turned picture.
    pub(crate) fn of(self, frame: &SquareFrame) -> SquareFrame {
        let side = frame.side();
        let last = side - 1;
        let rgb: Vec<u8> = (0..side * side)
            .flat_map(|i| {
                let (x, y) = (i % side, i / side);
                match self {
                    Self::Left => frame.rgb_at(last - y, x),
                    Self::Half => frame.rgb_at(last - x, last - y),
                    Self::Right => frame.rgb_at(y, last - x),
                }
            })
            .collect();
        SquareFrame::new(side, frame.time(), rgb).expect("the picture has the size of the frame")
    }
}

/// Returns the face in a single picture, if there is one.
fn find(tracker: &mut Tracker, frame: &SquareFrame) -> Option<Landmarks> {
    tracker.reset();
    (0..N_SCANS).find_map(|_| tracker.track(frame))
}

/// Least gain of confidence by which a turned face counts as the right one. An upright face has .04 to
/// .11 more than the same face upside down.
const MIN_GAIN: f32 = 0.02;

/// Returns the confidence in the face of a single picture; `None` if there is none.
pub(crate) fn confidence(tracker: &mut Tracker, frame: &SquareFrame) -> Option<f32> {
    find(tracker, frame).map(|landmarks| landmarks.confidence)
}

/// Returns the turn of the pictures in which they show a face with more confidence than `upright`, their mean
/// confidence as they are, if there is one. The tracker takes some faces that are upside down for upright ones.
pub(crate) fn better_turn(
    tracker: &mut Tracker,
    frames: &[&SquareFrame],
    upright: f32,
    turns: &[Turn],
) -> Option<Turn> {
    let mut mean = |turn: Turn| {
        let turned = frames.iter().map(|frame| turn.of(frame));
        let confidences = turned.map(|frame| confidence(tracker, &frame).unwrap_or(0.0));
        confidences.sum::<f32>() / frames.len().max(1) as f32
    };
    turns
        .iter()
        .map(|turn| (mean(*turn), *turn))
        .filter(|(confidence, _)| *confidence > upright + MIN_GAIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, turn)| turn)
}

/// Pictures that are examined to find out why they show no face, evenly spread.
const N_EXAMINED: usize = 6;
/// Mean brightness below which a picture is called dark, 0..=255.
const DARK: f32 = 30.0;

/// Why the tracker finds no face.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unseen {
    /// There is one when the pictures are turned.
    Turned(Turn),
    /// The pictures are almost black.
    Dark,
    /// Perhaps there is none.
    Unknown,
}

/// Returns why the tracker finds no face in these pictures.
///
/// # Errors
/// Only if the build embedded a damaged tracker.
pub(crate) fn why_unseen(frames: &[&SquareFrame]) -> anyhow::Result<Unseen> {
    let step = frames.len().div_ceil(N_EXAMINED).max(1);
    let examined: Vec<&SquareFrame> = frames.iter().step_by(step).copied().collect();
    let mut tracker = Tracker::builtin()?;
    let turns = [Turn::Half, Turn::Left, Turn::Right];
    let upright: f32 =
        examined.iter().map(|frame| confidence(&mut tracker, frame).unwrap_or(0.0)).sum();
    let upright = upright / examined.len().max(1) as f32;
    if let Some(turn) = better_turn(&mut tracker, &examined, upright, &turns) {
        return Ok(Unseen::Turned(turn));
    }
    let brightness = |frame: &&SquareFrame| {
        let pixels = frame.rgb().as_chunks::<3>().0;
        pixels.iter().map(|[r, g, b]| luma_from_srgb(*r, *g, *b)).sum::<f32>() / pixels.len() as f32
    };
    let is_dark = examined.iter().all(|frame| brightness(frame) < DARK);
    Ok(if is_dark && !examined.is_empty() { Unseen::Dark } else { Unseen::Unknown })
}

/// Returns whether a picture shows another face of a similar size beside the one with these landmarks.
pub(crate) fn second_face(
    tracker: &mut Tracker,
    frame: &SquareFrame,
    landmarks: &Landmarks,
) -> bool {
    let first = FaceBox::around(landmarks);
    let Some(second) = find(tracker, &hidden(frame, &first)).map(|l| FaceBox::around(&l)) else {
        return false;
    };
    let [dx, dy] = [0, 1].map(|i| second.middle[i] - first.middle[i]);
    second.half[1] > MIN_SECOND * first.half[1] && dx.hypot(dy) > MIN_APART * 2.0 * first.half[0]
}

/// Box around a face, pixels.
struct FaceBox {
    middle: [f32; 2],
    half: [f32; 2],
}

impl FaceBox {
    fn around(landmarks: &Landmarks) -> Self {
        let bound = |i: usize| {
            let values = landmarks.points.iter().map(|p| p[i]);
            values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let both = [bound(0), bound(1)];
        Self {
            middle: both.map(|(low, high)| f32::midpoint(low, high)),
            half: both.map(|(low, high)| (high - low) / 2.0),
        }
    }
}

/// Returns the picture with a gray box in place of the head.
fn hidden(frame: &SquareFrame, face: &FaceBox) -> SquareFrame {
    let side = frame.side();
    let reach = face.half.map(|half| half * (1.0 + 2.0 * HIDDEN));
    let rgb: Vec<u8> = (0..side * side)
        .flat_map(|i| {
            let at = [i % side, i / side];
            let is_inside = (0..2).all(|k| (at[k] as f32 - face.middle[k]).abs() < reach[k]);
            if is_inside { [128; 3] } else { frame.rgb_at(at[0], at[1]) }
        })
        .collect();
    SquareFrame::new(side, frame.time(), rgb).expect("the picture has the size of the frame")
}

#[cfg(test)]
mod tests {
    use capture::{Source, SourceSpec};
    use types::MediaTime;

    use super::*;

    #[test]
    fn a_face_that_is_turned_is_told_from_darkness_and_from_none() {
        let mut source = Source::open(&SourceSpec::Actor).unwrap();
        let upright = source.next_frame().unwrap().unwrap();
        let plain = |v: u8| SquareFrame::new(64, MediaTime::ZERO, vec![v; 64 * 64 * 3]).unwrap();
        for (picture, why) in [
            (Turn::Half.of(&upright), Unseen::Turned(Turn::Half)),
            (Turn::Left.of(&upright), Unseen::Turned(Turn::Right)),
            (Turn::Right.of(&upright), Unseen::Turned(Turn::Left)),
            (plain(3), Unseen::Dark),
            (plain(120), Unseen::Unknown),
        ] {
            assert_eq!(why_unseen(&[&picture]).unwrap(), why);
        }
    }

    #[test]
    fn a_picture_is_turned_clockwise_to_the_right() {
        let rgb: Vec<u8> = (0..4).flat_map(|i| [i; 3]).collect();
        let picture = SquareFrame::new(2, MediaTime::ZERO, rgb).unwrap();
        let reds =
            |turn: Turn| turn.of(&picture).rgb().iter().step_by(3).copied().collect::<Vec<_>>();
        assert_eq!(reds(Turn::Right), [2, 0, 3, 1]);
        assert_eq!(reds(Turn::Left), [1, 3, 0, 2]);
        assert_eq!(reds(Turn::Half), [3, 2, 1, 0]);
    }
}
