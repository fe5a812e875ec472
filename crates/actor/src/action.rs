use face_shape::{FaceShape, INNER_LIPS, LEFT_EYE, MESH_POINTS, OUTER_LIPS, RIGHT_EYE};
use glam::Vec3;
use numerics::Cholesky;
use types::{EXPRESSION_DIMS, LANDMARKS};

/// Facial action. Weights are about 0..=1; gaze is in radians.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FacialAction {
    Jaw,
    Round,
    Wide,
    Press,
    LipBite,
    Smile,
    BlinkRight,
    BlinkLeft,
    BrowUp,
    BrowFrown,
    GazeRight,
    GazeDown,
    Squint,
}

/// Number of actions.
pub(crate) const N_ACTIONS: usize = 13;

const ALL: [FacialAction; N_ACTIONS] = [
    FacialAction::Jaw,
    FacialAction::Round,
    FacialAction::Wide,
    FacialAction::Press,
    FacialAction::LipBite,
    FacialAction::Smile,
    FacialAction::BlinkRight,
    FacialAction::BlinkLeft,
    FacialAction::BrowUp,
    FacialAction::BrowFrown,
    FacialAction::GazeRight,
    FacialAction::GazeDown,
    FacialAction::Squint,
];

/// Corners of both outlines of the lips.
const MOUTH_CORNERS: [usize; 4] = {
    let ([a, b], [c, d]) = (OUTER_LIPS.corners(), INNER_LIPS.corners());
    [a, b, c, d]
};
/// Landmarks of the chin and of the skin between chin and lower lip.
const CHIN_AREA: [usize; 11] = [152, 148, 377, 176, 400, 175, 199, 200, 171, 396, 18];
/// Landmarks that no action moves.
const STILL: [usize; 16] = [10, 151, 9, 6, 197, 4, 1, 127, 356, 234, 454, 93, 323, 132, 361, 168];

/// Facial actions as expression coefficients.
///
/// Each action is the most probable expression that moves its landmarks as specified, so that the
/// rest of the face follows as in real faces.
pub(crate) struct Actions {
    /// Expression at rest: closed lips, open eyes, a slight smile.
    rest: [f32; EXPRESSION_DIMS],
    /// Coefficients of each action.
    each: Vec<[f32; EXPRESSION_DIMS]>,
}

/// Constraint on one landmark: its displacement and the standard deviation of it, meters.
struct Constraint {
    landmark: usize,
    offset: Vec3,
    sigma: f32,
}

impl Actions {
    /// Solves all actions for a face shape.
    pub(crate) fn new(shape: &FaceShape) -> Self {
        let rest = solve(shape, &rest_constraints(shape.mean()));
        let resting = displace(shape, &rest);
        let each = ALL
            .iter()
            .map(|&action| {
                let constraints = constraints(action, &resting);
                let mut coefficients = solve(shape, &constraints);
                let gain = gain(shape, &coefficients, &constraints);
                for c in &mut coefficients {
                    *c *= gain;
                }
                coefficients
            })
            .collect();
        Self { rest, each }
    }

    /// Returns the landmarks of the resting face.
    pub(crate) fn resting(&self, shape: &FaceShape) -> Vec<Vec3> {
        displace(shape, &self.rest)
    }

    /// Returns the expression of weighted actions.
    pub(crate) fn expression(&self, weights: &[f32; N_ACTIONS]) -> [f32; EXPRESSION_DIMS] {
        let mut sum = self.rest;
        for (weight, action) in weights.iter().zip(&self.each) {
            for (s, c) in sum.iter_mut().zip(action) {
                *s += weight * c;
            }
        }
        sum
    }
}

fn displace(shape: &FaceShape, coefficients: &[f32; EXPRESSION_DIMS]) -> Vec<Vec3> {
    let mut points = shape.mean().to_vec();
    for (weight, component) in coefficients.iter().zip(shape.expression()) {
        for (point, offset) in points.iter_mut().zip(component) {
            *point += *offset * *weight;
        }
    }
    points
}

