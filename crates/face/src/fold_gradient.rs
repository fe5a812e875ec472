//! Transpose of folding: from gradients of the folded field to those of the small planes.

use crate::fold::Upsampling;
use crate::math::add_scaled;

/// Writes the gradient of a small plane, given that of the plane it is upsampled to.
pub(crate) fn transpose_upsampling<const N: usize>(
    large: &[[f32; N]],
    up: &Upsampling,
    small: &mut [[f32; N]],
) {
    let Upsampling { rows, columns, small_width } = up;
    small.fill([0.0; N]);
    let mut row = vec![[0.0_f32; N]; *small_width];
    for (line, &(y0, fy)) in large.chunks_exact(columns.len()).zip(rows) {
        row.fill([0.0; N]);
        for (g, &(x0, fx)) in line.iter().zip(columns) {
            add_scaled(&mut row[x0], 1.0 - fx, g);
            add_scaled(&mut row[x0 + 1], fx, g);
        }
        for (x, g) in row.iter().enumerate() {
            add_scaled(&mut small[y0 * small_width + x], 1.0 - fy, g);
            add_scaled(&mut small[(y0 + 1) * small_width + x], fy, g);
        }
    }
}

/// Writes the gradient of a small grid, `[m; 3]`, given that of the grid it is upsampled to along
/// all three axes as `up` gives it for one.
pub(crate) fn transpose_grid_upsampling(large: &[f32], up: &Upsampling, small: &mut [f32]) {
    let (taps, n, m) = (&up.rows, up.rows.len(), up.small_width);
    small.fill(0.0);
    let mut rows = vec![0.0_f32; m * m];
    let mut row = vec![0.0_f32; m];
    for (z, layer) in large.chunks_exact(n * n).enumerate() {
        rows.fill(0.0);
        for (y, line) in layer.chunks_exact(n).enumerate() {
            row.fill(0.0);
            for (g, &(x0, fx)) in line.iter().zip(taps) {
                row[x0] += (1.0 - fx) * g;
                row[x0 + 1] += fx * g;
            }
            let (y0, fy) = taps[y];
            for (x, g) in row.iter().enumerate() {
                rows[y0 * m + x] += (1.0 - fy) * g;
                rows[(y0 + 1) * m + x] += fy * g;
            }
        }
        let (z0, fz) = taps[z];
        for (i, g) in rows.iter().enumerate() {
            small[z0 * m * m + i] += (1.0 - fz) * g;
            small[(z0 + 1) * m * m + i] += fz * g;
        }
    }
}
