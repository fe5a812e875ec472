use face_shape::EyeLandmarks;
use glam::Vec3;

use crate::light;
use crate::noise::{bell, lerp, plane, smoothstep};

/// Radius of the eyeball, meters.
const RADIUS: f32 = 0.0121;
/// Radius of the iris, meters.
const IRIS: f32 = 0.0059;

/// Eye of one frame, head space, meters.
pub(crate) struct Eye {
    center: Vec3,
    /// Unit direction of gaze.
    sight: Vec3,
    /// Rims of the lids as `[x, y]`, by increasing `x`.
    upper: Vec<[f32; 2]>,
    lower: Vec<[f32; 2]>,
}

impl Eye {
    /// Places an eye by the mean face and the frame's landmarks, head space, meters.
    pub(crate) fn new(mean: &[Vec3], landmarks: &[Vec3], eye: &EyeLandmarks) -> Self {
        // The eyeball does not move in the head; the mean iris looks straight ahead.
        let center = mean[eye.iris] + Vec3::new(0.0, 0.0, RADIUS * 0.94);
        let to_iris = landmarks[eye.iris] - center;
        let (x, y) = (to_iris.x / RADIUS, to_iris.y / RADIUS);
        let sight = Vec3::new(x, y, -(1.0 - x * x - y * y).max(0.05).sqrt()).normalize();
        let rim = |lid: [usize; 9]| {
            let mut points = lid.map(|i| [landmarks[i].x, landmarks[i].y]).to_vec();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            points
        };
        Self { center, sight, upper: rim(eye.upper_rim()), lower: rim(eye.lower_rim()) }
    }

    /// Returns the linear color along a ray in head space; `turned` maps directions to camera space.
    pub(crate) fn shade(
        &self,
        origin: Vec3,
        direction: Vec3,
        surface: Vec3,
        shadow: f32,
        turned: impl Fn(Vec3) -> Vec3,
    ) -> Vec3 {
        let to_center = self.center - origin;
        let along = to_center.dot(direction);
        let miss = (to_center.length_squared() - along * along).max(0.0);
        let depth = (RADIUS * RADIUS - miss).max(0.0).sqrt();
        let normal = (origin + direction * (along - depth) - self.center).normalize_or(Vec3::NEG_Z);

        // Distance from the axis of gaze, in iris radii, and angle around it.
        let off_axis = normal - self.sight * normal.dot(self.sight);
        let from_axis = off_axis.length() * RADIUS / IRIS;
        let around = off_axis.y.atan2(off_axis.x);
        let behind = normal.dot(self.sight) < 0.0;
        let white = {
            let from_middle = ((surface.x - self.center.x).abs() / 0.013).min(1.0);
            let veins = plane(surface.x * 900.0, surface.y * 2600.0, 71) * 0.05;
            Vec3::new(0.74, 0.70, 0.68)
                * Vec3::ONE.lerp(Vec3::new(0.98, 0.80, 0.78), from_middle.powi(3) + veins)
        };
        let mut color = white;
        let mut wet = 0.35;
        if !behind {
            let fibres = plane(around * 9.0, from_axis * 2.0, 72) * 0.5
                + plane(around * 23.0, from_axis * 3.0, 73) * 0.3;
            let ring = bell(from_axis - 0.48, 0.14);
            let green = Vec3::new(0.105, 0.135, 0.095) * (1.0 + 0.5 * fibres);
            let amber = Vec3::new(0.19, 0.105, 0.035) * (1.0 + 0.4 * fibres);
            let mut iris = green.lerp(amber, 0.75 * ring);
            iris *= 1.0 - 0.8 * smoothstep(0.72, 1.0, from_axis);
            let pupil = smoothstep(0.42, 0.36, from_axis);
            iris = iris.lerp(Vec3::splat(0.004), pupil);
            let inside = smoothstep(1.06, 0.94, from_axis);
            color = color.lerp(iris, inside);
            wet = lerp(wet, 1.0, inside);
        }

        // The lids shade the eyeball, the upper one most.
        let below_upper = surface.y - height(&self.upper, surface.x);
        let above_lower = height(&self.lower, surface.x) - surface.y;
        let open = (0.35 + 0.65 * smoothstep(0.0, 0.0045, below_upper))
            * (0.72 + 0.28 * smoothstep(0.0, 0.0018, above_lower));
        let facing = turned(normal);
        let light = light::diffuse(facing, Vec3::new(0.35, 0.3, 0.3), 0.35 + 0.65 * shadow, open);
        let to_eye = turned(-direction);
        // The cornea bulges, so its highlights move less than the eyeball turns.
        let bulge = turned((normal + self.sight * 0.35 * f32::from(!behind)).normalize_or(normal));
        let glint = light::highlight(bulge, to_eye, 420, 1.0) * 2.2
            + light::highlight(bulge, to_eye, 40, 1.0) * 0.05;
        color * light * open.sqrt() + glint * wet * smoothstep(0.0, 0.0012, below_upper)
    }
}

/// Returns the `y` of a rim at `x`.
pub(crate) fn height(rim: &[[f32; 2]], x: f32) -> f32 {
    let next = rim.iter().position(|p| p[0] >= x).unwrap_or(rim.len() - 1).max(1);
    let (a, b) = (rim[next - 1], rim[next]);
    let t = ((x - a[0]) / (b[0] - a[0]).max(1e-6)).clamp(0.0, 1.0);
    lerp(a[1], b[1], t)
}
