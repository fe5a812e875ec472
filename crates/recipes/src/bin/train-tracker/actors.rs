//! Training pictures of the synthetic actor.

use actor::{Actor, Performance};
use glam::{EulerRot, Quat, Vec3};
use rayon::prelude::*;
use types::{HeadPose, MediaTime};

use crate::clips::cut;
use crate::faces::Face;
use numerics::SplitMix64;

/// Side of the pictures in pixels. A face is then a little over 100 pixels high, as in the set of faces.
const SIDE: u32 = 288;
/// Largest additional rotation of a head in radians: yaw, pitch, roll. Labels of real faces end at half a
/// radian and underestimate the pitch by a third; here it is exact.
const TURN: [f32; 3] = [1.0, 0.5, 0.25];
/// Part of the actor's script from which moments are drawn, in seconds.
const MOMENTS: f32 = 600.0;
/// First seed of the training actors. Tests and the demo use smaller ones.
const FIRST_SEED: u64 = 1000;
const SEEDS: u64 = 24;

/// Renders `n` pictures of actors with exact landmarks, every other one with an additional rotation.
///
/// Pictures without a valid face are left out.
pub(crate) fn faces(n: usize, seed: u64) -> Vec<Face> {
    let actors: Vec<Actor> = (0..SEEDS).map(|i| Actor::new(FIRST_SEED + i)).collect();
    (0..n)
        .into_par_iter()
        .filter_map(|i| {
            let mut rng = SplitMix64::stream(seed ^ 0xAC70, i as u64);
            let actor = &actors[rng.index(actors.len())];
            let moment = MediaTime::from_micros((rng.between(0.0, MOMENTS) * 1e6) as u64);
            let mut performance = actor.script(moment);
            if i % 2 == 1 {
                performance = turned(performance, &mut rng);
            }
            let shown = actor.render(&performance, SIDE);
            let mut face = cut(&shown.frame, &shown.landmarks.points)?;
            "actor".clone_into(&mut face.kind);
            Some(face)
        })
        .collect()
}

/// Rotates and shifts the head; small rotations are more frequent than large ones.
fn turned(performance: Performance, rng: &mut SplitMix64) -> Performance {
    let [yaw, pitch, roll] = TURN.map(|most| {
        let v = rng.between(-1.0, 1.0);
        most * v * v.abs().sqrt()
    });
    let rotation = Quat::from_euler(EulerRot::YXZ, yaw, pitch, roll) * performance.pose.quat();
    let shift = Vec3::new(rng.between(-0.04, 0.04), rng.between(-0.03, 0.03), 0.0);
    match HeadPose::new(rotation.to_scaled_axis(), performance.pose.translation() + shift) {
        Ok(pose) => Performance { pose, ..performance },
        Err(_) => performance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::LANDMARKS;

    #[test]
    fn pictures_of_actors_contain_all_landmarks() {
        let faces = faces(6, 1);
        assert_eq!(faces.len(), 6);
        for face in &faces {
            assert_eq!(face.points.len(), LANDMARKS);
            let all = face.points.iter().flat_map(|p| [p[0], p[1]]);
            assert!(all.clone().all(|v| (0.0..192.0).contains(&v)));
            assert!((all.fold(0.0_f32, f32::max) - 156.0).abs() < 30.0);
        }
    }
}
