use glam::{EulerRot, Quat, Vec3};
use numerics::hash;
use types::{Expression, FOCAL, HeadPose, MediaTime, TORSO_DIMS};

use crate::action::{Actions, FacialAction, N_ACTIONS};
use crate::noise::{drift, smoothstep, uniform};
use crate::phoneme::{self, STRETCH_S, Segment};

/// Articulation of the mouth, each 0..=1 (slightly above 1 where lips must close).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mouth {
    /// Opening of the jaw.
    pub jaw: f32,
    /// Rounded lips, as in "you".
    pub round: f32,
    /// Spread lips, as in "see".
    pub wide: f32,
    /// Lips pressed together, as in "map".
    pub press: f32,
    /// Lower lip under the upper teeth, as in "five".
    pub bite: f32,
}

/// Performance at one time: the ground truth of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    /// Media time.
    pub time: MediaTime,
    /// Head pose, `camera_from_head`.
    pub pose: HeadPose,
    /// Expression coefficients: the rendered mesh is exactly the mean of the face shape plus its
    /// expression components times these.
    pub expression: Expression,
    /// Gaze relative to the head: radians to the image's right, radians down. Included in
    /// `expression`.
    pub gaze: [f32; 2],
    /// Closure of the subject's right and left eye: 0 is open, 1 is closed. Included in
    /// `expression`.
    pub blink: [f32; 2],
    /// Articulation of the mouth. Included in `expression`.
    pub mouth: Mouth,
    /// Motion of the torso `[a, b, tx, c, d, ty]` as in [`types::Code`], with the resting actor as
    /// the reference image. Exact for the pixels of the torso.
    pub torso: [f32; TORSO_DIMS],
}

/// Distance of the resting head from the camera, meters; a face is about 0.38 frame sides high.
pub(crate) const DISTANCE_M: f32 = 1.65;
/// Height of the resting head over the optical axis, meters.
pub(crate) const HEAD_UP_M: f32 = 0.02;
/// Pivot of the head on the neck, head space, meters.
const PIVOT: Vec3 = Vec3::new(0.0, 0.075, 0.09);

/// Returns the performance at `time`.
pub(crate) fn script(seed: u64, actions: &Actions, time: MediaTime) -> Performance {
    let t = time.as_secs_f64();
    let stretch = (t / STRETCH_S) as u64;
    let spoken = phoneme::segments(seed, stretch);
    let talking = talking(&spoken, t);
    let mouth = mouth(&spoken, t);
    let torso = torso(seed, t);
    let degrees = std::f32::consts::PI / 180.0;
    let speed = |hz: f64| t * hz;
    let yaw = degrees
        * (17.0 * drift(seed ^ 0x21, speed(0.28))
            + 4.5 * drift(seed ^ 0x22, speed(0.85))
            + 1.2 * talking * drift(seed ^ 0x23, speed(2.2)));
    let pitch = degrees
        * (8.0 * drift(seed ^ 0x24, speed(0.31))
            + 2.0 * drift(seed ^ 0x25, speed(0.9))
            + 1.2 * talking * drift(seed ^ 0x26, speed(2.4))
            + nods(seed, stretch, &spoken, t));
    let roll =
        degrees * (7.0 * drift(seed ^ 0x27, speed(0.23)) + 1.8 * drift(seed ^ 0x28, speed(0.8)));
    let rotation = Quat::from_euler(EulerRot::YXZ, yaw, pitch, roll);
    let sway = Vec3::new(-torso[2], -torso[5], 0.0) * (DISTANCE_M / FOCAL);
    let wander = Vec3::new(
        0.008 * drift(seed ^ 0x31, speed(0.2)),
        0.005 * drift(seed ^ 0x32, speed(0.22)),
        0.025 * drift(seed ^ 0x33, speed(0.17)),
    );
    let translation =
        Vec3::new(0.0, -HEAD_UP_M, DISTANCE_M) + sway + wander + 0.6 * (PIVOT - rotation * PIVOT);
    let pose = HeadPose::new(rotation.to_scaled_axis(), translation)
        .expect("the script keeps the head in front of the camera");

    let blink = blink(seed, t);
    let look = look(seed, t);
    // The eyes hold their target while the head turns (vestibulo-ocular reflex), within their range.
    let gaze = [soft_limit(look[0] + 0.8 * yaw, 0.42), soft_limit(look[1] - 0.8 * pitch, 0.25)];
    let smile = smile(seed, t);
    let mut weights = [0.0; N_ACTIONS];
    let mut set = |action: FacialAction, weight: f32| weights[action as usize] = weight;
    set(FacialAction::Jaw, mouth.jaw);
    set(FacialAction::Round, mouth.round);
    set(FacialAction::Wide, mouth.wide);
    set(FacialAction::Press, mouth.press);
    set(FacialAction::LipBite, mouth.bite);
    set(FacialAction::Smile, smile * (1.0 - 0.5 * mouth.round.min(1.0)) * (1.0 - 0.35 * talking));
    let lids_down = (1.0 - 0.25 * (gaze[1] / 0.25).max(0.0)).min(1.0);
    set(FacialAction::BlinkRight, blink[0] * lids_down);
    set(FacialAction::BlinkLeft, blink[1] * lids_down);
    set(FacialAction::BrowUp, brow_up(seed, &spoken, t));
    set(FacialAction::BrowFrown, 0.5 * smoothstep(0.25, 0.8, drift(seed ^ 0x43, speed(0.27))));
    set(FacialAction::GazeRight, gaze[0]);
    set(FacialAction::GazeDown, gaze[1]);
    set(FacialAction::Squint, 0.6 * smile);
    let expression = Expression::new(actions.expression(&weights))
        .expect("a sum of a few bounded actions is plausible");
    Performance { time, pose, expression, gaze, blink, mouth, torso }
}

