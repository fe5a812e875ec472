//! Loss concealment: extrapolates features when none arrive.

use types::{FEATURE_DIMS, Feature, LEARNED_DIMS, MediaTime, POSE_DIMS};

/// Longest extrapolation, in seconds; after that the face stands still.
pub(crate) const MAX_CONCEALMENT: f64 = 0.4;
/// Time constant with which head motion decays, in seconds. A moving head goes on as far as it
/// moved in this time.
const POSE_DECAY: f64 = 0.030;
/// Time constant with which the learned code returns to its mean, in seconds.
const CODE_DECAY: f64 = 0.6;
/// Time constant of the running mean of the learned code, in seconds.
const MEAN_WINDOW: f64 = 5.0;
/// Longest time between two features over which head motion is measured, in seconds.
const MAX_MOTION_SPAN: f64 = 0.25;

/// Loss concealment of one peer's features.
///
/// The head decelerates; the learned part of the code returns to its running mean, because a mouth
/// is as likely to turn back as to go on. The constants minimize the squared error on tracked
/// features of the actor, 80 ms apart (docs/lab/2026-11-27-transport-under-loss.md).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Concealment {
    /// Running mean of the learned code.
    mean: Option<[f32; LEARNED_DIMS]>,
}

impl Concealment {
    /// Updates the mean with a feature `gap` seconds after the previous one.
    pub(crate) fn update(&mut self, feature: &Feature, gap: f64) {
        let learned = learned(feature);
        let mean = self.mean.get_or_insert(learned);
        let share = (gap / MEAN_WINDOW).clamp(0.0, 1.0) as f32;
        for (mean, value) in mean.iter_mut().zip(learned) {
            *mean += (value - *mean) * share;
        }
    }

    /// Extrapolates to `time`, which is after `newest`; `previous` precedes `newest`.
    pub(crate) fn extrapolate(
        &self,
        previous: Option<&Feature>,
        newest: &Feature,
        time: MediaTime,
    ) -> Feature {
        let past = time.saturating_since(newest.time).as_secs_f64().min(MAX_CONCEALMENT);
        let mut values = newest.to_array();
        if let Some(mean) = &self.mean {
            let decayed = (1.0 - (-past / CODE_DECAY).exp()) as f32;
            for (value, mean) in values[POSE_DIMS..].iter_mut().zip(mean) {
                *value += (mean - *value) * decayed;
            }
        }
        if let Some(previous) = previous {
            let span = newest.time.saturating_since(previous.time).as_secs_f64();
            if span > 0.0 && span <= MAX_MOTION_SPAN {
                let steps = (POSE_DECAY * (1.0 - (-past / POSE_DECAY).exp()) / span) as f32;
                extrapolate_pose(&mut values, previous, newest, steps);
            }
        }
        Feature::from_array(time, &values).unwrap_or(Feature { time, ..*newest })
    }
}

/// Continues the pose by `steps` times its motion from `previous` to `newest`.
fn extrapolate_pose(
    values: &mut [f32; FEATURE_DIMS],
    previous: &Feature,
    newest: &Feature,
    steps: f32,
) {
    let old = previous.to_array();
    for (value, old) in values[3..POSE_DIMS].iter_mut().zip(&old[3..]) {
        *value += (*value - old) * steps;
    }
    let step = previous.pose.quat().inverse() * newest.pose.quat();
    let turned = newest.pose.quat() * glam::Quat::IDENTITY.slerp(step, steps);
    values[..3].copy_from_slice(&turned.to_scaled_axis().to_array());
}

fn learned(feature: &Feature) -> [f32; LEARNED_DIMS] {
    let mut learned = [0.0; LEARNED_DIMS];
    learned.copy_from_slice(&feature.to_array()[POSE_DIMS..POSE_DIMS + LEARNED_DIMS]);
    learned
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Code, HeadPose};

    /// A head at `yaw` radians whose mouth is `open`.
    fn feature(ms: u64, yaw: f32, open: f32) -> Feature {
        let mut code = [0.0; 30];
        code[0] = open;
        Feature {
            time: MediaTime::from_micros(ms * 1000),
            pose: HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap(),
            code: Code::new(code).unwrap(),
        }
    }

    #[test]
    fn a_turning_head_decelerates_and_an_open_mouth_relaxes() {
        let mut concealment = Concealment::default();
        for i in 0..200 {
            concealment.update(&feature(i * 80, 0.0, 0.0), 0.08);
        }
        let (previous, newest) = (feature(16_000, 0.0, 0.0), feature(16_080, 0.08, 1.0));
        let at = |ms: u64| {
            concealment.extrapolate(Some(&previous), &newest, MediaTime::from_micros(ms * 1000))
        };
        let mut last = newest;
        for ms in (16_090..=16_480).step_by(10) {
            let next = at(ms);
            let (turned, closed) = (
                next.pose.rotation().y - last.pose.rotation().y,
                last.code.as_array()[0] - next.code.as_array()[0],
            );
            assert!(turned > -1e-6 && closed > 0.005, "{turned} {closed} at {ms}");
            last = next;
        }
        // One radian per second for 30 ms.
        assert!((last.pose.rotation().y - 0.11).abs() < 1e-3, "{:?}", last.pose);
        assert!((0.45..0.55).contains(&last.code.as_array()[0]), "{:?}", last.code);
        let much_later = at(20_000);
        assert_eq!(
            (much_later.pose, much_later.code),
            (last.pose, last.code),
            "the face stands still"
        );
    }

    #[test]
    fn without_a_recent_motion_or_a_mean_the_newest_feature_is_held() {
        let newest = feature(100, 0.1, 1.0);
        let time = MediaTime::from_micros(300_000);
        let same = Concealment::default().extrapolate(None, &newest, time);
        assert_eq!(same, Feature { time, ..newest });
        let long_ago = feature(0, 0.0, 1.0);
        let newest = feature(1000, 0.1, 1.0);
        let extrapolated = Concealment::default().extrapolate(Some(&long_ago), &newest, time);
        assert_eq!(extrapolated.pose, newest.pose);
    }
}
