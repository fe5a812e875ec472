//! Options of an enrollment, its progress and its report.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use capture::SourceSpec;
use face::{Consent, Sizes};
use vault::{Key, Keys};

use crate::warnings::Warning;

/// Options of an enrollment: source, output file, budget and quality.
#[derive(Clone, Debug)]
pub struct EnrollOptions {
    /// Source of the frames.
    pub source: SourceSpec,
    /// Face file to write. Checkpoints go to `<out>.part`.
    pub out: PathBuf,
    /// Side of the square training pictures in pixels, 64 to 512.
    pub side: u32,
    /// Size of the face file.
    pub preset: Preset,
    /// Time or steps after which the enrollment ends.
    pub budget: Budget,
    /// Frames that are evaluated and never trained on.
    pub holdout: Holdout,
    /// Whether to continue from `<out>.part`, if it exists and belongs to the same enrollment.
    pub resume: bool,
    /// Seed of all random numbers: the same seed, source and number of steps give the same file.
    pub seed: u64,
    /// Length of the recording from a camera or the actor. Clips are read to their end.
    pub record: Duration,
    /// Parts to leave out for ablation studies.
    pub without: Vec<Ablation>,
    /// Key with which face file and checkpoints are encrypted; `None` writes them in plain form.
    pub key: Option<Key>,
    /// Keys of the user, one of which may have encrypted an earlier checkpoint; `None` tries only
    /// [`EnrollOptions::key`].
    pub keys: Option<&'static Keys>,
    /// Consent of the person, recorded in the private part of the face file.
    pub consent: Option<Consent>,
}

impl EnrollOptions {
    /// Creates the default options: pictures of 256 pixels, the default preset, a time limit of ten
    /// minutes, the last 15 % of the frames held out, one minute recorded from a camera or the actor,
    /// seed 1, no ablation. Nothing is resumed, files are not encrypted, and no consent is recorded.
    pub fn new(source: SourceSpec, out: PathBuf) -> Self {
        Self {
            source,
            out,
            side: 256,
            preset: Preset::default(),
            budget: Budget::default(),
            holdout: Holdout::default(),
            resume: false,
            seed: 1,
            record: Duration::from_mins(1),
            without: Vec::new(),
            key: None,
            keys: None,
            consent: None,
        }
    }

    /// Returns the path of the checkpoint, `<out>.part`.
    pub fn part_path(&self) -> PathBuf {
        let mut name = self.out.as_os_str().to_owned();
        name.push(".part");
        name.into()
    }
}

/// Size of a face file: what a peer downloads, against the detail it can hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// The default sizes.
    #[default]
    Default,
    /// About half the parameters, for slow connections.
    Small,
}

impl Preset {
    /// Returns the field's sizes for training pictures of `side` pixels.
    pub(crate) fn sizes(self, side: u32) -> Sizes {
        match self {
            Self::Default => Sizes::for_side(side),
            Self::Small => Sizes::small_for_side(side),
        }
    }
}

/// Text that is not a [`Preset`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected \"default\" or \"small\", not {text:?}")]
pub struct PresetError {
    text: String,
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "small" => Ok(Self::Small),
            _ => Err(PresetError { text: text.to_owned() }),
        }
    }
}

/// Limit of an enrollment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Budget {
    /// Wall-clock time for everything: reading, tracking, training, evaluation and writing.
    Time(Duration),
    /// Number of training steps. The resulting file is then deterministic.
    Steps(u32),
}

/// A [`Budget`] in which no face can be trained.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetTooSmall {
    /// Reading, packing and writing alone take longer. Give at least [`Budget::LEAST_TIME`].
    #[error(
        "a budget of {} s is too short for a face; give at least {} s, better ten minutes",
        .0.as_secs(),
        Budget::LEAST_TIME.as_secs()
    )]
    Time(Duration),
    /// Nothing would be learned. Give at least one step.
    #[error("0 steps train no face; give at least 1, better a few thousand")]
    Steps,
}

impl Budget {
    /// Shortest time limit in which an enrollment can end.
    pub const LEAST_TIME: Duration = Duration::from_secs(15);

    /// Checks that a face can be trained within the budget.
    ///
    /// # Errors
    /// If the time limit is below [`Budget::LEAST_TIME`], or the number of steps is zero.
    pub fn check(self) -> Result<(), BudgetTooSmall> {
        match self {
            Self::Time(limit) if limit < Self::LEAST_TIME => Err(BudgetTooSmall::Time(limit)),
            Self::Steps(0) => Err(BudgetTooSmall::Steps),
            Self::Time(_) | Self::Steps(_) => Ok(()),
        }
    }
}

/// Text that is not a [`Budget`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected a time such as 90s, 15m or 1h, or a number of steps such as \"3000 steps\", not {text:?}"
)]
pub struct BudgetError {
    text: String,
}

impl FromStr for Budget {
    type Err = BudgetError;

    /// Parses a time such as `90s`, `15m` or `1.5h` (in seconds without a unit, up to 1000 hours),
    /// or a number of training steps such as `3000 steps`. [`Budget::check`] says whether it suffices.
    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let seconds = |number: &str, unit: f64| {
            let seconds = number.trim().parse::<f64>().ok()? * unit;
            (0.0..=3.6e6).contains(&seconds).then(|| Self::Time(Duration::from_secs_f64(seconds)))
        };
        let parsed = if let Some(number) = text.strip_suffix("steps") {
            number.trim().parse().ok().map(Self::Steps)
        } else if let Some(number) = text.strip_suffix('h') {
            seconds(number, 3600.0)
        } else if let Some(number) = text.strip_suffix('m') {
            seconds(number, 60.0)
        } else {
            seconds(text.strip_suffix('s').unwrap_or(text), 1.0)
        };
        parsed.ok_or_else(|| BudgetError { text: text.to_owned() })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::Time(Duration::from_mins(10))
    }
}

