use numerics::hash;

use crate::noise::uniform;

/// Length of a stretch, seconds. Each stretch holds at most one phrase, so that any time can be
/// evaluated without those before it.
pub(crate) const STRETCH_S: f64 = 6.0;

/// Phoneme: its sound and its articulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phoneme {
    name: &'static str,
    seconds: f32,
    /// Jaw, round, wide, press, bite, each 0..=1.
    pub mouth: [f32; 5],
    /// First three formants, Hz.
    pub formants_hz: [f32; 3],
    /// Amplitude of the voice.
    pub voiced: f32,
    /// Amplitude of the frication noise.
    pub noise: f32,
    /// Center frequency of the frication noise, Hz.
    pub noise_hz: f32,
}

/// Phoneme with its time interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub start_s: f64,
    pub end_s: f64,
    pub phoneme: &'static Phoneme,
}

const fn phoneme(
    name: &'static str,
    seconds: f32,
    mouth: [f32; 5],
    formants_hz: [f32; 3],
    voiced: f32,
    noise: f32,
    noise_hz: f32,
) -> Phoneme {
    Phoneme { name, seconds, mouth, formants_hz, voiced, noise, noise_hz }
}

/// Formants after Peterson, Barney 1952, "Control methods used in a study of the vowels" (men);
/// articulation by eye.
#[rustfmt::skip]
static PHONEMES: [Phoneme; 36] = [
    phoneme("AA", 0.16, [0.85, 0.0, 0.1, 0.0, 0.0], [730.0, 1090.0, 2440.0], 1.0, 0.0, 0.0),
    phoneme("AE", 0.15, [0.75, 0.0, 0.5, 0.0, 0.0], [660.0, 1720.0, 2410.0], 1.0, 0.0, 0.0),
    phoneme("AH", 0.10, [0.50, 0.0, 0.1, 0.0, 0.0], [640.0, 1190.0, 2390.0], 0.9, 0.0, 0.0),
    phoneme("AO", 0.15, [0.70, 0.5, 0.0, 0.0, 0.0], [570.0, 840.0, 2410.0], 1.0, 0.0, 0.0),
    phoneme("AY", 0.18, [0.75, 0.0, 0.4, 0.0, 0.0], [660.0, 1500.0, 2500.0], 1.0, 0.0, 0.0),
    phoneme("EH", 0.11, [0.50, 0.0, 0.4, 0.0, 0.0], [530.0, 1840.0, 2480.0], 1.0, 0.0, 0.0),
    phoneme("ER", 0.13, [0.35, 0.4, 0.0, 0.0, 0.0], [490.0, 1350.0, 1690.0], 0.9, 0.0, 0.0),
    phoneme("EY", 0.15, [0.45, 0.0, 0.6, 0.0, 0.0], [440.0, 2100.0, 2600.0], 1.0, 0.0, 0.0),
    phoneme("IH", 0.09, [0.35, 0.0, 0.4, 0.0, 0.0], [390.0, 1990.0, 2550.0], 0.9, 0.0, 0.0),
    phoneme("IY", 0.14, [0.25, 0.0, 0.8, 0.0, 0.0], [270.0, 2290.0, 3010.0], 0.9, 0.0, 0.0),
    phoneme("OW", 0.17, [0.50, 0.9, 0.0, 0.0, 0.0], [480.0, 900.0, 2350.0], 1.0, 0.0, 0.0),
    phoneme("UH", 0.10, [0.35, 0.6, 0.0, 0.0, 0.0], [440.0, 1020.0, 2240.0], 0.9, 0.0, 0.0),
    phoneme("UW", 0.15, [0.25, 1.0, 0.0, 0.0, 0.0], [300.0, 870.0, 2240.0], 0.9, 0.0, 0.0),
    phoneme("AW", 0.19, [0.75, 0.4, 0.0, 0.0, 0.0], [650.0, 1050.0, 2400.0], 1.0, 0.0, 0.0),
    phoneme("M", 0.08, [0.02, 0.0, 0.0, 1.3, 0.0], [250.0, 1100.0, 2200.0], 0.45, 0.0, 0.0),
    phoneme("N", 0.07, [0.18, 0.0, 0.2, 0.0, 0.0], [250.0, 1500.0, 2400.0], 0.45, 0.0, 0.0),
    phoneme("NG", 0.08, [0.25, 0.0, 0.1, 0.0, 0.0], [250.0, 1900.0, 2500.0], 0.45, 0.0, 0.0),
    phoneme("L", 0.07, [0.35, 0.0, 0.1, 0.0, 0.0], [360.0, 1100.0, 2700.0], 0.6, 0.0, 0.0),
    phoneme("R", 0.07, [0.22, 0.6, 0.0, 0.0, 0.0], [400.0, 1150.0, 1600.0], 0.6, 0.0, 0.0),
    phoneme("W", 0.07, [0.15, 1.1, 0.0, 0.0, 0.0], [290.0, 650.0, 2200.0], 0.6, 0.0, 0.0),
    phoneme("Y", 0.06, [0.20, 0.0, 0.7, 0.0, 0.0], [280.0, 2200.0, 2900.0], 0.6, 0.0, 0.0),
    phoneme("HH", 0.06, [0.35, 0.0, 0.1, 0.0, 0.0], [500.0, 1500.0, 2500.0], 0.0, 0.25, 1600.0),
    phoneme("P", 0.09, [0.02, 0.1, 0.0, 1.4, 0.0], [400.0, 1000.0, 2300.0], 0.0, 0.18, 900.0),
    phoneme("B", 0.08, [0.02, 0.1, 0.0, 1.4, 0.0], [250.0, 900.0, 2300.0], 0.25, 0.05, 800.0),
    phoneme("T", 0.07, [0.15, 0.0, 0.2, 0.0, 0.0], [400.0, 1700.0, 2600.0], 0.0, 0.45, 4200.0),
    phoneme("D", 0.06, [0.18, 0.0, 0.2, 0.0, 0.0], [250.0, 1700.0, 2600.0], 0.3, 0.15, 3600.0),
    phoneme("K", 0.08, [0.30, 0.0, 0.1, 0.0, 0.0], [400.0, 1800.0, 2300.0], 0.0, 0.40, 2200.0),
    phoneme("G", 0.07, [0.28, 0.0, 0.1, 0.0, 0.0], [250.0, 1800.0, 2300.0], 0.3, 0.12, 2000.0),
    phoneme("F", 0.09, [0.10, 0.0, 0.1, 0.0, 1.2], [400.0, 1200.0, 2300.0], 0.0, 0.28, 5200.0),
    phoneme("V", 0.07, [0.10, 0.0, 0.1, 0.0, 1.2], [300.0, 1200.0, 2300.0], 0.45, 0.10, 4800.0),
    phoneme("S", 0.10, [0.10, 0.0, 0.5, 0.0, 0.0], [400.0, 1700.0, 2600.0], 0.0, 0.55, 5800.0),
    phoneme("Z", 0.08, [0.12, 0.0, 0.5, 0.0, 0.0], [280.0, 1700.0, 2600.0], 0.45, 0.25, 5600.0),
    phoneme("SH", 0.11, [0.15, 0.8, 0.0, 0.0, 0.0], [400.0, 1700.0, 2500.0], 0.0, 0.55, 3000.0),
    phoneme("CH", 0.10, [0.12, 0.8, 0.0, 0.0, 0.0], [400.0, 1700.0, 2500.0], 0.0, 0.50, 3200.0),
    phoneme("TH", 0.08, [0.20, 0.0, 0.2, 0.0, 0.2], [400.0, 1400.0, 2500.0], 0.2, 0.18, 6000.0),
    phoneme("_", 0.14, [0.05, 0.0, 0.0, 0.1, 0.0], [500.0, 1500.0, 2500.0], 0.0, 0.0, 0.0),
];

