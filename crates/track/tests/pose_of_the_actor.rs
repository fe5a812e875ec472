//! Pose and expression against the exact ground truth of the actor, in frames of 256 pixels. The
//! network was trained on pictures of the actor, but on no scene of these seeds.
//!
//! `cargo test --release -p track --test pose_of_the_actor -- --nocapture` prints the figures of
//! docs/TRACKER.md.

use actor::{Actor, Performance};
use face_shape::FaceShape;
use glam::{Quat, Vec3};
use track::{Fit, Fitter, Identity, Tracker};
use types::{Expression, HeadPose, LANDMARKS, MediaTime};

const SIDE: u32 = 256;

/// Solves the identity on the `learn` frames and fits the `test` frames; returns each fit with its
/// ground truth.
fn followed(
    actor: &Actor,
    learn: impl Iterator<Item = u64>,
    test: impl Iterator<Item = u64>,
) -> Vec<(Fit, Performance)> {
    let shown = |i| actor.render(&actor.script(MediaTime::of_frame(i, 25)), SIDE);
    let shape = FaceShape::builtin().expect("the shape ships with the product");
    let mut tracker = Tracker::builtin().expect("the weights ship with the product");
    let known: Vec<_> = learn.filter_map(|i| tracker.track(&shown(i).frame)).collect();
    let identity = Identity::solve(&shape, SIDE, &known).expect("the actor shows a face");
    let mut fitter = Fitter::new(&shape, &identity);
    tracker.reset();
    test.map(|i| {
        let shown = shown(i);
        let landmarks = tracker.track(&shown.frame).expect("the actor never leaves the frame");
        (fitter.fit(&landmarks, SIDE).expect("the landmarks of a face"), shown.performance)
    })
    .collect()
}

fn root_mean_square(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v * v, n + 1));
    (sum / n as f32).sqrt()
}

/// Returns the mean rotation between the two head spaces: `truth = found · rotation`.
///
/// The solved identity defines its own frontal direction, as every enrollment does; the difference
/// is constant over a clip and is removed.
fn constant_rotation(pairs: &[(Fit, Performance)]) -> Quat {
    let mut turn = Quat::IDENTITY;
    for _ in 0..3 {
        let rest = |(fit, truth): &(Fit, Performance)| {
            ((fit.pose.quat() * turn).inverse() * truth.pose.quat()).to_scaled_axis()
        };
        turn *= Quat::from_scaled_axis(pairs.iter().map(rest).sum::<Vec3>() / pairs.len() as f32);
    }
    turn
}

/// Returns the translation errors relative to the distance, after removing a constant scale (a camera
/// cannot measure it) and a constant origin in the head by least squares.
fn translation_errors(pairs: &[(Fit, Performance)]) -> Vec<f32> {
    let (mut scale, mut origin) = (1.0, Vec3::ZERO);
    let n = pairs.len() as f32;
    for _ in 0..20 {
        let place = |(fit, truth): &(Fit, Performance)| {
            fit.pose.quat().inverse() * (truth.pose.translation() - scale * fit.pose.translation())
        };
        origin = pairs.iter().map(place).sum::<Vec3>() / n;
        let (mut dot, mut square) = (0.0, 0.0);
        for (fit, truth) in pairs {
            let (t, offset) = (fit.pose.translation(), fit.pose.quat() * origin);
            dot += t.dot(truth.pose.translation() - offset);
            square += t.length_squared();
        }
        scale = dot / square;
    }
    let error = |(fit, truth): &(Fit, Performance)| {
        let found = scale * fit.pose.translation() + fit.pose.quat() * origin;
        found.distance(truth.pose.translation()) / truth.pose.translation().length()
    };
    pairs.iter().map(error).collect()
}