/// Returns the factor that scales a solved action to the specified displacement.
fn gain(
    shape: &FaceShape,
    coefficients: &[f32; EXPRESSION_DIMS],
    constraints: &[Constraint],
) -> f32 {
    let (mut along, mut asked) = (0.0, 0.0);
    for constraint in constraints {
        let mut got = Vec3::ZERO;
        for (weight, component) in coefficients.iter().zip(shape.expression()) {
            got += component[constraint.landmark] * *weight;
        }
        along += got.dot(constraint.offset) / constraint.sigma;
        asked += constraint.offset.length_squared() / constraint.sigma;
    }
    if along > 0.0 { (asked / along).clamp(1.0, 1.5) } else { 1.0 }
}

fn rest_constraints(mean: &[Vec3]) -> Vec<Constraint> {
    let mut constraints = still(0.002);
    for (&up, &down) in INNER_LIPS.upper.iter().zip(&INNER_LIPS.lower) {
        let gap = mean[down] - mean[up];
        push(&mut constraints, up, gap * 0.35, 0.0003);
        push(&mut constraints, down, -gap * 0.65, 0.0003);
    }
    for (&up, &down) in RIGHT_EYE
        .upper_lid
        .iter()
        .chain(&LEFT_EYE.upper_lid)
        .zip(RIGHT_EYE.lower_lid.iter().chain(&LEFT_EYE.lower_lid))
    {
        // The mean face includes blinks: open the eyes slightly.
        let gap = mean[down] - mean[up];
        push(&mut constraints, up, gap * -0.24, 0.0005);
        push(&mut constraints, down, gap * 0.05, 0.0005);
    }
    for brow in brows() {
        push(&mut constraints, brow, Vec3::ZERO, 0.001);
    }
    for iris in MESH_POINTS..LANDMARKS {
        push(&mut constraints, iris, Vec3::ZERO, 0.0005);
    }
    constraints
}

/// Returns the constraints that define an action, relative to the landmarks at rest, meters.
fn constraints(action: FacialAction, rest: &[Vec3]) -> Vec<Constraint> {
    match action {
        FacialAction::Jaw | FacialAction::Round | FacialAction::Wide => {
            mouth_shape_constraints(action, rest)
        }
        FacialAction::Press | FacialAction::LipBite | FacialAction::Smile => {
            lip_constraints(action, rest)
        }
        FacialAction::BrowUp | FacialAction::BrowFrown => brow_constraints(action, rest),
        FacialAction::BlinkRight
        | FacialAction::BlinkLeft
        | FacialAction::GazeRight
        | FacialAction::GazeDown
        | FacialAction::Squint => eye_constraints(action, rest),
    }
}

/// Returns how close a landmark at rest is to the middle of the mouth: 1 in the middle, 0 from 3 cm
/// to the side on.
fn centrality(landmark: Vec3) -> f32 {
    1.0 - (landmark.x.abs() / 0.03).min(1.0).powi(2)
}

/// Returns the side of a landmark at rest: 1 right and -1 left of the middle, as the picture shows it.
fn side_of(landmark: Vec3) -> f32 {
    landmark.x.signum()
}

