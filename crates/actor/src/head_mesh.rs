use face_shape::{FACE_OVAL, FaceShape, INNER_LIPS, LEFT_EYE, MESH_POINTS, RIGHT_EYE};
use glam::Vec3;

use crate::raster::{Material, Triangle};
use crate::subdivide::Fine;

/// Center of the skull, head space, meters.
pub(crate) const SKULL: Vec3 = Vec3::new(0.0, -0.047, 0.083);
const SKULL_RADII: Vec3 = Vec3::new(0.0765, 0.105, 0.1);

/// For each ring of points behind the face: its position from the border (0) to the back of the head
/// (1), and the share of the border's shape and motion that it keeps.
const RINGS: [(f32, f32); 6] =
    [(0.10, 0.86), (0.22, 0.6), (0.36, 0.32), (0.52, 0.12), (0.70, 0.03), (0.86, 0.0)];

/// Returns the distance from [`SKULL`] to the surface of the skull along a unit direction, meters.
pub(crate) fn skull_radius(direction: Vec3) -> f32 {
    1.0 / (direction / SKULL_RADII).length()
}

/// Mesh of the head: the face mesh, continued over the skull and closed over eyes and mouth.
pub(crate) struct HeadMesh {
    pub fine: Fine,
    /// Resting positions of the ring points, which follow the mesh points.
    rings: Vec<Vec3>,
    mean: Vec<Vec3>,
}

impl HeadMesh {
    pub(crate) fn new(shape: &FaceShape) -> Self {
        let mut rings = Vec::new();
        for &(along, keep) in &RINGS {
            for &border in &FACE_OVAL {
                let from = shape.mean()[border] - SKULL;
                let polar = (-from.z / from.length()).acos();
                let azimuth = from.y.atan2(from.x);
                let angle = polar + (std::f32::consts::PI - polar) * along;
                let direction = Vec3::new(
                    angle.sin() * azimuth.cos(),
                    angle.sin() * azimuth.sin(),
                    -angle.cos(),
                );
                let excess = from.length() / skull_radius(from.normalize());
                let stretch = 1.0 + (excess - 1.0) * keep;
                rings.push(SKULL + direction * skull_radius(direction) * stretch);
            }
        }
        rings.push(SKULL + Vec3::new(0.0, 0.0, SKULL_RADII.z));

        let mut triangles: Vec<[u32; 3]> =
            shape.triangles().iter().copied().filter(|t| !is_inside_opening(t)).collect();
        let n = FACE_OVAL.len();
        let ring = |k: usize, i: usize| -> u32 {
            let i = i % n;
            if k == 0 { FACE_OVAL[i] as u32 } else { (MESH_POINTS + (k - 1) * n + i) as u32 }
        };
        for k in 0..RINGS.len() {
            for i in 0..n {
                let (a, b) = (ring(k, i), ring(k, i + 1));
                let (c, d) = (ring(k + 1, i), ring(k + 1, i + 1));
                triangles.extend([[a, c, b], [b, c, d]]);
            }
        }
        let back = (MESH_POINTS + RINGS.len() * n) as u32;
        for i in 0..n {
            triangles.push([ring(RINGS.len(), i), back, ring(RINGS.len(), i + 1)]);
        }
        let mut control: Vec<Vec3> = shape.mean()[..MESH_POINTS].to_vec();
        control.extend(&rings);
        let mut all: Vec<Triangle> =
            triangles.into_iter().map(|t| facing_out(&control, t, Material::Skin)).collect();
        for (opening, material) in openings() {
            all.extend(opening.into_iter().map(|t| facing_out(&control, t, material)));
        }
        let fine = Fine::new(control.len(), &all, 2);
        Self { fine, rings, mean: shape.mean().to_vec() }
    }

    /// Returns the fine vertices for the landmarks of a face, head space.
    pub(crate) fn vertices(&self, landmarks: &[Vec3]) -> Vec<Vec3> {
        let mut control = landmarks[..MESH_POINTS].to_vec();
        for (i, &rest) in self.rings.iter().enumerate() {
            let keep = RINGS.get(i / FACE_OVAL.len()).map_or(0.0, |r| r.1);
            let border = FACE_OVAL[i % FACE_OVAL.len()];
            control.push(rest + (landmarks[border] - self.mean[border]) * keep);
        }
        self.fine.vertices(&control)
    }

    /// Returns the fine vertices of the mean face.
    pub(crate) fn mean_vertices(&self) -> Vec<Vec3> {
        self.vertices(&self.mean)
    }
}

/// Returns whether a triangle of the asset spans an eye or the mouth, which are closed separately.
fn is_inside_opening(triangle: &[u32; 3]) -> bool {
    let all_of = |upper: &[usize], lower: &[usize], corners: [usize; 2]| {
        triangle.iter().all(|&v| {
            let v = v as usize;
            upper.contains(&v) || lower.contains(&v) || corners.contains(&v)
        })
    };
    all_of(&RIGHT_EYE.upper_lid, &RIGHT_EYE.lower_lid, RIGHT_EYE.corners())
        || all_of(&LEFT_EYE.upper_lid, &LEFT_EYE.lower_lid, LEFT_EYE.corners())
        || all_of(&INNER_LIPS.upper, &INNER_LIPS.lower, INNER_LIPS.corners())
}

/// Returns the triangles that close eyes and mouth, between upper and lower rim.
fn openings() -> [(Vec<[u32; 3]>, Material); 3] {
    [
        (
            strip(RIGHT_EYE.corners(), &RIGHT_EYE.upper_lid, &RIGHT_EYE.lower_lid),
            Material::RightEye,
        ),
        (strip(LEFT_EYE.corners(), &LEFT_EYE.upper_lid, &LEFT_EYE.lower_lid), Material::LeftEye),
        (strip(INNER_LIPS.corners(), &INNER_LIPS.upper, &INNER_LIPS.lower), Material::Mouth),
    ]
}

fn strip([first, last]: [usize; 2], upper: &[usize], lower: &[usize]) -> Vec<[u32; 3]> {
    let n = upper.len();
    let mut triangles = vec![[first, upper[0], lower[0]], [upper[n - 1], last, lower[n - 1]]];
    for i in 0..n - 1 {
        triangles.push([upper[i], upper[i + 1], lower[i]]);
        triangles.push([upper[i + 1], lower[i + 1], lower[i]]);
    }
    triangles.into_iter().map(|t| t.map(|v| v as u32)).collect()
}

/// Orients a triangle so that its normal points out of the skull.
fn facing_out(points: &[Vec3], t: [u32; 3], material: Material) -> Triangle {
    let [a, b, c] = t.map(|i| points[i as usize]);
    let normal = (b - a).cross(c - a);
    let opening = matches!(material, Material::RightEye | Material::LeftEye | Material::Mouth);
    // Openings are thin and folded; they always face the camera.
    let outward = if opening { Vec3::NEG_Z } else { (a + b + c) / 3.0 - SKULL };
    let vertices = if normal.dot(outward) < 0.0 { [t[0], t[2], t[1]] } else { t };
    Triangle { vertices, material }
}
