use glam::{Mat2, Quat, Vec2, Vec3};
use rayon::prelude::*;
use types::FOCAL;

use crate::clothes::{self, RigidPart};
use crate::eye::Eye;
use crate::hair::{Hair, SHELLS, Strands};
use crate::head_mesh::{HeadMesh, SKULL};
use crate::light;
use crate::mouth::MouthInside;
use crate::noise::{fractal, lerp, smoothstep};
use crate::performance::{DISTANCE_M, HEAD_UP_M, Performance};
use crate::raster::{Hit, Material, OnScreen, RasterBand, Triangle};
use crate::skin::{self, Skin};
use crate::subdivide::normals;
use face_shape::{FaceShape, LEFT_EYE, RIGHT_EYE};

/// Linear colors of materials without a texture.
const NECK: Vec3 = Vec3::new(0.615, 0.352, 0.246);
const EAR: Vec3 = Vec3::new(0.655, 0.325, 0.235);
const KNIT: Vec3 = Vec3::new(0.048, 0.107, 0.150);
const RIBS: Vec3 = Vec3::new(0.040, 0.089, 0.125);

/// Time-independent part of the actor: meshes and textures.
pub(crate) struct Body {
    shape: FaceShape,
    /// Landmarks of the resting face.
    rest: Vec<Vec3>,
    head: HeadMesh,
    /// Vertices of hair, then of the other parts; numbered after the head's fine vertices.
    rigid: Vec<Vec3>,
    rigid_normals: Vec<Vec3>,
    /// Tangent along the strands for hair; zero elsewhere.
    tangents: Vec<Vec3>,
    torso: Vec<f32>,
    n_hair: usize,
    triangles: Vec<Triangle>,
    /// Position on the skin texture, or surface coordinates of a part.
    uv: Vec<[f32; 2]>,
    /// Visibility of the sky from each vertex at rest, 0..=1.
    open: Vec<f32>,
    /// Factor near 1 for folds and blotches between the scales of light and texture.
    tint: Vec<f32>,
    skin: Skin,
    strands: Strands,
}

/// Body at one time, projected and lit: the input of the rasterizer.
pub(crate) struct Scene<'a> {
    body: &'a Body,
    landmarks: Vec<Vec3>,
    head_vertices: Vec<Vec3>,
    turn: Quat,
    /// Camera position in head space.
    eye_point: Vec3,
    eyes: [Eye; 2],
    mouth: MouthInside,
    camera: Vec<Vec3>,
    normals: Vec<Vec3>,
    on_screen: Vec<OnScreen>,
    light: Vec<Vec3>,
    shadow: Vec<f32>,
    /// Samples per side, and the level of the skin texture for them.
    side: usize,
    level: usize,
}

impl Body {
    /// Builds the body; `rest` are the landmarks of the resting face.
    pub(crate) fn new(shape: FaceShape, rest: Vec<Vec3>) -> Self {
        let head = HeadMesh::new(&shape);
        let mean = head.mean_vertices();
        let mut triangles = head.fine.triangles.clone();
        let mut uv: Vec<[f32; 2]> = mean.iter().map(|&p| skin::place(p)).collect();
        let mut open: Vec<f32> = mean.par_iter().map(|&p| skin::openness(&shape, p)).collect();

        for (open, cavity) in open.iter_mut().zip(cavities(&mean, &triangles)) {
            *open *= 1.0 - (1.5 * cavity).clamp(0.0, 0.4);
        }

        let hair = Hair::new();
        let offset = |triangles: &[Triangle], by: usize| -> Vec<Triangle> {
            let moved = |t: &Triangle| Triangle {
                vertices: t.vertices.map(|v| v + by as u32),
                material: t.material,
            };
            triangles.iter().map(moved).collect()
        };
        let mut base = mean.len();
        triangles.extend(offset(&hair.triangles, base));
        let mut rigid_normals = normals(&hair.vertices, &hair.triangles, |_| true);
        point_away(&mut rigid_normals, &hair.vertices, SKULL);
        let n_hair = hair.vertices.len();
        base += n_hair;
        uv.extend(&hair.uv);
        open.extend(hair.triangles.first().map(|_| 1.0).into_iter().cycle().take(n_hair));
        let mut rigid = hair.vertices;
        let mut tangents = hair.tangents;
        let mut torso = vec![0.0; n_hair];
        let mut tint = vec![1.0; base];

        let parts = [
            clothes::neck(),
            clothes::ear(-1.0),
            clothes::ear(1.0),
            clothes::sweater(),
            clothes::collar(),
        ];
        for mut part in parts {
            let material = part.triangles[0].material;
            let middle = match material {
                Material::Ear => SKULL,
                _ => part.vertices.iter().sum::<Vec3>() / part.vertices.len() as f32,
            };
            point_away(&mut part.normals, &part.vertices, middle);
            open.extend(openness(&part, material));
            tint.extend(part.uv.iter().map(|&uv| blotches(uv, material)));
            triangles.extend(offset(&part.triangles, base));
            base += part.vertices.len();
            tangents.extend(part.vertices.iter().map(|_| Vec3::ZERO));
            rigid.extend(part.vertices);
            rigid_normals.extend(part.normals);
            uv.extend(part.uv);
            torso.extend(part.torso);
        }
        turn_outwards(&mut triangles, mean.len(), &rigid, &rigid_normals);
        let skin = Skin::new(&shape);
        Self {
            shape,
            rest,
            head,
            rigid,
            rigid_normals,
            tangents,
            torso,
            n_hair,
            triangles,
            uv,
            open,
            tint,
            skin,
            strands: Strands::new(),
        }
    }

