//! Learned corrections of the embedder's codes, one for each training frame.

use types::LEARNED_DIMS;

/// Share of the training before which the field is too blurred to determine corrections.
const FROM: f32 = 0.12;
/// Step of a correction for a gradient of average size, before the learning rate decays.
const RATE: f32 = 0.03;
/// Weight of the squared correction in the loss of a frame. It matches the prior with which the
/// photometric refinement of a call trusts the embedder.
const SMALL: f32 = 2.4e-5;
/// Largest absolute correction.
const LIMIT: f32 = 1.0;
/// Decay rate of the mean squared gradient.
const DECAY: f32 = 0.99;

/// Correction of the learned code of each training frame, trained together with the field.
///
/// In a call the sender refines the embedder's code until the rendered field matches the frame
/// ([`track::PhotometricRefiner`]). A field trained on the embedder's codes alone would blur all that
/// they do not determine. Trained on corrected codes it is as sharp as a call can use.
///
/// # Source
/// Latent codes per training sample: Bojanowski et al. 2018 (arXiv:1707.05776).
pub(crate) struct CodeCorrections {
    /// One correction for each training frame.
    per_frame: Vec<[f32; LEARNED_DIMS]>,
    /// Mean squared gradient over all frames.
    second: [f32; LEARNED_DIMS],
    steps: i32,
}

impl CodeCorrections {
    /// Starts with zero corrections for `n_frames` training frames.
    pub(crate) fn new(n_frames: usize) -> Self {
        Self {
            per_frame: vec![[0.0; LEARNED_DIMS]; n_frames],
            second: [0.0; LEARNED_DIMS],
            steps: 0,
        }
    }

    /// Returns the whole state as numbers, for [`CodeCorrections::restore`].
    pub(crate) fn state(&self) -> Vec<f32> {
        let (second, per_frame) = (self.second.iter(), self.per_frame.as_flattened());
        [self.steps as f32].iter().chain(second).chain(per_frame).copied().collect()
    }

    /// Restores a state of the same number of frames.
    ///
    /// # Errors
    /// If the state belongs to another number of frames.
    pub(crate) fn restore(&mut self, state: &[f32]) -> anyhow::Result<()> {
        let n = 1 + LEARNED_DIMS * (1 + self.per_frame.len());
        anyhow::ensure!(state.len() == n, "the code corrections belong to another enrollment");
        let (second, per_frame) = state[1..].split_at(LEARNED_DIMS);
        self.steps = state[0] as i32;
        self.second.copy_from_slice(second);
        self.per_frame.as_flattened_mut().copy_from_slice(per_frame);
        Ok(())
    }

    /// Returns the corrected code of training frame `at`, given the embedder's `code`.
    pub(crate) fn corrected(&self, at: usize, code: &[f32; LEARNED_DIMS]) -> [f32; LEARNED_DIMS] {
        std::array::from_fn(|d| code[d] + self.per_frame[at][d])
    }

    /// Moves the corrections of the `chosen` frames against `g_codes`, the gradients of a step's mean
    /// loss with respect to their codes; `factor` scales the learning rate.
    pub(crate) fn learn(
        &mut self,
        chosen: &[usize],
        g_codes: &[[f32; LEARNED_DIMS]],
        progress: f32,
        factor: f32,
    ) {
        if progress < FROM {
            return;
        }
        self.steps = (self.steps + 1).min(100_000);
        let n = chosen.len() as f32;
        for d in 0..LEARNED_DIMS {
            let square = g_codes.iter().map(|g| g[d] * g[d]).sum::<f32>() / n;
            self.second[d] += (1.0 - DECAY) * (square - self.second[d]);
        }
        let unbiased = 1.0 / (1.0 - DECAY.powi(self.steps));
        for (&at, g) in chosen.iter().zip(g_codes) {
            for (d, correction) in self.per_frame[at].iter_mut().enumerate() {
                let g = g[d] + 2.0 * SMALL * *correction / n;
                let typical = (self.second[d] * unbiased).sqrt() + 1e-10;
                // Limits the effect of outliers.
                let step = (g / typical).clamp(-3.0, 3.0);
                *correction = (*correction - RATE * factor * step).clamp(-LIMIT, LIMIT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_converges_and_other_frames_stay_unchanged() {
        let mut corrections = CodeCorrections::new(3);
        let code = [0.25; LEARNED_DIMS];
        for _ in 0..400 {
            let g = corrections.corrected(1, &code).map(|c| 0.01 * (c - 0.5));
            corrections.learn(&[1], &[g], 0.5, 1.0);
        }
        let found = corrections.corrected(1, &code);
        assert!(found.iter().all(|c| (c - 0.5).abs() < 0.05), "{found:?}");
        assert_eq!(corrections.corrected(2, &code), code);
    }

    #[test]
    fn a_saved_state_is_restored_and_one_of_other_frames_refused() {
        let mut corrections = CodeCorrections::new(3);
        corrections.learn(&[2], &[[1.0; LEARNED_DIMS]], 0.5, 1.0);
        let state = corrections.state();
        let mut again = CodeCorrections::new(3);
        again.restore(&state).unwrap();
        assert_eq!(again.state(), state);
        let code = [0.0; LEARNED_DIMS];
        assert_eq!(again.corrected(2, &code), corrections.corrected(2, &code));
        assert!(CodeCorrections::new(4).restore(&state).is_err());
    }

    #[test]
    fn nothing_is_corrected_early_in_the_training() {
        let mut corrections = CodeCorrections::new(1);
        corrections.learn(&[0], &[[1.0; LEARNED_DIMS]], 0.05, 1.0);
        assert_eq!(corrections.corrected(0, &[0.0; LEARNED_DIMS]), [0.0; LEARNED_DIMS]);
    }
}