/// Constraints of opening, rounding and spreading the mouth.
fn mouth_shape_constraints(action: FacialAction, rest: &[Vec3]) -> Vec<Constraint> {
    let mut w = still(0.0015);
    let middle = |i: usize| centrality(rest[i]);
    let side = |i: usize| side_of(rest[i]);
    let eyes = eyes();
    let irises = irises();
    match action {
        FacialAction::Jaw => {
            pin(&mut w, &[&eyes[..], &irises, &brows()].concat(), 0.001);
            for i in CHIN_AREA {
                push(&mut w, i, Vec3::new(0.0, 0.022, 0.004), 0.001);
            }
            for i in [INNER_LIPS.lower, OUTER_LIPS.lower].concat() {
                push(&mut w, i, Vec3::new(0.0, 0.004 + 0.018 * middle(i), 0.003), 0.0005);
            }
            for i in [INNER_LIPS.upper, OUTER_LIPS.upper].concat() {
                push(&mut w, i, Vec3::new(0.0, -0.001 * middle(i), 0.0), 0.0005);
            }
            for i in MOUTH_CORNERS {
                push(&mut w, i, Vec3::new(-0.0025 * side(i), 0.005, 0.002), 0.001);
            }
        }
        FacialAction::Round => {
            pin(&mut w, &[&eyes[..], &irises, &brows()].concat(), 0.001);
            for i in MOUTH_CORNERS {
                push(&mut w, i, Vec3::new(-0.0065 * side(i), 0.0, -0.002), 0.001);
            }
            for i in [INNER_LIPS.upper, OUTER_LIPS.upper].concat() {
                let x = -0.20 * rest[i].x;
                push(&mut w, i, Vec3::new(x, -0.001 * middle(i), -0.003 * middle(i)), 0.001);
            }
            for i in [INNER_LIPS.lower, OUTER_LIPS.lower].concat() {
                let x = -0.20 * rest[i].x;
                push(&mut w, i, Vec3::new(x, 0.0025 * middle(i), -0.003 * middle(i)), 0.001);
            }
        }
        FacialAction::Wide => {
            pin(&mut w, &[&eyes[..], &irises, &brows(), &CHIN_AREA].concat(), 0.001);
            for i in MOUTH_CORNERS {
                push(&mut w, i, Vec3::new(0.005 * side(i), -0.001, 0.002), 0.0005);
            }
            for i in INNER_LIPS.upper {
                push(&mut w, i, Vec3::new(0.12 * rest[i].x, -0.001 * middle(i), 0.001), 0.0005);
            }
            for i in INNER_LIPS.lower {
                push(&mut w, i, Vec3::new(0.12 * rest[i].x, 0.002 * middle(i), 0.001), 0.0005);
            }
        }
        _ => {}
    }
    w
}

/// Constraints of pressing and biting the lips, and of a smile.
fn lip_constraints(action: FacialAction, rest: &[Vec3]) -> Vec<Constraint> {
    let mut w = still(0.0015);
    let middle = |i: usize| centrality(rest[i]);
    let side = |i: usize| side_of(rest[i]);
    let eyes = eyes();
    let irises = irises();
    match action {
        FacialAction::Press => {
            pin(&mut w, &[&eyes[..], &irises, &brows()].concat(), 0.001);
            for i in [INNER_LIPS.upper, OUTER_LIPS.upper].concat() {
                push(&mut w, i, Vec3::new(0.0, 0.0012 * middle(i), 0.001), 0.0005);
            }
            for i in [INNER_LIPS.lower, OUTER_LIPS.lower].concat() {
                push(&mut w, i, Vec3::new(0.0, -0.0015 * middle(i), 0.001), 0.0005);
            }
        }
        FacialAction::LipBite => {
            pin(&mut w, &[&eyes[..], &irises, &brows(), &OUTER_LIPS.upper].concat(), 0.001);
            for i in INNER_LIPS.upper {
                push(&mut w, i, Vec3::new(0.0, -0.0015 * middle(i), 0.0), 0.0005);
            }
            for i in [INNER_LIPS.lower, OUTER_LIPS.lower].concat() {
                push(&mut w, i, Vec3::new(0.0, -0.001 * middle(i), 0.004), 0.0005);
            }
        }
        FacialAction::Smile => {
            pin(&mut w, &[&irises[..], &brows()].concat(), 0.001);
            for i in MOUTH_CORNERS {
                push(&mut w, i, Vec3::new(0.007 * side(i), -0.006, 0.004), 0.0005);
            }
            for i in [205, 425, 50, 280] {
                push(&mut w, i, Vec3::new(0.002 * side(i), -0.004, -0.002), 0.001);
            }
            for (&up, &down) in INNER_LIPS.upper.iter().zip(&INNER_LIPS.lower) {
                push(&mut w, up, Vec3::new(0.16 * rest[up].x, -0.0015, 0.002), 0.0007);
                push(&mut w, down, Vec3::new(0.16 * rest[down].x, -0.0015, 0.002), 0.0007);
            }
            for i in [RIGHT_EYE.lower_lid, LEFT_EYE.lower_lid].concat() {
                push(&mut w, i, Vec3::new(0.0, -0.0012, 0.0), 0.0007);
            }
        }
        _ => {}
    }
    w
}