/// Returns the torso track `[a, b, tx, c, d, ty]`: leaning and breathing.
fn torso(seed: u64, t: f64) -> [f32; TORSO_DIMS] {
    let lean = 0.014 * drift(seed ^ 0x51, t * 0.21) + 0.004 * drift(seed ^ 0x52, t * 0.6);
    let breath = ((t * 0.27 + f64::from(uniform(seed, 0x53))) * std::f64::consts::TAU).sin() as f32;
    let scale = 0.008 * drift(seed ^ 0x54, t * 0.17) + 0.002 * breath;
    let tx = 0.014 * drift(seed ^ 0x55, t * 0.19);
    let ty = 0.005 * drift(seed ^ 0x56, t * 0.2) + 0.0022 * breath;
    [scale, -lean, tx, lean, scale, ty]
}

/// Returns 1 inside a phrase and 0 outside, with smooth transitions.
fn talking(spoken: &[Segment], t: f64) -> f32 {
    match (spoken.first(), spoken.last()) {
        (Some(first), Some(last)) => {
            smoothstep(-0.3, 0.0, (t - first.start_s) as f32)
                * smoothstep(0.3, 0.0, (t - last.end_s) as f32)
        }
        _ => 0.0,
    }
}

fn mouth(spoken: &[Segment], t: f64) -> Mouth {
    let mut sum = [0.0; 5];
    for segment in spoken {
        // The jaw moves more slowly than the lips.
        let jaw = phoneme::share(segment, t, 0.1);
        let lips = phoneme::share(segment, t, 0.07);
        for (i, s) in sum.iter_mut().enumerate() {
            *s += if i == 0 { jaw } else { lips } * segment.phoneme.mouth[i];
        }
    }
    // Closing the lips lifts the jaw.
    let shut = (sum[3] + 0.7 * sum[4]).min(1.0);
    Mouth {
        jaw: sum[0] * (1.0 - 0.85 * shut),
        round: sum[1],
        wide: sum[2],
        press: sum[3],
        bite: sum[4],
    }
}

/// Returns a smooth pulse of height 1 that starts at 0 and lasts about `width` seconds.
fn bump(seconds: f64, width: f64) -> f32 {
    let x = seconds / width;
    if (0.0..1.0).contains(&x) {
        (0.5 - 0.5 * (x * std::f64::consts::TAU).cos()) as f32
    } else {
        0.0
    }
}

/// Returns the pitch of nods, degrees: on stressed sounds while talking, in assent while listening.
fn nods(seed: u64, stretch: u64, spoken: &[Segment], t: f64) -> f32 {
    if spoken.is_empty() {
        let start =
            stretch as f64 * STRETCH_S + 1.0 + 2.0 * f64::from(uniform(seed ^ 0x61, stretch));
        return (0..3).map(|i| bump(t - start - 0.45 * f64::from(i), 0.6) * 4.0).sum();
    }
    spoken
        .iter()
        .enumerate()
        .filter(|(i, s)| {
            s.phoneme.mouth[0] > 0.45
                && hash(seed ^ 0x62, stretch * 64 + *i as u64).is_multiple_of(3)
        })
        .map(|(i, s)| {
            let depth = 1.5 + 2.5 * uniform(seed ^ 0x63, stretch * 64 + i as u64);
            depth * bump(t - s.start_s + 0.12, 0.55)
        })
        .sum()
}

/// Returns the closure of both eyes by blinks: every two to five seconds, sometimes partial or double.
fn blink(seed: u64, t: f64) -> [f32; 2] {
    const EVERY_S: f64 = 3.3;
    let cell = (t / EVERY_S) as u64;
    let mut shut = [0.0_f32; 2];
    for cell in cell.saturating_sub(1)..=cell {
        let at = (cell as f64 + 0.15 + 0.6 * f64::from(uniform(seed ^ 0x71, cell))) * EVERY_S;
        let kind = hash(seed ^ 0x72, cell) % 8;
        let depth = if kind < 2 { 0.55 } else { 1.0 };
        let mut once = |start: f64, depth: f32| {
            let d = (t - start) as f32;
            for (eye, s) in shut.iter_mut().enumerate() {
                let d = d - 0.004 * eye as f32;
                let lid = smoothstep(0.0, 0.10, d) * smoothstep(0.34, 0.13, d);
                *s = s.max(depth * lid);
            }
        };
        once(at, depth);
        if kind == 7 {
            once(at + 0.42, 0.9);
        }
    }
    shut
}

