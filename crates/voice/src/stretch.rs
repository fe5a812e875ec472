//! Time stretching: whole pitch periods are removed from sound or repeated in it.

/// Samples that are looked at, and the least that a change takes: 30 ms at 48 kHz.
pub(crate) const WINDOW: usize = 2 * MAX_PERIOD;
/// Longest pitch period, in samples (15 ms: 67 Hz).
const MAX_PERIOD: usize = 720;
/// Shortest, in samples (2.5 ms: 400 Hz).
const MIN_PERIOD: usize = 120;
/// Factor by which samples are thinned out for the first search.
const THINNING: usize = 6;
/// Mean square below which nobody hears a change (-60 dBFS).
const QUIET: f32 = 1e-6;

/// Removes one pitch period near the start of `sound`. Returns how many samples were removed: 0 if
/// no two periods are as similar as `similarity` (-1..=1) asks.
pub(crate) fn shorten(sound: &mut Vec<f32>, similarity: f32) -> usize {
    let Some(period) = find_period(sound, similarity) else { return 0 };
    // The first period turns into the second one.
    for i in 0..period {
        let weight = fade(i, period);
        sound[i] = (1.0 - weight) * sound[i] + weight * sound[i + period];
    }
    sound.drain(period..2 * period);
    period
}

/// Repeats one pitch period near the start of `sound`. Returns how many samples were added: 0 if
/// no two periods are as similar as `similarity` (-1..=1) asks.
pub(crate) fn lengthen(sound: &mut Vec<f32>, similarity: f32) -> usize {
    let Some(period) = find_period(sound, similarity) else { return 0 };
    // After the first period, the second one turns back into the first.
    let joint: Vec<f32> = (0..period)
        .map(|i| {
            let weight = fade(i, period);
            (1.0 - weight) * sound[period + i] + weight * sound[i]
        })
        .collect();
    sound.splice(period..period, joint);
    period
}

fn fade(i: usize, n: usize) -> f32 {
    (i as f32 + 0.5) / n as f32
}

/// Finds the shift by which the start of `sound` is most similar to itself.
fn find_period(sound: &[f32], similarity: f32) -> Option<usize> {
    let window = sound.get(..WINDOW)?;
    if window.iter().map(|v| v * v).sum::<f32>() / (WINDOW as f32) < QUIET {
        return Some(MAX_PERIOD);
    }
    let thin: Vec<f32> = window
        .chunks_exact(THINNING)
        .map(|chunk| chunk.iter().sum::<f32>() / THINNING as f32)
        .collect();
    let (_, coarse) = best_shift(&thin, MIN_PERIOD / THINNING..=MAX_PERIOD / THINNING)?;
    let from = (coarse * THINNING).saturating_sub(THINNING).max(MIN_PERIOD);
    let to = (coarse * THINNING + THINNING).min(MAX_PERIOD);
    let (best, period) = best_shift(window, from..=to)?;
    (best >= similarity).then_some(period)
}

/// Returns the largest normalized correlation of the first half of `sound` with a shifted copy,
/// and the shift.
fn best_shift(sound: &[f32], shifts: std::ops::RangeInclusive<usize>) -> Option<(f32, usize)> {
    let first = &sound[..sound.len() / 2];
    let energy = first.iter().map(|v| v * v).sum::<f32>();
    shifts
        .map(|shift| {
            let second = &sound[shift..shift + first.len()];
            let product: f32 = first.iter().zip(second).map(|(a, b)| a * b).sum();
            let other: f32 = second.iter().map(|v| v * v).sum();
            (product / (energy * other).sqrt().max(f32::MIN_POSITIVE), shift)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone with overtones, of a period that is a whole number of samples.
    fn tone(period: usize, n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| {
                let phase = std::f32::consts::TAU * i as f32 / period as f32;
                0.3 * phase.sin() + 0.2 * (2.0 * phase).cos() + 0.1 * (5.0 * phase).sin()
            })
            .collect()
    }

    #[test]
    fn a_tone_is_changed_by_whole_periods_and_nobody_hears_it() {
        for period in [130, 211, 342, 500, 720] {
            let original = tone(period, 6000);
            let mut sound = original[..4000].to_vec();
            let removed = shorten(&mut sound, 0.9);
            assert!(removed > 0 && removed.is_multiple_of(period), "{period}: {removed}");
            assert_eq!(sound.len(), 4000 - removed);
            let mut longer = original[..4000].to_vec();
            let added = lengthen(&mut longer, 0.9);
            assert!(added > 0 && added.is_multiple_of(period), "{period}: {added}");
            assert_eq!(longer.len(), 4000 + added);
            for (i, (a, b)) in sound
                .iter()
                .chain(&longer)
                .zip(original.iter().take(sound.len()).chain(&original))
                .enumerate()
            {
                assert!((a - b).abs() < 0.01, "{period}, {i}: {a} is not {b}");
            }
        }
    }

    #[test]
    fn what_does_not_repeat_itself_is_left_alone() {
        let mut seed = 1_u32;
        let noise: Vec<f32> = (0..WINDOW)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect();
        assert_eq!(shorten(&mut noise.clone(), 0.8), 0);
        assert_eq!(lengthen(&mut noise.clone(), 0.8), 0);
        assert_eq!(shorten(&mut noise[..WINDOW - 1].to_vec(), -1.0), 0);
    }

    #[test]
    fn silence_is_changed_most() {
        assert_eq!(shorten(&mut vec![0.0; WINDOW], 1.0), MAX_PERIOD);
        assert_eq!(lengthen(&mut vec![0.0; WINDOW], 1.0), MAX_PERIOD);
    }
}
