//! When a part of the field need not be mixed anew.

/// Weights that have moved less than this since a part was mixed leave it as it is. Those of the
/// warp are the code, whose numbers spread by one; the codec's finest steps are ten times as far
/// apart. Those of the other parts come from it, and from the pose, through small networks.
const STILL: f32 = 0.01;

/// What a part of the field was mixed with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mixed(Vec<f32>);

impl Mixed {
    /// Whether the part is to be mixed for these `weights`, which are remembered then.
    ///
    /// It is compared with what it was mixed with, not with what was wanted last, so that small
    /// steps do not add up.
    pub(crate) fn moves_to(&mut self, weights: &[f32]) -> bool {
        let is_still = self.0.len() == weights.len()
            && self.0.iter().zip(weights).all(|(was, is)| (is - was).abs() < STILL);
        if !is_still {
            self.0.clear();
            self.0.extend_from_slice(weights);
        }
        !is_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_do_not_add_up() {
        let mut mixed = Mixed::default();
        assert!(mixed.moves_to(&[0.0, 1.0]) && !mixed.moves_to(&[0.0, 1.0]));
        let n_mixed = (0..1000).filter(|i| mixed.moves_to(&[*i as f32 * 1e-3, 1.0])).count();
        assert!((90..=100).contains(&n_mixed), "{n_mixed} of 100 times the distance");
        assert!(mixed.moves_to(&[0.0]), "another model's");
    }
}
