//! Wide-gamut and high-dynamic-range video as displayed on a screen of ordinary range and gamut.
//!
//! The conversion is that of ffmpeg's filters
//! `zscale=t=linear:npl=100,zscale=p=bt709,tonemap=mobius:peak=10:desat=0,zscale=t=bt709`. As there, the system
//! gamma of hybrid log-gamma is applied to each component; BT.2100 has it depend on luminance, which makes
//! colors paler.

/// Primaries of the red, green and blue of a clip.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Primaries {
    /// BT.709, which sRGB has too, and those of BT.601, which differ little.
    #[default]
    Bt709,
    /// BT.2020 and BT.2100.
    Bt2020,
    /// Display P3.
    P3,
}

/// How the signal relates to light.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Transfer {
    /// Ordinary range; displayed as it is.
    #[default]
    Ordinary,
    /// Hybrid log-gamma of BT.2100.
    Hlg,
    /// Perceptual quantizer of BT.2100.
    Pq,
}

/// Gamma of an ordinary display (BT.1886).
const GAMMA: f32 = 2.4;
/// Light of a pixel as bright as ordinary white, cd/m²; light is counted in such units.
const WHITE: f32 = 100.0;
/// Light up to which the tone curve keeps a clip as it is, and which it maps to white.
const KNEE: f32 = 0.3;
const PEAK: f32 = 1000.0 / WHITE;
/// Steps of the table of light; values between them are interpolated.
const N_STEPS: usize = 4096;

/// Converter of the signal of a clip.
#[derive(Clone, Debug)]
pub(crate) struct ToDisplay {
    /// Light of a component, by its signal.
    light: Vec<f32>,
    transfer: Transfer,
    display_from_clip: [[f32; 3]; 3],
}

impl ToDisplay {
    /// Returns a converter; `None` if the signal is displayed as it is.
    pub(crate) fn new(primaries: Primaries, transfer: Transfer) -> Option<Self> {
        if (primaries, transfer) == (Primaries::Bt709, Transfer::Ordinary) {
            return None;
        }
        let light = |step: usize| light(transfer, step as f32 / N_STEPS as f32);
        Some(Self {
            light: (0..=N_STEPS).map(light).collect(),
            transfer,
            display_from_clip: match primaries {
                Primaries::Bt709 => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
                Primaries::Bt2020 => [
                    [1.660_491, -0.587_641_1, -0.072_849_86],
                    [-0.124_550_5, 1.132_9, -0.008_349_42],
                    [-0.018_150_76, -0.100_578_9, 1.118_73],
                ],
                Primaries::P3 => [
                    [1.224_940_2, -0.224_940_2, 0.0],
                    [-0.042_056_95, 1.042_057, 0.0],
                    [-0.019_637_55, -0.078_636_05, 1.098_273_6],
                ],
            },
        })
    }

    /// Converts the signal of a pixel, 0..=1, to sRGB bytes.
    pub(crate) fn convert(&self, signal: [f32; 3]) -> [u8; 3] {
        let [r, g, b] = signal.map(|v| self.light_of(v));
        let mut rgb = self.display_from_clip.map(|row| row[0] * r + row[1] * g + row[2] * b);
        if self.transfer != Transfer::Ordinary {
            let brightest = rgb[0].max(rgb[1]).max(rgb[2]).max(1e-6);
            let gain = tone(brightest) / brightest;
            rgb = rgb.map(|v| v * gain);
        }
        rgb.map(|v| (v.max(0.0).powf(1.0 / GAMMA) * 255.0 + 0.5) as u8)
    }

    fn light_of(&self, signal: f32) -> f32 {
        let at = signal.clamp(0.0, 1.0) * N_STEPS as f32;
        let step = (at as usize).min(N_STEPS - 1);
        let share = at - step as f32;
        self.light[step] + share * (self.light[step + 1] - self.light[step])
    }
}

/// Light of a signal in 0..=1.
fn light(transfer: Transfer, signal: f32) -> f32 {
    match transfer {
        Transfer::Ordinary => signal.powf(GAMMA),
        // BT.2100, table 5, with the system gamma of a display of 1000 cd/m².
        Transfer::Hlg => {
            let scene = if signal <= 0.5 {
                signal * signal / 3.0
            } else {
                (((signal - 0.559_910_7) / 0.178_832_77).exp() + 0.284_668_92) / 12.0
            };
            scene.powf(1.2) * PEAK
        }
        // BT.2100, table 4.
        Transfer::Pq => {
            let power = signal.powf(1.0 / 78.84375);
            let ratio = (power - 0.835_937_5).max(0.0) / (18.851_563 - 18.6875 * power);
            ratio.powf(1.0 / 0.159_301_76) * (10_000.0 / WHITE)
        }
    }
}

/// Möbius tone curve: the identity up to the knee, smooth there, and `PEAK` becomes 1.
fn tone(light: f32) -> f32 {
    if light <= KNEE {
        return light;
    }
    let a = -KNEE * KNEE * (PEAK - 1.0) / (KNEE * KNEE - 2.0 * KNEE + PEAK);
    let b = (KNEE * KNEE - 2.0 * KNEE * PEAK + PEAK) / (PEAK - 1.0);
    (b * b + 2.0 * b * KNEE + KNEE * KNEE) / (b - a) * (light + a) / (light + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are the standards' equations.
    #[test]
    fn reference_levels_of_the_standards_have_their_light() {
        for (transfer, signal, want) in [
            (Transfer::Ordinary, 0.5, 0.189_465),
            (Transfer::Hlg, 0.5, 0.506_97),
            (Transfer::Hlg, 1.0, 10.0),
            // 100 and 10,000 cd/m².
            (Transfer::Pq, 0.508_078, 1.0),
            (Transfer::Pq, 1.0, 100.0),
        ] {
            let got = light(transfer, signal);
            assert!((got - want).abs() <= 1e-3 * want, "{transfer:?} {signal}: {got}");
        }
    }

    #[test]
    fn gray_stays_gray_and_the_peak_becomes_white() {
        for primaries in [Primaries::Bt709, Primaries::Bt2020, Primaries::P3] {
            for transfer in [Transfer::Ordinary, Transfer::Hlg, Transfer::Pq] {
                let Some(to_display) = ToDisplay::new(primaries, transfer) else { continue };
                let mut last = 0;
                for step in 0..=100 {
                    let [r, g, b] = to_display.convert([step as f32 / 100.0; 3]);
                    assert!(r.abs_diff(g) <= 1 && g.abs_diff(b) <= 1, "{:?}", (r, g, b));
                    assert!(g >= last, "{transfer:?} falls at {step}");
                    last = g;
                }
                assert_eq!(last, 255, "{transfer:?}");
            }
        }
        assert!((tone(PEAK) - 1.0).abs() < 1e-6);
    }
}
