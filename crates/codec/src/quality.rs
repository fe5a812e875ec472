use types::MediaTime;

/// How finely and how often features are coded. Units of all three mix in one stream.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Quality {
    /// Steps of 32 parts, in 16ths of the profile's scale; 6 units a second.
    Low,
    /// Steps of 22 parts, 12 units a second.
    #[default]
    Normal,
    /// Steps of 10 parts, 25 units a second.
    High,
}

impl Quality {
    /// All there are, by the number that stands for each in a unit.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// How many of the units before it are worth their bytes in each packet, whatever is lost:
    /// [`Encoder::set_riding`](crate::Encoder::set_riding).
    pub fn riding(self) -> u32 {
        [0, 2, 2][self.index()]
    }

    /// The number that stands for it in a unit.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
        }
    }

    /// Half the width of a level, in parts.
    pub(crate) fn half_step(self) -> i32 {
        [16, 11, 5][self.index()]
    }

    /// Width of a level.
    pub(crate) fn step(self) -> i32 {
        2 * self.half_step()
    }

    /// Width of a level of a bend: it shows on one frame, a residual on all that build on it.
    pub(crate) fn bend_step(self) -> i32 {
        [52, 32, 12][self.index()]
    }

    /// How far, at most, the face was ahead of what a unit said of it, on its way to the next: levels
    /// that cost more bits than they show are left out, so what moves lags behind.
    pub(crate) fn lag(self) -> i32 {
        [3, 2, 1][self.index()]
    }

    /// What a bit is worth, in 1/40 of a squared step.
    pub(crate) fn price(self) -> i64 {
        [10, 6, 3][self.index()]
    }

    /// How often the way from unit to unit is halved to tell where it bends.
    pub(crate) fn bend_depth(self) -> usize {
        [2, 1, 0][self.index()]
    }

    /// Time from unit to unit, in 25ths of a second.
    pub(crate) fn ticks(self) -> u32 {
        [4, 2, 1][self.index()]
    }

    /// Whether a feature at `time` is one to code, after one of `last`: less often, and the
    /// units tell of the frames in between. Half a frame early is not too early.
    pub(crate) fn is_due(self, last: MediaTime, time: MediaTime) -> bool {
        const TICK: u64 = 40_000;
        let gap = time.as_micros().saturating_sub(last.as_micros());
        gap + TICK / 2 >= TICK * u64::from(self.ticks()) || time < last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_evenly_whatever_the_camera_does() {
        for (quality, fps, every) in [
            (Quality::Low, 25, 4),
            (Quality::Normal, 25, 2),
            (Quality::High, 25, 1),
            (Quality::Normal, 30, 2),
            (Quality::High, 60, 2),
            (Quality::Normal, 12, 1),
        ] {
            let mut last = MediaTime::ZERO;
            let due: Vec<u64> = (1..=8)
                .filter(|&i| {
                    let time = MediaTime::of_frame(i, fps);
                    let is_due = quality.is_due(last, time);
                    last = if is_due { time } else { last };
                    is_due
                })
                .collect();
            let want: Vec<u64> = (1..=8).filter(|i| i % every == 0).collect();
            assert_eq!(due, want, "{quality:?} at {fps}");
        }
    }
}
