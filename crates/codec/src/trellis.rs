//! Dependent quantization: which of two quantizers a residual has follows from the levels before it.
//!
//! Trellis-coded quantization (Marcellin and Fischer, 1990), with a parity-driven state machine as
//! ITU-T H.266 has it, here of eight states. The values of the two quantizers together lie twice as
//! densely as those of either, and an encoder that looks for the best path through the states leaves
//! less error for as many bits as with one quantizer.

/// One of two sets of values that a residual may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Quantizer {
    /// Whole steps.
    Whole,
    /// 0, and what lies between whole steps.
    Half,
}

impl Quantizer {
    pub(crate) const ALL: [Self; 2] = [Self::Whole, Self::Half];

    /// Its place in [`Quantizer::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// What a level means, in half steps.
    pub(crate) fn half_steps(self, level: i32) -> i32 {
        match self {
            Self::Whole => 2 * level,
            Self::Half => 2 * level - level.signum(),
        }
    }

    /// The level nearest to a residual, in parts as the step, and the one before it; `most` at most. Where
    /// 0 lies between whole steps, what is next to it counts as nearer.
    pub(crate) fn nearest(self, residual: i32, step: i32, most: i32) -> [i32; 2] {
        let beyond = match self {
            Self::Whole => residual.abs(),
            Self::Half => residual.abs() + step / 2,
        };
        let level = ((beyond + step / 2) / step).min(most) * residual.signum();
        [level, level - level.signum()]
    }
}

/// Where in the trellis a unit is, from component to component.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trellis(u8);

impl Trellis {
    /// How many states there are.
    pub(crate) const STATES: usize = 8;

    /// All states, in the order of their numbers.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::STATES as u8).map(Self)
    }

    /// The number of the state, below [`Trellis::STATES`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// What the next residual is quantized with.
    pub(crate) fn quantizer(self) -> Quantizer {
        if self.0 & 1 == 0 { Quantizer::Whole } else { Quantizer::Half }
    }

    /// The state after an even or odd level.
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
    fn the_nearest_level_is_the_nearest() {
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

    /// From every state two others, and two ways into each: no state is a dead end.
    #[test]
    fn the_states_are_a_trellis() {
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
        assert_eq!(
            Trellis::default().after(0),
            Trellis::default(),
            "a face that rests stays there"
        );
    }
}