    /// Poses the body for a performance and a grid of `side` samples per side.
    pub(crate) fn scene(&self, performance: &Performance, side: usize) -> Scene<'_> {
        let pose = performance.pose;
        let turn = pose.quat();
        let landmarks = self.shape.with_expression(self.shape.mean(), &performance.expression);
        let head_vertices = self.head.vertices(&landmarks);
        let head_normals =
            normals(&head_vertices, &self.head.fine.triangles, |t| t.material == Material::Skin);
        let torso_from_rest = Vec3::new(0.0, -HEAD_UP_M, DISTANCE_M);
        let n = head_vertices.len() + self.rigid.len();
        let mut camera = Vec::with_capacity(n);
        let mut all_normals = Vec::with_capacity(n);
        let mut on_screen = Vec::with_capacity(n);
        let project = |p: Vec3| Vec2::new(0.5 + FOCAL * p.x / p.z, 0.5 + FOCAL * p.y / p.z);
        let put =
            |image: Vec2, z: f32| Vec3::new(image.x * side as f32, image.y * side as f32, 1.0 / z);
        for (&p, &normal) in head_vertices.iter().zip(&head_normals) {
            let at = pose.camera_from_head(p);
            camera.push(at);
            all_normals.push(turn * normal);
            on_screen.push(put(project(at), at.z));
        }
        let [a, b, tx, c, d, ty] = performance.torso;
        let image_from_reference =
            Mat2::from_cols(Vec2::new(1.0 + a, c), Vec2::new(b, 1.0 + d)).inverse();
        let half = Vec2::splat(0.5);
        for ((&p, &normal), &torso) in self.rigid.iter().zip(&self.rigid_normals).zip(&self.torso) {
            let in_head = pose.camera_from_head(p);
            let in_torso = p + torso_from_rest;
            let at = in_head.lerp(in_torso, torso);
            let warped =
                image_from_reference * (project(in_torso) - half - Vec2::new(tx, ty)) + half;
            camera.push(at);
            all_normals.push((turn * normal).lerp(normal, torso).normalize_or(normal));
            on_screen.push(put(project(in_head).lerp(warped, torso), at.z));
        }
        let shadow = self.shadows(&camera, &all_normals, pose.translation());
        let light = self.irradiance(&all_normals, &shadow);
        let eyes = [RIGHT_EYE, LEFT_EYE].map(|eye| Eye::new(self.shape.mean(), &landmarks, &eye));
        let mouth = MouthInside::new(&self.rest, &landmarks);
        Scene {
            body: self,
            landmarks,
            head_vertices,
            turn,
            eye_point: turn.inverse() * -pose.translation(),
            eyes,
            mouth,
            camera,
            normals: all_normals,
            on_screen,
            light,
            shadow,
            side,
            level: Skin::level(pose.translation().z / (FOCAL * side as f32)),
        }
    }

    fn n_head(&self) -> usize {
        self.head.fine.n_vertices()
    }

    /// Returns the visibility of the key light from each vertex, 0..=1, by a shadow map.
    fn shadows(&self, camera: &[Vec3], normals: &[Vec3], center: Vec3) -> Vec<f32> {
        const SIDE: usize = 224;
        const HALF_M: f32 = 0.34;
        let to_light = light::key_direction();
        let right = to_light.cross(Vec3::Y).normalize_or(Vec3::X);
        let down = right.cross(to_light);
        let texel_m = 2.0 * HALF_M / SIDE as f32;
        let seen = |p: Vec3| {
            let q = p - center;
            let grid = SIDE as f32 * 0.5;
            Vec3::new(
                q.dot(right) / texel_m + grid,
                q.dot(down) / texel_m + grid,
                1.0 + q.dot(to_light),
            )
        };
        let points: Vec<Vec3> = camera.iter().map(|&p| seen(p)).collect();
        let mut map = RasterBand::new(SIDE, 0, SIDE);
        for (i, triangle) in self.triangles.iter().enumerate() {
            let blocks = match triangle.material {
                Material::Hair(shell) => shell == SHELLS / 2,
                Material::RightEye | Material::LeftEye | Material::Mouth => false,
                _ => true,
            };
            if blocks {
                let corners = triangle.vertices.map(|v| points[v as usize]);
                // Back faces cast shadows, too.
                map.draw(i as u32, Material::Ear, corners, |_, _| true);
            }
        }
        let n_head = self.n_head();
        (0..camera.len())
            .into_par_iter()
            .map(|v| {
                let is_hair = (n_head..n_head + self.n_hair).contains(&v);
                let (lift, bias, reach) =
                    if is_hair { (0.010, 0.012, 1_i32) } else { (0.0035, 0.0035, 2) };
                let p = seen(camera[v] + normals[v] * lift);
                let (mut lit, mut weights) = (0.0, 0.0);
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        let (x, y) = (p.x + 1.4 * dx as f32, p.y + 1.4 * dy as f32);
                        let weight = 1.0 / (1.0 + 0.35 * (dx * dx + dy * dy) as f32);
                        weights += weight;
                        let inside = (0.0..SIDE as f32 - 1.0).contains(&x)
                            && (0.0..SIDE as f32 - 1.0).contains(&y);
                        if !inside || visible(&map, SIDE, x, y, p.z + bias) {
                            lit += weight;
                        }
                    }
                }
                lit / weights
            })
            .collect()
    }

    /// Returns the diffuse light on each vertex.
    fn irradiance(&self, normals: &[Vec3], shadow: &[f32]) -> Vec<Vec3> {
        let (n_head, n_hair) = (self.n_head(), self.n_hair);
        normals
            .par_iter()
            .enumerate()
            .map(|(v, &normal)| {
                let wrap = if v < n_head {
                    Vec3::new(0.30, 0.18, 0.14)
                } else if v < n_head + n_hair {
                    Vec3::splat(0.5)
                } else if self.torso[v - n_head] < 1.0 {
                    Vec3::new(0.30, 0.18, 0.14)
                } else {
                    Vec3::splat(0.15)
                };
                let open = self.open[v];
                light::diffuse(normal, wrap, shadow[v], open)
                    * ((0.25 + 0.75 * open) * self.tint[v])
            })
            .collect()
    }
}