/// Returns the motion of the landmarks about their mean positions and the error of the fitted motion:
/// root mean squares over frames and points, millimeters.
///
/// Both are relative to their means, because constant differences belong to the identity.
fn motion_mm(pairs: &[(Fit, Performance)]) -> (f32, f32) {
    let shape = FaceShape::builtin().expect("the shape ships with the product");
    let about_mean = |expressions: &mut dyn Iterator<Item = &Expression>| -> Vec<Vec<Vec3>> {
        let mut faces: Vec<Vec<Vec3>> =
            expressions.map(|e| shape.with_expression(shape.mean(), e)).collect();
        let n = faces.len() as f32;
        for i in 0..LANDMARKS {
            let mean = faces.iter().map(|face| face[i]).sum::<Vec3>() / n;
            for face in &mut faces {
                face[i] -= mean;
            }
        }
        faces
    };
    let found = about_mean(&mut pairs.iter().map(|(fit, _)| &fit.expression)).concat();
    let truth = about_mean(&mut pairs.iter().map(|(_, truth)| &truth.expression)).concat();
    let motion = root_mean_square(truth.iter().map(|p| p.length()));
    let error = root_mean_square(found.iter().zip(&truth).map(|(p, q)| p.distance(*q)));
    (1e3 * motion, 1e3 * error)
}

#[test]
fn pose_and_expression_of_the_actor_are_accurate() {
    for seed in [7, 1, 3] {
        let actor = Actor::new(seed);
        let pairs = followed(&actor, (500..700).step_by(8), (0..150).step_by(3));
        let turn = constant_rotation(&pairs);
        let angle = |(fit, truth): &(Fit, Performance)| {
            (fit.pose.quat() * turn).angle_between(truth.pose.quat()).to_degrees()
        };
        let rotation = root_mean_square(pairs.iter().map(angle));
        let translation = 100.0 * root_mean_square(translation_errors(&pairs).into_iter());
        let constant = turn.to_scaled_axis().length().to_degrees();
        let (motion, missed) = motion_mm(&pairs);
        println!(
            "seed {seed}: rotation {rotation:.2} degrees (constant turn {constant:.1}), \
             translation {translation:.2} % of the distance, expression {missed:.2} mm of \
             {motion:.2} mm"
        );
        assert!(rotation < 1.0, "seed {seed}: {rotation} degrees");
        assert!(translation < 1.0, "seed {seed}: {translation} %");
        assert!(missed < 0.8 * motion, "seed {seed}: {missed} mm of {motion} mm");
    }
}

#[test]
fn a_turning_head_is_tracked_to_sixty_degrees_with_falling_confidence() {
    let actor = Actor::new(7);
    let mut tracker = Tracker::builtin().unwrap();
    let rest = actor.script(MediaTime::ZERO);
    let mut lost_at = f32::INFINITY;
    for degrees in (0..=70).step_by(2) {
        let yaw = Vec3::new(0.0, (degrees as f32).to_radians(), 0.0);
        let pose = HeadPose::new(yaw, rest.pose.translation()).unwrap();
        let shown = actor.render(&Performance { pose, ..rest.clone() }, SIDE);
        let found = tracker.track(&shown.frame);
        let distance = |p: [f32; 3], q: [f32; 3]| (p[0] - q[0]).hypot(p[1] - q[1]);
        let height = distance(shown.landmarks.points[10], shown.landmarks.points[152]);
        let Some(found) = found else {
            lost_at = lost_at.min(degrees as f32);
            continue;
        };
        let pairs = found.points.iter().zip(&shown.landmarks.points);
        let error = pairs.map(|(p, q)| distance(*p, *q)).sum::<f32>() / 478.0 / height;
        println!(
            "yaw {degrees}: {:.1} % of the face's height, confidence {:.2}",
            100.0 * error,
            found.confidence
        );
        assert!(degrees < 60 || found.confidence < 0.75, "confident at {degrees} degrees");
        assert!(degrees > 60 || error < 0.09, "yaw {degrees}: {error} of the face's height");
    }
    println!("lost at {lost_at} degrees");
    assert!(lost_at > 60.0, "lost at {lost_at} degrees");
}
