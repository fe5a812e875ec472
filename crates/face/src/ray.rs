//! Camera rays in canonical space.

use crate::frame_inputs::FrameInputs;
use crate::sizes::Bounds;

/// Ray from the camera through a point of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ray {
    /// Center of the camera, canonical space.
    pub origin: [f32; 3],
    /// Unit direction, canonical space.
    pub direction: [f32; 3],
}

impl FrameInputs {
    /// Returns the ray through image point `x, y` (pinhole camera, image space).
    #[inline(always)]
    pub fn ray(&self, [x, y]: [f32; 2]) -> Ray {
        let (u, v) = ((x - 0.5) / self.focal, (y - 0.5) / self.focal);
        let a = &self.axes;
        let d: [f32; 3] = std::array::from_fn(|i| a[0][i] * u + a[1][i] * v + a[2][i]);
        let scale = 1.0 / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt();
        Ray { origin: self.origin, direction: d.map(|c| c * scale) }
    }
}

impl Ray {
    /// Returns the point at `distance` (canonical units) from the camera, canonical space.
    #[inline(always)]
    pub fn at(&self, distance: f32) -> [f32; 3] {
        std::array::from_fn(|i| self.origin[i] + distance * self.direction[i])
    }

    /// Returns the distances (canonical units) at which the ray enters and leaves a box, or `None`
    /// if it misses the box or the box is behind the camera. If the camera is inside the box, the
    /// ray enters at 0.
    ///
    /// Intersects three slabs (Kay and Kajiya 1986, "Ray tracing complex scenes"). A direction
    /// component smaller than 1e-6 counts as 1e-6, so that nothing is divided by zero.
    #[inline(always)]
    pub fn span(&self, bounds: &Bounds<3>) -> Option<(f32, f32)> {
        let (mut enter, mut leave) = (0.0_f32, 1e9_f32);
        for i in 0..3 {
            let d = self.direction[i];
            let inverse = 1.0 / if d.abs() < 1e-6 { 1e-6 } else { d };
            let a = (bounds.min[i] - self.origin[i]) * inverse;
            let b = (bounds.max[i] - self.origin[i]) * inverse;
            enter = enter.max(a.min(b));
            leave = leave.min(a.max(b));
        }
        (leave - enter > 1e-4).then_some((enter, leave))
    }
}