/// Constraints of raising and knitting the brows.
fn brow_constraints(action: FacialAction, rest: &[Vec3]) -> Vec<Constraint> {
    let mut w = still(0.0015);
    let side = |i: usize| side_of(rest[i]);
    let mouth = mouth();
    let eyes = eyes();
    let irises = irises();
    match action {
        FacialAction::BrowUp => {
            pin(&mut w, &[&mouth[..], &eyes, &irises].concat(), 0.0007);
            for i in brows() {
                push(&mut w, i, Vec3::new(0.0, -0.008, 0.001), 0.0007);
            }
        }
        FacialAction::BrowFrown => {
            pin(&mut w, &[&mouth[..], &eyes, &irises].concat(), 0.0007);
            for i in [107, 55, 336, 285] {
                push(&mut w, i, Vec3::new(-0.003 * side(i), 0.0045, -0.001), 0.0007);
            }
            for i in [66, 65, 296, 295] {
                push(&mut w, i, Vec3::new(-0.002 * side(i), 0.003, 0.0), 0.0007);
            }
        }
        _ => {}
    }
    w
}

/// Constraints of blinking, gaze and squinting.
fn eye_constraints(action: FacialAction, rest: &[Vec3]) -> Vec<Constraint> {
    let mut w = still(0.0015);
    let mouth = mouth();
    let eyes = eyes();
    let irises = irises();
    match action {
        FacialAction::BlinkRight | FacialAction::BlinkLeft => {
            pin(&mut w, &[&mouth[..], &irises, &brows()].concat(), 0.001);
            let right = (RIGHT_EYE.upper_lid, RIGHT_EYE.lower_lid);
            let left = (LEFT_EYE.upper_lid, LEFT_EYE.lower_lid);
            let (shut, open) =
                if action == FacialAction::BlinkRight { (right, left) } else { (left, right) };
            for (&up, &down) in shut.0.iter().zip(&shut.1) {
                let gap = rest[down] - rest[up];
                push(&mut w, up, gap * 0.92, 0.0002);
                push(&mut w, down, gap * -0.10, 0.0003);
            }
            pin(&mut w, &[open.0, open.1].concat(), 0.0003);
        }
        FacialAction::GazeRight => {
            // A radian of gaze moves the iris by about the radius of the eyeball.
            pin(&mut w, &[&mouth[..], &eyes, &brows()].concat(), 0.0007);
            for &i in &irises {
                push(&mut w, i, Vec3::new(0.0112, 0.0, 0.0), 0.0002);
            }
        }
        FacialAction::GazeDown => {
            pin(&mut w, &[&mouth[..], &brows()].concat(), 0.0007);
            for &i in &irises {
                push(&mut w, i, Vec3::new(0.0, 0.0112, 0.0), 0.0002);
            }
            for i in [RIGHT_EYE.upper_lid, LEFT_EYE.upper_lid].concat() {
                push(&mut w, i, Vec3::new(0.0, 0.008, 0.0), 0.0003);
            }
            for i in [RIGHT_EYE.lower_lid, LEFT_EYE.lower_lid].concat() {
                push(&mut w, i, Vec3::new(0.0, 0.003, 0.0), 0.0003);
            }
        }
        FacialAction::Squint => {
            pin(&mut w, &[&mouth[..], &irises].concat(), 0.001);
            for i in [RIGHT_EYE.lower_lid, LEFT_EYE.lower_lid].concat() {
                push(&mut w, i, Vec3::new(0.0, -0.0016, 0.0), 0.0003);
            }
            for i in [RIGHT_EYE.upper_lid, LEFT_EYE.upper_lid].concat() {
                push(&mut w, i, Vec3::new(0.0, 0.0012, 0.0), 0.0003);
            }
        }
        _ => {}
    }
    w
}

/// Returns the landmarks of lips, mouth corners and chin.
fn mouth() -> Vec<usize> {
    [
        &INNER_LIPS.upper[..],
        &INNER_LIPS.lower,
        &OUTER_LIPS.upper,
        &OUTER_LIPS.lower,
        &MOUTH_CORNERS,
        &CHIN_AREA,
    ]
    .concat()
}