/// Part of the method that an ablation study leaves out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ablation {
    /// The trained embedder. The code then consists of the 24 most visible expression components
    /// of the newest frame, without attention.
    Embedding,
    /// The consistency code, which then stays zero: head and torso share only the code.
    ConsistencyCode,
}

/// Text that is not an [`Ablation`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected \"embedding\" or \"consistency-code\", not {text:?}")]
pub struct AblationError {
    text: String,
}

impl FromStr for Ablation {
    type Err = AblationError;

    fn from_str(text: &str) -> Result<Self, AblationError> {
        match text {
            "embedding" => Ok(Self::Embedding),
            "consistency-code" => Ok(Self::ConsistencyCode),
            _ => Err(AblationError { text: text.to_owned() }),
        }
    }
}

/// Choice of the held-out frames, which are evaluated and never trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holdout {
    /// The end of the recording, this share (0..=0.5) of all frames: similar to a later call.
    Last(f32),
    /// Every n-th frame, with n of 2 or more: similar to the neighboring training frames.
    Every(u32),
}

impl Default for Holdout {
    fn default() -> Self {
        Self::Last(0.15)
    }
}

/// Text that is not a [`Holdout`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected a share from 0 to 0.5 such as 0.15, or every:N with N of 2 or more, not {text:?}"
)]
pub struct HoldoutError {
    text: String,
}

impl FromStr for Holdout {
    type Err = HoldoutError;

    /// Parses a share such as `0.15`, or `every:7`.
    fn from_str(text: &str) -> Result<Self, HoldoutError> {
        let parsed = match text.strip_prefix("every:") {
            Some(n) => n.parse().ok().filter(|n| *n >= 2).map(Self::Every),
            None => text.parse().ok().filter(|s| (0.0..=0.5).contains(s)).map(Self::Last),
        };
        parsed.ok_or_else(|| HoldoutError { text: text.to_owned() })
    }
}

impl Holdout {
    /// Returns for each of `n` frames whether it is held out.
    pub(crate) fn mask(self, n: usize) -> Vec<bool> {
        (0..n)
            .map(|i| match self {
                Self::Last(share) => i as f32 >= (n as f32 * (1.0 - share)).round(),
                Self::Every(every) => (i + 1).is_multiple_of(every as usize),
            })
            .collect()
    }
}

/// Result of an enrollment.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EnrollmentReport {
    /// Mean PSNR of the held-out frames in dB (RGB, whole picture), rendered from the packed face
    /// file and from features that passed the codec. NaN if no frame was evaluated.
    pub psnr_db: f64,
    /// Mean SSIM of the same pictures, -1..=1.
    pub ssim: f64,
    /// Loss of PSNR through packing in dB: frames rendered from the trained parameters against
    /// frames rendered from the file. `None` with fewer than 8 held-out frames or if no time was
    /// left to measure it.
    pub packing_loss_db: Option<f64>,
    /// Number of training frames.
    pub n_train: usize,
    /// Number of held-out frames that were evaluated.
    pub n_heldout: usize,
    /// Number of training steps, including those of interrupted runs.
    pub steps: u32,
    /// Duration of the enrollment in seconds.
    pub seconds: f64,
    /// Size in bytes of the public part, which a peer downloads.
    pub bytes: usize,
    /// Everything that was found to be wrong with the material or the result.
    pub warnings: Vec<Warning>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_preset_has_fewer_parameters_at_every_side() {
        assert_eq!("small".parse(), Ok(Preset::Small));
        assert_eq!("default".parse(), Ok(Preset::Default));
        assert!("tiny".parse::<Preset>().is_err());
        for side in [64, 128, 256, 512] {
            let [default, small] = [Preset::Default, Preset::Small].map(|preset| {
                let model = face::FaceModel::untrained(preset.sizes(side), 1);
                model.params().len()
            });
            assert!(small * 2 < default + default / 10, "{small} of {default} at {side}");
        }
    }

    #[test]
    fn a_budget_is_a_time_or_a_number_of_steps() {
        for (text, want) in [
            ("90s", Budget::Time(Duration::from_secs(90))),
            ("90", Budget::Time(Duration::from_secs(90))),
            ("1.5m", Budget::Time(Duration::from_secs(90))),
            ("2h", Budget::Time(Duration::from_hours(2))),
            ("3000 steps", Budget::Steps(3000)),
            ("30steps", Budget::Steps(30)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for wrong in ["", "s", "-1m", "NaNs", "infs", "2000h", "-1 steps", "1.5 steps"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_budget_without_time_for_a_face_names_the_least_one() {
        let error = |text: &str| text.parse::<Budget>().unwrap().check().map_err(|e| e.to_string());
        for text in ["0", "0s", "3s", "14.9s"] {
            assert!(error(text).unwrap_err().contains("at least 15 s"), "{text}");
        }
        assert!(error("0 steps").unwrap_err().contains("at least 1"));
        assert_eq!(error("15s"), Ok(()));
        assert_eq!(error("1 steps"), Ok(()));
    }

    #[test]
    fn a_holdout_is_a_share_or_every_nth_frame() {
        assert_eq!("0.15".parse(), Ok(Holdout::Last(0.15)));
        assert_eq!("every:7".parse(), Ok(Holdout::Every(7)));
        for wrong in ["every:1", "0.9", "-0.1", "some", "every:"] {
            assert!(wrong.parse::<Holdout>().is_err(), "{wrong}");
        }
        assert_eq!(Holdout::Last(0.25).mask(4), [false, false, false, true]);
        assert_eq!(Holdout::Every(2).mask(4), [false, true, false, true]);
    }
}