/// Phrases; `_` is a short pause.
static PHRASES: [&str; 9] = [
    "HH EH L OW _ IH T S G UH D T UW S IY Y UW _ HH AW AA R Y UW",
    "DH IH S K AO L F IH T S IH N AH F Y UW K IH L OW B IH T S AH S EH K AH N D",
    "W AH T Y UW S IY IH Z AH F EY S _ N AA T AH V IH D IY OW S T R IY M",
    "DH AH P IH K CH ER IH Z M EY D AA N Y AO R M AH SH IY N",
    "AY K AE N S M AY L _ AH N D T ER N M AY HH EH D _ AH N D Y UW S IY IH T",
    "M AY V OY S AH N D M AY F EY S T R AE V AH L T AH G EH DH ER",
    "P L IY Z K IY P T AO K IH NG _ AY W IH L W EY T F AO R Y UW",
    "DH AH L AY N IH Z S L OW _ B AH T W IY K AE N S T IH L M IY T",
    "B AY F AO R N AW _ IH T W AH Z W AH N D ER F UH L",
];

/// Returns the phonemes spoken in stretch number `stretch`, in order; gaps occur only at the pauses
/// `_`. Empty while the actor listens. All times lie inside the stretch.
pub(crate) fn segments(seed: u64, stretch: u64) -> Vec<Segment> {
    // The actor listens in one stretch of five, but never in the first.
    if stretch > 0 && hash(seed ^ 0x11, stretch).is_multiple_of(5) {
        return Vec::new();
    }
    let phrase = PHRASES[(hash(seed ^ 0x12, stretch) % PHRASES.len() as u64) as usize];
    let pace = 1.05 + 0.2 * f64::from(uniform(seed ^ 0x13, stretch));
    let mut at = stretch as f64 * STRETCH_S + 0.3 + 0.6 * f64::from(uniform(seed ^ 0x14, stretch));
    let end = (stretch + 1) as f64 * STRETCH_S - 0.5;
    let mut segments = Vec::new();
    for (i, name) in phrase.split(' ').enumerate() {
        let phoneme = named(name);
        let stretchy = 0.85 + 0.3 * uniform(seed ^ 0x15, stretch * 64 + i as u64);
        let seconds = f64::from(phoneme.seconds * stretchy) * pace;
        if at + seconds > end {
            break;
        }
        segments.push(Segment { start_s: at, end_s: at + seconds, phoneme });
        at += seconds;
    }
    segments
}

