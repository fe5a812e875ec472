//! The way from the unit before to a unit: where it leaves the straight line.

use types::{FEATURE_DIMS, Rate};

use crate::profile::MAX_POSITION;

/// Points at which a way may bend: its quarters.
pub(crate) const N_POINTS: usize = 3;

/// Bends of every component in levels, in the order of [`HALVINGS`].
pub(crate) type Bends = [[i32; FEATURE_DIMS]; N_POINTS];

/// A point in the middle of a stretch of the way, all three in quarters of it: 0 is where the unit
/// before left the face, 4 where this one leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halving {
    pub(crate) at: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// The half of the way, then its quarters.
const HALVINGS: [Halving; N_POINTS] = [
    Halving { at: 2, from: 0, to: 4 },
    Halving { at: 1, from: 0, to: 2 },
    Halving { at: 3, from: 2, to: 4 },
];

/// Where the ways of a rate bend, in the order in which that is coded.
pub(crate) fn halvings(rate: Rate) -> &'static [Halving] {
    &HALVINGS[..(1 << rate.parameters().midpoint_depth) - 1]
}

impl Halving {
    /// The middle of the straight line between the ends of the stretch.
    pub(crate) fn straight(self, way: &[i32; 5]) -> i32 {
        (way[self.from] + way[self.to]).div_euclid(2)
    }

    /// Where the way goes if it bends by `bend` parts.
    pub(crate) fn bent(self, way: &[i32; 5], bend: i32) -> i32 {
        (self.straight(way).saturating_add(bend)).clamp(-MAX_POSITION, MAX_POSITION)
    }

    /// Duration of the stretch if the way takes as long as it should, 25ths of a second.
    pub(crate) fn ticks(self, rate: Rate) -> u32 {
        rate.parameters().unit_interval * (self.to - self.from) as u32 / 4
    }
}

/// Where the way from `from` to `to` began, now that it is known where it leads.
pub(crate) fn caught_up(rate: Rate, from: i32, to: i32) -> i32 {
    let most = rate.parameters().max_correction;
    from + (to - from).clamp(-most, most)
}

/// Positions at the quarters of a way that began at `from`, of those where it may bend.
pub(crate) fn bent_way(
    rate: Rate,
    from: &[i32; FEATURE_DIMS],
    to: &[i32; FEATURE_DIMS],
    bends: &Bends,
) -> [Option<[i32; FEATURE_DIMS]>; N_POINTS] {
    let mut points = [None; N_POINTS];
    for halving in halvings(rate) {
        points[halving.at - 1] = Some([0; FEATURE_DIMS]);
    }
    for k in 0..FEATURE_DIMS {
        let mut way = [from[k], 0, 0, 0, to[k]];
        for (halving, bends) in halvings(rate).iter().zip(bends) {
            way[halving.at] =
                halving.bent(&way, bends[k].saturating_mul(rate.parameters().midpoint_step));
        }
        for (point, position) in points.iter_mut().zip(&way[1..]) {
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

    #[test]
    fn a_way_bends_at_its_half_and_then_at_its_quarters() {
        let all = |position| [position; FEATURE_DIMS];
        let bends = [all(1), all(0), all(-1)];
        for (rate, want) in [
            (Rate::High, [None; N_POINTS]),
            (Rate::Normal, [None, Some(3 + 32), None]),
            // 55 in the middle, so 32 and 26 where it would be straight.
            (Rate::Low, [Some(32), Some(3 + 52), Some(26 - 52)]),
        ] {
            let points = bent_way(rate, &all(9), &all(-2), &bends);
            assert_eq!(points.map(|point| point.map(|p| p[0])), want, "{rate:?}");
        }
    }

    #[test]
    fn a_way_begins_where_it_leads_to_by_a_lag_at_most() {
        for (from, to, want) in [(0, 900, 2), (0, -900, -2), (5, 6, 6), (-7, -7, -7)] {
            assert_eq!(caught_up(Rate::Normal, from, to), want);
        }
    }

    #[test]
    fn no_bend_leads_out_of_range() {
        let all = |position| [position; FEATURE_DIMS];
        let (end, wild) = (all(MAX_POSITION), [all(i32::MAX), all(i32::MIN), all(1)]);
        for point in bent_way(Rate::Low, &end, &end, &wild).into_iter().flatten() {
            assert!(point[0].abs() <= MAX_POSITION);
        }
    }
}