/// Returns the concavity at each vertex: the mean sine of the slope towards its neighbors.
fn cavities(vertices: &[Vec3], triangles: &[Triangle]) -> Vec<f32> {
    let of_skin = |t: &Triangle| t.material == Material::Skin;
    let normals = normals(vertices, triangles, of_skin);
    let mut sums = vec![(0.0_f32, 0.0_f32); vertices.len()];
    for triangle in triangles.iter().filter(|t| of_skin(t)) {
        for i in 0..3 {
            let (v, w) = (triangle.vertices[i] as usize, triangle.vertices[(i + 1) % 3] as usize);
            let along = (vertices[w] - vertices[v]).normalize_or_zero();
            sums[v].0 += normals[v].dot(along);
            sums[v].1 += 1.0;
            sums[w].0 -= normals[w].dot(along);
            sums[w].1 += 1.0;
        }
    }
    sums.iter().map(|&(sum, n)| sum / n.max(1.0)).collect()
}

/// Orients the normals of a closed surface outwards.
fn point_away(normals: &mut [Vec3], vertices: &[Vec3], middle: Vec3) {
    let outwards: f32 = normals.iter().zip(vertices).map(|(n, v)| n.dot(*v - middle)).sum();
    if outwards < 0.0 {
        for normal in normals.iter_mut() {
            *normal = -*normal;
        }
    }
}

/// Orients the triangles of rigid surfaces, numbered from `base`, along their normals.
fn turn_outwards(triangles: &mut [Triangle], base: usize, vertices: &[Vec3], normals: &[Vec3]) {
    for triangle in triangles.iter_mut().filter(|t| t.vertices[0] as usize >= base) {
        let [a, b, c] = triangle.vertices.map(|v| v as usize - base);
        let facing = (vertices[b] - vertices[a]).cross(vertices[c] - vertices[a]);
        if facing.dot(normals[a] + normals[b] + normals[c]) < 0.0 {
            triangle.vertices.swap(1, 2);
        }
    }
}

