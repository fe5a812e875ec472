use glam::Vec3;

/// Material of a triangle; determines shading and class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Material {
    Skin,
    Ear,
    Neck,
    RightEye,
    LeftEye,
    Mouth,
    /// Transparent shell of hair strands, numbered from the scalp outwards.
    Hair(u8),
    Knit,
    Collar,
}

impl Material {
    /// Returns whether only the outer side is visible. Hair off the temples and the back of the
    /// collar show their inner sides, too.
    fn one_sided(self) -> bool {
        !matches!(self, Self::Ear | Self::Collar | Self::Hair(0))
    }
}

/// Triangle of three vertices, counterclockwise from outside with `x` right and `y` down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Triangle {
    pub vertices: [u32; 3],
    pub material: Material,
}

/// Projected vertex: `x`, `y` in samples, and one over its depth in meters.
pub(crate) type OnScreen = Vec3;

/// Nearest surface at one sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// Index of the triangle; [`Hit::NONE`] for the background.
    pub triangle: u32,
    /// Perspective-correct weight of its second vertex.
    pub b: f32,
    /// Perspective-correct weight of its third vertex.
    pub c: f32,
}

impl Hit {
    pub(crate) const NONE: u32 = u32::MAX;
}

/// Band of rows of the sample grid.
pub(crate) struct RasterBand {
    pub width: usize,
    pub first_row: usize,
    pub hits: Vec<Hit>,
    nearest: Vec<f32>,
}

impl RasterBand {
    pub(crate) fn new(width: usize, first_row: usize, n_rows: usize) -> Self {
        let none = Hit { triangle: Hit::NONE, b: 0.0, c: 0.0 };
        Self {
            width,
            first_row,
            hits: vec![none; width * n_rows],
            nearest: vec![0.0; width * n_rows],
        }
    }

    /// Draws a triangle; `keep` may reject a sample by the weights of the vertices.
    pub(crate) fn draw(
        &mut self,
        index: u32,
        material: Material,
        corners: [OnScreen; 3],
        mut keep: impl FnMut(f32, f32) -> bool,
    ) {
        let [p, q, r] = corners;
        let area = (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
        if area.abs() < 1e-9 || (material.one_sided() && area > 0.0) {
            return;
        }
        let n_rows = self.hits.len() / self.width;
        let (first, last) = (self.first_row as f32, (self.first_row + n_rows) as f32);
        let (left, right) = (p.x.min(q.x).min(r.x), p.x.max(q.x).max(r.x));
        let (top, bottom) = (p.y.min(q.y).min(r.y), p.y.max(q.y).max(r.y));
        let x0 = (left - 0.5).ceil().max(0.0) as usize;
        let x1 = (right + 0.5).floor().clamp(0.0, self.width as f32) as usize;
        let y0 = (top - 0.5).ceil().max(first) as usize;
        let y1 = (bottom + 0.5).floor().clamp(first, last) as usize;
        let inverse = 1.0 / area;
        // The weights of `q` and `r` are linear over the grid.
        let b_dx = (r.y - p.y) * inverse;
        let b_dy = -(r.x - p.x) * inverse;
        let c_dx = -(q.y - p.y) * inverse;
        let c_dy = (q.x - p.x) * inverse;
        for y in y0..y1 {
            let (px, py) = (x0 as f32 + 0.5 - p.x, y as f32 + 0.5 - p.y);
            let mut b = px * b_dx + py * b_dy;
            let mut c = px * c_dx + py * c_dy;
            let row = (y - self.first_row) * self.width;
            for at in row + x0..row + x1 {
                if b >= 0.0 && c >= 0.0 && b + c <= 1.0 {
                    let nearness = p.z + b * (q.z - p.z) + c * (r.z - p.z);
                    if nearness > self.nearest[at] {
                        let far = 1.0 / nearness;
                        let (hit_b, hit_c) = (b * q.z * far, c * r.z * far);
                        if keep(hit_b, hit_c) {
                            self.nearest[at] = nearness;
                            self.hits[at] = Hit { triangle: index, b: hit_b, c: hit_c };
                        }
                    }
                }
                b += b_dx;
                c += c_dx;
            }
        }
    }

    /// Returns one over the depth of the nearest surface at a sample; 0 for none.
    pub(crate) fn nearness(&self, at: usize) -> f32 {
        self.nearest[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_triangle_wins_in_any_order() {
        let far = [(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)].map(|(x, y)| Vec3::new(x, y, 0.5));
        let near = far.map(|p| Vec3::new(p.x, p.y, 1.0));
        for order in [[0, 1], [1, 0]] {
            let mut band = RasterBand::new(8, 0, 8);
            for i in order {
                let corners = if i == 0 { far } else { near };
                band.draw(i, Material::Ear, corners, |_, _| true);
            }
            assert_eq!(band.hits[0].triangle, 1);
            assert_eq!(band.hits[63].triangle, Hit::NONE);
            assert!((band.nearness(0) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn adjacent_triangles_cover_each_sample_exactly_once() {
        let corner = |x: f32, y: f32| Vec3::new(x, y, 1.0);
        let (a, b, c, d) = (corner(0.3, 0.3), corner(7.7, 0.2), corner(7.6, 7.7), corner(0.2, 7.6));
        let mut drawn = [0; 2];
        for (i, t) in [[a, b, c], [a, c, d]].into_iter().enumerate() {
            let mut band = RasterBand::new(8, 0, 8);
            band.draw(0, Material::Ear, t, |_, _| true);
            drawn[i] = band.hits.iter().filter(|h| h.triangle == 0).count();
        }
        assert!(drawn[0] + drawn[1] >= 64 && drawn[0] + drawn[1] <= 72, "{drawn:?}");
    }
}
