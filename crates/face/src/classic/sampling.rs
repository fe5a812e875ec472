//! Where on a ray the samples of the classic field lie.

/// Added to the mass of every bin before the fine samples are drawn, so that none is without.
pub const MASS_FLOOR: f32 = 1e-5;

/// Stratified samples: one in each of `out.len()` equal parts of `near..far`.
///
/// `offset()` in 0..=1 says where in its part a sample lies: a random number in training, a half
/// when drawing.
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", eq. 2 (arXiv:2003.08934).
pub fn place_evenly((near, far): (f32, f32), out: &mut [f32], mut offset: impl FnMut() -> f32) {
    let step = (far - near) / out.len() as f32;
    for (i, t) in out.iter_mut().enumerate() {
        *t = near + (i as f32 + offset()) * step;
    }
}

/// Samples where the mass is: the inverse of the cumulative mass of `weights`, each weight spread
/// evenly over its equal part of `near..far`, at `out.len()` stratified heights. In rising order.
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", section 5.2 (arXiv:2003.08934).
pub fn place_by_mass(
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

/// Two rising rows of places in one, `out.len()` being the sum of their lengths.
pub fn merge(a: &[f32], b: &[f32], out: &mut [f32]) {
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

/// How much of the ray each sample stands for: up to the next one, the last up to `far`.
pub fn widths(places: &[f32], far: f32) -> impl Iterator<Item = f32> {
    let next = places[1..].iter().copied().chain([far]);
    places.iter().zip(next).map(|(t, next)| (next - t).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use numerics::SplitMix64;

    #[test]
    fn each_part_of_the_ray_gets_one_even_sample() {
        let mut noise = SplitMix64::new(3);
        let mut places = [0.0; 16];
        place_evenly((2.0, 6.0), &mut places, || noise.uniform());
        for (i, t) in places.iter().enumerate() {
            assert_eq!(((t - 2.0) * 4.0) as usize, i, "{t}");
        }
    }

    #[test]
    fn samples_lie_where_the_mass_is() {
        let weights = [0.0, 0.1, 0.0, 0.4, 0.3, 0.0, 0.2, 0.0];
        let mut noise = SplitMix64::new(5);
        let mut places = [0.0; 1000];
        place_by_mass((1.0, 9.0), &weights, &mut places, || noise.uniform());
        assert!(places.windows(2).all(|p| p[0] <= p[1]));
        for (bin, weight) in weights.iter().enumerate() {
            let n = places.iter().filter(|t| ((**t - 1.0) as usize).min(7) == bin).count();
            // The floor moves 8e-5 of the mass, a stratified edge one sample.
            assert!((n as f32 - 1000.0 * weight).abs() <= 2.0, "{n} in bin {bin}");
        }
        // Inside a bin they are spread evenly: the mean is the middle.
        let inside: Vec<f32> = places.iter().copied().filter(|t| (4.0..5.0).contains(t)).collect();
        let mean = inside.iter().sum::<f32>() / inside.len() as f32;
        assert!((mean - 4.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn without_mass_fine_samples_are_spread_over_the_ray() {
        let (mut fine, mut even) = ([0.0; 6], [0.0; 6]);
        place_by_mass((0.0, 3.0), &[0.0; 4], &mut fine, || 0.5);
        place_evenly((0.0, 3.0), &mut even, || 0.5);
        assert!(fine.iter().zip(even).all(|(a, b)| (a - b).abs() < 1e-4), "{fine:?}");
    }

    #[test]
    fn merged_places_rise_and_their_widths_cover_the_ray() {
        let mut all = [0.0; 5];
        merge(&[1.0, 2.0, 4.0], &[2.0, 3.5], &mut all);
        assert_eq!(all, [1.0, 2.0, 2.0, 3.5, 4.0]);
        assert_eq!(widths(&all, 6.0).collect::<Vec<_>>(), [1.0, 0.0, 1.5, 0.5, 2.0]);
    }
}