/// Returns the landmarks of all lids.
fn eyes() -> Vec<usize> {
    [RIGHT_EYE.upper_lid, RIGHT_EYE.lower_lid, LEFT_EYE.upper_lid, LEFT_EYE.lower_lid].concat()
}

/// Returns the landmarks of both irises.
fn irises() -> Vec<usize> {
    (MESH_POINTS..LANDMARKS).collect()
}

/// Returns the landmarks of both brows.
fn brows() -> [usize; 20] {
    let eyes = [RIGHT_EYE, LEFT_EYE].map(|eye| [eye.brow_top, eye.brow_bottom]);
    std::array::from_fn(|i| eyes.as_flattened().as_flattened()[i])
}

fn still(sigma: f32) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    pin(&mut constraints, &STILL, sigma);
    constraints
}

fn pin(constraints: &mut Vec<Constraint>, landmarks: &[usize], sigma: f32) {
    for &landmark in landmarks {
        push(constraints, landmark, Vec3::ZERO, sigma);
    }
}

fn push(constraints: &mut Vec<Constraint>, landmark: usize, offset: Vec3, sigma: f32) {
    constraints.push(Constraint { landmark, offset, sigma });
}

/// Returns the most probable coefficients under the constraints and a unit normal prior (ridge
/// regression).
fn solve(shape: &FaceShape, constraints: &[Constraint]) -> [f32; EXPRESSION_DIMS] {
    const N: usize = EXPRESSION_DIMS;
    let mut a = vec![0.0_f64; N * N];
    let mut b = vec![0.0_f64; N];
    for constraint in constraints {
        let weight = 1.0 / f64::from(constraint.sigma).powi(2);
        for axis in 0..3 {
            let row: Vec<f64> = shape
                .expression()
                .iter()
                .map(|component| f64::from(component[constraint.landmark][axis]))
                .collect();
            let want = f64::from(constraint.offset[axis]);
            for i in 0..N {
                let wi = weight * row[i];
                b[i] += wi * want;
                for j in 0..=i {
                    a[i * N + j] += wi * row[j];
                }
            }
        }
    }
    for i in 0..N {
        a[i * N + i] += 1.0;
    }
    let factor = Cholesky::new(a, N).expect("the prior's identity makes the matrix definite");
    factor.solve(&mut b);
    std::array::from_fn(|i| b[i] as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(points: &[Vec3], upper: &[usize], lower: &[usize]) -> f32 {
        upper.iter().zip(lower).map(|(&u, &l)| points[l].y - points[u].y).sum::<f32>()
            / upper.len() as f32
    }

    #[test]
    fn a_blink_closes_the_lids_and_the_jaw_opens_the_lips() {
        let shape = FaceShape::builtin().unwrap();
        let actions = Actions::new(&shape);
        let with = |pairs: &[(FacialAction, f32)]| {
            let mut weights = [0.0; N_ACTIONS];
            for &(action, weight) in pairs {
                weights[action as usize] = weight;
            }
            displace(&shape, &actions.expression(&weights))
        };
        let rest = with(&[]);
        let blink = with(&[(FacialAction::BlinkRight, 1.0), (FacialAction::BlinkLeft, 1.0)]);
        for (upper, lower) in
            [(RIGHT_EYE.upper_lid, RIGHT_EYE.lower_lid), (LEFT_EYE.upper_lid, LEFT_EYE.lower_lid)]
        {
            let (open, shut) = (gap(&rest, &upper, &lower), gap(&blink, &upper, &lower));
            assert!(shut < 0.2 * open, "lids: {open} m open, {shut} m shut");
        }
        let (shut, open) = (
            gap(&rest, &INNER_LIPS.upper, &INNER_LIPS.lower),
            gap(&with(&[(FacialAction::Jaw, 1.0)]), &INNER_LIPS.upper, &INNER_LIPS.lower),
        );
        assert!(shut.abs() < 0.002 && open > 0.007, "lips: {shut} m shut, {open} m open");
    }
}
