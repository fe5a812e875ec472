//! Recorded streams: opening, length, and features at a frame rate.

use std::iter::Peekable;
use std::path::Path;

use anyhow::Context;
use call::{DecodeStreamError, StreamDecoder};
use face::FaceFile;
use types::{Feature, MediaTime};

use crate::consent::{is_confirmed, terminal_to_ask};

/// Longest video that is rendered without a question, microseconds: an hour.
const LONG_US: u64 = 3_600_000_000;

/// Opens a stream of access units.
///
/// # Errors
/// If the file cannot be read, is longer than [`StreamDecoder::MAX_BYTES`], or is not a stream of
/// `face`.
pub(super) fn open(path: &Path, face: &FaceFile) -> anyhow::Result<StreamDecoder> {
    let bytes = capture::read_file(path, StreamDecoder::MAX_BYTES)
        .with_context(|| format!("cannot read {}", path.display()))?;
    StreamDecoder::new(bytes, face)
        .with_context(|| format!("cannot decode the stream {}", path.display()))
}

/// Features of a stream at a frame rate, interpolated, from its first feature to its last. Holds two
/// features at a time.
pub(super) struct AtRate<I: Iterator<Item = Result<Feature, DecodeStreamError>>> {
    features: Peekable<I>,
    /// The newest feature that is not later than `due`.
    before: Option<Feature>,
    /// Media time of the next picture, microseconds.
    due: u64,
    /// Interval of the pictures, microseconds.
    step: u64,
}

impl<I: Iterator<Item = Result<Feature, DecodeStreamError>>> AtRate<I> {
    /// Takes features in order of time; `fps` is the number of pictures per second.
    pub(super) fn new(features: I, fps: u32) -> Self {
        let step = MediaTime::of_frame(1, fps).as_micros();
        Self { features: features.peekable(), before: None, due: 0, step }
    }

    /// Moves on to the features around the time that is due.
    fn advance(&mut self) -> Result<(), DecodeStreamError> {
        while let Some(feature) = self.features.next_if(|next| match next {
            Ok(next) => self.before.is_none() || next.time.as_micros() <= self.due,
            Err(_) => true,
        }) {
            let feature = feature?;
            if self.before.is_none() {
                self.due = feature.time.as_micros();
            }
            self.before = Some(feature);
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Result<Feature, DecodeStreamError>>> Iterator for AtRate<I> {
    type Item = Result<Feature, DecodeStreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.advance() {
            return Some(Err(error));
        }
        let before = self.before?;
        let due = MediaTime::from_micros(self.due);
        let after = match self.features.peek() {
            Some(Ok(after)) => *after,
            _ if before.time < due => return None,
            _ => before,
        };
        self.due = self.due.saturating_add(self.step);
        Some(Ok(Feature::between(&before, &after, due)))
    }
}

/// Returns the number of pictures of a stream at a frame rate.
///
/// If it is more than an hour of video, a person at the terminal is asked first, unless `is_agreed`.
///
/// # Errors
/// If the answer is no, or there is nobody to ask.
pub(super) fn agreed_length(
    stream: &StreamDecoder,
    fps: u32,
    is_agreed: bool,
) -> anyhow::Result<u64> {
    let span = stream.span();
    let length = span.last.as_micros().saturating_sub(span.first.as_micros());
    let n_pictures = length / MediaTime::of_frame(1, fps).as_micros() + 1;
    if length <= LONG_US || is_agreed {
        return Ok(n_pictures);
    }
    let told = format!("the stream shows {} of video, {n_pictures} pictures", clock(length));
    let Some(mut terminal) = terminal_to_ask() else {
        anyhow::bail!("{told}; add --yes to render them all");
    };
    let question = format!("{told}; render them all? [y/N] ");
    let mut stdin = std::io::stdin().lock();
    anyhow::ensure!(is_confirmed(&mut stdin, &mut terminal, &question)?, "nothing was rendered");
    Ok(n_pictures)
}

/// Writes a duration in microseconds as hours, minutes and seconds.
fn clock(us: u64) -> String {
    let seconds = us / 1_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use types::{Code, FeatureTimeline, HeadPose};

    use super::*;

    fn feature(ms: u64, yaw: f32) -> Feature {
        let pose = HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::from_micros(ms * 1000), pose, code: Code::NEUTRAL }
    }

    #[test]
    fn features_at_a_rate_are_those_of_a_timeline() {
        let features = [feature(20, 0.1), feature(100, 0.3), feature(110, 0.2), feature(500, 0.0)];
        let timeline: FeatureTimeline = features.into_iter().collect();
        for fps in [1, 24, 25, 240] {
            let got: Vec<Feature> =
                AtRate::new(features.map(Ok).into_iter(), fps).map(Result::unwrap).collect();
            let step = MediaTime::of_frame(1, fps).as_micros() as usize;
            let times = (20_000..=500_000).step_by(step).map(MediaTime::from_micros);
            let want: Vec<Feature> = times.map(|time| timeline.at(time).unwrap()).collect();
            assert_eq!(got.len(), want.len(), "{fps} fps");
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.time, want.time, "{fps} fps");
                let off = got.pose.rotation().y - want.pose.rotation().y;
                assert!(off.abs() < 1e-6, "{off} at {:?}, {fps} fps", got.time);
            }
        }
        assert_eq!(AtRate::new(std::iter::empty(), 25).count(), 0);
        assert_eq!(AtRate::new([Ok(feature(7, 0.1))].into_iter(), 25).count(), 1);
    }

    #[test]
    fn an_error_follows_the_pictures_before_it() {
        let features = [Ok(feature(0, 0.1)), Ok(feature(80, 0.1)), Err(DecodeStreamError::Empty)];
        let mut pictures = AtRate::new(features.into_iter(), 25);
        assert!(pictures.by_ref().take(2).all(|picture| picture.is_ok()));
        assert!(pictures.next().is_some_and(|picture| picture.is_err()));
    }

    #[test]
    fn a_duration_is_written_as_on_a_clock() {
        assert_eq!(clock(3_725_900_000), "1:02:05");
        assert_eq!(clock(30 * 24 * LONG_US), "720:00:00");
    }
}