/// Returns a factor near 1 for folds of the clothes and unevenness of the neck.
fn blotches([u, v]: [f32; 2], material: Material) -> f32 {
    match material {
        Material::Knit => 1.0 + 0.16 * fractal(u * 22.0 + v * 5.0, v * 3.5 - u * 9.0, 3, 92),
        Material::Neck => 1.0 + 0.04 * fractal(u * 30.0, v * 9.0, 2, 91),
        _ => 1.0,
    }
}

/// Returns the visibility of the sky from a part, 0..=1: low under the chin, in the ear, at the collar.
fn openness(part: &RigidPart, material: Material) -> Vec<f32> {
    part.uv
        .iter()
        .map(|&[u, v]| match material {
            Material::Neck => {
                let front = 0.5 + 0.5 * (std::f32::consts::TAU * (u - 0.5)).cos();
                let chin = smoothstep(0.30, 0.75, v + 0.12 * (1.0 - front));
                (0.30 + 0.70 * chin) * lerp(1.0, 0.45, smoothstep(0.84, 1.0, v))
            }
            Material::Ear => {
                let bowl = smoothstep(0.50, 0.15, v);
                let groove = (-0.5 * ((v - 0.68) / 0.06).powi(2)).exp();
                1.0 - 0.55 * bowl - 0.30 * groove
            }
            Material::Knit => 0.5 + 0.5 * smoothstep(0.0, 0.16, v),
            Material::Collar => 0.55 + 0.45 * smoothstep(0.9, 0.5, v) * smoothstep(0.0, 0.35, v),
            _ => 1.0,
        })
        .collect()
}

fn visible(map: &RasterBand, side: usize, x: f32, y: f32, near: f32) -> bool {
    map.nearness(y as usize * side + x as usize) <= near
}

