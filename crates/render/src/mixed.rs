//! Decides whether a part of the field must be mixed again.

/// A part stays as it is while none of its weights has changed by this much. The weights of the
/// warp are the learned numbers of the code, which have unit variance and quantizer steps ten times
/// as large; those of the other parts follow from code and pose through small networks.
const TOLERANCE: f32 = 0.01;

/// Weights that a part of the field was last mixed with.
#[derive(Clone, Debug, Default)]
pub(crate) struct MixedWeights(Vec<f32>);

impl MixedWeights {
    /// Returns whether the part must be mixed again for these `weights`, and if so remembers them.
    ///
    /// Compares with the weights of the last mixture rather than of the last call, so that small
    /// changes do not accumulate.
    pub(crate) fn update(&mut self, weights: &[f32]) -> bool {
        let is_unchanged = self.0.len() == weights.len()
            && self.0.iter().zip(weights).all(|(was, is)| (is - was).abs() < TOLERANCE);
        if !is_unchanged {
            self.0.clear();
            self.0.extend_from_slice(weights);
        }
        !is_unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_do_not_accumulate() {
        let mut mixed = MixedWeights::default();
        assert!(mixed.update(&[0.0, 1.0]) && !mixed.update(&[0.0, 1.0]));
        let n_mixed = (0..1000).filter(|i| mixed.update(&[*i as f32 * 1e-3, 1.0])).count();
        assert!((90..=100).contains(&n_mixed), "{n_mixed} mixtures over 100 times the tolerance");
        assert!(mixed.update(&[0.0]), "weights of another model");
    }
}
