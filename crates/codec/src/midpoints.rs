//! Motion between two units: midpoints, their prediction and their residuals.

use types::{FEATURE_DIMS, Rate};

use crate::profile::MAX_POSITION;

/// Largest number of midpoints between two units: the half and both quarters.
pub(crate) const N_MIDPOINTS: usize = 3;

/// Levels of the midpoint residuals of all components, in the order of [`MIDPOINTS`].
pub(crate) type MidpointLevels = [[i32; FEATURE_DIMS]; N_MIDPOINTS];

/// Positions of one component at the start, the quarters and the end of the interval between two
/// units.
pub(crate) type Quarters = [i32; 5];

/// A point in time halfway between two others, all in quarters of the interval between two units:
/// 0 is the previous unit, 4 the current one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Midpoint {
    pub(crate) at: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// In coding order: each is predicted from points that precede it.
const MIDPOINTS: [Midpoint; N_MIDPOINTS] = [
    Midpoint { at: 2, from: 0, to: 4 },
    Midpoint { at: 1, from: 0, to: 2 },
    Midpoint { at: 3, from: 2, to: 4 },
];

/// Returns the midpoints that units of this rate may code, in coding order.
pub(crate) fn midpoints(rate: Rate) -> &'static [Midpoint] {
    &MIDPOINTS[..(1 << rate.parameters().midpoint_depth) - 1]
}

impl Midpoint {
    /// Returns the predicted position: the mean of the two neighbors, rounded down.
    pub(crate) fn predicted(self, quarters: &Quarters) -> i32 {
        (quarters[self.from] + quarters[self.to]).div_euclid(2)
    }

    /// Returns the position for a residual in parts, clamped to the range of positions.
    pub(crate) fn reconstructed(self, quarters: &Quarters, residual: i32) -> i32 {
        (self.predicted(quarters).saturating_add(residual)).clamp(-MAX_POSITION, MAX_POSITION)
    }

    /// Returns the nominal time between the two neighbors, in 25ths of a second.
    pub(crate) fn span(self, rate: Rate) -> u32 {
        rate.parameters().unit_interval * (self.to - self.from) as u32 / 4
    }
}

/// Returns the corrected position of the previous unit, given the current one's.
///
/// Rate-distortion optimization zeroes small residuals, so decoded motion lags behind; the
/// correction moves the previous position towards the current one by up to the rate's
/// `max_correction`.
pub(crate) fn corrected_start(rate: Rate, previous: i32, current: i32) -> i32 {
    let most = rate.parameters().max_correction;
    previous + (current - previous).clamp(-most, most)
}

/// Returns the positions of all components at the quarters of the interval; `None` at those that
/// the rate does not code.
pub(crate) fn reconstructed_midpoints(
    rate: Rate,
    start: &[i32; FEATURE_DIMS],
    end: &[i32; FEATURE_DIMS],
    levels: &MidpointLevels,
) -> [Option<[i32; FEATURE_DIMS]>; N_MIDPOINTS] {
    let step = rate.parameters().midpoint_step;
    let mut points = [None; N_MIDPOINTS];
    for midpoint in midpoints(rate) {
        points[midpoint.at - 1] = Some([0; FEATURE_DIMS]);
    }
    for k in 0..FEATURE_DIMS {
        let mut quarters = [start[k], 0, 0, 0, end[k]];
        for (midpoint, levels) in midpoints(rate).iter().zip(levels) {
            quarters[midpoint.at] =
                midpoint.reconstructed(&quarters, levels[k].saturating_mul(step));
        }
        for (point, position) in points.iter_mut().zip(&quarters[1..]) {
            if let Some(point) = point {
                point[k] = *position;
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(position: i32) -> [i32; FEATURE_DIMS] {
        [position; FEATURE_DIMS]
    }

    #[test]
    fn the_half_is_reconstructed_before_the_quarters() {
        let levels = [all(1), all(0), all(-1)];
        for (rate, want) in [
            (Rate::High, [None; N_MIDPOINTS]),
            (Rate::Normal, [None, Some(3 + 32), None]),
            // The half is 3 + 52 = 55; the quarters are predicted as 32 and 26.
            (Rate::Low, [Some(32), Some(3 + 52), Some(26 - 52)]),
        ] {
            let points = reconstructed_midpoints(rate, &all(9), &all(-2), &levels);
            assert_eq!(points.map(|point| point.map(|p| p[0])), want, "{rate:?}");
        }
    }

    #[test]
    fn a_correction_goes_towards_the_current_unit_and_is_limited() {
        for (previous, current, want) in [(0, 900, 2), (0, -900, -2), (5, 6, 6), (-7, -7, -7)] {
            assert_eq!(corrected_start(Rate::Normal, previous, current), want);
        }
    }

    #[test]
    fn no_residual_leads_out_of_range() {
        let (end, wild) = (all(MAX_POSITION), [all(i32::MAX), all(i32::MIN), all(1)]);
        for point in reconstructed_midpoints(Rate::Low, &end, &end, &wild).into_iter().flatten() {
            assert!(point[0].abs() <= MAX_POSITION);
        }
    }
}