impl Scene<'_> {
    /// Returns the landmarks in head space.
    pub(crate) fn landmarks(&self) -> &[Vec3] {
        &self.landmarks
    }

    pub(crate) fn material(&self, triangle: u32) -> Material {
        self.body.triangles[triangle as usize].material
    }

    /// Returns the triangles that touch each of `n_bands` bands of `rows` sample rows, in order.
    pub(crate) fn bins(&self, rows: usize, n_bands: usize) -> Vec<Vec<u32>> {
        let mut bins = vec![Vec::new(); n_bands];
        for (i, triangle) in self.body.triangles.iter().enumerate() {
            let ys = triangle.vertices.map(|v| self.on_screen[v as usize].y);
            let (low, high) = (ys[0].min(ys[1]).min(ys[2]), ys[0].max(ys[1]).max(ys[2]));
            if high < 0.0 || low >= (rows * n_bands) as f32 {
                continue;
            }
            let first = (low.max(0.0) as usize / rows).min(n_bands - 1);
            let last = (high.max(0.0) as usize / rows).min(n_bands - 1);
            for bin in &mut bins[first..=last] {
                bin.push(i as u32);
            }
        }
        bins
    }

    /// Draws triangles into a band of samples.
    pub(crate) fn draw(&self, band: &mut RasterBand, triangles: &[u32]) {
        for &index in triangles {
            let triangle = &self.body.triangles[index as usize];
            let corners = triangle.vertices.map(|v| self.on_screen[v as usize]);
            if let Material::Hair(shell) = triangle.material {
                band.draw(index, triangle.material, corners, |b, c| {
                    self.body.strands.cover(self.uv(triangle, b, c), shell)
                });
            } else {
                band.draw(index, triangle.material, corners, |_, _| true);
            }
        }
    }

    fn uv(&self, triangle: &Triangle, b: f32, c: f32) -> [f32; 2] {
        let [p, q, r] = triangle.vertices.map(|v| self.body.uv[v as usize]);
        std::array::from_fn(|i| p[i] + b * (q[i] - p[i]) + c * (r[i] - p[i]))
    }

    /// Returns the linear color of a sample that hit a surface.
    pub(crate) fn shade(&self, hit: &Hit) -> Vec3 {
        let triangle = &self.body.triangles[hit.triangle as usize];
        let ids = triangle.vertices.map(|v| v as usize);
        let (b, c) = (hit.b, hit.c);
        let mix = |values: &[Vec3]| {
            let [p, q, r] = ids.map(|i| values[i]);
            p + (q - p) * b + (r - p) * c
        };
        let shadow = {
            let [p, q, r] = ids.map(|i| self.shadow[i]);
            p + (q - p) * b + (r - p) * c
        };
        let turned = |v: Vec3| self.turn * v;
        match triangle.material {
            Material::RightEye | Material::LeftEye | Material::Mouth => {
                let surface = mix(&self.head_vertices);
                let direction = (surface - self.eye_point).normalize_or(Vec3::Z);
                match triangle.material {
                    Material::Mouth => self.mouth.shade(self.eye_point, direction, surface, turned),
                    side => self.eyes[usize::from(side == Material::LeftEye)].shade(
                        self.eye_point,
                        direction,
                        surface,
                        shadow,
                        turned,
                    ),
                }
            }
            Material::Skin => {
                let (color, gloss) = self.body.skin.at(self.uv(triangle, b, c), self.level);
                skin_light(
                    color,
                    gloss,
                    mix(&self.camera),
                    mix(&self.normals),
                    mix(&self.light),
                    shadow,
                )
            }
            Material::Neck => {
                let color = NECK;
                skin_light(
                    color,
                    0.25,
                    mix(&self.camera),
                    mix(&self.normals),
                    mix(&self.light),
                    shadow,
                )
            }
            Material::Ear => {
                let color = EAR;
                skin_light(
                    color,
                    0.35,
                    mix(&self.camera),
                    mix(&self.normals),
                    mix(&self.light),
                    shadow,
                )
            }
            Material::Hair(shell) => {
                let uv = self.uv(triangle, b, c);
                let [brightness, _] = self.body.strands.at(uv);
                let out = f32::from(shell) / f32::from(SHELLS - 1);
                let to_eye = -mix(&self.camera).normalize_or(Vec3::Z);
                let along = {
                    let tangents = |v: usize| self.body.tangents[v - self.body.n_head()];
                    let [p, q, r] = ids.map(tangents);
                    self.turn * (p + (q - p) * b + (r - p) * c).normalize_or(Vec3::Y)
                };
                let dark = lerp(0.45, 1.0, out) * lerp(0.55, 1.35, brightness);
                let base = Vec3::new(0.066, 0.035, 0.020);
                let tilted =
                    (along + self.normal_of(hit) * (brightness - 0.5) * 0.4).normalize_or(along);
                let shine = light::strand_highlight(tilted, to_eye, 60, shadow) * 0.030
                    + light::strand_highlight(tilted, to_eye, 14, shadow)
                        * Vec3::new(0.040, 0.024, 0.015);
                (base * mix(&self.light) + shine * (0.4 + 0.6 * shadow)) * dark
            }
            Material::Knit => {
                let [u, v] = self.uv(triangle, b, c);
                let (column, row) = (u * 230.0, v * 110.0);
                let slant = (column.fract() - 0.5).abs();
                let stitch = ((row + slant * 1.2).fract() - 0.5).abs() * 2.0;
                let groove = smoothstep(0.36, 0.5, slant);
                // Seams of the sleeves.
                let seam = (-0.5 * (((u - 0.5).abs() - 0.165 - 0.02 * v) / 0.0022).powi(2)).exp()
                    * smoothstep(0.42, 0.50, v);
                let bright = (0.86 + 0.24 * stitch - 0.20 * groove) * (1.0 - 0.35 * seam);
                KNIT * bright * mix(&self.light)
            }
            Material::Collar => {
                let [u, _] = self.uv(triangle, b, c);
                let rib = 0.5 + 0.5 * (u * 96.0 * std::f32::consts::TAU).cos();
                RIBS * (0.68 + 0.42 * rib) * mix(&self.light)
            }
        }
    }

    fn normal_of(&self, hit: &Hit) -> Vec3 {
        let ids = self.body.triangles[hit.triangle as usize].vertices.map(|v| v as usize);
        let [p, q, r] = ids.map(|i| self.normals[i]);
        p + (q - p) * hit.b + (r - p) * hit.c
    }

    /// Returns the samples per side of the grid.
    pub(crate) fn side(&self) -> usize {
        self.side
    }
}

/// Returns the light from skin towards the camera at a point in camera space.
fn skin_light(color: Vec3, gloss: f32, at: Vec3, normal: Vec3, light: Vec3, shadow: f32) -> Vec3 {
    let normal = normal.normalize_or(Vec3::NEG_Z);
    let to_eye = -at.normalize_or(Vec3::Z);
    // Fresnel reflection of the oily layer (Schlick 1994).
    let grazing = (1.0 - normal.dot(to_eye).max(0.0)).powi(5);
    let strength = gloss * (0.045 + 0.35 * grazing);
    let sheen = light::highlight(normal, to_eye, 16, shadow)
        + light::highlight(normal, to_eye, 64, shadow) * 0.9 * gloss;
    color * light + sheen * strength
}