fn named(name: &str) -> &'static Phoneme {
    let name = match name {
        "DH" => "TH",
        "OY" => "AO",
        other => other,
    };
    PHONEMES.iter().find(|p| p.name == name).unwrap_or(&PHONEMES[PHONEMES.len() - 1])
}

/// Returns the share of a raised-cosine window of half width `width`, centered on `at`, that lies
/// inside a segment. The weights of all segments and of the silence sum to 1 and change smoothly.
pub(crate) fn share(segment: &Segment, at: f64, width: f64) -> f32 {
    let below = |edge: f64| {
        let x = ((edge - at) / width).clamp(-1.0, 1.0);
        0.5 + 0.5 * x + (std::f64::consts::PI * x).sin() / std::f64::consts::TAU
    };
    (below(segment.end_s) - below(segment.start_s)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phoneme_of_every_phrase_is_defined() {
        for name in PHRASES.iter().flat_map(|p| p.split(' ')).filter(|n| *n != "_") {
            assert_ne!(named(name).name, "_", "{name}");
        }
    }

    #[test]
    fn phrases_stay_inside_their_stretch_with_pauses_between() {
        for stretch in 0..50 {
            let spoken = segments(7, stretch);
            let start = stretch as f64 * STRETCH_S;
            for pair in spoken.windows(2) {
                assert!((pair[0].end_s - pair[1].start_s).abs() < 1e-9);
            }
            if let (Some(first), Some(last)) = (spoken.first(), spoken.last()) {
                assert!(first.start_s > start + 0.2 && last.end_s < start + STRETCH_S - 0.2);
            }
        }
    }
}
