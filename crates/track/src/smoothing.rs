use std::f32::consts::TAU;

use glam::{Quat, Vec3};
use types::{HeadPose, MediaTime};

use face_shape::FACE_HEIGHT_M;

/// Strength of the causal filter on the head pose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Cutoff frequency for a head at rest, Hz; infinite switches the filter off.
    pub rest_hz: f32,
    /// Increase of the cutoff frequency in Hz for each face height per second of the head's speed.
    ///
    /// The speed is that of the shift across the image plane, in face heights per second, plus half
    /// the angular speed in radians per second. Motion towards the camera does not count.
    pub opening: f32,
}

impl Smoothing {
    /// No filter.
    pub const OFF: Self = Self { rest_hz: f32::INFINITY, opening: 0.0 };

    /// Filter of a call: halves the tremble of a head at rest, lags a moving head by less than a
    /// frame.
    pub const CALL: Self = Self { rest_hz: 3.0, opening: 30.0 };
}

/// One-euro filter on the head pose: a causal low-pass that opens with the speed of the head.
///
/// The speed is that of a point half a face height from the head's origin: rotation, plus the
/// translation of the origin across the image.
///
/// # Source
/// Casiez, Roussel, Vogel 2012, "1 € filter: a simple speed-based low-pass filter for noisy input in
/// interactive systems".
#[derive(Clone, Debug)]
pub(crate) struct PoseFilter {
    smoothing: Smoothing,
    last: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    time: MediaTime,
    rotation: Quat,
    translation: Vec3,
    /// Unfiltered rotation and translation.
    raw: (Quat, Vec3),
    turn_speed: Vec3,
    shift_speed: Vec3,
}

/// Cutoff frequency of the speed estimate, Hz.
const SPEED_HZ: f32 = 3.0;

impl PoseFilter {
    /// Creates a filter without a past.
    pub(crate) fn new(smoothing: Smoothing) -> Self {
        Self { smoothing, last: None }
    }

    /// Forgets the previous poses.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }

    /// Filters the pose at `time`; a gap of a second or a step back in time resets the filter.
    pub(crate) fn filter(&mut self, time: MediaTime, pose: &HeadPose) -> HeadPose {
        let raw = (pose.quat(), pose.translation());
        let elapsed = self.last.map(|s| time.saturating_since(s.time).as_secs_f32());
        let (Some(last), Some(elapsed)) = (self.last, elapsed.filter(|e| *e > 0.0 && *e < 1.0))
        else {
            let (rotation, translation) = raw;
            let (turn_speed, shift_speed) = (Vec3::ZERO, Vec3::ZERO);
            let state = State { time, rotation, translation, raw, turn_speed, shift_speed };
            self.last = Some(state);
            return *pose;
        };
        // Filtered as vectors, speeds average tremble out but not motion.
        let keep = share(SPEED_HZ, elapsed);
        let turn = (raw.0 * last.raw.0.inverse()).to_scaled_axis() / elapsed;
        let shift = (raw.1 - last.raw.1) / elapsed;
        let turn_speed = last.turn_speed.lerp(turn, keep);
        let shift_speed = last.shift_speed.lerp(shift, keep);
        let speed = 0.5 * turn_speed.length() + shift_speed.truncate().length() / FACE_HEIGHT_M;
        let share = share(self.smoothing.rest_hz + self.smoothing.opening * speed, elapsed);
        let rotation = last.rotation.slerp(raw.0, share).normalize();
        let translation = last.translation.lerp(raw.1, share);
        self.last = Some(State { time, rotation, translation, raw, turn_speed, shift_speed });
        HeadPose::new(rotation.to_scaled_axis(), translation).unwrap_or(*pose)
    }
}

/// Returns the weight of the new value in an exponential filter with this cutoff frequency.
fn share(cutoff_hz: f32, elapsed_s: f32) -> f32 {
    if cutoff_hz.is_finite() { 1.0 - 1.0 / (1.0 + TAU * cutoff_hz * elapsed_s) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose(yaw: f32) -> HeadPose {
        HeadPose::new(Vec3::new(0.0, yaw, 0.0), Vec3::new(0.0, 0.0, 1.0)).unwrap()
    }

    fn yaws(smoothing: Smoothing, input: impl Iterator<Item = f32>) -> Vec<f32> {
        let mut filter = PoseFilter::new(smoothing);
        let poses = input.enumerate().map(|(i, yaw)| {
            filter.filter(MediaTime::of_frame(i as u64, 25), &pose(yaw)).rotation().y
        });
        poses.collect()
    }

    #[test]
    fn a_trembling_head_at_rest_trembles_half_as_much() {
        let tremble = |i: usize| if i.is_multiple_of(2) { 0.002 } else { -0.002 };
        let out = yaws(Smoothing::CALL, (0..50).map(tremble));
        let rms = (out[10..].iter().map(|y| y * y).sum::<f32>() / 40.0).sqrt();
        assert!(rms < 0.001, "{rms}");
    }

    #[test]
    fn a_turning_head_lags_less_than_a_frame() {
        // Half a radian a second, from the tenth frame on.
        let truth = |i: usize| i.saturating_sub(10) as f32 * 0.02;
        let out = yaws(Smoothing::CALL, (0..40).map(truth));
        for (i, yaw) in out.iter().enumerate().skip(16) {
            assert!((truth(i) - yaw).abs() < 0.02, "frame {i}: {yaw}");
        }
    }

    #[test]
    fn the_filter_switched_off_changes_nothing() {
        let out = yaws(Smoothing::OFF, (0..20).map(|i| (i as f32).sin() * 0.1));
        for (i, yaw) in out.iter().enumerate() {
            assert!((yaw - (i as f32).sin() * 0.1).abs() < 1e-5);
        }
    }
}
