//! What the embedder does not know of each frame.

use types::LEARNED_DIMS;

/// Before this share of the training the field is too vague to correct anything with.
const FROM: f32 = 0.12;
/// How far a correction moves at a usual gradient, at the start of the training.
const RATE: f32 = 0.03;
/// Weight of its square in the loss of a frame: how far a call's refinement believes the embedder.
const SMALL: f32 = 2.4e-5;
/// No correction is larger.
const LIMIT: f32 = 1.0;
/// Decay of the mean square of the gradients.
const DECAY: f32 = 0.99;

/// Each frame's correction of its learned numbers, learned along with the field.
///
/// In a call the sender moves the embedder's numbers until the field looks like the frame
/// ([`track::PhotometricRefiner`]). A field learned from the embedder's numbers alone would blur
/// what they do not tell; learned from corrected ones it is as sharp as a call can use. (Latent
/// codes of single training frames: Bojanowski et al. 2018, arXiv:1707.05776.)
pub(crate) struct Corrections {
    of: Vec<[f32; LEARNED_DIMS]>,
    /// Mean square of the gradients, over frames.
    second: [f32; LEARNED_DIMS],
    steps: i32,
}

impl Corrections {
    /// None yet, for so many frames.
    pub(crate) fn new(n_frames: usize) -> Self {
        Self { of: vec![[0.0; LEARNED_DIMS]; n_frames], second: [0.0; LEARNED_DIMS], steps: 0 }
    }

    /// Everything, for [`Corrections::restore`].
    pub(crate) fn numbers(&self) -> Vec<f32> {
        let (second, of) = (self.second.iter(), self.of.as_flattened());
        [self.steps as f32].iter().chain(second).chain(of).copied().collect()
    }

    /// Takes up where other corrections of as many frames were.
    ///
    /// # Errors
    /// If the numbers are those of another enrollment.
    pub(crate) fn restore(&mut self, numbers: &[f32]) -> anyhow::Result<()> {
        let n = 1 + LEARNED_DIMS * (1 + self.of.len());
        anyhow::ensure!(numbers.len() == n, "the corrections of another enrollment");
        let (second, of) = numbers[1..].split_at(LEARNED_DIMS);
        self.steps = numbers[0] as i32;
        self.second.copy_from_slice(second);
        self.of.as_flattened_mut().copy_from_slice(of);
        Ok(())
    }

    /// Frame `at`'s numbers, of which the embedder says `code`.
    pub(crate) fn corrected(&self, at: usize, code: &[f32; LEARNED_DIMS]) -> [f32; LEARNED_DIMS] {
        std::array::from_fn(|d| code[d] + self.of[at][d])
    }

    /// Moves the corrections of the `chosen` frames against the gradients of a step's mean loss
    /// with respect to their codes; `factor` is that of all learning rates.
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
            for (d, correction) in self.of[at].iter_mut().enumerate() {
                let g = g[d] + 2.0 * SMALL * *correction / n;
                let usual = (self.second[d] * unbiased).sqrt() + 1e-10;
                // One wild gradient is no reason to jump.
                let step = (g / usual).clamp(-3.0, 3.0);
                *correction = (*correction - RATE * factor * step).clamp(-LIMIT, LIMIT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_finds_what_its_loss_asks_for_and_the_others_stay() {
        let mut corrections = Corrections::new(3);
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
    fn what_was_found_is_taken_up_again_and_nothing_else() {
        let mut corrections = Corrections::new(3);
        corrections.learn(&[2], &[[1.0; LEARNED_DIMS]], 0.5, 1.0);
        let numbers = corrections.numbers();
        let mut again = Corrections::new(3);
        again.restore(&numbers).unwrap();
        assert_eq!(again.numbers(), numbers);
        let code = [0.0; LEARNED_DIMS];
        assert_eq!(again.corrected(2, &code), corrections.corrected(2, &code));
        assert!(Corrections::new(4).restore(&numbers).is_err());
    }

    #[test]
    fn nothing_is_corrected_while_the_field_is_vague() {
        let mut corrections = Corrections::new(1);
        corrections.learn(&[0], &[[1.0; LEARNED_DIMS]], 0.05, 1.0);
        assert_eq!(corrections.corrected(0, &[0.0; LEARNED_DIMS]), [0.0; LEARNED_DIMS]);
    }
}
