//! Parts of a field in the order of its file.

use std::ops::Range;

use types::LEARNED_DIMS;

use crate::layout::Layout;
use crate::levels::Grids;
use crate::sizes::{BIAS_INPUTS, CHANNELS, HIDDEN, SHADE_INPUTS, SHARED_DIMS, Sizes, TORSO_INPUTS};
use crate::wavelet::{Dims, n_levels};

/// Part of a field: one or several planes or volumes, or the weights of one layer of a network.
#[derive(Clone, Debug)]
pub(crate) struct FieldPart {
    /// Name in `feathercall model info`; several parts share one.
    pub(crate) name: &'static str,
    /// Range in the parameters, `[images][depth][height][width][channels]`.
    pub(crate) range: Range<usize>,
    /// Shape.
    pub(crate) grids: Grids,
}

impl FieldPart {
    fn planes(
        name: &'static str,
        range: &Range<usize>,
        images: usize,
        dims: Dims,
        channels: usize,
    ) -> Self {
        let grids = Grids { images, channels, dims, n_levels: n_levels(dims) };
        Self { name, range: range.clone(), grids }
    }

    /// Weights are not transformed, and complete in the first layer.
    fn weights(range: &Range<usize>, inputs: usize, outputs: usize) -> Self {
        let grids = Grids { images: 1, channels: 1, dims: [1, inputs, outputs], n_levels: 0 };
        Self { name: "networks", range: range.clone(), grids }
    }

    pub(crate) fn is_weights(&self) -> bool {
        self.grids.n_levels == 0 && self.name == "networks"
    }

    /// Returns the number of values in one channel of one image.
    pub(crate) fn grid_len(&self) -> usize {
        self.grids.dims.iter().product()
    }
}

/// Returns all parts in file order.
pub(crate) fn parts(layout: &Layout, s: &Sizes) -> Vec<FieldPart> {
    let (k, xy, z) = (s.n_expression, s.expression_xy, s.expression_z);
    let (d, e) = (s.density, s.density_expression);
    let square = |n: usize| [1, n, n];
    let torso = [1, s.torso_height, s.torso_width];
    let blend = [1, s.torso_blend_height, s.torso_blend_width];
    let planes = FieldPart::planes;
    vec![
        planes("base planes", &layout.plane_xy, 1, square(s.plane_xy), CHANNELS),
        planes("base planes", &layout.plane_xz, 1, square(s.plane_z), CHANNELS),
        planes("base planes", &layout.plane_yz, 1, square(s.plane_z), CHANNELS),
        planes("expression planes", &layout.expression_xy, k, square(xy), CHANNELS),
        planes("expression planes", &layout.expression_xz, k, square(z), CHANNELS),
        planes("expression planes", &layout.expression_yz, k, square(z), CHANNELS),
        planes("density", &layout.density, 1, [d; 3], 1),
        planes("density", &layout.density_expression, s.n_density, [e; 3], 1),
        planes("warp", &layout.warp, LEARNED_DIMS, square(s.warp), 2),
        planes("torso", &layout.torso, 1, torso, 4),
        planes("torso", &layout.torso_blend, s.n_torso, blend, 4),
        planes("background", &layout.background, 1, square(s.background), 3),
        FieldPart::weights(&layout.opacity, 1, CHANNELS + 1),
        FieldPart::weights(&layout.shade_w1, SHADE_INPUTS, HIDDEN),
        FieldPart::weights(&layout.shade_b1, 1, HIDDEN),
        FieldPart::weights(&layout.shade_code, BIAS_INPUTS, HIDDEN),
        FieldPart::weights(&layout.shade_w2, HIDDEN, HIDDEN),
        FieldPart::weights(&layout.shade_b2, 1, HIDDEN),
        FieldPart::weights(&layout.shade_w3, 3, HIDDEN),
        FieldPart::weights(&layout.shade_b3, 1, 3),
        FieldPart::weights(&layout.mix, LEARNED_DIMS + 1, k),
        FieldPart::weights(&layout.density_mix, LEARNED_DIMS + 1, s.n_density),
        FieldPart::weights(&layout.shared, 1, SHARED_DIMS),
        FieldPart::weights(&layout.torso_w1, TORSO_INPUTS, HIDDEN),
        FieldPart::weights(&layout.torso_b1, 1, HIDDEN),
        FieldPart::weights(&layout.torso_w2, HIDDEN, s.torso_outputs()),
        FieldPart::weights(&layout.torso_b2, 1, s.torso_outputs()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_all_parameters() {
        for sizes in [Sizes::tiny(), Sizes::for_side(256)] {
            let layout = Layout::new(&sizes);
            let mut at = 0;
            for part in parts(&layout, &sizes) {
                assert_eq!(part.range.start, at, "{}", part.name);
                let grids = part.grids.images * part.grids.channels;
                assert_eq!(part.range.len(), grids * part.grid_len(), "{}", part.name);
                at = part.range.end;
            }
            assert_eq!(at, layout.len);
        }
    }
}
