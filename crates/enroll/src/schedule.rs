//! Schedule of the training.

/// Frames per training step. Each is one parallel task, so more threads than this do not help.
pub const FRAMES_PER_STEP: usize = 4;
/// Steps of the linear warm-up.
const WARM_UP_STEPS: f32 = 50.0;
/// Share of the training before the learning rate decays.
const DECAY_FROM: f32 = 0.3;
/// Factor on the learning rate at the end of the training.
const FINAL_FACTOR: f32 = 0.05;

/// Returns the factor on all learning rates. It rises linearly to 1 over the first 50 steps and
/// decays exponentially from 30 % of the training on, to 0.05 at the end. `progress` is the share
/// of the training that is done, 0..=1.
pub fn learning_rate(steps: u32, progress: f32) -> f32 {
    let warm = ((steps + 1) as f32 / WARM_UP_STEPS).min(1.0);
    let decay = ((progress - DECAY_FROM) / (1.0 - DECAY_FROM)).clamp(0.0, 1.0);
    warm * FINAL_FACTOR.powf(decay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_stays_constant_and_decays_to_a_twentieth() {
        assert!(learning_rate(0, 0.0) < 0.05);
        assert!((learning_rate(100, 0.2) - 1.0).abs() < 1e-6);
        assert!((learning_rate(100, 1.0) - 0.05).abs() < 1e-6);
    }
}