/// Returns the gaze target relative to the camera: mostly the camera itself, with saccades aside.
fn look(seed: u64, t: f64) -> [f32; 2] {
    const EVERY_S: f64 = 1.3;
    let target = |cell: u64| {
        let wide = if hash(seed ^ 0x81, cell).is_multiple_of(3) { 1.0 } else { 0.12 };
        [
            wide * 0.36 * (uniform(seed ^ 0x82, cell) * 2.0 - 1.0),
            wide * 0.18 * (uniform(seed ^ 0x83, cell) * 2.0 - 1.0) + 0.02,
        ]
    };
    let cell = (t / EVERY_S) as u64;
    let at = (cell as f64 + 0.1 + 0.75 * f64::from(uniform(seed ^ 0x84, cell))) * EVERY_S;
    let moved = smoothstep(0.0, 0.07, (t - at) as f32);
    let (from, to) = (target(cell), target(cell + 1));
    [from[0] + (to[0] - from[0]) * moved, from[1] + (to[1] - from[1]) * moved]
}

fn smile(seed: u64, t: f64) -> f32 {
    0.12 + 0.75 * smoothstep(0.05, 0.7, drift(seed ^ 0x41, t * 0.24))
}

fn brow_up(seed: u64, spoken: &[Segment], t: f64) -> f32 {
    let slow = 0.7 * smoothstep(0.2, 0.8, drift(seed ^ 0x42, t * 0.33));
    let stress: f32 = spoken
        .iter()
        .filter(|s| s.phoneme.mouth[0] > 0.7)
        .map(|s| 0.35 * bump(t - s.start_s + 0.1, 0.5))
        .sum();
    slow + stress.min(0.6)
}

/// Limits `x` softly to ±`limit`.
fn soft_limit(x: f32, limit: f32) -> f32 {
    limit * (x / limit).tanh()
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_shape::FaceShape;

    #[test]
    fn motion_is_continuous_over_a_minute() {
        let shape = FaceShape::builtin().unwrap();
        let actions = Actions::new(&shape);
        let points = |ms: u64| {
            let p = script(7, &actions, MediaTime::from_micros(ms * 1000));
            let seen: Vec<[f32; 2]> = shape
                .with_expression(shape.mean(), &p.expression)
                .iter()
                .map(|&v| p.pose.image_from_head(v))
                .collect();
            (seen, p.torso)
        };
        // Parts of the script meet at these times: sample densely there.
        let fine = [1300_u64, 3300, 6000, 11_999, 18_000].map(|ms| ms - 3..ms + 3);
        let mut before = (0, points(0));
        for ms in (40..60_000).step_by(40).chain(fine.into_iter().flatten()) {
            let after = points(ms);
            let step_ms = ms.abs_diff(before.0) as f32;
            // Lips and irises move at up to a third of a meter per second: 0.0007 sides per ms.
            let bound = 0.0007 * step_ms;
            if step_ms <= 40.0 {
                for (i, (a, b)) in before.1.0.iter().zip(&after.0).enumerate() {
                    let moved = (a[0] - b[0]).hypot(a[1] - b[1]);
                    assert!(
                        moved < bound,
                        "before {ms} ms landmark {i} moved {moved} sides in {step_ms} ms"
                    );
                }
                for (a, b) in before.1.1.iter().zip(&after.1) {
                    assert!((a - b).abs() < 3e-5 * step_ms, "before {ms} ms the torso jumped");
                }
            }
            before = (ms, after);
        }
    }

    #[test]
    fn head_rotation_stays_within_the_range_of_the_tracker() {
        let actions = Actions::new(&FaceShape::builtin().unwrap());
        let (mut widest, mut shut) = ([0.0_f32; 3], 0.0_f32);
        for ms in (0..120_000).step_by(40) {
            let p = script(7, &actions, MediaTime::from_micros(ms * 1000));
            let (yaw, pitch, roll) = p.pose.quat().to_euler(EulerRot::YXZ);
            for (w, angle) in widest.iter_mut().zip([yaw, pitch, roll]) {
                *w = w.max(angle.abs().to_degrees());
            }
            shut = shut.max(p.blink[0]);
        }
        assert!(widest[0] > 10.0 && widest[0] < 26.0, "yaw, pitch, roll {widest:?}");
        assert!(widest[1] < 20.0 && widest[2] < 12.0, "yaw, pitch, roll {widest:?}");
        assert!(shut > 0.95);
    }
}
