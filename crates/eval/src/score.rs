use face::{psnr_db, ssim};
use serde::Serialize;
use types::{Feature, SquareFrame};

/// Quality of one rendered picture against the clip's frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct FrameScore {
    /// Peak signal-to-noise ratio over all pixels and channels, dB.
    pub(crate) psnr_db: f64,
    /// Structural similarity, mean of the channels, -1..=1.
    pub(crate) ssim: f64,
    /// PSNR of the change since the previous frame against the clip's own change, dB: flicker and
    /// jerky motion lower it, a constant offset does not. `None` for the first frame.
    pub(crate) change_psnr_db: Option<f64>,
}

/// Scores rendered pictures against a clip, frame by frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scorer {
    /// Previous frame of the clip and its rendered picture.
    previous: Option<(SquareFrame, SquareFrame)>,
    scores: Vec<FrameScore>,
}

impl Scorer {
    /// Scores the next rendered picture against the clip's frame at the same size.
    ///
    /// # Panics
    /// If the sizes differ or are under 11 pixels.
    pub(crate) fn push(&mut self, reference: &SquareFrame, rendered: &SquareFrame) -> FrameScore {
        let change_psnr_db = self.previous.as_ref().map(|(old_reference, old_rendered)| {
            change_psnr_db([old_reference, reference], [old_rendered, rendered])
        });
        let score = FrameScore {
            psnr_db: psnr_db(reference, rendered),
            ssim: ssim(reference, rendered),
            change_psnr_db,
        };
        self.previous = Some((reference.clone(), rendered.clone()));
        self.scores.push(score);
        score
    }

    /// Returns all scores so far.
    pub(crate) fn scores(&self) -> &[FrameScore] {
        &self.scores
    }
}

/// Returns the PSNR between two temporal differences, each given as an earlier and a later frame.
fn change_psnr_db(reference: [&SquareFrame; 2], rendered: [&SquareFrame; 2]) -> f64 {
    let bytes = |frame: &SquareFrame, i: usize| i32::from(frame.rgb()[i]);
    let n = reference[1].rgb().len();
    let squares: i64 = (0..n)
        .map(|i| {
            let wanted = bytes(reference[1], i) - bytes(reference[0], i);
            let got = bytes(rendered[1], i) - bytes(rendered[0], i);
            i64::from((wanted - got).pow(2))
        })
        .sum();
    if squares == 0 {
        return face::PSNR_MAX_DB;
    }
    (10.0 * (255.0 * 255.0 * n as f64 / squares as f64).log10()).min(face::PSNR_MAX_DB)
}

/// Mean quality of several frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct MeanScore {
    /// Mean of the frames' PSNR, dB.
    pub(crate) psnr_db: f64,
    /// PSNR of the worst frame, dB.
    pub(crate) psnr_min_db: f64,
    /// Mean of the frames' SSIM.
    pub(crate) ssim: f64,
    /// Mean of the frames' [`FrameScore::change_psnr_db`]; `None` below two frames.
    pub(crate) change_psnr_db: Option<f64>,
}

impl MeanScore {
    /// Averages the scores of all frames; zeros if there are none.
    pub(crate) fn of(scores: &[FrameScore]) -> Self {
        let n = scores.len().max(1) as f64;
        let changes: Vec<f64> = scores.iter().filter_map(|s| s.change_psnr_db).collect();
        Self {
            psnr_db: scores.iter().map(|s| s.psnr_db).sum::<f64>() / n,
            psnr_min_db: scores.iter().map(|s| s.psnr_db).reduce(f64::min).unwrap_or(0.0),
            ssim: scores.iter().map(|s| s.ssim).sum::<f64>() / n,
            change_psnr_db: (!changes.is_empty())
                .then(|| changes.iter().sum::<f64>() / changes.len() as f64),
        }
    }
}

/// Unsteadiness of features: root mean square of their second differences between consecutive
/// frames. It is zero for a head at rest or in uniform motion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Jitter {
    /// Rotation of the head, degrees.
    #[serde(rename = "rotation_jitter_deg")]
    pub(crate) rotation_deg: f64,
    /// Translation of the head, millimeters.
    #[serde(rename = "translation_jitter_mm")]
    pub(crate) translation_mm: f64,
    /// Learned numbers of the code.
    #[serde(rename = "code_jitter")]
    pub(crate) code: f64,
}

impl Jitter {
    /// Measures the features of consecutive frames; zeros below three.
    pub(crate) fn of(features: &[Feature]) -> Self {
        let rms = |dims: std::ops::Range<usize>| -> f64 {
            let mut sum = 0.0;
            let mut n = 0;
            for window in features.windows(3) {
                let [a, b, c] = [0, 1, 2].map(|i| window[i].to_array());
                for dim in dims.clone() {
                    sum += f64::from(a[dim] - 2.0 * b[dim] + c[dim]).powi(2);
                }
                n += 1;
            }
            (sum / f64::from(n.max(1))).sqrt()
        };
        Self {
            rotation_deg: rms(0..3).to_degrees(),
            translation_mm: rms(3..6) * 1000.0,
            code: rms(6..30),
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    fn gray(v: u8) -> SquareFrame {
        SquareFrame::new(16, MediaTime::ZERO, vec![v; 16 * 16 * 3]).unwrap()
    }

    #[test]
    fn a_constant_offset_lowers_the_psnr_but_is_not_flicker() {
        let mut scorer = Scorer::default();
        scorer.push(&gray(100), &gray(110));
        let score = scorer.push(&gray(120), &gray(130));
        assert!((score.psnr_db - 28.13).abs() < 0.01);
        assert_eq!(score.change_psnr_db, Some(face::PSNR_MAX_DB));
        let flicker = scorer.push(&gray(120), &gray(110));
        assert!((flicker.change_psnr_db.unwrap() - 22.11).abs() < 0.01);
    }

    #[test]
    fn the_mean_of_two_frames_is_halfway_and_knows_the_worst() {
        let scores =
            [30.0, 34.0].map(|psnr_db| FrameScore { psnr_db, ssim: 0.9, change_psnr_db: None });
        let mean = MeanScore::of(&scores);
        assert_eq!((mean.psnr_db, mean.psnr_min_db, mean.change_psnr_db), (32.0, 30.0, None));
    }

    #[test]
    fn uniform_motion_has_no_jitter() {
        let at = |i: f32| Feature {
            time: MediaTime::ZERO,
            pose: HeadPose::from_array([0.01 * i, 0.0, 0.0, 0.001 * i, 0.0, 1.0]).unwrap(),
            code: Code::NEUTRAL,
        };
        let uniform: Vec<_> = (0..9).map(|i| at(i as f32)).collect();
        assert!(Jitter::of(&uniform).rotation_deg < 1e-5);
        let shaking: Vec<_> = (0..9).map(|i| at((i % 2) as f32)).collect();
        assert!((Jitter::of(&shaking).rotation_deg - 0.02_f64.to_degrees()).abs() < 1e-5);
        assert!((Jitter::of(&shaking).translation_mm - 2.0).abs() < 1e-4);
    }
}
