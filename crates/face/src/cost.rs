//! Limits of what a face costs, so that a small file cannot keep a renderer busy.
//!
//! A ray costs the same in every field (docs/FIELD.md). What differs is work that the sizes
//! determine: folding, the search of a renderer for the first visible block along a ray, and
//! reading the file. A face may cost a few times what the largest enrolled face costs.

use crate::layout::Layout;
use crate::model_error::ModelError;
use crate::sizes::Sizes;
use crate::work::fold_work;

/// Largest cost of a face, in costs of the default sizes, which no enrolled face exceeds.
const MAX_FACTOR: u64 = 4;
/// Side of the images whose default sizes are the largest.
const REFERENCE_SIDE: u32 = 256;
/// Layers that the default face file has.
const REFERENCE_LAYERS: usize = 3;
impl Sizes {
    /// Checks what a frame costs. Every face file is checked when it is read.
    ///
    /// # Errors
    /// If it is more than four times as much as with the default sizes.
    pub fn check_cost(&self) -> Result<(), ModelError> {
        let (reference, work) = (Self::for_side(REFERENCE_SIDE), fold_work(self));
        let limits = fold_work(&reference);
        check("operations to mix a frame", work.flops, limits.flops)?;
        check("bytes to mix a frame", work.bytes, limits.bytes)?;
        check("cells along a ray", cells_along_ray(self), cells_along_ray(&reference))
    }
}

/// Checks the number of levels that are decoded until a file of `n_layers` layers has been read
/// after the arrival of each of them, from the first layer each time.
///
/// # Errors
/// If it is more than four times that of the default sizes.
pub(crate) fn check_reading(sizes: &Sizes, n_layers: usize) -> Result<(), ModelError> {
    let levels = |s: &Sizes, n: usize| (Layout::new(s).len * n * (n + 1) / 2) as u64;
    let reference = levels(&Sizes::for_side(REFERENCE_SIDE), REFERENCE_LAYERS);
    check("levels in the layers", levels(sizes, n_layers), reference)
}

/// Returns the largest number of cells of the density along a ray through the head box, counted in
/// steps of the shortest side of a cell.
fn cells_along_ray(sizes: &Sizes) -> u64 {
    let sides = sizes.head.sides();
    let diagonal = sides.iter().map(|side| side * side).sum::<f32>().sqrt();
    let shortest = sides.into_iter().fold(f32::MAX, f32::min);
    ((sizes.density - 1) as f32 * diagonal / shortest).ceil() as u64
}

fn check(what: &'static str, got: u64, reference: u64) -> Result<(), ModelError> {
    let limit = MAX_FACTOR * reference;
    if got > limit { Err(ModelError::Cost { what, got, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bounds;

    #[test]
    fn faces_of_every_enrolled_size_are_within_the_limits() {
        for side in [16, 64, 128, 200, 256, 512, 1024, 4096] {
            for sizes in [Sizes::for_side(side), Sizes::small_for_side(side)] {
                assert_eq!(sizes.check_cost(), Ok(()), "{side}");
                assert_eq!(check_reading(&sizes, REFERENCE_LAYERS), Ok(()), "{side}");
            }
        }
    }

    #[test]
    fn a_flat_head_in_a_fine_grid_is_refused() {
        let head = Bounds { min: [-0.3, -4.0, -4.0], max: [0.3, 4.0, 4.0] };
        let flat = |density| Sizes { density, head, ..Sizes::tiny() };
        let error = flat(128).check_cost().unwrap_err();
        assert!(matches!(error, ModelError::Cost { what: "cells along a ray", .. }), "{error}");
        assert_eq!(flat(128).check(), Ok(()));
        assert_eq!(flat(16).check_cost(), Ok(()));
    }

    #[test]
    fn many_layers_of_a_large_field_are_refused() {
        let sizes = Sizes::for_side(256);
        assert_eq!(check_reading(&sizes, 5), Ok(()));
        let error = check_reading(&sizes, 8).unwrap_err();
        assert!(matches!(error, ModelError::Cost { what: "levels in the layers", .. }), "{error}");
    }
}
