//! Dependent quantization: the levels already coded select one of two quantizers for the next.
//!
//! Trellis-coded quantization (Marcellin and Fischer, 1990) with a state machine driven by the
//! parity of the levels, as in ITU-T H.266, here with eight states. The reconstruction values of
//! both quantizers together lie twice as densely as those of one, so an encoder that searches the
//! trellis reaches less distortion at the same rate.

/// A set of reconstruction values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Quantizer {
    /// Integer multiples of the step.
    Whole,
    /// 0, and the odd multiples of half a step.
    Half,
}

impl Quantizer {
    pub(crate) const ALL: [Self; 2] = [Self::Whole, Self::Half];

    /// Returns the position in [`Quantizer::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Returns the reconstruction value of a level, in half steps.
    pub(crate) fn half_steps(self, level: i32) -> i32 {
        match self {
            Self::Whole => 2 * level,
            Self::Half => 2 * level - level.signum(),
        }
    }

    /// Returns the level nearest to a residual, at most `most` in magnitude, and the next smaller
    /// one. `residual` and `step` have the same unit. With [`Quantizer::Half`], a residual between
    /// 0 and level 1 gives level 1 first.
    pub(crate) fn nearest(self, residual: i32, step: i32, most: i32) -> [i32; 2] {
        let beyond = match self {
            Self::Whole => residual.abs(),
            Self::Half => residual.abs() + step / 2,
        };
        let level = ((beyond + step / 2) / step).min(most) * residual.signum();
        [level, level - level.signum()]
    }
}

/// State of the trellis.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trellis(u8);

impl Trellis {
    /// Number of states.
    pub(crate) const STATES: usize = 8;

    /// Returns all states by index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::STATES as u8).map(Self)
    }

    /// Returns the index, below [`Trellis::STATES`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the quantizer of the next residual.
    pub(crate) fn quantizer(self) -> Quantizer {
        if self.0 & 1 == 0 { Quantizer::Whole } else { Quantizer::Half }
    }

    /// Returns the next state, which depends on the parity of the level.
    pub(crate) fn after(self, level: i32) -> Self {
        const NEXT: [[u8; 2]; Trellis::STATES] =
            [[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]];
        Self(NEXT[self.index()][(level & 1) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_two_levels_has_the_smallest_error() {
        for quantizer in [Quantizer::Whole, Quantizer::Half] {
            for residual in -200..=200 {
                let off = |level| (quantizer.half_steps(level) * 10 - residual).abs();
                let [nearest, before] = quantizer.nearest(residual, 20, 1000);
                let least = (-12..=12).map(off).min();
                assert_eq!(Some(off(nearest).min(off(before))), least, "{quantizer:?} {residual}");
                assert_eq!(before.abs(), (nearest.abs() - 1).max(0));
            }
            assert_eq!(quantizer.nearest(-4000, 20, 7), [-7, -6]);
        }
    }

    #[test]
    fn every_state_has_two_successors_and_two_predecessors() {
        let mut into = [0; Trellis::STATES];
        for state in 0..Trellis::STATES as u8 {
            let next = [0, 1].map(|level| Trellis(state).after(level).index());
            assert_ne!(next[0], next[1]);
            assert_eq!(Trellis(state).after(-1), Trellis(state).after(1));
            for state in next {
                into[state] += 1;
            }
        }
        assert_eq!(into, [2; Trellis::STATES]);
        assert_eq!(Trellis::default().after(0), Trellis::default(), "zeros keep the initial state");
    }
}
