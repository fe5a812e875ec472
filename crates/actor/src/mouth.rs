use face_shape::{CHIN, INNER_LIPS};
use glam::Vec3;

use crate::eye::height;
use crate::light;
use crate::noise::{bell, lerp, smoothstep};

/// Half width and depth of the dental arch, meters.
const ARCH: [f32; 2] = [0.0275, 0.030];
/// Height of a tooth, meters.
const TOOTH: f32 = 0.0095;

/// Inside of the mouth in one frame, head space, meters.
pub(crate) struct MouthInside {
    /// Depth of the front of the teeth.
    front: f32,
    /// Lower edge of the upper teeth; does not move.
    upper_edge: f32,
    /// Upper edge of the lower teeth, and drop of the jaw.
    lower_edge: f32,
    drop: f32,
    upper_lip: Vec<[f32; 2]>,
    lower_lip: Vec<[f32; 2]>,
}

impl MouthInside {
    pub(crate) fn new(rest: &[Vec3], landmarks: &[Vec3]) -> Self {
        let seam = 0.5 * (rest[13] + rest[14]);
        let chin = |points: &[Vec3]| 0.5 * (points[CHIN].y + points[200].y);
        let drop = (chin(landmarks) - chin(rest)).max(-0.002);
        let rim = |lip: [usize; 11]| {
            let mut points = lip.map(|i| [landmarks[i].x, landmarks[i].y]).to_vec();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            points
        };
        Self {
            front: seam.z + 0.0065,
            upper_edge: seam.y + 0.0034,
            lower_edge: seam.y + 0.0040 + 0.95 * drop,
            drop,
            upper_lip: rim(INNER_LIPS.upper_rim()),
            lower_lip: rim(INNER_LIPS.lower_rim()),
        }
    }

    /// Returns the linear color along a ray in head space.
    pub(crate) fn shade(
        &self,
        origin: Vec3,
        direction: Vec3,
        surface: Vec3,
        turned: impl Fn(Vec3) -> Vec3,
    ) -> Vec3 {
        let below_lip = surface.y - height(&self.upper_lip, surface.x);
        let above_lip = height(&self.lower_lip, surface.x) - surface.y;
        // Lips that almost touch let no light through.
        let ajar = smoothstep(0.0004, 0.0030, below_lip + above_lip);
        let open = 0.25 * ajar
            + 0.75
                * ajar
                * smoothstep(-0.0005, 0.0055, below_lip)
                * smoothstep(-0.0005, 0.0030, above_lip);
        let to_eye = turned(-direction);
        if let Some((point, normal)) = self.arch(origin, direction) {
            // Position along the arch in teeth; the two middle ones are the widest.
            let tooth = (point.x / 0.0076).abs();
            let gap = bell(tooth.fract().min(1.0 - tooth.fract()), 0.035);
            let scallop = 0.0007 * (tooth.fract() - 0.5).abs() + 0.0009 * (point.x / 0.02).powi(2);
            let upper = self.upper_edge - scallop;
            let lower = self.lower_edge + scallop;
            let row = if point.y < upper {
                Some(upper - point.y)
            } else if point.y > lower {
                Some(point.y - lower)
            } else {
                None
            };
            if let Some(from_edge) = row {
                let bottom = point.y > lower;
                let enamel = Vec3::new(0.70, 0.66, 0.57) * (1.0 - 0.45 * gap);
                let gum = Vec3::new(0.42, 0.13, 0.12);
                let color = enamel.lerp(gum, smoothstep(TOOTH - 0.001, TOOTH + 0.001, from_edge));
                let side = lerp(1.0, 0.35, smoothstep(0.010, 0.026, point.x.abs()));
                let depth = if bottom { 0.62 } else { 0.85 } * side * open;
                let facing = turned(normal);
                return color * light::diffuse(facing, Vec3::splat(0.35), 0.6, 1.0) * depth
                    + light::highlight(facing, to_eye, 60, 0.5) * 0.10 * depth;
            }
        }
        if let Some((point, normal)) = self.tongue(origin, direction) {
            let groove = bell(point.x, 0.0018);
            let color = Vec3::new(0.46, 0.16, 0.15) * (1.0 - 0.25 * groove);
            let facing = turned(normal);
            let depth = 0.55 * open * smoothstep(0.045, 0.005, point.z - self.front);
            return color * light::diffuse(facing, Vec3::splat(0.4), 0.5, 1.0) * depth
                + light::highlight(facing, to_eye, 30, 0.4) * 0.05 * depth;
        }
        Vec3::new(0.040, 0.010, 0.009) * open
    }

    /// Returns where a ray meets the front of the dental arch.
    fn arch(&self, origin: Vec3, direction: Vec3) -> Option<(Vec3, Vec3)> {
        let [a, b] = ARCH;
        let middle = self.front + b;
        let (ox, oz) = (origin.x / a, (origin.z - middle) / b);
        let (dx, dz) = (direction.x / a, direction.z / b);
        let t = first_root(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1.0)?;
        let point = origin + direction * t;
        let normal = Vec3::new(point.x / (a * a), 0.0, (point.z - middle) / (b * b));
        Some((point, normal.normalize_or(Vec3::NEG_Z)))
    }

    fn tongue(&self, origin: Vec3, direction: Vec3) -> Option<(Vec3, Vec3)> {
        let radii = Vec3::new(0.021, 0.0085, 0.026);
        let center = Vec3::new(
            0.0,
            self.lower_edge + 0.0075 - 0.25 * self.drop.max(0.0),
            self.front + 0.031,
        );
        let (o, d) = ((origin - center) / radii, direction / radii);
        let t = first_root(d.dot(d), o.dot(d), o.dot(o) - 1.0)?;
        let point = origin + direction * t;
        Some((point, ((point - center) / (radii * radii)).normalize_or(Vec3::NEG_Y)))
    }
}

/// Returns the smaller root of `a t² + 2 b t + c`.
fn first_root(a: f32, b: f32, c: f32) -> Option<f32> {
    let d = b * b - a * c;
    (d >= 0.0 && a > 0.0).then(|| (-b - d.sqrt()) / a)
}
