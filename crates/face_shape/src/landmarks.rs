/// Landmark on the middle of the hairline, the top of the mesh.
pub const FOREHEAD: usize = 10;
/// Landmark on the tip of the chin, the bottom of the mesh.
pub const CHIN: usize = 152;

/// Landmark indices of the mesh border, a closed ring: from [`FOREHEAD`] down the subject's left
/// side to [`CHIN`], and up the right side.
pub const FACE_OVAL: [usize; 36] = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
];

/// Landmarks of one eye and its brow; each list runs from the outer to the inner corner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EyeLandmarks {
    /// Corner at the temple.
    pub outer_corner: usize,
    /// Corner at the nose.
    pub inner_corner: usize,
    /// Rim of the upper lid, without the corners.
    pub upper_lid: [usize; 7],
    /// Rim of the lower lid, without the corners.
    pub lower_lid: [usize; 7],
    /// Crease above the upper lid.
    pub crease: [usize; 7],
    /// Upper edge of the brow.
    pub brow_top: [usize; 5],
    /// Lower edge of the brow.
    pub brow_bottom: [usize; 5],
    /// Center of the iris; its four border points follow it.
    pub iris: usize,
}

/// The subject's right eye.
pub const RIGHT_EYE: EyeLandmarks = EyeLandmarks {
    outer_corner: 33,
    inner_corner: 133,
    upper_lid: [246, 161, 160, 159, 158, 157, 173],
    lower_lid: [7, 163, 144, 145, 153, 154, 155],
    crease: [247, 30, 29, 27, 28, 56, 190],
    brow_top: [70, 63, 105, 66, 107],
    brow_bottom: [46, 53, 52, 65, 55],
    iris: 468,
};

/// The subject's left eye.
pub const LEFT_EYE: EyeLandmarks = EyeLandmarks {
    outer_corner: 263,
    inner_corner: 362,
    upper_lid: [466, 388, 387, 386, 385, 384, 398],
    lower_lid: [249, 390, 373, 374, 380, 381, 382],
    crease: [467, 260, 259, 257, 258, 286, 414],
    brow_top: [300, 293, 334, 296, 336],
    brow_bottom: [276, 283, 282, 295, 285],
    iris: 473,
};

impl EyeLandmarks {
    /// Returns the corners of the eye, outer first.
    pub const fn corners(&self) -> [usize; 2] {
        [self.outer_corner, self.inner_corner]
    }

    /// Returns the rim of the upper lid with both corners, outer corner first.
    pub const fn upper_rim(&self) -> [usize; 9] {
        rim(self.corners(), &self.upper_lid)
    }

    /// Returns the rim of the lower lid with both corners, outer corner first.
    pub const fn lower_rim(&self) -> [usize; 9] {
        rim(self.corners(), &self.lower_lid)
    }

    /// Returns the closed ring around the opening: outer corner, lower lid, inner corner, upper lid.
    pub const fn ring(&self) -> [usize; 16] {
        ring(self.corners(), &self.lower_lid, &self.upper_lid)
    }
}

/// Landmarks of one outline of the lips; each list runs from the subject's right to left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LipLandmarks {
    /// Corner on the subject's right.
    pub right_corner: usize,
    /// Corner on the subject's left.
    pub left_corner: usize,
    /// Outline of the upper lip, without the corners.
    pub upper: [usize; 9],
    /// Outline of the lower lip, without the corners.
    pub lower: [usize; 9],
}

/// Outline of the mouth opening, where the lips meet.
pub const INNER_LIPS: LipLandmarks = LipLandmarks {
    right_corner: 78,
    left_corner: 308,
    upper: [191, 80, 81, 82, 13, 312, 311, 310, 415],
    lower: [95, 88, 178, 87, 14, 317, 402, 318, 324],
};

/// Outline of the lips against the skin.
pub const OUTER_LIPS: LipLandmarks = LipLandmarks {
    right_corner: 61,
    left_corner: 291,
    upper: [185, 40, 39, 37, 0, 267, 269, 270, 409],
    lower: [146, 91, 181, 84, 17, 314, 405, 321, 375],
};

impl LipLandmarks {
    /// Returns the corners, the subject's right one first.
    pub const fn corners(&self) -> [usize; 2] {
        [self.right_corner, self.left_corner]
    }

    /// Returns the outline of the upper lip with both corners, the subject's right one first.
    pub const fn upper_rim(&self) -> [usize; 11] {
        rim(self.corners(), &self.upper)
    }

    /// Returns the outline of the lower lip with both corners, the subject's right one first.
    pub const fn lower_rim(&self) -> [usize; 11] {
        rim(self.corners(), &self.lower)
    }

    /// Returns the closed ring: right corner, upper lip, left corner, lower lip.
    pub const fn ring(&self) -> [usize; 20] {
        ring(self.corners(), &self.upper, &self.lower)
    }
}

/// `line` between its corners; `M` is `N + 2`.
const fn rim<const N: usize, const M: usize>(
    [first, last]: [usize; 2],
    line: &[usize; N],
) -> [usize; M] {
    let mut rim = [first; M];
    let mut i = 0;
    while i < N {
        rim[1 + i] = line[i];
        i += 1;
    }
    rim[M - 1] = last;
    rim
}

/// `there` between the corners, then `back` in reverse; `M` is `2 N + 2`.
const fn ring<const N: usize, const M: usize>(
    [first, last]: [usize; 2],
    there: &[usize; N],
    back: &[usize; N],
) -> [usize; M] {
    let mut ring = [first; M];
    let mut i = 0;
    while i < N {
        ring[1 + i] = there[i];
        ring[M - 1 - i] = back[i];
        i += 1;
    }
    ring[N + 1] = last;
    ring
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaceShape;

    #[test]
    fn rims_run_from_corner_to_corner_and_rings_close() {
        assert_eq!(RIGHT_EYE.upper_rim(), [33, 246, 161, 160, 159, 158, 157, 173, 133]);
        assert_eq!(
            RIGHT_EYE.ring(),
            [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
        );
        assert_eq!(INNER_LIPS.lower_rim(), [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]);
        assert_eq!(
            OUTER_LIPS.ring(),
            [
                61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181,
                91, 146
            ]
        );
    }

    #[test]
    fn left_landmarks_mirror_the_right_ones() {
        let shape = FaceShape::builtin().unwrap();
        let (right, left) = (&RIGHT_EYE, &LEFT_EYE);
        let pairs = [
            (right.upper_rim().to_vec(), left.upper_rim().to_vec()),
            (right.lower_rim().to_vec(), left.lower_rim().to_vec()),
            (right.crease.to_vec(), left.crease.to_vec()),
            (right.brow_top.to_vec(), left.brow_top.to_vec()),
            (right.brow_bottom.to_vec(), left.brow_bottom.to_vec()),
            (vec![right.iris], vec![left.iris]),
            (INNER_LIPS.upper_rim().to_vec(), reversed(INNER_LIPS.upper_rim())),
            (OUTER_LIPS.lower_rim().to_vec(), reversed(OUTER_LIPS.lower_rim())),
        ];
        for (right, left) in pairs {
            for (right, left) in right.into_iter().zip(left) {
                let mut mirrored = shape.mean()[right];
                mirrored.x = -mirrored.x;
                assert!(mirrored.distance(shape.mean()[left]) < 1e-5, "{right} and {left}");
            }
        }
    }

    fn reversed(mut rim: [usize; 11]) -> Vec<usize> {
        rim.reverse();
        rim.to_vec()
    }
}
