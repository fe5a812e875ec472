use std::f32::consts::TAU;

use glam::{Quat, Vec3};
use types::{HeadPose, MediaTime};

use face_shape::FACE_HEIGHT_M;

/// How a tracked pose is steadied as it comes in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Low-pass of a head at rest, Hz; infinite switches the filter off.
    pub rest_hz: f32,
    /// How much the low-pass opens per face height a second that the face moves, Hz.
    pub opening: f32,
}

impl Smoothing {
    /// Poses pass as they are: for filters that may look ahead, as [`smooth_poses`] does.
    pub const OFF: Self = Self { rest_hz: f32::INFINITY, opening: 0.0 };

    /// Takes the tremble out of a resting head and lags a moving one by less than a frame.
    pub const CALL: Self = Self { rest_hz: 3.0, opening: 30.0 };
}

/// The one-euro filter on a head pose: causal, and the faster the head the lighter.
///
/// Source: Casiez, Roussel, Vogel 2012, "1 € Filter". Speed is that of points of the face: half a
/// face height away from the head's origin, turning, plus the origin's own, across the view.
#[derive(Clone, Debug)]
pub struct PoseFilter {
    smoothing: Smoothing,
    last: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    time: MediaTime,
    rotation: Quat,
    translation: Vec3,
    /// Of the unfiltered pose.
    raw: (Quat, Vec3),
    turn_speed: Vec3,
    shift_speed: Vec3,
}

/// Cut-off of the speed estimate, Hz.
const SPEED_HZ: f32 = 3.0;

impl PoseFilter {
    /// A filter that has seen nothing.
    pub fn new(smoothing: Smoothing) -> Self {
        Self { smoothing, last: None }
    }

    /// Forgets the past.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// The steadied pose at `time`. Going back in time resets the filter.
    pub fn filter(&mut self, time: MediaTime, pose: &HeadPose) -> HeadPose {
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
        // Speeds are filtered as vectors, so that tremble averages out and motion does not.
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

/// Share of the new value in an exponential filter with this cut-off.
fn share(cutoff_hz: f32, elapsed_s: f32) -> f32 {
    if cutoff_hz.is_finite() { 1.0 - 1.0 / (1.0 + TAU * cutoff_hz * elapsed_s) } else { 1.0 }
}

/// Steadies a recorded track, looking both ways: a Gaussian of `sigma` frames.
///
/// For enrollment, which has the whole recording. Poses must be of consecutive frames.
pub fn smooth_poses(poses: &[HeadPose], sigma: f32) -> Vec<HeadPose> {
    if sigma <= 0.0 {
        return poses.to_vec();
    }
    let reach = (3.0 * sigma).ceil() as usize;
    (0..poses.len())
        .map(|i| {
            let near = i.saturating_sub(reach)..(i + reach + 1).min(poses.len());
            let (mut turn, mut shift, mut total) = (Vec3::ZERO, Vec3::ZERO, 0.0);
            let center = poses[i].quat();
            for j in near {
                let distance = i.abs_diff(j) as f32 / sigma;
                let weight = (-0.5 * distance * distance).exp();
                turn += weight * (poses[j].quat() * center.inverse()).to_scaled_axis();
                shift += weight * poses[j].translation();
                total += weight;
            }
            let rotation = (Quat::from_scaled_axis(turn / total) * center).to_scaled_axis();
            HeadPose::new(rotation, shift / total).unwrap_or(poses[i])
        })
        .collect()
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
    fn switched_off_it_changes_nothing() {
        let out = yaws(Smoothing::OFF, (0..20).map(|i| (i as f32).sin() * 0.1));
        for (i, yaw) in out.iter().enumerate() {
            assert!((yaw - (i as f32).sin() * 0.1).abs() < 1e-5);
        }
    }

    #[test]
    fn a_recorded_ramp_stays_a_ramp_when_smoothed() {
        let ramp: Vec<HeadPose> = (0..20).map(|i| pose(i as f32 * 0.01)).collect();
        for (i, pose) in smooth_poses(&ramp, 1.0).iter().enumerate().take(16).skip(4) {
            assert!((pose.rotation().y - i as f32 * 0.01).abs() < 1e-5);
        }
    }
}
