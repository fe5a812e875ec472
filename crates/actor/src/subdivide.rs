use std::collections::BTreeMap;

use glam::Vec3;

use crate::raster::Triangle;

/// Subdivided mesh, as fixed weights on its control points.
///
/// Loop subdivision; edges between materials and open edges stay creases. Control points keep their
/// indices.
pub(crate) struct Fine {
    /// For each fine vertex its weights on control points, which sum to 1.
    rows: Vec<Vec<(u32, f32)>>,
    n_control: usize,
    pub triangles: Vec<Triangle>,
}

impl Fine {
    /// Subdivides `levels` times, each triangle into four.
    ///
    /// # Source
    /// Loop 1987, "Smooth subdivision surfaces based on triangles", with Warren's weights.
    pub(crate) fn new(n_control: usize, triangles: &[Triangle], levels: u32) -> Self {
        let rows = (0..n_control as u32).map(|i| vec![(i, 1.0)]).collect();
        let mut fine = Self { rows, n_control, triangles: triangles.to_vec() };
        for _ in 0..levels {
            fine = fine.refined();
        }
        fine
    }

    pub(crate) fn n_vertices(&self) -> usize {
        self.rows.len()
    }

    /// Returns the fine vertices for control points; the surface passes through the control points up
    /// to a small fraction of a millimeter.
    pub(crate) fn vertices(&self, control: &[Vec3]) -> Vec<Vec3> {
        // Loop's limit surface misses its control points: move them out by the difference.
        let mut pushed = control.to_vec();
        for _ in 0..3 {
            let reached: Vec<Vec3> =
                self.rows[..self.n_control].iter().map(|row| weighted(row, &pushed)).collect();
            for ((p, want), got) in pushed.iter_mut().zip(control).zip(&reached) {
                *p += *want - *got;
            }
        }
        self.rows.iter().map(|row| weighted(row, &pushed)).collect()
    }

    fn refined(self) -> Self {
        let n = self.rows.len();
        let mut edges: BTreeMap<(u32, u32), Edge> = BTreeMap::new();
        for triangle in &self.triangles {
            for i in 0..3 {
                let (a, b, c) = (
                    triangle.vertices[i],
                    triangle.vertices[(i + 1) % 3],
                    triangle.vertices[(i + 2) % 3],
                );
                let edge = edges.entry((a.min(b), a.max(b))).or_insert_with(|| Edge {
                    opposite: Vec::new(),
                    material: triangle.material,
                    crease: false,
                    middle: 0,
                });
                edge.opposite.push(c);
                edge.crease |= edge.material != triangle.material;
            }
        }
        let mut around: Vec<Vec<u32>> = vec![Vec::new(); n];
        let mut creases: Vec<Vec<u32>> = vec![Vec::new(); n];
        for (i, (&(a, b), edge)) in edges.iter_mut().enumerate() {
            edge.crease |= edge.opposite.len() != 2;
            edge.middle = (n + i) as u32;
            around[a as usize].push(b);
            around[b as usize].push(a);
            if edge.crease {
                creases[a as usize].push(b);
                creases[b as usize].push(a);
            }
        }
        let mut rows = Vec::with_capacity(n + edges.len());
        for v in 0..n {
            let valence = around[v].len() as f32;
            let mut parts: Vec<(u32, f32)> = Vec::new();
            match creases[v].len() {
                0 | 1 => {
                    let beta = if around[v].len() == 3 { 0.1875 } else { 0.375 / valence };
                    parts.push((v as u32, 1.0 - valence * beta));
                    parts.extend(around[v].iter().map(|&w| (w, beta)));
                }
                2 => {
                    parts.push((v as u32, 0.75));
                    parts.extend(creases[v].iter().map(|&w| (w, 0.125)));
                }
                _ => parts.push((v as u32, 1.0)),
            }
            rows.push(self.combined(&parts));
        }
        for (&(a, b), edge) in &edges {
            let row = if edge.crease {
                self.combined(&[(a, 0.5), (b, 0.5)])
            } else {
                let (c, d) = (edge.opposite[0], edge.opposite[1]);
                self.combined(&[(a, 0.375), (b, 0.375), (c, 0.125), (d, 0.125)])
            };
            rows.push(row);
        }
        let middle = |a: u32, b: u32| edges[&(a.min(b), a.max(b))].middle;
        let triangles = self
            .triangles
            .iter()
            .flat_map(|t| {
                let [a, b, c] = t.vertices;
                let (ab, bc, ca) = (middle(a, b), middle(b, c), middle(c, a));
                [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
                    .map(|vertices| Triangle { vertices, material: t.material })
            })
            .collect();
        Self { rows, n_control: self.n_control, triangles }
    }

    fn combined(&self, parts: &[(u32, f32)]) -> Vec<(u32, f32)> {
        let mut sum: BTreeMap<u32, f32> = BTreeMap::new();
        for &(vertex, weight) in parts {
            for &(control, w) in &self.rows[vertex as usize] {
                *sum.entry(control).or_insert(0.0) += weight * w;
            }
        }
        sum.into_iter().collect()
    }
}

struct Edge {
    opposite: Vec<u32>,
    material: crate::raster::Material,
    crease: bool,
    middle: u32,
}

fn weighted(row: &[(u32, f32)], points: &[Vec3]) -> Vec3 {
    row.iter().fold(Vec3::ZERO, |sum, &(i, weight)| sum + points[i as usize] * weight)
}

/// Returns area-weighted vertex normals, unit or zero, over the triangles that `counts` admits.
pub(crate) fn normals(
    vertices: &[Vec3],
    triangles: &[Triangle],
    counts: impl Fn(&Triangle) -> bool,
) -> Vec<Vec3> {
    let mut sum = vec![Vec3::ZERO; vertices.len()];
    for triangle in triangles.iter().filter(|t| counts(t)) {
        let [a, b, c] = triangle.vertices.map(|i| i as usize);
        let normal = (vertices[b] - vertices[a]).cross(vertices[c] - vertices[a]);
        for i in [a, b, c] {
            sum[i] += normal;
        }
    }
    sum.iter().map(|n| n.normalize_or_zero()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Material;

    #[test]
    fn the_subdivided_mesh_passes_through_its_control_points() {
        // A closed octahedron, so that every vertex is smoothed.
        let control = [Vec3::X, Vec3::Y, Vec3::Z, -Vec3::X, -Vec3::Y, -Vec3::Z];
        let faces = [
            [0, 1, 2],
            [1, 3, 2],
            [3, 4, 2],
            [4, 0, 2],
            [1, 0, 5],
            [3, 1, 5],
            [4, 3, 5],
            [0, 4, 5],
        ];
        let triangles = faces.map(|vertices| Triangle { vertices, material: Material::Skin });
        let fine = Fine::new(6, &triangles, 2);
        assert_eq!((fine.triangles.len(), fine.n_vertices()), (128, 66));
        let vertices = fine.vertices(&control);
        for (got, want) in vertices.iter().zip(&control) {
            assert!(got.distance(*want) < 0.06, "{got} {want}");
        }
        let normals = normals(&vertices, &fine.triangles, |_| true);
        for (v, n) in vertices.iter().zip(&normals) {
            assert!(v.normalize().dot(*n) > 0.9);
        }
    }
}
