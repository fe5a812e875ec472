//! Sample positions along a ray.
//!
//! Positions are distances from the ray's origin in canonical units.

/// Added to every coarse weight before fine samples are drawn, so that no interval is empty.
pub(crate) const MASS_FLOOR: f32 = 1e-5;

/// Places stratified samples: one in each of `out.len()` equal intervals of `near..far`.
///
/// `offset()`, in 0..=1, is the relative position inside an interval: random in training, 0.5 when
/// drawing.
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", eq. 2 (arXiv:2003.08934).
pub(crate) fn place_evenly(
    (near, far): (f32, f32),
    out: &mut [f32],
    mut offset: impl FnMut() -> f32,
) {
    let step = (far - near) / out.len() as f32;
    for (i, t) in out.iter_mut().enumerate() {
        *t = near + (i as f32 + offset()) * step;
    }
}

/// Places samples by inverse transform sampling of a piecewise constant density, in rising order.
///
/// `weights` are the masses of equal intervals of `near..far`. The inverse of their cumulative
/// distribution is read at `out.len()` stratified values, with `offset()` as in [`place_evenly`].
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", section 5.2 (arXiv:2003.08934).
pub(crate) fn place_by_mass(
    (near, far): (f32, f32),
    weights: &[f32],
    out: &mut [f32],
    mut offset: impl FnMut() -> f32,
) {
    let step = (far - near) / weights.len() as f32;
    let total: f32 = weights.iter().map(|w| w + MASS_FLOOR).sum();
    let share = total / out.len() as f32;
    let (mut bin, mut before) = (0, 0.0);
    for (k, t) in out.iter_mut().enumerate() {
        let mass = (k as f32 + offset()) * share;
        while bin + 1 < weights.len() && before + weights[bin] + MASS_FLOOR < mass {
            before += weights[bin] + MASS_FLOOR;
            bin += 1;
        }
        let inside = ((mass - before) / (weights[bin] + MASS_FLOOR)).clamp(0.0, 1.0);
        *t = near + (bin as f32 + inside) * step;
    }
}

/// Merges two rising sequences of positions into `out`, whose length is the sum of theirs.
pub(crate) fn merge(a: &[f32], b: &[f32], out: &mut [f32]) {
    let (mut i, mut j) = (0, 0);
    for t in out {
        let from_a = j >= b.len() || (i < a.len() && a[i] <= b[j]);
        if from_a {
            *t = a[i];
            i += 1;
        } else {
            *t = b[j];
            j += 1;
        }
    }
}

/// Returns the length of ray for each sample: up to the next sample, the last one up to `far`.
pub(crate) fn widths(places: &[f32], far: f32) -> impl Iterator<Item = f32> {
    let next = places[1..].iter().copied().chain([far]);
    places.iter().zip(next).map(|(t, next)| (next - t).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use numerics::SplitMix64;

    #[test]
    fn each_interval_gets_one_sample() {
        let mut noise = SplitMix64::new(3);
        let mut places = [0.0; 16];
        place_evenly((2.0, 6.0), &mut places, || noise.uniform());
        for (i, t) in places.iter().enumerate() {
            assert_eq!(((t - 2.0) * 4.0) as usize, i, "{t}");
        }
    }

    #[test]
    fn samples_follow_the_weights() {
        let weights = [0.0, 0.1, 0.0, 0.4, 0.3, 0.0, 0.2, 0.0];
        let mut noise = SplitMix64::new(5);
        let mut places = [0.0; 1000];
        place_by_mass((1.0, 9.0), &weights, &mut places, || noise.uniform());
        assert!(places.windows(2).all(|p| p[0] <= p[1]));
        for (bin, weight) in weights.iter().enumerate() {
            let n = places.iter().filter(|t| ((**t - 1.0) as usize).min(7) == bin).count();
            // The floor moves 8e-5 of the mass, and stratification one sample at an edge.
            assert!((n as f32 - 1000.0 * weight).abs() <= 2.0, "{n} in bin {bin}");
        }
        // Samples are uniform inside an interval, so their mean is its middle.
        let inside: Vec<f32> = places.iter().copied().filter(|t| (4.0..5.0).contains(t)).collect();
        let mean = inside.iter().sum::<f32>() / inside.len() as f32;
        assert!((mean - 4.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn zero_weights_give_even_samples() {
        let (mut fine, mut even) = ([0.0; 6], [0.0; 6]);
        place_by_mass((0.0, 3.0), &[0.0; 4], &mut fine, || 0.5);
        place_evenly((0.0, 3.0), &mut even, || 0.5);
        assert!(fine.iter().zip(even).all(|(a, b)| (a - b).abs() < 1e-4), "{fine:?}");
    }

    #[test]
    fn merged_positions_rise_and_their_widths_cover_the_ray() {
        let mut all = [0.0; 5];
        merge(&[1.0, 2.0, 4.0], &[2.0, 3.5], &mut all);
        assert_eq!(all, [1.0, 2.0, 2.0, 3.5, 4.0]);
        assert_eq!(widths(&all, 6.0).collect::<Vec<_>>(), [1.0, 0.0, 1.5, 0.5, 2.0]);
    }
}
